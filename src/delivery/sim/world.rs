//! The server's heart in one thread: queue, writer, book and rows, mailbox,
//! scheduler and requests, with a clock that is moved by hand. Each step is
//! something that may happen next.

mod puller;
mod writer;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use super::outside::{Asked, Outside};
use super::planted::Bug;
use super::receivers::{Answer, Temper};
use crate::delivery::scheduler::{Action, Scheduler};
use crate::delivery::{Config, PAGE_BYTES_MAX};
use crate::domain::by::By;
use crate::domain::delivery::{Outcome, Verdict};
use crate::domain::event::Receipt;
use crate::domain::id::{IncrementId, MerchantId, Span, UserId, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;
use crate::domain::webhook::{DeliveryMode, Webhook};
use crate::metrics::Gauge;
use crate::store::ledger::Change;
use crate::store::ledger::book::Book;
use crate::store::ledger::memory::{Memory, Tables};
use crate::store::ledger::outcomes::Record;
use crate::store::ledger::queue::{Cost, Queue};
use crate::store::ledger::queued::{Queued, queued};
use crate::store::ledger::resending::Seal;
use crate::store::ledger::terms::Terms;
use crate::store::mailbox::{Mailbox, News};
use crate::store::{Loaded, PageLimit, Parcel, Pulled, StoreError, Want};

/// Actions of the worker in one turn.
const ACTIONS_PER_TURN: usize = 16;

/// What somebody is told after a commit.
pub enum Told {
    /// What has become of a publish.
    Published(Asked, Result<Vec<Receipt>, StoreError>),
    /// Whether a batch is sealed.
    Sealed(u64, Result<bool, StoreError>),
    /// Whether outcomes are on record.
    Recorded(Arc<[Outcome]>, Result<(), StoreError>),
    /// A webhook was changed, or was not.
    Touched,
    /// What was pulled is acknowledged.
    Acknowledged(WebhookId, Result<(), StoreError>),
    /// A page may be handed out.
    HandedOut(WebhookId, Vec<Pulled>, Result<(), StoreError>),
    /// Anything else.
    Other,
}

/// What is heard, in the order of telling.
pub type Ears = Arc<Mutex<Vec<Told>>>;

/// A request, or one that waits for its batch to be sealed.
pub struct Request {
    id: u64,
    begun_at: u64,
    started_at: Timestamp,
    webhook: Arc<Webhook>,
    parcel: Parcel,
    has_arrived: bool,
}

/// A look into the store that is under way.
struct Look {
    id: WebhookId,
    want: Want,
    through: IncrementId,
    limit: PageLimit,
    /// What there was at its start, if that is what it will have seen.
    seen: Option<Loaded>,
}

/// Whoever pulls a webhook.
#[derive(Clone, Copy, Debug)]
pub struct Puller {
    /// What it has.
    pub after: IncrementId,
    /// It waits for an answer.
    pub is_waiting: bool,
}

impl Puller {
    /// One that has nothing yet.
    pub const NEW: Self = Self { after: IncrementId::ZERO, is_waiting: false };
}

/// Everything that is lost in a crash.
struct Inside {
    book: Book,
    queue: Arc<Queue<Queued>>,
    mailbox: Mailbox,
    scheduler: Scheduler,
    ears: Ears,
    looks: Vec<Look>,
    sealing: Vec<Request>,
    in_flight: Vec<Request>,
    ended: VecDeque<Outcome>,
    /// Handed to the writer.
    recording: Vec<Arc<[Outcome]>>,
    /// Could not be recorded.
    unrecorded: Vec<Arc<[Outcome]>>,
    /// On record, and the worker has not heard of it.
    recorded: Vec<Arc<[Outcome]>>,
    chores_rest_until: Option<Timestamp>,
    is_closed: bool,
}

/// All of it.
pub struct World {
    /// Decides everything.
    pub rng: Rng,
    /// The clock.
    pub now: Timestamp,
    /// What is known outside.
    pub outside: Outside,
    /// The rows.
    pub memory: Memory,
    /// How each receiver is.
    pub tempers: std::collections::BTreeMap<WebhookId, Temper>,
    /// Whoever pulls.
    pub pullers: std::collections::BTreeMap<WebhookId, Puller>,
    /// Topics that are published.
    pub topics: Vec<Topic>,
    /// Commits that were made.
    pub commits: u64,
    bug: Option<Bug>,
    terms: Terms,
    config: Config,
    inside: Inside,
    requests: u64,
}

impl Inside {
    fn new(terms: Terms, config: &Config, memory: &Memory) -> Self {
        let stock = memory.stock().expect("what was committed can be read");
        let webhooks = stock.webhooks.clone();
        Self {
            book: Book::new(terms, stock),
            queue: Arc::new(Queue::new(1_000, Gauge::default())),
            mailbox: Mailbox::default(),
            scheduler: Scheduler::new(config, webhooks),
            ears: Ears::default(),
            looks: Vec::new(),
            sealing: Vec::new(),
            in_flight: Vec::new(),
            ended: VecDeque::new(),
            recording: Vec::new(),
            unrecorded: Vec::new(),
            recorded: Vec::new(),
            chores_rest_until: None,
            is_closed: false,
        }
    }
}

impl World {
    /// A server that was just started on an empty store.
    pub fn new(mut rng: Rng, terms: Terms, merchants: i64, bug: Option<Bug>) -> Self {
        let config = Config {
            // So little that lanes often wait for room.
            loaded_bytes_max: 2 * PAGE_BYTES_MAX,
            sending_bytes_max: rng.usize(3_000..20_000),
            ..Config::sample(rng.usize(2..24), rng.usize(1..6))
        };
        let codes = (1..=merchants).map(|id| (MerchantId(id), Arc::from(format!("m{id}"))));
        let memory = Memory::of(codes);
        let inside = Inside::new(terms, &config, &memory);
        Self {
            rng,
            now: super::START,
            outside: Outside::new(terms.retention),
            memory,
            tempers: Default::default(),
            pullers: Default::default(),
            topics: Vec::new(),
            commits: 0,
            bug,
            terms,
            config,
            inside,
            requests: 0,
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Hands a change to the writer, in its merchant's line.
    pub fn push<C: Change>(
        &mut self,
        merchant: MerchantId,
        cost: Cost,
        change: C,
        told: impl FnOnce(Result<C::Answer, StoreError>) -> Told + Send + 'static,
    ) {
        let entry = self.entry(change, told);
        // A queue that is full has told nobody that anything was done.
        let _ = self.inside.queue.push(merchant.into(), cost, entry);
    }

    fn push_first<C: Change>(
        &mut self,
        cost: Cost,
        change: C,
        told: impl FnOnce(Result<C::Answer, StoreError>) -> Told + Send + 'static,
    ) {
        let entry = self.entry(change, told);
        self.inside.queue.push_first(cost, entry).expect("it is open");
    }

    fn entry<C: Change>(
        &self,
        change: C,
        told: impl FnOnce(Result<C::Answer, StoreError>) -> Told + Send + 'static,
    ) -> Queued {
        let ears = Arc::clone(&self.inside.ears);
        queued(change, move |result| ears.lock().unwrap().push(told(result)))
    }

    /// Everyone hears what he is told.
    fn hear(&mut self) {
        let told = std::mem::take(&mut *self.inside.ears.lock().unwrap());
        for told in told {
            match told {
                Told::Published(asked, result) => self.outside.told(asked, result, self.now, &self.memory),
                Told::Sealed(request, result) => self.sealed(request, result),
                Told::Recorded(outcomes, result) => {
                    self.inside.recording.retain(|other| !Arc::ptr_eq(other, &outcomes));
                    let Inside { recorded, unrecorded, .. } = &mut self.inside;
                    if result.is_ok() { recorded } else { unrecorded }.push(outcomes);
                }
                Told::Touched => self.outside.touches += 1,
                Told::Acknowledged(id, result) => self.acknowledged(id, result),
                Told::HandedOut(id, page, result) => self.handed_out(id, &page, result),
                Told::Other => {}
            }
        }
    }

    // The delivery worker.

    /// A turn of the worker: it hears the news, and begins something. True if
    /// it did.
    pub fn turn(&mut self) -> bool {
        self.absorb();
        for done in 0..ACTIONS_PER_TURN {
            let Some(action) = self.inside.scheduler.next(self.now) else { return done > 0 };
            self.act(action);
        }
        true
    }

    /// Takes in the news, in an order that does not depend on chance: so the
    /// same seed is the same story.
    fn absorb(&mut self) {
        let mut news = self.inside.mailbox.take();
        self.outside.unheard.clear();
        self.outside.unheard_hooks.clear();
        if let Some(bug) = self.bug {
            bug.bend_news(&mut news);
        }
        let News { present, lost, paused, changed, committed_through, parcels, tests, now, reread } = news;
        let mut absorb = |news: News| self.inside.scheduler.absorb(news);
        absorb(News { present, lost, paused, ..News::default() });
        for one in sorted(changed) {
            absorb(News { changed: [one].into(), ..News::default() });
        }
        absorb(News { parcels, ..News::default() });
        for one in sorted(committed_through) {
            absorb(News { committed_through: [one].into(), ..News::default() });
        }
        absorb(News { tests, ..News::default() });
        for one in sorted(reread) {
            absorb(News { reread: [one].into(), ..News::default() });
        }
        absorb(News { now, ..News::default() });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read { webhook_id: id, want, through, limit, .. } => {
                let seen = self.rng.bool().then(|| self.look(id, want, limit));
                self.inside.looks.push(Look { id, want, through, limit, seen });
            }
            Action::Send(webhook, parcel, _) => {
                self.check_send(&webhook, &parcel);
                self.requests += 1;
                let is_new_batch = parcel.batch.is_some() && parcel.attempts == 0 && parcel.due_at.is_none();
                let is_new_batch = is_new_batch && !self.has(Bug::Unsealed);
                let (id, started_at) = (self.requests, self.now);
                let mut request = Request { id, begun_at: 0, started_at, webhook, parcel, has_arrived: false };
                if is_new_batch {
                    let Webhook { webhook_id, merchant_id, .. } = *request.webhook;
                    let batch = request.parcel.numbers();
                    self.inside.sealing.push(request);
                    let cost = Cost::of(batch.numbers().count(), 0);
                    self.push_first(cost, Seal { merchant_id, webhook_id, batch: Some(batch) }, move |result| {
                        Told::Sealed(id, result)
                    });
                } else {
                    request.begun_at = self.outside.send(request.webhook.webhook_id, &request.parcel);
                    self.inside.in_flight.push(request);
                }
            }
        }
    }

    fn sealed(&mut self, id: u64, result: Result<bool, StoreError>) {
        let place = self.inside.sealing.iter().position(|request| request.id == id);
        let mut request = self.inside.sealing.remove(place.expect("each is sealed once"));
        if matches!(result, Ok(true)) {
            request.begun_at = self.outside.send(request.webhook.webhook_id, &request.parcel);
            request.started_at = self.now;
            self.inside.in_flight.push(request);
        } else {
            let id = request.webhook.webhook_id;
            let term = self.inside.scheduler.term(id);
            self.inside.scheduler.unsent(term, id, &request.parcel, result.is_err(), self.now);
        }
    }

    /// What goes out is to be sent, as far as the worker can know, and in its
    /// order.
    fn check_send(&self, webhook: &Webhook, sent: &Parcel) {
        let id = webhook.webhook_id;
        let is_test = sent.event.topic == Topic::test();
        let is_heard = |number: &IncrementId| !self.outside.unheard.contains(&(id, *number));
        let under_way = || {
            let all = self.inside.in_flight.iter().chain(&self.inside.sealing);
            all.filter(|request| request.webhook.webhook_id == id)
        };
        for number in sent.numbers().numbers() {
            let row = self.memory.tables.deliveries.get(&(id, number));
            let row = row.unwrap_or_else(|| panic!("{id}:{number} is not committed"));
            let is_wanted = row.standing.is_to_be_sent() || !is_heard(&number);
            assert!(is_wanted, "{id}:{number} is not to be sent: {row:?}");
            let again = under_way().find(|request| request.parcel.numbers().contains(number));
            assert!(again.is_none(), "{id}:{number} is under way");
        }
        let is_on = |webhook: &Webhook| webhook.is_delivering();
        let hook = self.memory.tables.hooks.get(&id).filter(|_| !self.outside.unheard_hooks.contains(&id));
        let is_off = !is_on(webhook) || hook.is_some_and(|hook| !is_on(&hook.webhook) || hook.deleted_at.is_some());
        let is_urgent = is_test || sent.numbers().numbers().any(|number| self.outside.urgent.contains(&(id, number)));
        assert!(!is_off || is_urgent, "{id}:{} is sent, and {id} is off", sent.increment_id);
        if webhook.spec.delivery_mode != DeliveryMode::Ordered || is_test {
            return;
        }
        assert_eq!(under_way().count(), 0, "one at a time: {id}");
        let has_end = |number: IncrementId| {
            let Inside { ended, recording, unrecorded, recorded, .. } = &self.inside;
            let told = recording.iter().chain(unrecorded).chain(recorded).flat_map(|all| all.iter());
            let mut own = told.chain(ended).filter(|outcome| outcome.webhook_id == id);
            own.any(|outcome| {
                outcome.numbers.contains(number) && matches!(outcome.verdict, Verdict::Delivered | Verdict::Abandoned)
            })
        };
        let before = self.memory.tables.deliveries.range((id, IncrementId::ZERO)..(id, sent.increment_id));
        let mut open = before.filter(|(_, row)| row.standing.is_to_be_sent());
        let overtaken = open.find(|((_, number), _)| is_heard(number) && !has_end(*number));
        assert!(overtaken.is_none(), "{id}:{} overtakes {overtaken:?}", sent.increment_id);
    }

    fn look(&self, id: WebhookId, want: Want, limit: PageLimit) -> Loaded {
        let now = self.now;
        let page = match want {
            Want::Fresh(after) => self.memory.fresh(id, after, limit),
            Want::Pending(after) => self.memory.pending(id, after, limit),
            Want::One(number) => self.memory.one(id, number, limit),
            Want::Due(after) => self.memory.due(id, after, now, limit),
        };
        let mut page = page.unwrap_or_else(|cause| panic!("{want:?} of {id}: {cause}"));
        if let Some(bug) = self.bug {
            bug.bend_page(&mut page);
        }
        let next_due = matches!(want, Want::Due(_)).then(|| self.memory.next_due(id, now)).flatten();
        Loaded { page, next_due }
    }

    /// A look into the store ends. True if there was one.
    pub fn end_look(&mut self, has_failed: bool) -> bool {
        let count = self.inside.looks.len();
        if count == 0 {
            return false;
        }
        let Look { id, want, through, limit, seen } = self.inside.looks.remove(self.rng.usize(..count));
        let reading = (!has_failed).then(|| seen.unwrap_or_else(|| self.look(id, want, limit)));
        let term = self.inside.scheduler.term(id);
        self.inside.scheduler.read(term, (id, want, through), reading, self.now);
        true
    }

    /// Something happens to a request: it arrives, or it ends. True if there
    /// was one.
    pub fn go_on_with_request(&mut self, are_all_good: bool) -> bool {
        let count = self.inside.in_flight.len();
        if count == 0 {
            return false;
        }
        let place = self.rng.usize(..count);
        if !self.inside.in_flight[place].has_arrived && !are_all_good && self.rng.bool() {
            let Request { webhook, parcel, begun_at, has_arrived, .. } = &mut self.inside.in_flight[place];
            self.outside.arrive(webhook.webhook_id, parcel, *begun_at);
            *has_arrived = true;
            return true;
        }
        let request = self.inside.in_flight.swap_remove(place);
        let id = request.webhook.webhook_id;
        let temper = if are_all_good { Temper::Good } else { self.tempers.get(&id).copied().unwrap_or(Temper::Good) };
        let answer = temper.answer(&mut self.rng, request.has_arrived);
        self.end(request, answer);
        true
    }

    fn end(&mut self, request: Request, answer: Answer) {
        let Request { begun_at, started_at, webhook, parcel, has_arrived, .. } = request;
        let (id, numbers) = (webhook.webhook_id, parcel.numbers());
        if answer.arrives && !has_arrived {
            self.outside.arrive(id, &parcel, begun_at);
        }
        let (mut outcome, feedback) = answer.outcome(&webhook, &parcel, (started_at, self.now), self.rng.f64());
        match outcome.verdict {
            Verdict::Delivered => self.outside.take(id, numbers),
            Verdict::Abandoned => self.outside.give_up(id, numbers, begun_at),
            Verdict::Retry(_) | Verdict::Gone => {}
        }
        let term = self.inside.scheduler.term(outcome.webhook_id);
        outcome.pause = self.inside.scheduler.sent(term, parcel, &outcome, feedback, self.now);
        if let Some(bug) = self.bug {
            bug.bend_outcome(&mut outcome, false);
        }
        self.inside.ended.push_back(outcome);
    }

    /// Outcomes are handed to the writer. True if there were any.
    pub fn record(&mut self) -> bool {
        if !self.inside.unrecorded.is_empty() && self.rng.bool() {
            let place = self.rng.usize(..self.inside.unrecorded.len());
            let mut outcomes = self.inside.unrecorded.swap_remove(place);
            if let Some(bug) = self.bug {
                outcomes = outcomes
                    .iter()
                    .cloned()
                    .map(|mut outcome| {
                        bug.bend_outcome(&mut outcome, true);
                        outcome
                    })
                    .collect();
            }
            self.hand_over(outcomes);
            return true;
        }
        let count = self.inside.ended.len().min(self.rng.usize(1..8));
        if count > 0 {
            let outcomes: Vec<_> = self.inside.ended.drain(..count).collect();
            self.hand_over(outcomes.into());
        }
        count > 0 || !self.inside.unrecorded.is_empty()
    }

    fn hand_over(&mut self, outcomes: Arc<[Outcome]>) {
        let record = Record::new(Arc::clone(&outcomes), vec![None; outcomes.len()]);
        self.inside.recording.push(Arc::clone(&outcomes));
        self.push_first(record.cost(), record, move |result| Told::Recorded(outcomes, result.map(drop)));
    }

    /// The worker hears that outcomes are on record. True if there were any.
    pub fn hear_recorded(&mut self) -> bool {
        let count = self.inside.recorded.len();
        if count == 0 {
            return false;
        }
        let outcomes = self.inside.recorded.remove(self.rng.usize(..count));
        // What the commit changed was announced before.
        self.absorb();
        for outcome in outcomes.iter() {
            let term = self.inside.scheduler.term(outcome.webhook_id);
            self.inside.scheduler.recorded(term, outcome);
        }
        true
    }

    // A crash.

    /// True if nothing is left but what the store has no room for.
    pub fn waits_for_room(&self) -> bool {
        let Tables { deliveries, hooks, .. } = &self.memory.tables;
        let is_pulled = |id| hooks.get(id).is_some_and(|hook| hook.webhook.spec.url.is_none());
        let mut sent = deliveries.iter().filter(|((id, _), _)| !is_pulled(id));
        self.terms.retention.bytes_max > 0 && sent.all(|(_, row)| row.standing.has_ended())
    }

    /// The operator gives the store all the room that there is, and starts the
    /// process again.
    pub fn give_room(&mut self) {
        self.terms.retention.bytes_max = 0;
        self.outside.kept.unbound();
        self.crash();
    }

    /// The process is gone, and starts again. What was on its way may arrive.
    pub fn crash(&mut self) {
        let requests: Vec<_> = self.inside.in_flight.drain(..).collect();
        for Request { webhook, parcel, begun_at, has_arrived, .. } in requests {
            if !has_arrived && self.rng.bool() {
                self.outside.arrive(webhook.webhook_id, &parcel, begun_at);
            }
        }
        self.memory.reopen();
        if self.has(Bug::KeyForgotten) {
            self.memory.tables.keys.remove_some(u32::MAX, |_, _| true);
            self.memory.tables.keys.keep();
        }
        self.pullers.values_mut().for_each(|puller| puller.is_waiting = false);
        self.outside.unheard.clear();
        self.outside.unheard_hooks.clear();
        self.inside = Inside::new(self.terms, &self.config, &self.memory);
    }

    // The end.

    /// True if nothing is left to be done, or under way.
    pub fn is_at_rest(&self) -> bool {
        let Inside { looks, sealing, in_flight, ended, unrecorded, recorded, book, .. } = &self.inside;
        let is_idle = looks.is_empty() && sealing.is_empty() && in_flight.is_empty();
        let is_heard = ended.is_empty() && unrecorded.is_empty() && recorded.is_empty();
        let all_ended = || self.memory.tables.deliveries.iter().all(|(_, row)| row.standing.has_ended());
        let is_done = || self.memory.tables.jobs.iter().all(|(_, row)| row.ended_at.is_some());
        let is_numbered = || self.memory.tables.fanouts.iter().next().is_none();
        is_idle && is_heard && !book.has_chores() && all_ended() && is_done() && is_numbered()
    }

    /// What is checked then.
    pub fn check_rest(&self) {
        let scheduler = &self.inside.scheduler;
        assert_eq!(scheduler.load(), crate::delivery::load::Load::default(), "requests and bytes of nothing");
        assert_eq!((scheduler.in_flight(), scheduler.unrecorded()), (0, 0));
        self.check_book();
        self.outside.check_rest(&self.memory);
    }

    /// When the worker is to be woken next.
    pub fn alarm(&self) -> Option<Timestamp> {
        self.inside.scheduler.alarm()
    }

    /// What is left, for whoever wonders.
    pub fn left(&self) -> String {
        let rows = self.memory.tables.deliveries.iter().filter(|(_, row)| !row.standing.has_ended());
        let rows: Vec<_> = rows.map(|(key, row)| (key, row.standing)).take(10).collect();
        let Inside { looks, sealing, in_flight, ended, unrecorded, recorded, .. } = &self.inside;
        let counts = [looks.len(), sealing.len(), in_flight.len(), ended.len(), unrecorded.len(), recorded.len()];
        format!("{counts:?} and {rows:?}, alarm {:?} at {:?}", self.alarm(), self.now)
    }

    /// Numbers of a webhook, for whoever wants to do something to one.
    pub fn last_of(&self, id: WebhookId) -> IncrementId {
        self.memory.tables.hooks.get(&id).map_or(IncrementId::ZERO, |hook| hook.counters.last)
    }

    /// The batch that it is in.
    pub fn span_of(&self, id: WebhookId, number: IncrementId) -> Span {
        let row = self.memory.tables.deliveries.get(&(id, number));
        row.and_then(|row| row.standing.batch).unwrap_or(Span::one(number))
    }
}

/// On behalf of whoever acts for a merchant.
pub fn by(merchant: MerchantId) -> By {
    By { merchant, user: UserId(1), token: None, within: None, sender: None }
}

fn sorted<V>(map: std::collections::HashMap<WebhookId, V>) -> Vec<(WebhookId, V)> {
    let mut all: Vec<_> = map.into_iter().collect();
    all.sort_by_key(|(id, _)| *id);
    all
}
