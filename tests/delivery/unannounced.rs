//! A worker that is told nothing of what is committed: its store tells another.
//! It finds all of it by looking, as often as it is to.

use std::sync::Arc;
use std::time::Duration;

use tallyhook::config::{Config, Sources};
use tallyhook::delivery::connect::SystemResolver;
use tallyhook::delivery::worker::{Parts, Worker};
use tallyhook::domain::by::By;
use tallyhook::domain::event::{Message, NewEvent};
use tallyhook::domain::id::{IncrementId, MerchantId, UserId, WebhookId};
use tallyhook::domain::merchant::Quotas;
use tallyhook::domain::retry::RetryPolicy;
use tallyhook::domain::secret::KeyHash;
use tallyhook::domain::target::TargetUrl;
use tallyhook::domain::time::{Clock, Timestamp};
use tallyhook::domain::topic::{Patterns, Topic};
use tallyhook::domain::user::{Permissions, Profile};
use tallyhook::domain::webhook::{DeliveryMode, Format, WebhookChanges, WebhookDefaults, WebhookSpec};
use tallyhook::metrics::Metrics;
use tallyhook::spans::Tracer;
use tallyhook::store::admin::NewUser;
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::{self, Alteration, DeliveryAlteration, MerchantAlteration, Store, Upkeep};
use tokio::sync::watch;

use crate::common::Receiver;
use crate::common::manual::START;
use crate::common::store::Place;

struct Bench {
    store: Arc<dyn Store>,
    upkeep: Arc<dyn Upkeep>,
    worker: Worker,
    /// What the worker takes for what the store announces.
    mailbox: Arc<Mailbox>,
    hand: watch::Sender<Timestamp>,
    poll: Duration,
    merchant: MerchantId,
    metrics: Arc<Metrics>,
    place: Place,
}

impl Bench {
    async fn start() -> Self {
        let place = Place::new();
        let flags = vec![("dev", "true".to_owned()), ("store", place.store())];
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        // The default, which is therefore good enough for all of this.
        let poll = config.delivery.store_poll;
        let (permissions, key, profile) = (Permissions::all(), KeyHash::of("key"), Profile::default());
        let user = NewUser { name: "acme", merchant: "acme", permissions, key, is_demo: false, profile };
        let merchant = place.administer(|admin| admin.create_user(&user, START)).unwrap().merchant_id;
        let (clock, hand) = Clock::manual(START);
        let opened = store::open(config.store, clock.clone(), &Metrics::default()).unwrap();
        let (store, upkeep) = (opened.store, opened.upkeep);
        // It learns for whom this node sends, and nothing else.
        let mailbox = Arc::new(Mailbox::new(Arc::clone(opened.mailbox.tending())));
        let metrics = Arc::new(Metrics::default());
        let parts = Parts {
            store: Arc::clone(&store) as _,
            mailbox: Arc::clone(&mailbox),
            resolver: Arc::new(SystemResolver),
            clock,
            random: Arc::new(|| 0.5),
            metrics: Arc::clone(&metrics),
            tracer: Tracer::off(),
        };
        let worker = Worker::start(config.delivery, parts).await.unwrap();
        Self { store, upkeep, worker, mailbox, hand, poll, merchant, metrics, place }
    }

    fn by(&self) -> By {
        By { merchant: self.merchant, user: UserId(1), token: None, within: None, sender: None }
    }

    /// A webhook to what is published under this topic.
    async fn webhook(&self, topic: &str, changes: WebhookChanges) -> WebhookId {
        let said = WebhookChanges { topics: Some(Patterns::try_new(topic).unwrap()), ..changes };
        let defaults = WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default };
        let spec = WebhookSpec::try_new(said, defaults).unwrap();
        self.store.create_webhook(self.by(), spec, 10).await.unwrap().webhook_id
    }

    async fn publish(&self, topic: &str) {
        let event = NewEvent {
            topic: Topic::try_new(topic).unwrap(),
            message: Message::try_new("{}").unwrap(),
            created_at: START,
            idempotency_key: None,
            trace: None,
            labels: None,
        };
        self.store.publish(self.by(), vec![event]).await.unwrap();
    }

    /// Lets the time pass after which the worker looks.
    fn pass(&self) {
        self.hand.send_modify(|now| *now = now.after(self.poll));
    }

    /// Has the worker take on a new webhook for this receiver, and with it
    /// whatever has become of those that were there before: definitions are read
    /// in the order of their ids.
    async fn newcomer(&self, topic: &str, receiver: &Receiver) -> WebhookId {
        let arrived = receiver.so_far().len();
        let id = self.webhook(topic, url(receiver)).await;
        self.publish(topic).await;
        self.pass();
        receiver.arrivals(arrived + 1).await;
        id
    }

    /// How many lanes there are in this state.
    fn lanes(&self, state: &'static str) -> i64 {
        self.metrics.lanes.child(&[state]).get()
    }

    /// Ends when so many deliveries are on record.
    async fn recorded(&self, id: WebhookId, count: i64) {
        let mut commits = self.upkeep.commits();
        while self.store.webhook(self.merchant, id).await.unwrap().settled_through.0 < count {
            commits.changed().await.unwrap();
        }
    }

    /// Ends when so many attempts at a delivery are on record.
    async fn attempted(&self, id: WebhookId, number: i64, count: usize) {
        let mut commits = self.upkeep.commits();
        while self.store.attempts(self.merchant, id, IncrementId(number), 0, 10).await.unwrap().len() < count {
            commits.changed().await.unwrap();
        }
    }

    async fn stop(self) {
        let Self { upkeep, worker, place, .. } = self;
        let stopping = worker.stop(std::time::Instant::now() + Duration::from_secs(60));
        let stopping = tokio::task::spawn_blocking(move || {
            stopping.join();
            upkeep.close();
        });
        stopping.await.unwrap();
        drop(place);
    }
}

