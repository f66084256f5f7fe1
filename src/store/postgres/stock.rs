//! Reading all that is known by heart.

use std::sync::Arc;

use super::catching_up::Generations;
use super::engine::Postgres;
use super::taking_over;
use crate::domain::id::MerchantId;
use crate::domain::node::Bucket;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::book::{Book, Stock};
use crate::store::ledger::leases::Leases;
use crate::store::ledger::taking_over::TakeOver;
use crate::store::ledger::terms::Terms;
use crate::store::ledger::work::Work;
use crate::store::sql::db::all;
use crate::store::sql::load;

/// Reads it, all as it was at one moment. What a node does for the merchants that it
/// sends for, it reads when it gets their leases.
pub fn read(engine: &mut Postgres, terms: Terms) -> Result<Book, StoreError> {
    let vault = Arc::clone(engine.vault());
    let session = engine.session();
    session.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", &[])?;
    let known = all(session, "SELECT merchant_id, generation FROM merchant", &[], |row| {
        Ok((MerchantId(row.int(0)?), row.int(1)?))
    })?;
    let webhooks = load::webhooks(session, &vault, "w.deleted_at IS NULL")?;
    let codes = load::codes(session)?;
    session.commit()?;
    let of_all = known.iter().map(|(_, generation)| *generation).max().unwrap_or(0);
    engine.knows(Generations { of_merchants: known.into_iter().collect(), of_all, ..Generations::default() });
    let numbers = webhooks.iter().map(|webhook| webhook.last_increment_id.0).sum();
    Ok(Book::new(terms, Stock { webhooks, codes, numbers, ..Stock::default() }))
}

/// The same with what is to be gone on with for those whose leases this node has.
pub fn read_first(
    engine: &mut Postgres,
    terms: Terms,
    leases: Vec<(Bucket, i64)>,
    now: Timestamp,
) -> Result<Book, StoreError> {
    let mut book = read(engine, terms)?;
    engine.begin(now)?;
    let mut work = Work::new(engine, &mut book, now);
    TakeOver::new(leases, Box::new(|_| {})).run(&mut work)?;
    // The delivery worker begins with all webhooks, and needs no news of them.
    work.finish()?;
    engine.commit()?;
    Ok(book)
}

/// The same once more, after a commit of which it is unknown what has become of it:
/// with what this node had begun, and for those for whom it sends.
pub fn read_again(engine: &mut Postgres, terms: Terms, leases: Leases) -> Result<Book, StoreError> {
    let mut book = read(engine, terms)?;
    book.leases = leases;
    let node = engine.node();
    let own = taking_over::begun(engine.session(), node)?;
    book.take_over_work(own);
    Ok(book)
}
