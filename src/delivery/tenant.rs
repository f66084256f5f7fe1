//! What the scheduler keeps of one merchant: its lanes in the order of their
//! turns, and what they take up together.

use std::collections::VecDeque;

use super::load::Load;
use crate::domain::id::{IncrementId, WebhookId};
use crate::store::Parcel;

/// What a lane waits for room to do. Those whose receivers are not trusted
/// have less room, and so a line of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Send,
    SendSuspect,
    Read,
    ReadSuspect,
}

impl Kind {
    /// All of them: what is loaded goes out before more is loaded.
    pub const ALL: [Self; 4] = [Self::Send, Self::SendSuspect, Self::Read, Self::ReadSuspect];

    /// Of a lane that has something to send.
    pub fn sender(is_trusted: bool) -> Self {
        if is_trusted { Self::Send } else { Self::SendSuspect }
    }

    /// True if it is for room to read.
    pub fn is_reader(self) -> bool {
        matches!(self, Self::Read | Self::ReadSuspect)
    }

    /// Of a lane that has something to read.
    pub fn reader(is_trusted: bool) -> Self {
        if is_trusted { Self::Read } else { Self::ReadSuspect }
    }
}

/// One merchant.
#[derive(Debug, Default)]
pub struct Tenant {
    /// How many lanes it has.
    pub lanes: usize,
    /// Those that may have something to do, in the order of their turns.
    pub turns: VecDeque<WebhookId>,
    /// Those that wait for room, by kind.
    waiting: [VecDeque<WebhookId>; 4],
    /// Tests, which go before all else.
    pub tests: VecDeque<(WebhookId, Parcel)>,
    /// What they weigh, in bytes.
    pub tests_bytes: usize,
    /// What its lanes take up together.
    pub all: Load,
    /// What those do that are not trusted.
    pub suspects: Load,
    /// Whether it stands in line for its turn.
    pub is_listed: bool,
    /// Whether it stands in line for room.
    pub is_blocked: bool,
    /// Whether it has its turn because something became free.
    pub is_recalled: bool,
}

impl Tenant {
    /// The lane of that kind that has waited longest.
    pub fn pop_waiting(&mut self, kind: Kind) -> Option<WebhookId> {
        self.waiting[kind as usize].pop_front()
    }

    /// The same, which goes on waiting.
    pub fn first_waiting(&self, kind: Kind) -> Option<WebhookId> {
        self.waiting[kind as usize].front().copied()
    }

    /// Has a lane wait: at the end, or again in front.
    pub fn push_waiting(&mut self, kind: Kind, id: WebhookId, is_in_front: bool) {
        let line = &mut self.waiting[kind as usize];
        if is_in_front { line.push_front(id) } else { line.push_back(id) }
    }

    /// Takes a webhook's tests from that number on out of the line.
    pub fn take_tests(&mut self, id: WebhookId, from: IncrementId) -> Vec<Parcel> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (of, parcel) in std::mem::take(&mut self.tests) {
            if of == id && parcel.increment_id >= from {
                bytes += parcel.weight();
                taken.push(parcel);
            } else {
                self.tests.push_back((of, parcel));
            }
        }
        self.tests_bytes -= bytes;
        taken
    }

    /// True if there is something that only room is missing for.
    pub fn is_waiting_for_room(&self) -> bool {
        !self.tests.is_empty() || self.waiting.iter().any(|line| !line.is_empty())
    }
}
