//! A connection to SQLite, as what is said in SQL knows it.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};

use crate::store::error::StoreError;
use crate::store::sql::db::damaged;
use crate::store::sql::{Db, Dialect, Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

impl Db for &Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let mut statement = self.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }

    fn rows(&mut self, sql: &str, values: &[Value<'_>], each: &mut dyn FnMut(&dyn Row) -> Result<bool>) -> Result<()> {
        let mut statement = self.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }
}

/// `$1` is a name to SQLite: those that come first in the text are its first
/// parameters.
fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> Result<()> {
    for (index, value) in values.iter().enumerate() {
        let name = format!("${}", index + 1);
        if let Some(place) = statement.parameter_index(&name)? {
            statement.raw_bind_parameter(place, value)?;
        }
    }
    Ok(())
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match *self {
            Self::Int(value) => value.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Text(value) => value.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::Flag(value) => value.map_or(ValueRef::Null, |flag| ValueRef::Integer(flag.into())),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl Row for rusqlite::Row<'_> {
    fn int_if(&self, column: usize) -> Result<Option<i64>> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => Ok(Some(value)),
            _ => Err(damaged("no number")),
        }
    }

    fn text_if(&self, column: usize) -> Result<Option<&str>> {
        self.get_ref(column)?.as_str_or_null().map_err(StoreError::failed)
    }

    fn bytes(&self, column: usize) -> Result<&[u8]> {
        self.get_ref(column)?.as_blob().map_err(StoreError::failed)
    }

    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.get(column)?)
    }
}
