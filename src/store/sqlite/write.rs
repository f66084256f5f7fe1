//! Writing what changes have come to.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::jobs;
use super::load::write_pairs;
use super::rows::{DEFINITION, definition, format_code, state_code};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::delivery::EndReason;
use crate::domain::event::Event;
use crate::domain::expansion::Expansion;
use crate::domain::id::{MerchantId, UserId, WebhookId};
use crate::domain::secret::KeyHash;
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::user::Permissions;
use crate::domain::webhook::Webhook;
use crate::store::accounts::NewSession;
use crate::store::error::StoreError;
use crate::store::ledger::book::Counters;
use crate::store::ledger::decision::{AttemptRow, KeyRow, NumberedRow, Other, Rows, StandingRow};
use crate::store::ledger::logs::LogRow;

type Result<T> = std::result::Result<T, StoreError>;

/// Writes rows; those that overwrite what they delete are left out, and returned.
pub fn write<'a>(conn: &Connection, rows: &'a Rows, now: Timestamp) -> Result<Vec<&'a Other>> {
    events(conn, &rows.events, now)?;
    numbered(conn, &rows.numbered, now)?;
    standings(conn, &rows.standings)?;
    attempts(conn, &rows.attempts)?;
    let mut left = Vec::new();
    for other in &rows.others {
        if let Other::AttemptsForgotten(_) | Other::EventForgotten(_) = other {
            left.push(other);
        } else {
            self::other(conn, other, now)?;
        }
    }
    counters(conn, &rows.counters)?;
    logs(conn, &rows.logs)?;
    Ok(left)
}

fn events(conn: &Connection, events: &[Arc<Event>], now: Timestamp) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(
        "INSERT INTO event (event_id, merchant_id, topic, message, created_at, published_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in events {
        let (topic, message) = (event.topic.as_str(), event.message.as_str());
        let ids = (event.event_id.0, event.merchant_id.0);
        statement.execute(params![ids.0, ids.1, topic, message, event.created_at.0, now.0])?;
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

fn logs(conn: &Connection, all: &[(WebhookId, Option<LogRow>)]) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(
        "INSERT INTO log_size (webhook_id, bytes, emptied_number, emptied_attempt) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT DO UPDATE SET bytes = ?2, emptied_number = ?3, emptied_attempt = ?4",
    )?;
    for (id, log) in all {
        let Some(LogRow { bytes, emptied: (number, attempt), .. }) = log else {
            conn.prepare_cached("DELETE FROM log_size WHERE webhook_id = ?1")?.execute([id.0])?;
            continue;
        };
        statement.execute(params![id.0, i64::try_from(*bytes).unwrap_or(i64::MAX), number.0, attempt])?;
    }
    Ok(())
}

