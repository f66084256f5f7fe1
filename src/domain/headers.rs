//! Headers a webhook's owner adds to every delivery.

use std::fmt;
use std::sync::Arc;

use super::fault::Violation;

/// The longest text, in bytes.
pub const EXTRA_HEADERS_BYTES_MAX: usize = 8_192;
/// The most headers.
pub const EXTRA_HEADERS_MAX: usize = 50;

/// What stands in place of a value that its reader is not to know.
pub const REDACTED: &str = "[redacted]";

/// Headers that the server sets itself, or that belong to a connection
/// (RFC 9110 §7.6.1): an owner must not set them.
const OWNED: &[&str] = &[
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "tallyhook-increment-id",
    "x-plugin-hmac-sha256",
];
/// Those that an owner could set once; what the server says replaces it.
const OWNED_SINCE: &[&str] = &["tallyhook-event-id"];

/// Headers as their owner wrote them, one `Name: value` a line.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExtraHeaders {
    text: String,
    list: Vec<(http::HeaderName, http::HeaderValue)>,
    spelled: Arc<[Box<str>]>,
}

impl ExtraHeaders {
    /// Takes names with their values.
    pub fn of_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, Violation> {
        let mut lines = Vec::new();
        for (name, value) in pairs {
            if name.contains([':', '\r', '\n']) || value.contains(['\r', '\n']) {
                let problem = "has a name with a colon or a line break, or a value with a line break.";
                return Err(Violation::new("extra_headers", problem));
            }
            lines.push(format!("{name}: {value}"));
        }
        Self::try_new(&lines.join("\n"))
    }

    /// Reads lines of `Name: value`; blank lines are passed over, and the
    /// text is kept as it came.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let headers = Self::stored(text)?;
        match headers.list.iter().find(|(name, _)| OWNED_SINCE.contains(&name.as_str())) {
            Some((name, _)) => Err(Violation::new("extra_headers", is_owned(name))),
            None => Ok(headers),
        }
    }

    /// The same for what was accepted when less was refused.
    pub fn stored(text: &str) -> Result<Self, Violation> {
        let problem = |problem: String| Violation::new("extra_headers", problem);
        if text.len() > EXTRA_HEADERS_BYTES_MAX {
            return Err(problem(format!("is {} bytes long; up to {EXTRA_HEADERS_BYTES_MAX} are allowed.", text.len())));
        }
        let (mut list, mut spelled) = (Vec::new(), Vec::<Box<str>>::new());
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            // The value may be a credential: messages name the line, never show it.
            let Some((name, value)) = line.split_once(':') else {
                return Err(problem(format!("line {number} has no colon; write one \"Name: value\" a line.")));
            };
            let as_written = name.trim();
            let Ok(name) = http::HeaderName::from_bytes(as_written.as_bytes()) else {
                return Err(problem(format!(
                    "line {number} does not start with a header name (letters, digits and - only)."
                )));
            };
            if OWNED.contains(&name.as_str()) {
                return Err(problem(is_owned(&name)));
            }
            let value = Some(value.trim()).filter(|value| value.is_ascii());
            let Some(Ok(mut value)) = value.map(http::HeaderValue::from_str) else {
                return Err(problem(format!(
                    "the value of {name} has characters that a header can't hold; use visible ASCII."
                )));
            };
            value.set_sensitive(true);
            list.push((name, value));
            spelled.push(as_written.into());
        }
        if list.len() > EXTRA_HEADERS_MAX {
            return Err(problem(format!(
                "{} headers are too many; up to {EXTRA_HEADERS_MAX} are allowed.",
                list.len()
            )));
        }
        if !spelled.iter().any(|name| name.contains(|c: char| c.is_ascii_uppercase())) {
            spelled.clear();
        }
        Ok(Self { text: text.to_owned(), list, spelled: spelled.into() })
    }

    /// As the owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same for who is not to know the values: each reads `[redacted]`.
    pub fn redacted(&self) -> String {
        let names = self.text.lines().filter_map(|line| line.split_once(':'));
        let lines: Vec<_> = names.map(|(name, _)| format!("{}: {REDACTED}", name.trim())).collect();
        lines.join("\n")
    }

    /// The names as the owner spelled them, in their order; none if all are
    /// in lower case, as they are in [`Self::list`].
    pub fn spelled(&self) -> &Arc<[Box<str>]> {
        &self.spelled
    }

    /// Name and value of each.
    pub fn list(&self) -> &[(http::HeaderName, http::HeaderValue)] {
        &self.list
    }
}

