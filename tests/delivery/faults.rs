//! Bad weather: clocks that jump, names that fail and move, receivers that
//! reset, are hostile, refuse, or answer one time in ten. The books are
//! checked afterwards, and order where it was asked for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tallyhook::app::Hooks;
use tallyhook::delivery::connect::Resolve;
use tallyhook::domain::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::accounts::{Accepted, Books, audit, entries};
use crate::common::manual::{DAY_S, Hand, START, verify};
use crate::common::{self, Arrived, Receiver, Reply, Start, TestServer};
use crate::tools;

/// How long nothing may happen before the clock is moved.
const LULL: Duration = Duration::from_millis(15);

/// The kinds of webhook that bad weather is tried on.
fn kinds() -> [Value; 3] {
    [json!({}), json!({"delivery_mode": "ordered"}), json!({"batch": {"max_events": 4, "wait_ms": 100}})]
}

async fn webhook(server: &TestServer, receiver: &Receiver, more: &Value, retry: Value) -> i64 {
    let mut more = more.clone();
    more["retry"] = retry;
    common::manual::webhook(server, receiver, more).await
}

async fn publish(server: &TestServer, accepted: &mut Accepted, count: usize) {
    for _ in 0..count {
        let n = accepted.len();
        accepted.extend(entries(&server.publish("order:created", json!({"n": n})).await));
    }
}

/// Moves the clock on by so many seconds whenever nothing happens, until
/// nothing is pending; the books then.
async fn weather(server: &TestServer, hand: &Hand, step_s: u64, accepted: &Accepted) -> Books {
    let mut commits = server.commits();
    let wait = async {
        loop {
            let books = audit(&server.place, accepted).unwrap();
            if books.pending == 0 {
                return books;
            }
            if tokio::time::timeout(LULL, commits.changed()).await.is_err() {
                hand.pass(step_s);
            }
        }
    };
    tokio::time::timeout(common::PATIENCE, wait).await.expect("the weather clears")
}

/// Every arrival is signed; a number always comes with the same body; those
/// that were accepted all came, and in order if that was asked for. How many
/// arrivals there were.
fn check(receiver: &Receiver, accepted: &Accepted, is_ordered: bool, took: impl Fn(usize) -> bool) -> usize {
    let arrived = receiver.so_far();
    let mut bodies = BTreeMap::new();
    let mut taken = Vec::new();
    for (place, arrival) in arrived.iter().enumerate() {
        verify(arrival);
        for (number, _) in arrival.events() {
            let first = bodies.entry(number).or_insert(&arrival.body);
            assert_eq!(*first, &arrival.body, "{number} is one thing for ever");
            if took(place) {
                taken.push(number);
            }
        }
    }
    if is_ordered {
        assert!(taken.is_sorted(), "{taken:?}");
    }
    taken.sort_unstable();
    taken.dedup();
    let id = arrived[0].json()["webhook_id"].as_i64().unwrap();
    let expected: Vec<_> = accepted.keys().filter(|(webhook, _)| *webhook == id).map(|(_, number)| *number).collect();
    assert_eq!(taken, expected);
    arrived.len()
}

/// Events for each kind of webhook, whose receiver replies so and takes those
/// that it answers with 200.
async fn endure(name: &str, events: usize, step_s: u64, reply: fn(usize) -> Reply) {
    for kind in kinds() {
        let (server, hand) = Start::default().manual().await;
        let receiver = Receiver::start(move |place, _| reply(place)).await;
        webhook(&server, &receiver, &kind, json!({"max_retries": 100, "interval_seconds": 2})).await;
        let mut accepted = Accepted::new();
        publish(&server, &mut accepted, events).await;
        let books = weather(&server, &hand, step_s, &accepted).await;
        let is_ordered = kind["delivery_mode"] == "ordered";
        let arrivals = check(&receiver, &accepted, is_ordered, |place| reply(place).status == 200);
        println!("{name}, {kind}: {arrivals} arrivals; {books:?}");
        assert_eq!(books.delivered, events);
    }
}

