//! Webhooks: what to post where, as their owners define them.

use std::time::Duration;

use super::expansion::{Expansion, Expansions};
use super::fault::Violation;
use super::headers::ExtraHeaders;
use super::id::{IncrementId, MerchantId, UserId, WebhookId};
use super::identity::ClientIdentity;
use super::labels::Labels;
use super::oauth2::OAuth2;
pub use super::pause::{Pause, PauseReason};
use super::policy::{BasicAuth, Batching, Concurrency, OwnTimeouts, RateLimit, Timeouts};
use super::retry::RetryPolicy;
use super::secret::SecretKey;
use super::signing::{PublicKey, Signer, Signing, SigningKey};
use super::target::TargetUrl;
use super::time::Timestamp;
use super::topic::{Patterns, Topic};

/// The longest name of a webhook, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// The longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 2_000;
/// The most replaced secrets that go on signing.
pub const OLD_SECRETS_MAX: usize = 4;
/// So many failures in a row open the breaker.
pub const BREAKER_FAILURES: u32 = 5;

/// How the body of a delivery is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own.
    Envelope,
    /// ShipStream's.
    Shipstream,
    /// UltraCart's.
    UltraCart,
    /// The same with the events in gzip.
    UltraCartGzip,
    /// 3dcart's.
    ThreeDCart,
    /// The same in XML.
    ThreeDCartXml,
}

/// How a body is written, where a format has several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 8259.
    Json,
    /// XML 1.0.
    Xml,
    /// JSON in which the events are a text: their array in gzip (RFC 1952), in
    /// base64 (RFC 4648 §4).
    Gzip,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Json, Self::Xml, Self::Gzip];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Xml => "xml",
            Self::Gzip => "gzip",
        }
    }

    /// The encoding of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }
}

impl Format {
    /// Each, in each encoding it has, JSON first.
    pub const ALL: [Self; 6] =
        [Self::Envelope, Self::Shipstream, Self::UltraCart, Self::UltraCartGzip, Self::ThreeDCart, Self::ThreeDCartXml];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Shipstream => "shipstream",
            Self::UltraCart | Self::UltraCartGzip => "ultracart",
            Self::ThreeDCart | Self::ThreeDCartXml => "3dcart",
        }
    }

    /// The format of that name, in JSON.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// What its bodies are written in.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Envelope | Self::Shipstream | Self::UltraCart | Self::ThreeDCart => Encoding::Json,
            Self::ThreeDCartXml => Encoding::Xml,
            Self::UltraCartGzip => Encoding::Gzip,
        }
    }

    /// The same format in that encoding. Fails if it has none such.
    fn encoded(self, encoding: Encoding) -> Result<Self, Violation> {
        let problem = "xml needs the format 3dcart, and gzip ultracart; all are written in json.";
        let mut all = Self::ALL.into_iter();
        let found = all.find(|format| format.name() == self.name() && format.encoding() == encoding);
        found.ok_or_else(|| Violation::new("encoding", problem))
    }

    /// True if a body can hold several events.
    pub fn takes_batches(self) -> bool {
        matches!(self, Self::Envelope | Self::UltraCart | Self::UltraCartGzip)
    }

    /// How long to wait for a connection, and for the whole exchange, the
    /// answer's body included.
    pub fn timeouts(self) -> Timeouts {
        let (connect_s, total_s) = match self {
            Self::Envelope | Self::ThreeDCart | Self::ThreeDCartXml => (3, 15),
            Self::Shipstream => (3, 5),
            Self::UltraCart | Self::UltraCartGzip => (5, 30),
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
    /// None: the receiver comes and takes them.
    Pull,
}

impl DeliveryMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Parallel, Self::Ordered, Self::Pull];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::Ordered => "ordered",
            Self::Pull => "pull",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// What an owner says of a webhook; checked, so that a store and a lane can
