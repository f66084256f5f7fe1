use super::*;
use crate::domain::id::MerchantId;

const ANN: Account = Account::Merchant(MerchantId(1));
const BOB: Account = Account::Merchant(MerchantId(2));

/// What goes into the next commit.
fn commit(queue: &Queue<&'static str>) -> Vec<&'static str> {
    let (mut spent, mut taken) = (Spent::default(), Vec::new());
    while let Some(next) = queue.take(spent) {
        spent.add(next.account, next.cost);
        taken.push(next.entry);
    }
    taken
}

#[test]
fn priority_goes_first_and_bounds_hold() {
    let queue = Queue::new(4, Gauge::default());
    queue.push(ANN, Cost(1), "a1").unwrap();
    queue.push(ANN, Cost(1), "a2").unwrap();
    assert_eq!(queue.push(ANN, Cost(1), "a3"), Err(Refused::Full), "half of what is free is one's own");
    queue.push(BOB, Cost(1), "b1").unwrap();
    assert_eq!(queue.push(BOB, Cost(1), "b2"), Err(Refused::Full), "and half of the rest another's");
    queue.push(Account::Server, Cost(1), "s1").unwrap();
    assert_eq!(queue.push(Account::Merchant(MerchantId(3)), Cost(1), "c1"), Err(Refused::Full), "four is four");
    queue.push_first(Cost(1), "o1").unwrap();
    assert!(queue.wait(Duration::ZERO));
    assert_eq!(commit(&queue), ["o1", "a1", "b1", "s1", "a2"]);
    assert!(queue.wait(Duration::ZERO), "it is open");
    queue.push(ANN, Cost(1), "a4").unwrap();
    queue.close();
    assert_eq!(queue.push(ANN, Cost(1), "a5"), Err(Refused::Closed));
    assert!(queue.wait(Duration::MAX));
    assert_eq!(commit(&queue), ["a4"]);
    assert!(!queue.wait(Duration::MAX));
}

#[test]
fn what_is_put_back_is_where_it_was() {
    let queue = Queue::new(10, Gauge::default());
    for name in ["o1", "o2"] {
        queue.push_first(Cost(1), name).unwrap();
    }
    for name in ["a1", "a2"] {
        queue.push(ANN, Cost(1), name).unwrap();
    }
    let taken: Vec<_> = std::iter::repeat_with(|| queue.take(Spent::default())).take(3).flatten().collect();
    taken.into_iter().rev().for_each(|taken| queue.put_back(taken));
    assert_eq!(commit(&queue), ["o1", "o2", "a1", "a2"]);
    assert!(!queue.is_closed());
    queue.close();
    assert!(queue.is_closed());
}

#[test]
fn what_is_parked_keeps_its_place_and_nobody_waits_for_it() {
    let queue = Queue::new(10, Gauge::default());
    queue.push(ANN, Cost(1), "a1").unwrap();
    queue.push(BOB, Cost(1), "b1").unwrap();
    queue.park(ANN);
    queue.push(ANN, Cost(1), "a2").unwrap();
    assert_eq!(commit(&queue), ["b1"]);
    assert!(queue.wait(Duration::ZERO), "it is open");
    assert_eq!(queue.waiting.get(), 2, "what is parked counts");
    queue.push(BOB, Cost(1), "b2").unwrap();
    queue.unpark(ANN);
    assert_eq!(commit(&queue), ["a1", "b2", "a2"], "who has had less written goes first");
    queue.push(ANN, Cost(1), "a3").unwrap();
    queue.park(ANN);
    queue.close();
    assert!(queue.wait(Duration::MAX), "it is not empty");
    assert_eq!(commit(&queue), [""; 0]);
    queue.unpark(ANN);
    assert_eq!(commit(&queue), ["a3"]);
    assert!(!queue.wait(Duration::MAX));
}

#[test]
fn a_commit_has_a_budget_and_accounts_share_by_cost() {
    let queue = Queue::new(100, Gauge::default());
    for name in ["A1", "A2", "A3"] {
        queue.push(ANN, Cost(225), name).unwrap();
    }
    for name in ["b1", "b2", "b3", "b4"] {
        queue.push(BOB, Cost(75), name).unwrap();
    }
    assert_eq!(commit(&queue), ["A1", "b1"], "what costs more than is left waits");
    assert_eq!(commit(&queue), ["b2", "b3"], "who has cost less goes first");
    assert_eq!(commit(&queue), ["A2", "b4"]);
    queue.push(BOB, Cost(9_999), "b5").unwrap();
    queue.push(BOB, Cost(1), "b6").unwrap();
    assert_eq!(commit(&queue), ["b5"], "what no budget is enough for has a commit of its own");
    assert_eq!(commit(&queue), ["A3", "b6"]);
}

#[test]
fn one_who_is_alone_has_more_of_a_commit_and_little_things_always_fit() {
    let queue = Queue::new(100, Gauge::default());
    for name in ["A1", "A2", "A3"] {
        queue.push(ANN, Cost(200), name).unwrap();
    }
    let first = queue.take(Spent::default()).unwrap();
    let mut spent = Spent::default();
    spent.add(first.account, first.cost);
    assert!(queue.may_go_on(ANN, Cost(1_000), spent) && !queue.may_go_on(ANN, Cost(1_001), spent));
    assert!(!queue.may_go_on(BOB, Cost(1), spent), "ann waits");
    assert_eq!(commit(&queue), ["A2", "A3"]);
    for (account, cost, name) in [(ANN, 300, "A4"), (ANN, 17, "A5"), (BOB, 16, "b1"), (BOB, 17, "b2")] {
        queue.push(account, Cost(cost), name).unwrap();
    }
    assert_eq!(commit(&queue), ["A4", "b1"]);
    spent.add(Some(BOB), Cost(1));
    assert!(!queue.may_go_on(ANN, Cost(1), spent), "another waits for what is in it");
    assert_eq!(commit(&queue), ["b2", "A5"]);
}

#[test]
fn for_a_while_after_others_were_served_commits_stay_short() {
    let queue = Queue::new(1_000, Gauge::default());
    queue.push(BOB, Cost(1), "b").unwrap();
    (0..ALONE_AFTER).for_each(|_| queue.push(ANN, Cost(100), "a").unwrap());
    assert_eq!(commit(&queue).len(), 3, "his and as much of hers as there is room for");
    (0..20).for_each(|_| assert_eq!(commit(&queue).len(), 3));
    assert_eq!(commit(&queue).len(), 2);
    (0..30).for_each(|_| queue.push(ANN, Cost(100), "a").unwrap());
    assert_eq!(commit(&queue).len(), 12, "now she is alone");
}

#[test]
fn what_costs_more_than_was_said_is_charged() {
    let queue = Queue::new(100, Gauge::default());
    for (account, name) in [(ANN, "a1"), (ANN, "a2"), (BOB, "b1"), (BOB, "b2"), (BOB, "b3")] {
        queue.push(account, Cost(1), name).unwrap();
    }
    let first = queue.take(Spent::default()).unwrap();
    assert_eq!(first.entry, "a1");
    queue.charge(first.account, first.cost, Cost(540));
    let mut spent = Spent::default();
    spent.add(first.account, Cost(540));
    let mut rest = Vec::new();
    while let Some(next) = queue.take(spent) {
        rest.push(next.entry);
    }
    assert_eq!(rest, ["b1", "b2", "b3", "a2"]);
    // Who comes back begins where the others are, neither behind nor in front.
    for (account, name) in [(ANN, "a3"), (BOB, "b4"), (ANN, "a4")] {
        queue.push(account, Cost(1), name).unwrap();
    }
    assert_eq!(commit(&queue), ["a3", "b4", "a4"]);
}

#[test]
fn neither_kind_keeps_the_other_out() {
    let queue = Queue::new(100, Gauge::default());
    for name in ["o1", "o2", "o3"] {
        queue.push_first(Cost(180), name).unwrap();
    }
    for name in ["a1", "a2", "a3"] {
        queue.push(ANN, Cost(360), name).unwrap();
    }
    assert_eq!(commit(&queue), ["o1", "a1", "a2"], "half for either");
    assert_eq!(commit(&queue), ["o2", "a3", "o3"], "and what is left for either");
    queue.push_first(Cost(9_000), "o4").unwrap();
    queue.push(ANN, Cost(1), "a4").unwrap();
    assert_eq!(commit(&queue), ["o4", "a4"], "one of each, whatever the other costs");
}

#[test]
fn what_has_begun_goes_on_in_front_of_its_line() {
    let queue = Queue::new(4, Gauge::default());
    for (account, name) in [(ANN, "A"), (ANN, "a"), (BOB, "b")] {
        queue.push(account, Cost(360), name).unwrap();
    }
    assert_eq!(commit(&queue), ["A"]);
    queue.go_on(ANN, Cost(360), "A again");
    assert_eq!(commit(&queue), ["b"], "others have their turn");
    queue.close();
    queue.go_on(BOB, Cost(360), "b again");
    assert_eq!((commit(&queue), commit(&queue)), (vec!["A again"], vec!["b again"]));
    assert_eq!(commit(&queue), ["a"]);
    assert!(!queue.wait(Duration::MAX));
}

#[test]
fn who_always_comes_back_is_not_ahead_of_who_waits() {
    let queue = Queue::new(100, Gauge::default());
    queue.push(ANN, Cost(2), "A").unwrap();
    for name in ["b1", "b2", "b3"] {
        queue.push(BOB, Cost(4), name).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let Taken { entry, cost, account } = queue.take(Spent::default()).unwrap();
        order.push(entry);
        if entry == "A" {
            queue.charge(account, cost, Cost(250));
            queue.go_on(ANN, Cost(250), "A");
        }
    }
    assert_eq!(order, ["A", "b1", "b2", "b3", "A", "A"]);
    // Once all had gone, nobody is ahead and nobody behind.
    assert_eq!(commit(&queue), ["A"]);
    for (account, name) in [(BOB, "b4"), (ANN, "a"), (BOB, "b5")] {
        queue.push(account, Cost(1), name).unwrap();
    }
    assert_eq!(commit(&queue), ["b4", "a", "b5"]);
    assert!(queue.lines().turns.is_empty() && queue.lines().gone.is_empty(), "and nothing is left of them");
}

#[test]
fn what_is_abandoned_is_let_go() {
    let waiting = Gauge::default();
    let queue = Queue::new(10, waiting.clone());
    let entry = std::sync::Arc::new(());
    queue.push(ANN, Cost(1), std::sync::Arc::clone(&entry)).unwrap();
    queue.push_first(Cost(1), std::sync::Arc::clone(&entry)).unwrap();
    assert_eq!(waiting.get(), 2);
    drop(queue.take(Spent::default()));
    assert_eq!(waiting.get(), 1);
    queue.go_on(ANN, Cost(1), std::sync::Arc::clone(&entry));
    assert_eq!(waiting.get(), 2);
    queue.abandon();
    assert_eq!(waiting.get(), 0);
    assert_eq!(std::sync::Arc::strong_count(&entry), 1);
    assert_eq!(queue.push(ANN, Cost(1), std::sync::Arc::clone(&entry)), Err(Refused::Abandoned));
    assert_eq!(queue.push_first(Cost(1), entry), Err(Refused::Abandoned));
    assert!(!queue.wait(Duration::MAX));
}
