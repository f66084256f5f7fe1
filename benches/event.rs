//! What an event costs on its way, step by step: finding its webhooks, being
//! committed, becoming a body, being signed. `cargo bench` measures;
//! `tallyhook bench` measures the whole way.

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use futures_util::future::join_all;
use tallyhook::config::{Config, Sources};
use tallyhook::domain::by::By;
use tallyhook::domain::event::{Event, Message, NewEvent};
use tallyhook::domain::id::{EventId, IncrementId, MerchantId, UserId, WebhookId};
use tallyhook::domain::retry::RetryPolicy;
use tallyhook::domain::secret::{KeyHash, SecretKey};
use tallyhook::domain::signature;
use tallyhook::domain::signing::SigningKey;
use tallyhook::domain::subscription::SubscriptionIndex;
use tallyhook::domain::target::TargetUrl;
use tallyhook::domain::time::{Clock, Timestamp};
use tallyhook::domain::topic::{Patterns, Topic};
use tallyhook::domain::user::{Permissions, Profile};
use tallyhook::domain::webhook::{Format, WebhookChanges, WebhookDefaults, WebhookSpec};
use tallyhook::metrics::Metrics;
use tallyhook::render;
use tallyhook::store::admin::{Admin, NewUser};
use tallyhook::store::{self, Content, Parcel, Store};

const SUBSCRIPTIONS: i64 = 100_000;
const MERCHANT: MerchantId = MerchantId(1);
const BY: By = By { merchant: MERCHANT, user: UserId(1), token: None, within: None, sender: None };
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn main() {
    divan::main();
}

fn topic(text: &str) -> Topic {
    Topic::try_new(text).expect("it is a topic")
}

fn patterns(text: &str) -> Patterns {
    Patterns::try_new(text).expect("it is a list of topics")
}

