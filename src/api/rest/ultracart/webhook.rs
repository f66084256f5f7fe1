//! Webhooks as the vendor has them: what is shown of one, and what is said of one.

use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::events::{Category, CategoryData, Events};
use crate::api::rest::values::{Int, Object, Switch, time};
use crate::api::rest::{Refusal, shown};
use crate::domain::fault::{Fault, Violation};
use crate::domain::id::UserId;
use crate::domain::policy::{BATCH_BYTES, BATCH_EVENTS, BasicAuth, Batching, CREDENTIAL_CHARS_MAX};
use crate::domain::secret::generate_credential;
use crate::domain::target::{TargetUrl, URL_CHARS_MAX};
use crate::domain::time::Timestamp;
use crate::domain::topic::{Pattern, Patterns};
use crate::domain::user::{Permission, Profile};
use crate::domain::webhook::{DESCRIPTION_CHARS_MAX, Encoding, Format, Webhook, WebhookChanges, WebhookSpec};
use crate::service::Service;
use crate::service::caller::Caller;

/// The one version of the objects that there is.
const API_VERSION: &str = "2017-03-01";
/// In a body, null counts as left out.
const API_VERSIONS: [Option<&str>; 2] = [Some(API_VERSION), None];
const AUTHENTICATION_TYPES: [Option<&str>; 3] = [Some("none"), Some("basic"), None];
/// What credentials hold, as regular expressions: no control characters, and a
/// user name no colon.
const USERNAME_PATTERN: &str = r"^[^:\u0000-\u001f\u007f-\u009f]*$";
const PASSWORD_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// The longest name that the vendor's clients take, in characters (docs/wire.md,
/// "UltraCart").
const NAME_CHARS_MAX: usize = 80;
/// Categories whose events carry what is known of customers, and so go over
/// https only.
const CUSTOMER_DATA: [&str; 5] = ["auto_order", "chargeback", "checkout", "customer", "order"];

/// A webhook.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Webhook")]
pub struct WebhookRow {
    /// Its id.
    webhook_oid: i64,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// What its owner says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    merchant_comments: String,
    /// Where its events are posted to; left out if its receiver pulls.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
    /// The merchant's code.
    merchant_id: String,
    /// The id of the user who made it.
    api_user_oid: i64,
    /// The application of that user, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_profile: Option<ApplicationProfile>,
    /// The version of the objects that are sent.
    api_version: &'static str,
    /// `none` or `basic`.
    authentication_type: &'static str,
    /// The user name that is sent along.
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_username: Option<String>,
    /// The password; left out for a caller who may not change webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_password: Option<String>,
    /// Whether events are sent in gzip.
    compress_events: bool,
    /// The most events in a request; one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_events: Option<u32>,
    /// The most bytes of a request with several events.
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_size: Option<u32>,
    /// What it subscribes to.
    event_categories: Vec<Category>,
    /// Whether nothing is sent to it.
    disabled: bool,
    /// Failures since the last success.
    consecutive_failures: u32,
    /// When it is tried again, if it has been failing.
    #[schemars(schema_with = "time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_retry_after: Option<String>,
    /// How many events wait for it; what it has had and is sent again does not count.
    pending: u64,
}

/// The application of a user.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ApiUserApplicationProfile")]
struct ApplicationProfile {
    /// Where its logo is.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_application_logo_url: Option<String>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_description: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_name: Option<String>,
    /// Who makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    developer_name: Option<String>,
    /// Where its makers are on the web.
    #[serde(skip_serializing_if = "Option::is_none")]
    developer_website: Option<String>,
}

impl From<&Profile> for ApplicationProfile {
    fn from(profile: &Profile) -> Self {
        let profile = profile.clone();
        Self {
            api_application_logo_url: profile.application_logo_url,
            application_description: profile.application_description,
            application_name: profile.application_name,
            developer_name: profile.developer_name,
            developer_website: profile.developer_website,
        }
    }
}

/// What it takes to show webhooks.
pub struct Shown<'a> {
    service: &'a Service,
    caller: &'a Caller,
    /// What there is to subscribe to.
    pub events: Arc<Events>,
    profiles: Vec<(UserId, Profile)>,
    placeholders: bool,
}

