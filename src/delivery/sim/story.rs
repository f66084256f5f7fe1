//! What happens next, as a seed has it.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::outside::{Asked, AskedEvent};
use super::planted::Bug;
use super::receivers::Temper;
use super::world::{Puller, Told, World, by};
use crate::domain::delivery::{DeliveryFilter, DeliveryState};
use crate::domain::event::{EventFilter, IdempotencyKey, Message, NewEvent};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::id::{IncrementId, JobId, MerchantId, Span, WebhookId};
use crate::domain::policy::{Batching, Concurrency, RateLimit};
use crate::domain::retry::{RetryPolicy, Waits};
use crate::domain::secret::SecretKey;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Patterns, Topic};
use crate::domain::webhook::{DeliveryMode, Format, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::store::WebhookSelector;
use crate::store::ledger::chores::Sweep;
use crate::store::ledger::jobs::{Backfill, CancelJob, Replay, RetryMany};
use crate::store::ledger::memory::Fault;
use crate::store::ledger::publishing::{self, Publish};
use crate::store::ledger::queue::Cost;
use crate::store::ledger::resending::{Cancel, Forget, Retry, Target, Test};
use crate::store::ledger::terms::{Retention, Terms};
use crate::store::ledger::webhooks::{Acknowledge, Alter, Alteration, Create, Delete, SetActive};

const TOPICS: [&str; 3] = ["order:created", "order:paid", "stock:changed"];
const PATTERNS: [&str; 5] =
    ["*", "order:*", "order:paid", "stock:changed,tallyhook:*", "*,tallyhook:delivery_abandoned"];
const WEBHOOKS_MAX: u32 = 6;

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Publish,
    Write,
    Turn,
    Look,
    Request,
    Record,
    Hear,
    Pass,
    Jump,
    Sweep,
    Mood,
    Owner,
    Pull,
    Crash,
    CrashInCommit,
}

/// Each, and how often. Of the last ones each story has some.
const KINDS: [(Kind, u32); 15] = [
    (Kind::Write, 14),
    (Kind::Turn, 12),
    (Kind::Look, 8),
    (Kind::Request, 12),
    (Kind::Record, 7),
    (Kind::Hear, 6),
    (Kind::Publish, 9),
    (Kind::Pass, 6),
    (Kind::Owner, 8),
    (Kind::Pull, 4),
    (Kind::Mood, 3),
    (Kind::Sweep, 2),
    (Kind::Jump, 1),
    (Kind::Crash, 1),
    (Kind::CrashInCommit, 1),
];
const ALWAYS: usize = 7;

/// A story.
pub struct Story {
    world: World,
    kinds: Vec<(Kind, u32)>,
    merchants: i64,
    /// One commit in so many fails.
    faults: Option<u32>,
    said: u64,
    tells: bool,
}

