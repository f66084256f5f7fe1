//! Comparing two stores, row by row.
//!
//! Both are read in the order of their keys, so that rows meet, and each column of each
//! row is compared: numbers, states and texts, bodies too. So equal counts, equal last
//! numbers and numbers without new holes follow from it.
//!
//! Where a key has texts of which one engine may hold others, rows don't meet. Of such a
//! table the counts are compared, and the sum of a hash of each row.

use sha2::{Digest, Sha256};

use super::batch::{Batch, Place};
use super::side::{Doing, News, STORE_ID, Side, Target, fact};
use super::tables::{TABLES, Table};
use super::walk::Walk;
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// Differences after which no more are looked for.
const DIFFERENCES_MAX: usize = 20;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Rows of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// Texts that the target holds otherwise, as it can't hold them as they are.
    pub changed_texts: u64,
    /// What is not equal, for people; as many as were found before it was given up.
    pub differences: Vec<String>,
}

/// Compares all; the source has so many rows.
pub fn compare(
    source: &mut dyn Side,
    target: &mut dyn Target,
    of: u64,
    tell: &mut dyn FnMut(News),
) -> Result<Compared> {
    let mut compared = Compared::default();
    facts(source, target, &mut compared)?;
    let mut before = 0;
    for table in TABLES {
        let mut tell = |rows| tell(News { doing: Doing::Comparing, table: table.title(), rows: before + rows, of });
        let rows = match table.is_keyed_by_callers {
            true => sums(table, source, target, &mut compared, &mut tell)?,
            false => rows(table, source, target, &mut compared, &mut tell)?,
        };
        compared.rows.push((table.title(), rows));
        before += rows;
        if compared.differences.len() >= DIFFERENCES_MAX {
            break;
        }
    }
    Ok(compared)
}

/// What a store is called, and the last ids that it has given out.
fn facts(source: &mut dyn Side, target: &mut dyn Target, compared: &mut Compared) -> Result<()> {
    let (from, to) = (fact(source.db(), STORE_ID)?, fact(target.db(), STORE_ID)?);
    if from != to {
        let told = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
        compared.differences.push(format!("the store id was {}, and is {}", told(from), told(to)));
    }
    let (from, to) = (source.last_ids()?, target.last_ids()?);
    for ((name, last), (_, copied)) in from.members().zip(to.members()) {
        if last != copied {
            compared.differences.push(format!("the last id of {name} was {last}, and is {copied}"));
        }
    }
    Ok(())
}

/// The rows of a side, of which one is looked at.
struct Rows {
    table: &'static Table,
    walk: Walk,
    batch: Batch,
    row: usize,
}

impl Rows {
    fn of(table: &'static Table) -> Self {
        Self { table, walk: Walk::behind(table, None), batch: Batch::of(table), row: 0 }
    }

    /// True if others have to be read before one is looked at.
    fn are_used_up(&self) -> bool {
        self.row == self.batch.rows
    }

    /// Where the row stands; `None` at the end.
    fn place(&self) -> Result<Option<Place>> {
        if self.are_used_up() { Ok(None) } else { self.batch.place(self.row, self.table).map(Some) }
    }
}

/// Reads what is looked at next, as the target would hold it.
fn read(rows: &mut Rows, source: &mut dyn Side, target: &dyn Target, changed: &mut u64) -> Result<()> {
    if rows.are_used_up() {
        rows.batch = rows.walk.next(source.db())?;
        rows.row = 0;
        *changed += rows.batch.change_texts(|text| target.held(text));
    }
    Ok(())
}

fn rows(
    table: &'static Table,
    source: &mut dyn Side,
    target: &mut dyn Target,
    compared: &mut Compared,
    tell: &mut dyn FnMut(u64),
) -> Result<u64> {
    let (mut from, mut to) = (Rows::of(table), Rows::of(table));
    let mut count = 0;
    while compared.differences.len() < DIFFERENCES_MAX {
        if from.are_used_up() {
            tell(count);
        }
        read(&mut from, source, target, &mut compared.changed_texts)?;
        if to.are_used_up() {
            to.batch = to.walk.next(target.db())?;
            to.row = 0;
        }
        // Most rows are equal, so what names them is made only of those that are not.
        if !from.are_used_up() && !to.are_used_up() && differing(&from, &to, table.key).next().is_none() {
            let others = differing(&from, &to, table.columns.len());
            let found: Vec<_> = others.filter_map(|column| table.columns.get(column).map(|(name, _)| *name)).collect();
            if !found.is_empty() {
                let place = from.batch.place(from.row, table)?.told(table);
                compared.differences.push(format!("{place} has another {}", found.join(", ")));
            }
            from.row += 1;
            to.row += 1;
            count += 1;
            continue;
        }
        let (here, there) = (from.place()?, to.place()?);
        match (&here, &there) {
            (None, None) => break,
            (Some(here), there) if there.as_ref().is_none_or(|there| here < there) => {
                compared.differences.push(format!("{} is missing", here.told(table)));
                from.row += 1;
                count += 1;
            }
            (_, Some(there)) => {
                compared.differences.push(format!("{} is only in the copy", there.told(table)));
                to.row += 1;
            }
            (Some(_), None) => unreachable!("what is missing was told"),
        }
    }
    Ok(count)
}

/// The columns, of the first ones, in which the rows that are looked at differ.
fn differing<'a>(from: &'a Rows, to: &'a Rows, first: usize) -> impl Iterator<Item = usize> + 'a {
    let pairs = from.batch.columns.iter().zip(&to.batch.columns).take(first).enumerate();
    pairs.filter(|(_, (own, others))| !own.is_same(from.row, others, to.row)).map(|(column, _)| column)
}

/// The number of rows, and the sum of their hashes.
#[derive(Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, batch: &Batch) {
        for row in 0..batch.rows {
            let mut hash = Sha256::new();
            batch.columns.iter().for_each(|cells| cells.digest(row, &mut |bytes| hash.update(bytes)));
            let hash = hash.finalize();
            let half = hash.iter().take(16).fold(0, |sum: u128, byte| sum << 8 | u128::from(*byte));
            self.rows += 1;
            self.hashes = self.hashes.wrapping_add(half);
        }
    }
}

fn sums(
    table: &'static Table,
    source: &mut dyn Side,
    target: &mut dyn Target,
    compared: &mut Compared,
    tell: &mut dyn FnMut(u64),
) -> Result<u64> {
    let (mut from, mut to) = (Sum::default(), Sum::default());
    let mut rows = Rows::of(table);
    loop {
        tell(from.rows);
        rows.row = rows.batch.rows;
        read(&mut rows, source, target, &mut compared.changed_texts)?;
        if rows.batch.rows == 0 {
            break;
        }
        from.add(&rows.batch);
    }
    let mut walk = Walk::behind(table, None);
    loop {
        let batch = walk.next(target.db())?;
        if batch.rows == 0 {
            break;
        }
        to.add(&batch);
    }
    if from.rows != to.rows {
        compared.differences.push(format!("{} had {} rows, and has {}", table.title(), from.rows, to.rows));
    } else if from != to {
        compared.differences.push(format!("some of the {} rows of {} are not the same", from.rows, table.title()));
    }
    Ok(from.rows)
}
