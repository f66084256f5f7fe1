//! Writing what changes have come to.

use std::sync::Arc;

use super::{
    AuditRow, DeliveryRow, EventRow, Hook, JobRow, KeyStood, Memory, SessionRow, Tables, TokenRow, Tried, UserRow,
};
use crate::domain::event::Receipt;
use crate::domain::id::{TokenId, UserId};
use crate::domain::merchant::MerchantTerms;
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::domain::token::{NewToken, Token};
use crate::domain::webhook::Webhook;
use crate::store::StoreError;
use crate::store::ledger::counters::Counters;
use crate::store::ledger::decision::{AttemptRow, KeyRow, NewEventRow, NumberedRow, Other, Rows, StandingRow};
use crate::store::ledger::new_user::NewUserRow;
use crate::store::ledger::wants::{FirstHeard, MerchantFound, Remembered, UserFound};

type Result<T> = std::result::Result<T, StoreError>;

impl Memory {
    /// Writes rows, in the order of the other engine.
    pub fn write_all(&mut self, rows: &Rows, now: Timestamp) -> Result<()> {
        for NewEventRow { event, labels } in &rows.events {
            check_new(!self.tables.events.has(&event.event_id), "event")?;
            self.note_id("event", event.event_id.0);
            self.tables
                .events
                .put(event.event_id, EventRow { event: Arc::clone(event), published_at: now, labels: labels.clone() });
        }
        for row in &rows.numbered {
            self.number(row, now)?;
        }
        for StandingRow { webhook_id, number, standing } in &rows.standings {
            self.tables.deliveries.change(&(*webhook_id, *number), |row| {
                // What is forgotten stands elsewhere.
                let is_forgotten = row.standing.is_forgotten;
                row.standing = *standing;
                row.standing.is_forgotten = is_forgotten;
            });
        }
        for row in &rows.attempts {
            self.attempt(row)?;
        }
        let is_last = |other: &&Other| matches!(other, Other::AttemptsForgotten(..) | Other::EventForgotten(_));
        rows.others.iter().filter(|other| !is_last(other)).try_for_each(|other| self.other(other, now))?;
        for (_, id, counters) in &rows.counters {
            self.tables.hooks.change(id, |hook| hook.counters = *counters);
        }
        for (id, log) in &rows.logs {
            match log {
                Some(log) => self.tables.logs.put(*id, *log),
                None => self.tables.logs.remove(id),
            }
        }
        rows.others.iter().filter(is_last).try_for_each(|other| self.other(other, now))
    }

    /// Writes those that are as they were numbered, and says of each whether it is.
    pub fn hear_first(&mut self, all: &[FirstHeard]) -> Vec<bool> {
        let hear = |FirstHeard { webhook_id, number, standing }: &FirstHeard| {
            let key = (*webhook_id, *number);
            let is_new = self.tables.deliveries.get(&key).is_some_and(|row| row.standing == Standing::NEW);
            if is_new {
                self.tables.deliveries.change(&key, |row| row.standing = *standing);
            }
            is_new
        };
        all.iter().map(hear).collect()
    }

    fn note_id(&mut self, kind: &'static str, id: i64) {
        let last = self.tables.ids.get(&kind).copied().unwrap_or(0);
        if id > last {
            self.tables.ids.put(kind, id);
        }
    }

    fn number(&mut self, row: &NumberedRow, now: Timestamp) -> Result<()> {
        let key = (row.webhook_id, row.number);
        check_new(!self.tables.deliveries.has(&key), "delivery")?;
        let new = DeliveryRow {
            event_id: row.event_id,
            standing: row.standing,
            format: row.format,
            expansion: row.expansion.clone(),
            created_at: now,
        };
        self.tables.deliveries.put(key, new);
        Ok(())
    }

    fn attempt(&mut self, row: &AttemptRow) -> Result<()> {
        let outcome = row.outcome();
        let (webhook_id, number, attempt) = (outcome.webhook_id, outcome.numbers.first, outcome.attempt.attempt);
        let key = (webhook_id, number, attempt);
        check_new(!self.tables.attempts.has(&key), "attempt")?;
        self.tables.attempts.put(key, Tried { started_at: outcome.attempt.started_at, bytes: row.bytes() });
        Ok(())
    }

