//! The scenarios: what is registered, and what is published.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::hostile::Kind;
use super::load::Plan;
use super::pace::Capacity;
use super::sink::DOWN_QUERY;
use super::{BenchArgs, Failure};

/// The topic of all events that are measured.
const TOPIC: &str = "bench:event";
/// The topic of those that are not.
const OTHER_TOPIC: &str = "bench:backlog";
/// How far the distant receiver is away, in milliseconds.
const DISTANCE_MS: u64 = 100;
/// How often the scenarios are run that compare.
const PAIRS: usize = 5;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// 500 events a second to one webhook
    Steady,
    /// As fast as it goes, to one webhook
    Burst,
    /// As fast as it goes, each event to 20 webhooks
    Fanout,
    /// As fast as it goes, to one webhook, one at a time and in order
    Ordered,
    /// As fast as it goes, to one webhook, up to 50 events in one request
    Batched,
    /// 150 events a second to nine fast webhooks, without and with a tenth that answers after 5 s
    Noisy,
    /// The same, without and with one hostile receiver of each kind
    Hostile,
    /// The same, without and with 1,000,000 deliveries pending for a dead endpoint
    Backlog,
    /// A receiver that was down comes back to 200,000 pending deliveries
    CatchUp,
    /// 10,000 events in one go, to one webhook whose receiver answers after 100 ms
    Distant,
    /// 5,000 events to a receiver that can do 500 a second, and slows down if more than 50 are under way
    Yielding,
    /// The same with 50 workers of 100 ms each, first come, first served
    Pooled,
    /// What a neighbour notices of a merchant's attacks; not among those that run if none is named
    Tenants,
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
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
        self.plan.as_ref().or(self.before.as_ref()).map_or(0, |plan| plan.events)
    }
}

fn hook(number: usize) -> Hook {
    Hook { target: format!("/hook/{number}"), topics: TOPIC, more: json!({}) }
}

/// The runs of a scenario, in their order: one, or pairs to be compared; none
/// of tenants, which are measured otherwise.
pub fn runs(scenario: Scenario, args: &BenchArgs) -> Result<Vec<Run>, Failure> {
    let plan = |events: usize, rate: Option<f64>| Plan {
        topic: TOPIC,
        events: args.events.unwrap_or(events),
        batch: if rate.is_some() { 1 } else { args.batch },
        connections: args.connections,
        rate,
        message_bytes: args.message_bytes,
    };
    let rated = |rate: f64, seconds: f64| {
        let rate = args.rate.unwrap_or(rate);
        plan((rate * seconds) as usize, Some(rate))
    };
    let latency_ms = args.latency_ms.unwrap_or(if scenario == Scenario::Distant { DISTANCE_MS } else { 0 });
    let empty = Run {
        scenario,
        variant: "",
        hooks: Vec::new(),
        besides: Vec::new(),
        before: None,
        plan: None,
        latency_ms,
        capacity: None,
    };
    let one = |hooks, plan| Ok(vec![Run { hooks, plan: Some(plan), ..empty.clone() }]);
    let slow = |kind: &str| {
        let plan = plan(5_000, None);
        let capacity = Capacity { base_ms: 100, knee: 50, ramp: (plan.events / 10).max(1) as u64 };
        let hook = Hook { target: format!("/hook/0{}", capacity.query(kind)), topics: TOPIC, more: json!({}) };
        Ok(vec![Run { hooks: vec![hook], plan: Some(plan), capacity: Some(capacity), ..empty.clone() }])
    };
    let compared = |besides: &dyn Fn() -> Result<Vec<Hook>, Failure>, before: Option<Plan>| {
        let mut runs = Vec::new();
        for _ in 0..args.pairs.unwrap_or(PAIRS) {
            let run = |variant, besides, before| {
                let hooks = (0..9).map(hook).collect();
                Run { variant, hooks, besides, before, plan: Some(rated(150.0, 6.0)), ..empty.clone() }
            };
            runs.push(run("without", Vec::new(), None));
            runs.push(run("with", besides()?, before.clone()));
        }
        Ok(runs)
    };
    let with = |more: Value| vec![Hook { more, ..hook(0) }];
    let at = |target: String| Hook { target, topics: TOPIC, more: json!({}) };
    match scenario {
        Scenario::Steady => one(vec![hook(0)], rated(500.0, 10.0)),
        Scenario::Burst => one(vec![hook(0)], plan(100_000, None)),
        Scenario::Fanout => one((0..20).map(hook).collect(), plan(10_000, None)),
        Scenario::Ordered => one(with(json!({"delivery_mode": "ordered"})), plan(20_000, None)),
        Scenario::Batched => one(with(json!({"batch": {"max_events": 50, "wait_ms": 10}})), plan(100_000, None)),
        Scenario::Noisy => compared(&|| Ok(vec![at("/slow?delay_ms=5000".to_owned())]), None),
        Scenario::Hostile => compared(&|| Ok(Kind::ALL.map(|kind| at(kind.path())).into()), None),
        Scenario::Backlog => {
            let before = Plan { topic: OTHER_TOPIC, ..plan(1_000_000, None) };
            compared(&|| Ok(vec![Hook { topics: OTHER_TOPIC, ..at(dead_url()?) }]), Some(before))
        }
        Scenario::CatchUp => {
            let more = json!({"retry": {"max_retries": 100, "interval_seconds": 1}});
            let hook = Hook { target: format!("/hook/0{DOWN_QUERY}"), topics: TOPIC, more };
            let before = Some(plan(200_000, None));
            Ok(vec![Run { hooks: vec![hook], before, ..empty.clone() }])
        }
        Scenario::Distant => one(vec![hook(0)], plan(10_000, None)),
        Scenario::Yielding => slow("yielding"),
        Scenario::Pooled => slow("pooled"),
        Scenario::Tenants => Ok(Vec::new()),
    }
}

/// Where nobody listens.
fn dead_url() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    Ok(format!("http://{address}/"))
}
