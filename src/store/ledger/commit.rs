//! What shares a commit, whatever engine keeps the rows: changes that wait in
//! the queue, each step of them run in the transaction, and what becomes of
//! them once the commit's fate is known.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::book::Book;
use super::news::Announcement;
use super::queue::{Cost, Queue, Spent, Taken};
use super::queued::{self, Changed, Queued, begun};
use super::wants::Loaded;
use super::work::Work;
use crate::domain::id::{IncrementId, MerchantId, Span};
use crate::domain::node::Bucket;
use crate::store::committed::{Accepted, Committed};
use crate::store::error::StoreError;
use crate::store::mailbox::Mailbox;
use crate::work::{self, Account};

/// What has come of changes, and whose each was.
pub type AllChanged = Vec<(Option<Account>, Changed)>;

/// Runs a change and what else finds room beside it in a commit.
pub fn run_changes(queue: &Queue<Queued>, work: &mut Work<'_>, first: Option<Taken<Queued>>) -> AllChanged {
    let (mut spent, mut changed, mut next) = (Spent::default(), Vec::new(), first);
    while let Some(taken) = next {
        run(queue, work, taken, None, (&mut spent, &mut changed));
        next = match goes_on(queue, &mut changed, spent) {
            Next::Same(taken) => Some(taken),
            // What comes behind one that goes on waits for all of it.
            Next::Waits => None,
            Next::Other => queue.take(spent),
        };
    }
    changed
}

/// The same with an engine that reads ahead: changes are taken by rounds, as many
/// as are expected to find room. Returns those, too, of which nothing was done since
/// others hold their merchants, whose lines are parked; or since something of such a
/// merchant is aside already.
pub fn run_in_rounds(
    queue: &Queue<Queued>,
    work: &mut Work<'_>,
    first: Vec<Taken<Queued>>,
    is_aside: &dyn Fn(MerchantId) -> bool,
) -> (AllChanged, Vec<HeldUp>) {
    let (mut spent, mut changed, mut held_up, mut round) = (Spent::default(), Vec::new(), Vec::new(), first);
    while !round.is_empty() {
        let mut expected = spent;
        round.iter().for_each(|taken| expected.add(taken.account, taken.cost));
        round.extend(std::iter::from_fn(|| {
            let taken = queue.take(expected)?;
            expected.add(taken.account, taken.cost);
            Some(taken)
        }));
        let (ready, others) = hold(queue, work, round, is_aside);
        held_up.extend(others);
        let wants: Vec<_> = ready.iter().map(|taken| taken.entry.wants(work.book)).collect();
        // If it fails, so has the transaction, and each is told so.
        let ahead = work.read_ahead(&wants).unwrap_or_default();
        let ahead = ahead.into_iter().chain(std::iter::repeat_with(|| None));
        let (mut ready, mut one_goes_on): (VecDeque<_>, _) = (ready.into_iter().zip(ahead).collect(), false);
        while let Some((taken, loaded)) = ready.pop_front() {
            let account = taken.account;
            run(queue, work, taken, loaded, (&mut spent, &mut changed));
            if matches!(changed.last(), Some((_, Changed::Goes(..) | Changed::GoesFurther(..)))) {
                // What comes behind one that goes on waits for all of it.
                let (behind, others): (Vec<_>, Vec<_>) =
                    ready.into_iter().partition(|(taken, _)| taken.account == account);
                put_back(queue, behind);
                (ready, one_goes_on) = (others.into(), true);
            }
        }
        let is_last = matches!(changed.last(), Some((_, Changed::Goes(..) | Changed::GoesFurther(..))));
        if one_goes_on && !is_last {
            break;
        }
        round = match goes_on(queue, &mut changed, spent) {
            Next::Same(taken) => vec![taken],
            Next::Waits => Vec::new(),
            Next::Other => queue.take(spent).into_iter().collect(),
        };
    }
    (changed, held_up)
}

/// Puts changes of one account back in front of its line, in their order.
fn put_back(queue: &Queue<Queued>, taken: Vec<(Taken<Queued>, Option<Loaded>)>) {
    for (Taken { entry, cost, account }, _) in taken.into_iter().rev() {
        if let Some(account) = account {
            queue.go_on(account, cost, entry);
        }
    }
}

