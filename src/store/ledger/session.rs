//! A session to be opened.

use crate::domain::id::UserId;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;

/// A session to be opened.
#[derive(Clone, Copy, Debug)]
pub struct NewSession {
    /// Whose it is.
    pub user: UserId,
    /// Its key.
    pub key: KeyHash,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
    /// When it ends however much it is used, if that is known.
    pub ends_at: Option<Timestamp>,
}
