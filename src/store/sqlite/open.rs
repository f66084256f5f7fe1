//! Opening the file: is it ours, is it free, is it current.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::config::{Config, Durability};
use super::mark::read_store_id;
use super::place::{Place, beside};
use crate::domain::id::StoreId;
use crate::domain::secret::generate_store_id;
use crate::store::error::StoreError;
use crate::store::sql::copying::{COPIED_FROM, fact};

/// Marks a SQLite file as a tallyhook store: "tlyh" (`PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x746c_7968;
/// What every SQLite file starts with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const SCHEMA: &str = include_str!("../../../schema.sql");
/// Each brings the schema from its index to the next version. The first is
/// the schema of version 1, so that a test can walk all the way.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_bounds.sql"),
    include_str!("migrations/0003_fanout.sql"),
    include_str!("migrations/0004_pulled.sql"),
    include_str!("migrations/0005_times.sql"),
    include_str!("migrations/0006_keys.sql"),
    include_str!("migrations/0007_forgotten.sql"),
    include_str!("migrations/0008_audit.sql"),
    include_str!("migrations/0009_egress.sql"),
    include_str!("migrations/0010_identity.sql"),
    include_str!("migrations/0011_trace.sql"),
    include_str!("migrations/0012_labels.sql"),
    include_str!("migrations/0013_oauth2.sql"),
    include_str!("migrations/0014_merchants.sql"),
];
/// The schema that this program writes (`PRAGMA user_version`).
const SCHEMA_VERSION: usize = MIGRATIONS.len();
/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 64;
/// Pages that the writer keeps, in KiB. More do not make an event that goes to a thousand webhooks
/// any quicker, and each commit costs more: SQLite moves pages to the far end of the file while it
/// balances a tree, and then looks through all that it keeps whether they lie beyond the end.
const WRITER_CACHE_KIB: i64 = 4 * 1_024;

/// Why a file can't be opened as a store. It was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path can't be read or made.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// The store or its lock.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something else lies there.
    #[error("{path}: is no tallyhook store, but {what}; name another file with --store", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        what: &'static str,
    },
    /// A newer program has been here.
    #[error("{path}: was written by a newer tallyhook (schema {found}; this one knows up to {known}); upgrade the program", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// An older program has been here, and the file is not to be changed.
    #[error("{path}: was written by an older tallyhook (schema {found}; this one reads {known}); serving it once brings it up to date", path = path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The schema that this program reads.
        known: usize,
    },
    /// It is yet to be copied.
    #[error("{path}: is no whole store yet, but the beginnings of a copy of {from}; the same tallyhook migrate goes on with it, or delete the file", path = path.display())]
    NotWhole {
        /// The file.
        path: PathBuf,
        /// What it is to become a copy of.
        from: String,
    },
    /// One server a store.
    #[error("{path}: is being served by another process; stop it first, or name another file with --store", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A server has it open under another of its names.
    #[error("{path}: is being served under another name; use that one", path = path.display())]
    OtherName {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// What lies in it can't be read.
    #[error("{path}: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: StoreError,
    },
    /// SQLite refused.
    #[error("{path}: {cause}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        cause: rusqlite::Error,
    },
}

/// Held for as long as a server serves the store; the system lets go of it
/// when the process ends, however it ends.
///
/// On Linux it lies on the store's file itself (`flock`), whatever name leads
/// there. It has to be taken before SQLite opens the file, and let go of after
/// it has closed it: when a process closes a file, it loses the locks that
/// SQLite has on it (`fcntl`). Elsewhere the two kinds of lock may shut each
/// other out, so there it lies on a file beside the store, which has one name
/// only if the store has.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Takes the lock of a store that is there. Fails with
    /// [`OpenError::InUse`] if another process holds it.
    pub fn take(store: &Path) -> Result<Self, OpenError> {
        let path = if cfg!(target_os = "linux") { store.to_owned() } else { beside(store, "-lock") };
        let opened = if cfg!(target_os = "linux") {
            File::open(&path)
        } else {
            OpenOptions::new().create(true).truncate(false).write(true).open(&path)
        };
        let file = opened.map_err(|cause| OpenError::Io { path: path.clone(), cause })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: store.to_owned() }),
            Err(TryLockError::Error(cause)) => Err(OpenError::Io { path, cause }),
        }
    }
}