#[tokio::test]
async fn a_receiver_that_answers_one_time_in_ten_gets_everything() {
    endure("one in ten", 12, 1, |place| Reply::status(if place % 10 == 9 { 200 } else { 500 })).await;
}

#[tokio::test]
async fn a_storm_of_429_slows_and_loses_nothing() {
    // In seconds, as a date, as nonsense, for ever, and not at all.
    endure("429 storm", 20, 600, |place| match place % 8 {
        0 => Reply::status(429).header("retry-after", "3"),
        1 => Reply::status(503).header("retry-after", "Wed, 15 Nov 2023 00:00:00 GMT"),
        2 => Reply::status(429).header("retry-after", "soon"),
        3 => Reply::status(502).header("retry-after", "99999999999999999999"),
        4 => Reply::status(504).header("retry-after", "-1"),
        _ => Reply::status(200),
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing() {
    for kind in kinds() {
        let (server, hand) = Start::default().manual().await;
        let receiver = Receiver::start(|place, _| Reply::status(if place % 4 == 0 { 500 } else { 200 })).await;
        webhook(&server, &receiver, &kind, json!({"max_retries": 100, "interval_seconds": 60})).await;
        let mut accepted = Accepted::new();
        for jump_s in [0, 3_600, -7_200, 40 * DAY_S as i64, -40 * DAY_S as i64, 1] {
            publish(&server, &mut accepted, 5).await;
            hand.set(Timestamp(START.0 + jump_s * 1_000));
        }
        let books = weather(&server, &hand, DAY_S / 4, &accepted).await;
        let arrivals = check(&receiver, &accepted, kind["delivery_mode"] == "ordered", |place| place % 4 != 0);
        println!("jumping clock, {kind}: {arrivals} arrivals; {books:?}");
        assert_eq!(books.delivered, 30);
    }
}

/// A name that is unknown at first, then leads nowhere, then to the receiver.
struct Moving(AtomicUsize);

impl Resolve for Moving {
    fn resolve(
        &self,
        _: tallyhook::domain::id::MerchantId,
        _: String,
    ) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let asked = self.0.fetch_add(1, Ordering::SeqCst);
        async move {
            match asked {
                0 | 1 => Err(std::io::Error::other("no such host")),
                2 => Ok(Vec::new()),
                // Nobody listens there.
                3 | 4 => Ok(vec![IpAddr::from([127, 0, 0, 9])]),
                _ => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_name_that_fails_and_moves_is_followed() {
    for kind in kinds() {
        let hooks = Hooks { resolver: Arc::new(Moving(AtomicUsize::new(0))), ..Hooks::default() };
        let (server, hand) = Start { hooks, ..Start::default() }.manual().await;
        let receiver = Receiver::obliging().await;
        let mut data = kind.clone();
        data["url"] = json!(format!("http://shop.example:{}/", receiver.port()));
        let id = webhook(&server, &receiver, &data, json!({"max_retries": 20, "interval_seconds": 5})).await;
        let mut accepted = Accepted::new();
        publish(&server, &mut accepted, 6).await;
        let books = weather(&server, &hand, 5, &accepted).await;
        check(&receiver, &accepted, kind["delivery_mode"] == "ordered", |_| true);
        let log = server.call("delivery.attempts", json!([id, 1])).await.unwrap();
        println!("moving name, {kind}: {books:?}, first number: {} attempts", log.as_array().unwrap().len());
        assert_eq!(log[0]["error_class"], "dns", "{log}");
        assert_eq!(books.delivered, 6);
    }
}

/// Resets every connection but each fifth, at different points of a request.
async fn resetting() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut place = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            place += 1;
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                // Closing with this set resets the connection.
                socket_reset_on_close(&stream);
                let mut request = [0; 4_096];
                match place % 5 {
                    0 => {}
                    1 => drop(stream.read(&mut request[..10]).await),
                    2 => drop(stream.read(&mut request).await),
                    3 => {
                        let _ = stream.read(&mut request).await;
                        let _ = stream.write_all(b"HTTP/1.1 200").await;
                    }
                    _ => {
                        if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                            counter.fetch_add(1, Ordering::SeqCst);
                        }
                        let _ = stream.shutdown().await;
                        // Waits for the other side to have read it.
                        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
                    }
                }
            });
        }
    });
    (url, taken)
}

