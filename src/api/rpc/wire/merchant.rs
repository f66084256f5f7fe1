//! Merchants, as they are written and read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::nullable;
use super::schema;
use super::values::Whole;
use crate::domain::merchant::{Merchant, QuotaChanges, Quotas};
use crate::domain::time::Timestamp;
use crate::store::Holdings;

/// How much a merchant may have; what is left out stays as it is, and null is no quota.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "QuotaData")]
pub struct QuotaData {
    /// Webhooks; null: as many as `webhooks_max` lets every merchant have.
    #[schemars(schema_with = "schema::small_quota")]
    #[serde(default, deserialize_with = "nullable")]
    webhooks: Option<Option<Whole>>,
    /// Deliveries that are to be sent; beyond it nothing is published. Null: as many as there are.
    #[schemars(schema_with = "schema::quota")]
    #[serde(default, deserialize_with = "nullable")]
    pending_deliveries: Option<Option<Whole>>,
    /// Events that are published in a day of UTC; null: as many as there are.
    #[schemars(schema_with = "schema::quota")]
    #[serde(default, deserialize_with = "nullable")]
    events_per_day: Option<Option<Whole>>,
    /// Calls in a second, of all its users together, at each server; null: as many as its users may make by themselves.
    #[schemars(schema_with = "schema::small_quota")]
    #[serde(default, deserialize_with = "nullable")]
    calls_per_second: Option<Option<Whole>>,
}

impl From<QuotaData> for QuotaChanges {
    fn from(data: QuotaData) -> Self {
        let QuotaData { webhooks, pending_deliveries, events_per_day, calls_per_second } = data;
        let whole = |said: Option<Option<Whole>>| said.map(|quota| quota.map(|quota| quota.0));
        Self {
            webhooks: whole(webhooks),
            pending_deliveries: whole(pending_deliveries),
            events_per_day: whole(events_per_day),
            calls_per_second: whole(calls_per_second),
        }
    }
}

/// How much a merchant may have.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Quotas")]
struct QuotasItem {
    /// Webhooks; null: as many as `webhooks_max` lets every merchant have.
    webhooks: Option<u32>,
    /// Deliveries that are to be sent; null: as many as there are.
    pending_deliveries: Option<u32>,
    /// Events that are published in a day of UTC; null: as many as there are.
    events_per_day: Option<u32>,
    /// Calls in a second, of all its users together, at each server; null: as many as its users may make by themselves.
    calls_per_second: Option<u32>,
}

impl From<Quotas> for QuotasItem {
    fn from(quotas: Quotas) -> Self {
        let Quotas { webhooks, pending_deliveries, events_per_day, calls_per_second } = quotas;
        Self { webhooks, pending_deliveries, events_per_day, calls_per_second }
    }
}

/// A merchant.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Merchant")]
pub struct MerchantItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    merchant_id: i64,
    /// Its code, by which it is named.
    merchant: String,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// Since when nothing is published and delivered for it; null: it is not paused.
    #[schemars(schema_with = "schema::time_or_null")]
    paused_at: Option<String>,
    /// How much it may have.
    quotas: QuotasItem,
}

impl From<Merchant> for MerchantItem {
    fn from(merchant: Merchant) -> Self {
        Self {
            merchant_id: merchant.merchant_id.0,
            merchant: merchant.code,
            created_at: merchant.created_at.rfc3339_ms(),
            paused_at: merchant.terms.paused_at.map(Timestamp::rfc3339_ms),
            quotas: merchant.terms.quotas.into(),
        }
    }
}

/// What a merchant has.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Used")]
pub struct UsedItem {
    /// Webhooks that are not deleted.
    webhooks: u32,
    /// Users, revoked ones too.
    users: u32,
    /// Deliveries that are to be sent, for the first time or again.
    pending_deliveries: u64,
    /// Events that were published today, by UTC, and those that servers have taken ahead, up to a hundredth of the quota
    /// each; null: without a quota they are not counted.
    events_today: Option<u32>,
}

impl UsedItem {
    /// What it has.
    pub fn new(holdings: Holdings, pending_deliveries: u64, events_today: Option<u32>) -> Self {
        let Holdings { webhooks, users, event_day: _ } = holdings;
        Self { webhooks, users, pending_deliveries, events_today }
    }
}