/// Fails with [`OpenError::OtherName`] if a server has the file open under
/// another name. SQLite keeps a log beside each name, so what is written here
/// would go past what is written there.
pub fn check_name(store: &Path) -> Result<(), OpenError> {
    // What is not there is made.
    let Ok(file) = File::open(store) else { return Ok(()) };
    let is_served = || cfg!(target_os = "linux") && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    if has_other_names(store) && !beside(store, "-wal").exists() && is_served() {
        return Err(OpenError::OtherName { path: store.to_owned() });
    }
    Ok(())
}

/// True if there are hard links to it. A server that was killed has left a log
/// beside the name that it had, which is found by that name alone.
pub fn has_other_names(store: &Path) -> bool {
    #[cfg(unix)]
    let is_linked = std::fs::metadata(store).is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) > 1);
    #[cfg(not(unix))]
    let is_linked = false;
    is_linked
}

/// Opens the store for writing, makes it if there is none, and brings an
/// older one up to date. What isn't ours is left as it was.
pub fn open_current(config: &Config) -> Result<Connection, OpenError> {
    let conn = open_or_make(config, &[("store_id", generate_store_id())], true)?;
    check_whole(&conn, &config.path)?;
    Ok(conn)
}

/// The same for whoever copies another store into it, which may have begun already. One
/// that is made now begins with these facts about itself; an older one is left as it was.
pub fn open_to_copy_into(config: &Config, facts: &[(&str, String)]) -> Result<Connection, OpenError> {
    open_or_make(config, facts, false)
}

fn open_or_make(config: &Config, facts: &[(&str, String)], updates: bool) -> Result<Connection, OpenError> {
    let path = &config.path;
    check_magic(path)?;
    make_private(path)?;
    let failed = |cause| OpenError::Sqlite { path: path.clone(), cause };
    let mut conn = Connection::open(path).map_err(failed)?;
    conn.busy_timeout(config.busy_timeout).map_err(failed)?;
    let version = check_owner(&conn, path)?;
    if !updates && (1..SCHEMA_VERSION).contains(&version) {
        return Err(OpenError::Older { path: path.clone(), found: version, known: SCHEMA_VERSION });
    }
    if version < SCHEMA_VERSION {
        migrate(&mut conn, facts).map_err(failed)?;
    }
    set_up(&conn, config).map_err(failed)?;
    Ok(conn)
}

/// Fails with [`OpenError::NotWhole`] if another store is still being copied into it.
fn check_whole(mut conn: &Connection, path: &Path) -> Result<(), OpenError> {
    match fact(&mut conn, COPIED_FROM) {
        Ok(None) => Ok(()),
        Ok(Some(from)) => Err(OpenError::NotWhole { path: path.to_owned(), from }),
        Err(cause) => Err(OpenError::Unreadable { path: path.to_owned(), cause }),
    }
}

/// Opens the store again that this process has served. A file that is gone, or
/// another one in its place, is not taken for it.
pub fn reopen(config: &Config, store_id: &StoreId, place: &Place) -> Result<Connection, OpenError> {
    let path = &config.path;
    if let Some(lost) = place.lost() {
        return Err(OpenError::Foreign { path: lost.to_owned(), what: "another one than was served" });
    }
    let failed = |cause| OpenError::Sqlite { path: path.clone(), cause };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(config.busy_timeout).map_err(failed)?;
    if check_owner(&conn, path)? != SCHEMA_VERSION || read_store_id(&conn).map_err(failed)? != *store_id {
        return Err(OpenError::Foreign { path: path.clone(), what: "another one than was served" });
    }
    set_up(&conn, config).map_err(failed)?;
    Ok(conn)
}

