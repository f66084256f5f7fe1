//! What waits for the writer thread.
//!
//! Outcomes of deliveries wait in a line of their own that goes first, so that
//! a flood of publishes can't keep what was sent from being marked as sent.
//! Everything else waits in a line of its account. The lines are served by
//! what they have cost so far, so a merchant who has much written waits for
//! himself, whether it is many changes or large ones.
//!
//! What shares a commit has a budget, and each of the two kinds is sure of half
//! of it while the other waits too.
//!
//! A line can be parked while nothing can be done for its account: what is in it keeps
//! its place, and is not taken.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::metrics::Gauge;
use crate::work::Account;

/// What the changes of one commit may cost together, in rows. A change that
/// costs more is alone with its like.
const COMMIT_COST_MAX: Cost = Cost(1_200);
/// The same while several accounts are written for, or were a moment ago, so
/// that none waits long for what another has written, …
const SHARED_COST_MAX: Cost = Cost(300);
/// … but for what costs so little that it makes no odds.
const LITTLE_COST: Cost = Cost(16);
/// So many changes of one account in a row, and the moment is over.
const ALONE_AFTER: u32 = 64;
/// So many bytes cost as much as a row.
const BYTES_PER_ROW: usize = 4_096;

/// What a change costs the writer, about: in rows, and bytes count as rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u32);

impl Cost {
    /// A row or two.
    pub const SMALL: Self = Self(2);

    /// So many rows, with so many bytes in all.
    pub fn of(rows: usize, bytes: usize) -> Self {
        Self(u32::try_from(rows.saturating_add(bytes / BYTES_PER_ROW)).unwrap_or(u32::MAX))
    }

    fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Why an entry was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many wait as may, in all or of that account.
    Full,
    /// The writer is closing.
    Closed,
    /// The writer is gone.
    Abandoned,
}

/// Bounded lines with a priority line beside them.
#[derive(Debug)]
pub struct Queue<T> {
    lines: Mutex<Lines<T>>,
    filled: Condvar,
    max: usize,
    /// How many entries wait, for whoever watches the server.
    waiting: Gauge,
}

/// An entry that was taken.
#[derive(Debug)]
pub struct Taken<T> {
    /// What waited.
    pub entry: T,
    /// What it was expected to cost.
    pub cost: Cost,
    /// Whose line it waited in; `None`: the priority line.
    pub account: Option<Account>,
}

/// What a commit has spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    first: Option<Cost>,
    second: Option<Cost>,
    /// Who of those that wait in lines of their own was the first.
    account: Option<Account>,
    /// There were others.
    is_shared: bool,
}

#[derive(Debug)]
struct Lines<T> {
    first: VecDeque<(Cost, T)>,
    /// Lines that are not empty, in the order of their turns.
    second: BTreeMap<Turn, Line<T>>,
    /// Accounts that have left theirs empty ahead of the others: if they come
    /// back, it is with the turn that they would have had.
    gone: BTreeMap<Turn, Account>,
    /// The turn of each of both.
    turns: HashMap<Account, Turn>,
    /// Whose lines nothing is taken from.
    parked: HashSet<Account>,
    /// Entries in all of them.
    count: usize,
    /// Where the line that was served last began, or where the others were when
    /// the last one had become empty; newcomers begin there too.
    now: u64,
    joined: u64,
    /// Who was served last, and how often in a row.
    served: Option<(Account, u32)>,
    /// Others were served a moment ago.
    is_shared: bool,
    state: State,
}

/// A line's place: the one that has cost the least goes first; of several, the
/// one that has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    cost: u64,
    joined: u64,
}

#[derive(Debug)]
struct Line<T> {
    account: Account,
    entries: VecDeque<(Cost, T)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    Abandoned,
}

impl Spent {
    /// Counts what an entry of a line has cost.
    pub fn add(&mut self, account: Option<Account>, cost: Cost) {
        let spent = if account.is_none() { &mut self.first } else { &mut self.second };
        *spent = Some(spent.unwrap_or_default().plus(cost));
        if let Some(account) = account {
            self.is_shared |= *self.account.get_or_insert(account) != account;
        }
    }

    /// True if there is room for another of this cost, which may be shared by
    /// several accounts or not.
    fn has_room(self, cost: Cost, is_shared: bool) -> bool {
        let max = if is_shared && cost > LITTLE_COST { SHARED_COST_MAX } else { COMMIT_COST_MAX };
        self.all().plus(cost) <= max
    }

    fn all(self) -> Cost {
        self.first.unwrap_or_default().plus(self.second.unwrap_or_default())
    }
}

