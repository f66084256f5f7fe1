//! Looking at the file beside a running server, or without one.

use std::path::PathBuf;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Config;
use super::open::{OpenError, check_name, open_to_look};
use super::place::beside;
use crate::store::error::StoreError;
use crate::store::sql::check::{Checker, Moment};
use crate::store::sql::conn::Conn;

/// The most damages that are told of one file.
const DAMAGES_MAX: u32 = 100;

/// A connection that only reads.
pub struct Reading {
    /// There until this ends.
    conn: Option<Connection>,
    /// The file, if no log lay beside it: one that only reads makes a log, and
    /// can't take it away again.
    was_alone: Option<PathBuf>,
}

impl Reading {
    /// Opens a file that is there.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        check_name(&config.path)?;
        let was_alone = (!beside(&config.path, "-wal").exists()).then(|| config.path.clone());
        let conn = Some(open_to_look(config)?);
        Ok(Self { conn, was_alone })
    }

    /// What is asked.
    pub fn conn(&mut self) -> Result<&mut Connection, StoreError> {
        self.conn.as_mut().ok_or_else(|| StoreError::failed("the store was closed"))
    }
}

impl Moment for Reading {
    /// A transaction reads one state of the log, and keeps that from being emptied as
    /// long as it lasts.
    fn look(&mut self, look: &mut dyn FnMut(&mut dyn Conn) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let conn = self.conn()?;
        conn.execute_batch("BEGIN")?;
        let looked = look(conn);
        let ended = conn.execute_batch("ROLLBACK");
        looked.and(Ok(ended?))
    }

    /// Its pages, what leads from one to the other, and whether each index has what its table
    /// has. It reads the whole file in one transaction.
    fn damages(&mut self) -> Result<Vec<String>, StoreError> {
        let conn = self.conn()?;
        let mut told = Vec::new();
        let looked = conn.prepare(&format!("PRAGMA integrity_check({DAMAGES_MAX})")).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                told.push(row.get::<_, String>(0)?);
            }
            Ok(())
        });
        match looked {
            Ok(()) => {}
            // So damaged that it can't be looked at to the end.
            Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => told.push(cause.to_string()),
            Err(cause) => return Err(cause.into()),
        }
        let is_damage = |line: &&str| *line != "ok" && !line.starts_with("***");
        Ok(told.iter().flat_map(|told| told.lines()).filter(is_damage).map(|line| named(conn, line)).collect())
    }
}

/// What SQLite says of a tree, with the name of the table or index that is in it.
fn named(conn: &Connection, line: &str) -> String {
    let root =
        line.strip_prefix("Tree ").and_then(|rest| rest.split(' ').next()).and_then(|root| root.parse::<i64>().ok());
    let name = root.and_then(|root| {
        let sql = "SELECT type || ' ' || name FROM sqlite_master WHERE rootpage = ?1";
        conn.query_row(sql, [root], |row| row.get::<_, String>(0)).ok()
    });
    match name {
        Some(name) => format!("{name}: {line}"),
        None => line.to_owned(),
    }
}

impl Drop for Reading {
    /// A file that was all there is of the store is so again, unless somebody has it
    /// open by now: SQLite knows, and takes an empty log away with the last
    /// connection that could write.
    fn drop(&mut self) {
        self.conn = None;
        let Some(path) = &self.was_alone else { return };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // What is left otherwise is empty, and goes when a server stops.
        let _ = Connection::open_with_flags(path, flags)
            .and_then(|conn| conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())));
    }
}

