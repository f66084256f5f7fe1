//! The examples of `rpc-examples/` and its `rest/`: reading them, running them against a
//! server, and comparing answers. `rpc-examples/README.md` has the grammar.

#![allow(dead_code, reason = "each test program that includes this uses a part of it")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tallyhook::domain::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::common::socket::Socket;
use crate::common::{self, Http, Receiver, Reply};

/// Stands for further items of a list.
const MORE: &str = "<more>";

/// Says whether a text is of a kind.
type Fits = fn(&str) -> bool;

/// What a placeholder of a response stands for, as text.
const SHAPES: &[(&str, Fits)] = &[
    ("<any>", |_| true),
    ("<string>", |_| true),
    ("<int>", |text| text.parse::<i64>().is_ok()),
    ("<number>", |text| text.parse::<f64>().is_ok_and(f64::is_finite)),
    ("<time>", |text| Timestamp::parse_rfc3339(text).is_some_and(|time| time.rfc3339_ms() == text)),
    ("<date>", |text| {
        let format = "%m/%d/%Y %H:%M";
        Timestamp::parse_utc_bound(format, text).is_some_and(|time| time.print(format) == text)
    }),
    ("<session>", |text| text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))),
    ("<secret>", |text| {
        text.strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok()).is_some_and(|key| key.len() == 32)
    }),
];

/// All examples by name.
pub type Examples = BTreeMap<String, Value>;

/// The folder with the examples.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/rpc-examples"))
}

/// Reads every example.
pub fn load() -> Examples {
    let (mut all, rest) = (of_rpc(), of_rest());
    let count = all.len() + rest.len();
    all.extend(rest);
    assert_eq!(all.len(), count, "no name is used twice");
    all
}

/// Reads the examples of the JSON-RPC interface.
pub fn of_rpc() -> Examples {
    read_folder(&folder())
}

/// Reads the examples of the REST dialects.
pub fn of_rest() -> Examples {
    read_folder(&folder().join("rest"))
}

fn read_folder(folder: &Path) -> Examples {
    let files = std::fs::read_dir(folder).expect("a folder with examples can be read");
    let paths = files.map(|file| file.expect("its files can be listed").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).map(|path| read(&path)).collect()
}

fn read(path: &Path) -> (String, Value) {
    let text = std::fs::read_to_string(path).expect("an example can be read");
    let example: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = text_of(&example, "name").to_owned();
    assert_eq!(
        path.file_stem().and_then(|stem| stem.to_str()),
        Some(name.as_str()),
        "an example is named like its file"
    );
    (name, example)
}

/// A member that is a text, or `""`.
pub fn text_of<'a>(example: &'a Value, member: &str) -> &'a str {
    example[member].as_str().unwrap_or_default()
}

/// The example as a document may show it: what `${…}` stands for is free.
pub fn with_free_values(pattern: &Value) -> Value {
    map_texts(pattern, &mut |text| match text_parts(text).as_slice() {
        [Part::Name(_)] => json!("<any>"),
        parts => parts
            .iter()
            .map(|part| if let Part::Text(text) = part { text } else { "<string>" })
            .collect::<String>()
            .into(),
    })
}

/// Where `got` is not what `expected` describes: a line each, with a JSON pointer.
pub fn differences(expected: &Value, got: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(expected, got, "", &mut lines);
    lines
}

fn compare(expected: &Value, got: &Value, place: &str, lines: &mut Vec<String>) {
    match (expected, got) {
        (Value::String(pattern), _) if value_matches(pattern, got) => {}
        (Value::Object(expected), Value::Object(got)) => compare_members(expected, got, place, lines),
        (Value::Array(expected), Value::Array(got)) => compare_items(expected, got, place, lines),
        _ if expected == got => {}
        _ => lines.push(line(place, Some(expected), Some(got))),
    }
}

fn compare_members(expected: &Map<String, Value>, got: &Map<String, Value>, place: &str, lines: &mut Vec<String>) {
    for (name, value) in expected {
        let place = format!("{place}/{name}");
        match got.get(name) {
            Some(got) => compare(value, got, &place, lines),
            None => lines.push(line(&place, Some(value), None)),
        }
    }
    let unexpected = got.iter().filter(|(name, _)| !expected.contains_key(*name));
    lines.extend(unexpected.map(|(name, value)| line(&format!("{place}/{name}"), None, Some(value))));
}

