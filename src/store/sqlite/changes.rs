//! What the writer can change, each as it runs within a transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::memory::Counters;
use super::rows::{format_code, state_code};
use super::tx::{Announcement, Tx};
use crate::domain::delivery::{DeliveryState, EndReason, Outcome, Verdict};
use crate::domain::event::{Event, IdempotencyKey, NewEvent, Receipt};
use crate::domain::id::{EventId, IncrementId, MerchantId, UserId, WebhookId};
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DisabledReason, Webhook, WebhookChanges, WebhookSpec};
use crate::store::{Parcel, StoreError, WebhookSelector};

type Result<T> = std::result::Result<T, StoreError>;

/// Opens a session.
pub fn open_session(tx: &mut Tx<'_>, user: UserId, key: KeyHash, expires_at: Timestamp) -> Result<()> {
    tx.conn
        .prepare_cached("INSERT INTO session (key_hash, user_id, expires_at) VALUES (?1, ?2, ?3)")?
        .execute(params![key.0, user.0, expires_at.0])?;
    Ok(())
}

/// Moves a session's end; it never comes nearer.
pub fn renew_session(tx: &mut Tx<'_>, key: KeyHash, expires_at: Timestamp) -> Result<()> {
    tx.conn
        .prepare_cached("UPDATE session SET expires_at = max(expires_at, ?2) WHERE key_hash = ?1")?
        .execute(params![key.0, expires_at.0])?;
    Ok(())
}

/// Ends a session.
pub fn end_session(tx: &mut Tx<'_>, key: KeyHash) -> Result<()> {
    tx.conn.prepare_cached("DELETE FROM session WHERE key_hash = ?1")?.execute([key.0])?;
    Ok(())
}

/// Registers a webhook.
pub fn create_webhook(tx: &mut Tx<'_>, merchant: MerchantId, spec: WebhookSpec, quota: u32) -> Result<Webhook> {
    if tx.memory.webhooks_of(merchant).count() >= quota as usize {
        return Err(StoreError::WebhookQuota { max: quota });
    }
    tx.conn
        .prepare_cached(
            "INSERT INTO webhook (merchant_id, is_active, topics, url, extra_headers, secret_key, format, retry,
                delivery_mode, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
        )?
        .execute(params![
            merchant.0,
            spec.is_active,
            spec.topics.as_str(),
            spec.url.as_str(),
            spec.extra_headers.as_str(),
            spec.secret_key.expose(),
            spec.format.name(),
            spec.retry.to_string(),
            spec.delivery_mode.name(),
            tx.now.0,
        ])?;
    let webhook = Webhook {
        webhook_id: WebhookId(tx.conn.last_insert_rowid()),
        merchant_id: merchant,
        spec,
        last_increment_id: IncrementId::ZERO,
        settled_through: IncrementId::ZERO,
        consecutive_failures: 0,
        failing_since: None,
        disabled: None,
        created_at: tx.now,
        updated_at: tx.now,
    };
    put(tx, webhook.clone());
    Ok(webhook)
}

/// Changes a webhook; on also lifts a disablement.
pub fn update_webhook(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    changes: WebhookChanges,
) -> Result<Webhook> {
    let Some(entry) = tx.memory.webhook_of(merchant, id) else { return Err(StoreError::NoWebhook) };
    let old = Webhook::clone(&entry.webhook);
    let disabled = if changes.is_active == Some(true) { None } else { old.disabled };
    let webhook = Webhook { spec: changes.apply(old.spec), disabled, updated_at: tx.now, ..old };
    write_definition(tx, &webhook)?;
    Ok(Webhook::clone(&put(tx, webhook)))
}

fn write_definition(tx: &Tx<'_>, webhook: &Webhook) -> Result<()> {
    let Webhook { webhook_id, spec, disabled, updated_at, .. } = webhook;
    tx.conn
        .prepare_cached(
            "UPDATE webhook SET is_active = ?2, topics = ?3, url = ?4, extra_headers = ?5, secret_key = ?6, format = ?7,
                retry = ?8, delivery_mode = ?9, disabled_reason = ?10, updated_at = ?11 WHERE webhook_id = ?1",
        )?
        .execute(params![
            webhook_id.0,
            spec.is_active,
            spec.topics.as_str(),
            spec.url.as_str(),
            spec.extra_headers.as_str(),
            spec.secret_key.expose(),
            spec.format.name(),
            spec.retry.to_string(),
            spec.delivery_mode.name(),
            disabled.map(DisabledReason::name),
            updated_at.0,
        ])?;
    Ok(())
}

