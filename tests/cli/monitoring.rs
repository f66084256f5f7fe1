//! What examples/monitoring has for Prometheus and Grafana, held to a server by Prometheus
//! itself.

mod queries;

use std::collections::BTreeMap;
use std::time::Duration;

use tallyhook::metrics::{Kind, Listed, Metrics};
use url::form_urlencoded::Serializer;

use self::queries::Named;
use super::*;
use crate::common::{PATIENCE, get};

/// What Prometheus itself says of what it scrapes.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];

/// How often it is looked what Prometheus has seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/monitoring").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(example(name)).unwrap()
}

fn promtool(args: &[&str], input: &str) {
    let folder = example("");
    let mut command = Command::new("promtool");
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

/// A Prometheus that watches a server as the example says, until it is dropped.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    fn watching(folder: &Path, server: &str) -> Self {
        let address = server.strip_prefix("http://").unwrap();
        let config = read("prometheus.yml").replace("127.0.0.1:8080", address).replace("15s", "1s");
        assert!(config.contains(address) && config.contains("scrape_interval: 1s"), "{config}");
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        std::fs::copy(example("alerts.yml"), folder.join("alerts.yml")).unwrap();
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        let mut child = command.current_dir(folder).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| line.split_once("\"Listening on\" address=").map(|(_, at)| at.to_owned()));
        let address = address.expect("Prometheus says where it listens");
        // It goes on telling.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: format!("http://{address}") }
    }

    /// What it answers; fails if it takes the question for wrong.
    async fn asked(&self, path: &str) -> Value {
        let (status, text) = get(&self.url, path).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{path}: {cause}: {text}"));
        assert!(status == 200 && answer["status"] == "success", "{path}: {text}");
        answer["data"].clone()
    }

    async fn query(&self, expression: &str) -> Value {
        let query = Serializer::new(String::new()).append_pair("query", expression).finish();
        self.asked(&format!("/api/v1/query?{query}")).await
    }

    /// Asks until there is something to see.
    async fn until<T>(&self, path: &str, see: impl Fn(&Value) -> Option<T>) -> T {
        let look = async {
            loop {
                // It refuses until it has read what it keeps.
                let (status, text) = get(&self.url, path).await;
                let answer = (status == 200).then(|| serde_json::from_str::<Value>(&text).unwrap());
                if let Some(seen) = answer.and_then(|answer| see(&answer["data"])) {
                    return seen;
                }
                // Nothing tells when it has scraped.
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("Prometheus comes to see it")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Every series that there may be, with its labels.
fn known() -> BTreeMap<String, Vec<&'static str>> {
    let mut known = BTreeMap::from([("up".to_owned(), Vec::new())]);
    for Listed { name, kind, labels, .. } in Metrics::default().list() {
        if kind == Kind::Histogram {
            known.insert(format!("{name}_bucket"), [labels, &["le"]].concat());
            known.insert(format!("{name}_sum"), labels.to_vec());
            known.insert(format!("{name}_count"), labels.to_vec());
        } else {
            known.insert(name, labels.to_vec());
        }
    }
    known
}

/// The expressions of the dashboard and of the alerts, each with where it stands.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let filled = expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*");
            assert!(!filled.contains('$'), "{expression}");
            found.push((panel["title"].to_string(), filled));
        }
    }
    found
}

/// Fails if it names what a server does not have, or a value that no label of it has.
fn check_names(place: &str, expression: &str, scraped: &str) {
    let known = known();
    let Named { selectors, grouped_by } = queries::named(expression);
    assert!(!selectors.is_empty(), "{place}: {expression} names no metric");
    let mut all_labels = OF_THE_SCRAPE.to_vec();
    for selector in &selectors {
        let own = known.get(&selector.metric);
        let own = own.unwrap_or_else(|| panic!("{place}: there is no {} in {expression}", selector.metric));
        all_labels.extend(own);
        for (label, values) in &selector.labels {
            if OF_THE_SCRAPE.contains(&label.as_str()) {
                continue;
            }
            assert!(own.contains(&label.as_str()), "{place}: {} has no label {label}: {expression}", selector.metric);
            for value in values {
                let pair = format!("{label}=\"{value}\"");
                let is_there = |line: &str| line.starts_with(&format!("{}{{", selector.metric)) && line.contains(&pair);
                assert!(scraped.lines().any(is_there), "{place}: no {} has {pair}", selector.metric);
            }
        }
    }
    let unknown: Vec<_> = grouped_by.iter().filter(|label| !all_labels.contains(&label.as_str())).collect();
    assert!(unknown.is_empty(), "{place}: nothing has {unknown:?} in {expression}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_the_alerts_and_the_dashboard_and_a_server_has_all_they_name() {
    if !tools::runs("prometheus") || !tools::runs("promtool") {
        tools::left_out("what is watched: prometheus is not installed; tests/run installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), &["--dev"]);
    stdout(&server.call(&["event.publish", "order:created", "{}"]));
    let (_, scraped) = get(&server.url, "/metrics").await;
    assert!(scraped.contains("\ntallyhook_events_total 1\n"), "{scraped}");
    promtool(&["check", "metrics"], &scraped);
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts.test.yml"], "");

    let prometheus = Prometheus::watching(folder.path(), &server.url);
    let is_up = |data: &Value| data["activeTargets"].as_array()?.iter().any(|one| one["health"] == "up").then_some(());
    prometheus.until("/api/v1/targets", is_up).await;
    let evaluated = |data: &Value| {
        let rules = data["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    };
    let rules = prometheus.until("/api/v1/rules", evaluated).await;
    assert_eq!(rules.len(), 6, "{rules:?}");
    let of_rules = rules.iter().map(|rule| (rule["name"].to_string(), rule["query"].as_str().unwrap().to_owned()));
    let mut all = expressions();
    assert!(all.len() > 40, "{}: they are no longer found", all.len());
    all.extend(of_rules);
    for (place, expression) in &all {
        check_names(place, expression, &scraped);
        prometheus.query(expression).await;
    }
    let events = prometheus.query("tallyhook_events_total").await;
    assert_eq!(events["result"][0]["value"][1], "1", "{events}");
}
