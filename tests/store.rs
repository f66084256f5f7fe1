//! What every store must do. Written against the boundary alone, so that a
//! second engine passes the same tests.

#[path = "store/bounds.rs"]
mod bounds;
#[path = "store/lists.rs"]
mod lists;
#[path = "store/loss.rs"]
mod loss;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/requests.rs"]
mod requests;

#[path = "store/fanout.rs"]
mod fanout;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tallyhook::domain::delivery::{
    Attempt, AttemptError, DeliveryFilter, DeliveryState, EndReason, ErrorClass, Outcome, Verdict,
};
use tallyhook::domain::event::{EventFilter, IdempotencyKey, Message, NewEvent, Receipt};
use tallyhook::domain::expansion::Expansions;
use tallyhook::domain::headers::ExtraHeaders;
use tallyhook::domain::id::{EventId, IncrementId, MerchantId, Span, UserId, WebhookId};
use tallyhook::domain::job::JobState;
use tallyhook::domain::page::{Order, Slice};
use tallyhook::domain::policy::OwnTimeouts;
use tallyhook::domain::retry::RetryPolicy;
use tallyhook::domain::secret::{KeyHash, SecretKey};
use tallyhook::domain::target::TargetUrl;
use tallyhook::domain::time::{Clock, Timestamp};
use tallyhook::domain::topic::{Pattern, Patterns, Topic};
use tallyhook::domain::user::{Permissions, Profile};
use tallyhook::domain::webhook::{DeliveryMode, DisabledReason, Format, WebhookSpec};
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::sqlite::admin::{Admin, AdminError, NewUser};
use tallyhook::store::sqlite::open::OpenError;
use tallyhook::store::sqlite::{Config, Durability, Retention, SqliteStore, Trouble};
use tallyhook::store::{DueKey, NewSession, Page, PageLimit, Parcel, Store, StoreError, WebhookSelector};
use tallyhook::work::Account;
use tempfile::TempDir;
use tokio::sync::watch;

const START: Timestamp = Timestamp(1_700_000_000_000);
const LIMIT: PageLimit = PageLimit { count: 100, bytes: 1_000_000 };
const MONTH: Duration = Duration::from_secs(30 * 86_400);
const QUOTA: u32 = 10;

struct Bench {
    store: Arc<dyn Store>,
    sqlite: Arc<SqliteStore>,
    mailbox: Arc<Mailbox>,
    hand: watch::Sender<Timestamp>,
    acme: MerchantId,
    other: MerchantId,
    dir: TempDir,
}

