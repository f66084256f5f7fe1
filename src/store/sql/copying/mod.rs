//! Copying a whole store into an empty one, whatever engines they are in.
//!
//! Tables are copied one after the other in the order of their keys, some thousand rows
//! or some MB in a transaction, which also notes in the target how far it has come: so
//! whatever interrupts it, it goes on from there. Where a target holds that note, it is
//! no store yet, and nobody else opens it ([`COPIED_FROM`]).
//!
//! At the end all of both is read anew and compared ([`compare`]), and only then is the
//! note taken away. What is held in memory does not grow with the store.
//!
//! It costs three passes through the source: counting, copying, comparing. The target is
//! written once and read once.

mod batch;
mod compare;
mod side;
mod tables;
mod walk;

use serde_json::{Value as Json, json};

use self::batch::Place;
pub use self::batch::{Batch, Cells};
pub use self::compare::Compared;
use self::side::STORE_ID;
pub use self::side::{COPIED_FROM, Doing, News, Side, Target, fact};
pub use self::tables::{COUNTED, LAST_NUMBER, LastIds, TABLES, Table};
use self::walk::Walk;
use super::db::{Db, damaged, one, values};
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// How far a copy has come, as a fact about its target.
const COPIED_THROUGH: &str = "copied_through";

/// The facts with which a target begins: whose copy it is, and which store.
pub fn first_facts(source: &mut dyn Side) -> Result<Vec<(&'static str, String)>> {
    let store_id = fact(source.db(), STORE_ID)?.ok_or_else(|| damaged("it has no store id"))?;
    let last = source.last_ids()?;
    let numbers = source.db().dialect().webhooks();
    let sql = format!("SELECT CAST(coalesce(sum(last_increment_id), 0) AS BIGINT) FROM {numbers}");
    let numbers = one(source.db(), &sql, &[], |row| row.int(0))?.unwrap_or(0);
    let from = format!("store {store_id} when its last ids were {last}, and it had given out {numbers} numbers");
    let through = Through { table: 0, after: None, rows: 0 };
    Ok(vec![(STORE_ID, store_id), (COPIED_FROM, from), (COPIED_THROUGH, through.to_json())])
}

