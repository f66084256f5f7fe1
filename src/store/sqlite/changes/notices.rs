//! Operational events: what the server has to say of a webhook, published to
//! its merchant like any other event. The first of a kind goes out at once;
//! those that follow within a minute gather, and go out as one.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::Result;
use super::fanout::{Fanout, SHARE, Spread};
use super::publishing::{Numbering, insert_event};
use crate::domain::event::{Message, NewEvent};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::topic::Topic;
use crate::store::StoreError;
use crate::store::sqlite::tx::Tx;

/// How long notices of a kind gather.
const GATHER_FOR: Duration = Duration::from_secs(60);
/// Notices published in a step.
const PER_STEP: i64 = 100;
/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The server disabled the webhook.
    WebhookDisabled,
    /// The first success after a disablement was lifted.
    WebhookRecovered,
    /// A delivery ended undelivered.
    DeliveryAbandoned,
}

impl Notice {
    const ALL: [Self; 3] = [Self::WebhookDisabled, Self::WebhookRecovered, Self::DeliveryAbandoned];

    /// The word behind `tallyhook:`.
    fn name(self) -> &'static str {
        match self {
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookRecovered => "webhook_recovered",
            Self::DeliveryAbandoned => "delivery_abandoned",
        }
    }
}

/// What gathered: how often, and the first and the last number it was about.
#[derive(Clone, Copy)]
struct Gathered {
    count: i64,
    first: IncrementId,
    last: IncrementId,
}

/// Says something of a webhook, for what happened to these of its numbers.
/// What happens to deliveries of such events is not told of.
pub fn raise(
    tx: &mut Tx<'_>,
    numbering: &mut Numbering<'_>,
    id: WebhookId,
    numbers: Span,
    notice: Notice,
) -> Result<()> {
    let told_of = count_told_of(tx, id, numbers)?;
    let count = match notice {
        _ if told_of == 0 => return Ok(()),
        Notice::WebhookDisabled | Notice::WebhookRecovered => 1,
        Notice::DeliveryAbandoned => told_of,
    };
    let Span { first, last } = numbers;
    let is_first: bool = tx
        .conn
        .prepare_cached(
            "INSERT INTO notice (webhook_id, kind, count, first_increment_id, last_increment_id, due_at)
                VALUES (?1, ?2, 0, ?3, ?4, ?5)
                ON CONFLICT DO UPDATE SET count = count + ?6, last_increment_id = max(last_increment_id, ?4),
                    first_increment_id = CASE count WHEN 0 THEN ?3 ELSE min(first_increment_id, ?3) END
                RETURNING count = 0",
        )?
        .query_row(params![id.0, notice.name(), first.0, last.0, tx.now.after(GATHER_FOR).0, count], |row| {
            row.get(0)
        })?;
    if !is_first {
        return Ok(());
    }
    if numbering.made() < SHARE {
        return publish(tx, numbering, id, notice, Gathered { count, first, last });
    }
    tx.conn
        .prepare_cached("UPDATE notice SET count = ?3, due_at = ?4 WHERE webhook_id = ?1 AND kind = ?2")?
        .execute(params![id.0, notice.name(), count, tx.now.0])?;
    tx.memory.wants_sweep = true;
    Ok(())
}

/// How many of the numbers are no operational events themselves.
fn count_told_of(tx: &Tx<'_>, id: WebhookId, numbers: Span) -> Result<i64> {
    let mut topics = tx.conn.prepare_cached(
        "SELECT e.topic FROM delivery d JOIN event e USING (event_id)
            WHERE d.webhook_id = ?1 AND d.increment_id BETWEEN ?2 AND ?3",
    )?;
    let mut found = topics.query(params![id.0, numbers.first.0, numbers.last.0])?;
    let mut count = 0;
    while let Some(row) = found.next()? {
        let topic = Topic::try_new(row.get_ref(0)?.as_str().map_err(StoreError::failed)?);
        count += i64::from(!topic.is_ok_and(|topic| topic.is_operational()));
    }
    Ok(count)
}

/// Publishes what has gathered long enough; true if that was all.
pub fn publish_gathered(tx: &mut Tx<'_>) -> Result<bool> {
    let mut numbering = Numbering::of(tx)?;
    let mut left = PER_STEP;
    let mut are_left = true;
    while left > 0 && numbering.made() < SHARE {
        let due = tx
            .conn
            .prepare_cached(
                "DELETE FROM notice WHERE (webhook_id, kind) =
                    (SELECT webhook_id, kind FROM notice WHERE due_at <= ?1 LIMIT 1)
                    RETURNING webhook_id, kind, count, first_increment_id, last_increment_id",
            )?
            .query_row([tx.now.0], |row| {
                let (first, last) = (IncrementId(row.get(3)?), IncrementId(row.get(4)?));
                Ok((WebhookId(row.get(0)?), row.get::<_, String>(1)?, Gathered { count: row.get(2)?, first, last }))
            })
            .optional()?;
        let Some((id, kind, gathered)) = due else {
            are_left = false;
            break;
        };
        left -= 1;
        if let Some(notice) = Notice::ALL.into_iter().find(|notice| notice.name() == kind)
            && gathered.count > 0
        {
            publish(tx, &mut numbering, id, notice, gathered)?;
            tx.conn
                .prepare_cached(
                    "INSERT INTO notice (webhook_id, kind, count, first_increment_id, last_increment_id, due_at)
                        VALUES (?1, ?2, 0, ?3, ?3, ?4)",
                )?
                .execute(params![id.0, kind, gathered.last.0, tx.now.after(GATHER_FOR).0])?;
        }
    }
    numbering.settle(tx);
    Ok(!are_left)
}

fn publish(
    tx: &mut Tx<'_>,
    numbering: &mut Numbering<'_>,
    id: WebhookId,
    notice: Notice,
    gathered: Gathered,
) -> Result<()> {
    let Some(webhook) = tx.memory.entry(id).filter(|entry| !entry.is_deleted) else { return Ok(()) };
    let merchant = webhook.webhook.merchant_id;
    let message = json!({
        "webhook_id": id.0,
        "count": gathered.count,
        "first_increment_id": gathered.first.0,
        "last_increment_id": gathered.last.0,
    });
    let broken = |_| StoreError::failed("an operational event breaks a rule of events");
    let event = NewEvent {
        topic: Topic::operational(notice.name()),
        message: Message::try_new(&message.to_string()).map_err(broken)?,
        created_at: tx.now,
        idempotency_key: None,
    };
    let event = insert_event(tx, merchant, event)?;
    numbering.accept(&event);
    let webhooks = tx.memory.matching(merchant, &event.topic);
    // What is left of it nobody waits for.
    Fanout::new(merchant, [Spread::new(event, None, webhooks)]).begin(tx, numbering)?;
    Ok(())
}
