//! merchant.*

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::user::{MadeUser, UserItem};
use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{LIGHT_STEP, Method, Request};
use crate::api::rpc::wire::{MerchantItem, Object, QuotaData, UsedItem, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::merchant::{Described, MerchantPage, NewMerchant};

/// What a first user may do unless it is said.
const FIRST_USER_PERMISSIONS: [&str; 1] = ["admin"];

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing("merchant.list", "Lists the merchants.", "after_merchant_id", list)
            .needs(&[Permission::Operator])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session(
            "merchant.create",
            "Makes a merchant, and its first user if one is named, whose API key is shown only now.",
            create,
        )
        .needs(&[Permission::Operator])
        .faults(FaultCode::MerchantNotChanged, &[]),
        Method::with_session("merchant.get", "Returns a merchant, with what it may have and what it has.", get)
            .needs(&[Permission::Admin, Permission::Operator])
            .faults(FaultCode::MerchantNotChanged, &[FaultCode::NoMerchant]),
        changing(Method::with_session(
            "merchant.update",
            "Changes how much a merchant may have, and returns it.",
            update,
        )),
        changing(Method::with_session(
            "merchant.pause",
            "Has nothing published and delivered for a merchant until it is resumed, and returns it.",
            pause,
        )),
        changing(Method::with_session(
            "merchant.resume",
            "Has a paused merchant go on, also with what has waited, and returns it.",
            resume,
        )),
    ]
}

fn changing(method: Method) -> Method {
    method.needs(&[Permission::Operator]).faults(FaultCode::MerchantNotChanged, &[FaultCode::NoMerchant])
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which part of the list; the first of all, if left out.
    options: Option<Object<Options>>,
}

/// Which merchants to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_merchant_id: Option<Whole>,
    /// `merchant_id`, the default, or `-merchant_id` for the last first.
    #[schemars(schema_with = "schema::sort_merchants")]
    #[serde(default)]
    sort: Option<String>,
    /// The most merchants in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<MerchantItem>, Fault> {
    let Options { after_merchant_id, sort, limit } = params.options.unwrap_or_default().0;
    let limit = limit.map(|limit| limit.0);
    let mut page = MerchantPage { after_merchant_id: after_merchant_id.map(|id| id.0), sort, limit };
    let (mut list, mut steps) = request.list(page.limit, LIGHT_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_merchants(&caller, page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for merchant in found {
            let id = merchant.merchant_id.0;
            if !list.write(&MerchantItem::from(merchant), id)? {
                return Ok(list.cut("after_merchant_id"));
            }
            list.pause().await;
            page.after_merchant_id = Some(id);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Create {
    /// The code of the merchant, unique in the store: 1 to 64 letters, digits and `_ . @ -`.
    merchant: String,
    /// How much it may have, and who is to log in for it.
    data: Option<Object<NewData>>,
}

/// How much a new merchant may have, and who is to log in for it.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct NewData {
    /// How much it may have.
    quotas: Option<Object<QuotaData>>,
    /// The name of its first user, unique in the store: 1 to 64 letters, digits and `_ . @ -`.
    user: Option<String>,
    /// What that user may do: `admin` by default.
    #[schemars(schema_with = "schema::permissions_or_null")]
    #[serde(default)]
    permissions: Option<Vec<String>>,
}

/// A merchant that was made.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "MadeMerchant")]
struct MadeItem {
    /// The merchant.
    merchant: MerchantItem,
    /// Its first user; null: none was named.
    user: Option<MadeUser>,
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<MadeItem, Fault> {
    let NewData { quotas, user, permissions } = params.data.unwrap_or_default().0;
    if permissions.is_some() && user.is_none() {
        let detail = "are those of a user, and none is named; give user, too.";
        return Err(Fault::new(FaultCode::MerchantNotChanged).field("permissions").detail(detail));
    }
    let permissions = || permissions.unwrap_or_else(|| FIRST_USER_PERMISSIONS.map(str::to_owned).to_vec());
    let quotas = quotas.unwrap_or_default().0.into();
    let said = NewMerchant { code: params.merchant, quotas, user: user.map(|name| (name, permissions())) };
    let made = request.service.create_merchant(&caller, said).await?;
    let user = made.user.map(|(user, api_key)| MadeUser { user: UserItem::from(user), api_key });
    Ok(MadeItem { merchant: made.merchant.into(), user })
}

#[derive(Deserialize, JsonSchema)]
struct Get {
    /// The code of the merchant; the caller's by default. An operator names any.
    merchant: Option<String>,
}

/// A merchant, with what it has.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "MerchantStanding")]
struct DescribedItem {
    /// The merchant.
    #[serde(flatten)]
    merchant: MerchantItem,
    /// What it has.
    used: UsedItem,
}

async fn get(request: Request, caller: Caller, params: Get) -> Result<DescribedItem, Fault> {
    let described = request.service.get_merchant(&caller, params.merchant.as_deref()).await?;
    let Described { merchant, holdings, pending_deliveries, events_today } = described;
    let used = UsedItem::new(holdings, pending_deliveries, events_today);
    Ok(DescribedItem { merchant: merchant.into(), used })
}

#[derive(Deserialize, JsonSchema)]
struct Update {
    /// The code of the merchant.
    merchant: String,
    /// What to change.
    changes: Object<Changes>,
}

/// What can be changed of a merchant.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// How much it may have; what is left out stays.
    quotas: Object<QuotaData>,
}

async fn update(request: Request, caller: Caller, params: Update) -> Result<MerchantItem, Fault> {
    let Object(Changes { quotas }) = params.changes;
    request.service.set_quotas(&caller, &params.merchant, quotas.0.into()).await.map(MerchantItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct ByCode {
    /// The code of the merchant.
    merchant: String,
}

async fn pause(request: Request, caller: Caller, params: ByCode) -> Result<MerchantItem, Fault> {
    request.service.pause_merchant(&caller, &params.merchant, true).await.map(MerchantItem::from)
}

async fn resume(request: Request, caller: Caller, params: ByCode) -> Result<MerchantItem, Fault> {
    request.service.pause_merchant(&caller, &params.merchant, false).await.map(MerchantItem::from)
}