fn is_owned(name: &http::HeaderName) -> String {
    format!("{name} is set by the server; leave it out.")
}

impl fmt::Debug for ExtraHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtraHeaders({:?})", self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fuzz;

    #[test]
    fn keeps_the_text_and_reads_the_lines() {
        let text = "Authorization: Basic abc=\r\n\nX-Shop:  7 : 8 ";
        let headers = ExtraHeaders::try_new(text).unwrap();
        assert_eq!(headers.as_str(), text);
        let pairs: Vec<_> = headers.list().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(pairs, [("authorization", "Basic abc="), ("x-shop", "7 : 8")]);
        assert!(ExtraHeaders::try_new("").unwrap().list().is_empty());
    }

    #[test]
    fn names_can_be_shown_without_their_values() {
        let headers = ExtraHeaders::try_new("Authorization: Basic abc=\r\n\n X-Shop :  7 : 8 ").unwrap();
        assert_eq!(headers.redacted(), "Authorization: [redacted]\nX-Shop: [redacted]");
        assert!(!format!("{headers:?}").contains("abc"));
        assert_eq!(ExtraHeaders::default().redacted(), "");
    }

    #[test]
    fn refuses_what_would_break_a_request() {
        for bad in [
            "no colon",
            ": value",
            "Bad Name: x",
            "Host: evil",
            "Webhook-Id: 1",
            "Tallyhook-Event-Id: 1",
            "X: a\u{7}b",
            "Content-Length: 0",
            "X: ä",
        ] {
            let refused = ExtraHeaders::try_new(bad);
            assert!(refused.is_err(), "{bad:?}");
        }
        assert!(ExtraHeaders::stored("Tallyhook-Event-Id: 1").is_ok(), "a store may have it");
        assert!(ExtraHeaders::try_new(&"A: b\n".repeat(51)).is_err());
        assert!(ExtraHeaders::try_new(&format!("A: {}", "b".repeat(9000))).is_err());
    }

    #[test]
    fn messages_do_not_repeat_values() {
        let refused = ExtraHeaders::try_new("Authorization hunter2").unwrap_err();
        assert!(!refused.problem.contains("hunter2"));
    }

    #[test]
    fn fuzz_extra_headers() {
        const SECRET: &str = "hunter2hunter2";
        const WORDS: &[&str] =
            &["Authorization", "X-Shop", "Host", "webhook-id", ":", ": ", "\n", "\r\n", "\r", SECRET, "ä", "\u{85}"];
        fuzz::texts(WORDS, |text| {
            let headers = match ExtraHeaders::try_new(text) {
                Ok(headers) => headers,
                Err(violation) => {
                    let is_name = text.lines().filter_map(|line| line.split_once(':')).any(|(n, _)| n.contains(SECRET));
                    assert!(is_name || !violation.problem.contains(SECRET), "{text:?}: {violation:?}");
                    return;
                }
            };
            let mut printed = String::new();
            for (name, value) in headers.list() {
                let value = value.to_str().unwrap();
                assert!(!OWNED.contains(&name.as_str()) && !value.contains(['\r', '\n', '\0']), "{text:?}");
                printed += &format!("{name}: {value}\n");
            }
            let again = ExtraHeaders::try_new(&printed).unwrap();
            assert!(headers.as_str() == text && again.list() == headers.list(), "{text:?}");
        });
    }
}
