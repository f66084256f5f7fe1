//! What the operator decides: flags, `TALLYHOOK_…` variables and one TOML
//! file, in this order of precedence, turned into each floor's own `Config`.
//! All mistakes are reported at once, each with where it stands.
//!
//! A key is defined in one place, the table [`KEYS`]; its flag, its
//! variable, its line of help and its row in docs/configuration.md follow from
//! there.

mod keys;
mod layers;
mod names;
mod rule;
mod setting;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use self::keys::{KEYS, Key};
use self::keys::{Settings, origin};
use self::layers::{default_layer, file_layer, flag_layer, variable_layer};
pub use self::names::{
    CLIENT_CERT_VARIABLE, CLIENT_KEY_VARIABLE, CONFIG_VARIABLE, KEY_VARIABLE, SECRET_VARIABLE, SERVER_CA_VARIABLE,
    URL_VARIABLE, USER_VARIABLE,
};
pub use self::rule::{Rule, Unit};
use self::setting::{LogFormat, OneFile, StoreAddress};
use crate::api::tls::{self, Tls};
use crate::{api, delivery, service, spans, store};

/// The store of a server in dev mode, unless one is named.
const DEV_STORE: &str = "tallyhook-dev.db";
/// How often what others have committed is looked for, where that is not said.
const SHARED_POLL: Duration = Duration::from_secs(1);
/// How often all webhooks are looked at where the store says when there is something new.
const SHARED_GLANCE: Duration = Duration::from_secs(30);
/// What a server in dev mode may deliver to besides.
const DEV_TARGETS: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];
/// Everything the operator decides, floor by floor.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where whoever runs the server asks how it is doing; `None`: there, too.
    pub ops_listen: Option<SocketAddr>,
    /// Whether this is a server for trying things out, with a user and a key
    /// that everybody knows.
    pub dev: bool,
    /// The most webhooks whose metrics are shown one by one.
    pub metrics_webhooks: usize,
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
    /// Where spans go.
    pub spans: spans::export::Config,
    /// The listener.
    pub api: api::Config,
    /// Whether lines of the log are JSON.
    pub log_as_json: bool,
    /// What differs from the defaults, without secrets. Worth a line in the log.
    pub changed: Vec<String>,
    /// Copies of the store that are made while it is served; `None`: none are.
    pub backups: Option<Backups>,
    /// Variables that look like ours and are the platform's, so they say
    /// nothing. Worth a line in the log.
    pub passed_over: Vec<String>,
}

/// Copies of the store that are made while it is served.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The folder for them.
    pub dir: PathBuf,
    /// How long it is from one to the next.
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
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
        let is_named = |key| origin(key, &values) != keys::DEFAULT_ORIGIN;
        if settings.proxy_protocol == Some(true)
            && settings.trusted_proxies.as_ref().is_some_and(|all| all.0.is_empty())
        {
            let origin = origin("proxy_protocol", &values);
            mistakes.push(format!(
                "proxy_protocol ({origin}): nobody is believed as long as trusted_proxies names none; name the \
                 networks of the proxies there"
            ));
        }
        let tls = settings.tls().unwrap_or_else(|(key, problem)| {
            mistakes.push(format!("{key} ({}): {problem}", origin(key, &values)));
            None
        });
        let backup_dir = settings.backup_dir().unwrap_or_else(|problem| {
            mistakes.push(format!("backup_dir ({}): {problem}", origin("backup_dir", &values)));
            None
        });
        let named = [is_named("store"), is_named("store_poll_ms")];
        match settings.into_config(named, tls, backup_dir, [passed_over, keys::changed(&values)]) {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(Mistakes(mistakes)),
        }
    }
}

impl Config {
    /// The same, of a server that sends nothing.
    pub fn paused(mut self) -> Self {
        match &mut self.store {
            store::Config::File(config) => config.is_paused = true,
            store::Config::Database(config) => config.is_paused = true,
        }
        (self.service.is_paused, self.delivery.is_paused) = (true, true);
        self
    }
}

