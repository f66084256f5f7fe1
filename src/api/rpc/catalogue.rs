//! Catalogues of topics as files: an array of objects, each a topic and what
//! `topic.register` takes of it. What `topic.list` answers is one, too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde_json::value::RawValue;

use super::wire::{TopicData, TopicItem};
use crate::domain::catalogue::{CatalogueEntry, TopicChanges};
use crate::domain::topic::Topic;

/// Reads a catalogue: the topics in their order, each with what is said of it.
/// Fails with what is wrong, and where.
pub fn read(text: &str) -> Result<Vec<(Topic, TopicChanges)>, String> {
    let items: Vec<BTreeMap<String, Box<RawValue>>> =
        serde_json::from_str(text).map_err(|cause| format!("must be a JSON array of objects: {cause}"))?;
    let mut topics: Vec<(Topic, TopicChanges)> = Vec::with_capacity(items.len());
    for (place, item) in (1..).zip(items) {
        let (topic, changes) = read_item(item).map_err(|problem| format!("topic {place} of the array: {problem}"))?;
        if topics.iter().any(|(other, _)| *other == topic) {
            return Err(format!("topic {place} of the array: {topic} stands there twice"));
        }
        topics.push((topic, changes));
    }
    Ok(topics)
}

fn read_item(mut item: BTreeMap<String, Box<RawValue>>) -> Result<(Topic, TopicChanges), String> {
    let topic = item.remove("topic").ok_or("\"topic\" is missing; give one such as \"order:created\"")?;
    let topic: String = serde_json::from_str(topic.get()).map_err(|_| "\"topic\" is no text".to_owned())?;
    let topic = Topic::try_new(&topic).map_err(|violation| violation.problem)?;
    // A list of another catalogue tells of its own times.
    item.retain(|name, _| !matches!(name.as_str(), "created_at" | "updated_at"));
    let members =
        MapDeserializer::<_, serde_json::Error>::new(item.iter().map(|(name, value)| (name.as_str(), &**value)));
    let data: TopicData = Deserialize::deserialize(members).map_err(|cause| format!("{topic}: {cause}"))?;
    let changes = TopicChanges::try_from(data)
        .map_err(|violation| format!("{topic}: {} {}", violation.field, violation.problem))?;
    Ok((topic, changes))
}

/// Writes a catalogue so that [`read`] takes it.
pub fn write(entries: Vec<CatalogueEntry>) -> Result<String, serde_json::Error> {
    let line = |entry| TopicItem::try_from(entry).and_then(|item| serde_json::to_string(&item));
    let lines: Vec<_> = entries.into_iter().map(line).collect::<Result<_, _>>()?;
    Ok(format!("[\n  {}\n]", lines.join(",\n  ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::TopicSpec;
    use crate::domain::time::Timestamp;

    #[test]
    fn what_is_written_can_be_read() {
        let text = r#"[{"topic": "order:created", "name": "New order", "event_type": 7, "validation": "warn",
            "deprecated": 1, "message_schema": {"type":  "object"}}, {"topic": "a:b"}]"#;
        let topics = read(text).unwrap();
        let entry = |(place, (topic, said)): (i64, (Topic, TopicChanges))| {
            let spec = TopicSpec::try_new(topic, said).unwrap();
            CatalogueEntry { spec, event_type: place, created_at: Timestamp(0), updated_at: Timestamp(0) }
        };
        let entries: Vec<_> = (7..).zip(topics).map(entry).collect();
        let again = read(&write(entries.clone()).unwrap()).unwrap();
        for (entry, (topic, said)) in entries.into_iter().zip(again) {
            let expected = TopicSpec { event_type: Some(entry.event_type), ..entry.spec };
            assert_eq!(TopicSpec::try_new(topic, said).unwrap(), expected);
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, problem) in [
            ("{}", "must be a JSON array"),
            (r#"[{"topic": "a:b"}, {"name": "x"}]"#, "topic 2 of the array: \"topic\" is missing"),
            (r#"[{"topic": "order"}]"#, "topic 1 of the array: \"order\" is no topic"),
            (r#"[{"topic": "a:b", "colour": 1}]"#, "a:b: unknown field `colour`"),
            (
                r#"[{"topic": "a:b", "validation": "maybe"}]"#,
                "a:b: validation is unknown; there are off, warn, reject.",
            ),
            (r#"[{"topic": "a:b"}, {"topic": "a:b"}]"#, "topic 2 of the array: a:b stands there twice"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
    }
}