/// Puts a new or changed definition into memory and, with the counters as they
/// are now, into the news.
fn put(tx: &mut Tx<'_>, webhook: Webhook) -> Arc<Webhook> {
    let counters = tx.memory.entry(webhook.webhook_id).map(|entry| entry.counters);
    let webhook = Arc::new(match counters {
        Some(counters) => counters.in_webhook(webhook),
        None => webhook,
    });
    tx.news.push(Announcement::Webhook(webhook.webhook_id, Some(Arc::clone(&webhook))));
    tx.memory.put_webhook(Arc::clone(&webhook));
    webhook
}

/// Switches webhooks on or off; on also lifts a disablement.
pub fn set_active(tx: &mut Tx<'_>, merchant: MerchantId, which: &WebhookSelector, on: bool) -> Result<usize> {
    let is_selected = |webhook: &Webhook| match which {
        WebhookSelector::All => true,
        WebhookSelector::Id(id) => webhook.webhook_id == *id,
        WebhookSelector::Listing(pattern) => webhook.spec.topics.list().contains(pattern),
    };
    let selected: Vec<Arc<Webhook>> = tx
        .memory
        .webhooks_of(merchant)
        .filter(|entry| is_selected(&entry.webhook))
        .map(|entry| Arc::clone(&entry.webhook))
        .collect();
    let mut changed = Vec::new();
    for webhook in &selected {
        let disabled = if on { None } else { webhook.disabled };
        if webhook.spec.is_active == on && webhook.disabled == disabled {
            continue;
        }
        let mut webhook = Webhook::clone(webhook);
        webhook.spec.is_active = on;
        webhook.disabled = disabled;
        webhook.updated_at = tx.now;
        write_definition(tx, &webhook)?;
        changed.push(webhook);
    }
    for webhook in changed {
        put(tx, webhook);
    }
    Ok(selected.len())
}

/// Deletes a webhook; its pending deliveries are cancelled in steps.
pub fn delete_webhook(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId) -> Result<()> {
    if tx.memory.webhook_of(merchant, id).is_none() {
        return Err(StoreError::NoWebhook);
    }
    tx.conn
        .prepare_cached("UPDATE webhook SET deleted_at = ?2 WHERE webhook_id = ?1")?
        .execute(params![id.0, tx.now.0])?;
    tx.memory.delete_webhook(id);
    tx.news.push(Announcement::Webhook(id, None));
    Ok(())
}

/// What bounds a publish.
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    /// How long an idempotency key counts.
    pub key_ttl: std::time::Duration,
    /// The most deliveries it may make.
    pub deliveries_max: usize,
}

/// Accepts events, all or none.
pub fn publish(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    events: Vec<NewEvent>,
    limits: PublishLimits,
) -> Result<Vec<Receipt>> {
    let code = tx.memory.merchant_code(tx.conn, merchant)?;
    // Numbers given out by this change, which memory learns of at its end.
    let mut taken: HashMap<WebhookId, IncrementId> = HashMap::new();
    let mut parcels = Vec::new();
    let mut receipts = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let content_hash = event.idempotency_key.as_ref().map(|_| content_hash(&event));
        if let (Some(key), Some(hash)) = (&event.idempotency_key, &content_hash)
            && let Some(earlier) = earlier_receipt(tx, merchant, key, hash, index)?
        {
            receipts.push(earlier);
            continue;
        }
        let event_id = insert_event(tx, merchant, &event)?;
        let key = event.idempotency_key;
        let event = Arc::new(Event {
            event_id,
            merchant_id: merchant,
            merchant_code: Arc::clone(&code),
            topic: event.topic,
            message: event.message,
            created_at: event.created_at,
        });
        let deliveries = insert_deliveries(tx, &event, &mut taken, &mut parcels)?;
        if parcels.len() > limits.deliveries_max {
            return Err(StoreError::TooManyDeliveries { max: limits.deliveries_max });
        }
        let receipt = Receipt { event_id, deliveries };
        if let (Some(key), Some(hash)) = (key, content_hash) {
            remember(tx, merchant, &key, &hash, &receipt, limits.key_ttl)?;
        }
        receipts.push(receipt);
    }
    for (id, last) in taken {
        if let Some(counters) = tx.memory.counters_mut(id) {
            counters.last = last;
        }
    }
    tx.news.extend(parcels.into_iter().map(|(id, parcel)| Announcement::Parcel(id, parcel)));
    Ok(receipts)
}

