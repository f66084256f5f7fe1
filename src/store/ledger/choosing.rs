//! Which of a webhook's numbers are to be sent again, by what their owner asks
//! for. It only reads, so it can be asked before as well as while it is done.

use super::wants::{Scan, Scanned};
use crate::domain::delivery::DeliveryFilter;
use crate::domain::id::{IncrementId, Span, WebhookId};
use crate::domain::job::Unavailable;
use crate::domain::policy::BATCH_EVENTS;
use crate::domain::time::Timestamp;
use crate::domain::topic::Topic;

/// How far to look at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Numbers that are looked at, …
    pub looked_at: usize,
    /// … and those that are found; a batch is not divided.
    pub found: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Those to send, each with its batch.
    pub spans: Vec<Span>,
    /// How many numbers that is.
    pub count: usize,
    /// What is asked for, but can't be sent.
    pub unavailable: Unavailable,
    /// Numbers that were looked at, …
    pub looked_at: usize,
    /// … all up to this one.
    pub through: i64,
}

/// What has to be read for it.
pub fn scan(webhook_id: WebhookId, first: IncrementId, bounds: Bounds) -> Scan {
    let max = bounds.looked_at.saturating_add(*BATCH_EVENTS.end() as usize);
    Scan { webhook_id, first, max: u32::try_from(max).unwrap_or(u32::MAX) }
}

/// Looks at numbers up to `last`: a batch is asked for if its last number was
/// given out at the right time, and any of it fits otherwise.
pub fn choose(
    id: WebhookId,
    scanned: &[Scanned],
    filter: &DeliveryFilter,
    last: IncrementId,
    bounds: Bounds,
) -> Chosen {
    let mut chosen = Chosen { through: last.0, ..Chosen::default() };
    let mut rest = scanned;
    while let Some(first) = rest.first() {
        let span = first.standing.batch.unwrap_or(Span::one(first.number));
        let count = rest.iter().take_while(|one| one.number <= span.last).count();
        let (group, behind) = rest.split_at(count);
        if group.last().is_none_or(|one| one.number < span.last) {
            // What was read ends within it.
            break;
        }
        rest = behind;
        chosen.take(id, span, group, filter);
        if span.last >= last || chosen.looked_at >= bounds.looked_at || chosen.count >= bounds.found {
            chosen.through = span.last.0;
            break;
        }
    }
    chosen
}

impl Chosen {
    fn take(&mut self, id: WebhookId, span: Span, group: &[Scanned], filter: &DeliveryFilter) {
        let created_at = group.last().map_or(Timestamp(0), |one| one.created_at);
        let topics = || group.iter().filter_map(|one| one.topic.as_ref());
        self.looked_at += group.len();
        let is_in_time =
            filter.since.is_none_or(|since| created_at >= since) && filter.until.is_none_or(|until| created_at < until);
        let is_of_topics =
            filter.topics.as_ref().is_none_or(|wanted| topics().any(|topic: &Topic| wanted.matches(topic)));
        let is_in_state = group.iter().any(|one| one.standing.is_meant_by(filter.state));
        if !is_in_time || !is_of_topics || !is_in_state {
            return;
        }
        if topics().count() == group.len() {
            self.count += group.len();
            self.spans.push(span);
        } else {
            let found = Unavailable { count: group.len() as u64, first: Some((id, span.first)) };
            self.unavailable = self.unavailable + found;
        }
    }
}
