//! What the operator decides: flags, `TALLYHOOK_…` variables and one TOML
//! file, in this order of precedence, turned into each floor's own `Config`.
//! All mistakes are reported at once, each with where it stands.
//!
//! A key is defined in one place, the table [`KEYS`] below; its flag, its
//! variable, its line of help and its row in docs/configuration.md follow from
//! there.

mod layers;
mod setting;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ::config::{Map, Value};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use self::layers::{default_layer, file_layer, flag_layer, variable_layer};
use self::setting::{CaFile, Filter, Networks, Ports, PublicUrl, Setting, StorePath};
use crate::store::Durability;
use crate::{api, delivery, service, store};

/// What every variable of ours begins with.
const PREFIX: &str = "TALLYHOOK_";
/// Names the TOML file.
pub const CONFIG_VARIABLE: &str = "TALLYHOOK_CONFIG";
/// The server that `tallyhook call` talks to.
pub const URL_VARIABLE: &str = "TALLYHOOK_URL";
/// Who `tallyhook call` logs in as.
pub const USER_VARIABLE: &str = "TALLYHOOK_USER";
/// What `tallyhook call` logs in with.
pub const KEY_VARIABLE: &str = "TALLYHOOK_KEY";
/// What `tallyhook listen` verifies with.
pub const SECRET_VARIABLE: &str = "TALLYHOOK_SECRET";
/// Variables that are ours but no key's.
const OTHER_VARIABLES: [&str; 5] = [CONFIG_VARIABLE, URL_VARIABLE, USER_VARIABLE, KEY_VARIABLE, SECRET_VARIABLE];

/// The store of a server in dev mode, unless one is named.
const DEV_STORE: &str = "tallyhook-dev.db";
/// What a server in dev mode may deliver to besides.
const DEV_TARGETS: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];
/// Where a value comes from that nobody set.
const DEFAULT_ORIGIN: &str = "default";

/// Everything the operator decides, floor by floor.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether this is a server for trying things out, with a user and a key
    /// that everybody knows.
    pub dev: bool,
    /// What to log, as a filter of `tracing`.
    pub log: String,
    /// How long calls and then deliveries in progress may take to end, all in
    /// all, when the server stops.
    pub grace: Duration,
    /// The store.
    pub store: store::Config,
    /// The use cases.
    pub service: service::Config,
    /// The deliveries.
    pub delivery: delivery::Config,
    /// The listener.
    pub api: api::Config,
    /// Variables that look like ours and are the platform's, so they say
    /// nothing. Worth a line in the log.
    pub passed_over: Vec<String>,
}

/// Where a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Keys with what flags say, as one would write it in a variable.
    pub flags: Vec<(&'static str, String)>,
    /// Environment variables; those that are not ours are passed over.
    pub variables: Vec<(OsString, OsString)>,
    /// The TOML file.
    pub file: Option<PathBuf>,
}

/// All that is wrong with a configuration, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<String>);

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file: snake case, the unit last.
    pub name: &'static str,
    /// What counts when nobody sets it, as one would write it in a variable.
    pub default: &'static str,
    /// What it may be.
    pub rule: Rule,
    /// What it does; lines of one sentence or more.
    pub help: &'static [&'static str],
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An IP address and a port.
    Address,
    /// `sqlite:PATH`.
    Store,
    /// `full` or `normal`.
    Durability,
    /// `true` or `false`.
    Switch,
    /// A list of networks or single addresses.
    Networks,
    /// A list of ports or ranges of them.
    Ports,
    /// A filter of `tracing`.
    Filter,
    /// An http or https URL.
    Url,
    /// A file that is read at the start.
    File,
    /// A whole number.
    Number {
        /// What it counts.
        unit: Unit,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Days.
    Days,
}

const fn count(min: u64, max: u64) -> Rule {
    Rule::Number { unit: Unit::Count, min, max }
}

const fn bytes(min: u64, max: u64) -> Rule {
    Rule::Number { unit: Unit::Bytes, min, max }
}

const fn seconds(min: u64, max: u64) -> Rule {
    Rule::Number { unit: Unit::Seconds, min, max }
}

