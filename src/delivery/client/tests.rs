use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::delivery::guard::Targets;
use crate::delivery::pool::ANSWER_HEADERS_MAX;
use crate::domain::fuzz;
use crate::domain::retry::RetryPolicy;
use crate::domain::webhook::DeliveryMode;
use crate::render::samples;

mod kept;
mod lenient;

const GENEROUS: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);
const CAP: usize = 1_000;
const AGE_MAX: Duration = Duration::from_secs(60);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// For `receiver.test`, signed by itself, good until 2126. Keeps no secret.
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdkFgCr86nMrxZ1+7+USVKvHEA16cSpItAseKndsaOWWhRANCA\
    ATwePh76BYahT0nZXVEKQDi3hD4m4XI4ToEKrpaUHbAzPl8wWTBaK3QrzwmQlLxeB2QFvF5wS9w8m5iB/kQG1Ym";
const CERTIFICATE: &str = "MIIBaTCCARCgAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1yZWNlaXZlci50ZXN0MCAXDTAwMDEwMTAwMD\
    AwMFoYDzIxMjYwMTAxMDAwMDAwWjAYMRYwFAYDVQQDDA1yZWNlaXZlci50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8Hj4e+gWGoU9\
    J2V1RCkA4t4Q+JuFyOE6BCq6WlB2wMz5fMFkwWit0K88JkJS8XgdkBbxecEvcPJuYgf5EBtWJqNJMEcwGAYDVR0RBBEwD4INcmVjZWl2ZXIudG\
    VzdDAMBgNVHRMBAf8EAjAAMB0GA1UdDgQWBBQBbeHL7cfy7UUZCPIwMLQuTLyj7jAKBggqhkjOPQQDAgNHADBEAiAo37xm/BA2qmZFeGBOXCa/\
    in0t47AxDm/8BvkolINksgIgMc5NmVejvLdd0tXAaWAIKpfnhyEf+iNVUA4BWkSowpA=";

fn der(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// Every name has these addresses: the first for the first look-up, and so
/// on; then there is no such name.
struct Names(Mutex<Vec<IpAddr>>);

impl Names {
    fn new(addresses: &[&str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(addresses.iter().rev().map(|address| address.parse().unwrap()).collect())))
    }
}

impl Resolve for Names {
    fn resolve(&self, _: MerchantId, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let address = self.0.lock().unwrap().pop();
        async move { address.map(|address| vec![address]).ok_or_else(|| io::ErrorKind::NotFound.into()) }.boxed()
    }
}

/// What a receiver does once it has sent its answer.
#[derive(Clone, Copy)]
enum Then {
    Listen,
    Close,
    GoOnForever,
}

struct Receiver {
    port: u16,
    connections: Arc<Mutex<usize>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn new(answer: impl Into<String>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (receiver.connections.clone(), receiver.requests.clone());
        let answer: Arc<str> = answer.into().into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                tokio::spawn(serve(stream, requests.clone(), answer.clone(), then));
            }
        });
        receiver
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Fails when the client goes away, which ends it.
async fn serve(
    mut stream: TcpStream,
    requests: Arc<Mutex<Vec<String>>>,
    answer: Arc<str>,
    then: Then,
) -> io::Result<()> {
    while let Some(request) = read_request(&mut stream).await? {
        requests.lock().unwrap().push(request);
        stream.write_all(answer.as_bytes()).await?;
        match then {
            Then::Listen => {}
            Then::Close => return stream.shutdown().await,
            Then::GoOnForever => loop {
                stream.write_all(&[b'x'; 4096]).await?;
            },
        }
    }
    Ok(())
}

/// The next request, unless the client has gone.
async fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut request = String::new();
    while !is_whole(&request) {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(None);
        }
        request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    Ok(Some(request))
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() == length.parse::<usize>().unwrap()
}

fn config(allow: &[&str]) -> Config {
    Config {
        is_paused: false,
        in_flight_max: 10,
        webhook_in_flight_max: 10,
        loaded_bytes_max: 1_000_000,
        answer_bytes_max: CAP,
        answers_bytes_max: 1_000_000,
        kept_connections_max: 100,
        connection_age_max: AGE_MAX,
        store_poll: Duration::MAX,
        sending_bytes_max: 1_000_000,
        delivery_bytes_max: 1_000_000,
        targets: Targets {
            allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
            shows_addresses: true,
            ..Targets::default()
        },
        egress_proxy: None,
        trusted: Trusted::default(),
    }
}

