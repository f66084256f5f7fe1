//! Topics of events, and the patterns webhooks subscribe with.

use std::fmt;

use super::fault::Violation;

/// The longest word on either side of the colon, in characters.
pub const TOPIC_WORD_CHARS_MAX: usize = 64;
/// The same as a regular expression.
pub const TOPIC_WORD: &str = "[A-Za-z0-9_.-]{1,64}";
/// The most patterns one webhook may list.
pub const PATTERNS_MAX: usize = 100;

const OPERATIONAL: &str = "tallyhook";
const TEST: &str = "test";

const RULE: &str = "two words joined by a colon, such as order:created, each 1 to 64 of A-Z a-z 0-9 _ . -";

/// What happened, as `resource:verb`, e.g. `order:created`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic(String);

impl Topic {
    /// Accepts `word:word`, each word `[A-Za-z0-9_.-]{1,64}`.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        match text.split_once(':') {
            Some((resource, verb)) if is_word(resource) && is_word(verb) => Ok(Self(text.to_owned())),
            _ => Err(Violation::new("topic", format!("{} is no topic; write {RULE}.", shown(text)))),
        }
    }

    /// The whole topic.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The word before the colon.
    pub fn resource(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(resource, _)| resource)
    }

    /// A topic of the server's own, `tallyhook:<verb>`.
    pub fn operational(verb: &'static str) -> Self {
        Self(format!("{OPERATIONAL}:{verb}"))
    }

    /// What `webhook.test` sends (docs/wire.md, "Test events").
    pub fn test() -> Self {
        Self(format!("{TEST}:ping"))
    }

    /// True for events in which the server speaks of itself.
    pub fn is_operational(&self) -> bool {
        self.resource() == OPERATIONAL
    }

    /// True for topics that only the server itself may publish.
    pub fn is_reserved(&self) -> bool {
        matches!(self.resource(), OPERATIONAL | TEST)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry of a webhook's list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: every topic but the server's own (`tallyhook:…`).
    Everything,
    /// `order:*`: every topic of a resource.
    Resource(String),
    /// `order:created`: that topic.
    Exact(Topic),
}

impl Pattern {
    /// Accepts `*`, `word:*` and `word:word`.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        if let Some(resource) = text.strip_suffix(":*").filter(|word| is_word(word)) {
            return Ok(Self::Resource(resource.to_owned()));
        }
        Topic::try_new(text).map(Self::Exact).map_err(|_| {
            Violation::new(
                "topics",
                format!(
                    "{} is no topic; write * for everything, order:* for all of a resource, or {RULE}.",
                    shown(text)
                ),
            )
        })
    }

    /// True if an event of `topic` goes to a webhook with this entry.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Everything => !topic.is_operational(),
            Self::Resource(resource) => topic.resource() == resource,
            Self::Exact(exact) => exact == topic,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Resource(resource) => write!(f, "{resource}:*"),
            Self::Exact(topic) => write!(f, "{topic}"),
        }
    }
}

/// A webhook's list of patterns, in the words of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    text: String,
    list: Vec<Pattern>,
}

impl Patterns {
    /// Reads one pattern, or several with commas between them. The text is
    /// kept as it came; up to [`PATTERNS_MAX`] entries.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let list = text.split(',').map(|entry| Pattern::try_new(entry.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text: text.to_owned(), ..Self::of(list)? })
    }

    /// These patterns; up to [`PATTERNS_MAX`].
    pub fn of(list: Vec<Pattern>) -> Result<Self, Violation> {
        if list.len() > PATTERNS_MAX {
            return Err(Violation::new(
                "topics",
                format!(
                    "{} topics are too many; a webhook takes up to {PATTERNS_MAX}, and order:* covers a whole resource.",
                    list.len()
                ),
            ));
        }
        let text = list.iter().map(Pattern::to_string).collect::<Vec<_>>().join(",");
        Ok(Self { text, list })
    }

    /// No pattern at all: nothing matches.
    pub fn none() -> Self {
        Self { text: String::new(), list: Vec::new() }
    }

    /// As the owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The entries, as listed.
    pub fn list(&self) -> &[Pattern] {
        &self.list
    }

    /// True if any entry matches.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.list.iter().any(|pattern| pattern.matches(topic))
    }
}

