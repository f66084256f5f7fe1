//! delivery.subscribe, event.subscribe, and what ends them.

use futures_util::stream::{BoxStream, StreamExt, unfold};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::rpc::method::{Method, Request};
use crate::api::rpc::wire::{DeliveryNewsItem, EventNewsItem, Object, Topics, Whole};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::WebhookId;
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::live::{DeliveryFeed, EventFeed};

/// The name of the notifications of `delivery.subscribe`.
const DELIVERY_CHANGED: &str = "delivery.changed";
/// The name of the notifications of `event.subscribe`.
const EVENT_PUBLISHED: &str = "event.published";

/// Those of events.
pub fn event_methods() -> Vec<Method> {
    vec![
        Method::with_session(
            "event.subscribe",
            "Tells of events as they are published; returns the subscription's id.",
            subscribe_events,
        )
        .notifies::<EventNewsItem>(EVENT_PUBLISHED)
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session(
            "event.unsubscribe",
            "Ends a subscription to events; false if there is none of that id.",
            unsubscribe_events,
        )
        .over_websocket()
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[]),
    ]
}

/// Those of deliveries.
pub fn delivery_methods() -> Vec<Method> {
    vec![
        Method::with_session(
            "delivery.subscribe",
            "Tells of deliveries as they are numbered and as their state, attempts or times change; \
             returns the subscription's id.",
            subscribe_deliveries,
        )
        .notifies::<DeliveryNewsItem>(DELIVERY_CHANGED)
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[FaultCode::NoWebhook]),
        Method::with_session(
            "delivery.unsubscribe",
            "Ends a subscription to deliveries; false if there is none of that id.",
            unsubscribe_deliveries,
        )
        .over_websocket()
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct SubscribeDeliveries {
    /// The webhook; all of the merchant's, if left out.
    webhook_id: Option<Whole>,
    /// Where to begin; with what comes from now on, if left out.
    options: Option<Object<DeliveryOptions>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct DeliveryOptions {
    /// All numbers after this one are told first; only with a webhook.
    #[schemars(range(min = 0))]
    after_increment_id: Option<Whole>,
}

async fn subscribe_deliveries(request: Request, caller: Caller, params: SubscribeDeliveries) -> Result<u64, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let webhook = params.webhook_id.map(|id| WebhookId(id.0));
    let after = options.after_increment_id.map(|number| number.0);
    let feed = request.service.watch_deliveries(&caller, webhook, after).await?;
    request.live()?.open(DELIVERY_CHANGED, told_of_deliveries(feed), request.context.addressee())
}

fn told_of_deliveries(feed: DeliveryFeed) -> BoxStream<'static, Result<Vec<DeliveryNewsItem>, Fault>> {
    // After a fault there is no more.
    unfold(Some(feed), |feed| async {
        let mut feed = feed?;
        Some(match feed.next().await {
            Ok(news) => (Ok(news.into_iter().map(DeliveryNewsItem::from).collect()), Some(feed)),
            Err(fault) => (Err(fault), None),
        })
    })
    .boxed()
}

#[derive(Deserialize, JsonSchema)]
struct SubscribeEvents {
    /// Only these topics: one, several with commas between them, or an array; `order:*` is all of a resource, and `*`,
    /// if left out, everything but the server's own.
    topics: Option<Topics>,
    /// Where to begin; with what comes from now on, if left out.
    options: Option<Object<EventOptions>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct EventOptions {
    /// All events after this one that are still stored are told first.
    #[schemars(range(min = 0))]
    after_event_id: Option<Whole>,
}

async fn subscribe_events(request: Request, caller: Caller, params: SubscribeEvents) -> Result<u64, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let topics = params.topics.map(|topics| topics.0);
    let after = options.after_event_id.map(|id| id.0);
    let feed = request.service.watch_events(&caller, topics.as_deref(), after).await?;
    request.live()?.open(EVENT_PUBLISHED, told_of_events(feed), request.context.addressee())
}

fn told_of_events(feed: EventFeed) -> BoxStream<'static, Result<Vec<EventNewsItem>, Fault>> {
    unfold(Some(feed), |feed| async {
        let mut feed = feed?;
        let page = feed.next().await.and_then(|news| {
            news.into_iter().map(EventNewsItem::try_from).collect::<Result<Vec<_>, _>>().map_err(|cause| {
                tracing::error!(%cause, "a stored message is no JSON");
                FaultCode::Internal.into()
            })
        });
        let rest = page.is_ok().then_some(feed);
        Some((page, rest))
    })
    .boxed()
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The subscription's id.
    #[schemars(range(min = 1))]
    subscription: Whole,
}

async fn unsubscribe_deliveries(request: Request, _: Caller, params: ById) -> Result<bool, Fault> {
    unsubscribe(&request, DELIVERY_CHANGED, params)
}

async fn unsubscribe_events(request: Request, _: Caller, params: ById) -> Result<bool, Fault> {
    unsubscribe(&request, EVENT_PUBLISHED, params)
}

fn unsubscribe(request: &Request, notification: &'static str, params: ById) -> Result<bool, Fault> {
    let live = request.live()?;
    Ok(u64::try_from(params.subscription.0).is_ok_and(|id| live.close(notification, id)))
}
