//! Who is calling: logins, sessions, keys.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::caller::{Caller, Credentials, Known};
use super::{Failures, Service};
use crate::domain::address::{Origin, is_within};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::rate::Rate;
use crate::domain::request_id::Sender;
use crate::domain::secret::{KeyHash, generate_session_key, is_token};
use crate::domain::token::Token;
use crate::domain::user::{Counts, Keys, User, check_name};
use crate::metrics::Limit;
use crate::store::{NewSession, UserBy};
use crate::work::Account;

/// A session that is used is renewed at most this often, so that most calls
/// cost no write.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);
/// The longest key that is looked at; ours are 67 bytes long.
const KEY_BYTES_MAX: usize = 256;

impl Service {
    /// Opens a session for a user and returns its key. Fails with fault 2 if
    /// name and key do not go together, or too often did not, and with fault
    /// 119, 120 or 128 as [`Self::authenticate`] does.
    pub async fn login(&self, name: &str, key: &str, sender: Sender) -> Result<String, Fault> {
        let known = self.check_key(name, key, sender.peer).await?;
        let caller = Caller::new(known, &Credentials::Basic { name: name.to_owned(), key: key.to_owned() }, sender);
        self.count_call(&caller)?;
        self.start_session(&caller).await
    }

    /// Opens a session for whoever is calling. Fails with fault 2 of a token, which is as good as a
    /// session key itself.
    pub async fn start_session(&self, caller: &Caller) -> Result<String, Fault> {
        if caller.is_token() {
            return Err(Fault::new(FaultCode::AccessDenied)
                .detail("A token opens no session; send it in place of a session key, or as a Bearer token."));
        }
        let key = generate_session_key();
        let (unused, ends_at) = (self.clock.now().after(self.config.session_ttl), caller.counts().end());
        let expires_at = ends_at.map_or(unused, |end| unused.min(end));
        let session = NewSession { user: caller.user_id, key: KeyHash::of(&key), expires_at, ends_at };
        let opened = self.store.open_session(caller.author(), session, self.config.sessions_max).await;
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
    /// fault 120 or 128 for one call too many.
    pub async fn authenticate(&self, credentials: &Credentials, sender: Sender) -> Result<Caller, Fault> {
        let caller = self.identify(credentials, sender).await?;
        self.count_call(&caller)?;
        Ok(caller)
    }

    /// Counts a call of a user, or of one of its tokens, each of which has as many. Fails with fault
    /// 120 if it is one too many, and with fault 128 if it is of its merchant.
    pub fn count_call(&self, caller: &Caller) -> Result<(), Fault> {
        if let Some(rate) = &self.call_rate {
            let who = (caller.user_id, caller.author().token);
            rate.count(&who).map_err(|wait| self.refused(Limit::Calls, too_many(wait)))?;
        }
        let Some(max) = caller.merchant_terms.quotas.calls_per_second else { return Ok(()) };
        let Some(max) = NonZeroU32::new(max) else { return Ok(()) };
        let counted = self.merchant_rate.count(&caller.merchant(), Rate::new(max, max));
        counted.map_err(|wait| self.refused(Limit::MerchantCalls, too_many_of_merchant(max, wait)))
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
        let known = self.user_of(credentials, sender.peer).await?;
        Ok(Caller::new(known, credentials, sender))
    }

    /// The caller as it is by now: what lasts gives nothing to one whose session
    /// has ended meanwhile, or who was revoked or disabled. Fails as
    /// [`Self::authenticate`] does. Whoever was known is not guessing, so wrong
    /// keys of others do not slow it.
    pub async fn check_again(&self, caller: &Caller) -> Result<Caller, Fault> {
        let (credentials, sender) = caller.shown();
        let known = match credentials {
            Credentials::Basic { name, key } => {
                let looked = self.user_with(name, key, Origin::of(sender.peer)).await?;
                self.enabled(looked.found.ok_or(FaultCode::AccessDenied)?, sender.peer)?
            }
            others => self.user_of(others, sender.peer).await?,
        };
        Ok(Caller::new(known, credentials, sender))
    }

    async fn user_of(&self, credentials: &Credentials, peer: IpAddr) -> Result<Known, Fault> {
        match credentials {
            Credentials::Session(key) if is_token(key) => {
                let found = self.token(key, Account::of_stranger(peer)).await?.ok_or(FaultCode::SessionExpired)?;
                self.enabled(found, peer)
            }
            Credentials::Session(key) => self.session(key, peer).await?.ok_or(FaultCode::SessionExpired.into()),
            Credentials::Basic { name, key } => self.check_key(name, key, peer).await,
            Credentials::Bearer(key) if is_token(key) => {
                let found = self.token(key, Account::of_stranger(peer)).await?;
                self.enabled(found.ok_or_else(|| self.unknown_key(peer))?, peer)
            }
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
                let (counts, user) = found.ok_or_else(|| self.unknown_key(peer))?;
                self.enabled(Known { user, counts, token: None }, peer)
            }
            Credentials::Unreadable => Err(Fault::new(FaultCode::AccessDenied)
                .detail("The Authorization header is neither \"Basic <base64>\" nor \"Bearer <key>\".")),
            Credentials::None => Err(FaultCode::SessionExpired.into()),
        }
    }

