//! user.*

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{LIGHT_STEP, Method, Request};
use crate::api::rpc::wire::{Object, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::time::Timestamp;
use crate::domain::user::{Permission, User};
use crate::service::caller::Caller;
use crate::service::user::{Made, NewUser, Rotated, UserPage};

/// Who may change users: of its merchant, or of all.
const ADMINISTRATORS: &[Permission] = &[Permission::Admin, Permission::Operator];

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing(
            "user.list",
            "Lists the users of the merchant, or for an operator of all.",
            "after_user_id",
            list,
        )
        .needs(ADMINISTRATORS)
        .faults(FaultCode::InvalidSelection, &[]),
        changing(Method::with_session(
            "user.create",
            "Makes a user, and returns it with its API key, which is shown only now.",
            create,
        )),
        changing(Method::with_session("user.update", "Changes what a user may do, from its next call on.", update)),
        changing(Method::with_session(
            "user.disable",
            "Has a user refused until it is enabled again, and returns it; its key and its sessions stay.",
            disable,
        )),
        changing(Method::with_session("user.enable", "Lets a user in again, and returns it.", enable)),
        changing(Method::with_session(
            "user.revoke",
            "Makes a user's API key worthless and ends its sessions, for ever, and returns it.",
            revoke,
        )),
        changing(Method::with_session(
            "user.rotate_key",
            "Gives a user a new API key; the old one, and the sessions that there are, count for a while yet.",
            rotate_key,
        )),
    ]
}

fn changing(method: Method) -> Method {
    method.needs(ADMINISTRATORS).faults(FaultCode::UserNotChanged, &[FaultCode::NoUser])
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which users, and which part of the list; the first of all, if left out.
    options: Option<Object<Options>>,
}

/// Which users to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those of this merchant; an operator names any.
    merchant: Option<String>,
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_user_id: Option<Whole>,
    /// `user_id`, the default, or `-user_id` for the last first.
    #[schemars(schema_with = "schema::sort_users")]
    #[serde(default)]
    sort: Option<String>,
    /// The most users in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<UserItem>, Fault> {
    let Options { merchant, after_user_id, sort, limit } = params.options.unwrap_or_default().0;
    let limit = limit.map(|limit| limit.0);
    let mut page = UserPage { after_user_id: after_user_id.map(|id| id.0), sort, limit };
    let (mut list, mut steps) = request.list(page.limit, LIGHT_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_users(&caller, merchant.clone(), page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for user in found {
            let id = user.user_id.0;
            if !list.write(&UserItem::from(user), id)? {
                return Ok(list.cut("after_user_id"));
            }
            list.pause().await;
            page.after_user_id = Some(id);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Create {
    /// The name of the user, unique in the store: 1 to 64 letters, digits and `_ . @ -`.
    user: String,
    /// What it may do, and for whom.
    data: Object<NewData>,
}

/// What a new user may do, and for whom.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct NewData {
    /// What it may do; one at least.
    #[schemars(schema_with = "schema::permissions")]
    permissions: Vec<String>,
    /// The merchant it acts for, which there has to be; the caller's by default. An operator names any.
    merchant: Option<String>,
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<MadeUser, Fault> {
    let Object(NewData { permissions, merchant }) = params.data;
    let said = NewUser { name: params.user, merchant, permissions };
    let Made { user, api_key } = request.service.create_user(&caller, said).await?;
    Ok(MadeUser { user: user.into(), api_key })
}

#[derive(Deserialize, JsonSchema)]
struct ByName {
    /// The name of the user.
    user: String,
}

async fn disable(request: Request, caller: Caller, params: ByName) -> Result<UserItem, Fault> {
    request.service.enable_user(&caller, &params.user, false).await.map(UserItem::from)
}

async fn enable(request: Request, caller: Caller, params: ByName) -> Result<UserItem, Fault> {
    request.service.enable_user(&caller, &params.user, true).await.map(UserItem::from)
}

async fn revoke(request: Request, caller: Caller, params: ByName) -> Result<UserItem, Fault> {
    request.service.revoke_user(&caller, &params.user).await.map(UserItem::from)
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
    request.service.set_permissions(&caller, &params.user, &permissions).await.map(UserItem::from)
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
pub struct UserItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    user_id: i64,
    /// What it logs in as.
    name: String,
    /// The merchant it acts for.
    merchant: String,
    /// What it may do.
    #[schemars(schema_with = "schema::permissions")]
    permissions: Vec<&'static str>,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// Since when it is refused, until it is enabled again; null: it is let in.
    #[schemars(schema_with = "schema::time_or_null")]
    disabled_at: Option<String>,
    /// When its key became worthless, for ever; null: it has not.
    #[schemars(schema_with = "schema::time_or_null")]
    revoked_at: Option<String>,
}

impl From<User> for UserItem {
    fn from(user: User) -> Self {
        Self {
            user_id: user.user_id.0,
            name: user.name,
            merchant: user.merchant_code,
            permissions: user.permissions.names().collect(),
            created_at: user.created_at.rfc3339_ms(),
            disabled_at: user.disabled_at.map(Timestamp::rfc3339_ms),
            revoked_at: user.revoked_at.map(Timestamp::rfc3339_ms),
        }
    }
}

/// A user that was made.
#[derive(JsonSchema, Serialize)]
pub struct MadeUser {
    /// The user.
    pub user: UserItem,
    /// Its key, which is shown only now.
    pub api_key: String,
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
