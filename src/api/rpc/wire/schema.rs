//! The schemas of values that are written in a way of their own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::breaker::BREAKERS;
use super::values::{Flag, Headers, Object, Topics, Whole};
use crate::api::rpc::method::Written;
use crate::domain::audit::{Action, SubjectKind};
use crate::domain::catalogue::{EVENT_TYPES, Validation};
use crate::domain::cluster::SnapshotHolder;
use crate::domain::delivery::{DeliveryState, EndReason, ErrorClass};
use crate::domain::expansion::{EXPANSION_CHARS_MAX, EXPANSIONS_MAX};
use crate::domain::job::{JobKind, JobState};
use crate::domain::labels::{LABEL_NAME_CHARS_MAX, LABEL_VALUE_CHARS_MAX, LABELS_MAX};
use crate::domain::merchant::{QUOTA_MAX, SMALL_QUOTA_MAX};
use crate::domain::oauth2::AuthStyle;
use crate::domain::policy::CONCURRENCY;
use crate::domain::retry::RetryPolicy;
use crate::domain::signing::Signing;
use crate::domain::topic::TOPIC_WORD;
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, DisabledReason, Encoding, Format, Health, PauseReason};
use crate::service;
use crate::service::event::Reach;
use crate::service::import::Existing;

/// A wrapper's schema is, down to its name, that of what is in it.
macro_rules! schema_of_content {
    ($wrapper:ident) => {
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                T::inline_schema()
            }

            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }

            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
        }
    };
}

schema_of_content!(Object);
schema_of_content!(Written);

// What is read besides (texts in place of numbers) is for clients that can't
// help it, and is not advertised.
inline_schema!(Flag, { "type": ["integer", "boolean"], "enum": [0, 1, false, true] });
inline_schema!(Whole, { "type": "integer", "format": "int64" });
inline_schema!(Topics, { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
inline_schema!(Headers, {
    "anyOf": [{ "type": "string" }, { "type": "object", "additionalProperties": { "type": "string" } }],
});

/// A topic.
pub fn topic(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": format!("^{TOPIC_WORD}:{TOPIC_WORD}$") })
}

/// A category of topics.
pub fn category(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": format!("^{TOPIC_WORD}$") })
}

/// What a user may do.
pub fn permissions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "enum": Permission::ALL.map(Permission::name) } })
}

/// Some permissions, or none.
pub fn permissions_or_null(_: &mut SchemaGenerator) -> Schema {
    let names = Permission::ALL.map(Permission::name);
    json_schema!({ "type": ["array", "null"], "items": { "type": "string", "enum": names } })
}

/// The number of a topic.
pub fn event_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "minimum": EVENT_TYPES.start(), "maximum": EVENT_TYPES.end() })
}

/// The same where there is one.
pub fn event_type_given(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": EVENT_TYPES.start(), "maximum": EVENT_TYPES.end() })
}

/// A JSON Schema, or none.
pub fn message_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "boolean", "null"] })
}

/// What becomes of messages that do not fit.
pub fn validations(_: &mut SchemaGenerator) -> Schema {
    one_of(Validation::ALL.map(Validation::name))
}

/// What a list is sorted by: a key, or with `-` in front of it the greatest first.
fn sorts(keys: &[&str]) -> Schema {
    let names: Vec<_> = keys.iter().flat_map(|key| [(*key).to_owned(), format!("-{key}")]).collect();
    json_schema!({ "type": "string", "enum": names })
}

/// What webhooks may be sorted by.
pub fn sort_webhooks(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::webhook::SORT_KEYS)
}

/// What events may be sorted by.
pub fn sort_events(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::event::SORT_KEYS)
}

/// A value that is found as a whole.
pub fn scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

/// What deliveries may be sorted by.
pub fn sort_deliveries(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::delivery::SORT_KEYS)
}

/// What topics may be sorted by.
pub fn sort_topics(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::topic::SORT_KEYS)
}

/// What jobs may be sorted by.
pub fn sort_jobs(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::job::SORT_KEYS)
}

