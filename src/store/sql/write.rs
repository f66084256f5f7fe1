//! Writing what is rare of what changes have come to.

use super::codes::write_pairs;
use super::db::{Db, Value, values};
use super::definition::{DEFINITION, Definition};
use super::keys::Asked;
use super::{audit, jobs, merchants, tokens, users};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::message_schema::SchemaText;
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::accounts::NewSession;
use crate::store::error::StoreError;
use crate::store::ledger::decision::{KeyRow, Other};
use crate::store::ledger::logs::LogRow;
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// How large the logs of webhooks are.
pub fn logs(db: &mut dyn Db, all: &[(WebhookId, Option<LogRow>)]) -> Result<()> {
    let sql = "INSERT INTO log_size (webhook_id, bytes, emptied_number, emptied_attempt) VALUES ($1, $2, $3, $4)
            ON CONFLICT (webhook_id) DO UPDATE SET bytes = excluded.bytes, emptied_number = excluded.emptied_number,
                emptied_attempt = excluded.emptied_attempt";
    for (id, log) in all {
        match log {
            None => db.run("DELETE FROM log_size WHERE webhook_id = $1", values![id.0])?,
            Some(LogRow { bytes, emptied: (number, attempt), .. }) => {
                let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
                db.run(sql, values![id.0, bytes, number.0, *attempt])?
            }
        };
    }
    Ok(())
}

/// What is rarer.
pub fn other(db: &mut dyn Db, vault: &Vault, other: &Other, now: Timestamp) -> Result<()> {
    match other {
        Other::Key(row) => key(db, row),
        Other::KeyGoesOn(merchant, key, deliveries) => run(
            db,
            "UPDATE idempotency SET receipt = receipt || ' ' || $3 WHERE merchant_id = $1 AND key = $2",
            values![merchant.0, key.as_str(), &write_pairs(deliveries)],
        ),
        Other::NewWebhook(webhook) => new_webhook(db, vault, webhook),
        Other::Webhook(webhook) => self::webhook(db, vault, webhook),
        Other::WebhookDeleted(id) => {
            run(db, "UPDATE webhook SET deleted_at = $2 WHERE webhook_id = $1", values![id.0, now])
        }
        Other::WebhookBlotted(id) => run(
            db,
            "UPDATE webhook SET name = '', description = '', topics = '', url = NULL, extra_headers = '',
                secret_key = '', old_secrets = '[]', expansions = '{}', basic_username = NULL, basic_password = NULL,
                signing_key = NULL, client_certificate = NULL, client_key = NULL, oauth2 = NULL, oauth2_secret = NULL,
                labels = '{}' WHERE webhook_id = $1",
            values![id.0],
        ),
        Other::Fanout(id, fanout) => run(
            db,
            "INSERT INTO fanout (fanout_id, merchant_id, events) VALUES ($1, $2, $3)
                ON CONFLICT (fanout_id) DO UPDATE SET events = excluded.events",
            values![*id, fanout.merchant().0, &fanout.text()?],
        ),
        Other::FanoutDone(id) => run(db, "DELETE FROM fanout WHERE fanout_id = $1", values![*id]),
        Other::NewJob { job, ended_at } => jobs::insert(db, job, *ended_at),
        Other::Job { job, ended_at } => jobs::update(db, job, *ended_at),
        Other::JobCancelled(id) => {
            run(db, "UPDATE job SET ended_at = $2, is_cancelled = TRUE WHERE job_id = $1", values![id.0, now])
        }
        Other::TrimJobs { merchant, keep, max } => run(
            db,
            "DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE merchant_id = $1 AND ended_at IS NOT NULL
                ORDER BY job_id DESC LIMIT $3 OFFSET $2)",
            values![merchant.0, *keep, *max],
        ),
        Other::Notice(id, notice, gathered) => run(
            db,
            "INSERT INTO notice (webhook_id, kind, count, first_increment_id, last_increment_id, due_at)
                VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT (webhook_id, kind) DO UPDATE SET count = excluded.count, due_at = excluded.due_at,
                    first_increment_id = excluded.first_increment_id, last_increment_id = excluded.last_increment_id",
            values![id.0, notice.name(), gathered.count, gathered.first.0, gathered.last.0, gathered.due_at],
        ),
        Other::NoticeDone(id, notice) => {
            run(db, "DELETE FROM notice WHERE webhook_id = $1 AND kind = $2", values![id.0, notice.name()])
        }
        Other::Topic { merchant, entry, is_known } => topic(db, *merchant, entry, *is_known),
        Other::TopicRemoved(merchant, topic) => {
            run(db, "DELETE FROM topic WHERE merchant_id = $1 AND topic = $2", values![merchant.0, topic.as_str()])
        }
        Other::Session { session, keep, max } => self::session(db, *session, *keep, *max),
        Other::SessionRenewed(key, expires_at) => run(
            db,
            "UPDATE session SET expires_at = CASE WHEN ends_at < $2 THEN ends_at ELSE $2 END
                WHERE key_hash = $1 AND expires_at < CASE WHEN ends_at < $2 THEN ends_at ELSE $2 END",
            values![&key.0, *expires_at],
        ),
        Other::SessionEnded(key) => run(db, "DELETE FROM session WHERE key_hash = $1", values![&key.0]),
        Other::NewUser(_)
        | Other::Permissions(..)
        | Other::Profile(..)
        | Other::UserKey { .. }
        | Other::UserDisabled(..)
        | Other::UserRevoked(_) => users::write(db, other, now),
        Other::NewToken(by, token) => tokens::insert(db, by, token, now),
        Other::TokenRevoked(id) => run(db, "DELETE FROM token WHERE token_id = $1", values![id.0]),
        Other::NewMerchant { .. } | Other::MerchantTerms(..) | Other::EventDay(..) => merchants::write(db, other, now),
        Other::Audited(audited) => audit::write(db, audited, now),
        Other::Forgotten(id, number) => run(
            db,
            "UPDATE delivery SET event_id = -abs(event_id) WHERE webhook_id = $1 AND increment_id = $2",
            values![id.0, number.0],
        ),
        Other::AttemptsForgotten(id, places) => attempts(db, "DELETE FROM attempt", values![id.0], places),
        Other::EventForgotten(event) => run(db, "DELETE FROM event WHERE event_id = $1", values![event.0]),
        Other::AttemptsEmptied(id, places) => attempts(
            db,
            "UPDATE attempt SET request_headers = '', response_headers = '', response_body = $2, is_compressed = FALSE",
            values![id.0, b"".as_slice()],
            places,
        ),
    }
}

