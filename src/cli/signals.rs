//! The signals that ask a command to stop, or to look at its files.

use super::Failure;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM, caught from the moment this is made.
pub struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
}

impl Signals {
    /// Starts catching. Must be called within a runtime.
    #[cfg(unix)]
    pub fn catch() -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|cause| Failure::failed(format!("can't catch signals: {cause}")));
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Starts catching. Must be called within a runtime.
    #[cfg(not(unix))]
    pub fn catch() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// SIGHUP, caught from the moment this is made; until then it ends the program.
pub struct Hangups {
    #[cfg(unix)]
    hangup: Signal,
}

impl Hangups {
    /// Starts catching. Must be called within a runtime.
    #[cfg(unix)]
    pub fn catch() -> Result<Self, Failure> {
        let hangup =
            signal(SignalKind::hangup()).map_err(|cause| Failure::failed(format!("can't catch signals: {cause}")))?;
        Ok(Self { hangup })
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        if self.hangup.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Starts catching. Must be called within a runtime.
    #[cfg(not(unix))]
    pub fn catch() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        std::future::pending().await
    }
}
