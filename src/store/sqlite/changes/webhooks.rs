//! Registering, changing and deleting webhooks.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{params, params_from_iter};

use super::Result;
use crate::domain::id::{IncrementId, MerchantId, UserId, WebhookId};
use crate::domain::secret::SecretKey;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{OLD_SECRETS_MAX, OldSecret, Webhook, WebhookChanges, WebhookSpec};
use crate::store::sqlite::config::Limits;
use crate::store::sqlite::rows::{DEFINITION, definition};
use crate::store::sqlite::tx::{Announcement, Tx};
use crate::store::{StoreError, WebhookSelector};

/// Webhooks that one change of many looks at, and those that it alters, up to
/// so many bytes.
const LOOKED_AT_PER_CHANGE: usize = 1_000;
const CHANGED_PER_CHANGE: usize = 100;
const BYTES_PER_CHANGE: usize = 1_024 * 1_024;
/// And so many entries of their lists, each of which goes into the index.
const PATTERNS_PER_CHANGE: usize = 1_000;

/// Registers a webhook.
pub fn create(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    user: UserId,
    spec: WebhookSpec,
    quota: u32,
    limits: Limits,
) -> Result<Webhook> {
    if tx.memory.webhook_count(merchant) >= quota as usize {
        return Err(StoreError::WebhookQuota { max: quota });
    }
    check_length(tx, merchant, 0, &spec, limits)?;
    limits.room.check(tx.conn, merchant)?;
    let webhook = Webhook {
        webhook_id: WebhookId(0),
        merchant_id: merchant,
        created_by: user,
        spec,
        old_secrets: Vec::new(),
        last_increment_id: IncrementId::ZERO,
        settled_through: IncrementId::ZERO,
        acknowledged_through: IncrementId::ZERO,
        pulled_through: IncrementId::ZERO,
        consecutive_failures: 0,
        failing_since: None,
        pause: None,
        is_paused: false,
        disabled: None,
        is_recovering: false,
        created_at: tx.now,
        updated_at: tx.now,
    };
    let mut values = definition(&webhook);
    values.extend([Value::Integer(merchant.0), Value::Integer(user.0), Value::Integer(tx.now.0)]);
    let sql = format!(
        "INSERT INTO webhook ({DEFINITION}, merchant_id, user_id, created_at) VALUES ({})",
        placeholders(values.len())
    );
    tx.conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    let webhook = Webhook { webhook_id: WebhookId(tx.conn.last_insert_rowid()), ..webhook };
    put(tx, webhook.clone());
    Ok(webhook)
}

/// Changes a webhook's definition; on also lifts a disablement, and a secret
/// that is put in place of another ends those before it, too.
pub fn update(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    changes: WebhookChanges,
    limits: Limits,
) -> Result<Webhook> {
    let old = find(tx, merchant, id)?;
    let on = changes.is_active == Some(true);
    let is_other = changes.secret_key.as_ref().is_some_and(|secret| *secret != old.spec.secret_key);
    let old_secrets = if is_other { Vec::new() } else { old.old_secrets.clone() };
    let spec = old.spec.clone().changed(changes).map_err(StoreError::Violation)?;
    check_length(tx, merchant, old.spec.weight(), &spec, limits)?;
    let webhook = Webhook { spec, old_secrets, updated_at: tx.now, ..old };
    write(tx, if on { enabled(webhook) } else { webhook })
}

/// Lifts a disablement; a webhook that is not disabled stays as it is.
pub fn enable(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId) -> Result<Webhook> {
    let webhook = find(tx, merchant, id)?;
    if webhook.disabled.is_none() {
        return Ok(webhook);
    }
    let webhook = enabled(Webhook { updated_at: tx.now, ..webhook });
    write(tx, webhook)
}

/// Pauses a webhook, or has it go on; one that is as it is to be stays so.
pub fn set_paused(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, is_paused: bool) -> Result<Webhook> {
    let webhook = find(tx, merchant, id)?;
    if webhook.is_paused == is_paused {
        return Ok(webhook);
    }
    write(tx, Webhook { is_paused, updated_at: tx.now, ..webhook })
}

