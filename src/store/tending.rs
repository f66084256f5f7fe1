//! For whom this node sends.
//!
//! Where a store is shared, a merchant's deliveries are sent by the node that holds
//! the lease of his bucket, and only as long as that node is sure that nobody else
//! can have taken it over. Whoever keeps the leases writes it down here; the
//! delivery worker goes by it. Where nobody shares the store, it is for everybody.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::domain::id::MerchantId;
use crate::domain::node::{BUCKETS, Bucket, NodeId};

/// For whom this node sends.
#[derive(Debug)]
pub struct Tending(Option<Leases>);

#[derive(Debug)]
struct Leases {
    /// Which node it is; 0: none yet.
    node: AtomicI64,
    /// The epochs of those that are held; 0: it is not.
    epochs: [AtomicI64; BUCKETS],
    /// Requests under way.
    in_flight: [AtomicU32; BUCKETS],
    began: Instant,
    /// So long after it began the leases can be relied on, in milliseconds.
    until: AtomicU64,
}

impl Default for Tending {
    /// For everybody, for ever.
    fn default() -> Self {
        Self(None)
    }
}

impl Tending {
    /// For those whose leases are held; none is yet.
    pub fn by_leases() -> Self {
        Self(Some(Leases {
            node: AtomicI64::new(0),
            epochs: std::array::from_fn(|_| AtomicI64::new(0)),
            in_flight: std::array::from_fn(|_| AtomicU32::new(0)),
            began: Instant::now(),
            until: AtomicU64::new(0),
        }))
    }

    /// Says which node this is, from now on.
    pub fn set_node(&self, node: NodeId) {
        if let Some(leases) = &self.0 {
            leases.node.store(node.0, Ordering::Release);
        }
    }

    /// Which node this is; `None`: there are no others.
    pub fn node(&self) -> Option<NodeId> {
        let node = self.0.as_ref()?.node.load(Ordering::Acquire);
        (node > 0).then_some(NodeId(node))
    }

    /// True if this node is to send what is the merchant's.
    pub fn has(&self, merchant: MerchantId) -> bool {
        self.0.as_ref().is_none_or(|leases| leases.epoch(Bucket::of(merchant)).is_some())
    }

    /// The leases that it holds, with their epochs; `None`: there are no leases.
    pub fn leases(&self) -> Option<Vec<(Bucket, i64)>> {
        let leases = self.0.as_ref()?;
        Some(Bucket::all().filter_map(|bucket| Some((bucket, leases.epoch(bucket)?))).collect())
    }

    /// True as long as its leases can be relied on.
    pub fn is_sure(&self) -> bool {
        self.0.as_ref().is_none_or(|leases| leases.began.elapsed() < leases.until())
    }

    /// Has the leases be relied on until then.
    pub fn rely_until(&self, until: Instant) {
        if let Some(leases) = &self.0 {
            let until = until.saturating_duration_since(leases.began);
            leases.until.store(until.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    /// Begins to send for the merchants of a bucket, by a lease of that epoch, or
    /// ends to.
    pub fn set(&self, bucket: Bucket, epoch: Option<i64>) {
        if let Some(leases) = &self.0 {
            leases.epochs[bucket.index()].store(epoch.unwrap_or(0), Ordering::Release);
        }
    }

    /// A request begins, …
    pub fn begin(&self, merchant: MerchantId) {
        if let Some(leases) = &self.0 {
            leases.in_flight[Bucket::of(merchant).index()].fetch_add(1, Ordering::AcqRel);
        }
    }

    /// … and what came of it is on record, or never will be.
    pub fn end(&self, merchant: MerchantId) {
        if let Some(leases) = &self.0 {
            leases.in_flight[Bucket::of(merchant).index()].fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// True if nothing is under way for the merchants of the bucket.
    pub fn is_idle(&self, bucket: Bucket) -> bool {
        self.0.as_ref().is_none_or(|leases| leases.in_flight[bucket.index()].load(Ordering::Acquire) == 0)
    }
}

impl Leases {
    fn epoch(&self, bucket: Bucket) -> Option<i64> {
        Some(self.epochs[bucket.index()].load(Ordering::Acquire)).filter(|epoch| *epoch > 0)
    }

    fn until(&self) -> Duration {
        Duration::from_millis(self.until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_everybody_where_there_are_no_leases() {
        let tending = Tending::default();
        assert!(
            tending.has(MerchantId(1)) && tending.is_sure() && tending.leases().is_none() && tending.node().is_none()
        );
    }

    #[test]
    fn leases_say_for_whom_and_how_long() {
        let tending = Tending::by_leases();
        let (own, other) = (MerchantId(3), MerchantId(4));
        assert!(!tending.has(own) && !tending.is_sure() && tending.node().is_none());
        tending.set_node(NodeId(5));
        assert_eq!(tending.node(), Some(NodeId(5)));
        tending.set(Bucket::of(own), Some(7));
        tending.rely_until(Instant::now() + Duration::from_secs(60));
        assert!(tending.has(own) && tending.has(MerchantId(3 + 256)) && !tending.has(other) && tending.is_sure());
        assert_eq!(tending.leases(), Some(vec![(Bucket(3), 7)]));
        tending.begin(own);
        assert!(!tending.is_idle(Bucket(3)) && tending.is_idle(Bucket(4)));
        tending.end(own);
        assert!(tending.is_idle(Bucket(3)));
        tending.rely_until(Instant::now());
        assert!(!tending.is_sure());
    }
}
