//! The runs of a scenario: what is registered, and what is published.

use serde_json::{Value, json};

use super::args::BenchArgs;
use super::hostile::Kind;
use super::load::Plan;
use super::pace::Capacity;
use super::scenario::Scenario;
use super::sink::{CLOSE_QUERY, DOWN_QUERY};
use crate::cli::Failure;

/// The topic of all events that are measured.
const TOPIC: &str = "bench:event";
/// The topic of those that are not.
const OTHER_TOPIC: &str = "bench:backlog";
/// Bytes of padding in each message.
pub const MESSAGE_BYTES: usize = 100;
/// Events in one call, where they go as fast as they can.
const BATCH: usize = 50;
/// The same where each event is published as it happens, and is as long as most are.
const SINGLE: (usize, usize) = (1, 500);
/// How far the distant receiver is away, in milliseconds.
const DISTANCE_MS: u64 = 100;
/// How many hosts there are if there are many.
const HOSTS: u16 = 200;
/// The most deliveries that a call may make at a server with the default limits.
const CALL_DELIVERIES_MAX: usize = 1_000;
/// How often the scenarios are run that compare.
const PAIRS: usize = 5;

/// How a receiver speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Whoever comes again may resume a session.
    Resuming,
    /// Every handshake is a full one.
    Full,
}

/// One webhook.
#[derive(Clone)]
pub struct Hook {
    /// Where: a path of the receiver, or a whole URL.
    pub target: String,
    /// What it subscribes to.
    pub topics: &'static str,
    /// Whatever else it has.
    pub more: Value,
}

/// A run of a scenario.
#[derive(Clone)]
pub struct Run {
    /// Which.
    pub scenario: Scenario,
    /// What distinguishes this run from others of the scenario.
    pub variant: &'static str,
    /// Webhooks whose arrivals are measured, and waited for.
    pub hooks: Vec<Hook>,
    /// Others.
    pub besides: Vec<Hook>,
    /// What is published before the measurement begins.
    pub before: Option<Plan>,
    /// What is published as it begins; else the receiver comes back.
    pub plan: Option<Plan>,
    /// How far away the receiver is, in milliseconds.
    pub latency_ms: u64,
    /// Over how many hosts the webhooks are spread.
    pub hosts: u16,
    /// How the receiver speaks TLS, if it does.
    pub tls: Option<Tls>,
    /// What a receiver that slows down can do.
    pub capacity: Option<Capacity>,
}

impl Run {
    /// Deliveries that will arrive.
    pub fn expected(&self) -> u64 {
        (self.events() * self.hooks.len()) as u64
    }

    /// Events whose deliveries are measured.
    pub fn events(&self) -> usize {
        self.published().map_or(0, |plan| plan.events)
    }

    /// How they are published.
    pub fn published(&self) -> Option<&Plan> {
        self.plan.as_ref().or(self.before.as_ref())
    }
}

fn hook(number: usize) -> Hook {
    at(format!("/hook/{number}"))
}

fn at(target: String) -> Hook {
    Hook { target, topics: TOPIC, more: json!({}) }
}

fn with(more: Value) -> Vec<Hook> {
    vec![Hook { more, ..hook(0) }]
}