impl Settings {
    /// What bounds a change to the store.
    fn terms(&self, is_shared: bool) -> Option<store::Terms> {
        Some(store::Terms {
            key_ttl: self.idempotency_ttl_s?,
            deliveries_max: self.publish_deliveries_max?,
            definition_bytes_max: self.merchant_webhook_bytes_max?,
            disable_after: self.disable_after_s?,
            retention: store::Retention {
                attempts: self.retention_days?,
                bodies: self.body_retention_days?,
                audit: self.audit_retention_days?,
                bytes_max: self.store_bytes_max?,
                webhook_log_bytes_max: self.webhook_log_bytes_max?,
                merchant_log_bytes_max: self.merchant_log_bytes_max?,
            },
            fingerprint_key: self.master_key_file.as_ref()?.0.fingerprint_key(),
            is_shared,
        })
    }

    /// What the files of TLS hold, if any are named; or the key that is to blame, and why.
    fn tls(&self) -> Result<Option<Tls>, (&'static str, String)> {
        let file = |setting: &Option<OneFile>| setting.as_ref().and_then(|file| file.0.clone());
        let client_ca = file(&self.tls_client_ca);
        let together = "tls_cert and tls_key belong together; name both";
        match (file(&self.tls_cert), file(&self.tls_key)) {
            (Some(certificate), Some(key)) => {
                Tls::read(tls::Files { certificate, key, client_ca }).map(Some).map_err(|flaw| {
                    let key = match flaw.which {
                        tls::Which::Certificate => "tls_cert",
                        tls::Which::Key => "tls_key",
                        tls::Which::ClientCa => "tls_client_ca",
                    };
                    (key, flaw.problem)
                })
            }
            (Some(_), None) => Err(("tls_key", format!("is not set; {together}"))),
            (None, Some(_)) => Err(("tls_cert", format!("is not set; {together}"))),
            (None, None) if client_ca.is_some() => {
                Err(("tls_client_ca", format!("is nothing without TLS; {together}, or leave it out")))
            }
            (None, None) => Ok(None),
        }
    }

    /// The folder for copies of the store, if one is named.
    fn backup_dir(&self) -> Result<Option<PathBuf>, String> {
        let Some(dir) = self.backup_dir.as_ref().and_then(|file| file.0.clone()) else { return Ok(None) };
        match self.store {
            Some(StoreAddress::Database(_)) => {
                Err("is for a store in a file; PostgreSQL has tools of its own for copies, such as pg_dump".to_owned())
            }
            _ if !dir.is_dir() => Err(format!("{} is no folder; make it, or name another", dir.display())),
            _ => Ok(Some(dir)),
        }
    }

