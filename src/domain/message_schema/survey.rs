//! What a schema comes to, before a library sees it.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The most parts a schema may have once each reference is replaced by what it
/// leads to.
const PARTS_MAX: usize = 2_000;
/// How deep its parts may lie within each other, references followed.
const DEPTH_MAX: usize = 64;
/// The most patterns; each takes time and memory of its own.
const PATTERNS_MAX: usize = 64;

/// Keywords that hold a schema, or a list of schemas.
const SCHEMAS: [&str; 14] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "contentSchema",
];
/// Keywords that hold schemas by name.
const NAMED_SCHEMAS: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords that are refused, each with what to do instead.
const REFUSED: [(&str, &str); 8] = [
    ("$anchor", REFER),
    ("$dynamicAnchor", REFER),
    ("$dynamicRef", REFER),
    ("$recursiveAnchor", REFER),
    ("$recursiveRef", REFER),
    ("unevaluatedItems", "its cost doubles with each level; use items instead"),
    ("unevaluatedProperties", "its cost doubles with each level; use additionalProperties instead"),
    ("$vocabulary", "leave it out"),
];
const REFER: &str = "refer by {\"$ref\": \"#/$defs/…\"} instead";

/// What a schema comes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey {
    /// Its parts, counting each reference as what it leads to.
    pub parts: usize,
    /// Its patterns, each counted once.
    pub patterns: usize,
    /// Whether it has alternatives (`anyOf`, `oneOf`).
    pub has_alternatives: bool,
}

/// Surveys a schema. Fails with what is wrong with it, if it is none or may
/// cost too much.
pub fn survey(schema: &Value) -> Result<Survey, String> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err("is no JSON Schema; it must be an object such as {\"type\": \"object\"}.".to_owned());
    }
    let mut surveyor = Surveyor { root: schema, seen: HashMap::new(), patterns: 0, has_alternatives: false };
    let Extent { parts, .. } = surveyor.schema(schema, 0)?;
    Ok(Survey { parts, patterns: surveyor.patterns, has_alternatives: surveyor.has_alternatives })
}

/// How large something is, references followed.
#[derive(Clone, Copy)]
struct Extent {
    parts: usize,
    depth: usize,
}

struct Surveyor<'a> {
    root: &'a Value,
    /// What references lead to, by place; `None` while that is being surveyed.
    seen: HashMap<&'a str, Option<Extent>>,
    patterns: usize,
    has_alternatives: bool,
}

impl<'a> Surveyor<'a> {
    /// Surveys a schema that lies so deep.
    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Extent, String> {
        if depth > DEPTH_MAX {
            return Err(format!("is more than {DEPTH_MAX} levels deep, references followed."));
        }
        let mut extent = Extent { parts: 1, depth: 1 };
        match schema {
            Value::Object(members) => {
                for (keyword, value) in members {
                    let inner = self.keyword(keyword, value, schema, depth)?;
                    extent.parts = extent.parts.saturating_add(inner.parts);
                    extent.depth = extent.depth.max(inner.depth + 1);
                }
            }
            // Old drafts have lists of schemas where there may be one; others are no schemas, as the library will say.
            Value::Array(items) => {
                for item in items {
                    let inner = self.schema(item, depth + 1)?;
                    extent.parts = extent.parts.saturating_add(inner.parts);
                    extent.depth = extent.depth.max(inner.depth + 1);
                }
            }
            _ => {}
        }
        if extent.parts > PARTS_MAX {
            return Err(format!("comes to more than {PARTS_MAX} parts, counting each reference as what it leads to."));
        }
        if depth + extent.depth > DEPTH_MAX + 1 {
            return Err(format!("is more than {DEPTH_MAX} levels deep, references followed."));
        }
        Ok(extent)
    }

    fn keyword(&mut self, keyword: &str, value: &'a Value, schema: &'a Value, depth: usize) -> Result<Extent, String> {
        if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == keyword) {
            return Err(format!("uses {keyword}; {instead}."));
        }
        if matches!(keyword, "$id" | "id") && value.is_string() && !std::ptr::eq(schema, self.root) {
            return Err(format!("has an {keyword} below its root, which moves what references mean; leave it out."));
        }
        self.has_alternatives |= matches!(keyword, "anyOf" | "oneOf");
        match value {
            Value::String(place) if keyword == "$ref" => self.reference(place, depth),
            value if SCHEMAS.contains(&keyword) => self.schema(value, depth + 1),
            Value::Object(named) if NAMED_SCHEMAS.contains(&keyword) => {
                if keyword == "patternProperties" {
                    self.count_patterns(named.len())?;
                }
                self.named(named, depth)
            }
            value => {
                self.count_patterns(usize::from(keyword == "pattern"))?;
                // Data, however deep: what a value is compared with.
                Ok(Extent { parts: size(value), depth: 1 })
            }
        }
    }

    fn named(&mut self, named: &'a Map<String, Value>, depth: usize) -> Result<Extent, String> {
        let mut extent = Extent { parts: 1, depth: 1 };
        for schema in named.values() {
            let inner = self.schema(schema, depth + 1)?;
            extent.parts = extent.parts.saturating_add(inner.parts);
            extent.depth = extent.depth.max(inner.depth);
        }
        Ok(extent)
    }

    fn count_patterns(&mut self, more: usize) -> Result<(), String> {
        self.patterns += more;
        match self.patterns <= PATTERNS_MAX {
            true => Ok(()),
            false => Err(format!("has more than {PATTERNS_MAX} patterns.")),
        }
    }

    fn reference(&mut self, place: &'a str, depth: usize) -> Result<Extent, String> {
        match self.seen.get(place) {
            Some(Some(extent)) => return Ok(*extent),
            Some(None) => {
                return Err(format!("has a $ref {place:?} that leads back to itself; a schema can't contain itself."));
            }
            None => {}
        }
        let pointer = place.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.ok_or_else(|| {
            format!(
                "has a $ref {place:?}; references start with # and lead to places within it, such as \"#/$defs/line\"."
            )
        })?;
        if pointer.contains('%') {
            return Err(format!("has a $ref {place:?} with a %; refer to a place whose name needs none."));
        }
        let missing = || format!("has a $ref {place:?}, and there is nothing at that place.");
        let target = self.root.pointer(pointer).ok_or_else(missing)?;
        self.seen.insert(place, None);
        let extent = self.schema(target, depth + 1)?;
        self.seen.insert(place, Some(extent));
        Ok(extent)
    }
}

/// How many values there are in one.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(size).sum::<usize>(),
        // A long text is compared in pieces.
        Value::String(text) => 1 + text.len() / 256,
        _ => 1,
    }
}
