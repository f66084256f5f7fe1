//! A third engine, for tests alone: rows in maps, with transactions, savepoints
//! and failures that its owner orders. It does what the SQLite one does, which
//! a test holds it to, and costs so little that thousands of stories are played
//! through in seconds. What was not committed is lost in a crash.

mod load;
mod pages;
mod table;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::table::Table;
use super::bulk::Job;
use super::counters::Counters;
use super::decision::Rows;
use super::jobs::ENDED_FOR_MS;
use super::logs::LogRow;
use super::notice::{Gathered, Notice};
use super::pruning::CutOff;
use super::wants::{FirstHeard, Found, Loaded, MerchantFound, Remembered, UserFound, Wants};
use super::work::Engine;
use crate::domain::audit::{Action, Subject};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::event::Event;
use crate::domain::expansion::Expansion;
use crate::domain::id::{EventId, IncrementId, JobId, MerchantId, TokenId, UserId, WebhookId};
use crate::domain::labels::Labels;
use crate::domain::merchant::EventDay;
use crate::domain::secret::KeyHash;
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::token::Token;
use crate::domain::webhook::{Format, Webhook};
use crate::store::StoreError;

/// A webhook.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its definition; the counters in it say nothing.
    pub webhook: Arc<Webhook>,
    /// Its counters.
    pub counters: Counters,
    /// Since when it is deleted.
    pub deleted_at: Option<Timestamp>,
}

/// An event.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// What happened.
    pub event: Arc<Event>,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// For whom it is.
    pub labels: Option<Arc<Labels>>,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    /// What it is about.
    pub event_id: EventId,
    /// Where it stands.
    pub standing: Standing,
    /// How its body is built.
    pub format: Format,
    /// Which parts go out.
    pub expansion: Option<Arc<Expansion>>,
    /// When it was numbered.
    pub created_at: Timestamp,
}

/// An attempt.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// When it began.
    pub started_at: Timestamp,
    /// What is kept of headers and bodies.
    pub bytes: u64,
}