fn other(conn: &Connection, other: &Other, now: Timestamp) -> Result<()> {
    let run = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| -> Result<()> {
        conn.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    };
    match other {
        Other::Key(row) => key(conn, row),
        Other::KeyGoesOn(merchant, key, deliveries) => run(
            "UPDATE idempotency SET receipt = receipt || ' ' || ?3 WHERE merchant_id = ?1 AND key = ?2",
            params![merchant.0, key.as_str(), write_pairs(deliveries)],
        ),
        Other::NewWebhook(webhook) => new_webhook(conn, webhook),
        Other::Webhook(webhook) => self::webhook(conn, webhook),
        Other::WebhookDeleted(id) => {
            run("UPDATE webhook SET deleted_at = ?2 WHERE webhook_id = ?1", params![id.0, now.0])
        }
        Other::WebhookBlotted(id) => run(
            "UPDATE webhook SET name = '', description = '', topics = '', url = NULL, extra_headers = '',
                secret_key = '', old_secrets = '[]', expansions = '{}', basic_username = NULL, basic_password = NULL
                WHERE webhook_id = ?1",
            params![id.0],
        ),
        Other::Fanout(id, fanout) => run(
            "INSERT INTO fanout (fanout_id, merchant_id, events) VALUES (?1, ?2, ?3)
                ON CONFLICT DO UPDATE SET events = ?3",
            params![id, fanout.merchant().0, fanout.text()?],
        ),
        Other::FanoutDone(id) => run("DELETE FROM fanout WHERE fanout_id = ?1", params![id]),
        Other::NewJob { job, ended_at } => jobs::insert(conn, job, *ended_at),
        Other::Job { job, ended_at } => jobs::update(conn, job, *ended_at),
        Other::JobCancelled(id) => {
            run("UPDATE job SET ended_at = ?2, is_cancelled = 1 WHERE job_id = ?1", params![id.0, now.0])
        }
        Other::TrimJobs { merchant, keep, max } => run(
            "DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE merchant_id = ?1 AND ended_at IS NOT NULL
                ORDER BY job_id DESC LIMIT ?3 OFFSET ?2)",
            params![merchant.0, keep, max],
        ),
        Other::Notice(id, notice, gathered) => run(
            "INSERT OR REPLACE INTO notice (webhook_id, kind, count, first_increment_id, last_increment_id, due_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id.0, notice.name(), gathered.count, gathered.first.0, gathered.last.0, gathered.due_at.0],
        ),
        Other::NoticeDone(id, notice) => {
            run("DELETE FROM notice WHERE webhook_id = ?1 AND kind = ?2", params![id.0, notice.name()])
        }
        Other::Topic { merchant, entry, is_known } => topic(conn, *merchant, entry, *is_known),
        Other::TopicRemoved(merchant, topic) => {
            run("DELETE FROM topic WHERE merchant_id = ?1 AND topic = ?2", params![merchant.0, topic.as_str()])
        }
        Other::Session { session, keep, max } => self::session(conn, *session, *keep, *max),
        Other::SessionRenewed(key, expires_at) => run(
            "UPDATE session SET expires_at = max(expires_at, min(?2, coalesce(ends_at, ?2))) WHERE key_hash = ?1",
            params![key.0, expires_at.0],
        ),
        Other::SessionEnded(key) => run("DELETE FROM session WHERE key_hash = ?1", params![key.0]),
        Other::Permissions(user, permissions) => Ok(self::permissions(conn, *user, *permissions)?),
        Other::UserKey { user, key, until } => Ok(user_key(conn, *user, *key, *until)?),
        Other::Forgotten(id, number) => run(
            "UPDATE delivery SET event_id = -abs(event_id) WHERE webhook_id = ?1 AND increment_id = ?2",
            params![id.0, number.0],
        ),
        Other::AttemptsForgotten(ids) => {
            ids.iter().try_for_each(|id| run("DELETE FROM attempt WHERE attempt_id = ?1", params![id]))
        }
        Other::EventForgotten(event) => run("DELETE FROM event WHERE event_id = ?1", params![event.0]),
        Other::AttemptsEmptied(ids) => ids.iter().try_for_each(|id| {
            run(
                "UPDATE attempt SET request_headers = '', response_headers = '', response_body = x'',
                    is_compressed = 0 WHERE attempt_id = ?1",
                params![id],
            )
        }),
    }
}

/// Writes what overwrites what it deletes.
pub fn overwriting(conn: &Connection, others: &[&Other], now: Timestamp) -> Result<()> {
    conn.pragma_update(None, "secure_delete", true)?;
    let written = others.iter().try_for_each(|other| self::other(conn, other, now));
    conn.pragma_update(None, "secure_delete", false)?;
    written
}

/// A user may do something else.
pub fn permissions(conn: &Connection, user: UserId, permissions: Permissions) -> rusqlite::Result<()> {
    let sql = "UPDATE user SET permissions = ?2 WHERE user_id = ?1";
    conn.prepare_cached(sql)?.execute(params![user.0, permissions.bits()]).map(drop)
}

