//! Topics of a catalogue, as they are written and read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::policy::nullable;
use super::schema;
use super::values::{Flag, Whole};
use crate::domain::catalogue::{
    CatalogueEntry, DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX, TopicChanges, TopicSpec, Validation,
};
use crate::domain::fault::Violation;
use crate::domain::message_schema::SchemaText;

/// What is said of a topic; what is left out stays as it is, or is as by default.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicData {
    /// What it belongs to; the word before the colon by default.
    #[schemars(schema_with = "schema::category")]
    #[serde(default)]
    category: Option<String>,
    /// Its name for people; made of its two words by default.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    name: Option<String>,
    /// What it means, for people.
    #[schemars(length(max = DESCRIPTION_CHARS_MAX))]
    description: Option<String>,
    /// Its number, unique within the merchant; by default the one after the highest there ever was.
    #[schemars(schema_with = "schema::event_type")]
    #[serde(default)]
    event_type: Option<Whole>,
    /// A JSON Schema of its messages; null: none. References lead to places within it, and not in a circle.
    #[schemars(schema_with = "schema::message_schema")]
    #[serde(default, deserialize_with = "nullable")]
    message_schema: Option<Option<Box<RawValue>>>,
    /// What becomes of a message that does not fit it: `reject` (the default): it is refused; `warn`: the publisher is
    /// told; `off`: nothing.
    #[schemars(schema_with = "schema::validations")]
    #[serde(default)]
    validation: Option<String>,
    /// Whether it is to be used no more. It still works.
    deprecated: Option<Flag>,
    /// Whether nothing can be published under it any more.
    discontinued: Option<Flag>,
}

impl TopicData {
    /// Takes the schema out, which takes long to read.
    pub fn take_schema(&mut self) -> Option<Option<Box<str>>> {
        Some(self.message_schema.take()?.map(Box::<str>::from))
    }

    /// What is said, but for the schema, which was read apart.
    pub fn changes(self, message_schema: Option<Option<SchemaText>>) -> Result<TopicChanges, Violation> {
        let data = self;
        let validation = |name: String| {
            let known = Validation::ALL.map(Validation::name).join(", ");
            let unknown = || Violation::new("validation", format!("is unknown; there are {known}."));
            Validation::from_name(&name).ok_or_else(unknown)
        };
        Ok(TopicChanges {
            category: data.category,
            name: data.name,
            description: data.description,
            event_type: data.event_type.map(|number| number.0),
            message_schema,
            validation: data.validation.map(validation).transpose()?,
            is_deprecated: data.deprecated.map(|flag| flag.0),
            is_discontinued: data.discontinued.map(|flag| flag.0),
        })
    }
}

/// A topic in the merchant's catalogue.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Topic")]
pub struct TopicItem {
    /// The topic.
    #[schemars(schema_with = "schema::topic")]
    topic: String,
    /// What it belongs to.
    category: String,
    /// Its name for people.
    name: String,
    /// What it means, for people.
    description: String,
    /// Its number, which no other topic of the merchant has.
    #[schemars(schema_with = "schema::event_type_given")]
    event_type: i64,
    /// A JSON Schema of its messages; null: none.
    #[schemars(schema_with = "schema::message_schema")]
    message_schema: Option<Box<RawValue>>,
    /// What becomes of a message that does not fit it.
    #[schemars(schema_with = "schema::validations")]
    validation: &'static str,
    /// True: it is to be used no more. It still works.
    deprecated: bool,
    /// True: nothing can be published under it any more.
    discontinued: bool,
    /// When it was registered.
    #[schemars(schema_with = "schema::time")]
    created_at: String,
    /// When it was last changed.
    #[schemars(schema_with = "schema::time")]
    updated_at: String,
}

impl TryFrom<CatalogueEntry> for TopicItem {
    type Error = serde_json::Error;

    fn try_from(entry: CatalogueEntry) -> Result<Self, Self::Error> {
        let CatalogueEntry { spec, event_type, created_at, updated_at } = entry;
        let TopicSpec { topic, category, name, description, message_schema, validation, .. } = spec;
        let schema = message_schema.map(|text| RawValue::from_string(text.as_str().to_owned())).transpose()?;
        Ok(Self {
            topic: topic.to_string(),
            category,
            name,
            description,
            event_type,
            message_schema: schema,
            validation: validation.name(),
            deprecated: spec.is_deprecated,
            discontinued: spec.is_discontinued,
            created_at: created_at.rfc3339_ms(),
            updated_at: updated_at.rfc3339_ms(),
        })
    }
}
