//! Rows on their way, by columns, and places in the order of a table's key.

use serde_json::Value as Json;

use super::tables::{Kind, Table};
use crate::store::error::StoreError;
use crate::store::sql::db::damaged;
use crate::store::sql::{Row, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// A column of some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cells {
    /// Numbers.
    Int(Vec<Option<i64>>),
    /// Texts.
    Text(Vec<Option<String>>),
    /// Bytes.
    Bytes(Vec<Option<Vec<u8>>>),
    /// True or false.
    Flag(Vec<bool>),
}

impl Cells {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Int => Self::Int(Vec::new()),
            Kind::Text => Self::Text(Vec::new()),
            Kind::Bytes => Self::Bytes(Vec::new()),
            Kind::Flag => Self::Flag(Vec::new()),
        }
    }

    /// The value of a row.
    pub fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Int(cells) => Value::Int(cells[row]),
            Self::Text(cells) => Value::Text(cells[row].as_deref()),
            // Only SQLite is given one value at a time, to which all that is missing is the same.
            Self::Bytes(cells) => cells[row].as_deref().map_or(Value::Int(None), Value::Bytes),
            Self::Flag(cells) => Value::Flag(Some(cells[row])),
        }
    }

    /// True if a row has here what another row has there.
    pub fn is_same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        match (self, other) {
            (Self::Int(own), Self::Int(others)) => own[row] == others[other_row],
            (Self::Text(own), Self::Text(others)) => own[row] == others[other_row],
            (Self::Bytes(own), Self::Bytes(others)) => own[row] == others[other_row],
            (Self::Flag(own), Self::Flag(others)) => own[row] == others[other_row],
            _ => false,
        }
    }

    /// Gives what a row has here as bytes, which nothing else has.
    pub fn digest(&self, row: usize, add: &mut dyn FnMut(&[u8])) {
        let mut sized = |bytes: Option<&[u8]>| match bytes {
            None => add(b"-"),
            Some(bytes) => {
                add(b"+");
                add(&(bytes.len() as u64).to_le_bytes());
                add(bytes);
            }
        };
        match self {
            Self::Int(cells) => sized(cells[row].map(i64::to_le_bytes).as_ref().map(|bytes| &bytes[..])),
            Self::Text(cells) => sized(cells[row].as_ref().map(String::as_bytes)),
            Self::Bytes(cells) => sized(cells[row].as_deref()),
            Self::Flag(cells) => sized(Some(&[cells[row].into()])),
        }
    }
}

/// Rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many.
    pub rows: usize,
    /// Its columns, as the table has them.
    pub columns: Vec<Cells>,
}

impl Batch {
    /// None yet.
    pub fn of(table: &Table) -> Self {
        Self { rows: 0, columns: table.columns.iter().map(|(_, kind)| Cells::of(*kind)).collect() }
    }

    /// Adds a row whose columns are those of the table.
    pub fn push(&mut self, row: &dyn Row) -> Result<()> {
        for (place, cells) in self.columns.iter_mut().enumerate() {
            match cells {
                Cells::Int(cells) => cells.push(row.int_if(place)?),
                Cells::Text(cells) => cells.push(row.string_if(place)?),
                Cells::Bytes(cells) => cells.push(row.bytes_if(place)?.map(<[u8]>::to_vec)),
                Cells::Flag(cells) => cells.push(row.flag(place)?),
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Has all texts be such as can be held; how many were changed.
    pub fn change_texts(&mut self, held: impl Fn(&str) -> Option<String>) -> u64 {
        let mut changed = 0;
        for cells in &mut self.columns {
            let Cells::Text(cells) = cells else { continue };
            for text in cells.iter_mut().flatten() {
                if let Some(held) = held(text) {
                    *text = held;
                    changed += 1;
                }
            }
        }
        changed
    }

    /// Where a row stands in the order of the table.
    pub fn place(&self, row: usize, table: &Table) -> Result<Place> {
        let part = |cells: &Cells| {
            let part = match cells {
                Cells::Int(cells) => cells[row].map(KeyPart::Int),
                Cells::Text(cells) => cells[row].clone().map(KeyPart::Text),
                Cells::Bytes(cells) => cells[row].clone().map(KeyPart::Bytes),
                Cells::Flag(_) => None,
            };
            part.ok_or_else(|| damaged("a key is missing"))
        };
        self.columns[..table.key].iter().map(part).collect::<Result<_>>().map(Place)
    }
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeyPart {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A place in the order of a table, which is that of both engines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Vec<KeyPart>);

impl Place {
    /// As values for a statement.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        self.0.iter().map(|part| match part {
            KeyPart::Int(id) => Value::Int(Some(*id)),
            KeyPart::Text(text) => Value::Text(Some(text)),
            KeyPart::Bytes(bytes) => Value::Bytes(bytes),
        })
    }

    /// As it is noted.
    pub fn to_json(&self) -> Json {
        let part = |part: &KeyPart| match part {
            KeyPart::Int(id) => Json::from(*id),
            KeyPart::Text(text) => Json::from(text.as_str()),
            KeyPart::Bytes(bytes) => Json::from(bytes.as_slice()),
        };
        self.0.iter().map(part).collect()
    }

    /// What was noted of a table; `None` if it is none of its places.
    pub fn from_json(json: &Json, table: &Table) -> Option<Self> {
        let parts = json.as_array().filter(|parts| parts.len() == table.key)?;
        let part = |(json, (_, kind)): (&Json, &(&str, Kind))| match kind {
            Kind::Int => json.as_i64().map(KeyPart::Int),
            Kind::Text => json.as_str().map(|text| KeyPart::Text(text.to_owned())),
            Kind::Bytes => {
                let bytes = json.as_array()?.iter().map(|byte| byte.as_u64().and_then(|byte| byte.try_into().ok()));
                bytes.collect::<Option<_>>().map(KeyPart::Bytes)
            }
            Kind::Flag => None,
        };
        parts.iter().zip(table.columns).map(part).collect::<Option<_>>().map(Self)
    }

    /// For people, with the names of the columns. Keys of callers and sessions are not shown.
    pub fn told(&self, table: &Table) -> String {
        let part = |(part, (name, _)): (&KeyPart, &(&str, Kind))| match part {
            KeyPart::Int(id) => format!("{name} {id}"),
            KeyPart::Text(_) | KeyPart::Bytes(_) => format!("some {name}"),
        };
        let parts: Vec<_> = self.0.iter().zip(table.columns).map(part).collect();
        format!("{} ({})", table.title(), parts.join(", "))
    }
}