/// take it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSpec {
    /// What people call it; empty if they don't.
    pub name: String,
    /// What they say of it.
    pub description: String,
    /// Off: what is pending waits, and later events are not numbered for it.
    pub is_active: bool,
    /// What it subscribes to.
    pub topics: Patterns,
    /// Where it is posted to; `None` if and only if its receiver pulls.
    pub url: Option<TargetUrl>,
    /// Headers to send along.
    pub extra_headers: ExtraHeaders,
    /// What signs, unless a private key does.
    pub secret_key: SecretKey,
    /// What signs in place of the secret.
    pub signing_key: Option<SigningKey>,
    /// How bodies are built.
    pub format: Format,
    /// What becomes of failures.
    pub retry: RetryPolicy,
    /// In which order deliveries go out.
    pub delivery_mode: DeliveryMode,
    /// How many requests at once; `None`: as the server is configured.
    pub max_concurrency: Option<Concurrency>,
    /// How many requests a second; `None`: as fast as it answers.
    pub rate_limit: Option<RateLimit>,
    /// How long an attempt may take.
    pub timeouts: OwnTimeouts,
    /// Sent along as HTTP Basic.
    pub basic_auth: Option<BasicAuth>,
    /// Who the server is to a receiver that wants a certificate.
    pub client_identity: Option<ClientIdentity>,
    /// By whom a token is fetched that is sent along.
    pub oauth2: Option<OAuth2>,
    /// How many events go out in one request; `None`: one.
    pub batch: Option<Batching>,
    /// Which parts of messages go out.
    pub expansions: Expansions,
    /// For whom it is: an event that has labels reaches it if these are among them.
    pub labels: Labels,
}

/// What a new webhook has unless its owner says otherwise.
#[derive(Clone, Debug)]
pub struct WebhookDefaults {
    /// How bodies are built.
    pub format: Format,
    /// What becomes of failures.
    pub retry: RetryPolicy,
}

/// What to change of a webhook, or what is said of a new one; the rest stays
/// as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookChanges {
    /// What people call it.
    pub name: Option<String>,
    /// What they say of it.
    pub description: Option<String>,
    /// On or off.
    pub is_active: Option<bool>,
    /// What it subscribes to.
    pub topics: Option<Patterns>,
    /// Where it is posted to.
    pub url: Option<TargetUrl>,
    /// Headers to send along.
    pub extra_headers: Option<ExtraHeaders>,
    /// What signs, at once and alone.
    pub secret_key: Option<SecretKey>,
    /// By what deliveries are signed, at once and alone: by the secret, or by this private key,
    /// unless there is one already.
    pub signing_key: Option<Option<SigningKey>>,
    /// How bodies are built, of deliveries that are numbered from now on.
    pub format: Option<Format>,
    /// What they are written in, if the format leaves a choice.
    pub encoding: Option<Encoding>,
    /// What becomes of failures.
    pub retry: Option<RetryPolicy>,
    /// In which order deliveries go out.
    pub delivery_mode: Option<DeliveryMode>,
    /// How many requests at once.
    pub max_concurrency: Option<Option<Concurrency>>,
    /// How many requests a second.
    pub rate_limit: Option<Option<RateLimit>>,
    /// How long an attempt may take.
    pub timeouts: Option<OwnTimeouts>,
    /// What is sent along as HTTP Basic.
    pub basic_auth: Option<Option<BasicAuth>>,
    /// Who the server is to a receiver that wants a certificate.
    pub client_identity: Option<Option<ClientIdentity>>,
    /// By whom a token is fetched that is sent along.
    pub oauth2: Option<Option<OAuth2>>,
    /// How many events go out in one request.
    pub batch: Option<Option<Batching>>,
    /// Which parts of messages go out, of those that are numbered from now on.
    pub expansions: Option<Expansions>,
    /// For whom it is.
    pub labels: Option<Labels>,
}

impl WebhookSpec {
    /// What of it may be long, in bytes.
    pub fn weight(&self) -> usize {
        let expansions = self.expansions.list().iter().map(|(_, expansion)| expansion.as_str().len()).sum::<usize>();
        let url = self.url.as_ref().map_or(0, |url| url.url().as_str().len());
        let own = self.client_identity.as_ref().map_or(0, |own| own.certificate().len() + own.expose_key().len());
        let oauth2 = self.oauth2.as_ref().map_or(0, OAuth2::weight);
        let texts = [self.topics.as_str(), self.extra_headers.as_str(), &self.description];
        texts.iter().map(|text| text.len()).sum::<usize>() + url + expansions + own + oauth2 + self.labels.weight()
    }

