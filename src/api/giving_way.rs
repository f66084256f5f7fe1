//! Whose turn it is to give way when all places for connections are taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::address::Origin;

/// So long a request may be under way, and no piece of its answer be taken,
/// before its connection may have to give way.
pub const AT_WORK_MIN: Duration = Duration::from_secs(1);
/// The same where many others come from the same address.
const CROWDED_MIN: Duration = Duration::from_millis(25);
/// Many are more than this part of all, and more than that.
const CROWD_PART: usize = 16;
const CROWD_MIN: usize = 16;
/// So long a connection has time to send its first request, before it gives way
/// ahead of those that have sent one.
pub const BEGIN_MIN: Duration = Duration::from_millis(100);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It has never sent a whole request.
    Beginning,
    /// It rests between two.
    Resting,
    /// A request of it is under way, which may be broken off.
    Working,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    origin: Origin,
    doing: Doing,
    number: u64,
}

/// All connections that may have to give way.
///
/// Those go first that have had [`BEGIN_MIN`] and never sent a whole request;
/// then, of the address that has the most, the one that has been idle longest,
/// or whose request has been under way for longer, and for [`AT_WORK_MIN`]; of a
/// crowd after [`CROWDED_MIN`], if none of it is idle; and if it has none of
/// these, the one that began first. Those have no turn whose
/// address has fewer than that of the newcomer: who has few connections keeps
/// them, whatever others do.
#[derive(Default)]
pub struct Lines {
    /// How many connections there may be.
    max: usize,
    origins: HashMap<Origin, Own>,
    /// They by how many connections they have.
    by_size: BTreeSet<(usize, Origin)>,
    /// The connections that have never been at work, of all addresses.
    beginning: BTreeMap<u64, Origin>,
    last_number: u64,
}

/// The connections of one address.
#[derive(Default)]
struct Own {
    count: usize,
    /// Many come through it who have nothing to do with each other.
    is_proxy: bool,
    beginning: Line,
    resting: Line,
    working: Line,
}

/// Connections by when they came to be as they are, the first first, with since
/// when that is and what has them give way.
type Line = BTreeMap<u64, (Instant, Arc<Notify>)>;

impl Own {
    /// How large it counts: who stands behind a proxy is not called to account
    /// for others there.
    fn size(&self) -> usize {
        if self.is_proxy { 0 } else { self.count }
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && [&self.beginning, &self.resting, &self.working].into_iter().all(Line::is_empty)
    }

    /// Takes the one out of its line whose turn it is, if it is anybody's: its
    /// number, and what tells it.
    fn next(&mut self, is_crowd: bool) -> Option<(u64, Arc<Notify>)> {
        let resting = first(&self.resting, Duration::ZERO);
        let working = match is_crowd {
            true if resting.is_none() => first(&self.working, CROWDED_MIN),
            _ => first(&self.working, AT_WORK_MIN),
        };
        let is_resting = resting.is_some_and(|resting| working.is_none_or(|working| resting < working));
        let line = match (is_resting, working) {
            (true, _) => &mut self.resting,
            (false, Some(_)) => &mut self.working,
            (false, None) => &mut self.beginning,
        };
        line.pop_first().map(|(number, (_, told))| (number, told))
    }
}

/// The number of the first of a line, if it has been there for so long.
fn first(line: &Line, min: Duration) -> Option<u64> {
    let (number, (since, _)) = line.first_key_value()?;
    (since.elapsed() >= min).then_some(*number)
}

