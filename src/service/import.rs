//! Importing webhooks: many definitions, each made on its own, and those that
//! are there already told from those that are not.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::Service;
use super::caller::Caller;
use super::webhook::not_created;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::id::WebhookId;
use crate::domain::topic::Pattern;
use crate::domain::user::Permission;
use crate::domain::webhook::{Webhook, WebhookChanges, WebhookDefaults, WebhookSpec};
use crate::store::StoreError;

/// The most webhooks that one import takes; each is a change of its own.
pub const IMPORT_WEBHOOKS_MAX: usize = 100;
/// The most webhooks that are named as being there already.
pub const SAME_AS_MAX: usize = 10;

/// What becomes of a definition whose webhook is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is refused.
    #[default]
    Refuse,
    /// It is passed over.
    Skip,
    /// One more is made.
    Create,
}

impl Existing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Skip, Self::Create];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Skip => "skip",
            Self::Create => "create",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|existing| existing.name() == name)
    }
}

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// What becomes of what is there already.
    pub existing: Existing,
    /// Nothing is made, only said what would be.
    pub is_dry_run: bool,
}

/// What came of a definition.
#[derive(Debug)]
pub enum Outcome {
    /// This webhook was made of it.
    Created(Box<Webhook>),
    /// A webhook would be: nothing is wrong with it.
    Valid,
    /// It was passed over, since its webhook is there already.
    Skipped,
}

/// What came of a definition, and of which webhooks it is like.
#[derive(Debug)]
pub struct Imported {
    /// What came of it, or why nothing did, in the faults of `create_webhook`.
    pub outcome: Result<Outcome, Fault>,
    /// The webhooks that were there before it with the same URL and topics, up
    /// to [`SAME_AS_MAX`] of them, in the order of their ids.
    pub same_as: Vec<WebhookId>,
}

/// What makes a webhook the same as another one to a person who imports it
/// twice: where it is posted to, or of those that are pulled their name; and
/// what it subscribes to, in whatever order. By its hash, for URLs are long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Likeness([u8; 32]);

impl Likeness {
    fn of(spec: &WebhookSpec) -> Self {
        let goes_to = match &spec.url {
            Some(url) => format!("to {}", url.url()),
            None => format!("pulled as {}", spec.name),
        };
        let topics: BTreeSet<String> = spec.topics.list().iter().map(Pattern::to_string).collect();
        let digest = topics.iter().fold(Sha256::new().chain_update(goes_to), |digest, topic| {
            // Neither a URL that was parsed nor a topic has a line end in it.
            digest.chain_update("\n").chain_update(topic)
        });
        Self(digest.finalize().into())
    }
}

/// Of what is there already, what an import has to know.
struct Known {
    /// How many webhooks there are.
    count: usize,
    /// Those that are like one of its definitions.
    same: BTreeMap<Likeness, Vec<WebhookId>>,
    /// What a dry run would have made.
    planned: BTreeSet<Likeness>,
}

impl Known {
    fn note(&mut self, likeness: Likeness, id: WebhookId) {
        let same = self.same.entry(likeness).or_default();
        if same.len() < SAME_AS_MAX {
            same.push(id);
        }
    }
}

impl Service {
    /// Makes a webhook of each definition, in their order and each on its own:
    /// what is wrong with one keeps no other from being made. A definition that
    /// could not be read is told of as it is. Fails with fault 1 if what is
    /// there already can't be looked up; then nothing was made.
    pub async fn import_webhooks(
        &self,
        caller: &Caller,
        said: Vec<Result<WebhookChanges, Fault>>,
        defaults: WebhookDefaults,
        options: ImportOptions,
    ) -> Result<Vec<Imported>, Fault> {
        caller.check(Permission::WebhookWrite)?;
        caller.makes_webhooks()?;
        let mut specs = Vec::with_capacity(said.len());
        for said in said {
            specs.push(said.and_then(|said| self.check_new(caller, said, defaults.clone())));
            // To look through a certificate takes a while.
            tokio::task::yield_now().await;
        }
        let wanted = specs.iter().flatten().map(Likeness::of).collect();
        let mut known = self.known_webhooks(caller, wanted).await?;
        let mut all = Vec::with_capacity(specs.len());
        for spec in specs {
            all.push(match spec {
                Ok(spec) => self.import_webhook(caller, spec, options, &mut known).await,
                Err(fault) => Imported { outcome: Err(fault), same_as: Vec::new() },
            });
        }
        Ok(all)
    }

    async fn known_webhooks(&self, caller: &Caller, wanted: BTreeSet<Likeness>) -> Result<Known, Fault> {
        let mut known = Known { count: 0, same: BTreeMap::new(), planned: BTreeSet::new() };
        let mut after = None;
        loop {
            let webhooks = self.all_webhooks_behind(caller, after).await?;
            let Some(last) = webhooks.last() else { return Ok(known) };
            after = Some(last.webhook_id);
            known.count += webhooks.len();
            for webhook in webhooks {
                let likeness = Likeness::of(&webhook.spec);
                if wanted.contains(&likeness) && caller.reaches(&webhook) {
                    known.note(likeness, webhook.webhook_id);
                }
            }
        }
    }

    async fn import_webhook(
        &self,
        caller: &Caller,
        spec: WebhookSpec,
        options: ImportOptions,
        known: &mut Known,
    ) -> Imported {
        let likeness = Likeness::of(&spec);
        let same_as = known.same.get(&likeness).cloned().unwrap_or_default();
        let is_there = !same_as.is_empty() || known.planned.contains(&likeness);
        let outcome = match options.existing {
            Existing::Refuse if is_there => Err(is_there_already(same_as.first())),
            Existing::Skip if is_there => Ok(Outcome::Skipped),
            _ if options.is_dry_run => {
                let (used, max) = (known.count, self.webhooks_max(caller));
                if used >= max as usize {
                    Err(not_created(caller, StoreError::WebhookQuota { used, max }))
                } else {
                    known.count += 1;
                    known.planned.insert(likeness);
                    Ok(Outcome::Valid)
                }
            }
            _ => self.add_webhook(caller, spec).await.map(|webhook| {
                known.note(likeness, webhook.webhook_id);
                Outcome::Created(Box::new(webhook))
            }),
        };
        Imported { outcome, same_as }
    }
}

fn is_there_already(which: Option<&WebhookId>) -> Fault {
    let who = match which {
        Some(id) => format!("Webhook {id}"),
        None => "One of the definitions before it".to_owned(),
    };
    Fault::new(FaultCode::CreateRefused).field("url").detail(format!(
        "{who} has the same URL (or, if it is pulled, the same name) and topics; existing skip passes over it, and \
         existing create makes one more."
    ))
}
