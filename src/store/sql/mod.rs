//! What is said in SQL, whatever engine hears it.
//!
//! [`Db`] is a connection, as far as both engines have the same to say: the
//! statements are standard SQL with `$1`, `$2` … for values, and where the
//! engines differ, a [`Dialect`] has the words. What is worth a statement of an
//! engine's own, since many events a second go that way, stands with the engine.

pub mod db;

pub use self::db::{Db, Dialect, Row, Value};
