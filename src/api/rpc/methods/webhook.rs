//! webhook.*

mod carry;
mod data;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::data::{Data, changes, secret, signing};
use crate::api::rpc::answer::Listed;
use crate::api::rpc::args::from_raw;
use crate::api::rpc::fault::Codes;
use crate::api::rpc::method::{HEAVY_STEP, Method, Request, TurnOf, Written};
use crate::api::rpc::wire::{
    BackfillItem, Flag, Object, ReplayItem, Shown, StatsItem, TestedItem, Topics, WebhookDetail, WebhookItem, Whole,
    schema,
};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::WebhookId;
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::SECRET_CHARS_MAX;
use crate::domain::user::Permission;
use crate::domain::webhook::{Format, Webhook, WebhookDefaults};
use crate::service::caller::Caller;
use crate::service::resend::{Backfill, Replay};
use crate::service::webhook::{StatusTarget, WebhookPage, WebhookSelection};

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing("webhook.list", "Lists the merchant's webhooks.", "after_webhook_id", list)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("webhook.create", "Registers a webhook.", create)
            .needs(&[Permission::WebhookWrite])
            .faults(
                FaultCode::InvalidWebhook,
                &[FaultCode::CreateFailed, FaultCode::CreateRefused, FaultCode::WebhookQuota],
            ),
        Method::with_session(
            "webhook.update",
            "Changes a webhook and returns it; what is left out stays as it is.",
            update,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::InvalidWebhook, &[FaultCode::NoWebhook, FaultCode::WebhookNotChanged]),
        Method::with_session(
            "webhook.update_status",
            "Switches webhooks on or off, by topic, by id, or all of them.",
            update_status,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::StatusNotChanged, &[]),
        Method::with_session("webhook.delete", "Deletes a webhook; what is pending for it becomes cancelled.", delete)
            .needs(&[Permission::WebhookWrite])
            .faults(FaultCode::NoWebhook, &[FaultCode::DeleteFailed, FaultCode::DeleteRefused]),
        Method::with_session("webhook.get", "Returns a webhook with everything there is to it.", get)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::NoWebhook, &[]),
        Method::with_session("webhook.count", "Counts the merchant's webhooks.", count)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("webhook.stats", "Says how a webhook is doing.", stats)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::NoWebhook, &[]),
        Method::with_session("webhook.enable", "Lifts a disablement by the server, and returns the webhook.", enable)
            .needs(&[Permission::WebhookWrite])
            .faults(FaultCode::NoWebhook, &[FaultCode::WebhookNotChanged]),
        Method::with_session(
            "webhook.pause",
            "Stops sending to a webhook, whose events go on being numbered and wait, and returns it.",
            pause,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::NoWebhook, &[FaultCode::WebhookNotChanged]),
        Method::with_session("webhook.resume", "Goes on sending after webhook.pause, and returns the webhook.", resume)
            .needs(&[Permission::WebhookWrite])
            .faults(FaultCode::NoWebhook, &[FaultCode::WebhookNotChanged]),
        Method::with_session(
            "webhook.rotate_secret",
            "Gives a webhook a new secret, or another private key; the old one signs beside it for a while.",
            rotate_secret,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::InvalidWebhook, &[FaultCode::NoWebhook, FaultCode::WebhookNotChanged]),
        Method::with_session(
            "webhook.replay",
            "Sends numbers again that were given out: a range of them, or those of a time, each in its turn.",
            replay,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook, FaultCode::WebhookNotChanged]),
        Method::with_session(
            "webhook.backfill",
            "Sends stored events to a webhook as new numbers, each in its turn.",
            backfill,
        )
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook, FaultCode::WebhookNotChanged]),
        Method::with_session(
            "webhook.test",
            "Sends a webhook a numbered test:ping at once, and waits for the outcome.",
            test,
        )
        .in_turn(TurnOf::None)
        .needs(&[Permission::WebhookWrite])
        .faults(
            FaultCode::InvalidEvent,
            &[FaultCode::NoWebhook, FaultCode::EventRefused, FaultCode::WebhookNotChanged, FaultCode::MerchantPaused],
        ),
        carry::export(),
        carry::import(),
    ]
}

fn sees_secrets(caller: &Caller) -> bool {
    caller.permissions.allow(Permission::WebhookWrite)
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which webhooks, and which part of the list; all, if left out.
    options: Option<Object<Options>>,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// Which webhooks, as in `webhook.list`; all, if left out. What only says which part of a list does not matter.
    options: Option<Object<Options>>,
}

