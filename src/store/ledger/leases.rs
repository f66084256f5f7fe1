//! The leases that a node holds, as its writer goes by them.
//!
//! A lease is for a bucket of merchants, and says who sends for them and who records
//! what has come of that. What is changed on behalf of a merchant himself, or begun
//! for him, needs none: for that, whoever does it holds the merchant.

use crate::domain::id::MerchantId;
use crate::domain::node::{BUCKETS, Bucket};

/// Which leases a node holds.
#[derive(Debug, Default)]
pub enum Leases {
    /// There are none: it is the only one.
    #[default]
    Unshared,
    /// The epoch of each that it holds.
    Shared(Box<Epochs>),
}

/// The epoch of each lease that is held.
#[derive(Debug)]
pub struct Epochs([Option<i64>; BUCKETS]);

impl Leases {
    /// Of a store that others share; none is held.
    pub fn none() -> Self {
        Self::Shared(Box::new(Epochs([None; BUCKETS])))
    }

    /// Of a store that others share; these are held.
    pub fn of(held: impl IntoIterator<Item = (Bucket, i64)>) -> Self {
        let mut leases = Self::none();
        held.into_iter().for_each(|(bucket, epoch)| leases.set(bucket, Some(epoch)));
        leases
    }

    /// True if this node is the one that sends for the merchant.
    pub fn cover(&self, merchant: MerchantId) -> bool {
        match self {
            Self::Unshared => true,
            Self::Shared(epochs) => epochs.0[Bucket::of(merchant).index()].is_some(),
        }
    }

    /// The epoch of one that is held.
    pub fn epoch(&self, bucket: Bucket) -> Option<i64> {
        match self {
            Self::Unshared => None,
            Self::Shared(epochs) => epochs.0[bucket.index()],
        }
    }

    /// Takes one, or lets go of it.
    pub fn set(&mut self, bucket: Bucket, epoch: Option<i64>) {
        if let Self::Shared(epochs) = self {
            epochs.0[bucket.index()] = epoch;
        }
    }

    /// Those that are held.
    pub fn held(&self) -> Vec<Bucket> {
        Bucket::all().filter(|bucket| self.epoch(*bucket).is_some()).collect()
    }
}
