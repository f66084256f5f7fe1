//! Sending again, not sending any more, and sending for a test: what an owner
//! does to single deliveries.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::publishing::{Numbering, insert_event};
use super::{Result, batches, forgetting, webhooks};
use crate::domain::delivery::{DeliveryState, EndReason};
use crate::domain::event::{Message, NewEvent};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::topic::Topic;
use crate::store::sqlite::room::Room;
use crate::store::sqlite::rows::{state_code, state_from_code};
use crate::store::sqlite::tx::{Announcement, Tx};
use crate::store::{Parcel, StoreError};

/// Makes a delivery due now, with all of its batch. What has ended undelivered
/// is pending again; what was delivered stays so, whatever becomes of the
/// re-send. One whose request is under way goes out once more when that has
/// ended; one that was never tried, and is not under way, does so for the first
/// time.
pub fn retry(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, number: IncrementId) -> Result<()> {
    webhooks::find(tx, merchant, id)?;
    let batch = batches::of(tx, id, number)?;
    let whole: i64 = tx
        .conn
        .prepare_cached(
            "SELECT count(*) FROM delivery JOIN event USING (event_id)
                WHERE webhook_id = ?1 AND increment_id BETWEEN ?2 AND ?3",
        )?
        .query_row([id.0, batch.first.0, batch.last.0], |row| row.get(0))?;
    if whole != batch.last.0 - batch.first.0 + 1 {
        return Err(StoreError::Pruned);
    }
    send_again(tx, id, batch)?;
    tx.news.push(Announcement::Reread(id, batch.first));
    tx.news.push(Announcement::Now(id, batch.first));
    tx.news.push(Announcement::Changed(id, batch));
    Ok(())
}

/// Makes deliveries due now. What has ended undelivered is pending again; what
/// was delivered stays so. What was never tried is due as it is. Whoever is under
/// way notices by `resends_asked` that it goes out once more.
pub fn send_again(tx: &Tx<'_>, id: WebhookId, numbers: Span) -> Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET policy_start = attempts, resends_asked = resends_asked + 1,
                next_attempt_at = CASE WHEN state <> 0 OR attempts > 0 OR next_attempt_at IS NOT NULL THEN ?4 END,
                state = CASE state WHEN 1 THEN 1 ELSE 0 END,
                ended_at = CASE state WHEN 1 THEN ended_at END, reason = NULL
                WHERE webhook_id = ?1 AND increment_id BETWEEN ?2 AND ?3",
        )?
        .execute([id.0, numbers.first.0, numbers.last.0, tx.now.0])?;
    Ok(())
}

/// Ends a pending delivery; what is on its way is recorded all the same. A
/// delivered one is not sent again. One of a batch is ended only with all of
/// it, if the caller wants that; else fails with [`StoreError::InBatch`].
/// Fails with [`StoreError::HasEnded`] if there is nothing to cancel.
pub fn cancel(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    number: IncrementId,
    whole_batch: bool,
) -> Result<()> {
    webhooks::find(tx, merchant, id)?;
    let (state, is_to_be_sent) = state_of(tx, id, number)?;
    if !is_to_be_sent {
        return Err(StoreError::HasEnded { state });
    }
    let batch = batches::of(tx, id, number)?;
    if batch != Span::one(number) && !whole_batch {
        return Err(StoreError::InBatch(batch));
    }
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET next_attempt_at = NULL,
                state = CASE state WHEN 0 THEN ?4 ELSE state END,
                ended_at = CASE state WHEN 0 THEN ?5 ELSE ended_at END,
                reason = CASE state WHEN 0 THEN ?6 ELSE reason END
                WHERE webhook_id = ?1 AND increment_id BETWEEN ?2 AND ?3
                    AND (state = 0 OR next_attempt_at IS NOT NULL)",
        )?
        .execute(params![
            id.0,
            batch.first.0,
            batch.last.0,
            state_code(DeliveryState::Cancelled),
            tx.now.0,
            EndReason::CancelledByOwner.name()
        ])?;
    tx.memory.add_chore(id);
    tx.news.push(Announcement::Reread(id, batch.first));
    tx.news.push(Announcement::Changed(id, batch));
    Ok(())
}