fn compare_items(expected: &[Value], got: &[Value], place: &str, lines: &mut Vec<String>) {
    let more_before = expected.first().is_some_and(|item| item == MORE);
    let items = &expected[usize::from(more_before)..];
    let more_after = items.last().is_some_and(|item| item == MORE);
    let items = &items[..items.len() - usize::from(more_after)];
    let spare = got.len().checked_sub(items.len()).filter(|spare| *spare == 0 || more_before || more_after);
    let Some(spare) = spare else {
        lines.push(format!("{}: expected {} items, got {}", or_root(place), items.len(), Value::from(got)));
        return;
    };
    let offsets = match (more_before, more_after) {
        (true, true) => 0..=spare,
        (true, false) => spare..=spare,
        (false, _) => 0..=0,
    };
    let mut last = Vec::new();
    for offset in offsets {
        last.clear();
        for (index, item) in items.iter().enumerate() {
            let index = offset + index;
            compare(item, &got[index], &format!("{place}/{index}"), &mut last);
        }
        if last.is_empty() {
            return;
        }
    }
    lines.append(&mut last);
}

fn line(place: &str, expected: Option<&Value>, got: Option<&Value>) -> String {
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    format!("{}: expected {}, got {}", or_root(place), shown(expected), shown(got))
}

fn or_root(place: &str) -> &str {
    if place.is_empty() { "/" } else { place }
}

fn value_matches(pattern: &str, got: &Value) -> bool {
    match (pattern, got) {
        ("<any>", _) => true,
        ("<int>", got) => got.is_i64() || got.is_u64(),
        ("<number>", got) => got.is_number(),
        (pattern, Value::String(text)) => text_matches(pattern, text),
        _ => false,
    }
}

fn text_matches(pattern: &str, text: &str) -> bool {
    let found = SHAPES.iter().filter_map(|(name, fits)| Some((pattern.find(name)?, *name, fits)));
    let Some((at, name, fits)) = found.min_by_key(|(at, ..)| *at) else { return pattern == text };
    let Some(text) = text.strip_prefix(&pattern[..at]) else { return false };
    let rest = &pattern[at + name.len()..];
    let ends = text.char_indices().map(|(end, _)| end).chain([text.len()]);
    ends.into_iter().any(|end| fits(&text[..end]) && text_matches(rest, &text[end..]))
}

/// The same of a text that is no JSON, where even a number is one.
fn compare_texts(expected: &str, got: Option<&str>, place: &str, lines: &mut Vec<String>) {
    if !got.is_some_and(|got| text_matches(expected, got)) {
        lines.push(line(place, Some(&expected.into()), got.map(Value::from).as_ref()));
    }
}

/// A piece of a text with placeholders.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn text_parts(mut text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while let Some((before, rest)) = text.split_once("${") {
        let (name, after) = rest.split_once('}').expect("a placeholder is closed");
        parts.extend([Part::Text(before), Part::Name(name)]);
        text = after;
    }
    parts.push(Part::Text(text));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

fn map_texts(value: &Value, map: &mut impl FnMut(&str) -> Value) -> Value {
    match value {
        Value::String(text) => map(text),
        Value::Array(items) => items.iter().map(|item| map_texts(item, map)).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), map_texts(member, map))).collect(),
        other => other.clone(),
    }
}

/// Answers 204 to every POST, or NNN below the path /NNN.
pub async fn receiver() -> Receiver {
    Receiver::start(|_, arrived| {
        let asked = arrived.path.split('/').nth(1).and_then(|word| word.parse().ok());
        Reply::status(asked.unwrap_or(204))
    })
    .await
}

/// A server in dev mode, with a receiver beside it.
pub struct Bench<'a> {
    pub examples: &'a Examples,
    pub server_url: &'a str,
    pub receiver_url: &'a str,
    /// Counts the server's commits, for the examples that wait for something
    /// to change; none can wait without it.
    pub commits: Option<watch::Receiver<u64>>,
}

