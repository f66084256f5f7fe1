//! Merchants for whom nothing is sent: their lanes keep what they know, and have no turns.

use std::collections::HashSet;

use super::Scheduler;
use crate::delivery::lane::Lane;
use crate::domain::id::MerchantId;

impl Scheduler {
    /// Sends nothing for a merchant from now on, or goes on; requests that are under way end.
    pub fn pause(&mut self, merchant: MerchantId, is_paused: bool) {
        self.paused.told.insert(merchant);
        self.set_paused(merchant, is_paused);
    }

    /// A look at the store begins, whose result is for [`Self::heed_paused`].
    pub fn begin_look(&mut self) {
        self.paused.told.clear();
    }

    /// Learns who is paused, but of those of whom it was told since the look began.
    pub fn heed_paused(&mut self, found: Vec<MerchantId>) {
        let found: HashSet<_> = found.into_iter().collect();
        let differ: Vec<_> = found.symmetric_difference(&self.paused.paused).copied().collect();
        for merchant in differ {
            if !self.paused.told.contains(&merchant) {
                self.set_paused(merchant, found.contains(&merchant));
            }
        }
    }

    fn set_paused(&mut self, merchant: MerchantId, is_paused: bool) {
        if !self.paused.note(merchant, is_paused) {
            return;
        }
        if is_paused {
            // What waits is read again; meanwhile others have the room.
            let own = self.lanes.iter().filter(|(_, lane)| lane.webhook.merchant_id == merchant);
            let own: Vec<_> = own.map(|(id, _)| *id).collect();
            own.into_iter().for_each(|id| self.with_lane(id, Lane::unload));
        }
        self.give_turn(merchant);
    }
}
