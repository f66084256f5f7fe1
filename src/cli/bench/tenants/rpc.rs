//! Calls of JSON-RPC on a connection of one's own.

use serde_json::{Value, json};

use super::super::load::Wire;
use crate::cli::Failure;

/// A call of a method that takes the session first; `params` is an array.
pub fn call(method: &str, session: &str, params: Value) -> String {
    let mut all = vec![Value::from(session)];
    if let Value::Array(params) = params {
        all.extend(params);
    }
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": all}).to_string()
}

/// Makes such a call; its result.
pub async fn result(wire: &mut Wire, method: &str, session: &str, params: Value) -> Result<Value, Failure> {
    read(method, wire.call(call(method, session, params)).await?.1.as_ref())
}

/// Logs in; the session's key.
pub async fn login(wire: &mut Wire, user: &str, key: &str) -> Result<String, Failure> {
    let login = json!({"jsonrpc": "2.0", "id": 1, "method": "login", "params": [user, key]}).to_string();
    let session = read("login", wire.call(login).await?.1.as_ref())?;
    session.as_str().map(str::to_owned).ok_or_else(|| Failure::failed("login gave no session"))
}

fn read(method: &str, answer: &[u8]) -> Result<Value, Failure> {
    let mut answer: Value = serde_json::from_slice(answer).map_err(Failure::failed)?;
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(Failure::failed(format!("{method}: {}", answer["error"]))),
    }
}
