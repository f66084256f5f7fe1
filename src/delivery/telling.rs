//! What the log is told of a webhook: when its receiver begins to fail and is back, and what
//! the server does about it. Each kind of line comes once a webhook and minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::domain::delivery::{Outcome, Verdict};
use crate::domain::id::WebhookId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;

/// How long a kind of line of one webhook is not repeated.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Lines that are remembered; beyond, those that may be repeated are forgotten, and if there
/// are none, all.
const REMEMBERED_MAX: usize = 10_000;

/// How a lane's receiver is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The last attempt failed.
    pub is_failing: bool,
    /// It is only probed.
    pub is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Fails,
    Opened,
    Closed,
    Abandoned,
    Disabled,
    Recovered,
}

/// What was told lately.
#[derive(Debug, Default)]
pub struct Telling {
    told: HashMap<(WebhookId, Line), Timestamp>,
}

impl Telling {
    /// An attempt has ended, and that was how its receiver did before, and does now.
    pub fn attempted(&mut self, outcome: &Outcome, [before, after]: [Doing; 2], now: Timestamp) {
        let (webhook_id, increment_id) = (outcome.webhook_id, outcome.numbers.first);
        let error = outcome.attempt.error.as_ref().map(|error| error.class.name());
        let status = outcome.attempt.status_code;
        if !before.is_failing && after.is_failing && self.may_tell(webhook_id, Line::Fails, now) {
            warn!(%webhook_id, %increment_id, error, status, "a receiver begins to fail");
        }
        if !before.is_open && after.is_open && self.may_tell(webhook_id, Line::Opened, now) {
            warn!(%webhook_id, error, status, "a breaker opens: the receiver is only probed from now on");
        }
        if before.is_open && !after.is_open && self.may_tell(webhook_id, Line::Closed, now) {
            info!(%webhook_id, "a breaker closes: the receiver takes deliveries again");
        }
        if outcome.verdict == Verdict::Abandoned && self.may_tell(webhook_id, Line::Abandoned, now) {
            warn!(%webhook_id, %increment_id, error, status, "a delivery is abandoned");
        }
    }

    /// The definition of a webhook has changed, by its owner or by the server.
    pub fn redefined(&mut self, before: Option<&Arc<Webhook>>, after: Option<&Arc<Webhook>>, now: Timestamp) {
        let (Some(before), Some(after)) = (before, after) else { return };
        let webhook_id = after.webhook_id;
        match (before.disabled, after.disabled) {
            (None, Some(reason)) if self.may_tell(webhook_id, Line::Disabled, now) => {
                let reason = reason.name();
                warn!(%webhook_id, reason, "a webhook is disabled: nothing is sent until it is enabled");
            }
            (None, None)
                if before.is_recovering
                    && !after.is_recovering
                    && after.consecutive_failures == 0
                    && self.may_tell(webhook_id, Line::Recovered, now) =>
            {
                info!(%webhook_id, "a webhook that was disabled has recovered");
            }
            _ => {}
        }
    }

    fn may_tell(&mut self, id: WebhookId, line: Line, now: Timestamp) -> bool {
        // One that lies in the future was before the clock went back.
        let is_recent = |at: Timestamp| at <= now && now.since(at) < AGAIN_AFTER;
        if self.told.get(&(id, line)).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if self.told.len() >= REMEMBERED_MAX {
            self.told.retain(|_, at| is_recent(*at));
        }
        if self.told.len() >= REMEMBERED_MAX {
            self.told.clear();
        }
        self.told.insert((id, line), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_webhook_comes_once_a_minute_and_memory_is_bounded() {
        let mut telling = Telling::default();
        let mut may_tell = |id, line, seconds: i64| telling.may_tell(WebhookId(id), line, Timestamp(seconds * 1_000));
        assert!(may_tell(1, Line::Fails, 0) && !may_tell(1, Line::Fails, 59) && may_tell(1, Line::Fails, 60));
        assert!(may_tell(1, Line::Opened, 60) && may_tell(2, Line::Fails, 60));
        assert!(may_tell(1, Line::Fails, 10), "the clock went back");
        for id in 0..2 * REMEMBERED_MAX as i64 {
            assert!(may_tell(10 + id, Line::Abandoned, 100));
        }
        assert!(telling.told.len() <= REMEMBERED_MAX);
    }
}
