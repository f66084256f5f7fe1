//! Places for what lasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::MerchantId;

/// Places for what lasts, of one kind. One merchant may have as many as are
/// left free, so that whoever else comes finds some, however many have come
/// before.
#[derive(Debug)]
pub struct Places {
    /// What has them, as callers are told.
    what: &'static str,
    max: usize,
    taken: Mutex<HashMap<MerchantId, usize>>,
}

/// A place that is taken.
pub struct Place {
    places: Arc<Places>,
    merchant: MerchantId,
}

impl Places {
    /// So many, all free.
    pub fn new(what: &'static str, max: usize) -> Arc<Self> {
        Arc::new(Self { what, max, taken: Mutex::default() })
    }

    /// Takes one. Fails with fault 111 if there is none.
    pub fn take(self: &Arc<Self>, merchant: MerchantId) -> Result<Place, Fault> {
        let mut taken = self.taken();
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&merchant).copied().unwrap_or(0));
        let free = self.max.saturating_sub(all);
        if own < free {
            taken.insert(merchant, own + 1);
            return Ok(Place { places: Arc::clone(self), merchant });
        }
        let (who, count) = if free == 0 { ("server", all) } else { ("merchant", own) };
        let problem = format!("The {who} has {count} {}, the most it may. Retry once some have ended.", self.what);
        Err(Fault::new(FaultCode::InvalidSelection).detail(problem))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<MerchantId, usize>> {
        self.taken.lock().expect("nothing panics while it holds the places")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get_mut(&self.merchant) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.merchant)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merchant_has_as_many_places_as_are_left_free() {
        let places = Places::new("subscriptions", 16);
        let all = |merchant| -> Vec<_> { std::iter::from_fn(|| places.take(MerchantId(merchant)).ok()).collect() };
        let merchants: Vec<_> = (1..6).map(all).collect();
        assert_eq!(merchants.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4, 2, 1, 1]);
        assert!(places.take(MerchantId(6)).is_err());
        drop(merchants);
        assert!(places.taken().is_empty());
    }
}