/// Fails unless what the target holds is the beginnings of this copy.
pub fn check_is_own(target: &mut dyn Db, facts: &[(&'static str, String)]) -> Result<()> {
    let own = facts.iter().find(|(key, _)| *key == COPIED_FROM).map(|(_, value)| value.as_str());
    match fact(target, COPIED_FROM)? {
        None => Err(StoreError::failed("it holds a store already; name one that is empty")),
        Some(found) if Some(found.as_str()) == own => Ok(()),
        Some(found) => Err(StoreError::failed(format!(
            "it holds the beginnings of a copy of {found}; this would be one of {}. Empty it to begin anew",
            own.unwrap_or_default()
        ))),
    }
}

/// Copies all that is not copied yet, compares all, and makes the target one that can be
/// served, unless there is a difference.
pub fn copy(source: &mut dyn Side, target: &mut dyn Target, tell: &mut dyn FnMut(News)) -> Result<Compared> {
    let of = count(source)?;
    copy_rows(source, target, of, tell)?;
    let last = source.last_ids()?;
    target.begin()?;
    target.set_last_ids(&last)?;
    target.commit()?;
    let compared = compare::compare(source, target, of, tell)?;
    if compared.differences.is_empty() {
        target.finish()?;
        source.check_kept()?;
        target.check_kept()?;
        target.begin()?;
        target.db().run("DELETE FROM meta WHERE key IN ($1, $2)", values![COPIED_FROM, COPIED_THROUGH])?;
        target.commit()?;
    }
    Ok(compared)
}

/// How many rows there are.
fn count(source: &mut dyn Side) -> Result<u64> {
    let mut rows = 0;
    for table in TABLES {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        rows += one(source.db(), &sql, &[], |row| row.amount(0))?.unwrap_or(0);
    }
    Ok(rows)
}

fn copy_rows(source: &mut dyn Side, target: &mut dyn Target, of: u64, tell: &mut dyn FnMut(News)) -> Result<()> {
    let noted = fact(target.db(), COPIED_THROUGH)?;
    let mut through = noted.as_deref().and_then(Through::from_json).ok_or_else(|| damaged("bad place"))?;
    while let Some(table) = TABLES.get(through.table) {
        let mut walk = Walk::behind(table, through.after.take());
        loop {
            tell(News { doing: Doing::Copying, table: table.title(), rows: through.rows, of });
            source.check_kept()?;
            target.check_kept()?;
            let mut rows = walk.next(source.db())?;
            if rows.rows == 0 {
                break;
            }
            rows.change_texts(|text| target.held(text));
            through.rows += rows.rows as u64;
            through.after = walk.after().cloned();
            target.begin()?;
            target.insert(table, &rows).map_err(|cause| about(table, &cause))?;
            note(target.db(), &through)?;
            target.commit()?;
        }
        through = Through { table: through.table + 1, after: None, ..through };
        note(target.db(), &through)?;
    }
    Ok(())
}

fn about(table: &Table, cause: &StoreError) -> StoreError {
    StoreError::failed(format!("rows of {} can't be stored: {cause}", table.title()))
}

fn note(db: &mut dyn Db, through: &Through) -> Result<()> {
    let written = db.run("UPDATE meta SET value = $2 WHERE key = $1", values![COPIED_THROUGH, &through.to_json()])?;
    if written == 1 { Ok(()) } else { Err(StoreError::failed("somebody else has changed the target meanwhile")) }
}

/// How far a copy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Through {
    /// The table, by its place among all.
    table: usize,
    /// The last row of it that is copied.
    after: Option<Place>,
    /// Rows of all tables that are copied.
    rows: u64,
}

impl Through {
    fn to_json(&self) -> String {
        let after = self.after.as_ref().map(Place::to_json);
        let table = TABLES.get(self.table).map(|table| table.title());
        json!({"table": table, "after": after, "rows": self.rows}).to_string()
    }

    fn from_json(text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let rows = json["rows"].as_u64()?;
        let Some(name) = json["table"].as_str() else {
            return json["table"].is_null().then_some(Self { table: TABLES.len(), after: None, rows });
        };
        let table = TABLES.iter().position(|table| table.title() == name)?;
        let after = match &json["after"] {
            Json::Null => None,
            after => Some(Place::from_json(after, TABLES.get(table)?)?),
        };
        Some(Self { table, after, rows })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn columns(schema: &str) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for table in schema.split("CREATE TABLE ").skip(1) {
            let (name, rest) = table.split_once(" (\n").unwrap();
            let body = rest.split("\n)").next().unwrap();
            let names = body.lines().filter_map(|line| line.strip_prefix("    ")?.split_whitespace().next());
            let is_column =
                |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            found.extend(names.filter(is_column).map(|column| (name.trim_matches('"').to_owned(), column.to_owned())));
        }
        assert!(found.len() > 100, "{found:?}");
        found
    }

    /// Whoever adds a column to a schema is told here that it has to be copied.
    #[test]
    fn all_columns_of_both_schemas_are_copied() {
        let copied: BTreeSet<_> = TABLES
            .iter()
            .flat_map(|table| table.columns.iter().map(|(name, _)| (table.title().to_owned(), (*name).to_owned())))
            .collect();
        let left_out = |schema: &str| -> Vec<String> {
            columns(schema).difference(&copied).map(|(table, column)| format!("{table}.{column}")).collect()
        };
        let meta = ["meta.key", "meta.value"];
        let sqlite = left_out(include_str!("../../../../schema.sql"));
        assert_eq!(sqlite, [&["attempt.attempt_id"][..], &meta].concat());
        let postgres = left_out(include_str!("../../postgres/schema.sql"));
        let of_nodes =
            |name: &String| ["journal.", "lease.", "node.", "note."].iter().any(|table| name.starts_with(table));
        let own: Vec<_> = postgres.iter().filter(|name| !of_nodes(name)).collect();
        let known = [
            "fanout.node_id",
            "job.node_id",
            "merchant.generation",
            "merchant.watched_until",
            "meta.key",
            "meta.value",
            "webhook.generation",
        ];
        assert_eq!(own, known.iter().collect::<Vec<_>>());
        let missing = |schema: &str| -> Vec<String> {
            copied.difference(&columns(schema)).map(|(table, column)| format!("{table}.{column}")).collect()
        };
        assert_eq!(missing(include_str!("../../../../schema.sql")), [""; 0]);
        assert_eq!(missing(include_str!("../../postgres/schema.sql")), ["webhook.last_increment_id"]);
    }

    #[test]
    fn a_place_that_is_noted_is_found_again() {
        let at = |name: &str| TABLES.iter().position(|table| table.title() == name).unwrap();
        for (table, after) in [
            ("session", json!([[0, 255, 7]])),
            ("idempotency", json!([4, "a\0b \u{fffd}\""])),
            ("attempt", json!([1, i64::MAX, 3])),
        ] {
            let place = Place::from_json(&after, &TABLES[at(table)]).unwrap();
            assert_eq!(place.to_json(), after);
            let through = Through { table: at(table), after: Some(place), rows: 9 };
            assert_eq!(Through::from_json(&through.to_json()), Some(through));
        }
        let end = Through { table: TABLES.len(), after: None, rows: 9 };
        assert_eq!(Through::from_json(&end.to_json()), Some(end));
        for damaged in
            ["", "{}", r#"{"table": "x", "after": null, "rows": 1}"#, r#"{"table": "event", "after": [], "rows": 1}"#]
        {
            assert_eq!(Through::from_json(damaged), None, "{damaged}");
        }
    }
}
