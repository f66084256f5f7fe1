//! The store boundary, in the words of the domain.
//!
//! The store is the queue: an event and its numbered deliveries are committed
//! in one transaction before [`Events::publish`] answers, and whatever is
//! pending after a crash is found here again. [`Store`] is what the floors above
//! know, a trait for each who uses it; [`open`] is where one comes from. Behind
//! the boundary the [`ledger`] decides what a change comes to, and an engine reads
//! and writes rows: SQLite ([`sqlite`]) or PostgreSQL ([`postgres`]). What is read
//! for callers, and what is rare, is said once for both ([`sql`]).
//!
//! An engine brings what is read, and [`Base`], the line before its writer. What
//! changes something is the same for all: each such verb stands in its trait,
//! and is a change of the ledger's.

pub mod accounts;
pub mod admin;
pub mod attempt_log;
pub mod audit;
pub mod backup;
pub mod base;
mod boundary;
pub mod catalogue;
pub mod check;
pub mod committed;
mod config;
pub mod counts;
pub mod deliveries;
pub mod error;
pub mod events;
pub mod feed;
pub mod following;
pub mod glance;
pub mod ledger;
pub mod mailbox;
pub mod merchants;
pub mod migrate;
pub mod nodes;
mod opening;
pub mod outbox;
mod parcel;
pub mod postgres;
pub mod resending;
mod sql;
pub mod sqlite;
pub mod surveyed;
pub mod tending;
pub mod tokens;
mod trouble;
mod upkeep;
pub mod vault;
pub mod watched;
pub mod webhooks;

pub use self::accounts::{Accounts, NewSession, NewUserRow, Session, UserAlteration, UserBy};
pub use self::attempt_log::AttemptLog;
pub use self::audit::AuditLog;
pub use self::base::Base;
pub use self::boundary::Store;
pub use self::catalogue::Catalogue;
pub use self::config::Config;
pub use self::deliveries::{Contents, Deliveries, Pulled};
pub use self::error::StoreError;
pub use self::events::Events;
pub use self::glance::{Glance, Glimpse};
pub use self::ledger::terms::{Retention, Terms};
pub use self::merchants::{FirstUser, Holdings, MerchantAlteration, Merchants};
pub use self::nodes::Nodes;
pub use self::opening::{OpenError, Opened, open};
pub use self::outbox::{DueKey, Loaded, Outbox, Page, PageLimit, Want};
pub use self::parcel::{Content, Parcel};
pub use self::postgres::scratch::{Scratch, Work as DatabaseWork};
pub use self::postgres::{
    Config as DatabaseConfig, NodeSettings, Prepare, Settings as Database, Timeouts as DatabaseTimeouts,
};
pub use self::resending::{DeliveryAlteration, Resending};
pub use self::sqlite::{Config as FileConfig, Durability};
pub use self::surveyed::Surveyed;
pub use self::tokens::Tokens;
pub use self::trouble::Trouble;
pub use self::upkeep::Upkeep;
pub use self::watched::Watched;
pub use self::webhooks::{Alteration, PublicKeys, Rotation, WebhookSelector, Webhooks};
