//! The store in one SQLite file.
//!
//! One thread writes ([`writer`]), a pool of connections reads. In WAL mode
//! neither waits for the other.

pub mod admin;
mod config;
mod engine;
mod extent;
mod jobs;
#[cfg(test)]
mod life_tests;
mod live;
mod load;
mod mark;
pub mod open;
mod pages;
mod place;
mod prune;
mod readers;
mod reads;
mod requests;
mod resending;
mod rows;
mod search;
mod trouble;
mod users;
mod write;
mod writer;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::OptionalExtension;
use tokio::sync::{oneshot, watch};

pub use self::config::{Config, Durability};
use self::open::{OpenError, ServeLock};
use self::readers::Readers;
pub use self::trouble::Trouble;
use self::writer::{Serving, Writer};
use super::feed::Feed;
use super::ledger::accounts::{EndSession, OpenSession, RenewSession};
use super::ledger::outcomes::Record;
use super::ledger::publishing::{self, Publish};
use super::ledger::queue::{Cost, Queue, Refused};
use super::ledger::resending::{Seal, Test};
pub use super::ledger::terms::Retention;
use super::ledger::webhooks::{Acknowledge, Alter, Alteration, Create, Delete, HandOut, SetActive};
use super::ledger::{BUSY_RETRY_AFTER, Change, chores, topics};
use super::mailbox::Mailbox;
use super::{Contents, DueKey, NewSession, Page, PageLimit, Pulled, Session, Store, StoreError, WebhookSelector};
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicFilter, TopicRule, TopicSpec};
use crate::domain::delivery::{Attempt, Delivery, DeliveryFilter, Outcome, StateCounts};
use crate::domain::event::{EventFilter, EventStory, EventSummary, Message, NewEvent, Receipt};
use crate::domain::id::{EventId, IncrementId, MerchantId, Span, StoreId, TopicId, UserId, WebhookId};
use crate::domain::message_schema::SchemaText;
use crate::domain::page::{Order, Slice};
use crate::domain::secret::{KeyHash, SecretKey};
use crate::domain::stats::WebhookStats;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::topic::Topic;
use crate::domain::user::{Profile, User};
use crate::domain::webhook::{Webhook, WebhookChanges, WebhookSpec};
use crate::work::Account;
use crate::work::apart::Apart;

/// Connections on which the delivery worker reads what is pending.
const LANE_READERS: u32 = 2;
/// Changes that may wait for their answers to be compressed.
const COMPRESSING_MAX: usize = 64;

/// A store in one SQLite file, served by this process alone.
pub struct SqliteStore {
    store_id: StoreId,
    clock: Clock,
    queue: Arc<Queue<writer::Change>>,
    /// For whoever calls.
    readers: Readers,
    /// For the delivery worker alone, which therefore waits for no caller.
    lane_readers: Readers,
    /// For what is to be compressed.
    apart: Apart,
    mailbox: Arc<Mailbox>,
    feed: Arc<Feed>,
    is_paused: bool,
    commits: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<Trouble>>,
    serving: Mutex<Option<Serving>>,
}

impl SqliteStore {
    /// Opens the file, makes it if it is missing, and starts the writer, which
    /// announces in `mailbox` what it commits. Fails if the file is not ours,
    /// is newer than this program, or is being served by another process.
    pub fn open(config: Config, clock: Clock, mailbox: Arc<Mailbox>) -> Result<Self, OpenError> {
        open::check_magic(&config.path)?;
        open::make_private(&config.path)?;
        let lock = ServeLock::take(&config.path)?;
        let conn = open::open_current(&config)?;
        let readers = Readers::new(open::open_readers(&config, config.readers_max)?);
        let lane_readers = Readers::new(open::open_readers(&config, LANE_READERS)?);
        let queue = Arc::new(Queue::new(config.write_queue_max));
        let writer = Writer::new(config.clone(), clock.clone(), Arc::clone(&queue), Arc::clone(&mailbox), conn)?;
        let (store_id, trouble) = (writer.store_id().clone(), writer.trouble());
        let (commits, feed) = (writer.commits(), writer.feed());
        let serving = writer.start(lock).map_err(|cause| OpenError::Io { path: config.path.clone(), cause })?;
        Ok(Self {
            store_id,
            clock,
            queue,
            readers,
            lane_readers,
            apart: Apart::for_processors(COMPRESSING_MAX),
            mailbox,
            feed,
            commits,
            trouble,
            is_paused: config.is_paused,
            serving: Mutex::new(Some(serving)),
        })
    }

