//! How all webhooks are doing, for whoever watches the server.

use super::cluster::Cluster;
use super::id::WebhookId;
use super::time::Timestamp;
use super::webhook::DisabledReason;

/// Whether deliveries of a webhook go out, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// The last attempt delivered, or there was none.
    Healthy,
    /// The last attempt failed.
    Failing,
    /// Its receiver pulls, so nothing goes out.
    Pulled,
    /// Its owner has paused it.
    Paused,
    /// The server has disabled it, for its receiver answered 410 Gone.
    DisabledGone,
    /// The server has disabled it, for attempts failed for days.
    DisabledFailing,
    /// Its owner has switched it off.
    Off,
}

impl Doing {
    /// Each.
    pub const ALL: [Self; 7] = [
        Self::Healthy,
        Self::Failing,
        Self::Pulled,
        Self::Paused,
        Self::DisabledGone,
        Self::DisabledFailing,
        Self::Off,
    ];

    /// Of a webhook with these properties; what its owner has said goes before what
    /// the server has.
    pub fn of(
        [is_active, is_paused, is_pulled]: [bool; 3],
        disabled: Option<DisabledReason>,
        consecutive_failures: u32,
    ) -> Self {
        match disabled {
            _ if !is_active => Self::Off,
            Some(DisabledReason::Gone) => Self::DisabledGone,
            Some(DisabledReason::Failing) => Self::DisabledFailing,
            None if is_paused => Self::Paused,
            None if is_pulled => Self::Pulled,
            None if consecutive_failures > 0 => Self::Failing,
            None => Self::Healthy,
        }
    }

    /// Its name as the value of a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Pulled => "pulled",
            Self::Paused => "paused",
            Self::DisabledGone => "disabled_gone",
            Self::DisabledFailing => "disabled_failing",
            Self::Off => "off",
        }
    }
}

/// What a webhook has waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Which.
    pub webhook_id: WebhookId,
    /// Whether its deliveries go out.
    pub doing: Doing,
    /// How many are to be sent, for the first time or again.
    pub pending: u64,
    /// Since when the one has been due that fell due first, if one is: it was numbered
    /// then, or was to be sent again.
    pub due_since: Option<Timestamp>,
}

/// A store, looked through.
#[derive(Clone, Debug)]
pub struct Survey {
    /// When.
    pub at: Timestamp,
    /// What each webhook has waiting, of those for which this node sends.
    pub webhooks: Vec<Backlog>,
    /// Sessions that have not expired.
    pub sessions: u64,
    /// What the store takes up on disk.
    pub store_bytes: u64,
    /// The nodes that share it; `None`: it is one server's alone.
    pub cluster: Option<Cluster>,
    /// The leases that this one holds; `None`: there are none to hold.
    pub leases_held: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_owner_says_goes_first() {
        let on = [true, false, false];
        assert_eq!(Doing::of(on, None, 0), Doing::Healthy);
        assert_eq!(Doing::of(on, None, 1), Doing::Failing);
        assert_eq!(Doing::of([true, false, true], None, 1), Doing::Pulled);
        assert_eq!(Doing::of([true, true, true], None, 1), Doing::Paused);
        assert_eq!(Doing::of([true, true, false], Some(DisabledReason::Gone), 9), Doing::DisabledGone);
        assert_eq!(Doing::of(on, Some(DisabledReason::Failing), 9), Doing::DisabledFailing);
        assert_eq!(Doing::of([false, true, false], Some(DisabledReason::Gone), 9), Doing::Off);
        assert!(Doing::ALL.iter().enumerate().all(|(place, doing)| *doing as usize == place));
    }
}
