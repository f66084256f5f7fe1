//! How the store tells the delivery worker what it has committed, without
//! ever waiting for it: news of the same webhook merge, and deliveries are
//! handed over only while there is room; the rest the worker pages. Receivers
//! that pull wait here, too, for numbers they do not have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::Parcel;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::webhook::Webhook;

/// The most deliveries that wait in the mailbox.
const PARCELS_MAX: usize = 4_096;
/// The most they weigh together, in bytes.
const PARCEL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What has been committed since the worker last looked.
#[derive(Debug, Default)]
pub struct News {
    /// Webhooks that are new or changed, as they are now; `None`: deleted.
    pub changed: HashMap<WebhookId, Option<Arc<Webhook>>>,
    /// The last number committed for each webhook that got any.
    pub committed_through: HashMap<WebhookId, IncrementId>,
    /// New deliveries in the order of their numbers; some may be left out.
    pub parcels: Vec<(WebhookId, Parcel)>,
}

/// Holds the news until the worker takes them.
#[derive(Debug, Default)]
pub struct Mailbox {
    post: Mutex<Post>,
    arrived: Notify,
    pulls: Mutex<Pulls>,
}

/// What receivers that pull wait for.
#[derive(Debug, Default)]
struct Pulls {
    /// The last number of each webhook that got any since the start.
    latest: HashMap<WebhookId, IncrementId>,
    /// Webhooks that are waited for: a commit wakes those it concerns.
    waited_for: HashMap<WebhookId, Arc<Notify>>,
}

#[derive(Debug, Default)]
struct Post {
    news: News,
    parcel_bytes: usize,
}

impl Mailbox {
    /// Announces a new, changed or deleted webhook.
    pub fn announce_webhook(&self, id: WebhookId, webhook: Option<Arc<Webhook>>) {
        if webhook.is_none() {
            self.pulls().latest.remove(&id);
        }
        self.post().news.changed.insert(id, webhook);
        self.arrived.notify_one();
    }

    /// Announces that all numbers of a webhook up to this one are committed.
    pub fn announce_through(&self, id: WebhookId, through: IncrementId) {
        self.post().news.committed_through.insert(id, through);
        self.arrived.notify_one();
    }

    /// Announces the deliveries of one commit, in the order of their numbers.
    pub fn announce_parcels(&self, parcels: Vec<(WebhookId, Parcel)>) {
        if parcels.is_empty() {
            return;
        }
        let mut pulls = self.pulls();
        for (id, parcel) in &parcels {
            pulls.latest.insert(*id, parcel.increment_id);
            if let Some(waiters) = pulls.waited_for.remove(id) {
                waiters.notify_waiters();
            }
        }
        drop(pulls);
        let mut post = self.post();
        for (id, parcel) in parcels {
            post.news.committed_through.insert(id, parcel.increment_id);
            let bytes = post.parcel_bytes + parcel.weight();
            if post.news.parcels.len() < PARCELS_MAX && bytes <= PARCEL_BYTES_MAX {
                post.parcel_bytes = bytes;
                post.news.parcels.push((id, parcel));
            }
        }
        drop(post);
        self.arrived.notify_one();
    }

    /// Waits until there may be news. An announcement made before the call
    /// counts, so nothing is missed between [`Self::take`] and this.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Waits until the webhook has been given a number beyond `after`; does
    /// not see those that were given out before the start.
    pub async fn numbered_beyond(&self, id: WebhookId, after: IncrementId) {
        loop {
            let notified = {
                let mut pulls = self.pulls();
                if pulls.latest.get(&id).is_some_and(|last| *last > after) {
                    return;
                }
                // Made under the lock, so it hears of every number that comes after.
                Arc::clone(pulls.waited_for.entry(id).or_default()).notified_owned()
            };
            notified.await;
        }
    }

    /// Takes all there is.
    pub fn take(&self) -> News {
        std::mem::take(&mut *self.post()).news
    }

    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().expect("nothing panics while it holds the post")
    }

    fn pulls(&self) -> MutexGuard<'_, Pulls> {
        self.pulls.lock().expect("nothing panics while it holds the pulls")
    }
}
