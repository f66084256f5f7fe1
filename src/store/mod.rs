//! The store boundary, in the words of the domain.
//!
//! The store is the queue: an event and its numbered deliveries are committed
//! in one transaction before [`Events::publish`] answers, and whatever is
//! pending after a crash is found here again. [`Store`] is what the floors above
//! know, a trait for each who uses it; [`open`] is where one comes from. Behind
//! the boundary the [`ledger`] decides what a change comes to, and SQLite
//! ([`sqlite`]) reads and writes rows; PostgreSQL is to follow.
//!
//! An engine brings what is read, and [`Base`], the line before its writer. What
//! changes something is the same for all: each such verb stands in its trait,
//! and is a change of the ledger's.

pub mod accounts;
pub mod attempt_log;
pub mod base;
pub mod catalogue;
pub mod counts;
pub mod deliveries;
pub mod error;
pub mod events;
pub mod feed;
pub mod glance;
pub mod ledger;
pub mod mailbox;
pub mod outbox;
mod parcel;
pub mod resending;
mod sql;
pub mod sqlite;
mod upkeep;
pub mod watched;
pub mod webhooks;

use std::sync::Arc;

pub use self::accounts::{Accounts, NewSession, Session, UserAlteration, UserBy};
pub use self::attempt_log::AttemptLog;
pub use self::base::Base;
pub use self::catalogue::Catalogue;
pub use self::deliveries::{Contents, Deliveries, Pulled};
pub use self::error::StoreError;
pub use self::events::Events;
pub use self::glance::{Glance, Glimpse};
pub use self::ledger::terms::Retention;
use self::mailbox::Mailbox;
pub use self::outbox::{DueKey, Loaded, Outbox, Page, PageLimit, Want};
pub use self::parcel::{Content, Parcel};
pub use self::resending::{DeliveryAlteration, Resending};
use self::sqlite::SqliteStore;
pub use self::sqlite::open::OpenError;
pub use self::sqlite::{Config, Durability, Trouble, admin};
pub use self::upkeep::Upkeep;
pub use self::watched::Watched;
pub use self::webhooks::{Alteration, WebhookSelector, Webhooks};
use crate::domain::time::Clock;
use crate::metrics::Metrics;

/// What the floors above need to know and to have changed. Every caller's
/// look-up happens within a merchant, so nobody sees another's data.
///
/// Any method fails with [`StoreError::Failed`] if the store can't be read or
/// written, with [`StoreError::Busy`] if too much waits in its line, and with
/// [`StoreError::ShuttingDown`]. Those that change something fail with
/// [`StoreError::DiskFull`] and [`StoreError::TakenAway`] besides. `Busy`,
/// `ShuttingDown` and `DiskFull` say that nothing was done. When one that
/// changes something has answered, the change is on disk.
pub trait Store:
    Accounts + Webhooks + Catalogue + Events + Deliveries + Resending + AttemptLog + Outbox + Watched
{
}

impl<T> Store for T where
    T: Accounts + Webhooks + Catalogue + Events + Deliveries + Resending + AttemptLog + Outbox + Watched
{
}

/// A store that is open.
pub struct Opened {
    /// For everybody.
    pub store: Arc<dyn Store>,
    /// For whoever opened it.
    pub upkeep: Arc<dyn Upkeep>,
    /// Where it announces to the delivery worker what it commits.
    pub mailbox: Arc<Mailbox>,
}

/// Opens the store, and makes it if it is missing. Fails if what lies there is
/// not ours, is newer than this program, or is being served by another process.
pub fn open(config: Config, clock: Clock, metrics: &Metrics) -> Result<Opened, OpenError> {
    let mailbox = Arc::new(Mailbox::default());
    let store = Arc::new(SqliteStore::open(config, clock, Arc::clone(&mailbox), metrics)?);
    Ok(Opened { store: Arc::clone(&store) as _, upkeep: store, mailbox })
}
