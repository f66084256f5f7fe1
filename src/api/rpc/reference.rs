//! The reference for people: the OpenRPC document as a page.

use askama::Template;
use serde_json::{Value, json};

use crate::domain::fault::FAULTS;

/// What the document says of a method, as plain text.
pub struct Entry {
    /// What it does.
    pub summary: String,
    /// What else is to be known.
    pub description: String,
    /// Its parameters but for the session, each followed by its members.
    pub params: Vec<Line>,
    /// What it answers.
    pub result: Vec<Line>,
    /// The faults it may raise: number and words.
    pub faults: Vec<(i64, String)>,
    /// Arguments and the result of an example.
    pub example: Option<(Vec<Value>, Value)>,
}

/// A parameter, a result, or a member of either, with its path.
pub struct Line {
    /// Its name; that of a member behind those of what it is in.
    pub path: String,
    /// Whether it must be there.
    pub is_required: bool,
    /// What it may be.
    pub kind: String,
    /// What it means.
    pub description: String,
}

/// The parameter that says who calls.
const SESSION: &str = "session";

/// Who calls in the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The demo user, whom only a server in dev mode lets in.
    Demo,
    /// A user whom the reader has to name.
    Own,
}

/// The page, made from a document.
pub fn page(document: &Value, audience: Audience) -> String {
    Page::new(document, audience).render().expect("memory takes every byte")
}

#[derive(Template)]
#[template(path = "reference.html")]
struct Page<'a> {
    version: &'a str,
    url: &'a str,
    is_own: bool,
    description: Vec<Vec<Piece>>,
    groups: Vec<Group<'a>>,
    types: Vec<Type<'a>>,
    faults: Vec<Fault<'a>>,
}

/// Methods of one resource, or those of none.
struct Group<'a> {
    name: &'a str,
    methods: Vec<Method<'a>>,
}

struct Method<'a> {
    name: &'a str,
    summary: Vec<Piece>,
    description: Vec<Piece>,
    params: Vec<Member>,
    /// What the parameters' own types hold.
    fields: Vec<Type<'a>>,
    result: Vec<Member>,
    /// What its notifications tell.
    notification: Vec<Member>,
    faults: Vec<Fault<'a>>,
    examples: Vec<Example<'a>>,
}

/// A schema with a name.
struct Type<'a> {
    name: &'a str,
    description: Vec<Piece>,
    members: Vec<Member>,
}

/// A parameter, a result, or a member of either, with its path.
struct Member {
    path: String,
    is_required: bool,
    kind: Vec<Piece>,
    description: Vec<Piece>,
}

struct Fault<'a> {
    code: i64,
    message: &'a str,
}

struct Example<'a> {
    description: Vec<Piece>,
    name: &'a str,
    /// A command to copy; of what needs a WebSocket, the message.
    call: String,
    answer: String,
}

/// Text as it is, as code, or as the name of a type.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Code(String),
    Type(String),
}

impl<'a> Page<'a> {
    fn new(document: &'a Value, audience: Audience) -> Self {
        let url = text(&document["servers"][0]["url"]);
        let mut groups: Vec<Group<'a>> = Vec::new();
        for method in list(&document["methods"]) {
            let name = method["tags"][0]["name"].as_str().unwrap_or("session");
            let method = Method::new(method, document, url, audience);
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.methods.push(method),
                None => groups.push(Group { name, methods: vec![method] }),
            }
        }
        let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
        Self {
            version: text(&document["info"]["version"]),
            url,
            is_own: audience == Audience::Own,
            description: text(&document["info"]["description"]).split("\n\n").map(pieces).collect(),
            groups,
            types: schemas.map(|(name, schema)| Type::new(name, schema)).collect(),
            faults: FAULTS
                .iter()
                .map(|entry| Fault { code: entry.code.number().into(), message: entry.message })
                .collect(),
        }
    }
}

