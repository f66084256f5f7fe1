//! The store in a PostgreSQL database, which several nodes may share.
//!
//! One thread of each node writes ([`writer`]), a pool of connections reads. What
//! the nodes know of one another they know from the database.

mod address;
pub(super) mod admin;
mod aside;
mod asking;
mod bulk;
mod catching_up;
pub(super) mod check;
mod config;
pub(super) mod copying;
mod desk;
mod engine;
mod faults;
mod follower;
mod hints;
mod journal;
mod keeper;
mod lazily;
mod link;
mod migrating;
pub(super) mod nodes;
mod notes;
mod pages;
mod polling;
mod prune;
mod reading;
pub mod scratch;
mod session;
mod settings;
mod stock;
mod taking_over;
mod telling;
mod tls;
mod values;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

pub use self::config::{Config, NodeSettings};
use self::engine::Postgres;
use self::follower::Follower;
use self::keeper::Keeping;
use self::session::Session;
pub use self::settings::{Prepare, Settings, Timeouts};
use self::writer::{Parts, Serving, Writer};
use super::error::StoreError;
use super::feed::Feed;
use super::ledger::queue::Queue;
use super::mailbox::Mailbox;
use super::sql::conn::{Conn, Manager};
use super::sql::readers::Readers;
use super::sql::store::{Backend, LANE_READERS, Made, SqlStore};
use crate::domain::time::Clock;
use crate::metrics::Metrics;

/// A store in a PostgreSQL database.
pub type PostgresStore = SqlStore<Connections>;

/// How long a look-up waits for a connection before it asks whether there can be one.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long at the most before connecting is tried again: half of it.
const RECONNECT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Makes connections that read.
#[derive(Clone)]
pub struct Connections {
    database: Settings,
    /// What they are asked is the same again and again but for the values.
    plan_once: bool,
    /// Why no connection could be made the last time.
    trouble: Arc<Mutex<Option<StoreError>>>,
}

impl Connections {
    fn to(database: Settings, plan_once: bool) -> Self {
        Self { database, plan_once, trouble: Arc::default() }
    }

    fn open(&self) -> Result<Session, StoreError> {
        let mut session = Session::open(&self.database)?;
        session.go_by_key()?;
        if self.plan_once {
            session.plan_once()?;
        }
        Ok(session)
    }

