//! Registering webhooks.

use super::auth::Caller;
use super::{Failures, Service};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::headers::ExtraHeaders;
use crate::domain::id::WebhookId;
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::SecretKey;
use crate::domain::topic::{Pattern, Patterns};
use crate::domain::user::Permission;
use crate::domain::webhook::{DeliveryMode, Format, TargetUrl, Webhook, WebhookChanges, WebhookSpec};
use crate::store::{StoreError, WebhookSelector};

/// A webhook, or changes to one, as a caller describes it, before anything was
/// checked.
#[derive(Clone, Debug, Default)]
pub struct WebhookDraft {
    /// On or off.
    pub is_active: Option<bool>,
    /// Patterns with commas between them.
    pub topics: Option<String>,
    /// Where to post to.
    pub url: Option<String>,
    /// One `Name: value` a line.
    pub extra_headers: Option<String>,
    /// What signs; for a new webhook one is made if it is missing.
    pub secret_key: Option<String>,
    /// How bodies are built.
    pub format: Option<Format>,
    /// What becomes of failures.
    pub retry: Option<RetryPolicy>,
    /// In which order deliveries go out.
    pub delivery_mode: Option<DeliveryMode>,
}

/// What a new webhook has unless its draft says otherwise.
#[derive(Clone, Debug)]
pub struct WebhookDefaults {
    /// How bodies are built.
    pub format: Format,
    /// What becomes of failures.
    pub retry: RetryPolicy,
}

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

const CREATE: Failures = Failures { refused: FaultCode::CreateRefused, failed: FaultCode::CreateFailed };
const STATUS: Failures = Failures { refused: FaultCode::StatusNotChanged, failed: FaultCode::StatusNotChanged };
const UPDATE: Failures = Failures { refused: FaultCode::WebhookNotChanged, failed: FaultCode::WebhookNotChanged };
const DELETE: Failures = Failures { refused: FaultCode::DeleteRefused, failed: FaultCode::DeleteFailed };

impl Service {
    /// The merchant's webhooks in the order of their ids.
    pub async fn list_webhooks(&self, caller: &Caller) -> Result<Vec<Webhook>, Fault> {
        caller.check(Permission::WebhookRead)?;
        self.store.webhooks(caller.merchant_id).await.map_err(|cause| Failures::LOOK_UP.fault(cause))
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
        draft: WebhookDraft,
        defaults: WebhookDefaults,
    ) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let spec = self.check_draft(draft).and_then(|checked| new_spec(checked, defaults));
        let spec = spec.map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let created = self.store.create_webhook(caller.merchant_id, spec, self.config.webhooks_max).await;
        created.map_err(|cause| CREATE.fault(cause))
    }

    /// Changes a webhook and returns it as it is then; what the draft leaves
    /// out stays. Fails with fault 101, 103 or 112.
    pub async fn update_webhook(&self, caller: &Caller, id: WebhookId, draft: WebhookDraft) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let changes = self.check_draft(draft).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let updated = self.store.update_webhook(caller.merchant_id, id, changes).await;
        updated.map_err(|cause| about(id, UPDATE.fault(cause)))
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

    fn check_draft(&self, draft: WebhookDraft) -> Result<WebhookChanges, Violation> {
        let url = draft.url.map(|text| TargetUrl::try_new(&text)).transpose()?;
        if let Some(url) = &url {
            self.guard.check_literal(url.url()).map_err(|refused| Violation::new("url", refused.to_string()))?;
        }
        Ok(WebhookChanges {
            is_active: draft.is_active,
            topics: draft.topics.map(|text| Patterns::try_new(&text)).transpose()?,
            url,
            extra_headers: draft.extra_headers.map(|text| ExtraHeaders::try_new(&text)).transpose()?,
            secret_key: draft.secret_key.map(|text| SecretKey::try_new(&text)).transpose()?,
            format: draft.format,
            retry: draft.retry,
            delivery_mode: draft.delivery_mode,
        })
    }
}

fn new_spec(checked: WebhookChanges, defaults: WebhookDefaults) -> Result<WebhookSpec, Violation> {
    let missing = |field, example: &str| Violation::new(field, format!("is missing; give one such as {example}."));
    Ok(WebhookSpec {
        is_active: checked.is_active.unwrap_or(true),
        topics: checked.topics.ok_or_else(|| missing("topics", "order:*"))?,
        url: checked.url.ok_or_else(|| missing("url", "https://example.com/hook"))?,
        extra_headers: checked.extra_headers.unwrap_or_default(),
        secret_key: checked.secret_key.unwrap_or_else(SecretKey::generate),
        format: checked.format.unwrap_or(defaults.format),
        retry: checked.retry.unwrap_or(defaults.retry),
        delivery_mode: checked.delivery_mode.unwrap_or(DeliveryMode::Parallel),
    })
}

/// Names the webhook that does not exist.
pub(super) fn about(id: WebhookId, fault: Fault) -> Fault {
    match fault.code {
        FaultCode::NoWebhook => fault.detail(format!("There is no webhook {id}.")),
        _ => fault,
    }
}
