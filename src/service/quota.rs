//! Whether a merchant may have more deliveries pending.

use std::time::Duration;

use super::caller::Caller;
use super::pending::Count;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::MerchantId;

/// When to try again what a quota is used up for.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Service {
    /// Fails with fault 130 if as many deliveries of the caller's merchant are pending as may be.
    pub(super) async fn check_pending(&self, caller: &Caller) -> Result<(), Fault> {
        let Some(max) = caller.merchant_terms.quotas.pending_deliveries else { return Ok(()) };
        let own = self.pending.of(caller.merchant());
        if !own.read().is_good(self.clock.elapsed(), max) {
            let mut tried = own.counting.lock().await;
            // Whoever has waited for another's count takes that.
            let (began, before) = (self.clock.elapsed(), own.read());
            if !before.is_good(began, max) {
                let counted = self.store.pending(caller.merchant(), std::mem::take(&mut tried)).await;
                let (pending, found_out) = counted.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
                *tried = found_out;
                let ended = self.clock.elapsed();
                let counted = Some((ended, ended.saturating_sub(began)));
                // What was numbered meanwhile may have been counted, or not.
                own.change(|Count { added, .. }| Count { pending: pending + (added - before.added), added, counted });
            }
        }
        let Count { pending, .. } = own.read();
        if pending < max.into() {
            return Ok(());
        }
        let detail = format!(
            "{pending} deliveries of the merchant are pending, of the {max} that its quota lets it have. Retry once some \
             have ended, or have an operator raise pending_deliveries."
        );
        Err(Fault::new(FaultCode::PendingQuota).detail(detail).retry_after(RETRY_AFTER))
    }

    /// Adds deliveries that were numbered.
    pub(super) fn count_pending(&self, caller: &Caller, deliveries: usize) {
        if caller.merchant_terms.quotas.pending_deliveries.is_some() {
            let more = deliveries as u64;
            let add = |count: Count| Count { pending: count.pending + more, added: count.added + more, ..count };
            self.pending.of(caller.merchant()).change(add);
        }
    }

    /// How many deliveries of a merchant are pending.
    pub(super) async fn pending_of(&self, merchant: MerchantId) -> Result<u64, Fault> {
        let own = self.pending.of(merchant);
        let mut tried = own.counting.lock().await;
        let counted = self.store.pending(merchant, std::mem::take(&mut tried)).await;
        let (pending, found_out) = counted.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        *tried = found_out;
        Ok(pending)
    }
}
