//! Destinations of Outpost, as its list of them shows them: the answer of
//! `GET /tenants/{tenant_id}/destinations`, an array, or a page with `models`.
//! Its answers mask what is secret.

use serde_json::{Value, json};

use super::found::{Draft, Foreign, Found, Source, is_masked};
use super::topics::TopicMap;
use crate::cli::Failure;

/// The destinations in these texts.
pub fn read(sources: &[Source], topics: &TopicMap) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for source in sources {
        for raw in source.objects(&["models", "data"])? {
            let place = source.place(raw.get());
            let mut draft = Draft::default();
            let (was, read) = match Foreign::read(raw) {
                Ok(destination) => (
                    destination.text(&["id"]).unwrap_or("-").to_owned(),
                    destination_into(&destination, topics, &mut draft),
                ),
                Err(problem) => ("-".to_owned(), Err(problem)),
            };
            all.push(draft.found(place, was, read));
        }
    }
    Ok(all)
}

fn destination_into(destination: &Foreign, topics: &TopicMap, draft: &mut Draft) -> Result<(), String> {
    match destination.text(&["type"]) {
        Some("webhook") => {}
        Some(other) => {
            return Err(format!("goes to {other:?}, and only those of the type \"webhook\" can be webhooks"));
        }
        None => return Err("has no type; is it a destination of Outpost?".to_owned()),
    }
    let config = destination.object(&["config"]).ok_or("has no config")?;
    draft.set("url", config.text(&["url"]).ok_or("has no config.url")?);
    draft.set("is_active", i32::from(destination.get(&["disabled_at", "disabledAt"]).is_none()));
    let credentials = destination.object(&["credentials"]);
    draft.secret(credentials.as_ref().and_then(|credentials| credentials.text(&["secret"])));
    if credentials.is_some_and(|credentials| credentials.get(&["previous_secret", "previousSecret"]).is_some()) {
        draft.lost("its previous secret, which signs no longer");
    }
    // An object, as a text.
    if let Some(text) = config.text(&["custom_headers", "customHeaders"]) {
        match serde_json::from_str::<serde_json::Map<String, Value>>(text) {
            Ok(headers) if headers.values().all(|value| value.as_str().is_some_and(|value| !is_masked(value))) => {
                for (name, value) in &headers {
                    draft.header(name, value.as_str().unwrap_or_default());
                }
            }
            _ => draft.note_off("its custom headers, which can't be read"),
        }
    }
    if destination.get(&["filter"]).is_some() {
        draft.note_off("its filter, without which it gets more events");
    }
    for member in destination.said(&["delivery_metadata", "deliveryMetadata"]) {
        draft.note_off(format!("its {member}, which goes out as headers"));
    }
    for member in destination.said(&["metadata"]) {
        draft.lost(format!("its {member}"));
    }
    // At last, for it may fail.
    draft.set(
        "topics",
        match destination.get(&["topics"]) {
            Some(Value::String(all)) => json!(topics.all([all.as_str()])?),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                json!(topics.all(list.iter().filter_map(Value::as_str))?)
            }
            _ => return Err("topics is neither \"*\" nor a list of topics".to_owned()),
        },
    );
    Ok(())
}