/// A message of about so many bytes.
fn message(bytes: usize) -> Message {
    Message::try_new(&format!(r#"{{"order_id": 7, "filling": "{}"}}"#, "x".repeat(bytes))).expect("it is an object")
}

/// Of 100,000 subscriptions, so many are to the topic that is asked for.
#[divan::bench(args = [0, 1, 20, 1_000])]
fn match_topic(bencher: Bencher<'_, '_>, matching: i64) {
    let mut index = SubscriptionIndex::default();
    for id in 0..SUBSCRIPTIONS {
        let text = if id < matching { "order:created".to_owned() } else { format!("resource_{}:created", id % 10_000) };
        index.insert(MERCHANT, WebhookId(id), &patterns(&text));
    }
    let topic = topic("order:created");
    bencher.bench(|| index.matching(MERCHANT, black_box(&topic)));
}

#[divan::bench(args = [100, 1_000, 100_000])]
fn sign(bencher: Bencher<'_, '_>, bytes: usize) {
    let secret = SecretKey::generate();
    let body = vec![b'x'; bytes];
    bencher
        .counter(BytesCount::new(bytes))
        .bench(|| signature::standard_webhooks(&secret, "msg_1_2_3", NOW.unix_seconds(), black_box(&body)));
}

#[divan::bench(args = [100, 1_000, 100_000])]
fn sign_by_key(bencher: Bencher<'_, '_>, bytes: usize) {
    let key = SigningKey::generate();
    let body = vec![b'x'; bytes];
    bencher
        .counter(BytesCount::new(bytes))
        .bench(|| signature::standard_webhooks_ed25519(&key, "msg_1_2_3", NOW.unix_seconds(), black_box(&body)));
}

/// A delivery of an event, and of so many more in the same batch.
fn parcel(format: Format, others: Option<i64>) -> Parcel {
    let event = |id| {
        Arc::new(Event {
            event_id: EventId(id),
            merchant_id: MERCHANT,
            merchant_code: "acme".into(),
            topic: topic("order:created"),
            message: message(1_000),
            created_at: NOW,
            trace: None,
        })
    };
    Parcel {
        increment_id: IncrementId(1),
        attempts: 0,
        policy_start: 0,
        resends_asked: 0,
        numbered_at: NOW,
        due_at: None,
        format,
        event: event(1),
        expansion: None,
        batch: others.map(|others| {
            let content = |n| Content { event: event(2 + n), expansion: None };
            (0..others).map(content).collect()
        }),
    }
}

#[divan::bench(args = ["envelope", "shipstream", "3dcart in XML", "batch of 100"])]
fn body(bencher: Bencher<'_, '_>, kind: &str) {
    let parcel = match kind {
        "envelope" => parcel(Format::Envelope, None),
        "shipstream" => parcel(Format::Shipstream, None),
        "3dcart in XML" => parcel(Format::ThreeDCartXml, None),
        _ => parcel(Format::Envelope, Some(99)),
    };
    let bytes = BytesCount::new(render::body(WebhookId(1), &parcel, usize::MAX).unwrap().len());
    bencher.counter(bytes).bench(|| render::body(WebhookId(1), black_box(&parcel), usize::MAX));
}

/// A store with so many webhooks of one merchant, all subscribed to the same.
struct Stored {
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Stored {
    fn new(webhooks: u32, durability: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let path = format!("sqlite:{}", folder.path().join("store.db").display());
        let flags = vec![("store", path), ("durability", durability.to_owned())];
        let config = Config::load(&Sources { flags, ..Sources::default() }).expect("the configuration is right").store;
        let mut admin = Admin::open(&config).expect("the store opens");
        let (permissions, key, profile) = (Permissions::all(), KeyHash::of("key"), Profile::default());
        let user = NewUser { name: "acme", merchant: "acme", permissions, key, is_demo: false, profile };
        admin.create_user(&user, NOW).expect("the user is new");
        let store = store::open(config, Clock::system(), &Metrics::default()).expect("the store opens").store;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the runtime starts");
        let said = WebhookChanges {
            topics: Some(patterns("order:*")),
            url: Some(TargetUrl::try_new("https://example.com/").expect("it is a URL")),
            ..WebhookChanges::default()
        };
        let defaults = WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default };
        let spec = WebhookSpec::try_new(said, defaults).expect("nothing is missing");
        let made = (0..webhooks).map(|_| store.create_webhook(BY, spec.clone(), webhooks));
        for made in runtime.block_on(join_all(made)) {
            made.expect("the webhook is made");
        }
        Self { store, runtime, _folder: folder }
    }
}

fn new_event() -> NewEvent {
    NewEvent {
        topic: topic("order:created"),
        message: message(1_000),
        created_at: NOW,
        idempotency_key: None,
        trace: None,
        labels: None,
    }
}

/// So many events of 1 kB, published at once, each to one webhook; ends when
/// all are on disk.
#[divan::bench(args = [1, 16, 256], sample_count = 50, sample_size = 1)]
fn publish(bencher: Bencher<'_, '_>, events: usize) {
    let Stored { store, runtime, _folder } = Stored::new(1, "full");
    bencher.counter(ItemsCount::new(events)).with_inputs(|| vec![new_event(); events]).bench_local_values(|events| {
        let published = join_all(events.into_iter().map(|event| store.publish(BY, vec![event])));
        for receipts in runtime.block_on(published) {
            receipts.expect("it is accepted");
        }
    });
}

/// One call of so many events, each to 500 webhooks, which others wait for; the
/// disk is not waited for.
#[divan::bench(args = [1, 2], sample_count = 200, sample_size = 1)]
fn publish_wide(bencher: Bencher<'_, '_>, events: usize) {
    let Stored { store, runtime, _folder } = Stored::new(500, "normal");
    bencher
        .counter(ItemsCount::new(events * 500))
        .with_inputs(|| vec![new_event(); events])
        .bench_local_values(|events| runtime.block_on(store.publish(BY, events)).expect("it is accepted"));
}
