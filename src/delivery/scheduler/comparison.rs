//! A look at how all webhooks stand in the store, compared with the lanes: what
//! falls due, was changed or is gone is found though nobody has told of it, or
//! what was told was lost. There may be more webhooks than one turn of the
//! thread has time for, so they are compared in parts.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use std::vec::IntoIter;

use super::Scheduler;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::webhook::{Version, Webhook};
use crate::store::Glimpse;

/// Webhooks that are compared in a part.
pub const PER_PART: usize = 1_000;
/// Definitions that are read after one look, at most; the next look finds the
/// others.
const REDEFINED_MAX: usize = 256;

/// A webhook whose definition is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Redefine {
    /// Which.
    pub webhook_id: WebhookId,
    /// Whose.
    pub merchant_id: MerchantId,
    /// Which definition was known, if any.
    known: Option<Version>,
}

/// Of a look with the lanes, and how far it is.
pub struct Comparison {
    glimpses: Peekable<IntoIter<Glimpse>>,
    /// All webhooks up to this one were compared.
    after: WebhookId,
    stale: Vec<Redefine>,
}

impl Comparison {
    /// With what the look saw, in the order of ids.
    pub fn new(glimpses: Vec<Glimpse>) -> Self {
        Self { glimpses: glimpses.into_iter().peekable(), after: WebhookId(0), stale: Vec::new() }
    }

    fn find_stale(&mut self, redefine: Redefine) {
        if self.stale.len() < REDEFINED_MAX {
            self.stale.push(redefine);
        }
    }
}

/// What a part of a look has come to.
pub enum Compared {
    /// There is a further part.
    Goes(Comparison),
    /// All was compared; these definitions are to be read, and given to
    /// [`Scheduler::redefine`].
    Whole(Vec<Redefine>),
}

impl Scheduler {
    /// Compares the next lanes with how the store says that they stand. What falls
    /// due and nobody has told of is taken in. `ahead` is told of webhooks with
    /// committed numbers that their lanes do not know of: those are to be
    /// announced.
    pub fn compare(&mut self, mut comparison: Comparison, mut ahead: impl FnMut(WebhookId, IncrementId)) -> Compared {
        for _ in 0..PER_PART {
            let lane = self.ids.range((Bound::Excluded(comparison.after), Bound::Unbounded)).next().copied();
            let seen = comparison.glimpses.peek().map(|glimpse| glimpse.webhook_id);
            let Some(id) = lane.into_iter().chain(seen).min() else { return Compared::Whole(comparison.stale) };
            comparison.after = id;
            match comparison.glimpses.next_if(|glimpse| glimpse.webhook_id == id) {
                Some(glimpse) => self.compare_one(&mut comparison, &glimpse, &mut ahead),
                None => self.note_missing(&mut comparison, id),
            }
        }
        Compared::Goes(comparison)
    }

    fn compare_one(
        &mut self,
        comparison: &mut Comparison,
        glimpse: &Glimpse,
        ahead: &mut impl FnMut(WebhookId, IncrementId),
    ) {
        let (webhook_id, merchant_id) = (glimpse.webhook_id, glimpse.merchant_id);
        let lane = self.lanes.get(&webhook_id);
        let known = lane.map(|lane| lane.webhook.version());
        if known != Some(glimpse.version) {
            comparison.find_stale(Redefine { webhook_id, merchant_id, known });
        }
        let Some(lane) = lane else { return };
        if lane.committed_through() < glimpse.last_increment_id {
            ahead(webhook_id, glimpse.last_increment_id);
        }
        if let Some(first) = glimpse.first_due
            && !lane.knows_due(first)
        {
            self.with_lane(webhook_id, |lane| lane.heed_due(first));
        }
    }

    /// The store has no such webhook, or had none when it was looked at.
    fn note_missing(&self, comparison: &mut Comparison, webhook_id: WebhookId) {
        let Some(lane) = self.lanes.get(&webhook_id) else { return };
        let (merchant_id, known) = (lane.webhook.merchant_id, Some(lane.webhook.version()));
        comparison.find_stale(Redefine { webhook_id, merchant_id, known });
    }

    /// Takes a definition in as it was read (`None`: it is deleted), unless
    /// another has been announced meanwhile.
    pub fn redefine(&mut self, redefine: Redefine, webhook: Option<Arc<Webhook>>) {
        let Redefine { webhook_id, known, .. } = redefine;
        if self.lanes.get(&webhook_id).map(|lane| lane.webhook.version()) != known {
            return;
        }
        match webhook {
            Some(webhook) if Some(webhook.version()) != known => self.put_webhook(webhook_id, webhook),
            Some(_) => {}
            None => self.remove(webhook_id),
        }
    }
}