fn config(folder: &Path) -> Config {
    Config {
        path: folder.join("store.db"),
        durability: Durability::Full,
        busy_timeout: Duration::from_secs(5),
        readers_max: 2,
        write_queue_max: 100,
        idempotency_ttl: Duration::from_secs(3_600),
        merchant_webhook_bytes_max: 16 * 1_024 * 1_024,
        publish_deliveries_max: 50,
        disable_after: Duration::from_secs(432_000),
        is_paused: false,
        retention: Retention {
            attempts: MONTH,
            bodies: MONTH,
            bytes_max: 0,
            webhook_log_bytes_max: 0,
            merchant_log_bytes_max: 0,
        },
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With another configuration.
    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut admin = Admin::open(&config(dir.path())).unwrap();
        let mut merchant = |name: &str| {
            let (permissions, key, profile) = (Permissions::all(), KeyHash::of(name), Profile::default());
            let user = NewUser { name, merchant: name, permissions, key, is_demo: false, profile };
            admin.create_user(&user, START).unwrap().merchant_id
        };
        let (acme, other) = (merchant("acme"), merchant("other"));
        let (clock, hand) = Clock::manual(START);
        let mailbox = Arc::new(Mailbox::default());
        let mut config = config(dir.path());
        change(&mut config);
        let sqlite = Arc::new(SqliteStore::open(config, clock, Arc::clone(&mailbox)).unwrap());
        Self { store: sqlite.clone(), sqlite, mailbox, hand, acme, other, dir }
    }

    /// The store's file, beside the store.
    fn file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join("store.db")).unwrap()
    }

    /// Closes the store and opens it again, as the next process does.
    fn reopen(self) -> Self {
        self.reopen_with(|_| {})
    }

    fn reopen_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { store, sqlite, hand, acme, other, dir, .. } = self;
        drop((store, sqlite));
        let mailbox = Arc::new(Mailbox::default());
        let now = *hand.borrow();
        let (clock, hand) = Clock::manual(now);
        let mut config = config(dir.path());
        change(&mut config);
        let sqlite = Arc::new(SqliteStore::open(config, clock, Arc::clone(&mailbox)).unwrap());
        Self { store: sqlite.clone(), sqlite, mailbox, hand, acme, other, dir }
    }

    async fn webhook(&self, topics: &str) -> WebhookId {
        self.store.create_webhook(self.acme, UserId(1), spec(topics), QUOTA).await.unwrap().webhook_id
    }

    async fn publish(&self, topic: &str) -> Receipt {
        self.store.publish(self.acme, vec![event(topic, "{}", None)]).await.unwrap().remove(0)
    }

    async fn record(&self, id: WebhookId, number: i64, attempt: u32, verdict: Verdict) {
        self.store.record([outcome(id, number, attempt, verdict)].into()).await.unwrap();
    }

    async fn states(&self, id: WebhookId) -> Vec<DeliveryState> {
        let list = self.store.deliveries(self.acme, id, DeliveryFilter::default(), all()).await.unwrap();
        list.iter().map(|delivery| delivery.state).collect()
    }

    async fn fresh(&self, id: WebhookId, after: i64) -> Vec<i64> {
        let page = self.store.fresh(self.acme, id, IncrementId(after), LIMIT).await.unwrap();
        page.parcels.iter().map(|parcel| parcel.increment_id.0).collect()
    }

    async fn settled_through(&self, id: WebhookId) -> i64 {
        self.store.webhook(self.acme, id).await.unwrap().settled_through.0
    }
}

/// The names of what lies in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder with a copy of one file of a store.
fn copy(bench: &Bench, name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(bench.dir.path().join(name), folder.path().join(name)).unwrap();
    folder
}

fn all() -> Slice<IncrementId> {
    Slice { after: None, order: Order::Ascending, limit: 100 }
}

fn spec(topics: &str) -> WebhookSpec {
    WebhookSpec {
        name: String::new(),
        description: String::new(),
        is_active: true,
        topics: Patterns::try_new(topics).unwrap(),
        url: Some(TargetUrl::try_new("https://example.com/").unwrap()),
        extra_headers: ExtraHeaders::try_new("X-Shop: 7").unwrap(),
        secret_key: SecretKey::try_new("2RUJ8NXLnLRrAj3").unwrap(),
        format: Format::Envelope,
        retry: RetryPolicy::Default,
        delivery_mode: DeliveryMode::Parallel,
        max_concurrency: None,
        rate_limit: None,
        timeouts: OwnTimeouts::default(),
        basic_auth: None,
        batch: None,
        expansions: Expansions::default(),
    }
}

fn event(topic: &str, message: &str, key: Option<&str>) -> NewEvent {
    NewEvent {
        topic: Topic::try_new(topic).unwrap(),
        message: Message::try_new(message).unwrap(),
        created_at: START,
        idempotency_key: key.map(|key| IdempotencyKey::try_new(key).unwrap()),
    }
}

fn outcome(id: WebhookId, number: i64, attempt: u32, verdict: Verdict) -> Outcome {
    let failed = verdict != Verdict::Delivered;
    let attempt = Attempt {
        attempt,
        started_at: START,
        queue_delay: Duration::from_millis(7),
        address: Some(([127, 0, 0, 1], 9000).into()),
        duration: Duration::from_micros(1_234),
        status_code: Some(if failed { 500 } else { 200 }),
        error: failed.then(|| AttemptError { class: ErrorClass::Status, detail: "answered 500".to_owned() }),
        request_headers: "a: b".to_owned(),
        response_headers: "c: d\ne: f".to_owned(),
        response_body: b"\xffbody".to_vec(),
    };
    Outcome {
        webhook_id: id,
        numbers: Span::one(IncrementId(number)),
        attempt,
        verdict,
        ended_at: START,
        pause: None,
        resends_asked: 0,
    }
}

