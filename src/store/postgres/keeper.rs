//! Keeping the leases of a node, and telling the others.
//!
//! A node is there as long as it says so, every quarter of the time that its word
//! counts for. Its leases last as long as it is there, so that renewing them is one
//! row, however many there are. A node that has not said so in time is taken out by
//! whoever notices, which gives its leases away; until then it may come back and go
//! on as if nothing had been. It relies on its leases by its own clock, and less long
//! than others do.
//!
//! Which node should have a lease follows from the nodes that are there. One that has
//! it and should not stops to send, waits a moment for what is under way, and gives
//! it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::config::NodeSettings;
use super::desk::{Command, Desk};
use super::hints::{Hint, Hints, heard};
use super::link::{Link, Seen};
use super::notes::Note;
use super::polling::Gate;
use super::settings::Settings;
use crate::domain::node::{Bucket, NodeId};
use crate::store::error::StoreError;
use crate::store::following::Following;
use crate::store::ledger::queue::{Cost, Queue};
use crate::store::ledger::queued::Queued;
use crate::store::ledger::taking_over::{LetGo, LookAround, Recount, TakeOver};
use crate::store::mailbox::Mailbox;
use crate::store::tending::Tending;
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// How long to wait before a database that could not be reached is tried again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);
/// Hints are told so often at the most.
const TELL_INTERVAL: Duration = Duration::from_millis(5);
/// How long what is under way is waited for before a lease is given back.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether something is still under way.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long the writer may take to let go of leases.
const LET_GO_PATIENCE: Duration = Duration::from_secs(2);
/// How long a node that is alone still looks for what others have left.
const ALONE_AFTER: Duration = Duration::from_secs(30);

/// What it works with.
#[derive(Clone)]
pub struct Parts {
    /// What waits for the writer.
    pub queue: Arc<Queue<Queued>>,
    /// Where the delivery worker is told.
    pub mailbox: Arc<Mailbox>,
    /// For whom the node sends.
    pub tending: Arc<Tending>,
    /// Who tells those who watch.
    pub following: Following,
}

/// The keeper's thread.
pub struct Keeping {
    /// Where it is told what to do.
    pub desk: Desk,
    /// As which node it has begun.
    pub node: NodeId,
    thread: JoinHandle<()>,
}

impl Keeping {
    /// Says that this node is there, and takes the leases that are free and are for
    /// it. Blocks.
    pub fn start(database: Settings, own: NodeSettings, parts: Parts) -> Result<Self> {
        let (desk, asked) = Desk::new();
        let (told, is_there) = blocking::channel();
        let for_keeper = desk.clone();
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(cause) => return drop(told.send(Err(StoreError::failed(cause)))),
            };
            runtime.block_on(async {
                match Keeper::new(database, own, parts, for_keeper).await {
                    Ok(keeper) => {
                        let _ = told.send(Ok(keeper.node));
                        keeper.run(asked).await;
                    }
                    Err(cause) => drop(told.send(Err(cause))),
                }
            });
        };
        let thread =
            std::thread::Builder::new().name("lease-keeper".to_owned()).spawn(run).map_err(StoreError::failed)?;
        let node = is_there.recv().unwrap_or_else(|_| Err(StoreError::failed("the keeper of leases panicked")))?;
        Ok(Self { desk, node, thread })
    }

    /// Gives all leases back, and says that this node is no more: what it has begun,
    /// others go on with, so it does nothing any more. Blocks.
    pub fn end(self) {
        self.desk.command(Command::Leave);
        if self.thread.join().is_err() {
            error!("the keeper of leases panicked");
        }
    }
}

struct Keeper {
    database: Settings,
    own: NodeSettings,
    parts: Parts,
    desk: Desk,
    node: NodeId,
    link: Option<Link>,
    /// The leases that it has, with their epochs.
    held: BTreeMap<Bucket, i64>,
    /// Those whose webhooks the delivery worker knows.
    begun: BTreeSet<Bucket>,
    /// Those of which the writer is yet to know.
    to_take_over: Vec<(Bucket, i64)>,
    /// The writer is not told of them before, since it could not take them.
    hand_on_at: Instant,
    hints: Hints,
    tell_at: Option<Instant>,
    next_at: Instant,
    /// When it looks what others have committed.
    poll_at: Instant,
    gate: Gate,
    /// What others have left to it, and it has yet to heed.
    notes: Vec<Note>,
    /// The writer is to look what others have changed of webhooks.
    is_looking: bool,
    /// When there were other nodes.
    others_at: Instant,
    /// It is leaving: no leases are for it any more.
    is_leaving: bool,
}

