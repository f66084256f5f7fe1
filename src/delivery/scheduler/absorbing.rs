//! What the store has committed, as the lanes learn of it.

use super::Scheduler;
use crate::delivery::lane::Lane;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::node::Bucket;
use crate::store::Parcel;
use crate::store::mailbox::News;
use crate::work::may_take;

/// The most bytes of tests that wait to be sent.
const TESTS_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Scheduler {
    /// Takes in what the store has committed.
    pub fn absorb(&mut self, news: News) {
        if let Some(present) = news.present {
            let gone: Vec<_> = self.ids.iter().filter(|id| !present.contains(id)).copied().collect();
            gone.into_iter().for_each(|id| self.remove(id));
        }
        if !news.lost.is_empty() {
            let is_lost = |lane: &Lane| news.lost.contains(&Bucket::of(lane.webhook.merchant_id));
            let lost: Vec<_> = self.lanes.iter().filter(|(_, lane)| is_lost(lane)).map(|(id, _)| *id).collect();
            lost.into_iter().for_each(|id| self.remove(id));
        }
        for (merchant, is_paused) in news.paused {
            self.pause(merchant, is_paused);
        }
        for (id, webhook) in news.changed {
            match webhook {
                Some(webhook) => self.put_webhook(id, webhook),
                None => self.remove(id),
            }
        }
        for (id, parcel) in news.parcels {
            let takes =
                |lane: &Lane| !self.paused.has(lane.webhook.merchant_id) && self.may_load(lane, parcel.weight());
            let has_room = self.lanes.get(&id).is_some_and(takes);
            self.with_lane(id, |lane| match has_room {
                true => lane.offer(parcel),
                false => lane.commit_through(parcel.increment_id),
            });
        }
        for (id, through) in news.committed_through {
            self.with_lane(id, |lane| lane.commit_through(through));
        }
        for (id, parcel) in news.tests {
            self.absorb_test(id, parcel);
        }
        for (id, from) in news.reread {
            self.reread_tests(id, from);
            self.with_lane(id, |lane| lane.reread(from));
        }
        for (id, number) in news.now {
            self.with_lane(id, |lane| lane.send_now(number));
        }
    }

    /// Puts a test in line. If its merchant has too many there, it is sent in
    /// its turn.
    fn absorb_test(&mut self, id: WebhookId, parcel: Parcel) {
        let Some(merchant) = self.lanes.get(&id).map(|lane| lane.webhook.merchant_id) else { return };
        let Some(tenant) = self.tenants.get_mut(&merchant) else { return };
        let weight = parcel.weight();
        if !may_take(weight, tenant.tests_bytes, self.tests_bytes, TESTS_BYTES_MAX) {
            return self.with_lane(id, |lane| {
                lane.commit_through(parcel.increment_id);
                lane.reread(parcel.increment_id);
            });
        }
        tenant.tests_bytes += weight;
        self.tests_bytes += weight;
        tenant.tests.push_back((id, parcel));
        self.give_turn(merchant);
    }

    /// Takes a webhook's tests from that number on out of the line: they may be
    /// cancelled. Those that are still to be sent are read from the store.
    fn reread_tests(&mut self, id: WebhookId, from: IncrementId) {
        let Some(merchant) = self.lanes.get(&id).map(|lane| lane.webhook.merchant_id) else { return };
        let Some(tenant) = self.tenants.get_mut(&merchant) else { return };
        for parcel in tenant.take_tests(id, from) {
            self.tests_bytes -= parcel.weight();
            self.with_lane(id, |lane| {
                lane.commit_through(parcel.increment_id);
                lane.send_now(parcel.increment_id);
            });
        }
    }
}