fn numbers(receipt: &Receipt) -> Vec<(i64, i64)> {
    receipt.deliveries.iter().map(|(id, number)| (id.0, number.0)).collect()
}

#[tokio::test]
async fn each_webhook_counts_its_own() {
    let bench = Bench::new();
    let (a, b) = (bench.webhook("order:*").await, bench.webhook("*").await);
    assert_eq!(numbers(&bench.publish("order:created").await), [(a.0, 1), (b.0, 1)]);
    assert_eq!(numbers(&bench.publish("product:created").await), [(b.0, 2)]);
    assert_eq!(numbers(&bench.publish("order:created").await), [(a.0, 2), (b.0, 3)]);
    let foreign = bench.store.publish(bench.other, vec![event("order:created", "{}", None)]).await.unwrap();
    assert!(foreign[0].deliveries.is_empty(), "another merchant's events are not ours");

    let bench = bench.reopen();
    assert_eq!(numbers(&bench.publish("order:created").await), [(a.0, 3), (b.0, 4)], "numbers go on");
    assert_eq!(bench.fresh(a, 0).await, [1, 2, 3]);
    assert_eq!(bench.fresh(b, 2).await, [3, 4]);
}

#[tokio::test]
async fn many_events_are_numbered_in_their_order() {
    let bench = Bench::new();
    let id = bench.webhook("order:*").await;
    let events = ["order:a", "product:b", "order:c"].map(|topic| event(topic, "{}", None));
    let receipts = bench.store.publish(bench.acme, events.to_vec()).await.unwrap();
    let given: Vec<_> = receipts.iter().map(numbers).collect();
    assert_eq!(given, [vec![(id.0, 1)], vec![], vec![(id.0, 2)]]);
}

#[tokio::test]
async fn a_publish_makes_no_more_deliveries_than_it_may() {
    let bench = Bench::new();
    let (a, b) = (bench.webhook("*").await, bench.webhook("*").await);
    let events = |count| vec![event("order:created", "{}", None); count];
    let refused = bench.store.publish(bench.acme, events(26)).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyDeliveries { max: 50 }), "{refused}");
    let receipts = bench.store.publish(bench.acme, events(25)).await.unwrap();
    assert_eq!(numbers(&receipts[0]), [(a.0, 1), (b.0, 1)], "the refused one took no number");

    // What is answered again counts too, and takes nothing new.
    let repeated = |count| vec![event("order:created", "{}", Some("k")); count];
    let refused = bench.store.publish(bench.acme, repeated(26)).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyDeliveries { max: 50 }), "{refused}");
    let first = bench.store.publish(bench.acme, repeated(25)).await.unwrap();
    assert_eq!(bench.store.publish(bench.acme, repeated(25)).await.unwrap(), first);
    assert!(first.iter().all(|receipt| numbers(receipt) == [(a.0, 26), (b.0, 26)]), "it is one event");
    assert!(bench.store.publish(bench.acme, repeated(26)).await.is_err());
}

#[tokio::test]
async fn an_idempotency_key_makes_two_publishes_one() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let keyed = |message| vec![event("order:created", message, Some("k1"))];
    let first = bench.store.publish(bench.acme, keyed("{\"n\": 1}")).await.unwrap();
    assert_eq!(bench.store.publish(bench.acme, keyed("{\"n\": 1}")).await.unwrap(), first);
    assert_eq!(bench.fresh(id, 0).await, [1]);

    // One event of several conflicts: none is accepted.
    let mixed = vec![event("order:created", "{}", None), keyed("{\"n\": 2}").remove(0)];
    let refused = bench.store.publish(bench.acme, mixed).await.unwrap_err();
    assert!(matches!(refused, StoreError::IdempotencyConflict { index: 1, event_id } if event_id == first[0].event_id));
    assert_eq!(bench.fresh(id, 0).await, [1]);
    assert_eq!(numbers(&bench.publish("order:created").await), [(id.0, 2)], "the refused one took no number");

    let elsewhere = bench.store.publish(bench.other, keyed("{\"n\": 2}")).await.unwrap();
    assert_ne!(elsewhere[0].event_id, first[0].event_id, "keys count per merchant");
    bench.hand.send_modify(|now| *now = now.after(Duration::from_secs(3_600)));
    let later = bench.store.publish(bench.acme, keyed("{\"n\": 2}")).await.unwrap();
    assert_eq!(numbers(&later[0]), [(id.0, 3)], "keys expire");
}