    /// A key that is nobody's was shown, and the log is told.
    fn unknown_key(&self, peer: IpAddr) -> FaultCode {
        self.telling.login_failed(None, peer);
        FaultCode::AccessDenied
    }

    /// The token of that key, if it has not ended, and the user for whom it acts.
    async fn token(&self, key: &str, asker: Account) -> Result<Option<Known>, Fault> {
        if !may_be_key(key) {
            return Ok(None);
        }
        let found = self.store.token(KeyHash::of(key), asker).await.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let now = self.clock.now();
        let counts = |token: &Token| token.expires_at.map_or(Counts::On, Counts::Until);
        let lives = |(token, user): &(Token, User)| token.expires_at.is_none_or(|at| at > now) && self.admits(user);
        let found = found.filter(lives);
        Ok(found.map(|(token, user)| Known { user, counts: counts(&token), token: Some(token) }))
    }

    /// The user of a session that lives, which is renewed by being used.
    async fn session(&self, key: &str, peer: IpAddr) -> Result<Option<Known>, Fault> {
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
        let known = self.enabled(Known { user: session.user, counts, token: None }, peer)?;
        let unused = now.after(self.config.session_ttl);
        let renewed = counts.end().map_or(unused, |end| unused.min(end));
        if renewed.since(session.expires_at) >= RENEW_INTERVAL.min(self.config.session_ttl / 2) {
            self.store.renew_session(known.user.merchant_id, hash, renewed);
        }
        Ok(Some(known))
    }

    /// The user of that name, if the key is its key. What is done takes as long
    /// whether there is such a user or not, so that names can't be told by it.
    /// After too many wrong keys it takes longer, for right ones, too.
    async fn check_key(&self, name: &str, key: &str, peer: IpAddr) -> Result<Known, Fault> {
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
    /// lately, or a token of it.
    async fn user_with(&self, name: &str, key: &str, address: Origin) -> Result<Looked, Fault> {
        let user = self.store.user(UserBy::Name(name), address.into()).await;
        let user = user.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let none = Keys { current: KeyHash([0; 32]), old: None };
        let counts = user.as_ref().map_or(none, |user| user.keys).counts(KeyHash::of(key), self.clock.now());
        let (is_known, user) = (user.is_some(), user.filter(|user| self.admits(user)));
        let found = match is_token(key) {
            // A token is as good as the key of whoever made it.
            true => {
                let token = self.token(key, address.into()).await?;
                token.filter(|token| user.is_some_and(|user| user.user_id == token.user.user_id))
            }
            false => user.zip(counts).map(|(user, counts)| Known { user, counts, token: None }),
        };
        Ok(Looked { is_known, found })
    }

    /// A user that showed the right credentials. Fails with fault 119 if it is
    /// disabled, which is told to nobody else.
    fn enabled(&self, known: Known, peer: IpAddr) -> Result<Known, Fault> {
        let user = &known.user;
        if user.disabled_at.is_none() {
            return Ok(known);
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
    /// It, if the key is the right one, or a token of it.
    found: Option<Known>,
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

fn too_many_of_merchant(max: NonZeroU32, wait: Duration) -> Fault {
    let detail = format!(
        "All users of the merchant together may make {max} calls a second, and have. Retry in {} ms, or have an operator \
         raise calls_per_second.",
        wait.as_millis()
    );
    Fault::new(FaultCode::CallQuota).detail(detail).retry_after(wait)
}

/// False of what is too long for a key or a session. It is refused before it
/// is hashed, which would take the longer the more was sent.
fn may_be_key(key: &str) -> bool {
    key.len() <= KEY_BYTES_MAX
}
