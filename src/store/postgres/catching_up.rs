//! What other nodes have changed of a merchant's webhooks since this one last held
//! him.
//!
//! With each change of a webhook, its merchant's generation goes up, and the
//! webhook notes which one that was. So who holds the merchant sees at once
//! whether there is anything to read, and what.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::session::Session;
use super::values::Parameter;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::webhook::Webhook;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::news::Announcement;
use crate::store::sql::Dialect;
use crate::store::sql::db::{all, values};
use crate::store::sql::definition::{webhook, webhook_sql};

type Result<T> = std::result::Result<T, StoreError>;

/// Behind the locks, as a statement of its own, so that it sees what was committed
/// while they were waited for.
pub const MERCHANTS: &str = "SELECT merchant_id, generation, code FROM merchant WHERE merchant_id = ANY($1)";

/// Brings the book up to date for merchants that are held; what there is to tell.
pub fn catch_up(
    session: &mut Session,
    generations: &mut HashMap<MerchantId, i64>,
    book: &mut Book,
    held: &[MerchantId],
) -> Result<Vec<Announcement>> {
    let ids: Vec<_> = held.iter().map(|merchant| merchant.0).collect();
    let values: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
    let mut news = Vec::new();
    for row in session.together(session.ask(MERCHANTS, &values))? {
        let (merchant, generation) = (MerchantId(row.try_get(0)?), row.try_get::<_, i64>(1)?);
        if book.code(merchant).is_none() {
            book.learn_code(merchant, row.try_get::<_, &str>(2)?.into());
        }
        let known = generations.insert(merchant, generation).unwrap_or(0);
        if known == generation {
            continue;
        }
        for (id, webhook) in webhooks_since(session, merchant, known)? {
            match &webhook {
                Some(webhook) => book.learn_webhook(Arc::clone(webhook)),
                None => book.learn_deleted(id),
            }
            news.push(Announcement::Webhook(id, webhook));
        }
    }
    Ok(news)
}

/// Webhooks of a merchant that were changed after that generation; `None`: deleted.
fn webhooks_since(
    session: &mut Session,
    merchant: MerchantId,
    generation: i64,
) -> Result<Vec<(WebhookId, Option<Arc<Webhook>>)>> {
    const DELETED: &str = "SELECT webhook_id FROM webhook
        WHERE merchant_id = $1 AND generation > $2 AND deleted_at IS NOT NULL";
    let there =
        format!("{} WHERE merchant_id = $1 AND generation > $2 AND deleted_at IS NULL", webhook_sql(Dialect::Postgres));
    let values = values![merchant.0, generation];
    let mut changed = all(session, &there, values, |row| {
        let webhook = webhook(row)?;
        Ok((webhook.webhook_id, Some(Arc::new(webhook))))
    })?;
    changed.extend(all(session, DELETED, values, |row| Ok((WebhookId(row.int(0)?), None)))?);
    Ok(changed)
}

/// Has other nodes notice that these webhooks, whose merchants are held, have
/// changed; the generations from then on.
pub fn raise(session: &Session, webhooks: &Vec<i64>) -> Result<Vec<(MerchantId, i64)>> {
    const MERCHANT: &str = "UPDATE merchant SET generation = generation + 1
        WHERE merchant_id IN (SELECT merchant_id FROM webhook WHERE webhook_id = ANY($1))
        RETURNING merchant_id, generation";
    const WEBHOOK: &str = "UPDATE webhook w SET generation = m.generation FROM merchant m
        WHERE m.merchant_id = w.merchant_id AND w.webhook_id = ANY($1)";
    let values: [Parameter<'_>; 1] = [(webhooks, Type::INT8_ARRAY)];
    let raised = session.together(async {
        let (raised, noted) = tokio::join!(biased; session.ask(MERCHANT, &values), session.tell(WEBHOOK, &values));
        noted.and(raised)
    })?;
    raised.iter().map(|row| Ok((MerchantId(row.try_get(0)?), row.try_get(1)?))).collect()
}