impl<T> Queue<T> {
    /// A queue whose ordinary lines hold up to `max` entries together; how many
    /// wait in all is shown in `waiting`.
    pub fn new(max: usize, waiting: Gauge) -> Self {
        let lines = Lines {
            first: VecDeque::new(),
            second: BTreeMap::new(),
            gone: BTreeMap::new(),
            turns: HashMap::new(),
            parked: HashSet::new(),
            count: 0,
            now: 0,
            joined: 0,
            served: None,
            is_shared: false,
            state: State::Open,
        };
        Self { lines: Mutex::new(lines), filled: Condvar::new(), max, waiting }
    }

    /// Joins the account's line. That may hold as much as there is room left
    /// beside it, so that whoever else comes finds some.
    pub fn push(&self, account: Account, cost: Cost, entry: T) -> Result<(), Refused> {
        let mut lines = self.lines();
        lines.check_open()?;
        let own = lines.turns.get(&account).and_then(|turn| lines.second.get(turn)).map_or(0, |own| own.entries.len());
        if own >= self.max.saturating_sub(lines.count) {
            return Err(Refused::Full);
        }
        lines.join(account, cost, entry);
        self.show(lines);
        self.filled.notify_one();
        Ok(())
    }

    /// Puts what has been begun back in front of its account's line. It had its
    /// place there, so no bound keeps it out.
    pub fn go_on(&self, account: Account, cost: Cost, entry: T) {
        let mut lines = self.lines();
        if lines.state != State::Abandoned {
            lines.join_in_front(account, cost, entry);
            self.show(lines);
        }
    }

    /// Puts what was taken, and not begun, back where it was.
    pub fn put_back(&self, Taken { entry, cost, account }: Taken<T>) {
        if let Some(account) = account {
            return self.go_on(account, cost, entry);
        }
        let mut lines = self.lines();
        if lines.state != State::Abandoned {
            lines.first.push_front((cost, entry));
            self.show(lines);
        }
    }

    /// Takes nothing more from an account's line until it is let go on.
    pub fn park(&self, account: Account) {
        self.lines().parked.insert(account);
    }

    /// Takes from an account's line again.
    pub fn unpark(&self, account: Account) {
        self.lines().parked.remove(&account);
    }

    /// True if no newcomers are taken.
    pub fn is_closed(&self) -> bool {
        self.lines().state != State::Open
    }

    /// Joins the priority line. It has no bound of its own: there is one
    /// sender, the delivery worker, and it has no more than one entry a request
    /// that is in flight, and one for outcomes.
    pub fn push_first(&self, cost: Cost, entry: T) -> Result<(), Refused> {
        let mut lines = self.lines();
        lines.check_open()?;
        lines.first.push_back((cost, entry));
        self.show(lines);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits up to `patience` for an entry that can be taken. False once the queue is
    /// closed and empty, parked lines and all.
    pub fn wait(&self, patience: Duration) -> bool {
        let lines = self.lines();
        let (lines, _) = self
            .filled
            .wait_timeout_while(lines, patience, |lines| !lines.has_any_to_take() && lines.state == State::Open)
            .expect("nothing panics while it holds the lines");
        !lines.is_empty() || lines.state == State::Open
    }

    /// Waits that long, whatever comes, or until the queue is closed meanwhile.
    pub fn rest(&self, patience: Duration) {
        let lines = self.lines();
        let before = lines.state;
        let rested = self.filled.wait_timeout_while(lines, patience, |lines| lines.state == before);
        drop(rested.expect("nothing panics while it holds the lines"));
    }

    /// Takes the next entry for a commit that has spent so much; `None` if
    /// there is none that it still has room for. One of each kind has room in
    /// any commit.
    pub fn take(&self, spent: Spent) -> Option<Taken<T>> {
        let mut lines = self.lines();
        if let Some((cost, _)) = lines.first.front() {
            let is_alone = lines.second.is_empty() && !lines.is_shared;
            let half = if is_alone { Cost(COMMIT_COST_MAX.0 / 2) } else { SHARED_COST_MAX };
            let fits =
                spent.first.is_none_or(|first| first.plus(*cost) <= half && spent.has_room(*cost, spent.is_shared));
            if fits {
                let (cost, entry) = lines.first.pop_front()?;
                self.show(lines);
                return Some(Taken { entry, cost, account: None });
            }
        }
        let (turn, line) = lines.next_line()?;
        let (cost, _) = line.entries.front()?;
        let is_shared = lines.is_shared
            || spent.is_shared
            || lines.second.len() > 1
            || spent.account.is_some_and(|of| of != line.account);
        let fits = spent.second.is_none() || spent.has_room(*cost, is_shared);
        let turn = *turn;
        let taken = if fits { lines.take_second(turn) } else { None };
        self.show(lines);
        taken
    }

    /// True if a commit that has spent so much has room for more of what it has
    /// begun, at this cost, and nobody else waits for it.
    pub fn may_go_on(&self, account: Account, cost: Cost, spent: Spent) -> bool {
        let lines = self.lines();
        let is_alone = !lines.is_shared && lines.second.values().all(|line| line.account == account);
        is_alone && !spent.is_shared && spent.has_room(cost, false)
    }

    /// Tells what an entry has really cost its account, if that is more than
    /// was said.
    pub fn charge(&self, account: Option<Account>, said: Cost, really: Cost) {
        let more = really.0.saturating_sub(said.0);
        if let Some(account) = account
            && more > 0
        {
            self.lines().charge(account, more);
        }
    }

    /// Refuses newcomers from now on; what waits can still be taken.
    pub fn close(&self) {
        let mut lines = self.lines();
        if lines.state == State::Open {
            lines.state = State::Closed;
        }
        drop(lines);
        self.filled.notify_all();
    }

    /// Refuses newcomers from now on, and lets go of what waits. One that was
    /// closed in good order stays that.
    pub fn abandon(&self) {
        let mut lines = self.lines();
        if lines.state == State::Open {
            lines.state = State::Abandoned;
        }
        let left = (std::mem::take(&mut lines.first), std::mem::take(&mut lines.second));
        lines.gone.clear();
        lines.turns.clear();
        lines.parked.clear();
        lines.count = 0;
        self.show(lines);
        // Whoever waited is told by this, which is no business of the lines.
        drop(left);
        self.filled.notify_all();
    }

    /// Shows how many wait, and lets go of the lines.
    fn show(&self, lines: MutexGuard<'_, Lines<T>>) {
        self.waiting.set((lines.count + lines.first.len()).try_into().unwrap_or(i64::MAX));
    }

    fn lines(&self) -> MutexGuard<'_, Lines<T>> {
        self.lines.lock().expect("nothing panics while it holds the lines")
    }
}

