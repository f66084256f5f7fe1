//! How a WebSocket begins, what it bears, and how it ends.

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::socket::Socket;
use crate::common::{DEMO_KEY, PATIENCE, Start, TestServer, basic};

const COUNT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"webhook.count","params":[null]}"#;
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// How long nothing is read of what is sent, to say that it is not.
const STALL: std::time::Duration = std::time::Duration::from_secs(1);

/// A connection that has become a WebSocket, byte by byte.
async fn raw(server: &TestServer) -> TcpStream {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
    let mut head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n", basic("demo", DEMO_KEY));
    for (name, value) in UPGRADE {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    stream
}

/// The head of the answer to an upgrade.
async fn upgraded(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> String {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    answer
}

/// A frame as a client sends it, masked by zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// All that still comes.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server takes leave");
    rest
}

#[tokio::test]
async fn what_is_no_upgrade_is_answered_by_http() {
    let server = TestServer::start().await;
    let (status, headers, _) = server.exchange("GET", "/", &[], "").await;
    assert_eq!((status, &headers["allow"]), (405, &"POST".parse().unwrap()));
    let with = |name: &str, value: &'static str| UPGRADE.map(|(own, old)| (own, if own == name { value } else { old }));
    for (headers, expected) in
        [(with("sec-websocket-version", "12"), 400), (with("upgrade", "h2c"), 400), (with("connection", "close"), 400)]
    {
        let (status, answered, text) = server.exchange("GET", "/rpc", &headers, "").await;
        assert_eq!(status, expected, "{text}");
        assert_eq!(answered["sec-websocket-version"], "13", "{text}");
        assert!(text.starts_with(r#"{"jsonrpc":"2.0","error":{"code":-32600,"#), "{text}");
    }
    assert_eq!(server.exchange("GET", "/docs", &UPGRADE, "").await.0, 200);
    let headers = [("content-type", "application/json"), ("authorization", &*basic("demo", DEMO_KEY))];
    let headers: Vec<_> = headers.into_iter().chain(UPGRADE).collect();
    let (status, _, text) = server.exchange("POST", "/", &headers, COUNT).await;
    assert_eq!((status, text.as_str()), (200, r#"{"jsonrpc":"2.0","result":0,"id":1}"#));
}

/// A client that asks for subprotocols breaks off if it gets none of them.
#[tokio::test]
async fn the_subprotocol_is_agreed_to_if_it_is_asked_for() {
    let server = TestServer::start().await;
    for path in ["/", "/rpc", "/api/jsonrpc", "/backend/api/jsonrpc"] {
        for (asked, agreed) in [
            (&["jsonrpc"][..], Some("jsonrpc")),
            (&["mcp, jsonrpc"], Some("jsonrpc")),
            (&["mcp", "jsonrpc"], Some("jsonrpc")),
            (&["mcp"], None),
            (&["jsonrpc2"], None),
            (&[], None),
        ] {
            let asked: Vec<_> = asked.iter().map(|names| ("sec-websocket-protocol", *names)).collect();
            let headers: Vec<_> = UPGRADE.into_iter().chain(asked).collect();
            let answer = upgraded(&server, path, &headers).await;
            let expected = agreed.map(|name| format!("\r\nsec-websocket-protocol: {name}\r\n"));
            match expected {
                Some(line) => assert!(answer.contains(&line), "{headers:?}: {answer}"),
                None => assert!(!answer.contains("sec-websocket-protocol"), "{headers:?}: {answer}"),
            }
        }
    }
}

/// A page of another site reaches nothing through its visitor's browser, be it
/// a server that nobody else can reach.
#[tokio::test]
async fn a_foreign_origin_is_refused() {
    let server = Start::default().flag("public_url", "https://hooks.example.com/").go().await;
    let url = server.url();
    let authorization = basic("demo", DEMO_KEY);
    for origin in [
        "https://evil.example",
        "http://127.0.0.1:1",
        "http://localhost",
        "null",
        "https://hooks.example.com.evil.example",
    ] {
        let origin = ("origin", origin);
        for headers in [&[origin][..], &[origin, ("authorization", authorization.as_str())]] {
            let (status, text) = Socket::open(&url, "/", headers).await.err().unwrap();
            // In dev mode another site's is refused on every path.
            let is_refused = matches!(status, 403 | 421) && (text.contains("another origin") || text.contains("dev"));
            assert!(is_refused, "{headers:?}: {status} {text}");
        }
    }
    // Its own page, also behind a proxy that takes TLS off.
    for origin in [url.as_str(), "https://hooks.example.com"] {
        let headers = [("origin", origin), ("authorization", authorization.as_str())];
        let mut own = Socket::open(&url, "/", &headers).await.unwrap();
        assert_eq!(own.call("webhook.count", json!([null])).await, Ok(json!(0)), "{origin}");
    }
}

#[tokio::test]
async fn a_message_has_a_bound() {
    let server = Start::default().flag("body_bytes_max", "1024").go().await;
    let mut socket = Socket::demo(&server).await;
    socket.send_text(format!("{COUNT}{}", " ".repeat(1_024 - COUNT.len()))).await;
    assert_eq!(socket.json().await["result"], 0);
    socket.send_text(format!("{COUNT}{}", " ".repeat(1_025 - COUNT.len()))).await;
    let refused = socket.json().await;
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32_600), &json!(null)));
    assert!(refused["error"]["message"].as_str().unwrap().contains("longer than 1024 bytes"), "{refused}");
    assert_eq!(socket.closed().await.0, 1009);
}

/// Most clients read nothing before they have sent a message whole.
#[tokio::test]
async fn who_sends_all_of_a_long_message_is_told_that_it_is_too_long() {
    const LONG: usize = 8 * 1_048_576;
    let server = TestServer::start().await;
    let mut stream = raw(&server).await;
    let head = [&[0x81, 0x80 | 127][..], &LONG.to_be_bytes(), &[0; 4]].concat();
    stream.write_all(&[head, vec![b' '; LONG]].concat()).await.unwrap();
    let answer = String::from_utf8_lossy(&rest(stream).await).into_owned();
    assert!(answer.contains("longer than 1048576 bytes") && answer.contains("the message is too long"), "{answer}");
}

#[tokio::test]
async fn broken_frames_end_the_connection_in_words() {
    let server = TestServer::start().await;
    let text = frame(0x81, COUNT.as_bytes());
    for (what, bytes, code) in [
        ("a text that is no UTF-8", frame(0x81, &[0xff, 0xfe]), 1007),
        ("a reserved opcode", frame(0x83, b""), 1002),
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("a frame that is not masked", vec![0x81, 0x02, b'{', b'}'], 1002),
        ("a rest without a beginning", frame(0x80, b"{}"), 1002),
        ("a ping in parts", frame(0x09, b""), 1002),
        ("a text within a text", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        ("a frame of 2^62 bytes", [&[0x81, 0xff, 0x40][..], &[0; 11]].concat(), 1009),
    ] {
        let mut stream = raw(&server).await;
        // What came before is answered.
        stream.write_all(&text).await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let rest = rest(stream).await;
        let close = [0x88, 0, (code >> 8) as u8, code as u8];
        let found = rest.windows(4).any(|four| four[0] == close[0] && four[2..] == close[2..]);
        assert!(found, "{what}: {:?}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn a_message_may_come_in_parts_with_pings_between() {
    let server = TestServer::start().await;
    let mut stream = raw(&server).await;
    let (begin, end) = COUNT.as_bytes().split_at(20);
    stream.write_all(&[frame(0x01, begin), frame(0x89, b"still there?"), frame(0x80, end)].concat()).await.unwrap();
    stream.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await.unwrap();
    let rest = String::from_utf8_lossy(&rest(stream).await).into_owned();
    assert!(rest.contains("still there?"), "{rest:?}");
}

/// Whatever comes, the connection ends and its place is free again: there is
/// but one.
#[test]
fn nonsense_holds_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = Start::default().flag("connections_max", "1").flag("idle_timeout_ms", "100");
    let server = runtime.block_on(start.go());
    let come = async |bytes: Vec<u8>, is_cut: bool| {
        let mut stream = raw(&server).await;
        stream.write_all(&bytes).await.unwrap();
        if is_cut {
            drop(stream);
        } else {
            rest(stream).await;
        }
        let mut socket = Socket::demo(&server).await;
        assert_eq!(socket.call("webhook.count", json!([null])).await, Ok(json!(0)));
    };
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    let ended = runner.run(&(vec(any::<u8>(), 0..200), any::<bool>()), |(bytes, is_cut)| {
        runtime.block_on(come(bytes, is_cut));
        Ok(())
    });
    ended.unwrap_or_else(|found| panic!("{found}"));
}

/// Pings are answered by those who need not log in; so what is sent to who
/// takes no answers must not wait in memory.
#[tokio::test]
async fn pings_of_who_takes_no_answers_are_not_read() {
    const FAR_BEYOND_WHAT_SYSTEMS_BUFFER: usize = 64 * 1024 * 1024;
    let server = TestServer::start().await;
    let (_unread, mut stream) = raw(&server).await.into_split();
    let pings = frame(0x89, &[0; 125]).repeat(1_000);
    let mut written = 0;
    while let Ok(progress) = tokio::time::timeout(STALL, stream.write(&pings[written % pings.len()..])).await {
        written += progress.unwrap();
        assert!(written < FAR_BEYOND_WHAT_SYSTEMS_BUFFER, "all of it was read");
    }
}

/// One that has something to do has its place for itself.
#[tokio::test]
async fn a_websocket_takes_a_place_among_the_connections() {
    let server = Start::default().flag("connections_max", "1").go().await;
    let mut socket = Socket::demo(&server).await;
    let subscription = socket.call("event.subscribe", json!([null])).await.unwrap();
    let mut count = Box::pin(server.call("webhook.count", json!([])));
    let other = tokio::select! {
        answer = &mut count => Some(answer),
        answer = socket.call("webhook.count", json!([null])) => { assert_eq!(answer, Ok(json!(0))); None }
    };
    assert_eq!(other, None, "there was no place");
    // Once it has nothing more to do, it gives way.
    assert_eq!(socket.call("event.unsubscribe", json!([null, subscription])).await, Ok(json!(true)));
    assert_eq!(count.await, Ok(json!(0)));
    assert_eq!(socket.closed().await, (1013, "another connection needs the place".to_owned()));
}

/// However many are open and answer pings, they keep nobody out.
#[tokio::test]
async fn the_longest_idle_websocket_gives_way() {
    let server = Start::default().flag("connections_max", "3").go().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let mut calling = Socket::demo(&server).await;
    let pull = calling.begin("delivery.pull", json!([null, 1, 0, 10, 30_000])).await;
    let mut first = Socket::open(&server.url(), "/", &[]).await.unwrap();
    // The connections of the calls so far gave way before it.
    let mut second = Socket::demo(&server).await;
    assert_eq!(second.call("webhook.count", json!([null])).await, Ok(json!(1)));
    let mut third = Socket::demo(&server).await;
    assert_eq!(first.closed().await.0, 1013);
    assert_eq!(third.call("webhook.count", json!([null])).await, Ok(json!(1)));
    // Another call: one that rests longer goes first.
    assert_eq!(second.call("webhook.count", json!([null])).await, Ok(json!(1)));
    server.publish("a:b", json!({})).await;
    assert_eq!(third.closed().await.0, 1013);
    let answer = calling.json().await;
    assert_eq!((&answer["id"], answer["result"].as_array().unwrap().len()), (&json!(pull), 1));
}

/// A peer that answers pings may be silent as long as it likes.
#[tokio::test]
async fn who_gives_no_sign_of_life_loses_the_connection() {
    let server = Start::default().flag("idle_timeout_ms", "1000").go().await;
    let mut deaf = raw(&server).await;
    let mut quiet = raw(&server).await;
    let mut pings = 0;
    let mut answering = async |stream: &mut TcpStream| {
        let mut ping = [0; 2];
        stream.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
        stream.write_all(&frame(0x8a, b"")).await.unwrap();
        pings += 1;
    };
    // Each comes after half of the time.
    for _ in 0..5 {
        answering(&mut quiet).await;
    }
    let mut told = Vec::new();
    deaf.read_to_end(&mut told).await.unwrap();
    assert!(told.ends_with(b"\x03\xf0no answer to pings"), "{told:?}");
    answering(&mut quiet).await;
    quiet.write_all(&frame(0x81, COUNT.as_bytes())).await.unwrap();
    let mut answer = [0; 4];
    quiet.read_exact(&mut answer).await.unwrap();
}

#[tokio::test]
async fn a_server_that_stops_answers_first_and_takes_leave() {
    let server = TestServer::start().await;
    server.webhook(json!({"topics": "*", "delivery_mode": "pull"})).await;
    let mut calling = Socket::demo(&server).await;
    calling.call("delivery.subscribe", json!([null])).await.unwrap();
    let pull = calling.begin("delivery.pull", json!([null, 1, 0, 10, 30_000])).await;
    calling.call("webhook.count", json!([null])).await.unwrap();
    let mut idle = Socket::open(&server.url(), "/", &[]).await.unwrap();
    let (left, answered, ()) =
        tokio::join!(async { idle.closed().await }, async { (calling.json().await, calling.closed().await) }, async {
            drop(server.stop().await)
        },);
    let going = (1001, "the server is shutting down".to_owned());
    assert_eq!((answered.0["id"].clone(), &answered.0["result"]), (json!(pull), &json!([])));
    assert_eq!((&left, &answered.1), (&going, &going));
}

/// Without a grace period, too, leave is taken.
#[tokio::test]
async fn a_server_that_stops_at_once_says_so() {
    let server = Start::default().flag("grace_ms", "0").go().await;
    let mut socket = Socket::demo(&server).await;
    socket.call("event.subscribe", json!([null])).await.unwrap();
    let ((code, _), ()) = tokio::join!(socket.closed(), async { drop(server.stop().await) });
    assert_eq!(code, 1001);
}

/// A call that does not end, and a peer that takes nothing, hold the end up no
/// longer than the grace period.
#[tokio::test]
async fn a_stop_waits_no_longer_than_its_grace() {
    let server = Start::default().flag("grace_ms", "200").go().await;
    let mut slow = Socket::narrow(&server).await;
    slow.call("event.subscribe", json!([null])).await.unwrap();
    let filler = "x".repeat(500_000);
    for _ in 0..20 {
        server.publish("a:b", json!({"filler": filler})).await;
    }
    tokio::time::timeout(PATIENCE / 4, server.stop()).await.expect("it stops in time");
    drop(slow);
}
