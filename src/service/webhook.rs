//! Registering webhooks.

use std::time::Duration;

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::WebhookId;
use crate::domain::page::{Order, Slice, read_sort};
use crate::domain::secret::SecretKey;
use crate::domain::stats::WebhookStats;
use crate::domain::target::TargetUrl;
use crate::domain::topic::{Pattern, Topic};
use crate::domain::user::Permission;
use crate::domain::webhook::{Webhook, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::store::{StoreError, WebhookSelector};

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
}

impl Chosen {
    fn try_new(selection: WebhookSelection) -> Result<Self, Violation> {
        let WebhookSelection { topic, is_active, is_disabled } = selection;
        Ok(Self { topic: topic.map(|topic| Topic::try_new(&topic)).transpose()?, is_active, is_disabled })
    }

    fn admits(&self, webhook: &Webhook) -> bool {
        self.topic.as_ref().is_none_or(|topic| webhook.spec.topics.matches(topic))
            && self.is_active.is_none_or(|wanted| wanted == webhook.spec.is_active)
            && self.is_disabled.is_none_or(|wanted| wanted == webhook.disabled.is_some())
    }
}

fn url(webhook: &Webhook) -> &str {
    webhook.spec.url.as_ref().map_or("", TargetUrl::as_str)
}

/// How many webhooks are read at once.
const READ_AT_ONCE: u32 = 64;

/// The longest that a replaced secret may go on signing, in seconds: 30 days.
const OVERLAP_S_MAX: u64 = 2_592_000;

const CREATE: Failures = Failures { refused: FaultCode::CreateRefused, failed: FaultCode::CreateFailed };
const STATUS: Failures = Failures { refused: FaultCode::StatusNotChanged, failed: FaultCode::StatusNotChanged };
pub(super) const UPDATE: Failures =
    Failures { refused: FaultCode::WebhookNotChanged, failed: FaultCode::WebhookNotChanged };
const DELETE: Failures = Failures { refused: FaultCode::DeleteRefused, failed: FaultCode::DeleteFailed };

