//! Endpoints and subscriptions of Convoy, as its lists show them: the answers of
//! `GET /api/v1/projects/{project_id}/endpoints` and `…/subscriptions`, each
//! `{"data": {"content": [{"uid", …}], "pagination"}}`. An endpoint says where and
//! how, and the subscriptions of it which events; one that has none gets nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::found::{Draft, Foreign, Found, Source};
use super::topics::TopicMap;
use crate::cli::Failure;

/// The endpoints in these texts, with their subscriptions, wherever those stand.
pub fn read(sources: &[Source], topics: &TopicMap) -> Result<Vec<Found>, Failure> {
    let (mut endpoints, mut subscriptions) = (Vec::new(), BTreeMap::<String, Vec<Foreign>>::new());
    for source in sources {
        for raw in source.objects(&["data", "content"])? {
            let place = source.place(raw.get());
            match Foreign::read(raw) {
                Ok(object) => match endpoint_of(&object) {
                    Some(endpoint) => subscriptions.entry(endpoint).or_default().push(object),
                    None => endpoints.push((place, Ok(object))),
                },
                Err(problem) => endpoints.push((place, Err(problem))),
            }
        }
    }
    let found = endpoints.into_iter().map(|(place, endpoint)| {
        let mut draft = Draft::default();
        let (was, read) = match endpoint {
            Ok(endpoint) => {
                let uid = endpoint.text(&["uid"]).unwrap_or("-").to_owned();
                let own = subscriptions.get(&uid).map_or(&[][..], Vec::as_slice);
                let read =
                    endpoint_into(&endpoint, &mut draft).and_then(|()| subscriptions_into(own, topics, &mut draft));
                (uid, read)
            }
            Err(problem) => ("-".to_owned(), Err(problem)),
        };
        draft.found(place, was, read)
    });
    Ok(found.collect())
}

/// Of a subscription, whose it is; an endpoint has none.
fn endpoint_of(object: &Foreign) -> Option<String> {
    let metadata = object.object(&["endpoint_metadata"]);
    let uid = metadata.as_ref().and_then(|metadata| metadata.text(&["uid"]));
    uid.or_else(|| object.text(&["endpoint_id"])).map(str::to_owned)
}

fn endpoint_into(endpoint: &Foreign, draft: &mut Draft) -> Result<(), String> {
    let url = endpoint.text(&["url", "target_url"]).ok_or("has no url; is it an endpoint of Convoy?")?;
    draft.set("url", url);
    let status = endpoint.text(&["status"]).unwrap_or("active");
    draft.set("is_active", i32::from(status == "active" && !endpoint.is("is_disabled")));
    for (member, names) in [("name", &["name", "title"][..]), ("description", &["description"])] {
        if let Some(text) = endpoint.text(names) {
            draft.set(member, text);
        }
    }
    draft.secret(present_secret(endpoint));
    match endpoint.get(&["http_timeout"]).map(seconds) {
        // 0: as the project has it.
        None | Some(Some(0.0)) => {}
        Some(Some(seconds)) => draft.set("timeouts", json!({"total_ms": (seconds * 1_000.0).round() as u64})),
        Some(None) => draft.lost("its http_timeout, which can't be read"),
    }
    rate_into(endpoint, draft);
    authentication_into(endpoint, draft);
    for member in endpoint.said(&["owner_id", "support_email", "slack_webhook_url"]) {
        draft.lost(format!("its {member}"));
    }
    Ok(())
}

/// The last one that does not expire.
fn present_secret(endpoint: &Foreign) -> Option<&str> {
    let Some(Value::Array(secrets)) = endpoint.get(&["secrets"]) else { return endpoint.text(&["secret"]) };
    let expires =
        |secret: &&Value| secret["expires_at"].as_str().is_some_and(|at| !at.is_empty() && !at.starts_with("0001"));
    secrets.iter().rev().find(|secret| !expires(secret)).and_then(|secret| secret["value"].as_str())
}