/// Trusts nobody but the test's own certificate.
fn client_with(allow: &[&str], names: &[&str]) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(der(CERTIFICATE))).unwrap();
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::with_tls(&config(allow), Names::new(names), tls)
}

fn client() -> Client {
    client_with(&["127.0.0.0/8"], &[])
}

async fn post_within(client: &Client, url: &str, timeouts: Timeouts) -> PostResult {
    let mut headers = HeaderMap::new();
    headers.append("x-tag", HeaderValue::from_static("a"));
    headers.append("x-tag", HeaderValue::from_static("b"));
    let url = Url::parse(url).unwrap();
    client
        .post(PostRequest {
            merchant: MerchantId(1),
            url: &url,
            identity: None,
            headers,
            spelling: Spelling::default(),
            body: Bytes::from_static(b"{\"a\":1}"),
            timeouts,
            credentials: Credentials::of(&samples::webhook(1, DeliveryMode::Parallel, 0, 0)),
        })
        .await
}

async fn post(client: &Client, url: &str) -> PostResult {
    post_within(client, url, Timeouts { connect: GENEROUS, total: GENEROUS }).await
}

fn class(result: &PostResult) -> Option<ErrorClass> {
    result.error.as_ref().map(|error| error.class)
}

fn detail(result: &PostResult) -> &str {
    &result.error.as_ref().unwrap().detail
}

/// The class of what comes of this answer.
async fn class_of(answer: impl Into<String>, then: Then) -> Option<ErrorClass> {
    let receiver = Receiver::new(answer, then).await;
    class(&post(&client(), &receiver.url()).await)
}

