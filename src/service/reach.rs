//! Which webhooks a caller reaches.

use super::caller::Caller;
use super::webhook::about;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::{MerchantId, WebhookId};

impl Service {
    /// The merchant of one webhook that the caller looks at. Fails with fault 103 of one that is
    /// beyond its reach; whether there is such a webhook is for the look itself to tell.
    pub(super) async fn within(&self, caller: &Caller, id: WebhookId) -> Result<MerchantId, Fault> {
        if caller.confinement().is_some() {
            let found = self.store.webhook(caller.merchant(), id).await;
            let found = found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
            if !caller.reaches(&found) {
                return Err(about(id, FaultCode::NoWebhook.into()));
            }
        }
        Ok(caller.merchant())
    }
}
