//! Connections that read, and whose turn it is to use one.

use std::ops::Add;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::timeout;

use super::conn::{Conn, Manager};
use super::steps::Step;
use crate::domain::page::Slice;
use crate::metrics::{Gauge, Present};
use crate::store::error::StoreError;
use crate::store::ledger::BUSY_RETRY_AFTER;
use crate::work::apart::{Apart, ApartError};
use crate::work::{self, Account};

/// Look-ups of one account that may wait for a connection.
const WAITING_MAX: usize = 4_096;

/// Waits for a connection that is free.
pub type Get<M> = dyn Fn(&r2d2::Pool<M>) -> Result<r2d2::PooledConnection<M>, StoreError> + Send + Sync;

/// The pool, until the store is closed.
struct Connections<M: Manager> {
    pool: RwLock<Option<r2d2::Pool<M>>>,
    get: Box<Get<M>>,
}

/// Some connections that read, which accounts use by turns, a step at a time. Its
/// clones are the same.
pub struct Readers<M: Manager> {
    connections: Arc<Connections<M>>,
    /// As many places as there are connections, so that a thread which has one
    /// finds a connection free.
    places: Apart,
    /// How many are in use, for whoever watches the server.
    in_use: Gauge,
    /// How long a look-up may take; `None`: as long as it takes.
    patience: Option<Duration>,
}

impl<M: Manager> Clone for Readers<M> {
    fn clone(&self) -> Self {
        let Self { connections, places, in_use, patience } = self;
        Self {
            connections: Arc::clone(connections),
            places: places.clone(),
            in_use: in_use.clone(),
            patience: *patience,
        }
    }
}

impl<M: Manager> Readers<M> {
    /// Reads through these; how many are in use is shown there.
    pub fn new(connections: r2d2::Pool<M>, in_use: Gauge) -> Self {
        Self::getting(connections, in_use, Box::new(|pool| pool.get().map_err(StoreError::failed)))
    }

    /// The same with an own way to wait for one that is free.
    pub fn getting(connections: r2d2::Pool<M>, in_use: Gauge, get: Box<Get<M>>) -> Self {
        let places = Apart::new(connections.max_size() as usize, WAITING_MAX);
        Self {
            connections: Arc::new(Connections { pool: RwLock::new(Some(connections)), get }),
            places,
            in_use,
            patience: None,
        }
    }

    /// Whoever looks something up waits no longer than that.
    pub fn within(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Lets look-ups that are under way end, and closes the connections;
    /// whatever comes fails with [`StoreError::ShuttingDown`]. Blocks.
    pub fn close(&self) {
        self.connections.close();
    }

    /// Looks up rows by key on the thread that asks: a session, a user, what the
    /// catalogue says of the topics of a publish. That touches a few pages
    /// which are in memory as a rule, and handing it to another thread takes
    /// several times as long. Not for what scans, or reads messages. If no
    /// place or no connection is free, or the store is not near, it waits off
    /// the async threads, as [`Self::read`] does.
    pub async fn by_key<T: Send + 'static>(
        &self,
        account: impl Into<Account>,
        work: impl FnOnce(&mut dyn Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let account = account.into();
        if M::IS_NEAR
            && let Some(_place) = self.places.try_place(account)
            && let Some(mut conn) = self.connections.pool()?.try_get()
        {
            let _in_use = Present::new(&self.in_use);
            return work::step("a look into the store", || M::with(&mut conn, work));
        }
        self.read(account, work).await
    }

    /// Looks something up, off the async threads. It is one step, so what may
    /// be long comes in several.
    pub async fn read<T: Send + 'static>(
        &self,
        account: impl Into<Account>,
        work: impl FnOnce(&mut dyn Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (connections, in_use) = (Arc::clone(&self.connections), self.in_use.clone());
        let look = move || {
            let mut conn = (connections.get)(&connections.pool()?)?;
            let _in_use = Present::new(&in_use);
            work::step("a reader of the store", || M::with(&mut conn, work))
        };
        let looked = self.places.run(account, look);
        let looked = match self.patience {
            // What is under way ends by itself.
            Some(patience) => timeout(patience, looked)
                .await
                .map_err(|_| StoreError::unavailable("a look-up has waited too long for the database"))?,
            None => looked.await,
        };
        looked.map_err(|cause| match cause {
            ApartError::Crowded => StoreError::Busy { retry_after: BUSY_RETRY_AFTER },
            ApartError::Broken => StoreError::failed(cause),
        })?
    }

    /// Reads a list step by step, so that no connection is kept for long.
    pub async fn in_steps<T: Send + 'static, K: Clone + Send + 'static>(
        &self,
        account: impl Into<Account>,
        mut slice: Slice<K>,
        look: impl Fn(&mut dyn Conn, &Slice<K>) -> Result<Step<Vec<T>, K>, StoreError> + Send + Sync + 'static,
    ) -> Result<Vec<T>, StoreError> {
        let (account, look, mut found) = (account.into(), Arc::new(look), Vec::new());
        loop {
            let (look, part) = (Arc::clone(&look), slice.clone());
            let step = self.read(account, move |conn| look(conn, &part)).await?;
            slice.limit -= u32::try_from(step.found.len()).unwrap_or(slice.limit);
            found.extend(step.found);
            slice.after = step.next;
            if slice.after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Counts step by step, likewise.
    pub async fn summed<T: Add<Output = T> + Default + Send + 'static, K: Clone + Send + 'static>(
        &self,
        account: impl Into<Account>,
        count: impl Fn(&mut dyn Conn, Option<K>) -> Result<Step<T, K>, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let (account, count, mut sum, mut after) = (account.into(), Arc::new(count), T::default(), None);
        loop {
            let count = Arc::clone(&count);
            let step = self.read(account, move |conn| count(conn, after)).await?;
            sum = sum + step.found;
            after = step.next;
            if after.is_none() {
                return Ok(sum);
            }
        }
    }
}

impl<M: Manager> Connections<M> {
    fn pool(&self) -> Result<r2d2::Pool<M>, StoreError> {
        let pool = self.pool.read().unwrap_or_else(PoisonError::into_inner);
        pool.clone().ok_or(StoreError::ShuttingDown)
    }

    /// A pool closes its connections some time after it was let go of, on
    /// whichever thread that happens. So each is taken out when its look-up has
    /// ended, and closed here.
    fn close(&self) {
        let Some(pool) = self.pool.write().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let taken: Vec<_> = (0..pool.max_size()).map_while(|_| (self.get)(&pool).ok()).collect();
        taken.into_iter().for_each(|mut conn| M::close(&mut conn));
    }
}