    /// Hands each floor its own; `None` if there was a mistake.
    fn into_config(
        self,
        [named_store, named_poll]: [bool; 2],
        tls: Option<Tls>,
        backup_dir: Option<PathBuf>,
        [passed_over, changed]: [Vec<String>; 2],
    ) -> Option<Config> {
        let is_shared = matches!(self.store, Some(StoreAddress::Database(_)));
        let terms = self.terms(is_shared)?;
        let dev = self.dev?;
        let mut allow_targets = self.allow_target?.0;
        if dev {
            allow_targets.extend(DEV_TARGETS);
        }
        let address = match self.store? {
            StoreAddress::File(_) if dev && !named_store => StoreAddress::File(DEV_STORE.into()),
            address => address,
        };
        let (readers_max, write_queue_max, is_paused) = (self.readers_max?, self.write_queue_max?, self.paused?);
        let slow_commit = self.slow_commit_ms?;
        let (durability, busy_timeout, vault) = (self.durability?, self.busy_timeout_ms?, self.master_key_file?.0);
        let (prepare, patience) = (self.store_prepare?, self.publish_patience_ms?);
        let timeouts = store::DatabaseTimeouts {
            connect: self.store_connect_timeout_ms?,
            statement: self.store_statement_timeout_ms?,
            lock: self.store_lock_timeout_ms?,
            idle: self.store_idle_timeout_ms?,
        };
        let (roles, resolves) = (self.roles?, self.egress_proxy_resolves?);
        let (poll, glance) = match is_shared {
            true if named_poll => (self.store_poll_ms?, SHARED_GLANCE.max(self.store_poll_ms?)),
            true => (SHARED_POLL, SHARED_GLANCE),
            false => (self.store_poll_ms?, self.store_poll_ms?),
        };
        let node = store::NodeSettings {
            name: node_name(self.node_name?.0),
            takes_calls: roles.takes_calls,
            sends: roles.sends,
            lease_ttl: self.lease_ttl_ms?,
            poll,
            notifies: self.store_notify?,
            notify_database: self.store_notify_url?.0,
        };
        let node_name = node.name.clone();
        let store = match address {
            StoreAddress::File(path) => store::Config::File(Box::new(store::FileConfig {
                path,
                durability,
                busy_timeout,
                readers_max,
                write_queue_max,
                slow_commit,
                is_paused,
                vault,
                terms,
            })),
            StoreAddress::Database(database) => store::Config::Database(Box::new(store::DatabaseConfig {
                database: database.with(timeouts, prepare),
                node,
                readers_max,
                write_queue_max,
                slow_commit,
                patience,
                is_paused,
                vault,
                terms,
            })),
        };
        let (trusted_proxies, trusted) = (self.trusted_proxies?.0, self.ca_file?.0);
        Some(Config {
            listen: self.listen?,
            ops_listen: self.ops_listen?.0,
            dev,
            metrics_webhooks: self.metrics_webhooks?,
            log: self.log?.0,
            log_as_json: self.log_format? == LogFormat::Json,
            changed,
            grace: self.grace_ms?,
            store,
            service: service::Config {
                session_ttl: self.session_ttl_s?,
                sessions_max: self.sessions_max?,
                slow_call: self.slow_call_ms?,
                login_failures_max: self.login_failures_max?,
                address_login_failures_max: self.address_login_failures_max?,
                login_slowdown: self.login_slowdown_ms?,
                trusted_proxies: trusted_proxies.clone(),
                calls_per_second_max: self.calls_per_second_max?,
                calls_burst_max: self.calls_burst_max?,
                stranger_calls_per_second_max: self.stranger_calls_per_second_max?,
                stranger_calls_burst_max: self.stranger_calls_burst_max?,
                users_max: self.users_max?,
                tokens_max: self.tokens_max?,
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
                node_name,
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
                store_poll: glance,
                targets: delivery::guard::Targets {
                    allow: allow_targets,
                    ports: self.target_ports?.0,
                    shows_addresses: dev,
                },
                egress_proxy: self.egress_proxy?.0.map(|proxy| proxy.resolving(resolves)),
                trusted: trusted.clone(),
            },
            spans: spans::export::Config {
                endpoint: self.otlp_endpoint?.0,
                sample_ratio: self.otlp_sample_ratio?.0,
                trusted,
            },
            api: api::Config {
                public_url: self.public_url?.0,
                tls,
                handshake_timeout: self.handshake_timeout_ms?,
                body_bytes_max: self.body_bytes_max?,
                received_bytes_max: self.received_bytes_max?,
                batch_calls_max: self.batch_calls_max?,
                response_bytes_max: self.response_bytes_max?,
                unsent_bytes_max: self.unsent_bytes_max?,
                connections_max: self.connections_max?,
                address_connections_max: self.address_connections_max?,
                trusted_proxies,
                proxy_protocol: self.proxy_protocol?,
                ws_calls_max: self.ws_calls_max?,
                ws_subscriptions_max: self.ws_subscriptions_max?,
                linger: api::linger::Bounds { bytes_max: self.linger_bytes_max?, timeout: self.linger_timeout_ms? },
                idle_timeout: self.idle_timeout_ms?,
            },
            backups: match backup_dir {
                Some(dir) => Some(Backups { dir, every: self.backup_every_s?, keep: self.backup_keep? }),
                None => None,
            },
            passed_over,
        })
    }
}

/// What a node is called: as its operator says, or as its machine is.
fn node_name(said: String) -> String {
    match said.is_empty() {
        true => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        false => said,
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

#[cfg(test)]
mod tests;
