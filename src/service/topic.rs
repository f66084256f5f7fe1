//! The catalogue of topics, and what it demands of events.

use std::collections::HashMap;
use std::sync::Arc;

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicFilter, TopicRule, TopicSpec, Validation};
use crate::domain::event::NewEvent;
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::MerchantId;
use crate::domain::message_schema::{MessageSchema, Mismatch, SchemaText};
use crate::domain::page::{Slice, read_sort};
use crate::domain::topic::{Patterns, Topic};
use crate::domain::user::Permission;
use crate::store::StoreError;

/// What topics may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["topic"];
/// How many topics a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;
/// The most topics in one list: each may have a schema of some size.
const LIST_LIMIT_MAX: u32 = 100;
/// What costs more to check (see [`MessageSchema::cost`]) is checked on a
/// thread where that holds up nobody.
const AT_ONCE_COST_MAX: usize = 1_000_000;

const CHANGE: Failures = Failures { refused: FaultCode::TopicNotChanged, failed: FaultCode::TopicNotChanged };

/// Which topics, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct TopicSelection {
    /// Patterns with commas between them.
    pub topics: Option<String>,
    /// Only those of this category.
    pub category: Option<String>,
    /// Only those that are deprecated, or are not.
    pub is_deprecated: Option<bool>,
    /// Only those that are discontinued, or are not.
    pub is_discontinued: Option<bool>,
    /// Without their schemas.
    pub is_brief: bool,
}

