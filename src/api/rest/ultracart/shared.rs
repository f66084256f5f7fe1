//! What the answers of this dialect have in common, and its requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::rest::values::Int;
use crate::api::rest::window::{Paging, Window};
use crate::domain::id::WebhookId;

/// How clients say which part of a list they want.
pub const PAGING: Paging =
    Paging { take: "_limit", take_min: 1, take_default: 100, skip: "_offset", skip_max: Some(u32::MAX) };

/// What is said of an answer.
#[derive(Default, JsonSchema, Serialize)]
#[schemars(rename = "ResponseMetadata")]
pub struct Metadata {
    /// The member with what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_name: Option<&'static str>,
    /// Which part of a list it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_set: Option<ResultSet>,
}

/// A part of a list.
#[derive(JsonSchema, Serialize)]
struct ResultSet {
    /// How many records there are in it.
    count: usize,
    /// How many were asked for.
    limit: usize,
    /// The place of the first, from 0.
    offset: usize,
    /// Whether there are more behind them.
    more: bool,
    /// The place of the next, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<usize>,
    /// How many there are in all, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_records: Option<usize>,
}

impl Metadata {
    /// Of one thing.
    pub fn of(payload_name: &'static str) -> Self {
        Self { payload_name: Some(payload_name), result_set: None }
    }

    /// Of a part of a list.
    pub fn of_list(
        payload_name: &'static str,
        window: Window,
        count: usize,
        more: bool,
        total_records: Option<usize>,
    ) -> Self {
        let Window { skip: offset, take: limit } = window;
        let next_offset = more.then_some(offset + count);
        let result_set = ResultSet { count, limit, offset, more, next_offset, total_records };
        Self { payload_name: Some(payload_name), result_set: Some(result_set) }
    }
}

/// Which webhook.
#[derive(Deserialize, JsonSchema)]
pub struct ById {
    /// The webhook.
    #[schemars(example = 1)]
    #[serde(rename = "webhookOid")]
    webhook_oid: Int,
}

impl ById {
    /// Its id.
    pub fn webhook(&self) -> WebhookId {
        WebhookId(self.webhook_oid.0)
    }
}
