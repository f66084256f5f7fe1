//! Nodes that share a store, and which of them sends for whom.
//!
//! Merchants fall into [`BUCKETS`]; a node sends for the merchants of the buckets
//! whose leases it holds. Which node should hold a bucket's follows from the nodes
//! that are there alone (rendezvous hashing): one that joins or leaves moves the
//! buckets that become or were its own, and no others.

use super::id::MerchantId;

/// Into how many buckets merchants fall. Part of what stores hold: it never changes.
pub const BUCKETS: usize = 256;

/// A process that serves the store. Each start is another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Merchants that are sent for by the same node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u8);

impl Bucket {
    /// Of a merchant. Their ids are given out one after the other, so that they
    /// fall into all buckets alike.
    pub fn of(merchant: MerchantId) -> Self {
        Self((merchant.0 & 0xff) as u8)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// Its place among all.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Which of these nodes should hold its lease.
    pub fn holder(self, nodes: &[NodeId]) -> Option<NodeId> {
        nodes.iter().copied().max_by_key(|node| (self.weight(*node), *node))
    }

    /// How much the bucket draws to a node: as good as random, and the same wherever
    /// it is asked (the finalizer of splitmix64).
    fn weight(self, node: NodeId) -> u64 {
        let mut mixed = (node.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(self.0);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(nodes: &[i64]) -> Vec<i64> {
        let nodes: Vec<_> = nodes.iter().copied().map(NodeId).collect();
        Bucket::all().map(|bucket| bucket.holder(&nodes).unwrap().0).collect()
    }

    #[test]
    fn nodes_share_the_buckets_about_alike() {
        for nodes in [&[1, 2, 3][..], &[17, 18, 19], &[5, 1_000_007, 3]] {
            let held = holders(nodes);
            for node in nodes {
                let count = held.iter().filter(|holder| *holder == node).count();
                assert!((55..=115).contains(&count), "{node} of {nodes:?} has {count}");
            }
        }
        assert_eq!(Bucket(7).holder(&[]), None);
    }

    #[test]
    fn a_node_that_joins_or_leaves_moves_only_what_is_its_own() {
        let (before, after) = (holders(&[1, 2, 3]), holders(&[1, 2, 3, 4]));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).map(|(_, new)| *new).collect();
        assert!(moved.iter().all(|new| *new == 4), "{moved:?}");
        assert!((40..=90).contains(&moved.len()), "{} have moved", moved.len());
    }

    #[test]
    fn merchants_fall_into_all_buckets() {
        let buckets: std::collections::BTreeSet<_> = (1..=256).map(|id| Bucket::of(MerchantId(id))).collect();
        assert_eq!(buckets.len(), BUCKETS);
    }
}
