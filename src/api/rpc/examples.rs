//! The examples of `rpc-examples/` as the document shows them: calls that
//! succeed, with values in the places of placeholders.

use include_dir::{Dir, File, include_dir};
use serde_json::{Map, Value, json};

use super::spec::Spec;

static FOLDER: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/rpc-examples");

/// What placeholders stand for; the ids that examples save are 1 but for [`IDS`].
const SHOWN: &[(&str, &str)] = &[
    ("${topic}", "order:created"),
    ("${receiver}", "https://example.com/hook"),
    ("${run}", "x7k2m9q4w1z8"),
    ("${user}", "demo"),
    ("${merchant}", "demo"),
    ("${key}", "demo-key"),
    ("${opened}", SESSION),
    ("<session>", SESSION),
    ("<time>", "2026-11-22T03:04:05.678Z"),
    ("<secret>", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAAAAAAAAA="),
    ("<string>", "…"),
];
/// Webhooks of which an example says that they are deleted, or fail.
const IDS: &[(&str, i64)] = &[("doomed", 2), ("failing", 3)];
const SESSION: &str = "0123456789abcdef0123456789abcdef";
/// A list may hold more in its place.
const MORE: &str = "<more>";

/// All examples.
pub struct Examples(Vec<Value>);

impl Examples {
    /// Reads them, in the order of their names.
    pub fn read() -> Self {
        let is_example = |file: &&File<'_>| file.path().extension().is_some_and(|extension| extension == "json");
        let mut files: Vec<_> = FOLDER.files().filter(is_example).collect();
        files.sort_by_key(|file| file.path().file_stem());
        let read = |file: &File<'_>| serde_json::from_slice(file.contents()).expect("an example is JSON");
        Self(files.into_iter().map(read).collect())
    }

    /// Those of a method, as OpenRPC's pairings: the plain one first.
    pub fn of(&self, spec: &Spec) -> Vec<Value> {
        let mut own: Vec<_> = self.0.iter().filter_map(|example| pairing(example, spec)).collect();
        own.sort_by_key(|example| {
            let corner = example["name"].as_str().and_then(|name| name.strip_prefix(spec.name));
            !matches!(corner, Some("" | ".registered"))
        });
        own
    }
}

/// `None` if it is no example of the method, or of what is refused.
fn pairing(example: &Value, spec: &Spec) -> Option<Value> {
    let (request, name) = (&example["request"], example["name"].as_str()?);
    let is_own = name.strip_prefix(spec.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if !is_own || request["method"] != spec.name || example.get("path").is_some() {
        return None;
    }
    let names = spec.takes_session.then_some("session").into_iter().chain(spec.params.iter().map(|p| p.name.as_str()));
    let given = |name: &str, value: &Value| json!({ "name": name, "value": shown(value) });
    let params: Vec<Value> = match &request["params"] {
        Value::Array(values) => names.zip(values).map(|(name, value)| given(name, value)).collect(),
        Value::Object(members) => {
            // Tools send them by position, so what is left out between others is null.
            let names: Vec<_> = names.collect();
            let count = names.iter().rposition(|name| members.contains_key(*name)).map_or(0, |last| last + 1);
            names[..count].iter().map(|name| given(name, members.get(*name).unwrap_or(&Value::Null))).collect()
        }
        _ => Vec::new(),
    };
    let result = example["response"].get("result")?;
    Some(json!({
        "name": name,
        "description": example["description"],
        "params": params,
        "result": { "name": "result", "value": shown(result) },
    }))
}

/// The value with something in the place of each placeholder.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => shown_text(text),
        Value::Array(items) => items.iter().filter(|item| *item != MORE).map(shown).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), shown(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn shown_text(text: &str) -> Value {
    match text {
        // The Authorization header counts.
        "${session}" | "<any>" => return Value::Null,
        "<int>" | "<number>" => return 1.into(),
        _ => {}
    }
    let mut shown = text.to_owned();
    for (placeholder, value) in SHOWN {
        shown = shown.replace(placeholder, value);
    }
    while let Some((before, rest)) = shown.split_once("${") {
        let Some((name, after)) = rest.split_once('}') else { break };
        let id = IDS.iter().find(|(own, _)| *own == name).map_or(1, |(_, id)| *id);
        if before.is_empty() && after.is_empty() {
            return id.into();
        }
        shown = format!("{before}{id}{after}");
    }
    shown.into()
}