/// Puts a new secret in place of the old one, which goes on signing until `overlap_until`.
pub fn rotate_secret(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    id: WebhookId,
    secret: SecretKey,
    overlap_until: Timestamp,
) -> Result<Webhook> {
    let mut webhook = find(tx, merchant, id)?;
    let replaced = std::mem::replace(&mut webhook.spec.secret_key, secret);
    webhook.old_secrets.insert(0, OldSecret { secret_key: replaced, expires_at: overlap_until });
    webhook.old_secrets.retain(|old| old.expires_at > tx.now && old.secret_key != webhook.spec.secret_key);
    if webhook.old_secrets.len() > OLD_SECRETS_MAX {
        return Err(StoreError::TooManySecrets { max: OLD_SECRETS_MAX });
    }
    webhook.updated_at = tx.now;
    write(tx, webhook)
}

/// How many webhooks were selected, and where to go on if not all were looked at.
pub type Switched = (usize, Option<WebhookId>);

/// Switches webhooks behind one of them on or off; on also lifts a disablement.
/// Looks at so many, and changes so much, as a change may; the next one goes on.
pub fn set_active(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    which: &WebhookSelector,
    on: bool,
    after: WebhookId,
) -> Result<Switched> {
    let is_selected = |webhook: &Webhook| match which {
        WebhookSelector::All => true,
        WebhookSelector::Id(id) => webhook.webhook_id == *id,
        WebhookSelector::Listing(pattern) => webhook.spec.topics.list().contains(pattern),
    };
    let after = match which {
        WebhookSelector::Id(id) => WebhookId(id.0.saturating_sub(1)),
        _ => after,
    };
    let looked_at_max = if matches!(which, WebhookSelector::Id(_)) { 1 } else { LOOKED_AT_PER_CHANGE };
    let (mut looked_at, mut bytes, mut patterns, mut selected) = (0, 0, 0, 0);
    let (mut changed, mut next) = (Vec::new(), None);
    for entry in tx.memory.webhooks_behind(merchant, after) {
        let webhook = &entry.webhook;
        looked_at += 1;
        selected += usize::from(is_selected(webhook));
        if is_selected(webhook) && (webhook.spec.is_active != on || (webhook.disabled.is_some() && on)) {
            let webhook = Webhook::clone(webhook);
            bytes += webhook.spec.weight();
            patterns += webhook.spec.topics.as_str().split(',').count();
            changed.push(webhook);
        }
        let is_full =
            changed.len() == CHANGED_PER_CHANGE || bytes >= BYTES_PER_CHANGE || patterns >= PATTERNS_PER_CHANGE;
        if looked_at == looked_at_max || is_full {
            next = Some(webhook.webhook_id).filter(|_| !matches!(which, WebhookSelector::Id(_)));
            break;
        }
    }
    for webhook in &mut changed {
        webhook.spec.is_active = on;
        webhook.updated_at = tx.now;
        if on {
            webhook.is_recovering |= webhook.disabled.take().is_some();
        }
        write_definition(tx, webhook)?;
    }
    for webhook in changed {
        put(tx, webhook);
    }
    Ok((selected, next))
}

/// Fails with [`StoreError::WebhookBytes`] if the merchant's definitions become
/// longer, and too long, with this one in place of one that had so many bytes.
fn check_length(tx: &Tx<'_>, merchant: MerchantId, before: usize, spec: &WebhookSpec, limits: Limits) -> Result<()> {
    let (bytes, max) = (spec.weight(), limits.definition_bytes_max);
    let used = tx.memory.definition_bytes(merchant).saturating_sub(before).saturating_add(bytes);
    if bytes > before && used > max { Err(StoreError::WebhookBytes { used, max }) } else { Ok(()) }
}