/// Opens a store that is there to be looked at, and changes nothing of it. Fails
/// with [`OpenError::Older`] if it would have to be brought up to date first.
pub fn open_to_look(config: &Config) -> Result<Connection, OpenError> {
    let path = &config.path;
    check_magic(path)?;
    let failed = |cause| OpenError::Sqlite { path: path.clone(), cause };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(config.busy_timeout).map_err(failed)?;
    let found = check_owner(&conn, path)?;
    if found < SCHEMA_VERSION {
        return Err(OpenError::Older { path: path.clone(), found, known: SCHEMA_VERSION });
    }
    check_whole(&conn, path)?;
    keep_statements(&conn).map_err(failed)?;
    Ok(conn)
}

/// Brings all that was committed into the one file. False if another process
/// keeps some of it in the log beside the file.
pub fn checkpoint(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// A new file is its owner's alone: it holds the secrets that sign.
pub fn make_private(path: &Path) -> Result<(), OpenError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(OpenError::Io { path: path.to_owned(), cause }),
    }
}

/// A file of another kind is told by its first bytes, before SQLite sees it.
pub fn check_magic(path: &Path) -> Result<(), OpenError> {
    let failed = |cause| OpenError::Io { path: path.to_owned(), cause };
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(cause)),
    };
    if start.is_empty() || start == MAGIC {
        Ok(())
    } else {
        Err(OpenError::Foreign { path: path.to_owned(), what: "no database at all" })
    }
}

