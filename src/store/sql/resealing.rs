//! Secrets that are not sealed as they would be now, sealed anew in steps.

use super::db::{Db, Value, all, values};
use super::definition::{SECRETS, is_nothing};
use crate::domain::id::WebhookId;
use crate::store::error::StoreError;
use crate::store::vault::{Place, Vault};

type Result<T> = std::result::Result<T, StoreError>;

/// Webhooks that are looked at in a step.
const WEBHOOKS_PER_STEP: u32 = 100;

/// Goes over all webhooks once for the keys that there are.
#[derive(Debug)]
pub struct Resealing {
    /// Behind which webhook it goes on; `None`: it is done.
    after: Option<WebhookId>,
    /// For which keys.
    generation: u64,
    /// Webhooks whose secrets it has sealed.
    sealed: usize,
}

impl Resealing {
    /// Begins; without a key there is nothing to do.
    pub fn new(vault: &Vault) -> Self {
        let after = if vault.ids().is_empty() { None } else { Some(WebhookId(0)) };
        Self { after, generation: vault.generation(), sealed: 0 }
    }

    /// True if there is something to look at.
    pub fn is_due(&self, vault: &Vault) -> bool {
        self.after.is_some() || self.generation != vault.generation()
    }

    /// Looks at some webhooks, and seals what is to be sealed; of how many.
    pub fn step(&mut self, db: &mut dyn Db, vault: &Vault) -> Result<usize> {
        if self.generation != vault.generation() {
            *self = Self::new(vault);
        }
        let Some(after) = self.after else { return Ok(0) };
        let columns = SECRETS.join(", ");
        let sql =
            format!("SELECT webhook_id, {columns} FROM webhook WHERE webhook_id > $1 ORDER BY webhook_id LIMIT $2");
        let found = all(db, &sql, values![after.0, WEBHOOKS_PER_STEP], |row| {
            let stored: Result<Vec<_>> = (1..=SECRETS.len()).map(|column| row.string_if(column)).collect();
            Ok((WebhookId(row.int(0)?), stored?))
        })?;
        let mut sealed = 0;
        for (id, stored) in &found {
            sealed += usize::from(reseal(db, vault, *id, stored)?);
        }
        self.sealed += sealed;
        let is_last = found.len() < WEBHOOKS_PER_STEP as usize;
        self.after = found.last().map(|(id, _)| *id).filter(|_| !is_last);
        if self.after.is_none() && self.sealed > 0 {
            let key = vault.ids().first().map(ToString::to_string);
            tracing::info!(webhooks = self.sealed, key, "secrets were sealed anew");
        }
        Ok(sealed)
    }
}

/// Seals those of a webhook anew that are not sealed as they would be now; true if some
/// were not. What somebody else writes meanwhile is left as he writes it.
fn reseal(db: &mut dyn Db, vault: &Vault, id: WebhookId, stored: &[Option<String>]) -> Result<bool> {
    let mut anew = stored.to_vec();
    for (text, column) in anew.iter_mut().zip(SECRETS) {
        if let Some(old) = text.as_deref().filter(|old| !is_nothing(old) && !vault.is_current(old)) {
            let place = Place { webhook: id, column };
            match vault.open_secret(place, old) {
                Ok(secret) => *text = Some(vault.seal(place, &secret).into_owned()),
                Err(cause) => tracing::error!(%cause, "a secret stays as it is, for it can't be opened"),
            }
        }
    }
    if anew == stored {
        return Ok(false);
    }
    // $1 is the webhook, then come the columns as they are to be, and as they were.
    let columns = || SECRETS.iter().zip(2..);
    let set: Vec<_> = columns().map(|(column, number)| format!("{column} = ${number}")).collect();
    let were = columns().map(|(column, number)| format!("{column} IS NOT DISTINCT FROM ${}", number + SECRETS.len()));
    let were: Vec<_> = were.collect();
    let sql = format!("UPDATE webhook SET {} WHERE webhook_id = $1 AND {}", set.join(", "), were.join(" AND "));
    let texts = anew.iter().chain(stored).map(|text| text.as_deref().into());
    let values: Vec<Value<'_>> = std::iter::once(id.0.into()).chain(texts).collect();
    Ok(db.run(&sql, &values)? > 0)
}
