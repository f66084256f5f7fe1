//! `tallyhook call`: one method of a server, from the command line.

use std::path::Path;

use clap::Args;
use serde_json::value::{RawValue, to_raw_value};

use super::client::RpcClient;
use super::json::pretty;
use super::target::{ServerFlags, log_in};
use super::{Failure, block_on, help_of, method_help, print, read_text};

/// What its help ends with.
pub const EXAMPLES: &str = r#"Examples:
  tallyhook call resources
  tallyhook call webhook.list
  tallyhook call webhook.create '{"url": "http://127.0.0.1:9000/", "topics": "*"}' true
  tallyhook call event.publish order:created '{"order_id": 7}'
  tallyhook call event.publish order:created '{}' '{"idempotency_key": "order-7"}'
  tallyhook call event.publish order:created @order.json
  make-order | tallyhook call event.publish order:created -
  tallyhook call delivery.list 1 '{"state": "pending"}'
  tallyhook call webhook.pause 1
  tallyhook call webhook.resume 1

  export TALLYHOOK_URL=https://hooks.example.com
  export TALLYHOOK_USER=shop TALLYHOOK_KEY=tk_…
  tallyhook call webhook.list

"tallyhook call METHOD --help" shows what a method takes.

An argument that is no JSON is taken as a string; one that begins like JSON with
{, [ or " has to be JSON. @FILE stands for the JSON in a file, - for that on
stdin. The result goes to stdout as JSON; a fault goes to stderr with its number
and words, and the exit code is 1.
A server on this machine is asked as the user demo of `tallyhook serve --dev`,
unless a user and a key are given."#;

/// What to call, where, and as whom.
#[derive(Args)]
pub struct CallArgs {
    /// A method, such as webhook.list
    #[arg(required_unless_present = "help")]
    method: Option<String>,
    /// Its arguments, each as JSON or as a plain string; @FILE or - for JSON that is read
    #[arg(value_name = "JSON-ARG", allow_negative_numbers = true)]
    args: Vec<String>,
    #[command(flatten)]
    server: ServerFlags,
    /// Show what the method takes, with an example; without a method, this
    #[arg(short, long)]
    help: bool,
}

/// Calls, and prints the result.
pub fn run(args: CallArgs) -> Result<(), Failure> {
    let method = match args.method {
        Some(method) if args.help => return print(&method_help::of(&method)?),
        Some(method) => method,
        None => return print(help_of("call").trim_end()),
    };
    let target = args.server.target()?;
    let values = values(&args.args)?;
    let credentials = match needs_no_session(&method) {
        true => None,
        false => Some(args.server.credentials(&target)?),
    };
    let client = RpcClient::new(args.server.http(target)?);
    block_on(async {
        let result = call(&client, &method, &values, credentials).await?;
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
    let session = log_in(client, &user, &key).await?;
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

/// The arguments; what they name is read.
fn values(args: &[String]) -> Result<Vec<Box<RawValue>>, Failure> {
    if args.iter().filter(|arg| *arg == "-").count() > 1 {
        return Err(Failure::usage("only one argument can be -, for stdin is read once"));
    }
    let value = |(place, arg): (usize, &String)| {
        let file = if arg == "-" { Some("-") } else { arg.strip_prefix('@').filter(|file| !file.is_empty()) };
        match file {
            Some(file) => read_json(file),
            None => value(arg).map_err(|problem| Failure::usage(format!("argument {place}: {problem}"))),
        }
    };
    (1..).zip(args).map(value).collect()
}

/// The JSON in a file, or on stdin for `-`.
fn read_json(file: &str) -> Result<Box<RawValue>, Failure> {
    let text = read_text(Path::new(file))?;
    let json = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let name = if file == "-" { "stdin" } else { file };
    serde_json::from_str(json).map_err(|cause| Failure::usage(format!("{name}: what is in it is no JSON: {cause}")))
}

/// JSON as it was typed, to the byte; or a string. What begins like JSON was
/// meant to be, and the error says why it is none.
fn value(arg: &str) -> Result<Box<RawValue>, String> {
    match serde_json::from_str(arg) {
        Err(cause) if arg.trim_start().starts_with(['{', '[', '"']) => {
            Err(format!("it begins like JSON and is none: {cause}; quote it for the shell as in '{{\"a\": 1}}'"))
        }
        Err(_) => to_raw_value(arg).map_err(|cause| cause.to_string()),
        Ok(value) => Ok(value),
    }
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
            ("", "\"\""),
            ("2026-11-22T03:04:05Z", "\"2026-11-22T03:04:05Z\""),
            ("-7-", "\"-7-\""),
        ] {
            assert_eq!(value(arg).unwrap().get(), json);
        }
        for broken in ["{\"a\"", " {a: 1}", "[1,]", "\"x", "{} {}"] {
            assert!(value(broken).unwrap_err().contains("begins like JSON and is none"), "{broken}");
        }
    }

    #[test]
    fn files_are_read_and_hold_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("@{}", path.display())
        };
        let read = values(&["a:b".to_owned(), file("order.json", "\u{feff}{ \"b\":1.00 }\n"), "@".to_owned()]).unwrap();
        let texts: Vec<_> = read.iter().map(|value| value.get()).collect();
        assert_eq!(texts, ["\"a:b\"", "{ \"b\":1.00 }", "\"@\""]);
        for (arg, problem) in [
            (file("plain.txt", "order:created"), "no JSON"),
            (file("empty.json", ""), "no JSON"),
            ("@/nonexistent/order.json".to_owned(), "can't be read"),
        ] {
            let failure = values(&[arg]).unwrap_err();
            assert!(failure.message.as_ref().is_some_and(|told| told.contains(problem)), "{failure:?}");
        }
        let twice = values(&["-".to_owned(), "-".to_owned()]).unwrap_err();
        assert!(twice.code == 2 && twice.message.is_some_and(|told| told.contains("only one")));
    }
}