impl<'a> Shown<'a> {
    pub async fn new(service: &'a Service, caller: &'a Caller, placeholders: Option<Switch>) -> Result<Self, Refusal> {
        let events = Arc::new(Events::load(service, caller).await?);
        let profiles = service.profiles(caller).await?;
        Ok(Self { service, caller, events, profiles, placeholders: placeholders.is_some_and(|wanted| wanted.0) })
    }

    pub async fn row(&self, webhook: &Webhook) -> Result<WebhookRow, Refusal> {
        let spec = &webhook.spec;
        let backlog = self.service.backlog(self.caller, webhook.webhook_id).await?;
        let profile = self.profiles.iter().find(|(user, _)| *user == webhook.created_by);
        let sees_secrets = self.caller.permissions.allow(Permission::WebhookWrite);
        let next_attempt_at = backlog.next_attempt_at.filter(|_| webhook.consecutive_failures > 0);
        // A catalogue times a list of patterns takes long.
        let (events, own, placeholders) = (Arc::clone(&self.events), spec.clone(), self.placeholders);
        let event_categories = self.service.apart(self.caller, move || events.of(&own, placeholders)).await?;
        Ok(WebhookRow {
            webhook_oid: webhook.webhook_id.0,
            name: shown_name(spec),
            merchant_comments: spec.description.clone(),
            webhook_url: spec.url.as_ref().map(|url| url.as_str().to_owned()),
            merchant_id: self.caller.merchant_code.clone(),
            api_user_oid: webhook.created_by.0,
            application_profile: profile.map(|(_, profile)| profile.into()),
            api_version: API_VERSION,
            authentication_type: if spec.basic_auth.is_some() { "basic" } else { "none" },
            basic_username: spec.basic_auth.as_ref().map(|basic| basic.username().to_owned()),
            basic_password: (spec.basic_auth.as_ref().filter(|_| sees_secrets))
                .map(|basic| basic.expose_password().to_owned()),
            compress_events: spec.format == Format::UltraCartGzip,
            maximum_events: spec.batch.map(Batching::max_events),
            maximum_size: spec.batch.map(Batching::max_bytes),
            event_categories,
            disabled: webhook.disabled.is_some() || !spec.is_active,
            consecutive_failures: webhook.consecutive_failures,
            next_retry_after: next_attempt_at.filter(|_| webhook.is_delivering()).map(Timestamp::rfc3339_ms),
            pending: backlog.pending,
        })
    }
}

fn shown_name(spec: &WebhookSpec) -> String {
    spec.name.chars().take(NAME_CHARS_MAX).collect()
}

/// What is said of a webhook; what is not listed here is passed over.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookData", transform = needs_url)]
pub struct Data {
    /// Where its events are posted to; over https, if they are of customers. Only one whose receiver pulls has none.
    #[schemars(extend("format" = "uri"), length(max = URL_CHARS_MAX), example = &"https://example.com/hook")]
    webhook_url: Option<String>,
    /// Its name.
    #[schemars(length(max = NAME_CHARS_MAX), example = &"shop")]
    name: Option<String>,
    /// What its owner says of it.
    #[schemars(length(max = DESCRIPTION_CHARS_MAX), example = &"keeps the shelves full")]
    merchant_comments: Option<String>,
    /// How it is told that the requests are ours.
    #[schemars(extend("enum" = AUTHENTICATION_TYPES), example = &"basic")]
    authentication_type: Option<String>,
    /// The user name to send along; one is made for `basic` without one.
    #[schemars(length(max = CREDENTIAL_CHARS_MAX), extend("pattern" = USERNAME_PATTERN), example = &"george")]
    basic_username: Option<String>,
    /// The password to send along; one is made for `basic` without one.
    #[schemars(length(max = CREDENTIAL_CHARS_MAX), extend("pattern" = PASSWORD_PATTERN), example = &"secret")]
    basic_password: Option<String>,
    /// The version of the objects that are sent.
    #[schemars(extend("enum" = API_VERSIONS), example = &API_VERSION)]
    api_version: Option<String>,
    /// The most events in a request; one by default, 100 with a `maximum_size`.
    #[schemars(range(min = *BATCH_EVENTS.start(), max = *BATCH_EVENTS.end()), example = 10)]
    maximum_events: Option<Int>,
    /// The most bytes of a request with several events.
    #[schemars(range(min = *BATCH_BYTES.start(), max = *BATCH_BYTES.end()), example = 262_144)]
    maximum_size: Option<Int>,
    /// Whether events are sent in gzip.
    #[schemars(example = false)]
    compress_events: Option<Switch>,
    /// What it subscribes to.
    event_categories: Option<Vec<Object<CategoryData>>>,
}

