//! Receivers of every temper.

use std::time::Duration;

use fastrand::Rng;

use crate::delivery::health::Feedback;
use crate::domain::delivery::{Attempt, AttemptError, ErrorClass, Outcome, Verdict};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Webhook;
use crate::store::Parcel;

/// How a receiver is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// It takes everything.
    Good,
    /// It takes one time in two.
    Moody,
    /// It answers 500.
    Failing,
    /// It has it, and its answer comes too late.
    Slow,
    /// It asks to be left alone for a while.
    Busy,
    /// Nobody is there.
    Dead,
    /// It answers 410.
    Gone,
}

impl Temper {
    /// Each, the usual ones more often.
    pub const ALL: [Self; 10] = [
        Self::Good,
        Self::Good,
        Self::Good,
        Self::Moody,
        Self::Moody,
        Self::Failing,
        Self::Slow,
        Self::Busy,
        Self::Dead,
        Self::Gone,
    ];

    /// What comes of a request.
    pub fn answer(self, rng: &mut Rng, has_arrived: bool) -> Answer {
        let bad = |status, feedback| Answer { arrives: true, status: Some(status), feedback, asked: None };
        match self {
            Self::Good => Answer::GOOD,
            Self::Moody if rng.bool() => Answer::GOOD,
            Self::Moody | Self::Failing => bad(500, Feedback::Bad),
            Self::Slow => Answer { arrives: true, status: None, feedback: Feedback::Lost, asked: None },
            Self::Dead => Answer { arrives: has_arrived, status: None, feedback: Feedback::Lost, asked: None },
            Self::Gone => bad(410, Feedback::Bad),
            Self::Busy => {
                let asked = rng.bool().then(|| Duration::from_secs(rng.u64(1..5_000)));
                Answer { asked, ..bad(429, Feedback::TooMuch(asked)) }
            }
        }
    }
}

/// What comes of a request.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// It reaches its receiver.
    pub arrives: bool,
    status: Option<u16>,
    feedback: Feedback,
    asked: Option<Duration>,
}

impl Answer {
    const GOOD: Self =
        Self { arrives: true, status: Some(200), feedback: Feedback::Good(Duration::from_millis(3)), asked: None };

    /// As the worker judges it.
    pub fn outcome(
        self,
        webhook: &Webhook,
        parcel: &Parcel,
        (started_at, ended_at): (Timestamp, Timestamp),
        random: f64,
    ) -> (Outcome, Feedback) {
        let attempt = parcel.attempts + 1;
        let of_policy = attempt.saturating_sub(parcel.policy_start);
        let verdict = match self.status {
            Some(200) => Verdict::Delivered,
            Some(410) => Verdict::Gone,
            _ => webhook
                .spec
                .retry
                .next_attempt(of_policy, ended_at, self.asked, random)
                .map_or(Verdict::Abandoned, Verdict::Retry),
        };
        let class = if self.status.is_some() { ErrorClass::Status } else { ErrorClass::Timeout };
        let error = || AttemptError { class, detail: String::new() };
        let outcome = Outcome {
            merchant_id: webhook.merchant_id,
            webhook_id: webhook.webhook_id,
            numbers: parcel.numbers(),
            attempt: Attempt {
                attempt,
                started_at,
                queue_delay: started_at.since(parcel.due_at.unwrap_or(parcel.numbered_at)),
                duration: ended_at.since(started_at),
                address: None,
                status_code: self.status,
                error: (verdict != Verdict::Delivered).then(error),
                request_headers: "a: b\n".to_owned(),
                response_headers: String::new(),
                response_body: vec![b'x'; 40],
            },
            verdict,
            ended_at,
            pause: None,
            resends_asked: parcel.resends_asked,
        };
        (outcome, self.feedback)
    }
}
