//! Whether the server can do what it is there for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::metrics::{Gauge, Metrics};
use crate::store::{Trouble, Upkeep};
use crate::work::pulse::Pulse;

/// The delivery thread goes round once a second, however little there is to do. When
/// it has not for so long, something keeps it.
const STILL_MAX: Duration = Duration::from_secs(10);

/// The parts that may have a problem.
const PARTS: [&str; 3] = ["server", "store", "delivery"];

/// A part of the server that can't do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which part.
    pub part: &'static str,
    /// What is wrong, without a path or an address: anybody may be told.
    pub problem: String,
}

/// What shows how the server is doing.
pub struct Health {
    store: Arc<dyn Upkeep>,
    delivering: Pulse,
    is_stopping: AtomicBool,
    shown: [Gauge; PARTS.len()],
}

impl Health {
    /// Of a server that has started.
    pub fn new(store: Arc<dyn Upkeep>, delivering: Pulse, metrics: &Metrics) -> Self {
        let shown = PARTS.map(|part| metrics.problems.child(&[part]));
        Self { store, delivering, is_stopping: AtomicBool::new(false), shown }
    }

    /// Shows among the metrics which parts have a problem now.
    pub fn show(&self) {
        let problems = self.problems();
        for (gauge, part) in self.shown.iter().zip(PARTS) {
            gauge.set(problems.iter().any(|problem| problem.part == part).into());
        }
    }

    /// The server is coming to its end.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// What keeps it from its work; nothing, if it can do all of it.
    pub fn problems(&self) -> Vec<Problem> {
        let is_stopping = self.is_stopping.load(Ordering::Relaxed);
        let stopping = is_stopping.then(|| Problem { part: "server", problem: "it is stopping".to_owned() });
        let trouble = self.store.trouble().map(|trouble| Problem { part: "store", problem: in_public(&trouble) });
        let still = self.delivering.age();
        // One that stops waits for what is under way.
        let still = (still > STILL_MAX && !is_stopping).then(|| Problem {
            part: "delivery",
            problem: format!("the delivery thread has stood still for {} s", still.as_secs()),
        });
        [stopping, trouble, still].into_iter().flatten().collect()
    }
}

fn in_public(trouble: &Trouble) -> String {
    let what = match trouble {
        Trouble::DiskFull => "its disk is full, or takes no more for another reason",
        Trouble::TakenAway(_) => "its file was deleted, moved or replaced",
        Trouble::Refused(_) => "its database takes no changes",
        Trouble::Closed(_) => "it can't be reached, or not be opened again",
    };
    format!("{what}; the log has more")
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    /// A store with that trouble.
    struct Troubled(Option<Trouble>);

    impl Upkeep for Troubled {
        fn commits(&self) -> watch::Receiver<u64> {
            watch::Sender::new(0).subscribe()
        }

        fn trouble(&self) -> Option<Trouble> {
            self.0.clone()
        }

        fn sweep(&self) {}

        fn hand_over(&self) {}

        fn close(&self) {}
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_that_is_not_for_everybody() {
        let metrics = Metrics::default();
        let health = |trouble| Health::new(Arc::new(Troubled(trouble)), Pulse::default(), &metrics);
        let said =
            |health: &Health| health.problems().into_iter().map(|one| (one.part, one.problem)).collect::<Vec<_>>();
        assert_eq!(said(&health(None)), []);
        for trouble in [
            Trouble::DiskFull,
            Trouble::TakenAway("/srv/secret.db".into()),
            Trouble::Closed("db-1.example".into()),
            Trouble::Refused("db-1.example".into()),
        ] {
            let said = said(&health(Some(trouble)));
            assert!(said.len() == 1 && said[0].0 == "store", "{said:?}");
            assert!(!said[0].1.contains("secret") && !said[0].1.contains("example"), "{said:?}");
        }
        let stopping = health(Some(Trouble::DiskFull));
        stopping.stop();
        assert_eq!(said(&stopping).into_iter().map(|(part, _)| part).collect::<Vec<_>>(), ["server", "store"]);
        stopping.show();
        assert_eq!(PARTS.map(|part| metrics.problems.child(&[part]).get()), [1, 1, 0]);
    }
}
