//! Which deliveries go out in one request: a pure function of what waits and
//! of `now`.

use std::collections::VecDeque;

use super::{batch_bytes_max, batched_bytes_max};
use crate::domain::policy::Batching;
use crate::domain::time::Timestamp;
use crate::store::Parcel;

/// The most bytes of the body of a batch, whatever its webhook asks for: a lane
/// has all of it in memory at once.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What is in front of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// So many go out in one request, now as far as batches are concerned.
    Whole(usize),
    /// A batch that may still grow: it goes out as it is then, or once what is
    /// being read has come.
    Growing(Option<Timestamp>),
}

/// True if it goes out in a batch with others like it.
pub fn is_batched(parcel: &Parcel, batching: Option<Batching>) -> bool {
    let is_fresh = parcel.attempts == 0 && parcel.due_at.is_none() && parcel.batch.is_none();
    batching.is_some() && is_fresh && parcel.format.takes_batches()
}

/// What is in front of those that wait, if there are any. A batch is of
/// numbers that follow each other; it is whole when it is full, when another
/// can't join it, or when its first has waited long enough.
pub fn head(waiting: &VecDeque<Parcel>, batching: Option<Batching>, growth: Growth, now: Timestamp) -> Option<Head> {
    let first = waiting.front()?;
    let Some(batching) = batching.filter(|_| is_batched(first, batching)) else { return Some(Head::Whole(1)) };
    let bytes_max = BATCH_BYTES_MAX.min(batching.max_bytes() as usize);
    let mut bytes = 0;
    let mut next = first.increment_id;
    let mut count = 0;
    for parcel in waiting {
        bytes += batched_bytes_max(&parcel.event);
        let is_full = count == batching.max_events() as usize || batch_bytes_max(first.format, bytes) > bytes_max;
        // The body is of one format, which is pinned with each number.
        let joins = parcel.increment_id == next && parcel.format == first.format && is_batched(parcel, Some(batching));
        if count > 0 && (is_full || !joins) {
            return Some(Head::Whole(count));
        }
        count += 1;
        next = next.next();
    }
    let goes_at = first.numbered_at.after(batching.wait());
    // A time in the future is from before the clock went back.
    let has_waited = goes_at <= now || first.numbered_at > now;
    Some(match growth {
        Growth::Reading => Head::Growing(None),
        Growth::Possible if count < batching.max_events() as usize && !has_waited => Head::Growing(Some(goes_at)),
        Growth::Possible | Growth::Impossible => Head::Whole(count),
    })
}

/// Whether what waits can become more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// More is being read.
    Reading,
    /// Whatever comes next can join it.
    Possible,
    /// It is as much as a lane may load.
    Impossible,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::event::Message;
    use crate::domain::id::{IncrementId, WebhookId};
    use crate::domain::webhook::Format;
    use crate::render::samples::{NOW, parcel};
    use crate::store::Content;

    fn batching(max_events: u32, max_bytes: u32) -> Option<Batching> {
        Some(Batching::try_new(max_events, Some(max_bytes), Some(500)).unwrap())
    }

    fn fresh(numbers: &[i64]) -> VecDeque<Parcel> {
        numbers.iter().map(|number| parcel(*number, 0, None)).collect()
    }

    fn head_of(waiting: &VecDeque<Parcel>, batching: Option<Batching>) -> Option<Head> {
        head(waiting, batching, Growth::Possible, NOW)
    }

    #[test]
    fn a_batch_is_of_one_format() {
        let mut waiting = fresh(&[1, 2, 3]);
        waiting[2].format = Format::UltraCart;
        assert_eq!(head_of(&waiting, batching(9, 1_024)), Some(Head::Whole(2)));
        waiting.pop_front();
        waiting.pop_front();
        assert!(matches!(head_of(&waiting, batching(9, 1_024)), Some(Head::Growing(_))));
        waiting[0].format = Format::Shipstream;
        assert_eq!(head_of(&waiting, batching(9, 1_024)), Some(Head::Whole(1)));
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_has_waited() {
        let at = NOW.after(std::time::Duration::from_millis(500));
        assert_eq!(head_of(&fresh(&[]), batching(3, 1_024)), None);
        assert_eq!(head_of(&fresh(&[1, 2]), None), Some(Head::Whole(1)));
        let two = fresh(&[1, 2]);
        assert_eq!(head_of(&two, batching(3, 1_024)), Some(Head::Growing(Some(at))));
        assert_eq!(head(&two, batching(3, 1_024), Growth::Possible, at), Some(Head::Whole(2)));
        assert_eq!(head(&two, batching(3, 1_024), Growth::Impossible, NOW), Some(Head::Whole(2)));
        assert_eq!(head(&two, batching(3, 1_024), Growth::Reading, at), Some(Head::Growing(None)));
        assert_eq!(head_of(&fresh(&[1, 2, 3]), batching(3, 1_024)), Some(Head::Whole(3)));
        assert_eq!(head_of(&fresh(&[1, 2, 3, 4]), batching(3, 1_024)), Some(Head::Whole(3)));
        // The clock went back by an hour.
        let earlier = Timestamp(NOW.0 - 3_600_000);
        assert_eq!(head(&two, batching(3, 1_024), Growth::Possible, earlier), Some(Head::Whole(2)));
    }

    #[test]
    fn what_can_t_join_ends_a_batch() {
        let batching = batching(10, 1_024);
        assert_eq!(head_of(&fresh(&[1, 2, 4]), batching), Some(Head::Whole(2)));
        for other in [parcel(2, 1, Some(NOW)), parcel(2, 0, Some(NOW))] {
            let mut waiting = fresh(&[1]);
            waiting.push_back(other);
            assert_eq!(head_of(&waiting, batching), Some(Head::Whole(1)));
            waiting.pop_front();
            assert_eq!(head_of(&waiting, batching), Some(Head::Whole(1)));
        }
        let mut pinned = fresh(&[1, 2]);
        pinned[1].format = Format::Shipstream;
        assert_eq!(head_of(&pinned, batching), Some(Head::Whole(1)));
    }

    #[test]
    fn a_body_is_never_larger_than_asked_for() {
        for length in [0, 100, 400, 2_000] {
            let mut waiting = fresh(&(1..=100).map(|n| n + 1_000_000_000_000_000_000).collect::<Vec<_>>());
            for parcel in &mut waiting {
                let message = format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
                Arc::get_mut(&mut parcel.event).unwrap().message = Message::try_new(&message).unwrap();
            }
            let Some(Head::Whole(count)) = head_of(&waiting, batching(100, 2_048)) else { panic!("{length}") };
            let mut parcels = waiting.into_iter().take(count);
            let first = parcels.next().unwrap();
            let sent = Parcel { batch: Some(parcels.map(Content::from).collect()), ..first };
            let body = crate::render::body(WebhookId(i64::MAX), &sent, usize::MAX).unwrap();
            assert!(body.len() <= 2_048 || count == 1, "{length}: {}", body.len());
            assert!(count > 1 || length > 800, "{length}: {count}");
            assert_eq!(sent.numbers().last, IncrementId(first_number() + count as i64 - 1));
        }
    }

    fn first_number() -> i64 {
        1_000_000_000_000_000_001
    }
}
