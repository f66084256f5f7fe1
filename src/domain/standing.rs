//! The life of a delivery: what its row says of it, and what becomes of that.
//!
//! Each change is a function from one [`Standing`] to the next, or says why
//! there is none. A store reads rows, asks here, and writes what is different.
//!
//! What may become of a state, and by which function; a test holds this to the
//! functions. A line from a state to itself tells of changes to other members.
//! What stands in brackets happens only to rows that there can't be.
//!
//! ```text
//! pending   -> pending    heard, sent_again, sealed, released
//! pending   -> delivered  heard, acknowledged
//! pending   -> abandoned  heard
//! pending   -> cancelled  cancelled, forgotten, erased
//! delivered -> delivered  heard, sent_again, cancelled, acknowledged, released, forgotten, erased
//! abandoned -> abandoned  (heard), (cancelled), (acknowledged), released, forgotten, erased
//! abandoned -> delivered  (heard)
//! abandoned -> pending    sent_again
//! cancelled -> cancelled  heard, (cancelled), (acknowledged), released, forgotten, erased
//! cancelled -> delivered  heard
//! cancelled -> pending    sent_again
//! ```
//!
//! Two things are told apart. A delivery is *pending* until it has ended, and
//! what was delivered is never pending again. It is *to be sent* while it is
//! pending, and also while it has a `next_attempt_at`, whatever its state: so
//! what was delivered can be sent again and stay delivered.
//!
//! Of whatever can be, some things hold ([`RULES`]), as a test makes sure by
//! trying all there can be. The functions ask for none of them, and say of the
//! rest what the store always did.
//!
//! Nothing here says that a request is under way, nor needs to: each asking to
//! send again is counted, and an outcome that knows of fewer than the row was
//! under way when the last one came.

use super::delivery::{DeliveryState, EndReason, ErrorClass, Outcome, Verdict};
use super::id::{IncrementId, Span};
use super::time::Timestamp;

/// Where a delivery stands: what its row says of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Where it is in its life.
    pub state: DeliveryState,
    /// Attempts on record.
    pub attempts: u32,
    /// How many there were when its retry policy last began anew.
    pub policy_start: u32,
    /// When it is sent again, whatever its state; `None`: not again, or it
    /// waits for its first time.
    pub next_attempt_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended undelivered.
    pub reason: Option<EndReason>,
    /// What it goes out with, itself included; it may be alone in its batch.
    pub batch: Option<Span>,
    /// How often it was asked to be sent again.
    pub resends_asked: u32,
    /// Its owner had what was sent forgotten.
    pub is_forgotten: bool,
}

/// Something that holds of whatever can be.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// In words, of a delivery.
    pub words: &'static str,
    /// Whether it holds.
    pub holds: fn(Standing) -> bool,
}

/// What holds of whatever can be; a row of which something else is true was not
/// written by these functions.
pub const RULES: [Rule; 7] = [
    Rule { words: "ended_at is set unless it is pending", holds: |it| it.ended_at.is_none() == it.is_pending() },
    Rule {
        words: "a reason is set if it was abandoned or cancelled, and else not",
        holds: |it| it.reason.is_some() == it.has_failed(),
    },
    Rule {
        words: "next_attempt_at is not set if it was abandoned or cancelled",
        holds: |it| it.next_attempt_at.is_none() || !it.has_failed(),
    },
    Rule {
        words: "next_attempt_at is set if it is pending and was tried",
        holds: |it| it.next_attempt_at.is_some() || it.attempts == 0 || !it.is_pending(),
    },
    Rule { words: "policy_start is at most attempts", holds: |it| it.policy_start <= it.attempts },
    Rule { words: "it is not to be sent if it was forgotten", holds: |it| !(it.is_to_be_sent() && it.is_forgotten) },
    Rule {
        words: "it is alone in its batch if it was forgotten",
        holds: |it| it.shared_batch().is_none() || !it.is_forgotten,
    },
];

/// Why a delivery is not changed as its owner wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has ended, and is not to be sent again: there is nothing to cancel.
    HasEnded(DeliveryState),
    /// It goes out with others, and only the whole batch can be changed so, or
    /// none of it.
    InBatch(Span),
    /// It was forgotten before.
    IsForgotten,
}

