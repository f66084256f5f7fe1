//! What a file holds: JSON in whatever layout, and at which line each part of it stands.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cli::Failure;

/// A webhook to import.
pub struct Found {
    /// Where it stands, as a person looks for it.
    pub place: String,
    /// What it was called where it comes from.
    pub was: String,
    /// The line for `webhook.import`, or why there can be none.
    pub line: Result<Box<RawValue>, String>,
    /// Where it is posted to, if that is known.
    pub url: String,
    /// What could not be carried over.
    pub notes: Vec<String>,
}

/// A text that was read from somewhere.
pub struct Source {
    /// From where.
    pub name: String,
    text: String,
    /// Where each line begins, but for the first.
    line_starts: Vec<usize>,
}

impl Source {
    /// A text, without the mark that some editors put in front.
    pub fn new(name: String, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let line_starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self { name, text, line_starts }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a part of the text stands.
    pub fn place(&self, part: &str) -> String {
        // Both are of one text, so the distance of their beginnings is a place in it.
        let at = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.place_of_line(self.line_starts.partition_point(|start| *start <= at) + 1)
    }

    /// The same of a line, from 1.
    pub fn place_of_line(&self, line: usize) -> String {
        format!("{} line {line}", self.name)
    }

    /// All objects of a kind that are in the text: one after the other, in arrays, or as pages that have them in one
    /// of these members.
    pub fn objects(&self, containers: &[&str]) -> Result<Vec<&RawValue>, Failure> {
        let mut found = Vec::new();
        let wrong =
            |cause: serde_json::Error| Failure::usage(format!("{}: what is in it is no JSON: {cause}", self.name));
        for value in serde_json::Deserializer::from_str(&self.text).into_iter::<&RawValue>() {
            self.gather(value.map_err(wrong)?, containers, &mut found).map_err(wrong)?;
        }
        Ok(found)
    }

    fn gather<'a>(
        &self,
        value: &'a RawValue,
        containers: &[&str],
        found: &mut Vec<&'a RawValue>,
    ) -> serde_json::Result<()> {
        match value.get().as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(value.get())?;
                items.into_iter().try_for_each(|item| self.gather(item, containers, found))
            }
            Some(b'{') => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(value.get())?;
                let inner = containers.iter().find_map(|name| members.get(*name));
                match inner.filter(|inner| inner.get().starts_with(['[', '{'])) {
                    Some(inner) => self.gather(inner, containers, found),
                    None => {
                        found.push(value);
                        Ok(())
                    }
                }
            }
            _ => {
                found.push(value);
                Ok(())
            }
        }
    }
}

/// An object of another platform, read member by member.
#[derive(Clone)]
pub struct Foreign(Map<String, Value>);

impl Foreign {
    /// Reads it. Fails if it is no object.
    pub fn read(raw: &RawValue) -> Result<Self, String> {
        serde_json::from_str(raw.get()).map(Self).map_err(|_| "is no object".to_owned())
    }

    /// A member that is there and says something; the first of these names.
    pub fn get(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.0.get(*name)).filter(|value| says_something(value))
    }

    /// The same as a text.
    pub fn text(&self, names: &[&str]) -> Option<&str> {
        self.get(names).and_then(Value::as_str)
    }

    /// The same as an object.
    pub fn object(&self, names: &[&str]) -> Option<Self> {
        self.get(names).and_then(Value::as_object).cloned().map(Self)
    }

    /// Whether a member is true.
    pub fn is(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| *value == Value::Bool(true))
    }

    /// Which of these say something.
    pub fn said<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        names.iter().copied().filter(|name| self.get(&[name]).is_some()).collect()
    }

    /// The names of its members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Name and text of each member that is a text.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A webhook that is being made of what another platform says.
#[derive(Default)]
pub struct Draft {
    members: Map<String, Value>,
    notes: Vec<String>,
    headers: Vec<String>,
}

impl Draft {
    /// Says a member of it.
    pub fn set(&mut self, member: &str, value: impl Into<Value>) {
        self.members.insert(member.to_owned(), value.into());
    }

    /// Adds a header to send along.
    pub fn header(&mut self, name: &str, value: &str) {
        self.headers.push(format!("{name}: {value}"));
    }

    /// Says what could not be carried over.
    pub fn lost(&mut self, what: impl Display) {
        self.note(format!("left out: {what}"));
    }

    /// Says what its owner has to know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The same of what would have its receiver sent more than before, or without what it asks for: the webhook is
    /// made switched off.
    pub fn note_off(&mut self, what: impl Display) {
        self.lost(format!("{what}; it is made switched off"));
        self.set("is_active", 0);
    }

    /// What signs. One that was masked on its way is none.
    pub fn secret(&mut self, secret: Option<&str>) {
        match secret {
            Some(secret) if is_masked(secret) => self.note("its secret is masked, and a new one is made"),
            Some(secret) => self.set("secret_key", secret),
            None => self.note("there is no secret, and a new one is made"),
        }
    }

    /// The webhook as it is found, or why there is none.
    pub fn found(mut self, place: String, was: String, read: Result<(), String>) -> Found {
        if !self.headers.is_empty() {
            let headers = self.headers.join("\n");
            self.set("extra_headers", headers);
        }
        let url = self.members.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        let line = read.and_then(|()| {
            let line = Map::from_iter([("webhook".to_owned(), Value::Object(self.members))]);
            serde_json::value::to_raw_value(&line).map_err(|cause| cause.to_string())
        });
        Found { place, was, line, url, notes: self.notes }
    }
}

/// Outpost shows four characters of a credential, or none, and stars for the rest.
pub fn is_masked(secret: &str) -> bool {
    secret.ends_with("****")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_every_layout_and_at_their_lines() {
        let found = |text: &str| -> Vec<(String, String)> {
            let source = Source::new("f".to_owned(), text);
            let objects = source.objects(&["data", "content"]).unwrap();
            objects.iter().map(|raw| (raw.get().to_owned(), source.place(raw.get()))).collect()
        };
        let of = |text: &str, line: usize| (text.to_owned(), format!("f line {line}"));
        assert_eq!(found("\u{feff}{\"id\":1}\n\n{\"id\":2}"), [of("{\"id\":1}", 1), of("{\"id\":2}", 3)]);
        assert_eq!(found("[{\"id\":1},\n{\"id\":2}]"), [of("{\"id\":1}", 1), of("{\"id\":2}", 2)]);
        assert_eq!(
            found("{\"data\": {\n\"content\":\n[{\"id\":1}]}}{\"id\":2}"),
            [of("{\"id\":1}", 3), of("{\"id\":2}", 3)]
        );
        assert_eq!(found("{\"data\": null}\n7"), [of("{\"data\": null}", 1), of("7", 2)]);
        assert!(found(" \n").is_empty() && found("[]").is_empty());
        assert!(Source::new("f".to_owned(), "{\"id\":").objects(&[]).is_err());
    }

    #[test]
    fn masked_secrets_are_known() {
        assert!(is_masked("whse********") && is_masked("****"));
        assert!(!is_masked("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
    }
}
