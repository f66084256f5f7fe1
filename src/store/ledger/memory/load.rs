//! Reading what changes want, and what is known by heart.

use std::collections::BTreeSet;

use super::{DeliveryRow, EventRow, Hook, JobRow, Memory, TokenRow};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, WebhookId};
use crate::domain::job::{Job as Shown, JobState};
use crate::domain::merchant::MerchantTerms;
use crate::domain::standing::Standing;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::book::Stock;
use crate::store::ledger::fanout::Fanout;
use crate::store::ledger::ids::Ids;
use crate::store::ledger::logs::LogRow;
use crate::store::ledger::wants::{
    AttemptFound, Attempts, EventFound, Events, Found, Loaded, MerchantFound, Pending, Scan, Scanned, TopicFound,
    TopicWant, Wants,
};

impl Memory {
    /// What changes want.
    pub fn loaded(&self, wants: &Wants, now: Timestamp) -> Loaded {
        let mut loaded = Loaded::default();
        for merchant in &wants.codes {
            let code = self.merchant(*merchant).map(|found| found.code.into()).unwrap_or_default();
            loaded.codes.push((*merchant, code));
        }
        for (merchant, key) in &wants.keys {
            let stood = self.tables.keys.get(&(*merchant, key.as_str().to_owned()));
            if let Some(stood) = stood.filter(|stood| stood.expires_at > now) {
                loaded.keys.insert((*merchant, key.clone()), stood.remembered.clone());
            }
        }
        self.load_deliveries(wants, &mut loaded);
        for (id, notice) in &wants.notices {
            if let Some((_, gathered)) = self.tables.notices.get(&(*id, notice.name())) {
                loaded.notices.insert((*id, *notice), *gathered);
            }
        }
        if let Some(max) = wants.due_notices {
            let due = self.tables.notices.iter().filter(|(_, (_, gathered))| gathered.due_at <= now);
            loaded.due_notices =
                due.map(|((id, _), (notice, gathered))| (*id, *notice, *gathered)).take(max as usize).collect();
        }
        if let Some(scan) = wants.scan {
            loaded.scanned = self.scanned(scan);
        }
        if let Some(events) = wants.events {
            (loaded.events, loaded.is_last_event) = self.some_events(events);
        }
        if let Some((merchant, id)) = wants.job {
            let found = self.tables.jobs.get(&id).filter(|row| row.job.merchant_id == merchant);
            loaded.job = found.map(|row| (row.shown(), row.job.webhook_id));
        }
        loaded.topic = wants.topic.as_ref().map(|want| self.topic(want));
        if let Some((merchant, user)) = wants.user {
            let found = self.tables.users.get(&user).filter(|row| row.merchant == merchant && row.revoked_at.is_none());
            loaded.user = found.map(|row| Box::new(row.user.clone()));
        }
        loaded.merchant = wants.merchant.and_then(|merchant| self.merchant(merchant)).map(Box::new);
        if let Some(code) = &wants.merchant_code {
            let all = self.merchant_ids();
            let is_given = all.iter().any(|id| self.merchant(*id).is_some_and(|found| found.code == *code));
            let next = MerchantId(all.last().map_or(0, |last| last.0) + 1);
            loaded.new_merchant = (!is_given).then_some(next);
        }
        if let Some((merchant, name)) = &wants.user_name {
            loaded.users = self.tables.users.iter().filter(|(_, row)| row.merchant == *merchant).count() as u32;
            loaded.is_name_given = self.tables.users.iter().any(|(_, row)| row.user.name == *name);
        }
        if let Some((merchant, id)) = wants.token {
            let found = self.tables.tokens.get(&id).filter(|row| row.merchant == merchant);
            loaded.token = found.map(|row| Box::new((row.user, row.token.clone())));
        }
        if let Some(merchant) = wants.tokens {
            let counts = |row: &TokenRow| row.merchant == merchant && row.token.expires_at.is_none_or(|at| at > now);
            loaded.tokens = self.tables.tokens.iter().filter(|(_, row)| counts(row)).count() as u32;
        }
        loaded.needed = wants.needed.iter().copied().filter(|event| self.needs(*event, None)).collect();
        if let Some(key) = wants.needed_beside {
            let own = self.tables.deliveries.get(&key).filter(|row| !row.standing.is_forgotten);
            loaded.needed.extend(own.map(|row| row.event_id).filter(|event| self.needs(*event, Some(key))));
        }
        if let Some(attempts) = wants.attempts {
            loaded.attempts = self.some_attempts(attempts);
        }
        loaded.used_bytes = wants.used_bytes.then(|| self.used_bytes());
        loaded
    }