#[tokio::test]
async fn posts_what_it_is_given() {
    let receiver = Receiver::new("HTTP/1.1 201 Created\r\nx-a: b\r\ncontent-length: 2\r\n\r\nok", Then::Listen).await;
    let url = format!("{}?a=[b]|%20#fragment", receiver.url());
    let result = post(&client(), &url).await;
    assert_eq!((result.status, &result.error), (Some(201), &None));
    assert_eq!(result.response_headers["x-a"], "b");
    assert_eq!(result.response_body, b"ok");
    let requests = receiver.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /hook?a=[b]|%20 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: 127.0.0.1:{}", receiver.port);
    assert_eq!(lines, ["content-length: 7", &host, "x-tag: a", "x-tag: b"]);
    assert_eq!(body, "{\"a\":1}");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let receiver = Receiver::new(OK, Then::Listen).await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(class(&post(&client, &receiver.url()).await), None);
    }
    assert_eq!((*receiver.connections.lock().unwrap(), receiver.requests().len()), (1, 2));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere.test/a?secret\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::new(answer, Then::Listen).await;
    let result = post(&client_with(&["127.0.0.0/8"], &["127.0.0.1"]), &receiver.url()).await;
    assert_eq!((result.status, class(&result)), (Some(302), Some(ErrorClass::Status)));
    let expected = "answered 302 Found; redirects are not followed (this one leads to elsewhere.test)";
    assert_eq!(detail(&result), expected);
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn what_is_not_2xx_is_an_error() {
    let receiver =
        Receiver::new("HTTP/1.1 503 Go Away\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy", Then::Listen).await;
    let result = post(&client(), &receiver.url()).await;
    assert_eq!((result.status, class(&result)), (Some(503), Some(ErrorClass::Status)));
    assert_eq!(detail(&result), "answered 503 Service Unavailable");
    assert_eq!(result.response_body, b"busy");
    assert_eq!(retry_after(&result.response_headers, Timestamp(0)), Some(Duration::from_secs(7)));
    for answer in [
        "HTTP/1.1 599 x\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "HTTP/1.1 404 x\r\ncontent-length: 9\r\n\r\ncut",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        assert_eq!(class_of(answer, Then::Close).await, Some(ErrorClass::Status), "{answer}");
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    assert_eq!(class_of(format!("{interim}{interim}{OK}"), Then::Listen).await, None);
}

#[tokio::test]
async fn a_body_is_read_up_to_the_bound() {
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    let receiver = Receiver::new(endless, Then::GoOnForever).await;
    let result = post(&client(), &receiver.url()).await;
    assert_eq!((class(&result), result.response_body), (None, vec![b'x'; CAP]));

    let whole = "y".repeat(CAP);
    let receiver =
        Receiver::new(format!("HTTP/1.1 200 OK\r\ncontent-length: {CAP}\r\n\r\n{whole}"), Then::Listen).await;
    let result = post(&client(), &receiver.url()).await;
    assert_eq!((class(&result), result.response_body), (None, whole.into_bytes()));
}

#[tokio::test]
async fn a_2xx_status_line_decides() {
    let cut_off = Receiver::new("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", Then::Close).await;
    let result = post(&client(), &cut_off.url()).await;
    assert_eq!((result.status, class(&result), &*result.response_body), (Some(200), None, &b"cut"[..]));

    let never_ending = Receiver::new("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnever", Then::Listen).await;
    let result = post(&client(), &never_ending.url()).await;
    assert_eq!((result.status, class(&result), &*result.response_body), (Some(200), None, &b"never"[..]));
    assert!(result.duration < GENEROUS, "what has been decided is not held up");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    for unfinished in ["", "HTTP/1.1 200 OK\r\nx-a: "] {
        let receiver = Receiver::new(unfinished, Then::Listen).await;
        let result = post_within(&client(), &receiver.url(), Timeouts { connect: GENEROUS, total: SHORT }).await;
        assert_eq!((result.status, class(&result)), (None, Some(ErrorClass::Timeout)));
        assert_eq!(detail(&result), "no answer within 50ms");
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_protocol_error() {
    for (answer, then) in [
        ("nonsense\r\n\r\n", Then::Listen),
        ("HTTP/2 200 OK\r\n\r\n", Then::Listen),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Then::Listen),
        ("HTTP/1.1 200", Then::Close),
        ("", Then::Close),
    ] {
        assert_eq!(class_of(answer, then).await, Some(ErrorClass::Protocol), "{answer}");
    }
}

#[tokio::test]
async fn the_head_of_an_answer_is_bounded() {
    let headers =
        |count: usize| format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(count - 1));
    assert_eq!(class_of(headers(ANSWER_HEADERS_MAX), Then::Listen).await, None);
    assert_eq!(class_of(headers(ANSWER_HEADERS_MAX + 1), Then::Listen).await, Some(ErrorClass::Protocol));
    let endless = "HTTP/1.1 200 OK\r\nx-a: ";
    assert_eq!(class_of(endless, Then::GoOnForever).await, Some(ErrorClass::Protocol));
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(class(&post(&client(), &url).await), Some(ErrorClass::Connect));
}

#[tokio::test]
async fn an_unknown_name_is_a_dns_error() {
    for url in ["http://nobody.test/", "http://no{body.test/"] {
        assert_eq!(class(&post(&client(), url).await), Some(ErrorClass::Dns), "{url}");
    }
}

#[tokio::test]
async fn a_name_for_a_forbidden_address_is_refused() {
    let receiver = Receiver::new(OK, Then::Listen).await;
    let result = post(&client_with(&[], &["127.0.0.1"]), &format!("http://a.test:{}/", receiver.port)).await;
    assert_eq!((result.status, class(&result)), (None, Some(ErrorClass::AddressRefused)));
    assert!(detail(&result).starts_with("127.0.0.1 is a loopback address; "), "{}", detail(&result));
    assert_eq!(*receiver.connections.lock().unwrap(), 0);
}

/// DNS rebinding. 127.0.0.1 is allowed, so it stands for a public address.
#[tokio::test]
async fn a_name_that_turns_forbidden_is_refused() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::new(answer, Then::Close).await;
    let client = client_with(&["127.0.0.1/32"], &["127.0.0.1", "127.0.0.2"]);
    let url = format!("http://a.test:{}/", receiver.port);
    assert_eq!(class(&post(&client, &url).await), None);
    let result = post(&client, &url).await;
    assert_eq!(class(&result), Some(ErrorClass::AddressRefused), "{result:?}");
    assert_eq!(receiver.requests().len(), 1);
}

/// Answers one request over TLS, and gives the name it was asked by.
fn tls_receiver() -> (u16, thread::JoinHandle<io::Result<Option<String>>>) {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(der(CERTIFICATE))],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der(KEY))),
        )
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = thread::spawn(move || {
        let (tcp, _) = listener.accept()?;
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), tcp);
        let mut request = String::new();
        while !is_whole(&request) {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer)?;
            request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        stream.write_all(OK.as_bytes())?;
        stream.flush()?;
        Ok(stream.conn.server_name().map(str::to_owned))
    });
    (port, served)
}

