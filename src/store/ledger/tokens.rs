//! Making tokens, and taking them back.

use super::auditing::{self, Audited, Told};
use super::book::Book;
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Other};
use super::wants::Wants;
use crate::domain::audit::{Action, Subject, SubjectKind};
use crate::domain::by::By;
use crate::domain::id::TokenId;
use crate::domain::token::NewToken;
use crate::store::error::StoreError;

/// Makes a token. Fails with [`StoreError::TokenQuota`].
pub struct CreateToken {
    /// On whose behalf, and for whom it will act.
    pub by: By,
    /// What is made.
    pub token: NewToken,
    /// How many the merchant may have.
    pub quota: u32,
}

impl Change for CreateToken {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.tokens = Some(self.by.merchant);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        if view.loaded.tokens >= self.quota {
            return Err(StoreError::TokenQuota { max: self.quota });
        }
        let told = auditing::new_token(&self.token, view.book.terms.fingerprint_key);
        // Its number is given by the table; people know it by its name.
        let subject = Subject::named(SubjectKind::Token, &*self.token.name);
        out.audit(Audited::new(self.by.whose(), Action::TokenCreate, subject, &Told::NOTHING, &told));
        out.rows.others.push(Other::NewToken(self.by.clone(), Box::new(self.token.clone())));
        Ok(Step::Done(()))
    }
}

/// Takes a token back: its key is worthless at once. Fails with [`StoreError::NoToken`] if there is
/// no such token, or it is another user's and only the own may be taken back.
pub struct RevokeToken {
    /// On whose behalf.
    pub by: By,
    /// Whether tokens of all users of the merchant may be taken back.
    pub of_all: bool,
    /// Which.
    pub token_id: TokenId,
}

impl Change for RevokeToken {
    type Answer = ();

    fn wants(&self, _: &Book, wants: &mut Wants) {
        wants.token = Some((self.by.merchant, self.token_id));
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let found = view.loaded.token.as_deref();
        let (user, token) =
            found.filter(|(user, _)| self.of_all || *user == self.by.user).ok_or(StoreError::NoToken)?;
        let subject = Subject::named(SubjectKind::Token, &*token.name);
        let told = auditing::old_token(token).with("user_id", user.0).with("token_id", token.token_id.0);
        out.audit(Audited::new(self.by.whose(), Action::TokenRevoke, subject, &told, &Told::NOTHING));
        out.rows.others.push(Other::TokenRevoked(self.token_id));
        Ok(Step::Done(()))
    }
}