    fn other(&mut self, other: &Other, now: Timestamp) -> Result<()> {
        let tables = &mut self.tables;
        match other {
            Other::Key(row) => self.key(row),
            Other::KeyGoesOn(merchant, key, deliveries) => {
                let goes_on = |stood: &mut KeyStood| stood.remembered.receipt.deliveries.extend(deliveries);
                tables.keys.change(&(*merchant, key.as_str().to_owned()), goes_on);
            }
            Other::NewWebhook(webhook) => {
                let id = webhook.webhook_id;
                check_new(!tables.hooks.has(&id), "webhook")?;
                let counters = Counters::of(&Webhook { pause: None, ..(**webhook).clone() });
                tables.hooks.put(id, Hook { webhook: Arc::clone(webhook), counters, deleted_at: None });
                self.note_id("webhook", id.0);
            }
            Other::Webhook(webhook) => {
                tables.hooks.change(&webhook.webhook_id, |hook| hook.webhook = Arc::clone(webhook));
            }
            Other::WebhookDeleted(id) => tables.hooks.change(id, |hook| hook.deleted_at = Some(now)),
            // Nobody asks for it, so nothing is to be seen of that.
            Other::WebhookBlotted(_) => {}
            Other::Fanout(id, fanout) => {
                tables.fanouts.put(*id, (fanout.merchant(), fanout.text()?));
                self.note_id("fanout", *id);
            }
            Other::FanoutDone(id) => tables.fanouts.remove(id),
            Other::NewJob { job, ended_at } => {
                check_new(!tables.jobs.has(&job.job_id), "job")?;
                tables.jobs.put(job.job_id, JobRow { job: job.clone(), ended_at: *ended_at, is_cancelled: false });
                self.note_id("job", job.job_id.0);
            }
            Other::Job { job, ended_at } => tables.jobs.change(&job.job_id, |row| {
                (row.job, row.ended_at) = (job.clone(), *ended_at);
            }),
            Other::JobCancelled(id) => {
                tables.jobs.change(id, |row| (row.ended_at, row.is_cancelled) = (Some(now), true));
            }
            Other::TrimJobs { merchant, keep, max } => {
                let is_meant = |row: &JobRow| row.job.merchant_id == *merchant && row.ended_at.is_some();
                let ended = tables.jobs.iter().rev().filter(|(_, row)| is_meant(row));
                let gone: Vec<_> = ended.skip(*keep as usize).take(*max as usize).map(|(id, _)| *id).collect();
                gone.iter().for_each(|id| tables.jobs.remove(id));
            }
            Other::Notice(id, notice, gathered) => tables.notices.put((*id, notice.name()), (*notice, *gathered)),
            Other::NoticeDone(id, notice) => tables.notices.remove(&(*id, notice.name())),
            Other::Topic { merchant, entry, .. } => {
                tables.topics.put((*merchant, entry.spec.topic.as_str().to_owned()), entry.clone());
                let highest = tables.event_types.get(merchant).copied().unwrap_or(0);
                tables.event_types.put(*merchant, highest.max(entry.event_type));
            }
            Other::TopicRemoved(merchant, topic) => tables.topics.remove(&(*merchant, topic.as_str().to_owned())),
            Other::Forgotten(id, number) => {
                tables.deliveries.change(&(*id, *number), |row| row.standing.is_forgotten = true);
            }
            Other::AttemptsForgotten(id, places) => {
                places.iter().for_each(|(number, attempt)| tables.attempts.remove(&(*id, *number, *attempt)));
            }
            Other::EventForgotten(event) => tables.events.remove(event),
            Other::AttemptsEmptied(id, places) => places.iter().for_each(|(number, attempt)| {
                tables.attempts.change(&(*id, *number, *attempt), |row| row.bytes = 0);
            }),
            Other::Session { .. }
            | Other::SessionRenewed(..)
            | Other::SessionEnded(_)
            | Other::NewUser(_)
            | Other::Permissions(..)
            | Other::Profile(..)
            | Other::UserKey { .. }
            | Other::UserDisabled(..)
            | Other::UserRevoked(_)
            | Other::NewToken(..)
            | Other::TokenRevoked(_) => self.account(other, now),
            Other::NewMerchant { merchant, code, quotas } => {
                check_new(!tables.merchants.has(merchant) && !self.merchants.contains_key(merchant), "merchant")?;
                let terms = MerchantTerms { paused_at: None, quotas: *quotas };
                tables.merchants.put(*merchant, MerchantFound { code: code.clone(), terms });
            }
            Other::EventDay(merchant, day) => tables.event_days.put(*merchant, *day),
            Other::MerchantTerms(merchant, terms) => {
                if let Some(found) = self.merchant(*merchant) {
                    self.tables.merchants.put(*merchant, MerchantFound { terms: *terms, ..found });
                }
            }
            Other::Audited(audited) => {
                let id = tables.ids.get(&"audit").copied().unwrap_or(0) + 1;
                let (user, subject) = (audited.by.as_ref().map(|by| by.user), audited.subject.clone());
                let change = (audited.before.clone(), audited.after.clone());
                tables.audit.put(id, AuditRow { at: now, user, action: audited.action, subject, change });
                self.note_id("audit", id);
            }
        }
        Ok(())
    }