/// What a token may do.
pub fn token_permissions(_: &mut SchemaGenerator) -> Schema {
    let held = [Permission::WebhookRead, Permission::WebhookWrite, Permission::EventWrite].map(Permission::name);
    json_schema!({ "type": "array", "items": { "type": "string", "enum": held } })
}

/// What tokens may be sorted by.
pub fn sort_tokens(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::token::SORT_KEYS)
}

/// What users may be sorted by.
pub fn sort_users(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::user::SORT_KEYS)
}

/// What merchants may be sorted by.
pub fn sort_merchants(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::merchant::SORT_KEYS)
}

/// How much of anything else a merchant may have.
pub fn quota(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "minimum": 1, "maximum": QUOTA_MAX })
}

/// How many webhooks, or calls in a second, a merchant may have.
pub fn small_quota(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "minimum": 1, "maximum": SMALL_QUOTA_MAX })
}

/// What entries of the audit log may be sorted by.
pub fn sort_audit(_: &mut SchemaGenerator) -> Schema {
    sorts(&service::audit::SORT_KEYS)
}

/// What is done to things.
pub fn audit_actions(_: &mut SchemaGenerator) -> Schema {
    one_of(Action::ALL.iter().copied().map(Action::name))
}

/// What things are.
pub fn audit_kinds(_: &mut SchemaGenerator) -> Schema {
    one_of(SubjectKind::ALL.iter().copied().map(SubjectKind::name))
}

/// A publisher's message.
pub fn message(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// How many requests at once.
pub fn concurrency(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["integer", "null"], "format": "uint32", "minimum": CONCURRENCY.start(), "maximum": CONCURRENCY.end(),
    })
}

/// A session's key, or what stands for none.
pub fn session(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"] })
}

/// The calls of a `multiCall`.
pub fn calls(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "anyOf": [{ "type": "string" }, { "type": "array", "minItems": 1, "maxItems": 2 }] },
    })
}

/// What is taken for yes unless it is 0, false or empty.
pub fn any_flag(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "boolean", "string"] })
}

/// A list that is empty.
pub fn nothing(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": {}, "maxItems": 0 })
}

/// An id.
pub fn id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 1 })
}

/// A number of a webhook, or 0 where there is none yet.
pub fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// An id, or none.
pub fn id_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "format": "int64", "minimum": 1 })
}

/// A number of a webhook, or none.
pub fn number_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "format": "int64", "minimum": 1 })
}

/// 0 or 1, as answers have it.
pub fn flag_given(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "enum": [0, 1] })
}

/// A time in UTC, to the millisecond.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// The same, or null.
pub fn time_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "date-time" })
}

fn one_of(names: impl IntoIterator<Item = &'static str>) -> Schema {
    let names: Vec<_> = names.into_iter().collect();
    json_schema!({ "type": "string", "enum": names })
}

fn one_of_or_null(names: impl IntoIterator<Item = &'static str>) -> Schema {
    let names: Vec<Value> = names.into_iter().map(Value::from).chain([Value::Null]).collect();
    json_schema!({ "type": ["string", "null"], "enum": names })
}

/// What becomes of a delivery.
pub fn states(_: &mut SchemaGenerator) -> Schema {
    one_of(DeliveryState::ALL.map(DeliveryState::name))
}

/// What a job does.
pub fn job_kinds(_: &mut SchemaGenerator) -> Schema {
    one_of(JobKind::ALL.map(JobKind::name))
}

/// How far it is.
pub fn job_states(_: &mut SchemaGenerator) -> Schema {
    one_of(JobState::ALL.map(JobState::name))
}

/// Why it ended.
pub fn end_reasons(_: &mut SchemaGenerator) -> Schema {
    one_of_or_null(EndReason::ALL.map(EndReason::name))
}

/// What went wrong with an attempt.
pub fn error_classes(_: &mut SchemaGenerator) -> Schema {
    one_of_or_null(ErrorClass::ALL.map(ErrorClass::name))
}

