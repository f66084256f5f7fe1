//! Headers as the log and previews show them.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, LOCATION};

use super::spelling::Spelling;
use crate::domain::headers::REDACTED;

/// The most that [`log_headers`] gives of a request, in characters.
pub const LOG_HEADERS_CHARS_MAX: usize = 100_000;
/// The same of an answer, whose headers are its receiver's to choose.
pub const LOG_ANSWER_HEADERS_CHARS_MAX: usize = 16 * 1024;
/// A header whose name contains one of these may hold a credential. They are
/// looked for together, for each delivery has some ten names.
static CREDENTIAL_WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = ["auth", "cookie", "key", "password", "secret", "token"];
    let built = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).prefilter(false).build(words);
    built.expect("a few short words are not too many")
});

/// Headers for the attempt log, one `name: value` a line, spelled so. Values that may be
/// credentials read `[redacted]`, and no more than `chars_max` characters are
/// given.
pub fn log_headers(headers: &HeaderMap, spelling: &Spelling, chars_max: usize) -> String {
    let mut text =
        String::with_capacity(headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum());
    let mut speller = spelling.speller();
    for (name, value) in headers {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(speller.spell(name.as_str()).unwrap_or(name.as_str()));
        text.push_str(": ");
        match value.to_str() {
            _ if is_credential(name, value) => text.push_str(REDACTED),
            Ok(address) if name == LOCATION => push_address(&mut text, address),
            Ok(plain) => text.push_str(plain),
            Err(_) => text.push_str(&String::from_utf8_lossy(value.as_bytes())),
        }
    }
    // A character has a byte at least.
    if text.len() > chars_max
        && let Some((end, _)) = text.char_indices().nth(chars_max)
    {
        text.truncate(end);
    }
    text
}

fn is_credential(name: &HeaderName, value: &HeaderValue) -> bool {
    value.is_sensitive() || is_credential_name(name.as_str())
}

/// True of the name of a header, in lower case, that may hold a credential.
pub fn is_credential_name(name: &str) -> bool {
    CREDENTIAL_WORDS.is_match(name)
}

/// Adds where a redirect leads, without what may let anybody in there: a user
/// name and a password, and what stands behind the path.
fn push_address(text: &mut String, address: &str) {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let (place, rest) = address.split_at(end);
    let host = place.find("//").map_or(place.len(), |at| at + 2);
    let path = place[host..].find('/').map_or(place.len(), |at| host + at);
    match place[host..path].rfind('@') {
        Some(at) => {
            text.push_str(&place[..host]);
            text.push_str(REDACTED);
            text.push_str(&place[host + at..]);
        }
        None => text.push_str(place),
    }
    if rest.len() > 1 {
        text.push_str(&rest[..1]);
        text.push_str(REDACTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_headers_show_no_credentials() {
        let mut sensitive = HeaderValue::from_static("hunter2");
        sensitive.set_sensitive(true);
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "x-csrf-token",
            "x-client-secret",
            "x-password",
        ] {
            headers.append(name, HeaderValue::from_static("hunter2"));
        }
        headers.append("x-plain", sensitive);
        assert!(!log_headers(&headers, &Spelling::default(), LOG_HEADERS_CHARS_MAX).contains("hunter2"));
        assert_eq!(
            log_headers(&headers, &Spelling::default(), LOG_HEADERS_CHARS_MAX).matches(": [redacted]").count(),
            9
        );
    }

    #[test]
    fn where_a_redirect_leads_is_logged_without_credentials() {
        for (location, expected) in [
            ("https://ann:hunter2@example.com/a@b", "https://[redacted]@example.com/a@b"),
            ("//hunter2@example.com", "//[redacted]@example.com"),
            ("/login?token=hunter2#top", "/login?[redacted]"),
            ("https://example.com/#hunter2", "https://example.com/#[redacted]"),
            ("https://example.com/a?", "https://example.com/a"),
            ("https://example.com/a:b@c", "https://example.com/a:b@c"),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.append("location", HeaderValue::from_static(location));
            let logged = log_headers(&headers, &Spelling::default(), LOG_HEADERS_CHARS_MAX);
            assert_eq!(logged, format!("location: {expected}"));
        }
    }

    #[test]
    fn logged_headers_are_lines_within_a_bound() {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("b: c"));
        headers.append("d", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(log_headers(&headers, &Spelling::default(), LOG_HEADERS_CHARS_MAX), "a: b: c\nd: \u{fffd}");
        headers.append("e", HeaderValue::from_str(&"é".repeat(LOG_HEADERS_CHARS_MAX)).unwrap());
        assert_eq!(
            log_headers(&headers, &Spelling::default(), LOG_HEADERS_CHARS_MAX).chars().count(),
            LOG_HEADERS_CHARS_MAX
        );
        assert_eq!(log_headers(&HeaderMap::new(), &Spelling::default(), LOG_HEADERS_CHARS_MAX), "");
    }
}
