//! What a delivery looks like on the wire: its body and its headers.
//!
//! A body depends on the delivery alone, so every retry and replay sends the
//! same bytes; headers depend on the webhook as it is now, and on the time.
//! The publisher's message is spliced in byte for byte: nothing here parses it.
//! What is sent, what a receiver pulls, what a preview shows and what the log
//! gives again are made here alone.

pub mod batch;
pub mod log;
#[cfg(test)]
pub mod samples;
pub mod spelling;
pub mod ultracart;
mod xml;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use self::spelling::Spelling;
use crate::domain::event::Event;
use crate::domain::id::{IncrementId, StoreId, WebhookId};
use crate::domain::signature;
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceParent;
use crate::domain::webhook::{Encoding, Format, Webhook};
use crate::store::Parcel;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TALLYHOOK_INCREMENT_ID: HeaderName = HeaderName::from_static("tallyhook-increment-id");
const TALLYHOOK_EVENT_ID: HeaderName = HeaderName::from_static("tallyhook-event-id");
/// Of which trace a request is a part (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_PLUGIN_HMAC_SHA256: HeaderName = HeaderName::from_static("x-plugin-hmac-sha256");
/// Headers that are not the owner's, at the most, without that of a trace: ours, the vendor's, and those
/// that the client adds, `host` and `content-length`.
const OWN_HEADERS: usize = 12;

/// A body would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body would be longer than {bytes_max} bytes, the most that is sent (delivery_bytes_max)")]
pub struct TooLarge {
    /// The most bytes that it may have.
    pub bytes_max: usize,
}

/// The body of a delivery, in the format that was pinned when it was numbered.
/// The same parcel gives the same bytes, whenever it is asked. Takes no more
/// memory than `bytes_max` and what the message needs to be read.
pub fn body(webhook_id: WebhookId, parcel: &Parcel, bytes_max: usize) -> Result<Bytes, TooLarge> {
    if parcel.has_expansion() {
        return body(webhook_id, &parcel.cut(), bytes_max);
    }
    let Parcel { increment_id, event, .. } = parcel;
    let body: Bytes = match parcel.format {
        Format::Envelope if parcel.batch.is_some() => batch(webhook_id, parcel),
        Format::Envelope => envelope(webhook_id, *increment_id, event),
        Format::Shipstream => shipstream(*increment_id, event),
        Format::UltraCart => ultracart::plain(parcel),
        Format::UltraCartGzip => ultracart::compressed(parcel),
        Format::ThreeDCart => format!("[{}]", event.message.as_str()),
        Format::ThreeDCartXml => {
            let document = xml::document(event.topic.resource(), event.message.as_str(), bytes_max);
            return document.map(Bytes::from).ok_or(TooLarge { bytes_max });
        }
    }
    .into();
    if body.len() > bytes_max { Err(TooLarge { bytes_max }) } else { Ok(body) }
}

/// True if building and signing a body takes longer than a thread may be held
/// up that others wait for.
pub fn takes_long(parcel: &Parcel) -> bool {
    /// Of a body that is just put together, and signed.
    const AT_ONCE_BYTES_MAX: usize = 128 * 1024;
    /// Of one whose messages are read for it.
    const READ_AT_ONCE_BYTES_MAX: usize = 16 * 1024;
    let is_read = matches!(parcel.format, Format::UltraCartGzip | Format::ThreeDCartXml) || parcel.has_expansion();
    parcel.weight() > if is_read { READ_AT_ONCE_BYTES_MAX } else { AT_ONCE_BYTES_MAX }
}

/// The most bytes that the body of a delivery has, as far as can be told
/// without building it.
pub fn body_bytes_max(parcel: &Parcel) -> usize {
    let events: usize = parcel.events().map(|event| batched_bytes_max(event)).sum();
    match parcel.format {
        Format::ThreeDCartXml => OVERHEAD_BYTES + XML_GROWTH * events,
        // The merchant's code and the vendor's names.
        Format::Shipstream | Format::UltraCart | Format::ThreeDCart => 2 * OVERHEAD_BYTES + events,
        Format::Envelope | Format::UltraCartGzip => batch_bytes_max(parcel.format, events),
    }
}