/// That topic alone.
impl From<&Topic> for Patterns {
    fn from(topic: &Topic) -> Self {
        Self { text: topic.to_string(), list: vec![Pattern::Exact(topic.clone())] }
    }
}

/// True for what may stand on either side of the colon.
pub fn is_word(text: &str) -> bool {
    (1..=TOPIC_WORD_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Input repeated in a message: quoted, and cut so that it cannot flood a log.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(CHARS_MAX).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fuzz;

    fn topic(text: &str) -> Topic {
        Topic::try_new(text).unwrap()
    }

    #[test]
    fn topics_are_two_words() {
        for good in ["order:created", "a:b", "order.v2:status_changed", "X-1:y", "product_media:created"] {
            assert!(Topic::try_new(good).is_ok(), "{good}");
        }
        let long = format!("{}:b", "a".repeat(65));
        for bad in
            ["", ":", "order", "order:", ":created", "a:b:c", "order created", "order:*", "*", "ö:b", " a:b", &long]
        {
            assert!(Topic::try_new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_what_they_say() {
        let matches = |pattern: &str, t: &str| Patterns::try_new(pattern).unwrap().matches(&topic(t));
        assert!(matches("order:*", "order:created"));
        assert!(!matches("order:*", "orders:created"));
        assert!(matches("order:created", "order:created"));
        assert!(!matches("order:created", "order:Created"));
        assert!(matches("product:*, order:created", "order:created"));
        assert!(matches("*", "order:created"));
        assert!(matches("*", "test:ping"));
        assert!(!matches("*", "tallyhook:webhook_disabled"));
        assert!(matches("tallyhook:*", "tallyhook:webhook_disabled"));
    }

    #[test]
    fn patterns_refuse_what_they_cannot_mean() {
        for bad in ["", ",", "order:created,", "*:created", "or*:created", "order:cre*", "**", "a:b c:d"] {
            assert!(Patterns::try_new(bad).is_err(), "{bad}");
        }
        assert!(Patterns::try_new(&vec!["a:b"; 100].join(",")).is_ok());
        assert!(Patterns::try_new(&vec!["a:b"; 101].join(",")).is_err());
    }

    #[test]
    fn fuzz_topics() {
        const LONG: &str = "a_word_of_33_characters_is_enough";
        const WORDS: &[&str] =
            &["order", "created", ":", "*", ":*", ",", ", ", "tallyhook", "test:ping", "\u{3000}", "ö", LONG];
        fuzz::texts(WORDS, |text| {
            if let Ok(topic) = Topic::try_new(text) {
                let words: Vec<_> = topic.as_str().split(':').collect();
                assert!(text == topic.to_string() && words.len() == 2, "{topic}");
                for word in words {
                    assert!((1..=64).contains(&word.len()) && !word.contains([' ', ',', '*']) && word.is_ascii());
                }
                assert!(matches!(Pattern::try_new(text), Ok(Pattern::Exact(exact)) if exact == topic));
            }
            let Ok(patterns) = Patterns::try_new(text) else { return };
            assert!(patterns.as_str() == text && patterns.list().len() <= PATTERNS_MAX);
            for pattern in patterns.list() {
                assert_eq!(Pattern::try_new(&pattern.to_string()).as_ref(), Ok(pattern));
                // What it names, it matches.
                let named = match pattern {
                    Pattern::Everything => topic("a:b"),
                    Pattern::Resource(resource) => topic(&format!("{resource}:b")),
                    Pattern::Exact(exact) => exact.clone(),
                };
                assert!(patterns.matches(&named), "{pattern} {named}");
            }
        });
    }
}
