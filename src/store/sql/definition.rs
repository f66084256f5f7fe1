//! Webhooks in rows: what is said of them, and their counters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::codes::{bad, checked, format_from_words, format_words, named, patterns};
use super::db::{Dialect, Row, Value};
use crate::domain::expansion::{Expansion, Expansions};
use crate::domain::headers::ExtraHeaders;
use crate::domain::id::{IncrementId, MerchantId, UserId, WebhookId};
use crate::domain::identity::ClientIdentity;
use crate::domain::labels::Labels;
use crate::domain::oauth2::{AuthStyle, Grant, OAuth2};
use crate::domain::policy::{BasicAuth, Batching, Concurrency, OwnTimeouts, RateLimit};
use crate::domain::secret::SecretKey;
use crate::domain::signing::{Signer, Signing, SigningKey};
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::webhook::{
    DeliveryMode, DisabledReason, OldSecret, Pause, PauseReason, Version, Webhook, WebhookSpec,
};
use crate::store::error::StoreError;
use crate::store::glance::Glimpse;
use crate::store::vault::{Place, Vault};

type Result<T> = std::result::Result<T, StoreError>;

/// What a webhook's owner and the server say of it, apart from its counters:
/// the columns that a [`Definition`] has the values for.
pub const DEFINITION: &str =
    "name, description, is_active, topics, url, extra_headers, secret_key, old_secrets, format, retry,
    delivery_mode, max_concurrency, rate_per_second, rate_burst, connect_timeout_ms, timeout_ms, basic_username,
    basic_password, batch_events, batch_bytes, batch_wait_ms, expansions, disabled_reason, is_recovering,
    updated_at, is_paused, signing_key, client_certificate, client_key, labels, oauth2, oauth2_secret";

/// Those of its columns that hold secrets: headers may have tokens in them.
pub const SECRETS: [&str; 7] =
    ["extra_headers", "secret_key", "old_secrets", "basic_password", "signing_key", "client_key", "oauth2_secret"];

/// The number of its columns.
const DEFINED: usize = 32;

/// What else [`webhook`] reads, behind them.
const COUNTERS: &str =
    "webhook_id, merchant_id, user_id, created_at, last_increment_id, settled_through, acknowledged_through,
    pulled_through, consecutive_failures, failing_since, paused_until, pause_reason";

/// What [`webhook`] reads, of a webhook `w`; takes a WHERE behind it.
pub fn webhook_sql(dialect: Dialect) -> String {
    format!("SELECT {DEFINITION}, {COUNTERS} FROM {} w", dialect.webhooks())
}

/// Reads a webhook from [`webhook_sql`]. Fails if the vault does not open its secrets.
pub fn webhook(vault: &Vault) -> impl Fn(&dyn Row) -> Result<Webhook> {
    move |row| read(row, vault)
}

fn read(row: &dyn Row, vault: &Vault) -> Result<Webhook> {
    let counter = |column: usize| DEFINED + column;
    let webhook_id = WebhookId(row.int(counter(0))?);
    let secret = |index: usize, stored: &str| {
        let place = Place { webhook: webhook_id, column: SECRETS[index] };
        vault.open_secret(place, stored).map(Cow::into_owned)
    };
    Ok(Webhook {
        spec: spec(row, &secret)?,
        old_secrets: old_secrets(&secret(2, row.text(7)?)?)?,
        disabled: named(row, 22, DisabledReason::from_name)?,
        is_recovering: row.flag(23)?,
        updated_at: row.time(24)?,
        is_paused: row.flag(25)?,
        webhook_id,
        merchant_id: MerchantId(row.int(counter(1))?),
        created_by: UserId(row.int(counter(2))?),
        created_at: row.time(counter(3))?,
        last_increment_id: IncrementId(row.int(counter(4))?),
        settled_through: IncrementId(row.int(counter(5))?),
        acknowledged_through: IncrementId(row.int(counter(6))?),
        pulled_through: IncrementId(row.int(counter(7))?),
        consecutive_failures: row.count(counter(8))?,
        failing_since: row.time_if(counter(9))?,
        pause: pause_at(row, counter(10))?,
    })
}

