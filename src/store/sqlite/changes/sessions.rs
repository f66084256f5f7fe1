//! Opening, renewing and ending sessions.

use rusqlite::{Connection, OptionalExtension, params};

use super::Result;
use crate::domain::id::UserId;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::store::NewSession;
use crate::store::sqlite::tx::Tx;

/// Sessions beyond the most that go when another is opened.
const ENDED_MAX: i64 = 100;

/// Opens a session, and ends those of the user that are too many: the ones that
/// would have ended first, for they were not used for longest.
pub fn open_session(tx: &mut Tx<'_>, session: NewSession, quota: u32) -> Result<()> {
    let NewSession { user, key, expires_at, ends_at } = session;
    tx.conn
        .prepare_cached(
            "DELETE FROM session WHERE key_hash IN
                (SELECT key_hash FROM session WHERE user_id = ?1 ORDER BY expires_at DESC LIMIT ?2 OFFSET ?3)",
        )?
        .execute(params![user.0, ENDED_MAX, quota.saturating_sub(1)])?;
    tx.conn
        .prepare_cached("INSERT INTO session (key_hash, user_id, expires_at, ends_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key.0, user.0, expires_at.0, ends_at.map(|at| at.0)])?;
    Ok(())
}

/// Whose session it is, and when it ends unless it is used, and in any case.
pub fn find(conn: &Connection, key: KeyHash) -> rusqlite::Result<Option<(UserId, Timestamp, Option<Timestamp>)>> {
    conn.prepare_cached("SELECT user_id, expires_at, ends_at FROM session WHERE key_hash = ?1")?
        .query_row([key.0], |row| {
            Ok((UserId(row.get(0)?), Timestamp(row.get(1)?), row.get::<_, Option<_>>(2)?.map(Timestamp)))
        })
        .optional()
}

/// Moves a session's end; it never comes nearer, nor behind the last there is.
pub fn renew_session(tx: &mut Tx<'_>, key: KeyHash, expires_at: Timestamp) -> Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE session SET expires_at = max(expires_at, min(?2, coalesce(ends_at, ?2))) WHERE key_hash = ?1",
        )?
        .execute(params![key.0, expires_at.0])?;
    Ok(())
}

/// Ends a session.
pub fn end_session(tx: &mut Tx<'_>, key: KeyHash) -> Result<()> {
    tx.conn.prepare_cached("DELETE FROM session WHERE key_hash = ?1")?.execute([key.0])?;
    Ok(())
}
