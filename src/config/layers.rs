//! The sources of a configuration: each becomes a layer of values that know
//! where they stand; names that no key has are mistakes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use ::config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::keys::{DEFAULT_ORIGIN, KEYS, Key};
use super::names::{OTHER_VARIABLES, PREFIX};
use crate::domain::nearest::{distance, distance_max};

/// One source, its values marked with where each stands.
#[derive(Clone, Debug)]
pub struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// What counts when nobody sets it.
pub fn default_layer() -> Layer {
    let origin = DEFAULT_ORIGIN.to_owned();
    Layer(KEYS.iter().map(|key| (key.name.to_owned(), Value::new(Some(&origin), key.default))).collect())
}

/// The TOML file.
pub fn file_layer(path: Option<&PathBuf>, mistakes: &mut Vec<String>) -> Layer {
    let Some(path) = path else { return Layer(Map::new()) };
    let origin = format!("file {}", path.display());
    let table = std::fs::read_to_string(path).map_err(|cause| format!("it can't be read: {cause}")).and_then(|text| {
        let told = |cause: ConfigError| format!("no TOML: {}", without_excerpt(&cause.to_string()));
        File::from_str(&text, FileFormat::Toml).collect().map_err(told)
    });
    let table = table.unwrap_or_else(|problem| {
        mistakes.push(format!("{origin}: {}", problem.trim_end().replace('\n', "\n    ")));
        Map::new()
    });
    let mut layer = Map::new();
    // In the order of the names, so that the same file gets the same answer.
    for (name, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
        if matches!(value.kind, ValueKind::Table(_)) {
            mistakes.push(format!("{name:?} ({origin}): there are no sections; write every key at the top level"));
        } else if KEYS.iter().any(|key| key.name == name) {
            layer.insert(name, Value::new(Some(&origin), value.kind));
        } else {
            let guess = KEYS.iter().map(|key| key.name.to_owned());
            mistakes.push(format!("{name:?} ({origin}): there is no such key{}", did_you_mean(&name, guess)));
        }
    }
    Layer(layer)
}

/// What is wrong with a file, and where, without its lines, which may have a password in them.
fn without_excerpt(problem: &str) -> String {
    let is_excerpt =
        |line: &&str| line.trim_start_matches(|char: char| char.is_ascii_digit() || char == ' ').starts_with('|');
    problem.lines().filter(|line| !is_excerpt(line)).collect::<Vec<_>>().join("\n")
}

/// The environment; variables that are not ours are passed over. The names of
/// those that look like ours and are the platform's come with it.
pub fn variable_layer(variables: &[(OsString, OsString)], mistakes: &mut Vec<String>) -> (Layer, Vec<String>) {
    let (mut layer, mut passed_over) = (Map::new(), Vec::new());
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if !name.to_ascii_uppercase().starts_with(PREFIX) || OTHER_VARIABLES.contains(&name.as_ref()) {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            if is_of_the_platform(&name, &value.to_string_lossy()) {
                passed_over.push(name.into_owned());
                continue;
            }
            let known = KEYS.iter().map(Key::variable).chain(OTHER_VARIABLES.map(str::to_owned));
            mistakes.push(format!("variable {name}: there is no such setting{}", did_you_mean(&name, known)));
            continue;
        };
        match value.to_str() {
            Some(text) => _ = layer.insert(key.name.to_owned(), Value::new(Some(&format!("variable {name}")), text)),
            None => {
                mistakes.push(format!("{} (variable {name}): it is not UTF-8; write {}", key.name, key.rule.allowed()))
            }
        }
    }
    passed_over.sort();
    (Layer(layer), passed_over)
}

/// True of what Kubernetes sets for a service that is named tallyhook, or
/// begins so, and Docker for a linked container: `…_SERVICE_HOST`,
/// `…_SERVICE_PORT`, `…_PORT` with a URL, `…_PORT_80_TCP` and what follows that,
/// `…_NAME` with a path, `…_ENV_…`.
fn is_of_the_platform(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let is_url = || {
        let scheme = value.split_once("://").map(|(scheme, _)| scheme.to_ascii_uppercase());
        scheme.is_some_and(|scheme| PROTOCOLS.contains(&&*scheme))
    };
    let is_address = |rest: &str| {
        let mut parts = rest.split('_');
        let has_number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        let has_protocol = parts.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol));
        has_number && has_protocol && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.contains("_ENV_")
        || (name.ends_with("_PORT") && is_url())
        || (name.ends_with("_NAME") && value.starts_with('/'))
        || name.split("_PORT_").skip(1).any(is_address)
}

/// The command line, whose names are known to be right.
pub fn flag_layer(flags: &[(&'static str, String)]) -> Layer {
    let value = |name: &str, text: &str| Value::new(Some(&format!("flag --{}", name.replace('_', "-"))), text);
    Layer(flags.iter().map(|(name, text)| ((*name).to_owned(), value(name, text))).collect())
}

/// `; did you mean …?` with the closest of the known names, if one is close.
fn did_you_mean(name: &str, known: impl Iterator<Item = String>) -> String {
    // What all our variables share says nothing of how close two of them are.
    let word = |name: &str| {
        let folded = name.to_ascii_uppercase().replace('-', "_");
        folded.strip_prefix(PREFIX).unwrap_or(&folded).to_owned()
    };
    let name = word(name);
    let near = distance_max(&name);
    let far = |known: &str| {
        // Most often it is the unit that was left out.
        if known.starts_with(&format!("{name}_")) { 1 } else { distance(&name, known) }
    };
    known
        .map(|known| (far(&word(&known)), known))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map_or_else(|| "; see tallyhook serve --help".to_owned(), |(_, known)| format!("; did you mean {known}?"))
}
