//! The books of a store: what was accepted, and what became of it.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::Value;

/// Event by webhook and number, as publishers were told.
pub type Accepted = BTreeMap<(i64, i64), i64>;

/// What a receipt says.
pub fn entries(receipt: &Value) -> impl Iterator<Item = ((i64, i64), i64)> {
    let event = receipt["event_id"].as_i64().unwrap();
    let key = |delivery: &Value| (delivery["webhook_id"].as_i64().unwrap(), delivery["increment_id"].as_i64().unwrap());
    receipt["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(move |delivery| (key(delivery), event))
        .collect::<Vec<_>>()
        .into_iter()
}

/// How many deliveries are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub pending: usize,
    pub delivered: usize,
    pub abandoned: usize,
    pub cancelled: usize,
}

impl Books {
    pub fn total(&self) -> usize {
        self.pending + self.delivered + self.abandoned + self.cancelled
    }
}

/// Checks the books: each webhook's numbers are 1, 2, 3 … up to its last;
/// every number that a publisher was told of stands for that event; what is
/// pending is whole; all up to `settled_through` has ended. Says what is wrong.
pub fn audit(store: &Connection, accepted: &Accepted) -> Result<Books, String> {
    let failed = |cause: rusqlite::Error| cause.to_string();
    let mut books = Books::default();
    let mut deliveries = BTreeMap::new();
    let mut rows = store
        .prepare(
            "SELECT d.webhook_id, d.increment_id, d.event_id, d.state, e.event_id IS NOT NULL, d.next_attempt_at
                FROM delivery d LEFT JOIN event e USING (event_id) ORDER BY 1, 2",
        )
        .map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| {
        let key: (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok((key, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, row.get::<_, bool>(4)?, row.get::<_, Option<i64>>(5)?))
    };
    for row in rows.query_map([], read).map_err(failed)? {
        let (key, event, state, is_whole, next) = row.map_err(failed)?;
        match state {
            0 => books.pending += 1,
            1 => books.delivered += 1,
            2 => books.abandoned += 1,
            _ => books.cancelled += 1,
        }
        if (state == 0 || next.is_some()) && !is_whole {
            return Err(format!("{key:?} is to be sent, and its event is gone"));
        }
        deliveries.insert(key, (event, state));
    }
    let mut webhooks =
        store.prepare("SELECT webhook_id, last_increment_id, settled_through FROM webhook").map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    for webhook in webhooks.query_map([], read).map_err(failed)? {
        let (id, last, settled): (i64, i64, i64) = webhook.map_err(failed)?;
        let numbers: Vec<i64> = deliveries.range((id, 0)..(id + 1, 0)).map(|((_, number), _)| *number).collect();
        if numbers != (1..=last).collect::<Vec<_>>() {
            return Err(format!("webhook {id} has given out {last} numbers, and its deliveries are {numbers:?}"));
        }
        if settled > last {
            return Err(format!("webhook {id} is settled through {settled} of {last}"));
        }
    }
    for (key, event) in accepted {
        match deliveries.get(key) {
            None => return Err(format!("{key:?} was accepted, and is not there")),
            Some((found, _)) if found != event => return Err(format!("{key:?} was for {event}, and is for {found}")),
            Some(_) => {}
        }
    }
    Ok(books)
}
