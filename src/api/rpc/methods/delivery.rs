//! delivery.*

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::list::text_of;
use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{HEAVY_STEP, LIGHT_STEP, Method, Request, TurnOf};
use crate::api::rpc::wire::{AttemptItem, DeliveryItem, Flag, JobItem, Object, PulledItem, Topics, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::delivery::{AttemptPage, DeliveryPage, DeliverySelection, Pull};
use crate::service::resend::RetryMany;

/// A longer body is written apart: each of its bytes is looked at.
const AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing(
            "delivery.list",
            "Lists a webhook's deliveries in the order of their numbers.",
            "after_increment_id",
            list,
        )
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook]),
        Method::with_session("delivery.count", "Counts a webhook's deliveries.", count)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook]),
        Method::listing(
            "delivery.attempts",
            "Lists the attempts at a delivery, with what was sent and answered.",
            "after_attempt",
            attempts,
        )
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook, FaultCode::NoDelivery]),
        Method::listing(
            "delivery.pull",
            "Returns all numbers after one, bodies included and signed now; waits if there are none.",
            "after_increment_id",
            pull,
        )
        .in_turn(TurnOf::None)
        .needs(&[Permission::WebhookRead])
        .faults(
            FaultCode::InvalidSelection,
            &[FaultCode::NoWebhook, FaultCode::DeliveryNotChanged, FaultCode::MerchantPaused],
        ),
        Method::with_session("delivery.get", "Returns a delivery.", get)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook, FaultCode::NoDelivery]),
        Method::with_session(
            "delivery.attempt",
            "Returns one attempt at a delivery, with what was sent and answered.",
            attempt,
        )
        .in_turn(TurnOf::HeavyCalls)
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook, FaultCode::NoDelivery, FaultCode::NoAttempt]),
        Method::with_session(
            "delivery.retry",
            "Sends a delivery again now, whatever has become of it, and returns it.",
            retry,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(
            FaultCode::InvalidSelection,
            &[FaultCode::NoWebhook, FaultCode::NoDelivery, FaultCode::DeliveryNotChanged],
        ),
        Method::with_session(
            "delivery.retry_many",
            "Sends deliveries of one or of all webhooks again, each in its turn, and returns the job that does it.",
            retry_many,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook, FaultCode::WebhookNotChanged]),
        Method::with_session(
            "delivery.cancel",
            "Ends a pending delivery, and returns it; its number stays as a tombstone.",
            cancel,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(
            FaultCode::InvalidSelection,
            &[FaultCode::NoWebhook, FaultCode::NoDelivery, FaultCode::DeliveryNotChanged],
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// The webhook.
    webhook_id: Whole,
    /// Which deliveries, and which part of the list; the first of all, if left out.
    options: Option<Object<Options>>,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// The webhook.
    webhook_id: Whole,
    /// Which deliveries, as in `delivery.list`; all, if left out. What only says which part of a list does not matter.
    options: Option<Object<Options>>,
}

/// Which deliveries to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those in this state.
    #[schemars(schema_with = "schema::states")]
    #[serde(default)]
    state: Option<String>,
    /// Only those of events that match, as long as the events are kept: `order:created` is that topic, `order:*` all
    /// of a resource.
    topics: Option<Topics>,
    /// Only what was numbered at or after this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Only what was numbered before this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
    /// Only numbers behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_increment_id: Option<Whole>,
    /// `increment_id`, the default, or `-increment_id` for the last first.
    #[schemars(schema_with = "schema::sort_deliveries")]
    #[serde(default)]
    sort: Option<String>,
    /// The most deliveries in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

impl Options {
    fn read(self) -> (DeliverySelection, DeliveryPage) {
        let topics = self.topics.map(|topics| topics.0);
        let Self { state, since, until, .. } = self;
        let selection = DeliverySelection { state, topics, since, until, without_forgotten: false };
        let after_increment_id = self.after_increment_id.map(|number| number.0);
        let limit = self.limit.map(|number| number.0);
        (selection, DeliveryPage { after_increment_id, sort: self.sort, limit })
    }
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<DeliveryItem>, Fault> {
    let (selection, mut page) = params.options.unwrap_or_default().0.read();
    let (mut list, mut steps) = request.list(page.limit, LIGHT_STEP);
    loop {
        page.limit = Some(steps.next());
        let (id, selection) = (WebhookId(params.webhook_id.0), selection.clone());
        let found = request.service.list_deliveries(&caller, id, selection, page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for delivery in found {
            let number = delivery.increment_id.0;
            if !list.write(&DeliveryItem::from(delivery), number)? {
                return Ok(list.cut("after_increment_id"));
            }
            list.pause().await;
            page.after_increment_id = Some(number);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

async fn count(request: Request, caller: Caller, params: Count) -> Result<u64, Fault> {
    let (selection, _) = params.options.unwrap_or_default().0.read();
    request.service.count_deliveries(&caller, WebhookId(params.webhook_id.0), selection).await
}

#[derive(Deserialize, JsonSchema)]
struct ByNumber {
    /// The webhook.
    webhook_id: Whole,
    /// The number of the delivery in it.
    increment_id: Whole,
}

#[derive(Deserialize, JsonSchema)]
struct Attempts {
    /// The webhook.
    webhook_id: Whole,
    /// The number of the delivery in it.
    increment_id: Whole,
    /// Which part of the list; the first attempts, if left out.
    options: Option<Object<AttemptsOptions>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct AttemptsOptions {
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_attempt: Option<Whole>,
    /// The most attempts in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

async fn attempts(request: Request, caller: Caller, params: Attempts) -> Result<Listed<AttemptItem>, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    let Object(options) = params.options.unwrap_or_default();
    let mut after_attempt = options.after_attempt.map(|attempt| attempt.0);
    let (mut list, mut steps) = request.list(options.limit.map(|limit| limit.0), HEAVY_STEP);
    loop {
        let page = AttemptPage { after_attempt, limit: Some(steps.next()) };
        let found = request.service.list_attempts(&caller, id, number, page).await?;
        let goes_on = steps.go_on(found.len());
        for attempt in found {
            let which = attempt.attempt;
            if !list.write(&AttemptItem::from(attempt), which)? {
                return Ok(list.cut("after_attempt"));
            }
            list.pause().await;
            after_attempt = Some(which.into());
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

async fn get(request: Request, caller: Caller, params: ByNumber) -> Result<DeliveryItem, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    request.service.get_delivery(&caller, id, number).await.map(DeliveryItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct ByAttempt {
    /// The webhook.
    webhook_id: Whole,
    /// The number of the delivery in it.
    increment_id: Whole,
    /// Which attempt, from 1.
    attempt: Whole,
}

async fn attempt(request: Request, caller: Caller, params: ByAttempt) -> Result<AttemptItem, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    request.service.get_attempt(&caller, id, number, params.attempt.0).await.map(AttemptItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct PullParams {
    /// The webhook.
    webhook_id: Whole,
    /// Only numbers after this one. Where the webhook is pulled, all up to it count as received.
    #[schemars(range(min = 0))]
    after_increment_id: Option<Whole>,
    /// The most numbers in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
    /// How long to wait for a number if there is none, in milliseconds, up to `pull_wait_max_ms`; 0 by default.
    #[schemars(range(min = 0))]
    wait_ms: Option<Whole>,
}

async fn pull(request: Request, caller: Caller, params: PullParams) -> Result<Listed<PulledItem>, Fault> {
    let pull = Pull {
        after_increment_id: params.after_increment_id.map(|number| number.0),
        limit: params.limit.map(|number| number.0),
        wait_ms: params.wait_ms.map(|number| number.0),
    };
    let service = &request.service;
    let mut pulling = service.begin_pull(&caller, WebhookId(params.webhook_id.0), pull).await?;
    // It has waited; what comes now is in memory.
    let _turn = service.heavy_turn(&caller).await;
    let (mut list, _) = request.list(None, HEAVY_STEP);
    let mut is_cut = false;
    while !is_cut && let Some(pulled) = service.next_pulled(&mut pulling).await? {
        let number = pulled.increment_id.0;
        let is_long = pulled.body.as_ref().is_some_and(|body| body.len() > AT_ONCE_BYTES_MAX);
        let item = PulledItem::from(pulled);
        is_cut = !if is_long {
            let text = service.apart(&caller, move || text_of(&item)).await??;
            list.write_text(&text, number)?
        } else {
            list.write(&item, number)?
        };
        list.pause().await;
    }
    let last = list.last().and_then(serde_json::Value::as_i64).map(IncrementId);
    service.end_pull(pulling, last).await?;
    Ok(if is_cut { list.cut("after_increment_id") } else { list.whole() })
}

async fn retry(request: Request, caller: Caller, params: ByNumber) -> Result<DeliveryItem, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    request.service.retry_delivery(&caller, id, number).await.map(DeliveryItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct RetryManyParams {
    /// Which deliveries: those of a webhook, of topics, of a time, or `all`.
    options: Option<Object<RetryManyOptions>>,
}

/// Which deliveries to send again; where several are given, what fits all of them.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct RetryManyOptions {
    /// Only those of this webhook.
    #[schemars(range(min = 1))]
    webhook_id: Option<Whole>,
    /// Those in this state; `abandoned`, which is what has failed for good, if left out.
    #[schemars(schema_with = "schema::states")]
    #[serde(default)]
    state: Option<String>,
    /// Only those of events that match: `order:created` is that topic, `order:*` all of a resource.
    topics: Option<Topics>,
    /// Only what was numbered at or after this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Only what was numbered before this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
    /// 1: all there are. Needed where neither a webhook, nor topics, nor a time is given.
    all: Option<Flag>,
}

async fn retry_many(request: Request, caller: Caller, params: RetryManyParams) -> Result<JobItem, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let said = RetryMany {
        webhook_id: options.webhook_id.map(|id| id.0),
        state: options.state,
        topics: options.topics.map(|topics| topics.0),
        since: options.since,
        until: options.until,
        all: options.all.is_some_and(|all| all.0),
    };
    request.service.retry_many(&caller, said).await.map(JobItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct Cancel {
    /// The webhook.
    webhook_id: Whole,
    /// The number of the delivery in it.
    increment_id: Whole,
    /// 1: cancels the whole batch that it goes out in.
    whole_batch: Option<Flag>,
}

async fn cancel(request: Request, caller: Caller, params: Cancel) -> Result<DeliveryItem, Fault> {
    let (id, number) = (WebhookId(params.webhook_id.0), IncrementId(params.increment_id.0));
    let whole_batch = params.whole_batch.is_some_and(|flag| flag.0);
    request.service.cancel_delivery(&caller, id, number, whole_batch).await.map(DeliveryItem::from)
}
