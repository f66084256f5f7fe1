//! What a change leaves in the audit log: a row that is written along with it, so that there is
//! none without the other.

use serde_json::{Value, json};

use super::bulk::Job;
use super::new_user::NewUserRow;
use crate::domain::audit::{Action, Subject, SubjectKind};
use crate::domain::by::By;
use crate::domain::catalogue::{CatalogueEntry, TopicSpec};
use crate::domain::delivery::{DeliveryFilter, DeliveryState};
use crate::domain::fingerprint::{Fingerprint, FingerprintKey};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::identity::ClientIdentity;
use crate::domain::job::{JobKind, JobState};
use crate::domain::merchant::Quotas;
use crate::domain::message_schema::SchemaText;
use crate::domain::oauth2::OAuth2;
use crate::domain::policy::{BasicAuth, Concurrency};
use crate::domain::retry::{RetryPolicy, Waits};
use crate::domain::standing::Standing;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::token::{Confinement, NewToken, Token};
use crate::domain::topic::Patterns;
use crate::domain::user::{Permissions, Profile};
use crate::domain::webhook::{Webhook, WebhookSpec};

/// The most bytes that are kept of what something was before a change, and of what it is since.
pub const AUDITED_BYTES_MAX: usize = 16_384;
/// How much of that is for the names of members that are too long to be kept.
const NAMES_BYTES_MAX: usize = 2_048;

/// A change that somebody has made.
#[derive(Debug)]
pub struct Audited {
    /// Whose the thing is.
    pub merchant: MerchantId,
    /// Who has changed it; `None`: an operator, at the command line.
    pub by: Option<By>,
    /// What was done.
    pub action: Action,
    /// With what.
    pub subject: Subject,
    /// A JSON object: what it was before.
    pub before: String,
    /// The same, since.
    pub after: String,
    /// Some of that was too long.
    pub is_cut: bool,
}

impl Audited {
    /// Something was done.
    pub fn new(
        (merchant, by): (MerchantId, Option<By>),
        action: Action,
        subject: impl Into<Subject>,
        before: &Told,
        after: &Told,
    ) -> Self {
        let ((before, is_before_cut), (after, is_after_cut)) = (before.text(), after.text());
        let is_cut = is_before_cut || is_after_cut;
        Self { merchant, by, action, subject: subject.into(), before, after, is_cut }
    }

    /// Something was changed: only what differs is told. `None`: nothing does.
    pub fn changed(
        whose: (MerchantId, Option<By>),
        action: Action,
        subject: impl Into<Subject>,
        before: Told,
        after: Told,
    ) -> Option<Self> {
        let members = before.0.into_iter().zip(after.0);
        let (before, after): (Vec<_>, Vec<_>) = members.filter(|(before, after)| before != after).unzip();
        (!before.is_empty()).then(|| Self::new(whose, action, subject, &Told(before), &Told(after)))
    }
}

/// What is told of a thing: members, always in the same order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told(Vec<(&'static str, Shown)>);

/// How a member is told.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    /// As it is.
    Plain(Value),
    /// By its fingerprint.
    Secret(Fingerprint),
    /// By what each belongs to, and its fingerprint.
    Secrets(Vec<(String, Fingerprint)>),
}

impl Shown {
    fn json(&self) -> Value {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Secret(secret) => secret.to_string().into(),
            Self::Secrets(all) => all.iter().map(|(name, secret)| format!("{name}: {secret}")).collect(),
        }
    }
}

impl Told {
    /// Of nothing.
    pub const NOTHING: Self = Self(Vec::new());