impl<'a> Method<'a> {
    fn new(method: &'a Value, document: &'a Value, url: &str, audience: Audience) -> Self {
        let name = text(&method["name"]);
        let mut params = Vec::new();
        for param in list(&method["params"]) {
            let path = text(&param["name"]);
            push_member(&mut params, path, param["required"] == true, &param["schema"], text(&param["description"]));
        }
        let named = list(&method["params"]).filter_map(|param| name_of(&param["schema"]));
        let named = named.map(|name| Type::new(name, &document["components"]["schemas"][name]));
        let fields = named.filter(|own| !own.members.is_empty()).collect();
        let mut result = Vec::new();
        let schema = &method["result"]["schema"];
        push_member(&mut result, "", true, schema, text(&schema["description"]));
        let mut notification = Vec::new();
        if let Some(schema) = method.get("x-notification").map(|notification| &notification["schema"]) {
            push_member(&mut notification, "", true, schema, text(&schema["description"]));
        }
        let url = (method["x-transport"] != "websocket").then_some(url);
        let error = |error: &'a Value| Fault {
            code: error["code"].as_i64().unwrap_or_default(),
            message: text(&error["message"]),
        };
        Self {
            name,
            summary: pieces(text(&method["summary"])),
            description: pieces(text(&method["description"])),
            params,
            fields,
            result,
            notification,
            faults: list(&method["errors"]).map(error).collect(),
            examples: list(&method["examples"]).map(|example| Example::new(example, name, url, audience)).collect(),
        }
    }
}

impl<'a> Type<'a> {
    fn new(name: &'a str, schema: &'a Value) -> Self {
        let mut members = Vec::new();
        push_members(&mut members, "", schema);
        Self { name, description: pieces(text(&schema["description"])), members }
    }
}

impl<'a> Example<'a> {
    /// `url`: where to POST it.
    fn new(example: &'a Value, method: &str, url: Option<&str>, audience: Audience) -> Self {
        let value = |param: &Value| match (audience, text(&param["name"])) {
            (Audience::Own, "username") => "your user's name".into(),
            (Audience::Own, "api_key") => "your API key".into(),
            _ => param["value"].clone(),
        };
        let params: Vec<_> = list(&example["params"]).map(value).collect();
        let user = match audience {
            Audience::Demo => "demo:demo-key",
            Audience::Own => r#""$TALLYHOOK_USER:$TALLYHOOK_KEY""#,
        };
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": example["result"]["value"]});
        Self {
            name: text(&example["name"]),
            description: pieces(text(&example["description"])),
            call: match url {
                Some(url) => format!(
                    "curl {} -u {user} \\\n  -H 'content-type: application/json' \\\n  -d {}",
                    quoted(url),
                    quoted(&call.to_string())
                ),
                None => call.to_string(),
            },
            answer: format!("{answer:#}"),
        }
    }
}

/// What the document says of the method of that name, if it has one.
pub fn entry(document: &Value, name: &str) -> Option<Entry> {
    let method = list(&document["methods"]).find(|method| method["name"] == name)?;
    let own = || list(&method["params"]).filter(|param| param["name"] != SESSION);
    let mut params = Vec::new();
    for param in own() {
        let (path, schema) = (text(&param["name"]), &param["schema"]);
        push_member(&mut params, path, param["required"] == true, schema, text(&param["description"]));
        if let Some(named) = named(document, schema) {
            push_members(&mut params, path, named);
        }
    }
    let schema = &method["result"]["schema"];
    let mut result = Vec::new();
    push_member(&mut result, "", true, schema, text(&schema["description"]));
    if let Some(named) = named(document, schema).or_else(|| named(document, &schema["items"])) {
        push_members(&mut result, "", named);
    }
    let examples = || list(&method["examples"]);
    let plain = format!("{name}.registered");
    let example = examples().find(|example| example["name"] == *plain).or_else(|| examples().next());
    let page = Method::new(method, document, "", Audience::Own);
    Some(Entry {
        summary: text(&method["summary"]).to_owned(),
        description: text(&method["description"]).to_owned(),
        params: params.into_iter().map(Line::from).collect(),
        result: result.into_iter().map(Line::from).collect(),
        faults: page.faults.iter().map(|fault| (fault.code, fault.message.to_owned())).collect(),
        example: example.map(|example| {
            let given = list(&example["params"]).filter(|param| param["name"] != SESSION);
            (given.map(|param| param["value"].clone()).collect(), example["result"]["value"].clone())
        }),
    })
}

