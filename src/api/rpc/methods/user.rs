//! user.*

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::rpc::method::{Method, Request};
use crate::api::rpc::wire::{Object, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::time::Timestamp;
use crate::domain::user::{Permission, User};
use crate::service::auth::Caller;
use crate::service::user::Rotated;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session("user.update", "Changes what a user of the merchant may do, from its next call on.", update)
            .needs(Permission::Admin)
            .faults(FaultCode::UserNotChanged, &[FaultCode::NoUser]),
        Method::with_session(
            "user.rotate_key",
            "Gives a user of the merchant a new API key; the old one, and the sessions that there are, count for a while yet.",
            rotate_key,
        )
        .needs(Permission::Admin)
        .faults(FaultCode::UserNotChanged, &[FaultCode::NoUser]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct Update {
    /// The name of the user.
    user: String,
    /// What to change.
    changes: Object<Changes>,
}

/// What can be changed of a user.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// What it may do; one at least.
    #[schemars(schema_with = "schema::permissions")]
    permissions: Vec<String>,
}

async fn update(request: Request, caller: Caller, params: Update) -> Result<UserItem, Fault> {
    let Object(Changes { permissions }) = params.changes;
    request.service.set_permissions(&caller, &params.user, &permissions.join(",")).await.map(UserItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct RotateKey {
    /// The name of the user.
    user: String,
    /// How long the old key counts, in seconds, 0 to 2592000; `secret_overlap_s` by default. A key before that is
    /// worthless at once.
    #[schemars(range(min = 0, max = 2_592_000))]
    overlap_s: Option<Whole>,
}

async fn rotate_key(request: Request, caller: Caller, params: RotateKey) -> Result<RotatedItem, Fault> {
    let overlap_s = params.overlap_s.map(|seconds| seconds.0);
    request.service.rotate_key(&caller, &params.user, overlap_s).await.map(RotatedItem::from)
}

/// A user.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "User")]
struct UserItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    user_id: i64,
    /// What it logs in as.
    name: String,
    /// What it may do.
    #[schemars(schema_with = "schema::permissions")]
    permissions: Vec<&'static str>,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// Since when it is refused, until it is enabled again; null: it is let in.
    #[schemars(schema_with = "schema::time_or_null")]
    disabled_at: Option<String>,
}

impl From<User> for UserItem {
    fn from(user: User) -> Self {
        Self {
            user_id: user.user_id.0,
            name: user.name,
            permissions: user.permissions.names().collect(),
            created_at: user.created_at.rfc3339_ms(),
            disabled_at: user.disabled_at.map(Timestamp::rfc3339_ms),
        }
    }
}

/// A user with a new key.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RotatedKey")]
struct RotatedItem {
    /// The user.
    user: UserItem,
    /// Its key, which is shown only now.
    api_key: String,
    /// Until when the old key counts.
    #[schemars(schema_with = "schema::time")]
    old_key_until: String,
}

impl From<Rotated> for RotatedItem {
    fn from(rotated: Rotated) -> Self {
        let Rotated { user, api_key, until } = rotated;
        Self { user: user.into(), api_key, old_key_until: until.rfc3339_ms() }
    }
}