/// What a delivery was when it was numbered.
impl Standing {
    /// One that was just numbered, and waits for its turn.
    pub const NEW: Self = Self {
        state: DeliveryState::Pending,
        attempts: 0,
        policy_start: 0,
        next_attempt_at: None,
        ended_at: None,
        reason: None,
        batch: None,
        resends_asked: 0,
        is_forgotten: false,
    };

    /// One that was just numbered for a test. It is due at once, so that it is
    /// found again after a crash, and alone in its `batch` if its webhook has
    /// any.
    pub fn of_test(batch: Option<Span>, now: Timestamp) -> Self {
        Self { next_attempt_at: Some(now), batch, ..Self::NEW }
    }
}

/// What others ask.
impl Standing {
    /// True until it has ended. A number is settled once it is not pending.
    pub fn is_pending(self) -> bool {
        self.state == DeliveryState::Pending
    }

    /// True if it is to be sent, for the first time or again.
    pub fn is_to_be_sent(self) -> bool {
        self.is_pending() || self.next_attempt_at.is_some()
    }

    /// True if it was never tried, and nobody wants it now: it goes out in the
    /// order of the numbers, and may still become one of a batch.
    pub fn is_fresh(self) -> bool {
        self.is_pending() && self.attempts == 0 && self.next_attempt_at.is_none()
    }

    /// True if it is to be sent by now, other than in the order of the numbers.
    pub fn is_due(self, now: Timestamp) -> bool {
        self.next_attempt_at.is_some_and(|at| at <= now)
    }

    /// True if nothing more of it is to be sent.
    pub fn has_ended(self) -> bool {
        !self.is_to_be_sent()
    }

    /// True if it is meant by who wants deliveries in this state to be sent
    /// again. Who names no state does not mean what was cancelled.
    pub fn is_meant_by(self, state: Option<DeliveryState>) -> bool {
        state.map_or(self.state != DeliveryState::Cancelled, |state| self.state == state)
    }

    /// True if it has ended undelivered.
    fn has_failed(self) -> bool {
        matches!(self.state, DeliveryState::Abandoned | DeliveryState::Cancelled)
    }

    /// True if it was ever asked to be sent again. Only so can it be pending though
    /// it had ended.
    pub fn was_sent_again(self) -> bool {
        self.resends_asked > 0 || self.policy_start > 0
    }

    /// What is true of it and can't be.
    pub fn broken_rules(self) -> impl Iterator<Item = &'static Rule> {
        RULES.iter().filter(move |rule| !(rule.holds)(self))
    }

    /// Its batch, if there are others in it.
    pub fn shared_batch(self) -> Option<Span> {
        self.batch.filter(|batch| batch.first != batch.last)
    }

    /// True if it was asked to be sent again after the attempt of this outcome
    /// had begun.
    pub fn was_asked_since(self, outcome: &Outcome) -> bool {
        self.resends_asked > outcome.resends_asked
    }
}

/// What becomes of it.
impl Standing {
    /// After an attempt; `None` if that is on record already, or is not the
    /// next one, or its owner had the delivery forgotten: then it counts for
    /// nothing. Of a batch, [`heard_together`] is to be asked.
    pub fn heard(self, outcome: &Outcome, now: Timestamp) -> Option<Self> {
        let is_next = outcome.attempt.attempt.checked_sub(1) == Some(self.attempts);
        if !is_next || self.is_forgotten {
            return None;
        }
        let counted = Self { attempts: outcome.attempt.attempt, ..self };
        Some(match self.was_asked_since(outcome) {
            false => counted.with_verdict(outcome, now),
            true => counted.with_verdict_and_asked(outcome, now),
        })
    }

