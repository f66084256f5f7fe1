//! `tallyhook call METHOD --help`: what a method takes, from the OpenRPC
//! document.

use serde_json::Value;

use super::{Failure, program};
use crate::api::rpc::{self, Entry, Line};
use crate::domain::nearest::nearest;

/// The help of a method. Fails if there is none of that name.
pub fn of(method: &str) -> Result<String, Failure> {
    // Where a server is called makes no difference here.
    let document = rpc::openrpc("http://127.0.0.1:8080/");
    match rpc::entry(&document, method) {
        Some(entry) => Ok(help(method, &entry)),
        None => {
            let names =
                document["methods"].as_array().into_iter().flatten().filter_map(|method| method["name"].as_str());
            let guess = nearest(method, names).map_or_else(
                || "tallyhook call resources lists those of a server".to_owned(),
                |name| format!("did you mean {name}?"),
            );
            Err(Failure::usage(format!("there is no method {method:?}; {guess}")))
        }
    }
}

fn help(method: &str, entry: &Entry) -> String {
    let mut text = format!("{method}: {}\n", entry.summary);
    if !entry.description.is_empty() {
        text += &format!("{}\n", entry.description.replace('`', ""));
    }
    let arguments: String = arguments(entry).map(usage).collect();
    text += &format!("\nUsage: tallyhook call {method}{arguments}\n");
    if !entry.params.is_empty() {
        text += "\nArguments, in this order; null stands for one that is left out:\n";
        entry.params.iter().for_each(|line| text += &described(line, line.is_required));
    }
    text += "\nAnswer:\n";
    entry.result.iter().for_each(|line| text += &described(line, false));
    if let Some((args, result)) = &entry.example {
        let given = args.iter().rposition(|arg| !arg.is_null()).map_or(0, |last| last + 1);
        let args: String = args[..given].iter().map(|arg| format!(" {}", typed(arg))).collect();
        text += &format!("\nExample:\n  {} call {method}{args}\n{}\n", program(), indented(&format!("{result:#}")));
    }
    text += "\nFaults:\n";
    // The specification's own are for those who call it otherwise.
    for (code, message) in entry.faults.iter().filter(|(code, _)| *code >= 0) {
        text += &format!("  {code:>3}  {message}\n");
    }
    text.trim_end().to_owned()
}

/// The parameters, without their members.
fn arguments(entry: &Entry) -> impl Iterator<Item = &Line> {
    entry.params.iter().filter(|line| !line.path.contains('.'))
}

fn usage(line: &Line) -> String {
    let name = line.path.to_ascii_uppercase();
    if line.is_required { format!(" {name}") } else { format!(" [{name}]") }
}

/// A member stands further in than what it is in.
fn described(line: &Line, is_required: bool) -> String {
    let indent = "  ".repeat(line.path.matches('.').count() + 1);
    let must = if is_required { ", required" } else { "" };
    let name = if line.path.is_empty() { String::new() } else { format!("{}: ", line.path) };
    let description = match line.description.is_empty() {
        true => String::new(),
        false => format!("{indent}    {}\n", line.description),
    };
    format!("{indent}{name}{}{must}\n{description}", line.kind)
}

/// A value as it is typed at a shell.
fn typed(value: &Value) -> String {
    let plain = value.as_str().filter(|text| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'_' | b'-' | b'/' | b',');
        // Else it would be read as JSON, or as an option.
        !text.is_empty() && text.bytes().all(is_plain) && !text.starts_with('-') && !is_json(text)
    });
    match plain {
        Some(text) => text.to_owned(),
        None => match value.to_string() {
            number if value.is_number() || value.is_boolean() || value.is_null() => number,
            json => format!("'{}'", json.replace('\'', r"'\''")),
        },
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_typed_so_that_they_are_read_again() {
        for (value, arg) in [
            (json!("order:created"), "order:created"),
            (json!("7"), "'\"7\"'"),
            (json!("it's"), r#"'"it'\''s"'"#),
            (json!("-"), "'\"-\"'"),
            (json!(7), "7"),
            (json!({"order_id": 7}), r#"'{"order_id":7}'"#),
        ] {
            assert_eq!(typed(&value), arg);
        }
    }

    #[test]
    fn every_method_has_its_help() {
        let document = rpc::openrpc("http://127.0.0.1:8080/");
        for method in document["methods"].as_array().unwrap() {
            let name = method["name"].as_str().unwrap();
            let help = of(name).unwrap();
            assert!(help.contains(&format!("Usage: tallyhook call {name}")), "{help}");
            for param in method["params"].as_array().unwrap().iter().filter(|param| param["name"] != "session") {
                assert!(help.contains(&format!("\n  {}: ", param["name"].as_str().unwrap())), "{help}");
            }
            assert!(!help.contains('`') && !help.contains("#/components"), "{help}");
        }
    }
}
