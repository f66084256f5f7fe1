//! topic.*

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::rpc::answer::Listed;
use crate::api::rpc::method::{HEAVY_STEP, Method, Request};
use crate::api::rpc::wire::{Flag, Object, TopicData, TopicItem, Topics, Whole, schema};
use crate::domain::catalogue::{CatalogueEntry, TopicChanges};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::user::Permission;
use crate::service::caller::Caller;
use crate::service::topic::{TopicPage, TopicSelection};

/// The methods of the resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::listing("topic.list", "Lists the topics of the merchant's catalogue by name.", "after_topic", list)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session("topic.count", "Counts the topics of the merchant's catalogue.", count)
            .needs(&[Permission::WebhookRead])
            .faults(FaultCode::InvalidSelection, &[]),
        Method::with_session(
            "topic.register",
            "Puts a topic into the catalogue: what it means, and what its messages look like.",
            register,
        )
        .needs(&[Permission::Admin])
        .faults(FaultCode::InvalidTopic, &[FaultCode::TopicNotChanged]),
        Method::with_session(
            "topic.update",
            "Changes what the catalogue says of a topic, and returns it; what is left out stays as it is.",
            update,
        )
        .needs(&[Permission::Admin])
        .faults(FaultCode::InvalidTopic, &[FaultCode::NoTopic, FaultCode::TopicNotChanged]),
        Method::with_session(
            "topic.remove",
            "Takes a topic out of the catalogue; it can be published and subscribed to all the same.",
            remove,
        )
        .needs(&[Permission::Admin])
        .faults(FaultCode::InvalidTopic, &[FaultCode::NoTopic, FaultCode::TopicNotChanged]),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// Which topics, and which part of the list; the first of all, if left out.
    options: Option<Object<Options>>,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    /// Which topics, as in `topic.list`; all, if left out. What only says which part of a list does not matter.
    options: Option<Object<Options>>,
}

/// Which topics to list.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Only those that match: `order:created` is that topic, `order:*` all of a resource.
    topics: Option<Topics>,
    /// Only those of this category.
    category: Option<String>,
    /// 1: only those that are deprecated. 0: only those that are not.
    deprecated: Option<Flag>,
    /// 1: only those that are discontinued. 0: only those that are not.
    discontinued: Option<Flag>,
    /// Only those behind this one, the last of the page before.
    #[schemars(schema_with = "schema::topic")]
    #[serde(default)]
    after_topic: Option<String>,
    /// `topic`, the default, or `-topic` for the last first.
    #[schemars(schema_with = "schema::sort_topics")]
    #[serde(default)]
    sort: Option<String>,
    /// The most topics in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

impl Options {
    fn read(self) -> (TopicSelection, TopicPage) {
        let selection = TopicSelection {
            topics: self.topics.map(|topics| topics.0),
            category: self.category,
            is_deprecated: self.deprecated.map(|flag| flag.0),
            is_discontinued: self.discontinued.map(|flag| flag.0),
            is_brief: false,
        };
        let limit = self.limit.map(|limit| limit.0);
        (selection, TopicPage { after: self.after_topic, sort: self.sort, limit })
    }
}

async fn list(request: Request, caller: Caller, params: List) -> Result<Listed<TopicItem>, Fault> {
    let (selection, mut page) = params.options.unwrap_or_default().0.read();
    let max = request.service.topic_list_limit_max();
    let (mut list, mut steps) = request.list_up_to(page.limit, max, HEAVY_STEP);
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_topics(&caller, selection.clone(), page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for entry in found {
            let topic = entry.spec.topic.to_string();
            if !list.write(&item(entry)?, topic.clone())? {
                return Ok(list.cut("after_topic"));
            }
            list.pause().await;
            page.after = Some(topic);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

async fn count(request: Request, caller: Caller, params: Count) -> Result<u64, Fault> {
    let (selection, _) = params.options.unwrap_or_default().0.read();
    request.service.count_topics(&caller, selection).await
}

#[derive(Deserialize, JsonSchema)]
struct Register {
    /// The topic: two words joined by a colon, such as `order:created`.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
    /// What is said of it.
    data: Option<Object<TopicData>>,
}

async fn register(request: Request, caller: Caller, params: Register) -> Result<TopicItem, Fault> {
    let said = changes(&request, &caller, params.data.unwrap_or_default().0).await?;
    request.service.register_topic(&caller, &params.topic, said).await.and_then(item)
}

#[derive(Deserialize, JsonSchema)]
struct Update {
    /// The topic.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
    /// What to change.
    changes: Object<TopicData>,
}

async fn update(request: Request, caller: Caller, params: Update) -> Result<TopicItem, Fault> {
    let changes = changes(&request, &caller, params.changes.0).await?;
    request.service.update_topic(&caller, &params.topic, changes).await.and_then(item)
}

#[derive(Deserialize, JsonSchema)]
struct ByTopic {
    /// The topic.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
}

async fn remove(request: Request, caller: Caller, params: ByTopic) -> Result<bool, Fault> {
    request.service.remove_topic(&caller, &params.topic).await.map(|()| true)
}

async fn changes(request: &Request, caller: &Caller, mut data: TopicData) -> Result<TopicChanges, Fault> {
    let schema = match data.take_schema() {
        Some(Some(text)) => Some(Some(request.service.read_schema(caller, text).await?)),
        Some(None) => Some(None),
        None => None,
    };
    data.changes(schema).map_err(|violation| violation.into_fault(FaultCode::InvalidTopic))
}

fn item(entry: CatalogueEntry) -> Result<TopicItem, Fault> {
    TopicItem::try_from(entry).map_err(|cause| {
        tracing::error!(%cause, "a stored schema is no JSON");
        FaultCode::Internal.into()
    })
}
