//! A whole store, looked through for whoever watches the server.
//!
//! No index says which deliveries are pending, and none is worth what it would cost each
//! of them. But there are two kinds: those that are to be sent again have an index, and
//! those that were never tried lie behind one number, which only moves up. So a look
//! counts the former, and reads a page of the latter; beyond that page numbers count
//! without being read.

use async_trait::async_trait;

use super::codes::named;
use super::conn::Conn;
use super::db::{Db, Row, Value, all, one, values};
use super::steps::Step;
use super::store::{Backend, SqlStore};
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::page::{Order, Slice};
use crate::domain::survey::{Backlog, Doing, Survey};
use crate::domain::time::Timestamp;
use crate::domain::webhook::DisabledReason;
use crate::store::error::StoreError;
use crate::store::surveyed::{Surveyed, Tried};
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// Webhooks that a step reads.
const WEBHOOKS_PER_STEP: u32 = 250;
/// Numbers of a webhook that a step reads.
const NUMBERS_PER_STEP: u32 = 1_000;
/// Deliveries of a webhook that are counted as to be sent again.
const AGAIN_MAX: u32 = 10_000;
/// Sessions that are counted.
const SESSIONS_MAX: u32 = 100_000;
/// Further steps that a look may take to find what was never tried, of all webhooks
/// together.
const FURTHER_STEPS_MAX: usize = 500;

/// All webhooks by their ids.
const ALL: Slice<WebhookId> = Slice { after: None, order: Order::Ascending, limit: u32::MAX };

#[async_trait]
impl<B: Backend> Surveyed for SqlStore<B> {
    async fn survey(&self, tried: Tried) -> Result<(Survey, Tried)> {
        let (at, tending) = (self.clock.now(), self.mailbox.tending());
        let (own, leases_held) = (tending.node(), tending.leases().map(|held| held.len()));
        let (sessions, store_bytes, cluster) = self
            .readers
            .read(Account::Server, move |conn| Ok((sessions(conn, at)?, conn.store_bytes()?, conn.nodes(own)?)))
            .await?;
        let read = |conn: &mut dyn Conn, part: &Slice<WebhookId>| places(conn, None, part.after);
        let mut all: Vec<Place> = self.readers.in_steps(Account::Server, ALL, read).await?;
        all.retain(|place| tending.has(place.merchant_id));
        let (webhooks, still_tried) = self.look_at(Account::Server, all, &tried, at).await?;
        let survey = Survey { at, webhooks, sessions, store_bytes, cluster, leases_held };
        Ok((survey, still_tried))
    }

    async fn pending(&self, merchant: MerchantId, tried: Tried) -> Result<(u64, Tried)> {
        let read = move |conn: &mut dyn Conn, part: &Slice<WebhookId>| places(conn, Some(merchant), part.after);
        let all: Vec<Place> = self.readers.in_steps(merchant, ALL, read).await?;
        let (webhooks, still_tried) = self.look_at(merchant.into(), all, &tried, self.clock.now()).await?;
        Ok((webhooks.iter().map(|webhook| webhook.pending).sum(), still_tried))
    }
}

impl<B: Backend> SqlStore<B> {
    /// What webhooks have waiting, and up to which numbers all have been tried.
    async fn look_at(
        &self,
        asker: Account,
        all: Vec<Place>,
        tried: &Tried,
        at: Timestamp,
    ) -> Result<(Vec<Backlog>, Tried)> {
        let (mut webhooks, mut still_tried, mut further) = (Vec::new(), Tried::new(), FURTHER_STEPS_MAX);
        for place in all {
            let (known, id) = (tried.get(&place.webhook_id).copied().unwrap_or(IncrementId::ZERO), place.webhook_id);
            let (backlog, through) = self.look(asker, place, known, at, &mut further).await?;
            webhooks.push(backlog);
            if through > place.settled_through {
                still_tried.insert(id, through);
            }
        }
        Ok((webhooks, still_tried))
    }

    /// What a webhook has waiting, and up to which number all have been tried.
    async fn look(
        &self,
        asker: Account,
        place: Place,
        tried: IncrementId,
        now: Timestamp,
        further: &mut usize,
    ) -> Result<(Backlog, IncrementId)> {
        let Place { webhook_id: id, doing, last, settled_through, is_any_again, .. } = place;
        let mut backlog = Backlog { webhook_id: id, doing, pending: 0, due_since: None };
        if is_any_again {
            let again = self.readers.read(asker, move |conn| again(conn, id)).await?;
            backlog.pending += again.count;
            backlog.due_since = again.first.filter(|due_at| *due_at <= now);
        }
        let mut through = tried.max(settled_through);
        while through < last {
            let untried = self.readers.read(asker, move |conn| untried(conn, id, through)).await?;
            let Some(read_through) = untried.read_through else { break };
            let behind = last.0.saturating_sub(read_through.0).max(0).unsigned_abs();
            if let Some((number, numbered_at)) = untried.first {
                backlog.pending += untried.count + behind;
                backlog.due_since = Some(backlog.due_since.map_or(numbered_at, |due| due.min(numbered_at)));
                return Ok((backlog, IncrementId(number.0 - 1)));
            }
            through = read_through;
            if behind > 0 && *further == 0 {
                backlog.pending += behind;
                break;
            }
            *further = further.saturating_sub(1);
        }
        Ok((backlog, through))
    }
}

