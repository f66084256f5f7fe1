//! Merchants: whose everything is, whether they are paused, and how much they may have.

use super::fault::Violation;
use super::id::MerchantId;
use super::time::Timestamp;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// The most that a quota may be, but for those that have a bound of their own.
pub const QUOTA_MAX: i64 = 1_000_000_000;
/// The most that a quota of webhooks, or of calls a second, may be.
pub const SMALL_QUOTA_MAX: i64 = 1_000_000;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merchant {
    /// Its id.
    pub merchant_id: MerchantId,
    /// Its name, unique in the store.
    pub code: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What operators say of it.
    pub terms: MerchantTerms,
}

/// What operators say of a merchant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MerchantTerms {
    /// Since when nothing is published and nothing delivered for it; `None`: it is not paused.
    pub paused_at: Option<Timestamp>,
    /// How much it may have.
    pub quotas: Quotas,
}

/// How much a merchant may have; `None`: as much as the server lets anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Webhooks.
    pub webhooks: Option<u32>,
    /// Deliveries that are to be sent.
    pub pending_deliveries: Option<u32>,
    /// Events that are published in a day of UTC.
    pub events_per_day: Option<u32>,
    /// Calls of all its users together in a second.
    pub calls_per_second: Option<u32>,
}

/// How many quotas there are.
pub const QUOTAS: usize = 4;

impl Quotas {
    /// Each by its name on the wire, in the order of the members.
    pub fn members(self) -> [(&'static str, Option<u32>); QUOTAS] {
        let Self { webhooks, pending_deliveries, events_per_day, calls_per_second } = self;
        [
            ("webhooks", webhooks),
            ("pending_deliveries", pending_deliveries),
            ("events_per_day", events_per_day),
            ("calls_per_second", calls_per_second),
        ]
    }
}

/// What of a merchant's quotas is to be another: what is left out stays, and what is `None` is
/// no quota any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuotaChanges {
    /// Webhooks.
    pub webhooks: Option<Option<i64>>,
    /// Deliveries that are to be sent.
    pub pending_deliveries: Option<Option<i64>>,
    /// Events in a day.
    pub events_per_day: Option<Option<i64>>,
    /// Calls in a second.
    pub calls_per_second: Option<Option<i64>>,
}

impl QuotaChanges {
    /// The quotas with these changes. Fails if one is not within its bounds.
    pub fn apply(self, old: Quotas) -> Result<Quotas, Violation> {
        let pending = (self.pending_deliveries, old.pending_deliveries);
        Ok(Quotas {
            pending_deliveries: changed("quotas.pending_deliveries", pending.0, pending.1, QUOTA_MAX)?,
            events_per_day: changed("quotas.events_per_day", self.events_per_day, old.events_per_day, QUOTA_MAX)?,
            webhooks: changed("quotas.webhooks", self.webhooks, old.webhooks, SMALL_QUOTA_MAX)?,
            calls_per_second: changed(
                "quotas.calls_per_second",
                self.calls_per_second,
                old.calls_per_second,
                SMALL_QUOTA_MAX,
            )?,
        })
    }

    /// True if nothing is to be another.
    pub fn is_empty(self) -> bool {
        let Self { webhooks, pending_deliveries, events_per_day, calls_per_second } = self;
        [webhooks, pending_deliveries, events_per_day, calls_per_second].iter().all(Option::is_none)
    }
}

fn changed(
    field: &'static str,
    said: Option<Option<i64>>,
    old: Option<u32>,
    max: i64,
) -> Result<Option<u32>, Violation> {
    match said {
        None => Ok(old),
        Some(None) => Ok(None),
        Some(Some(quota)) => {
            let fitting = u32::try_from(quota).ok().filter(|_| (1..=max).contains(&quota));
            let problem = || format!("{quota} is outside 1 to {max}; null is no quota, and a pause stops everything.");
            fitting.map(Some).ok_or_else(|| Violation::new(field, problem()))
        }
    }
}

/// How many events of a merchant were published in a day of UTC, as far as they are counted:
/// events are while there is a quota of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventDay {
    /// Which day, from 1970 on.
    pub day: i64,
    /// How many, with those that a server has taken ahead of publishing them.
    pub events: u32,
}

impl EventDay {
    /// The day that it is then, and how many were published in it.
    pub fn at(self, now: Timestamp) -> Self {
        let today = now.0.div_euclid(DAY_MS);
        // If the clock goes back, it is still the same day.
        if self.day >= today { self } else { Self { day: today, events: 0 } }
    }

    /// When it ends.
    pub fn end(self) -> Timestamp {
        Timestamp((self.day + 1) * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_stays_and_null_ends_a_quota() {
        let old = Quotas { webhooks: Some(5), calls_per_second: Some(7), ..Quotas::default() };
        assert_eq!(QuotaChanges::default().apply(old), Ok(old));
        let said = QuotaChanges { webhooks: Some(None), ..QuotaChanges::default() };
        assert_eq!(said.apply(old), Ok(Quotas { webhooks: None, ..old }));
        assert!(QuotaChanges::default().is_empty() && !said.is_empty());
    }

    #[test]
    fn a_day_of_events_ends_at_midnight_and_no_sooner() {
        let day = EventDay { day: 1, events: 7 };
        assert_eq!(day.end(), Timestamp(2 * DAY_MS));
        assert_eq!(day.at(Timestamp(2 * DAY_MS - 1)), day);
        assert_eq!(day.at(Timestamp(2 * DAY_MS)), EventDay { day: 2, events: 0 });
        assert_eq!(day.at(Timestamp(0)), day, "the clock went back");
    }

    #[test]
    fn quotas_are_bounded() {
        let webhooks = |quota| QuotaChanges { webhooks: Some(Some(quota)), ..QuotaChanges::default() };
        for quota in [i64::MIN, -1, 0, SMALL_QUOTA_MAX + 1, i64::MAX] {
            assert_eq!(webhooks(quota).apply(Quotas::default()).unwrap_err().field, "quotas.webhooks", "{quota}");
        }
        for quota in [1, SMALL_QUOTA_MAX] {
            assert!(webhooks(quota).apply(Quotas::default()).is_ok(), "{quota}");
        }
        let events = |quota| QuotaChanges { events_per_day: Some(Some(quota)), ..QuotaChanges::default() };
        assert!(events(QUOTA_MAX).apply(Quotas::default()).is_ok());
        assert_eq!(events(QUOTA_MAX + 1).apply(Quotas::default()).unwrap_err().field, "quotas.events_per_day");
    }
}