#[tokio::test]
async fn posts_over_tls() {
    let (port, served) = tls_receiver();
    let client = client_with(&["127.0.0.0/8"], &["127.0.0.1"]);
    let result = post(&client, &format!("https://receiver.test:{port}/")).await;
    assert_eq!((result.status, result.error), (Some(200), None));
    assert_eq!(served.join().unwrap().unwrap().as_deref(), Some("receiver.test"));
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_of_that_name() {
    let (port, _) = tls_receiver();
    let client = client_with(&["127.0.0.0/8"], &["127.0.0.1"]);
    assert_eq!(class(&post(&client, &format!("https://other.test:{port}/")).await), Some(ErrorClass::Tls));

    let (port, _) = tls_receiver();
    let client = Client::new(&config(&["127.0.0.0/8"]), Names::new(&["127.0.0.1"])).unwrap();
    let result = post(&client, &format!("https://receiver.test:{port}/")).await;
    assert_eq!(class(&result), Some(ErrorClass::Tls));
    assert!(detail(&result).contains("certificate"), "{}", detail(&result));
}

/// What its owner reads, and needs no knowledge of the library for.
#[tokio::test]
async fn an_insecure_receiver_is_told_what_is_wrong_with_it() {
    let (port, _) = tls_receiver();
    let client = client_with(&["127.0.0.0/8"], &["127.0.0.1"]);
    let result = post(&client, &format!("https://other.test:{port}/")).await;
    assert!(detail(&result).contains("for another host") && detail(&result).contains("receiver.test"), "{result:?}");

    let (port, _) = tls_receiver();
    let client = Client::new(&config(&["127.0.0.0/8"]), Names::new(&["127.0.0.1"])).unwrap();
    let result = post(&client, &format!("https://receiver.test:{port}/")).await;
    assert!(detail(&result).contains("ca_file"), "{result:?}");

    let plain = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for (answer, words) in [(plain, "does not speak TLS on this port"), ("", "closed the connection")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        });
        let result = post(&client, &url).await;
        assert_eq!(class(&result), Some(ErrorClass::Tls), "{result:?}");
        assert!(detail(&result).contains(words), "{result:?}");
    }
}

#[tokio::test]
async fn a_handshake_counts_as_connecting() {
    // Connections succeed, and nobody ever reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let result = post_within(&client(), &url, Timeouts { connect: SHORT, total: GENEROUS }).await;
    assert_eq!(class(&result), Some(ErrorClass::Timeout));
    assert_eq!(
        detail(&result),
        "connected, but no handshake of TLS within 50ms; does the receiver speak TLS on this port?"
    );
    assert!(result.address.is_some());
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = Timestamp::parse_rfc3339("2026-11-22T03:04:05Z").unwrap();
    let asked =
        |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]), now);
    assert_eq!(asked("120"), Some(Duration::from_secs(120)));
    assert_eq!(asked("0"), Some(Duration::ZERO));
    assert_eq!(asked("Sun, 22 Nov 2026 03:05:05 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(asked("Sun, 22 Nov 2026 03:00:00 GMT"), Some(Duration::ZERO));
    for bad in ["", "-1", "+1", "1.5", "soon", "99999999999999999999", "2026-11-22T03:05:05Z"] {
        assert_eq!(asked(bad), None, "{bad}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn fuzz_retry_after() {
    const DATE: &str = "Sun, 22 Nov 2026 03:05:05 GMT";
    const WORDS: &[&str] = &[
        DATE,
        "Sun, ",
        "22 ",
        "Nov ",
        "2026 ",
        "9999 ",
        "03:05:05 ",
        "23:59:60 ",
        "GMT",
        "120",
        "99999999999",
        "-",
        "é",
    ];
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let now = Timestamp::parse_rfc3339("2026-11-22T03:04:05Z").unwrap();
    fuzz::texts(WORDS, |text| {
        let Ok(value) = HeaderValue::from_str(text) else { return };
        let asked = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
        let written = text.trim();
        match asked {
            Some(wait) if written.parse() == Ok(wait.as_secs()) => {}
            Some(wait) => {
                let at = UNIX_EPOCH + Duration::from_secs(now.unix_seconds().unsigned_abs()) + wait;
                let date = httpdate::parse_http_date(written).unwrap();
                assert!(date == at || (date < at && wait.is_zero()), "{text:?} {wait:?}");
            }
            None => {
                let is_number = written.parse::<u64>().is_ok() && !written.starts_with('+');
                assert!(!is_number && httpdate::parse_http_date(written).is_err(), "{text:?}");
            }
        }
        // Whatever is asked, the next attempt is within a day.
        let next = RetryPolicy::Default.next_attempt(1, now, asked, 0.5).unwrap();
        assert!(next.since(now) <= DAY, "{text:?}");
    });
}
