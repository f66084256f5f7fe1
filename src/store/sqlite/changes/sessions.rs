//! Opening, renewing and ending sessions.

use rusqlite::params;

use super::Result;
use crate::domain::id::UserId;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::store::sqlite::tx::Tx;

/// Opens a session.
pub fn open_session(tx: &mut Tx<'_>, user: UserId, key: KeyHash, expires_at: Timestamp) -> Result<()> {
    tx.conn
        .prepare_cached("INSERT INTO session (key_hash, user_id, expires_at) VALUES (?1, ?2, ?3)")?
        .execute(params![key.0, user.0, expires_at.0])?;
    Ok(())
}

/// Moves a session's end; it never comes nearer.
pub fn renew_session(tx: &mut Tx<'_>, key: KeyHash, expires_at: Timestamp) -> Result<()> {
    tx.conn
        .prepare_cached("UPDATE session SET expires_at = max(expires_at, ?2) WHERE key_hash = ?1")?
        .execute(params![key.0, expires_at.0])?;
    Ok(())
}

/// Ends a session.
pub fn end_session(tx: &mut Tx<'_>, key: KeyHash) -> Result<()> {
    tx.conn.prepare_cached("DELETE FROM session WHERE key_hash = ?1")?.execute([key.0])?;
    Ok(())
}
