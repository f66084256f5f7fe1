//! The writer, as it works on the other engine.

use std::time::Duration;

use super::super::planted::{Bent, Bug};
use super::{Inside, World};
use crate::store::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::chores;
use crate::store::ledger::commit::{announce, announce_all, answer, refuse, run_changes};
use crate::store::ledger::memory::Fault;
use crate::store::ledger::queue::{Spent, Taken};
use crate::store::ledger::queued::{Changed, Queued};
use crate::store::ledger::work::{Engine, Work};

/// How long the chores rest after one of them has failed, as the writer has it.
const CHORES_REST: Duration = Duration::from_secs(60);

impl World {
    /// A turn of the writer, in which this may fail. True if there was
    /// something to do.
    pub fn write(&mut self, fault: Option<(Fault, u32)>, crashes: bool) -> bool {
        self.memory.fault = fault;
        if self.inside.is_closed {
            self.reopen();
        }
        let are_chores_due = self.are_chores_due();
        let are_chores_apart = self.inside.chores_rest_until.is_some();
        if are_chores_apart && are_chores_due {
            self.commit(None, true, false);
        }
        let first = self.inside.queue.take(Spent::default());
        let does_something = first.is_some() || (are_chores_due && !are_chores_apart);
        if does_something {
            self.commit(first, !are_chores_apart, crashes);
        }
        self.memory.fault = None;
        self.hear();
        does_something || are_chores_due
    }

    fn are_chores_due(&self) -> bool {
        let rest = self.inside.chores_rest_until.map_or(Duration::ZERO, |until| until.since(self.now));
        let is_over = rest.is_zero() || rest > CHORES_REST;
        is_over && (self.inside.book.has_chores() || self.memory.is_pruning())
    }

    fn commit(&mut self, first: Option<Taken<Queued>>, does_chores: bool, crashes: bool) {
        let begun = match self.inside.is_closed {
            true => Err(StoreError::failed("it could not be opened again")),
            false => self.memory.begin(),
        };
        if let Err(cause) = begun {
            return refuse(&self.inside.queue, first, &cause);
        }
        let (now, bug) = (self.now, self.bug);
        let mut engine = Bent { memory: &mut self.memory, bug };
        let Inside { book, queue, chores_rest_until, .. } = &mut self.inside;
        let mut work = Work::new(&mut engine, book, now);
        let changed = run_changes(queue, &mut work, first);
        let mut finished = work.check();
        if finished.is_ok() && does_chores {
            finished = chores::step(&mut work);
            *chores_rest_until = match &finished {
                Err(_) => Some(now.after(CHORES_REST)),
                Ok(()) => chores_rest_until.filter(|_| work.has_chores()),
            };
        }
        let news = finished.and_then(|()| work.finish());
        if crashes && self.bug == Some(Bug::CommitLost) && news.is_ok() {
            answer(&self.inside.queue, changed);
            self.hear();
            return self.crash();
        }
        match news.and_then(|news| Ok((news, self.memory.commit()?))) {
            Ok((news, before)) => {
                self.commits += 1;
                self.outside.check_commit(&before, &self.memory, self.now);
                if crashes {
                    // It is on disk, and nobody will be told.
                    return self.crash();
                }
                self.check_book();
                announce(&self.inside.mailbox, news);
                answer(&self.inside.queue, changed);
            }
            Err(cause) => {
                // What a commit did that failed and stands is seen from here on.
                self.memory.reopen();
                let untold = self.memory.take_untold();
                self.outside.check_commit(&untold, &self.memory, self.now);
                self.inside.is_closed = true;
                if self.rng.u8(..) < 200 {
                    self.reopen();
                }
                let is_told_too_early = self.has(Bug::AnsweredTooEarly);
                for (_, changed) in changed {
                    match changed {
                        Changed::Whole(answer) if is_told_too_early => answer(Ok(())),
                        changed => changed.fail(cause.clone()),
                    }
                }
            }
        }
    }

    fn reopen(&mut self) {
        self.inside.is_closed = false;
        if self.has(Bug::StaleBook) {
            return;
        }
        let stock = self.memory.stock().expect("what was committed can be read");
        self.inside.book = Book::new(self.terms, stock);
        announce_all(&self.inside.mailbox, &self.inside.book);
    }

    pub fn check_book(&self) {
        let stored = Book::new(self.terms, self.memory.stock().expect("it was just written"));
        if let Some(difference) = self.inside.book.difference(&stored, &self.topics) {
            panic!("the book is not what is stored: {difference}");
        }
    }
}
