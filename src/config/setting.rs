//! Values of a configuration, read from what an operator wrote.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::config::{Value, ValueKind};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::rule::{Rule, Unit};
use crate::delivery::proxy::{EgressProxy, Resolves};
use crate::store::vault::Vault;
use crate::store::{Database, Durability, Prepare};
use crate::trust::Trusted;

/// How a database is named.
const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// A value that can be read from what an operator wrote. The error says what
/// was wrong and what would be right.
pub trait Setting: Sized {
    /// Reads it.
    fn read(rule: Rule, value: &Value) -> Result<Self, String>;
}

/// Where a store is.
pub enum StoreAddress {
    /// The file of a `sqlite:` store.
    File(PathBuf),
    /// A database.
    Database(Box<Database>),
}
/// Another address of a database, or none.
pub struct OtherStore(pub Option<Database>);
/// What a node is called.
pub struct NodeName(pub String);
/// What a node does.
pub struct Roles {
    /// It takes calls.
    pub takes_calls: bool,
    /// It sends.
    pub sends: bool,
}
/// Networks, each without bits beyond its prefix.
pub struct Networks(pub Vec<IpNet>);
/// Ports, as ranges.
pub struct Ports(pub Vec<RangeInclusive<u16>>);
/// A filter that `tracing` understands.
pub struct Filter(pub String);
/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
/// What a file of certificates has one trust; nothing if there is no file.
pub struct CaFile(pub Trusted);
/// The keys that seal secrets; none if there is no file.
pub struct MasterKeys(pub Arc<Vault>);
/// The path of a file or a folder, or none.
pub struct OneFile(pub Option<PathBuf>);
/// An address with a port, or none.
pub struct OpsAddress(pub Option<SocketAddr>);
/// A proxy, or none; who looks names up is said elsewhere.
pub struct OneProxy(pub Option<EgressProxy>);
/// A URL, or none.
pub struct PublicUrl(pub Option<Url>);
/// A part of all, from 0 to 1.
pub struct Ratio(pub f64);

impl Setting for SocketAddr {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        text(value).and_then(|text| text.parse().ok()).ok_or_else(|| {
            format!(
                "{} is no address with a port; write {}, such as 127.0.0.1:8080 or [::1]:8080",
                shown(value),
                rule.allowed()
            )
        })
    }
}

impl Setting for Ratio {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        let number = value.clone().into_float().ok();
        let ratio = number.filter(|ratio| (0.0..=1.0).contains(ratio)).map(Self);
        ratio.ok_or_else(|| format!("{} is no part of all; write {}, such as 0.05", shown(value), rule.allowed()))
    }
}

impl Setting for OpsAddress {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("") => Ok(Self(None)),
            _ => SocketAddr::read(rule, value).map(|address| Self(Some(address))),
        }
    }
}

impl Setting for StoreAddress {
    fn read(_: Rule, value: &Value) -> Result<Self, String> {
        let problem = |problem: &str| Err(format!("{} {problem}", shown(value)));
        let Some(text) = text(value) else { return problem("is no store; write sqlite:PATH or postgres://…") };
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return database(text).map(|database| Self::Database(Box::new(database)));
        }
        match text.strip_prefix("sqlite:") {
            None => problem("is no store; write sqlite:PATH, such as sqlite:tallyhook.db, or postgres://…"),
            Some("") => problem("names no file; write sqlite:PATH, such as sqlite:tallyhook.db"),
            Some(path) if path.starts_with("//") => {
                problem("has two slashes; write sqlite:name.db, or sqlite:/a/name.db for an absolute path")
            }
            // To SQLite these are no paths, and would lose what was accepted.
            Some(path) if path.starts_with(':') || path.starts_with("file:") => {
                problem("is no plain path; write sqlite:PATH")
            }
            Some(path) => Ok(Self::File(path.into())),
        }
    }
}

/// The text may hold a password, so it is not shown.
fn database(text: &str) -> Result<Database, String> {
    Database::parse(text).map_err(|cause| format!("is no address of a database ({cause}); write {FORM}"))
}