    /// What is pending follows the verdict. What was delivered before, and sent
    /// again, stays delivered. What was cancelled on its way stays cancelled,
    /// unless it arrived: then delivered is what it is. Either way it has ended
    /// only now that there is an answer. Whatever was cancelled, a re-send too, is
    /// not tried again.
    fn with_verdict(self, outcome: &Outcome, now: Timestamp) -> Self {
        let (state, next_attempt_at, reason) = match outcome.verdict {
            Verdict::Delivered => (DeliveryState::Delivered, None, None),
            Verdict::Retry(at) => (DeliveryState::Pending, Some(at), None),
            Verdict::Gone => (DeliveryState::Pending, Some(now), None),
            Verdict::Abandoned => (DeliveryState::Abandoned, None, Some(why_abandoned(outcome))),
        };
        let has_arrived = state == DeliveryState::Delivered;
        let ended = match self.state {
            DeliveryState::Pending => {
                Self { state, reason, ended_at: (state != DeliveryState::Pending).then_some(outcome.ended_at), ..self }
            }
            DeliveryState::Cancelled => Self { ended_at: Some(outcome.ended_at), ..self },
            DeliveryState::Delivered | DeliveryState::Abandoned => self,
        };
        Self {
            next_attempt_at: next_attempt_at.filter(|_| self.is_to_be_sent()),
            ..if has_arrived { ended.arrived() } else { ended }
        }
    }

    /// The same where it was asked to be sent again meanwhile: it is due once
    /// more under a policy that begins anew, whatever the attempt came to,
    /// unless somebody has cancelled that since.
    fn with_verdict_and_asked(self, outcome: &Outcome, now: Timestamp) -> Self {
        let has_arrived = outcome.verdict == Verdict::Delivered;
        let ends_now = self.state == DeliveryState::Cancelled || (has_arrived && self.is_pending());
        let again = Self {
            policy_start: self.attempts,
            next_attempt_at: self.is_to_be_sent().then_some(now),
            ended_at: if ends_now { Some(outcome.ended_at) } else { self.ended_at },
            ..self
        };
        if has_arrived { again.arrived() } else { again }
    }

    fn arrived(self) -> Self {
        Self { state: DeliveryState::Delivered, reason: None, ..self }
    }

    /// Once it was asked to be sent again: it is due now, under a policy that
    /// begins anew. What has ended undelivered is pending again, and what was
    /// delivered stays so. What was never tried is due as it is. `None` if it
    /// was forgotten: there is nothing left to send. The same holds once its
    /// event was pruned, which is not told here. A batch is sent again whole, or
    /// not at all.
    pub fn sent_again(self, now: Timestamp) -> Option<Self> {
        if self.is_forgotten {
            return None;
        }
        let asked = Self {
            policy_start: self.attempts,
            resends_asked: self.resends_asked.saturating_add(1),
            next_attempt_at: (!self.is_fresh()).then_some(now),
            reason: None,
            ..self
        };
        Some(match self.state {
            DeliveryState::Delivered => asked,
            _ => Self { state: DeliveryState::Pending, ended_at: None, ..asked },
        })
    }

    /// Once it is not to be sent any more, for this reason: what is pending
    /// ends, what was delivered is not sent again. `None` if it is not to be
    /// sent anyway. What is on its way is heard of all the same.
    pub fn cancelled(self, reason: EndReason, now: Timestamp) -> Option<Self> {
        match (self.is_pending(), self.next_attempt_at) {
            (true, _) => Some(Self {
                state: DeliveryState::Cancelled,
                next_attempt_at: None,
                ended_at: Some(now),
                reason: Some(reason),
                ..self
            }),
            (false, Some(_)) => Some(Self { next_attempt_at: None, ..self }),
            (false, None) => None,
        }
    }

    /// Fails unless its owner may cancel it, or (`is_whole`) all of its batch.
    /// Of the others in the batch, [`Standing::cancelled`] ends those that are
    /// to be sent.
    pub fn check_cancel(self, is_whole: bool) -> Result<(), Refusal> {
        match self.shared_batch().filter(|_| !is_whole) {
            _ if !self.is_to_be_sent() => Err(Refusal::HasEnded(self.state)),
            Some(batch) => Err(Refusal::InBatch(batch)),
            None => Ok(()),
        }
    }

    /// Once its receiver has pulled it, also what was to be sent to it again;
    /// `None` if it has ended otherwise.
    pub fn acknowledged(self, now: Timestamp) -> Option<Self> {
        let taken = Self { next_attempt_at: None, ..self };
        match self.is_pending() {
            true => Some(Self { ended_at: Some(now), ..taken.arrived() }),
            false => self.is_to_be_sent().then_some(taken),
        }
    }