const fn days(min: u64, max: u64) -> Rule {
    Rule::Number { unit: Unit::Days, min, max }
}

const fn millis(min: u64, max: u64) -> Rule {
    Rule::Number { unit: Unit::Millis, min, max }
}

macro_rules! keys {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ty = $default:literal, $rule:expr;)*) => {
        /// The whole table, in the order in which people read of it.
        pub const KEYS: &[Key] = &[
            $(Key { name: stringify!($name), default: $default, rule: $rule, help: &[$($help),+] },)*
        ];

        /// The value of every key; `None` is a mistake that has been noted.
        struct Settings {
            $($name: Option<$type>,)*
        }

        impl Settings {
            fn read(values: &Map<String, Value>, mistakes: &mut Vec<String>) -> Self {
                Self { $($name: read_key(stringify!($name), $rule, values, mistakes),)* }
            }
        }
    };
}

keys! {
    /// Where to listen; port 0 takes a free one.
    listen: SocketAddr = "127.0.0.1:8080", Rule::Address;
    /// Where clients reach the server, which its OpenRPC document tells them; where it
    /// listens, if that is not said.
    public_url: PublicUrl = "", Rule::Url;
    /// Where everything is kept; made if it is missing. With dev, sqlite:tallyhook-dev.db.
    store: StorePath = "sqlite:tallyhook.db", Rule::Store;
    /// What an answer promises: with full, what was accepted survives a power cut;
    /// with normal, a crash of the process.
    durability: Durability = "full", Rule::Durability;
    /// A server for trying things out: loopback only, with the user demo and its API key
    /// demo-key made if missing, and loopback targets allowed.
    dev: bool = "false", Rule::Switch;
    /// Start without sending: events are taken in and numbered, and wait until the server is
    /// started without this.
    paused: bool = "false", Rule::Switch;
    /// A network to deliver to although the address guard forbids it. As a flag it may
    /// repeat, as a variable it is a list with commas, in the file an array.
    allow_target: Networks = "", Rule::Networks;
    /// The only ports to deliver to, such as 443,8000-8999, written as allow_target is. If that
    /// is not said, all but those of well-known services that do not speak HTTP, such as mail
    /// and databases.
    target_ports: Ports = "", Rule::Ports;
    /// A file of certificates in PEM that deliveries trust besides the system's: authorities,
    /// and certificates of receivers, each of which counts where exactly it is presented.
    ca_file: CaFile = "", Rule::File;
    /// What to log to stderr, such as debug or info,tallyhook::delivery=debug.
    log: Filter = "info", Rule::Filter;
    /// How long a session lives after its last use.
    session_ttl_s: Duration = "3600", seconds(1, 2_592_000);
    /// The most sessions of one user; one more ends the one that has not been used for longest.
    sessions_max: u32 = "100", count(1, 1_000_000);
    /// Failed logins of one user from one address in a minute before more are refused. A right
    /// key is let in all the same, after login_slowdown_ms.
    login_failures_max: u32 = "10", count(1, 1_000_000);
    /// The same for one address, whatever the users. For addresses of IPv6, here and below,
    /// their networks of 64 bits count.
    address_login_failures_max: u32 = "100", count(1, 1_000_000);
    /// How long a login takes after so many failures, with a right key or a wrong one.
    login_slowdown_ms: Duration = "1000", millis(0, 60_000);
    /// A network of proxies in front of the server. Whom they name, by X-Forwarded-For or
    /// Forwarded, counts as the address that calls. Where they name nobody, or differ, many
    /// come from one address, and the bounds for each address do not hold; those of
    /// connections never do. Written as those of allow_target are.
    trusted_proxies: Networks = "", Rule::Networks;
    /// The most calls of one user in a second, over all its keys, sessions and connections;
    /// 0 sets no limit. Each call of a batch or a multiCall counts.
    calls_per_second_max: u32 = "0", count(0, 1_000_000);
    /// The most calls of one user at once, before calls_per_second_max holds it up; 0 is a
    /// second's worth.
    calls_burst_max: u32 = "0", count(0, 1_000_000);
    /// The most calls in a second from one address by those who are not logged in; 0 sets no
    /// limit. Each call of a batch counts.
    stranger_calls_per_second_max: u32 = "50", count(0, 1_000_000);
    /// The most of them at once; 0 is a second's worth.
    stranger_calls_burst_max: u32 = "200", count(0, 1_000_000);
    /// The most webhooks a merchant may have.
    webhooks_max: u32 = "1000", count(1, 1_000_000);
    /// The most bytes of their topics, headers, expansions, descriptions and URLs together.
    merchant_webhook_bytes_max: usize = "16777216", bytes(1_024, 1_099_511_627_776);
    /// The most topics in a merchant's catalogue.
    topics_max: u32 = "1000", count(1, 1_000_000);
    /// The most events in one publish_many.
    events_max: usize = "1000", count(1, 100_000);
    /// The most levels of objects and arrays in a message: deeper ones break many receivers.
    message_depth_max: usize = "100", count(1, 100_000);
    /// The most deliveries that the events of one call may make, or made when they were
    /// first published: one for each event at each webhook that matches. They are numbered
    /// in shares, between which others have their turn.
    publish_deliveries_max: usize = "10000", count(1, 10_000_000);
    /// The most items that one list or pull may be asked for, and the most deliveries that are
    /// shown of one event.
    list_limit_max: u32 = "1000", count(1, 100_000);
    /// The most rows that one call looks into for a filter that no index answers: messages
    /// where event.list looks for a value, events of a subscription (Babel), requests in a log
    /// (UltraCart).
    filter_events_max: u32 = "200000", count(1, 100_000_000);
    /// The most conditions in a filter of a dialect.
    filter_conditions_max: usize = "32", count(1, 1_000);
    /// How long a secret that webhook.rotate_secret replaced goes on signing unless the
    /// call says otherwise.
    secret_overlap_s: Duration = "86400", seconds(0, 2_592_000);
    /// The longest that a delivery.pull may wait for a number.
    pull_wait_max_ms: Duration = "30000", millis(0, 600_000);
    /// The most calls in one multiCall.
    multi_calls_max: usize = "100", count(1, 10_000);
    /// The longest request body.
    body_bytes_max: usize = "1048576", bytes(1_024, 268_435_456);
    /// The most bytes of requests and messages that arrive or are under way; those below 16 kB
    /// are not counted. A merchant, or an address from which nobody is logged in yet, may have
    /// as many as are left free; beyond that they are refused.
    received_bytes_max: usize = "33554432", bytes(1_048_576, 68_719_476_736);
    /// The most calls in one JSON-RPC batch.
    batch_calls_max: usize = "100", count(1, 10_000);
    /// Once the answers to a batch, or the results of a multiCall, are so long, no further
    /// call of it is run; a list is cut there, and says so; one of UltraCart's webhooks that
    /// would be longer is refused.
    response_bytes_max: usize = "16777216", bytes(1_024, 1_073_741_824);
    /// The most bytes of answers that wait to be sent. A merchant, or an address from which
    /// nobody is logged in, may have as many as are left free; beyond that calls are refused.
    unsent_bytes_max: usize = "67108864", bytes(1_048_576, 68_719_476_736);
    /// The most calls in progress on one WebSocket; further ones wait to be read.
    ws_calls_max: usize = "16", count(1, 10_000);
    /// The most subscriptions on one WebSocket.
    ws_subscriptions_max: usize = "16", count(1, 10_000);
    /// The most calls of one merchant, or of one address that is not logged in, that run at
    /// once; of those that read much, a sixteenth of it. Further ones wait their turn.
    merchant_calls_max: usize = "64", count(1, 100_000);
    /// The most subscriptions at once, of which one merchant may have as many as are left free.
    subscriptions_max: usize = "256", count(1, 100_000);
    /// The most calls of delivery.pull that wait for a number at once, likewise; further ones are refused. Each keeps a connection.
    waiting_pulls_max: usize = "1024", count(1, 100_000);
    /// The most changed deliveries, or events, that wait for one subscription; what comes
    /// beyond that is told as missed.
    subscription_backlog_max: usize = "4096", count(1, 1_000_000);
    /// The most connections at once. For a further one, one gives way of the address that has
    /// the most: which has longest been without a whole request, or as a WebSocket without calls
    /// and subscriptions; or whose request has been under way, or whose answer has not been
    /// taken, for longer, and for a second at least.
    connections_max: usize = "2048", count(1, 1_000_000);
    /// The most connections of one address at once; those of the machine itself are not
    /// bounded so.
    address_connections_max: usize = "256", count(1, 1_000_000);
    /// How long a connection may be idle, or a WebSocket leave a ping unanswered; how long a
    /// client may take to send a request's headers or its body, and how long it may take
    /// none of its answer.
    idle_timeout_ms: Duration = "60000", millis(100, 600_000);
    /// The most bytes that are read on, and thrown away, after an answer to a request that
    /// had not arrived whole: a client that is still sending would else lose the answer.
    linger_bytes_max: usize = "16777216", bytes(0, 1_073_741_824);
    /// How long that may take.
    linger_timeout_ms: Duration = "2000", millis(0, 600_000);
    /// How long calls and deliveries in progress may take to end when the server stops.
    grace_ms: Duration = "10000", millis(0, 600_000);
    /// Changes that may wait for the store's writer before more are refused.
    write_queue_max: usize = "4096", count(1, 1_000_000);
    /// How long to wait for another process that writes to the store.
    busy_timeout_ms: Duration = "5000", millis(0, 600_000);
    /// Connections that read the store.
    readers_max: u32 = "4", count(1, 256);
    /// How long an idempotency key counts.
    idempotency_ttl_s: Duration = "86400", seconds(1, 31_536_000);
    /// A webhook that fails for so long without a success is disabled, until its owner
    /// enables it again.
    disable_after_s: Duration = "432000", seconds(1, 31_536_000);
    /// How long the log of attempts is kept after a delivery has ended.
    retention_days: Duration = "30", days(0, 36_500);
    /// How long an event is kept after all its deliveries have ended: so long it can be
    /// replayed, pulled and backfilled. The numbers themselves stay, with state and times.
    body_retention_days: Duration = "30", days(0, 36_500);
    /// The most bytes that the store may hold; 0 sets no limit. From nine tenths on, what has
    /// ended is pruned whatever its age; beyond it, publishing and webhook.test are refused
    /// and replays wait. Backfills wait from eight tenths on.
    store_bytes_max: u64 = "0", bytes(0, 1_152_921_504_606_846_976);
    /// The most bytes of headers and answers in the log of attempts of one webhook; 0 sets no
    /// limit. Beyond it those of the lowest numbers go; times and statuses stay.
    webhook_log_bytes_max: u64 = "67108864", bytes(0, 1_152_921_504_606_846_976);
    /// The same for all logs of one merchant.
    merchant_log_bytes_max: u64 = "1073741824", bytes(0, 1_152_921_504_606_846_976);
    /// Deliveries in flight at once.
    in_flight_max: usize = "4096", count(1, 100_000);
    /// The most deliveries in flight at once to one webhook that does not say itself; a quarter of in_flight_max at the most. How many of them there are grows and shrinks with how its receiver does.
    webhook_in_flight_max: usize = "1024", count(1, 10_000);
    /// Connections to receivers that are kept while nothing is sent; the one that was used longest ago is closed for another.
    kept_connections_max: usize = "1024", count(0, 100_000);
    /// How long a connection to a receiver is used. For the next one the receiver's name is looked up again, and its address judged.
    connection_age_max_s: Duration = "60", seconds(1, 86_400);
    /// How often the store is looked at for deliveries and changes of webhooks that nobody has told of. They are told of as a rule; this is for when that goes wrong.
    store_poll_ms: Duration = "5000", millis(100, 3_600_000);
    /// Bytes of messages in memory while they wait to be sent.
    loaded_bytes_max: usize = "33554432", bytes(1_048_576, 68_719_476_736);
    /// Bytes of messages and bodies that are being sent.
    sending_bytes_max: usize = "67108864", bytes(1_048_576, 68_719_476_736);
    /// The longest body that is sent; a delivery whose body would be longer is abandoned.
    delivery_bytes_max: usize = "16777216", bytes(1_048_576, 1_073_741_824);
    /// Bytes of answers in memory until they are recorded; what finds no room is left out of the log of attempts.
    answers_bytes_max: usize = "33554432", bytes(1_048_576, 68_719_476_736);
    /// How much of an answer's body is read for the log of attempts.
    answer_bytes_max: usize = "100000", bytes(0, 1_048_576);
}

