//! Webhooks: whose they are, and how far they say they have come.

use super::fault::{Kind, Place};
use super::walk::{Findings, PART, Part, START, Walk};
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::store::error::StoreError;
use crate::store::sql::conn::Conn;
use crate::store::sql::db::{all, values};

type Result<T> = std::result::Result<T, StoreError>;

/// Goes through webhooks, deleted ones too.
pub struct Webhooks {
    after: i64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { after: START }
    }
}

/// A webhook, as far as it is looked at.
struct Found {
    id: i64,
    merchant: i64,
    user: i64,
    last: i64,
    /// The highest number that has a row.
    head: i64,
    marks: [(&'static str, i64); 3],
    is_merchant_there: bool,
    /// Of its user, if that is there.
    users_merchant: Option<i64>,
}

impl Walk for Webhooks {
    fn goes_through(&self) -> &'static str {
        "webhooks"
    }

    fn part(&mut self, db: &mut dyn Conn, found: &mut Findings) -> Result<Part> {
        let sql = format!(
            "SELECT w.webhook_id, w.merchant_id, w.user_id, w.last_increment_id, w.settled_through,
                w.acknowledged_through, w.pulled_through, m.merchant_id IS NOT NULL, u.merchant_id,
                (SELECT max(d.increment_id) FROM delivery d WHERE d.webhook_id = w.webhook_id)
                FROM {} w LEFT JOIN merchant m ON m.merchant_id = w.merchant_id
                LEFT JOIN \"user\" u ON u.user_id = w.user_id
                WHERE w.webhook_id > $1 ORDER BY w.webhook_id LIMIT $2",
            db.dialect().webhooks()
        );
        let webhooks = all(db, &sql, values![self.after, PART], |row| {
            Ok(Found {
                id: row.int(0)?,
                merchant: row.int(1)?,
                user: row.int(2)?,
                last: row.int(3)?,
                head: row.int_if(9)?.unwrap_or(0),
                marks: [
                    ("settled_through", row.int(4)?),
                    ("acknowledged_through", row.int(5)?),
                    ("pulled_through", row.int(6)?),
                ],
                is_merchant_there: row.flag(7)?,
                users_merchant: row.int_if(8)?,
            })
        })?;
        self.after = webhooks.last().map_or(self.after, |webhook| webhook.id);
        found.looked_at.webhooks += webhooks.len() as u64;
        webhooks.iter().for_each(|webhook| judge(webhook, found));
        Ok(Part::of(webhooks.len()))
    }
}

fn judge(webhook: &Found, found: &mut Findings) {
    let Found { last, head, merchant, user, .. } = *webhook;
    let id = WebhookId(webhook.id);
    let place = Place::Webhook(id);
    if !webhook.is_merchant_there {
        found.add(Kind::Orphan, place, format!("it is of merchant {merchant}, which is not there"), "a merchant");
    }
    match webhook.users_merchant {
        None => found.add(Kind::Orphan, place, format!("it was made by user {user}, which is not there"), "a user"),
        Some(other) if other != merchant => found.add(
            Kind::Orphan,
            place,
            format!("it was made by user {user} of merchant {other}"),
            format!("a user of its own merchant {merchant}"),
        ),
        Some(_) => {}
    }
    if head < last {
        let numbers = Span { first: IncrementId(head + 1), last: IncrementId(last) };
        let expected = format!("all up to {last}, the last that was given out");
        found.add(Kind::NumberMissing, Place::Numbers(id, numbers), "no row", expected);
    }
    if head > last {
        let numbers = Span { first: IncrementId(last.max(0) + 1), last: IncrementId(head) };
        let expected = format!("none beyond {last}, the last that was given out");
        found.add(Kind::NumberNotGiven, Place::Numbers(id, numbers), "there are rows", expected);
    }
    for (mark, at) in webhook.marks {
        if !(0..=last.max(0)).contains(&at) {
            found.add(Kind::Mark, place, format!("{mark} is {at}"), format!("0 to {last}, the last number"));
        }
    }
}
