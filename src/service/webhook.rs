//! Registering webhooks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::caller::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::WebhookId;
use crate::domain::identity::ClientIdentity;
use crate::domain::labels::Labels;
use crate::domain::page::{Order, Slice, read_sort};
use crate::domain::secret::SecretKey;
use crate::domain::signing::{Signing, SigningKey};
use crate::domain::stats::WebhookStats;
use crate::domain::target::TargetUrl;
use crate::domain::time::Timestamp;
use crate::domain::topic::{Pattern, Topic};
use crate::domain::user::Permission;
use crate::domain::webhook::{Health, Webhook, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::store::{Alteration, PublicKeys, Rotation, StoreError, WebhookSelector};
use crate::trust::identity::{self, Flawed};
use crate::work::Account;

/// Which webhooks to switch, as a caller says it.
#[derive(Clone, Debug)]
pub enum StatusTarget {
    /// Every webhook of the merchant.
    All,
    /// That webhook.
    Webhook(WebhookId),
    /// Those whose list holds exactly this entry.
    Topic(String),
}

/// Which webhooks, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct WebhookSelection {
    /// Only those that an event of this topic matches.
    pub topic: Option<String>,
    /// Only those that are on, or are off.
    pub is_active: Option<bool>,
    /// Only those that the server has disabled, or has not.
    pub is_disabled: Option<bool>,
    /// Only those that are doing so, by its name.
    pub health: Option<String>,
    /// Only those with all of these labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Which part of a list of webhooks, as a caller says it.
#[derive(Clone, Debug, Default)]
pub struct WebhookPage {
    /// Only those behind this one.
    pub after_webhook_id: Option<i64>,
    /// What to sort by.
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

const SORT_BY_URL: &str = "url";
/// What webhooks may be sorted by.
pub const SORT_KEYS: [&str; 2] = ["webhook_id", SORT_BY_URL];

/// The same, checked.
struct Chosen {
    topic: Option<Topic>,
    is_active: Option<bool>,
    is_disabled: Option<bool>,
    health: Option<Health>,
    labels: Labels,
}

impl Chosen {
    fn try_new(selection: WebhookSelection) -> Result<Self, Violation> {
        let WebhookSelection { topic, is_active, is_disabled, health, labels } = selection;
        let health = health.map(|name| {
            Health::from_name(&name).ok_or_else(|| {
                let known = Health::ALL.map(Health::name).join(", ");
                Violation::new("health", format!("{name:?} is unknown; there are {known}."))
            })
        });
        let topic = topic.map(|topic| Topic::try_new(&topic)).transpose()?;
        let labels = Labels::try_new(labels.unwrap_or_default())?;
        Ok(Self { topic, is_active, is_disabled, health: health.transpose()?, labels })
    }

    fn is_everything(&self) -> bool {
        let Self { topic, is_active, is_disabled, health, labels } = self;
        topic.is_none() && is_active.is_none() && is_disabled.is_none() && health.is_none() && labels.is_empty()
    }

    fn admits(&self, webhook: &Webhook) -> bool {
        self.topic.as_ref().is_none_or(|topic| webhook.spec.topics.matches(topic))
            && self.is_active.is_none_or(|wanted| wanted == webhook.spec.is_active)
            && self.is_disabled.is_none_or(|wanted| wanted == webhook.disabled.is_some())
            && self.health.is_none_or(|wanted| wanted == webhook.health())
            && self.labels.are_all_in(&webhook.spec.labels)
    }
}

/// How many webhooks are read at once: each may be long.
const READ_AT_ONCE: u32 = 16;

/// The longest that a replaced secret may go on signing, or a replaced key
/// count, in seconds: 30 days.
const OVERLAP_S_MAX: u64 = 2_592_000;

const CREATE: Failures = Failures { refused: FaultCode::CreateRefused, failed: FaultCode::CreateFailed };
const STATUS: Failures = Failures { refused: FaultCode::StatusNotChanged, failed: FaultCode::StatusNotChanged };
pub(super) const UPDATE: Failures =
    Failures { refused: FaultCode::WebhookNotChanged, failed: FaultCode::WebhookNotChanged };
const DELETE: Failures = Failures { refused: FaultCode::DeleteRefused, failed: FaultCode::DeleteFailed };

impl Service {
    /// The merchant's webhooks in the order of their ids: as many as the page
    /// says, or else as are read at once. Fails with fault 111.
    pub async fn list_webhooks(
        &self,
        caller: &Caller,
        selection: WebhookSelection,
        page: WebhookPage,
    ) -> Result<Vec<Webhook>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = Chosen::try_new(selection).and_then(|chosen| {
            let limit = self.check_limit(page.limit, READ_AT_ONCE)?;
            let (key, order) = read_sort(page.sort.as_deref(), &SORT_KEYS)?;
            match key {
                SORT_BY_URL => Err(Violation::new("sort", "has no place to go on from; see webhooks_by_url.")),
                _ => Ok((chosen, order, limit)),
            }
        });
        let (chosen, order, limit) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let mut after = page.after_webhook_id.map(WebhookId);
        let (at_once, limit, mut found) = (limit.min(READ_AT_ONCE), limit as usize, Vec::new());
        loop {
            let read = self.webhooks_behind(caller, Slice { after, order, limit: at_once }).await?;
            after = read.last().map(|webhook| webhook.webhook_id);
            let is_last = read.len() < at_once as usize;
            found.extend(read.into_iter().filter(|webhook| caller.reaches(webhook) && chosen.admits(webhook)));
            found.truncate(limit);
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// The ids of the merchant's webhooks in the order of their URLs, which may
    /// change while they are read: so they are all there are, up to the limit of
    /// the page. Fails with fault 111.
    pub async fn webhooks_by_url(
        &self,
        caller: &Caller,
        selection: WebhookSelection,
        page: WebhookPage,
    ) -> Result<Vec<WebhookId>, Fault> {
        let checked = Chosen::try_new(selection).and_then(|chosen| {
            let limit = page.limit.map(|limit| self.check_limit(Some(limit), 0)).transpose()?;
            if page.after_webhook_id.is_some() {
                return Err(Violation::new("after_webhook_id", "goes with the order by webhook_id only."));
            }
            Ok((chosen, read_sort(page.sort.as_deref(), &SORT_KEYS)?.1, limit))
        });
        let (chosen, order, limit) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let key = |webhook: &Webhook| {
            let url = webhook.spec.url.as_ref().map_or("", TargetUrl::as_str);
            chosen.admits(webhook).then(|| (Box::<str>::from(url), webhook.webhook_id))
        };
        let mut keys = self.pick_webhooks(caller, key).await?;
        keys.sort_unstable();
        if order == Order::Descending {
            keys.reverse();
        }
        keys.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        Ok(keys.into_iter().map(|(_, id)| id).collect())
    }

    /// What `pick` keeps of each of the merchant's webhooks, in the order of
    /// their ids. It must be quick; what is not is for [`Self::next_webhooks`].
    pub async fn pick_webhooks<T>(
        &self,
        caller: &Caller,
        pick: impl Fn(&Webhook) -> Option<T>,
    ) -> Result<Vec<T>, Fault> {
        let (mut after, mut kept) = (None, Vec::new());
        loop {
            let webhooks = self.next_webhooks(caller, after).await?;
            let Some(last) = webhooks.last() else { return Ok(kept) };
            after = Some(last.webhook_id);
            kept.extend(webhooks.iter().filter_map(&pick));
        }
    }

    /// The merchant's webhooks behind one of them, in the order of their ids, as
    /// many as are read at once; none, if there are no more.
    pub async fn next_webhooks(&self, caller: &Caller, after: Option<WebhookId>) -> Result<Vec<Webhook>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let mut after = after;
        loop {
            let mut read = self.all_webhooks_behind(caller, after).await?;
            after = read.last().map(|webhook| webhook.webhook_id);
            read.retain(|webhook| caller.reaches(webhook));
            if after.is_none() || !read.is_empty() {
                return Ok(read);
            }
        }
    }

    /// The same for a caller that may, with those that it does not reach.
    pub(super) async fn all_webhooks_behind(
        &self,
        caller: &Caller,
        after: Option<WebhookId>,
    ) -> Result<Vec<Webhook>, Fault> {
        self.webhooks_behind(caller, Slice { after, order: Order::Ascending, limit: READ_AT_ONCE }).await
    }

    /// Webhooks of the merchant, those too that the caller does not reach.
    async fn webhooks_behind(&self, caller: &Caller, slice: Slice<WebhookId>) -> Result<Vec<Webhook>, Fault> {
        let read = self.store.webhooks(caller.merchant(), slice).await;
        read.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// The ids of all webhooks of the merchant, in their order.
    pub async fn webhook_ids(&self, caller: &Caller) -> Result<Vec<WebhookId>, Fault> {
        caller.check(Permission::WebhookRead)?;
        if caller.confinement().is_some() {
            return self.pick_webhooks(caller, |webhook| Some(webhook.webhook_id)).await;
        }
        self.store.webhook_ids(caller.everywhere()?).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How many webhooks the merchant has. Fails with fault 111.
    pub async fn count_webhooks(&self, caller: &Caller, selection: WebhookSelection) -> Result<u64, Fault> {
        let chosen =
            Chosen::try_new(selection).map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let count = match chosen.is_everything() {
            true => self.webhook_ids(caller).await?.len(),
            false => self.pick_webhooks(caller, |webhook| chosen.admits(webhook).then_some(())).await?.len(),
        };
        Ok(count as u64)
    }

    /// A webhook that was in a list a moment ago; `None` if it was deleted since.
    pub async fn find_webhook(&self, caller: &Caller, id: WebhookId) -> Result<Option<Webhook>, Fault> {
        match self.get_webhook(caller, id).await {
            Err(fault) if fault.code == FaultCode::NoWebhook => Ok(None),
            found => found.map(Some),
        }
    }

    /// How a webhook is doing. Fails with fault 103.
    pub async fn webhook_stats(&self, caller: &Caller, id: WebhookId) -> Result<WebhookStats, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.store
            .stats(self.within(caller, id).await?, id)
            .await
            .map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// One webhook; fails with fault 103.
    pub async fn get_webhook(&self, caller: &Caller, id: WebhookId) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookRead)?;
        let found = self.store.webhook(caller.merchant(), id).await;
        let found = found.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))?;
        if caller.reaches(&found) { Ok(found) } else { Err(about(id, FaultCode::NoWebhook.into())) }
    }

    /// What anybody may know of a webhook: by which public keys its deliveries are verified now, its
    /// own first, and when each of the others stops to be used. None, if there is no such webhook,
    /// or a secret signs. Fails as a look-up does.
    pub async fn public_keys(&self, id: WebhookId, peer: IpAddr) -> Result<PublicKeys, Fault> {
        let keys = self.store.public_keys(id, self.clock.now(), Account::of_stranger(peer)).await;
        keys.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// Registers a webhook; fails with fault 101, 102, 106 or 127.
    pub async fn create_webhook(
        &self,
        caller: &Caller,
        said: WebhookChanges,
        defaults: WebhookDefaults,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let spec = self.check_new(caller, said, defaults)?;
        self.add_webhook(caller, spec).await
    }

    /// What is said of a new webhook, checked; fails with fault 101, and with fault 2 of a token that
    /// makes none.
    pub(super) fn check_new(
        &self,
        caller: &Caller,
        said: WebhookChanges,
        defaults: WebhookDefaults,
    ) -> Result<WebhookSpec, Fault> {
        caller.makes_webhooks()?;
        let spec = self.check(&said).and_then(|()| WebhookSpec::try_new(said, defaults));
        let spec = spec.and_then(|spec| Ok(WebhookSpec { labels: caller.labelled(spec.labels.clone())?, ..spec }));
        spec.map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))
    }

    /// Registers what was checked, for a caller that may; fails with fault 102, 106 or 127.
    pub(super) async fn add_webhook(&self, caller: &Caller, spec: WebhookSpec) -> Result<Webhook, Fault> {
        let created = self.store.create_webhook(caller.author(), spec, self.webhooks_max(caller)).await;
        let created = created.map_err(|cause| not_created(caller, cause))?;
        self.telling.webhook_changed(caller.author(), &caller.merchant_code, created.webhook_id, "made");
        Ok(created)
    }

    /// How many webhooks the merchant may have.
    pub(super) fn webhooks_max(&self, caller: &Caller) -> u32 {
        caller.merchant_terms.quotas.webhooks.unwrap_or(self.config.webhooks_max)
    }

    /// Changes a webhook and returns it as it is then; what is left out stays.
    /// Fails with fault 101, 103 or 112.
    pub async fn update_webhook(
        &self,
        caller: &Caller,
        id: WebhookId,
        mut changes: WebhookChanges,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let labels = changes.labels.take().map(|labels| caller.labelled(labels)).transpose();
        let checked = labels.and_then(|labels| self.check(&changes).map(|()| labels));
        changes.labels = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        self.alter_webhook(caller, id, Alteration::Update(Box::new(changes))).await
    }

    /// Lifts a disablement by the server and returns the webhook; one that is
    /// not disabled stays as it is. Fails with fault 103 or 112.
    pub async fn enable_webhook(&self, caller: &Caller, id: WebhookId) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        self.alter_webhook(caller, id, Alteration::Enable).await
    }

    /// Stops sending to a webhook, which goes on being numbered, or goes on with
    /// it, and returns it. Fails with fault 103 or 112.
    pub async fn pause_webhook(&self, caller: &Caller, id: WebhookId, is_paused: bool) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        self.alter_webhook(caller, id, Alteration::Pause(is_paused)).await
    }

    /// Puts a new secret or private key in place of the present one, which signs beside it
    /// for `overlap` (the server's default if the caller says nothing), and
    /// returns the webhook. Fails with fault 101, 103 or 112.
    pub async fn rotate_secret(
        &self,
        caller: &Caller,
        id: WebhookId,
        secret: Option<SecretKey>,
        signing: Option<Signing>,
        overlap_s: Option<i64>,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let overlap =
            self.check_overlap(overlap_s).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let until = self.clock.now().after(overlap);
        let (secret_key, signing_key) = (SecretKey::generate(), SigningKey::generate());
        let rotation = Rotation { signing, given: secret, secret_key, signing_key };
        self.alter_webhook(caller, id, Alteration::RotateSecret(Box::new(rotation), until)).await
    }

    async fn alter_webhook(&self, caller: &Caller, id: WebhookId, what: Alteration) -> Result<Webhook, Fault> {
        let done = match &what {
            Alteration::Update(_) => "changed",
            Alteration::Enable => "enabled",
            Alteration::Pause(true) => "paused",
            Alteration::Pause(false) => "resumed",
            Alteration::RotateSecret(..) => "given another secret",
        };
        let altered = self.store.alter_webhook(caller.author(), id, what).await;
        let altered = altered.map_err(|cause| about(id, UPDATE.fault(cause)))?;
        self.telling.webhook_changed(caller.author(), &caller.merchant_code, id, done);
        Ok(altered)
    }

    /// How long what was replaced counts yet, if it is said to be so long.
    pub(super) fn check_overlap(&self, overlap_s: Option<i64>) -> Result<Duration, Violation> {
        let Some(seconds) = overlap_s else { return Ok(self.config.secret_overlap) };
        let fitting = u64::try_from(seconds).ok().filter(|seconds| *seconds <= OVERLAP_S_MAX);
        let problem = || Violation::new("overlap_s", format!("{seconds} is outside 0 to {OVERLAP_S_MAX}."));
        fitting.map(Duration::from_secs).ok_or_else(problem)
    }

    /// Switches webhooks on or off; fails with fault 100.
    pub async fn set_status(&self, caller: &Caller, target: StatusTarget, on: bool) -> Result<(), Fault> {
        caller.check(Permission::WebhookWrite)?;
        let (which, missing) = match target {
            StatusTarget::All => (WebhookSelector::All, "There is no webhook yet.".to_owned()),
            StatusTarget::Webhook(id) => (WebhookSelector::Id(id), format!("There is no webhook {id}.")),
            StatusTarget::Topic(text) => {
                let pattern = Pattern::try_new(&text).map_err(|violation| {
                    Violation::new("topic", violation.problem).into_fault(FaultCode::StatusNotChanged)
                })?;
                let missing = format!("No webhook lists the topic {pattern} as an entry of its own.");
                (WebhookSelector::Listing(pattern), missing)
            }
        };
        match self.store.set_active(caller.author(), which, on).await {
            Ok(0) => Err(Fault::new(FaultCode::StatusNotChanged).detail(missing)),
            Ok(count) => {
                self.telling.webhooks_switched(
                    caller.author(),
                    &caller.merchant_code,
                    count as u64,
                    if on { "on" } else { "off" },
                );
                Ok(())
            }
            Err(cause) => Err(STATUS.fault(cause)),
        }
    }

    /// Deletes a webhook; fails with fault 103, 104 or 105.
    pub async fn delete_webhook(&self, caller: &Caller, id: WebhookId) -> Result<(), Fault> {
        caller.check(Permission::WebhookWrite)?;
        let deleted = self.store.delete_webhook(caller.author(), id).await;
        deleted.map_err(|cause: StoreError| about(id, DELETE.fault(cause)))?;
        self.telling.webhook_changed(caller.author(), &caller.merchant_code, id, "deleted");
        Ok(())
    }

    /// What can be told of a definition here, and not by its words alone.
    fn check(&self, said: &WebhookChanges) -> Result<(), Violation> {
        self.check_target(said)?;
        if let Some(Some(own)) = &said.oauth2 {
            self.check_url("oauth2.token_url", own.token_url())?;
        }
        match &said.client_identity {
            Some(Some(identity)) => check_identity(identity, self.clock.now()),
            _ => Ok(()),
        }
    }

    /// A literal address, or a port, that nothing may be delivered to is refused at once;
    /// a name is judged when it is connected to.
    fn check_target(&self, said: &WebhookChanges) -> Result<(), Violation> {
        let max = self.config.webhook_requests_max;
        if let Some(own) = said.max_concurrency.flatten().filter(|own| own.get() as usize > max) {
            let problem = format!("{} is more than {max}, the most that this server has for one webhook.", own.get());
            return Err(Violation::new("max_concurrency", problem));
        }
        said.url.as_ref().map_or(Ok(()), |url| self.check_url("url", url))
    }

    fn check_url(&self, field: &'static str, url: &TargetUrl) -> Result<(), Violation> {
        let refused = |why: String| Err(Violation::new(field, why));
        match (self.guard.check_literal(url.url()), url.url().port_or_known_default()) {
            (Err(why), _) => refused(why.to_string()),
            (Ok(()), Some(port)) => self.guard.check_port(port).or_else(|why| refused(why.to_string())),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Why a webhook was not made.
pub(super) fn not_created(caller: &Caller, cause: StoreError) -> Fault {
    match cause {
        // How much there is beyond its reach is not told.
        StoreError::WebhookQuota { .. } | StoreError::WebhookBytes { .. } if caller.confinement().is_some() => {
            Fault::new(FaultCode::CreateRefused)
                .detail("The merchant has as many webhooks as it may, or they are as long together as they may be.")
        }
        StoreError::WebhookQuota { used, max } if caller.merchant_terms.quotas.webhooks.is_some() => {
            Fault::new(FaultCode::WebhookQuota).detail(format!(
                "The merchant has {used} webhooks, of the {max} that its quota lets it have. Delete one first, or have \
                 an operator raise webhooks."
            ))
        }
        cause => CREATE.fault(cause),
    }
}

/// A certificate and its key that fit together, and count now.
fn check_identity(identity: &ClientIdentity, now: Timestamp) -> Result<(), Violation> {
    let certified =
        identity::from_pem(identity.certificate(), identity.expose_key()).map_err(|flawed| match flawed {
            Flawed::Certificate(problem) => Violation::new("client_certificate", format!("{problem}.")),
            Flawed::Key(problem) => Violation::new("client_key", format!("{problem}.")),
        })?;
    match identity::valid_until(&certified) {
        Some(until) if until > now => Ok(()),
        Some(until) => Err(Violation::new("client_certificate", format!("has expired at {}.", until.rfc3339_ms()))),
        None => Err(Violation::new("client_certificate", "can't be read.")),
    }
}

/// Names the webhook that does not exist.
pub(super) fn about(id: WebhookId, fault: Fault) -> Fault {
    match fault.code {
        FaultCode::NoWebhook => fault.detail(format!("There is no webhook {id}.")),
        _ => fault,
    }
}
