//! The URL of a database. What it says of TLS is read here, as libpq has it, and what
//! sessions begin with, which a pooler may not pass on; the rest is tokio-postgres's.

use std::borrow::Cow;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use url::form_urlencoded;

use super::tls::{Check, Tls};
use crate::trust::Trusted;

/// In its place the system's authorities count.
const SYSTEM: &str = "system";

/// Where a database is, and how connections to it are encrypted.
pub struct Address {
    /// Where, as whom, and whether they are encrypted at all.
    pub config: Config,
    /// What its sessions are to be set to from the beginning, such as `-csearch_path=hooks`.
    pub options: Option<String>,
    /// What is looked at if they are.
    pub tls: Tls,
}

/// What is read here.
#[derive(Default)]
struct Said {
    mode: Option<String>,
    root: Option<String>,
    options: Option<String>,
}

impl Address {
    /// From `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full` and its like.
    /// The error says what is wrong with which part, and never repeats a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (said, rest) = take_own(url)?;
        let mut config: Config = rest.parse().map_err(|cause: tokio_postgres::Error| in_words(&cause))?;
        let hosts = config.get_hosts();
        if hosts.is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host".to_owned());
        }
        if hosts.len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            // Of several, what is read has to be where it is written.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let are_near =
            !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let (mode, check) = mode(&said)?;
        // A socket of the machine itself is never encrypted, whatever is said.
        config.ssl_mode(if are_near { SslMode::Disable } else { mode });
        let trusted = said.root.as_deref().filter(|root| *root != SYSTEM).map(read_root).transpose()?;
        let tls = Tls::new(check, trusted.as_ref())
            .map_err(|cause| format!("sslrootcert: its certificates can't be used: {cause}"))?;
        Ok(Self { config, options: said.options, tls })
    }
}

/// What is read here of a URL, and the rest of it.
fn take_own(url: &str) -> Result<(Said, String), String> {
    let scheme = ["postgres://", "postgresql://"].into_iter().find(|scheme| url.starts_with(scheme));
    let Some(scheme) = scheme else { return Err("it does not begin with postgres://".to_owned()) };
    let (mut said, place) = (Said::default(), &url[scheme.len()..]);
    // Whoever has an @ or a ? in a password would else see a part of it as a host.
    let after = place.split_once('@').map_or(place, |(_, after)| after);
    if after.contains('@')
        || place.split_once('?').is_some_and(|(before, _)| !before.contains('@') && place.contains('@'))
    {
        return Err("it has an @ too many; in a name, a password or an option write it %40".to_owned());
    }
    let Some((before, options)) = after.split_once('?') else { return Ok((said, url.to_owned())) };
    let mut rest = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let key = option.split_once('=').map(|(key, _)| key);
        let is_word = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let Some(key) = key.filter(|key| is_word(key)) else {
            return Err("what stands behind the ? is no list of options such as sslmode=verify-full".to_owned());
        };
        let value = || form_urlencoded::parse(option.as_bytes()).next().map(|(_, value)| Cow::into_owned(value));
        match key {
            "sslmode" => said.mode = value(),
            "options" => said.options = value(),
            "sslrootcert" => said.root = value().filter(|root| !root.is_empty()),
            _ => rest.push(option),
        }
    }
    let start = &url[..url.len() - after.len()];
    let mark = if rest.is_empty() { "" } else { "?" };
    Ok((said, format!("{start}{before}{mark}{}", rest.join("&"))))
}

/// What the driver is to do, and what is looked at.
fn mode(said: &Said) -> Result<(SslMode, Check), String> {
    let needs_check = |mode: &str| {
        Err(format!("sslrootcert is for those who verify; write sslmode=verify-full with it instead of {mode}"))
    };
    Ok(match (said.mode.as_deref(), &said.root) {
        (Some("disable"), None) => (SslMode::Disable, Check::Nothing),
        (None | Some("prefer"), None) => (SslMode::Prefer, Check::Nothing),
        (Some(mode @ ("disable" | "prefer")), Some(_)) => return needs_check(mode),
        (None, Some(_)) => return needs_check("none"),
        (Some("require"), None) => (SslMode::Require, Check::Nothing),
        // As libpq does, which has it so for old programs.
        (Some("require"), Some(_)) | (Some("verify-ca"), _) => (SslMode::Require, Check::Authority),
        (Some("verify-full"), _) => (SslMode::Require, Check::Host),
        (Some(_), _) => {
            return Err("sslmode is none of disable, prefer, require, verify-ca and verify-full".to_owned());
        }
    })
}

fn read_root(path: &str) -> Result<Trusted, String> {
    let text = std::fs::read_to_string(path).map_err(|cause| format!("sslrootcert: {path} can't be read: {cause}"))?;
    Trusted::from_pem(&text).map_err(|flaw| format!("sslrootcert: {path}, {flaw}"))
}

fn in_words(cause: &tokio_postgres::Error) -> String {
    match std::error::Error::source(cause) {
        Some(source) => source.to_string(),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_as_sslmode_says() {
        for (url, expected) in [
            ("postgres://a:b@c/d", SslMode::Prefer),
            ("postgres://a:b@c/d?sslmode=disable", SslMode::Disable),
            ("postgres://a:b@c/d?sslmode=prefer&application_name=x", SslMode::Prefer),
            ("postgres://c:5433/d?connect_timeout=3&sslmode=require", SslMode::Require),
            ("postgres://c/d?sslmode=verify-ca&sslrootcert=system", SslMode::Require),
            ("postgres://c,e/d?sslmode=verify-full", SslMode::Require),
            ("postgres://a@%2Ftmp%2Fx/d?sslmode=verify-full", SslMode::Disable),
        ] {
            assert_eq!(Address::parse(url).unwrap().config.get_ssl_mode(), expected, "{url}");
        }
        let Address { config, options, .. } =
            Address::parse("postgresql://a:b%40@c,e/d?sslmode=disable&options=-cx%3D1").unwrap();
        assert_eq!((config.get_password(), options.as_deref()), (Some(&b"b@"[..]), Some("-cx=1")));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn what_is_wrong_is_told_without_a_password() {
        for (url, words) in [
            ("postgres://a:s3@cret@c/d", "%40"),
            ("postgres://c/d?password=s3@cret", "%40"),
            ("postgres://a:s3@cr?et@c/d", "%40"),
            ("postgres://a:s3cret@c/d?s3cret", "no list of options"),
            ("postgres://a:s3cret@c/d?sslmod=x", "unknown option `sslmod`"),
            ("postgres://a:s3cret@c:x/d", "invalid value for option `port`"),
            ("postgres://a:s3cret@/d", "names no host"),
            ("postgres://a:s3cret@c/d?sslmode=allow", "verify-ca and verify-full"),
            ("postgres://a:s3cret@c/d?sslrootcert=x", "sslmode=verify-full"),
            ("postgres://a:s3cret@c/d?sslmode=prefer&sslrootcert=x", "sslmode=verify-full"),
            ("postgres://a:s3cret@c/d?sslmode=verify-full&sslrootcert=/none.pem", "/none.pem can't be read"),
            ("postgres://a:s3cret@c/d?sslmode=verify-full&sslrootcert=Cargo.toml", "no certificate up to here"),
        ] {
            let told = Address::parse(url).err().expect(url);
            assert!(told.contains(words) && !told.contains("s3") && !told.contains("cret"), "{url}: {told}");
        }
    }
}