/// So many requests in so long, as so many a second.
fn rate_into(endpoint: &Foreign, draft: &mut Draft) {
    let Some(limit) = endpoint.get(&["rate_limit"]).and_then(Value::as_f64).filter(|limit| *limit > 0.0) else {
        return;
    };
    let span = endpoint.get(&["rate_limit_duration"]).map_or(Some(1.0), seconds).filter(|span| *span > 0.0);
    let Some(span) = span else { return draft.lost("its rate limit, whose duration can't be read") };
    let per_second = (limit / span).floor();
    if per_second < 1.0 {
        draft.note(format!("its rate limit was {limit} in {span} s, and is 1 a second, the least there is"));
    }
    draft.set("rate_limit", json!({"per_second": per_second.max(1.0) as u64}));
}

/// A key goes out as a header; other ways can't be carried over.
fn authentication_into(endpoint: &Foreign, draft: &mut Draft) {
    let Some(authentication) = endpoint.object(&["authentication"]) else { return };
    let key = authentication.object(&["api_key"]);
    let key = key.as_ref().and_then(|key| Some((key.text(&["header_name"])?, key.text(&["header_value"])?)));
    match (key, authentication.text(&["type"])) {
        (Some((name, value)), Some("api_key") | None) => draft.header(name, value),
        (None, None) => {}
        (_, kind) => draft.note_off(format!("its authentication {}", kind.unwrap_or_default())),
    }
}

fn subscriptions_into(subscriptions: &[Foreign], topics: &TopicMap, draft: &mut Draft) -> Result<(), String> {
    if subscriptions.is_empty() {
        let problem = "has no subscription, which says what it gets; name the file with the list of them, too";
        return Err(problem.to_owned());
    }
    let mut ours = Vec::new();
    for subscription in subscriptions {
        let filter = subscription.object(&["filter_config"]);
        let types = match filter.as_ref().and_then(|filter| filter.get(&["event_types"])) {
            None => vec!["*"],
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err("filter_config.event_types of its subscription is no list of texts".to_owned()),
        };
        for topic in topics.all(types)? {
            if !ours.contains(&topic) {
                ours.push(topic);
            }
        }
        if filter.is_some_and(|filter| filters_more(&filter)) {
            draft.note_off("the filter of its subscription, without which it gets more events");
        }
        if subscription.text(&["status"]).is_some_and(|status| status != "active") {
            draft.note_off("that its subscription is not active");
        }
        if subscription.get(&["function"]).is_some() {
            draft.note_off("the function of its subscription, which changes what is sent");
        }
        retry_into(subscription, draft);
        for member in subscription.said(&["alert_config", "rate_limit_config"]) {
            draft.lost(format!("{member} of its subscription"));
        }
    }
    draft.set("topics", ours);
    Ok(())
}

/// A filter of bodies or headers; Convoy shows empty ones too.
fn filters_more(config: &Foreign) -> bool {
    let Some(filter) = config.object(&["filter"]) else { return false };
    let parts = ["body", "headers", "query", "path"];
    let others = filter.names().any(|name| !parts.contains(&name) && name != "is_flattened");
    others || !filter.said(&parts).is_empty()
}

/// Always the same wait is a policy of ours; one that grows otherwise than ours is not.
fn retry_into(subscription: &Foreign, draft: &mut Draft) {
    let Some(retry) = subscription.object(&["retry_config"]) else { return };
    let count = retry.get(&["retry_count"]).and_then(Value::as_u64);
    let wait = retry.get(&["duration", "interval_seconds"]).and_then(seconds);
    match (retry.text(&["type"]), count, wait) {
        (Some("linear"), Some(count), Some(wait)) => {
            let interval = wait.round().max(1.0) as u64;
            draft.set("retry", json!({"max_retries": count, "interval_seconds": interval}));
        }
        (None, None | Some(0), None) => {}
        (kind, ..) => draft.lost(format!("its retries ({}); the policy is the default one", kind.unwrap_or("unknown"))),
    }
}

/// A duration: a number of seconds, or a text such as `1m30s` or `10`.
fn seconds(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let of_second = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * of_second;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (said, expected) in [
            (json!("10s"), Some(10.0)),
            (json!("1m30s"), Some(90.0)),
            (json!("1h0m0s"), Some(3_600.0)),
            (json!("500ms"), Some(0.5)),
            (json!("1.5m"), Some(90.0)),
            (json!("30"), Some(30.0)),
            (json!(30), Some(30.0)),
            (json!("soon"), None),
            (json!("10x"), None),
            (json!(""), None),
            (json!([]), None),
        ] {
            assert_eq!(seconds(&said), expected, "{said}");
        }
    }
}
