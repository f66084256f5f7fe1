//! What UltraCart calls the things that happen (WIRE §3).

use crate::domain::topic::Topic;

/// The vendor's names of events, by category, with our topics.
pub const EVENTS: &[(&str, &[(&str, &str)])] = &[
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
    let all = EVENTS.iter().flat_map(|(_, events)| *events);
    let own = all.into_iter().find(|(_, own)| *own == topic.as_str());
    own.map_or_else(|| topic.as_str().replace(':', "_"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_topics_go_together_one_by_one() {
        let all: Vec<_> = EVENTS.iter().flat_map(|(_, events)| *events).collect();
        for (place, (name, topic)) in all.iter().enumerate() {
            assert_eq!(event_name(&Topic::try_new(topic).unwrap()), *name);
            assert!(!all[..place].iter().any(|(other, its)| other == name || its == topic), "{name}");
        }
        assert_eq!(all.len(), 43);
        assert_eq!(event_name(&Topic::try_new("order:canceled").unwrap()), "order_canceled");
    }
}