    /// Counts transactions that are on disk: what one changed can be read once
    /// it is counted.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// What keeps the store from taking changes at present, as far as the last
    /// commit has shown; there is one a minute at least.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.borrow().clone()
    }

    /// Has what has expired swept out, and says what there is to say, soon. To
    /// be called every minute or so.
    pub fn sweep(&self) {
        let change = writer::change(chores::Sweep, |_| {});
        // If the queue is full, the next one will do.
        let _ = self.queue.push(Account::Server, Cost::SMALL, change);
    }

    /// Commits what waits, refuses what comes, and closes the file, which is
    /// all there is of the store then. Blocks.
    pub fn close(&self) {
        self.queue.close();
        let serving = self.serving.lock().expect("nothing panics while it holds the handle").take();
        if let Some(serving) = serving {
            serving.end([&self.readers, &self.lane_readers]);
        }
    }

    /// What says when deliveries go out, besides their webhooks.
    fn outlook(&self) -> rows::Outlook {
        rows::Outlook { now: self.clock.now(), is_paused: self.is_paused }
    }

    /// Has a small change made, and waits until it is on disk.
    async fn change<C: Change>(&self, account: impl Into<Account>, change: C) -> Result<C::Answer, StoreError> {
        self.change_much(account, Cost::SMALL, change).await
    }

    /// The same with one that costs so much.
    async fn change_much<C: Change>(
        &self,
        account: impl Into<Account>,
        cost: Cost,
        change: C,
    ) -> Result<C::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone; the change stands all the same.
        let change = writer::change(change, move |result| drop(reply.send(result)));
        self.queue.push(account.into(), cost, change).map_err(refused)?;
        answered(answer).await
    }

    /// The same with one that goes before all others.
    async fn change_first<C: Change>(&self, cost: Cost, change: C) -> Result<C::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let change = writer::change(change, move |result| drop(reply.send(result)));
        self.queue.push_first(cost, change).map_err(refused)?;
        answered(answer).await
    }
}

fn refused(why: Refused) -> StoreError {
    match why {
        Refused::Full => StoreError::Busy { retry_after: BUSY_RETRY_AFTER },
        Refused::Closed => StoreError::ShuttingDown,
        Refused::Abandoned => writer_is_gone(),
    }
}

fn writer_is_gone() -> StoreError {
    StoreError::failed("the writer thread is gone")
}

async fn answered<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(writer_is_gone()))
}

#[async_trait]
impl Store for SqliteStore {
    fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    async fn user_by_name(&self, name: &str, asker: Account) -> Result<Option<User>, StoreError> {
        let name = name.to_owned();
        self.readers
            .peek(asker, move |conn| {
                let sql = format!("{} WHERE user.name = ?1", rows::USER);
                Ok(conn.prepare_cached(&sql)?.query_row([name], rows::user).optional()?)
            })
            .await
    }

    async fn user_by_key(&self, key: KeyHash, asker: Account) -> Result<Option<User>, StoreError> {
        self.readers
            .peek(asker, move |conn| {
                let sql = format!("{} WHERE user.key_hash = ?1 OR user.old_key_hash = ?1", rows::USER);
                Ok(conn.prepare_cached(&sql)?.query_row([key.0], rows::user).optional()?)
            })
            .await
    }

    async fn profiles(&self, merchant: MerchantId) -> Result<Vec<(UserId, Profile)>, StoreError> {
        self.readers.read(merchant, move |conn| reads::profiles(conn, merchant)).await
    }

    async fn session(&self, key: KeyHash, asker: Account) -> Result<Option<Session>, StoreError> {
        self.readers
            .peek(asker, move |conn| {
                let Some((id, expires_at, ends_at)) = reads::session(conn, key)? else { return Ok(None) };
                let sql = format!("{} WHERE user.user_id = ?1", rows::USER);
                let user = conn.prepare_cached(&sql)?.query_row([id.0], rows::user).optional()?;
                Ok(user.map(|user| Session { user, expires_at, ends_at }))
            })
            .await
    }

