//! Where deliveries are posted to.

use url::{Host, Url};

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
    /// to [`URL_CHARS_MAX`] characters, whose host can be one. What a reader of
    /// URLs would pass over or replace in silence is refused.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let read = Self::stored(text);
        // What is no URL at all is told so, whatever is in it.
        if (read.is_ok() || text.contains("://"))
            && let Some((place, what)) = (1..).zip(text.chars()).find_map(|(place, c)| Some((place, unwritten(c)?)))
        {
            return Err(Violation::new("url", format!("has {what} at character {place}; leave it out.")));
        }
        let target = read?;
        match target.url.host() {
            Some(Host::Domain(name)) => check_name(name).map_err(|problem| Violation::new("url", problem))?,
            Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => {}
        }
        Ok(target)
    }

    /// The same for one that was accepted when less was refused.
    pub fn stored(text: &str) -> Result<Self, Violation> {
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

/// What a character is that has no place in a URL, if it is one.
fn unwritten(c: char) -> Option<&'static str> {
    Some(match c {
        ' ' => "a blank",
        '\t' => "a tab",
        '\r' | '\n' => "a line end",
        c if c.is_control() => "a control character",
        c if c.is_whitespace() => "a blank that is none of ASCII",
        _ => return None,
    })
}

/// Says why a name, as a reader of URLs gives it, is none that a host can have
/// (RFC 1123 §2.1, and `_`, which some have all the same).
fn check_name(name: &str) -> Result<(), String> {
    /// In characters, which are bytes here.
    const LABEL_MAX: usize = 63;
    // One that is too long as a whole is a URI's all the same, and so one of those that the documents of the dialects
    // allow; it is told of when it is looked up.
    let whole = name.strip_suffix('.').unwrap_or(name);
    for (place, label) in (1..).zip(whole.split('.')) {
        if label.is_empty() {
            return Err(format!("has the host {name}, whose part {place} is empty."));
        }
        if label.len() > LABEL_MAX {
            return Err(format!(
                "has the host {name}, whose part {place} has {} characters; up to {LABEL_MAX} are a name's.",
                label.len()
            ));
        }
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(c) = label.chars().find(|c| !is_of_names(*c)) {
            return Err(format!("has the host {name}, whose part {place} has {c:?} in it; no name has."));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("has the host {name}, whose part {place} begins or ends with a -; no name does."));
        }
    }
    Ok(())
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
    fn what_would_be_passed_over_is_refused_with_its_place() {
        for (text, expected) in [
            ("http://a.b/c\n", "has a line end at character 13; leave it out."),
            ("http://a.b/\r\nd", "has a line end at character 12; leave it out."),
            (" http://a.b/", "has a blank at character 1; leave it out."),
            ("http://a.b/é d", "has a blank at character 13; leave it out."),
            ("ht\ttp://a.b/", "has a tab at character 3; leave it out."),
            ("http://a.b/\0", "has a control character at character 12; leave it out."),
            ("http://a\u{a0}.b/", "has a blank that is none of ASCII at character 9; leave it out."),
        ] {
            assert_eq!(TargetUrl::try_new(text).unwrap_err().problem, expected, "{text:?}");
        }
    }

    #[test]
    fn a_host_that_can_be_no_name_is_refused() {
        let long = format!("http://{}.com/", "a".repeat(64));
        let long_all_in_all = format!("http://{}com/", "a.".repeat(130));
        for (text, expected) in [
            ("http://no{body.test/", "has the host no{body.test, whose part 1 has '{' in it; no name has."),
            ("http://a.b*c/", "has the host a.b*c, whose part 2 has '*' in it; no name has."),
            ("http://a..b/", "has the host a..b, whose part 2 is empty."),
            ("http://.a.b/", "has the host .a.b, whose part 1 is empty."),
            ("http://-a.b/", "has the host -a.b, whose part 1 begins or ends with a -; no name does."),
            (&long, "whose part 1 has 64 characters; up to 63 are a name's."),
        ] {
            let problem = TargetUrl::try_new(text).unwrap_err().problem;
            assert!(problem.ends_with(expected), "{text}: {problem}");
        }
        for good in [
            "http://a_b.c-d.example./",
            "http://xn--bcher-kva.example/",
            "http://bücher.example/",
            "http://x/",
            &long_all_in_all,
        ] {
            assert!(TargetUrl::try_new(good).is_ok(), "{good}");
        }
        assert!(TargetUrl::stored("http://no{body.test/ x").is_ok());
    }

    #[test]
    fn literals_in_any_notation_become_addresses() {
        for text in ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1"] {
            assert_eq!(TargetUrl::try_new(text).unwrap().url().host_str(), Some("127.0.0.1"), "{text}");
        }
    }
}
