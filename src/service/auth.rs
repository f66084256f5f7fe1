//! Who is calling: logins, sessions, keys.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Failures, Service};
use crate::domain::address::{Origin, is_within};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::{MerchantId, UserId};
use crate::domain::request_id::Sender;
use crate::domain::secret::{KeyHash, generate_session_key};
use crate::domain::trace::TraceParent;
use crate::domain::user::{By, Counts, Keys, Permission, Permissions, User, check_name};
use crate::metrics::Limit;
use crate::store::{NewSession, UserBy};
use crate::work::Account;

/// A session that is used is renewed at most this often, so that most calls
/// cost no write.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);
/// The longest key that is looked at; ours are 67 bytes long.
const KEY_BYTES_MAX: usize = 256;

/// What a call brings along to say who makes it.
#[derive(Clone)]
pub enum Credentials {
    /// A session key, as a parameter.
    Session(String),
    /// A user's name and API key, from HTTP Basic.
    Basic {
        /// The user's name.
        name: String,
        /// Its API key.
        key: String,
    },
    /// A session key or an API key, from `Authorization: Bearer`.
    Bearer(String),
    /// An Authorization header that is neither.
    Unreadable,
    /// Nothing.
    None,
}

/// Who a call is made by.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The merchant it acts for; all it names is looked up within that.
    pub merchant_id: MerchantId,
    /// That merchant's code.
    pub merchant_code: String,
    /// What it may do.
    pub permissions: Permissions,
    /// How long what it has shown counts; a session that it opens ends then.
    counts: Counts,
    shown: Arc<Shown>,
}

/// By what a caller was known, and can be again.
struct Shown {
    credentials: Credentials,
    sender: Sender,
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl Caller {
    fn new((user, counts): (User, Counts), credentials: &Credentials, sender: Sender) -> Self {
        let User { user_id, merchant_id, merchant_code, permissions, .. } = user;
        let shown = Arc::new(Shown { credentials: credentials.clone(), sender });
        Self { user_id, merchant_id, merchant_code, permissions, counts, shown }
    }

    /// On whose behalf the store changes something for it.
    pub fn by(&self) -> By {
        By { merchant: self.merchant_id, user: self.user_id, sender: Some(self.shown.sender) }
    }

    /// Of which trace its request is a part, if of any.
    pub fn trace(&self) -> Option<TraceParent> {
        self.shown.sender.trace
    }

    /// Fails with fault 2 unless the caller has the permission.
    pub fn check(&self, permission: Permission) -> Result<(), Fault> {
        if self.permissions.allow(permission) {
            Ok(())
        } else {
            Err(Fault::new(FaultCode::AccessDenied).detail(format!("This needs the permission {}.", permission.name())))
        }
    }

    /// The same caller, who may see what it may change. Fails with fault 2
    /// unless it may change webhooks.
    pub fn as_writer(&self) -> Result<Self, Fault> {
        self.check(Permission::WebhookWrite)?;
        let permissions = self.permissions.with(Permission::WebhookRead);
        Ok(Self { permissions, ..self.clone() })
    }
}

impl From<&Caller> for Account {
    fn from(caller: &Caller) -> Self {
        caller.merchant_id.into()
    }
}

impl Service {
    /// Opens a session for a user and returns its key. Fails with fault 2 if
    /// name and key do not go together, or too often did not, and with fault
    /// 119 or 120 as [`Self::authenticate`] does.
    pub async fn login(&self, name: &str, key: &str, sender: Sender) -> Result<String, Fault> {
        let known = self.check_key(name, key, sender.peer).await?;
        let caller = Caller::new(known, &Credentials::Basic { name: name.to_owned(), key: key.to_owned() }, sender);
        self.count_call(caller.user_id)?;
        self.start_session(&caller).await
    }

