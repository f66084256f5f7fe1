//! Where deliveries are posted to.

use url::Url;

use super::fault::Violation;

/// The longest URL, in characters.
pub const URL_CHARS_MAX: usize = 1_000;

/// Where deliveries are posted to, as its owner wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    text: String,
    url: Url,
}

impl TargetUrl {
    /// Accepts an absolute http or https URL without credentials in it, of up
    /// to [`URL_CHARS_MAX`] characters.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let problem = |problem: String| Err(Violation::new("url", problem));
        let chars = text.chars().count();
        if chars > URL_CHARS_MAX {
            return problem(format!("has {chars} characters; up to {URL_CHARS_MAX} are allowed."));
        }
        let Ok(url) = Url::parse(text) else {
            return problem("is no absolute URL; write one such as https://example.com/hook.".to_owned());
        };
        if !matches!(url.scheme(), "http" | "https") {
            return problem(format!("has the scheme {}; only http and https are delivered to.", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return problem(
                "has credentials in it; put them in extra_headers as \"Authorization: Basic …\".".to_owned(),
            );
        }
        if url.port() == Some(0) {
            return problem("has the port 0, which nothing can listen on.".to_owned());
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// As its owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As a program reads it: an IPv4 address in any notation (`0x7f.1`,
    /// `2130706433`) has become the address it means (WHATWG URL).
    pub fn url(&self) -> &Url {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute_and_plain() {
        for good in
            ["http://example.com", "https://example.com:8443/hook?a=b", "http://[::1]:9/", "HTTPS://EXAMPLE.com"]
        {
            assert_eq!(TargetUrl::try_new(good).unwrap().as_str(), good);
        }
        let long = format!("http://example.com/{}", "a".repeat(1000));
        for bad in [
            "",
            "example.com",
            "/hook",
            "ftp://a.b",
            "http://",
            "http://u:p@a.b",
            "http://u@a.b",
            "http://a b/",
            "file:///etc/passwd",
            "http://a.b:0/",
            &long,
        ] {
            assert!(TargetUrl::try_new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn literals_in_any_notation_become_addresses() {
        for text in ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1"] {
            assert_eq!(TargetUrl::try_new(text).unwrap().url().host_str(), Some("127.0.0.1"), "{text}");
        }
    }
}
