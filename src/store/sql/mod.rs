//! What is said in SQL, whatever engine hears it.
//!
//! [`Db`] is a connection, as far as both engines have the same to say: the
//! statements are standard SQL with `$1`, `$2` … for values, and where the
//! engines differ, a [`Dialect`] has the words. What is worth a statement of an
//! engine's own, since many events a second go that way, stands with the engine,
//! behind [`conn`]; [`store`] is what callers know, once for both.
//!
//! An engine may read all rows of a statement before it shows the first, and each
//! statement may be a way there and back. So each bounds its rows, and none
//! stands in a loop over another's.

mod accounts;
pub mod admin;
mod attempt_log;
pub mod audit;
mod bodies;
mod catalogue;
pub mod check;
pub mod codes;
pub mod conn;
pub mod copying;
pub mod db;
pub mod definition;
mod deliveries;
mod events;
pub mod jobs;
mod keys;
pub mod load;
mod merchants;
mod nodes;
mod outbox;
pub mod readers;
pub mod resealing;
mod resending;
pub mod rows;
pub mod sending;
pub mod standings;
pub mod steps;
pub mod store;
mod survey;
mod together;
mod tokens;
mod users;
mod watched;
mod webhooks;
pub mod write;

pub use self::db::{Db, Dialect, Row, Value};
