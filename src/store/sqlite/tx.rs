//! What a change works with, and what it leaves to be announced.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, ffi};

use super::memory::Memory;
use crate::domain::event::Event;
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::{Parcel, StoreError};

/// What a change may use: the connection, within a transaction; the writer's
/// memory, to be altered only when nothing can fail any more; one `now` for
/// the whole transaction; and the news to announce after the commit.
pub struct Tx<'a> {
    pub conn: &'a Connection,
    pub memory: &'a mut Memory,
    pub now: Timestamp,
    pub news: &'a mut Vec<Announcement>,
    /// Why the whole transaction was undone, if it was.
    pub undone: Option<StoreError>,
}

/// Something to announce once it is committed.
pub enum Announcement {
    /// A webhook is new, changed, or (`None`) deleted.
    Webhook(WebhookId, Option<Arc<Webhook>>),
    /// All numbers of a webhook up to this one are committed.
    Through(WebhookId, IncrementId),
    /// A new delivery.
    Parcel(WebhookId, Parcel),
    /// A delivery to be sent at once, whatever the webhook's state.
    Test(WebhookId, Parcel),
    /// Deliveries of a webhook from that number on are to be sent that were
    /// not before, or the other way round.
    Reread(WebhookId, IncrementId),
    /// A delivery is to be sent now, whatever holds the others up.
    Now(WebhookId, IncrementId),
    /// An attempt at a delivery is on record.
    Attempted(WebhookId, IncrementId),
    /// Deliveries of a webhook are new or changed, other than those of which a
    /// parcel or an attempt says so.
    Changed(WebhookId, Span),
    /// An event was published.
    Published(Arc<Event>),
}

impl Tx<'_> {
    /// Runs `work` so that if it fails, only it is undone. If that can't be
    /// done, the whole transaction is undone, as by a disk that is full, which
    /// the writer notices.
    pub fn in_savepoint<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.run("SAVEPOINT change")?;
        let result = work(self);
        let undone = if result.is_err() { self.run("ROLLBACK TO change") } else { Ok(()) };
        if let Err(cause) = undone.and_then(|()| self.run("RELEASE change")) {
            // Fails only if there is no transaction any more, which is what is wanted.
            let _ = self.conn.execute_batch("ROLLBACK");
            let first = result.err().unwrap_or(cause);
            self.undone = Some(first.clone());
            return Err(first);
        }
        result
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(cause: rusqlite::Error) -> Self {
        let is_full = cause.sqlite_error().is_some_and(|failure| {
            // A quota that is used up is no full disk to SQLite, but a write that failed.
            let unwritten = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];
            failure.code == ErrorCode::DiskFull || unwritten.contains(&failure.extended_code)
        });
        if is_full { Self::DiskFull } else { Self::failed(cause) }
    }
}
