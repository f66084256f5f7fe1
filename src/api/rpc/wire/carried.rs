//! Webhooks as they are carried from one server to another.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::policy::{Basic, Batch, Rate, Retry, Times};
use super::schema;
use crate::domain::policy::{Concurrency, OwnTimeouts};
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Webhook, WebhookSpec};

/// A webhook in `webhook.export`, as `webhook.import` takes it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ExportedWebhook")]
pub struct ExportedItem<'a> {
    /// Which webhook it was.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// What its owner says of it, as `webhook.create` takes it.
    webhook: DefinitionItem<'a>,
    /// What it has besides and is not here: members of a webhook, one header as `extra_headers.X-Name`, and as
    /// `private_key` the key that signs where `signing` is `ed25519`.
    left_out: Vec<String>,
}

/// What an owner says of a webhook; what is not said is as by default.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookDefinition")]
struct DefinitionItem<'a> {
    /// What people call it.
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    /// What they say of it.
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    /// 1: on.
    #[schemars(schema_with = "schema::flag_given")]
    is_active: u8,
    /// What it subscribes to, as its owner wrote it.
    topics: &'a str,
    /// Where its deliveries are posted to; not if they are pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    /// Headers that are sent along, one `Name: value` a line; only with secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_headers: Option<&'a str>,
    /// What signs; only with secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<&'a str>,
    /// How deliveries are signed.
    #[schemars(schema_with = "schema::signings")]
    signing: &'static str,
    /// How bodies are built.
    #[schemars(schema_with = "schema::formats")]
    format: &'static str,
    /// What they are written in.
    #[schemars(schema_with = "schema::encodings")]
    encoding: &'static str,
    /// What becomes of deliveries that fail.
    retry: Retry,
    /// In which order deliveries go out.
    #[schemars(schema_with = "schema::modes")]
    delivery_mode: &'static str,
    /// How many requests may be under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrency: Option<u32>,
    /// How many requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<Rate>,
    /// How long an attempt may take, as far as its owner has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeouts: Option<Times>,
    /// What is sent along as HTTP Basic; only with secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_auth: Option<Basic>,
    /// How many events go out in one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Batch>,
    /// By topic, the objects and arrays of a message that go out.
    #[schemars(schema_with = "schema::expansions")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expansions: BTreeMap<&'a str, &'a str>,
    /// For whom it is.
    #[schemars(schema_with = "schema::labels")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> ExportedItem<'a> {
    /// `with_secrets` only for callers that may write webhooks. What nobody is
    /// shown, the keys of certificates and those that sign, is never there.
    pub fn new(webhook: &'a Webhook, with_secrets: bool, now: Timestamp) -> Self {
        Self {
            webhook_id: webhook.webhook_id.0,
            webhook: DefinitionItem::new(&webhook.spec, with_secrets),
            left_out: left_out(webhook, with_secrets, now),
        }
    }
}

impl<'a> DefinitionItem<'a> {
    fn new(spec: &'a WebhookSpec, with_secrets: bool) -> Self {
        let headers = spec.extra_headers.as_str();
        let timeouts = (spec.timeouts != OwnTimeouts::default()).then_some(spec.timeouts);
        Self {
            name: &spec.name,
            description: &spec.description,
            is_active: spec.is_active.into(),
            topics: spec.topics.as_str(),
            url: spec.url.as_ref().map(TargetUrl::as_str),
            extra_headers: (with_secrets && !headers.is_empty()).then_some(headers),
            secret_key: with_secrets.then(|| spec.secret_key.expose()),
            signing: spec.signing().name(),
            format: spec.format.name(),
            encoding: spec.format.encoding().name(),
            retry: (&spec.retry).into(),
            delivery_mode: spec.delivery_mode.name(),
            max_concurrency: spec.max_concurrency.map(Concurrency::get),
            rate_limit: spec.rate_limit.map(Rate::from),
            timeouts: timeouts.map(Times::from),
            basic_auth: spec.basic_auth.as_ref().filter(|_| with_secrets).map(|basic| Basic::new(basic, true)),
            batch: spec.batch.map(Batch::from),
            expansions: (spec.expansions.list().iter()).map(|(topic, own)| (topic.as_str(), own.as_str())).collect(),
            labels: spec.labels.pairs(),
        }
    }
}

/// What a webhook has and its definition, as it is exported, has not.
fn left_out(webhook: &Webhook, with_secrets: bool, now: Timestamp) -> Vec<String> {
    let spec = &webhook.spec;
    let mut left_out = Vec::new();
    let mut note = |is_there: bool, member: &str| {
        if is_there {
            left_out.push(member.to_owned());
        }
    };
    note(!with_secrets, "secret_key");
    note(!with_secrets && spec.basic_auth.is_some(), "basic_auth");
    for (name, _) in spec.extra_headers.list() {
        note(!with_secrets, &format!("extra_headers.{name}"));
    }
    // One is worth nothing without the other.
    note(spec.client_identity.is_some(), "client_certificate");
    note(spec.client_identity.is_some(), "client_key");
    note(spec.oauth2.is_some(), "oauth2");
    note(spec.signing_key.is_some(), "private_key");
    note(webhook.old_signers(now).next().is_some(), "old_secrets");
    note(webhook.is_paused, "is_paused");
    note(webhook.disabled.is_some(), "disabled");
    left_out
}

/// What came of a webhook in `webhook.import`.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ImportedWebhook")]
pub struct ImportedItem {
    /// `created`; `valid`, in a dry run: it would be; `skipped`: it is there already; or `failed`.
    #[schemars(schema_with = "schema::import_outcomes")]
    pub outcome: &'static str,
    /// The webhook that was made.
    #[schemars(schema_with = "schema::id_or_null")]
    pub webhook_id: Option<i64>,
    /// The webhooks that were there before with the same URL (or, if they are pulled, the same name) and topics; up to
    /// 10.
    #[schemars(inner(range(min = 1)))]
    pub same_as: Vec<i64>,
    /// The secret that was made since there was none; only if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// The key by which its deliveries are verified; only where `signing` is `ed25519`, whose keys are always made
    /// anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Why it failed: the fault that `webhook.create` would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<ImportFault>,
}

/// Why a webhook was not imported.
#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
pub struct ImportFault {
    /// Its number, as `webhook.create` has it.
    pub code: i32,
    /// What was wrong.
    pub message: String,
    /// The member that was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What the request is called in the server's log, which says what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
