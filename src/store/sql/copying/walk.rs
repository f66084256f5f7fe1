//! Reading a table in the order of its key, a part at a time.

use super::batch::{Batch, Place};
use super::tables::{Kind, Table};
use crate::store::error::StoreError;
use crate::store::sql::{Db, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// Rows of a part.
const ROWS_MAX: u32 = 4_000;
/// Bytes of a part's texts, unless its first row has more.
const BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// A walk through a table.
pub struct Walk {
    table: &'static Table,
    after: Option<Place>,
}

impl Walk {
    /// Behind a place, or from the beginning.
    pub fn behind(table: &'static Table, after: Option<Place>) -> Self {
        Self { table, after }
    }

    /// Where it has come to.
    pub fn after(&self) -> Option<&Place> {
        self.after.as_ref()
    }

    /// The next rows; none at the end.
    pub fn next(&mut self, db: &mut dyn Db) -> Result<Batch> {
        let rows_max = if self.table.is_long { self.fitting(db)? } else { ROWS_MAX };
        let mut batch = Batch::of(self.table);
        if rows_max > 0 {
            let sql = self.sql(&self.table.names(), db);
            db.rows(&sql, &self.values(rows_max), &mut |row| batch.push(row).map(|()| true))?;
        }
        if let Some(last) = batch.rows.checked_sub(1) {
            self.after = Some(batch.place(last, self.table)?);
        }
        Ok(batch)
    }

    /// How many of the next rows are not too long together. To measure a text, nothing
    /// of it is read.
    fn fitting(&self, db: &mut dyn Db) -> Result<u32> {
        let is_long = |kind: Kind| matches!(kind, Kind::Text | Kind::Bytes);
        let lengths = self.table.columns.iter().filter(|(_, kind)| is_long(*kind));
        let lengths: Vec<_> = lengths.map(|(name, _)| format!("coalesce(octet_length({name}), 0)")).collect();
        let sql = self.sql(&format!("CAST(0 AS BIGINT) + {}", lengths.join(" + ")), db);
        let (mut rows, mut bytes) = (0, 0);
        db.rows(&sql, &self.values(ROWS_MAX), &mut |row| {
            bytes += row.amount(0)?;
            if bytes > BYTES_MAX && rows > 0 {
                return Ok(false);
            }
            rows += 1;
            Ok(true)
        })?;
        Ok(rows)
    }

    fn sql(&self, what: &str, db: &dyn Db) -> String {
        let Table { name, key, .. } = *self.table;
        let from = if name == "webhook" { db.dialect().webhooks() } else { name };
        let keys = self.table.key_names();
        let behind = match &self.after {
            None => String::new(),
            Some(_) => {
                let places: Vec<_> = (2..key + 2).map(|place| format!("${place}")).collect();
                format!("WHERE ({keys}) > ({})", places.join(", "))
            }
        };
        format!("SELECT {what} FROM {from} {behind} ORDER BY {keys} LIMIT $1")
    }

    fn values(&self, rows_max: u32) -> Vec<Value<'_>> {
        let after = self.after.iter().flat_map(Place::values);
        [Value::from(rows_max)].into_iter().chain(after).collect()
    }
}
