//! `tallyhook tail`: deliveries and events as they happen, a line each.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::{Http, RpcError};
use super::colour::{self, RED, painted};
use super::json::{on_a_line, safe};
use super::signals::Signals;
use super::socket::{Ended, RpcSocket};
use super::target::ServerFlags;
use super::{Failure, block_on, print, say};
use crate::domain::fault::Violation;
use crate::domain::topic::{Patterns, Topic};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook tail                          all deliveries, from now on
  tallyhook tail --webhook 1 --from 42    those of a webhook, from number 42 on
  tallyhook tail --topic 'order:*' --topic product:deleted
  tallyhook tail --events                 events as they are published
  tallyhook tail --json                   what the server tells, a line of JSON each

A line tells when a delivery was numbered, tried or ended: its webhook, number
and topic, what has become of it after how many attempts, and how the last one
went. A line that begins with MISSED names numbers that were not told, because
they came faster than they could be. A connection that is lost is made again;
with --webhook or --events it goes on after the last number. Ctrl-C ends it.";

/// How long to wait before a lost connection is made again: twice as long each
/// time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How much of a message or an error is shown, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// What to show, of which server, and as whom.
#[derive(Args)]
pub struct TailArgs {
    /// Only deliveries of this webhook
    #[arg(long, value_name = "ID", conflicts_with = "events")]
    webhook: Option<i64>,
    /// Only these topics: order:created, order:* or *; may repeat
    #[arg(long, value_name = "PATTERN")]
    topic: Vec<String>,
    /// Begin with this number: of the webhook, or with --events of an event
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,
    /// Show events as they are published, rather than deliveries
    #[arg(long)]
    events: bool,
    /// Print what the server tells as it is, a line of JSON each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Shows what happens until a signal comes.
pub fn run(args: TailArgs) -> Result<(), Failure> {
    let target = args.server.target()?;
    if args.from.is_some() && args.webhook.is_none() && !args.events {
        return Err(Failure::usage("--from needs --webhook, since each webhook counts for itself; or --events"));
    }
    let wrong = |violation: Violation| Failure::usage(format!("--topic {}", violation.problem));
    let joined = args.topic.join(",");
    let topics = (!args.topic.is_empty()).then(|| Patterns::try_new(&joined)).transpose().map_err(wrong)?;
    let (user, key) = args.server.credentials(&target)?;
    let http = args.server.http(target)?;
    let tail = Tail {
        webhook: args.webhook,
        topics,
        after: args.from.map(|first| first - 1),
        shows_events: args.events,
        shows_json: args.json,
        is_coloured: colour::is_wanted(),
    };
    block_on(async {
        let mut signals = Signals::catch()?;
        tokio::select! {
            ended = tail.follow(&http, &user, &key) => ended,
            () = signals.next() => Ok(()),
        }
    })
}

struct Tail {
    webhook: Option<i64>,
    topics: Option<Patterns>,
    /// The last number that was shown, where they follow each other.
    after: Option<i64>,
    shows_events: bool,
    shows_json: bool,
    is_coloured: bool,
}

impl Tail {
    /// Shows what comes, over one connection after another. The first must
    /// succeed; later ones may take their time.
    async fn follow(mut self, http: &Http, user: &str, key: &str) -> Result<(), Failure> {
        let refused = |error: RpcError| match error {
            RpcError::Fault { code: 2 | 5 | 119, .. } => Failure::failed(format!("{error} (as {user})")),
            other => Failure::failed(other),
        };
        let mut socket = RpcSocket::open(http, user, key).await.map_err(refused)?;
        let mut is_first = true;
        loop {
            let why = match self.show(socket, &mut is_first).await? {
                // A server that is short of something may soon have it, and who calls too often need only wait.
                Ended::Refused(error @ RpcError::Fault { code: 1 | 120, .. }) if !is_first => error.to_string(),
                Ended::Refused(error) => return Err(refused(error)),
                Ended::Lost(why) => why,
            };
            say(&format!("tallyhook: the connection was lost: {}", safe(&why)));
            socket = reconnect(http, user, key).await?;
            let from = match self.after {
                Some(after) => format!("what follows {after} is shown"),
                None => "what has changed in between is not shown".to_owned(),
            };
            say(&format!("tallyhook: connected again; {from}"));
        }
    }

    /// Shows what one connection tells, until it ends. The first to tell
    /// something says so.
    async fn show(&mut self, mut socket: RpcSocket, is_first: &mut bool) -> Result<Ended, Failure> {
        if let Err(ended) = self.subscribe(&mut socket, *is_first).await {
            return Ok(ended);
        }
        if std::mem::take(is_first) {
            say("tallyhook: shows what happens; Ctrl-C ends it");
        }
        loop {
            let told = match socket.told().await {
                Ok(told) => told,
                Err(ended) => {
                    socket.leave().await;
                    return Ok(ended);
                }
            };
            match self.lines(&told) {
                Ok(lines) => lines.iter().try_for_each(|line| print(line))?,
                Err(cause) => return Ok(Ended::Refused(cause.into())),
            }
        }
    }