impl Config {
    /// Reads the sources; fails with every mistake in them.
    pub fn load(sources: &Sources) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let file = file_layer(sources.file.as_ref(), &mut mistakes);
        let (variables, passed_over) = variable_layer(&sources.variables, &mut mistakes);
        let layers = [default_layer(), file, variables, flag_layer(&sources.flags)];
        let merged = layers.into_iter().fold(::config::Config::builder(), |builder, layer| builder.add_source(layer));
        let values = match merged.build().and_then(|merged| merged.cache.into_table()) {
            Ok(values) => values,
            Err(cause) => return Err(Mistakes(vec![cause.to_string()])),
        };
        let settings = Settings::read(&values, &mut mistakes);
        if let (Some(true), Some(listen)) = (settings.dev, settings.listen)
            && !listen.ip().to_canonical().is_loopback()
        {
            let origin = origin("listen", &values);
            mistakes.push(format!(
                "listen ({origin}): others can reach {listen}, and with dev everybody knows the key; \
                 listen on loopback, such as 127.0.0.1:8080"
            ));
        }
        let named_store = origin("store", &values) != DEFAULT_ORIGIN;
        match settings.into_config(named_store, passed_over) {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(Mistakes(mistakes)),
        }
    }
}

impl Settings {
    /// Hands each floor its own; `None` if there was a mistake.
    fn into_config(self, named_store: bool, passed_over: Vec<String>) -> Option<Config> {
        let dev = self.dev?;
        let mut allow_targets = self.allow_target?.0;
        if dev {
            allow_targets.extend(DEV_TARGETS);
        }
        let path = self.store?.0;
        let trusted_proxies = self.trusted_proxies?.0;
        Some(Config {
            listen: self.listen?,
            dev,
            log: self.log?.0,
            grace: self.grace_ms?,
            store: store::Config {
                path: if dev && !named_store { DEV_STORE.into() } else { path },
                durability: self.durability?,
                busy_timeout: self.busy_timeout_ms?,
                readers_max: self.readers_max?,
                write_queue_max: self.write_queue_max?,
                idempotency_ttl: self.idempotency_ttl_s?,
                merchant_webhook_bytes_max: self.merchant_webhook_bytes_max?,
                publish_deliveries_max: self.publish_deliveries_max?,
                disable_after: self.disable_after_s?,
                is_paused: self.paused?,
                retention: store::Retention {
                    attempts: self.retention_days?,
                    bodies: self.body_retention_days?,
                    bytes_max: self.store_bytes_max?,
                    webhook_log_bytes_max: self.webhook_log_bytes_max?,
                    merchant_log_bytes_max: self.merchant_log_bytes_max?,
                },
            },
            service: service::Config {
                session_ttl: self.session_ttl_s?,
                sessions_max: self.sessions_max?,
                login_failures_max: self.login_failures_max?,
                address_login_failures_max: self.address_login_failures_max?,
                login_slowdown: self.login_slowdown_ms?,
                trusted_proxies: trusted_proxies.clone(),
                calls_per_second_max: self.calls_per_second_max?,
                calls_burst_max: self.calls_burst_max?,
                stranger_calls_per_second_max: self.stranger_calls_per_second_max?,
                stranger_calls_burst_max: self.stranger_calls_burst_max?,
                webhooks_max: self.webhooks_max?,
                topics_max: self.topics_max?,
                events_max: self.events_max?,
                message_depth_max: self.message_depth_max?,
                list_limit_max: self.list_limit_max?,
                filter_events_max: self.filter_events_max?,
                filter_conditions_max: self.filter_conditions_max?,
                calls_max: self.multi_calls_max?,
                pull_wait_max: self.pull_wait_max_ms?,
                secret_overlap: self.secret_overlap_s?,
                subscriptions_max: self.subscriptions_max?,
                waiting_pulls_max: self.waiting_pulls_max?,
                merchant_calls_max: self.merchant_calls_max?,
                backlog_max: self.subscription_backlog_max?,
                delivery_bytes_max: self.delivery_bytes_max?,
                webhook_requests_max: delivery::scheduler::webhook_requests_max(self.in_flight_max?),
                is_paused: self.paused?,
                dev,
            },
            delivery: delivery::Config {
                is_paused: self.paused?,
                in_flight_max: self.in_flight_max?,
                webhook_in_flight_max: self.webhook_in_flight_max?,
                loaded_bytes_max: self.loaded_bytes_max?,
                sending_bytes_max: self.sending_bytes_max?,
                delivery_bytes_max: self.delivery_bytes_max?,
                answer_bytes_max: self.answer_bytes_max?,
                answers_bytes_max: self.answers_bytes_max?,
                kept_connections_max: self.kept_connections_max?,
                connection_age_max: self.connection_age_max_s?,
                store_poll: self.store_poll_ms?,
                targets: delivery::guard::Targets {
                    allow: allow_targets,
                    ports: self.target_ports?.0,
                    shows_addresses: dev,
                },
                trusted: self.ca_file?.0,
            },
            api: api::Config {
                public_url: self.public_url?.0,
                body_bytes_max: self.body_bytes_max?,
                received_bytes_max: self.received_bytes_max?,
                batch_calls_max: self.batch_calls_max?,
                response_bytes_max: self.response_bytes_max?,
                unsent_bytes_max: self.unsent_bytes_max?,
                connections_max: self.connections_max?,
                address_connections_max: self.address_connections_max?,
                trusted_proxies,
                ws_calls_max: self.ws_calls_max?,
                ws_subscriptions_max: self.ws_subscriptions_max?,
                linger: api::linger::Bounds { bytes_max: self.linger_bytes_max?, timeout: self.linger_timeout_ms? },
                idle_timeout: self.idle_timeout_ms?,
            },
            passed_over,
        })
    }
}

