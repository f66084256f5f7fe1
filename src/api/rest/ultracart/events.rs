//! What a webhook can subscribe to, in the vendor's words: events in
//! categories, each of which is a topic.
//!
//! A client says of each event whether it wants it; a webhook of ours has a
//! list of patterns. What a client does not touch keeps its pattern, so that
//! `order:*` stays what it is as long as all events of orders are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::rest::Refusal;
use crate::api::rest::values::{Object, Switch};
use crate::delivery::ultracart::{CATEGORIES, event_name};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::expansion::{EXPANSION_CHARS_MAX, Expansion, Expansions};
use crate::domain::topic::{Pattern, Patterns, Topic};
use crate::domain::webhook::WebhookSpec;

/// Those whose stored events can be sent to a webhook that never had them (WIRE §3).
pub const REFLOWED: [&str; 2] = ["item_update", "order_create"];

/// A category of events.
#[derive(Clone, JsonSchema, Serialize)]
#[schemars(rename = "WebhookEventCategory")]
pub struct Category {
    /// Its name.
    event_category: String,
    /// Its events; with a webhook and without `_placeholders`, those that it subscribes to.
    events: Vec<Event>,
    /// Whether all of its events are subscribed to.
    subscribed: bool,
    /// Whether any of them is.
    any_subscribed: bool,
    /// What an expansion can name, as far as the schemas of the catalogue tell.
    available_expansions: Vec<String>,
}

/// An event that a webhook can subscribe to.
#[derive(Clone, JsonSchema, Serialize)]
#[schemars(rename = "WebhookEventSubscription")]
struct Event {
    /// Its name.
    event_name: String,
    /// What it is, in short.
    event_description: String,
    /// What the catalogue says of it besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    comments: Option<String>,
    /// Whether it is to be used no more.
    deprecated_flag: bool,
    /// Whether it does not happen any more.
    discontinued_flag: bool,
    /// The objects and arrays of the message that are sent, with commas between their names; all if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    expansion: Option<String>,
    /// Whether the webhook subscribes to it.
    subscribed: bool,
    /// Whether stored events can be sent to a webhook that never had them.
    supports_reflow: bool,
    /// Its id; one of the merchant's own has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_event_oid: Option<i64>,
}

/// What is said of a category.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookEventCategoryData")]
pub struct CategoryData {
    /// Its name.
    #[schemars(example = &"order")]
    event_category: Option<String>,
    /// Its events.
    events: Option<Vec<Object<EventData>>>,
}

/// What is said of an event.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookEventSubscriptionData")]
struct EventData {
    /// Its name, which the catalogue has; or its category, `_` and a word.
    #[schemars(example = &"order_create")]
    event_name: String,
    /// Whether the webhook subscribes to it; it does if this is left out.
    #[schemars(example = true)]
    subscribed: Option<Switch>,
    /// The objects and arrays of the message to send, with commas between their names; all if it is empty or left out.
    #[schemars(length(max = EXPANSION_CHARS_MAX), example = &"billing,items")]
    expansion: Option<String>,
    /// Filters are not supported: to be left empty or out.
    #[schemars(length(max = 0))]
    event_ruler: Option<String>,
}

/// All events of a merchant, by category.
pub struct Events {
    categories: BTreeMap<String, Vec<KnownEvent>>,
    available: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone)]
struct KnownEvent {
    name: String,
    topic: Topic,
    oid: Option<i64>,
    entry: Option<Arc<CatalogueEntry>>,
}

impl Events {
    /// The vendor's own, and those of the merchant's catalogue.
    pub fn new(catalogue: Vec<CatalogueEntry>) -> Self {
        let mut entries: BTreeMap<String, CatalogueEntry> =
            catalogue.into_iter().map(|entry| (entry.spec.topic.to_string(), entry)).collect();
        let mut events = Self { categories: BTreeMap::new(), available: BTreeMap::new() };
        let mut oids = 1..;
        for (category, own) in CATEGORIES {
            for (_, topic) in own.iter() {
                let topic = Topic::try_new(topic).expect("the vendor's topics are topics");
                events.add(category, topic.clone(), oids.next(), entries.remove(topic.as_str()));
            }
        }
        for entry in entries.into_values() {
            let topic = entry.spec.topic.clone();
            events.add(&entry.spec.category.clone(), topic, None, Some(entry));
        }
        events
    }