/// The version of a store of ours, 0 for an empty file. Only reads.
fn check_owner(conn: &Connection, path: &Path) -> Result<usize, OpenError> {
    let failed = |cause| OpenError::Sqlite { path: path.to_owned(), cause };
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let found = read_version(conn).map_err(failed)?;
    if application == APPLICATION_ID {
        if found > SCHEMA_VERSION {
            return Err(OpenError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
        }
        return Ok(found);
    }
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(failed)?;
    if application == 0 && found == 0 && tables == 0 {
        Ok(0)
    } else {
        Err(OpenError::Foreign { path: path.to_owned(), what: "a database of another program" })
    }
}

fn read_version(conn: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// Brings the schema up to date in one transaction; a new store begins with these facts. Two processes may try at
/// once, so the version is read again inside it.
fn migrate(conn: &mut Connection, facts: &[(&str, String)]) -> rusqlite::Result<()> {
    // Before the first table, or it has no effect: lets later versions give space back in steps.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = read_version(&tx)?;
    if version == 0 {
        tx.execute_batch(SCHEMA)?;
        for (key, value) in facts {
            tx.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", [key, value.as_str()])?;
        }
    } else {
        for step in MIGRATIONS.iter().skip(version) {
            tx.execute_batch(step)?;
        }
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", i64::try_from(SCHEMA_VERSION).unwrap_or(i64::MAX))?;
    tx.commit()
}

/// Has statements stay prepared. Without the guarantee of one plan, SQLite
/// prepares a statement with `LIMIT ?` anew for each value, to plan for that.
fn keep_statements(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Settings belong to every connection, not to the file.
fn set_up(conn: &Connection, config: &Config) -> rusqlite::Result<()> {
    keep_statements(conn)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match config.durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    // What a savepoint may have to undo: else each change that touches more than a few pages writes them to a file
    // of its own, outside the store, and deletes that again.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // The writer keeps the references right itself; checking each row again costs a look-up.
    conn.pragma_update(None, "foreign_keys", cfg!(debug_assertions))
}

/// The readers' pool. They read what was committed, and never wait for the
/// writer. They stay as long as the store is open: one that was opened later
/// would read whatever the path leads to by then.
pub fn open_readers(
    config: &Config,
    count: u32,
) -> Result<r2d2::Pool<r2d2_sqlite::SqliteConnectionManager>, OpenError> {
    let busy_timeout = config.busy_timeout;
    let manager = r2d2_sqlite::SqliteConnectionManager::file(&config.path)
        .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .with_init(move |conn| {
            keep_statements(conn)?;
            conn.busy_timeout(busy_timeout)?;
            // From its first look on it has the log open, which therefore stays while the writer reopens the file.
            read_version(conn).map(drop)
        });
    r2d2::Pool::builder()
        .max_size(count)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_on_check_out(false)
        .build(manager)
        .map_err(|cause| OpenError::Io { path: config.path.clone(), cause: std::io::Error::other(cause) })
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// What there is, with the words of its definition: what is added to a table
    /// later stands there on one line, without a comment.
    fn objects(conn: &Connection) -> Vec<(String, Vec<String>)> {
        let mut statement = conn
            .prepare("SELECT name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
            .unwrap();
        let words = |sql: String| -> Vec<String> {
            let code = sql.lines().filter_map(|line| line.split("--").next());
            let spaced: String = code.map(|line| line.replace(',', " , ").replace(')', " ) ") + " ").collect();
            spaced.split_whitespace().map(str::to_owned).collect()
        };
        let rows = statement.query_map([], |row| Ok((row.get(0)?, words(row.get(1)?)))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_migrated_store_is_like_a_fresh_one() {
        let fresh = Connection::open_in_memory().unwrap();
        fresh.execute_batch(SCHEMA).unwrap();
        let migrated = Connection::open_in_memory().unwrap();
        for step in MIGRATIONS {
            migrated.execute_batch(step).unwrap();
        }
        assert_eq!(objects(&migrated), objects(&fresh));
        assert!(!objects(&fresh).is_empty());
    }

    #[test]
    fn jobs_of_older_stores_go_on() {
        let mut conn = Connection::open_in_memory().unwrap();
        MIGRATIONS[..4].iter().for_each(|step| conn.execute_batch(step).unwrap());
        conn.execute_batch(
            "PRAGMA foreign_keys = OFF;
            INSERT INTO webhook (webhook_id, merchant_id, user_id, name, description, is_active, topics, extra_headers,
                secret_key, old_secrets, format, retry, delivery_mode, expansions, created_at, updated_at)
                VALUES (7, 3, 1, '', '', 1, '*', '', 's', '[]', 'envelope', 'default', 'parallel', '{}', 0, 0);
            INSERT INTO job (webhook_id, kind, next_id, last_id, since, topics)
                VALUES (7, 'replay', 2, 9, 0, ''), (7, 'backfill', 1, 5, 4, 'order:*');",
        )
        .unwrap();
        conn.execute_batch(MIGRATIONS[4]).unwrap();
        let jobs = crate::store::sql::jobs::load(&mut conn).unwrap();
        let known: Vec<_> = jobs.iter().map(|job| (job.webhook_id.0, job.merchant_id.0)).collect();
        assert_eq!(known, [(7, 3), (7, 3)]);
    }

    #[test]
    fn statements_stay_prepared_whatever_they_are_given() {
        let conn = Connection::open_in_memory().unwrap();
        keep_statements(&conn).unwrap();
        conn.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)").unwrap();
        let mut statement = conn.prepare("SELECT n FROM t WHERE n > ?1 ORDER BY n LIMIT ?2").unwrap();
        for (after, max) in [(0_i64, 1), (0, 2), (1, 2)] {
            assert_eq!(statement.query([after, max]).unwrap().mapped(|row| row.get::<_, i64>(0)).count() as i64, max);
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn what_may_be_undone_is_in_no_file_of_its_own() {
        let conn = Connection::open_in_memory().unwrap();
        let path = std::path::PathBuf::new();
        set_up(&conn, &crate::store::sqlite::writer::tests::config(path)).unwrap();
        let temp_store: i64 = conn.pragma_query_value(None, "temp_store", |row| row.get(0)).unwrap();
        assert_eq!(temp_store, 2, "2 is memory");
    }
}
