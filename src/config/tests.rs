use std::io::Write;

use super::*;
use crate::store::{self, Durability, FileConfig};

fn flags(flags: &[(&'static str, &str)]) -> Sources {
    let flags = flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
    Sources { flags, ..Sources::default() }
}

fn variables(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

/// The file lives as long as the handle.
fn file(text: &str) -> (tempfile::NamedTempFile, Option<PathBuf>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = Some(file.path().to_owned());
    (file, path)
}

fn mistakes(sources: &Sources) -> Vec<String> {
    Config::load(sources).unwrap_err().0
}

fn in_file(config: &Config) -> &FileConfig {
    match &config.store {
        store::Config::File(config) => config,
        store::Config::Database(_) => panic!("{} is no file", config.store),
    }
}

#[test]
fn nothing_set_is_right() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.store.to_string(), "tallyhook.db");
    assert_eq!(in_file(&config).durability, Durability::Full);
    assert_eq!(config.service.session_ttl, Duration::from_secs(3_600));
    assert_eq!(config.grace, Duration::from_secs(10));
    assert!(!config.dev && !config.service.dev && config.delivery.targets.allow.is_empty());
}

#[test]
fn the_proxy_is_read_and_its_password_is_shown_nowhere() {
    use crate::delivery::proxy::Resolves;
    let read = |proxy: &str, resolves: &str| {
        Config::load(&flags(&[("egress_proxy", proxy), ("egress_proxy_resolves", resolves)]))
    };
    let config = read("http://hooks:hunter2@proxy.test:3128", "proxy").unwrap();
    let proxy = config.delivery.egress_proxy.as_ref().unwrap();
    assert_eq!((&*proxy.host, proxy.port, proxy.resolves), ("proxy.test", 3128, Resolves::Proxy));
    assert_eq!(config.changed, ["egress_proxy", "egress_proxy_resolves=proxy"]);
    assert!(!format!("{config:?}").contains("hunter2"));
    for (wrong, words) in [
        ("https://hooks:hunter2@proxy.test", "is not http"),
        ("hooks:hunter2@proxy.test", "is not http"),
        ("http://hooks:hunter2@proxy.test:1/path", "behind the port"),
    ] {
        let mistakes = read(wrong, "here").unwrap_err().to_string();
        assert!(
            mistakes.contains(words) && mistakes.contains("http://USER") && !mistakes.contains("hunter2"),
            "{mistakes}"
        );
    }
    assert!(read("", "there").unwrap_err().to_string().contains("here or proxy"));
}

#[test]
fn flags_go_before_variables_before_the_file() {
    let (_file, path) =
        file("readers_max = 5\nevents_max = 5\nwebhooks_max = 5\nallow_target = [\"10.0.0.0/8\", \"192.0.2.1\"]\n");
    let sources = Sources {
        variables: variables(&[("TALLYHOOK_EVENTS_MAX", "6"), ("TALLYHOOK_WEBHOOKS_MAX", "6"), ("HOME", "/")]),
        file: path,
        ..flags(&[("webhooks_max", "7")])
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!((in_file(&config).readers_max, config.service.events_max, config.service.webhooks_max), (5, 6, 7));
    assert_eq!(
        config.delivery.targets.allow,
        ["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse::<IpNet>().unwrap()]
    );
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let (_file, path) =
        file("sesion_ttl_s = 5\nreaders_max = 4.5\ngrace_ms = \"10s\"\n[delivery]\nin_flight_max = 9\n");
    let sources = Sources {
        variables: variables(&[
            ("TALLYHOOK_LISTN", "x"),
            ("TALLYHOOK_GRACE", "5"),
            ("TALLYHOOK_EVENTS_MAX", "0"),
            ("TALLYHOOK_DURABILITY", "Full"),
        ]),
        file: path,
        ..flags(&[
            ("listen", "localhost:80"),
            ("store", "postgres://a:secret@b:x/c"),
            ("log", "inof"),
            ("allow_target", "10.0.0.1/8"),
        ])
    };
    let all = mistakes(&sources);
    let expected = [
        ("\"delivery\" (file", "no sections"),
        ("\"sesion_ttl_s\" (file", "did you mean session_ttl_s?"),
        ("variable TALLYHOOK_LISTN:", "did you mean TALLYHOOK_LISTEN?"),
        ("variable TALLYHOOK_GRACE:", "did you mean TALLYHOOK_GRACE_MS?"),
        ("listen (flag --listen)", "127.0.0.1:8080"),
        ("store (flag --store)", "postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("durability (variable TALLYHOOK_DURABILITY)", "full or normal"),
        ("allow_target (flag --allow-target)", "10.0.0.0/8"),
        ("log (flag --log)", "debug"),
        ("events_max (variable TALLYHOOK_EVENTS_MAX)", "1 to 100000"),
        ("grace_ms (file", "0 to 600000 ms"),
        ("readers_max (file", "1 to 256"),
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (mistake, (place, words)) in all.iter().zip(expected) {
        assert!(mistake.starts_with(place) && mistake.contains(words), "{mistake} should have {place} and {words}");
    }
}

#[test]
fn what_the_platform_sets_is_passed_over_and_what_is_mistyped_is_not() {
    let of_kubernetes = [
        ("TALLYHOOK_SERVICE_HOST", "10.96.0.12"),
        ("TALLYHOOK_SERVICE_PORT", "8080"),
        ("TALLYHOOK_SERVICE_PORT_HTTP", "8080"),
        ("TALLYHOOK_PORT", "tcp://10.96.0.12:8080"),
        ("TALLYHOOK_PORT_8080_TCP", "tcp://10.96.0.12:8080"),
        ("TALLYHOOK_PORT_8080_TCP_PROTO", "tcp"),
        ("TALLYHOOK_PORT_8080_TCP_PORT", "8080"),
        ("TALLYHOOK_PORT_8080_TCP_ADDR", "10.96.0.12"),
        ("TALLYHOOK_PORT_53_UDP", "udp://10.96.0.12:53"),
        // Of a service that is named tallyhook-api.
        ("TALLYHOOK_API_SERVICE_HOST", "10.96.0.13"),
        ("TALLYHOOK_API_PORT", "tcp://10.96.0.13:80"),
    ];
    let of_docker = [("TALLYHOOK_NAME", "/web/tallyhook"), ("TALLYHOOK_ENV_PATH", "/bin")];
    let platform = [&of_kubernetes[..], &of_docker].concat();
    let config = Config::load(&Sources { variables: variables(&platform), ..flags(&[("readers_max", "5")]) }).unwrap();
    let mut names: Vec<_> = platform.iter().map(|(name, _)| *name).collect();
    names.sort();
    let readers_max = in_file(&config).readers_max;
    assert_eq!((config.passed_over, readers_max), (names.into_iter().map(str::to_owned).collect(), 5));

    for own in
        [("TALLYHOOK_PORT", "8080"), ("TALLYHOOK_NAME", "shop"), ("TALLYHOOK_PORT_X_TCP", "1"), ("TALLYHOOK_HOST", "h")]
    {
        let all = mistakes(&Sources { variables: variables(&[own]), ..Sources::default() });
        assert!(all.len() == 1 && all[0].contains("there is no such setting"), "{own:?}: {all:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let sources = Sources { file: Some("/nonexistent/tallyhook.toml".into()), ..flags(&[("dev", "maybe")]) };
    let all = mistakes(&sources);
    assert!(all.len() == 2 && all[0].contains("can't be read") && all[1].contains("true or false"), "{all:?}");
    let (_file, path) = file("listen = ");
    let all = mistakes(&Sources { file: path, ..Sources::default() });
    assert!(all.len() == 1 && all[0].contains("no TOML"), "{all:?}");
    // A line may have a password in it.
    let (_file, path) = file("log = \"info\"\negress_proxy = \"http://hooks:hunter2@proxy.test:1\n");
    let all = mistakes(&Sources { file: path, ..Sources::default() });
    assert!(all.len() == 1 && all[0].contains("line 2, column") && !all[0].contains("hunter2"), "{all:?}");
}

#[test]
fn dev_has_its_own_store_and_stays_on_loopback() {
    let config = Config::load(&flags(&[("dev", "true")])).unwrap();
    assert!(config.dev && config.service.dev);
    assert_eq!(config.store.to_string(), "tallyhook-dev.db");
    assert_eq!(config.delivery.targets.allow.len(), 2);
    let named = Config::load(&flags(&[("dev", "true"), ("store", "sqlite:mine.db"), ("listen", "[::1]:0")])).unwrap();
    assert_eq!(named.store.to_string(), "mine.db");
    for listen in ["0.0.0.0:8080", "192.0.2.1:80", "[::]:80"] {
        let all = mistakes(&flags(&[("dev", "true"), ("listen", listen), ("log", "?")]));
        assert!(all.len() == 2 && all.iter().any(|mistake| mistake.contains("loopback")), "{all:?}");
    }
}

#[test]
fn a_flaw_in_the_file_of_certificates_is_told_with_path_and_line() {
    let told = |path: &str| mistakes(&flags(&[("ca_file", path)])).concat();
    let missing = told("/nonexistent/ca.pem");
    assert!(missing.starts_with("ca_file (flag --ca-file): /nonexistent/ca.pem can't be read"), "{missing}");
    let (_file, path) = file("# ours\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let path = path.unwrap().display().to_string();
    let flaw = told(&path);
    assert!(flaw.contains(&format!("{path}, line 2: what begins here is no certificate")), "{flaw}");
    let mut der = tempfile::NamedTempFile::new().unwrap();
    der.write_all(&[0x30, 0x82, 0x01, 0xff]).unwrap();
    let binary = told(&der.path().display().to_string());
    assert!(binary.contains("openssl x509 -inform der"), "{binary}");
}

#[test]
fn a_database_is_named_without_its_password() {
    let named = |store| Config::load(&flags(&[("store", store)])).unwrap().store;
    let store = named("postgresql://hook:secret@db-1,db-2:6432/hooks");
    assert_eq!(store.to_string(), "postgres://hook@db-1:5432,db-2:6432/hooks");
    assert!(matches!(store, store::Config::Database(database) if database.terms.is_shared));
    let all = mistakes(&flags(&[("store", "postgres://hook:secret@h:port/x")]));
    assert!(all.len() == 1 && !all[0].contains("secret"), "{all:?}");
}

#[test]
fn stores_are_plain_files() {
    for bad in
        ["", "tallyhook.db", "sqlite:", "sqlite://a.db", "sqlite::memory:", "sqlite:file:a.db?mode=memory", "mysql://a"]
    {
        let all = mistakes(&flags(&[("store", bad)]));
        assert!(all.len() == 1 && all[0].contains("sqlite:"), "{bad}: {all:?}");
    }
    assert_eq!(Config::load(&flags(&[("store", "sqlite:/a/b.db")])).unwrap().store.to_string(), "/a/b.db");
}

#[test]
fn ports_are_listed_as_numbers_and_ranges() {
    let ports = |text: &str| Config::load(&flags(&[("target_ports", text)])).unwrap().delivery.targets.ports;
    assert_eq!(ports("443, 8000-8999,"), [443..=443, 8000..=8999]);
    assert!(ports("").is_empty());
    let (_file, path) = file("target_ports = [443, \"8000-8999\"]");
    let config = Config::load(&Sources { file: path, ..Sources::default() }).unwrap();
    assert_eq!(config.delivery.targets.ports, [443..=443, 8000..=8999]);
    for bad in ["0", "65536", "http", "9-8", "1-", "-1", "1-2-3"] {
        assert!(mistakes(&flags(&[("target_ports", bad)]))[0].contains("8000-8999"), "{bad}");
    }
}

#[test]
fn lists_of_networks_take_commas_and_single_addresses() {
    let config = Config::load(&flags(&[("allow_target", "10.0.0.0/8, ::1,fd00::/8,")])).unwrap();
    let shown: Vec<String> = config.delivery.targets.allow.iter().map(IpNet::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "::1/128", "fd00::/8"]);
    assert!(mistakes(&flags(&[("allow_target", "example.com")]))[0].contains("CIDR"));
}

#[test]
fn both_bounds_of_every_number_are_right_and_beyond_is_wrong() {
    for key in KEYS {
        let Rule::Number { min, max, .. } = key.rule else { continue };
        for good in [min, max] {
            assert!(Config::load(&flags(&[(key.name, &good.to_string())])).is_ok(), "{} = {good}", key.name);
        }
        assert_eq!(mistakes(&flags(&[(key.name, &(max + 1).to_string())])).len(), 1, "{}", key.name);
        if min > 0 {
            assert_eq!(mistakes(&flags(&[(key.name, &(min - 1).to_string())])).len(), 1, "{}", key.name);
        }
    }
}

#[test]
fn the_table_names_every_key_three_ways() {
    let table = markdown_table();
    assert_eq!(table.lines().count(), KEYS.len() + 2);
    let row = "| `session_ttl_s` | `--session-ttl-s` | `TALLYHOOK_SESSION_TTL_S` | `3600` | 1 to 2592000 s | \
               How long a session lives after its last use. |";
    assert!(table.contains(row), "{table}");
}