impl Setting for OtherStore {
    fn read(_: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("") => Ok(Self(None)),
            Some(text) => database(text).map(|database| Self(Some(database))),
            None => Err(format!("{} is no address of a database; write {FORM}", shown(value))),
        }
    }
}

impl Setting for Prepare {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match (&value.kind, text(value)) {
            (_, Some("auto")) => Ok(Self::Auto),
            (ValueKind::Boolean(true), _) | (_, Some("on" | "true")) => Ok(Self::On),
            (ValueKind::Boolean(false), _) | (_, Some("off" | "false")) => Ok(Self::Off),
            _ => Err(format!("{} is none of them; write {}", shown(value), rule.allowed())),
        }
    }
}

impl Setting for NodeName {
    fn read(_: Rule, value: &Value) -> Result<Self, String> {
        /// Longer ones would only be in the way.
        const CHARS_MAX: usize = 100;
        let name = text(value).map(str::trim).ok_or_else(|| format!("{} is no name", shown(value)))?;
        if name.chars().count() > CHARS_MAX || name.chars().any(char::is_control) {
            return Err(format!("{} is no name; write up to {CHARS_MAX} characters in one line", shown(value)));
        }
        Ok(Self(name.to_owned()))
    }
}

impl Setting for Roles {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        let mut roles = Self { takes_calls: false, sends: false };
        let wrong = || format!("{} is no list of roles; write {}", shown(value), rule.allowed());
        for item in items(value) {
            for role in text(item).ok_or_else(wrong)?.split(',').map(str::trim).filter(|role| !role.is_empty()) {
                match role {
                    "api" => roles.takes_calls = true,
                    "send" => roles.sends = true,
                    _ => return Err(wrong()),
                }
            }
        }
        if !roles.takes_calls && !roles.sends { Err(wrong()) } else { Ok(roles) }
    }
}

impl Setting for Durability {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("full") => Ok(Self::Full),
            Some("normal") => Ok(Self::Normal),
            _ => Err(format!("{} is no durability; write {}", shown(value), rule.allowed())),
        }
    }
}

impl Setting for LogFormat {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            _ => Err(format!("{} is no format of the log; write {}", shown(value), rule.allowed())),
        }
    }
}

impl Setting for bool {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match (&value.kind, text(value)) {
            (ValueKind::Boolean(on), _) => Ok(*on),
            (_, Some("true" | "1")) => Ok(true),
            (_, Some("false" | "0")) => Ok(false),
            _ => Err(format!("{} is neither; write {}", shown(value), rule.allowed())),
        }
    }
}

impl Setting for Ports {
    fn read(_: Rule, value: &Value) -> Result<Self, String> {
        let mut ports = Vec::new();
        for item in items(value) {
            let text = match &item.kind {
                ValueKind::I64(port) => port.to_string(),
                _ => text(item).map(str::to_owned).ok_or_else(|| no_port(&shown(item)))?,
            };
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            ports.extend(parts.map(range).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self(ports))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(no_port(&format!("{text:?}"))),
    }
}

fn no_port(shown: &str) -> String {
    format!("{shown} is no port; write one from 1 to 65535, or a range such as 8000-8999")
}

/// Those of a list, or what stands alone.
fn items(value: &Value) -> &[Value] {
    match &value.kind {
        ValueKind::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    }
}

impl Setting for Networks {
    fn read(_: Rule, value: &Value) -> Result<Self, String> {
        let mut networks = Vec::new();
        for item in items(value) {
            let text = text(item)
                .ok_or_else(|| format!("{} is no network; write it in quotes, such as \"10.1.0.0/16\"", shown(item)))?;
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            networks.extend(parts.map(network).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self(networks))
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network =
        network.map_err(|_| format!("{text:?} is no network; write a CIDR such as 10.1.0.0/16, or an address"))?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!(
            "{text:?} is an address within a network; write {} for the network, or {} alone",
            network.trunc(),
            network.addr()
        ))
    }
}

impl Setting for Filter {
    fn read(_: Rule, value: &Value) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // tracing takes a misspelt level for the name of a target, and then logs nothing else.
        let is_level = |part: &str| part.contains('=') || LEVELS.contains(&part.trim().to_ascii_lowercase().as_str());
        match text(value) {
            Some(text) if (text.contains('[') || text.split(',').all(is_level)) && EnvFilter::try_new(text).is_ok() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!(
                "{} is no filter; write one of {}, or such as info,tallyhook::delivery=debug",
                shown(value),
                LEVELS.join(", ")
            )),
        }
    }
}

