//! Reports of fetches that arrive some time after the fetch began.

use countersign_engine::{Algorithm, IssuerConfig, KidHash};

use super::*;
use crate::keys::{IssuerSection, settings::SigningSecret, unknown_kid::see};

/// Keys whose fetches another process reports.
struct ReportedKeys {
    target: IssuerKeys,
    last: Option<SharedKeys>,
    unknown_before: Duration,
}

impl ReportedKeys {
    fn new() -> Self {
        let issuer = IssuerConfig::new("i", "a", [Algorithm::Es256]);
        let section = IssuerSection::internal(issuer, SigningSecret::new(vec![7; 32], None).into());
        let target = IssuerKeys::new(section, Arc::default());
        Self { target, last: None, unknown_before: Duration::ZERO }
    }

    /// Reports the number of ended fetches, whether another one is under way, and when the last
    /// successful one began.
    fn report(&mut self, fetches: u64, is_fetching: bool, began: i64) {
        let shared = SharedKeys {
            section: "auth_jwt_i".into(),
            source: "s".into(),
            fetches,
            is_fetching,
            is_failing: false,
            confirmed: Some(began),
            success: Some([began, began]),
            next_fetch: None,
            refetch_from: None,
            is_emptied: None,
            keys: None,
            skipped: Vec::new(),
        };
        let reports = (Some(&shared), self.last.as_ref());
        self.unknown_before = update_progress(&self.target, reports, self.unknown_before, None);
        self.last = Some(shared);
    }

    /// Sees a `kid`. Returns whether a fetch has shown that it does not exist.
    fn is_absent(&self, kid: &str) -> bool {
        let (state, _, first_seen) = see(&self.target, KidHash::of(kid));
        state.success.is_some_and(|success| success.number > first_seen)
    }
}

fn now() -> i64 {
    let now = clock::since_boot() + Duration::from_micros(2);
    i64::try_from(now.as_micros()).unwrap()
}

#[test]
fn fetch_of_before_a_kid_does_not_decide_about_it() {
    let mut keys = ReportedKeys::new();
    keys.report(1, false, now());
    assert!(!keys.is_absent("seen-after"));
    let began = now();
    assert!(!keys.is_absent("seen-during"));
    keys.report(2, false, began - 1_000_000);
    assert!(!keys.is_absent("seen-after"), "it began before");
    keys.report(3, false, now());
    assert!(keys.is_absent("seen-after") && keys.is_absent("seen-during"));
    assert!(!keys.is_absent("other"));
    keys.report(3, false, keys.last.as_ref().unwrap().success.unwrap()[0]);
    assert!(!keys.is_absent("other"), "the same fetch");
}

#[test]
fn kid_seen_while_a_fetch_runs_is_left_to_the_next() {
    let mut keys = ReportedKeys::new();
    keys.report(1, false, 5);
    assert!(!keys.is_absent("before"));
    let began = now();
    keys.report(1, true, 5);
    assert!(!keys.is_absent("during") && !keys.is_absent("before"));
    keys.report(2, false, began);
    assert_eq!(["before", "during"].map(|kid| keys.is_absent(kid)), [true, false]);
    // The next one is under way when the end of this one is reported.
    let began = now();
    keys.report(2, true, keys.last.as_ref().unwrap().success.unwrap()[0]);
    keys.report(3, true, began);
    assert!(keys.is_absent("during") && !keys.is_absent("later"));
}

#[test]
fn late_report_of_a_fetch_keeps_earlier_decisions() {
    let mut keys = ReportedKeys::new();
    keys.report(1, false, 5);
    assert!(!keys.is_absent("old"));
    keys.report(2, false, now());
    assert!(keys.is_absent("old"));
    let began = now();
    assert!(!keys.is_absent("new"));
    keys.report(3, false, began - 1_000);
    assert_eq!(["old", "new"].map(|kid| keys.is_absent(kid)), [true, false]);
}

#[test]
fn fetches_of_another_server_count_as_ended() {
    let mut keys = ReportedKeys::new();
    keys.report(1, true, 5);
    let rounds = |keys: &ReportedKeys| keys.target.progress().state.rounds;
    let before = rounds(&keys);
    keys.report(1, false, 5);
    assert_eq!(rounds(&keys), before + 1, "the first server has ended during its fetch");
    keys.report(1, false, 9);
    assert_eq!(rounds(&keys), before + 2);
}