    /// A new webhook. Fails if something that has no default is missing, or
    /// if two members can't stand together.
    pub fn try_new(said: WebhookChanges, defaults: WebhookDefaults) -> Result<Self, Violation> {
        let missing = |field, example: &str| Violation::new(field, format!("is missing; give one such as {example}."));
        let spec = Self {
            name: said.name.unwrap_or_default(),
            description: said.description.unwrap_or_default(),
            is_active: said.is_active.unwrap_or(true),
            topics: said.topics.ok_or_else(|| missing("topics", "order:*"))?,
            url: said.url,
            extra_headers: said.extra_headers.unwrap_or_default(),
            secret_key: said.secret_key.unwrap_or_else(SecretKey::generate),
            signing_key: said.signing_key.flatten(),
            format: reformatted(defaults.format, said.format, said.encoding)?,
            retry: said.retry.unwrap_or(defaults.retry),
            delivery_mode: said.delivery_mode.unwrap_or(DeliveryMode::Parallel),
            max_concurrency: said.max_concurrency.flatten(),
            rate_limit: said.rate_limit.flatten(),
            timeouts: said.timeouts.unwrap_or_default(),
            basic_auth: said.basic_auth.flatten(),
            client_identity: said.client_identity.flatten(),
            oauth2: said.oauth2.flatten(),
            batch: said.batch.flatten(),
            expansions: said.expansions.unwrap_or_default(),
            labels: said.labels.unwrap_or_default(),
        };
        if spec.url.is_none() && spec.delivery_mode != DeliveryMode::Pull {
            return Err(missing("url", "https://example.com/hook"));
        }
        spec.checked()
    }

    /// The definition with the changes in it. Fails if two members can't stand
    /// together then. A webhook that is pulled from now on loses its URL.
    pub fn changed(self, changes: WebhookChanges) -> Result<Self, Violation> {
        let delivery_mode = changes.delivery_mode.unwrap_or(self.delivery_mode);
        let url = match changes.url {
            None if delivery_mode == DeliveryMode::Pull => None,
            url => url.or(self.url),
        };
        let spec = Self {
            name: changes.name.unwrap_or(self.name),
            description: changes.description.unwrap_or(self.description),
            is_active: changes.is_active.unwrap_or(self.is_active),
            topics: changes.topics.unwrap_or(self.topics),
            url,
            extra_headers: changes.extra_headers.unwrap_or(self.extra_headers),
            secret_key: changes.secret_key.unwrap_or(self.secret_key),
            signing_key: match changes.signing_key {
                None => self.signing_key,
                Some(made) => made.map(|made| self.signing_key.unwrap_or(made)),
            },
            format: reformatted(self.format, changes.format, changes.encoding)?,
            retry: changes.retry.unwrap_or(self.retry),
            delivery_mode,
            max_concurrency: changes.max_concurrency.unwrap_or(self.max_concurrency),
            rate_limit: changes.rate_limit.unwrap_or(self.rate_limit),
            timeouts: changes.timeouts.unwrap_or(self.timeouts),
            basic_auth: changes.basic_auth.unwrap_or(self.basic_auth),
            client_identity: changes.client_identity.unwrap_or(self.client_identity),
            oauth2: changes.oauth2.unwrap_or(self.oauth2),
            batch: changes.batch.unwrap_or(self.batch),
            expansions: changes.expansions.unwrap_or(self.expansions),
            labels: changes.labels.unwrap_or(self.labels),
        };
        if spec.url.is_none() && spec.delivery_mode != DeliveryMode::Pull {
            return Err(Violation::new("url", "is missing; a webhook that was pulled has none yet."));
        }
        spec.checked()
    }