/// A change, and one of its merchants whom somebody else holds.
pub type HeldUp = (MerchantId, Taken<Queued>);

/// Holds the merchants of changes; parts those whose merchants are held, in their
/// order, from the others.
fn hold(
    queue: &Queue<Queued>,
    work: &mut Work<'_>,
    round: Vec<Taken<Queued>>,
    is_aside: &dyn Fn(MerchantId) -> bool,
) -> (Vec<Taken<Queued>>, Vec<HeldUp>) {
    let all: BTreeSet<MerchantId> = round.iter().flat_map(merchants).filter(|merchant| !is_aside(*merchant)).collect();
    let all: Vec<_> = all.into_iter().collect();
    let sent_for = round.iter().flat_map(|taken| taken.entry.sent_for()).map(Bucket::of);
    let sent_for: Vec<_> = sent_for.collect::<BTreeSet<_>>().into_iter().collect();
    // If it fails, so has the transaction, and each is told so.
    let held = work.hold_to_record(&all, &sent_for).unwrap_or_else(|_| all.clone());
    let mut free: BTreeSet<MerchantId> = held.into_iter().collect();
    let (mut ready, mut held_up) = (Vec::with_capacity(round.len()), Vec::new());
    for mut taken in round {
        work.left_out += taken.entry.leave_out(&|merchant| !work.book.leases.cover(merchant));
        let own = merchants(&taken);
        match own.iter().copied().find(|merchant| !free.contains(merchant)) {
            None => ready.push(taken),
            Some(_) if own.len() > 1 => {
                taken.entry.put_off(&|merchant| !free.contains(&merchant));
                ready.push(taken);
            }
            Some(merchant) => {
                // What comes behind one that has to wait waits with it.
                free.remove(&merchant);
                queue.park(merchant.into());
                held_up.push((merchant, taken));
            }
        }
    }
    (ready, held_up)
}

/// Whose data a change changes.
fn merchants(taken: &Taken<Queued>) -> Vec<MerchantId> {
    match taken.account {
        Some(Account::Merchant(merchant)) => vec![merchant],
        Some(_) => Vec::new(),
        None => taken.entry.sent_for(),
    }
}

/// Does a step of a change.
fn run(
    queue: &Queue<Queued>,
    work: &mut Work<'_>,
    Taken { entry: change, cost, account }: Taken<Queued>,
    loaded: Option<Loaded>,
    (spent, changed): (&mut Spent, &mut AllChanged),
) {
    let written = work.written();
    let may_change = work.check().map(|()| &mut *work);
    // Kept outside the step: an answer that a step gives back and then
    // panics is never dropped, and whoever waits for it would wait for ever.
    work::step("a change", || changed.push((account, change.step(may_change, loaded))));
    // How far an event spreads shows only here.
    let really = cost.max(Cost::of(work.written() - written, 0));
    queue.charge(account, cost, really);
    spent.add(account, really);
}

/// What comes after a step.
enum Next {
    /// The next step of the same change, in the same commit.
    Same(Taken<Queued>),
    /// Nothing: the change goes on in a later commit.
    Waits,
    /// Another change, if there is room.
    Other,
}

fn goes_on(queue: &Queue<Queued>, changed: &mut AllChanged, spent: Spent) -> Next {
    match changed.pop() {
        Some((Some(account), Changed::Goes(cost, rest) | Changed::GoesFurther(cost, rest)))
            if queue.may_go_on(account, cost, spent) =>
        {
            queue.charge(Some(account), Cost::default(), cost);
            Next::Same(Taken { entry: rest, cost, account: Some(account) })
        }
        last => {
            let goes_on = matches!(last, Some((_, Changed::Goes(..) | Changed::GoesFurther(..))));
            changed.extend(last);
            if goes_on { Next::Waits } else { Next::Other }
        }
    }
}

