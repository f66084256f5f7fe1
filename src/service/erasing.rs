//! Erasing events: what somebody has a right to have forgotten.

use super::caller::Caller;
use super::delivery::CHANGE;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::EventId;
use crate::domain::user::Permission;
use crate::store::StoreError;
use crate::store::events::OfEvent;

/// The most deliveries that one call erases; each is a change of its own.
const DELIVERIES_PER_CALL_MAX: u64 = 500;
/// How many of them are looked up at once.
const LOOKED_UP_AT_ONCE: u32 = 100;

impl Service {
    /// Erases an event with all that was sent and got for it. Pending deliveries end; all keep
    /// their numbers. Says how many deliveries it has erased, and whether nothing is left: of more
    /// than one call erases, the rest is for the next. It may be asked again. Fails with fault
    /// 113 if something of it goes out with others, or with fault 114.
    pub async fn erase_event(&self, caller: &Caller, id: EventId) -> Result<(u64, bool), Fault> {
        caller.check(Permission::Admin)?;
        let missing = || Fault::new(FaultCode::NoEvent).detail(format!("There is no event {id}, or no more."));
        if id.0 < 1 {
            return Err(missing());
        }
        let is_there = match self.store.event(caller.everywhere()?, id, 0).await {
            Ok(_) => true,
            Err(StoreError::NoEvent) => false,
            Err(cause) => return Err(Failures::LOOK_UP.fault(cause)),
        };
        let (mut after, mut erased) = (None, 0);
        loop {
            let some = self.store.deliveries_of(caller.everywhere()?, id, after, LOOKED_UP_AT_ONCE).await;
            let some = some.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
            let Some(last) = some.last().copied() else { break };
            for which in some {
                if erased == DELIVERIES_PER_CALL_MAX {
                    return Ok((erased, false));
                }
                let did = self.store.erase_delivery(caller.by()?, which).await;
                erased += match did {
                    Ok(did) => u64::from(did),
                    // It has gone meanwhile, and all of it.
                    Err(StoreError::NoDelivery) => 0,
                    Err(cause) => return Err(refused(which, cause)),
                };
            }
            after = Some(last);
        }
        match (is_there, after) {
            (false, None) => Err(missing()),
            (false, Some(_)) => Ok((erased, true)),
            (true, _) => {
                let is_done = self.store.erase_event(caller.by()?, id).await.map_err(|cause| CHANGE.fault(cause))?;
                Ok((erased, is_done))
            }
        }
    }
}

/// Names the delivery that can't be erased yet, and what to do about it.
fn refused(OfEvent { webhook_id, number, .. }: OfEvent, cause: StoreError) -> Fault {
    match cause {
        StoreError::InBatch(batch) => Fault::new(FaultCode::DeliveryNotChanged).detail(format!(
            "Number {number} of webhook {webhook_id} goes out in one request with {batch}, which has not ended. \
             Cancel them by delivery.cancel with whole_batch 1, or ask again once they have ended."
        )),
        cause => CHANGE.fault(cause),
    }
}
