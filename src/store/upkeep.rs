//! What whoever runs a store does with it and learns of it.

use tokio::sync::watch;

use super::trouble::Trouble;

/// A store in the hands of whoever opened it.
pub trait Upkeep: Send + Sync + 'static {
    /// Counts transactions that are on disk: what one changed can be read once
    /// it is counted.
    fn commits(&self) -> watch::Receiver<u64>;

    /// What keeps the store from taking changes at present, as far as the last
    /// commit has shown; there is one a minute at least.
    fn trouble(&self) -> Option<Trouble>;

    /// Has what has expired swept out, and says what there is to say, soon. To
    /// be called every minute or so.
    fn sweep(&self);

    /// Has others who share the store send from now on, of what is not under way.
    /// Blocks.
    fn hand_over(&self);

    /// Commits what waits, refuses what comes, and closes the store. Blocks.
    fn close(&self);
}
