//! What is known of users.

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::fault::Fault;
use crate::domain::id::UserId;
use crate::domain::user::{Permission, Profile};

impl Service {
    /// The profiles of the merchant's users that have one.
    pub async fn profiles(&self, caller: &Caller) -> Result<Vec<(UserId, Profile)>, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.store.profiles(caller.merchant_id).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }
}
