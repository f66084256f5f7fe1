//! Whose turn it is: what is to be done for webhooks goes round by merchant, and
//! by webhook within a merchant, so that nobody waits for all that another has.

use std::collections::{HashMap, HashSet, VecDeque};

use super::bulk::Job;
use crate::domain::id::{JobId, MerchantId, WebhookId};

/// Webhooks for which there is something to do, each once.
#[derive(Default)]
pub struct Turns {
    merchants: VecDeque<MerchantId>,
    webhooks: HashMap<MerchantId, VecDeque<WebhookId>>,
    waiting: HashSet<WebhookId>,
}

impl Turns {
    /// Puts a webhook behind its merchant's others, unless it waits already.
    pub fn push(&mut self, merchant: MerchantId, id: WebhookId) {
        if !self.waiting.insert(id) {
            return;
        }
        let line = self.webhooks.entry(merchant).or_default();
        if line.is_empty() {
            self.merchants.push_back(merchant);
        }
        line.push_back(id);
    }

    /// Takes the next webhook of the merchant whose turn it is.
    pub fn pop(&mut self) -> Option<(MerchantId, WebhookId)> {
        let merchant = self.merchants.pop_front()?;
        let line = self.webhooks.get_mut(&merchant)?;
        let id = line.pop_front()?;
        if line.is_empty() {
            self.webhooks.remove(&merchant);
        } else {
            self.merchants.push_back(merchant);
        }
        self.waiting.remove(&id);
        Some((merchant, id))
    }

    /// For how many webhooks there is something to do.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Jobs that are not done, by turns.
#[derive(Default)]
pub struct Jobs {
    turns: Turns,
    lines: HashMap<WebhookId, VecDeque<Job>>,
    /// Those for which there was no room in the store.
    parked: Vec<Job>,
    /// How many stand in lines.
    waiting: usize,
    counts: HashMap<MerchantId, usize>,
}

impl Jobs {
    /// Adds a new one.
    pub fn add(&mut self, job: Job) {
        *self.counts.entry(job.merchant_id).or_default() += 1;
        self.put_back(job);
    }

    /// Takes the one whose turn it is. It counts until it is removed.
    pub fn take_next(&mut self) -> Option<Job> {
        let (merchant, id) = self.turns.pop()?;
        let line = self.lines.get_mut(&id)?;
        let job = line.pop_front();
        self.waiting -= usize::from(job.is_some());
        if line.is_empty() {
            self.lines.remove(&id);
        } else {
            self.turns.push(merchant, id);
        }
        job
    }

    /// Puts one that is not done behind the others of its webhook.
    pub fn put_back(&mut self, job: Job) {
        self.turns.push(job.merchant_id, job.webhook_id);
        self.waiting += 1;
        self.lines.entry(job.webhook_id).or_default().push_back(job);
    }

    /// Puts one aside until there may be room for it.
    pub fn park(&mut self, job: Job) {
        self.parked.push(job);
    }

    /// Takes one that is of this webhook now, whether it is its turn or not. It
    /// counts until it is removed.
    fn take(&mut self, id: WebhookId, job_id: JobId) -> Option<Job> {
        if let Some(place) = self.parked.iter().position(|job| job.job_id == job_id) {
            return Some(self.parked.swap_remove(place));
        }
        let line = self.lines.get_mut(&id)?;
        let job = line.iter().position(|job| job.job_id == job_id).and_then(|place| line.remove(place));
        self.waiting -= usize::from(job.is_some());
        if line.is_empty() {
            self.lines.remove(&id);
        }
        job
    }

    /// Does no more of one, which is of this webhook now.
    pub fn cancel(&mut self, id: WebhookId, job_id: JobId) {
        if let Some(job) = self.take(id, job_id) {
            self.remove(&job);
        }
    }

    /// Has those go on that were put aside.
    pub fn unpark(&mut self) {
        for job in std::mem::take(&mut self.parked) {
            self.put_back(job);
        }
    }

    /// Forgets one that is done.
    pub fn remove(&mut self, job: &Job) {
        if let Some(count) = self.counts.get_mut(&job.merchant_id) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&job.merchant_id);
            }
        }
    }

    /// How many a merchant has.
    pub fn of_merchant(&self, merchant: MerchantId) -> usize {
        self.counts.get(&merchant).copied().unwrap_or(0)
    }

    /// How many a webhook has.
    pub fn of_webhook(&self, id: WebhookId) -> usize {
        let parked = self.parked.iter().filter(|job| job.webhook_id == id).count();
        self.lines.get(&id).map_or(0, VecDeque::len) + parked
    }

    /// How many can go on.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// All of them, by id.
    #[cfg(test)]
    pub fn all(&self) -> Vec<&Job> {
        let mut all: Vec<_> = self.lines.values().flatten().chain(&self.parked).collect();
        all.sort_by_key(|job| job.job_id);
        all
    }

    /// True if none can go on.
    pub fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merchants_take_turns_and_their_webhooks_within() {
        let (ann, bob) = (MerchantId(1), MerchantId(2));
        let mut turns = Turns::default();
        for (merchant, id) in [(ann, 1), (ann, 2), (ann, 3), (bob, 9), (ann, 1), (bob, 8)] {
            turns.push(merchant, WebhookId(id));
        }
        let mut order = Vec::new();
        while let Some((_, WebhookId(id))) = turns.pop() {
            order.push(id);
            if order.len() == 1 {
                turns.push(ann, WebhookId(1));
            }
        }
        assert_eq!(order, [1, 9, 2, 8, 3, 1]);
        assert!(turns.is_empty() && turns.webhooks.is_empty());
    }
}
