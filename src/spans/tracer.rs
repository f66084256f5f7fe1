//! What makes spans, and where they stand.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::domain::trace::TraceParent;
use crate::metrics::Counter;

/// Gives spans to whoever exports them; a copy is cheap.
#[derive(Clone, Default)]
pub struct Tracer(pub(super) Option<Arc<Open>>);

/// What there is if a collector is named.
pub(super) struct Open {
    pub spans: mpsc::Sender<SpanData>,
    /// Of so many in 2⁶³ traces that nobody has begun, one is begun here.
    pub sampled_below: u64,
    pub dropped: Counter,
    pub scope: InstrumentationScope,
}

/// A span that has begun: what was under way, and where it stands in its trace.
pub struct Span {
    pub(super) place: TraceParent,
    /// That of the span, or of the caller, of which it is a part.
    pub(super) parent: Option<Parent>,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) began: SystemTime,
    pub(super) attributes: Vec<KeyValue>,
}

/// Of what a span is a part.
#[derive(Clone, Copy)]
pub(super) struct Parent {
    pub place: TraceParent,
    pub is_remote: bool,
}

impl Tracer {
    /// One that makes no spans.
    pub fn off() -> Self {
        Self(None)
    }

    /// When something begins of which spans may be made; `None` if none are.
    pub fn begin(&self) -> Option<SystemTime> {
        self.0.as_ref().map(|_| SystemTime::now())
    }

    /// The first place of a trace that is begun here; `None` if it is not to be recorded.
    pub(super) fn sampled(&self) -> Option<TraceParent> {
        let open = self.0.as_ref()?;
        let place = TraceParent::random(true);
        // As OpenTelemetry's TraceIdRatioBased does, so that others who go by it decide alike.
        let [.., a, b, c, d, e, f, g, h] = place.trace_id();
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < open.sampled_below).then_some(place)
    }

    /// Hands a span over that has ended now; `error` is the kind of what went wrong.
    pub(super) fn end(&self, span: Span, error: Option<Cow<'static, str>>) {
        let Some(open) = &self.0 else { return };
        let Span { place, parent, name, kind, began, mut attributes } = span;
        let status = match error {
            None => Status::Unset,
            Some(error) => {
                attributes.push(attribute("error.type", error));
                Status::error("")
            }
        };
        let data = SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(place.trace_id()),
                SpanId::from_bytes(place.span_id()),
                TraceFlags::new(place.flags()),
                false,
                TraceState::NONE,
            ),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.place.span_id())),
            parent_span_is_remote: parent.is_some_and(|parent| parent.is_remote),
            span_kind: kind,
            name,
            start_time: began,
            end_time: SystemTime::now().max(began),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: open.scope.clone(),
        };
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = open.spans.try_send(data) {
            open.dropped.inc();
        }
    }
}

impl Span {
    /// Where it stands in its trace.
    pub fn place(&self) -> TraceParent {
        self.place
    }
}

pub(super) fn attribute(name: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(name, value)
}

/// An id or a count as an attribute has it.
pub(super) fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
