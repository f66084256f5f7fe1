//! Schemas of topics that were compiled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::domain::catalogue::TopicRule;
use crate::domain::id::TopicId;
use crate::domain::message_schema::MessageSchema;
use crate::work::apart::Apart;

/// How much all schemas that are kept ready may weigh.
const WEIGHT_MAX: usize = 100_000;
/// Calls of one merchant that may wait for a place to work on schemas.
const WAITING_MAX: usize = 256;

/// Schemas that were compiled, by the entry and its version; and places for
/// those who check what takes long, so that it holds up nobody else.
pub struct Schemas {
    kept: Mutex<HashMap<TopicId, (i64, Arc<MessageSchema>)>>,
    /// Where it is checked.
    pub apart: Apart,
}

impl Default for Schemas {
    fn default() -> Self {
        Self { kept: Mutex::default(), apart: Apart::for_processors(WAITING_MAX) }
    }
}

impl Schemas {
    /// That of an entry as it is now, if it is kept.
    pub fn get(&self, rule: &TopicRule) -> Option<Arc<MessageSchema>> {
        let kept = self.kept.lock().expect("nothing panics while it holds the schemas");
        kept.get(&rule.topic_id).filter(|(version, _)| *version == rule.version).map(|(_, schema)| Arc::clone(schema))
    }

    /// Keeps one.
    pub fn put(&self, rule: &TopicRule, schema: Arc<MessageSchema>) {
        let mut kept = self.kept.lock().expect("nothing panics while it holds the schemas");
        kept.remove(&rule.topic_id);
        let mut weight = kept.values().map(|(_, schema)| schema.weight()).sum::<usize>() + schema.weight();
        // Any of them may go; one that is needed again is compiled again.
        while weight > WEIGHT_MAX
            && let Some(other) = kept.keys().next().copied()
            && let Some((_, gone)) = kept.remove(&other)
        {
            weight -= gone.weight();
        }
        kept.insert(rule.topic_id, (rule.version, schema));
    }
}
