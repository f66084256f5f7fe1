//! Places for work that takes long: so many threads and no more, and turns
//! that go round by merchant, so that it delays only those who ask for it.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Account, may_take};

/// Places for work of one kind. One account has no more of them than are left
/// free, so that whoever else comes finds one.
///
/// What waits, waits here rather than in the future that asked for it: one
/// that is not polled for a while keeps nobody from a place.
#[derive(Clone)]
pub struct Apart {
    shared: Arc<Shared>,
}

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApartError {
    /// As much of that account waits as may; nothing was done.
    #[error("too much work of the same merchant waits")]
    Crowded,
    /// It panicked, or the runtime is being shut down.
    #[error("the work did not come to its end")]
    Broken,
}

struct Shared {
    places: usize,
    threads: Threads,
    waiting_max: usize,
    state: Mutex<State>,
}

/// Where the work runs.
#[derive(Clone, Copy)]
enum Threads {
    /// On the runtime's threads for work that blocks.
    Blocking,
    /// On threads of its own, which step back for all others: it keeps a
    /// processor busy, and others wait for those threads.
    Behind,
}

#[derive(Default)]
struct State {
    /// Places that are taken.
    taken: usize,
    /// Accounts with work that waits, in the order of their turns.
    turns: VecDeque<Account>,
    /// Those that have work waiting or under way.
    accounts: HashMap<Account, Line>,
}

#[derive(Default)]
struct Line {
    running: usize,
    waiting: VecDeque<Job>,
}

/// Work. It gives back what tells whoever asked, which is done when its place
/// is free again.
type Job = Box<dyn FnOnce() -> Tell + Send>;
/// See [`Job`].
type Tell = Box<dyn FnOnce()>;

impl Apart {
    /// For work that waits for something, so much at a time, while up to
    /// `waiting_max` of each account wait.
    pub fn new(places: usize, waiting_max: usize) -> Self {
        Self::on(Threads::Blocking, places, waiting_max)
    }

    /// For work that keeps a processor busy: as many places as there are
    /// processors to spare, half of them; and two at least, of which one account
    /// has one, so that its long work is not what all others wait for.
    pub fn for_processors(waiting_max: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::on(Threads::Behind, (processors / 2).max(2), waiting_max)
    }

    fn on(threads: Threads, places: usize, waiting_max: usize) -> Self {
        Self { shared: Arc::new(Shared { places: places.max(1), threads, waiting_max, state: Mutex::default() }) }
    }

    /// Does it once it is the account's turn and there is a place. What nobody
    /// waits for any more when its turn comes is not done.
    pub async fn run<T: Send + 'static>(
        &self,
        account: impl Into<Account>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApartError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            if reply.is_closed() {
                return Box::new(|| {});
            }
            let done = work();
            Box::new(move || drop(reply.send(done)))
        });
        self.shared.join(account.into(), job)?;
        self.shared.start();
        answer.await.map_err(|_| ApartError::Broken)
    }

    /// A place for work that is done right here, if there is a free one and
    /// nobody waits for it.
    pub fn try_place(&self, account: impl Into<Account>) -> Option<Place> {
        let account = account.into();
        let mut state = self.shared.state();
        let running = state.accounts.get(&account).map_or(0, |line| line.running);
        if !state.turns.is_empty() || !self.shared.may_take(&state, running) {
            return None;
        }
        state.take(account);
        Some(Place { shared: Arc::clone(&self.shared), account })
    }
}

/// A place that is taken, until it is dropped.
pub struct Place {
    shared: Arc<Shared>,
    account: Account,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state().give_back(self.account);
        self.shared.start();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lines")
    }

    /// True if an account with so many places may take another.
    fn may_take(&self, state: &State, running: usize) -> bool {
        state.taken < self.places && may_take(1, running, state.taken, self.places)
    }

    fn join(&self, account: Account, job: Job) -> Result<(), ApartError> {
        let mut state = self.state();
        let line = state.accounts.entry(account).or_default();
        if line.waiting.len() >= self.waiting_max {
            return Err(ApartError::Crowded);
        }
        line.waiting.push_back(job);
        if line.waiting.len() == 1 {
            state.turns.push_back(account);
        }
        Ok(())
    }

    /// Has as many threads begin as there are free places for what waits.
    fn start(self: &Arc<Self>) {
        while let Some((account, job)) = self.next() {
            let shared = Arc::clone(self);
            let work = move || shared.work(account, job);
            let is_begun = match self.threads {
                Threads::Blocking => Handle::try_current().map(|runtime| runtime.spawn_blocking(work)).is_ok(),
                Threads::Behind => {
                    let work = || {
                        step_back();
                        work();
                    };
                    std::thread::Builder::new().name("apart".to_owned()).spawn(work).is_ok()
                }
            };
            if !is_begun {
                // Whoever waits is told by the answer that does not come.
                self.state().give_back(account);
            }
        }
    }

    /// Does a job, and whatever has its turn then, as long as there is some.
    fn work(self: Arc<Self>, account: Account, job: Job) {
        let mut next = Some((account, job));
        while let Some((account, job)) = next.take() {
            let done = catch_unwind(AssertUnwindSafe(job));
            self.state().give_back(account);
            // Of a panic it is told by the answer that does not come.
            if let Ok(tell) = done {
                tell();
            }
            next = self.next();
        }
    }

    /// Takes a place for the account whose turn it is, and its next job.
    fn next(&self) -> Option<(Account, Job)> {
        let mut state = self.state();
        for _ in 0..state.turns.len() {
            let account = state.turns.pop_front()?;
            let running = state.accounts.get(&account).map_or(0, |line| line.running);
            if !self.may_take(&state, running) {
                // It has what it may have; another account may have less.
                state.turns.push_back(account);
                continue;
            }
            let line = state.accounts.get_mut(&account)?;
            let job = line.waiting.pop_front()?;
            if !line.waiting.is_empty() {
                state.turns.push_back(account);
            }
            state.take(account);
            return Some((account, job));
        }
        None
    }
}

