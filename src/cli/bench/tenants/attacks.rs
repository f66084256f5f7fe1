//! The attacks. Each prepares itself, says that it is ready, and then takes
//! what it can get of a server that lets it, until its time is over.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::load::Wire;
use super::super::sink::{CONTROLS_PATH, FAT_PATH};
use super::attacker::{Attacker, Running};
use crate::cli::Failure;

/// The topic of what attackers publish.
const TOPIC: &str = "attack:event";
/// Where an attacker's receiver answers at once.
const SINK: &str = "/attacker";

/// An attack.
pub struct Attack {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// Whether it is among those that run if none is named.
    pub is_worst: bool,
    /// Does it.
    pub run: fn(Attacker) -> Running,
}

macro_rules! attacks {
    ($($name:literal, $is_worst:literal, $what:literal, $run:ident;)*) => {
        /// All of them.
        pub const ALL: &[Attack] = &[
            $(Attack {
                name: $name,
                what: $what,
                is_worst: $is_worst,
                run: |attacker| Box::pin($run(attacker)),
            },)*
        ];
    };
}

attacks! {
    "expansions", true, "tests a webhook that expands 500 names with messages of 170,000 members; 4 clients", test_with_many_expansions;
    "expansions-pulled", true, "pulls such messages from such a webhook; 8 clients", pull_with_many_expansions;
    "long-filter", true, "filters 50,000 events by 5,000 conditions, and may only read; 4 clients", filter_by_many_conditions;
    "unread-answers", true, "asks for 100 documents at once without a login, and reads nothing; 100 connections", leave_answers_unread;
    "escaped-answers", true, "lists 300 attempts with 100 kB of control characters each; 2 clients", list_escaped_answers;
    "waiting-pulls", false, "has 4,200 pulls wait, from 16 addresses", have_pulls_wait;
    "unread-pages", false, "asks for a page on 4,200 connections from 16 addresses, and reads nothing", leave_pages_unread;
    "many-pulls", false, "pulls 80 events of 60 kB at once; 200 clients", pull_much;
    "large-events", false, "asks for an event of 1 MB; 1,000 clients", ask_for_large_events;
    "crumbs", false, "holds 2,000 connections from 16 addresses, each with 16 kB of a body in pieces of one byte", send_crumbs;
    "repeated-key", false, "repeats an event of 990 deliveries up to 1,000 times in a call; 4 clients", repeat_a_key;
    "wide-publish", false, "publishes up to 10 events to 1,000 webhooks a call; 4 clients", publish_to_many_webhooks;
    "wrong-logins", false, "logs in with ever new names; 16 clients", log_in_with_wrong_names;
    "half-heads", true, "holds 4,096 connections from 16 addresses with half a head each", hold_half_heads;
    "many-logins", false, "logs in again and again; 4 clients", log_in_again_and_again;
    "swelling-xml", true, "has 60 bodies made that are 14 times as large as their message of 1 MB", swell_into_xml;
    "silent-receivers", true, "publishes to 300 webhooks whose receiver says nothing", publish_to_silent_receivers;
    "many-backfills", false, "backfills 20,000 events to 300 webhooks; 4 clients", backfill_many_webhooks;
    "many-deliveries", true, "publishes 100,000 deliveries of 1 kB to 500 fast webhooks, twice", publish_many_deliveries;
    "many-jobs", true, "starts 1,920 backfills of 200 events; 4 clients", start_many_jobs;
    "fat-answers", false, "has the answers of 1,000 attempts logged, 160 kB of noise each, twice", have_fat_answers_logged;
}

fn pulled() -> Value {
    json!({"topics": TOPIC, "delivery_mode": "pull"})
}

