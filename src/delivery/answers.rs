//! What is read of answers for the log, until it is recorded: bounded in all,
//! and by merchant, however many receivers answer at length at once. What
//! finds no room is left out of the log; the outcome itself never is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::domain::id::MerchantId;
use crate::work::may_take;

/// The room for answers.
#[derive(Debug)]
pub struct Answers {
    bytes_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_merchant: HashMap<MerchantId, usize>,
}

impl Answers {
    /// Room for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, taken: Mutex::default() }
    }

    /// Room for one answer, with nothing in it yet.
    pub fn begin(self: &Arc<Self>, merchant: MerchantId) -> Kept {
        Kept { answers: Arc::clone(self), merchant, bytes: 0 }
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().expect("nothing panics while it holds the sums")
    }
}

/// What one answer takes up, until this is dropped.
#[derive(Debug)]
pub struct Kept {
    answers: Arc<Answers>,
    merchant: MerchantId,
    bytes: usize,
}

impl Kept {
    /// Takes room for so many bytes more; false if there is none.
    pub fn grow(&mut self, more: usize) -> bool {
        let mut taken = self.answers.taken();
        let own = taken.by_merchant.get(&self.merchant).copied().unwrap_or(0);
        let has_room = may_take(more, own, taken.all, self.answers.bytes_max);
        if has_room && more > 0 {
            taken.all += more;
            *taken.by_merchant.entry(self.merchant).or_default() += more;
            self.bytes += more;
        }
        has_room
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.answers.taken();
        taken.all -= self.bytes;
        if let Some(own) = taken.by_merchant.get_mut(&self.merchant) {
            *own -= self.bytes;
            if *own == 0 {
                taken.by_merchant.remove(&self.merchant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_merchant_leaves_room_for_others_and_gives_back_what_it_had() {
        let answers = Arc::new(Answers::new(1_000));
        let mut ann: Vec<_> = (0..9).map(|_| answers.begin(MerchantId(1))).collect();
        let taken = ann.iter_mut().filter_map(|answer| answer.grow(100).then_some(())).count();
        assert_eq!(taken, 5, "half of it");
        let mut bob = answers.begin(MerchantId(2));
        assert_eq!((0..9).filter(|_| bob.grow(100)).count(), 3, "as much as is left free");
        drop((ann, bob));
        assert_eq!(answers.taken().all, 0);
        assert!(answers.taken().by_merchant.is_empty());
    }
}