impl Lines {
    /// None yet, of so many that there may be.
    pub fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// True if there are none, and nothing is known of any.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty() && self.by_size.is_empty() && self.beginning.is_empty()
    }

    /// How many connections an address has.
    pub fn count(&self, origin: Origin) -> usize {
        self.origins.get(&origin).map_or(0, |own| own.count)
    }

    /// An address has one more, and maybe is one of a proxy.
    pub fn come(&mut self, origin: Origin, is_proxy: bool) {
        self.resize(origin, |own| {
            own.is_proxy = is_proxy;
            own.count += 1;
        });
    }

    /// It has one less.
    pub fn go(&mut self, origin: Origin) {
        self.resize(origin, |own| own.count = own.count.saturating_sub(1));
    }

    /// Puts a connection that has just come to do this into its line.
    pub fn stand(&mut self, origin: Origin, doing: Doing, gives_way: Arc<Notify>) -> Turn {
        self.last_number += 1;
        let turn = Turn { origin, doing, number: self.last_number };
        if doing == Doing::Beginning {
            self.beginning.insert(turn.number, origin);
        }
        self.line(turn).insert(turn.number, (Instant::now(), gives_way));
        turn
    }

    /// Takes one out of its line, if it was not told already.
    pub fn leave(&mut self, turn: Turn) {
        self.beginning.remove(&turn.number);
        self.line(turn).remove(&turn.number);
        self.tidy(turn.origin);
    }

    /// Takes the one out of its line that gives way to somebody of this address.
    pub fn next(&mut self, newcomer: Origin) -> Option<Arc<Notify>> {
        if let Some(told) = self.next_half() {
            return Some(told);
        }
        let size = self.size(newcomer);
        let (crowd, origins) = ((self.max / CROWD_PART).max(CROWD_MIN), &mut self.origins);
        let mut others = self.by_size.range((size, Origin::LEAST)..).rev();
        let (number, told) = others.find_map(|(size, origin)| origins.get_mut(origin)?.next(*size > crowd))?;
        self.beginning.remove(&number);
        Some(told)
    }

    /// The first that has never sent a whole request, if it has had its time.
    fn next_half(&mut self) -> Option<Arc<Notify>> {
        let (number, origin) = self.beginning.first_key_value()?;
        let line = &mut self.origins.get_mut(origin)?.beginning;
        let (since, _) = line.get(number)?;
        if since.elapsed() < BEGIN_MIN {
            return None;
        }
        let told = line.remove(number).map(|(_, told)| told);
        self.beginning.pop_first();
        told
    }

    fn size(&self, origin: Origin) -> usize {
        self.origins.get(&origin).map_or(0, Own::size)
    }

    fn line(&mut self, turn: Turn) -> &mut Line {
        let own = self.origins.entry(turn.origin).or_default();
        match turn.doing {
            Doing::Beginning => &mut own.beginning,
            Doing::Resting => &mut own.resting,
            Doing::Working => &mut own.working,
        }
    }

    fn resize(&mut self, origin: Origin, change: impl FnOnce(&mut Own)) {
        let own = self.origins.entry(origin).or_default();
        self.by_size.remove(&(own.size(), origin));
        change(own);
        self.by_size.insert((own.size(), origin));
        self.tidy(origin);
    }

    /// Forgets an address that has none any more.
    fn tidy(&mut self, origin: Origin) {
        if let Some(own) = self.origins.get(&origin)
            && own.is_empty()
        {
            self.by_size.remove(&(own.size(), origin));
            self.origins.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = CROWD_MIN + 1;

    /// So many connections of an address that do this, from now on.
    fn come(lines: &mut Lines, address: &str, count: usize, doing: Doing) -> Vec<(Turn, Arc<Notify>)> {
        let origin = Origin::of(address.parse().unwrap());
        let come = |_| {
            lines.come(origin, false);
            let told = Arc::<Notify>::default();
            (lines.stand(origin, doing, Arc::clone(&told)), told)
        };
        (0..count).map(come).collect()
    }

    /// Which of these gives way to somebody of that address.
    fn next(lines: &mut Lines, newcomer: &str, of: &[&Vec<(Turn, Arc<Notify>)>]) -> Option<(usize, usize)> {
        let told = lines.next(Origin::of(newcomer.parse().unwrap()))?;
        let place = |line: &&Vec<(Turn, Arc<Notify>)>| line.iter().position(|(_, own)| Arc::ptr_eq(own, &told));
        Some(of.iter().enumerate().find_map(|(which, line)| Some((which, place(line)?))).expect("it is one of them"))
    }

    const FEW: &str = "192.0.2.1";
    const CROWD: &str = "192.0.2.2";
    const NOBODY: &str = "192.0.2.3";

    #[tokio::test(start_paused = true)]
    async fn one_of_the_address_that_has_the_most_gives_way() {
        let mut lines = Lines::new(100);
        let few = come(&mut lines, FEW, 2, Doing::Resting);
        tokio::time::advance(AT_WORK_MIN).await;
        let many = come(&mut lines, CROWD, 3, Doing::Resting);
        assert_eq!(next(&mut lines, NOBODY, &[&few, &many]), Some((1, 0)), "though the others have rested longer");
        // It may keep as many as those have, who come last.
        for (turn, _) in &many[1..] {
            lines.leave(*turn);
        }
        assert_eq!(next(&mut lines, CROWD, &[&few, &many]), None, "who has more gets nothing of who has fewer");
        assert_eq!(next(&mut lines, FEW, &[&few, &many]), Some((0, 0)));
        assert_eq!(next(&mut lines, NOBODY, &[&few, &many]), Some((0, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_has_less_time_for_its_work() {
        let mut lines = Lines::new(100);
        let few = come(&mut lines, FEW, 2, Doing::Working);
        let many = come(&mut lines, CROWD, MANY, Doing::Working);
        assert_eq!(next(&mut lines, NOBODY, &[&few, &many]), None);
        tokio::time::advance(CROWDED_MIN).await;
        for place in 0..MANY {
            assert_eq!(next(&mut lines, NOBODY, &[&few, &many]), Some((1, place)));
        }
        assert_eq!(next(&mut lines, NOBODY, &[&few, &many]), None);
        tokio::time::advance(AT_WORK_MIN).await;
        assert_eq!(next(&mut lines, NOBODY, &[&few, &many]), Some((0, 0)));
    }

    /// And of a crowd, too, what rests goes before what is at work.
    #[tokio::test(start_paused = true)]
    async fn who_rests_goes_before_who_works_in_a_crowd() {
        let mut lines = Lines::new(100);
        let working = come(&mut lines, CROWD, MANY, Doing::Working);
        tokio::time::advance(CROWDED_MIN).await;
        let resting = come(&mut lines, CROWD, 1, Doing::Resting);
        assert_eq!(next(&mut lines, NOBODY, &[&working, &resting]), Some((1, 0)));
        assert_eq!(next(&mut lines, NOBODY, &[&working, &resting]), Some((0, 0)));
    }

    /// Halves of requests go first, whoever sends them; but such as have just
    /// begun go last, and only for one of an address that has no more.
    #[tokio::test(start_paused = true)]
    async fn who_has_sent_nothing_gives_way() {
        let mut lines = Lines::new(100);
        let rests = come(&mut lines, CROWD, 3, Doing::Resting);
        let begins = come(&mut lines, FEW, 2, Doing::Beginning);
        assert_eq!(next(&mut lines, CROWD, &[&rests, &begins]), Some((0, 0)));
        tokio::time::advance(BEGIN_MIN).await;
        assert_eq!(next(&mut lines, CROWD, &[&rests, &begins]), Some((1, 0)));
        let began = come(&mut lines, NOBODY, 1, Doing::Beginning);
        lines.leave(begins[1].0);
        lines.leave(rests[1].0);
        lines.leave(rests[2].0);
        assert_eq!(next(&mut lines, CROWD, &[&rests, &begins, &began]), None);
        assert_eq!(next(&mut lines, NOBODY, &[&rests, &begins, &began]), Some((2, 0)));
    }

    /// Of those that have just begun, too, it is the address with the most that
    /// gives way, and not what rests of one with fewer.
    #[tokio::test(start_paused = true)]
    async fn who_has_few_keeps_them_though_the_others_have_just_begun() {
        let mut lines = Lines::new(100);
        let rests = come(&mut lines, FEW, 2, Doing::Resting);
        let begins = come(&mut lines, CROWD, 3, Doing::Beginning);
        assert_eq!(next(&mut lines, FEW, &[&rests, &begins]), Some((1, 0)));
        assert_eq!(next(&mut lines, NOBODY, &[&rests, &begins]), Some((1, 1)));
    }

    /// Nobody behind a proxy pays for how many come through it.
    #[tokio::test(start_paused = true)]
    async fn a_proxy_has_few() {
        let mut lines = Lines::new(100);
        let proxy = Origin::of(CROWD.parse().unwrap());
        let told = Arc::<Notify>::default();
        (0..3).for_each(|_| lines.come(proxy, true));
        lines.stand(proxy, Doing::Resting, Arc::clone(&told));
        let few = come(&mut lines, FEW, 2, Doing::Resting);
        assert_eq!(next(&mut lines, NOBODY, &[&few]), Some((0, 0)));
        assert_eq!(next(&mut lines, NOBODY, &[&few]), Some((0, 1)));
        assert!(lines.next(Origin::of(NOBODY.parse().unwrap())).is_some_and(|next| Arc::ptr_eq(&next, &told)));
        (0..3).for_each(|_| lines.go(proxy));
        (0..2).for_each(|_| lines.go(Origin::of(FEW.parse().unwrap())));
        assert!(lines.is_empty(), "nothing is left of those who came and went");
    }
}
