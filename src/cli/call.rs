//! `tallyhook call`: one method of a server, from the command line.

use clap::Args;
use serde_json::value::{RawValue, to_raw_value};

use super::client::{RpcClient, RpcError, Target};
use super::json::pretty;
use super::{Failure, block_on, credentials, print};
use crate::config::{KEY_VARIABLE, URL_VARIABLE, USER_VARIABLE};

/// What its help ends with.
pub const EXAMPLES: &str = r#"Examples:
  tallyhook call resources
  tallyhook call webhook.list
  tallyhook call webhook.create '{"url": "http://127.0.0.1:9000/", "topics": "*"}' true
  tallyhook call event.publish order:created '{"order_id": 7}'
  tallyhook call event.publish order:created '{}' '{"idempotency_key": "order-7"}'
  tallyhook call delivery.list 1 '{"state": "pending"}'

  export TALLYHOOK_URL=https://hooks.example.com
  export TALLYHOOK_USER=shop TALLYHOOK_KEY=tk_…
  tallyhook call webhook.list

An argument that is no JSON is taken as a string. The result goes to stdout as
JSON; a fault goes to stderr with its number and words, and the exit code is 1.
A server on this machine is asked as the user demo of `tallyhook serve --dev`,
unless a user and a key are given."#;

/// What to call, where, and as whom.
#[derive(Args)]
pub struct CallArgs {
    /// A method, such as webhook.list
    method: String,
    /// Its arguments, each as JSON or as a plain string
    #[arg(value_name = "JSON-ARG", allow_negative_numbers = true)]
    args: Vec<String>,
    /// The server
    #[arg(long, env = URL_VARIABLE, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Who to log in as
    #[arg(long, env = USER_VARIABLE, requires = "key")]
    user: Option<String>,
    /// The user's API key; better given as the variable, which other users of the machine can't see
    #[arg(long, env = KEY_VARIABLE, hide_env_values = true, requires = "user")]
    key: Option<String>,
}

/// Calls, and prints the result.
pub fn run(args: CallArgs) -> Result<(), Failure> {
    let target = Target::try_new(&args.url).map_err(Failure::usage)?;
    let values = args.args.iter().map(|arg| value(arg)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    let credentials = match needs_no_session(&args.method) {
        true => None,
        false => Some(credentials(&target, args.user.zip(args.key))?),
    };
    let client = RpcClient::new(target).map_err(Failure::failed)?;
    block_on(async {
        let result = call(&client, &args.method, &values, credentials).await?;
        print(&pretty(result.get()))
    })
}

async fn call(
    client: &RpcClient,
    method: &str,
    args: &[Box<RawValue>],
    credentials: Option<(String, String)>,
) -> Result<Box<RawValue>, Failure> {
    let Some((user, key)) = credentials else {
        return client.request(method, args).await.map_err(Failure::failed);
    };
    let session = client.login(&user, &key).await.map_err(|error| match error {
        RpcError::Fault { .. } => Failure::failed(format!("{error} (at the login as {user})")),
        other => Failure::failed(other),
    })?;
    let result = match method.contains('.') {
        true => session.call(method, args).await,
        false => session.request(method, args).await,
    };
    session.end().await;
    result.map_err(Failure::failed)
}

/// True for methods that come before a login, or do without.
fn needs_no_session(method: &str) -> bool {
    matches!(method, "login" | "startSession") || method.starts_with("rpc.")
}

/// JSON as it was typed, to the byte; or a string.
fn value(arg: &str) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_str(arg).or_else(|_| to_raw_value(arg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_strings() {
        for (arg, json) in [
            ("order:created", "\"order:created\""),
            ("7", "7"),
            ("1.50", "1.50"),
            (r#"{"b": 1, "a": 2}"#, r#"{"b": 1, "a": 2}"#),
            ("true", "true"),
            ("\"7\"", "\"7\""),
            ("{\"a\"", "\"{\\\"a\\\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(value(arg).unwrap().get(), json);
        }
    }
}