impl Key {
    /// Its flag, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// What it does, in one line.
    pub fn help_line(&self) -> String {
        self.help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

impl Rule {
    /// What may be written, for people.
    pub fn allowed(self) -> String {
        match self {
            Self::Address => "ADDRESS:PORT".to_owned(),
            Self::Store => "sqlite:PATH".to_owned(),
            Self::Durability => "full or normal".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Networks => "networks or addresses".to_owned(),
            Self::Ports => "ports or ranges".to_owned(),
            Self::Filter => "a filter of tracing".to_owned(),
            Self::Url => "an http or https URL".to_owned(),
            Self::File => "a path".to_owned(),
            Self::Number { unit, min, max } => format!("{min} to {max}{}", unit.suffix()),
        }
    }
}

impl Unit {
    fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => " bytes",
            Self::Seconds => " s",
            Self::Millis => " ms",
            Self::Days => " days",
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration has a mistake:\n  {one}"),
            all => write!(f, "the configuration has {} mistakes:\n  {}", all.len(), all.join("\n  ")),
        }
    }
}

/// The table of the keys in Markdown, as docs/configuration.md has it.
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| key in the file | flag | variable | default | allowed | what it does |\n|---|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
        let (flag, variable, allowed, help) = (key.flag(), key.variable(), key.rule.allowed(), key.help_line());
        table += &format!("| `{}` | `--{flag}` | `{variable}` | {default} | {allowed} | {help} |\n", key.name);
    }
    table
}

fn origin(key: &str, values: &Map<String, Value>) -> String {
    values.get(key).and_then(Value::origin).unwrap_or(DEFAULT_ORIGIN).to_owned()
}

fn read_key<T: Setting>(key: &str, rule: Rule, values: &Map<String, Value>, mistakes: &mut Vec<String>) -> Option<T> {
    let value = values.get(key)?;
    T::read(rule, value).map_err(|problem| mistakes.push(format!("{key} ({}): {problem}", origin(key, values)))).ok()
}

#[cfg(test)]
mod tests;