fn spec(row: &dyn Row, secret: &dyn Fn(usize, &str) -> Result<String>) -> Result<WebhookSpec> {
    let (url, concurrency, rate, burst) = (row.text_if(4)?, row.count_if(11)?, row.count_if(12)?, row.count_if(13)?);
    let username = row.text_if(16)?;
    let password = row.text_if(17)?.map(|stored| secret(3, stored)).transpose()?;
    let signing_key = row.text_if(26)?.map(|stored| secret(4, stored)).transpose()?;
    let client_key = row.text_if(28)?.map(|stored| secret(5, stored)).transpose()?;
    let client_identity = row.text_if(27)?.zip(client_key.as_deref());
    let oauth2_secret = row.text_if(31)?.map(|stored| secret(6, stored)).transpose()?;
    let oauth2 = row.text_if(30)?.zip(oauth2_secret.as_deref());
    let (batch_events, batch_bytes, batch_wait_ms) = (row.count_if(18)?, row.count_if(19)?, row.count_if(20)?);
    Ok(WebhookSpec {
        name: row.string(0)?,
        description: row.string(1)?,
        is_active: row.flag(2)?,
        topics: patterns(row.text(3)?)?,
        url: checked(url.map(TargetUrl::stored).transpose())?,
        extra_headers: checked(ExtraHeaders::stored(&secret(0, row.text(5)?)?))?,
        secret_key: checked(SecretKey::stored(&secret(1, row.text(6)?)?))?,
        signing_key: checked(signing_key.map(|key| SigningKey::stored(&key)).transpose())?,
        format: format_from_words(row.text(8)?).ok_or_else(|| bad("format"))?,
        retry: checked(row.text(9)?.parse())?,
        delivery_mode: DeliveryMode::from_name(row.text(10)?).ok_or_else(|| bad("delivery_mode"))?,
        max_concurrency: checked(concurrency.map(Concurrency::try_new).transpose())?,
        rate_limit: checked(rate.map(|rate| RateLimit::try_new(rate, burst)).transpose())?,
        timeouts: checked(OwnTimeouts::try_new(row.count_if(14)?, row.count_if(15)?))?,
        basic_auth: checked(
            username.zip(password).map(|(name, password)| BasicAuth::try_new(name, &password)).transpose(),
        )?,
        client_identity: checked(client_identity.map(|(own, key)| ClientIdentity::try_new(own, key)).transpose())?,
        oauth2: oauth2.map(|(own, secret)| self::oauth2(own, secret)).transpose()?,
        batch: checked(batch_events.map(|max| Batching::try_new(max, batch_bytes, batch_wait_ms)).transpose())?,
        expansions: expansions(row.text(21)?)?,
        labels: labels(row.text(29)?)?,
    })
}

/// A pause, from the columns of its end and its reason.
pub fn pause_at(row: &dyn Row, first: usize) -> Result<Option<Pause>> {
    let until = row.time_if(first)?;
    Ok(until.zip(named(row, first + 1, PauseReason::from_name)?).map(|(until, reason)| Pause { until, reason }))
}

/// What a webhook's owner and the server say of it, to be written.
pub struct Definition<'a> {
    webhook: &'a Webhook,
    /// In the order of [`SECRETS`].
    extra_headers: Cow<'a, str>,
    secret_key: Cow<'a, str>,
    old_secrets: String,
    basic_password: Option<Cow<'a, str>>,
    signing_key: Option<Cow<'a, str>>,
    client_key: Option<Cow<'a, str>>,
    oauth2: Option<String>,
    oauth2_secret: Option<Cow<'a, str>>,
    retry: String,
    expansions: String,
    labels: String,
}