    /// Waits for one of a pool, but not if the database can't be reached.
    fn get(&self, pool: &r2d2::Pool<Self>) -> Result<r2d2::PooledConnection<Self>, StoreError> {
        let begun = Instant::now();
        loop {
            // To ask has one be made.
            if let Ok(conn) = pool.get_timeout(LOOK_INTERVAL) {
                return Ok(conn);
            }
            if let Some(cause) = &*self.trouble() {
                return Err(StoreError::unavailable(cause));
            }
            if begun.elapsed() > self.database.timeouts.connect {
                return Err(StoreError::unavailable("no connection to the database is free"));
            }
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl r2d2::ManageConnection for Connections {
    type Connection = Session;
    type Error = StoreError;

    fn connect(&self) -> Result<Session, StoreError> {
        let opened = self.open();
        let before = std::mem::replace(&mut *self.trouble(), opened.as_ref().err().cloned());
        match (&opened, before) {
            (Err(cause), None) => warn!(%cause, "the database can't be reached to read from it; trying on"),
            (Ok(_), Some(_)) => info!("the database can be read again"),
            _ => {}
        }
        opened
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), StoreError> {
        if session.is_alive() { Ok(()) } else { Err(StoreError::failed("the connection has ended")) }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_alive()
    }
}

/// What is wrong with connections, [`Connections`] tells the log, once.
#[derive(Debug)]
struct Silent;

impl<E> r2d2::HandleError<E> for Silent {
    fn handle_error(&self, _: E) {}
}

impl Manager for Connections {
    const IS_NEAR: bool = false;

    fn with<T>(session: &mut Session, look: impl FnOnce(&mut dyn Conn) -> T) -> T {
        look(session)
    }

    fn close(_: &mut Session) {}
}

impl Backend for Connections {
    type Serving = Serving;

    fn hand_over(serving: &Serving) {
        serving.hand_over();
    }

    fn end(serving: Serving, readers: [&Readers<Self>; 2]) {
        serving.end();
        aside(|| readers.into_iter().for_each(Readers::close));
    }
}

/// Does what blocks on a connection: whoever calls may be on a thread that drives
/// other connections.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl PostgresStore {
    /// Makes the tables, if there are none.
    pub fn prepare(database: &Settings) -> Result<(), StoreError> {
        aside(|| migrating::migrate(database)).map(drop)
    }

    /// Connects to the database, makes the tables if there are none, and starts the
    /// writer, which announces in `mailbox` what it commits.
    pub fn open(config: Config, clock: Clock, mailbox: Arc<Mailbox>, metrics: &Metrics) -> Result<Self, StoreError> {
        aside(|| Self::open_here(config, clock, mailbox, metrics))
    }

    fn open_here(config: Config, clock: Clock, mailbox: Arc<Mailbox>, metrics: &Metrics) -> Result<Self, StoreError> {
        let store_id = migrating::migrate(&config.database)?;
        let in_queue = metrics.changes_waiting.clone();
        let queue = Arc::new(Queue::new(config.write_queue_max, in_queue));
        let tending = Arc::clone(mailbox.tending());
        let feed = Arc::new(Feed::new(metrics.subscribers.clone()));
        let (poll, told) = (config.node.poll, Arc::clone(&mailbox));
        let follower = Follower::start(config.database.clone(), poll, Arc::clone(&feed), told)?;
        let following = follower.following();
        let for_keeper = keeper::Parts {
            queue: Arc::clone(&queue),
            mailbox: Arc::clone(&mailbox),
            tending: Arc::clone(&tending),
            following: following.clone(),
        };
        let keeping = Keeping::start(config.database.for_writing(), config.node.clone(), for_keeper)?;
        let mut engine = Postgres::open(
            &config.database.for_writing(),
            keeping.node,
            Arc::clone(&tending),
            Arc::clone(&config.vault),
        )?;
        engine.session().bound_transactions(config.patience);
        let book = stock::read_first(&mut engine, config.terms, tending.leases().unwrap_or_default(), clock.now())?;
        let in_use = |user| metrics.readers_in_use.child(&[user]);
        let readers = |size: u32, user, plan_once| {
            let manager = Connections::to(config.database.clone(), plan_once);
            let pool = r2d2::Pool::builder().max_size(size).min_idle(Some(1)).test_on_check_out(true);
            let pool = pool.connection_timeout(2 * RECONNECT_INTERVAL_MAX).error_handler(Box::new(Silent));
            let pool = pool.build_unchecked(manager.clone());
            Readers::getting(pool, in_use(user), Box::new(move |pool| manager.get(pool)))
        };
        let readers =
            [readers(config.readers_max, "calls", false).within(config.patience), readers(LANE_READERS, "lanes", true)];
        let parts =
            Parts { queue: Arc::clone(&queue), mailbox: Arc::clone(&mailbox), following: following.clone(), metrics };
        let (is_paused, patience, vault) = (config.is_paused, Some(config.patience), Arc::clone(&config.vault));
        let node = keeping.node;
        let writer = Writer::new(config, clock.clone(), parts, (engine, book, keeping.desk.clone()));
        let (webhooks, pending_at_most) = writer.book().webhooks_and_open();
        info!(%store_id, %node, webhooks, pending_at_most, "the store is open");
        let (trouble, commits, following) = (writer.trouble(), writer.commits(), Some(following));
        let serving = Some(writer.start(keeping, follower).map_err(StoreError::failed)?);
        let made = Made { store_id, queue, readers, feed, following, patience, commits, trouble, serving, vault };
        Ok(Self::new(made, clock, mailbox, is_paused))
    }
}