/// Opens the file to be looked at.
pub fn open(config: &Config) -> Result<Checker, OpenError> {
    Ok(Checker::on(Reading::open(config)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{EventId, IncrementId, WebhookId};
    use crate::domain::node::Bucket;
    use crate::domain::time::Timestamp;
    use crate::store::deliveries::Pulled;
    use crate::store::glance::Glimpse;
    use crate::store::outbox::{Page, PageLimit, Want};
    use crate::store::sql::check::News;
    use crate::store::sql::steps::Step;
    use crate::store::sql::{Db, Dialect, Row, Value};

    type Result<T> = std::result::Result<T, StoreError>;

    /// Whoever looks at a store that is given more than a part of everything before
    /// each statement.
    struct Growing {
        reading: Reading,
        other: Connection,
    }

    impl Moment for Growing {
        fn look(&mut self, look: &mut dyn FnMut(&mut dyn Conn) -> Result<()>) -> Result<()> {
            let Self { reading, other } = self;
            reading.look(&mut |conn| look(&mut Beside { conn, other }))
        }
    }

    struct Beside<'a> {
        conn: &'a mut dyn Conn,
        other: &'a Connection,
    }

    impl Beside<'_> {
        fn grow(&self) -> Result<()> {
            Ok(self.other.execute_batch(
                "BEGIN;
                WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1001)
                INSERT INTO event (merchant_id, topic, message, created_at, published_at)
                    SELECT 1, 'a:b', '{}', 5, 5 FROM n;
                WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1001)
                INSERT INTO delivery (webhook_id, increment_id, event_id, format, created_at, state, ended_at, attempts)
                    SELECT webhook_id, last_increment_id + n, last_increment_id + n, 0, 5, 1, 5, 1 FROM n, webhook;
                INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, queue_delay_ms, duration_us,
                    request_headers, response_headers, response_body, is_compressed)
                    SELECT d.webhook_id, d.increment_id, 1, 5, 5, 5, '', '', x'', 0 FROM delivery d
                    JOIN webhook w USING (webhook_id) WHERE d.increment_id > w.last_increment_id;
                UPDATE webhook SET last_increment_id = last_increment_id + 1001;
                COMMIT",
            )?)
        }
    }

    impl Db for Beside<'_> {
        fn dialect(&self) -> Dialect {
            self.conn.dialect()
        }

        fn run(&mut self, _: &str, _: &[Value<'_>]) -> Result<u64> {
            unreachable!("nothing is written")
        }

        fn rows(
            &mut self,
            sql: &str,
            values: &[Value<'_>],
            each: &mut dyn FnMut(&dyn Row) -> Result<bool>,
        ) -> Result<()> {
            self.grow()?;
            self.conn.rows(sql, values, each)
        }
    }

    impl Conn for Beside<'_> {
        fn page(&mut self, _: WebhookId, _: Want, _: Timestamp, _: PageLimit) -> Result<Page> {
            unreachable!("nothing is sent")
        }

        fn next_due(&mut self, _: WebhookId, _: Timestamp) -> Result<Option<Timestamp>> {
            unreachable!("nothing is sent")
        }

        fn pull(&mut self, _: WebhookId, _: IncrementId, _: PageLimit) -> Result<Vec<Pulled>> {
            unreachable!("nothing is pulled")
        }

        fn glimpses(&mut self, _: Option<WebhookId>, _: Option<&[Bucket]>) -> Result<Step<Vec<Glimpse>, WebhookId>> {
            unreachable!("nothing is sent")
        }

        fn last_event(&mut self) -> Result<EventId> {
            self.grow()?;
            self.conn.last_event()
        }

        fn store_bytes(&mut self) -> Result<u64> {
            unreachable!("nobody watches")
        }
    }

    /// Whoever reads a thousand rows while more than those come would never be done;
    /// and what comes between two statements must not be seen by the second alone.
    #[test]
    fn a_store_that_grows_while_it_is_read_raises_no_alarm_and_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF").unwrap();
        other.execute_batch(include_str!("../../../schema.sql")).unwrap();
        other
            .execute_batch(
                "INSERT INTO merchant (code, created_at) VALUES ('acme', 5);
                INSERT INTO user (merchant_id, name, key_hash, permissions, created_at) VALUES (1, 'ann', x'00', 15, 5);
                INSERT INTO webhook (merchant_id, user_id, name, description, is_active, topics, extra_headers,
                    secret_key, old_secrets, format, retry, delivery_mode, expansions, created_at, updated_at)
                    VALUES (1, 1, '', '', 1, '*', '', 'x', '[]', 'envelope', 'default', 'parallel', '{}', 5, 5)",
            )
            .unwrap();
        let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let reading = Reading { conn: Some(conn), was_alone: None };
        let mut faults = Vec::new();
        let checked = Checker::on(Growing { reading, other }).run(|news| {
            if let News::Fault(fault) = news {
                faults.push(fault.to_string());
            }
        });
        let looked_at = checked.unwrap().looked_at;
        assert_eq!(faults, [""; 0]);
        assert_eq!(looked_at.webhooks, 1);
        for rows in [looked_at.deliveries, looked_at.events, looked_at.attempts] {
            assert!((2_000..100_000).contains(&rows), "{looked_at:?}");
        }
    }
}