    async fn subscribe(&mut self, socket: &mut RpcSocket, is_first: bool) -> Result<(), Ended> {
        let before = self.after;
        if let Some(id) = self.webhook
            && (before.is_none() || !is_first)
        {
            // So that it is known where to go on.
            let webhook = socket.call("webhook.get", json!([null, id])).await?;
            let Webhook { increment_id } = serde_json::from_str(webhook.get()).map_err(RpcError::from)?;
            self.after = Some(before.map_or(increment_id, |before| before.min(increment_id)));
        }
        let (method, params) = self.subscription();
        match socket.call(method, params).await {
            // No event has that id any more.
            Err(Ended::Refused(RpcError::Fault { code: 111, .. })) if self.shows_events && !is_first => {
                self.after = None;
                let (method, params) = self.subscription();
                socket.call(method, params).await.map(drop)
            }
            subscribed => subscribed.map(drop),
        }?;
        if let Some(before) = before.filter(|before| self.after.is_none_or(|after| after < *before)) {
            say(&format!("tallyhook: OTHER STORE: it has not come to {before}; what is new in it is shown"));
        }
        Ok(())
    }

    fn subscription(&self) -> (&'static str, serde_json::Value) {
        let topics = self.topics.as_ref().map(Patterns::as_str);
        match self.shows_events {
            true => ("event.subscribe", json!([null, topics, { "after_event_id": self.after }])),
            false => ("delivery.subscribe", json!([null, self.webhook, { "after_increment_id": self.after }])),
        }
    }

    /// What is shown of what was told.
    fn lines(&mut self, told: &RawValue) -> Result<Vec<String>, serde_json::Error> {
        let lines = match self.shows_events {
            true => self.of_events(told.get())?,
            false => self.of_deliveries(told.get())?,
        };
        Ok(match self.shows_json && !lines.is_empty() {
            true => vec![on_a_line(told.get())],
            false => lines,
        })
    }

    fn of_events(&mut self, told: &str) -> Result<Vec<String>, serde_json::Error> {
        let News::<MissedEvents> { missed } = serde_json::from_str(told)?;
        let line = match missed {
            Some(missed) => {
                self.after = missed.last_event_id.or(self.after);
                painted(&missed.line(), RED, self.is_coloured)
            }
            None => {
                let event: Event = serde_json::from_str(told)?;
                self.after = Some(event.event_id);
                event.line()
            }
        };
        Ok(vec![line])
    }

    fn of_deliveries(&mut self, told: &str) -> Result<Vec<String>, serde_json::Error> {
        let News::<Vec<Missed>> { missed } = serde_json::from_str(told)?;
        if let Some(missed) = missed {
            missed.iter().for_each(|missed| self.note(missed.webhook_id, missed.last_increment_id));
            return Ok(missed.iter().map(|missed| painted(&missed.line(), RED, self.is_coloured)).collect());
        }
        let delivery: Delivery = serde_json::from_str(told)?;
        self.note(Some(delivery.webhook_id), Some(delivery.increment_id));
        // Of what was pruned nobody knows the topic; it is shown.
        let topic = delivery.topic.as_deref().and_then(|topic| Topic::try_new(topic).ok());
        let is_wanted = match (&self.topics, topic) {
            (Some(topics), Some(topic)) => topics.list().iter().any(|pattern| pattern.matches(&topic)),
            _ => true,
        };
        Ok(if is_wanted { vec![delivery.line(self.is_coloured)] } else { Vec::new() })
    }

    /// Notes a number that was shown, if one webhook is followed.
    fn note(&mut self, webhook: Option<i64>, number: Option<i64>) {
        if self.webhook.is_some() && webhook == self.webhook {
            self.after = self.after.max(number);
        }
    }
}

/// Makes the connection again, however long that takes.
async fn reconnect(http: &Http, user: &str, key: &str) -> Result<RpcSocket, Failure> {
    let mut wait = RETRY_FIRST;
    loop {
        // Many that lose the same server do not come back at the same moment.
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        match RpcSocket::open(http, user, key).await {
            Ok(socket) => return Ok(socket),
            Err(_) if wait < RETRY_MAX => wait = (wait * 2).min(RETRY_MAX),
            Err(_) => {}
        }
    }
}

/// The first characters of a text, on one line.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    safe(&shown)
}

