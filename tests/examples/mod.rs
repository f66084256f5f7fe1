//! The examples of `rpc-examples/`: reading them, running them against a
//! server, and comparing answers. `rpc-examples/README.md` has the grammar.

#![allow(dead_code, reason = "each test program that includes this uses a part of it")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tallyhook::domain::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::common::socket::Socket;
use crate::common::{self, Http, Receiver, Reply};

/// How often a request with `wait_ms` is repeated. Nothing could be waited
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
    let files = std::fs::read_dir(folder()).expect("the folder with the examples can be read");
    let paths = files.map(|file| file.expect("its files can be listed").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).map(|path| read(&path)).collect()
}

fn read(path: &std::path::Path) -> (String, Value) {
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
        let (_, answer) = run.send(last).await?;
        run.log_out().await;
        serde_json::from_str(&answer).map_err(|problem| problem.to_string())
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
            _ = run.send(step).await;
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

/// An example on its way, with what its steps have saved.
struct Run {
    server_url: String,
    values: HashMap<String, Value>,
    client: Http,
    commits: Option<watch::Receiver<u64>>,
    /// What was posted, each with its answer.
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
            let (status, answer) = self.send(example).await?;
            let problems = self.judge(example, status, &answer)?;
            if problems.is_empty() {
                break answer;
            }
            let change = async {
                match &mut self.commits {
                    Some(commits) => commits.changed().await.is_ok(),
                    None => false,
                }
            };
            if !tokio::time::timeout_at(deadline, change).await.unwrap_or(false) {
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

    async fn send(&mut self, example: &Value) -> Result<(u16, String), String> {
        self.log_in_for(example).await?;
        let body = match &example["request_text"] {
            Value::String(text) => self.fill(&json!(text))?.as_str().unwrap_or_default().to_owned(),
            _ => self.fill(&example["request"])?.to_string(),
        };
        let headers = self.fill(&example["headers"])?;
        let (status, answer) = match example["needs"] == "websocket" {
            true => (200, self.ask_socket(&body).await),
            false => self.post(example["path"].as_str().unwrap_or("/"), &headers, body.clone()).await,
        };
        self.exchanges.push((body, answer.clone()));
        Ok((status, answer))
    }

    fn judge(&self, example: &Value, status: u16, answer: &str) -> Result<Vec<String>, String> {
        let mut problems = Vec::new();
        let expected_status = example["status"].as_u64().unwrap_or(200);
        if u64::from(status) != expected_status {
            problems.push(format!("HTTP status: expected {expected_status}, got {status}"));
        }
        if let Some(text) = example["response_text"].as_str() {
            if text != answer {
                problems.push(format!("body: expected {text:?}, got {answer:?}"));
            }
            return Ok(problems);
        }
        match (serde_json::from_str::<Value>(answer), example.get("response")) {
            (Err(_), _) => problems.push(format!("body: expected JSON, got {answer:?}")),
            (Ok(got), Some(expected)) => problems.extend(differences(&self.fill(expected)?, &got)),
            (Ok(got), None) if got.is_object() && got["error"].is_null() => {}
            (Ok(got), None) => problems.push(format!("/error: expected none, got {got}")),
        }
        Ok(problems)
    }

    /// Puts values in the place of `${names}`; a text that is nothing but one takes the value's type.
    fn fill(&self, value: &Value) -> Result<Value, String> {
        let mut missing = None;
        let mut look_up = |name: &str| {
            self.values.get(name).cloned().unwrap_or_else(|| {
                missing = Some(format!("${{{name}}}: no step has saved it"));
                Value::Null
            })
        };
        let filled = map_texts(value, &mut |text| match text_parts(text).as_slice() {
            [Part::Name(name)] => look_up(name),
            parts => {
                let texts = parts.iter().map(|part| match part {
                    Part::Text(text) => (*text).to_owned(),
                    Part::Name(name) => match look_up(name) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    },
                });
                texts.collect::<String>().into()
            }
        });
        missing.map_or(Ok(filled), Err)
    }

    async fn log_in_for(&mut self, example: &Value) -> Result<(), String> {
        if self.values.contains_key("session") || !example.to_string().contains("${session}") {
            return Ok(());
        }
        let request = json!({"jsonrpc": "2.0", "method": "login", "params": ["demo", "demo-key"], "id": 1});
        let (_, answer) = self.post("/", &Value::Null, request.to_string()).await;
        let answered: Value = serde_json::from_str(&answer).map_err(|_| format!("login: {answer}"))?;
        let session = answered.get("result").ok_or_else(|| format!("login: {answer}"))?;
        self.values.insert("session".to_owned(), session.clone());
        Ok(())
    }

    async fn log_out(&mut self) {
        if let Some(session) = self.values.remove("session") {
            let request = json!({"jsonrpc": "2.0", "method": "endSession", "params": [session], "id": 1});
            _ = self.post("/", &Value::Null, request.to_string()).await;
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

    async fn post(&self, path: &str, headers: &Value, body: String) -> (u16, String) {
        let named = headers.as_object().into_iter().flatten();
        let headers: Vec<_> = named.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect();
        common::post(&self.client, &format!("{}{path}", self.server_url), &headers, body).await
    }
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
