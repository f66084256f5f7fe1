//! Following what all nodes commit, for those at this one who wait for it:
//! subscriptions, pulls, tests.
//!
//! The database is asked only as long as somebody waits: for the journal of the
//! merchants who are watched, and for the last numbers of the webhooks that are
//! waited for; both whenever a hint says so, and at every poll. A hint that is lost
//! therefore costs a poll at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, warn};

use super::journal::{MARK_RENEWAL, READ_WITHIN, ROWS_PER_READ, Read, Reader};
use super::settings::Settings;
use crate::domain::id::MerchantId;
use crate::store::error::StoreError;
use crate::store::feed::Feed;
use crate::store::following::{Asked, Following, Wish};
use crate::store::mailbox::Mailbox;

type Result<T> = std::result::Result<T, StoreError>;

/// The journal is read so often at the most.
const READ_INTERVAL: Duration = Duration::from_millis(5);
/// How often what is old is deleted from it.
const CLEAR_INTERVAL: Duration = Duration::from_secs(60);

/// The thread of one who follows.
pub struct Follower {
    following: Following,
    thread: JoinHandle<()>,
}

impl Follower {
    /// Starts it. The feed and those who wait are told of what is new, which is looked
    /// for so often.
    pub fn start(database: Settings, poll: Duration, feed: Arc<Feed>, mailbox: Arc<Mailbox>) -> Result<Self> {
        let (following, asked) = Following::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StoreError::failed)?;
        let now = Instant::now();
        let follows = Follows {
            database,
            poll,
            feed,
            mailbox,
            reader: None,
            followed: BTreeMap::new(),
            poll_at: now + poll,
            read_at: now,
            clear_at: now,
        };
        let thread = std::thread::Builder::new().name("news-follower".to_owned());
        let thread = thread.spawn(move || runtime.block_on(follows.run(asked))).map_err(StoreError::failed)?;
        Ok(Self { following, thread })
    }

    /// For those who ask it.
    pub fn following(&self) -> Following {
        self.following.clone()
    }

    /// Ends it. Blocks.
    pub fn end(self) {
        self.following.end();
        if self.thread.join().is_err() {
            error!("the follower of news panicked");
        }
    }
}

/// How far a merchant's journal was read.
struct Followed {
    after: i64,
    /// When it was asked for last.
    read_at: Instant,
    /// When he was marked last.
    marked_at: Instant,
    /// Somebody watches him. If not, he is left out, but remembered as long as the
    /// mark need not be renewed.
    is_wanted: bool,
}

struct Follows {
    database: Settings,
    poll: Duration,
    feed: Arc<Feed>,
    mailbox: Arc<Mailbox>,
    /// `None` while nothing is asked, or the database can't be reached.
    reader: Option<Reader>,
    followed: BTreeMap<MerchantId, Followed>,
    poll_at: Instant,
    /// When the journal was read last.
    read_at: Instant,
    /// When what is old is to be deleted.
    clear_at: Instant,
}

impl Follows {
    async fn run(mut self, Asked { mut wishes, news }: Asked) {
        loop {
            tokio::select! {
                biased;
                wish = wishes.recv() => match wish {
                    Some(Wish::Hear(merchant, reply)) => self.heed(merchant, reply).await,
                    Some(Wish::End) | None => return,
                },
                () = tokio::time::sleep_until(self.poll_at.into()) => {
                    self.poll_at = Instant::now() + self.poll;
                    let looked = self.look_around().await;
                    self.note(looked);
                }
                () = news.notified(), if self.followed.values().any(|followed| followed.is_wanted) => {
                    tokio::time::sleep_until((self.read_at + READ_INTERVAL).into()).await;
                    let read = self.read().await;
                    self.note(read);
                }
            }
        }
    }

    async fn heed(&mut self, merchant: MerchantId, reply: oneshot::Sender<Result<()>>) {
        let had_reader = self.reader.is_some();
        let mut heard = self.hear(merchant).await;
        if heard.is_err() {
            self.reader = None;
        }
        if had_reader && matches!(heard, Err(StoreError::Failed(_) | StoreError::Unavailable { .. })) {
            // The connection may have ended long ago.
            heard = self.hear(merchant).await;
        }
        // Whoever asked may have gone.
        let _ = reply.send(heard);
    }

    /// Begins to follow a merchant, or goes on with it from here.
    async fn hear(&mut self, merchant: MerchantId) -> Result<()> {
        if let Some(followed) = self.followed.get_mut(&merchant) {
            followed.is_wanted = true;
            return self.read().await;
        }
        let marked_at = Instant::now();
        let after = self.reader().await?.mark(merchant).await?;
        let followed = Followed { after, read_at: marked_at, marked_at, is_wanted: true };
        self.followed.insert(merchant, followed);
        Ok(())
    }