impl Service {
    /// The merchant's webhooks, in the order of their ids unless the page says
    /// otherwise; all of them, unless it has a limit. Fails with fault 111.
    pub async fn list_webhooks(
        &self,
        caller: &Caller,
        selection: WebhookSelection,
        page: WebhookPage,
    ) -> Result<Vec<Webhook>, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = Chosen::try_new(selection).and_then(|chosen| {
            let limit = page.limit.map(|limit| self.check_limit(Some(limit), 0)).transpose()?;
            let sort = read_sort(page.sort.as_deref(), &SORT_KEYS)?;
            if sort.0 == SORT_BY_URL && page.after_webhook_id.is_some() {
                // A URL may change while pages are read.
                return Err(Violation::new("after_webhook_id", "goes with the order by webhook_id only."));
            }
            Ok((chosen, sort, limit))
        });
        let (chosen, (key, order), limit) =
            checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        if let (Some(limit), true) = (limit, key != SORT_BY_URL) {
            let after = page.after_webhook_id.map(WebhookId);
            return self.some_webhooks(caller, &chosen, Slice { after, order, limit }).await;
        }
        let mut webhooks = self.webhooks_of(caller).await?;
        if key == SORT_BY_URL {
            // Stable: the same URL is in the order of ids.
            webhooks.sort_by(|one, other| url(one).cmp(url(other)));
        }
        if order == Order::Descending {
            webhooks.reverse();
        }
        let behind = match page.after_webhook_id.map(WebhookId) {
            None => 0,
            // The place is known though the webhook may have been deleted.
            Some(after) => webhooks.partition_point(|webhook| match order {
                Order::Ascending => webhook.webhook_id <= after,
                Order::Descending => webhook.webhook_id >= after,
            }),
        };
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(webhooks.into_iter().skip(behind).filter(|webhook| chosen.admits(webhook)).take(limit).collect())
    }

    /// Webhooks up to a limit, read some at a time, since each may be long.
    async fn some_webhooks(
        &self,
        caller: &Caller,
        chosen: &Chosen,
        slice: Slice<WebhookId>,
    ) -> Result<Vec<Webhook>, Fault> {
        let Slice { mut after, order, limit } = slice;
        let (at_once, limit, mut found) = (limit.min(READ_AT_ONCE), limit as usize, Vec::new());
        loop {
            let slice = Slice { after, order, limit: at_once };
            let read = self.store.webhook_page(caller.merchant_id, slice).await;
            let read = read.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
            after = read.last().map(|webhook| webhook.webhook_id);
            let is_last = read.len() < at_once as usize;
            found.extend(read.into_iter().filter(|webhook| chosen.admits(webhook)));
            found.truncate(limit);
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// How many webhooks the merchant has. Fails with fault 111.
    pub async fn count_webhooks(&self, caller: &Caller, selection: WebhookSelection) -> Result<u64, Fault> {
        self.list_webhooks(caller, selection, WebhookPage::default()).await.map(|webhooks| webhooks.len() as u64)
    }

    /// All webhooks of the merchant, in the order of their ids.
    pub(super) async fn webhooks_of(&self, caller: &Caller) -> Result<Vec<Webhook>, Fault> {
        self.store.webhooks(caller.merchant_id).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
    }

    /// How a webhook is doing. Fails with fault 103.
    pub async fn webhook_stats(&self, caller: &Caller, id: WebhookId) -> Result<WebhookStats, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.store.stats(caller.merchant_id, id).await.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// One webhook; fails with fault 103.
    pub async fn get_webhook(&self, caller: &Caller, id: WebhookId) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.store.webhook(caller.merchant_id, id).await.map_err(|cause| about(id, Failures::LOOK_UP.fault(cause)))
    }

    /// Registers a webhook; fails with fault 101, 102 or 106.
    pub async fn create_webhook(
        &self,
        caller: &Caller,
        said: WebhookChanges,
        defaults: WebhookDefaults,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let spec = self.check_target(&said).and_then(|()| WebhookSpec::try_new(said, defaults));
        let spec = spec.map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let created =
            self.store.create_webhook(caller.merchant_id, caller.user_id, spec, self.config.webhooks_max).await;
        created.map_err(|cause| CREATE.fault(cause))
    }

    /// Changes a webhook and returns it as it is then; what is left out stays.
    /// Fails with fault 101, 103 or 112.
    pub async fn update_webhook(
        &self,
        caller: &Caller,
        id: WebhookId,
        changes: WebhookChanges,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        self.check_target(&changes).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let updated = self.store.update_webhook(caller.merchant_id, id, changes).await;
        updated.map_err(|cause| about(id, UPDATE.fault(cause)))
    }

    /// Lifts a disablement by the server and returns the webhook; one that is
    /// not disabled stays as it is. Fails with fault 103 or 112.
    pub async fn enable_webhook(&self, caller: &Caller, id: WebhookId) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let enabled = self.store.enable_webhook(caller.merchant_id, id).await;
        enabled.map_err(|cause| about(id, UPDATE.fault(cause)))
    }

    /// Puts a new secret in place of the present one, which signs beside it
    /// for `overlap` (the server's default if the caller says nothing), and
    /// returns the webhook. Fails with fault 101, 103 or 112.
    pub async fn rotate_secret(
        &self,
        caller: &Caller,
        id: WebhookId,
        secret: Option<SecretKey>,
        overlap_s: Option<i64>,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let overlap =
            self.check_overlap(overlap_s).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let secret = secret.unwrap_or_else(SecretKey::generate);
        let until = self.clock.now().after(overlap);
        let rotated = self.store.rotate_secret(caller.merchant_id, id, secret, until).await;
        rotated.map_err(|cause| about(id, UPDATE.fault(cause)))
    }

    fn check_overlap(&self, overlap_s: Option<i64>) -> Result<Duration, Violation> {
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
        match self.store.set_active(caller.merchant_id, which, on).await {
            Ok(0) => Err(Fault::new(FaultCode::StatusNotChanged).detail(missing)),
            Ok(_) => Ok(()),
            Err(cause) => Err(STATUS.fault(cause)),
        }
    }

    /// Deletes a webhook; fails with fault 103, 104 or 105.
    pub async fn delete_webhook(&self, caller: &Caller, id: WebhookId) -> Result<(), Fault> {
        caller.check(Permission::WebhookWrite)?;
        let deleted = self.store.delete_webhook(caller.merchant_id, id).await;
        deleted.map_err(|cause: StoreError| about(id, DELETE.fault(cause)))
    }

    /// A literal address that nothing may be delivered to is refused at once;
    /// a name is judged when it is connected to.
    fn check_target(&self, said: &WebhookChanges) -> Result<(), Violation> {
        let max = self.config.webhook_requests_max;
        if let Some(own) = said.max_concurrency.flatten().filter(|own| own.get() as usize > max) {
            let problem = format!("{} is more than {max}, the most that this server has for one webhook.", own.get());
            return Err(Violation::new("max_concurrency", problem));
        }
        let Some(url) = &said.url else { return Ok(()) };
        self.guard.check_literal(url.url()).map_err(|refused| Violation::new("url", refused.to_string()))
    }
}

/// Names the webhook that does not exist.
pub(super) fn about(id: WebhookId, fault: Fault) -> Fault {
    match fault.code {
        FaultCode::NoWebhook => fault.detail(format!("There is no webhook {id}.")),
        _ => fault,
    }
}