/// Notes that the receiver has pulled what lies at or below this number, which
/// becomes delivered in steps. Fails with [`StoreError::NotPulled`] if no pull
/// has brought it, nor has it ended otherwise.
pub fn acknowledge(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, through: IncrementId) -> Result<()> {
    let webhook = find(tx, merchant, id)?;
    let known = webhook.pulled_through.max(webhook.settled_through);
    if through > known {
        return Err(StoreError::NotPulled { through: known });
    }
    if through > webhook.acknowledged_through
        && let Some(counters) = tx.memory.counters_mut(id)
    {
        counters.acknowledged_through = through;
        tx.memory.add_chore(id);
    }
    Ok(())
}

/// Notes that a pull brings all up to this number.
pub fn hand_out(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId, through: IncrementId) -> Result<()> {
    let webhook = find(tx, merchant, id)?;
    if through > webhook.pulled_through
        && let Some(counters) = tx.memory.counters_mut(id)
    {
        counters.pulled_through = through;
    }
    Ok(())
}

/// Deletes a webhook; its pending deliveries are cancelled in steps.
pub fn delete(tx: &mut Tx<'_>, merchant: MerchantId, id: WebhookId) -> Result<()> {
    find(tx, merchant, id)?;
    tx.conn
        .prepare_cached("UPDATE webhook SET deleted_at = ?2 WHERE webhook_id = ?1")?
        .execute(params![id.0, tx.now.0])?;
    tx.memory.delete_webhook(id);
    tx.news.push(Announcement::Webhook(id, None));
    Ok(())
}

/// Blots out the definition of a deleted webhook whose deliveries have all
/// ended: nobody asks for it any more.
pub fn blot_out(tx: &Tx<'_>, id: WebhookId) -> Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE webhook SET name = '', description = '', topics = '', url = NULL, extra_headers = '',
                secret_key = '', old_secrets = '[]', expansions = '{}', basic_username = NULL, basic_password = NULL
                WHERE webhook_id = ?1",
        )?
        .execute([id.0])?;
    Ok(())
}

/// The merchant's webhook, with its counters as they are now.
pub fn find(tx: &Tx<'_>, merchant: MerchantId, id: WebhookId) -> Result<Webhook> {
    let entry = tx.memory.webhook_of(merchant, id).ok_or(StoreError::NoWebhook)?;
    Ok(entry.counters.in_webhook(Webhook::clone(&entry.webhook)))
}

/// Writes a changed definition, and announces it.
pub fn write(tx: &mut Tx<'_>, webhook: Webhook) -> Result<Webhook> {
    write_definition(tx, &webhook)?;
    Ok(Webhook::clone(&put(tx, webhook)))
}

fn enabled(webhook: Webhook) -> Webhook {
    let is_recovering = webhook.is_recovering || webhook.disabled.is_some();
    Webhook { disabled: None, is_recovering, ..webhook }
}

/// Writes what an owner or the server says of a webhook.
pub fn write_definition(tx: &Tx<'_>, webhook: &Webhook) -> Result<()> {
    let mut values = definition(webhook);
    let sql = format!("UPDATE webhook SET ({DEFINITION}) = ({}) WHERE webhook_id = ?", placeholders(values.len()));
    values.push(Value::Integer(webhook.webhook_id.0));
    tx.conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}

/// `?, ?, ?`.
fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Puts a new or changed definition into memory and, with the counters as they
/// are now, into the news.
pub fn put(tx: &mut Tx<'_>, webhook: Webhook) -> Arc<Webhook> {
    let begins_anew = tx.memory.entry(webhook.webhook_id).is_some_and(|entry| webhook.begins_anew(&entry.webhook));
    if begins_anew && let Some(counters) = tx.memory.counters_mut(webhook.webhook_id) {
        (counters.consecutive_failures, counters.failing_since, counters.pause) = (0, None, None);
    }
    let counters = tx.memory.entry(webhook.webhook_id).map(|entry| entry.counters);
    let webhook = Arc::new(match counters {
        Some(counters) => counters.in_webhook(webhook),
        None => webhook,
    });
    tx.news.push(Announcement::Webhook(webhook.webhook_id, Some(Arc::clone(&webhook))));
    tx.memory.put_webhook(Arc::clone(&webhook));
    webhook
}
