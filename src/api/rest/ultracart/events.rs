//! What a webhook can subscribe to, in the vendor's words: events in
//! categories, each of which is a topic.
//!
//! A client says of each event whether it wants it; a webhook of ours has a
//! list of patterns. What a client does not touch keeps its pattern, so that
//! `order:*` stays what it is as long as all events of orders are wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::list::text_of;
use crate::api::rest::values::{Object, Switch};
use crate::api::rest::{Refusal, next_topics, shown};
use crate::domain::catalogue::CatalogueEntry;
use crate::domain::expansion::{EXPANSION_CHARS_MAX, Expansion, Expansions};
use crate::domain::fault::Violation;
use crate::domain::topic::{PATTERNS_MAX, Pattern, Patterns, Topic};
use crate::domain::webhook::WebhookSpec;
use crate::render::ultracart::{CATEGORIES, event_name};
use crate::service::Service;
use crate::service::caller::Caller;

/// Those whose stored events can be sent to a webhook that never had them.
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
    /// What the catalogue says of it besides; left out of a list of categories that would be too long with it.
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

/// What expansions can name in a category: so many names are told of.
const PARTS_MAX: usize = 1_000;

/// All events of a merchant, by category.
pub struct Events {
    categories: BTreeMap<String, Vec<KnownEvent>>,
    names: HashSet<String>,
    /// What expansions can name, by category.
    parts: BTreeMap<String, BTreeSet<String>>,
}

struct KnownEvent {
    name: String,
    topic: Topic,
    oid: Option<i64>,
    entry: Option<CatalogueEntry>,
}

/// Those of a merchant, and those besides that a webhook's list names.
type Known<'a> = BTreeMap<&'a str, Vec<&'a KnownEvent>>;

/// A topic of the catalogue, and what an expansion of it can name.
type Entry = (CatalogueEntry, Vec<String>);

impl Events {
    /// Those of a merchant. Schemas are read apart, a few at a time, for there
    /// may be many and long ones.
    pub async fn load(service: &Service, caller: &Caller) -> Result<Self, Refusal> {
        let (mut entries, mut after) = (Vec::<Entry>::new(), None);
        loop {
            let topics = next_topics(service, caller, after, true).await?;
            let Some(last) = topics.last() else { break };
            after = Some(last.spec.topic.to_string());
            let read = move || topics.into_iter().map(with_parts).collect::<Vec<_>>();
            entries.extend(service.apart(caller, read).await?);
        }
        Ok(service.apart(caller, move || Self::new(entries)).await?)
    }

    /// The vendor's own, and those of the merchant's catalogue. One whose name
    /// means another already is passed over.
    pub fn new(catalogue: Vec<Entry>) -> Self {
        let mut entries: BTreeMap<String, Entry> =
            catalogue.into_iter().map(|entry| (entry.0.spec.topic.to_string(), entry)).collect();
        let mut events = Self { categories: BTreeMap::new(), names: HashSet::new(), parts: BTreeMap::new() };
        let mut oids = 1..;
        for (category, own) in CATEGORIES {
            for (_, topic) in own.iter() {
                let topic = Topic::try_new(topic).expect("the vendor's topics are topics");
                let (entry, parts) = entries.remove(topic.as_str()).unzip();
                let known = KnownEvent { name: event_name(&topic), topic, oid: oids.next(), entry };
                events.add(category, known, parts.unwrap_or_default());
            }
        }
        for (entry, parts) in entries.into_values() {
            let (topic, category) = (entry.spec.topic.clone(), entry.spec.category.clone());
            events.add(&category, KnownEvent { name: event_name(&topic), topic, oid: None, entry: Some(entry) }, parts);
        }
        events
    }

    fn add(&mut self, category: &str, known: KnownEvent, parts: Vec<String>) {
        if !self.names.insert(known.name.clone()) {
            return;
        }
        if !parts.is_empty() {
            let own = self.parts.entry(category.to_owned()).or_default();
            own.extend(parts);
            while own.len() > PARTS_MAX {
                own.pop_last();
            }
        }
        self.categories.entry(category.to_owned()).or_default().push(known);
    }

