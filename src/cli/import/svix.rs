//! Endpoints of Svix, as its list of them shows them: the answer of
//! `GET /api/v1/app/{app_id}/endpoint/`, `{"data": [{"id", "url", …}], "iterator", "done"}`.
//! Two things of an endpoint have answers of their own, and may be put beside its
//! other members: `secret` (`…/secret/`: `{"key": "whsec_…"}`) and `headers`
//! (`…/headers/`: `{"headers": {…}, "sensitive": […]}`).

use serde_json::{Value, json};

use super::found::{Draft, Foreign, Found, Source};
use super::topics::TopicMap;
use crate::cli::Failure;

/// The endpoints in these texts.
pub fn read(sources: &[Source], topics: &TopicMap) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for source in sources {
        for raw in source.objects(&["data"])? {
            let place = source.place(raw.get());
            let mut draft = Draft::default();
            let (was, read) = match Foreign::read(raw) {
                Ok(endpoint) => (
                    endpoint.text(&["id", "uid"]).unwrap_or("-").to_owned(),
                    endpoint_into(&endpoint, topics, &mut draft),
                ),
                Err(problem) => ("-".to_owned(), Err(problem)),
            };
            all.push(draft.found(place, was, read));
        }
    }
    Ok(all)
}

fn endpoint_into(endpoint: &Foreign, topics: &TopicMap, draft: &mut Draft) -> Result<(), String> {
    let url = endpoint.text(&["url"]).ok_or("has no url; is it an endpoint of Svix?")?;
    draft.set("url", url);
    draft.set("is_active", i32::from(!endpoint.is("disabled")));
    if let Some(description) = endpoint.text(&["description"]) {
        draft.set("description", description);
    }
    if let Some(uid) = endpoint.text(&["uid"]) {
        draft.set("name", uid);
    }
    match endpoint.get(&["throttleRate", "throttle_rate", "rateLimit", "rate_limit"]) {
        None => {}
        Some(Value::Number(rate)) => draft.set("rate_limit", json!({"per_second": rate})),
        Some(_) => draft.lost("its rate limit is no number of messages a second"),
    }
    secret_into(endpoint, draft);
    headers_into(endpoint, draft);
    if endpoint.get(&["channels"]).is_some() {
        draft.note_off("its channels, without which it gets more events");
    }
    for member in endpoint.said(&["metadata", "transformation"]) {
        draft.lost(format!("its {member}"));
    }
    // At last, for it may fail.
    draft.set(
        "topics",
        match endpoint.get(&["filterTypes", "filter_types"]) {
            // No filter: everything.
            None => json!("*"),
            Some(Value::Array(types)) if types.iter().all(Value::is_string) => {
                json!(topics.all(types.iter().filter_map(Value::as_str))?)
            }
            Some(_) => return Err("filterTypes is no list of texts".to_owned()),
        },
    );
    Ok(())
}

fn secret_into(endpoint: &Foreign, draft: &mut Draft) {
    let inner = endpoint.object(&["secret"]);
    let secret = inner.as_ref().and_then(|secret| secret.text(&["key"])).or_else(|| endpoint.text(&["secret", "key"]));
    match secret {
        Some(key) if key.starts_with("whsk_") => {
            draft.set("signing", "ed25519");
            draft.lost("its private key; a new one is made, and its receiver needs the new public key");
        }
        secret => draft.secret(secret),
    }
}

/// The headers alone, or their whole answer.
fn headers_into(endpoint: &Foreign, draft: &mut Draft) {
    let Some(answer) = endpoint.object(&["headers"]) else { return };
    let inner = answer.object(&["headers"]);
    let is_answer = inner.is_some() || answer.get(&["sensitive"]).is_some();
    let headers = if is_answer { inner } else { Some(answer.clone()) };
    for (name, value) in headers.iter().flat_map(Foreign::texts) {
        draft.header(name, value);
    }
    if let Some(Value::Array(names)) = answer.get(&["sensitive"]).filter(|_| is_answer) {
        let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
        draft.note_off(format!("the values of its headers {}, which Svix shows nobody", names.join(", ")));
    }
}