impl<'a> Definition<'a> {
    /// Of a webhook, with its secrets as they are stored.
    pub fn of(webhook: &'a Webhook, vault: &Vault) -> Self {
        let seal = |index: usize, secret: &'a str| {
            let place = Place { webhook: webhook.webhook_id, column: SECRETS[index] };
            if is_nothing(secret) { secret.into() } else { vault.seal(place, secret) }
        };
        let old_secrets = old_secrets_text(&webhook.old_secrets);
        let place = Place { webhook: webhook.webhook_id, column: SECRETS[2] };
        let sealed = if is_nothing(&old_secrets) { (&*old_secrets).into() } else { vault.seal(place, &old_secrets) };
        Self {
            webhook,
            extra_headers: seal(0, webhook.spec.extra_headers.as_str()),
            secret_key: seal(1, webhook.spec.secret_key.expose()),
            old_secrets: sealed.into_owned(),
            basic_password: webhook.spec.basic_auth.as_ref().map(|auth| seal(3, auth.expose_password())),
            signing_key: webhook.spec.signing_key.as_ref().map(|key| seal(4, key.expose())),
            client_key: webhook.spec.client_identity.as_ref().map(|own| seal(5, own.expose_key())),
            oauth2: webhook.spec.oauth2.as_ref().map(oauth2_text),
            oauth2_secret: webhook.spec.oauth2.as_ref().map(|own| seal(6, own.expose_secret())),
            retry: webhook.spec.retry.to_string(),
            expansions: expansions_text(&webhook.spec.expansions),
            labels: labels_text(&webhook.spec.labels),
        }
    }

    /// The values for the columns of [`DEFINITION`].
    pub fn values(&self) -> [Value<'_>; DEFINED] {
        let Webhook { spec, disabled, is_recovering, updated_at, is_paused, .. } = self.webhook;
        [
            (&spec.name).into(),
            (&spec.description).into(),
            spec.is_active.into(),
            spec.topics.as_str().into(),
            spec.url.as_ref().map(TargetUrl::as_str).into(),
            (&*self.extra_headers).into(),
            (&*self.secret_key).into(),
            (&self.old_secrets).into(),
            format_words(spec.format).into(),
            (&self.retry).into(),
            spec.delivery_mode.name().into(),
            spec.max_concurrency.map(Concurrency::get).into(),
            spec.rate_limit.map(RateLimit::per_second).into(),
            spec.rate_limit.map(RateLimit::burst).into(),
            spec.timeouts.connect_ms().into(),
            spec.timeouts.total_ms().into(),
            spec.basic_auth.as_ref().map(BasicAuth::username).into(),
            self.basic_password.as_deref().into(),
            spec.batch.map(Batching::max_events).into(),
            spec.batch.map(Batching::max_bytes).into(),
            spec.batch.map(Batching::wait_ms).into(),
            (&self.expansions).into(),
            disabled.map(DisabledReason::name).into(),
            (*is_recovering).into(),
            (*updated_at).into(),
            (*is_paused).into(),
            self.signing_key.as_deref().into(),
            spec.client_identity.as_ref().map(ClientIdentity::certificate).into(),
            self.client_key.as_deref().into(),
            (&self.labels).into(),
            self.oauth2.as_deref().into(),
            self.oauth2_secret.as_deref().into(),
        ]
    }
}

/// True if there is no secret in a text.
pub fn is_nothing(text: &str) -> bool {
    text.is_empty() || text == "[]"
}

/// As `[[expires_at, "secret"], [expires_at, "private key", "ed25519"], …]`.
fn old_secrets_text(old_secrets: &[OldSecret]) -> String {
    let written = old_secrets.iter().map(|OldSecret { signer, expires_at }| match signer {
        Signer::Hmac(secret) => serde_json::json!([expires_at.0, secret.expose()]),
        Signer::Ed25519(key) => serde_json::json!([expires_at.0, key.expose(), Signing::Ed25519.name()]),
    });
    serde_json::Value::from_iter(written).to_string()
}