impl Setting for CaFile {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        let path = match text(value) {
            Some("") => return Ok(Self(Trusted::default())),
            Some(path) => path,
            None => return Err(format!("{} is no file; write {}", shown(value), rule.allowed())),
        };
        let bytes = std::fs::read(path).map_err(|cause| format!("{path} can't be read: {cause}"))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            format!("{path} is no text; if it is DER, `openssl x509 -inform der -in {path}` writes it in PEM")
        })?;
        Trusted::from_pem(&text).map(Self).map_err(|flaw| format!("{path}, {flaw}"))
    }
}

impl Setting for MasterKeys {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("") => Ok(Self(Arc::default())),
            Some(path) => Vault::from_file(path.as_ref()).map(|vault| Self(Arc::new(vault))),
            None => Err(format!("{} is no file; write {}", shown(value), rule.allowed())),
        }
    }
}

impl Setting for OneFile {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("") => Ok(Self(None)),
            Some(path) => Ok(Self(Some(path.into()))),
            None => Err(format!("{} is no file; write {}", shown(value), rule.allowed())),
        }
    }
}

impl Setting for PublicUrl {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("") => return Ok(Self(None)),
            Some(text) => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => return Ok(Self(Some(url))),
                _ => {}
            },
            None => {}
        }
        Err(format!("{} is none; write {}, such as https://hooks.example.com/", shown(value), rule.allowed()))
    }
}

impl Setting for OneProxy {
    /// It may hold a password, so it is not shown.
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        match text(value) {
            Some("") => Ok(Self(None)),
            text => match EgressProxy::try_new(text.unwrap_or_default()) {
                Ok(proxy) => Ok(Self(Some(proxy))),
                Err(problem) => Err(format!("{problem}; write {}", rule.allowed())),
            },
        }
    }
}

impl Setting for Resolves {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        let found = text(value).and_then(Self::from_name);
        found.ok_or_else(|| format!("{} is none; write {}", shown(value), rule.allowed()))
    }
}

impl Setting for Duration {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        let number = number(rule, value)?;
        match rule {
            Rule::Number { unit: Unit::Millis, .. } => Ok(Self::from_millis(number)),
            Rule::Number { unit: Unit::Days, .. } => Ok(Self::from_secs(number.saturating_mul(86_400))),
            _ => Ok(Self::from_secs(number)),
        }
    }
}

impl Setting for u64 {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        number(rule, value)
    }
}

impl Setting for u32 {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        number(rule, value)?.try_into().map_err(|_| format!("{} is too much for this machine", shown(value)))
    }
}

impl Setting for usize {
    fn read(rule: Rule, value: &Value) -> Result<Self, String> {
        number(rule, value)?.try_into().map_err(|_| format!("{} is too much for this machine", shown(value)))
    }
}

fn number(rule: Rule, value: &Value) -> Result<u64, String> {
    let number = match (&value.kind, text(value)) {
        (ValueKind::I64(number), _) => u64::try_from(*number).ok(),
        (_, Some(text)) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    match (rule, number) {
        (Rule::Number { min, max, .. }, Some(number)) if (min..=max).contains(&number) => Ok(number),
        (_, Some(number)) => Err(format!("{number} is out of bounds; write {}", rule.allowed())),
        (_, None) => Err(format!("{} is no whole number; write {}", shown(value), rule.allowed())),
    }
}

fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

/// A value as one would write it in a variable.
pub fn plain(value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A value as a message repeats it.
fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a section".to_owned(),
        other => other.to_string(),
    }
}