    /// Opens a session for whoever is calling.
    pub async fn start_session(&self, caller: &Caller) -> Result<String, Fault> {
        let key = generate_session_key();
        let (unused, ends_at) = (self.clock.now().after(self.config.session_ttl), caller.counts.end());
        let expires_at = ends_at.map_or(unused, |end| unused.min(end));
        let session = NewSession { user: caller.user_id, key: KeyHash::of(&key), expires_at, ends_at };
        let opened = self.store.open_session(caller.by(), session, self.config.sessions_max).await;
        opened.map(|()| key).map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Ends a session; one that is unknown has ended already.
    pub async fn end_session(&self, key: &str, peer: IpAddr) -> Result<(), Fault> {
        if !may_be_key(key) {
            return Ok(());
        }
        self.store
            .end_session(KeyHash::of(key), Account::of_stranger(peer))
            .await
            .map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Finds out who is calling, and counts the call. Fails with fault 5 for a
    /// session that is unknown or over, or nothing at all, with fault 2 for a
    /// wrong key, with fault 119 for right ones of a disabled user, and with
    /// fault 120 for one call too many.
    pub async fn authenticate(&self, credentials: &Credentials, sender: Sender) -> Result<Caller, Fault> {
        let caller = self.identify(credentials, sender).await?;
        self.count_call(caller.user_id)?;
        Ok(caller)
    }

    /// Counts a call of a user. Fails with fault 120 if it is one too many.
    pub fn count_call(&self, user: UserId) -> Result<(), Fault> {
        let Some(rate) = &self.call_rate else { return Ok(()) };
        rate.count(&user).map_err(|wait| self.refused(Limit::Calls, too_many(wait)))
    }

    /// Counts a call of somebody who is not logged in. Fails with fault 120 if
    /// it is one too many of that address.
    pub fn count_stranger(&self, peer: IpAddr) -> Result<(), Fault> {
        match &self.stranger_rate {
            Some(rate) if !is_within(peer, &self.config.trusted_proxies) => {
                rate.count(&Origin::of(peer)).map_err(|wait| self.refused(Limit::StrangerCalls, too_many(wait)))
            }
            _ => Ok(()),
        }
    }

    /// Finds out whose credentials these are, without counting a call.
    async fn identify(&self, credentials: &Credentials, sender: Sender) -> Result<Caller, Fault> {
        let user = self.user_of(credentials, sender.peer).await?;
        Ok(Caller::new(user, credentials, sender))
    }

    /// The caller as it is by now: what lasts gives nothing to one whose session
    /// has ended meanwhile, or who was revoked or disabled. Fails as
    /// [`Self::authenticate`] does. Whoever was known is not guessing, so wrong
    /// keys of others do not slow it.
    pub async fn check_again(&self, caller: &Caller) -> Result<Caller, Fault> {
        let Shown { credentials, sender } = &*caller.shown;
        let user = match credentials {
            Credentials::Basic { name, key } => {
                let looked = self.user_with(name, key, Origin::of(sender.peer)).await?;
                self.enabled(looked.found.ok_or(FaultCode::AccessDenied)?, sender.peer)?
            }
            others => self.user_of(others, sender.peer).await?,
        };
        Ok(Caller::new(user, credentials, *sender))
    }

    async fn user_of(&self, credentials: &Credentials, peer: IpAddr) -> Result<(User, Counts), Fault> {
        match credentials {
            Credentials::Session(key) => self.session(key, peer).await?.ok_or(FaultCode::SessionExpired.into()),
            Credentials::Basic { name, key } => self.check_key(name, key, peer).await,
            Credentials::Bearer(key) => {
                if let Some(found) = self.session(key, peer).await? {
                    return Ok(found);
                }
                if !may_be_key(key) {
                    return Err(FaultCode::AccessDenied.into());
                }
                let hash = KeyHash::of(key);
                let user = self.store.user(UserBy::Key(hash), Account::of_stranger(peer)).await;
                let user = user.map_err(|cause| Failures::LOOK_UP.fault(cause))?.filter(|user| self.admits(user));
                let found = user.and_then(|user| Some((user.keys.counts(hash, self.clock.now())?, user)));
                let (counts, user) = found.ok_or_else(|| {
                    self.telling.login_failed(None, peer);
                    FaultCode::AccessDenied
                })?;
                self.enabled((user, counts), peer)
            }
            Credentials::Unreadable => Err(Fault::new(FaultCode::AccessDenied)
                .detail("The Authorization header is neither \"Basic <base64>\" nor \"Bearer <key>\".")),
            Credentials::None => Err(FaultCode::SessionExpired.into()),
        }
    }

    /// The user of a session that lives, which is renewed by being used.
    async fn session(&self, key: &str, peer: IpAddr) -> Result<Option<(User, Counts)>, Fault> {
        if !may_be_key(key) {
            return Ok(None);
        }
        let hash = KeyHash::of(key);
        let session = self.store.session(hash, Account::of_stranger(peer)).await;
        let session = session.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let now = self.clock.now();
        let Some(session) = session.filter(|session| session.expires_at > now && self.admits(&session.user)) else {
            return Ok(None);
        };
        let counts = session.ends_at.map_or(Counts::On, Counts::Until);
        let (user, counts) = self.enabled((session.user, counts), peer)?;
        let unused = now.after(self.config.session_ttl);
        let renewed = counts.end().map_or(unused, |end| unused.min(end));
        if renewed.since(session.expires_at) >= RENEW_INTERVAL.min(self.config.session_ttl / 2) {
            self.store.renew_session(user.merchant_id, hash, renewed);
        }
        Ok(Some((user, counts)))
    }

    /// The user of that name, if the key is its key. What is done takes as long
    /// whether there is such a user or not, so that names can't be told by it.
    /// After too many wrong keys it takes longer, for right ones, too.
    async fn check_key(&self, name: &str, key: &str, peer: IpAddr) -> Result<(User, Counts), Fault> {
        // No user has such a name or key, so there is nothing to guess and to count.
        if check_name("username", name).is_err() || !may_be_key(key) {
            return Err(FaultCode::AccessDenied.into());
        }
        let address = Origin::of(peer);
        let whole = (!is_within(peer, &self.config.trusted_proxies)).then_some(address);
        // Or whoever guesses would keep out whoever has the key. So it is slowed, and looked at all the same.
        if self.failed_logins.wait(name, address, whole, self.clock.now()).is_some() {
            self.slow_down().await;
        }
        let Looked { is_known, found } = self.user_with(name, key, address).await?;
        match found {
            Some(found) => self.enabled(found, peer),
            None => {
                self.telling.login_failed(is_known.then_some(name), peer);
                let now = self.clock.now();
                if let Some(wait) = self.failed_logins.wait(name, address, whole, now) {
                    return Err(self.refused(Limit::LoginFailures, too_many_attempts(wait)));
                }
                self.failed_logins.count(name, address, whole, now);
                Err(FaultCode::AccessDenied.into())
            }
        }
    }

    /// The user of that name who is let in, if the key is its key, or was until
    /// lately.
    async fn user_with(&self, name: &str, key: &str, address: Origin) -> Result<Looked, Fault> {
        let user = self.store.user(UserBy::Name(name), address.into()).await;
        let user = user.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let none = Keys { current: KeyHash([0; 32]), old: None };
        let counts = user.as_ref().map_or(none, |user| user.keys).counts(KeyHash::of(key), self.clock.now());
        let is_known = user.is_some();
        Ok(Looked { is_known, found: user.filter(|user| self.admits(user)).zip(counts) })
    }

    /// A user that showed the right credentials. Fails with fault 119 if it is
    /// disabled, which is told to nobody else.
    fn enabled(&self, (user, counts): (User, Counts), peer: IpAddr) -> Result<(User, Counts), Fault> {
        if user.disabled_at.is_none() {
            return Ok((user, counts));
        }
        self.telling.login_refused(&user.name, peer);
        let detail = format!(
            "An admin of its merchant enables it by user.enable, an operator also with \"tallyhook user enable {}\".",
            user.name
        );
        Err(Fault::new(FaultCode::UserDisabled).detail(detail))
    }

    /// Waits as long as a guess has to take.
    async fn slow_down(&self) {
        let until = self.clock.elapsed() + self.config.login_slowdown;
        while let Some(left) = until.checked_sub(self.clock.elapsed()).filter(|left| !left.is_zero()) {
            self.clock.wait_until(Some(self.clock.now().after(left))).await;
        }
    }

    /// True unless the user was revoked, or is the demo user of another mode.
    fn admits(&self, user: &User) -> bool {
        user.revoked_at.is_none() && (self.config.dev || !user.is_demo)
    }
}

/// A user, looked up by name and key.
struct Looked {
    /// There is one of that name.
    is_known: bool,
    /// It, and how long its key counts, if that is the right one.
    found: Option<(User, Counts)>,
}

fn too_many_attempts(wait: Duration) -> Fault {
    let wait_s = wait.as_millis().div_ceil(1_000);
    let detail = format!("Too many attempts. Retry in {wait_s} s.");
    Fault::new(FaultCode::AccessDenied).detail(detail).retry_after(wait)
}

fn too_many(wait: Duration) -> Fault {
    let detail = format!("Retry in {} ms.", wait.as_millis());
    Fault::new(FaultCode::TooManyCalls).detail(detail).retry_after(wait)
}

/// False of what is too long for a key or a session. It is refused before it
/// is hashed, which would take the longer the more was sent.
fn may_be_key(key: &str) -> bool {
    key.len() <= KEY_BYTES_MAX
}
