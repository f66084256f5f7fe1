//! What every store must do, written against the boundary alone: an engine that
//! says how its stores are made and opened is put through all of it.

pub mod attempt_log;
pub mod bounds;
pub mod delivering;
pub mod fanout;
pub mod jobs;
pub mod lists;
pub mod publishing;
pub mod tenants;

use std::sync::Arc;
use std::time::Duration;

use tallyhook::domain::by::By;
use tallyhook::domain::delivery::{Attempt, AttemptError, DeliveryFilter, DeliveryState, ErrorClass, Outcome, Verdict};
use tallyhook::domain::event::{EventFilter, IdempotencyKey, Message, NewEvent, Receipt};
use tallyhook::domain::expansion::Expansions;
use tallyhook::domain::fingerprint::FingerprintKey;
use tallyhook::domain::headers::ExtraHeaders;
use tallyhook::domain::id::{EventId, IncrementId, MerchantId, Span, UserId, WebhookId};
use tallyhook::domain::job::JobState;
use tallyhook::domain::labels::Labels;
use tallyhook::domain::page::{Order, Slice};
use tallyhook::domain::policy::OwnTimeouts;
use tallyhook::domain::retry::RetryPolicy;
use tallyhook::domain::secret::{KeyHash, SecretKey};
use tallyhook::domain::target::TargetUrl;
use tallyhook::domain::time::{Clock, Timestamp};
use tallyhook::domain::topic::{Pattern, Patterns, Topic};
use tallyhook::domain::webhook::{DeliveryMode, DisabledReason, Format, WebhookSpec};
use tallyhook::store::check::{Checker, News};
use tallyhook::store::mailbox::Mailbox;
use tallyhook::store::{
    Config, DeliveryAlteration, DueKey, Loaded, NewSession, OpenError, Page, PageLimit, Parcel, Retention, Store,
    StoreError, Terms, Upkeep, UserBy, Want, WebhookSelector,
};
use tallyhook::work::Account;
use tokio::sync::watch;

pub const START: Timestamp = Timestamp(1_700_000_000_000);
const LIMIT: PageLimit = PageLimit { count: 100, bytes: 1_000_000 };
pub const QUOTA: u32 = 10;

/// What the suite asks of an engine beside the boundary.
pub trait Engine: Store + Upkeep + Sized + 'static {
    /// Where a store lies, until this is dropped.
    type Place: Place;

    /// False, and says so, if this machine does not have the engine.
    fn is_there() -> bool {
        true
    }

    /// An empty store, with a merchant of each name, who has one user of that
    /// name. They are the users 1 and 2, and may do everything.
    fn make(names: [&str; 2]) -> (Self::Place, [MerchantId; 2]);

    /// Opens it as a server does.
    fn open(place: &Self::Place, settings: &Settings, clock: Clock, mailbox: Arc<Mailbox>) -> Self;

    /// Where a store tells whom it is to be sent for.
    fn mailbox() -> Arc<Mailbox> {
        Arc::default()
    }

    /// How much is noted as yet to be numbered, or to be told of.
    fn unfinished(place: &Self::Place) -> i64;

    /// Gives the space of what was pruned back, if the engine does not.
    fn give_back(place: &Self::Place);
}

/// What tests decide about a store. Where there is a most of bytes, 0 is none.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub publish_deliveries_max: usize,
    pub bytes_max: u64,
    pub webhook_log_bytes_max: u64,
    pub merchant_log_bytes_max: u64,
}