impl Keeper {
    async fn new(database: Settings, own: NodeSettings, parts: Parts, desk: Desk) -> Result<Self> {
        let link = Link::open(&database, &own).await?;
        let node = link.register(&own).await?;
        parts.tending.set_node(node);
        let mut keeper = Self {
            database,
            own,
            parts,
            desk,
            node,
            link: Some(link),
            held: BTreeMap::new(),
            begun: BTreeSet::new(),
            to_take_over: Vec::new(),
            hand_on_at: Instant::now(),
            hints: Hints::default(),
            tell_at: None,
            next_at: Instant::now(),
            poll_at: Instant::now(),
            gate: Gate::default(),
            notes: Vec::new(),
            is_looking: false,
            others_at: Instant::now(),
            is_leaving: false,
        };
        keeper.tick().await?;
        // Whoever opens the store begins with these.
        for (bucket, epoch) in keeper.to_take_over.drain(..) {
            keeper.parts.tending.set(bucket, Some(epoch));
            keeper.begun.insert(bucket);
        }
        keeper.add_hint(Hint::Leases);
        Ok(keeper)
    }

    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Command>) {
        loop {
            if self.link.is_none() {
                self.reconnect().await;
            }
            if Instant::now() >= self.next_at {
                self.look().await;
            }
            if self.is_to_poll() && Instant::now() >= self.poll_at {
                self.poll().await;
            }
            self.hand_on();
            if self.tell_at.is_some_and(|at| at <= Instant::now()) {
                self.tell().await;
            }
            let hand_on_at = (!self.to_take_over.is_empty()).then_some(self.hand_on_at);
            let poll_at = self.is_to_poll().then_some(self.poll_at);
            let others = self.tell_at.into_iter().chain(hand_on_at).chain(poll_at);
            let wake_at = others.fold(self.next_at, Instant::min);
            tokio::select! {
                biased;
                command = asked.recv() => match command {
                    Some(Command::Tell(hints)) => hints.into_iter().for_each(|hint| self.add_hint(hint)),
                    Some(Command::TakeOver(leases)) => self.take_over_again(leases),
                    Some(Command::TakenOver(leases)) => self.note_begun(&leases),
                    Some(Command::LookedAround(is_done)) => self.looked_around(is_done),
                    Some(Command::HandOver(done)) => {
                        self.hand_all_over().await;
                        // Whoever waited may have gone.
                        let _ = done.send(());
                    }
                    Some(Command::Leave) | None => return self.leave().await,
                },
                payload = Link::hear(self.link.as_mut()) => match payload {
                    Some(payload) => heard(&payload, self.node).into_iter().for_each(|hint| self.heed(hint)),
                    None => self.lose(&StoreError::failed("the connection has ended")),
                },
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Says that this node is there, and sees to the leases.
    async fn look(&mut self) {
        if let Err(cause) = self.tick().await {
            self.lose(&cause);
        }
    }

    async fn tick(&mut self) -> Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let asked_at = Instant::now();
        let sends = self.own.sends && !self.is_leaving;
        let seen = link.say(self.node, self.own.lease_ttl, sends).await?;
        self.next_at = asked_at + self.own.renewal();
        if !seen.is_there {
            return self.begin_anew().await;
        }
        let was_sure = self.parts.tending.is_sure();
        self.parts.tending.rely_until(asked_at + self.own.relied_on());
        if !was_sure {
            self.parts.mailbox.nudge();
        }
        self.desk.note_others(seen.has_others);
        if seen.has_others {
            self.others_at = asked_at;
        }
        if let Some(expiry) = seen.next_expiry {
            self.next_at = self.next_at.min(asked_at + expiry.max(LOOK_INTERVAL));
        }
        self.note_lost(&seen);
        self.note_astray(&seen);
        if seen.are_gone {
            self.look_around();
        }
        let nodes: Vec<NodeId> = seen.senders.iter().copied().chain(sends.then_some(self.node)).collect();
        let is_own = |bucket: &Bucket| bucket.holder(&nodes) == Some(self.node);
        let others: Vec<_> = self.held.keys().copied().filter(|bucket| !is_own(bucket)).collect();
        let free: Vec<_> = Bucket::all().filter(|bucket| is_own(bucket) && !self.held.contains_key(bucket)).collect();
        if !nodes.is_empty() && !others.is_empty() {
            self.hand_over(&others).await?;
        }
        if !free.is_empty() {
            self.take(&free).await?;
        }
        Ok(())
    }

    /// Notes which leases others have taken over.
    fn note_lost(&mut self, seen: &Seen) {
        let is_lost = |bucket: &Bucket, epoch: &i64| {
            seen.leases.get(bucket.index()).is_none_or(|(node, now)| *node != Some(self.node) || now != epoch)
        };
        let lost: Vec<_> =
            self.held.iter().filter(|(bucket, epoch)| is_lost(bucket, epoch)).map(|(at, _)| *at).collect();
        if lost.is_empty() {
            return;
        }
        warn!(leases = lost.len(), "others have taken leases over: this node had not said in time that it is there");
        self.stop_sending(&lost);
        self.push(Box::new(LetGo { buckets: lost, done: Box::new(|| {}) }));
    }

    /// Notes which leases it has without knowing: the answer was lost.
    fn note_astray(&mut self, seen: &Seen) {
        let held = Bucket::all().zip(&seen.leases).filter(|(_, (node, _))| *node == Some(self.node));
        let astray: Vec<_> = held
            .filter(|(bucket, _)| !self.held.contains_key(bucket))
            .map(|(bucket, (_, epoch))| (bucket, *epoch))
            .collect();
        self.held.extend(astray.iter().copied());
        self.to_take_over.extend(astray);
    }

    fn stop_sending(&mut self, buckets: &[Bucket]) {
        for bucket in buckets {
            self.held.remove(bucket);
            self.begun.remove(bucket);
            self.parts.tending.set(*bucket, None);
            self.parts.mailbox.announce_lost(*bucket);
        }
        self.to_take_over.retain(|(bucket, _)| !buckets.contains(bucket));
    }

    /// Takes leases that are free, or whose node is gone.
    async fn take(&mut self, buckets: &[Bucket]) -> Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let taken = match link.take(self.node, buckets).await {
            Ok(taken) => taken,
            // Whoever had them is recording something: the next look tries again.
            Err(StoreError::Held { .. }) => return Ok(()),
            Err(cause) => return Err(cause),
        };
        if !taken.is_empty() {
            info!(leases = taken.len(), node = %self.node, "leases taken over");
            self.held.extend(taken.iter().copied());
            self.to_take_over.extend(taken);
        }
        Ok(())
    }

    /// Gives leases back that are for other nodes.
    async fn hand_over(&mut self, buckets: &[Bucket]) -> Result<()> {
        self.stop_sending(buckets);
        let patience = Instant::now() + HAND_OVER_PATIENCE;
        while !buckets.iter().all(|bucket| self.parts.tending.is_idle(*bucket)) && Instant::now() < patience {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let (done, is_done) = oneshot::channel();
        let done = Box::new(move || {
            // Whoever waited may have gone on.
            let _ = done.send(());
        });
        self.push(Box::new(LetGo { buckets: buckets.to_vec(), done }));
        // If it takes longer, what the writer still records by them is refused.
        let _ = tokio::time::timeout(LET_GO_PATIENCE, is_done).await;
        if let Some(link) = &self.link {
            link.release(self.node, buckets).await?;
            info!(leases = buckets.len(), node = %self.node, "leases handed over");
            self.add_hint(Hint::Leases);
            self.tell().await;
        }
        Ok(())
    }

    /// Others have taken this node to be gone: what it had is theirs, and it goes on
    /// as another.
    async fn begin_anew(&mut self) -> Result<()> {
        let held: Vec<_> = self.held.keys().copied().collect();
        self.stop_sending(&held);
        let Some(link) = &self.link else { return Ok(()) };
        let before = self.node;
        self.node = link.register(&self.own).await?;
        self.parts.tending.set_node(self.node);
        warn!(%before, node = %self.node, "this node was taken to be gone, and goes on as a new one");
        self.next_at = Instant::now();
        Ok(())
    }

    async fn hand_all_over(&mut self) {
        self.is_leaving = true;
        // First the others learn that no leases are for it any more.
        if let Some(link) = &self.link {
            let _ = link.say(self.node, self.own.lease_ttl, false).await;
        }
        let held: Vec<_> = self.held.keys().copied().collect();
        if !held.is_empty()
            && let Err(cause) = self.hand_over(&held).await
        {
            warn!(%cause, "leases could not be given back; others take them when they expire");
        }
    }

    async fn leave(mut self) {
        self.hand_all_over().await;
        if let Some(link) = &self.link
            && link.sign_off(self.node).await.is_ok()
        {
            self.add_hint(Hint::Leases);
            self.tell().await;
        }
    }

    /// Has the writer begin to send for those of whom it is yet to know.
    fn hand_on(&mut self) {
        if self.to_take_over.is_empty() || Instant::now() < self.hand_on_at {
            return;
        }
        let leases = std::mem::take(&mut self.to_take_over);
        let (desk, again) = (self.desk.clone(), leases.clone());
        let ended = Box::new(move |is_done| match is_done {
            true => desk.command(Command::TakenOver(again)),
            false => desk.take_over(again),
        });
        if !self.push(Box::new(TakeOver::new(leases.clone(), ended))) {
            self.take_over_again(leases);
        }
    }

    fn take_over_again(&mut self, leases: Vec<(Bucket, i64)>) {
        let still = leases.into_iter().filter(|(bucket, epoch)| self.held.get(bucket) == Some(epoch));
        self.hand_on_at = Instant::now() + RECONNECT_INTERVAL;
        let new: Vec<_> = still.filter(|lease| !self.to_take_over.contains(lease)).collect();
        self.to_take_over.extend(new);
    }

    /// Has the writer look what others have changed, soon.
    fn look_around(&self) {
        self.push(Box::new(LookAround { ended: Box::new(|_| {}) }));
    }

    /// From now on the delivery worker can do something with notes.
    fn note_begun(&mut self, leases: &[(Bucket, i64)]) {
        let still = leases.iter().filter(|(bucket, epoch)| self.held.get(bucket) == Some(epoch));
        self.begun.extend(still.map(|(bucket, _)| *bucket));
        self.poll_at = Instant::now();
    }

    /// True if others may have something for it.
    fn is_to_poll(&self) -> bool {
        self.link.is_some() && !self.begun.is_empty() && self.others_at.elapsed() < ALONE_AFTER
    }

    /// Looks what others have left to it, and whether they have committed anything.
    async fn poll(&mut self) {
        let Some(link) = &self.link else { return };
        self.poll_at = Instant::now() + self.own.poll;
        let begun: Vec<_> = self.begun.iter().copied().collect();
        let polled = match link.poll(&begun).await {
            Ok(polled) => polled,
            Err(cause) => return self.lose(&cause),
        };
        if polled.are_left {
            self.poll_at = Instant::now();
        }
        let new = self.gate.pass(polled.marks);
        self.notes.extend(polled.notes);
        if new.numbers {
            self.parts.mailbox.ask_to_look();
        }
        if new.webhooks {
            let desk = self.desk.clone();
            let ended = Box::new(move |is_done| desk.command(Command::LookedAround(is_done)));
            self.is_looking = true;
            if !self.push(Box::new(LookAround { ended })) {
                self.gate.forget_webhooks();
            }
        }
        self.heed_notes();
    }

    /// The writer has looked what others have changed of webhooks, or could not.
    fn looked_around(&mut self, is_done: bool) {
        match is_done {
            true => self.is_looking = false,
            false => self.gate.forget_webhooks(),
        }
        self.heed_notes();
    }

    /// Has those know whom it concerns. Of a new webhook the delivery worker is told
    /// first.
    fn heed_notes(&mut self) {
        if self.is_looking {
            return;
        }
        let (mailbox, mut settled) = (&self.parts.mailbox, Vec::new());
        for note in self.notes.drain(..) {
            match note {
                Note::Look => mailbox.ask_to_look(),
                Note::Reread(id, number) => mailbox.announce_reread(id, number),
                Note::Now(id, number) => {
                    mailbox.announce_through(id, number);
                    mailbox.announce_now(id, number);
                }
                Note::Settled(id) => settled.push(id),
            }
        }
        if !settled.is_empty() {
            self.push(Box::new(Recount(settled)));
        }
    }

    fn push(&self, entry: Queued) -> bool {
        self.parts.queue.push(Account::Server, Cost::SMALL, entry).is_ok()
    }

    fn add_hint(&mut self, hint: Hint) {
        if self.own.notifies {
            self.hints.add(hint);
            self.tell_at.get_or_insert_with(|| Instant::now() + TELL_INTERVAL);
        }
    }

    async fn tell(&mut self) {
        self.tell_at = None;
        let hints = std::mem::take(&mut self.hints);
        if hints.is_empty() {
            return;
        }
        let payloads = hints.payloads(self.node);
        if let Some(link) = &self.link
            && let Err(cause) = link.tell(&payloads).await
        {
            self.lose(&cause);
        }
    }

    /// What another node has told.
    fn heed(&mut self, hint: Hint) {
        let mailbox = &self.parts.mailbox;
        match hint {
            Hint::Through(id, number) => mailbox.announce_through(id, number),
            Hint::Journal(_) => self.parts.following.look(),
            Hint::Notes(bucket) => {
                if self.begun.contains(&bucket) {
                    self.poll_at = Instant::now();
                }
            }
            Hint::Webhooks => self.look_around(),
            Hint::Leases => self.next_at = Instant::now(),
        }
    }

    fn lose(&mut self, cause: &StoreError) {
        if self.link.take().is_some() {
            warn!(%cause, "the connection that keeps the leases is lost; trying on");
        }
    }

    async fn reconnect(&mut self) {
        match Link::open(&self.database, &self.own).await {
            Ok(link) => {
                self.link = Some(link);
                self.next_at = Instant::now();
                // Whatever was told meanwhile is lost.
                self.poll_at = Instant::now();
                self.parts.following.look();
                self.look_around();
            }
            Err(_) => tokio::time::sleep(RECONNECT_INTERVAL).await,
        }
    }
}
