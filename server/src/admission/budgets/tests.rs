use std::net::IpAddr;

use super::*;
use crate::admission::Share;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;

fn limits(core: u8, issuer: u8, source: u8) -> SignatureLimits {
    SignatureLimits {
        core: Share::new(core),
        issuer: Share::new(issuer),
        source: Share::new(source),
        sources: 64,
    }
}

fn source(last: u8) -> CheckOrigin {
    CheckOrigin::Source(Source::of(IpAddr::from([192, 0, 2, last])))
}

/// Returns the wait for a check, and the budget to wait for.
fn wait(budgets: &mut Budgets, issuer: &str, origin: CheckOrigin, now: Nanos) -> (Nanos, Budget) {
    budgets.select(issuer);
    let issuer = budgets.issuer().get();
    (budgets.wait(issuer, origin, now), budgets.exceeded(issuer, origin, now).budget)
}

/// Charges bad signatures of 1 ms each until the next one has to wait. Returns their number, and
/// the exceeded budget.
fn flood(budgets: &mut Budgets, issuer: &str, from: CheckOrigin, now: Nanos) -> (u32, Budget) {
    for admitted in 0..100_000 {
        let (time, budget) = wait(budgets, issuer, from, now);
        if time > 0 {
            return (admitted, budget);
        }
        budgets.charge(from, MS, now);
    }
    panic!("everything was admitted");
}

#[test]
fn shares_are_enforced_while_the_core_is_nearly_spent() {
    let mut budgets = Budgets::new(limits(50, 25, 5));
    // Three quarters of 50 % of 200 ms, and the signature that overdraws them.
    assert_eq!(flood(&mut budgets, "a", source(1), SECOND), (76, Budget::Source));
    // Others have the reserve.
    assert_eq!(wait(&mut budgets, "b", source(2), SECOND).0, 0);
    assert_eq!(wait(&mut budgets, "a", source(2), SECOND).1, Budget::Issuer);
    assert_eq!(flood(&mut budgets, "b", source(2), SECOND), (11, Budget::Source));
    // The core earns 1 ms in 2 ms, and lends it to those that are beyond their shares.
    let plenty = budgets.time_to_plenty(SECOND);
    assert_eq!(plenty, 12 * 2 * MS);
    assert_eq!(wait(&mut budgets, "a", source(1), SECOND + plenty), (0, Budget::Source));
}

#[test]
fn exceeded_source_does_not_affect_other_sources() {
    let mut budgets = Budgets::new(SignatureLimits { core: None, ..limits(1, 50, 5) });
    // 5 % of 200 ms, and the signature that overdraws the budget.
    assert_eq!(flood(&mut budgets, "a", source(1), SECOND), (11, Budget::Source));
    assert_eq!(wait(&mut budgets, "b", source(1), SECOND), (20 * MS, Budget::Source));
    assert_eq!(wait(&mut budgets, "a", source(2), SECOND).0, 0);
}

#[test]
fn exceeded_issuer_does_not_affect_other_issuers() {
    let mut budgets = Budgets::new(SignatureLimits { core: None, ..limits(1, 10, 5) });
    let last = (1..=3).map(|from| flood(&mut budgets, "a", source(from), SECOND).1).last();
    assert_eq!(last, Some(Budget::Issuer));
    assert_eq!(wait(&mut budgets, "a", source(9), SECOND), (10 * MS, Budget::Issuer));
    assert_eq!(wait(&mut budgets, "b", source(9), SECOND).0, 0);
}

#[test]
fn core_budget_limits_all_issuers_and_sources() {
    let mut budgets = Budgets::new(limits(10, 100, 100));
    assert_eq!(flood(&mut budgets, "a", source(1), SECOND), (21, Budget::Core));
    assert_eq!(wait(&mut budgets, "b", source(2), SECOND), (10 * MS, Budget::Core));
}

#[test]
fn unlisted_proxies_share_the_share_of_an_issuer() {
    let mut budgets = Budgets::new(SignatureLimits { core: None, ..limits(1, 10, 1) });
    let proxies = CheckOrigin::UnlistedProxies;
    assert_eq!(flood(&mut budgets, "a", proxies, SECOND), (21, Budget::Source));
    assert_eq!(wait(&mut budgets, "b", proxies, SECOND), (10 * MS, Budget::Source));
    assert_eq!(wait(&mut budgets, "b", source(1), SECOND).0, 0);
}

#[test]
fn budget_recovers_after_its_wait() {
    let mut budgets = Budgets::new(limits(1, 100, 100));
    flood(&mut budgets, "a", source(1), SECOND);
    let issuer = budgets.issuer().get();
    let exceeded = budgets.exceeded(issuer, source(1), SECOND);
    assert_eq!(exceeded, BudgetExceeded { budget: Budget::Core, retry_after: 1 });
    let (time, _) = wait(&mut budgets, "a", source(1), SECOND);
    assert_eq!(wait(&mut budgets, "a", source(1), SECOND + time).0, 0);
    let (admitted, _) = flood(&mut budgets, "a", source(1), 100 * SECOND);
    assert_eq!(admitted, 3, "an idle budget does not exceed its burst");
}

#[test]
fn debt_from_times_of_plenty_is_bounded() {
    let mut budgets = Budgets::new(limits(100, 50, 1));
    for ms in 0..60_000 {
        budgets.select("a");
        budgets.charge(source(1), MS / 3, ms * MS);
    }
    let (issuer, now) = (budgets.issuer().get(), 60 * SECOND);
    assert_eq!(budgets.time_to_plenty(now), 0);
    assert!(budgets.origin(source(1)).debt(now) <= BURST + MAX_DEBT);
    assert!(issuer.debt(now) <= BURST + MAX_DEBT);
    assert!(budgets.origin(source(1)).debt(now) > BURST, "the source is over its share");
}

#[test]
fn disabled_budgets_are_never_exceeded() {
    let mut budgets =
        Budgets::new(SignatureLimits { core: None, issuer: None, source: None, sources: 64 });
    for origin in [source(1), CheckOrigin::UnlistedProxies] {
        for _ in 0..10_000 {
            assert_eq!(wait(&mut budgets, "a", origin, SECOND).0, 0);
            budgets.charge(origin, MS, SECOND);
        }
    }
}

#[test]
fn charge_for_one_signature_is_bounded() {
    let mut budgets = Budgets::new(SignatureLimits { core: None, ..limits(1, 100, 1) });
    budgets.charge(source(1), 3600 * SECOND, SECOND);
    let (time, _) = wait(&mut budgets, "a", source(1), SECOND);
    assert_eq!(time, 0, "one bad signature does not use up a budget");
}
