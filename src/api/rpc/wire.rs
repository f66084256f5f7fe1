//! Values as clients write them, and as they are written for clients.

mod policy;

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use self::policy::{Basic, Batch, Rate, Retry, Times, nullable};
use crate::domain::delivery::{Attempt, Delivery};
use crate::domain::event::Receipt;
use crate::domain::id::Span;
use crate::domain::policy::Concurrency;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{OldSecret, Webhook};
use crate::service::delivery::PulledDelivery;
use crate::service::resend::Tested;

/// An object; also `[]`, which is how PHP writes an empty one. A derived type
/// alone would take an array for its members in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object<T>, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => {
                        let nothing = std::iter::empty::<(&str, ())>();
                        T::deserialize(de::value::MapDeserializer::new(nothing)).map(Object)
                    }
                    Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// 0 or 1; also as a string, or a boolean.
#[derive(Clone, Copy, Debug)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 or 1")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Flag, E> {
                match value {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Flag, E> {
                if value == 0.0 {
                    Ok(Flag(false))
                } else if value == 1.0 {
                    Ok(Flag(true))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(value), &self))
                }
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Flag, E> {
                match value {
                    "0" => Ok(Flag(false)),
                    "1" => Ok(Flag(true)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

/// An id or a number of a delivery: a whole number, also as a string.
#[derive(Clone, Copy, Debug)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Whole, E> {
                i64::try_from(value).map(Whole).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Whole, E> {
                value.parse().map(Whole).map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

/// A topic, several with commas between them, or an array of topics.
#[derive(Clone, Debug)]
pub struct Topics(pub String);

impl<'de> Deserialize<'de> for Topics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TopicsVisitor;
        impl<'de> Visitor<'de> for TopicsVisitor {
            type Value = Topics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic such as \"order:created\", or an array of topics")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Topics, E> {
                Ok(Topics(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Topics, A::Error> {
                let mut list = Vec::<String>::new();
                while let Some(topic) = seq.next_element()? {
                    list.push(topic);
                }
                Ok(Topics(list.join(",")))
            }
        }
        deserializer.deserialize_any(TopicsVisitor)
    }
}

/// Headers as text, one a line, or as an object of name and value.
#[derive(Clone, Debug)]
pub struct Headers(pub String);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one \"Name: value\" a line, or an object of name and value")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Headers, E> {
                Ok(Headers(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut lines = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if name.contains([':', '\r', '\n']) {
                        return Err(de::Error::custom("a header's name can't hold a colon or a line break"));
                    }
                    if value.contains(['\r', '\n']) {
                        return Err(de::Error::custom("a header's value can't hold a line break"));
                    }
                    lines.push(format!("{name}: {value}"));
                }
                Ok(Headers(lines.join("\n")))
            }

            // PHP writes an empty object as an empty array.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Headers, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(Headers(String::new())),
                    Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }
        }
        deserializer.deserialize_any(HeadersVisitor)
    }
}

/// A secret that was replaced and still signs.
#[derive(Serialize)]
struct OldSecretItem<'a> {
    secret_key: &'a str,
    expires_at: String,
}

impl<'a> OldSecretItem<'a> {
    fn new(old: &'a OldSecret, with_secret: bool) -> Self {
        let secret_key = if with_secret { old.secret_key.expose() } else { "" };
        Self { secret_key, expires_at: old.expires_at.rfc3339_ms() }
    }
}

/// A webhook in `webhook.list`: the seed's members in the seed's order.
#[derive(Serialize)]
pub struct WebhookItem<'a> {
    webhook_id: i64,
    increment_id: i64,
    is_active: u8,
    topics: &'a str,
    url: &'a str,
    extra_headers: &'a str,
    secret_key: &'a str,
}

impl<'a> WebhookItem<'a> {
    /// `with_secret` only for callers that may write webhooks.
    pub fn new(webhook: &'a Webhook, with_secret: bool) -> Self {
        Self {
            webhook_id: webhook.webhook_id.0,
            increment_id: webhook.last_increment_id.0,
            is_active: webhook.spec.is_active.into(),
            topics: webhook.spec.topics.as_str(),
            url: webhook.spec.url.as_ref().map_or("", TargetUrl::as_str),
            extra_headers: webhook.spec.extra_headers.as_str(),
            secret_key: if with_secret { webhook.spec.secret_key.expose() } else { "" },
        }
    }
}

/// A webhook in `webhook.get`: everything there is.
#[derive(Serialize)]
pub struct WebhookDetail<'a> {
    #[serde(flatten)]
    item: WebhookItem<'a>,
    format: &'static str,
    encoding: &'static str,
    retry: Retry,
    delivery_mode: &'static str,
    max_concurrency: Option<u32>,
    rate_limit: Option<Rate>,
    timeouts: Times,
    basic_auth: Option<Basic>,
    batch: Option<Batch>,
    old_secrets: Vec<OldSecretItem<'a>>,
    settled_through: i64,
    acknowledged_through: i64,
    consecutive_failures: u32,
    failing_since: Option<String>,
    disabled: bool,
    disabled_reason: Option<&'static str>,
    created_at: String,
    updated_at: String,
}

