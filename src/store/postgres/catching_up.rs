//! What other nodes have changed of a merchant's webhooks since this one last held
//! him, and whether they have paused him.
//!
//! Each change of a webhook, and each pause, gets a number, in the order of commits, which it and its
//! merchant note. So who holds the merchant sees at once whether there is anything
//! to read, and what; and who looks around asks for the merchants with higher numbers
//! than the last that he has seen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::session::Session;
use super::values::Parameter;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::merchant::EventDay;
use crate::domain::webhook::Webhook;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::news::Announcement;
use crate::store::sql::Dialect;
use crate::store::sql::db::{all, damaged, values};
use crate::store::sql::definition::{webhook, webhook_sql};
use crate::store::vault::Vault;

type Result<T> = std::result::Result<T, StoreError>;

/// Merchants that are asked for in one go by who looks around.
const MERCHANTS_PER_LOOK: i64 = 1_000;
/// Held to the end of a transaction that counts a change of webhooks, so that they are
/// counted in the order of commits.
const COUNTING: i32 = 0x6765_6e65;

/// Up to which change everything is known by heart.
#[derive(Default)]
pub struct Generations {
    /// Of each merchant.
    pub of_merchants: HashMap<MerchantId, i64>,
    /// Of all of them.
    pub of_all: i64,
    /// Merchants whom somebody watched when they were last held.
    pub watched: HashSet<MerchantId>,
}

/// Behind the locks, as a statement of its own, so that it sees what was committed
/// while they were waited for.
pub const MERCHANTS: &str = "SELECT merchant_id, generation, code,
        paused_at IS NOT NULL,
        watched_until > 0 AND watched_until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        event_day, event_day_events
    FROM merchant WHERE merchant_id = ANY($1)";

/// Brings the book up to date for merchants that are held; what there is to tell.
pub fn catch_up(
    session: &mut Session,
    vault: &Vault,
    generations: &mut Generations,
    book: &mut Book,
    held: &[MerchantId],
) -> Result<Vec<Announcement>> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = held.iter().map(|merchant| merchant.0).collect();
    let values: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
    let rows = session.together(session.ask(MERCHANTS, &values))?;
    for row in &rows {
        let merchant = MerchantId(row.try_get(0)?);
        match row.try_get(4)? {
            true => generations.watched.insert(merchant),
            false => generations.watched.remove(&merchant),
        };
        if let Some(day) = row.try_get(5)? {
            let events = u32::try_from(row.try_get::<_, i64>(6)?).map_err(|_| damaged("bad event_day_events"))?;
            book.event_days.hear(merchant, EventDay { day, events });
        }
    }
    learn(session, vault, generations, book, &rows)
}

/// Brings the book up to date for all merchants.
pub fn look_around(
    session: &mut Session,
    vault: &Vault,
    generations: &mut Generations,
    book: &mut Book,
) -> Result<Vec<Announcement>> {
    const CHANGED: &str =
        "SELECT merchant_id, generation, code, paused_at IS NOT NULL FROM merchant WHERE generation > $1
        ORDER BY generation LIMIT $2";
    let mut news = Vec::new();
    loop {
        let values: [Parameter<'_>; 2] = [(&generations.of_all, Type::INT8), (&MERCHANTS_PER_LOOK, Type::INT8)];
        let rows = session.together(session.ask(CHANGED, &values))?;
        news.extend(learn(session, vault, generations, book, &rows)?);
        let Some(last) = rows.last() else { return Ok(news) };
        generations.of_all = last.try_get(1)?;
    }
}

/// Learns of merchants what has changed beyond what is known.
fn learn(
    session: &mut Session,
    vault: &Vault,
    generations: &mut Generations,
    book: &mut Book,
    merchants: &[tokio_postgres::Row],
) -> Result<Vec<Announcement>> {
    let mut news = Vec::new();
    for row in merchants {
        let (merchant, generation) = (MerchantId(row.try_get(0)?), row.try_get::<_, i64>(1)?);
        if book.code(merchant).is_none() {
            book.learn_code(merchant, row.try_get::<_, &str>(2)?.into());
        }
        let known = generations.of_merchants.insert(merchant, generation).unwrap_or(0);
        if known == generation {
            continue;
        }
        // Before its webhooks, or something of theirs would be sent.
        news.push(Announcement::LearnedPaused(merchant, row.try_get(3)?));
        for (id, webhook) in webhooks_since(session, vault, merchant, known)? {
            match &webhook {
                Some(webhook) => book.learn_webhook(Arc::clone(webhook)),
                None => book.learn_deleted(id),
            }
            news.push(Announcement::Learned(id, webhook));
        }
    }
    Ok(news)
}

/// Webhooks of a merchant that were changed after that generation; `None`: deleted.
fn webhooks_since(
    session: &mut Session,
    vault: &Vault,
    merchant: MerchantId,
    generation: i64,
) -> Result<Vec<(WebhookId, Option<Arc<Webhook>>)>> {
    const DELETED: &str = "SELECT webhook_id FROM webhook
        WHERE merchant_id = $1 AND generation > $2 AND deleted_at IS NOT NULL";
    let there =
        format!("{} WHERE merchant_id = $1 AND generation > $2 AND deleted_at IS NULL", webhook_sql(Dialect::Postgres));
    let values = values![merchant.0, generation];
    let mut changed = all(session, &there, values, |row| {
        let webhook = webhook(vault)(row)?;
        Ok((webhook.webhook_id, Some(Arc::new(webhook))))
    })?;
    changed.extend(all(session, DELETED, values, |row| Ok((WebhookId(row.int(0)?), None)))?);
    Ok(changed)
}

/// Has other nodes notice that these webhooks, whose merchants are held, have
/// changed, or were paused themselves.
pub fn raise(
    session: &Session,
    generations: &mut Generations,
    webhooks: &Vec<i64>,
    merchants: &Vec<i64>,
) -> Result<()> {
    const COUNT: &str = "SELECT pg_advisory_xact_lock($1, current_schema()::regnamespace::oid::int4)";
    const MERCHANT: &str = "UPDATE merchant SET generation = nextval('generation')
        WHERE merchant_id IN (SELECT merchant_id FROM webhook WHERE webhook_id = ANY($1) UNION ALL SELECT unnest($2))
        RETURNING merchant_id, generation";
    const WEBHOOK: &str = "UPDATE webhook w SET generation = m.generation FROM merchant m
        WHERE m.merchant_id = w.merchant_id AND w.webhook_id = ANY($1)";
    let (counting, values): ([Parameter<'_>; 1], [Parameter<'_>; 2]) =
        ([(&COUNTING, Type::INT4)], [(webhooks, Type::INT8_ARRAY), (merchants, Type::INT8_ARRAY)]);
    let raised = session.together(async {
        let (counted, raised, noted) = tokio::join!(biased; session.ask(COUNT, &counting), session.ask(MERCHANT, &values),
            session.tell(WEBHOOK, &values[..1]));
        counted.and(noted).and(raised)
    })?;
    for row in raised {
        generations.of_merchants.insert(MerchantId(row.try_get(0)?), row.try_get(1)?);
    }
    Ok(())
}