/// What an idempotency key stands for.
#[derive(Clone, Debug)]
pub struct KeyStood {
    /// What was remembered.
    pub remembered: Remembered,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A piece of bulk work.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// How far it is.
    pub job: Job,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// It was called off.
    pub is_cancelled: bool,
}

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserRow {
    /// Whose.
    pub merchant: MerchantId,
    /// What changes see of it.
    pub user: UserFound,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The key before, and until when it counts.
    pub old: Option<(KeyHash, Timestamp)>,
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRow {
    /// Whose.
    pub merchant: MerchantId,
    /// Who made it.
    pub user: UserId,
    /// All but its key.
    pub token: Token,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub user: Option<UserId>,
    /// What was done.
    pub action: Action,
    /// With what.
    pub subject: Subject,
    /// What it was before, and is since.
    pub change: (String, String),
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionRow {
    /// Whose.
    pub user: UserId,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
    /// When it ends anyway.
    pub ends_at: Option<Timestamp>,
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $row:ty,)*) => {
        /// All rows.
        #[derive(Debug, Default)]
        pub struct Tables { $($(#[$doc])* pub $name: Table<$key, $row>,)* }

        impl Tables {
            fn marks(&self) -> Vec<usize> {
                vec![$(self.$name.mark(),)*]
            }

            fn back_to(&mut self, marks: &[usize]) {
                let mut marks = marks.iter().copied();
                $(self.$name.back_to(marks.next().unwrap_or(0));)*
            }

            fn keep(&mut self) {
                $(self.$name.keep();)*
            }
        }
    };
}

tables! {
    /// By id.
    events: EventId => EventRow,
    /// By number.
    deliveries: (WebhookId, IncrementId) => DeliveryRow,
    /// By number.
    attempts: (WebhookId, IncrementId, u32) => Tried,
    /// By id.
    hooks: WebhookId => Hook,
    /// By merchant.
    keys: (MerchantId, String) => KeyStood,
    /// As texts.
    fanouts: i64 => (MerchantId, String),
    /// By id.
    jobs: JobId => JobRow,
    /// By webhook.
    notices: (WebhookId, &'static str) => (Notice, Gathered),
    /// By webhook.
    logs: WebhookId => LogRow,
    /// By merchant.
    topics: (MerchantId, String) => CatalogueEntry,
    /// The highest number that a topic of a merchant ever had.
    event_types: MerchantId => i64,
    /// Those that were made or changed, by id.
    merchants: MerchantId => MerchantFound,
    /// How many events were published in a day, by merchant.
    event_days: MerchantId => EventDay,
    /// By id.
    users: UserId => UserRow,
    /// By id.
    tokens: TokenId => TokenRow,
    /// By id.
    audit: i64 => AuditRow,
    /// By key.
    sessions: [u8; 32] => SessionRow,
    /// The last ids of each kind.
    ids: &'static str => i64,
}

/// What is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The transaction can't be begun.
    Begin,
    /// Something can't be read.
    Load,
    /// Rows can't be written; what was written before stands.
    Write,
    /// Rows can't be written, and the whole transaction is undone.
    WriteUndoesAll,
    /// The commit fails, and nothing of it is there.
    CommitUndone,
    /// The commit fails, and all of it is there.
    CommitDone,
}

/// What a commit has changed, as it was before.
#[derive(Debug, Default)]
pub struct Before {
    /// Deliveries.
    pub deliveries: BTreeMap<(WebhookId, IncrementId), Option<DeliveryRow>>,
    /// Webhooks.
    pub hooks: BTreeMap<WebhookId, Option<Hook>>,
    /// Events.
    pub events: BTreeMap<EventId, Option<EventRow>>,
    /// Attempts.
    pub attempts: BTreeMap<(WebhookId, IncrementId, u32), Option<Tried>>,
    /// Events that the commit has brought, and that were gone by its end: forgotten
    /// or pruned at once.
    pub passed: BTreeMap<EventId, EventRow>,
}

/// A pass of pruning.
#[derive(Clone, Copy, Debug)]
enum Pass {
    Attempts(CutOff),
    Events(CutOff),
}

/// An engine in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// What is committed, and what the open transaction has done.
    pub tables: Tables,
    merchants: BTreeMap<MerchantId, Arc<str>>,
    /// What fails next, at which of the places where it may.
    pub fault: Option<(Fault, u32)>,
    is_open: bool,
    pass: Option<Pass>,
    /// What a commit has changed that failed and stands.
    untold: Option<Before>,
}

impl Memory {
    /// Of these merchants, by id and code.
    pub fn of(merchants: impl IntoIterator<Item = (MerchantId, Arc<str>)>) -> Self {
        Self { merchants: merchants.into_iter().collect(), ..Self::default() }
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        if self.strikes(Fault::Begin) {
            return Err(StoreError::failed("a transaction that can't be begun"));
        }
        assert!(!self.is_open, "one at a time");
        self.is_open = true;
        Ok(())
    }

    /// Commits it, and says what was changed.
    pub fn commit(&mut self) -> Result<Before, StoreError> {
        if !self.is_open {
            return Err(StoreError::failed("there is no transaction to commit"));
        }
        if self.strikes(Fault::CommitUndone) {
            return Err(StoreError::failed("a commit that failed"));
        }
        let before = Before {
            deliveries: self.tables.deliveries.before(),
            hooks: self.tables.hooks.before(),
            events: self.tables.events.before(),
            attempts: self.tables.attempts.before(),
            passed: self.tables.events.passed(),
        };
        self.tables.keep();
        self.is_open = false;
        if self.strikes(Fault::CommitDone) {
            self.untold = Some(before);
            return Err(StoreError::failed("a commit that failed, and stands"));
        }
        Ok(before)
    }

    /// Undoes what is not committed, as a connection that is closed does. What
    /// only it knew is lost.
    pub fn reopen(&mut self) {
        self.roll_back();
        self.pass = None;
    }

    /// What a commit has changed that failed and stands.
    pub fn take_untold(&mut self) -> Before {
        self.untold.take().unwrap_or_default()
    }

    fn roll_back(&mut self) {
        self.tables.back_to(&[]);
        self.is_open = false;
    }

    /// Whether the fault that was ordered comes here.
    fn strikes(&mut self, here: Fault) -> bool {
        match &mut self.fault {
            Some((fault, 0)) if *fault == here => {
                self.fault = None;
                true
            }
            Some((fault, left)) if *fault == here => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    /// The event of a delivery, unless it has forgotten it, or it is gone.
    fn event_of(&self, row: &DeliveryRow) -> Option<&EventRow> {
        if row.standing.is_forgotten { None } else { self.tables.events.get(&row.event_id) }
    }

    /// The deliveries of a webhook between two numbers.
    fn deliveries_of(
        &self,
        id: WebhookId,
        first: IncrementId,
        last: IncrementId,
    ) -> impl Iterator<Item = (IncrementId, &DeliveryRow)> {
        let span = (first <= last).then(|| self.tables.deliveries.range((id, first)..=(id, last)));
        span.into_iter().flatten().map(|((_, number), row)| (*number, row))
    }

    fn prune_attempts(&mut self, before: Timestamp) -> Vec<(WebhookId, u64)> {
        let Tables { attempts, deliveries, .. } = &self.tables;
        let is_old = |(id, number, _): &(WebhookId, IncrementId, u32), tried: &Tried| {
            let standing = deliveries.get(&(*id, *number)).map(|row| row.standing);
            let has_ended = |row: Standing| row.has_ended() && row.ended_at.is_some_and(|at| at < before);
            tried.started_at < before && standing.is_some_and(has_ended)
        };
        let old = attempts.iter().filter(|(key, tried)| is_old(key, tried));
        let gone: Vec<_> = old.map(|(key, tried)| (*key, tried.bytes)).collect();
        gone.iter().for_each(|(key, _)| self.tables.attempts.remove(key));
        gone.into_iter().map(|((id, ..), bytes)| (id, bytes)).collect()
    }

    fn prune_events(&mut self, before: Timestamp, kept_from: Option<EventId>) {
        let Tables { events, deliveries, .. } = &mut self.tables;
        let needs = |row: &DeliveryRow| {
            let is_young = row.standing.ended_at.is_some_and(|at| at >= before);
            !row.standing.is_forgotten && (row.standing.is_to_be_sent() || is_young)
        };
        let needed: Vec<_> = deliveries.iter().filter(|(_, row)| needs(row)).map(|(_, row)| row.event_id).collect();
        events.remove_some(u32::MAX, |id, row| {
            row.published_at < before && kept_from.is_none_or(|kept| *id < kept) && !needed.contains(id)
        });
    }
}

impl Engine for Memory {
    fn load(&mut self, wants: &Wants, now: Timestamp) -> Result<Loaded, StoreError> {
        let first_heard = self.hear_first(&wants.first_heard);
        if self.strikes(Fault::Load) {
            return Err(StoreError::failed("something that can't be read"));
        }
        let mut loaded = self.loaded(wants, now);
        for (FirstHeard { webhook_id, number, .. }, is_written) in wants.first_heard.iter().zip(&first_heard) {
            if !is_written && let Some(row) = self.tables.deliveries.get(&(*webhook_id, *number)) {
                loaded.deliveries.insert((*webhook_id, *number), Found { is_whole: false, ..self.found(row) });
            }
        }
        Ok(Loaded { first_heard, ..loaded })
    }

    fn write(&mut self, rows: Rows, now: Timestamp) -> Result<(), StoreError> {
        if !self.is_open {
            return Err(StoreError::failed("an earlier failure undid the transaction"));
        }
        if self.strikes(Fault::WriteUndoesAll) {
            self.roll_back();
            return Err(StoreError::DiskFull);
        }
        let marks = self.tables.marks();
        let mut written = self.write_all(&rows, now);
        if self.strikes(Fault::Write) {
            written = Err(StoreError::failed("rows that can't be written"));
        }
        if written.is_err() {
            self.tables.back_to(&marks);
        }
        written
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn sweep(&mut self, now: Timestamp, audited_before: Timestamp, max: u32) -> Result<bool, StoreError> {
        let is_old = |row: &JobRow| row.ended_at.is_some_and(|at| at.0 <= now.0 - ENDED_FOR_MS);
        let Tables { jobs, sessions, tokens, keys, audit, .. } = &mut self.tables;
        let removed = [
            audit.remove_some(max, |_, row| row.at < audited_before),
            jobs.remove_some(max, |_, row| is_old(row)),
            sessions.remove_some(max, |_, row| row.expires_at <= now),
            tokens.remove_some(max, |_, row| row.token.expires_at.is_some_and(|at| at <= now)),
            keys.remove_some(max, |_, row| row.expires_at <= now),
        ];
        Ok(removed.into_iter().any(|removed| removed >= max as usize))
    }

    fn begin_pruning(&mut self, before: CutOff) -> Result<(), StoreError> {
        self.pass = Some(Pass::Attempts(before));
        Ok(())
    }

    fn is_pruning(&self) -> bool {
        self.pass.is_some()
    }

    fn prune(&mut self, kept_from: Option<EventId>) -> Result<Vec<(WebhookId, u64)>, StoreError> {
        match self.pass.take() {
            None => Ok(Vec::new()),
            Some(Pass::Attempts(before)) => {
                self.pass = Some(Pass::Events(before));
                Ok(self.prune_attempts(before.attempts))
            }
            Some(Pass::Events(before)) => {
                self.prune_events(before.bodies, kept_from);
                Ok(Vec::new())
            }
        }
    }
}