/// Has this thread run behind all others that want a processor.
pub fn step_back() {
    /// A tenth of the weight of others. Not the least, lest it stand still.
    #[cfg(target_os = "linux")]
    const STEPS: i32 = 10;
    // Elsewhere this would be the whole process. And where it is not allowed, it goes on as it is.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(STEPS);
}

impl State {
    fn take(&mut self, account: Account) {
        self.taken += 1;
        self.accounts.entry(account).or_default().running += 1;
    }

    fn give_back(&mut self, account: Account) {
        self.taken -= 1;
        let Some(line) = self.accounts.get_mut(&account) else { return };
        line.running -= 1;
        if line.running == 0 && line.waiting.is_empty() {
            self.accounts.remove(&account);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;
    use crate::domain::id::MerchantId;

    const ANN: Account = Account::Merchant(MerchantId(1));
    const BOB: Account = Account::Merchant(MerchantId(2));

    /// Occupies a place until the sender is dropped.
    fn occupy(apart: &Apart, account: Account) -> mpsc::Sender<()> {
        let (free, occupied) = mpsc::channel::<()>();
        let apart = apart.clone();
        tokio::spawn(async move { apart.run(account, move || occupied.recv().is_err()).await });
        free
    }

    #[tokio::test]
    async fn one_who_is_not_polled_keeps_no_place_from_others() {
        let apart = Apart::new(1, 10);
        let free = occupy(&apart, ANN);
        tokio::task::yield_now().await;
        let mut asleep = Box::pin(apart.run(ANN, || 2));
        assert!((&mut asleep).now_or_never().is_none());
        drop(free);
        assert_eq!(apart.run(ANN, || 3).await, Ok(3));
        assert_eq!(asleep.await, Ok(2));
    }

    #[tokio::test]
    async fn accounts_take_turns_and_one_never_has_the_last_place() {
        let apart = Apart::new(2, 10);
        let free = occupy(&apart, ANN);
        tokio::task::yield_now().await;
        let (done, order) = mpsc::channel();
        let ask = |account, name| {
            let done = done.clone();
            Box::pin(apart.run(account, move || done.send(name).unwrap()))
        };
        let mut anns = [ask(ANN, "ann 1"), ask(ANN, "ann 2")];
        assert!(anns.iter_mut().all(|ann| ann.now_or_never().is_none()));
        assert!(apart.try_place(BOB).is_none(), "others wait already");
        ask(BOB, "bob 1").await.unwrap();
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["bob 1"], "who came later had the place that was left");
        drop(free);
        for ann in anns {
            ann.await.unwrap();
        }
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["ann 1", "ann 2"]);

        // With a single place, they have it by turns.
        let apart = Apart::new(1, 10);
        let free = occupy(&apart, ANN);
        tokio::task::yield_now().await;
        let ask = |account, name| {
            let done = done.clone();
            Box::pin(apart.run(account, move || done.send(name).unwrap()))
        };
        let mut all = [ask(ANN, "ann 1"), ask(ANN, "ann 2"), ask(BOB, "bob 1"), ask(BOB, "bob 2")];
        assert!(all.iter_mut().all(|one| one.now_or_never().is_none()));
        drop(free);
        for one in all {
            one.await.unwrap();
        }
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["ann 1", "bob 1", "ann 2", "bob 2"]);
    }

    #[tokio::test]
    async fn a_line_has_a_bound_and_who_has_gone_is_passed_over() {
        let apart = Apart::new(1, 2);
        let free = occupy(&apart, ANN);
        tokio::task::yield_now().await;
        let (done, order) = mpsc::channel();
        let mut gone = Box::pin(apart.run(ANN, move || done.send(1).unwrap()));
        let mut second = Box::pin(apart.run(ANN, || 2));
        assert!((&mut gone).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(apart.run(ANN, || 3).await, Err(ApartError::Crowded));
        drop(gone);
        drop(free);
        assert_eq!(second.await, Ok(2));
        assert_eq!(order.try_iter().count(), 0, "nobody waited for it");
        assert!(apart.shared.state().accounts.is_empty(), "nothing is left of those who came and went");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn long_work_runs_behind_all_else() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        // There is no more than 19.
        let behind = Apart::for_processors(1).run(ANN, niceness).await.unwrap();
        assert!(behind == (own + 10).min(19) && niceness() == own, "{behind} beside {own}");
        assert_eq!(Apart::new(1, 1).run(ANN, niceness).await, Ok(own), "what only waits does not");
    }

    #[tokio::test]
    async fn what_panics_leaves_its_place() {
        let apart = Apart::new(1, 1);
        assert_eq!(apart.run(ANN, || panic!("on purpose")).await.map(|()| 0), Err(ApartError::Broken));
        assert_eq!(apart.run(ANN, || 1).await, Ok(1));
        let place = apart.try_place(ANN).expect("it is free");
        assert!(apart.try_place(BOB).is_none());
        let mut waiting = Box::pin(apart.run(BOB, || 2));
        assert!((&mut waiting).now_or_never().is_none());
        drop(place);
        assert_eq!(waiting.await, Ok(2));
    }
}
