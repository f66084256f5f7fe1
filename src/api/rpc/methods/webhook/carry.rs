//! webhook.export and webhook.import

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::data::carried;
use super::{NewData, defaults};
use crate::api::rpc::answer::Listed;
use crate::api::rpc::args::from_raw;
use crate::api::rpc::fault::error_object;
use crate::api::rpc::method::{HEAVY_STEP, Method, Request, TurnOf};
use crate::api::rpc::wire::{ExportedItem, Flag, ImportFault, ImportedItem, Object, Whole, schema};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::user::Permission;
use crate::domain::webhook::WebhookChanges;
use crate::service::caller::Caller;
use crate::service::import::{Existing, IMPORT_WEBHOOKS_MAX, ImportOptions, Imported, Outcome};
use crate::service::webhook::{WebhookPage, WebhookSelection};
use crate::work::READ_AT_ONCE_MAX;

/// The longest webhook that is imported, in bytes of JSON: longer than the longest there can be.
const LINE_BYTES_MAX: usize = 512 * 1_024;

pub fn export() -> Method {
    let summary = "Lists webhooks as webhook.import takes them, with what is left out of each.";
    Method::listing("webhook.export", summary, "after_webhook_id", export_page)
        .needs(&[Permission::WebhookRead])
        .faults(FaultCode::InvalidSelection, &[])
}

pub fn import() -> Method {
    let summary = "Registers webhooks that were exported, each on its own, and says of each what came of it.";
    Method::with_session("webhook.import", summary, import_lines)
        .in_turn(TurnOf::HeavyCalls)
        .needs(&[Permission::WebhookWrite])
        .faults(FaultCode::InvalidWebhook, &[])
}

#[derive(Deserialize, JsonSchema)]
struct Export {
    /// Which part of the list; the first of all, if left out.
    options: Option<Object<ExportOptions>>,
}

/// Which webhooks to export, and how.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct ExportOptions {
    /// 1: with `secret_key`, `basic_auth` and `extra_headers`. It needs the permission `webhook_write`.
    with_secrets: Option<Flag>,
    /// Only those that subscribe to this topic.
    #[schemars(schema_with = "schema::topic")]
    #[serde(default)]
    topic: Option<String>,
    /// 1: only those that are on. 0: only those that are off.
    is_active: Option<Flag>,
    /// Only those behind this one, the last of the page before.
    #[schemars(range(min = 0))]
    after_webhook_id: Option<Whole>,
    /// The most webhooks in the answer, up to `list_limit_max`; 100 by default.
    #[schemars(range(min = 1))]
    limit: Option<Whole>,
}

async fn export_page(request: Request, caller: Caller, params: Export) -> Result<Listed<ExportedItem<'static>>, Fault> {
    let Object(options) = params.options.unwrap_or_default();
    let with_secrets = options.with_secrets.is_some_and(|flag| flag.0);
    if with_secrets {
        caller.check(Permission::WebhookWrite)?;
    }
    let (mut list, mut steps) = request.list(options.limit.map(|limit| limit.0), HEAVY_STEP);
    let after_webhook_id = options.after_webhook_id.map(|id| id.0);
    let is_active = options.is_active.map(|flag| flag.0);
    let selection = WebhookSelection { topic: options.topic, is_active, ..WebhookSelection::default() };
    let mut page = WebhookPage { after_webhook_id, sort: None, limit: None };
    loop {
        page.limit = Some(steps.next());
        let found = request.service.list_webhooks(&caller, selection.clone(), page.clone()).await?;
        let goes_on = steps.go_on(found.len());
        for webhook in found {
            let item = ExportedItem::new(&webhook, with_secrets, request.service.now());
            if !list.write(&item, webhook.webhook_id.0)? {
                return Ok(list.cut("after_webhook_id"));
            }
            list.pause().await;
            page.after_webhook_id = Some(webhook.webhook_id.0);
        }
        if !goes_on {
            return Ok(list.whole());
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Import {
    /// Up to 100 webhooks, as `webhook.export` lists them. What is wrong with one keeps no other from being made.
    #[schemars(schema_with = "lines")]
    webhooks: Vec<Box<RawValue>>,
    /// How to import them.
    options: Option<Object<ImportSettings>>,
}

/// A webhook to import. Each is read on its own, so this is what its text has to be.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookToImport")]
#[serde(deny_unknown_fields)]
struct Line {
    /// What is said of it, as for `webhook.create`; empty `topics` mean that it subscribes to nothing.
    webhook: Object<NewData>,
    /// Which webhook it was; for people.
    #[serde(rename = "webhook_id")]
    _webhook_id: Option<Whole>,
    /// What was left out of it; for people.
    #[serde(rename = "left_out")]
    _left_out: Option<Vec<String>>,
}

fn lines(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": IMPORT_WEBHOOKS_MAX,
        "items": generator.subschema_for::<Line>(),
    })
}