impl Story {
    /// The one of that seed.
    pub fn new(seed: u64, bug: Option<Bug>, tells: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut kinds = KINDS.to_vec();
        let mut place = 0;
        // Not everything happens in every story, so that what does happens often.
        kinds.retain(|_| {
            place += 1;
            place <= ALWAYS || rng.u8(..) < 190
        });
        let faults = rng.bool().then(|| rng.u32(3..20));
        let merchants = rng.i64(1..=3);
        let log_max = if rng.u8(..) < 64 { rng.u64(50..600) } else { 0 };
        let retention = Retention {
            attempts: Duration::from_secs(if rng.bool() { 3_600 } else { 90 * 86_400 }),
            bodies: Duration::from_secs(if rng.bool() { 3_600 } else { 90 * 86_400 }),
            audit: Duration::from_secs(86_400),
            bytes_max: if rng.u8(..) < 90 { rng.u64(3_000..15_000) } else { 0 },
            webhook_log_bytes_max: log_max,
            merchant_log_bytes_max: 2 * log_max,
        };
        let terms = Terms {
            key_ttl: super::KEY_TTL,
            deliveries_max: 1_000,
            definition_bytes_max: 100_000,
            disable_after: Duration::from_secs(if rng.bool() { 600 } else { 5 * 86_400 }),
            retention,
            fingerprint_key: FingerprintKey::OPEN,
            is_shared: false,
        };
        let mut world = World::new(rng, terms, merchants, bug);
        world.topics = TOPICS.into_iter().chain(["tallyhook:delivery_abandoned"]).map(topic).collect();
        let mut story = Self { world, kinds, merchants, faults, said: 0, tells };
        for _ in 0..story.world.rng.u32(1..5) {
            story.create();
        }
        story.world.write(None, false);
        story
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:>10} {}", self.world.now.0 - super::START.0, what());
        }
    }

    /// Takes so many steps, and comes to rest. Panics if a promise is broken.
    pub fn play(mut self, steps: usize) -> World {
        let sum: u32 = self.kinds.iter().map(|(_, weight)| weight).sum();
        for _ in 0..steps {
            let mut at = self.world.rng.u32(..sum);
            let found = self.kinds.iter().find(|(_, weight)| {
                let is_it = at < *weight;
                at = at.saturating_sub(*weight);
                is_it
            });
            let Some((kind, _)) = found.copied() else { continue };
            self.step(kind);
        }
        self.come_to_rest();
        self.world
    }

    fn step(&mut self, kind: Kind) {
        if !matches!(kind, Kind::Publish | Kind::Owner | Kind::Write) {
            self.tell(|| format!("{kind:?}"));
        }
        let rng = &mut self.world.rng;
        match kind {
            Kind::Publish => self.publish(),
            Kind::Owner => self.owner(),
            Kind::Write => self.write(),
            Kind::Turn => drop(self.world.turn()),
            Kind::Look => {
                let has_failed = self.faults.is_some() && rng.u8(..) < 20;
                self.world.end_look(has_failed);
            }
            Kind::Request => drop(self.world.go_on_with_request(false)),
            Kind::Record => drop(self.world.record()),
            Kind::Hear => drop(self.world.hear_recorded()),
            Kind::Pass => {
                let ms = if rng.bool() { rng.i64(0..3_000) } else { rng.i64(0..200_000) };
                self.world.now.0 += ms;
            }
            Kind::Jump => {
                let hours = rng.i64(1..40);
                let ms = if rng.bool() { hours * 3_600_000 } else { -rng.i64(0..hours * 3_600_000) };
                self.world.now = Timestamp((self.world.now.0 + ms).max(1));
            }
            Kind::Sweep => self.sweep(),
            Kind::Mood => {
                let temper = Temper::ALL[rng.usize(..Temper::ALL.len())];
                if let Some((id, _)) = self.pick() {
                    self.tell(|| format!("{id} is {temper:?}"));
                    self.world.tempers.insert(id, temper);
                }
            }
            Kind::Pull => self.pull(),
            Kind::Crash => self.world.crash(),
            Kind::CrashInCommit => drop(self.world.write(None, true)),
        }
    }

    fn write(&mut self) {
        let faults =
            [Fault::Begin, Fault::Load, Fault::Write, Fault::WriteUndoesAll, Fault::CommitUndone, Fault::CommitDone];
        let rng = &mut self.world.rng;
        let fault = self.faults.filter(|one_in| rng.u32(..*one_in) == 0).map(|_| {
            let fault = faults[rng.usize(..faults.len())];
            let is_once = matches!(fault, Fault::Begin | Fault::CommitUndone | Fault::CommitDone);
            (fault, if is_once { 0 } else { rng.u32(..6) })
        });
        self.tell(|| format!("Write, {fault:?}"));
        self.world.write(fault, false);
    }

    fn sweep(&mut self) {
        self.world.push(MerchantId(1), Cost::SMALL, Sweep, |_| Told::Other);
    }

    /// Some webhook, and whose it is.
    fn pick(&mut self) -> Option<(WebhookId, MerchantId)> {
        let hooks = self.world.memory.tables.hooks.iter().filter(|(_, hook)| hook.deleted_at.is_none());
        let all: Vec<_> = hooks.map(|(id, hook)| (*id, hook.webhook.merchant_id)).collect();
        self.world.rng.choice(all)
    }

    fn next(&mut self) -> u64 {
        self.said += 1;
        self.said
    }

    // Publishers.

    fn publish(&mut self) {
        let rng = &mut self.world.rng;
        let merchant = MerchantId(rng.i64(1..=self.merchants));
        let count = match rng.u8(..) {
            0..170 => 1,
            170..235 => rng.usize(2..6),
            _ => rng.usize(20..60),
        };
        let mut events = Vec::new();
        for _ in 0..count {
            let topic = topic(TOPICS[self.world.rng.usize(..TOPICS.len())]);
            let key = (self.world.rng.u8(..) < 60).then(|| self.world.rng.u8(..12));
            let (message, key, topic) = match key {
                // The same event, again and again.
                Some(key) => (
                    format!("{}\"{merchant}-{key}\"}}", super::KEYED),
                    Some(format!("key-{key}")),
                    self::topic(TOPICS[0]),
                ),
                None => (format!("{}{}}}", super::PLAIN, self.next()), None, topic),
            };
            let hooks = self.world.memory.tables.hooks.iter().filter(|(_, hook)| {
                let spec = &hook.webhook.spec;
                let is_there = hook.deleted_at.is_none() && hook.webhook.merchant_id == merchant;
                is_there && spec.is_active && spec.topics.list().iter().any(|pattern| pattern.matches(&topic))
            });
            let webhooks = hooks.map(|(id, _)| *id).collect();
            events.push(AskedEvent { message, topic, key, webhooks });
        }
        let new = |event: &AskedEvent| NewEvent {
            topic: event.topic.clone(),
            message: Message::try_new(&event.message).unwrap(),
            created_at: Timestamp(1),
            idempotency_key: event.key.as_deref().map(|key| IdempotencyKey::try_new(key).unwrap()),
            trace: None,
            labels: None,
        };
        let all: Vec<_> = events.iter().map(new).collect();
        self.tell(|| format!("publish by {merchant}: {events:?}"));
        let asked = Asked { merchant, events, touches: self.world.outside.touches };
        let cost = publishing::cost(&all);
        let again = self.is_repeated_at_once(&asked).then(|| {
            let (events, all): (Vec<_>, Vec<_>) =
                asked.events.iter().cloned().zip(all.clone()).filter(|(event, _)| event.key.is_some()).unzip();
            (Asked { events, ..asked.clone() }, all)
        });
        self.world.push(merchant, cost, Publish::new(by(merchant), all), move |result| Told::Published(asked, result));
        if let Some((asked, all)) = again {
            let cost = publishing::cost(&all);
            let publish = Publish::new(by(merchant), all);
            self.world.push(merchant, cost, publish, move |result| Told::Published(asked, result));
        }
    }

    /// Some ask for what is long once more, before it is numbered everywhere.
    fn is_repeated_at_once(&mut self, asked: &Asked) -> bool {
        asked.events.len() > 6 && asked.events.iter().any(|event| event.key.is_some()) && self.world.rng.bool()
    }

    // Owners.

    fn touch(&mut self) {
        self.world.outside.touches += 1;
    }

    fn create(&mut self) {
        let rng = &mut self.world.rng;
        let merchant = MerchantId(rng.i64(1..=self.merchants));
        let is_pulled = rng.u8(..) < 50;
        let mut said = changes(rng, is_pulled);
        said.topics = Some(Patterns::try_new(PATTERNS[rng.usize(..PATTERNS.len())]).unwrap());
        said.is_active = Some(true);
        said.url = (!is_pulled).then(url);
        // One that is made would be another in each telling, and so would its fingerprint.
        said.secret_key = SecretKey::try_new("a secret of a story").ok();
        let defaults = WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default };
        let Ok(spec) = WebhookSpec::try_new(said, defaults) else { return };
        self.tell(|| {
            format!("create for {merchant}: {:?} {:?} {}", spec.delivery_mode, spec.batch, spec.topics.as_str())
        });
        self.touch();
        let create = Create { by: by(merchant), spec, quota: WEBHOOKS_MAX };
        self.world.push(merchant, Cost::SMALL, create, |_| Told::Touched);
    }

    fn owner(&mut self) {
        let Some((id, merchant)) = self.pick() else { return self.create() };
        let is_pulled = self.world.memory.tables.hooks.get(&id).is_some_and(|hook| hook.webhook.spec.url.is_none());
        let last = self.world.last_of(id);
        let rng = &mut self.world.rng;
        let which = rng.u8(..64);
        let number = IncrementId(rng.i64(1..=last.0.max(1)));
        let target = Target { by: by(merchant), webhook_id: id, number };
        let whole_batch = rng.bool();
        self.tell(|| format!("owner of {id}: {which} of {number}"));
        match which {
            0..2 => self.create(),
            2..8 => {
                // Now and then its receiver pulls from now on, or does no longer.
                let is_switched = self.world.rng.u8(..) < 60;
                let mut said = changes(&mut self.world.rng, is_pulled != is_switched);
                if is_switched {
                    said.url = is_pulled.then(url);
                    said.batch = if is_pulled { said.batch } else { Some(None) };
                }
                said.is_active = (self.world.rng.bool()).then(|| self.world.rng.u8(..) < 170);
                self.alter(id, merchant, Alteration::Update(Box::new(said)));
            }
            8..12 => {
                let is_paused = self.world.rng.bool();
                self.alter(id, merchant, Alteration::Pause(is_paused));
            }
            12..15 => self.alter(id, merchant, Alteration::Enable),
            15..17 => {
                let on = self.world.rng.u8(..) < 170;
                let which = Arc::new(WebhookSelector::All);
                self.touch();
                let set = SetActive { by: by(merchant), which, on, after: WebhookId(0) };
                self.world.push(merchant, Cost::SMALL, set, |_| Told::Touched);
            }
            17..18 => {
                self.touch();
                self.world.outside.deleted.insert(id);
                self.world.push(merchant, Cost::SMALL, Delete { by: by(merchant), webhook_id: id }, |_| Told::Touched);
            }
            18..30 => {
                let span = self.world.span_of(id, number);
                self.world.outside.urgent.extend(span.numbers().map(|number| (id, number)));
                self.world.push(merchant, Cost::SMALL, Retry(target), |_| Told::Other);
            }
            30..39 => {
                self.world.outside.called_off.insert((id, number));
                self.world.push(merchant, Cost::SMALL, Cancel { target, whole_batch }, |_| Told::Other);
            }
            39..42 => {
                self.world.outside.called_off.insert((id, number));
                self.world.push(merchant, Cost::SMALL, Forget { target, goes_on: false }, |_| Told::Other);
            }
            42..46 => {
                let message = Message::try_new(&format!("{}{}}}", super::PLAIN, self.next())).unwrap();
                self.world
                    .push(merchant, Cost::SMALL, Test { by: by(merchant), webhook_id: id, message }, |_| Told::Other);
            }
            46..60 => self.bulk(id, merchant, number),
            60..62 => {
                let backfill = Backfill { by: by(merchant), webhook_id: id, filter: EventFilter::default() };
                self.world.push(merchant, Cost::SMALL, backfill, |_| Told::Other);
            }
            62..64 => {
                let job_id = JobId(self.world.rng.i64(1..10));
                self.world.push(merchant, Cost::SMALL, CancelJob { by: by(merchant), job_id }, |_| Told::Other);
            }
            _ => {}
        }
    }

    fn bulk(&mut self, id: WebhookId, merchant: MerchantId, first: IncrementId) {
        let rng = &mut self.world.rng;
        let states = [
            None,
            None,
            Some(DeliveryState::Abandoned),
            Some(DeliveryState::Cancelled),
            Some(DeliveryState::Delivered),
        ];
        let filter = DeliveryFilter { state: states[rng.usize(..states.len())], ..DeliveryFilter::default() };
        if rng.bool() {
            let span = Span { first, last: IncrementId(first.0 + rng.i64(0..20)) };
            let replay = Replay { by: by(merchant), webhook_id: id, span, filter };
            self.world.push(merchant, Cost::SMALL, replay, |_| Told::Other);
        } else {
            let retry = RetryMany { by: by(merchant), webhook_id: Some(id), filter };
            self.world.push(merchant, Cost::SMALL, retry, |_| Told::Other);
        }
    }

    fn alter(&mut self, id: WebhookId, merchant: MerchantId, what: Alteration) {
        self.touch();
        self.world.push(merchant, Cost::SMALL, Alter { by: by(merchant), webhook_id: id, what }, |_| Told::Touched);
    }

    fn pull(&mut self) {
        let pulled = self
            .world
            .memory
            .tables
            .hooks
            .iter()
            .filter(|(_, hook)| hook.deleted_at.is_none() && hook.webhook.spec.delivery_mode == DeliveryMode::Pull);
        let all: Vec<_> =
            pulled.map(|(id, hook)| (*id, hook.webhook.merchant_id, hook.counters.acknowledged_through)).collect();
        let Some((id, merchant, acknowledged)) = self.world.rng.choice(all) else { return };
        let puller = self.world.pullers.entry(id).or_insert(Puller::NEW);
        let through = puller.after;
        if puller.is_waiting {
            return;
        }
        if through > acknowledged {
            puller.is_waiting = true;
            let change = Acknowledge { by: by(merchant), webhook_id: id, through };
            self.world.push(merchant, Cost::SMALL, change, move |result| Told::Acknowledged(id, result));
        } else {
            self.world.read_for_puller(id);
        }
    }

    // The end.

    /// From now on all goes well, until nothing is left to do.
    fn come_to_rest(&mut self) {
        const ROUNDS_MAX: usize = 3_000;
        self.tell(|| "from now on all goes well".to_owned());
        for _ in 0..ROUNDS_MAX {
            self.switch_on();
            let mut is_busy = self.world.write(None, false);
            is_busy |= self.world.turn();
            while self.world.end_look(false) || self.world.go_on_with_request(true) {
                is_busy = true;
            }
            is_busy |= self.world.record();
            while self.world.hear_recorded() {
                is_busy = true;
            }
            self.pull();
            if is_busy {
                continue;
            }
            if self.world.is_at_rest() {
                return self.world.check_rest();
            }
            if self.world.waits_for_room() {
                self.world.give_room();
            }
            self.have_acknowledged();
            let (now, soon) = (self.world.now, Timestamp(self.world.now.0 + 61_000));
            self.world.now = self.world.alarm().filter(|alarm| *alarm > now).unwrap_or(soon);
            self.sweep();
        }
        panic!("this never ends: {}", self.world.left());
    }

    /// Receivers that pull get something new where something old is to be sent
    /// again: they say that they have it with the next number.
    fn have_acknowledged(&mut self) {
        let tables = &self.world.memory.tables;
        let is_open = |id: WebhookId, through: IncrementId| {
            let mut all = tables.deliveries.range((id, IncrementId::ZERO)..=(id, through));
            all.any(|(_, row)| row.standing.is_to_be_sent())
        };
        let pulled = tables.hooks.iter().filter(|(id, hook)| {
            let is_pulled = hook.deleted_at.is_none() && hook.webhook.spec.delivery_mode == DeliveryMode::Pull;
            is_pulled && is_open(**id, hook.counters.acknowledged_through)
        });
        let all: Vec<_> = pulled.map(|(id, hook)| (*id, hook.webhook.merchant_id)).collect();
        for (webhook_id, merchant) in all {
            let message = Message::try_new(&format!("{}{}}}", super::PLAIN, self.next())).unwrap();
            self.world.push(merchant, Cost::SMALL, Test { by: by(merchant), webhook_id, message }, |_| Told::Other);
        }
    }

    /// All webhooks are on, for those of which something is left.
    fn switch_on(&mut self) {
        let off = self.world.memory.tables.hooks.iter().filter(|(_, hook)| {
            let is_pushed = hook.webhook.spec.url.is_some();
            hook.deleted_at.is_none() && is_pushed && !hook.webhook.is_delivering()
        });
        let all: Vec<_> = off.map(|(id, hook)| (*id, hook.webhook.merchant_id)).collect();
        for (id, merchant) in all {
            let said = WebhookChanges { is_active: Some(true), ..WebhookChanges::default() };
            self.alter(id, merchant, Alteration::Update(Box::new(said)));
            self.alter(id, merchant, Alteration::Pause(false));
        }
    }
}

