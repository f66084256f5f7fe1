//! Registering, changing and deleting webhooks.

use std::sync::Arc;

use super::auditing::{self, Audited, Told};
use super::book::{Book, Counters, Entry};
use super::change::{Change, Result, Step, View};
use super::decision::{Decision, Learned, Other};
use super::news::Announcement;
use super::wants::Wants;
use crate::domain::audit::Action;
use crate::domain::by::By;
use crate::domain::fault::Violation;
use crate::domain::id::{IncrementId, MerchantId, WebhookId};
use crate::domain::secret::SecretKey;
use crate::domain::signing::{Signing, SigningKey};
use crate::domain::time::Timestamp;
use crate::domain::topic::Pattern;
use crate::domain::webhook::{OLD_SECRETS_MAX, OldSecret, Webhook, WebhookChanges, WebhookSpec};
use crate::store::error::StoreError;

/// Webhooks that one change of many looks at, and those that it alters, up to
/// so many bytes.
const LOOKED_AT_PER_CHANGE: usize = 1_000;
const CHANGED_PER_CHANGE: usize = 100;
const BYTES_PER_CHANGE: usize = 1_024 * 1_024;
/// And so many entries of their lists, each of which goes into the index.
const PATTERNS_PER_CHANGE: usize = 1_000;

/// Registers a webhook.
pub struct Create {
    /// On whose behalf.
    pub by: By,
    /// What it is.
    pub spec: WebhookSpec,
    /// How many the merchant may have.
    pub quota: u32,
}

impl Change for Create {
    type Answer = Webhook;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        book.want_room(wants);
        wants.ids.webhook = 1;
        // What the server has to say of it will be published.
        book.want_code(self.by.merchant, wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Webhook>> {
        let used = view.book.webhook_count(self.by.merchant);
        if used >= self.quota as usize {
            return Err(StoreError::WebhookQuota { used, max: self.quota });
        }
        check_length(view, self.by.merchant, 0, &self.spec)?;
        view.check_room()?;
        let webhook = Webhook {
            webhook_id: out.next_webhook()?,
            merchant_id: self.by.merchant,
            created_by: self.by.user,
            spec: self.spec.clone(),
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
            created_at: view.now,
            updated_at: view.now,
        };
        let counters = Counters::of(&webhook);
        let webhook = announced(out, webhook, counters);
        out.rows.others.push(Other::NewWebhook(Arc::clone(&webhook)));
        let (whose, told) = (self.by.whose(), auditing::webhook(&webhook, view.book.terms.fingerprint_key));
        out.audit(Audited::new(whose, Action::WebhookCreate, webhook.webhook_id, &Told::NOTHING, &told));
        Ok(Step::Done(Webhook::clone(&webhook)))
    }
}

/// One webhook of a merchant, and what is done to it.
pub struct Alter {
    /// On whose behalf.
    pub by: By,
    /// Which.
    pub webhook_id: WebhookId,
    /// What is done.
    pub what: Alteration,
}

/// What is done to one webhook.
pub enum Alteration {
    /// Its definition changes; on also lifts a disablement, and a secret that is
    /// put in place of another ends those before it, too.
    Update(Box<WebhookChanges>),
    /// A disablement is lifted; a webhook that is not disabled stays as it is.
    Enable,
    /// It is paused, or goes on; one that is as it is to be stays so.
    Pause(bool),
    /// It gets a new secret or key in place of the old one, which goes on
    /// signing until then.
    RotateSecret(Box<Rotation>, Timestamp),
}

/// What a webhook is to sign with from now on.
pub struct Rotation {
    /// How; `None`: as before.
    pub signing: Option<Signing>,
    /// The secret that its owner has given.
    pub given: Option<SecretKey>,
    /// One that was made, unless a secret was given.
    pub secret_key: SecretKey,
    /// A private key that was made.
    pub signing_key: SigningKey,
}

impl Change for Alter {
    type Answer = Webhook;

