//! Webhooks: where to post what.

use std::time::Duration;

use url::Url;

use super::fault::Violation;
use super::headers::ExtraHeaders;
use super::id::{IncrementId, MerchantId, WebhookId};
use super::retry::RetryPolicy;
use super::secret::SecretKey;
use super::time::Timestamp;
use super::topic::Patterns;

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

/// How the body of a delivery is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own (WIRE §2).
    Envelope,
    /// ShipStream's (WIRE §1).
    Shipstream,
}

impl Format {
    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Shipstream => "shipstream",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Envelope, Self::Shipstream].into_iter().find(|format| format.name() == name)
    }

    /// How long to wait for a connection, and for the whole exchange, the
    /// answer's body included.
    pub fn timeouts(self) -> Timeouts {
        let (connect_s, total_s) = match self {
            Self::Envelope => (3, 15),
            Self::Shipstream => (3, 5),
        };
        Timeouts { connect: Duration::from_secs(connect_s), total: Duration::from_secs(total_s) }
    }
}

/// In which order deliveries go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Several at once; a later number may arrive before an earlier one.
    Parallel,
    /// One at a time: a number waits until the one before it has ended.
    Ordered,
}

impl DeliveryMode {
    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::Ordered => "ordered",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Parallel, Self::Ordered].into_iter().find(|mode| mode.name() == name)
    }
}

/// Bounds on the time one attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together.
    pub connect: Duration,
    /// From the start to the last byte of the answer.
    pub total: Duration,
}

/// What an owner says of a webhook; checked, so that a store and a lane can
/// take it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSpec {
    /// Off: what is pending waits, and later events are not numbered for it.
    pub is_active: bool,
    /// What it subscribes to.
    pub topics: Patterns,
    /// Where it is posted to.
    pub url: TargetUrl,
    /// Headers to send along.
    pub extra_headers: ExtraHeaders,
    /// What signs.
    pub secret_key: SecretKey,
    /// How bodies are built.
    pub format: Format,
    /// What becomes of failures.
    pub retry: RetryPolicy,
    /// In which order deliveries go out.
    pub delivery_mode: DeliveryMode,
}

/// What to change of a webhook; the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookChanges {
    /// On or off.
    pub is_active: Option<bool>,
    /// What it subscribes to.
    pub topics: Option<Patterns>,
    /// Where it is posted to.
    pub url: Option<TargetUrl>,
    /// Headers to send along.
    pub extra_headers: Option<ExtraHeaders>,
    /// What signs, at once.
    pub secret_key: Option<SecretKey>,
    /// How bodies are built, of deliveries that are numbered from now on.
    pub format: Option<Format>,
    /// What becomes of failures.
    pub retry: Option<RetryPolicy>,
    /// In which order deliveries go out.
    pub delivery_mode: Option<DeliveryMode>,
}

impl WebhookChanges {
    /// The definition with the changes in it.
    pub fn apply(self, spec: WebhookSpec) -> WebhookSpec {
        WebhookSpec {
            is_active: self.is_active.unwrap_or(spec.is_active),
            topics: self.topics.unwrap_or(spec.topics),
            url: self.url.unwrap_or(spec.url),
            extra_headers: self.extra_headers.unwrap_or(spec.extra_headers),
            secret_key: self.secret_key.unwrap_or(spec.secret_key),
            format: self.format.unwrap_or(spec.format),
            retry: self.retry.unwrap_or(spec.retry),
            delivery_mode: self.delivery_mode.unwrap_or(spec.delivery_mode),
        }
    }
}

/// Why the server has paused a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// The receiver answered 410 Gone.
    Gone,
}

impl DisabledReason {
    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Gone.name()).then_some(Self::Gone)
    }
}

/// A registered webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id.
    pub webhook_id: WebhookId,
    /// Who owns it.
    pub merchant_id: MerchantId,
    /// What its owner says of it.
    pub spec: WebhookSpec,
    /// The last number given out.
    pub last_increment_id: IncrementId,
    /// The highest number up to which all have ended. Never falls.
    pub settled_through: IncrementId,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// When the present run of failures began.
    pub failing_since: Option<Timestamp>,
    /// Why the server paused it; it goes on being numbered.
    pub disabled: Option<DisabledReason>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its owner last changed it.
    pub updated_at: Timestamp,
}

impl Webhook {
    /// True if deliveries go out now.
    pub fn is_delivering(&self) -> bool {
        self.spec.is_active && self.disabled.is_none()
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
