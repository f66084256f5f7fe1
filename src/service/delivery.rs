//! Looking at deliveries.

use super::auth::Caller;
use super::webhook::about;
use super::{Failures, Service};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, DeliveryState};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::user::Permission;

/// How many deliveries a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

/// Which deliveries to list, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct DeliverySelection {
    /// Only numbers above this one.
    pub after_increment_id: Option<i64>,
    /// Only those in the state of this name.
    pub state: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Service {
    /// Deliveries of a webhook in the order of their numbers. Fails with fault
    /// 103 or 111.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        id: WebhookId,
        selection: DeliverySelection,
    ) -> Result<Vec<Delivery>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let filter =
            self.check_selection(selection).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.deliveries(caller.merchant_id, id, filter).await;
        found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// The attempts at a delivery in their order. Fails with fault 103 or 110.
    pub async fn list_attempts(
        &self,
        caller: &Caller,
        id: WebhookId,
        number: IncrementId,
    ) -> Result<Vec<Attempt>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.attempts(caller.merchant_id, id, number).await;
        found.map_err(|cause| {
            let fault = about(id, Failures::LOOK_UP.fault(cause));
            match fault.code {
                FaultCode::NoDelivery => fault.detail(format!("Webhook {id} has given out no number {number}.")),
                _ => fault,
            }
        })
    }

    fn check_selection(&self, selection: DeliverySelection) -> Result<DeliveryFilter, Violation> {
        let after = selection.after_increment_id.unwrap_or(0);
        if after < 0 {
            return Err(Violation::new("after_increment_id", format!("{after} is below 0; numbers start at 1.")));
        }
        let state = selection.state.map(|name| {
            DeliveryState::from_name(&name).ok_or_else(|| {
                let known = DeliveryState::ALL.map(DeliveryState::name).join(", ");
                Violation::new("state", format!("{name:?} is no state; there are {known}."))
            })
        });
        let max = self.config.list_limit_max;
        let limit = match selection.limit {
            None => LIST_LIMIT_DEFAULT.min(max),
            Some(limit) => u32::try_from(limit)
                .ok()
                .filter(|limit| (1..=max).contains(limit))
                .ok_or_else(|| Violation::new("limit", format!("{limit} is outside 1 to {max}.")))?,
        };
        Ok(DeliveryFilter { after: IncrementId(after), state: state.transpose()?, limit })
    }
}
