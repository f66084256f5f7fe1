//! What lanes take up, may have, and are doing.

/// What lanes take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests under way.
    pub requests: usize,
    /// Bytes of messages that wait, or may be on their way from the store.
    pub loaded_bytes: usize,
    /// Bytes of messages and bodies that are under way.
    pub sending_bytes: usize,
}

/// How much of the server a lane may have.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Requests at once, unless the webhook's owner says otherwise.
    pub requests: usize,
    /// Requests at once, whatever the owner says.
    pub requests_max: usize,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Its receiver took the last deliveries.
    Proven,
    /// Its receiver has yet to take one.
    Unproven,
    /// Its receiver fails, and is only probed.
    Open,
    /// Its webhook is off, disabled or paused, or is pulled.
    Stopped,
}

/// How many lanes are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStates([usize; LaneState::ALL.len()]);

impl Load {
    /// Has a sum follow one of those it sums up.
    pub fn replace(&mut self, before: Self, after: Self) {
        self.requests = self.requests - before.requests + after.requests;
        self.loaded_bytes = self.loaded_bytes - before.loaded_bytes + after.loaded_bytes;
        self.sending_bytes = self.sending_bytes - before.sending_bytes + after.sending_bytes;
    }

    /// True if something of it is less.
    pub fn is_less_than(self, other: Self) -> bool {
        self.requests < other.requests
            || self.loaded_bytes < other.loaded_bytes
            || self.sending_bytes < other.sending_bytes
    }
}

impl LaneState {
    /// Each.
    pub const ALL: [Self; 4] = [Self::Proven, Self::Unproven, Self::Open, Self::Stopped];

    /// Its name as the value of a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unproven => "unproven",
            Self::Open => "open",
            Self::Stopped => "stopped",
        }
    }
}

impl LaneStates {
    /// There is one more in that state.
    pub fn add(&mut self, state: LaneState) {
        self.0[state as usize] += 1;
    }

    /// There is one less in that state.
    pub fn remove(&mut self, state: LaneState) {
        self.0[state as usize] -= 1;
    }

    /// How many are in it.
    pub fn of(self, state: LaneState) -> usize {
        self.0[state as usize]
    }
}

/// Which of the lanes that a webhook had, one after the other: what an earlier one
/// had begun is nothing to the next, which began with what the store had then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term(u64);

impl Term {
    /// That of the lane that is made next.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
