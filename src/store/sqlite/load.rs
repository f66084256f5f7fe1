//! Reading what changes want of deliveries, and the ids that were given out.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, Statement, params};

use crate::domain::delivery::EndReason;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::book::Stock;
use crate::store::ledger::ids::Ids;
use crate::store::ledger::wants::{FirstHeard, Found, Loaded, Wants};
use crate::store::sql::codes::state_code;
use crate::store::sql::load;
use crate::store::sql::standings::{STANDING, event_of, standing};
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// Reads what changes want.
pub fn load(mut conn: &Connection, wants: &Wants, now: Timestamp) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    first_heard(conn, wants, &mut loaded)?;
    deliveries(conn, wants, &mut loaded)?;
    load::rare(&mut conn, wants, now, &mut loaded)?;
    if wants.used_bytes {
        loaded.used_bytes = Some(used_bytes(conn)?);
    }
    Ok(loaded)
}

/// All that is known by heart.
pub fn stock(mut conn: &Connection, vault: &Vault) -> Result<Stock> {
    let ids = ids(conn)?;
    load::stock(&mut conn, vault, ids)
}

/// What the store holds; what is free within its file does not count.
pub fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let pages = read("PRAGMA page_count")?.saturating_sub(read("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(read("PRAGMA page_size")?).unsigned_abs())
}

/// Compare-and-set of deliveries that nobody has heard of before.
fn first_heard(conn: &Connection, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    /// `Standing::NEW`.
    const NEW: &str = "webhook_id = ?1 AND increment_id = ?2 AND state = 0 AND attempts = 0 AND policy_start = 0
        AND next_attempt_at IS NULL AND ended_at IS NULL AND reason IS NULL AND batch_first IS NULL
        AND resends_asked = 0 AND event_id > 0";
    if wants.first_heard.is_empty() {
        return Ok(());
    }
    let sql = format!("UPDATE delivery SET attempts = ?3, state = ?4, ended_at = ?5, reason = ?6 WHERE {NEW}");
    let mut ending = conn.prepare_cached(&sql)?;
    // Apart, for it concerns the indexes of what is due.
    let sql = format!("UPDATE delivery SET attempts = ?3, next_attempt_at = ?4 WHERE {NEW}");
    let mut retrying = conn.prepare_cached(&sql)?;
    for FirstHeard { webhook_id, number, standing } in &wants.first_heard {
        let Standing { attempts, next_attempt_at, ended_at, reason, state, .. } = standing;
        let written = match next_attempt_at {
            Some(at) => retrying.execute(params![webhook_id.0, number.0, attempts, at.0])?,
            None => {
                let (state, reason) = (state_code(*state), reason.map(EndReason::name));
                ending.execute(params![webhook_id.0, number.0, attempts, state, ended_at.map(|at| at.0), reason])?
            }
        };
        loaded.first_heard.push(written == 1);
        if written == 0 {
            add_delivery(&mut *by_number(conn)?, *webhook_id, *number, &mut loaded.deliveries)?;
        }
    }
    Ok(())
}

/// Reads deliveries one by one, with [`add_delivery`].
fn by_number(conn: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    conn.prepare_cached(&format!("SELECT {STANDING} FROM delivery d WHERE d.webhook_id = ?1 AND d.increment_id = ?2"))
}

/// One delivery, if it is there.
fn add_delivery(
    by_number: &mut Statement<'_>,
    id: WebhookId,
    number: IncrementId,
    found: &mut HashMap<(WebhookId, IncrementId), Found>,
) -> Result<()> {
    if let Some(row) = by_number.query([id.0, number.0])?.next()? {
        let delivery = Found { standing: standing(row)?.1, event_id: event_of(row)?, is_whole: false };
        found.insert((id, number), delivery);
    }
    Ok(())
}

fn deliveries(conn: &Connection, wants: &Wants, loaded: &mut Loaded) -> Result<()> {
    if wants.deliveries.is_empty() {
        return Ok(());
    }
    let mut by_number = by_number(conn)?;
    for (id, span) in &wants.deliveries {
        // One by one: SQLite is quicker with a key than with a range of one.
        for number in span.numbers() {
            add_delivery(&mut by_number, *id, number, &mut loaded.deliveries)?;
        }
    }
    Ok(())
}

/// Where AUTOINCREMENT notes them.
fn ids(conn: &Connection) -> Result<Ids> {
    let mut ids = Ids::default();
    let mut statement = conn.prepare("SELECT name, seq FROM sqlite_sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let place = match row.get_ref(0)?.as_str().map_err(StoreError::failed)? {
            "event" => &mut ids.event,
            "webhook" => &mut ids.webhook,
            "job" => &mut ids.job,
            "fanout" => &mut ids.fanout,
            _ => continue,
        };
        *place = row.get(1)?;
    }
    Ok(ids)
}