fn run(db: &mut dyn Db, sql: &str, values: &[Value<'_>]) -> Result<()> {
    db.run(sql, values).map(drop)
}

/// Does that to attempts of the webhook that is the first of its values.
fn attempts(db: &mut dyn Db, what: &str, values: &[Value<'_>], places: &[(IncrementId, u32)]) -> Result<()> {
    for group in places.chunks(db.dialect().keys_at_once()) {
        let keys = group.iter().map(|(number, attempt)| [Value::from(number.0), Value::from(*attempt)]);
        let asked = Asked::of(db.dialect(), values, ["increment_id", "attempt"], keys);
        db.run(&format!("{what} WHERE webhook_id = $1 AND {}", asked.condition), &asked.values)?;
    }
    Ok(())
}

/// Removes some of what has expired, and of what was audited before then, up to so many rows of
/// a kind; true if there may be more.
pub fn sweep(db: &mut dyn Db, now: Timestamp, audited_before: Timestamp, max: u32) -> Result<bool> {
    let are_audited_left = audit::forget_old(db, audited_before, max)?;
    let mut removed = vec![jobs::forget_old(db, now, max)?];
    for sql in [
        "DELETE FROM session WHERE key_hash IN (SELECT key_hash FROM session WHERE expires_at <= $1 LIMIT $2)",
        "DELETE FROM token WHERE token_id IN (SELECT token_id FROM token WHERE expires_at <= $1 LIMIT $2)",
        "DELETE FROM idempotency WHERE (merchant_id, key) IN
            (SELECT merchant_id, key FROM idempotency WHERE expires_at <= $1 LIMIT $2)",
    ] {
        removed.push(db.run(sql, values![now, max])?);
    }
    Ok(are_audited_left || removed.into_iter().any(|removed| removed >= max.into()))
}

fn key(db: &mut dyn Db, row: &KeyRow) -> Result<()> {
    let sql = "INSERT INTO idempotency (merchant_id, key, content_hash, event_id, receipt, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (merchant_id, key) DO UPDATE SET content_hash = excluded.content_hash,
                event_id = excluded.event_id, receipt = excluded.receipt, expires_at = excluded.expires_at";
    let receipt = write_pairs(&row.deliveries);
    let values = values![row.merchant.0, row.key.as_str(), &row.content_hash, row.event_id.0, &receipt, row.expires_at];
    db.run(sql, values).map(drop)
}

fn new_webhook(db: &mut dyn Db, vault: &Vault, webhook: &Webhook) -> Result<()> {
    let definition = Definition::of(webhook, vault);
    let (merchant, user) = (webhook.merchant_id.0, webhook.created_by.0);
    let others = [webhook.webhook_id.0, merchant, user, webhook.created_at.0].map(Value::from);
    let values = [&definition.values()[..], &others].concat();
    let sql = format!(
        "INSERT INTO webhook ({DEFINITION}, webhook_id, merchant_id, user_id, created_at) VALUES ({})",
        places(values.len())
    );
    db.run(&sql, &values).map(drop)
}

fn webhook(db: &mut dyn Db, vault: &Vault, webhook: &Webhook) -> Result<()> {
    let definition = Definition::of(webhook, vault);
    let values = [&definition.values()[..], values![webhook.webhook_id.0]].concat();
    let sql = format!(
        "UPDATE webhook SET ({DEFINITION}) = ({}) WHERE webhook_id = ${}",
        places(values.len() - 1),
        values.len()
    );
    db.run(&sql, &values).map(drop)
}

/// `$1, $2, $3`.
fn places(count: usize) -> String {
    (1..=count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

fn topic(db: &mut dyn Db, merchant: MerchantId, entry: &CatalogueEntry, is_known: bool) -> Result<()> {
    let sql = match is_known {
        false => {
            "INSERT INTO topic (merchant_id, topic, category, name, description, event_type, message_schema, validation,
                is_deprecated, is_discontinued, updated_at, created_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)"
        }
        true => {
            "UPDATE topic SET category = $3, name = $4, description = $5, event_type = $6, message_schema = $7,
                validation = $8, is_deprecated = $9, is_discontinued = $10, updated_at = $11, version = version + 1
                WHERE merchant_id = $1 AND topic = $2"
        }
    };
    let CatalogueEntry { spec, event_type, updated_at, .. } = entry;
    let values = values![
        merchant.0,
        spec.topic.as_str(),
        &spec.category,
        &spec.name,
        &spec.description,
        *event_type,
        spec.message_schema.as_ref().map(SchemaText::as_str),
        spec.validation.name(),
        spec.is_deprecated,
        spec.is_discontinued,
        *updated_at,
    ];
    db.run(sql, values)?;
    let sql = "UPDATE merchant SET event_type = $2 WHERE merchant_id = $1 AND event_type < $2";
    db.run(sql, values![merchant.0, *event_type]).map(drop)
}

fn session(db: &mut dyn Db, session: NewSession, keep: u32, max: u32) -> Result<()> {
    let NewSession { user, key, expires_at, ends_at } = session;
    let sql = "DELETE FROM session WHERE key_hash IN
            (SELECT key_hash FROM session WHERE user_id = $1 ORDER BY expires_at DESC LIMIT $2 OFFSET $3)";
    db.run(sql, values![user.0, max, keep])?;
    let sql = "INSERT INTO session (key_hash, user_id, expires_at, ends_at) VALUES ($1, $2, $3, $4)";
    db.run(sql, values![&key.0, user.0, expires_at, ends_at]).map(drop)
}