fn insert_event(tx: &Tx<'_>, merchant: MerchantId, event: &NewEvent) -> Result<EventId> {
    tx.conn
        .prepare_cached(
            "INSERT INTO event (merchant_id, topic, message, created_at, published_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![merchant.0, event.topic.as_str(), event.message.as_str(), event.created_at.0, tx.now.0])?;
    Ok(EventId(tx.conn.last_insert_rowid()))
}

fn insert_deliveries(
    tx: &Tx<'_>,
    event: &Arc<Event>,
    taken: &mut HashMap<WebhookId, IncrementId>,
    parcels: &mut Vec<(WebhookId, Parcel)>,
) -> Result<Vec<(WebhookId, IncrementId)>> {
    let mut deliveries = Vec::new();
    for id in tx.memory.matching(event.merchant_id, &event.topic) {
        let Some(entry) = tx.memory.entry(id) else { continue };
        let format = entry.webhook.spec.format;
        let number = taken.get(&id).copied().unwrap_or(entry.counters.last).next();
        tx.conn
            .prepare_cached(
                "INSERT INTO delivery (webhook_id, increment_id, event_id, format, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id.0, number.0, event.event_id.0, format_code(format), tx.now.0])?;
        taken.insert(id, number);
        parcels
            .push((id, Parcel { increment_id: number, attempts: 0, due_at: None, format, event: Arc::clone(event) }));
        deliveries.push((id, number));
    }
    Ok(deliveries)
}

/// SHA-256 of the topic and the raw message; a topic holds no line break.
fn content_hash(event: &NewEvent) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event.topic.as_str());
    hash.update(b"\n");
    hash.update(event.message.as_str());
    hash.finalize().into()
}

fn earlier_receipt(
    tx: &Tx<'_>,
    merchant: MerchantId,
    key: &IdempotencyKey,
    hash: &[u8; 32],
    index: usize,
) -> Result<Option<Receipt>> {
    let earlier = tx
        .conn
        .prepare_cached(
            "SELECT content_hash, event_id, receipt FROM idempotency
                WHERE merchant_id = ?1 AND key = ?2 AND expires_at > ?3",
        )?
        .query_row(params![merchant.0, key.as_str(), tx.now.0], |row| {
            Ok((row.get::<_, [u8; 32]>(0)?, EventId(row.get(1)?), row.get::<_, String>(2)?))
        })
        .optional()?;
    match earlier {
        None => Ok(None),
        Some((earlier, event_id, receipt)) if earlier == *hash => {
            Ok(Some(Receipt { event_id, deliveries: read_pairs(&receipt)? }))
        }
        Some((_, event_id, _)) => Err(StoreError::IdempotencyConflict { index, event_id }),
    }
}

fn remember(
    tx: &Tx<'_>,
    merchant: MerchantId,
    key: &IdempotencyKey,
    hash: &[u8; 32],
    receipt: &Receipt,
    ttl: std::time::Duration,
) -> Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (merchant_id, key, content_hash, event_id, receipt, expires_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            merchant.0,
            key.as_str(),
            hash,
            receipt.event_id.0,
            write_pairs(&receipt.deliveries),
            tx.now.after(ttl).0,
        ])?;
    Ok(())
}

/// `1:42 7:3` for number 42 of webhook 1 and number 3 of webhook 7.
fn write_pairs(pairs: &[(WebhookId, IncrementId)]) -> String {
    pairs.iter().map(|(id, number)| format!("{id}:{number}")).collect::<Vec<_>>().join(" ")
}

fn read_pairs(text: &str) -> Result<Vec<(WebhookId, IncrementId)>> {
    let read = |pair: &str| {
        let (id, number) = pair.split_once(':')?;
        Some((WebhookId(id.parse().ok()?), IncrementId(number.parse().ok()?)))
    };
    let pairs = text.split_whitespace().map(read).collect::<Option<_>>();
    pairs.ok_or_else(|| StoreError::failed("damaged store: bad receipt"))
}