    /// Of these members.
    pub fn of<const N: usize>(members: [(&'static str, Value); N]) -> Self {
        Self(members.into_iter().map(|(name, value)| (name, Shown::Plain(value))).collect())
    }

    /// What a secret was replaced by. That it is the same is told, too.
    pub fn of_secret(name: &'static str, secret: Fingerprint) -> Self {
        Self(vec![(name, Shown::Secret(secret))])
    }

    /// The same and this member.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, Shown::Plain(value.into())));
        self
    }

    /// As a JSON object, and whether something was too long for that.
    fn text(&self) -> (String, bool) {
        let (mut text, mut is_cut) = (String::from("{"), false);
        for (place, (name, shown)) in self.0.iter().enumerate() {
            let mut value = shown.json().to_string();
            if text.len() + name.len() + value.len() > AUDITED_BYTES_MAX - NAMES_BYTES_MAX {
                (value, is_cut) = (format!("\"[cut: {} bytes]\"", value.len()), true);
            }
            let comma = if place == 0 { "" } else { "," };
            text += &format!("{comma}\"{name}\":{value}");
        }
        text.push('}');
        (text, is_cut)
    }
}

/// What is told of a webhook.
pub fn webhook(webhook: &Webhook, key: FingerprintKey) -> Told {
    // Whatever a definition has besides is to be told, too.
    let WebhookSpec {
        name,
        description,
        is_active,
        topics,
        url,
        extra_headers,
        secret_key,
        signing_key,
        format,
        retry,
        delivery_mode,
        max_concurrency,
        rate_limit,
        timeouts,
        basic_auth,
        client_identity,
        oauth2,
        batch,
        expansions,
        labels,
    } = &webhook.spec;
    let headers = extra_headers.as_str().lines().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.trim().to_owned(), key.print(value.trim()))).collect();
    let old_secrets = webhook.old_secrets.iter();
    let old_secrets = old_secrets.map(|old| (old.expires_at.rfc3339_ms(), key.print(old.signer.expose()))).collect();
    let expansions = expansions.list().iter().map(|(topic, own)| (topic.to_string(), Value::from(own.as_str())));
    let password = basic_auth.as_ref().map(|basic| key.print(basic.expose_password()));
    let oauth2_secret = oauth2.as_ref().map(|own| key.print(own.expose_secret()));
    let client_key = client_identity.as_ref().map(|own| key.print(own.expose_key()));
    let plain = Shown::Plain;
    Told(vec![
        ("name", plain(json!(name))),
        ("description", plain(json!(description))),
        ("is_active", plain(json!(is_active))),
        ("topics", plain(json!(topics.as_str()))),
        ("url", plain(json!(url.as_ref().map(TargetUrl::as_str)))),
        ("extra_headers", Shown::Secrets(headers)),
        ("secret_key", Shown::Secret(key.print(secret_key.expose()))),
        ("signing", plain(json!(webhook.spec.signing().name()))),
        ("public_key", plain(json!(signing_key.as_ref().map(|key| key.public().to_string())))),
        ("old_secrets", Shown::Secrets(old_secrets)),
        ("format", plain(json!(format.name()))),
        ("encoding", plain(json!(format.encoding().name()))),
        ("retry", plain(policy(retry))),
        ("delivery_mode", plain(json!(delivery_mode.name()))),
        ("max_concurrency", plain(json!(max_concurrency.map(Concurrency::get)))),
        (
            "rate_limit",
            plain(
                rate_limit
                    .map_or(Value::Null, |limit| json!({ "per_second": limit.per_second(), "burst": limit.burst() })),
            ),
        ),
        ("timeouts", plain(json!({ "connect_ms": timeouts.connect_ms(), "total_ms": timeouts.total_ms() }))),
        ("basic_username", plain(json!(basic_auth.as_ref().map(BasicAuth::username)))),
        ("basic_password", password.map_or(plain(Value::Null), Shown::Secret)),
        ("client_certificate", plain(json!(client_identity.as_ref().map(ClientIdentity::certificate)))),
        ("client_key", client_key.map_or(plain(Value::Null), Shown::Secret)),
        ("oauth2", plain(oauth2.as_ref().map_or(Value::Null, oauth2_of))),
        ("oauth2_client_secret", oauth2_secret.map_or(plain(Value::Null), Shown::Secret)),
        (
            "batch",
            plain(batch.map_or(Value::Null, |batch| {
                json!({
                    "max_events": batch.max_events(), "max_size": batch.max_bytes(), "wait_ms": batch.wait_ms(),
                })
            })),
        ),
        ("expansions", plain(Value::Object(expansions.collect()))),
        ("labels", plain(json!(labels.pairs()))),
        ("is_paused", plain(json!(webhook.is_paused))),
        ("disabled_reason", plain(json!(webhook.disabled.map(|reason| reason.name())))),
    ])
}