/// Which webhooks to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those that subscribe to this topic.
    #[schemars(schema_with = "schema::topic")]
    #[serde(default)]
    topic: Option<String>,
    /// 1: only those that are on. 0: only those that are off.
    is_active: Option<Flag>,
    /// 1: only those that the server has disabled. 0: only those that it has not.
    disabled: Option<Flag>,
    /// Only those that are doing so: `healthy`; `failing`, where the last attempt failed; `disabled` by the server; or `off`.
    #[schemars(schema_with = "schema::health_wanted")]
    #[serde(default)]
    health: Option<String>,
    /// Only those that have all of these labels.
    #[schemars(schema_with = "schema::labels")]
    #[serde(default)]
    labels: Option<Object<BTreeMap<String, String>>>,
    /// 1: each tells its `health`, too.
    with_health: Option<Flag>,
    /// Only those behind this one, the last of the page before; with the order by `webhook_id`.
    #[schemars(range(min = 0))]
    after_webhook_id: Option<Whole>,
    /// `webhook_id`, the default, or `url`; with a `-` in front of it the last first.
    #[schemars(schema_with = "schema::sort_webhooks")]
    #[serde(default)]
    sort: Option<String>,
    /// The most webhooks in the answer, up to `list_limit_max`; by default all of them.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

impl Options {
    fn read(self) -> (WebhookSelection, WebhookPage) {
        let flag = |flag: Option<Flag>| flag.map(|flag| flag.0);
        let (is_active, is_disabled) = (flag(self.is_active), flag(self.disabled));
        let labels = self.labels.map(|labels| labels.0);
        let selection = WebhookSelection { topic: self.topic, is_active, is_disabled, health: self.health, labels };
        let (after_webhook_id, limit) = (self.after_webhook_id.map(|id| id.0), self.limit.map(|limit| limit.0));
        (selection, WebhookPage { after_webhook_id, sort: self.sort, limit })
    }
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<WebhookItem<'static>>, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let shown = Shown { secrets: sees_secrets(&caller), health: options.with_health.is_some_and(|flag| flag.0) };
    let (selection, mut page) = options.read();
    if page.sort.as_deref().is_some_and(|sort| matches!(sort, "url" | "-url")) {
        return list_by_url(request, caller, selection, page, shown).await;
    }
    let (mut list, mut steps) = request.list_of_all(page.limit, HEAVY_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_webhooks(&caller, selection.clone(), page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for webhook in found {
            if !list.write(&WebhookItem::new(&webhook, shown), webhook.webhook_id.0)? {
                return Ok(list.cut("after_webhook_id"));
            }
            list.pause().await;
            page.after_webhook_id = Some(webhook.webhook_id.0);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

/// The order by URL has no place to go on from: the answer is whole, or there
/// is none.
async fn list_by_url(
    request: Request,
    caller: Caller,
    selection: WebhookSelection,
    page: WebhookPage,
    shown: Shown,
) -> Result<Listed<WebhookItem<'static>>, Fault> {
    let (mut list, _) = request.list_of_all(None, HEAVY_STEP);
    for id in request.service.webhooks_by_url(&caller, selection, page).await? {
        let Some(webhook) = request.service.find_webhook(&caller, id).await? else { continue };
        if !list.write(&WebhookItem::new(&webhook, shown), id.0)? {
            return Err(Fault::new(FaultCode::InvalidSelection)
                .field("sort")
                .detail("The list is too long for one answer; read it in the order of webhook_id, which can go on."));
        }
        list.pause().await;
    }
    Ok(list.whole())
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The webhook.
    webhook_id: Whole,
}

async fn get(request: Request, caller: Caller, params: ById) -> Result<Written<WebhookDetail<'static>>, Fault> {
    let webhook = request.service.get_webhook(&caller, WebhookId(params.webhook_id.0)).await?;
    detail(&request, &webhook, &caller)
}

fn detail(request: &Request, webhook: &Webhook, caller: &Caller) -> Result<Written<WebhookDetail<'static>>, Fault> {
    Written::new(&WebhookDetail::new(webhook, sees_secrets(caller), request.service.now()))
}

async fn count(request: Request, caller: Caller, params: Count) -> Result<u64, Fault> {
    let (selection, _) = params.options.unwrap_or_default().0.read();
    request.service.count_webhooks(&caller, selection).await
}

async fn stats(request: Request, caller: Caller, params: ById) -> Result<StatsItem, Fault> {
    let stats = request.service.webhook_stats(&caller, WebhookId(params.webhook_id.0)).await?;
    Ok(StatsItem::new(stats, request.service.now()))
}

async fn delete(request: Request, caller: Caller, params: ById) -> Result<bool, Fault> {
    request.service.delete_webhook(&caller, WebhookId(params.webhook_id.0)).await.map(|()| true)
}

#[derive(Deserialize, JsonSchema)]
struct Create {
    /// What is said of it: `topics` and `url` at least, or `topics` and `delivery_mode` `pull`.
    webhook: Object<NewData>,
    /// 1: the answer is the whole webhook; else it is true.
    return_webhook: Option<Flag>,
}

/// The same of one that is to be made, which needs its topics.
#[derive(Deserialize)]
#[serde(transparent)]
struct NewData(Data);

impl JsonSchema for NewData {
    fn schema_name() -> Cow<'static, str> {
        "NewWebhookData".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Data::json_schema(generator);
        schema.insert("required".to_owned(), json!(["topics"]));
        schema.insert("description".to_owned(), "What an owner says of a new webhook.".into());
        // null would leave them out.
        if let Some(Value::Array(kinds)) = schema.pointer_mut("/properties/topics/anyOf") {
            kinds.retain(|kind| kind["type"] != "null");
        }
        schema
    }
}

