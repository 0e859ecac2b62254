use std::net::IpAddr;

use super::*;
use crate::admission::{Share, Source};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;

fn source(number: u32) -> CheckOrigin {
    CheckOrigin::Source(Source::of(IpAddr::from(number.to_be_bytes())))
}

/// Returns a queue whose issuer "a" is over its share, at 10 % of a core.
fn contended() -> CheckQueue {
    let mut queue = CheckQueue::new(SignatureLimits {
        core: None,
        issuer: Share::new(10),
        source: Share::new(100),
        sources: 1024,
    });
    queue.budgets.select("a");
    for number in 0..201 {
        queue.budgets.charge(source(1_000_000 + number), MS, SECOND);
    }
    queue
}

/// Charges bad signatures of 1 ms each in the name of another issuer.
fn run_up_debt(queue: &mut CheckQueue, origin: CheckOrigin, signatures: u32) {
    queue.budgets.select("other");
    for _ in 0..signatures {
        queue.budgets.charge(origin, MS, SECOND);
    }
}

/// Adds a check of a token from `origin` that names "a".
fn enter(queue: &mut CheckQueue, origin: CheckOrigin, now: Nanos) -> Result<u64, BudgetExceeded> {
    let buckets = queue.admit("a", || origin, now).unwrap_err();
    queue.enter(buckets, now).map(|place| place.id)
}

#[test]
fn source_is_not_looked_up_while_the_core_has_plenty() {
    let mut queue = CheckQueue::new(SignatureLimits {
        core: Share::new(50),
        issuer: Share::new(1),
        source: Share::new(1),
        sources: 64,
    });
    for _ in 0..70 {
        assert!(queue.admit("a", || panic!("the source was looked up"), SECOND).is_ok());
        queue.budgets.charge(source(1), MS, SECOND);
    }
}

#[test]
fn source_without_debt_is_first() {
    let mut queue = contended();
    let late = SECOND + 100 * MS;
    run_up_debt(&mut queue, source(1), 500);
    let indebted = enter(&mut queue, source(1), SECOND).unwrap();
    let clean = enter(&mut queue, source(2), SECOND).unwrap();
    assert_eq!(queue.turn(indebted, SECOND), QueueTurn::Later);
    assert!(matches!(queue.turn(clean, SECOND), QueueTurn::In(wait) if wait > 0));
    // A later one is behind those that have waited longer, unless it can be admitted at once.
    let third = enter(&mut queue, source(3), SECOND).unwrap();
    assert_eq!(
        (queue.turn(third, late), queue.turn(clean, late)),
        (QueueTurn::Later, QueueTurn::Now)
    );
    queue.leave(clean, late);
    assert_eq!(queue.turn(third, late), QueueTurn::Now);
    queue.leave(third, late);
    assert_eq!(queue.turn(indebted, late), QueueTurn::Now);
    // Only sources that are before it in the order need not wait for it.
    assert!(queue.admit("a", || source(4), late).is_ok());
    assert!(queue.admit("a", || source(1), late).is_err());
    // An hour later the order is the same, although the source has its whole share again.
    assert!(queue.admit("a", || source(1), late + 3600 * SECOND).is_err());
}

#[test]
fn indebted_sources_take_turns() {
    let mut queue = contended();
    let mut now = SECOND;
    let mut waiting: Vec<_> = (0..30)
        .map(|number| {
            let from = source(number % 3 + 1);
            (enter(&mut queue, from, now).unwrap(), from)
        })
        .collect();
    let mut order = Vec::new();
    now += 100 * MS;
    while !waiting.is_empty() {
        now += 20 * MS;
        let turn = waiting.iter().position(|(id, _)| queue.turn(*id, now) == QueueTurn::Now);
        let (id, from) = waiting.remove(turn.unwrap());
        queue.budgets.select("a");
        queue.budgets.charge(from, MS, now);
        queue.leave(id, now);
        order.push(from);
    }
    for turns in order.chunks(3) {
        assert!(turns[0] != turns[1] && turns[1] != turns[2] && turns[0] != turns[2], "{order:?}");
    }
}

#[test]
fn issuer_with_room_is_not_behind_another() {
    let mut queue = contended();
    let over = enter(&mut queue, source(1), SECOND).unwrap();
    queue.budgets.select("b");
    queue.budgets.charge(source(2), MS, SECOND);
    let buckets = queue.admit("b", || source(2), SECOND).unwrap_err();
    let within = queue.enter(buckets, SECOND).unwrap().id;
    assert_eq!(queue.turn(within, SECOND), QueueTurn::Now);
    assert_eq!(queue.turn(over, SECOND), QueueTurn::Later);
}

#[test]
fn full_queue_gives_up_the_last_in_its_order() {
    let mut queue = contended();
    run_up_debt(&mut queue, source(1), 100);
    run_up_debt(&mut queue, source(2), 50);
    let worst: Vec<_> =
        (0..MAX_WAITING).map(|_| enter(&mut queue, source(1), SECOND).unwrap()).collect();
    assert!(enter(&mut queue, source(1), SECOND).is_err(), "its own debt is not smaller");
    let better = enter(&mut queue, source(2), SECOND).unwrap();
    let lost = worst.iter().filter(|id| queue.turn(**id, SECOND) == QueueTurn::Lost).count();
    assert_eq!((lost, queue.waiting.len()), (1, MAX_WAITING));
    assert_ne!(queue.turn(better, SECOND), QueueTurn::Lost);
}

#[tokio::test]
async fn next_check_is_woken_when_one_leaves() {
    let mut queue = contended();
    let first = enter(&mut queue, source(1), SECOND).unwrap();
    let buckets = queue.admit("a", || source(2), SECOND).unwrap_err();
    let second = queue.enter(buckets, SECOND).unwrap();
    assert_eq!(queue.turn(second.id, SECOND), QueueTurn::Later);
    queue.leave(first, SECOND);
    second.wakeup.notified().await;
    assert!(matches!(queue.turn(second.id, SECOND), QueueTurn::In(_)));
}