fn topic(text: &str) -> Topic {
    Topic::try_new(text).unwrap()
}

fn url() -> TargetUrl {
    TargetUrl::try_new("https://example.com/").unwrap()
}

/// Something else than before, or not.
fn changes(rng: &mut Rng, is_pulled: bool) -> WebhookChanges {
    let modes = [DeliveryMode::Parallel, DeliveryMode::Parallel, DeliveryMode::Ordered];
    let mode = if is_pulled { DeliveryMode::Pull } else { modes[rng.usize(..3)] };
    let batching = |rng: &mut Rng| Batching::try_new(rng.u32(1..5), Some(2_000), Some(rng.u32(0..2_000))).unwrap();
    let retry = |rng: &mut Rng| match rng.u8(..4) {
        0 => RetryPolicy::Default,
        1 => RetryPolicy::custom(Waits::List(Vec::new())).unwrap(),
        _ => RetryPolicy::custom(Waits::List((0..rng.u32(1..6)).map(|_| rng.u32(1..600)).collect())).unwrap(),
    };
    WebhookChanges {
        delivery_mode: Some(mode),
        batch: (!is_pulled && rng.bool()).then(|| rng.bool().then(|| batching(rng))),
        max_concurrency: rng.bool().then(|| rng.bool().then(|| Concurrency::try_new(rng.u32(1..5)).unwrap())),
        rate_limit: (rng.u8(..) < 60).then(|| rng.bool().then(|| RateLimit::try_new(rng.u32(1..20), None).unwrap())),
        retry: rng.bool().then(|| retry(rng)),
        topics: rng.bool().then(|| Patterns::try_new(PATTERNS[rng.usize(..PATTERNS.len())]).unwrap()),
        ..WebhookChanges::default()
    }
}