/// True; or the webhook, if that was asked for.
#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(untagged)]
enum Created<'a> {
    Done(bool),
    Webhook(Box<WebhookDetail<'a>>),
}

/// On the vendor's paths a webhook starts as the vendor's do: docs/wire.md, "Paths".
fn defaults(request: &Request) -> WebhookDefaults {
    match request.context.codes {
        Codes::Native => WebhookDefaults { format: Format::Envelope, retry: RetryPolicy::Default },
        Codes::Vendor => WebhookDefaults { format: Format::Shipstream, retry: RetryPolicy::Shipstream },
    }
}

async fn create(request: Request, caller: Caller, params: Create) -> Result<Written<Created<'static>>, Fault> {
    let defaults = defaults(&request);
    let webhook = request.service.create_webhook(&caller, changes(params.webhook.0.0)?, defaults).await?;
    Written::new(&match params.return_webhook {
        Some(Flag(true)) => {
            let now = request.service.now();
            Created::Webhook(Box::new(WebhookDetail::new(&webhook, sees_secrets(&caller), now)))
        }
        _ => Created::Done(true),
    })
}

#[derive(Deserialize, JsonSchema)]
struct Update {
    /// The webhook.
    webhook_id: Whole,
    /// What to change.
    changes: Object<Data>,
}

async fn update(request: Request, caller: Caller, params: Update) -> Result<Written<WebhookDetail<'static>>, Fault> {
    let id = WebhookId(params.webhook_id.0);
    let webhook = request.service.update_webhook(&caller, id, changes(params.changes.0)?).await?;
    detail(&request, &webhook, &caller)
}

async fn enable(request: Request, caller: Caller, params: ById) -> Result<Written<WebhookDetail<'static>>, Fault> {
    let webhook = request.service.enable_webhook(&caller, WebhookId(params.webhook_id.0)).await?;
    detail(&request, &webhook, &caller)
}

async fn pause(request: Request, caller: Caller, params: ById) -> Result<Written<WebhookDetail<'static>>, Fault> {
    let webhook = request.service.pause_webhook(&caller, WebhookId(params.webhook_id.0), true).await?;
    detail(&request, &webhook, &caller)
}

async fn resume(request: Request, caller: Caller, params: ById) -> Result<Written<WebhookDetail<'static>>, Fault> {
    let webhook = request.service.pause_webhook(&caller, WebhookId(params.webhook_id.0), false).await?;
    detail(&request, &webhook, &caller)
}

#[derive(Deserialize, JsonSchema)]
struct RotateSecret {
    /// The webhook.
    webhook_id: Whole,
    /// The new secret. Without one, a key is made. Not where it signs by a private key, which the server makes.
    #[schemars(length(max = SECRET_CHARS_MAX))]
    secret_key: Option<String>,
    /// How long the old one goes on signing, in seconds; `secret_overlap_s` by default.
    #[schemars(range(min = 0))]
    overlap_s: Option<Whole>,
    /// How it signs from now on, beside the old way for so long; as before, if left out.
    #[schemars(schema_with = "schema::signings")]
    #[serde(default)]
    signing: Option<String>,
}

async fn rotate_secret(
    request: Request,
    caller: Caller,
    params: RotateSecret,
) -> Result<Written<WebhookDetail<'static>>, Fault> {
    let said = secret(params.secret_key).and_then(|secret| Ok((secret, signing(params.signing)?)));
    let (secret, signing) = said.map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
    let (id, overlap_s) = (WebhookId(params.webhook_id.0), params.overlap_s.map(|seconds| seconds.0));
    let webhook = request.service.rotate_secret(&caller, id, secret, signing, overlap_s).await?;
    detail(&request, &webhook, &caller)
}

#[derive(Deserialize, JsonSchema)]
struct ReplayParams {
    /// The webhook.
    webhook_id: Whole,
    /// Which numbers: a range, a time, or `all`.
    options: Option<Object<ReplayOptions>>,
}