    fn checked(self) -> Result<Self, Violation> {
        check_length("name", &self.name, NAME_CHARS_MAX)?;
        check_length("description", &self.description, DESCRIPTION_CHARS_MAX)?;
        if self.delivery_mode == DeliveryMode::Pull && self.url.is_some() {
            let problem = "can't stand beside delivery_mode pull, where the receiver comes for its deliveries.";
            return Err(Violation::new("url", problem));
        }
        let sets_authorization = |name: &http::HeaderName| name == http::header::AUTHORIZATION;
        let is_authorized = self.extra_headers.list().iter().any(|(name, _)| sets_authorization(name));
        if self.basic_auth.is_some() && is_authorized {
            return Err(Violation::new("basic_auth", "can't stand beside an Authorization in extra_headers."));
        }
        if self.oauth2.is_some() && (is_authorized || self.basic_auth.is_some()) {
            let problem = "can't stand beside basic_auth, or an Authorization in extra_headers: a request has one.";
            return Err(Violation::new("oauth2", problem));
        }
        let is_secure = self.url.as_ref().is_some_and(|url| url.url().scheme() == "https");
        if self.client_identity.is_some() && !is_secure {
            let problem = "needs a url that begins with https, for it is presented within TLS.";
            return Err(Violation::new("client_certificate", problem));
        }
        if self.batch.is_some() && !self.format.takes_batches() {
            return Err(Violation::new(
                "batch",
                "needs the format envelope or ultracart; the others hold one event each.",
            ));
        }
        if self.batch.is_some() && self.delivery_mode == DeliveryMode::Pull {
            let problem = "can't stand beside delivery_mode pull, where the receiver says how many it takes.";
            return Err(Violation::new("batch", problem));
        }
        Ok(self)
    }

    /// How deliveries are signed.
    pub fn signing(&self) -> Signing {
        if self.signing_key.is_some() { Signing::Ed25519 } else { Signing::Hmac }
    }

    /// What signs them.
    pub fn signer(&self) -> Signer {
        match &self.signing_key {
            Some(key) => Signer::Ed25519(key.clone()),
            None => Signer::Hmac(self.secret_key.clone()),
        }
    }

    /// How long an attempt may take.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.or(self.format.timeouts())
    }

    /// What the body of an event of that topic is built by, if it is numbered now.
    pub fn rendering(&self, topic: &Topic) -> Rendering<'_> {
        Rendering { format: self.format, expansion: self.expansions.of(topic) }
    }
}

/// What a body is built by: pinned on a delivery when it is numbered, so that
/// every attempt sends the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Rendering<'a> {
    /// The format.
    pub format: Format,
    /// Which parts of the message go out; `None`: all.
    pub expansion: Option<&'a Expansion>,
}

fn check_length(field: &'static str, text: &str, max: usize) -> Result<(), Violation> {
    let chars = text.chars().count();
    if chars <= max {
        Ok(())
    } else {
        Err(Violation::new(field, format!("has {chars} characters; up to {max} are allowed.")))
    }
}

/// The format with the changes in it; its encoding stays while its name does.
fn reformatted(own: Format, format: Option<Format>, encoding: Option<Encoding>) -> Result<Format, Violation> {
    let format = format.filter(|format| format.name() != own.name()).unwrap_or(own);
    encoding.map_or(Ok(format), |encoding| format.encoded(encoding))
}

/// A secret or a private key that was replaced, and signs beside its successor for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldSecret {
    /// What it signs with.
    pub signer: Signer,
    /// When it stops to sign.
    pub expires_at: Timestamp,
}

/// Why the server has paused a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// The receiver answered 410 Gone.
    Gone,
    /// Nothing was delivered for days, and attempts failed.
    Failing,
}

