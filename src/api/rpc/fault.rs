//! Faults and protocol errors as JSON-RPC error objects.

use std::time::Duration;

use jsonrpsee::types::ErrorObjectOwned;
use serde::{Deserialize, Serialize};

use super::envelope::{INVALID_PARAMS, Shape, words, write_error};
use crate::domain::fault::{Fault, FaultCode};

/// Which codes faults carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// The number of the seed's tables: 101.
    Native,
    /// −(32000 + n), as the vendor's documentation and client have it: −32101.
    Vendor,
}

/// What a program can use of a fault.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// A fault as an error object.
pub fn error_object(fault: &Fault, codes: Codes) -> ErrorObjectOwned {
    let number = fault.code.number();
    let code = match codes {
        Codes::Native => number,
        Codes::Vendor => -(32_000 + number),
    };
    ErrorObjectOwned::owned(code, fault.to_string(), data(fault))
}

/// A fault of a registered method: there, a missing parameter is the
/// specification's own error.
pub fn registered_error(fault: &Fault, codes: Codes) -> ErrorObjectOwned {
    if fault.code != FaultCode::MissingParameter {
        return error_object(fault, codes);
    }
    let detail = fault.detail.as_deref().unwrap_or("a parameter is missing.");
    ErrorObjectOwned::owned(INVALID_PARAMS, format!("{}: {detail}", words(INVALID_PARAMS)), data(fault))
}

fn data(fault: &Fault) -> Option<Data<'_>> {
    let retry_after_ms = fault.retry_after.map(millis);
    let data = Data { field: fault.field.as_deref(), index: fault.index, retry_after_ms };
    (data.field.is_some() || data.index.is_some() || data.retry_after_ms.is_some()).then_some(data)
}

/// One of the specification's errors; the problem goes to `data`, so that the
/// message is the specification's.
pub fn specification_error(code: i32, problem: Option<&str>) -> String {
    let data = problem.map(|problem| serde_json::json!({ "problem": problem }));
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
    let data = retry_after.map(|wait| Data { field: None, index: None, retry_after_ms: Some(millis(wait)) });
    let error = ErrorObjectOwned::owned(code, message, data);
    serde_json::to_string(&error).expect("an error object has only string keys")
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
