//! Wires everything, starts it in order, and stops it in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::api::{self, Listener};
use crate::config::Config;
use crate::delivery::connect::{Resolve, SystemResolver};
use crate::delivery::guard::Guard;
use crate::delivery::worker::{self, Worker};
use crate::domain::time::Clock;
use crate::metrics::Metrics;
use crate::service::Service;
use crate::service::health::Health;
use crate::service::survey;
use crate::spans::export::{self, Exporting};
use crate::store::backup;
use crate::store::vault::Vault;
use crate::store::{self, OpenError, Opened, Trouble, Upkeep};

/// What a server takes from the world; tests bring their own.
pub struct Hooks {
    /// The time.
    pub clock: Clock,
    /// Looks names of receivers up.
    pub resolver: Arc<dyn Resolve>,
    /// Numbers in 0..1, for jitter.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { clock: Clock::system(), resolver: Arc::new(SystemResolver), random: Arc::new(fastrand::f64) }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {cause}; name another with --{flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Which flag named it.
        flag: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The store can't be opened.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// Deliveries can't be made.
    #[error("{0}")]
    Worker(#[from] worker::StartError),
    /// Spans can't be exported.
    #[error("{0}")]
    Spans(#[from] export::StartError),
}

/// A running server.
pub struct Server {
    listener: Listener,
    /// For those who run it, if that is another.
    ops: Option<Listener>,
    health: Arc<Health>,
    service: Arc<Service>,
    worker: Worker,
    /// What exports spans, if that is wanted.
    exporting: Option<Exporting>,
    store: Arc<dyn Upkeep>,
    sweeper: JoinHandle<()>,
    surveyor: JoinHandle<()>,
    /// Seals secrets in the store.
    vault: Arc<Vault>,
    grace: Duration,
}

/// How often the store is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

impl Server {
    /// Opens the store, resumes what is pending, and listens.
    pub async fn start(config: Config, hooks: Hooks) -> Result<Self, StartError> {
        let Hooks { clock, resolver, random } = hooks;
        let config = match backup::held(&config.store) {
            Some(why) => {
                warn!(
                    why,
                    "the store is held back: events are taken in and numbered, and nothing is sent. \"tallyhook store \
                     resume\" has the next start send"
                );
                config.paused()
            }
            None => config,
        };
        let socket = bind(config.listen, "listen").await?;
        let ops_socket = match config.ops_listen {
            Some(address) => Some(bind(address, "ops-listen").await?),
            None => None,
        };
        let metrics = Arc::new(Metrics::new(config.metrics_webhooks));
        let vault = Arc::clone(config.store.vault());
        let (tracer, exporting) = export::start(&config.spans, &config.service.node_name, &metrics)?;
        let Opened { store, upkeep, mailbox } = store::open(config.store, clock.clone(), &metrics)?;
        let guard = Arc::new(Guard::new(config.delivery.targets.clone()));
        let (own, counted) = (Arc::clone(&store) as _, Arc::clone(&metrics));
        let (ticking, traced) = (clock.clone(), tracer.clone());
        let parts =
            worker::Parts { store: own, mailbox, resolver, clock: ticking, random, metrics: counted, tracer: traced };
        let worker = Worker::start(config.delivery, parts).await?;
        let surveyor = tokio::spawn(survey::keep(Arc::clone(&store), Arc::clone(&metrics), clock.clone()));
        let health = Arc::new(Health::new(Arc::clone(&upkeep), worker.pulse().clone(), &metrics));
        let service = Arc::new(Service::new(config.service, store, guard, clock.clone(), metrics, tracer));
        let sweeper = tokio::spawn(sweep(Arc::clone(&upkeep), Arc::clone(&service), clock));
        let failed = |address, flag| move |cause| StartError::Listen { address, flag, cause };
        let ops = match (ops_socket, config.ops_listen) {
            (Some(socket), Some(address)) => {
                let listened = api::listen_to_ops(config.api.clone(), socket, &service, &health);
                Some(listened.map_err(failed(address, "ops-listen"))?)
            }
            _ => None,
        };
        let own_health = ops.is_none().then_some(&health);
        let listener = api::listen(config.api, socket, Arc::clone(&service), own_health)
            .map_err(failed(config.listen, "listen"))?;
        let store = upkeep;
        let grace = config.grace;
        Ok(Self { listener, ops, health, service, worker, exporting, store, sweeper, surveyor, vault, grace })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Where that is, as clients on this machine write it.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Has the files read anew that may change while it runs: those of TLS, and that of
    /// the master keys. One that can't be used leaves things as they are.
    pub fn reload(&self) {
        self.listener.reload();
        match self.vault.reload() {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(keys = ?self.vault.ids(), "the master keys were read anew");
                // What is not encrypted by the first one is looked for now.
                self.store.sweep();
            }
            Err(flaw) => tracing::error!(%flaw, "the master keys stay as they were"),
        }
    }

    /// Where it says how it is doing.
    pub fn ops_url(&self) -> String {
        self.ops.as_ref().unwrap_or(&self.listener).url()
    }

    /// What it counts of itself.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.service.metrics()
    }

    /// Counts the store's commits: what one changed can be read once it is
    /// counted.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.store.commits()
    }

    /// Accepts no more and sends no more, lets calls and deliveries in progress
    /// end within the grace period, and closes the store. What kept the store
    /// from taking changes, if anything did at the end.
    pub async fn shutdown(self) -> Option<Trouble> {
        let Self { listener, ops, health, service, worker, exporting, store, sweeper, surveyor, grace, .. } = self;
        let deadline = Instant::now() + grace;
        health.stop();
        service.close();
        sweeper.abort();
        surveyor.abort();
        let worker = worker.stop(deadline);
        let upkeep = Arc::clone(&store);
        let handing_over = tokio::task::spawn_blocking(move || upkeep.hand_over());
        listener.shutdown(deadline).await;
        if handing_over.await.is_err() {
            tracing::error!("handing over to other nodes panicked");
        }
        let stopping = tokio::task::spawn_blocking(move || {
            worker.join();
            store.close();
            store.trouble()
        });
        let trouble = stopping.await.unwrap_or_else(|_| {
            tracing::error!("stopping the delivery worker panicked");
            None
        });
        if let Some(exporting) = exporting {
            exporting.stop(deadline).await;
        }
        // Whoever watches is told to the end.
        if let Some(ops) = ops {
            ops.shutdown(Instant::now()).await;
        }
        trouble
    }
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, flag, cause })
}

/// Has the store swept now and every minute, and the log told what was refused.
async fn sweep(store: Arc<dyn Upkeep>, service: Arc<Service>, clock: Clock) {
    let mut next = clock.now();
    loop {
        let now = clock.now();
        // One that is further away was set before the clock went back.
        if now >= next || next.since(now) > SWEEP_INTERVAL {
            store.sweep();
            service.tell_refusals();
            next = now.after(SWEEP_INTERVAL);
        }
        clock.wait_until(Some(next)).await;
    }
}