/// Tells all that a commit would have had room for that there is none.
pub fn refuse(queue: &Queue<Queued>, first: Option<Taken<Queued>>, cause: &StoreError) {
    let (mut spent, mut next) = (Spent::default(), first);
    while let Some(Taken { entry, cost, account }) = next {
        queued::refuse(entry, cause);
        spent.add(account, cost);
        next = queue.take(spent);
    }
}

/// Answers everyone, now that all is on disk; what goes on joins its line again.
pub fn answer(queue: &Queue<Queued>, changed: Vec<(Option<Account>, Changed)>) {
    for (account, changed) in changed {
        match (account, changed) {
            (_, Changed::Whole(answer)) => answer(Ok(())),
            (Some(account), Changed::Goes(cost, rest)) => queue.go_on(account, cost, begun(rest)),
            (Some(account), Changed::GoesFurther(cost, rest)) => queue.go_on(account, cost, rest),
            (None, rest) => rest.fail(StoreError::failed("no outcome is recorded in several commits")),
        }
    }
}

/// Tells the delivery worker what is on disk.
pub fn announce(mailbox: &Mailbox, news: Vec<Announcement>) {
    let (mut parcels, mut attempted) = (Vec::new(), Vec::new());
    for item in news {
        match item {
            Announcement::Webhook(id, webhook) | Announcement::Learned(id, webhook) => {
                mailbox.announce_webhook(id, webhook)
            }
            Announcement::Through(id, through) | Announcement::Found(id, through) => {
                mailbox.announce_through(id, through);
            }
            Announcement::Parcel(id, parcel) => parcels.push((id, parcel)),
            Announcement::Test(id, parcel) => mailbox.announce_test(id, parcel),
            Announcement::Now(id, number) => mailbox.announce_now(id, number),
            Announcement::Reread(id, from) => mailbox.announce_reread(id, from),
            Announcement::Attempted(id, number) => attempted.push((id, number)),
            Announcement::LeaseLost(bucket) => mailbox.announce_lost(bucket),
            Announcement::Paused(merchant, is_paused) | Announcement::LearnedPaused(merchant, is_paused) => {
                mailbox.announce_paused(merchant, is_paused);
            }
            Announcement::Changed(..) | Announcement::Published(_) | Announcement::Settled(_) => {}
        }
    }
    mailbox.announce_parcels(parcels);
    mailbox.announce_attempts(&attempted);
}

/// The news, as those who watch are told.
pub fn committed(news: &[Announcement], book: &Book) -> Committed {
    let mut committed = Committed::default();
    for item in news {
        let (id, span) = match item {
            Announcement::Parcel(id, parcel) => (*id, parcel.numbers()),
            Announcement::Attempted(id, number) => (*id, Span::one(*number)),
            Announcement::Changed(id, span) => (*id, *span),
            Announcement::Published(event) => {
                committed.events.push(Accepted::of(event));
                continue;
            }
            Announcement::Webhook(id, None) => {
                committed.deleted.push(*id);
                continue;
            }
            Announcement::Webhook(..)
            | Announcement::Learned(..)
            | Announcement::Through(..)
            | Announcement::Found(..)
            | Announcement::Settled(_)
            | Announcement::Test(..)
            | Announcement::Now(..)
            | Announcement::LeaseLost(_)
            | Announcement::Paused(..)
            | Announcement::LearnedPaused(..)
            | Announcement::Reread(..) => continue,
        };
        if let Some(entry) = book.entry(id).filter(|entry| !entry.is_deleted) {
            committed.deliveries.push((entry.webhook.merchant_id, id, span));
        }
    }
    committed
}

/// Tells the delivery worker all there is, once the book was read again after a
/// commit that failed: what that did stands or does not, and nobody has told of
/// it. What lanes have loaded may be cancelled, or others may come before it.
pub fn announce_all(mailbox: &Mailbox, book: &Book) {
    for (webhook, through) in book.webhooks() {
        let id = webhook.webhook_id;
        mailbox.announce_webhook(id, Some(Arc::clone(webhook)));
        mailbox.announce_through(id, through);
        mailbox.announce_reread(id, IncrementId(1));
    }
    mailbox.announce_present(book.webhooks().map(|(webhook, _)| webhook.webhook_id).collect());
}