fn url(receiver: &Receiver) -> WebhookChanges {
    WebhookChanges { url: Some(TargetUrl::try_new(&receiver.url()).unwrap()), ..WebhookChanges::default() }
}

#[tokio::test]
async fn numbers_are_found_that_nobody_has_told_of() {
    let (bench, receiver) = (Bench::start().await, Receiver::obliging().await);
    let id = bench.newcomer("order:created", &receiver).await;
    for count in 2..5 {
        let pull = bench.mailbox.waits().numbered_beyond(id, IncrementId(count - 1));
        bench.publish("order:created").await;
        bench.pass();
        let arrived = receiver.arrivals(count as usize).await;
        assert_eq!(arrived.last().unwrap().number(), count);
        pull.await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn what_is_to_be_sent_again_is_found() {
    for mode in [DeliveryMode::Parallel, DeliveryMode::Ordered] {
        let (bench, receiver) = (Bench::start().await, Receiver::obliging().await);
        let changes = WebhookChanges { delivery_mode: Some(mode), ..url(&receiver) };
        let id = bench.webhook("order:created", changes).await;
        for _ in 0..3 {
            bench.publish("order:created").await;
        }
        bench.pass();
        receiver.arrivals(3).await;
        bench.recorded(id, 3).await;
        for (count, number) in [(4, 2), (5, 1), (6, 1)] {
            bench.store.alter_delivery(bench.by(), id, IncrementId(number), DeliveryAlteration::Retry).await.unwrap();
            bench.pass();
            assert_eq!(receiver.arrivals(count).await.last().unwrap().number(), number);
            bench.attempted(id, number, if count == 6 { 3 } else { 2 }).await;
        }
        bench.stop().await;
    }
}

#[tokio::test]
async fn merchants_that_were_paused_are_found() {
    let (mut bench, receiver, others) = (Bench::start().await, Receiver::obliging().await, Receiver::obliging().await);
    let id = bench.newcomer("order:created", &receiver).await;
    bench.recorded(id, 1).await;
    let own = bench.merchant;
    let other = bench.store.create_merchant(bench.by(), "other".to_owned(), Quotas::default(), None).await.unwrap();
    bench.store.alter_merchant(bench.by(), own, MerchantAlteration::Paused(true)).await.unwrap();
    bench.publish("order:created").await;
    bench.merchant = other;
    bench.newcomer("order:paid", &others).await;
    assert_eq!(receiver.so_far().len(), 1, "nothing is sent for who is paused");
    bench.merchant = own;
    bench.store.alter_merchant(bench.by(), own, MerchantAlteration::Paused(false)).await.unwrap();
    bench.pass();
    assert_eq!(receiver.arrivals(2).await[1].number(), 2, "it goes on");
    bench.stop().await;
}

#[tokio::test]
async fn webhooks_that_were_changed_are_read_again() {
    let (bench, receiver, other) = (Bench::start().await, Receiver::obliging().await, Receiver::obliging().await);
    let id = bench.newcomer("order:created", &receiver).await;

    bench.store.alter_webhook(bench.by(), id, Alteration::Update(url(&other).into())).await.unwrap();
    bench.newcomer("order:paid", &receiver).await;
    bench.publish("order:created").await;
    bench.pass();
    assert_eq!(other.arrivals(1).await[0].number(), 2, "it has another URL");

    assert_eq!(bench.lanes("stopped"), 0);
    bench.store.alter_webhook(bench.by(), id, Alteration::Pause(true)).await.unwrap();
    bench.newcomer("order:closed", &receiver).await;
    assert_eq!(bench.lanes("stopped"), 1, "it is paused");

    bench.store.delete_webhook(bench.by(), id).await.unwrap();
    bench.newcomer("order:reopened", &receiver).await;
    bench.newcomer("order:refunded", &receiver).await;
    assert_eq!(bench.lanes("stopped"), 0, "it is deleted");
    bench.stop().await;
}
