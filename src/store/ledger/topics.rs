//! Catalogues of topics.

use super::auditing::{self, Audited, Told};
use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Other};
use super::wants::{TopicFound, TopicWant, Wants};
use crate::domain::audit::{Action, Subject, SubjectKind};
use crate::domain::by::By;
use crate::domain::catalogue::{CatalogueEntry, EVENT_TYPES, TopicChanges, TopicSpec};
use crate::domain::fault::Violation;
use crate::domain::id::MerchantId;
use crate::domain::topic::Topic;
use crate::store::error::StoreError;

/// Puts a topic into the catalogue. Without a number it is given the one after
/// the highest that the merchant ever had.
pub struct Register {
    /// Whose catalogue.
    pub merchant: MerchantId,
    /// On whose behalf; `None`: the operator's own, at the command line.
    pub by: Option<By>,
    /// What it says.
    pub spec: TopicSpec,
    /// How many topics there may be.
    pub quota: u32,
}

impl Change for Register {
    type Answer = CatalogueEntry;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        let (merchant, topic, event_type) = (self.merchant, self.spec.topic.clone(), self.spec.event_type);
        wants.topic = Some(TopicWant { merchant, topic, event_type });
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<CatalogueEntry>> {
        let found = found(view)?;
        if found.entry.is_some() {
            return Err(StoreError::TopicExists);
        }
        if found.count >= self.quota {
            return Err(StoreError::TopicQuota { max: self.quota });
        }
        let event_type = self.spec.event_type.unwrap_or(found.event_type_max.saturating_add(1));
        check_event_type(found, event_type)?;
        let entry = CatalogueEntry { spec: self.spec.clone(), event_type, created_at: view.now, updated_at: view.now };
        let whose = (self.merchant, self.by.clone());
        let (action, about) = (Action::TopicRegister, subject(&entry.spec.topic));
        out.audit(Audited::new(whose, action, about, &Told::NOTHING, &auditing::topic(&entry)));
        out.rows.others.push(Other::Topic { merchant: self.merchant, entry: entry.clone(), is_known: false });
        Ok(Step::Done(entry))
    }
}

/// Changes what is said of a topic.
pub struct Update {
    /// Whose catalogue.
    pub merchant: MerchantId,
    /// On whose behalf; `None`: the operator's own, at the command line.
    pub by: Option<By>,
    /// Which topic.
    pub topic: Topic,
    /// What is said.
    pub changes: TopicChanges,
}

impl Change for Update {
    type Answer = CatalogueEntry;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        let (merchant, topic, event_type) = (self.merchant, self.topic.clone(), self.changes.event_type);
        wants.topic = Some(TopicWant { merchant, topic, event_type });
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<CatalogueEntry>> {
        let found = found(view)?;
        let old = found.entry.clone().ok_or(StoreError::NoTopic)?;
        let event_type = self.changes.event_type.unwrap_or(old.event_type);
        let spec = old.spec.clone().changed(self.changes.clone()).map_err(StoreError::Violation)?;
        if spec == old.spec {
            return Ok(Step::Done(old));
        }
        check_event_type(found, event_type)?;
        let before = auditing::topic(&old);
        let entry = CatalogueEntry { spec, event_type, updated_at: view.now, ..old };
        let (whose, about, after) = ((self.merchant, self.by.clone()), subject(&self.topic), auditing::topic(&entry));
        out.audit(Audited::changed(whose, Action::TopicUpdate, about, before, after));
        out.rows.others.push(Other::Topic { merchant: self.merchant, entry: entry.clone(), is_known: true });
        Ok(Step::Done(entry))
    }
}

/// Takes a topic out of the catalogue; its number is not given to another by itself.
pub struct Remove {
    /// On whose behalf.
    pub by: By,
    /// Which topic.
    pub topic: Topic,
}

impl Change for Remove {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.topic = Some(TopicWant { merchant: self.by.merchant, topic: self.topic.clone(), event_type: None });
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let told = auditing::topic(found(view)?.entry.as_ref().ok_or(StoreError::NoTopic)?);
        let (whose, about) = (self.by.whose(), subject(&self.topic));
        out.audit(Audited::new(whose, Action::TopicRemove, about, &told, &Told::NOTHING));
        out.rows.others.push(Other::TopicRemoved(self.by.merchant, self.topic.clone()));
        Ok(Step::Done(()))
    }
}

fn subject(topic: &Topic) -> Subject {
    Subject::named(SubjectKind::Topic, topic.as_str())
}

fn found<'a>(view: &View<'a>) -> Result<&'a TopicFound> {
    view.loaded.topic.as_ref().ok_or_else(|| StoreError::failed("a topic was not read"))
}

/// Fails if another topic has the number, or if there are none left to give.
fn check_event_type(found: &TopicFound, event_type: i64) -> Result<()> {
    if !EVENT_TYPES.contains(&event_type) {
        let problem = "is missing, and the highest number that there can be has been given out; give one that is free.";
        return Err(StoreError::Violation(Violation::new("event_type", problem)));
    }
    match &found.taken_by {
        None => Ok(()),
        Some(other) => {
            Err(StoreError::Violation(Violation::new("event_type", format!("{event_type} is that of {other}."))))
        }
    }
}
