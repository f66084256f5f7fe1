//! A mark beside the store of how far it had come.
//!
//! What was committed last lies in SQLite's log. If a part of that is lost or
//! damaged, SQLite goes on with what was before, and if an older copy is put
//! back, it knows of no other: numbers that were given out would be given out
//! again, for other events, which receivers take for duplicates. A store that
//! is behind its mark therefore takes another name, which is a part of every
//! `webhook-id`.
//!
//! The mark is written after each commit, and pressed to disk at each start, at
//! each stop and once a minute between. So it is never ahead of what is on the
//! disk unless commits are not (`durability` `normal`); after a power cut it may
//! be behind, and tell of less. A copy of the store's file alone has none, and
//! is taken for what it says it is.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tracing::warn;

use super::extent::Extent;
use super::place::beside;
use crate::domain::id::StoreId;
use crate::domain::secret::generate_store_id;
use crate::domain::time::Timestamp;

/// How often it is pressed to disk while the store is written to.
const SYNC_INTERVAL: Duration = Duration::from_secs(60);

/// The mark of a store that is open.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    file: Option<File>,
    store_id: StoreId,
    synced_at: Timestamp,
    /// The last attempt to write it failed, and the log knows.
    is_failing: bool,
}

impl Mark {
    /// Compares the store with its mark, if there is one, and makes it current.
    /// A store that is behind, or is not the one that it was, is given a new
    /// id.
    pub fn open(store: &Path, conn: &Connection, now: Timestamp) -> rusqlite::Result<Self> {
        let (path, extent) = (beside(store, "-mark"), Extent::read(conn)?);
        let mut store_id = read_store_id(conn)?;
        if let Some((marked_id, marked)) = read(&path)
            && (marked_id != store_id || extent.is_behind(&marked))
        {
            let new_id = renew(conn)?;
            warn!(
                store = %store.display(), was = %marked_id, found = %store_id, now = %new_id,
                "the store is behind its mark: it has lost something, or an older copy or another store was put in its \
                 place. It goes on under a new store id, lest receivers take new events for old ones. \
                 It had come to {marked}, and is at {extent}"
            );
            store_id = new_id;
        }
        Ok(Self::start(path, store_id, &extent, now))
    }

    /// Gives the store a new id, and makes the mark its own: the old one, and
    /// the new one.
    pub fn renew_store_id(store: &Path, conn: &Connection, now: Timestamp) -> rusqlite::Result<(StoreId, StoreId)> {
        let (old, new) = (read_store_id(conn)?, renew(conn)?);
        Self::start(beside(store, "-mark"), new.clone(), &Extent::read(conn)?, now);
        Ok((old, new))
    }

    /// Makes a mark of a store that is new here, in place of one that another may have left.
    pub fn make(store: &Path, conn: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        Self::start(beside(store, "-mark"), read_store_id(conn)?, &Extent::read(conn)?, now);
        Ok(())
    }

    fn start(path: PathBuf, store_id: StoreId, extent: &Extent, now: Timestamp) -> Self {
        let mut mark = Self { path, file: None, store_id, synced_at: now, is_failing: false };
        mark.sync(extent, now);
        mark
    }

    /// The id of the store.
    pub fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    /// The store has come so far.
    pub fn write(&mut self, extent: &Extent, now: Timestamp) {
        // One that is further away was set before the clock went back.
        if now.since(self.synced_at) >= SYNC_INTERVAL || self.synced_at > now {
            self.sync(extent, now);
        } else {
            let written = self.put(extent);
            self.note(written);
        }
    }

    /// The same, and it stays through a power cut.
    pub fn sync(&mut self, extent: &Extent, now: Timestamp) {
        self.synced_at = now;
        // It may have been deleted.
        let is_new = self.file.is_none() || !self.path.exists();
        if is_new {
            self.file = None;
        }
        let synced = self.put(extent).and_then(|()| self.file()?.sync_all());
        self.note(synced.and_then(|()| if is_new { sync_folder(&self.path) } else { Ok(()) }));
    }

    fn put(&mut self, extent: &Extent) -> std::io::Result<()> {
        let text = text(&self.store_id, extent);
        let mut file = self.file()?;
        file.seek(SeekFrom::Start(0))?;
        // As long as what it replaces, so that there is nothing to be cut off.
        file.write_all(text.as_bytes())
    }

    fn file(&mut self) -> std::io::Result<&File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            self.file = Some(options.open(&self.path)?);
        }
        self.file.as_ref().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// The store works without it, so its failures are only told, each run of
    /// them once.
    fn note(&mut self, written: std::io::Result<()>) {
        if let Err(cause) = &written
            && !self.is_failing
        {
            warn!(%cause, path = %self.path.display(), "the mark of how far the store has come can't be written");
        }
        self.is_failing = written.is_err();
    }
}

/// The name of the store.
pub fn read_store_id(conn: &Connection) -> rusqlite::Result<StoreId> {
    conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0).map(StoreId))
}

fn renew(conn: &Connection) -> rusqlite::Result<StoreId> {
    let store_id = generate_store_id();
    conn.execute("UPDATE meta SET value = ?1 WHERE key = 'store_id'", [&store_id])?;
    Ok(StoreId(store_id))
}

/// A file that is new is found again after a power cut.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A line for each fact. Numbers have as many digits as they ever may.
fn text(store_id: &StoreId, extent: &Extent) -> String {
    let mut text = format!("store_id {store_id}\n");
    for (name, value) in extent.members() {
        writeln!(text, "{name} {value:020}").expect("writing to a string cannot fail");
    }
    text
}

/// What the mark says; `None` if there is none, or none that can be read.
fn read(path: &Path) -> Option<(StoreId, Extent)> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let mut value_of = |name| if words.next() == Some(name) { words.next() } else { None };
    let store_id = StoreId(value_of("store_id")?.to_owned());
    let mut extent = Extent::default();
    for (name, value) in extent.members_mut() {
        *value = value_of(name)?.parse().ok()?;
    }
    Some((store_id, extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db-mark");
        let store_id = StoreId("a1b2c3d4".to_owned());
        let extent = Extent { merchants: 1, users: 2, webhooks: 3, events: 1_234_567, topics: 5, numbers: i64::MAX };
        assert_eq!(read(&path), None, "there is none");
        let written = text(&store_id, &extent);
        assert_eq!(written.len(), text(&store_id, &Extent::default()).len());
        std::fs::write(&path, &written).unwrap();
        assert_eq!(read(&path), Some((store_id, extent)));
        for damaged in ["", "store_id", "store_id a1b2c3d4\nmerchants x\n", &written[..written.len() / 2]] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None, "{damaged}");
        }
    }
}
