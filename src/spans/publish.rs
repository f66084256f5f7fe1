//! Spans of a call that publishes, and of the commit that it waits for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::SystemTime;

use opentelemetry::trace::SpanKind;

use super::tracer::{Parent, Span, Tracer, attribute, whole};
use crate::domain::event::{NewEvent, Receipt};
use crate::domain::fault::FaultCode;
use crate::domain::id::MerchantId;
use crate::domain::topic::Topic;
use crate::domain::trace::TraceParent;

/// A publish that is being committed. Its events may be of several traces: it has spans in each.
pub struct Publishing {
    began: SystemTime,
    commits_since: SystemTime,
    merchant: MerchantId,
    parts: Vec<Part>,
}

/// The events of one trace.
struct Part {
    parent: Option<TraceParent>,
    publish: TraceParent,
    commit: TraceParent,
    /// That of all of them, if they have one in common.
    topic: Option<Topic>,
    count: usize,
    /// The place of the first among the events.
    first: usize,
}

impl Tracer {
    /// Spans of a call that began then and has these events committed. Each event that is of a
    /// sampled trace is from now on a child of its commit; those of none may come to be of a new
    /// one, all of the same. `None` if nothing is sampled.
    pub fn publishing(&self, began: Option<SystemTime>, by: MerchantId, events: &mut [NewEvent]) -> Option<Publishing> {
        let began = began?;
        let mut parts: Vec<Part> = Vec::new();
        let mut places: HashMap<Option<TraceParent>, Option<usize>> = HashMap::new();
        for (index, event) in events.iter_mut().enumerate() {
            let place = match places.entry(event.trace) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let publish = match event.trace {
                        None => self.sampled(),
                        Some(parent) => parent.is_sampled().then(|| parent.child()),
                    };
                    *new.insert(publish.map(|publish| {
                        let (parent, commit, topic) = (event.trace, publish.child(), Some(event.topic.clone()));
                        parts.push(Part { parent, publish, commit, topic, count: 0, first: index });
                        parts.len() - 1
                    }))
                }
            };
            let Some(part) = place.map(|place| &mut parts[place]) else { continue };
            part.count += 1;
            part.topic = part.topic.take().filter(|topic| *topic == event.topic);
            event.trace = Some(part.commit);
        }
        let commits_since = SystemTime::now();
        (!parts.is_empty()).then_some(Publishing { began, commits_since, merchant: by, parts })
    }

    /// It was committed, or refused.
    pub fn published(&self, publishing: Publishing, answer: Result<&[Receipt], FaultCode>) {
        let Publishing { began, commits_since, merchant, parts } = publishing;
        for Part { parent, publish, commit, topic, count, first } in parts {
            let error = answer.err().map(error);
            let commit = Span {
                place: commit,
                parent: Some(Parent { place: publish, is_remote: false }),
                name: "commit".into(),
                kind: SpanKind::Internal,
                began: commits_since,
                attributes: Vec::new(),
            };
            self.end(commit, error.clone());
            let mut span = call(parent, publish, began, merchant);
            if let Some(topic) = topic {
                span.name = format!("publish {topic}").into();
                span.attributes.push(attribute("messaging.destination.name", topic.to_string()));
            }
            if count > 1 {
                span.attributes.push(attribute("messaging.batch.message_count", whole(count)));
            } else if let Some(receipt) = answer.ok().and_then(|receipts| receipts.get(first)) {
                span.attributes.push(attribute("messaging.message.id", receipt.event_id.to_string()));
            }
            self.end(span, error);
        }
    }

    /// A call that began then was refused before anything of it was to be committed.
    pub fn refused(&self, began: Option<SystemTime>, trace: Option<TraceParent>, by: MerchantId, fault: FaultCode) {
        let Some(began) = began else { return };
        let place = match trace {
            None => self.sampled(),
            Some(parent) => parent.is_sampled().then(|| parent.child()),
        };
        if let Some(place) = place {
            self.end(call(trace, place, began, by), Some(error(fault)));
        }
    }
}

fn call(parent: Option<TraceParent>, place: TraceParent, began: SystemTime, by: MerchantId) -> Span {
    Span {
        place,
        parent: parent.map(|place| Parent { place, is_remote: true }),
        name: "publish".into(),
        kind: SpanKind::Server,
        began,
        attributes: vec![
            attribute("messaging.system", "tallyhook"),
            attribute("messaging.operation.name", "publish"),
            attribute("messaging.operation.type", "send"),
            attribute("tallyhook.merchant_id", by.0),
        ],
    }
}

fn error(fault: FaultCode) -> Cow<'static, str> {
    fault.number().to_string().into()
}