    async fn open_session(&self, merchant: MerchantId, session: NewSession, quota: u32) -> Result<(), StoreError> {
        self.change(merchant, OpenSession { session, quota }).await
    }

    fn renew_session(&self, merchant: MerchantId, key: KeyHash, expires_at: Timestamp) {
        let change = writer::change(RenewSession { key, expires_at }, |renewed| {
            if let Err(cause) = renewed
                && !cause.is_logged()
            {
                tracing::warn!(%cause, "a session could not be renewed");
            }
        });
        // A full queue has better things to do; the session's next use asks again.
        let _ = self.queue.push(merchant.into(), Cost::SMALL, change);
    }

    async fn end_session(&self, key: KeyHash, asker: Account) -> Result<(), StoreError> {
        let session = self.session(key, asker).await?;
        let account = session.map_or(asker, |session| session.user.merchant_id.into());
        self.change(account, EndSession(key)).await
    }

    async fn webhook_ids(&self, merchant: MerchantId) -> Result<Vec<WebhookId>, StoreError> {
        let all = Slice { after: None, order: Order::Ascending, limit: u32::MAX };
        self.readers.parts(merchant, all, move |conn, part| reads::webhook_ids(conn, merchant, part.after)).await
    }

    async fn webhook_page(&self, merchant: MerchantId, slice: Slice<WebhookId>) -> Result<Vec<Webhook>, StoreError> {
        self.readers.read(merchant, move |conn| reads::webhook_page(conn, merchant, slice)).await
    }

    async fn webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook, StoreError> {
        self.readers
            .read(merchant, move |conn| {
                let sql =
                    format!("{} WHERE webhook_id = ?1 AND merchant_id = ?2 AND deleted_at IS NULL", rows::WEBHOOK);
                let found = conn.prepare_cached(&sql)?.query_row([id.0, merchant.0], rows::webhook).optional()?;
                found.ok_or(StoreError::NoWebhook)
            })
            .await
    }

    async fn create_webhook(
        &self,
        merchant: MerchantId,
        user: UserId,
        spec: WebhookSpec,
        quota: u32,
    ) -> Result<Webhook, StoreError> {
        self.change(merchant, Create { merchant, user, spec, quota }).await
    }

    async fn set_active(&self, merchant: MerchantId, which: WebhookSelector, on: bool) -> Result<usize, StoreError> {
        let (which, mut count, mut after) = (Arc::new(which), 0, WebhookId(0));
        loop {
            let switch = SetActive { merchant, which: Arc::clone(&which), on, after };
            let (selected, next) = self.change(merchant, switch).await?;
            count += selected;
            match next {
                Some(next) => after = next,
                None => return Ok(count),
            }
        }
    }

    async fn update_webhook(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        changes: WebhookChanges,
    ) -> Result<Webhook, StoreError> {
        let what = Alteration::Update(Box::new(changes));
        self.change(merchant, Alter { merchant, webhook_id: id, what }).await
    }

    async fn delete_webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<(), StoreError> {
        self.change(merchant, Delete { merchant, webhook_id: id }).await
    }

    async fn publish(&self, merchant: MerchantId, events: Vec<NewEvent>) -> Result<Vec<Receipt>, StoreError> {
        let cost = publishing::cost(&events);
        self.change_much(merchant, cost, Publish::new(merchant, events)).await
    }

    async fn enable_webhook(&self, merchant: MerchantId, id: WebhookId) -> Result<Webhook, StoreError> {
        self.change(merchant, Alter { merchant, webhook_id: id, what: Alteration::Enable }).await
    }

    async fn set_paused(&self, merchant: MerchantId, id: WebhookId, is_paused: bool) -> Result<Webhook, StoreError> {
        self.change(merchant, Alter { merchant, webhook_id: id, what: Alteration::Pause(is_paused) }).await
    }

