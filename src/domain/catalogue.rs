//! The catalogue: what a merchant says of its topics. A topic that stands in
//! no catalogue can be published and subscribed to all the same.

use super::fault::Violation;
use super::id::TopicId;
use super::message_schema::SchemaText;
use super::time::Timestamp;
use super::topic::{Patterns, Topic, is_word};

/// The longest name of a topic for people, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// The longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 2_000;
/// What numbers of event types may be.
pub const EVENT_TYPES: std::ops::RangeInclusive<i64> = 1..=2_147_483_647;

/// What becomes of an event whose message does not fit the schema of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It is accepted; the schema only describes.
    Off,
    /// It is accepted, and its publisher is told.
    Warn,
    /// It is refused.
    Reject,
}

impl Validation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Reject];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Reject => "reject",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|validation| validation.name() == name)
    }
}

/// What is said of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic itself.
    pub topic: Topic,
    /// What it belongs to.
    pub category: String,
    /// Its name for people.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Its number, unique within the merchant; `None`: one is to be given.
    pub event_type: Option<i64>,
    /// What its messages look like.
    pub message_schema: Option<SchemaText>,
    /// What becomes of those that don't.
    pub validation: Validation,
    /// It is to be used no more.
    pub is_deprecated: bool,
    /// It can't be published any more.
    pub is_discontinued: bool,
}

/// What to change of a topic, or what is said of a new one; the rest stays as
/// it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChanges {
    /// What it belongs to; one word.
    pub category: Option<String>,
    /// Its name for people.
    pub name: Option<String>,
    /// What it means.
    pub description: Option<String>,
    /// Its number.
    pub event_type: Option<i64>,
    /// What its messages look like.
    pub message_schema: Option<Option<SchemaText>>,
    /// What becomes of those that don't.
    pub validation: Option<Validation>,
    /// It is to be used no more.
    pub is_deprecated: Option<bool>,
    /// It can't be published any more.
    pub is_discontinued: Option<bool>,
}

impl TopicSpec {
    /// A topic of which nothing is said but these. By default its category is
    /// the word before the colon, its name both words, and messages that do
    /// not fit the schema, if it has one, are refused.
    pub fn try_new(topic: Topic, said: TopicChanges) -> Result<Self, Violation> {
        let mut name = topic.as_str().replace([':', '_'], " ");
        name[..1].make_ascii_uppercase();
        name.truncate(NAME_CHARS_MAX);
        let spec = Self {
            category: topic.resource().to_owned(),
            topic,
            name,
            description: String::new(),
            event_type: None,
            message_schema: None,
            validation: Validation::Reject,
            is_deprecated: false,
            is_discontinued: false,
        };
        spec.changed(said)
    }

    /// What is said of it, with the changes.
    pub fn changed(self, changes: TopicChanges) -> Result<Self, Violation> {
        if let Some(category) = changes.category.as_ref().filter(|category| !is_word(category)) {
            let shown: String = category.chars().take(80).collect();
            return Err(Violation::new("category", format!("{shown:?} is none; use 1 to 64 of A-Z a-z 0-9 _ . -")));
        }
        check_length("name", changes.name.as_deref(), 1, NAME_CHARS_MAX)?;
        check_length("description", changes.description.as_deref(), 0, DESCRIPTION_CHARS_MAX)?;
        if let Some(event_type) = changes.event_type.filter(|event_type| !EVENT_TYPES.contains(event_type)) {
            let (min, max) = (EVENT_TYPES.start(), EVENT_TYPES.end());
            return Err(Violation::new("event_type", format!("{event_type} is outside {min} to {max}.")));
        }
        Ok(Self {
            topic: self.topic,
            category: changes.category.unwrap_or(self.category),
            name: changes.name.unwrap_or(self.name),
            description: changes.description.unwrap_or(self.description),
            event_type: changes.event_type.or(self.event_type),
            message_schema: changes.message_schema.unwrap_or(self.message_schema),
            validation: changes.validation.unwrap_or(self.validation),
            is_deprecated: changes.is_deprecated.unwrap_or(self.is_deprecated),
            is_discontinued: changes.is_discontinued.unwrap_or(self.is_discontinued),
        })
    }
}

fn check_length(field: &'static str, text: Option<&str>, min: usize, max: usize) -> Result<(), Violation> {
    let chars = text.map_or(min, |text| text.chars().count());
    if (min..=max).contains(&chars) {
        Ok(())
    } else {
        Err(Violation::new(field, format!("has {chars} characters; use {min} to {max}.")))
    }
}

/// A topic in a merchant's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// What is said of it.
    pub spec: TopicSpec,
    /// Its number.
    pub event_type: i64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Which topics of a catalogue.
#[derive(Clone, Debug, Default)]
pub struct TopicFilter {
    /// Only those that match.
    pub topics: Option<Patterns>,
    /// Only those of this category.
    pub category: Option<String>,
    /// Only those that are deprecated, or are not.
    pub is_deprecated: Option<bool>,
    /// Only those that are discontinued, or are not.
    pub is_discontinued: Option<bool>,
    /// Without their schemas.
    pub is_brief: bool,
}

impl TopicFilter {
    /// True if it is one of those asked for.
    pub fn admits(&self, spec: &TopicSpec) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.matches(&spec.topic))
            && self.category.as_ref().is_none_or(|category| *category == spec.category)
            && self.is_deprecated.is_none_or(|wanted| wanted == spec.is_deprecated)
            && self.is_discontinued.is_none_or(|wanted| wanted == spec.is_discontinued)
    }
}

/// What the catalogue demands of the events of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// The entry.
    pub topic_id: TopicId,
    /// Which state of the entry: it goes up with every change.
    pub version: i64,
    /// What becomes of messages that do not fit; `Off` also if there is no schema.
    pub validation: Validation,
    /// Nothing can be published under it any more.
    pub is_discontinued: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::try_new(text).unwrap()
    }

    #[test]
    fn a_topic_says_most_of_itself() {
        let spec = TopicSpec::try_new(topic("product_media:status_changed"), TopicChanges::default()).unwrap();
        assert_eq!((spec.category.as_str(), spec.name.as_str()), ("product_media", "Product media status changed"));
        assert_eq!((spec.validation, spec.event_type), (Validation::Reject, None));
        let long = format!("{}:{}", "a".repeat(64), "b".repeat(64));
        assert_eq!(TopicSpec::try_new(topic(&long), TopicChanges::default()).unwrap().name.len(), NAME_CHARS_MAX);
    }

    #[test]
    fn changes_have_bounds() {
        let wrong = |changes| TopicSpec::try_new(topic("a:b"), changes).unwrap_err().field;
        let text = |length| Some("ä".repeat(length));
        assert_eq!(wrong(TopicChanges { category: Some("two words".into()), ..Default::default() }), "category");
        assert_eq!(wrong(TopicChanges { name: text(0), ..Default::default() }), "name");
        assert_eq!(wrong(TopicChanges { name: text(101), ..Default::default() }), "name");
        assert_eq!(wrong(TopicChanges { description: text(2_001), ..Default::default() }), "description");
        assert_eq!(wrong(TopicChanges { event_type: Some(0), ..Default::default() }), "event_type");
        assert_eq!(wrong(TopicChanges { event_type: Some(1 << 31), ..Default::default() }), "event_type");
        let most =
            TopicChanges { name: text(100), description: text(2_000), event_type: Some(1), ..Default::default() };
        assert!(TopicSpec::try_new(topic("a:b"), most).is_ok());
    }
}