    /// Once it goes out with others, which were asked to be sent again so often
    /// at the most; `None` unless it is fresh. It is due, so that the batch is
    /// found again after a crash. [`seal`] does this with all of a batch.
    pub fn sealed(self, batch: Span, resends_asked: u32, now: Timestamp) -> Option<Self> {
        let sealed = Self { batch: Some(batch), next_attempt_at: Some(now), resends_asked, ..self };
        self.is_fresh().then_some(sealed)
    }

    /// Once its batch ends with this number, for those behind that go out by
    /// themselves; `None` if it ends there anyway.
    pub fn cut(self, last: IncrementId) -> Option<Self> {
        let batch = self.batch.filter(|batch| batch.last > last)?;
        Some(Self { batch: Some(Span { last, ..batch }), ..self })
    }

    /// Once its batch is no more, for those before it in that ended by
    /// themselves; `None` if it is in none.
    pub fn released(self) -> Option<Self> {
        self.batch.map(|_| Self { batch: None, ..self })
    }

    /// Once it is forgotten, and cancelled if that is still to be done. Fails if
    /// it is in a batch with others, or was forgotten before, unless this goes
    /// on with that (`goes_on`).
    pub fn forgotten(self, goes_on: bool, now: Timestamp) -> Result<Self, Refusal> {
        if let Some(batch) = self.shared_batch() {
            return Err(Refusal::InBatch(batch));
        }
        if self.is_forgotten && !goes_on {
            return Err(Refusal::IsForgotten);
        }
        let ended = self.cancelled(EndReason::CancelledByOwner, now).unwrap_or(self);
        Ok(Self { is_forgotten: true, ..ended })
    }

    /// Once it is erased along with its event: forgotten, cancelled if that is still to be done,
    /// and in no batch with others any more. Fails if it is to be sent, and goes out with others.
    pub fn erased(self, now: Timestamp) -> Result<Self, Refusal> {
        if let Some(batch) = self.shared_batch().filter(|_| self.is_to_be_sent()) {
            return Err(Refusal::InBatch(batch));
        }
        let ended = self.cancelled(EndReason::Erased, now).unwrap_or(self);
        let batch = ended.batch.filter(|_| ended.shared_batch().is_none());
        Ok(Self { is_forgotten: true, batch, ..ended })
    }
}

fn why_abandoned(outcome: &Outcome) -> EndReason {
    match &outcome.attempt.error {
        Some(error) if error.class == ErrorClass::BodyTooLarge => EndReason::BodyTooLarge,
        _ => EndReason::RetriesExhausted,
    }
}

/// What an outcome was heard to mean for the deliveries it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is on record already, or they were forgotten.
    Nothing,
    /// They are as its verdict has them.
    Counted,
    /// Some of them were asked to be sent again meanwhile, and go out once more.
    SentAgain,
}

/// Has all deliveries that went out in one request hear of its outcome, each as
/// it stands: some of them may have been asked to be sent again meanwhile, and
/// others not.
pub fn heard_together(all: &mut [Standing], outcome: &Outcome, now: Timestamp) -> Heard {
    let mut heard = Heard::Nothing;
    for standing in all {
        let Some(after) = standing.heard(outcome, now) else { continue };
        if standing.was_asked_since(outcome) {
            heard = Heard::SentAgain;
        } else if heard == Heard::Nothing {
            heard = Heard::Counted;
        }
        *standing = after;
    }
    heard
}

/// Seals deliveries into one batch, all of it. False, with nothing done, unless
/// they are all there and all fresh. What was asked of one was asked of all; it
/// is added up, so that whoever made up the batch before somebody asked for one
/// of it knows of fewer.
pub fn seal(all: &mut [Standing], batch: Span, now: Timestamp) -> bool {
    let are_whole = i64::try_from(all.len()) == Ok(batch.last.0 - batch.first.0 + 1);
    if !are_whole || !all.iter().all(|standing| standing.is_fresh()) {
        return false;
    }
    let resends_asked = all.iter().map(|standing| standing.resends_asked).sum();
    for standing in all {
        *standing = standing.sealed(batch, resends_asked, now).unwrap_or(*standing);
    }
    true
}

#[cfg(test)]
pub mod tests;