impl Bench<'_> {
    /// The answer to one example's request, sent once; its steps run before and none after.
    pub async fn ask(&self, name: &str) -> Result<Value, String> {
        let mut plan = Plan::default();
        plan.add(self.examples, &self.examples[name], "");
        let mut run = Run::new(self);
        let (_, last) = plan.steps.pop().ok_or("an example is its own last step")?;
        for (_, step) in &plan.steps {
            run.step(step).await?;
        }
        let answer = run.send(last).await?;
        run.log_out().await;
        serde_json::from_str(&answer.text).map_err(|problem| problem.to_string())
    }

    /// Runs one example; fails with where its answer differs.
    pub async fn run(&self, name: &str) -> Result<(), String> {
        self.exchanges(name).await.map(drop)
    }

    /// Runs one example; what was sent, each with its answer. A notification
    /// answers nothing.
    pub async fn exchanges(&self, name: &str) -> Result<Vec<(String, String)>, String> {
        let mut plan = Plan::default();
        plan.add(self.examples, &self.examples[name], "");
        let mut run = Run::new(self);
        let mut outcome = Ok(());
        for (label, step) in &plan.steps {
            outcome = run.step(step).await.map_err(|problem| format!("{label}{problem}"));
            if outcome.is_err() {
                break;
            }
        }
        for step in plan.after.iter().rev() {
            // Often there is nothing left to clean up.
            _ = run.step(step).await;
        }
        run.log_out().await;
        outcome.map(|()| run.exchanges)
    }
}

/// The steps of an example in their order.
#[derive(Default)]
struct Plan<'a> {
    steps: Vec<(String, &'a Value)>,
    after: Vec<&'a Value>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, examples: &'a Examples, example: &'a Value, label: &str) {
        for step in example["before"].as_array().into_iter().flatten() {
            match step {
                Value::String(name) => self.add(examples, &examples[name], &format!("{label}before ({name}): ")),
                inline => self.add(examples, inline, &format!("{label}before (inline): ")),
            }
        }
        self.after.extend(example["after"].as_array().into_iter().flatten().rev());
        for _ in 0..example["times"].as_u64().unwrap_or(1) {
            self.steps.push((label.to_owned(), example));
        }
    }
}

/// What a request got.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    /// True if it has an error in it, whatever its status.
    fn tells_error(&self) -> bool {
        let answer = serde_json::from_str::<Value>(&self.text).unwrap_or_default();
        answer.get("error").is_some_and(|error| !error.is_null())
    }
}

/// An example on its way, with what its steps have saved.
struct Run {
    server_url: String,
    values: HashMap<String, Value>,
    client: Http,
    commits: Option<watch::Receiver<u64>>,
    /// What was sent, each with its answer.
    exchanges: Vec<(String, String)>,
    /// Opened by the first step that needs one.
    socket: Option<Socket>,
}

impl Run {
    fn new(bench: &Bench<'_>) -> Self {
        let unique = format!("{:012x}", fastrand::u64(..1 << 48));
        let topic = format!("example:{unique}");
        let values = [
            ("user", "demo"),
            ("key", "demo-key"),
            ("merchant", "demo"),
            ("basic", &STANDARD.encode("demo:demo-key")),
            ("receiver", bench.receiver_url),
            ("run", &unique),
            ("topic", &topic),
        ];
        Self {
            server_url: bench.server_url.trim_end_matches('/').to_owned(),
            values: values.map(|(name, value)| (name.to_owned(), json!(value))).into(),
            client: common::http_client(),
            commits: bench.commits.clone(),
            exchanges: Vec::new(),
            socket: None,
        }
    }

