//! The store in a PostgreSQL database, which several nodes may share.
//!
//! One thread of each node writes ([`writer`]), a pool of connections reads. What
//! the nodes know of one another they know from the database.

pub(super) mod admin;
mod bulk;
mod catching_up;
pub(super) mod check;
mod config;
pub(super) mod copying;
mod desk;
mod engine;
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
mod values;
mod writer;

use std::sync::Arc;

pub use self::config::{Config, NodeSettings};
use self::engine::Postgres;
use self::follower::Follower;
use self::keeper::Keeping;
use self::session::Session;
pub use self::settings::Settings;
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

/// Makes connections that read.
#[derive(Clone)]
pub struct Connections {
    database: Settings,
    /// What they are asked is the same again and again but for the values.
    plan_once: bool,
}

impl r2d2::ManageConnection for Connections {
    type Connection = Session;
    type Error = StoreError;

    fn connect(&self) -> Result<Session, StoreError> {
        let session = Session::open(&self.database)?;
        session.go_by_key()?;
        if self.plan_once {
            session.plan_once()?;
        }
        Ok(session)
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), StoreError> {
        if session.is_alive() { Ok(()) } else { Err(StoreError::failed("the connection has ended")) }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_alive()
    }
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
        let keeping = Keeping::start(config.database.clone(), config.node.clone(), for_keeper)?;
        let mut engine = Postgres::open(&config.database, keeping.node, Arc::clone(&tending))?;
        let book = stock::read_first(&mut engine, config.terms, tending.leases().unwrap_or_default(), clock.now())?;
        let in_use = |user| metrics.readers_in_use.child(&[user]);
        let pool = |size: u32, plan_once| {
            let manager = Connections { database: config.database.clone(), plan_once };
            let pool = r2d2::Pool::builder().max_size(size).min_idle(Some(1)).test_on_check_out(true).build(manager);
            pool.map_err(StoreError::failed)
        };
        let readers = Readers::new(pool(config.readers_max, false)?, in_use("calls"));
        let lane_readers = Readers::new(pool(LANE_READERS, true)?, in_use("lanes"));
        let parts =
            Parts { queue: Arc::clone(&queue), mailbox: Arc::clone(&mailbox), following: following.clone(), metrics };
        let is_paused = config.is_paused;
        let node = keeping.node;
        let writer = Writer::new(config, clock.clone(), parts, (engine, book, keeping.desk.clone()));
        let (webhooks, pending_at_most) = writer.book().webhooks_and_open();
        tracing::info!(%store_id, %node, webhooks, pending_at_most, "the store is open");
        let (trouble, commits) = (writer.trouble(), writer.commits());
        let serving = Some(writer.start(keeping, follower).map_err(StoreError::failed)?);
        let (readers, following) = ([readers, lane_readers], Some(following));
        let made = Made { store_id, queue, readers, feed, following, commits, trouble, serving };
        Ok(Self::new(made, clock, mailbox, is_paused))
    }
}