    /// Those that there were, and those that were made.
    fn merchant_ids(&self) -> BTreeSet<MerchantId> {
        self.merchants.keys().chain(self.tables.merchants.iter().map(|(id, _)| id)).copied().collect()
    }

    /// A merchant.
    pub fn merchant(&self, merchant: MerchantId) -> Option<MerchantFound> {
        let unchanged = || {
            let code = self.merchants.get(&merchant)?.to_string();
            Some(MerchantFound { code, terms: MerchantTerms::default() })
        };
        self.tables.merchants.get(&merchant).cloned().or_else(unchanged)
    }

    /// What it holds, about.
    pub fn used_bytes(&self) -> u64 {
        const ROW: usize = 64;
        let events = self.tables.events.iter().map(|(_, row)| row.event.message.as_str().len() + ROW).sum::<usize>();
        let attempts = self.tables.attempts.iter().map(|(_, row)| row.bytes + ROW as u64).sum::<u64>();
        events as u64 + attempts
    }

    /// A delivery, as changes see it.
    pub fn found(&self, row: &DeliveryRow) -> Found {
        Found { standing: row.standing, event_id: row.event_id, is_whole: self.event_of(row).is_some() }
    }

    /// The batch of a number, or itself.
    fn batch_of(&self, id: WebhookId, number: IncrementId) -> Span {
        let batch = self.tables.deliveries.get(&(id, number)).and_then(|row| row.standing.batch);
        batch.unwrap_or(Span::one(number))
    }

    fn load_deliveries(&self, wants: &Wants, loaded: &mut Loaded) {
        for (id, span) in &wants.deliveries {
            for (number, row) in self.deliveries_of(*id, span.first, span.last) {
                loaded.deliveries.insert((*id, number), Found { is_whole: false, ..self.found(row) });
            }
        }
        for (id, number) in &wants.batches {
            let Span { first, last } = self.batch_of(*id, *number);
            for (number, row) in self.deliveries_of(*id, first, last) {
                loaded.deliveries.insert((*id, number), self.found(row));
            }
        }
        for (id, span) in &wants.topics {
            for (number, row) in self.deliveries_of(*id, span.first, span.last) {
                if let Some(EventRow { event, .. }) = self.event_of(row) {
                    loaded.topics.insert((*id, number), event.topic.clone());
                }
            }
        }
        if let Some(Pending { webhook_id, after, through, max }) = wants.pending {
            let all = self.deliveries_of(webhook_id, after.next(), through);
            loaded.pending = some(all, max, Standing::is_pending);
        }
        if let Some((id, max)) = wants.again {
            let all = self.deliveries_of(id, IncrementId::ZERO, IncrementId(i64::MAX));
            loaded.again = some(all, max, |standing| standing.next_attempt_at.is_some());
        }
    }

    fn scanned(&self, Scan { webhook_id, first, max }: Scan) -> Vec<Scanned> {
        let first = self.batch_of(webhook_id, first).first;
        let all = self.deliveries_of(webhook_id, first, IncrementId(i64::MAX));
        let one = |(number, row): (IncrementId, &DeliveryRow)| {
            let topic = self.event_of(row).map(|row| row.event.topic.clone());
            Scanned { number, standing: row.standing, created_at: row.created_at, topic }
        };
        all.take(max as usize).map(one).collect()
    }

    fn some_events(&self, Events { merchant, first, last, max, bytes_max }: Events) -> (Vec<EventFound>, bool) {
        let (mut found, mut bytes) = (Vec::new(), 0);
        if first > last {
            return (found, true);
        }
        let all = self.tables.events.range(EventId(first)..=EventId(last));
        for (_, EventRow { event, published_at, labels }) in all.filter(|(_, row)| row.event.merchant_id == merchant) {
            let (topic, published_at, labels) = (event.topic.clone(), *published_at, labels.clone());
            found.push(EventFound { event_id: event.event_id, topic, published_at, labels });
            bytes += event.message.as_str().len() as u64;
            if bytes >= bytes_max || found.len() == max as usize {
                return (found, false);
            }
        }
        (found, true)
    }

    fn topic(&self, TopicWant { merchant, topic, event_type }: &TopicWant) -> TopicFound {
        let own = || self.tables.topics.iter().filter(|((of, _), _)| of == merchant).map(|(_, entry)| entry);
        let taken_by = own().find(|entry| Some(entry.event_type) == *event_type && entry.spec.topic != *topic);
        TopicFound {
            entry: own().find(|entry| entry.spec.topic == *topic).cloned(),
            count: own().count() as u32,
            event_type_max: self.tables.event_types.get(merchant).copied().unwrap_or(0),
            taken_by: taken_by.map(|entry| entry.spec.topic.clone()),
        }
    }