/// Which part of a list of topics, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct TopicPage {
    /// Only those behind this one.
    pub after: Option<String>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Service {
    /// Does what takes long with a schema on a thread where that holds up no
    /// call. Fails with fault 120 if too much work of the merchant waits.
    async fn with_schemas<T: Send + 'static>(
        &self,
        merchant: MerchantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        self.schemas.apart.run(merchant, work).await.map_err(|cause| self.crowded(cause))
    }

    /// Topics of the merchant's catalogue, by name. Fails with fault 111.
    pub async fn list_topics(
        &self,
        caller: &Caller,
        selection: TopicSelection,
        page: TopicPage,
    ) -> Result<Vec<CatalogueEntry>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = check_selection(selection).and_then(|filter| {
            let (_, order) = read_sort(page.sort.as_deref(), &SORT_KEYS)?;
            let after = page.after.map(|text| Topic::try_new(&text)).transpose();
            let after = after.map_err(|violation| Violation { field: "after_topic", ..violation })?;
            let limit = self.check_limit_of(page.limit, LIST_LIMIT_DEFAULT, self.topic_list_limit_max())?;
            Ok((filter, Slice { after, order, limit }))
        });
        let (filter, slice) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.topics(caller.merchant(), filter, slice).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How many there are. Fails with fault 111.
    pub async fn count_topics(&self, caller: &Caller, selection: TopicSelection) -> Result<u64, Fault> {
        caller.check(Permission::WebhookRead)?;
        let filter =
            check_selection(selection).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let count = self.store.count_topics(caller.merchant(), filter).await;
        count.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// The most topics in one list.
    pub fn topic_list_limit_max(&self) -> u32 {
        LIST_LIMIT_MAX.min(self.config.list_limit_max)
    }

    /// Puts a topic into the merchant's catalogue, and returns it as it stands
    /// there. Fails with fault 117 or 118.
    pub async fn register_topic(
        &self,
        caller: &Caller,
        topic: &str,
        said: TopicChanges,
    ) -> Result<CatalogueEntry, Fault> {
        caller.check(Permission::Admin)?;
        let spec = Topic::try_new(topic).and_then(|topic| TopicSpec::try_new(topic, said));
        let spec = spec.map_err(|violation| violation.into_fault(FaultCode::InvalidTopic))?;
        let topic = spec.topic.clone();
        let registered = self.store.register_topic(caller.by()?, spec, self.config.topics_max).await;
        registered.map_err(|cause| about(&topic, cause))
    }

    /// Changes what the catalogue says of a topic, and returns it; what is left
    /// out stays. Fails with fault 116, 117 or 118.
    pub async fn update_topic(
        &self,
        caller: &Caller,
        topic: &str,
        changes: TopicChanges,
    ) -> Result<CatalogueEntry, Fault> {
        caller.check(Permission::Admin)?;
        let topic = check_topic(topic)?;
        let updated = self.store.update_topic(caller.by()?, topic.clone(), changes).await;
        updated.map_err(|cause| about(&topic, cause))
    }

    /// Takes a topic out of the catalogue; it can be published and subscribed
    /// to all the same. Fails with fault 116, 117 or 118.
    pub async fn remove_topic(&self, caller: &Caller, topic: &str) -> Result<(), Fault> {
        caller.check(Permission::Admin)?;
        let topic = check_topic(topic)?;
        let removed = self.store.remove_topic(caller.by()?, topic.clone()).await;
        removed.map_err(|cause| about(&topic, cause))
    }

    /// Reads a schema, which takes too long for a thread that others wait for.
    /// Fails with fault 117.
    pub async fn read_schema(&self, caller: &Caller, text: Box<str>) -> Result<SchemaText, Fault> {
        let read = self.with_schemas(caller.merchant(), move || SchemaText::try_new(&text)).await?;
        read.map_err(|violation| violation.into_fault(FaultCode::InvalidTopic))
    }

    /// Checks events against what the catalogue demands of their topics. Gives
    /// them back with what is wrong with each that is accepted all the same;
    /// fails with fault 107 at the first that is not. What only repeats a
    /// publish that was accepted before is not refused.
    pub(super) async fn check_events(
        &self,
        merchant: MerchantId,
        events: Vec<NewEvent>,
    ) -> Result<(Vec<NewEvent>, Vec<Option<Mismatch>>), Fault> {
        let (mut topics, mut known) = (Vec::new(), HashMap::new());
        let mut place_of = |topic| {
            *known.entry(topic).or_insert_with(|| {
                topics.push(Topic::clone(topic));
                topics.len() - 1
            })
        };
        let places: Vec<usize> = events.iter().map(|event| place_of(&event.topic)).collect();
        let rules = self.store.topic_rules(merchant, topics).await;
        let rules = rules.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        if rules.iter().flatten().all(|rule| rule.validation == Validation::Off && !rule.is_discontinued) {
            let fitting = vec![None; events.len()];
            return Ok((events, fitting));
        }
        let mut checks = Vec::with_capacity(rules.len());
        for rule in rules {
            let schema = match &rule {
                Some(rule) if rule.validation != Validation::Off => self.schema(merchant, rule).await?,
                _ => None,
            };
            checks.push(rule.map(|rule| Check { rule, schema }));
        }
        let cost_of = |(event, place): (&NewEvent, &usize)| {
            let schema = checks[*place].as_ref().and_then(|check| check.schema.as_ref());
            schema.map_or(0, |schema| schema.cost(event.message.as_str().len()))
        };
        let cost = events.iter().zip(&places).map(cost_of).fold(0, usize::saturating_add);
        let judge = move || {
            let judged = events.iter().zip(&places).map(|(event, place)| judge(event, checks[*place].as_ref()));
            let judged: Vec<_> = judged.collect();
            (events, judged)
        };
        let (events, judged) =
            if cost <= AT_ONCE_COST_MAX { judge() } else { self.with_schemas(merchant, judge).await? };
        let mut mismatches = Vec::with_capacity(events.len());
        for (index, (event, judged)) in events.iter().zip(judged).enumerate() {
            mismatches.push(match judged {
                Ok(mismatch) => mismatch,
                Err(_) if self.is_repeated(merchant, event).await? => None,
                Err(fault) => return Err(fault.index(index)),
            });
        }
        Ok((events, mismatches))
    }

    async fn is_repeated(&self, merchant: MerchantId, event: &NewEvent) -> Result<bool, Fault> {
        if event.idempotency_key.is_none() {
            return Ok(false);
        }
        let repeated = self.store.is_repeated(merchant, event.clone()).await;
        repeated.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// The schema that a rule speaks of, ready to check messages.
    async fn schema(&self, merchant: MerchantId, rule: &TopicRule) -> Result<Option<Arc<MessageSchema>>, Fault> {
        if let Some(schema) = self.schemas.get(rule) {
            return Ok(Some(schema));
        }
        let text =
            self.store.topic_schema(merchant, rule.topic_id).await.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        // Taken away since.
        let Some(text) = text else { return Ok(None) };
        let compiled = self.with_schemas(merchant, move || MessageSchema::compile(&text)).await?;
        let schema = compiled.map_err(|violation| {
            tracing::error!(topic_id = rule.topic_id.0, problem = violation.problem, "a stored schema is none");
            Fault::new(FaultCode::Internal)
        })?;
        let schema = Arc::new(schema);
        self.schemas.put(rule, Arc::clone(&schema));
        Ok(Some(schema))
    }
}

/// What the events of a topic are checked against.
struct Check {
    rule: TopicRule,
    schema: Option<Arc<MessageSchema>>,
}

/// What is wrong with an event that is accepted all the same, or the fault it
/// is refused with.
fn judge(event: &NewEvent, check: Option<&Check>) -> Result<Option<Mismatch>, Fault> {
    let Some(Check { rule, schema }) = check else { return Ok(None) };
    if rule.is_discontinued {
        let problem = format!("{} is discontinued; nothing can be published under it any more.", event.topic);
        return Err(Violation::new("topic", problem).into_fault(FaultCode::InvalidEvent));
    }
    let mismatch = schema.as_ref().and_then(|schema| schema.mismatch(&event.message));
    match mismatch {
        Some(Mismatch { path, problem }) if rule.validation == Validation::Reject => {
            Err(Fault::new(FaultCode::InvalidEvent).field(path).detail(problem))
        }
        mismatch => Ok(mismatch),
    }
}

fn check_topic(text: &str) -> Result<Topic, Fault> {
    Topic::try_new(text).map_err(|violation| violation.into_fault(FaultCode::InvalidTopic))
}

fn check_selection(selection: TopicSelection) -> Result<TopicFilter, Violation> {
    let TopicSelection { topics, category, is_deprecated, is_discontinued, is_brief } = selection;
    let topics = topics.map(|topics| Patterns::try_new(&topics)).transpose()?;
    Ok(TopicFilter { topics, category, is_deprecated, is_discontinued, is_brief })
}

/// Names the topic, and what is wrong with it.
fn about(topic: &Topic, cause: StoreError) -> Fault {
    match cause {
        StoreError::Violation(violation) => violation.into_fault(FaultCode::InvalidTopic),
        StoreError::NoTopic => {
            Fault::new(FaultCode::NoTopic).detail(format!("{topic} stands in no catalogue of the merchant's."))
        }
        StoreError::TopicExists => Fault::new(FaultCode::TopicNotChanged)
            .detail(format!("{topic} is registered already; topic.update changes it.")),
        cause => CHANGE.fault(cause),
    }
}