fn needs_url(schema: &mut Schema) {
    schema.insert("required".to_owned(), json!(["webhook_url"]));
    schema.pointer_mut("/properties/webhook_url").expect("it is a member")["type"] = json!("string");
}

impl Data {
    /// What it makes of a webhook, or of none: what is left out is removed.
    pub fn changes(self, events: &Events, old: Option<&WebhookSpec>, is_dev: bool) -> Result<WebhookChanges, Refusal> {
        if let Some(version) =
            self.api_version.as_deref().filter(|version| !version.is_empty() && *version != API_VERSION)
        {
            let shown = shown(version);
            return Err(Refusal::bad(format!("api_version: {shown:?} is none; there is {API_VERSION}.")));
        }
        let basic_auth = self.basic_auth(old.and_then(|old| old.basic_auth.as_ref()))?;
        let batch = self.batch(old.and_then(|old| old.batch))?;
        let (topics, expansions) = events.read(self.event_categories.unwrap_or_default(), old)?;
        let url = self.webhook_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let url = url.map(TargetUrl::try_new).transpose().map_err(named_violation)?;
        if url.is_none() && old.is_none_or(|old| old.url.is_some()) {
            return Err(Refusal::bad("webhook_url: is missing; give one such as https://example.com/hook."));
        }
        // What is as it was is not judged again. Else both are written, so that
        // of two changes at once one has its own way, and none slips through
        // between what they were judged by.
        let is_as_it_was = old.is_some_and(|old| (&old.url, &old.topics) == (&url, &topics));
        let (url, topics) = match is_as_it_was {
            true => (None, None),
            false => (url, Some(topics)),
        };
        if let (Some(url), Some(topics)) = (&url, &topics) {
            check_https(url, topics, is_dev)?;
        }
        let is_own = old.is_none_or(|old| matches!(old.format, Format::UltraCart | Format::UltraCartGzip));
        let encoding = match self.compress_events.is_some_and(|wanted| wanted.0) {
            true => Some(Encoding::Gzip),
            false => is_own.then_some(Encoding::Json),
        };
        let name = self.name.unwrap_or_default();
        let chars = name.chars().count();
        if chars > NAME_CHARS_MAX {
            return Err(Refusal::bad(format!("name: has {chars} characters; up to {NAME_CHARS_MAX} are allowed.")));
        }
        Ok(WebhookChanges {
            // One that was cut to be shown is no other.
            name: Some(name).filter(|name| old.is_none_or(|old| shown_name(old) != *name)),
            description: Some(self.merchant_comments.unwrap_or_default()),
            url,
            topics,
            expansions: Some(expansions),
            encoding,
            basic_auth: Some(basic_auth),
            batch: Some(batch),
            ..WebhookChanges::default()
        })
    }

    /// Credentials that are missing are made; those of a webhook that has some
    /// stay where nothing is said.
    fn basic_auth(&self, old: Option<&BasicAuth>) -> Result<Option<BasicAuth>, Refusal> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (username, password) = (given(&self.basic_username), given(&self.basic_password));
        match self.authentication_type.as_deref() {
            Some("basic") => {}
            Some("none") => return Ok(None),
            None | Some("") if username.is_none() && password.is_none() => return Ok(None),
            None | Some("") => {}
            Some(other) => {
                let shown = shown(other);
                let problem = "is not supported; there are none and basic.";
                return Err(Refusal::bad(format!("authentication_type: {shown:?} {problem}")));
            }
        }
        let username = username.or_else(|| old.map(|old| old.username().to_owned()));
        let kept = old.filter(|old| username.as_deref() == Some(old.username()));
        let password = password.or_else(|| kept.map(|old| old.expose_password().to_owned()));
        let (username, password) =
            (username.unwrap_or_else(generate_credential), password.unwrap_or_else(generate_credential));
        BasicAuth::try_new(&username, &password).map(Some).map_err(named_violation)
    }

    fn batch(&self, old: Option<Batching>) -> Result<Option<Batching>, Refusal> {
        if self.maximum_events.is_none() && self.maximum_size.is_none() {
            return Ok(None);
        }
        let number = |name: &str, given: Option<Int>| {
            let read = given.map(|given| u32::try_from(given.0)).transpose();
            read.map_err(|_| Refusal::bad(format!("{name}: must be 0 to {}.", u32::MAX)))
        };
        let events = number("maximum_events", self.maximum_events)?.unwrap_or(*BATCH_EVENTS.end());
        let bytes = number("maximum_size", self.maximum_size)?;
        Batching::try_new(events, bytes, old.map(Batching::wait_ms)).map(Some).map_err(named_violation)
    }
}

