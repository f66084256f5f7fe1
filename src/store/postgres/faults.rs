//! What the database says when it does not do what it is asked to, and what that means
//! for whoever asked.

use std::error::Error;

use tokio_postgres::error::SqlState;

use super::tls;
use crate::store::error::StoreError;
use crate::store::ledger::BUSY_RETRY_AFTER;

/// The database has not said anything in time.
pub fn no_answer() -> StoreError {
    StoreError::unavailable("the database does not answer")
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(cause: tokio_postgres::Error) -> Self {
        let words = in_words(&cause);
        match cause.code() {
            Some(&SqlState::DISK_FULL) => Self::DiskFull,
            // Somebody else holds what was to be changed.
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::Held { retry_after: BUSY_RETRY_AFTER },
            Some(code) if is_for_now(code) => Self::unavailable(words),
            Some(_) => Self::failed(words),
            // Nothing can be said, so nothing was done.
            None if cause.is_closed() || is_of_network(&cause) => Self::unavailable(words),
            None => Self::failed(words),
        }
    }
}

/// True if the same may go well a little later: what is wrong is wrong with the
/// database, and not with what was asked.
fn is_for_now(code: &SqlState) -> bool {
    const CLASSES: [&str; 3] = [
        "08", // the connection
        "53", // memory, connections
        "58", // files, the system
    ];
    const CODES: [SqlState; 8] = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::QUERY_CANCELED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    CODES.contains(code) || CLASSES.iter().any(|class| code.code().starts_with(class))
}

/// True if it is an error of the network, or of reaching the database at all.
fn is_of_network(cause: &tokio_postgres::Error) -> bool {
    let mut source = cause.source();
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What the database said, or else what went wrong with the connection.
fn in_words(cause: &tokio_postgres::Error) -> String {
    if let Some(said) = cause.as_db_error() {
        return format!("the database said: {} (SQLSTATE {})", said.message(), said.code().code());
    }
    if let Some(words) = tls::in_words(cause) {
        return words;
    }
    match cause.source() {
        Some(source) => format!("{cause}: {source}"),
        None => cause.to_string(),
    }
}
