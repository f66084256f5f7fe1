//! Servers whose clock only the test moves, and whose jitter is none.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::domain::secret::SecretKey;
use tallyhook::domain::signature::verify_standard_webhooks;
use tallyhook::domain::time::{Clock, Timestamp};
use tokio::sync::watch;

use super::{Arrived, Receiver, Start, TestServer};

pub const START: Timestamp = Timestamp(1_700_000_000_000);
pub const SECRET: &str = "2RUJ8NXLnLRrAj3";
pub const DAY_S: u64 = 86_400;

/// What moves the clock.
pub struct Hand(watch::Sender<Timestamp>);

impl Hand {
    /// So many seconds later.
    pub fn pass(&self, seconds: u64) {
        self.pass_ms(seconds * 1_000);
    }

    /// So many milliseconds later.
    pub fn pass_ms(&self, ms: u64) {
        self.0.send_modify(|now| *now = now.after(Duration::from_millis(ms)));
    }

    /// What the clock says.
    pub fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, to: Timestamp) {
        self.0.send_replace(to);
    }
}

impl Start {
    /// With a clock that stands at [`START`] until it is moved.
    pub async fn manual(self) -> (TestServer, Hand) {
        self.manual_at(START).await
    }

    /// With a clock that stands there until it is moved.
    pub async fn manual_at(self, now: Timestamp) -> (TestServer, Hand) {
        let (clock, hand) = Clock::manual(now);
        let hooks = Hooks { clock, random: Arc::new(|| 0.5), ..self.hooks };
        (Self { hooks, ..self }.go().await, Hand(hand))
    }
}

/// Registers a webhook to everything for the receiver, with these members.
pub async fn webhook(server: &TestServer, receiver: &Receiver, more: Value) -> i64 {
    let mut data = json!({"topics": "*", "url": receiver.url(), "secret_key": SECRET});
    for (name, value) in more.as_object().unwrap() {
        data[name] = value.clone();
    }
    server.webhook(data).await["webhook_id"].as_i64().unwrap()
}

/// Checks the signature by the webhook's secret.
pub fn verify(arrived: &Arrived) {
    let secret = SecretKey::try_new(SECRET).unwrap();
    let timestamp = arrived.header("webhook-timestamp").parse().unwrap();
    let (id, signature) = (arrived.header("webhook-id"), arrived.header("webhook-signature"));
    assert!(verify_standard_webhooks(&secret, id, timestamp, &arrived.body, signature));
}
