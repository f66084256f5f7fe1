//! token.*

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{LIGHT_STEP, Method, Request};
use crate::api::rpc::wire::{Object, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::TokenId;
use crate::domain::time::Timestamp;
use crate::domain::token::{Confinement, TOKEN_NAME_CHARS_MAX, TOKEN_WEBHOOKS_MAX, Token};
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::token::{MadeToken, TOKEN_TTL_S_MAX, TokenDraft, TokenPage};

/// Who may have tokens: whoever has something to give to one.
const HOLDERS: &[Permission] = &[Permission::WebhookRead, Permission::WebhookWrite, Permission::EventWrite];

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing(
            "token.list",
            "Lists one's own tokens, or for an admin all of the merchant.",
            "after_token_id",
            list,
        )
        .needs(HOLDERS)
        .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session(
            "token.create",
            "Makes a token, a key with fewer rights, and returns it with its key, which is shown only now.",
            create,
        )
        .needs(HOLDERS)
        .faults(FaultCode::TokenNotChanged, &[]),
        Method::with_session("token.revoke", "Makes the key of a token worthless, for ever.", revoke)
            .needs(HOLDERS)
            .faults(FaultCode::TokenNotChanged, &[FaultCode::NoToken]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which part of the list; the first of it, if left out.
    options: Option<Object<Options>>,
}

/// Which tokens to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_token_id: Option<Whole>,
    /// `token_id`, the default, or `-token_id` for the last first.
    #[schemars(schema_with = "schema::sort_tokens")]
    #[serde(default)]
    sort: Option<String>,
    /// The most tokens in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<TokenItem>, Fault> {
    let Options { after_token_id, sort, limit } = params.options.unwrap_or_default().0;
    let limit = limit.map(|limit| limit.0);
    let mut page = TokenPage { after_token_id: after_token_id.map(|id| id.0), sort, limit };
    let (mut list, mut steps) = request.list(page.limit, LIGHT_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_tokens(&caller, page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for token in found {
            let id = token.token_id.0;
            if !list.write(&TokenItem::from(token), id)? {
                return Ok(list.cut("after_token_id"));
            }
            list.pause().await;
            page.after_token_id = Some(id);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Create {
    /// What the token is for.
    token: Object<NewData>,
}

/// What a new token is for.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct NewData {
    /// What people call it.
    #[schemars(length(min = 1, max = TOKEN_NAME_CHARS_MAX))]
    name: String,
    /// What it may do, of what its maker may: `webhook_read`, `webhook_write`, `event_write`; one at least. The last
    /// does not go with `webhooks` or `label`.
    #[schemars(schema_with = "schema::token_permissions")]
    permissions: Vec<String>,
    /// The only webhooks that it reaches; it makes no others.
    #[schemars(length(min = 1, max = TOKEN_WEBHOOKS_MAX))]
    webhooks: Option<Vec<Whole>>,
    /// One pair, such as `{"customer": "42"}`: it reaches only webhooks that have this label, and those that it makes
    /// have it.
    #[schemars(schema_with = "schema::label")]
    #[serde(default)]
    label: Option<Object<BTreeMap<String, String>>>,
    /// It ends after so many seconds; by default when it is revoked.
    #[schemars(range(min = 1, max = TOKEN_TTL_S_MAX))]
    ttl_s: Option<Whole>,
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<MadeItem, Fault> {
    let Object(NewData { name, permissions, webhooks, label, ttl_s }) = params.token;
    let webhooks = webhooks.map(|ids| ids.into_iter().map(|id| id.0).collect());
    let draft =
        TokenDraft { name, permissions, webhooks, label: label.map(|label| label.0), ttl_s: ttl_s.map(|s| s.0) };
    let MadeToken { token, key } = request.service.create_token(&caller, draft).await?;
    Ok(MadeItem { token: token.into(), key })
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The token.
    token_id: Whole,
}

async fn revoke(request: Request, caller: Caller, params: ById) -> Result<bool, Fault> {
    request.service.revoke_token(&caller, TokenId(params.token_id.0)).await.map(|()| true)
}

/// A token.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Token")]
struct TokenItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    token_id: i64,
    /// What people call it.
    name: String,
    /// The name of the user who made it, and for whom it acts.
    user: String,
    /// What it may do, as long as that user may.
    #[schemars(schema_with = "schema::token_permissions")]
    permissions: Vec<&'static str>,
    /// The only webhooks that it reaches; null: it is not confined to some by their ids.
    webhooks: Option<Vec<i64>>,
    /// The label that a webhook has which it reaches; null: it is not confined to one.
    #[schemars(schema_with = "schema::label_or_null")]
    label: Option<BTreeMap<String, String>>,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When it ends; null: when it is revoked.
    #[schemars(schema_with = "schema::time_or_null")]
    expires_at: Option<String>,
}

impl From<Token> for TokenItem {
    fn from(token: Token) -> Self {
        let (webhooks, label) = match token.confinement {
            None => (None, None),
            Some(Confinement::Webhooks(ids)) => (Some(ids.into_iter().map(|id| id.0).collect()), None),
            Some(Confinement::Label(label)) => {
                (None, Some([(label.name().to_owned(), label.value().to_owned())].into()))
            }
        };
        Self {
            token_id: token.token_id.0,
            name: token.name,
            user: token.user,
            permissions: token.permissions.names().collect(),
            webhooks,
            label,
            created_at: token.created_at.rfc3339_ms(),
            expires_at: token.expires_at.map(Timestamp::rfc3339_ms),
        }
    }
}

/// A token that was made.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "MadeToken")]
struct MadeItem {
    /// The token.
    token: TokenItem,
    /// Its key, which is shown only now: it is sent in place of a session key, or as a Bearer token.
    key: String,
}
