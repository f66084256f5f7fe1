//! Operational events: what the server has to say of a webhook, published to
//! its merchant like any other event. The first of a kind goes out at once;
//! those that follow within a minute gather, and go out as one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::book::Book;
use super::change::{Result, View};
use super::decision::{Decision, Learned, Other};
use super::fanout::{Fanout, Spread};
pub use super::notice::{Gathered, Notice};
use super::numbering::Numbering;
use super::spreading::{self, SHARE};
use super::wants::Wants;
use crate::domain::event::{Message, NewEvent};
use crate::domain::id::{MerchantId, Span, WebhookId};
use crate::domain::topic::Topic;
use crate::store::error::StoreError;

/// How long notices of a kind gather.
const GATHER_FOR: Duration = Duration::from_secs(60);
/// Notices published in a step.
pub const PER_STEP: u32 = 100;

/// Asks for what has to be read before each kind of notice can go out once to a
/// merchant.
pub fn want(book: &Book, wants: &mut Wants, merchant: MerchantId) {
    book.want_code(merchant, wants);
    wants.ids.event += Notice::ALL.len() as i64;
    if book.terms.is_shared {
        wants.ids.fanout += Notice::ALL.len() as i64;
        let receivers = |notice: Notice| book.matching(merchant, &Topic::operational(notice.name()), None);
        wants.counters.extend(Notice::ALL.into_iter().flat_map(receivers));
    }
}

/// What is said of webhooks in one change.
#[derive(Default)]
pub struct Notices {
    gathered: HashMap<(WebhookId, Notice), Gathered>,
}

impl Notices {
    /// Says something of a webhook, for what happened to these of its numbers.
    /// What happens to deliveries of such events is not told of.
    pub fn raise(
        &mut self,
        view: &View<'_>,
        out: &mut Decision,
        numbering: &mut Numbering,
        id: WebhookId,
        (numbers, notice): (Span, Notice),
    ) -> Result<()> {
        let topics = numbers.numbers().filter_map(|number| view.loaded.topics.get(&(id, number)));
        let told_of = topics.filter(|topic| !topic.is_operational()).count();
        let count = match notice {
            _ if told_of == 0 => return Ok(()),
            Notice::WebhookDisabled | Notice::WebhookRecovered => 1,
            Notice::DeliveryAbandoned => told_of as i64,
        };
        let before = self.gathered.get(&(id, notice)).or_else(|| view.loaded.notices.get(&(id, notice)));
        if let Some(before) = before {
            self.gather(out, id, notice, before.with(count, numbers));
            return Ok(());
        }
        let Span { first, last } = numbers;
        let whole = Gathered { count, first, last, due_at: view.now };
        if numbering.made() < SHARE {
            self.gather(out, id, notice, Gathered { count: 0, due_at: view.now.after(GATHER_FOR), ..whole });
            return publish(view, out, numbering, id, notice, whole);
        }
        self.gather(out, id, notice, whole);
        out.learned.push(Learned::Sweep);
        Ok(())
    }

    fn gather(&mut self, out: &mut Decision, id: WebhookId, notice: Notice, gathered: Gathered) {
        self.gathered.insert((id, notice), gathered);
        out.rows.others.push(Other::Notice(id, notice, gathered));
    }
}

/// Publishes what was due of these webhooks; true if there may be more of it.
pub fn publish_due(view: &View<'_>, out: &mut Decision, due: &HashSet<WebhookId>) -> Result<bool> {
    let mut numbering = Numbering::default();
    let mut are_left = view.loaded.due_notices.len() == PER_STEP as usize;
    for (id, notice, gathered) in view.loaded.due_notices.iter().filter(|(id, ..)| due.contains(id)) {
        if numbering.made() >= SHARE {
            are_left = true;
            break;
        }
        if gathered.count == 0 {
            out.rows.others.push(Other::NoticeDone(*id, *notice));
            continue;
        }
        publish(view, out, &mut numbering, *id, *notice, *gathered)?;
        let (last, due_at) = (gathered.last, view.now.after(GATHER_FOR));
        out.rows.others.push(Other::Notice(*id, *notice, Gathered { count: 0, first: last, last, due_at }));
    }
    numbering.announce(view, out);
    Ok(are_left)
}

fn publish(
    view: &View<'_>,
    out: &mut Decision,
    numbering: &mut Numbering,
    id: WebhookId,
    notice: Notice,
    gathered: Gathered,
) -> Result<()> {
    let Some(webhook) = view.book.entry(id).filter(|entry| !entry.is_deleted) else { return Ok(()) };
    let (merchant, labels) = (webhook.webhook.merchant_id, Arc::new(webhook.webhook.spec.labels.clone()));
    let message = json!({
        "webhook_id": id.0,
        "count": gathered.count,
        "first_increment_id": gathered.first.0,
        "last_increment_id": gathered.last.0,
    });
    let broken = |_| StoreError::failed("an operational event breaks a rule of events");
    let event = NewEvent {
        topic: Topic::operational(notice.name()),
        message: Message::try_new(&message.to_string()).map_err(broken)?,
        created_at: view.now,
        idempotency_key: None,
        // What is told of a webhook is for those who may know of it.
        labels: Some(Arc::clone(&labels)),
        trace: None,
    };
    let event = numbering.accept(view, out, merchant, event)?;
    let webhooks = view.book.matching(merchant, &event.topic, Some(&labels));
    // What is left of it nobody waits for.
    spreading::begin(Fanout::new(merchant, [Spread::new(event, None, webhooks)]), view, out, numbering)?;
    Ok(())
}