fn oauth2_of(own: &OAuth2) -> Value {
    json!({
        "token_url": own.token_url().as_str(), "client_id": own.client_id(), "scope": own.scope(),
        "audience": own.audience(), "auth_style": own.auth_style().name(),
    })
}

fn policy(retry: &RetryPolicy) -> Value {
    match retry {
        RetryPolicy::Custom(Waits::List(waits)) => json!(waits),
        RetryPolicy::Custom(Waits::Fixed { max_retries, interval_s }) => {
            json!({ "max_retries": max_retries, "interval_seconds": interval_s })
        }
        named => json!(named.to_string()),
    }
}

/// What is told of a topic.
pub fn topic(entry: &CatalogueEntry) -> Told {
    let CatalogueEntry { spec, event_type, .. } = entry;
    let TopicSpec { category, name, description, message_schema, validation, is_deprecated, is_discontinued, .. } =
        spec;
    Told::of([
        ("category", json!(category)),
        ("name", json!(name)),
        ("description", json!(description)),
        ("event_type", json!(event_type)),
        // As its text: a schema may be long, and is nowhere else needed as a value.
        ("message_schema", json!(message_schema.as_ref().map(SchemaText::as_str))),
        ("validation", json!(validation.name())),
        ("deprecated", json!(is_deprecated)),
        ("discontinued", json!(is_discontinued)),
    ])
}

/// A delivery.
pub fn delivery(id: WebhookId, number: IncrementId) -> Subject {
    Subject::named(SubjectKind::Delivery, format!("{id}:{number}"))
}

/// What is told of a delivery; of one that goes out with others, which these are.
pub fn standing(standing: &Standing) -> Told {
    let told = Told::of([("state", json!(standing.state.name()))]);
    match standing.shared_batch() {
        Some(batch) => told.with("batch", batch.to_string()),
        None => told,
    }
}

/// What is told of a job: what it was asked for.
pub fn job(job: &Job) -> Told {
    let time = |at: Option<Timestamp>| json!(at.map(Timestamp::rfc3339_ms));
    let DeliveryFilter { state, topics, since, until, without_forgotten: _ } = &job.filter;
    let (first, last) = match job.kind {
        JobKind::Replay | JobKind::RetryMany => ("from_increment_id", "to_increment_id"),
        JobKind::Backfill => ("from_event_id", "to_event_id"),
    };
    // All numbers of all webhooks are no span of one.
    let span = |number: i64| json!((!job.is_of_all).then_some(number));
    Told::of([
        ("job_id", json!(job.job_id.0)),
        (first, span(job.next)),
        (last, span(job.last)),
        ("state", json!(state.map(DeliveryState::name))),
        ("topics", json!(topics.as_ref().map(Patterns::as_str))),
        ("since", time(*since)),
        ("until", time(*until)),
    ])
}

/// What is told of how far it is.
pub fn job_state(state: JobState) -> Told {
    Told::of([("state", json!(state.name()))])
}

/// A user.
pub fn user(name: &str) -> Subject {
    Subject::named(SubjectKind::User, name)
}

/// What is told of a user that is made.
pub fn new_user(user: &NewUserRow, key: FingerprintKey) -> Told {
    let NewUserRow { merchant: _, name: _, key: api_key, permissions, is_demo, profile } = user;
    let mut told = self::permissions(*permissions).with("is_demo", *is_demo);
    told.0.push(("api_key", Shown::Secret(key.print(api_key.0))));
    told.0.extend(self::profile(profile).0.into_iter().filter(|(_, shown)| *shown != Shown::Plain(Value::Null)));
    told
}

