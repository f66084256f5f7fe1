//! Webhooks, as they are written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::breaker::breaker;
use super::policy::{Basic, Batch, Rate, Retry, Times, TokenClient};
use super::schema;
use crate::domain::identity::ClientIdentity;
use crate::domain::policy::Concurrency;
use crate::domain::signing::Signer;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{OldSecret, Webhook};

/// A secret or a private key that was replaced and still signs.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OldSecret")]
struct OldSecretItem<'a> {
    /// The secret; empty for a caller without the permission `webhook_write`, and if it was a private key.
    secret_key: &'a str,
    /// The public key, if it was a private one.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// When it stops to sign.
    #[schemars(schema_with = "schema::time")]
    expires_at: String,
}

impl<'a> OldSecretItem<'a> {
    fn new(old: &'a OldSecret, with_secret: bool) -> Self {
        let secret_key = match &old.signer {
            Signer::Hmac(secret) if with_secret => secret.expose(),
            _ => "",
        };
        let public_key = old.signer.public().map(|key| key.to_string());
        Self { secret_key, public_key, expires_at: old.expires_at.rfc3339_ms() }
    }
}

/// What of a webhook its reader is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Secrets and values of headers: only to callers that may write webhooks.
    pub secrets: bool,
    /// How it is doing.
    pub health: bool,
}

/// How a webhook is doing.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "WebhookHealth")]
struct HealthItem {
    /// `failing`: the last attempt failed. `disabled`: by the server. `off`: by its owner.
    #[schemars(schema_with = "schema::health")]
    state: &'static str,
    /// Failures since the last success.
    consecutive_failures: u32,
    /// When the present run of failures began.
    #[schemars(schema_with = "schema::time_or_null")]
    failing_since: Option<String>,
    /// Why the server has disabled it.
    #[schemars(schema_with = "schema::disabled_reasons")]
    disabled_reason: Option<&'static str>,
    /// The highest number up to which all have ended.
    #[schemars(schema_with = "schema::number")]
    settled_through: i64,
}

impl From<&Webhook> for HealthItem {
    fn from(webhook: &Webhook) -> Self {
        Self {
            state: webhook.health().name(),
            consecutive_failures: webhook.consecutive_failures,
            failing_since: webhook.failing_since.map(Timestamp::rfc3339_ms),
            disabled_reason: webhook.disabled.map(|reason| reason.name()),
            settled_through: webhook.settled_through.0,
        }
    }
}

// The vendor's members in the vendor's order: docs/wire.md, "webhook.list".
/// A webhook in `webhook.list`.
#[derive(JsonSchema, Serialize)]
pub struct WebhookItem<'a> {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    webhook_id: i64,
    /// The last number given out; 0: none so far.
    #[schemars(schema_with = "schema::number")]
    increment_id: i64,
    /// 1: on. 0: what is pending waits, and later events are not numbered for it.
    #[schemars(schema_with = "schema::flag_given")]
    is_active: u8,
    /// What it subscribes to, as its owner wrote it.
    topics: &'a str,
    /// Where its deliveries are posted to; empty if they are pulled.
    url: &'a str,
    /// Headers that are sent along, one `Name: value` a line; values read `[redacted]` for a caller without the permission `webhook_write`.
    extra_headers: Cow<'a, str>,
    /// What signs; empty for a caller without the permission `webhook_write`.
    secret_key: &'a str,
    /// The key by which its deliveries are verified; only where `signing` is `ed25519`.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// How it is doing; only in a list that was asked for it with `with_health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthItem>,
}

impl<'a> WebhookItem<'a> {
    /// The webhook, as far as it is shown.
    pub fn new(webhook: &'a Webhook, shown: Shown) -> Self {
        let with_secret = shown.secrets;
        Self {
            webhook_id: webhook.webhook_id.0,
            increment_id: webhook.last_increment_id.0,
            is_active: webhook.spec.is_active.into(),
            topics: webhook.spec.topics.as_str(),
            url: webhook.spec.url.as_ref().map_or("", TargetUrl::as_str),
            extra_headers: match with_secret {
                true => webhook.spec.extra_headers.as_str().into(),
                false => webhook.spec.extra_headers.redacted().into(),
            },
            secret_key: if with_secret { webhook.spec.secret_key.expose() } else { "" },
            public_key: webhook.spec.signing_key.as_ref().map(|key| key.public().to_string()),
            health: shown.health.then(|| webhook.into()),
        }
    }
}

