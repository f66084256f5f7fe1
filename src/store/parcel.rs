//! A delivery that is ready to be sent.

use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::expansion::{Expansion, expanded};
use crate::domain::id::{IncrementId, Span};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Format;

/// A delivery that is ready to be sent, or a batch of them.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Its number; of a batch, the first.
    pub increment_id: IncrementId,
    /// Tries so far.
    pub attempts: u32,
    /// Tries when its retry policy last began anew.
    pub policy_start: u32,
    /// How often it was asked to be sent again; of a batch, how often all of it
    /// were.
    pub resends_asked: u32,
    /// When it was numbered.
    pub numbered_at: Timestamp,
    /// When it is due, if it was tried before or is sent again.
    pub due_at: Option<Timestamp>,
    /// How its body is built; pinned when it was numbered.
    pub format: Format,
    /// What happened.
    pub event: Arc<Event>,
    /// Which parts of its message go out; cut when its body is built.
    pub expansion: Option<Arc<Expansion>>,
    /// If it goes out as a batch: what has the numbers that follow.
    pub batch: Option<Vec<Content>>,
}

/// What one number of a batch is about.
#[derive(Clone, Debug)]
pub struct Content {
    /// What happened.
    pub event: Arc<Event>,
    /// Which parts of its message go out.
    pub expansion: Option<Arc<Expansion>>,
}

impl From<Parcel> for Content {
    fn from(parcel: Parcel) -> Self {
        Self { event: parcel.event, expansion: parcel.expansion }
    }
}

impl Parcel {
    /// Its number, or those of the batch.
    pub fn numbers(&self) -> Span {
        let others = self.batch.as_ref().map_or(0, Vec::len);
        let last = IncrementId(self.increment_id.0.saturating_add_unsigned(others as u64));
        Span { first: self.increment_id, last }
    }

    /// What happened, in the order of the numbers.
    pub fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        std::iter::once(&self.event).chain(self.batch.iter().flatten().map(|content| &content.event))
    }

    /// True if only parts of some message go out.
    pub fn has_expansion(&self) -> bool {
        self.expansion.is_some() || self.batch.iter().flatten().any(|content| content.expansion.is_some())
    }

    /// The same with its messages as they go out. That reads every byte of
    /// them.
    pub fn cut(&self) -> Self {
        fn cut(event: &Arc<Event>, expansion: &Option<Arc<Expansion>>) -> Arc<Event> {
            expanded(event, expansion.as_deref())
        }
        let contents = self.batch.as_ref().map(|batch| {
            let whole = |content: &Content| Content { event: cut(&content.event, &content.expansion), expansion: None };
            batch.iter().map(whole).collect()
        });
        Self { event: cut(&self.event, &self.expansion), expansion: None, batch: contents, ..self.clone() }
    }

    /// What it weighs in memory, about, in bytes.
    pub fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.events().map(|event| event.message.as_str().len() + OVERHEAD).sum()
    }
}
