//! A connection to a store, and rows as they are read from it.

use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// A connection to a store. A statement is kept prepared where that is possible,
/// so its text should not contain what differs from call to call.
pub trait Db {
    /// How it speaks.
    fn dialect(&self) -> Dialect;

    /// Runs a statement; how many rows it has written.
    fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64>;

    /// Shows the rows that a statement gives, in their order, as long as `each`
    /// wants more. An engine may have read all of them before it shows the first:
    /// a statement has to bound what it gives.
    fn rows(&mut self, sql: &str, values: &[Value<'_>], each: &mut dyn FnMut(&dyn Row) -> Result<bool>) -> Result<()>;
}

/// A row. A column that is read as something else than it is, or as missing where
/// it must not be, means a damaged store.
pub trait Row {
    /// A number, if there is one.
    fn int_if(&self, column: usize) -> Result<Option<i64>>;

    /// A text, if there is one.
    fn text_if(&self, column: usize) -> Result<Option<&str>>;

    /// Bytes.
    fn bytes(&self, column: usize) -> Result<&[u8]>;

    /// True or false.
    fn flag(&self, column: usize) -> Result<bool>;
}

impl dyn Row + '_ {
    /// A number.
    pub fn int(&self, column: usize) -> Result<i64> {
        self.int_if(column)?.ok_or_else(|| damaged("a number is missing"))
    }

    /// A number that counts something.
    pub fn count(&self, column: usize) -> Result<u32> {
        u32::try_from(self.int(column)?).map_err(|_| damaged("bad number"))
    }

    /// A text.
    pub fn text(&self, column: usize) -> Result<&str> {
        self.text_if(column)?.ok_or_else(|| damaged("a text is missing"))
    }

    /// A time.
    pub fn time(&self, column: usize) -> Result<Timestamp> {
        self.int(column).map(Timestamp)
    }

    /// A time, if there is one.
    pub fn time_if(&self, column: usize) -> Result<Option<Timestamp>> {
        Ok(self.int_if(column)?.map(Timestamp))
    }
}

/// A value that the program never writes.
pub fn damaged(what: &str) -> StoreError {
    StoreError::failed(format!("damaged store: {what}"))
}

/// How an engine speaks, where that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// Has an index used that the engine might pass over; stands behind the name
    /// of its table.
    pub fn by_index(self, index: &str) -> String {
        match self {
            Self::Sqlite => format!("INDEXED BY {index}"),
            Self::Postgres => String::new(),
        }
    }

    /// Where webhooks are read with their last numbers.
    pub fn webhooks(self) -> &'static str {
        match self {
            Self::Sqlite => "webhook",
            Self::Postgres => "webhook_now",
        }
    }
}

/// A value for a statement. What is missing has a kind, too.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A number.
    Int(Option<i64>),
    /// A text.
    Text(Option<&'a str>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// True or false.
    Flag(Option<bool>),
}

macro_rules! from {
    ($($from:ty => |$value:ident| $to:expr;)+) => {
        $(impl<'a> From<$from> for Value<'a> {
            fn from($value: $from) -> Self {
                $to
            }
        })+
    };
}

from! {
    i64 => |value| Self::Int(Some(value));
    u32 => |value| Self::Int(Some(value.into()));
    u16 => |value| Self::Int(Some(value.into()));
    Timestamp => |value| Self::Int(Some(value.0));
    bool => |value| Self::Flag(Some(value));
    &'a str => |value| Self::Text(Some(value));
    &'a String => |value| Self::Text(Some(value));
    &'a [u8] => |value| Self::Bytes(value);
    &'a [u8; 32] => |value| Self::Bytes(value);
    Option<i64> => |value| Self::Int(value);
    Option<u32> => |value| Self::Int(value.map(i64::from));
    Option<u16> => |value| Self::Int(value.map(i64::from));
    Option<Timestamp> => |value| Self::Int(value.map(|time| time.0));
    Option<bool> => |value| Self::Flag(value);
    Option<&'a str> => |value| Self::Text(value);
}

/// Values for a statement, each of a type that [`Value`] can be made from.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Value::from($value)),*] };
}
pub(in crate::store) use values;

/// Reads all rows that a statement gives.
pub fn all<T>(
    db: &mut dyn Db,
    sql: &str,
    values: &[Value<'_>],
    mut read: impl FnMut(&dyn Row) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    db.rows(sql, values, &mut |row| {
        found.push(read(row)?);
        Ok(true)
    })?;
    Ok(found)
}

/// Reads the first row that a statement gives, if it gives one.
pub fn one<T>(
    db: &mut dyn Db,
    sql: &str,
    values: &[Value<'_>],
    mut read: impl FnMut(&dyn Row) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    db.rows(sql, values, &mut |row| {
        found = Some(read(row)?);
        Ok(false)
    })?;
    Ok(found)
}