/// As many members as fit into a request, each of which an expansion has to
/// look for.
fn many_members() -> String {
    let members = vec![r#""":{}"#; 170_000];
    format!("{{{}}}", members.join(","))
}

/// The longest expansion that names nothing of such a message.
fn many_names() -> String {
    vec!["b"; 500].join(",")
}

/// A call as it goes over a connection.
fn posted(call: &[u8]) -> Vec<u8> {
    let head = "POST / HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length";
    [format!("{head}: {}\r\n\r\n", call.len()).as_bytes(), call].concat()
}

/// Publishes events without a webhook, or whatever the webhooks are.
async fn publish_in_advance(attacker: &Attacker, wire: &mut Wire, events: usize) -> Result<(), Failure> {
    for _ in (0..events).step_by(1_000) {
        let events: Vec<_> = (0..events.min(1_000)).map(|n| json!({"topic": TOPIC, "message": {"n": n}})).collect();
        attacker.prepare(wire, "event.publish_many", json!([events])).await?;
    }
    Ok(())
}

/// The call that publishes an event as often as the server allows, and how
/// often that is. It is found out by trying these numbers, the highest first.
async fn most_at_once(attacker: &Attacker, event: &Value, counts: &[usize]) -> Result<(usize, Bytes), Failure> {
    let mut wire = attacker.wire().await?;
    let mut refused = Failure::failed("nothing was tried");
    for count in counts {
        let events = vec![event; *count];
        match attacker.prepare(&mut wire, "event.publish_many", json!([events])).await {
            Ok(_) => return Ok((*count, attacker.call("event.publish_many", json!([events])))),
            Err(failure) => refused = failure,
        }
    }
    Err(refused)
}

async fn test_with_many_expansions(attacker: Attacker) -> Result<(), Failure> {
    let webhook = json!({"topics": TOPIC, "url": attacker.url(SINK), "expansions": {"test:ping": many_names()}});
    let ids = attacker.webhooks(1, webhook).await?;
    let call = attacker.call("webhook.test", json!([ids[0], "MEMBERS"]));
    let call = String::from_utf8_lossy(&call).replace("\"MEMBERS\"", &many_members());
    let call = Bytes::from(call);
    let until = attacker.ready().await?;
    attacker.flood(until, 4, |_| Some(call.clone())).await;
    Ok(())
}

async fn pull_with_many_expansions(attacker: Attacker) -> Result<(), Failure> {
    let mut webhook = pulled();
    webhook["expansions"] = json!({TOPIC: many_names()});
    let ids = attacker.webhooks(1, webhook).await?;
    let mut wire = attacker.wire().await?;
    let publish = attacker.call("event.publish", json!([TOPIC, "MEMBERS"]));
    let publish = String::from_utf8_lossy(&publish).replace("\"MEMBERS\"", &many_members());
    for _ in 0..4 {
        wire.call(publish.clone()).await?;
    }
    let until = attacker.ready().await?;
    let pull = attacker.call("delivery.pull", json!([ids[0], 0]));
    attacker.flood(until, 8, |_| Some(pull.clone())).await;
    Ok(())
}

async fn filter_by_many_conditions(attacker: Attacker) -> Result<(), Failure> {
    let ids = attacker.webhooks(1, pulled()).await?;
    publish_in_advance(&attacker, &mut attacker.wire().await?, 50_000).await?;
    let conditions = vec!["id+gt+0"; 5_000].join("+and+");
    let path = format!("/v1/webhooks/subscriptions/{}/events?take=1&filter={conditions}", ids[0]);
    let until = attacker.ready().await?;
    let request = |_| Request::get(&path).header("x-api-key", &attacker.reader_key).body(Full::default()).ok();
    attacker.flood_requests(until, 4, request).await;
    Ok(())
}

async fn leave_answers_unread(attacker: Attacker) -> Result<(), Failure> {
    let discover = r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#;
    let batch = format!("[{}]", vec![discover; 100].join(","));
    let until = attacker.ready().await?;
    attacker.hold(until, 100, 1, &posted(batch.as_bytes()), false).await;
    Ok(())
}

async fn list_escaped_answers(attacker: Attacker) -> Result<(), Failure> {
    const ATTEMPTS: usize = 300;
    let webhook = json!({"topics": TOPIC, "url": attacker.url(CONTROLS_PATH)});
    let ids = attacker.webhooks(1, webhook).await?;
    let mut wire = attacker.wire().await?;
    attacker.prepare(&mut wire, "event.publish", json!([TOPIC, {}])).await?;
    let patience = Instant::now() + Duration::from_secs(20);
    let mut tried = 0;
    while tried < ATTEMPTS as u64 && Instant::now() < patience {
        attacker.prepare(&mut wire, "delivery.retry", json!([ids[0], 1])).await?;
        let before = tried;
        while tried == before && Instant::now() < patience {
            sleep(Duration::from_millis(2)).await;
            let delivery = attacker.prepare(&mut wire, "delivery.get", json!([ids[0], 1])).await?;
            tried = delivery["attempts"].as_u64().unwrap_or(before);
        }
    }
    let list = attacker.call("delivery.attempts", json!([ids[0], 1, {"limit": 1_000}]));
    let until = attacker.ready().await?;
    attacker.flood(until, 2, |_| Some(list.clone())).await;
    Ok(())
}

async fn have_pulls_wait(attacker: Attacker) -> Result<(), Failure> {
    let ids = attacker.webhooks(1, pulled()).await?;
    let pull = attacker.call("delivery.pull", json!([ids[0], 0, 100, 20_000]));
    let until = attacker.ready().await?;
    attacker.hold(until, 4_200, 16, &posted(&pull), true).await;
    Ok(())
}

async fn leave_pages_unread(attacker: Attacker) -> Result<(), Failure> {
    let until = attacker.ready().await?;
    attacker.hold(until, 4_200, 16, b"GET /docs HTTP/1.1\r\nhost: server\r\n\r\n", false).await;
    Ok(())
}

async fn pull_much(attacker: Attacker) -> Result<(), Failure> {
    let ids = attacker.webhooks(1, pulled()).await?;
    let mut wire = attacker.wire().await?;
    for _ in 0..8 {
        let event = json!({"topic": TOPIC, "message": {"pad": "x".repeat(60_000)}});
        attacker.prepare(&mut wire, "event.publish_many", json!([vec![event; 10]])).await?;
    }
    let pull = attacker.call("delivery.pull", json!([ids[0], 0, 80]));
    let until = attacker.ready().await?;
    attacker.flood(until, 200, |_| Some(pull.clone())).await;
    Ok(())
}

async fn ask_for_large_events(attacker: Attacker) -> Result<(), Failure> {
    let message = json!({"pad": "x".repeat(1_000_000)});
    let published = attacker.prepare(&mut attacker.wire().await?, "event.publish", json!([TOPIC, message])).await?;
    let get = attacker.call("event.get", json!([published["event_id"]]));
    let until = attacker.ready().await?;
    attacker.flood(until, 1_000, |_| Some(get.clone())).await;
    Ok(())
}

async fn send_crumbs(attacker: Attacker) -> Result<(), Failure> {
    let head =
        "POST / HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let crumbs = "1\r\n \r\n".repeat(2_700);
    let until = attacker.ready().await?;
    attacker.hold(until, 2_000, 16, format!("{head}{crumbs}").as_bytes(), true).await;
    Ok(())
}

async fn repeat_a_key(attacker: Attacker) -> Result<(), Failure> {
    attacker.webhooks(990, pulled()).await?;
    let event = json!({"topic": TOPIC, "message": {}, "options": {"idempotency_key": "again"}});
    attacker.prepare(&mut attacker.wire().await?, "event.publish_many", json!([[event]])).await?;
    let (_, call) = most_at_once(&attacker, &event, &[1_000, 100, 10, 2, 1]).await?;
    let until = attacker.ready().await?;
    attacker.flood(until, 4, |_| Some(call.clone())).await;
    Ok(())
}

async fn publish_to_many_webhooks(attacker: Attacker) -> Result<(), Failure> {
    attacker.webhooks(1_000, pulled()).await?;
    let (_, call) = most_at_once(&attacker, &json!({"topic": TOPIC, "message": {}}), &[10, 5, 2, 1]).await?;
    let until = attacker.ready().await?;
    attacker.flood(until, 4, |_| Some(call.clone())).await;
    Ok(())
}

async fn log_in_with_wrong_names(attacker: Attacker) -> Result<(), Failure> {
    let until = attacker.ready().await?;
    let login = |number| {
        let (name, key) = (format!("nobody-{number}"), "wrong");
        let login = json!({"jsonrpc": "2.0", "id": 1, "method": "login", "params": [name, key]});
        Some(login.to_string().into())
    };
    attacker.flood(until, 16, login).await;
    Ok(())
}

async fn hold_half_heads(attacker: Attacker) -> Result<(), Failure> {
    let until = attacker.ready().await?;
    attacker.hold(until, 4_096, 16, b"POST / HTTP/1.1\r\nhost: ser", true).await;
    Ok(())
}

async fn log_in_again_and_again(attacker: Attacker) -> Result<(), Failure> {
    let params = [&attacker.user, &attacker.key];
    let login = json!({"jsonrpc": "2.0", "id": 1, "method": "login", "params": params}).to_string();
    let until = attacker.ready().await?;
    attacker.flood(until, 4, |_| Some(login.clone().into())).await;
    Ok(())
}

async fn swell_into_xml(attacker: Attacker) -> Result<(), Failure> {
    let webhook = json!({"topics": TOPIC, "url": attacker.url(SINK), "format": "3dcart", "encoding": "xml"});
    attacker.webhooks(60, webhook).await?;
    let mut message = Map::new();
    message.insert("!".repeat(1_000_000), Value::from(1));
    let call = attacker.call("event.publish", json!([TOPIC, message]));
    let until = attacker.ready().await?;
    attacker.flood(until, 1, |number| (number < 3).then(|| call.clone())).await;
    // What was published goes on by itself.
    sleep_until(until).await;
    Ok(())
}

async fn publish_to_silent_receivers(attacker: Attacker) -> Result<(), Failure> {
    let webhook = json!({"topics": TOPIC, "url": attacker.url("/hostile/Silent"), "timeouts": {"total_ms": 120_000}});
    attacker.webhooks(300, webhook).await?;
    let call = attacker.call("event.publish", json!([TOPIC, {}]));
    let until = attacker.ready().await?;
    attacker.flood(until, 1, |number| (number < 1).then(|| call.clone())).await;
    sleep_until(until).await;
    Ok(())
}

async fn backfill_many_webhooks(attacker: Attacker) -> Result<(), Failure> {
    publish_in_advance(&attacker, &mut attacker.wire().await?, 20_000).await?;
    let ids = attacker.webhooks(300, pulled()).await?;
    let until = attacker.ready().await?;
    let backfill = |number| Some(attacker.call("webhook.backfill", json!([ids.get(number as usize)?, {"all": true}])));
    attacker.flood(until, 4, backfill).await;
    sleep_until(until).await;
    Ok(())
}

async fn publish_many_deliveries(attacker: Attacker) -> Result<(), Failure> {
    const EVENTS: usize = 200;
    attacker.webhooks(500, json!({"topics": TOPIC, "url": attacker.url(SINK)})).await?;
    let event = json!({"topic": TOPIC, "message": {"pad": "x".repeat(1_000)}});
    let (batch, call) = most_at_once(&attacker, &event, &[20, 4, 2, 1]).await?;
    let until = attacker.ready().await?;
    twice(&attacker, until, (EVENTS / batch) as u64, &call).await;
    Ok(())
}

async fn start_many_jobs(attacker: Attacker) -> Result<(), Failure> {
    publish_in_advance(&attacker, &mut attacker.wire().await?, 200).await?;
    let ids = attacker.webhooks(120, pulled()).await?;
    let until = attacker.ready().await?;
    let backfill = |number: u64| {
        let number = number as usize;
        let id = (number < 1_920).then(|| ids[number % ids.len()])?;
        Some(attacker.call("webhook.backfill", json!([id, {"all": true}])))
    };
    attacker.flood(until, 4, backfill).await;
    sleep_until(until).await;
    Ok(())
}

async fn have_fat_answers_logged(attacker: Attacker) -> Result<(), Failure> {
    attacker.webhooks(50, json!({"topics": TOPIC, "url": attacker.url(FAT_PATH)})).await?;
    let call = attacker.call("event.publish_many", json!([vec![json!({"topic": TOPIC, "message": {}}); 20]]));
    let until = attacker.ready().await?;
    twice(&attacker, until, 1, &call).await;
    Ok(())
}

/// So many calls at the beginning, and as many after half the time.
async fn twice(attacker: &Attacker, until: Instant, calls: u64, call: &Bytes) {
    let some = |number| (number < calls).then(|| call.clone());
    let half = until - attacker.half();
    attacker.flood(until, 4, some).await;
    sleep_until(half).await;
    attacker.flood(until, 4, some).await;
    sleep_until(until).await;
}

#[cfg(test)]
mod tests {
    use super::super::trial::TOGETHER;
    use super::*;

    #[test]
    fn the_document_tells_of_every_attack() {
        let document = include_str!("../../../../docs/measured.md");
        let rows = ALL.iter().map(|attack| (attack.name, attack.what));
        for (name, what) in rows.chain([(TOGETHER.name, TOGETHER.what)]) {
            let row = format!("| `{name}` | {what} |");
            assert!(document.lines().any(|line| line == row), "docs/measured.md lacks the row {row}");
        }
        assert_eq!(ALL.iter().filter(|attack| attack.is_worst).count(), 10, "so many run if none is named");
    }
}