/// What is told of a token that is made.
pub fn new_token(token: &NewToken, key: FingerprintKey) -> Told {
    let NewToken { name, key: own, permissions, confinement, expires_at } = token;
    let (webhooks, label) = match confinement {
        None => (Value::Null, Value::Null),
        Some(Confinement::Webhooks(ids)) => (ids.iter().map(|id| id.0).collect(), Value::Null),
        Some(Confinement::Label(label)) => (Value::Null, json!({ label.name(): label.value() })),
    };
    let mut told = self::permissions(*permissions).with("name", name.as_str());
    told.0.push(("key", Shown::Secret(key.print(own.0))));
    let expires_at = json!(expires_at.map(Timestamp::rfc3339_ms));
    told.with("webhooks", webhooks).with("label", label).with("expires_at", expires_at)
}

/// What is told of a token that is taken back.
pub fn old_token(token: &Token) -> Told {
    Told::of([("name", json!(token.name)), ("user", json!(token.user))])
}

/// A merchant.
pub fn merchant(code: &str) -> Subject {
    Subject::named(SubjectKind::Merchant, code)
}

/// What is told of how much a merchant may have.
pub fn quotas(quotas: Quotas) -> Told {
    Told::of(quotas.members().map(|(name, quota)| (name, json!(quota))))
}

/// What is told of since when something is so, if it is.
pub fn time(name: &'static str, at: Option<Timestamp>) -> Told {
    Told::of([(name, json!(at.map(Timestamp::rfc3339_ms)))])
}

/// What is told of what a user may do.
pub fn permissions(permissions: Permissions) -> Told {
    Told::of([("permissions", permissions.names().collect())])
}

/// What is told of what a user's application is.
pub fn profile(profile: &Profile) -> Told {
    let Profile { application_name, application_description, application_logo_url, developer_name, developer_website } =
        profile;
    Told::of([
        ("application_name", json!(application_name)),
        ("application_description", json!(application_description)),
        ("application_logo_url", json!(application_logo_url)),
        ("developer_name", json!(developer_name)),
        ("developer_website", json!(developer_website)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = "x".repeat(AUDITED_BYTES_MAX);
        let told = Told::of([("name", json!("short")), ("description", json!(long)), ("url", json!("u"))]);
        let (text, is_cut) = told.text();
        assert!(is_cut);
        let expected =
            format!(r#"{{"name":"short","description":"[cut: {} bytes]","url":"u"}}"#, AUDITED_BYTES_MAX + 2);
        assert_eq!(text, expected);
        let whole = Told::of([("name", json!("short"))]);
        assert_eq!(whole.text(), (r#"{"name":"short"}"#.to_owned(), false));
        assert_eq!(Told::NOTHING.text(), ("{}".to_owned(), false));
    }

    /// However many members there are: a webhook has about twenty.
    #[test]
    fn the_names_of_what_is_cut_find_room() {
        let member = |_| ("a_member_with_a_long_name", Shown::Plain(json!("x".repeat(AUDITED_BYTES_MAX / 8))));
        let (text, is_cut) = Told((0..30).map(member).collect()).text();
        assert!(is_cut && text.len() <= AUDITED_BYTES_MAX, "{}", text.len());
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn only_what_differs_is_told() {
        let told = |name: &str| Told::of([("name", json!(name)), ("url", json!("u"))]);
        let whose = (MerchantId(1), None);
        let changed =
            |before, after| Audited::changed(whose.clone(), Action::WebhookUpdate, WebhookId(1), before, after);
        let audited = changed(told("a"), told("b")).unwrap();
        assert_eq!((audited.before.as_str(), audited.after.as_str()), (r#"{"name":"a"}"#, r#"{"name":"b"}"#));
        assert!(changed(told("a"), told("a")).is_none());
    }
}