/// Numbers a test event for one webhook, to be sent at once, and alone. Fails
/// with [`StoreError::Full`] like any other event.
pub fn test(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, message: Message, room: Room) -> Result<IncrementId> {
    let spec = webhooks::find(tx, merchant, id)?.spec;
    room.check(tx.conn, merchant)?;
    let event = NewEvent { topic: Topic::test(), message, created_at: tx.now, idempotency_key: None };
    let event = insert_event(tx, merchant, event)?;
    let mut numbering = Numbering::of(tx)?;
    let rendering = spec.rendering(&event.topic);
    let number = numbering.number(tx, id, event.event_id, &event.topic)?.ok_or(StoreError::NoWebhook)?;
    // Due, so that it is found again after a crash.
    tx.conn
        .prepare_cached(
            "UPDATE delivery SET next_attempt_at = ?3, batch_first = ?4, batch_last = ?4
                WHERE webhook_id = ?1 AND increment_id = ?2",
        )?
        .execute(params![id.0, number.0, tx.now.0, spec.batch.map(|_| number.0)])?;
    numbering.settle(tx);
    let parcel = Parcel {
        increment_id: number,
        attempts: 0,
        policy_start: 0,
        resends_asked: 0,
        numbered_at: tx.now,
        due_at: Some(tx.now),
        format: rendering.format,
        event,
        expansion: rendering.expansion.cloned().map(Arc::new),
        batch: spec.batch.map(|_| Vec::new()),
    };
    tx.news.push(Announcement::Test(id, parcel));
    Ok(number)
}

/// Attempts that a change forgets, up to so many bytes: each may be dozens of
/// pages.
const FORGOTTEN_PER_CHANGE: i64 = 250;
const FORGOTTEN_BYTES_PER_CHANGE: i64 = 2 * 1_024 * 1_024;

/// Ends a delivery, if that is still to be done, and forgets what was sent: of
/// its event and its attempts nothing stays but the number, the state, the
/// reason and the times. True if attempts are left, for the next change. One of
/// a batch fails with [`StoreError::InBatch`], and one that was forgotten
/// before, unless this goes on with it, with [`StoreError::NoDelivery`].
pub fn forget(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    number: IncrementId,
    goes_on: bool,
) -> Result<bool> {
    webhooks::find(tx, merchant, id)?;
    let (_, is_to_be_sent) = state_of(tx, id, number)?;
    let batch = batches::of(tx, id, number)?;
    if batch != Span::one(number) {
        return Err(StoreError::InBatch(batch));
    }
    if is_to_be_sent {
        cancel(tx, merchant, id, number, false)?;
    }
    let event: Option<i64> = tx
        .conn
        .prepare_cached(
            "UPDATE delivery SET event_id = -event_id WHERE webhook_id = ?1 AND increment_id = ?2 AND event_id > 0
                RETURNING -event_id",
        )?
        .query_row([id.0, number.0], |row| row.get(0))
        .optional()?;
    let (are_left, bytes) = forgetting::overwriting(tx, |tx| forget_attempts(tx, id, number))?;
    match event {
        Some(event) => forgetting::forget_event(tx, EventId(event))?,
        // What was begun and broken off is done now.
        None if goes_on || bytes > 0 => {}
        None => return Err(StoreError::NoDelivery),
    }
    tx.memory.logs.shrink(id, bytes.unsigned_abs());
    Ok(are_left)
}

/// Deletes some of the attempts at a delivery; whether more are left, and how
/// many bytes these were.
fn forget_attempts(tx: &Tx<'_>, id: WebhookId, number: IncrementId) -> Result<(bool, i64)> {
    let found = tx
        .conn
        .prepare_cached(
            "SELECT attempt_id,
                    octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body)
                FROM attempt WHERE webhook_id = ?1 AND increment_id = ?2 ORDER BY attempt LIMIT ?3",
        )?
        .query_map([id.0, number.0, FORGOTTEN_PER_CHANGE], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let mut are_left = found.len() as i64 == FORGOTTEN_PER_CHANGE;
    let mut bytes = 0;
    for (attempt_id, own) in found {
        if bytes >= FORGOTTEN_BYTES_PER_CHANGE {
            are_left = true;
            break;
        }
        tx.conn.prepare_cached("DELETE FROM attempt WHERE attempt_id = ?1")?.execute([attempt_id])?;
        bytes += own;
    }
    Ok((are_left, bytes))
}

/// The state of a delivery, and whether it is to be sent, for the first time
/// or again.
fn state_of(tx: &Tx<'_>, id: WebhookId, number: IncrementId) -> Result<(DeliveryState, bool)> {
    let (code, is_again) = tx
        .conn
        .prepare_cached(
            "SELECT state, next_attempt_at IS NOT NULL FROM delivery WHERE webhook_id = ?1 AND increment_id = ?2",
        )?
        .query_row(params![id.0, number.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or(StoreError::NoDelivery)?;
    let state = state_from_code(code).ok_or_else(|| StoreError::failed("damaged store: bad state"))?;
    Ok((state, is_again || state == DeliveryState::Pending))
}