/// How many bytes of XML a byte of a message becomes at the most: a character
/// of a name is written `_xHHHH_`, at the beginning and at the end of its element.
const XML_GROWTH: usize = 16;

/// The most bytes that an event adds to a body; see [`batch_bytes_max`].
pub fn batched_bytes_max(event: &Event) -> usize {
    // Names and punctuation, the longest numbers and the longest time.
    const OVERHEAD: usize = 160;
    // A topic has no character that needs an escape.
    OVERHEAD + event.topic.as_str().len() + event.message.as_str().len()
}

/// The most bytes of a body that belong to no event.
const OVERHEAD_BYTES: usize = 160;

/// The most bytes that a body in that format has, whose events add so many.
pub fn batch_bytes_max(format: Format, events: usize) -> usize {
    let bytes = OVERHEAD_BYTES + events;
    match format {
        Format::UltraCartGzip => ultracart::compressed_bytes_max(bytes),
        _ => bytes,
    }
}

/// The name of what is sent: `webhook-id`.
pub fn message_id(store_id: &StoreId, webhook_id: WebhookId, parcel: &Parcel) -> String {
    match parcel.batch {
        Some(_) => store_id.batch_id(webhook_id, parcel.numbers()),
        None => store_id.message_id(webhook_id, parcel.increment_id),
    }
}

/// The name of the event that is sent, or of a batch's first and last:
/// `tallyhook-event-id`.
pub fn event_name(store_id: &StoreId, parcel: &Parcel) -> String {
    let first = parcel.event.event_id;
    match parcel.batch.as_ref().and_then(|others| others.last()) {
        Some(last) => store_id.batch_name(first, last.event.event_id),
        None => store_id.event_name(first),
    }
}

/// The headers of one attempt at `now` that sends `body`: the server's own
/// defaults, which the webhook's owner may replace; the owner's; then number,
/// time and signature, which the owner can't touch, and the trace that the event
/// is of, a batch's first one.
pub fn headers(store_id: &StoreId, webhook: &Webhook, parcel: &Parcel, now: Timestamp, body: &[u8]) -> HeaderMap {
    let extra = webhook.spec.extra_headers.list();
    let id = message_id(store_id, webhook.webhook_id, parcel);

    let mut headers = HeaderMap::with_capacity(OWN_HEADERS + usize::from(parcel.event.trace.is_some()) + extra.len());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(parcel.format.encoding())));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tallyhook/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(basic) = &webhook.spec.basic_auth {
        headers.insert(AUTHORIZATION, basic.header());
    }
    if webhook.spec.oauth2.is_some() {
        // Whoever posts it puts the token there.
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer"));
    }
    for (name, _) in extra {
        headers.remove(name);
    }
    for (name, value) in extra {
        headers.append(name, value.clone());
    }
    let timestamp = now.unix_seconds().to_string();
    let signatures = signatures(webhook, &id, now, body);
    let values: [&str; 5] =
        [&id, &timestamp, &signatures, &parcel.numbers().to_string(), &event_name(store_id, parcel)];
    let names = [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE, TALLYHOOK_INCREMENT_ID, TALLYHOOK_EVENT_ID];
    for (name, value) in names.into_iter().zip(plain(values)) {
        headers.insert(name, value);
    }
    if parcel.format == Format::Shipstream {
        let [signature] = plain([&signature::shipstream(&webhook.spec.secret_key, body)]);
        headers.insert(X_PLUGIN_HMAC_SHA256, signature);
    }
    if let Some(place) = parcel.event.trace {
        trace(&mut headers, place);
    }
    headers
}