/// A user has another key; the one it had counts until then, and so do its
/// sessions.
pub fn user_key(conn: &Connection, user: UserId, key: KeyHash, until: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE user SET old_key_hash = key_hash, old_key_until = ?3, key_hash = ?2 WHERE user_id = ?1";
    conn.prepare_cached(sql)?.execute(params![user.0, key.0, until.0])?;
    let sql = "UPDATE session SET expires_at = min(expires_at, ?2), ends_at = min(coalesce(ends_at, ?2), ?2)
        WHERE user_id = ?1";
    conn.prepare_cached(sql)?.execute(params![user.0, until.0]).map(drop)
}

fn key(conn: &Connection, row: &KeyRow) -> Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO idempotency (merchant_id, key, content_hash, event_id, receipt, expires_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        row.merchant.0,
        row.key.as_str(),
        row.content_hash,
        row.event_id.0,
        write_pairs(&row.deliveries),
        row.expires_at.0,
    ])?;
    Ok(())
}

fn new_webhook(conn: &Connection, webhook: &Webhook) -> Result<()> {
    let mut values = definition(webhook);
    let (merchant, user) = (webhook.merchant_id.0, webhook.created_by.0);
    values.extend([webhook.webhook_id.0, merchant, user, webhook.created_at.0].map(Value::Integer));
    let sql = format!(
        "INSERT INTO webhook ({DEFINITION}, webhook_id, merchant_id, user_id, created_at) VALUES ({})",
        placeholders(values.len())
    );
    conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}

fn webhook(conn: &Connection, webhook: &Webhook) -> Result<()> {
    let mut values = definition(webhook);
    let sql = format!("UPDATE webhook SET ({DEFINITION}) = ({}) WHERE webhook_id = ?", placeholders(values.len()));
    values.push(Value::Integer(webhook.webhook_id.0));
    conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}

/// `?, ?, ?`.
fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn topic(conn: &Connection, merchant: MerchantId, entry: &CatalogueEntry, is_known: bool) -> Result<()> {
    let sql = match is_known {
        false => {
            "INSERT INTO topic (merchant_id, topic, category, name, description, event_type, message_schema, validation,
                is_deprecated, is_discontinued, updated_at, created_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)"
        }
        true => {
            "UPDATE topic SET category = ?3, name = ?4, description = ?5, event_type = ?6, message_schema = ?7,
                validation = ?8, is_deprecated = ?9, is_discontinued = ?10, updated_at = ?11, version = version + 1
                WHERE merchant_id = ?1 AND topic = ?2"
        }
    };
    let CatalogueEntry { spec, event_type, updated_at, .. } = entry;
    conn.prepare_cached(sql)?.execute(params![
        merchant.0,
        spec.topic.as_str(),
        spec.category,
        spec.name,
        spec.description,
        event_type,
        spec.message_schema.as_ref().map(|schema| schema.as_str()),
        spec.validation.name(),
        spec.is_deprecated,
        spec.is_discontinued,
        updated_at.0,
    ])?;
    conn.prepare_cached("UPDATE merchant SET event_type = max(event_type, ?2) WHERE merchant_id = ?1")?
        .execute([merchant.0, *event_type])?;
    Ok(())
}

fn session(conn: &Connection, session: NewSession, keep: u32, max: u32) -> Result<()> {
    let NewSession { user, key, expires_at, ends_at } = session;
    conn.prepare_cached(
        "DELETE FROM session WHERE key_hash IN
            (SELECT key_hash FROM session WHERE user_id = ?1 ORDER BY expires_at DESC LIMIT ?2 OFFSET ?3)",
    )?
    .execute(params![user.0, max, keep])?;
    conn.prepare_cached("INSERT INTO session (key_hash, user_id, expires_at, ends_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key.0, user.0, expires_at.0, ends_at.map(|at| at.0)])?;
    Ok(())
}
