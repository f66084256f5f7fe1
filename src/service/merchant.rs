//! Merchants, for operators; what one has, for its own admins, too.

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::MerchantId;
use crate::domain::merchant::{Merchant, QuotaChanges, Quotas};
use crate::domain::page::{Slice, read_sort};
use crate::domain::secret::{KeyHash, generate_api_key};
use crate::domain::user::{Permission, Permissions, User, check_name};
use crate::store::{FirstUser, Holdings, MerchantAlteration, UserBy};

const CHANGE: Failures = Failures { refused: FaultCode::MerchantNotChanged, failed: FaultCode::MerchantNotChanged };

/// What merchants may be sorted by.
pub const SORT_KEYS: [&str; 1] = ["merchant_id"];
/// How many a list holds if its caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

/// Which part of a list of merchants, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct MerchantPage {
    /// Only those behind this one.
    pub after_merchant_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// A merchant to be made, as a caller says it.
#[derive(Clone, Debug)]
pub struct NewMerchant {
    /// Its code.
    pub code: String,
    /// How much it may have.
    pub quotas: QuotaChanges,
    /// Who is to log in for it: its name, and what it may do.
    pub user: Option<(String, Vec<String>)>,
}

/// A merchant that was made.
pub struct Made {
    /// The merchant.
    pub merchant: Merchant,
    /// Its first user, and that one's key, which is shown only now.
    pub user: Option<(User, String)>,
}

/// A merchant, and what it has.
pub struct Described {
    /// The merchant.
    pub merchant: Merchant,
    /// What it has.
    pub holdings: Holdings,
    /// How many of its deliveries are to be sent.
    pub pending_deliveries: u64,
    /// How many events were published today, if they are counted.
    pub events_today: Option<u32>,
}

impl Service {
    /// Merchants in the order of their ids, for an operator. Fails with fault 111.
    pub async fn list_merchants(&self, caller: &Caller, page: MerchantPage) -> Result<Vec<Merchant>, Fault> {
        caller.check(Permission::Operator)?;
        let checked = read_sort(page.sort.as_deref(), &SORT_KEYS).and_then(|(_, order)| {
            let limit = self.check_limit(page.limit, LIST_LIMIT_DEFAULT)?;
            Ok(Slice { after: page.after_merchant_id.map(MerchantId), order, limit })
        });
        let slice = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let found = self.store.merchants(slice, caller.merchant().into()).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Makes a merchant, and its first user with it, for an operator. Fails with fault 125.
    pub async fn create_merchant(&self, caller: &Caller, said: NewMerchant) -> Result<Made, Fault> {
        caller.check(Permission::Operator)?;
        let NewMerchant { code, quotas, user } = said;
        check_name("merchant", &code).map_err(wrong)?;
        let quotas = quotas.apply(Quotas::default()).map_err(wrong)?;
        let api_key = generate_api_key();
        let first = user.map(|(name, permissions)| {
            check_name("user", &name)?;
            let permissions = Permissions::of_names(permissions.iter().map(String::as_str))?;
            Ok(FirstUser { name, key: KeyHash::of(&api_key), permissions })
        });
        let first = first.transpose().map_err(wrong)?;
        let name = first.as_ref().map(|user| user.name.clone());
        let made = self.store.create_merchant(caller.by()?, code.clone(), quotas, first).await;
        made.map_err(|cause| CHANGE.fault(cause))?;
        let user = match name {
            None => None,
            Some(name) => {
                let found = self.store.user(UserBy::Name(&name), caller.merchant().into()).await;
                found.map_err(|cause| CHANGE.fault(cause))?.map(|user| (user, api_key))
            }
        };
        Ok(Made { merchant: self.merchant_of(caller, &code).await?, user })
    }

    /// A merchant and what it has: any for an operator, and for an admin his own. Fails with
    /// fault 124.
    pub async fn get_merchant(&self, caller: &Caller, code: Option<&str>) -> Result<Described, Fault> {
        let code = code.unwrap_or(&caller.merchant_code);
        if !caller.permissions.allow(Permission::Operator) {
            caller.check(Permission::Admin)?;
            if code != caller.merchant_code {
                return Err(none());
            }
        }
        let merchant = self.merchant_of(caller, code).await?;
        let holdings = self.store.holdings(merchant.merchant_id, caller.merchant().into()).await;
        let holdings = holdings.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
        let pending_deliveries = self.pending_of(merchant.merchant_id).await?;
        let day = holdings.event_day.map(|day| day.at(self.clock.now()));
        let events_today = merchant.terms.quotas.events_per_day.map(|_| day.map_or(0, |day| day.events));
        Ok(Described { merchant, holdings, pending_deliveries, events_today })
    }

    /// Changes how much a merchant may have, for an operator. Fails with fault 124 or 125.
    pub async fn set_quotas(&self, caller: &Caller, code: &str, quotas: QuotaChanges) -> Result<Merchant, Fault> {
        self.alter_merchant(caller, code, MerchantAlteration::Quotas(quotas)).await
    }

    /// Has nothing published and delivered for a merchant any more, or has it go on, for an
    /// operator; users may log in, and read. Fails likewise.
    pub async fn pause_merchant(&self, caller: &Caller, code: &str, is_paused: bool) -> Result<Merchant, Fault> {
        self.alter_merchant(caller, code, MerchantAlteration::Paused(is_paused)).await
    }

    async fn alter_merchant(&self, caller: &Caller, code: &str, what: MerchantAlteration) -> Result<Merchant, Fault> {
        caller.check(Permission::Operator)?;
        let merchant = self.merchant_of(caller, code).await?;
        let altered = self.store.alter_merchant(caller.by()?, merchant.merchant_id, what).await;
        let terms = altered.map_err(|cause| match CHANGE.fault(cause) {
            fault if fault.code == FaultCode::InvalidWebhook => Fault { code: FaultCode::MerchantNotChanged, ..fault },
            fault => fault,
        })?;
        Ok(Merchant { terms, ..merchant })
    }

    async fn merchant_of(&self, caller: &Caller, code: &str) -> Result<Merchant, Fault> {
        let found = self.store.merchant(code, caller.merchant().into()).await;
        found.map_err(|cause| Failures::LOOK_UP.fault(cause))?.ok_or_else(none)
    }
}

impl Caller {
    /// Fails with fault 126 if its merchant is paused.
    pub fn check_running(&self) -> Result<(), Fault> {
        let Some(since) = self.merchant_terms.paused_at else { return Ok(()) };
        let detail = format!(
            "An operator has paused it at {since}: nothing is published and delivered until it is resumed, and what is \
             there can be read."
        );
        Err(Fault::new(FaultCode::MerchantPaused).detail(detail))
    }
}

fn none() -> Fault {
    Fault::new(FaultCode::NoMerchant).detail("There is no such merchant, or it is not your own; an operator names any.")
}

fn wrong(violation: Violation) -> Fault {
    violation.into_fault(FaultCode::MerchantNotChanged)
}