/// What is told in place of what was missed.
#[derive(Deserialize)]
struct News<M> {
    missed: Option<M>,
}

#[derive(Deserialize)]
struct Webhook {
    increment_id: i64,
}

#[derive(Deserialize)]
struct Missed {
    webhook_id: Option<i64>,
    first_increment_id: i64,
    last_increment_id: Option<i64>,
}

#[derive(Deserialize)]
struct Delivery {
    webhook_id: i64,
    increment_id: i64,
    topic: Option<String>,
    state: String,
    attempts: u32,
    created_at: String,
    next_attempt_at: Option<String>,
    ended_at: Option<String>,
    reason: Option<String>,
    last_attempt: Option<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
    started_at: String,
    status_code: Option<u16>,
    duration_ms: f64,
    error: Option<String>,
}

#[derive(Deserialize)]
struct MissedEvents {
    first_event_id: i64,
    last_event_id: Option<i64>,
}

#[derive(Deserialize)]
struct Event {
    event_id: i64,
    topic: String,
    message: Box<RawValue>,
    published_at: String,
}

impl MissedEvents {
    fn line(&self) -> String {
        let last = self.last_event_id.map_or("…".to_owned(), |last| last.to_string());
        format!("MISSED: events {} to {last}; event.get has them", self.first_event_id)
    }
}

impl Event {
    fn line(&self) -> String {
        let (at, topic) = (safe(&self.published_at), safe(&self.topic));
        format!("{at}  event {:<6}  {topic:<24}  {}", self.event_id, shortened(self.message.get()))
    }
}

impl Missed {
    fn line(&self) -> String {
        let Self { webhook_id, first_increment_id: first, last_increment_id: last } = self;
        let last = last.map_or("…".to_owned(), |last| last.to_string());
        match webhook_id {
            Some(id) => format!("MISSED: webhook {id}, numbers {first} to {last}; delivery.list has them"),
            None => "MISSED: any number of any webhook; delivery.list has them".to_owned(),
        }
    }
}

impl Delivery {
    /// One line. The state alone is coloured.
    fn line(&self, is_coloured: bool) -> String {
        let started_at = self.last_attempt.as_ref().map(|attempt| &attempt.started_at);
        // Times of this form are in the order of their texts.
        let at = [Some(&self.created_at), self.ended_at.as_ref(), started_at].into_iter().flatten().max();
        let topic = self.topic.as_deref().unwrap_or("(pruned)");
        let colour = match self.state.as_str() {
            "delivered" => "32",
            "abandoned" => "31",
            "cancelled" => "35",
            _ if self.attempts > 0 => "33",
            _ => "2",
        };
        // Padded first: a terminal shows no colours as characters.
        let state = format!("{:<9}", safe(&self.state));
        let state = painted(&state, colour, is_coloured);
        let line = format!(
            "{}  webhook {:<3}  number {:<6}  {:<24}  {state}{}",
            safe(at.map_or("", String::as_str)),
            self.webhook_id,
            self.increment_id,
            safe(topic),
            self.outcome()
        );
        line.trim_end().to_owned()
    }