impl<'a> WebhookDetail<'a> {
    /// `with_secret` only for callers that may write webhooks.
    pub fn new(webhook: &'a Webhook, with_secret: bool) -> Self {
        Self {
            item: WebhookItem::new(webhook, with_secret),
            format: webhook.spec.format.name(),
            encoding: webhook.spec.format.encoding().name(),
            retry: (&webhook.spec.retry).into(),
            delivery_mode: webhook.spec.delivery_mode.name(),
            max_concurrency: webhook.spec.max_concurrency.map(Concurrency::get),
            rate_limit: webhook.spec.rate_limit.map(Rate::from),
            timeouts: webhook.spec.timeouts().into(),
            basic_auth: webhook.spec.basic_auth.as_ref().map(|basic| Basic::new(basic, with_secret)),
            batch: webhook.spec.batch.map(Batch::from),
            old_secrets: webhook.old_secrets.iter().map(|old| OldSecretItem::new(old, with_secret)).collect(),
            settled_through: webhook.settled_through.0,
            acknowledged_through: webhook.acknowledged_through.0,
            consecutive_failures: webhook.consecutive_failures,
            failing_since: webhook.failing_since.map(Timestamp::rfc3339_ms),
            disabled: webhook.disabled.is_some(),
            disabled_reason: webhook.disabled.map(|reason| reason.name()),
            created_at: webhook.created_at.rfc3339_ms(),
            updated_at: webhook.updated_at.rfc3339_ms(),
        }
    }
}

/// What a publisher gets.
#[derive(Serialize)]
pub struct ReceiptItem {
    event_id: i64,
    deliveries: Vec<ReceiptDelivery>,
}

#[derive(Serialize)]
struct ReceiptDelivery {
    webhook_id: i64,
    increment_id: i64,
}

impl From<Receipt> for ReceiptItem {
    fn from(receipt: Receipt) -> Self {
        let deliveries = receipt.deliveries.into_iter();
        Self {
            event_id: receipt.event_id.0,
            deliveries: deliveries
                .map(|(webhook, number)| ReceiptDelivery { webhook_id: webhook.0, increment_id: number.0 })
                .collect(),
        }
    }
}

/// A delivery in `delivery.list`.
#[derive(Serialize)]
pub struct DeliveryItem {
    webhook_id: i64,
    increment_id: i64,
    event_id: i64,
    topic: Option<String>,
    state: &'static str,
    attempts: u32,
    created_at: String,
    next_attempt_at: Option<String>,
    ended_at: Option<String>,
    reason: Option<&'static str>,
}

impl From<Delivery> for DeliveryItem {
    fn from(delivery: Delivery) -> Self {
        Self {
            webhook_id: delivery.webhook_id.0,
            increment_id: delivery.increment_id.0,
            event_id: delivery.event_id.0,
            topic: delivery.topic.map(|topic| topic.to_string()),
            state: delivery.state.name(),
            attempts: delivery.attempts,
            created_at: delivery.created_at.rfc3339_ms(),
            next_attempt_at: delivery.next_attempt_at.map(Timestamp::rfc3339_ms),
            ended_at: delivery.ended_at.map(Timestamp::rfc3339_ms),
            reason: delivery.reason.map(|reason| reason.name()),
        }
    }
}

/// A number in `delivery.pull`.
#[derive(Serialize)]
pub struct PulledItem {
    increment_id: i64,
    webhook_id_header: String,
    timestamp: i64,
    signature: Option<String>,
    body: Option<String>,
    state: &'static str,
}

impl From<PulledDelivery> for PulledItem {
    fn from(pulled: PulledDelivery) -> Self {
        Self {
            increment_id: pulled.increment_id.0,
            webhook_id_header: pulled.message_id,
            timestamp: pulled.timestamp,
            signature: pulled.signature,
            body: pulled.body,
            state: pulled.state.name(),
        }
    }
}

/// An attempt in `delivery.attempts`.
#[derive(Serialize)]
pub struct AttemptItem {
    attempt: u32,
    started_at: String,
    queue_delay_ms: u64,
    duration_ms: f64,
    address: Option<String>,
    status_code: Option<u16>,
    error_class: Option<&'static str>,
    error: Option<String>,
    request_headers: Vec<HeaderItem>,
    response_headers: Vec<HeaderItem>,
    response_body: String,
}

/// What came of `webhook.test`.
#[derive(Serialize)]
pub struct TestedItem {
    delivery: DeliveryItem,
    attempt: Option<AttemptItem>,
}

impl From<Tested> for TestedItem {
    fn from(tested: Tested) -> Self {
        Self { delivery: tested.delivery.into(), attempt: tested.attempt.map(AttemptItem::from) }
    }
}

/// Numbers from one to another.
#[derive(Serialize)]
pub struct SpanItem {
    from_increment_id: i64,
    to_increment_id: i64,
}

impl From<Span> for SpanItem {
    fn from(span: Span) -> Self {
        Self { from_increment_id: span.first.0, to_increment_id: span.last.0 }
    }
}

#[derive(Serialize)]
struct HeaderItem {
    name: String,
    value: String,
}

impl From<Attempt> for AttemptItem {
    fn from(attempt: Attempt) -> Self {
        let (error_class, error) = match attempt.error {
            Some(error) => (Some(error.class.name()), Some(error.detail)),
            None => (None, None),
        };
        Self {
            attempt: attempt.attempt,
            started_at: attempt.started_at.rfc3339_ms(),
            queue_delay_ms: u64::try_from(attempt.queue_delay.as_millis()).unwrap_or(u64::MAX),
            address: attempt.address.map(|address| address.to_string()),
            duration_ms: attempt.duration.as_micros() as f64 / 1_000.0,
            status_code: attempt.status_code,
            error_class,
            error,
            request_headers: headers(&attempt.request_headers),
            response_headers: headers(&attempt.response_headers),
            response_body: String::from_utf8_lossy(&attempt.response_body).into_owned(),
        }
    }
}

fn headers(lines: &str) -> Vec<HeaderItem> {
    lines
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| HeaderItem { name: name.to_owned(), value: value.to_owned() })
        .collect()
}
