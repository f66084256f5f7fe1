//! What the worker is told after a commit that failed.

use std::time::Duration;

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::webhook::{DeliveryMode, Webhook};
use crate::render::samples::webhook;
use crate::store::ledger::book::{Book, Stock};
use crate::store::ledger::commit::announce_all;
use crate::store::ledger::terms::{Retention, Terms};
use crate::store::mailbox::Mailbox;

/// A cancel that stands though its commit failed was announced by nobody.
#[test]
fn after_a_failed_commit_lanes_are_told_to_read_all_again() {
    let retention = Retention {
        attempts: Duration::ZERO,
        bodies: Duration::ZERO,
        audit: Duration::ZERO,
        bytes_max: 0,
        webhook_log_bytes_max: 0,
        merchant_log_bytes_max: 0,
    };
    let terms = Terms {
        key_ttl: Duration::ZERO,
        deliveries_max: 1,
        definition_bytes_max: 1,
        disable_after: Duration::ZERO,
        retention,
        fingerprint_key: FingerprintKey::OPEN,
        is_shared: false,
    };
    let webhooks = [(1, 0), (2, 5)].map(|(id, last)| Webhook::clone(&webhook(id, DeliveryMode::Ordered, 0, last)));
    let (mailbox, stock) = (Mailbox::default(), Stock { webhooks: webhooks.into(), ..Stock::default() });
    announce_all(&mailbox, &Book::new(terms, stock));
    let news = mailbox.take();
    let of_both = |first, second| [(WebhookId(1), IncrementId(first)), (WebhookId(2), IncrementId(second))].into();
    assert_eq!(news.reread, of_both(1, 1));
    assert_eq!(news.committed_through, of_both(0, 5));
    assert!(news.changed.len() == 2 && news.changed.values().all(Option::is_some));
    assert_eq!(news.present, Some([WebhookId(1), WebhookId(2)].into()), "another one was deleted");
}