    /// What a list names that is not there.
    fn others(&self, patterns: &Patterns) -> Vec<KnownEvent> {
        let mut others = Vec::<KnownEvent>::new();
        for pattern in patterns.list() {
            let Pattern::Exact(topic) = pattern else { continue };
            let name = event_name(topic);
            if !self.names.contains(&name) && !others.iter().any(|other| other.name == name) {
                others.push(KnownEvent { name, topic: topic.clone(), oid: None, entry: None });
            }
        }
        others
    }

    fn with<'a>(&'a self, others: &'a [KnownEvent]) -> Known<'a> {
        let own = self.categories.iter().map(|(category, events)| (category.as_str(), events.iter().collect()));
        let mut all: Known<'a> = own.collect();
        for other in others {
            all.entry(other.topic.resource()).or_default().push(other);
        }
        all
    }

    /// Everything there is, subscribed to by nobody. Where that takes more than
    /// `bytes_max`, it is told in fewer words.
    pub fn all(&self, bytes_max: usize) -> Vec<Category> {
        let mut all = self.rows(&self.with(&[]), |_| (false, None), true);
        if !text_of(&all).is_ok_and(|text| text.len() <= bytes_max) {
            for category in &mut all {
                category.available_expansions.clear();
                category.events.iter_mut().for_each(|event| event.comments = None);
            }
        }
        all
    }

    /// What a webhook subscribes to; with `placeholders`, all there is.
    pub fn of(&self, spec: &WebhookSpec, placeholders: bool) -> Vec<Category> {
        let subscribed = |topic: &Topic| (spec.topics.matches(topic), spec.expansions.of(topic));
        self.rows(&self.with(&self.others(&spec.topics)), subscribed, placeholders)
    }

    fn rows<'s>(
        &self,
        known: &Known<'_>,
        subscribed: impl Fn(&Topic) -> (bool, Option<&'s Expansion>),
        placeholders: bool,
    ) -> Vec<Category> {
        let row = |(category, events): (&&str, &Vec<&KnownEvent>)| {
            let subscribed = |known: &KnownEvent| subscribed(&known.topic);
            let all_subscribed = events.iter().all(|known| subscribed(known).0);
            let any_subscribed = events.iter().any(|known| subscribed(known).0);
            let shown = events.iter().filter(|known| placeholders || subscribed(known).0);
            (placeholders || any_subscribed).then(|| Category {
                event_category: (*category).to_owned(),
                events: shown.map(|known| known.row(subscribed(known))).collect(),
                subscribed: all_subscribed,
                any_subscribed,
                available_expansions: self.parts.get(*category).into_iter().flatten().cloned().collect(),
            })
        };
        known.iter().filter_map(row).collect()
    }

    /// What a webhook subscribes to from now on, and what is sent of it.
    pub fn read(
        &self,
        said: Vec<Object<CategoryData>>,
        old: Option<&WebhookSpec>,
    ) -> Result<(Patterns, Expansions), Refusal> {
        let none = Patterns::none();
        let patterns = old.map_or(&none, |old| &old.topics);
        let others = self.others(patterns);
        let known: Vec<&KnownEvent> = self.with(&others).into_values().flatten().collect();
        let by_name: HashMap<&str, &KnownEvent> = known.iter().map(|known| (known.name.as_str(), *known)).collect();
        let (mut wanted, mut order, mut expansions) = (HashSet::<Topic>::new(), Vec::new(), HashMap::new());
        for Object(CategoryData { event_category, events }) in said {
            let category = event_category.unwrap_or_default();
            for Object(event) in events.unwrap_or_default() {
                if event.subscribed.is_some_and(|subscribed| !subscribed.0) {
                    continue;
                }
                let topic = event.topic(&category, &by_name)?;
                if let Some(expansion) = event.expansion()? {
                    expansions.insert(topic.clone(), expansion);
                }
                if wanted.insert(topic.clone()) {
                    order.push(topic);
                }
            }
        }
        let known: Vec<&Topic> = known.into_iter().map(|known| &known.topic).collect();
        let mut expansions: Vec<_> = expansions.into_iter().collect();
        if let Some(old) = old {
            // Those of topics that it did not subscribe to, or that are not shown, stay.
            let is_shown =
                |topic: &Topic| wanted.contains(topic) || (old.topics.matches(topic) && known.contains(&topic));
            expansions.extend(old.expansions.list().iter().filter(|(topic, _)| !is_shown(topic)).cloned());
        }
        let wrong = |violation: Violation| Refusal::bad(format!("event_categories: {}", violation.problem));
        let expansions = Expansions::try_new(expansions).map_err(wrong)?;
        let patterns = Patterns::of(still_true(patterns, &known, &wanted, order)).map_err(wrong)?;
        // In the owner's own words, if it is the same.
        let same = old.map(|old| &old.topics).filter(|topics| topics.list() == patterns.list());
        Ok((same.cloned().unwrap_or(patterns), expansions))
    }
}