/// What is known of customers goes over https, or stays on a machine where
/// things are tried out.
pub fn check_https(url: &TargetUrl, patterns: &Patterns, is_dev: bool) -> Result<(), Refusal> {
    let is_of_customers = |pattern: &Pattern| match pattern {
        Pattern::Everything => true,
        Pattern::Resource(resource) => CUSTOMER_DATA.contains(&resource.as_str()),
        Pattern::Exact(topic) => CUSTOMER_DATA.contains(&topic.resource()),
    };
    let is_loopback = match url.url().host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.url().scheme() == "https" || (is_dev && is_loopback) || !patterns.list().iter().any(is_of_customers) {
        return Ok(());
    }
    Err(Refusal::bad("webhook_url: must be https, since it is to get events with the data of customers."))
}

pub fn named_violation(violation: Violation) -> Refusal {
    Refusal::bad(format!("{}: {}", own_name(violation.field).unwrap_or(violation.field), violation.problem))
}

/// A fault in the dialect's own names.
pub fn named(fault: Fault) -> Refusal {
    let own = fault.field.as_deref().and_then(own_name).map(str::to_owned);
    match own {
        Some(own) => Fault { field: Some(own), ..fault }.into(),
        None => fault.into(),
    }
}

fn own_name(field: &str) -> Option<&'static str> {
    Some(match field {
        "url" => "webhook_url",
        "description" => "merchant_comments",
        "topics" | "expansions" => "event_categories",
        "basic_auth" => "authentication_type",
        "basic_auth.username" => "basic_username",
        "basic_auth.password" => "basic_password",
        "batch" | "batch.max_events" => "maximum_events",
        "batch.max_size" => "maximum_size",
        "encoding" => "compress_events",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(data: serde_json::Value, old: Option<&WebhookSpec>) -> WebhookChanges {
        let data: Data = serde_json::from_value(data).unwrap();
        data.changes(&Events::new(Vec::new()), old, false).unwrap_or_else(|refusal| panic!("{}", refusal.message))
    }

    /// What is judged together is written together, so that two changes at once
    /// can't bring about what each would be refused.
    #[test]
    fn url_and_topics_are_changed_both_or_not_at_all() {
        let events = |name: &str| json!([{"events": [{"event_name": name}]}]);
        let data = |url: &str, event: &str| json!({"webhook_url": url, "event_categories": events(event)});
        let (one, other) = ("https://example.com/1", "https://example.com/2");
        let defaults = crate::domain::webhook::WebhookDefaults {
            format: Format::UltraCart,
            retry: crate::domain::retry::RetryPolicy::Default,
        };
        let old = WebhookSpec::try_new(changes(data(one, "item_update"), None), defaults).unwrap();
        let changed = |url: &str, event: &str| {
            let changes = changes(data(url, event), Some(&old));
            let url = changes.url.map(|url| url.as_str().to_owned());
            (url, changes.topics.map(|topics| topics.as_str().to_owned()))
        };
        let both = |url: &str, topics: &str| (Some(url.to_owned()), Some(topics.to_owned()));
        assert_eq!(changed(one, "item_update"), (None, None));
        assert_eq!(changed(other, "item_update"), both(other, "product:updated"));
        assert_eq!(changed(one, "order_create"), both(one, "order:created"));
    }
}
