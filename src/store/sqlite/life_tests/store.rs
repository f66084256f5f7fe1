//! A store for the cases.

use rusqlite::{Connection, Row, params};

use super::Case;
use crate::domain::delivery::EndReason;
use crate::domain::id::{IncrementId, Span};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::sql::codes::{state_code, state_from_code};

/// A store in memory with one webhook, and the rows of all cases.
pub struct Store(pub Connection);

const COLUMNS: &str = "state, attempts, policy_start, next_attempt_at, ended_at, reason, batch_first, batch_last,
    resends_asked, event_id";

impl Store {
    /// Before each case there is a row that waits, lest what is pending is
    /// thought to begin behind it.
    pub fn holding(cases: &[Case]) -> Self {
        let conn = Connection::open_in_memory().unwrap();
        conn.set_prepared_statement_cache_capacity(100);
        conn.execute_batch(include_str!("../../../../schema.sql")).unwrap();
        conn.execute_batch(
            "INSERT INTO merchant (code, created_at) VALUES ('acme', 0);
            INSERT INTO user (merchant_id, name, key_hash, permissions, created_at) VALUES (1, 'ann', x'00', 15, 0);
            INSERT INTO webhook (merchant_id, user_id, name, description, is_active, topics, extra_headers, secret_key,
                    old_secrets, format, retry, delivery_mode, expansions, created_at, updated_at)
                VALUES (1, 1, '', '', 1, 'a:b', '', 'sixteen characters and more', '[]', 'envelope', 'default',
                    'pull', '{}', 0, 0);
            INSERT INTO event (merchant_id, topic, message, created_at, published_at) VALUES (1, 'a:b', '{}', 0, 0);
            BEGIN;",
        )
        .unwrap();
        let store = Self(conn);
        for case in cases {
            let rows = std::iter::once(&Standing::NEW).chain(&case.rows);
            rows.zip(case.first - 1..).for_each(|(row, number)| store.insert(number, row));
        }
        store
            .0
            .execute("UPDATE webhook SET last_increment_id = (SELECT coalesce(max(increment_id), 0) FROM delivery)", [])
            .unwrap();
        let remember = format!(
            "CREATE TEMP TABLE before (increment_id INTEGER PRIMARY KEY, {COLUMNS});
            INSERT INTO before SELECT increment_id, {COLUMNS} FROM delivery;
            COMMIT;"
        );
        store.0.execute_batch(&remember).unwrap();
        store
    }

    fn insert(&self, number: i64, row: &Standing) {
        let sql = "INSERT INTO delivery (webhook_id, increment_id, event_id, state, attempts, policy_start, format,
            created_at, next_attempt_at, ended_at, reason, batch_first, batch_last, resends_asked)
            VALUES (1, ?1, ?2, ?3, ?4, ?5, 0, 0, ?6, ?7, ?8, ?9, ?10, ?11)";
        let parameters = params![
            number,
            if row.is_forgotten { -1 } else { 1 },
            state_code(row.state),
            row.attempts,
            row.policy_start,
            row.next_attempt_at.map(|at| at.0),
            row.ended_at.map(|at| at.0),
            row.reason.map(EndReason::name),
            row.batch.map(|batch| batch.first.0),
            row.batch.map(|batch| batch.last.0),
            row.resends_asked,
        ];
        self.0.prepare_cached(sql).unwrap().execute(parameters).unwrap();
    }

    pub fn last(&self) -> IncrementId {
        self.0.query_row("SELECT max(increment_id) FROM delivery", [], |row| row.get(0)).map(IncrementId).unwrap()
    }

    /// The rows that are not as they were, by number. None may come or go.
    pub fn changed(&self) -> Vec<(i64, Standing)> {
        let count = |table| self.0.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        assert_eq!(count("delivery").unwrap(), count("before").unwrap());
        let members = |table| COLUMNS.replace([' ', '\n'], "").replace(',', &format!(", {table}."));
        let sql = format!(
            "SELECT d.{d}, d.increment_id FROM delivery d JOIN before b USING (increment_id)
                WHERE d.webhook_id = 1 AND (d.{d}) IS NOT (b.{b}) ORDER BY d.increment_id",
            d = members("d"),
            b = members("b"),
        );
        let mut statement = self.0.prepare_cached(&sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(10)?, standing(row)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    pub fn rows_of(&self, span: Span) -> Vec<Standing> {
        let sql = format!(
            "SELECT {COLUMNS} FROM delivery WHERE webhook_id = 1 AND increment_id BETWEEN ?1 AND ?2
                ORDER BY increment_id"
        );
        let mut statement = self.0.prepare_cached(&sql).unwrap();
        let rows = statement.query_map([span.first.0, span.last.0], standing).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Does something, and undoes it.
    pub fn undoing<T>(&self, act: impl FnOnce() -> T) -> T {
        self.0.execute_batch("BEGIN").unwrap();
        let done = act();
        self.0.execute_batch("ROLLBACK").unwrap();
        done
    }
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    let number = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(IncrementId));
    let reason = row.get_ref(5)?.as_str_or_null()?;
    Ok(Standing {
        state: state_from_code(row.get(0)?).unwrap(),
        attempts: row.get(1)?,
        policy_start: row.get(2)?,
        next_attempt_at: time(3)?,
        ended_at: time(4)?,
        reason: reason.map(|name| EndReason::from_name(name).unwrap()),
        batch: match (number(6)?, number(7)?) {
            (Some(first), Some(last)) => Some(Span { first, last }),
            (None, None) => None,
            half => panic!("half a batch: {half:?}"),
        },
        resends_asked: row.get(8)?,
        is_forgotten: row.get::<_, i64>(9)? < 0,
    })
}
