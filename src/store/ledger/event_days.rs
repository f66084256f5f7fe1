//! How many events merchants publish in a day, of those who may publish so many.
//!
//! A row for each event would have a merchant's row written with every publish. So a server takes
//! a part of the quota ahead, which is a row once, and counts what is published against that by
//! heart. What it has taken and not used is lost if it dies: fewer can be published then, and
//! never more. A small quota is counted one by one.

use std::collections::HashMap;

use crate::domain::id::MerchantId;
use crate::domain::merchant::EventDay;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

/// At once a server takes this part of a quota.
const PARTS: u32 = 100;

/// A day of a merchant, and what this server has of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnDay {
    /// As the store has it.
    pub stored: EventDay,
    /// How many of those this server has taken and not published yet.
    pub left: u32,
}

/// Those that are known.
#[derive(Default)]
pub struct EventDays(HashMap<MerchantId, OwnDay>);

impl EventDays {
    /// As a store has them: nothing of them is this server's.
    pub fn of(stored: Vec<(MerchantId, EventDay)>) -> Self {
        Self(stored.into_iter().map(|(merchant, stored)| (merchant, OwnDay { stored, left: 0 })).collect())
    }

    /// That of a merchant.
    pub fn get(&self, merchant: MerchantId) -> OwnDay {
        self.0.get(&merchant).copied().unwrap_or_default()
    }

    /// Notes what was decided.
    pub fn put(&mut self, merchant: MerchantId, day: OwnDay) {
        self.0.insert(merchant, day);
    }

    /// Notes how the store has it, where others count, too; what this server has of the same day
    /// stays so.
    pub fn hear(&mut self, merchant: MerchantId, stored: EventDay) {
        let own = self.0.entry(merchant).or_default();
        let left = if own.stored.day == stored.day { own.left } else { 0 };
        *own = OwnDay { stored, left };
    }
}

impl OwnDay {
    /// The day with so many events more, and whether the store is to know of it. Fails with
    /// [`StoreError::EventQuota`] if they are more than may be today.
    pub fn with(self, events: usize, quota: u32, now: Timestamp) -> Result<(Self, bool), StoreError> {
        let today = self.stored.at(now);
        let left = if today.day == self.stored.day { self.left } else { 0 };
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        if let Some(left) = left.checked_sub(events) {
            return Ok((Self { stored: today, left }, false));
        }
        let (wanted, remaining) = (events - left, quota.saturating_sub(today.events));
        if wanted > remaining {
            let used = today.events - left.min(today.events);
            return Err(StoreError::EventQuota { used, max: quota, ends_at: today.end() });
        }
        let taken = wanted.max((quota / PARTS).min(remaining));
        let stored = EventDay { events: today.events + taken, ..today };
        Ok((Self { stored, left: taken - wanted }, true))
    }
}