    async fn reader(&mut self) -> Result<&Reader> {
        if self.reader.is_none() {
            self.reader = Some(Reader::open(&self.database).await?);
        }
        self.reader.as_ref().ok_or_else(|| StoreError::failed("the connection has ended"))
    }

    fn note(&mut self, looked: Result<()>) {
        if let Err(cause) = looked
            && self.reader.take().is_some()
        {
            warn!(%cause, "what other nodes commit can't be followed; trying on");
        }
    }

    async fn look_around(&mut self) -> Result<()> {
        let wanted: BTreeSet<_> = self.feed.wanted().into_iter().collect();
        self.followed.retain(|merchant, followed| {
            followed.is_wanted = wanted.contains(merchant);
            followed.is_wanted || followed.marked_at.elapsed() < MARK_RENEWAL
        });
        self.read().await?;
        self.renew().await?;
        let webhooks = self.mailbox.waits().waited_for();
        if !webhooks.is_empty() {
            for (id, last) in self.reader().await?.last_numbers(&webhooks).await? {
                self.mailbox.waits().note_number(id, last);
            }
        }
        self.clear().await
    }

    /// Tells of what is new in the journals.
    async fn read(&mut self) -> Result<()> {
        self.read_at = Instant::now();
        let mut left: Vec<_> =
            self.followed.iter().filter(|(_, followed)| followed.is_wanted).map(|(id, _)| *id).collect();
        while !left.is_empty() {
            let after: Vec<_> = left.iter().filter_map(|id| Some((*id, self.followed.get(id)?.after))).collect();
            let asked_at = Instant::now();
            let found = self.reader().await?.read(&after).await?;
            for merchant in left {
                let Some(followed) = self.followed.get_mut(&merchant) else { continue };
                if asked_at.duration_since(followed.read_at) > READ_WITHIN {
                    warn!(merchant_id = %merchant, "what was committed could not be followed for too long");
                    self.feed.tell_gap(merchant);
                }
                followed.read_at = asked_at;
            }
            let mut counts: BTreeMap<MerchantId, usize> = BTreeMap::new();
            for read in found {
                *counts.entry(read.merchant).or_default() += 1;
                self.tell(read);
                // Whoever wants something else has his turn.
                tokio::task::yield_now().await;
            }
            left = counts.into_iter().filter(|(_, count)| *count == ROWS_PER_READ).map(|(id, _)| id).collect();
        }
        Ok(())
    }

    fn tell(&mut self, Read { merchant, place, committed }: Read) {
        if let Some(followed) = self.followed.get_mut(&merchant) {
            followed.after = place;
        }
        self.feed.tell(&committed);
        for (_, id, span) in committed.deliveries {
            self.mailbox.waits().note_changed(id, span);
        }
    }

    /// Renews the marks that are old. Who is held at the moment is waited for alone.
    async fn renew(&mut self) -> Result<()> {
        let is_old = |followed: &Followed| followed.is_wanted && followed.marked_at.elapsed() >= MARK_RENEWAL;
        let old: Vec<_> = self.followed.iter().filter(|(_, followed)| is_old(followed)).map(|(id, _)| *id).collect();
        if old.is_empty() {
            return Ok(());
        }
        let asked_at = Instant::now();
        let mut marked = self.reader().await?.renew(&old).await?;
        for merchant in old {
            if !marked.iter().any(|(id, _)| *id == merchant) {
                match self.reader().await?.renew(&[merchant]).await {
                    Ok(one) => marked.extend(one),
                    // The next poll tries again.
                    Err(StoreError::Held { .. }) => {}
                    Err(cause) => return Err(cause),
                }
            }
        }
        for (merchant, had_ended) in marked {
            if let Some(followed) = self.followed.get_mut(&merchant) {
                followed.marked_at = asked_at;
            }
            if had_ended {
                warn!(merchant_id = %merchant, "what was committed was not noted for some time");
                self.feed.tell_gap(merchant);
            }
        }
        Ok(())
    }

    /// Deletes what is old, as long as anything is followed or left.
    async fn clear(&mut self) -> Result<()> {
        let Some(reader) = self.reader.as_ref().filter(|_| Instant::now() >= self.clear_at) else { return Ok(()) };
        self.clear_at = Instant::now() + CLEAR_INTERVAL;
        let is_empty = reader.clear().await?;
        if is_empty && self.followed.is_empty() && self.mailbox.waits().waited_for().is_empty() {
            self.reader = None;
        }
        Ok(())
    }
}