fn socket_reset_on_close(stream: &tokio::net::TcpStream) {
    stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn connections_that_are_reset_lose_nothing() {
    for kind in kinds() {
        let (server, hand) = Start::default().manual().await;
        let (url, taken) = resetting().await;
        let mut data = kind.clone();
        data["url"] = json!(url);
        let receiver = Receiver::obliging().await;
        webhook(&server, &receiver, &data, json!({"max_retries": 100, "interval_seconds": 2})).await;
        let mut accepted = Accepted::new();
        publish(&server, &mut accepted, 10).await;
        let books = weather(&server, &hand, 2, &accepted).await;
        println!("resets, {kind}: {} taken; {books:?}", taken.load(Ordering::SeqCst));
        assert_eq!(books.delivered, 10);
    }
}

/// The receiver of `tallyhook bench`, which has a path for every vice.
struct Hostile {
    child: Child,
    url: String,
}

impl Hostile {
    fn start() -> Self {
        let mut child = tools::command(env!("CARGO_BIN_EXE_tallyhook"))
            .args(["bench-receiver", "--bind", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), child }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        // Gone already, if the test was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn hostile_receivers_cost_a_bounded_time_and_delay_nobody() {
    let server = Start::default().go().await;
    let hostile = Hostile::start();
    let kinds = [
        ("Silent", "timeout"),
        ("Unread", "timeout"),
        ("Drip", "timeout"),
        ("EndlessHeaders", "protocol"),
        ("EndlessBody", ""),
        ("Cut", "protocol"),
        ("Garbage", "protocol"),
    ];
    let mut ids = Vec::new();
    for (kind, class) in kinds {
        let data = json!({
            "topics": "*", "url": format!("{}/hostile/{kind}", hostile.url), "retry": [],
            "timeouts": {"connect_ms": 500, "total_ms": 500},
        });
        ids.push((server.webhook(data).await["webhook_id"].as_i64().unwrap(), kind, class));
    }
    let silent =
        json!({"topics": "*", "url": format!("{}/hostile/Silent", hostile.url), "timeouts": {"total_ms": 120_000}});
    let stuck = server.webhook(silent).await["webhook_id"].as_i64().unwrap();
    let receiver = Receiver::obliging().await;
    let good = server.webhook(json!({"topics": "*", "url": receiver.url()})).await["webhook_id"].as_i64().unwrap();
    let mut accepted = Accepted::new();
    publish(&server, &mut accepted, 3).await;
    let arrived = receiver.arrivals(3).await;
    assert_eq!(arrived.iter().map(Arrived::number).max(), Some(3));
    server.settled(good).await;
    for (id, kind, class) in ids {
        let ended = server.settled(id).await;
        let attempt = &server.call("delivery.attempts", json!([id, 1])).await.unwrap()[0];
        match class {
            "" => assert_eq!(ended[0]["state"], "delivered", "{kind}: its status line was 200"),
            class => assert_eq!(
                (&ended[0]["state"], &attempt["error_class"]),
                (&json!("abandoned"), &json!(class)),
                "{kind}"
            ),
        }
        assert!(attempt["duration_ms"].as_f64().unwrap() < 5_000.0, "{kind}: {attempt}");
        assert!(attempt["response_body"].as_str().unwrap().len() <= 100_000, "{kind}");
    }
    let books = audit(&server.place, &accepted).unwrap();
    println!("hostile receivers: {books:?}");
    assert_eq!(books, Books { delivered: 6, abandoned: 18, pending: 3, cancelled: 0 });
    // All that ended, ended while this one's first request was still on its way.
    assert_eq!(server.call("delivery.attempts", json!([stuck, 1])).await.unwrap(), json!([]));
}