    /// The same, and those besides that a webhook's list names.
    fn with_those_of(&self, patterns: &Patterns) -> BTreeMap<String, Vec<KnownEvent>> {
        let mut all = Self { categories: self.categories.clone(), available: BTreeMap::new() };
        for pattern in patterns.list() {
            if let Pattern::Exact(topic) = pattern {
                all.add(topic.resource(), topic.clone(), None, None);
            }
        }
        all.categories
    }

    /// Passes over a topic that is there, or whose name means another.
    fn add(&mut self, category: &str, topic: Topic, oid: Option<i64>, entry: Option<CatalogueEntry>) {
        let name = event_name(&topic);
        if self.categories.values().flatten().any(|known| known.name == name) {
            return;
        }
        let schema = entry.as_ref().and_then(|entry| entry.spec.message_schema.as_ref());
        if let Some(schema) = schema {
            self.available.entry(category.to_owned()).or_default().extend(parts(schema.as_str()));
        }
        let known = KnownEvent { name, topic, oid, entry: entry.map(Arc::new) };
        self.categories.entry(category.to_owned()).or_default().push(known);
    }

    /// Everything there is, subscribed to by nobody.
    pub fn all(&self) -> Vec<Category> {
        self.rows(&self.categories, |_| (false, None), true)
    }

    /// What a webhook subscribes to; with `placeholders`, all there is.
    pub fn of(&self, spec: &WebhookSpec, placeholders: bool) -> Vec<Category> {
        let subscribed = |topic: &Topic| (spec.topics.matches(topic), spec.expansions.of(topic));
        self.rows(&self.with_those_of(&spec.topics), subscribed, placeholders)
    }

    fn rows<'s>(
        &self,
        categories: &BTreeMap<String, Vec<KnownEvent>>,
        subscribed: impl Fn(&Topic) -> (bool, Option<&'s Expansion>),
        placeholders: bool,
    ) -> Vec<Category> {
        let row = |(category, events): (&String, &Vec<KnownEvent>)| {
            let mut rows: Vec<_> = events.iter().map(|known| known.row(subscribed(&known.topic))).collect();
            let all_subscribed = rows.iter().all(|event| event.subscribed);
            let any_subscribed = rows.iter().any(|event| event.subscribed);
            rows.retain(|event| event.subscribed || placeholders);
            (!rows.is_empty()).then(|| Category {
                event_category: category.clone(),
                events: rows,
                subscribed: all_subscribed,
                any_subscribed,
                available_expansions: self.available.get(category).into_iter().flatten().cloned().collect(),
            })
        };
        categories.iter().filter_map(row).collect()
    }

    /// What a webhook subscribes to from now on, if that is something else than
    /// before, and what is sent of it.
    pub fn read(
        &self,
        said: Vec<Object<CategoryData>>,
        old: Option<&WebhookSpec>,
    ) -> Result<(Option<Patterns>, Expansions), Refusal> {
        let known = self.with_those_of(old.map_or(&Patterns::none(), |old| &old.topics));
        let known: Vec<&KnownEvent> = known.values().flatten().collect();
        let (mut wanted, mut expansions) = (Vec::<Topic>::new(), Vec::new());
        for Object(CategoryData { event_category, events }) in said {
            let category = event_category.unwrap_or_default();
            for Object(event) in events.unwrap_or_default() {
                if event.subscribed.is_some_and(|subscribed| !subscribed.0) {
                    continue;
                }
                let topic = event.topic(&category, &known)?;
                if let Some(expansion) = event.expansion()? {
                    expansions.retain(|(other, _)| *other != topic);
                    expansions.push((topic.clone(), expansion));
                }
                if !wanted.contains(&topic) {
                    wanted.push(topic);
                }
            }
        }
        let is_known = |topic: &Topic| known.iter().any(|known| known.topic == *topic);
        if let Some(old) = old {
            // Those of topics that it did not subscribe to, or that are not shown, stay.
            let is_shown = |topic: &Topic| wanted.contains(topic) || (is_known(topic) && old.topics.matches(topic));
            expansions.extend(old.expansions.list().iter().filter(|(topic, _)| !is_shown(topic)).cloned());
        }
        let expansions = Expansions::try_new(expansions).map_err(|violation| Refusal::bad(violation.problem))?;
        let kept = old.map(|old| old.topics.list()).unwrap_or_default();
        let is_kept = |pattern: &&Pattern| match pattern {
            Pattern::Exact(topic) => !is_known(topic) || wanted.contains(topic),
            pattern => known.iter().all(|known| !pattern.matches(&known.topic) || wanted.contains(&known.topic)),
        };
        let mut list: Vec<Pattern> = kept.iter().filter(is_kept).cloned().collect();
        for topic in wanted {
            if !list.iter().any(|pattern| pattern.matches(&topic)) {
                list.push(Pattern::Exact(topic));
            }
        }
        if old.is_some_and(|old| old.topics.list() == list) {
            return Ok((None, expansions));
        }
        let patterns = Patterns::of(list);
        let patterns =
            patterns.map_err(|violation| Refusal::bad(format!("event_categories: {}", violation.problem)))?;
        Ok((Some(patterns), expansions))
    }
}