/// Has a request say of which trace it is a part.
pub fn trace(headers: &mut HeaderMap, place: TraceParent) {
    let [value] = plain([&place.to_string()]);
    headers.insert(TRACEPARENT, value);
}

/// How the names of those headers are spelled: the owner's as the owner
/// does, the vendor's as the vendor does, and the others in lower case.
pub fn spelling(webhook: &Webhook, parcel: &Parcel) -> Spelling {
    let vendors: &[_] = if parcel.format == Format::Shipstream { &["X-Plugin-Hmac-Sha256"] } else { &[] };
    Spelling { owners: Arc::clone(webhook.spec.extra_headers.spelled()), vendors }
}

fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json | Encoding::Gzip => "application/json",
        Encoding::Xml => "application/xml",
    }
}

/// The value of `webhook-signature` at `now`: an item for each secret or key
/// that signs.
pub fn signatures(webhook: &Webhook, message_id: &str, now: Timestamp, body: &[u8]) -> String {
    let at = now.unix_seconds();
    let own = match &webhook.spec.signing_key {
        None => signature::standard_webhooks(&webhook.spec.secret_key, message_id, at, body),
        Some(key) => signature::standard_webhooks_ed25519(key, message_id, at, body),
    };
    webhook.old_signers(now).fold(own, |all, old| {
        let old = signature::standard_webhooks_by(old, message_id, at, body);
        all + " " + &old
    })
}