/// How far a webhook is.
#[derive(Clone, Copy)]
struct Place {
    webhook_id: WebhookId,
    merchant_id: MerchantId,
    doing: Doing,
    last: IncrementId,
    settled_through: IncrementId,
    /// Something of it is to be sent again.
    is_any_again: bool,
}

/// How far webhooks are, of one merchant or of all, those of one step.
fn places(
    db: &mut dyn Db,
    merchant: Option<MerchantId>,
    after: Option<WebhookId>,
) -> Result<Step<Vec<Place>, WebhookId>> {
    let of_one = if merchant.is_some() { "AND w.merchant_id = $3" } else { "" };
    let sql = format!(
        "SELECT w.webhook_id, w.merchant_id, w.last_increment_id, w.settled_through, w.is_active, w.is_paused,
            w.disabled_reason, w.consecutive_failures, w.url IS NULL,
            EXISTS (SELECT 1 FROM delivery d WHERE d.webhook_id = w.webhook_id AND d.next_attempt_at IS NOT NULL)
        FROM {} w WHERE w.deleted_at IS NULL AND w.webhook_id > $1 {of_one} ORDER BY w.webhook_id LIMIT $2",
        db.dialect().webhooks()
    );
    let mut values = values![after.map_or(0, |after| after.0), WEBHOOKS_PER_STEP].to_vec();
    values.extend(merchant.map(|merchant| Value::from(merchant.0)));
    let found = all(db, &sql, &values, place)?;
    let next = found.last().map(|last| last.webhook_id).filter(|_| found.len() == WEBHOOKS_PER_STEP as usize);
    Ok(Step { found, next })
}

fn place(row: &dyn Row) -> Result<Place> {
    let disabled = named(row, 6, DisabledReason::from_name)?;
    Ok(Place {
        webhook_id: WebhookId(row.int(0)?),
        merchant_id: MerchantId(row.int(1)?),
        doing: Doing::of([row.flag(4)?, row.flag(5)?, row.flag(8)?], disabled, row.count(7)?),
        last: IncrementId(row.int(2)?),
        settled_through: IncrementId(row.int(3)?),
        is_any_again: row.flag(9)?,
    })
}

/// What of a webhook is to be sent again.
struct Again {
    /// How many there are, up to [`AGAIN_MAX`].
    count: u64,
    /// When the first of them falls due, or did.
    first: Option<Timestamp>,
}

fn again(db: &mut dyn Db, id: WebhookId) -> Result<Again> {
    let sql = format!(
        "SELECT count(*), min(next_attempt_at) FROM (SELECT next_attempt_at FROM delivery {}
            WHERE webhook_id = $1 AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT $2) AS again",
        db.dialect().by_index("delivery_due")
    );
    let read = |row: &dyn Row| Ok(Again { count: row.amount(0)?, first: row.time_if(1)? });
    Ok(one(db, &sql, values![id.0, AGAIN_MAX], read)?.unwrap_or(Again { count: 0, first: None }))
}

/// What of some numbers of a webhook was never tried.
struct Untried {
    /// How many.
    count: u64,
    /// The first, and when it was numbered.
    first: Option<(IncrementId, Timestamp)>,
    /// The last number that was looked at, if there are any.
    read_through: Option<IncrementId>,
}

/// Looks at the numbers of a step, those behind one.
fn untried(db: &mut dyn Db, id: WebhookId, after: IncrementId) -> Result<Untried> {
    let sql = "SELECT count(CASE WHEN is_untried THEN 1 END), min(CASE WHEN is_untried THEN increment_id END),
            min(CASE WHEN is_untried THEN created_at END), max(increment_id)
        FROM (SELECT increment_id, created_at, state = 0 AND next_attempt_at IS NULL AS is_untried FROM delivery
            WHERE webhook_id = $1 AND increment_id > $2 ORDER BY increment_id LIMIT $3) AS numbers";
    let read = |row: &dyn Row| {
        let first = row.int_if(1)?.map(IncrementId).zip(row.time_if(2)?);
        Ok(Untried { count: row.amount(0)?, first, read_through: row.int_if(3)?.map(IncrementId) })
    };
    let found = one(db, sql, values![id.0, after.0, NUMBERS_PER_STEP], read)?;
    found.ok_or_else(|| StoreError::failed("a count has a row"))
}

/// Sessions that have not expired, as far as they are counted.
fn sessions(db: &mut dyn Db, now: Timestamp) -> Result<u64> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM session WHERE expires_at > $1 LIMIT $2) AS present";
    Ok(one(db, sql, values![now, SESSIONS_MAX], |row| row.amount(0))?.unwrap_or(0))
}
