//! Merchants for whom nothing is sent.

use std::collections::HashSet;

use crate::domain::id::MerchantId;

/// Who is paused.
#[derive(Debug, Default)]
pub struct Pauses {
    /// These.
    pub paused: HashSet<MerchantId>,
    /// Those of whom it was told since a look at the store began, which may be older than that.
    pub told: HashSet<MerchantId>,
}

impl Pauses {
    /// True if nothing is sent for the merchant.
    pub fn has(&self, merchant: MerchantId) -> bool {
        !self.paused.is_empty() && self.paused.contains(&merchant)
    }

    /// Notes that a merchant is paused, or is not; true if that is new.
    pub fn note(&mut self, merchant: MerchantId, is_paused: bool) -> bool {
        match is_paused {
            true => self.paused.insert(merchant),
            false => self.paused.remove(&merchant),
        }
    }
}
