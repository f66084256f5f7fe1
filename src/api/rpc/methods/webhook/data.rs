//! What an owner says of a webhook, read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::rpc::wire::{
    Basic, Batch, Flag, Headers, Object, Rate, Retry, Times, TokenGrant, Topics, nullable, schema,
};
use crate::domain::expansion::Expansions;
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::headers::ExtraHeaders;
use crate::domain::identity::{ClientIdentity, IDENTITY_BYTES_MAX};
use crate::domain::labels::Labels;
use crate::domain::oauth2::OAuth2;
use crate::domain::policy::{BasicAuth, Batching, Concurrency, OwnTimeouts, RateLimit};
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::{SECRET_CHARS_MAX, SecretKey};
use crate::domain::signing::{Signing, SigningKey};
use crate::domain::target::{TargetUrl, URL_CHARS_MAX};
use crate::domain::topic::Patterns;
use crate::domain::webhook::{DESCRIPTION_CHARS_MAX, DeliveryMode, Encoding, Format, NAME_CHARS_MAX, WebhookChanges};

/// What an owner says of a webhook; what is left out stays as it is, or is as by default.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookData")]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// What people call it.
    #[schemars(length(max = NAME_CHARS_MAX))]
    name: Option<String>,
    /// What they say of it.
    #[schemars(length(max = DESCRIPTION_CHARS_MAX))]
    description: Option<String>,
    /// Whether it is on. Off, what is pending waits, and later events are not numbered for it: `webhook.pause` keeps
    /// them.
    is_active: Option<Flag>,
    /// What it subscribes to: `order:created` is that topic, `order:*` all of a resource, `*` everything; several as a list, or with commas between them.
    topics: Option<Topics>,
    /// Where its deliveries are posted to; not with `delivery_mode` `pull`.
    #[schemars(length(max = URL_CHARS_MAX), url)]
    url: Option<String>,
    /// Headers to send along, one `Name: value` a line, or an object.
    extra_headers: Option<Headers>,
    /// What signs. Without one, a key is made.
    #[schemars(length(max = SECRET_CHARS_MAX))]
    secret_key: Option<String>,
    /// How deliveries are signed: `hmac` by `secret_key`, the default, or `ed25519` by a private key that the server
    /// makes and shows nobody.
    #[schemars(schema_with = "schema::signings")]
    #[serde(default)]
    signing: Option<String>,
    /// How bodies are built; `envelope` by default, and `shipstream` on the vendor's paths.
    #[schemars(schema_with = "schema::formats")]
    #[serde(default)]
    format: Option<String>,
    /// What they are written in; `xml` goes with the format `3dcart`, `gzip` with `ultracart`.
    #[schemars(schema_with = "schema::encodings")]
    #[serde(default)]
    encoding: Option<String>,
    /// What becomes of deliveries that fail.
    retry: Option<Retry>,
    /// In which order deliveries go out: `parallel` (the default), `ordered`, or not at all: `pull`.
    #[schemars(schema_with = "schema::modes")]
    #[serde(default)]
    delivery_mode: Option<String>,
    /// How many requests may be under way at once; null: as the server is configured.
    #[schemars(schema_with = "schema::concurrency")]
    #[serde(default, deserialize_with = "nullable")]
    max_concurrency: Option<Option<u32>>,
    /// How many requests a second; null: as fast as it answers.
    #[serde(default, deserialize_with = "nullable")]
    rate_limit: Option<Option<Object<Rate>>>,
    /// How long an attempt may take; null: as the format has it.
    #[serde(default, deserialize_with = "nullable")]
    timeouts: Option<Option<Object<Times>>>,
    /// What is sent along as HTTP Basic; null: nothing.
    #[serde(default, deserialize_with = "nullable")]
    basic_auth: Option<Option<Object<Basic>>>,
    /// A certificate that is presented to a receiver which wants one, and those between it and its authority, in PEM;
    /// with `client_key`, and a `url` of https. Null, of both: none.
    #[schemars(length(max = IDENTITY_BYTES_MAX))]
    #[serde(default, deserialize_with = "nullable")]
    client_certificate: Option<Option<String>>,
    /// Its private key, in PEM and without a passphrase; nobody is shown it.
    #[schemars(length(max = IDENTITY_BYTES_MAX))]
    #[serde(default, deserialize_with = "nullable")]
    client_key: Option<Option<String>>,
    /// A token of OAuth 2.0 that is fetched by client credentials and sent along as `Authorization: Bearer`; null:
    /// none. Not with `basic_auth`, or an Authorization in `extra_headers`.
    #[serde(default, deserialize_with = "nullable")]
    oauth2: Option<Option<Object<TokenGrant>>>,
    /// How many events go out in one request; null: one. With the formats `envelope` and `ultracart`.
    #[serde(default, deserialize_with = "nullable")]
    batch: Option<Option<Object<Batch>>>,
    /// By topic, the objects and arrays of a message that go out, with commas between their names; its other objects
    /// and arrays are left out. Messages of topics that are not named here go out whole.
    #[schemars(schema_with = "schema::expansions")]
    #[serde(default)]
    expansions: Option<Object<BTreeMap<String, String>>>,
    /// For whom it is: up to 16 pairs such as `{"customer": "42"}`. An event that has labels reaches it only if all of
    /// these are among them.
    #[schemars(schema_with = "schema::labels")]
    #[serde(default)]
    labels: Option<Object<BTreeMap<String, String>>>,
}