/// Which numbers to send again; where several are given, what fits all of them.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct ReplayOptions {
    /// The first number.
    #[schemars(range(min = 1))]
    from_increment_id: Option<Whole>,
    /// The last number.
    #[schemars(range(min = 1))]
    to_increment_id: Option<Whole>,
    /// Only what was numbered at or after this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Only what was numbered before this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
    /// Only those in this state: `abandoned` is what has failed for good. All but cancelled ones, if left out.
    #[schemars(schema_with = "schema::states")]
    #[serde(default)]
    state: Option<String>,
    /// 1: all there are. Needed where neither a number nor a time is given.
    all: Option<Flag>,
}

async fn replay(request: Request, caller: Caller, params: ReplayParams) -> Result<ReplayItem, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let replay = Replay {
        from_increment_id: options.from_increment_id.map(|number| number.0),
        to_increment_id: options.to_increment_id.map(|number| number.0),
        since: options.since,
        until: options.until,
        state: options.state,
        all: options.all.is_some_and(|all| all.0),
    };
    request.service.replay(&caller, WebhookId(params.webhook_id.0), replay).await.map(ReplayItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct BackfillParams {
    /// The webhook.
    webhook_id: Whole,
    /// Which events: topics, a time, or `all`.
    options: Option<Object<BackfillOptions>>,
}

/// Which stored events to number; where several are given, what fits all of them.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct BackfillOptions {
    /// Only events of these topics; of those that the webhook subscribes to, if left out.
    topics: Option<Topics>,
    /// Only events accepted at or after this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Only events accepted before this time (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
    /// 1: all there are. Needed where neither topics nor a time is given.
    all: Option<Flag>,
}

async fn backfill(request: Request, caller: Caller, params: BackfillParams) -> Result<BackfillItem, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let backfill = Backfill {
        topics: options.topics.map(|topics| topics.0),
        since: options.since,
        until: options.until,
        all: options.all.is_some_and(|all| all.0),
    };
    request.service.backfill(&caller, WebhookId(params.webhook_id.0), backfill).await.map(BackfillItem::from)
}

#[derive(Deserialize, JsonSchema)]
struct Test {
    /// The webhook.
    webhook_id: Whole,
    /// The message; the server has one of its own.
    #[schemars(schema_with = "schema::message")]
    #[serde(default)]
    message: Option<Box<RawValue>>,
}

async fn test(request: Request, caller: Caller, params: Test) -> Result<TestedItem, Fault> {
    let message = params.message.as_deref().map(RawValue::get);
    request.service.test_webhook(&caller, WebhookId(params.webhook_id.0), message).await.map(TestedItem::from)
}

/// The vendor documents the signature `(topic, status)` and the example
/// `[{"status": 1}]`; both work, and so does an object with a topic or an id
/// (docs/wire.md, "webhook.update_status").
#[derive(Deserialize, JsonSchema)]
struct UpdateStatus {
    /// The webhooks with this in their list of topics; or an object with all of this method's parameters.
    #[schemars(schema_with = "status_topic")]
    #[serde(default)]
    topic: Option<Box<RawValue>>,
    /// 1: on, 0: off.
    status: Option<Flag>,
    /// The webhook.
    webhook_id: Option<Whole>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct StatusData {
    /// The webhooks with this in their list of topics.
    topic: Option<String>,
    /// 1: on, 0: off.
    status: Option<Flag>,
    /// The webhook.
    webhook_id: Option<Whole>,
}

fn status_topic(generator: &mut SchemaGenerator) -> Schema {
    let object = generator.subschema_for::<StatusData>();
    json_schema!({ "anyOf": [{ "type": "string" }, object] })
}

async fn update_status(request: Request, caller: Caller, params: UpdateStatus) -> Result<bool, Fault> {
    let invalid = FaultCode::StatusNotChanged;
    let data = match params.topic {
        Some(object) if object.get().starts_with('{') => {
            if params.status.is_some() || params.webhook_id.is_some() {
                return Err(Fault::new(invalid).detail("Give one object, or topic and status, not both."));
            }
            from_raw(&object, "topic", invalid)?
        }
        Some(topic) => StatusData {
            topic: Some(from_raw(&topic, "topic", invalid)?),
            status: params.status,
            webhook_id: params.webhook_id,
        },
        None => StatusData { topic: None, status: params.status, webhook_id: params.webhook_id },
    };
    let Some(Flag(on)) = data.status else {
        return Err(Fault::new(invalid).field("status").detail("is missing; it must be 0 (inactive) or 1 (active)."));
    };
    let target = match (data.topic, data.webhook_id) {
        (None, None) => StatusTarget::All,
        (Some(topic), None) => StatusTarget::Topic(topic),
        (None, Some(Whole(id))) => StatusTarget::Webhook(WebhookId(id)),
        (Some(_), Some(_)) => {
            return Err(Fault::new(invalid).detail("Select by topic or by webhook_id, not by both."));
        }
    };
    request.service.set_status(&caller, target, on).await.map(|()| true)
}