/// The patterns that say no more than is wanted of what is known, and what they
/// do not cover by itself. In place of a `*` that says more, there are the
/// resources of which all is wanted.
fn still_true(patterns: &Patterns, known: &[&Topic], wanted: &HashSet<Topic>, order: Vec<Topic>) -> Vec<Pattern> {
    let says_no_more = |pattern: &Pattern| match pattern {
        Pattern::Exact(topic) => wanted.contains(topic) || !known.contains(&topic),
        pattern => known.iter().all(|topic| !pattern.matches(topic) || wanted.contains(*topic)),
    };
    let mut list = Vec::new();
    for pattern in patterns.list() {
        if says_no_more(pattern) {
            list.push(pattern.clone());
        } else if *pattern == Pattern::Everything {
            let resources: BTreeSet<&str> = known.iter().map(|topic| topic.resource()).collect();
            let resources = resources.into_iter().map(|resource| Pattern::Resource(resource.to_owned()));
            let is_of_all = |part: &Pattern| known.iter().any(|topic| part.matches(topic) && pattern.matches(topic));
            list.extend(resources.filter(|part| is_of_all(part) && says_no_more(part)));
        }
    }
    for topic in order {
        // One more than there may be is seen by who counts them.
        if list.len() > PATTERNS_MAX {
            break;
        }
        if !list.iter().any(|pattern| pattern.matches(&topic)) {
            list.push(Pattern::Exact(topic));
        }
    }
    list
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
    fn topic(&self, category: &str, known: &HashMap<&str, &KnownEvent>) -> Result<Topic, Refusal> {
        if let Some(known) = known.get(self.event_name.as_str()) {
            return Ok(known.topic.clone());
        }
        let rest = self.event_name.strip_prefix(category).and_then(|rest| rest.strip_prefix('_'));
        let topic = rest.and_then(|rest| Topic::try_new(&format!("{category}:{rest}")).ok());
        topic.ok_or_else(|| {
            let shown = shown(&self.event_name);
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

/// An entry, and what an expansion of it can name, in place of its schema.
fn with_parts(mut entry: CatalogueEntry) -> Entry {
    let schema = entry.spec.message_schema.take();
    let parts = schema.map(|schema| parts(schema.as_str())).unwrap_or_default();
    // A name that is longer than an expansion can't be in one.
    (entry, parts.into_iter().filter(|name| name.len() <= EXPANSION_CHARS_MAX).collect())
}

/// The members of a schema that are objects or arrays.
fn parts(schema: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(default)]
        properties: BTreeMap<String, Member>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Member {
        Described { r#type: Value },
        Else(IgnoredAny),
    }
    // A schema may be true or false.
    let Ok(Shape { properties }) = serde_json::from_str(schema) else { return Vec::new() };
    let is_part = |kind: &Value| kind == "object" || kind == "array";
    let has_part = |member: &Member| match member {
        Member::Described { r#type: Value::Array(kinds) } => kinds.iter().any(is_part),
        Member::Described { r#type: kind } => is_part(kind),
        Member::Else(_) => false,
    };
    properties.into_iter().filter(|(_, member)| has_part(member)).map(|(name, _)| name).collect()
}
