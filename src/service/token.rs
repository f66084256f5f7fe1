//! Tokens: keys with fewer rights than whoever makes them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{TokenId, WebhookId};
use crate::domain::labels::{Label, Labels};
use crate::domain::page::{Slice, read_sort};
use crate::domain::secret::{KeyHash, generate_token};
use crate::domain::token::{Confinement, NewToken, Token};
use crate::domain::user::{Permission, Permissions};

const CHANGE: Failures = Failures { refused: FaultCode::TokenNotChanged, failed: FaultCode::TokenNotChanged };

/// What tokens may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["token_id"];
/// How many a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;
/// The longest that a token with an end may live, in seconds: ten years.
pub const TOKEN_TTL_S_MAX: i64 = 315_360_000;

/// A token to be made, as a caller says it.
#[derive(Clone, Debug)]
pub struct TokenDraft {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<String>,
    /// The only webhooks that it reaches.
    pub webhooks: Option<Vec<i64>>,
    /// One pair: it reaches only webhooks with that label.
    pub label: Option<BTreeMap<String, String>>,
    /// After so many seconds it ends.
    pub ttl_s: Option<i64>,
}

/// Which part of a list of tokens, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct TokenPage {
    /// Only those behind this one.
    pub after_token_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// A token that was made.
pub struct MadeToken {
    /// All but its key.
    pub token: Token,
    /// Its key, which is shown only now.
    pub key: String,
}

impl Service {
    /// Makes a token that acts for the caller, with no more rights than it has by then. Fails with
    /// fault 2 of a token, and with fault 132.
    pub async fn create_token(&self, caller: &Caller, draft: TokenDraft) -> Result<MadeToken, Fault> {
        check(caller)?;
        let TokenDraft { name, permissions, webhooks, label, ttl_s } = draft;
        let key = generate_token();
        let checked = || {
            let permissions = granted(caller, &permissions)?;
            let (confinement, ttl) = (confinement(webhooks, label)?, ttl_s.map(check_ttl).transpose()?);
            let expires_at = ttl.map(|ttl| self.clock.now().after(ttl));
            NewToken { name, key: KeyHash::of(&key), permissions, confinement, expires_at }.checked()
        };
        let token = checked().map_err(wrong)?;
        if let Some(Confinement::Webhooks(ids)) = &token.confinement {
            self.check_webhooks(caller, ids).await?;
        }
        let hash = token.key;
        let made = self.store.create_token(caller.by()?, token, self.config.tokens_max).await;
        made.map_err(|cause| CHANGE.fault(cause))?;
        let found = self.store.token(hash, caller.into()).await.map_err(|cause| CHANGE.fault(cause))?;
        let (token, _) = found.ok_or(FaultCode::NoToken)?;
        Ok(MadeToken { token, key })
    }

    /// The caller's tokens or, for an admin, those of the merchant, in the order of their ids. Fails
    /// with fault 2 of a token, and with fault 111.
    pub async fn list_tokens(&self, caller: &Caller, page: TokenPage) -> Result<Vec<Token>, Fault> {
        check(caller)?;
        let checked = read_sort(page.sort.as_deref(), &SORT_KEYS).and_then(|(_, order)| {
            let limit = self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?;
            Ok(Slice { after: page.after_token_id.map(TokenId), order, limit })
        });
        let slice = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let user = (!caller.permissions.allow(Permission::Admin)).then_some(caller.user_id);
        let found = self.store.tokens(caller.everywhere()?, user, slice).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Takes back a token of the caller or, for an admin, of the merchant: its key is worthless from
    /// the next call on. Fails with fault 2 of a token, and with fault 131 or 132.
    pub async fn revoke_token(&self, caller: &Caller, id: TokenId) -> Result<(), Fault> {
        check(caller)?;
        let of_all = caller.permissions.allow(Permission::Admin);
        let revoked = self.store.revoke_token(caller.by()?, of_all, id).await;
        revoked.map_err(|cause| match CHANGE.fault(cause) {
            fault if fault.code == FaultCode::NoToken => {
                fault.detail(format!("There is no token {id} of yours, or it was revoked or has ended."))
            }
            fault => fault,
        })
    }

    async fn check_webhooks(&self, caller: &Caller, ids: &[WebhookId]) -> Result<(), Fault> {
        for id in ids {
            match self.store.webhook(caller.merchant(), *id).await.map_err(|cause| CHANGE.fault(cause)) {
                Err(fault) if fault.code == FaultCode::NoWebhook => {
                    return Err(wrong(Violation::new("webhooks", format!("has {id}, which is no webhook of yours."))));
                }
                found => found.map(drop)?,
            }
        }
        Ok(())
    }
}

/// What a token may have.
const HELD: [Permission; 3] = [Permission::WebhookRead, Permission::WebhookWrite, Permission::EventWrite];

/// Fails with fault 2 of a token, for whoever has one makes no others, and of a user who has nothing
/// that a token may have.
fn check(caller: &Caller) -> Result<(), Fault> {
    let denied = |detail: String| Err(Fault::new(FaultCode::AccessDenied).detail(detail));
    if caller.is_token() {
        return denied("A token makes, shows and revokes no tokens.".to_owned());
    }
    if HELD.into_iter().any(|permission| caller.permissions.allow(permission)) {
        return Ok(());
    }
    denied(format!("This needs the permission {}.", HELD.map(Permission::name).join(" or ")))
}

/// These permissions, if the caller has them all.
fn granted(caller: &Caller, names: &[String]) -> Result<Permissions, Violation> {
    let permissions = Permissions::of_names(names.iter().map(String::as_str))?;
    match permissions.names().find(|name| permissions.within(caller.permissions).names().all(|held| held != *name)) {
        Some(name) => Err(Violation::new("permissions", format!("has {name}, which you have not yourself."))),
        None => Ok(permissions),
    }
}

fn confinement(
    webhooks: Option<Vec<i64>>,
    label: Option<BTreeMap<String, String>>,
) -> Result<Option<Confinement>, Violation> {
    match (webhooks, label) {
        (None, None) => Ok(None),
        (Some(ids), None) => Confinement::webhooks(ids.into_iter().map(WebhookId).collect()).map(Some),
        (None, Some(pairs)) => Ok(Some(Confinement::Label(one_label(pairs)?))),
        (Some(_), Some(_)) => Err(Violation::new("label", "does not go with webhooks; give one of them.")),
    }
}

fn one_label(pairs: BTreeMap<String, String>) -> Result<Label, Violation> {
    let named = |violation| Violation { field: "label", ..violation };
    match Labels::try_new(pairs).map_err(named)?.list() {
        [label] => Ok(label.clone()),
        others => {
            let problem = format!("has {} pairs; give one, such as {{\"customer\": \"42\"}}.", others.len());
            Err(Violation::new("label", problem))
        }
    }
}

fn check_ttl(seconds: i64) -> Result<Duration, Violation> {
    let fitting = u64::try_from(seconds).ok().filter(|_| (1..=TOKEN_TTL_S_MAX).contains(&seconds));
    let problem = || Violation::new("ttl_s", format!("{seconds} is outside 1 to {TOKEN_TTL_S_MAX}."));
    fitting.map(Duration::from_secs).ok_or_else(problem)
}

fn wrong(violation: Violation) -> Fault {
    violation.into_fault(FaultCode::TokenNotChanged)
}