impl Settings {
    /// What bounds a change by them.
    pub fn terms(&self) -> Terms {
        const MONTH: Duration = Duration::from_secs(30 * 86_400);
        Terms {
            key_ttl: Duration::from_secs(3_600),
            deliveries_max: self.publish_deliveries_max,
            definition_bytes_max: 16 * 1_024 * 1_024,
            disable_after: Duration::from_secs(432_000),
            retention: Retention {
                attempts: MONTH,
                bodies: MONTH,
                audit: MONTH,
                bytes_max: self.bytes_max,
                webhook_log_bytes_max: self.webhook_log_bytes_max,
                merchant_log_bytes_max: self.merchant_log_bytes_max,
            },
            fingerprint_key: FingerprintKey::OPEN,
            is_shared: false,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { publish_deliveries_max: 50, bytes_max: 0, webhook_log_bytes_max: 0, merchant_log_bytes_max: 0 }
    }
}

/// Makes a test of each of these for an engine. One that is missing here is
/// dead code, at which the compiler warns.
macro_rules! suite {
    ($engine:ty) => {
        $crate::suite::tests! { $engine;
            publishing:
                each_webhook_counts_its_own
                many_events_are_numbered_in_their_order
                a_publish_makes_no_more_deliveries_than_it_may
                an_idempotency_key_makes_two_publishes_one
                two_events_with_one_key_in_one_publish_are_one
                off_is_not_numbered_and_disabled_is
                news_come_after_the_commit_and_in_order
                events_can_be_read_in_the_order_of_their_ids
                watchers_are_told_of_every_commit;
            delivering:
                an_outcome_counts_once
                retries_are_found_when_they_are_due
                a_batch_is_sealed_once_and_read_as_one
                a_page_is_bounded_by_weight_and_never_empty_for_it
                settled_through_follows_the_lowest_open_number
                deleting_cancels_and_frees_a_place;
            fanout:
                all_are_numbered_and_handed_over_once
                others_have_their_turn_in_between
                a_notice_goes_to_all_that_want_it;
            jobs:
                a_merchant_may_have_so_many_jobs
                backfills_wait_for_room_and_tests_are_refused
                a_job_that_was_called_off_does_no_more
                backfills_go_on_when_there_is_room;
            bounds:
                a_log_loses_the_oldest_bodies_and_no_status
                the_logs_of_a_merchant_are_bounded_together
                many_webhooks_are_switched_in_several_changes
                webhooks_with_long_lists_are_switched_in_smaller_changes
                many_attempts_are_forgotten_in_several_changes
                notices_beyond_a_step_are_not_lost;
            lists:
                long_lists_have_no_seams
                times_bound_lists_from_their_first_millisecond_to_before_their_last
                statistics_tell_of_attempts_and_of_the_oldest
                a_catalogue_is_its_merchants_own
                rules_follow_the_catalogue
                lists_are_the_merchants_own;
            attempt_log:
                a_long_log_and_a_long_backlog_have_no_seams;
            tenants:
                tenants_see_their_own
                what_is_beyond_reach_is_changed_by_nothing
                sessions_live_end_and_are_swept
                one_session_more_than_may_be_ends_the_oldest;
        }
    };
}
pub(crate) use suite;

macro_rules! tests {
    ($engine:ty; $($module:ident: $($test:ident)*;)*) => {$($(
        #[tokio::test]
        async fn $test() {
            if <$engine as $crate::suite::Engine>::is_there() {
                $crate::suite::$module::$test::<$engine>().await;
            }
        }
    )*)*};
}
pub(crate) use tests;

/// A store with two merchants, on a clock that only the test moves.
pub struct Bench<E: Engine> {
    pub store: Arc<E>,
    pub mailbox: Arc<Mailbox>,
    pub hand: watch::Sender<Timestamp>,
    pub acme: MerchantId,
    pub other: MerchantId,
    pub place: Proved<E::Place>,
}

/// Where a store lies.
pub trait Place {
    /// The store there.
    fn config(&self) -> Config;
}

/// Where a store lies that is looked through at the end of its test: whatever was
/// done to it, it is as a store has to be.
pub struct Proved<P: Place>(P);

impl<P: Place> std::ops::Deref for Proved<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P: Place> Drop for Proved<P> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let config = self.config();
        // A connection can't be driven by a thread that drives others.
        let checked = std::thread::spawn(move || {
            let mut checker = match Checker::open(&config) {
                Ok(checker) => checker,
                // Some tests have the file taken away, or replaced by what is no store.
                Err(OpenError::File(_)) => return (Vec::new(), None),
                Err(cause) => panic!("{cause}"),
            };
            let mut faults = Vec::new();
            let checked = checker.run(|news| match news {
                News::Fault(fault) => faults.push(fault.to_string()),
                News::Progress(..) => {}
            });
            (faults, checked.err())
        });
        let (faults, failed) = checked.join().unwrap();
        assert!(faults.is_empty() && failed.is_none(), "{faults:#?} {failed:?}");
    }
}