    fn wants(&self, book: &Book, wants: &mut Wants) {
        book.want_counters(self.webhook_id, wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Webhook>> {
        let entry = find(view, &self.by, self.webhook_id)?;
        let old = entry.counters.in_webhook(Webhook::clone(&entry.webhook));
        let new = self.what.apply(view, &old)?;
        match new {
            None => Ok(Step::Done(old)),
            Some(new) => {
                audit(view, out, &self.by, self.what.action(), [&old, &new]);
                Ok(Step::Done(write(view, out, Webhook { updated_at: view.now, ..new })))
            }
        }
    }
}

impl Alteration {
    /// What is done, for the audit log.
    fn action(&self) -> Action {
        match self {
            Self::Update(_) => Action::WebhookUpdate,
            Self::Enable => Action::WebhookEnable,
            Self::Pause(true) => Action::WebhookPause,
            Self::Pause(false) => Action::WebhookResume,
            Self::RotateSecret(..) => Action::WebhookRotateSecret,
        }
    }

    /// What the webhook is then; `None`: as it is.
    fn apply(&self, view: &View<'_>, old: &Webhook) -> Result<Option<Webhook>> {
        let old = old.clone();
        Ok(match self {
            Self::Update(changes) => Some(updated(view, WebhookChanges::clone(changes), old)?),
            Self::Enable if old.disabled.is_none() => None,
            Self::Enable => Some(enabled(old)),
            Self::Pause(is_paused) if old.is_paused == *is_paused => None,
            Self::Pause(is_paused) => Some(Webhook { is_paused: *is_paused, ..old }),
            Self::RotateSecret(rotation, overlap_until) => Some(rotated(view, old, rotation, *overlap_until)?),
        })
    }
}

fn updated(view: &View<'_>, changes: WebhookChanges, old: Webhook) -> Result<Webhook> {
    let on = changes.is_active == Some(true);
    let spec = old.spec.clone().changed(changes).map_err(StoreError::Violation)?;
    let is_other = spec.signer() != old.spec.signer();
    let old_secrets = if is_other { Vec::new() } else { old.old_secrets.clone() };
    check_length(view, old.merchant_id, old.spec.weight(), &spec)?;
    let webhook = Webhook { spec, old_secrets, ..old };
    Ok(if on { enabled(webhook) } else { webhook })
}

fn rotated(view: &View<'_>, old: Webhook, rotation: &Rotation, overlap_until: Timestamp) -> Result<Webhook> {
    let mut webhook = old;
    let replaced = OldSecret { signer: webhook.spec.signer(), expires_at: overlap_until };
    match (rotation.signing.unwrap_or(webhook.spec.signing()), &rotation.given) {
        (Signing::Hmac, given) => {
            webhook.spec.secret_key = given.as_ref().unwrap_or(&rotation.secret_key).clone();
            webhook.spec.signing_key = None;
        }
        (Signing::Ed25519, None) => webhook.spec.signing_key = Some(rotation.signing_key.clone()),
        (Signing::Ed25519, Some(_)) => {
            let problem = "does not go with signing ed25519, where the server makes the key; leave it out.";
            return Err(StoreError::Violation(Violation::new("secret_key", problem)));
        }
    }
    webhook.old_secrets.insert(0, replaced);
    let own = webhook.spec.signer();
    webhook.old_secrets.retain(|old| old.expires_at > view.now && old.signer != own);
    if webhook.old_secrets.len() > OLD_SECRETS_MAX {
        return Err(StoreError::TooManySecrets { max: OLD_SECRETS_MAX });
    }
    Ok(webhook)
}

/// Which webhooks of a merchant to change.
#[derive(Clone, Debug)]
pub enum WebhookSelector {
    /// All of them.
    All,
    /// That one.
    Id(WebhookId),
    /// Those whose own list holds exactly this entry.
    Listing(Pattern),
}

/// Switches webhooks behind one of them on or off; on also lifts a disablement.
/// Looks at so many, and changes so much, as a change may; the next one goes on.
pub struct SetActive {
    /// On whose behalf.
    pub by: By,
    /// Which of them.
    pub which: Arc<WebhookSelector>,
    /// Whether on.
    pub on: bool,
    /// Those behind this one.
    pub after: WebhookId,
}

impl SetActive {
    fn selects(&self, webhook: &Webhook) -> bool {
        self.by.reaches(webhook)
            && match &*self.which {
                WebhookSelector::All => true,
                WebhookSelector::Id(id) => webhook.webhook_id == *id,
                WebhookSelector::Listing(pattern) => webhook.spec.topics.list().contains(pattern),
            }
    }
}

impl Change for SetActive {
    /// How many were selected, and where to go on if not all were looked at.
    type Answer = (usize, Option<WebhookId>);

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<Self::Answer>> {
        let (after, looked_at_max) = match &*self.which {
            WebhookSelector::Id(id) => (WebhookId(id.0.saturating_sub(1)), 1),
            _ => (self.after, LOOKED_AT_PER_CHANGE),
        };
        let (mut looked_at, mut selected, mut count, mut bytes, mut patterns) = (0, 0, 0, 0, 0);
        let mut next = None;
        for entry in view.book.webhooks_behind(self.by.merchant, after) {
            let webhook = &entry.webhook;
            looked_at += 1;
            if self.selects(webhook) {
                selected += 1;
                if webhook.spec.is_active != self.on || (webhook.disabled.is_some() && self.on) {
                    count += 1;
                    bytes += webhook.spec.weight();
                    patterns += webhook.spec.topics.as_str().split(',').count();
                    let mut webhook = Webhook { updated_at: view.now, ..Webhook::clone(webhook) };
                    webhook.spec.is_active = self.on;
                    let webhook = if self.on { enabled(webhook) } else { webhook };
                    audit(view, out, &self.by, Action::WebhookUpdateStatus, [&entry.webhook, &webhook]);
                    write(view, out, webhook);
                }
            }
            let is_full = count == CHANGED_PER_CHANGE || bytes >= BYTES_PER_CHANGE || patterns >= PATTERNS_PER_CHANGE;
            if looked_at == looked_at_max || is_full {
                next = Some(webhook.webhook_id).filter(|_| !matches!(*self.which, WebhookSelector::Id(_)));
                break;
            }
        }
        Ok(Step::Done((selected, next)))
    }
}

/// Fails with [`StoreError::WebhookBytes`] if the merchant's definitions become
/// longer, and too long, with this one in place of one that had so many bytes.
fn check_length(view: &View<'_>, merchant: MerchantId, before: usize, spec: &WebhookSpec) -> Result<()> {
    let (bytes, max) = (spec.weight(), view.book.terms.definition_bytes_max);
    let used = view.book.definition_bytes(merchant).saturating_sub(before).saturating_add(bytes);
    if bytes > before && used > max { Err(StoreError::WebhookBytes { used, max }) } else { Ok(()) }
}

/// Notes that the receiver has pulled what lies at or below a number, which
/// becomes delivered in steps. Fails with [`StoreError::NotPulled`] if no pull
/// has brought it, nor has it ended otherwise.
pub struct Acknowledge {
    /// On whose behalf.
    pub by: By,
    /// Which webhook.
    pub webhook_id: WebhookId,
    /// Up to which number.
    pub through: IncrementId,
}

impl Change for Acknowledge {
    type Answer = ();

    fn wants(&self, book: &Book, wants: &mut Wants) {
        book.want_counters(self.webhook_id, wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let (id, through) = (self.webhook_id, self.through);
        let entry = find(view, &self.by, id)?;
        let known = entry.counters.pulled_through.max(entry.counters.settled_through);
        if through > known {
            return Err(StoreError::NotPulled { through: known });
        }
        if through > entry.counters.acknowledged_through {
            let counters = Counters { acknowledged_through: through, ..entry.counters };
            out.learned.push(Learned::Counters(id, counters));
            out.learned.push(Learned::Chore(id));
        }
        Ok(Step::Done(()))
    }
}

/// Notes that a pull brings all up to a number.
pub struct HandOut {
    /// On whose behalf.
    pub by: By,
    /// Which webhook.
    pub webhook_id: WebhookId,
    /// Up to which number.
    pub through: IncrementId,
}

impl Change for HandOut {
    type Answer = ();

    fn wants(&self, book: &Book, wants: &mut Wants) {
        book.want_counters(self.webhook_id, wants);
    }

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let entry = find(view, &self.by, self.webhook_id)?;
        if self.through > entry.counters.pulled_through {
            let counters = Counters { pulled_through: self.through, ..entry.counters };
            out.learned.push(Learned::Counters(self.webhook_id, counters));
        }
        Ok(Step::Done(()))
    }
}

/// Deletes a webhook; its pending deliveries are cancelled in steps.
pub struct Delete {
    /// On whose behalf.
    pub by: By,
    /// Which.
    pub webhook_id: WebhookId,
}

impl Change for Delete {
    type Answer = ();

    fn decide(&mut self, view: &View<'_>, out: &mut Decision) -> Result<Step<()>> {
        let id = self.webhook_id;
        let told = auditing::webhook(&find(view, &self.by, id)?.webhook, view.book.terms.fingerprint_key);
        out.audit(Audited::new(self.by.whose(), Action::WebhookDelete, id, &told, &Told::NOTHING));
        out.rows.others.push(Other::WebhookDeleted(id));
        out.learned.push(Learned::Deleted(id));
        out.news.push(Announcement::Webhook(id, None));
        Ok(Step::Done(()))
    }
}

/// The merchant's webhook, as it is now. Fails with [`StoreError::NoWebhook`] also if it is beyond
/// the reach of whoever changes it.
pub fn find<'a>(view: &View<'a>, by: &By, id: WebhookId) -> Result<&'a Entry> {
    let found = view.book.webhook_of(by.merchant, id);
    found.filter(|entry| by.reaches(&entry.webhook)).ok_or(StoreError::NoWebhook)
}

/// Has what differs of two definitions of a webhook stand in the audit log.
fn audit(view: &View<'_>, out: &mut Decision, by: &By, action: Action, [old, new]: [&Webhook; 2]) {
    let [before, after] = [old, new].map(|one| auditing::webhook(one, view.book.terms.fingerprint_key));
    out.audit(Audited::changed(by.whose(), action, new.webhook_id, before, after));
}

/// Writes a changed definition, and announces it. One that begins anew has no
/// failures behind it.
fn write(view: &View<'_>, out: &mut Decision, webhook: Webhook) -> Webhook {
    let entry = view.book.entry(webhook.webhook_id);
    let mut counters = entry.map_or(Counters::of(&webhook), |entry| entry.counters);
    if entry.is_some_and(|entry| webhook.begins_anew(&entry.webhook)) {
        (counters.consecutive_failures, counters.failing_since, counters.pause) = (0, None, None);
    }
    let webhook = announced(out, webhook, counters);
    out.rows.others.push(Other::Webhook(Arc::clone(&webhook)));
    Webhook::clone(&webhook)
}

/// Has the book and the news know a new or changed definition, with the counters
/// as they are now.
pub fn announced(out: &mut Decision, webhook: Webhook, counters: Counters) -> Arc<Webhook> {
    let webhook = Arc::new(counters.in_webhook(webhook));
    out.learned.push(Learned::Webhook(Arc::clone(&webhook)));
    out.news.push(Announcement::Webhook(webhook.webhook_id, Some(Arc::clone(&webhook))));
    webhook
}

fn enabled(webhook: Webhook) -> Webhook {
    let is_recovering = webhook.is_recovering || webhook.disabled.is_some();
    Webhook { disabled: None, is_recovering, ..webhook }
}