    /// Sends the request until its answer is right or its time is over, and saves from the answer.
    async fn step(&mut self, example: &Value) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_millis(example["wait_ms"].as_u64().unwrap_or(0));
        let answer = loop {
            if let Some(commits) = &mut self.commits {
                commits.borrow_and_update();
            }
            let answer = self.send(example).await?;
            let problems = self.judge(example, &answer)?;
            if problems.is_empty() {
                break answer.text;
            }
            let change = async {
                match &mut self.commits {
                    Some(commits) => commits.changed().await.is_ok(),
                    None => false,
                }
            };
            // A request may change something itself, so the time alone ends this.
            let is_over = Instant::now() >= deadline;
            if is_over || !tokio::time::timeout_at(deadline, change).await.unwrap_or(false) {
                return Err(problems.join("\n  "));
            }
        };
        for (name, pointer) in example["save"].as_object().into_iter().flatten() {
            let pointer = pointer.as_str().unwrap_or_default();
            let value = serde_json::from_str(&answer).ok().and_then(|answer| pointed_at(answer, pointer));
            let value = value.ok_or_else(|| format!("{pointer}: nothing there to save as {name}, in {answer}"))?;
            self.values.insert(name.clone(), value);
        }
        for follower in example["then"].as_array().into_iter().flatten() {
            self.send(follower).await?;
        }
        for expected in example["notifications"].as_array().into_iter().flatten() {
            self.notified(expected).await?;
        }
        Ok(())
    }

    /// Reads on until a notification is as expected; others may come before.
    async fn notified(&mut self, expected: &Value) -> Result<(), String> {
        let expected = self.fill(expected)?;
        let Some(socket) = &mut self.socket else { return Err("nothing has needed a WebSocket".to_owned()) };
        let (mut others, exchanges) = (Vec::new(), &mut self.exchanges);
        let reading = async {
            loop {
                let got = socket.json().await;
                exchanges.push((String::new(), got.to_string()));
                let problems = differences(&expected, &got);
                if problems.is_empty() {
                    return;
                }
                others.push(problems.join("\n  "));
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), reading).await;
        waited.map_err(|_| format!("the notification does not come; others differ:\n  {}", others.join("\n  ")))
    }

    async fn send(&mut self, example: &Value) -> Result<Answer, String> {
        self.log_in_for(example).await?;
        let body = match (&example["request_text"], example.get("request")) {
            (Value::String(text), _) => Some(self.fill_text(text, str::to_owned)?),
            (_, Some(request)) => Some(self.fill(request)?.to_string()),
            (_, None) => None,
        };
        let sent = body.clone().unwrap_or_default();
        let answer = match example["needs"] == "websocket" {
            true => Answer { status: 200, headers: HeaderMap::new(), text: self.ask_socket(&sent).await },
            false => self.ask_http(example, body).await?,
        };
        self.exchanges.push((sent, answer.text.clone()));
        Ok(answer)
    }

    async fn ask_http(&self, example: &Value, body: Option<String>) -> Result<Answer, String> {
        let method = example["method"].as_str().unwrap_or("POST");
        let path = self.fill_text(example["path"].as_str().unwrap_or("/"), percent_encoded)?;
        let mut headers = Vec::new();
        for (name, value) in example["headers"].as_object().into_iter().flatten() {
            headers.push((name.as_str(), self.fill_text(value.as_str().unwrap_or_default(), str::to_owned)?));
        }
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if body.is_some() {
            headers = common::with_media_type(&headers);
        }
        let (url, body) = (format!("{}{path}", self.server_url), body.unwrap_or_default());
        let (status, headers, text) = common::send(&self.client, method, &url, &headers, body).await;
        Ok(Answer { status, headers, text })
    }

    fn judge(&self, example: &Value, answer: &Answer) -> Result<Vec<String>, String> {
        let mut problems = Vec::new();
        let got = answer.status;
        if ["status", "response", "response_text"].iter().any(|member| example.get(member).is_some()) {
            let expected = example["status"].as_u64().unwrap_or(200);
            if u64::from(got) != expected {
                problems.push(format!("HTTP status: expected {expected}, got {got}"));
            }
        } else if got / 100 != 2 {
            problems.push(format!("HTTP status: expected 2xx, got {got}"));
        }
        for (name, expected) in example["response_headers"].as_object().into_iter().flatten() {
            let got = answer.headers.get(name).and_then(|value| value.to_str().ok());
            let expected = self.fill_text(expected.as_str().unwrap_or_default(), str::to_owned)?;
            compare_texts(&expected, got, &format!("header {name}"), &mut problems);
        }
        let text = answer.text.as_str();
        if let Some(expected) = example["response_text"].as_str() {
            compare_texts(&self.fill_text(expected, str::to_owned)?, Some(text), "body", &mut problems);
        } else if let Some(expected) = example.get("response") {
            match serde_json::from_str(text) {
                Ok(got) => problems.extend(differences(&self.fill(expected)?, &got)),
                Err(_) => problems.push(format!("body: expected JSON, got {text:?}")),
            }
        } else if answer.tells_error() {
            problems.push(format!("/error: expected none, got {text}"));
        }
        Ok(problems)
    }

    /// Puts values in the place of `${names}`; a text that is nothing but one takes the value's type.
    fn fill(&self, value: &Value) -> Result<Value, String> {
        let mut missing = None;
        let filled = map_texts(value, &mut |text| {
            let filled = match text_parts(text).as_slice() {
                [Part::Name(name)] => self.value(name).cloned(),
                _ => self.fill_text(text, str::to_owned).map(Value::from),
            };
            filled.unwrap_or_else(|problem| {
                missing = Some(problem);
                Value::Null
            })
        });
        missing.map_or(Ok(filled), Err)
    }

    /// Puts values in the place of `${names}`, each as `write` has it.
    fn fill_text(&self, text: &str, write: fn(&str) -> String) -> Result<String, String> {
        let texts = text_parts(text).into_iter().map(|part| match part {
            Part::Text(text) => Ok(text.to_owned()),
            Part::Name(name) => self.value(name).map(|value| match value {
                Value::String(text) => write(text),
                other => write(&other.to_string()),
            }),
        });
        texts.collect()
    }

    fn value(&self, name: &str) -> Result<&Value, String> {
        self.values.get(name).ok_or_else(|| format!("${{{name}}}: no step has saved it"))
    }

    async fn log_in_for(&mut self, example: &Value) -> Result<(), String> {
        if self.values.contains_key("session") || !example.to_string().contains("${session}") {
            return Ok(());
        }
        let request = json!({"jsonrpc": "2.0", "method": "login", "params": ["demo", "demo-key"], "id": 1});
        let (_, answer) = self.post(request).await;
        let answered: Value = serde_json::from_str(&answer).map_err(|_| format!("login: {answer}"))?;
        let session = answered.get("result").ok_or_else(|| format!("login: {answer}"))?;
        self.values.insert("session".to_owned(), session.clone());
        Ok(())
    }

    async fn log_out(&mut self) {
        if let Some(session) = self.values.remove("session") {
            let request = json!({"jsonrpc": "2.0", "method": "endSession", "params": [session], "id": 1});
            _ = self.post(request).await;
        }
    }

    /// The answer over the WebSocket; what is told before it is passed over.
    async fn ask_socket(&mut self, body: &str) -> String {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            None => {
                let opened = Socket::open(&self.server_url, "/", &[]).await;
                self.socket.insert(opened.unwrap_or_else(|refused| panic!("no WebSocket: {refused:?}")))
            }
        };
        socket.send_text(body).await;
        loop {
            let text = socket.text().await;
            if !text.starts_with(r#"{"jsonrpc":"2.0","method":"#) {
                return text;
            }
        }
    }

    async fn post(&self, request: Value) -> (u16, String) {
        common::post(&self.client, &self.server_url, &[], request.to_string()).await
    }
}

/// As it may stand anywhere in a path or a query (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let written = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    written.collect()
}

/// The value at a JSON pointer (RFC 6901); -1 is an array's last item.
fn pointed_at(document: Value, pointer: &str) -> Option<Value> {
    pointer.split('/').skip(1).try_fold(document, |value, part| {
        let part = part.replace("~1", "/").replace("~0", "~");
        match value {
            Value::Array(mut items) if part == "-1" => items.pop(),
            Value::Array(items) => items.into_iter().nth(part.parse().ok()?),
            Value::Object(mut members) => members.remove(&part),
            _ => None,
        }
    })
}