    fn key(&mut self, row: &KeyRow) {
        let receipt = Receipt { event_id: row.event_id, deliveries: row.deliveries.clone() };
        let remembered = Remembered { is_under_way: false, content_hash: row.content_hash, receipt };
        let stood = KeyStood { remembered, expires_at: row.expires_at };
        self.tables.keys.put((row.merchant, row.key.as_str().to_owned()), stood);
    }

    fn account(&mut self, other: &Other, now: Timestamp) {
        let Tables { users, sessions, tokens, .. } = &mut self.tables;
        match other {
            Other::Session { session, keep, max } => {
                let own = sessions.iter().filter(|(_, row)| row.user == session.user);
                let mut own: Vec<_> = own.map(|(key, row)| (row.expires_at, *key)).collect();
                own.sort_unstable_by(|one, other| other.cmp(one));
                own.iter().skip(*keep as usize).take(*max as usize).for_each(|(_, key)| sessions.remove(key));
                let row = SessionRow { user: session.user, expires_at: session.expires_at, ends_at: session.ends_at };
                sessions.put(session.key.0, row);
            }
            Other::SessionRenewed(key, at) => sessions.change(&key.0, |row| {
                row.expires_at = row.expires_at.max(row.ends_at.map_or(*at, |ends_at| ends_at.min(*at)));
            }),
            Other::SessionEnded(key) => sessions.remove(&key.0),
            Other::NewUser(new) => {
                let id = UserId(users.iter().next_back().map_or(1, |(last, _)| last.0 + 1));
                let NewUserRow { merchant, name, key, permissions, is_demo, profile } = (**new).clone();
                let user = UserFound { name, permissions, is_demo, disabled_at: None, key, profile };
                users.put(id, UserRow { merchant, user, revoked_at: None, old: None });
            }
            Other::NewToken(by, new) => {
                let id = TokenId(tokens.iter().next_back().map_or(1, |(last, _)| last.0 + 1));
                let NewToken { name, key: _, permissions, confinement, expires_at } = (**new).clone();
                let user = users.get(&by.user).map(|row| row.user.name.clone()).unwrap_or_default();
                let (token_id, merchant_id) = (id, by.merchant);
                let token =
                    Token { token_id, merchant_id, user, name, permissions, confinement, created_at: now, expires_at };
                tokens.put(id, TokenRow { merchant: by.merchant, user: by.user, token });
            }
            Other::TokenRevoked(id) => tokens.remove(id),
            Other::Permissions(user, permissions) => users.change(user, |row| row.user.permissions = *permissions),
            Other::Profile(user, profile) => users.change(user, |row| row.user.profile = (**profile).clone()),
            Other::UserDisabled(user, at) => users.change(user, |row| row.user.disabled_at = *at),
            Other::UserRevoked(user) => {
                users.change(user, |row| row.revoked_at = Some(now));
                let own = sessions.iter().filter(|(_, row)| row.user == *user).map(|(key, _)| *key);
                own.collect::<Vec<_>>().iter().for_each(|key| sessions.remove(key));
                let own = tokens.iter().filter(|(_, row)| row.user == *user).map(|(id, _)| *id);
                own.collect::<Vec<_>>().iter().for_each(|id| tokens.remove(id));
            }
            Other::UserKey { user, key, until } => {
                users.change(user, |row| (row.old, row.user.key) = (Some((row.user.key, *until)), *key));
                let own = sessions.iter().filter(|(_, row)| row.user == *user).map(|(key, _)| *key);
                for key in own.collect::<Vec<_>>() {
                    sessions.change(&key, |row| {
                        row.expires_at = row.expires_at.min(*until);
                        row.ends_at = Some(row.ends_at.map_or(*until, |at| at.min(*until)));
                    });
                }
            }
            _ => {}
        }
    }
}

fn check_new(is_new: bool, what: &str) -> Result<()> {
    if is_new { Ok(()) } else { Err(StoreError::failed(format!("there is such a row already: {what}"))) }
}