/// Records attempts and what becomes of their deliveries.
pub fn record(tx: &mut Tx<'_>, outcomes: &[Outcome]) -> Result<()> {
    let mut counted = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        if mark(tx, outcome)? {
            insert_attempt(tx, outcome)?;
            counted.push(outcome);
        }
    }
    let mut gone = Vec::new();
    for outcome in counted.iter().filter(|outcome| outcome.verdict == Verdict::Gone) {
        if let Some(entry) = tx.memory.entry(outcome.webhook_id)
            && entry.webhook.disabled.is_none()
            && !entry.is_deleted
            && !gone.contains(&outcome.webhook_id)
        {
            tx.conn
                .prepare_cached("UPDATE webhook SET disabled_reason = ?2 WHERE webhook_id = ?1")?
                .execute(params![outcome.webhook_id.0, DisabledReason::Gone.name()])?;
            gone.push(outcome.webhook_id);
        }
    }
    for outcome in counted {
        remember_health(tx, outcome);
    }
    for id in gone {
        if let Some(entry) = tx.memory.entry(id) {
            let webhook = Webhook { disabled: Some(DisabledReason::Gone), ..Webhook::clone(&entry.webhook) };
            put(tx, webhook);
        }
    }
    Ok(())
}

/// Compare-and-set on the attempt's number: false if it is on record already.
fn mark(tx: &Tx<'_>, outcome: &Outcome) -> Result<bool> {
    let (state, next_attempt_at, reason) = match outcome.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, None, None),
        Verdict::Retry(at) => (DeliveryState::Pending, Some(at), None),
        Verdict::Gone => (DeliveryState::Pending, Some(tx.now), None),
        Verdict::Abandoned => (DeliveryState::Abandoned, None, Some(EndReason::RetriesExhausted)),
    };
    let ended_at = (state != DeliveryState::Pending).then_some(tx.now.0);
    let number = i64::from(outcome.attempt.attempt);
    let marked = tx
        .conn
        .prepare_cached(
            "UPDATE delivery SET state = ?4, attempts = ?3, next_attempt_at = ?5, ended_at = ?6, reason = ?7
                WHERE webhook_id = ?1 AND increment_id = ?2 AND attempts = ?3 - 1 AND state = 0",
        )?
        .execute(params![
            outcome.webhook_id.0,
            outcome.increment_id.0,
            number,
            state_code(state),
            next_attempt_at.map(|at| at.0),
            ended_at,
            reason.map(EndReason::name),
        ])?;
    if marked == 1 {
        return Ok(true);
    }
    // Cancelled while it was on its way: the attempt is recorded all the
    // same, and if it arrived, then delivered is what it is.
    let delivered = state == DeliveryState::Delivered;
    let recorded = tx
        .conn
        .prepare_cached(
            "UPDATE delivery SET attempts = ?3, state = CASE WHEN ?4 THEN 1 ELSE state END,
                reason = CASE WHEN ?4 THEN NULL ELSE reason END
                WHERE webhook_id = ?1 AND increment_id = ?2 AND attempts = ?3 - 1 AND state = 3",
        )?
        .execute(params![outcome.webhook_id.0, outcome.increment_id.0, number, delivered])?;
    Ok(recorded == 1)
}

fn insert_attempt(tx: &Tx<'_>, outcome: &Outcome) -> Result<()> {
    let attempt = &outcome.attempt;
    tx.conn
        .prepare_cached(
            "INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, duration_us, status_code,
                error_class, error_detail, request_headers, response_headers, response_body)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            outcome.webhook_id.0,
            outcome.increment_id.0,
            attempt.attempt,
            attempt.started_at.0,
            i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
            attempt.status_code,
            attempt.error.as_ref().map(|error| error.class.name()),
            attempt.error.as_ref().map(|error| &error.detail),
            attempt.request_headers,
            attempt.response_headers,
            attempt.response_body,
        ])?;
    Ok(())
}

/// Counts a webhook's failures, and notes when its lowest open number ended.
fn remember_health(tx: &mut Tx<'_>, outcome: &Outcome) {
    let has_ended = matches!(outcome.verdict, Verdict::Delivered | Verdict::Abandoned);
    let Some(Counters { settled_through, consecutive_failures, failing_since, .. }) =
        tx.memory.entry(outcome.webhook_id).map(|entry| entry.counters)
    else {
        return;
    };
    if outcome.attempt.error.is_some() {
        if let Some(counters) = tx.memory.counters_mut(outcome.webhook_id) {
            counters.consecutive_failures = consecutive_failures.saturating_add(1);
            counters.failing_since = failing_since.or(Some(outcome.attempt.started_at));
        }
    } else if consecutive_failures > 0
        && let Some(counters) = tx.memory.counters_mut(outcome.webhook_id)
    {
        counters.consecutive_failures = 0;
        counters.failing_since = None;
    }
    if has_ended && outcome.increment_id == settled_through.next() {
        tx.memory.add_chore(outcome.webhook_id);
    }
}