/// How to import webhooks.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields)]
struct ImportSettings {
    /// 1: nothing is made, and the answer says what would be.
    dry_run: Option<Flag>,
    /// What becomes of a webhook when there is one with the same URL (or, if it is pulled, the same name) and topics:
    /// `refuse` (the default) fails it, `skip` passes over it, `create` makes one more.
    #[schemars(schema_with = "schema::existing")]
    #[serde(default)]
    existing: Option<String>,
    /// 1: the answer shows the secrets that were made, for webhooks that had none.
    with_secrets: Option<Flag>,
}

impl ImportSettings {
    fn read(&self) -> Result<ImportOptions, Fault> {
        let existing = self.existing.as_deref().map_or(Ok(Existing::default()), |name| {
            Existing::from_name(name).ok_or_else(|| {
                let problem = format!("is unknown; there are {}.", Existing::ALL.map(Existing::name).join(", "));
                Fault::new(FaultCode::InvalidWebhook).field("existing").detail(problem)
            })
        })?;
        Ok(ImportOptions { existing, is_dry_run: self.dry_run.is_some_and(|flag| flag.0) })
    }
}

async fn import_lines(request: Request, caller: Caller, params: Import) -> Result<Vec<ImportedItem>, Fault> {
    let Object(settings) = params.options.unwrap_or_default();
    let options = settings.read()?;
    let count = params.webhooks.len();
    if count > IMPORT_WEBHOOKS_MAX {
        let problem = format!("{count} are too many for one call; up to {IMPORT_WEBHOOKS_MAX} are imported.");
        return Err(Fault::new(FaultCode::InvalidWebhook).field("webhooks").detail(problem));
    }
    let mut said = Vec::with_capacity(count);
    for line in params.webhooks {
        said.push(match line.get().len() {
            0..=READ_AT_ONCE_MAX => read(&line),
            bytes if bytes > LINE_BYTES_MAX => {
                let problem = format!("The webhook has {bytes} bytes; up to {LINE_BYTES_MAX} are read.");
                Err(Fault::new(FaultCode::InvalidWebhook).detail(problem))
            }
            _ => request.service.apart(&caller, move || read(&line)).await?,
        });
        tokio::task::yield_now().await;
    }
    let has_secret: Vec<bool> =
        said.iter().map(|said| said.as_ref().is_ok_and(|said| said.secret_key.is_some())).collect();
    let imported = request.service.import_webhooks(&caller, said, defaults(&request), options).await?;
    let with_secrets = settings.with_secrets.is_some_and(|flag| flag.0);
    let items = imported.into_iter().zip(has_secret);
    Ok(items.map(|(imported, has_secret)| item(&request, imported, with_secrets && !has_secret)).collect())
}

/// What a line says, or the fault that `webhook.create` would have; the place is that within the webhook.
fn read(line: &RawValue) -> Result<WebhookChanges, Fault> {
    let invalid = FaultCode::InvalidWebhook;
    let line: Line = from_raw(line, "webhook", invalid).map_err(|mut fault| {
        fault.field = fault.field.map(|field| field.strip_prefix("webhook.").map_or(field.clone(), str::to_owned));
        fault
    })?;
    carried(line.webhook.0.0)
}

fn item(request: &Request, imported: Imported, shows_secret: bool) -> ImportedItem {
    let same_as = imported.same_as.into_iter().map(|id| id.0).collect();
    let mut item =
        ImportedItem { outcome: "failed", webhook_id: None, same_as, secret_key: None, public_key: None, fault: None };
    match imported.outcome {
        Ok(Outcome::Created(webhook)) => {
            item.outcome = "created";
            item.webhook_id = Some(webhook.webhook_id.0);
            item.secret_key = shows_secret.then(|| webhook.spec.secret_key.expose().to_owned());
            item.public_key = webhook.spec.signing_key.as_ref().map(|key| key.public().to_string());
        }
        Ok(Outcome::Valid) => item.outcome = "valid",
        Ok(Outcome::Skipped) => item.outcome = "skipped",
        Err(fault) => {
            let to = request.context.addressee();
            let told = error_object(&fault, to);
            item.fault = Some(ImportFault {
                code: told.code(),
                message: told.message().to_owned(),
                retry_after_ms: fault.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
                request_id: fault.is_logged.then(|| to.request_id.to_string()),
                field: fault.field,
            });
        }
    }
    item
}
