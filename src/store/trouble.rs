//! What keeps a store from taking changes: told to whoever asks, and to the
//! log, but there no more than once a minute, however many changes meet it.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info};

use crate::domain::time::Timestamp;

/// How often the log is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Why a store takes no changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It grows no more.
    #[error("its disk is full, or takes no more for another reason")]
    DiskFull,
    /// What is committed now would be in no file that is found again.
    #[error("{} was deleted, moved or replaced while it was open; put it back where it was, or stop the server", .0.display())]
    TakenAway(PathBuf),
    /// Its database is there, and takes nothing.
    #[error("its database takes nothing: {0}")]
    Refused(Arc<str>),
    /// It could not be opened again after a failed commit.
    #[error("it can't be opened again: {0}")]
    Closed(Arc<str>),
}

/// The trouble of a store, at present and a moment ago.
#[derive(Debug)]
pub struct Troubles {
    store: PathBuf,
    present: watch::Sender<Option<Trouble>>,
    told_at: HashMap<Discriminant<Trouble>, Timestamp>,
    /// The log knows of it, and not of its end.
    is_told: bool,
}

impl Troubles {
    /// None, for now.
    pub fn of(store: PathBuf) -> Self {
        Self { store, present: watch::Sender::new(None), told_at: HashMap::new(), is_told: false }
    }

    /// What there is at present.
    pub fn present(&self) -> watch::Receiver<Option<Trouble>> {
        self.present.subscribe()
    }

    /// There is some, or still is.
    pub fn begin(&mut self, trouble: Trouble, now: Timestamp) {
        let kind = discriminant(&trouble);
        // One that is further away was told before the clock went back.
        let is_new = self.told_at.get(&kind).is_none_or(|at| now.since(*at) >= TOLD_EVERY || *at > now);
        if is_new {
            error!(store = %self.store.display(), "the store takes no changes: {trouble}");
            self.told_at.insert(kind, now);
            self.is_told = true;
        }
        self.present.send_replace(Some(trouble));
    }

    /// There is none any more.
    pub fn end(&mut self) {
        if self.present.borrow().is_none() {
            return;
        }
        self.present.send_replace(None);
        if std::mem::take(&mut self.is_told) {
            info!(store = %self.store.display(), "the store takes changes again");
        }
    }
}
