//! event.*

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{LIGHT_STEP, Method, Request, TurnOf};
use crate::api::rpc::wire::{EventItem, EventSummaryItem, ExplanationItem, Object, ReceiptItem, Topics, Whole, schema};
use crate::domain::event::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::EventId;
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::event::{EventDraft, EventPage, EventSelection};
use crate::service::search::{MemberValue, Sought};
use crate::work::READ_AT_ONCE_MAX;

/// The faults that publishing has besides that of what is wrong.
const PUBLISH_FAULTS: &[FaultCode] = &[
    FaultCode::IdempotencyConflict,
    FaultCode::EventRefused,
    FaultCode::MerchantPaused,
    FaultCode::EventQuota,
    FaultCode::PendingQuota,
];

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::with_session(
            "event.publish",
            "Accepts an event; once this answers, it and its numbered deliveries are on disk.",
            publish,
        )
        .needs(&[Permission::EventWrite])
        .faults(FaultCode::InvalidEvent, PUBLISH_FAULTS),
        Method::with_session(
            "event.publish_many",
            "Accepts events, all or none, and answers in their order.",
            publish_many,
        )
        .needs(&[Permission::EventWrite])
        .faults(FaultCode::InvalidEvent, PUBLISH_FAULTS),
        Method::listing(
            "event.list",
            "Lists the merchant's events by id, without their messages.",
            "after_event_id",
            list,
        )
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("event.count", "Counts the merchant's events.", count)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("event.get", "Returns an event, and what became of it.", get)
            .in_turn(TurnOf::HeavyCalls)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidEvent, &[FaultCode::NoEvent]),
        Method::with_session(
            "event.explain",
            "Says which webhooks an event of a topic would reach, and why not the others; publishes nothing.",
            explain,
        )
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidEvent, &[]),
        Method::with_session(
            "event.erase",
            "Erases an event: its message, and what was sent and got for it. Its numbers stay.",
            erase,
        )
        .in_turn(TurnOf::HeavyCalls)
        .needs(&[Permission::Admin])
        .faults(FaultCode::InvalidEvent, &[FaultCode::NoEvent, FaultCode::DeliveryNotChanged]),
    ]
}

/// An event to publish.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewEvent")]
#[serde(deny_unknown_fields)]
struct Publish {
    /// What happened: two words joined by a colon, such as `order:created`.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
    /// The publisher's object; receivers get it byte for byte.
    #[schemars(schema_with = "schema::message")]
    message: Box<RawValue>,
    /// What else there is to say of it.
    options: Option<Object<Options>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Makes a repeated publish the same publish.
    #[schemars(length(min = 1, max = IDEMPOTENCY_KEY_CHARS_MAX))]
    idempotency_key: Option<String>,
    /// When it happened (RFC 3339); now, if left out.
    #[schemars(extend("format" = "date-time"))]
    created_at: Option<String>,
    /// Of which trace it is a part, as the header `traceparent` of W3C Trace Context says it; that of the request, if
    /// left out. What is not valid counts as left out: no event is refused for its trace.
    traceparent: Option<String>,
    /// For whom it is: up to 16 pairs such as `{"customer": "42"}`. It reaches only webhooks all of whose labels are
    /// among these; without labels, all that subscribe to its topic.
    #[schemars(schema_with = "schema::labels")]
    #[serde(default)]
    labels: Option<Object<BTreeMap<String, String>>>,
}

impl From<Publish> for EventDraft {
    fn from(publish: Publish) -> Self {
        let Object(options) = publish.options.unwrap_or_default();
        Self {
            topic: publish.topic,
            message: publish.message.into(),
            created_at: options.created_at,
            idempotency_key: options.idempotency_key,
            traceparent: options.traceparent,
            labels: options.labels.map(|labels| labels.0),
        }
    }
}