impl KnownEvent {
    fn row(&self, (subscribed, expansion): (bool, Option<&Expansion>)) -> Event {
        let spec = self.entry.as_ref().map(|entry| &entry.spec);
        let words = || {
            let mut words = self.name.replace('_', " ");
            words[..1].make_ascii_uppercase();
            words
        };
        Event {
            event_name: self.name.clone(),
            event_description: spec.map_or_else(words, |spec| spec.name.clone()),
            comments: spec.map(|spec| spec.description.clone()).filter(|text| !text.is_empty()),
            deprecated_flag: spec.is_some_and(|spec| spec.is_deprecated),
            discontinued_flag: spec.is_some_and(|spec| spec.is_discontinued),
            expansion: expansion.map(|expansion| expansion.as_str().to_owned()),
            subscribed,
            supports_reflow: REFLOWED.contains(&self.name.as_str()),
            webhook_event_oid: self.oid,
        }
    }
}

impl EventData {
    /// The topic that is meant; one that no catalogue lists goes by its category.
    fn topic(&self, category: &str, known: &[&KnownEvent]) -> Result<Topic, Refusal> {
        if let Some(known) = known.iter().find(|known| known.name == self.event_name) {
            return Ok(known.topic.clone());
        }
        let rest = self.event_name.strip_prefix(category).and_then(|rest| rest.strip_prefix('_'));
        let topic = rest.and_then(|rest| Topic::try_new(&format!("{category}:{rest}")).ok());
        topic.ok_or_else(|| {
            let shown: String = self.event_name.chars().take(80).collect();
            let problem = "is no event of the catalogue; see webhook_event_categories. One of your own is called \
                           by its category and a word: shelf_emptied of the category shelf.";
            Refusal::bad(format!("event_name: {shown:?} {problem}"))
        })
    }

    fn expansion(&self) -> Result<Option<Expansion>, Refusal> {
        if self.event_ruler.as_ref().is_some_and(|rule| !rule.is_empty()) {
            let problem = "events can't be filtered by rules; leave it out.";
            return Err(Refusal::bad(format!("event_ruler of {}: {problem}", self.event_name)));
        }
        let text = self.expansion.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let read = text.map(Expansion::try_new).transpose();
        read.map_err(|violation| Refusal::bad(format!("expansion of {}: {}", self.event_name, violation.problem)))
    }
}

/// The topic of events that can be sent to a webhook that never had them.
pub fn reflowed(name: &str) -> Result<Topic, Refusal> {
    let all = CATEGORIES.iter().flat_map(|(_, events)| *events);
    let found = all.into_iter().find(|(own, _)| *own == name && REFLOWED.contains(own));
    let topic = found.and_then(|(_, topic)| Topic::try_new(topic).ok());
    topic.ok_or_else(|| Refusal::bad(format!("eventName: must be one of {}.", REFLOWED.join(", "))))
}

/// The members of a schema that are objects or arrays.
fn parts(schema: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let is_part = |member: &Value| match &member["type"] {
        Value::String(kind) => kind == "object" || kind == "array",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "object" || kind == "array"),
        _ => false,
    };
    members.filter(|(_, member)| is_part(member)).map(|(name, _)| name.clone()).collect()
}
