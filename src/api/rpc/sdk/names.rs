//! Names for the objects and enumerations that have none in the document:
//! where they stand, such as `WebhookRetry`. What stands in several places
//! has the shortest of its names.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::values::list;
use super::words::pascal;

/// Which schema has which name.
#[derive(Default)]
pub struct Names {
    reserved: BTreeSet<String>,
    found: Vec<Found>,
}

struct Found {
    schema: Value,
    essence: Value,
    candidates: Vec<String>,
}

impl Names {
    /// Keeps a name for something else.
    pub fn reserve(&mut self, name: &str) {
        self.reserved.insert(name.to_owned());
    }

    /// Notes what needs a name in a schema that stands at `path`.
    pub fn collect(&mut self, schema: &Value, path: &str) {
        if needs_name(schema) {
            let essence = essence(schema);
            match self.found.iter_mut().find(|found| found.essence == essence) {
                Some(found) => found.candidates.push(path.to_owned()),
                None => self.found.push(Found { schema: schema.clone(), essence, candidates: vec![path.to_owned()] }),
            }
        }
        self.collect_members(schema, path);
        if schema["items"].is_object() {
            self.collect(&schema["items"], &format!("{path}Item"));
        }
        let branches: Vec<_> = list(&schema["anyOf"]).chain(list(&schema["allOf"])).collect();
        let is_one_of_several = branches.iter().filter(|branch| branch["type"] != "null").count() > 1;
        for branch in branches {
            // A text beside an object is the name of one.
            let suffix = if is_one_of_several && branch["enum"].is_array() { "Name" } else { "" };
            self.collect(branch, &format!("{path}{suffix}"));
        }
    }

    /// The same of the members of an object that needs none itself.
    pub fn collect_members(&mut self, schema: &Value, path: &str) {
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            self.collect(member, &format!("{path}{}", pascal(name)));
        }
    }

    /// The name of a schema that was collected.
    pub fn of(&self, schema: &Value) -> Option<String> {
        if !needs_name(schema) {
            return None;
        }
        let essence = essence(schema);
        let place = self.found.iter().position(|found| found.essence == essence)?;
        self.given().into_iter().nth(place)
    }

    /// All that were collected, in their order.
    pub fn all(&self) -> Vec<(String, Value)> {
        self.given().into_iter().zip(self.found.iter().map(|found| found.schema.clone())).collect()
    }

    fn given(&self) -> Vec<String> {
        let mut taken = self.reserved.clone();
        let mut give = |found: &Found| {
            let mut candidates: Vec<_> = found.candidates.iter().collect();
            candidates.sort_by_key(|name| name.len());
            let free = candidates.iter().find(|name| !taken.contains(**name)).map(|name| (*name).clone());
            let name = free.unwrap_or_else(|| {
                let numbered = (2..).map(|n| format!("{}{n}", candidates[0]));
                numbered.into_iter().find(|name| !taken.contains(name)).expect("there is always another number")
            });
            taken.insert(name.clone());
            name
        };
        self.found.iter().map(&mut give).collect()
    }
}

/// True of an object with members, and of an enumeration of texts.
fn needs_name(schema: &Value) -> bool {
    let values: Vec<_> = list(&schema["enum"]).filter(|value| !value.is_null()).collect();
    let is_enumeration = !values.is_empty() && values.iter().all(|value| value.is_string());
    schema["properties"].is_object() || is_enumeration
}

/// What makes two schemas the same type: not the words above them, nor that
/// one may be null.
fn essence(schema: &Value) -> Value {
    let mut values = schema["enum"].clone();
    if let Some(values) = values.as_array_mut() {
        values.retain(|value| !value.is_null());
    }
    json!([values, schema["properties"], schema["required"]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(member: &str) -> Value {
        json!({ "type": ["object", "null"], "description": member, "properties": { member: { "type": "string" } } })
    }

    #[test]
    fn the_shortest_name_that_is_free_is_given() {
        let mut names = Names::default();
        names.reserve("Robot");
        let (arm, leg, eye) = (object("arm"), object("leg"), object("eye"));
        names.collect(&arm, "RobotLeftArm");
        names.collect(&json!({ "type": "array", "items": object("arm") }), "Arm");
        names.collect(&leg, "Robot");
        names.collect(&eye, "Robot");
        let mood = json!({ "anyOf": [{ "type": "string", "enum": ["glad"] }, object("why"), { "type": "null" }] });
        names.collect(&mood, "Mood");
        let given: Vec<_> =
            [&arm, &leg, &eye, &mood["anyOf"][0], &mood["anyOf"][1]].map(|schema| names.of(schema)).into();
        let expected = ["ArmItem", "Robot2", "Robot3", "MoodName", "Mood"].map(|name| Some(name.to_owned()));
        assert_eq!(given, expected);
        assert_eq!(names.of(&json!({ "type": "object" })), None);
        assert_eq!(names.all().len(), 5);
    }
}