fn old_secrets(text: &str) -> Result<Vec<OldSecret>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Old {
        Secret(i64, String),
        Key(i64, String, String),
    }
    let all: Vec<Old> = serde_json::from_str(text).map_err(|_| bad("old_secrets"))?;
    let read = |old| {
        let (expires_at, signer) = match old {
            Old::Secret(at, secret) => (at, Signer::Hmac(checked(SecretKey::stored(&secret))?)),
            Old::Key(at, key, how) if Signing::from_name(&how) == Some(Signing::Ed25519) => {
                (at, Signer::Ed25519(checked(SigningKey::stored(&key))?))
            }
            Old::Key(..) => return Err(bad("old_secrets")),
        };
        Ok(OldSecret { signer, expires_at: Timestamp(expires_at) })
    };
    all.into_iter().map(read).collect()
}

/// As `{"token_url": …, "client_id": …, "scope": …, "audience": …, "auth_style": …}`.
fn oauth2_text(own: &OAuth2) -> String {
    serde_json::json!({
        "token_url": own.token_url().as_str(), "client_id": own.client_id(), "scope": own.scope(),
        "audience": own.audience(), "auth_style": own.auth_style().name(),
    })
    .to_string()
}

fn oauth2(text: &str, client_secret: &str) -> Result<OAuth2> {
    #[derive(Deserialize)]
    struct Stored {
        token_url: String,
        client_id: String,
        scope: Option<String>,
        audience: Option<String>,
        auth_style: String,
    }
    let stored: Stored = serde_json::from_str(text).map_err(|_| bad("oauth2"))?;
    checked(OAuth2::stored(&Grant {
        token_url: &stored.token_url,
        client_id: &stored.client_id,
        client_secret,
        scope: stored.scope.as_deref(),
        audience: stored.audience.as_deref(),
        auth_style: AuthStyle::from_name(&stored.auth_style).ok_or_else(|| bad("oauth2"))?,
    }))
}

/// As `{"order:created": "billing,items", …}`.
fn expansions_text(expansions: &Expansions) -> String {
    let pairs = expansions.list().iter().map(|(topic, own)| (topic.as_str(), own.as_str().into()));
    serde_json::Value::Object(pairs.map(|(topic, own)| (topic.to_owned(), own)).collect()).to_string()
}

fn expansions(text: &str) -> Result<Expansions> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| bad("expansions"))?;
    let read = |(topic, own): (String, String)| Ok((checked(Topic::try_new(&topic))?, Expansion::from_store(&own)));
    checked(Expansions::try_new(pairs.into_iter().map(read).collect::<Result<_>>()?))
}

/// As `{"customer":"42", …}`.
pub fn labels_text(labels: &Labels) -> String {
    let pairs = labels.list().iter().map(|label| (label.name().to_owned(), label.value().into()));
    serde_json::Value::Object(pairs.collect()).to_string()
}

/// What [`labels_text`] wrote.
pub fn labels(text: &str) -> Result<Labels> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| bad("labels"))?;
    checked(Labels::try_new(pairs))
}

/// How a webhook stands, but for what is due: from its id, its merchant, its last
/// number, and what makes up the version of its definition.
pub fn glimpse(row: &dyn Row) -> Result<Glimpse> {
    Ok(Glimpse {
        webhook_id: WebhookId(row.int(0)?),
        merchant_id: MerchantId(row.int(1)?),
        last_increment_id: IncrementId(row.int(2)?),
        version: Version {
            updated_at: row.time(3)?,
            is_active: row.flag(4)?,
            is_paused: row.flag(5)?,
            disabled: named(row, 6, DisabledReason::from_name)?,
            is_recovering: row.flag(7)?,
        },
        first_due: None,
    })
}
