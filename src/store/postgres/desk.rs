//! Where the keeper of leases is told what to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as blocking;

use tokio::sync::mpsc;

use super::hints::Hint;
use crate::domain::node::Bucket;

/// Something for the keeper to do.
pub enum Command {
    /// Tell others.
    Tell(Vec<Hint>),
    /// Take these leases over once more: the store had to be read again.
    TakeOver(Vec<(Bucket, i64)>),
    /// The writer has taken these over.
    TakenOver(Vec<(Bucket, i64)>),
    /// The writer has looked what others have changed of webhooks, or could not.
    LookedAround(bool),
    /// Give all leases back.
    HandOver(blocking::Sender<()>),
    /// Be gone.
    Leave,
}

/// For those who have something for the keeper to do.
#[derive(Clone)]
pub struct Desk {
    commands: mpsc::UnboundedSender<Command>,
    has_others: Arc<AtomicBool>,
}

impl Desk {
    /// With the other end.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, asked) = mpsc::unbounded_channel();
        (Self { commands, has_others: Arc::new(AtomicBool::new(false)) }, asked)
    }

    /// Notes whether there are nodes to be told.
    pub fn note_others(&self, has_others: bool) {
        self.has_others.store(has_others, Ordering::Relaxed);
    }

    /// True if there are nodes to be told.
    pub fn has_others(&self) -> bool {
        self.has_others.load(Ordering::Relaxed)
    }

    /// Tells the others, soon.
    pub fn tell(&self, hints: Vec<Hint>) {
        if !hints.is_empty() {
            self.command(Command::Tell(hints));
        }
    }

    /// Has leases taken over once more, since the store had to be read again.
    pub fn take_over(&self, leases: Vec<(Bucket, i64)>) {
        self.command(Command::TakeOver(leases));
    }

    /// Gives all leases back, and takes none any more. Blocks until that is done, or
    /// the keeper is gone.
    pub fn hand_over(&self) {
        let (done, is_done) = blocking::channel();
        self.command(Command::HandOver(done));
        // If it is gone, it has none.
        let _ = is_done.recv();
    }

    /// Has something done.
    pub fn command(&self, command: Command) {
        // Without a keeper there are no leases either.
        let _ = self.commands.send(command);
    }
}
