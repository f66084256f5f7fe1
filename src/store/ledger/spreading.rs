//! Events that go far: they are accepted at once, all or none, and numbered in
//! shares, each in a commit of its own, so that others have theirs between.
//!
//! What is still to be numbered stands in the store with the events, so it is
//! gone on with after a crash. Whoever published waits until all is numbered;
//! if that can't be told to him (a share failed, or the server was stopped),
//! the housekeeping does the rest.

use std::sync::Arc;

use super::book::Book;
use super::change::{Result, View};
use super::decision::{Decision, Learned, Other};
use super::fanout::Fanout;
use super::numbering::Numbering;
use super::wants::Wants;
use crate::domain::event::IdempotencyKey;
use crate::domain::id::{EventId, IncrementId, WebhookId};
use crate::domain::standing::Standing;
use crate::store::error::StoreError;

/// The most numbers that are given out in a share.
pub const SHARE: usize = 125;

/// What an event got in a share.
#[derive(Debug)]
pub struct Numbered {
    /// Which event.
    pub event_id: EventId,
    /// Its new numbers.
    pub deliveries: Vec<(WebhookId, IncrementId)>,
    key: Option<IdempotencyKey>,
}

/// The right to go on with what is left. Once it is dropped, the housekeeping does.
#[derive(Debug)]
pub struct Rest {
    fanout_id: i64,
    owner: Arc<()>,
}

/// Gives out the first numbers, and notes what is left, if anything is. The
/// book knows of that once the numbering is settled.
pub fn begin(
    mut fanout: Fanout,
    view: &View<'_>,
    out: &mut Decision,
    numbering: &mut Numbering,
) -> Result<(Vec<Numbered>, Option<Rest>)> {
    let share = share(&mut fanout, view, out, numbering);
    if fanout.left.is_empty() {
        return Ok((share, None));
    }
    let rest = Rest { fanout_id: out.next_fanout()?, owner: Arc::default() };
    fanout.owner = Arc::downgrade(&rest.owner);
    out.rows.others.push(Other::Fanout(rest.fanout_id, fanout.clone()));
    numbering.leave(rest.fanout_id, fanout);
    Ok((share, Some(rest)))
}

fn share(fanout: &mut Fanout, view: &View<'_>, out: &mut Decision, numbering: &mut Numbering) -> Vec<Numbered> {
    let (mut share, mut count) = (Vec::new(), 0);
    while let Some(spread) = fanout.left.front_mut() {
        let mut deliveries = Vec::with_capacity(spread.webhooks.len().min(SHARE - count));
        while count < SHARE
            && let Some(id) = spread.webhooks.pop_front()
        {
            count += 1;
            let number = match &spread.event {
                Some(event) => numbering.deliver(view, out, id, event),
                None => {
                    let event = (spread.event_id, &spread.topic);
                    numbering.number(view, out, id, event, |_| Standing::NEW)
                }
            };
            deliveries.extend(number.map(|number| (id, number)));
        }
        share.push(Numbered { event_id: spread.event_id, deliveries, key: spread.key.clone() });
        if !spread.webhooks.is_empty() {
            break;
        }
        fanout.left.pop_front();
    }
    share
}

/// Gives out the next numbers; false if those were the last.
fn step(mut fanout: Fanout, fanout_id: i64, view: &View<'_>, out: &mut Decision) -> (Vec<Numbered>, bool) {
    let mut numbering = Numbering::default();
    let share = share(&mut fanout, view, out, &mut numbering);
    for Numbered { deliveries, key, .. } in &share {
        if let Some(key) = key {
            out.rows.others.push(Other::KeyGoesOn(fanout.merchant, key.clone(), deliveries.clone()));
        }
    }
    let are_left = !fanout.left.is_empty();
    if are_left {
        out.rows.others.push(Other::Fanout(fanout_id, fanout.clone()));
        numbering.leave(fanout_id, fanout);
    } else {
        out.rows.others.push(Other::FanoutDone(fanout_id));
        out.learned.push(Learned::FanoutDone(fanout_id));
    }
    numbering.announce(view, out);
    (share, are_left)
}

impl Rest {
    /// Asks for what has to be read for the next numbers.
    pub fn wants(&self, book: &Book, wants: &mut Wants) {
        self::wants(book, wants, self.fanout_id);
    }

    /// Gives out the next numbers; false if those were the last. Fails if the
    /// store had to be read again meanwhile: then it is unknown what came of
    /// the numbers before.
    pub fn go_on(&self, view: &View<'_>, out: &mut Decision) -> Result<(Vec<Numbered>, bool)> {
        let fanout = view.book.fanouts.get(self.fanout_id);
        let fanout = fanout.filter(|fanout| fanout.owner.ptr_eq(&Arc::downgrade(&self.owner)));
        let Some(fanout) = fanout.cloned() else {
            return Err(StoreError::failed("the store was read again while an event was being numbered"));
        };
        Ok(step(fanout, self.fanout_id, view, out))
    }
}

/// Asks for what has to be read before the next numbers are given out.
pub fn wants(book: &Book, wants: &mut Wants, fanout_id: i64) {
    let left = book.fanouts.get(fanout_id).into_iter().flat_map(|fanout| &fanout.left);
    for id in left.flat_map(|spread| &spread.webhooks).take(SHARE) {
        book.want_counters(*id, wants);
    }
}

/// Goes on with one that nobody waits for.
pub fn finish(view: &View<'_>, out: &mut Decision, fanout_id: i64) {
    if let Some(fanout) = view.book.fanouts.get(fanout_id).cloned() {
        step(fanout, fanout_id, view, out);
    }
}
