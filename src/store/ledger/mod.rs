//! The ledger: what every change to the store comes to, whatever engine keeps
//! the rows.
//!
//! A change is data ([`Change`]). It says what has to be read for it
//! ([`Wants`](wants::Wants)); the engine reads that ([`Loaded`](wants::Loaded)); from there and from the
//! [`Book`](book::Book), which knows every webhook and counter by heart, it is decided
//! without any input or output what the change comes to ([`Decision`](decision::Decision)): rows to
//! be written, what the book learns, and the news. The engine writes the rows.
//! A change that fails has decided nothing, so nothing of it stays anywhere.

pub mod accounts;
pub mod auditing;
pub mod book;
pub mod bulk;
pub mod change;
pub mod choosing;
pub mod chores;
pub mod commit;
pub mod counters;
pub mod decision;
pub mod erasing;
pub mod event_days;
pub mod fanout;
pub mod forgetting;
pub mod ids;
pub mod jobs;
pub mod leases;
pub mod logs;
#[cfg(test)]
pub mod memory;
pub mod merchants;
pub mod new_user;
pub mod news;
pub mod notice;
pub mod notices;
pub mod numbering;
pub mod outcomes;
pub mod pruning;
pub mod publishing;
pub mod queue;
pub mod queued;
pub mod resending;
pub mod session;
pub mod spreading;
pub mod taking_over;
pub mod terms;
pub mod tokens;
pub mod topics;
pub mod turns;
pub mod wants;
pub mod webhooks;
pub mod work;

pub use self::change::{BUSY_RETRY_AFTER, Change, Result, Step, View};
