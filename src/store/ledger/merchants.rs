//! Merchants: making them, how much they may have, and pausing them.

use super::auditing::{self, Audited, Told};
use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Other};
pub use super::new_user::FirstUser;
use super::news::Announcement;
pub use super::wants::MerchantFound;
use super::wants::Wants;
use crate::domain::audit::Action;
use crate::domain::by::By;
use crate::domain::id::MerchantId;
use crate::domain::merchant::{MerchantTerms, QuotaChanges, Quotas};
use crate::store::error::StoreError;

/// Nobody's id: no merchant has any users before there is one.
const NOBODY: MerchantId = MerchantId(0);

/// Makes a merchant, and its first user with it. Fails with [`StoreError::CodeTaken`] if another
/// has the code, and with [`StoreError::NameTaken`] if the user's name is given, or was.
pub struct CreateMerchant {
    /// On whose behalf; `None`: the operator's own, at the command line.
    pub by: Option<By>,
    /// Its code.
    pub code: String,
    /// How much it may have.
    pub quotas: Quotas,
    /// Who logs in for it.
    pub user: Option<FirstUser>,
}

impl Change for CreateMerchant {
    type Answer = MerchantId;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.merchant_code = Some(self.code.clone());
        wants.user_name = self.user.as_ref().map(|user| (NOBODY, user.name.clone()));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<MerchantId>> {
        let merchant = view.loaded.new_merchant.ok_or(StoreError::CodeTaken)?;
        if self.user.is_some() && view.loaded.is_name_given {
            return Err(StoreError::NameTaken);
        }
        let (quotas, whose) = (self.quotas, (merchant, self.by.clone()));
        out.rows.others.push(Other::NewMerchant { merchant, code: self.code.clone(), quotas });
        let told = match quotas == Quotas::default() {
            true => Told::NOTHING,
            false => auditing::quotas(quotas),
        };
        out.audit(Audited::new(
            whose.clone(),
            Action::MerchantCreate,
            auditing::merchant(&self.code),
            &Told::NOTHING,
            &told,
        ));
        if let Some(user) = self.user.clone() {
            let user = user.of(merchant);
            let told = auditing::new_user(&user, view.book.terms.fingerprint_key);
            out.audit(Audited::new(whose, Action::UserCreate, auditing::user(&user.name), &Told::NOTHING, &told));
            out.rows.others.push(Other::NewUser(Box::new(user)));
        }
        Ok(Step::Done(merchant))
    }
}

/// Changes what operators say of a merchant. Fails with [`StoreError::NoMerchant`], and with
/// [`StoreError::Violation`] of a quota that can't be.
pub struct AlterMerchant {
    /// Which.
    pub merchant: MerchantId,
    /// On whose behalf; `None`: the operator's own, at the command line.
    pub by: Option<By>,
    /// What is done.
    pub what: MerchantAlteration,
}

/// What is done to a merchant.
#[derive(Clone, Copy, Debug)]
pub enum MerchantAlteration {
    /// It may have as much from now on; what is left out stays.
    Quotas(QuotaChanges),
    /// Nothing is published and delivered for it, or it goes on; one that is as it is to be stays so.
    Paused(bool),
}

impl Change for AlterMerchant {
    /// What is said of it then.
    type Answer = MerchantTerms;

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.merchant = Some(self.merchant);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<MerchantTerms>> {
        let MerchantFound { code, terms: old } = view.loaded.merchant.as_deref().ok_or(StoreError::NoMerchant)?;
        let new = match self.what {
            MerchantAlteration::Quotas(said) => {
                MerchantTerms { quotas: said.apply(old.quotas).map_err(StoreError::Violation)?, ..*old }
            }
            MerchantAlteration::Paused(is_paused) => {
                MerchantTerms { paused_at: is_paused.then(|| old.paused_at.unwrap_or(view.now)), ..*old }
            }
        };
        let (action, before, after) = match self.what {
            MerchantAlteration::Quotas(_) => {
                (Action::MerchantUpdate, auditing::quotas(old.quotas), auditing::quotas(new.quotas))
            }
            MerchantAlteration::Paused(is_paused) => {
                let [before, after] = [old, &new].map(|terms| auditing::time("paused_at", terms.paused_at));
                (if is_paused { Action::MerchantPause } else { Action::MerchantResume }, before, after)
            }
        };
        let whose = (self.merchant, self.by.clone());
        let Some(audited) = Audited::changed(whose, action, auditing::merchant(code), before, after) else {
            return Ok(Step::Done(new));
        };
        out.audit(audited);
        out.rows.others.push(Other::MerchantTerms(self.merchant, new));
        if new.paused_at != old.paused_at {
            out.news.push(Announcement::Paused(self.merchant, new.paused_at.is_some()));
        }
        Ok(Step::Done(new))
    }
}