    /// Whether another delivery than this one of an event is to be sent.
    fn needs(&self, event: EventId, beside: Option<(WebhookId, IncrementId)>) -> bool {
        let is_other = |key: &(WebhookId, IncrementId)| beside.is_none_or(|beside| *key != beside);
        self.tables.deliveries.iter().any(|(key, row)| {
            row.event_id == event && !row.standing.is_forgotten && row.standing.is_to_be_sent() && is_other(key)
        })
    }

    fn some_attempts(&self, Attempts { webhook_id: id, after, only, max }: Attempts) -> Vec<AttemptFound> {
        let through = only.unwrap_or(IncrementId(i64::MAX));
        let all = self.tables.attempts.range((id, after.0, after.1)..=(id, through, u32::MAX));
        let found =
            all.map(|((_, number, attempt), tried)| AttemptFound { place: (*number, *attempt), bytes: tried.bytes });
        found.filter(|found| found.place > after).take(max as usize).collect()
    }

    /// All that is known by heart.
    pub fn stock(&self) -> Result<Stock, StoreError> {
        let mut stock = Stock::default();
        for (id, hook) in self.tables.hooks.iter() {
            let webhook = hook.counters.in_webhook((*hook.webhook).clone());
            stock.numbers += hook.counters.last.0;
            if hook.deleted_at.is_none() {
                stock.webhooks.push(webhook);
            } else if self.is_left(*id, hook) {
                stock.deleted.push(webhook);
            }
        }
        let code = |id| Some((id, self.merchant(id)?.code.into()));
        stock.codes = self.merchant_ids().into_iter().filter_map(code).collect();
        for (id, (merchant, text)) in self.tables.fanouts.iter() {
            let topic = |event| match self.tables.events.get(&event) {
                Some(row) => Ok(row.event.topic.clone()),
                None => Err(StoreError::failed("an event that is being numbered is gone")),
            };
            stock.fanouts.push((*id, Fanout::stored(*merchant, text, topic)?));
        }
        let jobs = self.tables.jobs.iter().filter(|(_, row)| row.ended_at.is_none());
        stock.jobs = jobs.map(|(_, row)| row.job.clone()).collect();
        let forgotten = self.tables.deliveries.iter().filter(|(_, row)| row.standing.is_forgotten);
        let kept = |id: EventId| Some((self.tables.events.get(&id)?.event.merchant_id, id));
        stock.to_forget = forgotten.filter_map(|(_, row)| kept(row.event_id)).collect();
        stock.to_forget.sort_unstable();
        stock.to_forget.dedup();
        for (id, log) in self.tables.logs.iter() {
            let is_deleted = self.tables.hooks.get(id).is_some_and(|hook| hook.deleted_at.is_some());
            stock.logs.push(LogRow { is_deleted, ..*log });
        }
        stock.event_days = self.tables.event_days.iter().map(|(merchant, day)| (*merchant, *day)).collect();
        let last = |kind| self.tables.ids.get(&kind).copied().unwrap_or(0);
        stock.ids = Ids { event: last("event"), webhook: last("webhook"), job: last("job"), fanout: last("fanout") };
        Ok(stock)
    }

    /// Whether something of a deleted webhook is still to be cancelled.
    fn is_left(&self, id: WebhookId, hook: &Hook) -> bool {
        let mut all = self.deliveries_of(id, IncrementId::ZERO, IncrementId(i64::MAX));
        hook.counters.settled_through < hook.counters.last || all.any(|(_, row)| row.standing.next_attempt_at.is_some())
    }
}

impl JobRow {
    fn shown(&self) -> Shown {
        let Self { job, ended_at, is_cancelled } = self;
        Shown {
            job_id: job.job_id,
            kind: job.kind,
            webhook_id: (!job.is_of_all).then_some(job.webhook_id),
            state: match (ended_at, is_cancelled) {
                (None, _) => JobState::Running,
                (Some(_), false) => JobState::Done,
                (Some(_), true) => JobState::Cancelled,
            },
            progress: job.progress,
            created_at: job.created_at,
            ended_at: *ended_at,
        }
    }
}

fn some<'a>(
    all: impl Iterator<Item = (IncrementId, &'a DeliveryRow)>,
    max: u32,
    is_meant: impl Fn(Standing) -> bool,
) -> Vec<(IncrementId, Standing)> {
    let meant = all.filter(|(_, row)| is_meant(row.standing));
    meant.take(max as usize).map(|(number, row)| (number, row.standing)).collect()
}
