//! Connections that read, and what each engine says in its own way.

use super::db::Db;
use super::steps::Step;
use crate::domain::cluster::Cluster;
use crate::domain::id::{EventId, IncrementId, WebhookId};
use crate::domain::node::{Bucket, NodeId};
use crate::domain::time::Timestamp;
use crate::store::deliveries::Pulled;
use crate::store::error::StoreError;
use crate::store::glance::Glimpse;
use crate::store::outbox::{Page, PageLimit, Want};

type Result<T> = std::result::Result<T, StoreError>;

/// A connection on which what is read is said in an engine's own way, since many
/// events a second go that way, or since no other has the words.
pub trait Conn: Db {
    /// A page of what is wanted of a webhook, as it is at `now`.
    fn page(&mut self, id: WebhookId, want: Want, now: Timestamp, limit: PageLimit) -> Result<Page>;

    /// When the first delivery that is to be tried or sent again, and is not due
    /// at that time, falls due.
    fn next_due(&mut self, id: WebhookId, at: Timestamp) -> Result<Option<Timestamp>>;

    /// A webhook's numbers above `after` in their order, whatever their state.
    fn pull(&mut self, id: WebhookId, after: IncrementId, limit: PageLimit) -> Result<Vec<Pulled>>;

    /// How webhooks stand, in the order of their ids: some of those behind `after`, of
    /// the merchants of these buckets, or of all.
    fn glimpses(
        &mut self,
        after: Option<WebhookId>,
        buckets: Option<&[Bucket]>,
    ) -> Result<Step<Vec<Glimpse>, WebhookId>>;

    /// The last event that was accepted, stored or not any more; 0: none.
    fn last_event(&mut self) -> Result<EventId>;

    /// What the store takes up on disk, in bytes.
    fn store_bytes(&mut self) -> Result<u64>;

    /// The nodes that share the store, as `own` sees them; `None`: the engine lets one
    /// server alone have it.
    fn nodes(&mut self, _own: Option<NodeId>) -> Result<Option<Cluster>> {
        Ok(None)
    }
}

/// What makes an engine's connections that read.
pub trait Manager: r2d2::ManageConnection {
    /// A look-up by key waits for nothing but memory, as a rule, so it may run on
    /// the thread that asks.
    const IS_NEAR: bool;

    /// Has something looked up.
    fn with<T>(conn: &mut Self::Connection, look: impl FnOnce(&mut dyn Conn) -> T) -> T;

    /// Closes a connection that nobody uses any more, if it matters when that
    /// happens.
    fn close(conn: &mut Self::Connection);
}
