//! The catalogue of topics, and what it demands of events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::catalogue::{CatalogueEntry, TopicChanges, TopicFilter, TopicRule, TopicSpec, Validation};
use crate::domain::event::NewEvent;
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::{MerchantId, TopicId};
use crate::domain::message_schema::{MessageSchema, Mismatch};
use crate::domain::page::{Slice, read_sort};
use crate::domain::topic::{Patterns, Topic};
use crate::domain::user::Permission;
use crate::store::StoreError;

/// What topics may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["topic"];
/// How many topics a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;
/// How many schemas are kept ready.
const SCHEMAS_MAX: usize = 256;
/// From so many bytes on, messages are checked on a thread where that holds up nobody.
const AT_ONCE_BYTES_MAX: usize = 16 * 1024;

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

/// Schemas that were compiled, by the entry and its version.
#[derive(Default)]
pub struct Schemas(Mutex<HashMap<TopicId, (i64, Arc<MessageSchema>)>>);

impl Schemas {
    fn get(&self, rule: &TopicRule) -> Option<Arc<MessageSchema>> {
        let kept = self.0.lock().expect("nothing panics while it holds the schemas");
        kept.get(&rule.topic_id).filter(|(version, _)| *version == rule.version).map(|(_, schema)| Arc::clone(schema))
    }

    fn put(&self, rule: &TopicRule, schema: Arc<MessageSchema>) {
        let mut kept = self.0.lock().expect("nothing panics while it holds the schemas");
        if kept.len() >= SCHEMAS_MAX && !kept.contains_key(&rule.topic_id) {
            // Any of them; one that is needed again is compiled again.
            let other = kept.keys().next().copied();
            other.and_then(|other| kept.remove(&other));
        }
        kept.insert(rule.topic_id, (rule.version, schema));
    }
}

impl Service {
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
            Ok((filter, Slice { after, order, limit: self.check_limit(page.limit, LIST_LIMIT_DEFAULT)? }))
        });
        let (filter, slice) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.topics(caller.merchant_id, filter, slice).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How many there are. Fails with fault 111.
    pub async fn count_topics(&self, caller: &Caller, selection: TopicSelection) -> Result<u64, Fault> {
        caller.check(Permission::WebhookRead)?;
        let filter =
            check_selection(selection).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let all = Slice { after: None, order: Default::default(), limit: u32::MAX };
        let found = self.store.topics(caller.merchant_id, filter, all).await;
        found.map(|found| found.len() as u64).map_err(|cause| Failures::LOOK_UP.fault(cause))
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
        let registered = self.store.register_topic(caller.merchant_id, spec, self.config.topics_max).await;
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
        let updated = self.store.update_topic(caller.merchant_id, topic.clone(), changes).await;
        updated.map_err(|cause| about(&topic, cause))
    }

    /// Takes a topic out of the catalogue; it can be published and subscribed
    /// to all the same. Fails with fault 116, 117 or 118.
    pub async fn remove_topic(&self, caller: &Caller, topic: &str) -> Result<(), Fault> {
        caller.check(Permission::Admin)?;
        let topic = check_topic(topic)?;
        let removed = self.store.remove_topic(caller.merchant_id, topic.clone()).await;
        removed.map_err(|cause| about(&topic, cause))
    }

    /// Checks events against what the catalogue demands of their topics. Gives
    /// them back with what is wrong with each that is accepted all the same;
    /// fails with fault 107 at the first that is not.
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
        if let Some(index) = places.iter().position(|&place| rules[place].is_some_and(|rule| rule.is_discontinued)) {
            let problem =
                format!("{} is discontinued; nothing can be published under it any more.", events[index].topic);
            return Err(Violation::new("topic", problem).into_fault(FaultCode::InvalidEvent).index(index));
        }
        let mut schemas = Vec::with_capacity(rules.len());
        for rule in &rules {
            schemas.push(match rule {
                Some(rule) if rule.validation != Validation::Off => {
                    self.schema(rule).await?.map(|schema| (rule.validation, schema))
                }
                _ => None,
            });
        }
        if schemas.iter().all(Option::is_none) {
            let fitting = vec![None; events.len()];
            return Ok((events, fitting));
        }
        let bytes: usize = events.iter().map(|event| event.message.as_str().len()).sum();
        let check = move || check_all(&events, &places, &schemas).map(|found| (events, found));
        if bytes <= AT_ONCE_BYTES_MAX {
            return check();
        }
        tokio::task::spawn_blocking(check).await.unwrap_or_else(|cause| {
            tracing::error!(%cause, "checking messages failed");
            Err(FaultCode::Internal.into())
        })
    }

    /// The schema that a rule speaks of, ready to check messages.
    async fn schema(&self, rule: &TopicRule) -> Result<Option<Arc<MessageSchema>>, Fault> {
        if let Some(schema) = self.schemas.get(rule) {
            return Ok(Some(schema));
        }
        let text = self.store.topic_schema(rule.topic_id).await.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        // Taken away since.
        let Some(text) = text else { return Ok(None) };
        let schema = MessageSchema::compile(&text).map_err(|violation| {
            tracing::error!(topic_id = rule.topic_id.0, problem = violation.problem, "a stored schema is none");
            Fault::new(FaultCode::Internal)
        })?;
        let schema = Arc::new(schema);
        self.schemas.put(rule, Arc::clone(&schema));
        Ok(Some(schema))
    }
}

fn check_all(
    events: &[NewEvent],
    places: &[usize],
    schemas: &[Option<(Validation, Arc<MessageSchema>)>],
) -> Result<Vec<Option<Mismatch>>, Fault> {
    let mut found = Vec::with_capacity(events.len());
    for (index, (event, &place)) in events.iter().zip(places).enumerate() {
        let Some((validation, schema)) = &schemas[place] else {
            found.push(None);
            continue;
        };
        let mismatch = schema.mismatch(&event.message);
        if let (Validation::Reject, Some(Mismatch { path, problem })) = (validation, &mismatch) {
            return Err(Fault::new(FaultCode::InvalidEvent).index(index).field(path).detail(problem));
        }
        found.push(mismatch);
    }
    Ok(found)
}

fn check_topic(text: &str) -> Result<Topic, Fault> {
    Topic::try_new(text).map_err(|violation| violation.into_fault(FaultCode::InvalidTopic))
}

fn check_selection(selection: TopicSelection) -> Result<TopicFilter, Violation> {
    let TopicSelection { topics, category, is_deprecated, is_discontinued } = selection;
    let topics = topics.map(|topics| Patterns::try_new(&topics)).transpose()?;
    Ok(TopicFilter { topics, category, is_deprecated, is_discontinued })
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
