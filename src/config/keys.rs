//! Every key of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use ::config::{Map, Value};

use super::names::PREFIX;
use super::rule::{Rule, Unit};
use super::setting::{
    CaFile, Filter, LogFormat, MasterKeys, Networks, NodeName, OneFile, OneProxy, OpsAddress, OtherStore, Ports,
    PublicUrl, Ratio, Roles, Setting, StoreAddress, plain,
};
use crate::delivery::proxy::Resolves;
use crate::store::{Durability, Prepare};

/// Where a value comes from that nobody set.
pub const DEFAULT_ORIGIN: &str = "default";

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
        pub struct Settings {
            $(pub $name: Option<$type>,)*
        }

        impl Settings {
            /// Reads all.
            pub fn read(values: &Map<String, Value>, mistakes: &mut Vec<String>) -> Self {
                Self { $($name: read_key(stringify!($name), $rule, values, mistakes),)* }
            }
        }
    };
}

keys! {
    /// Where to listen; port 0 takes a free one.
    listen: SocketAddr = "127.0.0.1:8080", Rule::Address;
    /// Where /healthz, /readyz, /metrics and /version are answered; where all else is, if that is
    /// not said. It is for those who run the server: anybody who reaches it is answered.
    ops_listen: OpsAddress = "", Rule::Address;
    /// Where clients reach the server, which its OpenRPC document tells them; where it
    /// listens, if that is not said.
    public_url: PublicUrl = "", Rule::Url;
    /// A file with the certificate, and those between it and its authority, in PEM, with which the
    /// server speaks TLS. It and the next two are read anew when they change, and on SIGHUP.
    tls_cert: OneFile = "", Rule::File;
    /// A file with its key, in PEM.
    tls_key: OneFile = "", Rule::File;
    /// A file of authorities in PEM: a caller has to present a certificate of one of them, and
    /// logs in besides.
    tls_client_ca: OneFile = "", Rule::File;
    /// Where everything is kept; made if it is missing. With dev, sqlite:tallyhook-dev.db.
    /// A database of PostgreSQL, postgres://USER:PASSWORD@HOST:PORT/DATABASE, may be shared by several servers.
    /// With ?sslmode=verify-full behind it, and &sslrootcert=FILE for an authority of one's own, it is encrypted and known for what it is.
    store: StoreAddress = "sqlite:tallyhook.db", Rule::Store;
    /// A folder into which the store, which has to be in a file then, is copied as by tallyhook
    /// backup: when the server starts, if the last copy is too old, and from then on.
    backup_dir: OneFile = "", Rule::File;
    /// How long it is from one such copy to the next.
    backup_every_s: Duration = "86400", seconds(60, 31_536_000);
    /// How many of these copies are kept; older ones are deleted.
    backup_keep: usize = "7", count(1, 10_000);
    /// What an answer promises: with full, what was accepted survives a power cut;
    /// with normal, a crash of the process.
    durability: Durability = "full", Rule::Durability;
    /// A file of master keys, as tallyhook key new makes them, by which secrets of webhooks are encrypted
    /// at rest: what signs, passwords, headers. The first one encrypts, the others open what it has not
    /// come to yet. A store whose secrets are encrypted needs it.
    master_key_file: MasterKeys = "", Rule::File;
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
    /// A proxy by which all deliveries go, plain http ones too: it is asked by CONNECT for the
    /// receiver's address and port. Best kept in a variable or the file, where nobody sees its
    /// password.
    egress_proxy: OneProxy = "", Rule::Proxy;
    /// Who looks names of receivers up: here, and the proxy is asked for an address that may be
    /// delivered to; or the proxy, which is asked for the name, and then has to refuse private
    /// addresses itself.
    egress_proxy_resolves: Resolves = "here", Rule::Resolves;
    /// A file of certificates in PEM that deliveries trust besides the system's: authorities,
    /// and certificates of receivers, each of which counts where exactly it is presented.
    ca_file: CaFile = "", Rule::File;
    /// The most webhooks that /metrics shows one by one, with their ids: those with the most
    /// pending. Whoever may ask for metrics sees them.
    metrics_webhooks: usize = "0", count(0, 1_000);
    /// A collector of OpenTelemetry, such as http://localhost:4318, to which spans of publishes,
    /// commits and attempts at deliveries go, by OTLP over HTTP. Without it none are made.
    otlp_endpoint: PublicUrl = "", Rule::Url;
    /// Which part of the publishes that come without a trace begins one that is recorded. One
    /// that comes with a trace is recorded if that is.
    otlp_sample_ratio: Ratio = "1", Rule::Ratio;
    /// What to log to stderr, such as debug or info,tallyhook::delivery=debug.
    log: Filter = "info", Rule::Filter;
    /// How lines of the log are written: text for people; json, an object in each line, for
    /// machines.
    log_format: LogFormat = "text", Rule::LogFormat;
    /// Calls that take so long have a line in the log; 0 for none. What waits on purpose, such
    /// as delivery.pull, does not count.
    slow_call_ms: Duration = "1000", millis(0, 600_000);
    /// Commits of the store that take so long have a line in the log; 0 for none.
    slow_commit_ms: Duration = "1000", millis(0, 600_000);
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
    /// Proxies in trusted_proxies begin each connection with a header of the PROXY protocol, version
    /// 1 or 2, which says whose it is. Whom it names counts as the other end of the connection; a
    /// connection of theirs without it is closed.
    proxy_protocol: bool = "false", Rule::Switch;
    /// The most calls of one user in a second, over all its keys, sessions and connections;
    /// each of its tokens has as many for itself. 0 sets no limit. Each call of a batch or a multiCall counts.
    calls_per_second_max: u32 = "0", count(0, 1_000_000);
    /// The most calls of one user at once, before calls_per_second_max holds it up; 0 is a
    /// second's worth.
    calls_burst_max: u32 = "0", count(0, 1_000_000);
    /// The most calls in a second from one address by those who are not logged in; 0 sets no
    /// limit. Each call of a batch counts.
    stranger_calls_per_second_max: u32 = "50", count(0, 1_000_000);
    /// The most of them at once; 0 is a second's worth.
    stranger_calls_burst_max: u32 = "200", count(0, 1_000_000);
    /// The most users of a merchant that user.create makes, revoked ones too: a name is given once.
    /// Those that are made at the command line count, and are not bounded.
    users_max: u32 = "1000", count(1, 1_000_000);
    /// The most tokens of a merchant that have neither ended nor been revoked.
    tokens_max: u32 = "10000", count(1, 100_000);
    /// The most webhooks a merchant may have.
    webhooks_max: u32 = "1000", count(1, 1_000_000);
    /// The most bytes of their topics, headers, expansions, descriptions, URLs and certificates together.
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
    /// How long a connection may take for what comes before its first request: the header of the
    /// PROXY protocol, and the handshake of TLS.
    handshake_timeout_ms: Duration = "10000", millis(100, 600_000);
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
    /// What this server is called among the nodes that share a store; the name of its
    /// machine, if that is not said.
    node_name: NodeName = "", Rule::Name;
    /// What this node does, of those that share a store: take calls, send, or both.
    roles: Roles = "api,send", Rule::Roles;
    /// How long nodes that share a store take one of them to be there that does not say so. It
    /// says so four times as often; if it stops without a word, others send for it after this.
    lease_ttl_ms: Duration = "8000", millis(1_000, 600_000);
    /// Nodes that share a store tell one another at once what they have committed, by NOTIFY.
    /// Without it they find that out by store_poll_ms. A pooler that pools transactions can't
    /// pass it on.
    store_notify: bool = "true", Rule::Switch;
    /// The address at which a node hears of others, if store names a pooler; PostgreSQL itself,
    /// written as store is.
    store_notify_url: OtherStore = "", Rule::Database;
    /// Whether statements are kept prepared in PostgreSQL: auto does it unless a pooler of
    /// transactions stands in front of it; on, with one that keeps them, such as PgBouncer from
    /// 1.21 on with max_prepared_statements; off takes it for granted that there is a pooler.
    store_prepare: Prepare = "auto", Rule::Prepare;
    /// How long connecting to PostgreSQL may take.
    store_connect_timeout_ms: Duration = "5000", millis(100, 600_000);
    /// How long PostgreSQL may take for one statement.
    store_statement_timeout_ms: Duration = "10000", millis(100, 600_000);
    /// How long a change waits in PostgreSQL for another one that holds the same merchant or row.
    store_lock_timeout_ms: Duration = "2000", millis(10, 600_000);
    /// How long a transaction may stand still before PostgreSQL ends it: so long a node that hangs
    /// holds up the merchants for whom it was writing.
    store_idle_timeout_ms: Duration = "5000", millis(100, 600_000);
    /// How long a change, such as a publish, waits for PostgreSQL before it is refused with
    /// nothing done, how long its transaction may take once it has begun, and how long a look-up
    /// of a call may take.
    publish_patience_ms: Duration = "5000", millis(100, 600_000);
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
    /// How long the audit log is kept: who has changed what.
    audit_retention_days: Duration = "400", days(0, 36_500);
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
    /// How often the store is looked at for deliveries and changes of webhooks that nobody has told of. They are told of as a rule; this is for when that goes wrong. Unless it is set, 1000 where the store is a database: a look is cheap there, and what other servers tell may be lost.
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

/// What differs from the defaults, one `key=value` each. Of an address that may have a
/// password in it, only that it is set.
pub fn changed(values: &Map<String, Value>) -> Vec<String> {
    let is_changed = |key: &&Key| origin(key.name, values) != DEFAULT_ORIGIN;
    let told = |key: &Key| match (key.rule, values.get(key.name)) {
        (Rule::Store | Rule::Database | Rule::Url | Rule::Proxy, _) | (_, None) => key.name.to_owned(),
        (_, Some(value)) => format!("{}={}", key.name, plain(value)),
    };
    KEYS.iter().filter(is_changed).map(told).collect()
}

/// Where a value was set.
pub fn origin(key: &str, values: &Map<String, Value>) -> String {
    values.get(key).and_then(Value::origin).unwrap_or(DEFAULT_ORIGIN).to_owned()
}

fn read_key<T: Setting>(key: &str, rule: Rule, values: &Map<String, Value>, mistakes: &mut Vec<String>) -> Option<T> {
    let value = values.get(key)?;
    T::read(rule, value).map_err(|problem| mistakes.push(format!("{key} ({}): {problem}", origin(key, values)))).ok()
}
