//! The fields of lines of the log, as the code has them.

use std::collections::BTreeSet;
use std::path::Path;

use super::table;
use crate::files::rust_files;

const LEVELS: [&str; 4] = ["error!(", "warn!(", "info!(", "debug!("];

/// What stands before the message of a line, a field each. Debugging is for who reads the
/// code.
fn fields(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for level in &LEVELS[..3] {
        for (at, _) in code.match_indices(level) {
            // A longer word ends with it.
            if code[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_') {
                continue;
            }
            let fields = code[at + level.len()..].split_once('"').expect("each has a message").0;
            let (mut depth, mut parts) = (0, vec![String::new()]);
            for char in fields.chars() {
                depth += i32::from("([{".contains(char)) - i32::from(")]}".contains(char));
                match char {
                    ',' if depth == 0 => parts.push(String::new()),
                    _ => parts.last_mut().expect("there is one").push(char),
                }
            }
            let name = |part: &String| part.split('=').next().unwrap().trim().trim_start_matches(['%', '?']).to_owned();
            found.extend(parts.iter().map(name).filter(|name| !name.is_empty()));
        }
    }
    found
}

#[test]
fn fields_of_the_log_are_told() {
    let mut known = BTreeSet::new();
    for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let code: Vec<_> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
        known.extend(fields(&code.join("\n")));
    }
    assert!(known.len() > 20 && known.contains("webhook_id"), "{known:?}: they are no longer read");
    let told: BTreeSet<_> =
        table("docs/operating.md", "Fields").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let always = ["timestamp", "level", "target", "message", "request_id"].map(str::to_owned);
    assert!(always.iter().all(|field| told.contains(field)), "{told:?}");
    let told: BTreeSet<_> = told.into_iter().filter(|field| !always.contains(field)).collect();
    assert_eq!(told, known);
}

#[test]
fn a_field_is_what_stands_before_the_message() {
    let code = r#"warn!(%cause, path = %self.path.display(), count = found.iter().map(|a, b| a).len(), ?all, "is, so"); no_warn!(x, "y")"#;
    assert_eq!(fields(code), ["cause", "path", "count", "all"]);
}
