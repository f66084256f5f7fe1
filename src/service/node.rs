//! The servers that share the store. Who keeps the topics and users of one merchant
//! may see them too: their names, versions and counts, which tell of no other.

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::cluster::Cluster;
use crate::domain::fault::Fault;
use crate::domain::user::Permission;

impl Service {
    /// The nodes that share the store, and how they are doing together.
    pub async fn nodes(&self, caller: &Caller) -> Result<Cluster, Fault> {
        caller.check(Permission::Admin)?;
        let found = self.store.nodes(caller.merchant().into()).await;
        let found = found.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let of_one = || Cluster::of_one(self.config.node_name.clone(), env!("CARGO_PKG_VERSION"), self.started_at);
        Ok(found.unwrap_or_else(of_one))
    }
}