/// A webhook, with everything there is to it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Webhook")]
pub struct WebhookDetail<'a> {
    #[serde(flatten)]
    item: WebhookItem<'a>,
    /// What people call it.
    name: &'a str,
    /// What they say of it.
    description: &'a str,
    /// The id of the user who made it.
    #[schemars(schema_with = "schema::id")]
    created_by: i64,
    /// How deliveries are signed: `hmac` by `secret_key`, or `ed25519` by a private key whose `public_key` is shown.
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
    /// How many requests may be under way at once; null: as the server is configured.
    max_concurrency: Option<u32>,
    /// How many requests a second; null: as fast as it answers.
    rate_limit: Option<Rate>,
    /// How long an attempt may take.
    timeouts: Times,
    /// What is sent along as HTTP Basic.
    basic_auth: Option<Basic>,
    /// The certificate that is presented to a receiver which wants one, with those between it and its authority; null:
    /// none. Nobody is shown its key.
    client_certificate: Option<&'a str>,
    /// By whom a token of OAuth 2.0 is fetched that is sent along; null: by nobody. Nobody is shown its secret.
    oauth2: Option<TokenClient>,
    /// How many events go out in one request; null: one.
    batch: Option<Batch>,
    /// By topic, the objects and arrays of a message that go out; messages of other topics go out whole.
    #[schemars(schema_with = "schema::expansions")]
    expansions: BTreeMap<&'a str, &'a str>,
    /// For whom it is: an event that has labels reaches it only if all of these are among them.
    #[schemars(schema_with = "schema::labels")]
    labels: BTreeMap<&'a str, &'a str>,
    /// Secrets and private keys that it replaced and that still sign.
    old_secrets: Vec<OldSecretItem<'a>>,
    /// The highest number up to which all have ended.
    #[schemars(schema_with = "schema::number")]
    settled_through: i64,
    /// The highest number that its receiver has pulled and asked beyond.
    #[schemars(schema_with = "schema::number")]
    acknowledged_through: i64,
    /// Failures since the last success.
    consecutive_failures: u32,
    /// When the present run of failures began.
    #[schemars(schema_with = "schema::time_or_null")]
    failing_since: Option<String>,
    /// Until when nothing is sent to its receiver, but tests and what `delivery.retry` sends; null: it is not left alone.
    #[schemars(schema_with = "schema::time_or_null")]
    paused_until: Option<String>,
    /// Why: it asked for that by Retry-After, or the breaker is open.
    #[schemars(schema_with = "schema::pause_reasons")]
    pause_reason: Option<&'static str>,
    /// `open`: it has failed five times in a row, and one probe at a time goes out until one succeeds.
    #[schemars(schema_with = "schema::breakers")]
    breaker: &'static str,
    /// 1: `webhook.pause` has stopped it; it goes on being numbered. `webhook.resume` sends what has gathered.
    #[schemars(schema_with = "schema::flag_given")]
    is_paused: u8,
    /// True: the server has disabled it; it goes on being numbered. `webhook.enable` lifts that.
    disabled: bool,
    /// Why: it answered 410 Gone, or failed for days.
    #[schemars(schema_with = "schema::disabled_reasons")]
    disabled_reason: Option<&'static str>,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When its owner last changed it.
    #[schemars(schema_with = "schema::time")]
    updated_at: String,
}

impl<'a> WebhookDetail<'a> {
    /// `with_secret` only for callers that may write webhooks.
    pub fn new(webhook: &'a Webhook, with_secret: bool, now: Timestamp) -> Self {
        let pause = webhook.pause_at(now);
        Self {
            item: WebhookItem::new(webhook, Shown { secrets: with_secret, health: false }),
            name: &webhook.spec.name,
            description: &webhook.spec.description,
            created_by: webhook.created_by.0,
            signing: webhook.spec.signing().name(),
            format: webhook.spec.format.name(),
            encoding: webhook.spec.format.encoding().name(),
            retry: (&webhook.spec.retry).into(),
            delivery_mode: webhook.spec.delivery_mode.name(),
            max_concurrency: webhook.spec.max_concurrency.map(Concurrency::get),
            rate_limit: webhook.spec.rate_limit.map(Rate::from),
            timeouts: webhook.spec.timeouts().into(),
            basic_auth: webhook.spec.basic_auth.as_ref().map(|basic| Basic::new(basic, with_secret)),
            client_certificate: webhook.spec.client_identity.as_ref().map(ClientIdentity::certificate),
            oauth2: webhook.spec.oauth2.as_ref().map(TokenClient::from),
            batch: webhook.spec.batch.map(Batch::from),
            expansions: (webhook.spec.expansions.list().iter())
                .map(|(topic, own)| (topic.as_str(), own.as_str()))
                .collect(),
            labels: webhook.spec.labels.pairs(),
            old_secrets: webhook.old_secrets.iter().map(|old| OldSecretItem::new(old, with_secret)).collect(),
            settled_through: webhook.settled_through.0,
            acknowledged_through: webhook.acknowledged_through.0,
            consecutive_failures: webhook.consecutive_failures,
            failing_since: webhook.failing_since.map(Timestamp::rfc3339_ms),
            paused_until: pause.map(|pause| pause.until.rfc3339_ms()),
            pause_reason: pause.map(|pause| pause.reason.name()),
            breaker: breaker(webhook),
            is_paused: webhook.is_paused.into(),
            disabled: webhook.disabled.is_some(),
            disabled_reason: webhook.disabled.map(|reason| reason.name()),
            created_at: webhook.created_at.rfc3339_ms(),
            updated_at: webhook.updated_at.rfc3339_ms(),
        }
    }
}