#[tokio::test]
async fn two_events_with_one_key_in_one_publish_are_one() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let twice = vec![event("order:created", "{}", Some("k")), event("order:created", "{}", Some("k"))];
    let receipts = bench.store.publish(bench.acme, twice).await.unwrap();
    assert_eq!(receipts[0], receipts[1]);
    assert_eq!(bench.fresh(id, 0).await, [1]);
}

#[tokio::test]
async fn an_outcome_counts_once() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    let retry_at = START.after(Duration::from_secs(5));
    bench.record(id, 1, 1, Verdict::Retry(retry_at)).await;
    bench.record(id, 1, 1, Verdict::Delivered).await;
    assert_eq!(bench.states(id).await, [DeliveryState::Pending], "attempt 1 is on record already");
    assert!(bench.fresh(id, 0).await.is_empty(), "what was tried is no longer fresh");
    bench.record(id, 1, 2, Verdict::Delivered).await;
    bench.record(id, 1, 3, Verdict::Abandoned).await;
    assert_eq!(bench.states(id).await, [DeliveryState::Delivered], "what has ended stays ended");

    let attempts = bench.store.attempts(bench.acme, id, IncrementId(1), 0, 100).await.unwrap();
    let made = [(1, Verdict::Retry(retry_at)), (2, Verdict::Delivered), (3, Verdict::Abandoned)];
    let expected = made.map(|(attempt, verdict)| outcome(id, 1, attempt, verdict).attempt);
    assert_eq!(attempts, expected);
}

#[tokio::test]
async fn retries_are_found_when_they_are_due() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let at = |seconds| START.after(Duration::from_secs(seconds));
    for (number, seconds) in [(1, 30), (2, 10), (3, 20)] {
        bench.publish("order:created").await;
        bench.record(id, number, 1, Verdict::Retry(at(seconds))).await;
    }
    let due = async |after, now, count| {
        let page = bench.store.due(bench.acme, id, after, now, PageLimit { count, bytes: 1_000_000 }).await.unwrap();
        (page.parcels.iter().map(|parcel| parcel.increment_id.0).collect::<Vec<_>>(), page.is_last)
    };
    assert_eq!(due(DueKey::START, at(9), 9).await, (vec![], true));
    assert_eq!(due(DueKey::START, at(20), 9).await, (vec![2, 3], true));
    assert_eq!(due(DueKey::START, at(99), 2).await, (vec![2, 3], false));
    let after = DueKey { due_at: at(20), increment_id: IncrementId(3) };
    assert_eq!(due(after, at(99), 2).await, (vec![1], true));
    assert_eq!(bench.store.next_due(bench.acme, id, at(9)).await.unwrap(), Some(at(10)));
    assert_eq!(bench.store.next_due(bench.acme, id, at(30)).await.unwrap(), None);
}