impl<E: Engine> Bench<E> {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (place, [acme, other]) = E::make(["acme", "other"]);
        Self::open(Proved(place), START, [acme, other], change)
    }

    /// Closes the store and opens it again, as the next process does.
    pub fn reopen(self) -> Self {
        self.reopen_with(|_| {})
    }

    pub fn reopen_with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let Self { store, hand, acme, other, place, .. } = self;
        drop(store);
        let now = *hand.borrow();
        Self::open(place, now, [acme, other], change)
    }

    fn open(
        place: Proved<E::Place>,
        now: Timestamp,
        [acme, other]: [MerchantId; 2],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let (clock, hand) = Clock::manual(now);
        let mailbox = E::mailbox();
        let store = Arc::new(E::open(&place, &settings, clock, Arc::clone(&mailbox)));
        Self { store, mailbox, hand, acme, other, place }
    }

    pub async fn webhook(&self, topics: &str) -> WebhookId {
        self.store.create_webhook(by(self.acme), spec(topics), QUOTA).await.unwrap().webhook_id
    }

    pub async fn publish(&self, topic: &str) -> Receipt {
        self.store.publish(by(self.acme), vec![event(topic, "{}", None)]).await.unwrap().remove(0)
    }

    pub async fn record(&self, id: WebhookId, number: i64, attempt: u32, verdict: Verdict) {
        self.store.record([outcome(id, number, attempt, verdict)].into()).await.unwrap();
    }

    pub async fn states(&self, id: WebhookId) -> Vec<DeliveryState> {
        let list = self.store.deliveries(self.acme, id, DeliveryFilter::default(), all()).await.unwrap();
        list.iter().map(|delivery| delivery.state).collect()
    }

    pub async fn fresh(&self, id: WebhookId, after: i64) -> Vec<i64> {
        let page = self.load(id, Want::Fresh(IncrementId(after)), START, LIMIT).await.page;
        page.parcels.iter().map(|parcel| parcel.increment_id.0).collect()
    }

    pub async fn load(&self, id: WebhookId, want: Want, now: Timestamp, limit: PageLimit) -> Loaded {
        self.store.load(self.acme, id, want, now, limit).await.unwrap()
    }

    /// Waits until the store says that all numbers up to this one have ended, and
    /// no more. It may say so a moment later than it knows.
    pub async fn settles_at(&self, id: WebhookId, number: i64) {
        let mut commits = self.store.commits();
        loop {
            let settled = self.store.webhook(self.acme, id).await.unwrap().settled_through.0;
            assert!(settled <= number, "{settled} is beyond {number}");
            if settled == number {
                return;
            }
            commits.changed().await.unwrap();
        }
    }

    /// Has the writer do a step of what it does beside the changes.
    pub async fn step(&self) {
        self.store.set_active(by(self.other), WebhookSelector::All, true).await.unwrap();
    }

    /// So many events of a merchant that go nowhere yet.
    pub async fn publish_many(&self, merchant: MerchantId, count: usize, message: &str) {
        self.store.publish(by(merchant), vec![event("order:created", message, None); count]).await.unwrap();
    }

    /// How many events the merchant acme has whose topic fits.
    async fn count_events(&self, topics: &str) -> u64 {
        let topics = Some(Patterns::try_new(topics).unwrap());
        let filter = EventFilter { topics, ..EventFilter::default() };
        self.store.count_events(self.acme, filter).await.unwrap()
    }

    /// How many jobs of the merchant acme are not done.
    async fn running_jobs(&self) -> usize {
        let slice = Slice { after: None, order: Order::Ascending, limit: 1_000 };
        let jobs = self.store.jobs(self.acme, slice).await.unwrap();
        jobs.iter().filter(|job| job.state == JobState::Running).count()
    }

    /// How long the bodies of a webhook's log are, by number.
    pub async fn bodies(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        numbers: std::ops::RangeInclusive<i64>,
    ) -> Vec<usize> {
        let mut found = Vec::new();
        for number in numbers {
            for attempt in self.store.attempts(merchant, id, IncrementId(number), 0, 100).await.unwrap() {
                assert_eq!(attempt.response_body.is_empty(), attempt.response_headers.is_empty());
                found.push(attempt.response_body.len());
            }
        }
        found
    }
}

/// The user of a merchant.
pub fn by(merchant: MerchantId) -> By {
    By { merchant, user: UserId(merchant.0), token: None, within: None, sender: None }
}

/// What was accepted from then on.
pub fn since(at: Timestamp) -> EventFilter {
    EventFilter { since: Some(at), ..EventFilter::default() }
}

pub fn all() -> Slice<IncrementId> {
    Slice { after: None, order: Order::Ascending, limit: 100 }
}

pub fn spec(topics: &str) -> WebhookSpec {
    WebhookSpec {
        name: String::new(),
        description: String::new(),
        is_active: true,
        topics: Patterns::try_new(topics).unwrap(),
        url: Some(TargetUrl::try_new("https://example.com/").unwrap()),
        extra_headers: ExtraHeaders::try_new("X-Shop: 7").unwrap(),
        secret_key: SecretKey::try_new("2RUJ8NXLnLRrAj3").unwrap(),
        signing_key: None,
        client_identity: None,
        labels: Labels::default(),
        oauth2: None,
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

pub fn event(topic: &str, message: &str, key: Option<&str>) -> NewEvent {
    NewEvent {
        topic: Topic::try_new(topic).unwrap(),
        message: Message::try_new(message).unwrap(),
        created_at: START,
        idempotency_key: key.map(|key| IdempotencyKey::try_new(key).unwrap()),
        trace: None,
        labels: None,
    }
}

pub fn outcome(id: WebhookId, number: i64, attempt: u32, verdict: Verdict) -> Outcome {
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
        merchant_id: MerchantId(1),
        webhook_id: id,
        numbers: Span::one(IncrementId(number)),
        attempt,
        verdict,
        ended_at: START,
        pause: None,
        resends_asked: 0,
    }
}

pub fn numbers(receipt: &Receipt) -> Vec<(i64, i64)> {
    receipt.deliveries.iter().map(|(id, number)| (id.0, number.0)).collect()
}

/// An attempt whose log holds so many bytes that can't be compressed.
pub fn large(id: WebhookId, number: i64, attempt: u32, bytes: usize, verdict: Verdict) -> Outcome {
    let mut outcome = outcome(id, number, attempt, verdict);
    let mut state = u64::try_from(number).unwrap() + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    outcome.attempt.response_body = std::iter::repeat_with(next).take(bytes).collect();
    outcome
}
