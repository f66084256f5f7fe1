//! What is not written with every commit: a row that changes with each would leave
//! a dead version of itself each time, and where somebody looks at the database as
//! it was an hour ago, none of those can be cleared away.
//!
//! How a webhook is doing is written when its meaning changes, else once in a
//! while. What is lost of it by a crash is found again: the numbers that have ended
//! are counted anew from where they were, and failures by those that follow.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::node::Bucket;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::logs::LogRow;

/// How long what is known may be ahead of what is written.
const INTERVAL: Duration = Duration::from_secs(1);
/// Webhooks of which that is written at once, at the most.
const AT_ONCE: usize = 500;

/// What is yet to be written.
#[derive(Default)]
pub struct Lazily {
    /// As each was written last, and whose it is.
    written: HashMap<WebhookId, (MerchantId, Counters)>,
    counters: HashMap<WebhookId, (MerchantId, Counters)>,
    logs: HashMap<WebhookId, LogRow>,
    /// Since when something waits.
    since: Option<Instant>,
}

/// What has waited long enough.
#[derive(Default)]
pub struct Due {
    /// How webhooks are doing.
    pub counters: Vec<(WebhookId, Counters)>,
    /// How large logs are.
    pub logs: Vec<(WebhookId, Option<LogRow>)>,
}

impl Lazily {
    /// Takes what has changed; returns what is to be written now.
    pub fn counters(
        &mut self,
        changed: Vec<(MerchantId, WebhookId, Counters)>,
        sends: impl Fn(MerchantId) -> bool,
    ) -> Vec<(WebhookId, Counters)> {
        let mut now = Vec::new();
        for (merchant, id, counters) in changed {
            if !sends(merchant) {
                // Whoever does reads it, and goes on from there.
                self.forget(id);
                now.push((id, counters));
            } else if self.has_other_meaning(id, &counters) {
                self.counters.remove(&id);
                self.written.insert(id, (merchant, counters));
                now.push((id, counters));
            } else if counters.is_but_for_last(self.written.get(&id).map(|(_, counters)| counters)) {
                self.counters.remove(&id);
            } else {
                self.counters.insert(id, (merchant, counters));
                self.since.get_or_insert_with(Instant::now);
            }
        }
        now
    }

    /// Forgets a webhook that is gone.
    pub fn forget(&mut self, id: WebhookId) {
        self.written.remove(&id);
        self.counters.remove(&id);
    }

    /// Forgets the webhooks of these buckets, for others write them from now on.
    pub fn forget_all(&mut self, buckets: &[Bucket]) {
        let gone = |merchant: MerchantId| buckets.contains(&Bucket::of(merchant));
        let of_webhooks: Vec<_> =
            self.written.iter().filter(|(_, (merchant, _))| gone(*merchant)).map(|(id, _)| *id).collect();
        for id in of_webhooks {
            self.forget(id);
            self.logs.remove(&id);
        }
    }

    fn has_other_meaning(&self, id: WebhookId, counters: &Counters) -> bool {
        self.written.get(&id).is_none_or(|(_, before)| {
            before.acknowledged_through != counters.acknowledged_through
                || before.pulled_through != counters.pulled_through
                || before.failing_since != counters.failing_since
                || before.pause != counters.pause
        })
    }

    /// Whose webhooks have waited long enough.
    pub fn due(&self) -> Vec<MerchantId> {
        if self.wait().is_none_or(|wait| !wait.is_zero()) {
            return Vec::new();
        }
        let mut merchants: Vec<_> = self.counters.values().take(AT_ONCE).map(|(merchant, _)| *merchant).collect();
        merchants.sort_unstable();
        merchants.dedup();
        merchants
    }

    /// How long what waits may wait; `None` if nothing does.
    pub fn wait(&self) -> Option<Duration> {
        self.since.map(|since| INTERVAL.saturating_sub(since.elapsed()))
    }

    /// Takes what has waited long enough, of webhooks whose merchant is held.
    pub fn take(&mut self, is_held: impl Fn(MerchantId) -> bool) -> Due {
        if self.wait().is_none_or(|wait| !wait.is_zero()) {
            return Due::default();
        }
        let mut taken = Vec::new();
        self.counters.retain(|id, (merchant, counters)| {
            let is_taken = taken.len() < AT_ONCE && is_held(*merchant);
            if is_taken {
                taken.push((*id, *counters));
                self.written.insert(*id, (*merchant, *counters));
            }
            !is_taken
        });
        self.since = (!self.counters.is_empty()).then(Instant::now);
        Due { counters: taken, logs: self.logs.drain().map(|(id, log)| (id, Some(log))).collect() }
    }

    /// Takes how large logs are; returns what is to be written now.
    pub fn logs(&mut self, changed: Vec<(WebhookId, Option<LogRow>)>) -> Vec<(WebhookId, Option<LogRow>)> {
        let mut gone = Vec::new();
        for (id, log) in changed {
            match log {
                Some(log) => {
                    self.logs.insert(id, log);
                    self.since.get_or_insert_with(Instant::now);
                }
                None => {
                    self.logs.remove(&id);
                    gone.push((id, None));
                }
            }
        }
        gone
    }
}
