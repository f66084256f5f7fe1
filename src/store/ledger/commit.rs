//! What shares a commit, whatever engine keeps the rows: changes that wait in
//! the queue, each step of them run in the transaction, and what becomes of
//! them once the commit's fate is known.

use super::news::Announcement;
use super::queue::{Cost, Queue, Spent, Taken};
use super::queued::{Changed, Queued, begun};
use super::work::Work;
use crate::store::error::StoreError;
use crate::store::mailbox::Mailbox;
use crate::work::{self, Account};

/// Runs a change and what else finds room beside it in a commit. Whose each
/// was, and what has come of it.
pub fn run_changes(
    queue: &Queue<Queued>,
    work: &mut Work<'_>,
    first: Option<Taken<Queued>>,
) -> Vec<(Option<Account>, Changed)> {
    let (mut spent, mut changed, mut next) = (Spent::default(), Vec::new(), first);
    while let Some(Taken { entry: change, cost, account }) = next {
        let written = work.written();
        let may_change = work.check().map(|()| &mut *work);
        // Kept outside the step: an answer that a step gives back and then
        // panics is never dropped, and whoever waits for it would wait for ever.
        work::step("a change", || changed.push((account, change(may_change))));
        // How far an event spreads shows only here.
        let really = cost.max(Cost::of(work.written() - written, 0));
        queue.charge(account, cost, really);
        spent.add(account, really);
        next = match changed.pop() {
            Some((Some(account), Changed::Goes(cost, rest) | Changed::GoesFurther(cost, rest)))
                if queue.may_go_on(account, cost, spent) =>
            {
                queue.charge(Some(account), Cost::default(), cost);
                Some(Taken { entry: rest, cost, account: Some(account) })
            }
            last => {
                // What comes behind one that goes on waits for all of it.
                let goes_on = matches!(last, Some((_, Changed::Goes(..) | Changed::GoesFurther(..))));
                changed.extend(last);
                if goes_on { None } else { queue.take(spent) }
            }
        };
    }
    changed
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
            Announcement::Webhook(id, webhook) => mailbox.announce_webhook(id, webhook),
            Announcement::Through(id, through) => mailbox.announce_through(id, through),
            Announcement::Parcel(id, parcel) => parcels.push((id, parcel)),
            Announcement::Test(id, parcel) => mailbox.announce_test(id, parcel),
            Announcement::Now(id, number) => mailbox.announce_now(id, number),
            Announcement::Reread(id, from) => mailbox.announce_reread(id, from),
            Announcement::Attempted(id, number) => attempted.push((id, number)),
            Announcement::Changed(..) | Announcement::Published(_) => {}
        }
    }
    mailbox.announce_parcels(parcels);
    mailbox.announce_attempts(&attempted);
}
