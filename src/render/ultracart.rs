//! UltraCart's format, and what it calls the things that happen.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::domain::topic::Topic;
use crate::store::Parcel;

/// The vendor's names of events, by category, with our topics.
pub const CATEGORIES: &[(&str, &[(&str, &str)])] = &[
    (
        "auto_order",
        &[
            ("auto_order_cancel", "auto_order:cancel"),
            ("auto_order_create", "auto_order:created"),
            ("auto_order_decline", "auto_order:decline"),
            ("auto_order_disable", "auto_order:disable"),
            ("auto_order_preshipment", "auto_order:preshipment"),
            ("auto_order_rebill", "auto_order:rebill"),
            ("auto_order_update", "auto_order:updated"),
        ],
    ),
    (
        "chargeback",
        &[
            ("chargeback_create", "chargeback:created"),
            ("chargeback_delete", "chargeback:deleted"),
            ("chargeback_update", "chargeback:updated"),
        ],
    ),
    (
        "checkout",
        &[
            ("checkout_cart_abandon", "checkout:cart_abandon"),
            ("checkout_cart_send_return_email", "checkout:cart_send_return_email"),
        ],
    ),
    (
        "customer",
        &[
            ("customer_create", "customer:created"),
            ("customer_delete", "customer:deleted"),
            ("customer_update", "customer:updated"),
        ],
    ),
    ("fulfillment", &[("fulfillment_hold", "fulfillment:hold"), ("fulfillment_transmit", "fulfillment:transmit")]),
    (
        "item",
        &[("item_create", "product:created"), ("item_delete", "product:deleted"), ("item_update", "product:updated")],
    ),
    (
        "order",
        &[
            ("order_abandon_recovery", "order:abandon_recovery"),
            ("order_create", "order:created"),
            ("order_delete", "order:deleted"),
            ("order_payment_failed", "order:payment_failed"),
            ("order_payment_process", "order:payment_process"),
            ("order_refund", "order:refund"),
            ("order_reject", "order:reject"),
            ("order_s3_invoice", "order:s3_invoice"),
            ("order_s3_packing_slip", "order:s3_packing_slip"),
            ("order_ship", "order:ship"),
            ("order_ship_delivered", "order:ship_delivered"),
            ("order_ship_expected", "order:ship_expected"),
            ("order_ship_out_for_delivery", "order:ship_out_for_delivery"),
            ("order_stage_change", "order:stage_change"),
            ("order_update", "order:updated"),
        ],
    ),
    ("storefront", &[("screen_recording", "storefront:screen_recording")]),
    (
        "user",
        &[
            ("user_create", "user:created"),
            ("user_delete", "user:deleted"),
            ("user_login", "user:login"),
            ("user_update", "user:updated"),
        ],
    ),
    (
        "workflow_task",
        &[
            ("workflow_task_create", "workflow_task:created"),
            ("workflow_task_delete", "workflow_task:deleted"),
            ("workflow_task_update", "workflow_task:updated"),
        ],
    ),
];

/// What an event of that topic is called: the vendor's name, or else both words
/// joined by `_`.
pub fn event_name(topic: &Topic) -> String {
    let all = CATEGORIES.iter().flat_map(|(_, events)| *events);
    let own = all.into_iter().find(|(_, own)| *own == topic.as_str());
    own.map_or_else(|| topic.as_str().replace(':', "_"), |(name, _)| (*name).to_owned())
}

/// An object for each event, alone or not.
pub fn plain(parcel: &Parcel) -> String {
    format!(r#"{{"events": {}}}"#, events(parcel))
}

/// The same with the array in gzip, in base64.
pub fn compressed(parcel: &Parcel) -> String {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    let gzip = writer.write_all(events(parcel).as_bytes()).and_then(|()| writer.finish());
    let gzip = gzip.expect("writing into memory does not fail");
    format!(r#"{{"events": "{}"}}"#, STANDARD.encode(gzip))
}

/// The most bytes that [`compressed`] makes of that many.
pub fn compressed_bytes_max(bytes: usize) -> usize {
    // What can't be compressed is stored, with a few bytes a block.
    const HEADERS: usize = 64;
    const GROWTH_PER: usize = 1_000;
    (bytes + bytes / GROWTH_PER + HEADERS).div_ceil(3) * 4
}

fn events(parcel: &Parcel) -> String {
    // About what a name and its punctuation take.
    const OVERHEAD: usize = 64;
    let bytes: usize = parcel.events().map(|event| OVERHEAD + event.message.as_str().len()).sum();
    let mut array = String::with_capacity(bytes);
    for event in parcel.events() {
        array += if array.is_empty() { "[" } else { ", " };
        array += &format!(r#"{{"{}": {}}}"#, event_name(&event.topic), event.message.as_str());
    }
    array.push(']');
    array
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use flate2::read::GzDecoder;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::domain::event::Message;
    use crate::render::samples;

    #[test]
    fn names_and_topics_go_together_one_by_one() {
        let all: Vec<_> = CATEGORIES.iter().flat_map(|(_, events)| *events).collect();
        for (place, (name, topic)) in all.iter().enumerate() {
            assert_eq!(event_name(&Topic::try_new(topic).unwrap()), *name);
            assert!(!all[..place].iter().any(|(other, its)| other == name || its == topic), "{name}");
        }
        assert_eq!(all.len(), 43);
        assert_eq!(event_name(&Topic::try_new("order:canceled").unwrap()), "order_canceled");
    }

    /// Whoever has the bytes change has to give the format another code in the
    /// store, for a retry sends what was sent before.
    #[test]
    fn compressed_events_are_the_same_bytes_for_ever() {
        let rows: Vec<_> = (0..200_u32).map(|n| format!(r#"{{"sku":"{:x}","quantity":{n}}}"#, n.pow(3))).collect();
        let mut parcel = samples::parcel(42, 3, None);
        let message = Message::try_new(&format!(r#"{{"items":[{}]}}"#, rows.join(","))).unwrap();
        Arc::get_mut(&mut parcel.event).unwrap().message = message;
        let body = compressed(&parcel);
        assert_eq!(body.len(), 1814);
        assert_eq!(STANDARD.encode(Sha256::digest(&body)), "i/gfer85yMXT9KEjK/GYI5MESUNsaVwn3+c76uELV24=");
        let base64 = body.strip_prefix(r#"{"events": ""#).and_then(|rest| rest.strip_suffix(r#""}"#)).unwrap();
        let mut text = String::new();
        GzDecoder::new(STANDARD.decode(base64).unwrap().as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, events(&parcel));
    }
    /// Also of what can't be compressed, which grows.
    #[test]
    fn a_compressed_body_is_never_larger_than_told() {
        for count in [0, 1, 10, 1_000, 40_000_u32] {
            let noise: String = (0..count).map(|n| STANDARD.encode(Sha256::digest(n.to_le_bytes()))).collect();
            // Every character takes part, so that hardly anything is saved.
            let mut parcel = samples::parcel(42, 3, None);
            let message = Message::try_new(&format!(r#"{{"noise":"{noise}"}}"#)).unwrap();
            Arc::get_mut(&mut parcel.event).unwrap().message = message;
            let (plain, packed) = (plain(&parcel).len(), compressed(&parcel).len());
            assert!(packed <= compressed_bytes_max(plain), "{count}: {plain} {packed}");
            assert!(count == 0 || packed > plain * 9 / 10, "{count}: it is noise, {plain} {packed}");
        }
    }
}
