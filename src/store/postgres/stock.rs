//! Reading all that is known by heart.

use std::collections::HashMap;

use super::engine::Postgres;
use crate::domain::id::MerchantId;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::ids::Ids;
use crate::store::ledger::terms::Terms;
use crate::store::sql::db::all;
use crate::store::sql::load::stock;

/// Reads it, all as it was at one moment.
pub fn read(engine: &mut Postgres, terms: Terms) -> Result<Book, StoreError> {
    let session = engine.session();
    session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let generations: HashMap<_, _> = all(session, "SELECT merchant_id, generation FROM merchant", &[], |row| {
        Ok((MerchantId(row.int(0)?), row.int(1)?))
    })?
    .into_iter()
    .collect();
    let stock = stock(session, Ids::default())?;
    session.batch("COMMIT")?;
    engine.knows(generations);
    Ok(Book::new(terms, stock))
}
