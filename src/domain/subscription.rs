//! Which webhooks an event goes to: an index from topic to webhooks, so that
//! a publish costs as much as it has receivers, however many subscribe.

use std::collections::{BTreeSet, HashMap};

use super::id::{MerchantId, WebhookId};
use super::topic::{Pattern, Patterns, Topic};

/// The subscriptions of all merchants.
#[derive(Debug, Default)]
pub struct SubscriptionIndex {
    merchants: HashMap<MerchantId, MerchantIndex>,
}

#[derive(Debug, Default)]
struct MerchantIndex {
    everything: BTreeSet<WebhookId>,
    resource: HashMap<String, BTreeSet<WebhookId>>,
    exact: HashMap<String, BTreeSet<WebhookId>>,
}

impl SubscriptionIndex {
    /// From now on `webhook` gets what its patterns match.
    pub fn insert(&mut self, merchant: MerchantId, webhook: WebhookId, patterns: &Patterns) {
        let index = self.merchants.entry(merchant).or_default();
        for pattern in patterns.list() {
            match pattern {
                Pattern::Everything => index.everything.insert(webhook),
                Pattern::Resource(word) => index.resource.entry(word.clone()).or_default().insert(webhook),
                Pattern::Exact(topic) => index.exact.entry(topic.as_str().to_owned()).or_default().insert(webhook),
            };
        }
    }

    /// From now on `webhook` gets nothing. `patterns` are those it was inserted with.
    pub fn remove(&mut self, merchant: MerchantId, webhook: WebhookId, patterns: &Patterns) {
        let Some(index) = self.merchants.get_mut(&merchant) else { return };
        for pattern in patterns.list() {
            match pattern {
                Pattern::Everything => {
                    index.everything.remove(&webhook);
                }
                Pattern::Resource(word) => take_out(&mut index.resource, word, webhook),
                Pattern::Exact(topic) => take_out(&mut index.exact, topic.as_str(), webhook),
            }
        }
        if index.everything.is_empty() && index.resource.is_empty() && index.exact.is_empty() {
            self.merchants.remove(&merchant);
        }
    }

    /// The webhooks of `merchant` that an event of `topic` goes to, each
    /// once, in the order of their ids.
    pub fn matching(&self, merchant: MerchantId, topic: &Topic) -> Vec<WebhookId> {
        let Some(index) = self.merchants.get(&merchant) else { return Vec::new() };
        let mut found = Vec::new();
        if !topic.is_operational() {
            found.extend(&index.everything);
        }
        found.extend(index.resource.get(topic.resource()).into_iter().flatten());
        found.extend(index.exact.get(topic.as_str()).into_iter().flatten());
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn take_out(map: &mut HashMap<String, BTreeSet<WebhookId>>, key: &str, webhook: WebhookId) {
    if let Some(webhooks) = map.get_mut(key) {
        webhooks.remove(&webhook);
        if webhooks.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fuzz;

    const ACME: MerchantId = MerchantId(1);

    /// The index must say what asking every webhook's patterns says.
    fn check(patterns: &[Patterns]) {
        let mut index = SubscriptionIndex::default();
        for (n, p) in (1..).zip(patterns) {
            index.insert(ACME, WebhookId(n), p);
        }
        for text in
            ["order:created", "order:canceled", "product:created", "a:b", "tallyhook:webhook_disabled", "test:ping"]
        {
            let topic = Topic::try_new(text).unwrap();
            let expected: Vec<_> =
                (1..).zip(patterns).filter(|(_, p)| p.matches(&topic)).map(|(n, _)| WebhookId(n)).collect();
            assert_eq!(index.matching(ACME, &topic), expected, "{text}");
            assert!(index.matching(MerchantId(2), &topic).is_empty());
        }
        for (n, p) in (1..).zip(patterns) {
            index.remove(ACME, WebhookId(n), p);
        }
        assert!(index.merchants.is_empty(), "nothing stays behind");
    }

    #[test]
    fn agrees_with_the_patterns() {
        let lists =
            ["*", "order:*", "order:created", "order:created,order:*,*", "product:*,order:canceled", "tallyhook:*"];
        check(&lists.map(|text| Patterns::try_new(text).unwrap()));
    }

    #[test]
    fn fuzz_subscriptions() {
        const WORDS: &[&str] =
            &["order", "product", "tallyhook", ":created", ":canceled", ":*", "*", "test:ping", "a:b", ",", ";"];
        fuzz::texts(WORDS, |lists| {
            check(&lists.split(';').filter_map(|text| Patterns::try_new(text).ok()).collect::<Vec<_>>());
        });
    }
}
