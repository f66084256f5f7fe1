//! What nodes tell one another by NOTIFY: hints, which may be lost, and no truths.
//! Whoever hears one looks at the store, or would have a little later.

use std::collections::{BTreeSet, HashMap};

use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::node::{Bucket, NodeId};

/// The most bytes that a notification takes.
const PAYLOAD_MAX: usize = 7_900;

/// Something that others may want to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Numbers of a webhook up to this one are committed.
    Through(WebhookId, IncrementId),
    /// There is something in the journal of a merchant.
    Journal(MerchantId),
    /// There are notes for the one who sends for a bucket.
    Notes(Bucket),
    /// Webhooks were made, changed or deleted.
    Webhooks,
    /// Leases are to be had, or nodes have come or gone.
    Leases,
}

/// What waits to be told.
#[derive(Default)]
pub struct Hints {
    through: HashMap<WebhookId, IncrementId>,
    journals: BTreeSet<MerchantId>,
    notes: BTreeSet<Bucket>,
    are_webhooks_changed: bool,
    are_leases_changed: bool,
}

impl Hints {
    /// Adds one.
    pub fn add(&mut self, hint: Hint) {
        match hint {
            Hint::Through(id, number) => {
                let known = self.through.entry(id).or_insert(number);
                *known = number.max(*known);
            }
            Hint::Journal(merchant) => drop(self.journals.insert(merchant)),
            Hint::Notes(bucket) => drop(self.notes.insert(bucket)),
            Hint::Webhooks => self.are_webhooks_changed = true,
            Hint::Leases => self.are_leases_changed = true,
        }
    }

    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.through.is_empty()
            && self.journals.is_empty()
            && self.notes.is_empty()
            && !self.are_webhooks_changed
            && !self.are_leases_changed
    }

    /// All of them, as notifications of that node.
    pub fn payloads(self, node: NodeId) -> Vec<String> {
        let words = self.through.into_iter().map(|(id, number)| format!("t{id}:{number}"));
        let words = words.chain(self.journals.into_iter().map(|merchant| format!("j{merchant}")));
        let words = words.chain(self.notes.into_iter().map(|Bucket(bucket)| format!("b{bucket}")));
        let words = words.chain(self.are_webhooks_changed.then(|| "w".to_owned()));
        let words = words.chain(self.are_leases_changed.then(|| "l".to_owned()));
        let mut payloads: Vec<String> = Vec::new();
        for word in words {
            match payloads.last_mut().filter(|last| last.len() + 1 + word.len() <= PAYLOAD_MAX) {
                Some(last) => {
                    last.push(' ');
                    last.push_str(&word);
                }
                None => payloads.push(format!("{node} {word}")),
            }
        }
        payloads
    }
}

/// What another node has told; what can't be read is passed over, for a newer one may
/// have more to say.
pub fn heard(payload: &str, node: NodeId) -> Vec<Hint> {
    let mut words = payload.split(' ');
    if words.next().and_then(|from| from.parse().ok()) == Some(node.0) {
        return Vec::new();
    }
    words.filter_map(hint).collect()
}

fn hint(word: &str) -> Option<Hint> {
    match word {
        "w" => return Some(Hint::Webhooks),
        "l" => return Some(Hint::Leases),
        _ => {}
    }
    let (kind, rest) = word.split_at_checked(1)?;
    match kind {
        "t" => {
            let (id, number) = rest.split_once(':')?;
            Some(Hint::Through(WebhookId(id.parse().ok()?), IncrementId(number.parse().ok()?)))
        }
        "j" => rest.parse().ok().map(|id| Hint::Journal(MerchantId(id))),
        "b" => rest.parse().ok().map(|bucket| Hint::Notes(Bucket(bucket))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_by_others_alone() {
        let (id, number) = (WebhookId(7), IncrementId(9));
        let all = [
            Hint::Through(id, number),
            Hint::Journal(MerchantId(5)),
            Hint::Notes(Bucket(255)),
            Hint::Webhooks,
            Hint::Leases,
        ];
        let mut hints = Hints::default();
        assert!(hints.is_empty());
        hints.add(Hint::Through(id, IncrementId(8)));
        hints.add(Hint::Notes(Bucket(255)));
        all.into_iter().for_each(|hint| hints.add(hint));
        let payloads = hints.payloads(NodeId(1));
        assert_eq!(payloads.len(), 1);
        assert_eq!(heard(&payloads[0], NodeId(2)), all);
        assert_eq!(heard(&payloads[0], NodeId(1)), []);
    }

    #[test]
    fn much_is_told_in_parts_and_what_is_unknown_is_passed_over() {
        let mut hints = Hints::default();
        (1..=1_000).for_each(|id| hints.add(Hint::Through(WebhookId(id), IncrementId(1_000_000_000))));
        let payloads = hints.payloads(NodeId(1));
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() < 8_000));
        assert_eq!(payloads.iter().flat_map(|payload| heard(payload, NodeId(2))).count(), 1_000);
        assert_eq!(heard("3 x1:2 t1 t:1 tä1:2 b256 j w", NodeId(2)), [Hint::Webhooks]);
        assert_eq!(heard("", NodeId(2)), []);
    }
}