    async fn rotate_secret(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        secret: SecretKey,
        overlap_until: Timestamp,
    ) -> Result<Webhook, StoreError> {
        let what = Alteration::RotateSecret(secret, overlap_until);
        self.change(merchant, Alter { merchant, webhook_id: id, what }).await
    }

    async fn test(&self, merchant: MerchantId, id: WebhookId, message: Message) -> Result<IncrementId, StoreError> {
        let cost = Cost::of(2, message.as_str().len());
        self.change_much(merchant, cost, Test { merchant, webhook_id: id, message }).await
    }

    fn next_attempt(&self, id: WebhookId, number: IncrementId) -> BoxFuture<'static, ()> {
        self.mailbox.next_attempt(id, number).boxed()
    }

    async fn acknowledge(&self, merchant: MerchantId, id: WebhookId, through: IncrementId) -> Result<(), StoreError> {
        self.change(merchant, Acknowledge { merchant, webhook_id: id, through }).await
    }

    async fn hand_out(&self, merchant: MerchantId, id: WebhookId, through: IncrementId) -> Result<(), StoreError> {
        self.change(merchant, HandOut { merchant, webhook_id: id, through }).await
    }

    async fn is_repeated(&self, merchant: MerchantId, event: NewEvent) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.readers
            .read(merchant, move |conn| {
                let Some(key) = &event.idempotency_key else { return Ok(false) };
                let remembered = load::remembered(conn, now, merchant, key)?;
                Ok(remembered.is_some_and(|remembered| publishing::is_repeated(&event, &remembered)))
            })
            .await
    }

    async fn events(
        &self,
        merchant: MerchantId,
        filter: EventFilter,
        slice: Slice<EventId>,
    ) -> Result<Vec<EventSummary>, StoreError> {
        self.readers.parts(merchant, slice, move |conn, part| reads::events(conn, merchant, &filter, part)).await
    }

    async fn count_events(&self, merchant: MerchantId, filter: EventFilter) -> Result<u64, StoreError> {
        self.readers.sum(merchant, move |conn, after| reads::count_events(conn, merchant, &filter, after)).await
    }

    async fn deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
        slice: Slice<IncrementId>,
    ) -> Result<Vec<Delivery>, StoreError> {
        let outlook = self.outlook();
        self.readers
            .parts(merchant, slice, move |conn, part| reads::deliveries(conn, merchant, id, &filter, part, outlook))
            .await
    }

    async fn contents(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        numbers: Vec<IncrementId>,
        bytes_max: usize,
    ) -> Result<Vec<Contents>, StoreError> {
        self.readers.read(merchant, move |conn| reads::contents(conn, merchant, id, &numbers, bytes_max)).await
    }

    async fn count_deliveries(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        filter: DeliveryFilter,
    ) -> Result<StateCounts, StoreError> {
        self.readers.sum(merchant, move |conn, after| reads::count_deliveries(conn, merchant, id, &filter, after)).await
    }

    async fn stats(&self, merchant: MerchantId, id: WebhookId) -> Result<WebhookStats, StoreError> {
        let deliveries = self.count_deliveries(merchant, id, DeliveryFilter::default()).await?;
        let webhook = self.webhook(merchant, id).await?;
        self.readers
            .read(merchant, move |conn| {
                let oldest_pending = reads::oldest_pending(conn, &webhook)?;
                let recent = reads::recent_attempts(conn, &webhook)?;
                Ok(WebhookStats { webhook, deliveries, oldest_pending, recent })
            })
            .await
    }

    async fn topics(
        &self,
        merchant: MerchantId,
        filter: TopicFilter,
        slice: Slice<Topic>,
    ) -> Result<Vec<CatalogueEntry>, StoreError> {
        self.readers.read(merchant, move |conn| reads::topics(conn, merchant, &filter, &slice)).await
    }

    async fn count_topics(&self, merchant: MerchantId, filter: TopicFilter) -> Result<u64, StoreError> {
        self.readers.read(merchant, move |conn| reads::count_topics(conn, merchant, &filter)).await
    }

    async fn register_topic(
        &self,
        merchant: MerchantId,
        spec: TopicSpec,
        quota: u32,
    ) -> Result<CatalogueEntry, StoreError> {
        self.change(merchant, topics::Register { merchant, spec, quota }).await
    }

    async fn update_topic(
        &self,
        merchant: MerchantId,
        topic: Topic,
        changes: TopicChanges,
    ) -> Result<CatalogueEntry, StoreError> {
        self.change(merchant, topics::Update { merchant, topic, changes }).await
    }

    async fn remove_topic(&self, merchant: MerchantId, topic: Topic) -> Result<(), StoreError> {
        self.change(merchant, topics::Remove { merchant, topic }).await
    }

    async fn topic_rules(
        &self,
        merchant: MerchantId,
        topics: Vec<Topic>,
    ) -> Result<Vec<Option<TopicRule>>, StoreError> {
        self.readers.peek(merchant, move |conn| reads::topic_rules(conn, merchant, &topics)).await
    }

    async fn topic_schema(&self, merchant: MerchantId, id: TopicId) -> Result<Option<SchemaText>, StoreError> {
        self.readers.read(merchant, move |conn| reads::topic_schema(conn, id)).await
    }

    async fn attempts(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Attempt>, StoreError> {
        self.readers.read(merchant, move |conn| reads::attempts(conn, merchant, id, number, after, limit)).await
    }

    async fn attempt(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        number: IncrementId,
        attempt: u32,
    ) -> Result<Attempt, StoreError> {
        self.readers.read(merchant, move |conn| reads::attempt(conn, merchant, id, number, attempt)).await
    }

    async fn event(&self, merchant: MerchantId, id: EventId, deliveries_max: u32) -> Result<EventStory, StoreError> {
        let outlook = self.outlook();
        self.readers.read(merchant, move |conn| reads::event(conn, merchant, id, deliveries_max, outlook)).await
    }

    async fn pull(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Vec<Pulled>, StoreError> {
        self.readers.read(merchant, move |conn| pages::pull(conn, merchant, id, after, limit)).await
    }

    async fn numbered_beyond(&self, id: WebhookId, after: IncrementId) {
        self.mailbox.numbered_beyond(id, after).await;
    }

    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        self.lane_readers
            .read(Account::Server, |conn| {
                let sql = format!("{} WHERE deleted_at IS NULL ORDER BY webhook_id", rows::WEBHOOK);
                Ok(conn.prepare_cached(&sql)?.query_map([], rows::webhook)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn fresh(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.lane_readers.read(merchant, move |conn| pages::fresh(conn, id, after, limit)).await
    }

    async fn pending(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: IncrementId,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.lane_readers.read(merchant, move |conn| pages::pending(conn, id, after, limit)).await
    }

    async fn due(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        after: DueKey,
        now: Timestamp,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.lane_readers.read(merchant, move |conn| pages::due(conn, id, after, now, limit)).await
    }

    async fn next_due(
        &self,
        merchant: MerchantId,
        id: WebhookId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.lane_readers.read(merchant, move |conn| pages::next_due(conn, id, now)).await
    }

    async fn seal(&self, id: WebhookId, batch: Span) -> Result<bool, StoreError> {
        self.change_first(Cost::of(batch.numbers().count(), 0), Seal { webhook_id: id, batch }).await
    }

    async fn record(&self, recorded: Arc<[Outcome]>) -> Result<(), StoreError> {
        let compressed = deflated(&self.apart, &recorded).await;
        let record = Record::new(recorded, compressed);
        self.change_first(record.cost(), record).await
    }
}

/// The compressed bodies of attempts, where that is worth it. A large one
/// takes longer than a thread may be held up that others wait for.
async fn deflated(apart: &Apart, outcomes: &Arc<[Outcome]>) -> Vec<Option<Vec<u8>>> {
    const AT_ONCE_BYTES_MAX: usize = 16 * 1024;
    let deflate =
        |outcomes: &[Outcome]| outcomes.iter().map(|outcome| rows::deflate(&outcome.attempt.response_body)).collect();
    if outcomes.iter().map(|outcome| outcome.attempt.response_body.len()).sum::<usize>() <= AT_ONCE_BYTES_MAX {
        return deflate(outcomes);
    }
    let large = Arc::clone(outcomes);
    apart.run(Account::Server, move || deflate(&large)).await.unwrap_or_else(|_| vec![None; outcomes.len()])
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}