impl DisabledReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Gone, Self::Failing];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// A registered webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id.
    pub webhook_id: WebhookId,
    /// Who owns it.
    pub merchant_id: MerchantId,
    /// The user who made it.
    pub created_by: UserId,
    /// What its owner says of it.
    pub spec: WebhookSpec,
    /// Secrets that sign beside its own, the youngest first.
    pub old_secrets: Vec<OldSecret>,
    /// The last number given out.
    pub last_increment_id: IncrementId,
    /// The highest number up to which all have ended. Never falls.
    pub settled_through: IncrementId,
    /// The highest number that its receiver has pulled and asked beyond.
    pub acknowledged_through: IncrementId,
    /// The highest number that a pull has brought to whoever may ask beyond it.
    pub pulled_through: IncrementId,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// When the present run of failures began.
    pub failing_since: Option<Timestamp>,
    /// Until when nothing is sent after the last attempt, and why.
    pub pause: Option<Pause>,
    /// Its owner has paused it: it goes on being numbered, and nothing is sent.
    pub is_paused: bool,
    /// Why the server disabled it; it goes on being numbered.
    pub disabled: Option<DisabledReason>,
    /// Enabled again after that, and without a success since.
    pub is_recovering: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its owner last changed it.
    pub updated_at: Timestamp,
}

/// Which definition of a webhook this is: what differs between one and the
/// next. Two changes by its owner within a millisecond are told apart by no more
/// than what stands here besides the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// When its owner last changed it.
    pub updated_at: Timestamp,
    /// Its owner has it on.
    pub is_active: bool,
    /// Its owner has paused it.
    pub is_paused: bool,
    /// Why the server disabled it.
    pub disabled: Option<DisabledReason>,
    /// Enabled again after that, and without a success since.
    pub is_recovering: bool,
}

/// How a webhook is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing has failed since the last success.
    Healthy,
    /// The last attempt failed.
    Failing,
    /// The server has paused it.
    Disabled,
    /// Its owner has switched it off.
    Off,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Failing, Self::Disabled, Self::Off];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
            Self::Off => "off",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.name() == name)
    }
}

impl Webhook {
    /// How it is doing.
    pub fn health(&self) -> Health {
        match self.disabled {
            _ if !self.spec.is_active => Health::Off,
            Some(_) => Health::Disabled,
            None if self.consecutive_failures > 0 => Health::Failing,
            None => Health::Healthy,
        }
    }

    /// Which of its definitions this is.
    pub fn version(&self) -> Version {
        let Self { updated_at, is_paused, disabled, is_recovering, .. } = *self;
        Version { updated_at, is_active: self.spec.is_active, is_paused, disabled, is_recovering }
    }

    /// True if deliveries go out now.
    pub fn is_delivering(&self) -> bool {
        self.is_on() && !self.is_paused
    }

    fn is_on(&self) -> bool {
        self.spec.is_active && self.disabled.is_none() && self.spec.url.is_some()
    }

    /// True while one probe at a time finds out whether its receiver is back.
    pub fn is_breaker_open(&self) -> bool {
        self.consecutive_failures >= BREAKER_FAILURES
    }

    /// The pause, unless it is over at `now`.
    pub fn pause_at(&self, now: Timestamp) -> Option<Pause> {
        self.pause.filter(|pause| pause.until > now)
    }

    /// True if what is known of its receiver as it was `before` counts no more:
    /// it is another one, or was switched on or enabled again.
    pub fn begins_anew(&self, before: &Self) -> bool {
        self.spec.url != before.spec.url || (self.is_on() && !before.is_on())
    }

    /// What signs at `now` beside its own secret or key: those that it replaced.
    pub fn old_signers(&self, now: Timestamp) -> impl Iterator<Item = &Signer> {
        self.old_secrets.iter().filter(move |old| old.expires_at > now).map(|old| &old.signer)
    }

    /// The public keys by which its deliveries are verified at `now`, its own first, each with the
    /// time when it stops to be.
    pub fn public_keys(&self, now: Timestamp) -> impl Iterator<Item = (PublicKey, Option<Timestamp>)> {
        let own = self.spec.signing_key.iter().map(|key| (key.public(), None));
        let old = self.old_secrets.iter().filter(move |old| old.expires_at > now);
        own.chain(old.filter_map(|old| Some((old.signer.public()?, Some(old.expires_at)))))
    }
}