#[tokio::test]
async fn a_batch_is_sealed_once_and_read_as_one() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..6 {
        bench.publish("order:created").await;
    }
    let span = |first, last| Span { first: IncrementId(first), last: IncrementId(last) };
    let seal = |first, last| bench.store.seal(id, span(first, last));
    assert!(seal(2, 4).await.unwrap());
    assert!(!seal(4, 5).await.unwrap(), "4 is in a batch");
    assert!(!seal(6, 7).await.unwrap(), "7 was not given out");
    bench.record(id, 1, 1, Verdict::Delivered).await;
    assert!(!seal(1, 1).await.unwrap(), "1 was tried");
    assert_eq!(bench.fresh(id, 0).await, [5, 6]);
    let due = bench.store.due(bench.acme, id, DueKey::START, START, LIMIT).await.unwrap();
    let numbers = |page: &Page| page.parcels.iter().map(Parcel::numbers).collect::<Vec<_>>();
    assert_eq!(numbers(&due), [span(2, 4)]);
    let pending =
        bench.store.pending(bench.acme, id, IncrementId::ZERO, PageLimit { count: 2, bytes: 1_000_000 }).await.unwrap();
    assert_eq!(numbers(&pending), [span(2, 4), span(5, 5)]);
    assert!(!pending.is_last && pending.parcels[1].batch.is_none());
}

#[tokio::test]
async fn a_page_is_bounded_by_weight_and_never_empty_for_it() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let big = format!("{{\"x\": \"{}\"}}", "y".repeat(10_000));
    for _ in 0..3 {
        bench.store.publish(bench.acme, vec![event("order:created", &big, None)]).await.unwrap();
    }
    let page = bench.store.fresh(bench.acme, id, IncrementId::ZERO, PageLimit { count: 9, bytes: 1 }).await.unwrap();
    assert_eq!((page.parcels.len(), page.is_last), (1, false));
    let page =
        bench.store.fresh(bench.acme, id, IncrementId::ZERO, PageLimit { count: 9, bytes: 21_000 }).await.unwrap();
    assert_eq!((page.parcels.len(), page.is_last), (2, false));
    assert_eq!(page.parcels[0].event.message.as_str(), big);
}

#[tokio::test]
async fn settled_through_follows_the_lowest_open_number() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..4 {
        bench.publish("order:created").await;
    }
    bench.record(id, 2, 1, Verdict::Delivered).await;
    bench.record(id, 3, 1, Verdict::Abandoned).await;
    assert_eq!(bench.settled_through(id).await, 0);
    bench.record(id, 1, 1, Verdict::Retry(START)).await;
    assert_eq!(bench.settled_through(id).await, 0);
    bench.record(id, 1, 2, Verdict::Delivered).await;
    assert_eq!(bench.settled_through(id).await, 3);
    let bench = bench.reopen();
    bench.record(id, 4, 1, Verdict::Delivered).await;
    assert_eq!(bench.settled_through(id).await, 4);
}

#[tokio::test]
async fn off_is_not_numbered_and_disabled_is() {
    let bench = Bench::new();
    let id = bench.webhook("order:*").await;
    let listing = WebhookSelector::Listing(Pattern::try_new("order:*").unwrap());
    assert_eq!(bench.store.set_active(bench.acme, listing.clone(), false).await.unwrap(), 1);
    assert_eq!(bench.store.set_active(bench.other, WebhookSelector::All, true).await.unwrap(), 0);
    assert!(bench.publish("order:created").await.deliveries.is_empty());
    assert_eq!(bench.store.set_active(bench.acme, WebhookSelector::Id(id), true).await.unwrap(), 1);
    bench.publish("order:created").await;

    bench.record(id, 1, 1, Verdict::Gone).await;
    let gone = bench.store.webhook(bench.acme, id).await.unwrap();
    assert_eq!((gone.disabled, gone.spec.is_active), (Some(DisabledReason::Gone), true));
    assert_eq!(numbers(&bench.publish("order:created").await), [(id.0, 2)]);
    let exact = WebhookSelector::Listing(Pattern::try_new("order:created").unwrap());
    assert_eq!(bench.store.set_active(bench.acme, exact, true).await.unwrap(), 0, "matching is not listing");
    assert_eq!(bench.store.set_active(bench.acme, listing, true).await.unwrap(), 1);
    assert_eq!(bench.store.webhook(bench.acme, id).await.unwrap().disabled, None);
}