/// The runs of a scenario, in their order: one, or several to be compared;
/// none of tenants, which are measured otherwise.
pub fn runs(scenario: Scenario, args: &BenchArgs) -> Result<Vec<Run>, Failure> {
    let asked = Asked { scenario, args };
    let (plan, rated) = (|events| asked.plan(events, None), |rate, seconds| asked.rated(rate, seconds));
    let one = |hooks, plan| Ok(vec![Run { hooks, plan: Some(plan), ..asked.run() }]);
    match scenario {
        Scenario::Steady => one(vec![hook(0)], rated(500.0, 10.0)),
        Scenario::Burst => one(vec![hook(0)], plan(100_000)),
        Scenario::Single => one(vec![hook(0)], plan(20_000)),
        Scenario::Fanout => one((0..20).map(hook).collect(), plan(10_000)),
        Scenario::Ordered => one(with(json!({"delivery_mode": "ordered"})), plan(20_000)),
        Scenario::Batched => one(with(json!({"batch": {"max_events": 50, "wait_ms": 10}})), plan(100_000)),
        Scenario::Noisy => asked.compared(&|| Ok(vec![at("/slow?delay_ms=5000".to_owned())]), None),
        Scenario::Hostile => asked.compared(&|| Ok(Kind::ALL.map(|kind| at(kind.path())).into()), None),
        Scenario::Backlog => {
            let before = Plan { topic: OTHER_TOPIC, ..plan(1_000_000) };
            asked.compared(&|| Ok(vec![Hook { topics: OTHER_TOPIC, ..at(dead_url()?) }]), Some(before))
        }
        Scenario::CatchUp => {
            let more = json!({"retry": {"max_retries": 100, "interval_seconds": 1}});
            let hook = Hook { more, ..at(format!("/hook/0{DOWN_QUERY}")) };
            Ok(vec![Run { hooks: vec![hook], before: Some(plan(200_000)), ..asked.run() }])
        }
        Scenario::Distant => one(vec![hook(0)], plan(10_000)),
        Scenario::DistantOrdered => {
            one(with(json!({"delivery_mode": "ordered", "batch": {"max_events": 100, "wait_ms": 10}})), plan(5_000))
        }
        Scenario::Hosts => {
            let hosts = args.hosts.unwrap_or(HOSTS);
            let plan = plan(50);
            let batch = plan.batch.min(CALL_DELIVERIES_MAX / usize::from(hosts)).max(1);
            let (hooks, plan) = ((0..hosts.into()).map(hook).collect(), Some(Plan { batch, ..plan }));
            Ok(vec![Run { hooks, plan, hosts, tls: Some(Tls::Resuming), ..asked.run() }])
        }
        Scenario::Yielding => asked.slow("yielding"),
        Scenario::Pooled => asked.slow("pooled"),
        Scenario::Secure => {
            let run =
                |(variant, tls)| Run { variant, hooks: vec![hook(0)], plan: Some(plan(100_000)), tls, ..asked.run() };
            Ok(asked.by_turns(&[("http", None), ("https", Some(Tls::Resuming))].map(run)))
        }
        Scenario::Handshakes => {
            let hook = || vec![at(format!("/hook/0{CLOSE_QUERY}"))];
            let run = |(variant, tls)| Run { variant, hooks: hook(), plan: Some(plan(20_000)), tls, ..asked.run() };
            let variants = [("http", None), ("resumed", Some(Tls::Resuming)), ("full", Some(Tls::Full))];
            Ok(asked.by_turns(&variants.map(run)))
        }
        Scenario::Tenants => Ok(Vec::new()),
    }
}

/// What the command line says of a scenario.
struct Asked<'a> {
    scenario: Scenario,
    args: &'a BenchArgs,
}

impl Asked<'_> {
    /// A run of nothing yet.
    fn run(&self) -> Run {
        let is_distant = matches!(self.scenario, Scenario::Distant | Scenario::DistantOrdered | Scenario::Hosts);
        Run {
            scenario: self.scenario,
            variant: "",
            hooks: Vec::new(),
            besides: Vec::new(),
            before: None,
            plan: None,
            latency_ms: self.args.latency_ms.unwrap_or(if is_distant { DISTANCE_MS } else { 0 }),
            hosts: self.args.hosts.unwrap_or(1),
            tls: self.args.tls.then_some(Tls::Resuming),
            capacity: None,
        }
    }

    fn plan(&self, events: usize, rate: Option<f64>) -> Plan {
        let (batch, message_bytes) = if self.scenario == Scenario::Single { SINGLE } else { (BATCH, MESSAGE_BYTES) };
        Plan {
            topic: TOPIC,
            events: self.args.events.unwrap_or(events),
            batch: if rate.is_some() { 1 } else { self.args.batch.unwrap_or(batch) },
            connections: self.args.connections,
            rate,
            message_bytes: self.args.message_bytes.unwrap_or(message_bytes),
        }
    }

    fn rated(&self, rate: f64, seconds: f64) -> Plan {
        let rate = self.args.rate.unwrap_or(rate);
        self.plan((rate * seconds) as usize, Some(rate))
    }

    fn slow(&self, kind: &str) -> Result<Vec<Run>, Failure> {
        let plan = self.plan(5_000, None);
        let capacity = Capacity { base_ms: 100, knee: 50, ramp: (plan.events / 10).max(1) as u64 };
        let hooks = vec![at(format!("/hook/0{}", capacity.query(kind)))];
        Ok(vec![Run { hooks, plan: Some(plan), capacity: Some(capacity), ..self.run() }])
    }

    /// Nine fast webhooks, without and with others.
    fn compared(
        &self,
        besides: &dyn Fn() -> Result<Vec<Hook>, Failure>,
        before: Option<Plan>,
    ) -> Result<Vec<Run>, Failure> {
        let hooks = || (0..9).map(hook).collect();
        let run = |variant| Run { variant, hooks: hooks(), plan: Some(self.rated(150.0, 6.0)), ..self.run() };
        let mut runs = Vec::new();
        for _ in 0..self.pairs() {
            runs.push(run("without"));
            runs.push(Run { besides: besides()?, before: before.clone(), ..run("with") });
        }
        Ok(runs)
    }

    fn by_turns(&self, runs: &[Run]) -> Vec<Run> {
        std::iter::repeat_n(runs, self.pairs()).flatten().cloned().collect()
    }

    fn pairs(&self) -> usize {
        self.args.pairs.unwrap_or(PAIRS)
    }
}

/// Where nobody listens.
fn dead_url() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    Ok(format!("http://{address}/"))
}
