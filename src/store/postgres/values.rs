//! Values for statements, and rows, as PostgreSQL has them.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::store::error::StoreError;
use crate::store::sql::db::damaged;
use crate::store::sql::{Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// A value for a statement, and its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Values with their types, which follow from them.
pub fn parameters<'a>(values: &'a [Value<'a>]) -> Vec<Parameter<'a>> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), kind(value))).collect()
}

fn kind(value: &Value<'_>) -> Type {
    match value {
        Value::Int(_) => Type::INT8,
        Value::Text(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
        Value::Flag(_) => Type::BOOL,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Int(value) => value.to_sql(kind, out),
            Self::Text(value) => value.map(storable).to_sql(kind, out),
            Self::Bytes(value) => value.to_sql(kind, out),
            Self::Flag(value) => value.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA, Type::BOOL].contains(kind)
    }

    to_sql_checked!();
}

/// A text as PostgreSQL can keep it: it knows no character of the code zero, in
/// whose place stands the one for what can't be shown.
pub fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    match memchr::memchr(0, text.as_bytes()) {
        None => text.into(),
        Some(_) => text.replace('\0', "\u{fffd}").into(),
    }
}

impl Row for tokio_postgres::Row {
    fn int_if(&self, column: usize) -> Result<Option<i64>> {
        let kind = self.columns().get(column).map(tokio_postgres::Column::type_);
        match kind {
            Some(&Type::INT8) => Ok(self.try_get(column)?),
            Some(&Type::INT4) => Ok(self.try_get::<_, Option<i32>>(column)?.map(i64::from)),
            Some(&Type::INT2) => Ok(self.try_get::<_, Option<i16>>(column)?.map(i64::from)),
            _ => Err(damaged("no number")),
        }
    }

    fn text_if(&self, column: usize) -> Result<Option<&str>> {
        Ok(self.try_get(column)?)
    }

    fn bytes_if(&self, column: usize) -> Result<Option<&[u8]>> {
        Ok(self.try_get(column)?)
    }

    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.try_get(column)?)
    }
}
