//! Reading a bounded part of what there is, for lanes and for who pulls.

use std::sync::Arc;

use super::{DeliveryRow, EventRow, Memory};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::{Content, DueKey, Page, PageLimit, Parcel, Pulled, StoreError};

type Result<T> = std::result::Result<T, StoreError>;

impl Memory {
    fn parcel(&self, number: IncrementId, row: &DeliveryRow) -> Option<Parcel> {
        let EventRow { event, .. } = self.event_of(row)?;
        let Standing { attempts, policy_start, resends_asked, next_attempt_at, .. } = row.standing;
        Some(Parcel {
            increment_id: number,
            attempts,
            policy_start,
            resends_asked,
            numbered_at: row.created_at,
            due_at: next_attempt_at,
            format: row.format,
            event: Arc::clone(event),
            expansion: row.expansion.clone(),
            batch: None,
        })
    }

    fn parcel_with_batch(&self, id: WebhookId, number: IncrementId, row: &DeliveryRow) -> Option<Parcel> {
        let parcel = self.parcel(number, row)?;
        let Some(batch) = row.standing.batch else { return Some(parcel) };
        let others = self.deliveries_of(id, number.next(), batch.last);
        let others = others.map(|(number, row)| self.parcel(number, row).map(Content::from));
        Some(Parcel { batch: Some(others.collect::<Option<_>>()?), ..parcel })
    }

    fn page<'a>(
        &self,
        id: WebhookId,
        rows: impl Iterator<Item = (IncrementId, &'a DeliveryRow)>,
        limit: PageLimit,
    ) -> Result<Page> {
        let (mut parcels, mut bytes) = (Vec::new(), 0);
        for (number, row) in rows {
            let parcel = self.parcel_with_batch(id, number, row);
            let parcel = parcel.ok_or_else(|| StoreError::failed("what is to be sent was pruned"))?;
            bytes += parcel.weight();
            if !parcels.is_empty() && (parcels.len() >= limit.count || bytes > limit.bytes) {
                return Ok(Page { parcels, is_last: false });
            }
            parcels.push(parcel);
        }
        Ok(Page { parcels, is_last: true })
    }

    fn behind(&self, id: WebhookId, after: IncrementId) -> impl Iterator<Item = (IncrementId, &DeliveryRow)> {
        self.deliveries_of(id, after.next(), IncrementId(i64::MAX))
    }

    /// Never tried, by number.
    pub fn fresh(&self, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Page> {
        self.page(id, self.behind(id, after).filter(|(_, row)| row.standing.is_fresh()), limit)
    }

    /// All that is to be sent, by number.
    pub fn pending(&self, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Page> {
        let settled = self.tables.hooks.get(&id).map_or(IncrementId::ZERO, |hook| hook.counters.settled_through);
        let is_meant = |number: IncrementId, standing: Standing| {
            (number > settled && standing.is_pending()) || standing.next_attempt_at.is_some()
        };
        let rows =
            self.behind(id, after).filter(|(number, row)| is_meant(*number, row.standing) && is_head(*number, row));
        self.page(id, rows, limit)
    }

    /// What is due by `now`, in the order of falling due.
    pub fn due(&self, id: WebhookId, after: DueKey, now: Timestamp, limit: PageLimit) -> Result<Page> {
        let key = |(increment_id, row): &(IncrementId, &DeliveryRow)| {
            let due_at = row.standing.next_attempt_at.filter(|at| *at <= now)?;
            Some(DueKey { due_at, increment_id: *increment_id })
        };
        let heads = self.behind(id, IncrementId::ZERO).filter(|(number, row)| is_head(*number, row));
        let mut rows: Vec<_> = heads.filter(|row| key(row).is_some_and(|key| key > after)).collect();
        rows.sort_by_key(key);
        self.page(id, rows.into_iter(), limit)
    }

    /// That one with its batch, if it is to be sent.
    pub fn one(&self, id: WebhookId, number: IncrementId, limit: PageLimit) -> Result<Page> {
        let batch = self.tables.deliveries.get(&(id, number)).and_then(|row| row.standing.batch);
        let Span { first, .. } = batch.unwrap_or(Span::one(number));
        let rows = self.deliveries_of(id, first, first).filter(|(_, row)| row.standing.is_to_be_sent());
        self.page(id, rows, limit)
    }

    /// When the next one falls due.
    pub fn next_due(&self, id: WebhookId, now: Timestamp) -> Option<Timestamp> {
        self.behind(id, IncrementId::ZERO)
            .filter_map(|(_, row)| row.standing.next_attempt_at)
            .filter(|at| *at > now)
            .min()
    }

    /// All numbers, for who pulls.
    pub fn pull(&self, id: WebhookId, after: IncrementId, count: usize) -> Vec<Pulled> {
        let one = |(number, row): (IncrementId, &DeliveryRow)| Pulled {
            increment_id: number,
            parcel: self.parcel(number, row),
            state: row.standing.state,
        };
        self.behind(id, after).take(count).map(one).collect()
    }
}

/// Whether it does not go out with another.
fn is_head(number: IncrementId, row: &DeliveryRow) -> bool {
    row.standing.batch.is_none_or(|batch| batch.first == number)
}
