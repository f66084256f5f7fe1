//! Whether a book says what the store says.

use super::{Book, Entry};
use crate::domain::topic::Topic;
use crate::domain::webhook::Webhook;
use crate::store::ledger::bulk::Job;

impl Book {
    /// What it says otherwise than one that was read from the store just now,
    /// as far as either is asked; whom events of these topics go to included.
    pub fn difference(&self, stored: &Self, topics: &[Topic]) -> Option<String> {
        if (self.ids, self.numbers) != (stored.ids, stored.numbers) {
            return Some(format!("{:?} {}, stored {:?} {}", self.ids, self.numbers, stored.ids, stored.numbers));
        }
        for (id, entry) in &stored.webhooks {
            let own = self.webhooks.get(id);
            if !own.is_some_and(|own| is_same(own, entry)) {
                let said = |entry: &Entry| format!("{:?} {:?}", entry.counters, entry.webhook);
                return Some(format!("webhook {id} is {:?}, stored {}", own.map(said), said(entry)));
            }
        }
        // Of a deleted one nothing may be left but to be told so.
        if let Some((id, _)) =
            self.webhooks.iter().find(|(id, entry)| !entry.is_deleted && !stored.webhooks.contains_key(*id))
        {
            return Some(format!("webhook {id} is not in the store"));
        }
        for merchant in self.by_merchant.keys().chain(stored.by_merchant.keys()) {
            let counts = |book: &Self| (book.webhook_count(*merchant), book.definition_bytes(*merchant));
            if counts(self) != counts(stored) {
                return Some(format!("merchant {merchant} has {:?}, stored {:?}", counts(self), counts(stored)));
            }
            if let Some(topic) = topics
                .iter()
                .find(|topic| self.matching(*merchant, topic, None) != stored.matching(*merchant, topic, None))
            {
                return Some(format!("{topic} of {merchant} goes to others than is stored"));
            }
        }
        let fanouts = (self.fanouts.texts(), stored.fanouts.texts());
        if fanouts.0 != fanouts.1 {
            return Some(format!("fan-outs {:?}, stored {:?}", fanouts.0, fanouts.1));
        }
        let jobs = |book: &Self| book.jobs.all().into_iter().map(shown).collect::<Vec<_>>();
        if jobs(self) != jobs(stored) {
            return Some(format!("jobs {:?}, stored {:?}", jobs(self), jobs(stored)));
        }
        let sizes = (self.logs.sizes(), stored.logs.sizes());
        if sizes.0 != sizes.1 {
            return Some(format!("logs {:?}, stored {:?}", sizes.0, sizes.1));
        }
        // One that was pruned meanwhile need not be forgotten.
        let lost = stored.forgetting.all().iter().find(|event| !self.forgetting.all().contains(event));
        lost.map(|event| format!("event {event} is to be forgotten, and nobody knows"))
    }
}

/// The same, apart from the counters of when it was announced.
fn is_same(one: &Entry, other: &Entry) -> bool {
    let said = |entry: &Entry| {
        let Webhook { created_at, updated_at, disabled, is_paused, is_recovering, .. } = *entry.webhook;
        (entry.counters, entry.is_deleted, (created_at, updated_at), (disabled, is_paused, is_recovering))
    };
    let (own, others) = (&*one.webhook, &*other.webhook);
    said(one) == said(other) && own.spec == others.spec && own.old_secrets == others.old_secrets
}

fn shown(job: &Job) -> String {
    let Job { job_id, webhook_id, next, last, progress, .. } = job;
    format!("{job_id} at {webhook_id}: {next} to {last}, {progress:?}")
}
