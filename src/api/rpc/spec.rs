//! What a method is, apart from what it does.

use schemars::{Schema, SchemaGenerator};

use super::args::Param;
use crate::domain::fault::FaultCode;
use crate::domain::user::Permission;

/// The faults of finding out who calls.
pub const CALLER_FAULTS: &[FaultCode] = &[
    FaultCode::AccessDenied,
    FaultCode::SessionExpired,
    FaultCode::UserDisabled,
    FaultCode::TooManyCalls,
    FaultCode::CallQuota,
];

/// What a subscription tells.
#[derive(Clone, Copy)]
pub struct Notification {
    /// The method of the notifications.
    pub method: &'static str,
    /// The schema of what each tells.
    pub result_schema: fn(&mut SchemaGenerator) -> Schema,
}

/// What a method is, apart from what it does.
pub struct Spec {
    /// `resource.verb`, or a bare name.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// What it takes, after the session.
    pub params: Vec<Param>,
    /// Whether the session is its first parameter.
    pub takes_session: bool,
    /// What its caller must be allowed to do: one of these, if there are any.
    pub permissions: &'static [Permission],
    /// The fault for a value of the wrong kind.
    pub invalid: FaultCode,
    /// The other faults of its resource, and of others, that it may raise.
    pub faults: &'static [FaultCode],
    /// The schema of what it takes: an object with a member for each parameter.
    pub params_schema: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of what it returns.
    pub result_schema: fn(&mut SchemaGenerator) -> Schema,
    /// Whether it can be called over a WebSocket only.
    pub needs_websocket: bool,
    /// What follows its answer.
    pub notification: Option<Notification>,
    /// The option by which a list goes on that was cut off.
    pub goes_on_by: Option<&'static str>,
    /// What it waits for before it runs.
    pub turn: TurnOf,
}

/// Whose turn a method waits for, that no account has many run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnOf {
    /// Its caller's.
    Calls,
    /// The same of those that read much.
    HeavyCalls,
    /// None: it has others run, or waits for something, and sees to it itself.
    None,
}

impl Spec {
    /// True of the names that the specification of JSON-RPC keeps for itself.
    pub fn is_reserved(&self) -> bool {
        self.name.starts_with("rpc.")
    }

    /// The part before the dot; `None` for a bare name and a reserved one.
    pub fn resource(&self) -> Option<&'static str> {
        self.name.split_once('.').map(|(resource, _)| resource).filter(|_| !self.is_reserved())
    }

    /// Every fault it may raise, in the order of their numbers.
    pub fn all_faults(&self) -> Vec<FaultCode> {
        let mut faults = vec![FaultCode::Internal, FaultCode::TooManyCalls, self.invalid];
        if !self.params.is_empty() {
            faults.push(FaultCode::MissingParameter);
        }
        if self.takes_session {
            faults.extend(CALLER_FAULTS);
        }
        if self.needs_websocket {
            faults.push(FaultCode::NotCallable);
        }
        faults.extend(self.faults);
        faults.sort_by_key(|code| code.number());
        faults.dedup();
        faults
    }
}