#[tokio::test]
async fn deleting_cancels_and_frees_a_place() {
    let bench = Bench::new();
    let id = bench.store.create_webhook(bench.acme, UserId(1), spec("*"), 1).await.unwrap().webhook_id;
    let refused = bench.store.create_webhook(bench.acme, UserId(1), spec("*"), 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::WebhookQuota { max: 1 }));
    for _ in 0..3 {
        bench.publish("order:created").await;
    }
    assert!(matches!(bench.store.delete_webhook(bench.other, id).await, Err(StoreError::NoWebhook)));
    bench.store.delete_webhook(bench.acme, id).await.unwrap();
    assert!(matches!(bench.store.delete_webhook(bench.acme, id).await, Err(StoreError::NoWebhook)));
    assert!(matches!(bench.store.webhook(bench.acme, id).await, Err(StoreError::NoWebhook)));
    assert!(bench.publish("order:created").await.deliveries.is_empty());
    assert!(bench.fresh(id, 0).await.is_empty(), "nothing of it is pending");
    // One was on its way and arrived: that is recorded.
    bench.record(id, 2, 1, Verdict::Delivered).await;
    bench.record(id, 3, 1, Verdict::Retry(START)).await;
    let next = bench.store.create_webhook(bench.acme, UserId(1), spec("*"), 1).await.unwrap().webhook_id;
    assert!(next > id);

    let dir = bench.dir.path().to_owned();
    let rows = rusqlite::Connection::open(dir.join("store.db")).unwrap();
    let mut statement = rows.prepare("SELECT state, reason FROM delivery WHERE webhook_id = ?1").unwrap();
    let found: Vec<(i64, Option<String>)> =
        statement.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let cancelled = (3, Some(EndReason::WebhookDeleted.name().to_owned()));
    assert_eq!(found, [cancelled.clone(), (1, None), cancelled]);
    let sql = "SELECT secret_key || topics || coalesce(url, '') FROM webhook WHERE webhook_id = ?1";
    let left: String = rows.query_row(sql, [id.0], |row| row.get(0)).unwrap();
    assert_eq!(left, "", "nothing is kept of what nobody asks for");
    let bench = bench.reopen();
    assert_eq!(bench.publish("order:created").await.deliveries.len(), 1, "to the one that is left");
}

#[tokio::test]
async fn news_come_after_the_commit_and_in_order() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    for _ in 0..3 {
        bench.publish("order:created").await;
    }
    bench.mailbox.arrived().await;
    let news = bench.mailbox.take();
    assert!(news.changed[&id].is_some());
    assert_eq!(news.committed_through[&id], IncrementId(3));
    let handed: Vec<_> = news.parcels.iter().map(|(_, parcel)| parcel.increment_id.0).collect();
    assert_eq!(handed, [1, 2, 3]);
    bench.store.delete_webhook(bench.acme, id).await.unwrap();
    assert!(bench.mailbox.take().changed[&id].is_none());
}

#[tokio::test]
async fn sessions_live_end_and_are_swept() {
    let bench = Bench::new();
    let user = bench.store.user_by_name("acme", Account::Server).await.unwrap().unwrap().user_id;
    let key = KeyHash::of("session");
    let at = |seconds| START.after(Duration::from_secs(seconds));
    let open = |key, expires_at| {
        bench.store.open_session(bench.acme, NewSession { user, key, expires_at, ends_at: None }, 100)
    };
    open(key, at(60)).await.unwrap();
    bench.store.renew_session(bench.acme, key, at(90));
    bench.store.renew_session(bench.acme, key, at(70));
    bench.store.end_session(KeyHash::of("nobody's"), Account::Server).await.unwrap();
    // The writer works through a merchant's line in order: when this is done, so is the renewal.
    open(KeyHash::of("another"), at(60)).await.unwrap();
    assert_eq!(
        bench.store.session(key, Account::Server).await.unwrap().unwrap().expires_at,
        at(90),
        "an end never comes nearer"
    );
    bench.store.end_session(key, Account::Server).await.unwrap();
    assert!(bench.store.session(key, Account::Server).await.unwrap().is_none());
    // One that was opened with a key that was replaced ends with it, however much it is used.
    let session = NewSession { user, key, expires_at: at(60), ends_at: Some(at(80)) };
    bench.store.open_session(bench.acme, session, 100).await.unwrap();
    bench.store.renew_session(bench.acme, key, at(90));
    open(KeyHash::of("a third"), at(60)).await.unwrap();
    let found = bench.store.session(key, Account::Server).await.unwrap().unwrap();
    assert_eq!((found.expires_at, found.ends_at), (at(80), Some(at(80))));
}