async fn publish(request: Request, caller: Caller, params: Publish) -> Result<ReceiptItem, Fault> {
    request.service.publish(&caller, params.into()).await.map(ReceiptItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct PublishMany {
    /// The events, in order.
    events: Vec<Object<Publish>>,
}

async fn publish_many(request: Request, caller: Caller, params: PublishMany) -> Result<Vec<ReceiptItem>, Fault> {
    let drafts = params.events.into_iter().map(|Object(event)| event.into()).collect();
    let receipts = request.service.publish_many(&caller, drafts).await?;
    Ok(receipts.into_iter().map(ReceiptItem::from).collect())
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which events, and which part of the list; the first of all, if left out.
    options: Option<Object<ListOptions>>,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// Which events, as in `event.list`; all, if left out. What only says which part of a list does not matter.
    options: Option<Object<ListOptions>>,
}

/// Which events to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct ListOptions {
    /// Only those that match: `order:created` is that topic, `order:*` all of a resource.
    topics: Option<Topics>,
    /// Only events accepted at or after this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Only events accepted before this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
    /// Only the one that was published with this key, as long as the key counts (`idempotency_ttl_s`).
    #[schemars(length(min = 1, max = IDEMPOTENCY_KEY_CHARS_MAX))]
    idempotency_key: Option<String>,
    /// Only those whose message has `value` in the place that this JSON pointer (RFC 6901) names, such as `/order_id`.
    /// Messages are read for that, up to `filter_events_max` or 16 MiB of them a call; `cut` tells where to go on.
    pointer: Option<String>,
    /// What stands there: a text, a number, true or false.
    #[schemars(schema_with = "schema::scalar")]
    #[serde(default)]
    value: Option<Value>,
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_event_id: Option<Whole>,
    /// `event_id`, the default, or `-event_id` for the youngest first.
    #[schemars(schema_with = "schema::sort_events")]
    #[serde(default)]
    sort: Option<String>,
    /// The most events in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

impl ListOptions {
    fn read(self) -> Result<(EventSelection, EventPage, Option<MemberValue>), Fault> {
        let (topics, since, until) = (self.topics.map(|topics| topics.0), self.since, self.until);
        let selection = EventSelection { topics, since, until, idempotency_key: self.idempotency_key };
        let (after_event_id, limit) = (self.after_event_id.map(|id| id.0), self.limit.map(|limit| limit.0));
        let alone = |field: &'static str, other| {
            let fault = Fault::new(FaultCode::InvalidSelection).field(field);
            Err(fault.detail(format!("goes with {other} alone; give both.")))
        };
        let wanted = match (self.pointer, self.value) {
            (Some(pointer), Some(value)) => Some(MemberValue { pointer, value }),
            (None, None) => None,
            (Some(_), None) => return alone("pointer", "value"),
            (None, Some(_)) => return alone("value", "pointer"),
        };
        Ok((selection, EventPage { after_event_id, sort: self.sort, limit }, wanted))
    }
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<EventSummaryItem>, Fault> {
    let (selection, mut page, wanted) = params.options.unwrap_or_default().0.read()?;
    if let Some(wanted) = wanted {
        return search(request, caller, selection, page, wanted).await;
    }
    let (mut list, mut steps) = request.list(page.limit, LIGHT_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_events(&caller, selection.clone(), page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for event in found {
            let id = event.event_id.0;
            if !list.write(&EventSummaryItem::from(event), id)? {
                return Ok(list.cut("after_event_id"));
            }
            list.pause().await;
            page.after_event_id = Some(id);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

/// The events of a list that hold a value.
async fn search(
    request: Request,
    caller: Caller,
    selection: EventSelection,
    page: EventPage,
    wanted: MemberValue,
) -> Result<Listed<EventSummaryItem>, Fault> {
    let mut left = request.service.list_limit(page.limit)?;
    let (mut list, _) = request.list(None, LIGHT_STEP);
    let mut search = request.service.search_events(&caller, selection, &page, wanted).await?;
    loop {
        match request.service.next_found(&caller, &mut search).await? {
            Sought::Found(event) => {
                let id = event.event_id.0;
                if !list.write(&EventSummaryItem::from(event), id)? {
                    return Ok(list.cut("after_event_id"));
                }
                list.pause().await;
                left -= 1;
            }
            Sought::Far(through) => return Ok(list.cut_behind("after_event_id", through.0)),
            Sought::End => return Ok(list.whole()),
        }
        if left == 0 {
            return Ok(list.whole());
        }
    }
}

async fn count(request: Request, caller: Caller, params: Count) -> Result<u64, Fault> {
    let (selection, _, wanted) = params.options.unwrap_or_default().0.read()?;
    if wanted.is_some() {
        let fault = Fault::new(FaultCode::InvalidSelection).field("pointer");
        return Err(fault.detail("is for event.list alone, which reads messages a part at a time."));
    }
    request.service.count_events(&caller, selection).await
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The event.
    event_id: Whole,
}

async fn get(request: Request, caller: Caller, params: ById) -> Result<EventItem, Fault> {
    let story = request.service.get_event(&caller, EventId(params.event_id.0)).await?;
    let message_bytes = story.event.message.as_str().len();
    request.room.count(message_bytes)?;
    let item = move || EventItem::try_from(story);
    let item = if message_bytes > READ_AT_ONCE_MAX { request.service.apart(&caller, item).await? } else { item() };
    item.map_err(|cause| {
        tracing::error!(%cause, "a stored message is no JSON");
        FaultCode::Internal.into()
    })
}

/// How far an event is erased.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Erased")]
struct ErasedItem {
    /// How many deliveries this call has erased.
    deliveries: u64,
    /// True: nothing of it is left. False: there is more of it than one call erases; call it again.
    is_done: bool,
}

async fn erase(request: Request, caller: Caller, params: ById) -> Result<ErasedItem, Fault> {
    let (deliveries, is_done) = request.service.erase_event(&caller, EventId(params.event_id.0)).await?;
    Ok(ErasedItem { deliveries, is_done })
}

#[derive(Deserialize, JsonSchema)]
struct Explain {
    /// The topic.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
    /// A message to check against the topic's schema, as a publish would.
    #[schemars(schema_with = "schema::message")]
    #[serde(default)]
    message: Option<Box<RawValue>>,
    /// Labels, as a publish would have them.
    #[schemars(schema_with = "schema::labels")]
    #[serde(default)]
    labels: Option<Object<BTreeMap<String, String>>>,
}

async fn explain(request: Request, caller: Caller, params: Explain) -> Result<Vec<ExplanationItem>, Fault> {
    let message = params.message.as_deref().map(RawValue::get);
    let explained =
        request.service.explain(&caller, &params.topic, message, params.labels.map(|labels| labels.0)).await?;
    Ok(explained.into_iter().map(ExplanationItem::from).collect())
}
