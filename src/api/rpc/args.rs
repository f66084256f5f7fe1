//! Parameters, by position or by name, decoded into the type that a method
//! declares. Values are borrowed text until then, so a message keeps its bytes.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::domain::fault::{Fault, FaultCode};

/// A parameter that a method declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, when parameters are given by name.
    pub name: String,
    /// Whether it may be left out.
    pub is_required: bool,
}

impl Param {
    /// What a type declares: its members, in their order.
    pub fn all_of<P: JsonSchema>() -> Vec<Self> {
        let schema = P::json_schema(&mut SchemaGenerator::default());
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
        let members =
            schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|members| members.keys());
        members.map(|name| Self { name: name.clone(), is_required: is_required(name) }).collect()
    }
}

/// The parameters of one call.
#[derive(Debug)]
pub enum Args<'a> {
    /// In the order declared.
    Positional(Vec<&'a RawValue>),
    /// In any order.
    Named(BTreeMap<String, &'a RawValue>),
}

/// What stands in the place of the session.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionArg {
    /// Nothing, null or "": the Authorization header counts.
    Absent,
    /// A key.
    Key(String),
    /// Something that is no key.
    Unusable,
}

impl<'a> Args<'a> {
    /// Reads the params of a registered method.
    pub fn read(params: Option<&'a str>) -> Self {
        let none = Self::Positional(Vec::new());
        match params {
            // The envelope has checked that it is an array or an object.
            Some(text) if text.starts_with('{') => serde_json::from_str(text).map_or(none, Self::Named),
            Some(text) => serde_json::from_str(text).map_or(none, Self::Positional),
            None => none,
        }
    }

    /// Reads the args of `call`: an array holds the arguments, nothing or null
    /// means none, and anything else is the sole argument.
    pub fn of_call(args: Option<&'a RawValue>) -> Self {
        match args {
            None => Self::Positional(Vec::new()),
            Some(args) if args.get() == "null" => Self::Positional(Vec::new()),
            Some(args) if args.get().starts_with('[') => Self::read(Some(args.get())),
            Some(sole) => Self::Positional(vec![sole]),
        }
    }

    /// Takes the session out: the first by position, or the one of that name.
    pub fn take_session(&mut self) -> SessionArg {
        let session = match self {
            Self::Positional(values) if values.is_empty() => None,
            Self::Positional(values) => Some(values.remove(0)),
            Self::Named(values) => values.remove("session"),
        };
        match session.map(|raw| serde_json::from_str::<Option<String>>(raw.get())) {
            None => SessionArg::Absent,
            Some(Ok(key)) => key.filter(|key| !key.is_empty()).map_or(SessionArg::Absent, SessionArg::Key),
            Some(Err(_)) => SessionArg::Unusable,
        }
    }

    /// Decodes what `method` declares. Fails with fault 6 if something
    /// required is missing or null, and with `invalid` if a value is wrong.
    pub fn decode<P: DeserializeOwned>(self, method: &str, params: &[Param], invalid: FaultCode) -> Result<P, Fault> {
        let takes = || signature(method, params);
        let by_name: Vec<(&str, &RawValue)> = match self {
            Self::Positional(values) => {
                if let Some(surplus) = values.iter().skip(params.len()).find(|value| !is_empty(value)) {
                    let shown: String = surplus.get().chars().take(40).collect();
                    return Err(Fault::new(invalid).detail(format!("{shown} is one parameter too many; {}.", takes())));
                }
                params.iter().map(|param| param.name.as_str()).zip(values).collect()
            }
            Self::Named(values) => {
                let declared = |name: &str| params.iter().find(|param| param.name == name);
                let mut by_name = Vec::with_capacity(values.len());
                for (name, value) in values {
                    let Some(param) = declared(&name) else {
                        return Err(Fault::new(invalid).field(name).detail(format!("is no parameter; {}.", takes())));
                    };
                    by_name.push((param.name.as_str(), value));
                }
                by_name
            }
        };
        let given: Vec<_> = by_name.into_iter().filter(|(_, value)| value.get() != "null").collect();
        let is_given = |param: &&Param| given.iter().any(|(name, _)| *name == param.name);
        if let Some(missing) = params.iter().filter(|param| param.is_required).find(|param| !is_given(param)) {
            let fault = Fault::new(FaultCode::MissingParameter).field(missing.name.as_str());
            return Err(fault.detail(format!("{} is missing; {}.", missing.name, takes())));
        }
        let deserializer = MapDeserializer::<_, serde_json::Error>::new(given.into_iter());
        serde_path_to_error::deserialize(deserializer).map_err(|cause| {
            let (index, field) = place(cause.path());
            let fault = Fault::new(invalid).field(field).detail(format!("{}.", without_place(cause.inner())));
            Fault { index, ..fault }
        })
    }
}

/// Deserialises from the text of a value that was kept raw.
pub fn from_raw<T: for<'de> Deserialize<'de>>(raw: &RawValue, field: &str, invalid: FaultCode) -> Result<T, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|cause| {
        let path = cause.path().to_string();
        let field = if path == "." { field } else { &path };
        Fault::new(invalid).field(field).detail(format!("{}.", without_place(&cause.into_inner())))
    })
}