/// The same as the domain has it; fails with fault 101.
pub fn changes(data: Data) -> Result<WebhookChanges, Fault> {
    checked(data).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))
}

/// The same of a webhook that was exported, which may subscribe to nothing: then its `topics` are empty.
pub fn carried(mut data: Data) -> Result<WebhookChanges, Fault> {
    let subscribes_to_nothing = data.topics.take_if(|topics| topics.0.is_empty()).is_some();
    let said = changes(data)?;
    Ok(if subscribes_to_nothing { WebhookChanges { topics: Some(Patterns::none()), ..said } } else { said })
}

fn checked(data: Data) -> Result<WebhookChanges, Violation> {
    let format =
        |name: String| Format::from_name(&name).ok_or_else(|| unknown("format", &Format::ALL.map(Format::name)));
    let encoding = |name: String| {
        Encoding::from_name(&name).ok_or_else(|| unknown("encoding", &Encoding::ALL.map(Encoding::name)))
    };
    let mode = |name: String| {
        DeliveryMode::from_name(&name)
            .ok_or_else(|| unknown("delivery_mode", &DeliveryMode::ALL.map(DeliveryMode::name)))
    };
    Ok(WebhookChanges {
        name: data.name,
        description: data.description,
        is_active: data.is_active.map(|flag| flag.0),
        topics: data.topics.map(|topics| Patterns::try_new(&topics.0)).transpose()?,
        url: data.url.map(|url| TargetUrl::try_new(&url)).transpose()?,
        extra_headers: data.extra_headers.map(|headers| ExtraHeaders::try_new(&headers.0)).transpose()?,
        secret_key: secret(data.secret_key)?,
        signing_key: signing(data.signing)?.map(|signing| match signing {
            Signing::Hmac => None,
            Signing::Ed25519 => Some(SigningKey::generate()),
        }),
        format: data.format.map(format).transpose()?,
        encoding: data.encoding.map(encoding).transpose()?,
        retry: data.retry.map(RetryPolicy::try_from).transpose()?,
        delivery_mode: data.delivery_mode.map(mode).transpose()?,
        max_concurrency: data.max_concurrency.map(|own| own.map(Concurrency::try_new).transpose()).transpose()?,
        rate_limit: data.rate_limit.map(|own| own.map(|own| RateLimit::try_from(own.0)).transpose()).transpose()?,
        timeouts: (data.timeouts)
            .map(|own| own.map_or(Ok(OwnTimeouts::default()), |own| OwnTimeouts::try_from(own.0)))
            .transpose()?,
        basic_auth: data.basic_auth.map(|own| own.map(|own| BasicAuth::try_from(own.0)).transpose()).transpose()?,
        client_identity: client_identity(data.client_certificate, data.client_key)?,
        oauth2: data.oauth2.map(|own| own.map(|own| OAuth2::try_from(own.0)).transpose()).transpose()?,
        batch: data.batch.map(|own| own.map(|own| Batching::try_from(own.0)).transpose()).transpose()?,
        expansions: data.expansions.map(|own| Expansions::of_pairs(own.0)).transpose()?,
        labels: data.labels.map(|own| Labels::try_new(own.0)).transpose()?,
    })
}

/// What was said of a field is none of the names there are.
fn unknown(field: &'static str, names: &[&str]) -> Violation {
    let mut names = names.to_vec();
    // A format has a name once, however many encodings.
    names.dedup();
    Violation::new(field, format!("is unknown; there are {}.", names.join(", ")))
}

/// How to sign, by its name.
pub fn signing(name: Option<String>) -> Result<Option<Signing>, Violation> {
    let known =
        |name: String| Signing::from_name(&name).ok_or_else(|| unknown("signing", &Signing::ALL.map(Signing::name)));
    name.map(known).transpose()
}

/// What is wrong with it in itself is told; whether it has expired is judged by the clock of whoever keeps it.
fn client_identity(
    certificate: Option<Option<String>>,
    key: Option<Option<String>>,
) -> Result<Option<Option<ClientIdentity>>, Violation> {
    let together = |field| Err(Violation::new(field, "is missing; client_certificate and client_key go together."));
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(None), Some(None)) => Ok(Some(None)),
        (Some(Some(certificate)), Some(Some(key))) => ClientIdentity::try_new(&certificate, &key).map(Some).map(Some),
        (Some(_), None) | (Some(Some(_)), Some(None)) => together("client_key"),
        (None, Some(_)) | (Some(None), Some(Some(_))) => together("client_certificate"),
    }
}

/// A secret; an empty one means that none was given.
pub fn secret(text: Option<String>) -> Result<Option<SecretKey>, Violation> {
    text.filter(|text| !text.is_empty()).map(|text| SecretKey::try_new(&text)).transpose()
}
