//! Writing what changes have come to.

use rusqlite::{Connection, params};

use crate::domain::delivery::EndReason;
use crate::domain::expansion::Expansion;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::decision::{AttemptRow, NewEventRow, NumberedRow, Other, Rows, StandingRow};
use crate::store::sql::codes::{format_code, state_code};
use crate::store::sql::db::Db;
use crate::store::sql::definition::labels_text;
use crate::store::sql::write;
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// Writes rows; those that overwrite what they delete are left out, and returned.
pub fn write<'a>(mut conn: &Connection, vault: &Vault, rows: &'a Rows, now: Timestamp) -> Result<Vec<&'a Other>> {
    events(conn, &rows.events, now)?;
    numbered(conn, &rows.numbered, now)?;
    standings(conn, &rows.standings)?;
    attempts(conn, &rows.attempts)?;
    let mut left = Vec::new();
    for other in &rows.others {
        if let Other::AttemptsForgotten(..) | Other::EventForgotten(_) = other {
            left.push(other);
        } else {
            write::other(&mut conn, vault, other, now)?;
        }
    }
    counters(conn, &rows.counters)?;
    write::logs(&mut conn, &rows.logs)?;
    Ok(left)
}

fn events(conn: &Connection, events: &[NewEventRow], now: Timestamp) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(
        "INSERT INTO event (event_id, merchant_id, topic, message, created_at, published_at, traceparent, labels)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for NewEventRow { event, labels } in events {
        let (topic, message) = (event.topic.as_str(), event.message.as_str());
        let ids = (event.event_id.0, event.merchant_id.0);
        let trace = event.trace.map(|trace| trace.to_string());
        let labels = labels.as_deref().map(labels_text);
        statement.execute(params![ids.0, ids.1, topic, message, event.created_at.0, now.0, trace, labels])?;
    }
    Ok(())
}

fn numbered(conn: &Connection, numbered: &[NumberedRow], now: Timestamp) -> Result<()> {
    if numbered.is_empty() {
        return Ok(());
    }
    let mut insert = conn.prepare_cached(
        "INSERT INTO delivery (webhook_id, increment_id, event_id, format, expansion, created_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for row in numbered {
        insert.execute(params![
            row.webhook_id.0,
            row.number.0,
            row.event_id.0,
            format_code(row.format),
            row.expansion.as_deref().map(Expansion::as_str),
            now.0
        ])?;
        if row.standing != Standing::NEW {
            let NumberedRow { webhook_id, number, standing, .. } = *row;
            standings(conn, &[StandingRow { webhook_id, number, standing }])?;
        }
    }
    Ok(())
}

fn standings(conn: &Connection, standings: &[StandingRow]) -> Result<()> {
    if standings.is_empty() {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(
        "UPDATE delivery SET state = ?3, attempts = ?4, policy_start = ?5, next_attempt_at = ?6, ended_at = ?7,
            reason = ?8, batch_first = ?9, batch_last = ?10, resends_asked = ?11
            WHERE webhook_id = ?1 AND increment_id = ?2",
    )?;
    for StandingRow { webhook_id, number, standing } in standings {
        statement.execute(params![
            webhook_id.0,
            number.0,
            state_code(standing.state),
            standing.attempts,
            standing.policy_start,
            standing.next_attempt_at.map(|at| at.0),
            standing.ended_at.map(|at| at.0),
            standing.reason.map(EndReason::name),
            standing.batch.map(|batch| batch.first.0),
            standing.batch.map(|batch| batch.last.0),
            standing.resends_asked,
        ])?;
    }
    Ok(())
}

fn attempts(conn: &Connection, attempts: &[AttemptRow]) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(
        "INSERT INTO attempt (webhook_id, increment_id, attempt, started_at, duration_us, status_code, error_class,
            error_detail, request_headers, response_headers, response_body, is_compressed, queue_delay_ms, address)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for row in attempts {
        let outcome = row.outcome();
        let attempt = &outcome.attempt;
        let body = row.compressed.as_ref().unwrap_or(&attempt.response_body);
        let (request, response, body): (&str, &str, &[u8]) = match row.is_whole {
            true => (&attempt.request_headers, &attempt.response_headers, body),
            false => ("", "", &[]),
        };
        statement.execute(params![
            outcome.webhook_id.0,
            outcome.numbers.first.0,
            attempt.attempt,
            attempt.started_at.0,
            i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
            attempt.status_code,
            attempt.error.as_ref().map(|error| error.class.name()),
            attempt.error.as_ref().map(|error| &error.detail),
            request,
            response,
            body,
            row.is_whole && row.compressed.is_some(),
            i64::try_from(attempt.queue_delay.as_millis()).unwrap_or(i64::MAX),
            attempt.address.map(|address| address.to_string()),
        ])?;
    }
    Ok(())
}

/// Writes what overwrites what it deletes.
pub fn overwriting<T>(conn: &Connection, write: impl FnOnce(&mut dyn Db) -> Result<T>) -> Result<T> {
    conn.pragma_update(None, "secure_delete", true)?;
    let written = write(&mut &*conn);
    conn.pragma_update(None, "secure_delete", false)?;
    written
}

fn counters(conn: &Connection, all: &[(MerchantId, WebhookId, Counters)]) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(
        "UPDATE webhook SET last_increment_id = ?2, settled_through = ?3, consecutive_failures = ?4,
            failing_since = ?5, acknowledged_through = ?6, pulled_through = ?7, paused_until = ?8,
            pause_reason = ?9 WHERE webhook_id = ?1",
    )?;
    for (_, id, counters) in all {
        statement.execute(params![
            id.0,
            counters.last.0,
            counters.settled_through.0,
            counters.consecutive_failures,
            counters.failing_since.map(|time| time.0),
            counters.acknowledged_through.0,
            counters.pulled_through.0,
            counters.pause.map(|pause| pause.until.0),
            counters.pause.map(|pause| pause.reason.name()),
        ])?;
    }
    Ok(())
}