/// Where in the parameters: of `webhook.topics[1]` the part that its owner
/// wrote, `topics[1]`; of `events[3].topic` the index, and `topic`.
fn place(path: &serde_path_to_error::Path) -> (Option<usize>, String) {
    let mut segments = path.iter().peekable();
    let param = segments.next().map(Segment::to_string).unwrap_or_default();
    let index = match segments.peek() {
        Some(Segment::Seq { index }) => Some(*index),
        _ => None,
    };
    let mut field = String::new();
    for segment in segments.skip(usize::from(index.is_some())) {
        let dot = if field.is_empty() || matches!(segment, Segment::Seq { .. }) { "" } else { "." };
        field += &format!("{dot}{segment}");
    }
    (index, if field.is_empty() { param } else { field })
}

/// serde_json ends its messages with a line and column, which mean nothing
/// here: each value is parsed on its own.
fn without_place(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned()
}

/// `null`, `[]`, `{}` and `""`: what clients send in place of nothing.
fn is_empty(value: &RawValue) -> bool {
    let text: String = value.get().split_whitespace().collect();
    matches!(text.as_str(), "null" | "[]" | "{}" | "\"\"")
}

/// `webhook.create takes (webhook, return_webhook?)`.
fn signature(method: &str, params: &[Param]) -> String {
    if params.is_empty() {
        return format!("{method} takes no parameters");
    }
    let names: Vec<_> =
        params.iter().map(|param| format!("{}{}", param.name, if param.is_required { "" } else { "?" })).collect();
    format!("{method} takes ({})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    struct P {
        id: i64,
        message: Option<Box<str>>,
        #[serde(skip)]
        _unit: (),
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Places {
        events: Option<Vec<P>>,
        one: Option<P>,
        list: Option<BTreeMap<String, Vec<i64>>>,
    }

    #[test]
    fn faults_say_where() {
        let params = Param::all_of::<Places>();
        let told = |text: &str| {
            let fault = Args::read(Some(text)).decode::<Places>("m", &params, FaultCode::InvalidEvent).unwrap_err();
            (fault.index, fault.field.unwrap())
        };
        assert_eq!(told(r#"[[{"id": 1}, {"id": "a"}]]"#), (Some(1), "id".to_owned()));
        assert_eq!(told("[[{}]]"), (Some(0), "events".to_owned()));
        assert_eq!(told("[7]"), (None, "events".to_owned()));
        assert_eq!(told(r#"{"one": {"id": "a"}}"#), (None, "id".to_owned()));
        assert_eq!(told(r#"{"list": {"topics": [1, "a"]}}"#), (None, "topics[1]".to_owned()));
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Raw {
        message: Box<RawValue>,
    }

    fn decode(text: &str) -> Result<P, Fault> {
        Args::read(Some(text)).decode("m", &Param::all_of::<P>(), FaultCode::InvalidEvent)
    }

    #[test]
    fn position_and_name_mean_the_same() {
        let expected = P { id: 7, message: Some("x".into()), _unit: () };
        assert_eq!(decode(r#"[7, "x"]"#), Ok(P { id: 7, message: Some("x".into()), _unit: () }));
        assert_eq!(decode(r#"{"message": "x", "id": 7}"#), Ok(expected));
        assert_eq!(decode(r#"[7, null, [], {}]"#).unwrap().message, None);
    }

    #[test]
    fn faults_say_what_is_wrong() {
        let told = |text: &str| decode(text).unwrap_err();
        assert_eq!(told("[]").code, FaultCode::MissingParameter);
        assert!(told("[null]").whole().ends_with("id is missing; m takes (id, message?)."));
        assert_eq!(told(r#"["seven"]"#).field.as_deref(), Some("id"));
        assert!(told(r#"[7, "x", 8]"#).to_string().contains("8 is one parameter too many"));
        assert_eq!(told(r#"{"id": 7, "nr": 8}"#).field.as_deref(), Some("nr"));
    }

    #[test]
    fn raw_values_keep_their_bytes() {
        let text = r#"[{ "b":1.00,"a" : "\u00e9" }]"#;
        let raw: Raw = Args::read(Some(text)).decode("m", &Param::all_of::<Raw>(), FaultCode::InvalidEvent).unwrap();
        assert_eq!(raw.message.get(), r#"{ "b":1.00,"a" : "\u00e9" }"#);
    }

    #[test]
    fn sessions_come_first_or_by_name() {
        let session = |text: &str| Args::read(Some(text)).take_session();
        assert_eq!(session(r#"["k", 1]"#), SessionArg::Key("k".to_owned()));
        assert_eq!(session(r#"{"id": 1, "session": "k"}"#), SessionArg::Key("k".to_owned()));
        assert_eq!(session("[null]"), SessionArg::Absent);
        assert_eq!(session(r#"[""]"#), SessionArg::Absent);
        assert_eq!(session("[]"), SessionArg::Absent);
        assert_eq!(session("[5]"), SessionArg::Unusable);
    }
}
