//! Faults and protocol errors as JSON-RPC error objects.

use std::time::Duration;

use jsonrpsee::types::ErrorObjectOwned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envelope::{INTERNAL_ERROR, INVALID_PARAMS, Shape, words, write_error};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::request_id::RequestId;

/// Which codes faults carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// The number of the table of faults: 101.
    Native,
    /// −(32000 + n), as the vendor's client has it: −32101 (docs/wire.md,
    /// "Codes").
    Vendor,
}

/// To whom a fault is told.
#[derive(Clone, Copy, Debug)]
pub struct Addressee {
    /// Which codes the path of the request has.
    pub codes: Codes,
    /// What the request is called; said where the log has more.
    pub request_id: RequestId,
}

/// What a program can use of a fault.
#[derive(Default, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub struct Data {
    /// The member of the input that was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Which item of a list was wrong, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// What was wrong, where the message is always the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The name that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<String>,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// What the request is called in the server's log, which says what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// A fault as an error object.
pub fn error_object(fault: &Fault, to: Addressee) -> ErrorObjectOwned {
    let number = fault.code.number();
    let code = match to.codes {
        Codes::Native => number,
        Codes::Vendor => -(32_000 + number),
    };
    ErrorObjectOwned::owned(code, fault.to_string(), data(fault, to.request_id))
}

/// A fault of a registered method: there, a missing parameter is the
/// specification's own error.
pub fn registered_error(fault: &Fault, to: Addressee) -> ErrorObjectOwned {
    if fault.code != FaultCode::MissingParameter {
        return error_object(fault, to);
    }
    let detail = fault.detail.as_deref().unwrap_or("a parameter is missing.");
    ErrorObjectOwned::owned(INVALID_PARAMS, format!("{}: {detail}", words(INVALID_PARAMS)), data(fault, to.request_id))
}

/// What stands beside the message, if anything does.
pub fn data(fault: &Fault, request_id: RequestId) -> Option<Data> {
    let data = Data {
        field: fault.field.clone(),
        index: fault.index,
        problem: fault.detail.clone().filter(|_| fault.code.keeps_its_words()),
        nearest: fault.nearest.clone(),
        retry_after_ms: fault.retry_after.map(millis),
        request_id: fault.is_logged.then(|| request_id.to_string()),
    };
    (data != Data::default()).then_some(data)
}

/// The server has failed; the log says how.
pub fn internal_error(request_id: RequestId) -> String {
    written(INTERNAL_ERROR, Data { request_id: Some(request_id.to_string()), ..Data::default() })
}

/// One of the specification's errors; the problem goes to `data`, so that the
/// message is the specification's.
pub fn specification_error(code: i32, problem: Option<&str>) -> String {
    named_error(code, problem, None)
}

/// The same for a name that nothing has, with the one that was probably meant.
pub fn named_error(code: i32, problem: Option<&str>, nearest: Option<&str>) -> String {
    let [problem, nearest] = [problem, nearest].map(|text| text.map(str::to_owned));
    written(code, Data { problem, nearest, ..Data::default() })
}

fn written(code: i32, data: Data) -> String {
    let data = (data != Data::default()).then_some(data);
    let error = ErrorObjectOwned::owned(code, words(code), data);
    serde_json::to_string(&error).expect("an error object has only string keys")
}

/// The error code of what was refused before it was run, other than by the
/// specification's own codes.
pub const REFUSED: i32 = -32000;

/// What was refused, why, and when trying again makes sense.
pub fn refused_error(problem: &str, retry_after: Option<Duration>) -> String {
    error_text(REFUSED, problem, retry_after)
}

/// A whole answer for what was refused before a call could be read.
pub fn protocol_error(code: i32, problem: &str, retry_after: Option<Duration>) -> String {
    write_error(Shape::Text, None, &error_text(code, problem, retry_after))
}

/// When an error object says that trying again makes sense.
pub fn retry_after(error: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Error {
        data: Option<Told>,
    }
    #[derive(Deserialize)]
    struct Told {
        retry_after_ms: Option<u64>,
    }
    let error: Error = serde_json::from_str(error).ok()?;
    error.data?.retry_after_ms.map(Duration::from_millis)
}

fn error_text(code: i32, message: &str, retry_after: Option<Duration>) -> String {
    let data = retry_after.map(|wait| Data { retry_after_ms: Some(millis(wait)), ..Data::default() });
    let error = ErrorObjectOwned::owned(code, message, data);
    serde_json::to_string(&error).expect("an error object has only string keys")
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
