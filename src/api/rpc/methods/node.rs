//! node.*

use super::NoParams;
use crate::api::rpc::method::{Method, Request};
use crate::api::rpc::wire::ClusterItem;
use crate::domain::fault::Fault;
use crate::domain::user::Permission;
use crate::service::caller::Caller;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session("node.list", "Lists the servers that share the store, and says how they are doing.", list)
            .needs(&[Permission::Admin]),
    ]
}

async fn list(request: Request, caller: Caller, _: NoParams) -> Result<ClusterItem, Fault> {
    request.service.nodes(&caller).await.map(ClusterItem::from)
}