/// What went wrong with an attempt that failed.
pub fn error_classes_given(_: &mut SchemaGenerator) -> Schema {
    one_of(ErrorClass::ALL.map(ErrorClass::name))
}

/// What becomes of an event at a webhook.
pub fn reaches(_: &mut SchemaGenerator) -> Schema {
    one_of(Reach::ALL.map(Reach::name))
}

/// How bodies are built.
pub fn formats(_: &mut SchemaGenerator) -> Schema {
    let mut names = Format::ALL.map(Format::name).to_vec();
    names.dedup();
    one_of(names)
}

/// What they are written in.
pub fn encodings(_: &mut SchemaGenerator) -> Schema {
    one_of(Encoding::ALL.map(Encoding::name))
}

/// Names of parts of messages, by topic.
pub fn expansions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": EXPANSION_CHARS_MAX },
        "maxProperties": EXPANSIONS_MAX,
    })
}

/// Labels, by name.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "minLength": 1, "maxLength": LABEL_NAME_CHARS_MAX },
        "additionalProperties": { "type": "string", "minLength": 1, "maxLength": LABEL_VALUE_CHARS_MAX },
        "maxProperties": LABELS_MAX,
    })
}

/// Labels, by name, or null.
pub fn labels_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "null"], "additionalProperties": { "type": "string" }, "maxProperties": LABELS_MAX })
}

/// One label, by its name.
pub fn label(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "minLength": 1, "maxLength": LABEL_NAME_CHARS_MAX },
        "additionalProperties": { "type": "string", "minLength": 1, "maxLength": LABEL_VALUE_CHARS_MAX },
        "minProperties": 1,
        "maxProperties": 1,
    })
}

/// The same, or null.
pub fn label_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "additionalProperties": { "type": "string" },
        "minProperties": 1,
        "maxProperties": 1,
    })
}

/// How deliveries are signed.
pub fn signings(_: &mut SchemaGenerator) -> Schema {
    one_of(Signing::ALL.map(Signing::name))
}

/// What becomes of a webhook that is imported and is there already.
pub fn existing(_: &mut SchemaGenerator) -> Schema {
    one_of_or_null(Existing::ALL.map(Existing::name))
}

/// What may come of a webhook that is imported.
pub fn import_outcomes(_: &mut SchemaGenerator) -> Schema {
    one_of(["created", "valid", "skipped", "failed"])
}

/// Where a client of a token server says who it is.
pub fn auth_styles(_: &mut SchemaGenerator) -> Schema {
    one_of(AuthStyle::ALL.map(AuthStyle::name))
}

/// In which order deliveries go out.
pub fn modes(_: &mut SchemaGenerator) -> Schema {
    one_of(DeliveryMode::ALL.map(DeliveryMode::name))
}

/// Why a webhook is disabled.
pub fn disabled_reasons(_: &mut SchemaGenerator) -> Schema {
    one_of_or_null(DisabledReason::ALL.map(DisabledReason::name))
}

/// Why a receiver is left alone.
pub fn pause_reasons(_: &mut SchemaGenerator) -> Schema {
    one_of_or_null(PauseReason::ALL.map(PauseReason::name))
}

/// What a breaker may be.
pub fn breakers(_: &mut SchemaGenerator) -> Schema {
    one_of(BREAKERS)
}

/// The same, of those that are looked for.
pub fn health_wanted(_: &mut SchemaGenerator) -> Schema {
    one_of_or_null(Health::ALL.map(Health::name))
}

/// How webhooks are doing.
pub fn health(_: &mut SchemaGenerator) -> Schema {
    one_of(Health::ALL.map(Health::name))
}

/// Who may hold a snapshot.
pub fn snapshot_holders(_: &mut SchemaGenerator) -> Schema {
    one_of(SnapshotHolder::ALL.map(SnapshotHolder::name))
}

/// The policies of ours.
pub fn retry_names(_: &mut SchemaGenerator) -> Schema {
    one_of(RetryPolicy::NAMES)
}