    /// How the last attempt went, and what follows.
    fn outcome(&self) -> String {
        let mut parts = Vec::new();
        match self.attempts {
            0 => {}
            1 => parts.push("1 attempt ".to_owned()),
            count => parts.push(format!("{count} attempts")),
        }
        if let Some(Attempt { status_code, duration_ms, error, .. }) = &self.last_attempt {
            let status = status_code.map_or("---".to_owned(), |code| code.to_string());
            parts.push(format!("{status}  {duration_ms:>6.1} ms"));
            parts.extend(error.as_deref().map(shortened));
        }
        match (self.state.as_str(), &self.next_attempt_at) {
            ("pending", Some(at)) if self.attempts > 0 => parts.push(format!("again at {}", safe(at))),
            _ => parts.extend(self.reason.as_deref().map(safe)),
        }
        parts.iter().map(|part| format!("  {part}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(webhook: Option<i64>, shows_events: bool) -> Tail {
        Tail { webhook, topics: None, after: None, shows_events, shows_json: false, is_coloured: false }
    }

    fn told(value: serde_json::Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(&value).unwrap()
    }

    fn delivery(number: i64, more: serde_json::Value) -> Box<RawValue> {
        let mut delivery = json!({
            "webhook_id": 1, "increment_id": number, "event_id": 9, "topic": "order:created", "state": "pending",
            "attempts": 0, "created_at": "2026-11-22T03:04:05.678Z", "next_attempt_at": null, "ended_at": null,
            "reason": null, "last_attempt": null,
        });
        for (name, value) in more.as_object().unwrap() {
            delivery[name] = value.clone();
        }
        told(delivery)
    }

    #[test]
    fn lines_are_aligned_and_tell_how_it_went() {
        let mut tail = tail(None, false);
        let mut line = |number, more| tail.lines(&delivery(number, more)).unwrap().remove(0);
        assert_eq!(
            line(1, json!({})),
            "2026-11-22T03:04:05.678Z  webhook 1    number 1       order:created             pending"
        );
        let failed = json!({"started_at": "2026-11-22T03:04:06.000Z", "status_code": 500, "duration_ms": 1.23,
            "error_class": "status", "error": "HTTP 500\u{1b}[2J"});
        assert_eq!(
            line(23, json!({"attempts": 1, "next_attempt_at": "2026-11-22T03:04:11.000Z", "last_attempt": failed})),
            "2026-11-22T03:04:06.000Z  webhook 1    number 23      order:created             pending    1 attempt   500     \
             1.2 ms  HTTP 500\\u001b[2J  again at 2026-11-22T03:04:11.000Z"
        );
        let refused = json!({"started_at": "2026-11-22T03:04:06.000Z", "status_code": null, "duration_ms": 3000.0,
            "error_class": "timeout", "error": "no answer"});
        assert_eq!(
            line(
                23,
                json!({"state": "abandoned", "attempts": 13, "reason": "retries_exhausted", "topic": null,
                "ended_at": "2026-11-22T03:04:09.000Z", "last_attempt": refused})
            ),
            "2026-11-22T03:04:09.000Z  webhook 1    number 23      (pruned)                  abandoned  13 attempts  ---  \
             3000.0 ms  no answer  retries_exhausted"
        );
    }

    #[test]
    fn only_the_state_is_coloured_and_what_was_missed() {
        let mut of_deliveries = Tail { is_coloured: true, ..tail(None, false) };
        let lines = of_deliveries.lines(&delivery(1, json!({"state": "delivered"}))).unwrap();
        assert!(lines[0].contains("  \x1b[32mdelivered\x1b[0m"), "{lines:?}");
        let missed = json!({"missed": [{"webhook_id": 1, "first_increment_id": 43, "last_increment_id": 50}]});
        let lines = of_deliveries.lines(&told(missed)).unwrap();
        assert!(lines[0].starts_with("\x1b[31mMISSED: webhook 1") && lines[0].ends_with("\x1b[0m"), "{lines:?}");
        let mut of_events = Tail { is_coloured: true, ..tail(None, true) };
        let missed = json!({"missed": {"first_event_id": 8, "last_event_id": null}});
        assert!(of_events.lines(&told(missed)).unwrap()[0].starts_with("\x1b[31mMISSED: events 8"));
    }

    #[test]
    fn topics_are_chosen_and_numbers_remembered() {
        let mut tail = Tail { topics: Some(Patterns::try_new("order:*").unwrap()), ..tail(Some(1), false) };
        assert_eq!(tail.lines(&delivery(41, json!({}))).unwrap().len(), 1);
        assert!(tail.lines(&delivery(42, json!({"topic": "product:created"}))).unwrap().is_empty());
        assert_eq!(tail.lines(&delivery(3, json!({"topic": null}))).unwrap().len(), 1);
        assert_eq!(tail.after, Some(42));
        let missed = json!({"missed": [{"webhook_id": 1, "first_increment_id": 43, "last_increment_id": 50}]});
        assert_eq!(tail.lines(&told(missed)).unwrap(), ["MISSED: webhook 1, numbers 43 to 50; delivery.list has them"]);
        assert_eq!(tail.subscription().1, json!([null, 1, {"after_increment_id": 50}]));
    }

    #[test]
    fn events_are_shown_with_the_beginning_of_their_message() {
        let mut tail = tail(None, true);
        let event = |message: serde_json::Value| {
            told(json!({"event_id": 7, "topic": "order:created", "message": message,
                "created_at": "2026-11-22T03:04:05.678Z", "published_at": "2026-11-22T03:04:05.679Z"}))
        };
        let start = "2026-11-22T03:04:05.679Z  event 7       order:created             ";
        assert_eq!(tail.lines(&event(json!({"a": 1}))).unwrap(), [format!("{start}{{\"a\":1}}")]);
        let long = tail.lines(&event(json!({"a": "ü".repeat(200)}))).unwrap().remove(0);
        assert!(long.ends_with("ü…") && long.chars().count() == start.len() + SHOWN_CHARS_MAX + 1, "{long}");
        assert_eq!(tail.subscription().1, json!([null, null, {"after_event_id": 7}]));
        let missed = json!({"missed": {"first_event_id": 8, "last_event_id": null}});
        assert_eq!(tail.lines(&told(missed)).unwrap(), ["MISSED: events 8 to …; event.get has them"]);
    }
}