/// The schema that another names.
fn named<'a>(document: &'a Value, schema: &Value) -> Option<&'a Value> {
    let whole = list(&schema["allOf"]).next().unwrap_or(schema);
    document.pointer(whole["$ref"].as_str()?.trim_start_matches('#'))
}

impl From<Member> for Line {
    fn from(member: Member) -> Self {
        let plain = |pieces: Vec<Piece>| -> String {
            let words = pieces.into_iter().map(|piece| match piece {
                Piece::Text(text) | Piece::Code(text) | Piece::Type(text) => text,
            });
            words.collect()
        };
        let Member { path, is_required, kind, description } = member;
        Self { path, is_required, kind: plain(kind), description: plain(description) }
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Adds a line for what has this schema, and one for each member, if it is an
/// object without a name of its own.
fn push_member(members: &mut Vec<Member>, path: &str, is_required: bool, schema: &Value, description: &str) {
    let member = Member { path: path.to_owned(), is_required, kind: kind(schema), description: pieces(description) };
    members.push(member);
    push_members(members, path, schema);
}

fn push_members(members: &mut Vec<Member>, path: &str, schema: &Value) {
    let required: Vec<_> = list(&schema["required"]).map(text).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        push_member(members, &path, required.contains(&name.as_str()), member, text(&member["description"]));
    }
    for branch in list(&schema["anyOf"]) {
        push_members(members, path, branch);
    }
}

/// The name of a schema that stands among the components.
fn name_of(schema: &Value) -> Option<&str> {
    let own = text(&schema["$ref"]).rsplit_once('/').map(|(_, name)| name);
    own.or_else(|| list(&schema["allOf"]).chain(list(&schema["anyOf"])).find_map(name_of))
}

/// What a value may be, in words: `integer, 1 to 100`.
fn kind(schema: &Value) -> Vec<Piece> {
    if let Some(name) = text(&schema["$ref"]).rsplit_once('/').map(|(_, name)| name) {
        return vec![Piece::Type(name.to_owned())];
    }
    if let Some(whole) = list(&schema["allOf"]).next() {
        return kind(whole);
    }
    let branches: Vec<_> = list(&schema["anyOf"]).map(kind).collect();
    if !branches.is_empty() {
        return joined(branches, " or ");
    }
    let names: Vec<_> = list(&schema["enum"]).map(|value| vec![Piece::Code(value.to_string())]).collect();
    if !names.is_empty() {
        return joined(names, " or ");
    }
    let types: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).collect(),
        single => single.as_str().into_iter().collect(),
    };
    if types.is_empty() {
        return vec![Piece::Text("any value".to_owned())];
    }
    let mut pieces = vec![Piece::Text(types.join(" or "))];
    if types.contains(&"array") && schema["items"].is_object() {
        pieces.push(Piece::Text(" of ".to_owned()));
        pieces.extend(kind(&schema["items"]));
    }
    pieces.push(Piece::Text(bounds(schema)));
    pieces
}

fn bounds(schema: &Value) -> String {
    let range = |least: &Value, most: &Value, unit: &str| match (least.as_i64(), most.as_i64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (Some(least), None) => format!(", from {least}{unit}"),
        (None, Some(most)) => format!(", up to {most}{unit}"),
        (None, None) => String::new(),
    };
    let format = schema["format"].as_str().map_or(String::new(), |format| format!(", {format}"));
    range(&schema["minimum"], &schema["maximum"], "")
        + &range(&schema["minLength"], &schema["maxLength"], " characters")
        + &range(&schema["minItems"], &schema["maxItems"], " items")
        + &format
}

fn joined(parts: Vec<Vec<Piece>>, separator: &str) -> Vec<Piece> {
    let mut all = Vec::new();
    for part in parts {
        if !all.is_empty() {
            all.push(Piece::Text(separator.to_owned()));
        }
        all.extend(part);
    }
    all
}

/// Text in which backquotes stand around code.
fn pieces(text: &str) -> Vec<Piece> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts
        .map(|(n, part)| if n % 2 == 0 { Piece::Text(part.to_owned()) } else { Piece::Code(part.to_owned()) })
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