impl<T> Lines<T> {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }

    fn has_any_to_take(&self) -> bool {
        !self.first.is_empty() || self.next_line().is_some()
    }

    /// The line whose turn it is.
    fn next_line(&self) -> Option<(&Turn, &Line<T>)> {
        self.second.iter().find(|(_, line)| self.parked.is_empty() || !self.parked.contains(&line.account))
    }

    fn check_open(&self) -> Result<(), Refused> {
        match self.state {
            State::Open => Ok(()),
            State::Closed => Err(Refused::Closed),
            State::Abandoned => Err(Refused::Abandoned),
        }
    }

    fn join(&mut self, account: Account, cost: Cost, entry: T) {
        self.line(account).push_back((cost, entry));
    }

    fn join_in_front(&mut self, account: Account, cost: Cost, entry: T) {
        self.line(account).push_front((cost, entry));
    }

    /// The account's line, for one that joins it.
    fn line(&mut self, account: Account) -> &mut VecDeque<(Cost, T)> {
        self.count += 1;
        let new = || Line { account, entries: VecDeque::new() };
        let turn = match self.turns.get(&account) {
            Some(turn) => *turn,
            None => self.queue_up(self.now, new()),
        };
        self.gone.remove(&turn);
        &mut self.second.entry(turn).or_insert_with(new).entries
    }

    fn take_second(&mut self, turn: Turn) -> Option<Taken<T>> {
        let mut line = self.second.remove(&turn)?;
        let (cost, entry) = line.entries.pop_front()?;
        let account = line.account;
        self.count -= 1;
        self.now = self.now.max(turn.cost);
        // What the server does for itself is little, and nobody waits for it.
        if account != Account::Server {
            self.served = match self.served {
                Some((of, times)) if of == account => Some((of, times.saturating_add(1))),
                before => {
                    self.is_shared = before.is_some();
                    Some((account, 1))
                }
            };
            self.is_shared &= self.served.is_some_and(|(_, times)| times < ALONE_AFTER);
        }
        self.queue_up(turn.cost.saturating_add(cost.0.into()), line);
        if self.second.is_empty() {
            self.now = self.gone.last_key_value().map_or(self.now, |(turn, _)| turn.cost);
        }
        while let Some(first) = self.gone.first_entry().filter(|first| first.key().cost <= self.now) {
            self.turns.remove(&first.remove());
        }
        Some(Taken { entry, cost, account: Some(account) })
    }

    fn charge(&mut self, account: Account, more: u32) {
        let Some(turn) = self.turns.get(&account).copied() else { return };
        self.gone.remove(&turn);
        let line = self.second.remove(&turn).unwrap_or_else(|| Line { account, entries: VecDeque::new() });
        self.queue_up(turn.cost.saturating_add(more.into()), line);
    }

    /// Gives a line its turn.
    fn queue_up(&mut self, cost: u64, line: Line<T>) -> Turn {
        self.joined += 1;
        let turn = Turn { cost, joined: self.joined };
        self.turns.insert(line.account, turn);
        if line.entries.is_empty() {
            self.gone.insert(turn, line.account);
        } else {
            self.second.insert(turn, line);
        }
        turn
    }
}

#[cfg(test)]
mod tests;
