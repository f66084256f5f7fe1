//! The books of a store: what was accepted, and what became of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::store::Place;

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
pub fn audit(place: &Place, accepted: &Accepted) -> Result<Books, String> {
    let mut books = Books::default();
    let mut deliveries = BTreeMap::new();
    let sql =
        "SELECT d.webhook_id, d.increment_id, d.event_id, d.state, CASE WHEN e.event_id IS NULL THEN 0 ELSE 1 END,
            CASE WHEN d.next_attempt_at IS NULL THEN 0 ELSE 1 END
        FROM delivery d LEFT JOIN event e USING (event_id) ORDER BY 1, 2";
    for row in numbers(place, sql)? {
        let [webhook, number, event, state, is_whole, is_due] = row;
        let key = (webhook, number);
        match state {
            0 => books.pending += 1,
            1 => books.delivered += 1,
            2 => books.abandoned += 1,
            _ => books.cancelled += 1,
        }
        if (state == 0 || is_due == 1) && is_whole == 0 {
            return Err(format!("{key:?} is to be sent, and its event is gone"));
        }
        deliveries.insert(key, (event, state));
    }
    // In PostgreSQL the last number is that of the last delivery, and `settled_through`
    // is written now and then.
    let table = if place.is_file() { "webhook" } else { "webhook_now" };
    for [id, last, settled] in
        numbers(place, &format!("SELECT webhook_id, last_increment_id, settled_through FROM {table}"))?
    {
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

/// The rows that a statement gives, all of them numbers.
pub fn numbers<const N: usize>(place: &Place, sql: &str) -> Result<Vec<[i64; N]>, String> {
    let row = |row: Vec<String>| {
        let numbers: Result<Vec<i64>, _> = row.iter().map(|text| text.parse()).collect();
        numbers.ok().and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| format!("{sql}: {row:?}"))
    };
    place.try_rows(sql)?.into_iter().map(row).collect()
}
