//! How much of the store may be filled, and with what. Whatever asks for room
//! asks here, and says for whom: a bound for each merchant belongs here too.

use rusqlite::Connection;

use crate::domain::id::MerchantId;
use crate::store::StoreError;

/// The bound of the store.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bytes_max: u64,
}

impl Room {
    /// Of a store that may hold so many bytes; 0: as many as there are.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max }
    }

    /// Fails with [`StoreError::Full`] if the merchant's events find none.
    pub fn check(self, conn: &Connection, _merchant: MerchantId) -> Result<(), StoreError> {
        let Some(max) = self.bound() else { return Ok(()) };
        let used = used_bytes(conn)?;
        if used >= max { Err(StoreError::Full { used, max }) } else { Ok(()) }
    }

    /// True if the merchant's backfills find some. They leave a fifth to what
    /// is new.
    pub fn has_for_backfill(self, conn: &Connection, _merchant: MerchantId) -> rusqlite::Result<bool> {
        let Some(max) = self.bound() else { return Ok(true) };
        Ok(used_bytes(conn)? < max / 10 * 8)
    }

    /// True if its replays do: what they add is their log.
    pub fn has_for_replay(self, conn: &Connection, _merchant: MerchantId) -> rusqlite::Result<bool> {
        let Some(max) = self.bound() else { return Ok(true) };
        Ok(used_bytes(conn)? < max)
    }

    /// True if so little is left that what has ended goes, whatever its age.
    pub fn is_short(self, conn: &Connection) -> rusqlite::Result<bool> {
        let Some(max) = self.bound() else { return Ok(false) };
        Ok(used_bytes(conn)? >= max / 10 * 9)
    }

    fn bound(self) -> Option<u64> {
        (self.bytes_max > 0).then_some(self.bytes_max)
    }
}

/// What the store holds; what is free within its file does not count.
fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let pages = read("PRAGMA page_count")?.saturating_sub(read("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(read("PRAGMA page_size")?).unsigned_abs())
}
