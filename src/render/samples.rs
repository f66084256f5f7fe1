//! Webhooks and deliveries for the tests of lanes and of the scheduler.

use std::sync::Arc;

use crate::domain::event::{Event, Message};
use crate::domain::id::{EventId, IncrementId, MerchantId, UserId, WebhookId};
use crate::domain::retry::RetryPolicy;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::domain::webhook::{DeliveryMode, Format, Webhook, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::store::Parcel;

pub const NOW: Timestamp = Timestamp(1_000_000);

/// A webhook that subscribes to everything.
pub fn webhook(id: i64, delivery_mode: DeliveryMode, settled: i64, last: i64) -> Arc<Webhook> {
    let said = WebhookChanges {
        topics: Some(Patterns::try_new("*").unwrap()),
        url: Some(TargetUrl::try_new("https://example.com/").unwrap()),
        delivery_mode: Some(delivery_mode),
        ..WebhookChanges::default()
    };
    Arc::new(Webhook {
        webhook_id: WebhookId(id),
        merchant_id: MerchantId(1),
        created_by: UserId(1),
        spec: WebhookSpec::try_new(said, WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default })
            .unwrap(),
        old_secrets: Vec::new(),
        acknowledged_through: IncrementId::ZERO,
        pulled_through: IncrementId::ZERO,
        is_recovering: false,
        last_increment_id: IncrementId(last),
        settled_through: IncrementId(settled),
        consecutive_failures: 0,
        failing_since: None,
        pause: None,
        is_paused: false,
        disabled: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// A delivery of an event without members.
pub fn parcel(number: i64, attempts: u32, due_at: Option<Timestamp>) -> Parcel {
    Parcel {
        increment_id: IncrementId(number),
        attempts,
        policy_start: 0,
        resends_asked: 0,
        numbered_at: NOW,
        due_at,
        format: Format::Envelope,
        event: Arc::new(Event {
            event_id: EventId(number),
            merchant_id: MerchantId(1),
            merchant_code: "acme".into(),
            topic: Topic::try_new("order:created").unwrap(),
            message: Message::try_new("{}").unwrap(),
            created_at: NOW,
            trace: None,
        }),
        expansion: None,
        batch: None,
    }
}