/// The number, the topic and the time beside the publisher's message.
fn envelope(webhook_id: WebhookId, increment_id: IncrementId, event: &Event) -> String {
    let mut body = String::with_capacity(OVERHEAD_BYTES + batched_bytes_max(event));
    body += &format!(r#"{{"webhook_id": {webhook_id}, "#);
    push_members(&mut body, increment_id, event);
    body.push('}');
    body
}

/// Adds what an envelope says of one event, alone or in a batch.
fn push_members(body: &mut String, increment_id: IncrementId, event: &Event) {
    let (event_id, topic, created_at) = (event.event_id, quoted(event.topic.as_str()), event.created_at.rfc3339_ms());
    *body += &format!(
        r#""increment_id": {increment_id}, "event_id": {event_id}, "topic": {topic}, "created_at": "{created_at}", "message": "#
    );
    *body += event.message.as_str();
}

/// The span of the numbers, and the events one after the other.
fn batch(webhook_id: WebhookId, parcel: &Parcel) -> String {
    let span = parcel.numbers();
    let bytes: usize = parcel.events().map(|event| batched_bytes_max(event)).sum();
    let mut body = String::with_capacity(OVERHEAD_BYTES + bytes);
    body += &format!(
        r#"{{"webhook_id": {webhook_id}, "first_increment_id": {}, "last_increment_id": {}, "events": ["#,
        span.first, span.last
    );
    for (number, event) in span.numbers().zip(parcel.events()) {
        body += if number == span.first { "{" } else { ", {" };
        push_members(&mut body, number, event);
        body.push('}');
    }
    body += "]}";
    body
}

/// ShipStream's: the number and the time go inside the publisher's object, at its
/// end, so that they win over members of the same name in most readers.
fn shipstream(increment_id: IncrementId, event: &Event) -> String {
    let members = event.message.as_str().strip_suffix('}').expect("a message is the text of a JSON object");
    let is_empty = members.trim_end_matches([' ', '\t', '\n', '\r']) == "{";
    format!(
        r#"{{"topic": {}, "message": {members}{}"webhook_increment_id": {increment_id}, "event_timestamp": "{}"}}, "merchant_id": {}, "merchant_code": {}}}"#,
        quoted(event.topic.as_str()),
        if is_empty { "" } else { ", " },
        event.created_at.rfc3339_s(),
        event.merchant_id,
        quoted(&event.merchant_code),
    )
}

fn quoted(text: &str) -> serde_json::Value {
    text.into()
}

/// Values that share their memory: neither they nor those of a copy of the
/// headers take some of their own.
fn plain<const COUNT: usize>(texts: [&str; COUNT]) -> [HeaderValue; COUNT] {
    let mut all = Bytes::from(texts.concat());
    texts.map(|text| {
        HeaderValue::from_maybe_shared(all.split_to(text.len()))
            .expect("ids and signatures are of letters, digits and -_,+/=")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Message;
    use crate::domain::headers::ExtraHeaders;
    use crate::domain::id::MerchantId;
    use crate::domain::secret::SecretKey;
    use crate::domain::webhook::DeliveryMode;
    use crate::store::Content;

    const NOW: Timestamp = Timestamp(1_649_367_553_999);

    fn parcel(format: Format, message: &str) -> Parcel {
        let event = Event {
            merchant_id: MerchantId(5),
            message: Message::try_new(message).unwrap(),
            created_at: Timestamp::parse_rfc3339("2021-12-07T16:08:15.678Z").unwrap(),
            ..Event::clone(&samples::parcel(42, 3, None).event)
        };
        Parcel { format, event: Arc::new(event), ..samples::parcel(42, 3, None) }
    }

    /// Its format differs from that of some parcels: theirs is pinned and counts.
    fn webhook(extra_headers: &str) -> Webhook {
        let mut webhook = Webhook::clone(&samples::webhook(1, DeliveryMode::Parallel, 41, 42));
        webhook.spec.extra_headers = ExtraHeaders::try_new(extra_headers).unwrap();
        webhook.spec.secret_key = SecretKey::try_new("2RUJ8NXLnLRrAj3").unwrap();
        webhook
    }

    fn text(format: Format, message: &str) -> String {
        String::from_utf8(super::body(WebhookId(1), &parcel(format, message), 1 << 20).unwrap().to_vec()).unwrap()
    }

    fn sent(parcel: &Parcel, extra_headers: &str, body: &[u8]) -> Vec<(String, String)> {
        let headers = headers(&StoreId("a1b2c3d4".to_owned()), &webhook(extra_headers), parcel, NOW, body);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    /// Names that grow most, texts that are escaped, all formats: what is reserved is enough, and what is
    /// larger than it may be is not built.
    #[test]
    fn no_body_is_larger_than_told() {
        let (name, text) = ("!".repeat(3_000), "&'\r".repeat(1_000).replace('\r', "\\r"));
        for message in ["{}".to_owned(), format!(r#"{{"{name}":{{"{name}":1}}}}"#), format!(r#"{{"a":["{text}"]}}"#)] {
            for format in Format::ALL {
                let parcel = parcel(format, &message);
                let body = super::body(WebhookId(1), &parcel, usize::MAX).unwrap();
                assert!(body.len() <= body_bytes_max(&parcel), "{format:?}: {} {}", body.len(), message.len());
                assert_eq!(super::body(WebhookId(1), &parcel, body.len()).unwrap(), body);
                let bytes_max = body.len() - 1;
                assert_eq!(super::body(WebhookId(1), &parcel, bytes_max), Err(TooLarge { bytes_max }), "{format:?}");
            }
        }
    }

    #[test]
    fn an_envelope_holds_the_message_as_it_came() {
        assert_eq!(
            text(Format::Envelope, r#"{ "b":1.0,"a" : "é\u00e9" }"#),
            r#"{"webhook_id": 1, "increment_id": 42, "event_id": 42, "topic": "order:created", "created_at": "2021-12-07T16:08:15.678Z", "message": { "b":1.0,"a" : "é\u00e9" }}"#
        );
    }

    #[test]
    fn ultracart_has_its_own_names() {
        assert_eq!(text(Format::UltraCart, r#"{"b":1.0}"#), r#"{"events": [{"order_create": {"b":1.0}}]}"#);
        let one = parcel(Format::UltraCart, "{}");
        let other =
            Event { topic: crate::domain::topic::Topic::try_new("own:topic").unwrap(), ..Event::clone(&one.event) };
        let other = Content { event: Arc::new(other), expansion: None };
        let two = Parcel { batch: Some(vec![other]), ..one };
        let body = String::from_utf8(super::body(WebhookId(1), &two, 1 << 20).unwrap().to_vec()).unwrap();
        assert_eq!(body, r#"{"events": [{"order_create": {}}, {"own_topic": {}}]}"#);
    }

    #[test]
    fn shipstream_adds_its_members_inside_the_message() {
        assert_eq!(
            text(Format::Shipstream, r#"{"b":1.0,"a":{}}"#),
            r#"{"topic": "order:created", "message": {"b":1.0,"a":{}, "webhook_increment_id": 42, "event_timestamp": "2021-12-07T16:08:15+00:00"}, "merchant_id": 5, "merchant_code": "acme"}"#
        );
    }

    #[test]
    fn an_empty_message_needs_no_comma() {
        for (message, start) in [
            ("{}", r#"{"webhook_increment_id""#),
            ("{ \t\r\n}", "{ \t\r\n\"webhook_increment_id\""),
            (r#"{"a":"{"}"#, r#"{"a":"{", "webhook_increment_id""#),
            ("{\"a\":{ }\n}", "{\"a\":{ }\n, \"webhook_increment_id\""),
        ] {
            let text = text(Format::Shipstream, message);
            let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(whole["message"]["webhook_increment_id"], 42);
            assert!(text.contains(&format!("\"message\": {start}")), "{text}");
        }
    }

    #[test]
    fn a_code_that_needs_escapes_gets_them() {
        let mut parcel = parcel(Format::Shipstream, "{}");
        Arc::get_mut(&mut parcel.event).unwrap().merchant_code = "a\"b".into();
        let whole: serde_json::Value =
            serde_json::from_slice(&super::body(WebhookId(1), &parcel, 1 << 20).unwrap()).unwrap();
        assert_eq!(whole["merchant_code"], "a\"b");
    }

    #[test]
    fn an_envelope_is_signed_and_numbered() {
        let user_agent = concat!("tallyhook/", env!("CARGO_PKG_VERSION"));
        let secret = SecretKey::try_new("2RUJ8NXLnLRrAj3").unwrap();
        let signature = signature::standard_webhooks(&secret, "msg_a1b2c3d4_1_42", 1_649_367_553, b"{}");
        let expected = [
            ("content-type", "application/json"),
            ("user-agent", user_agent),
            ("accept-encoding", "identity"),
            ("webhook-id", "msg_a1b2c3d4_1_42"),
            ("webhook-timestamp", "1649367553"),
            ("webhook-signature", &signature),
            ("tallyhook-increment-id", "42"),
            ("tallyhook-event-id", "evt_a1b2c3d4_42"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sent(&parcel(Format::Envelope, "{}"), "", b"{}"), expected);
    }

    #[test]
    fn shipstream_is_signed_in_both_ways() {
        let sent = sent(&parcel(Format::Shipstream, "{}"), "", b"the body");
        let secret = SecretKey::try_new("2RUJ8NXLnLRrAj3").unwrap();
        let expected = ("x-plugin-hmac-sha256".to_owned(), signature::shipstream(&secret, b"the body"));
        assert_eq!(sent.last(), Some(&expected));
        assert!(sent.iter().any(|(name, _)| name == "webhook-signature"));
    }

    #[test]
    fn owners_replace_defaults_and_repeat_their_own() {
        let extra = "Content-Type: text/x\nUSER-AGENT: mine\nX-Tag: a\nAuthorization: Bearer b\nX-Tag: c";
        let sent = sent(&parcel(Format::Envelope, "{}"), extra, b"{}");
        let values = |wanted: &str| {
            sent.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(values("content-type"), ["text/x"]);
        assert_eq!(values("user-agent"), ["mine"]);
        assert_eq!(values("x-tag"), ["a", "c"]);
        assert_eq!(values("authorization"), ["Bearer b"]);
        assert_eq!(sent.len(), 11);
    }
}
