//! Entries of the audit log, as they are written.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::schema;
use crate::domain::audit::{Actor, AuditEntry};

/// A change: who has made it, when, and what was before and is since.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "AuditEntry")]
pub struct AuditItem {
    /// Its id.
    #[schemars(schema_with = "schema::id")]
    audit_id: i64,
    /// When it was made.
    #[schemars(schema_with = "schema::time")]
    at: String,
    /// The user who has made it; null: an operator, at the command line of the server.
    #[schemars(schema_with = "schema::id_or_null")]
    user_id: Option<i64>,
    /// What that logs in as.
    user: Option<String>,
    /// The token of that user by which it called; null: it was none.
    #[schemars(schema_with = "schema::id_or_null")]
    token_id: Option<i64>,
    /// The address that called.
    peer: Option<String>,
    /// What the call was named, in the log and in its answer.
    request_id: Option<String>,
    /// What was done: the method that does it, whichever dialect or command it was done by.
    #[schemars(schema_with = "schema::audit_actions")]
    action: &'static str,
    /// What kind of thing was changed.
    #[schemars(schema_with = "schema::audit_kinds")]
    kind: &'static str,
    /// Which: the number of a webhook or a job, `webhook:number` of a delivery, and the name of anything else.
    id: String,
    /// What was changed, as it was before; of secrets, a fingerprint.
    #[schemars(schema_with = "schema::message")]
    before: Box<RawValue>,
    /// The same, as it is since.
    #[schemars(schema_with = "schema::message")]
    after: Box<RawValue>,
    /// True: some of it was too long to be kept.
    is_cut: bool,
}

impl TryFrom<AuditEntry> for AuditItem {
    type Error = serde_json::Error;

    fn try_from(entry: AuditEntry) -> Result<Self, Self::Error> {
        let AuditEntry { audit_id, merchant_code: _, at, actor, action, subject, before, after, is_cut } = entry;
        let (user_id, user, token_id, peer, request_id) = match actor {
            Some(Actor { user_id, name, token_id, peer, request_id }) => {
                let (peer, request_id) = (peer.map(|peer| peer.to_string()), request_id.map(|id| id.to_string()));
                (Some(user_id.0), Some(name), token_id.map(|id| id.0), peer, request_id)
            }
            None => (None, None, None, None, None),
        };
        Ok(Self {
            audit_id: audit_id.0,
            at: at.rfc3339_ms(),
            user_id,
            user,
            token_id,
            peer,
            request_id,
            action: action.name(),
            kind: subject.kind.name(),
            id: subject.id,
            before: RawValue::from_string(before)?,
            after: RawValue::from_string(after)?,
            is_cut,
        })
    }
}
