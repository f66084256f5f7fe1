//! What may run where, and the two means that keep it so: [`apart`] for work
//! that takes longer than a step, and [`step`], the guard that notices in
//! builds for development when a step on a shared thread takes too long. And
//! [`budget`], by which accounts share memory as they share threads.
//!
//! A server has threads that everybody shares. Whatever one caller asks for,
//! no single piece of it may hold one of them longer than [`STEP_MAX`]:
//!
//! | thread | who shares it | what may run there |
//! |---|---|---|
//! | async threads | all calls and connections | waiting; reading and writing of what is bounded by a few hundred kB |
//! | `store-writer` | all changes | rows of one commit, which has a budget; nothing that looks into a message |
//! | readers of the store | all look-ups | a page of rows, bounded by items and bytes; nothing that looks into a message |
//! | `delivery-worker` | all deliveries | whose turn it is; bodies and signatures of small messages |
//! | places apart | those who ask for long work | everything else: cutting, rendering and signing what is large, schemas, filters, compressing |
//!
//! Whoever waits for a reader or for a place apart waits in a line of his own
//! merchant, or of his address while nobody knows his merchant, and the lines
//! take turns. So long work delays him who asked
//! for it.

pub mod apart;
pub mod budget;
mod guard;
pub mod pulse;
pub mod sparing;
pub mod turns;

use std::net::IpAddr;

pub use self::guard::{Guarded, STEP_MAX, guarded, step};
use crate::domain::address::Origin;
use crate::domain::id::MerchantId;

/// The most bytes of what somebody sent that are read where they arrive; more
/// are read apart.
pub const READ_AT_ONCE_MAX: usize = 64 * 1024;

/// On whose account work is done: whose line it waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// The server's own.
    Server,
    /// A merchant's: that of whoever is logged in.
    Merchant(MerchantId),
    /// Of those of whom nobody knows more than where they are.
    Origin(Origin),
}

impl Account {
    /// That of a peer of whom nothing else is known.
    pub fn of_stranger(peer: IpAddr) -> Self {
        Self::Origin(Origin::of(peer))
    }
}

impl From<Origin> for Account {
    fn from(origin: Origin) -> Self {
        Self::Origin(origin)
    }
}

impl From<MerchantId> for Account {
    fn from(merchant: MerchantId) -> Self {
        Self::Merchant(merchant)
    }
}

/// True if an account that has `own` of the `all` that are taken may take
/// `more`, of `max` in all: it may have as much as is left free. So one that is
/// alone gets half, two get a third each, and whoever comes next always finds
/// something. What is larger than that goes when its account has nothing else,
/// and what is larger than all there is goes alone.
pub fn may_take(more: usize, own: usize, all: usize, max: usize) -> bool {
    let free = max.saturating_sub(all);
    own.saturating_add(more) <= free || (own == 0 && more <= free) || all == 0
}
