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
use crate::domain::webhook::{Format, TargetUrl, Webhook, WebhookSpec};
use crate::store::{StoreError, WebhookSelector};

/// A webhook as a caller describes it, before anything was checked.
#[derive(Clone, Debug)]
pub struct WebhookDraft {
    /// On or off.
    pub is_active: bool,
    /// Patterns with commas between them.
    pub topics: String,
    /// Where to post to.
    pub url: String,
    /// One `Name: value` a line.
    pub extra_headers: String,
    /// What signs; `None`: one is made.
    pub secret_key: Option<String>,
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
    pub async fn create_webhook(&self, caller: &Caller, draft: WebhookDraft) -> Result<Webhook, Fault> {
        caller.check(Permission::WebhookWrite)?;
        let spec = self.check_draft(draft).map_err(|violation| violation.into_fault(FaultCode::InvalidWebhook))?;
        let created = self.store.create_webhook(caller.merchant_id, spec, self.config.webhooks_max).await;
        created.map_err(|cause| CREATE.fault(cause))
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

    fn check_draft(&self, draft: WebhookDraft) -> Result<WebhookSpec, Violation> {
        let url = TargetUrl::try_new(&draft.url)?;
        self.guard.check_literal(url.url()).map_err(|refused| Violation::new("url", refused.to_string()))?;
        Ok(WebhookSpec {
            is_active: draft.is_active,
            topics: Patterns::try_new(&draft.topics)?,
            url,
            extra_headers: ExtraHeaders::try_new(&draft.extra_headers)?,
            secret_key: draft.secret_key.map_or_else(|| Ok(SecretKey::generate()), |text| SecretKey::try_new(&text))?,
            format: draft.format,
            retry: draft.retry,
        })
    }
}

/// Names the webhook that does not exist.
pub(super) fn about(id: WebhookId, fault: Fault) -> Fault {
    match fault.code {
        FaultCode::NoWebhook => fault.detail(format!("There is no webhook {id}.")),
        _ => fault,
    }
}