#[tokio::test]
async fn tenants_see_their_own() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    bench.publish("order:created").await;
    assert!(bench.store.webhook_ids(bench.other).await.unwrap().is_empty());
    assert!(matches!(bench.store.webhook(bench.other, id).await, Err(StoreError::NoWebhook)));
    assert!(matches!(
        bench.store.deliveries(bench.other, id, DeliveryFilter::default(), all()).await,
        Err(StoreError::NoWebhook)
    ));
    let attempts = bench.store.attempts(bench.other, id, IncrementId(1), 0, 100).await;
    assert!(matches!(attempts, Err(StoreError::NoWebhook)));
    let missing = bench.store.attempts(bench.acme, id, IncrementId(2), 0, 100).await;
    assert!(matches!(missing, Err(StoreError::NoDelivery)));
}

// What follows is about the file, and SQLite's alone.

/// Some failures, such as a full disk, undo the whole transaction and not only
/// the change that met them.
#[tokio::test]
async fn a_transaction_that_is_undone_leaves_no_hole() {
    let bench = Bench::new();
    let id = bench.webhook("*").await;
    let other = bench.file();
    let trigger = "CREATE TRIGGER undo BEFORE INSERT ON event WHEN NEW.topic = 'undo:all'
        BEGIN SELECT RAISE(ROLLBACK, 'undone'); END";
    other.execute_batch(trigger).unwrap();
    for round in 0..3 {
        // While the store is held, what comes gathers for one transaction.
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let topics = ["order:first", "order:a", "order:b", "undo:all", "order:c"];
        let publishes: Vec<_> = topics
            .iter()
            .map(|topic| {
                let (store, acme, topic) = (Arc::clone(&bench.store), bench.acme, (*topic).to_owned());
                tokio::spawn(async move { store.publish(acme, vec![event(&topic, "{}", None)]).await })
            })
            .collect();
        tokio::task::yield_now().await;
        other.execute_batch("COMMIT").unwrap();
        let mut accepted = Vec::new();
        let mut refused = 0;
        for publish in publishes {
            match publish.await.unwrap() {
                Ok(receipts) => accepted.extend(numbers(&receipts[0]).iter().map(|(_, number)| *number)),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= 1, "round {round}");
        let last = bench.store.webhook(bench.acme, id).await.unwrap().last_increment_id.0;
        assert_eq!(bench.fresh(id, 0).await, (1..=last).collect::<Vec<_>>(), "round {round}: no hole, none invented");
        assert!(accepted.iter().all(|number| *number <= last));
    }
    let next = numbers(&bench.publish("order:created").await)[0].1;
    assert_eq!(bench.fresh(id, 0).await, (1..=next).collect::<Vec<_>>());
}

/// Watchers are told of what was committed after they began, and read what the
/// merchant may see of it.
#[tokio::test]
async fn watchers_are_told_of_every_commit() {
    const BACKLOG: usize = 100;
    let bench = Bench::new();
    let id = bench.webhook("order:*").await;
    bench.publish("order:created").await;
    let deliveries = bench.store.watch_deliveries(bench.acme, None, BACKLOG);
    let strangers = bench.store.watch_deliveries(bench.other, None, BACKLOG);
    let events = bench.store.watch_events(bench.acme, Patterns::try_new("*").unwrap(), None, BACKLOG);
    let taken = || deliveries.take().changed.into_iter().collect::<Vec<_>>();
    let number = |number| (id, IncrementId(number));
    assert_eq!(taken(), []);

    bench.publish("order:created").await;
    let unnumbered = bench.publish("product:created").await.event_id;
    assert_eq!(taken(), [number(2)]);
    bench.record(id, 1, 1, Verdict::Retry(START)).await;
    bench.record(id, 2, 1, Verdict::Delivered).await;
    assert_eq!(taken(), [number(1), number(2)]);
    // Recorded twice is recorded once.
    bench.record(id, 2, 1, Verdict::Delivered).await;
    assert_eq!(taken(), []);
    bench.store.cancel(bench.acme, id, IncrementId(1), false).await.unwrap();
    assert_eq!(taken(), [number(1)]);
    assert!(strangers.take().changed.is_empty());
    let published: Vec<_> = events.take().published.into_iter().collect();
    assert_eq!(published.last(), Some(&unnumbered));

    let keys = vec![number(2), number(9), number(1)];
    let found = bench.store.statuses(bench.acme, keys.clone()).await.unwrap();
    let seen: Vec<_> = found.iter().map(|status| (status.delivery.increment_id.0, status.delivery.state)).collect();
    assert_eq!(seen, [(2, DeliveryState::Delivered), (1, DeliveryState::Cancelled)]);
    let attempt = found[1].last_attempt.as_ref().unwrap();
    assert_eq!(attempt.error.as_ref().unwrap().class, ErrorClass::Status);
    assert!(bench.store.statuses(bench.other, keys.clone()).await.unwrap().is_empty());

    let (found, looked_at) = bench.store.published(bench.acme, published.clone(), 1).await.unwrap();
    assert_eq!((found.len(), found[0].event.event_id, looked_at), (1, published[0], 1), "at least one");
    assert!(bench.store.published(bench.other, published.clone(), 1).await.unwrap().0.is_empty());
    let all = |merchant| bench.store.event_ids(merchant, Patterns::try_new("product:*").unwrap(), EventId(0));
    let found = all(bench.acme).await.unwrap();
    assert_eq!((found.ids, found.through, found.is_last), (vec![unnumbered], unnumbered, true));
    let found = all(bench.other).await.unwrap();
    assert_eq!((found.ids, found.through), (vec![], unnumbered));

    bench.store.delete_webhook(bench.acme, id).await.unwrap();
    assert!(bench.store.statuses(bench.acme, keys).await.unwrap().is_empty(), "it is no more");
}

#[tokio::test]
async fn profiles_are_those_of_the_merchants_users() {
    let bench = Bench::new();
    let mut admin = Admin::open(&config(bench.dir.path())).unwrap();
    let name = |name: &str| Profile { application_name: Some(name.to_owned()), ..Profile::default() };
    let maker = Profile { developer_name: Some("Ann".to_owned()), ..Profile::default() };
    assert_eq!(bench.store.profiles(bench.acme).await.unwrap(), []);
    admin.change_profile("acme", name("Shop")).unwrap();
    admin.change_profile("other", name("Other")).unwrap();
    let both = admin.change_profile("acme", maker.clone()).unwrap();
    assert_eq!(both, Profile { application_name: Some("Shop".to_owned()), ..maker.clone() });
    assert_eq!(bench.store.profiles(bench.acme).await.unwrap(), [(UserId(1), both)]);
    assert_eq!(bench.store.profiles(bench.other).await.unwrap(), [(UserId(2), name("Other"))]);

    let profile = name("Second");
    let (permissions, key) = (Permissions::all(), KeyHash::of("second"));
    let second =
        NewUser { name: "second", merchant: "acme", permissions, key, is_demo: false, profile: profile.clone() };
    admin.create_user(&second, START).unwrap();
    admin.change_profile("acme", name("")).unwrap();
    let found = bench.store.profiles(bench.acme).await.unwrap();
    assert_eq!(found, [(UserId(1), maker.clone()), (UserId(3), profile)]);
    assert!(matches!(admin.change_profile("nobody", maker), Err(AdminError::NoUser(_))));
    assert!(matches!(admin.change_profile("acme", name(&"x".repeat(201))), Err(AdminError::Profile(_))));
    assert_eq!(bench.store.profiles(bench.acme).await.unwrap(), found);
}
