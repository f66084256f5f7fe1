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

    /// Bytes, if there are any.
    fn bytes_if(&self, column: usize) -> Result<Option<&[u8]>>;

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

    /// The same, if there is one.
    pub fn count_if(&self, column: usize) -> Result<Option<u32>> {
        self.int_if(column)?.map(|value| u32::try_from(value).map_err(|_| damaged("bad number"))).transpose()
    }

    /// A number of bytes or rows.
    pub fn amount(&self, column: usize) -> Result<u64> {
        self.int(column).map(i64::unsigned_abs)
    }

    /// A text.
    pub fn text(&self, column: usize) -> Result<&str> {
        self.text_if(column)?.ok_or_else(|| damaged("a text is missing"))
    }

    /// The same as one of its own.
    pub fn string(&self, column: usize) -> Result<String> {
        self.text(column).map(str::to_owned)
    }

    /// The same, if there is one.
    pub fn string_if(&self, column: usize) -> Result<Option<String>> {
        Ok(self.text_if(column)?.map(str::to_owned))
    }

    /// Bytes.
    pub fn bytes(&self, column: usize) -> Result<&[u8]> {
        self.bytes_if(column)?.ok_or_else(|| damaged("bytes are missing"))
    }

    /// The hash of a secret, if there is one.
    pub fn hash_if(&self, column: usize) -> Result<Option<[u8; 32]>> {
        self.bytes_if(column)?.map(|bytes| bytes.try_into().map_err(|_| damaged("bad hash"))).transpose()
    }

    /// The hash of a secret.
    pub fn hash(&self, column: usize) -> Result<[u8; 32]> {
        self.hash_if(column)?.ok_or_else(|| damaged("a hash is missing"))
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

    /// The rows of a table with an index by merchant, such as `event`, of merchant `$1` with ids
    /// from `$2` to `$3` in their order, `ASC` or `DESC`; takes a LIMIT behind it. Said so that
    /// their own index is used: it may take for ever to pass over the rows of all others.
    pub fn of_merchant(self, table: &str, direction: &str) -> String {
        match self {
            Self::Sqlite => format!(
                "FROM {table} INDEXED BY {table}_by_merchant WHERE merchant_id = $1 AND {table}_id BETWEEN $2 AND $3
                    ORDER BY {table}_id {direction}"
            ),
            Self::Postgres => format!(
                "FROM {table} WHERE (merchant_id, {table}_id) >= ($1, $2) AND (merchant_id, {table}_id) <= ($1, $3)
                    ORDER BY merchant_id {direction}, {table}_id {direction}"
            ),
        }
    }

    /// Has a merchant's row locked until the end of the transaction, where others may be at it;
    /// `None`: who writes is alone.
    pub fn lock_merchant(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT merchant_id FROM merchant WHERE merchant_id = $1 FOR NO KEY UPDATE"),
        }
    }

    /// Has whoever would give the name `$1` to another wait until the end of the transaction,
    /// where there may be others.
    pub fn lock_name(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"),
        }
    }

    /// What gives the id of the next merchant.
    pub fn next_merchant(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'merchant'), 0) + 1",
            Self::Postgres => "SELECT nextval(pg_get_serial_sequence('merchant', 'merchant_id'))",
        }
    }

    /// How many keys a statement asks for. PostgreSQL is asked for many, since each
    /// statement is a way there and back; SQLite is quickest with one.
    pub fn keys_at_once(self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => 16,
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
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::db::Value::from($value)),*] };
}
pub(crate) use values;

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

/// Rows that are read at once of what may be long: each of these rows is short.
pub const ROWS_AT_ONCE: u32 = 1_000;

/// Reads all rows of a statement that gives `$2` of those with ids behind `$1`, by
/// their ids, so many at once.
pub fn in_parts<T>(
    db: &mut dyn Db,
    sql: &str,
    at_once: u32,
    read: impl Fn(&dyn Row) -> Result<T>,
    id_of: impl Fn(&T) -> i64,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or(i64::MIN, &id_of);
        let part = all(db, sql, values![after, at_once], &read)?;
        let is_last = part.len() < at_once as usize;
        found.extend(part);
        if is_last {
            return Ok(found);
        }
    }
}
