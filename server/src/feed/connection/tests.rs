//! Lines in every order, without a socket.

use std::sync::Arc;

use countersign_engine::Verifier;

use super::*;
use crate::{
    keys::KeySources,
    revocation::{RevocationService, freshness::FollowedFreshness},
};

const STALENESS: Duration = Duration::from_secs(3600);

struct FollowedFeed {
    follower: FeedFollower,
    service: RevocationService,
}

impl FollowedFeed {
    fn new() -> Self {
        let verifier = Arc::new(Verifier::builder().build().unwrap());
        let keys = Arc::new(KeySources::new(&[]));
        let (service, revocations) = RevocationService::followed(10);
        let keys = KeyFollower::new(&verifier, &keys);
        let mut follower = FeedFollower::new(keys, revocations, STALENESS);
        follower.begin();
        Self { follower, service }
    }

    fn receive(&mut self, line: &str) -> Result<(), FeedError> {
        let line = FeedLine::parse(line.as_bytes()).unwrap();
        self.follower.receive(line, crate::base::clock::since_boot())
    }

    fn snapshot(&mut self, generation: u64, ids: &[&str]) {
        self.receive(&hello(generation)).unwrap();
        for id in ids {
            self.receive(&format!("{{\"revocation\":{{\"revocation\":{}}}}}", record(id))).unwrap();
        }
        self.receive(&state("complete", generation)).unwrap();
    }

    fn freshness(&self) -> &FollowedFreshness {
        self.service.freshness().unwrap()
    }

    fn count(&self) -> usize {
        self.service.table().parts().flatten().count()
    }
}

fn hello(generation: u64) -> String {
    format!(r#"{{"hello":{{"version":3,"run":"r","generation":{generation}}}}}"#)
}

fn record(id: &str) -> String {
    format!(r#"{{"issuer":"i","jti":"{id}"}}"#)
}

fn state(kind: &str, generation: u64) -> String {
    let at = crate::base::clock::since_boot().as_millis();
    format!(
        r#"{{"{kind}":{{"generation":{generation},"at":{at},"available":true,"revocations":1}}}}"#
    )
}

fn revocation(generation: u64, id: &str) -> String {
    format!(r#"{{"revocation":{{"generation":{generation},"revocation":{}}}}}"#, record(id))
}

#[test]
fn feed_is_current_after_a_complete_snapshot() {
    let mut followed = FollowedFeed::new();
    followed.receive(&hello(7)).unwrap();
    assert!(!followed.freshness().is_current() && !followed.service.is_ready());
    followed.receive(&state("complete", 7)).unwrap();
    assert!(followed.freshness().is_current() && followed.service.is_ready());
    followed.receive(&revocation(8, "a")).unwrap();
    followed.receive(&state("alive", 8)).unwrap();
    assert_eq!(followed.count(), 1, "applied before the time is extended");
}

#[test]
fn lines_out_of_place_end_the_connection() {
    let (complete, alive) = (state("complete", 7), state("alive", 7));
    let in_snapshot = format!(r#"{{"revocation":{{"revocation":{}}}}}"#, record("a"));
    let removed = r#"{"removed":{"generation":8,"section":"s"}}"#;
    let configured = r#"{"configuration":{"generation":8,"sections":[]}}"#;
    let expired = r#"{"expired":{"generation":8,"at":9}}"#;
    for line in [&complete, &alive, &in_snapshot, &revocation(8, "a"), removed, expired, configured]
    {
        assert!(FollowedFeed::new().receive(line).is_err(), "{line} at the start");
    }
    for line in [&hello(7), &alive, &revocation(8, "a"), removed, expired, &state("complete", 8)] {
        let mut followed = FollowedFeed::new();
        followed.receive(&hello(7)).unwrap();
        assert!(followed.receive(line).is_err(), "{line} in the snapshot");
        assert!(!followed.freshness().is_current());
    }
    for line in [&hello(7), &complete, &in_snapshot, &revocation(9, "a"), &revocation(7, "a")] {
        let mut followed = FollowedFeed::new();
        followed.snapshot(7, &[]);
        assert!(followed.receive(line).is_err(), "{line} after the snapshot");
    }
    let error = FollowedFeed::new().receive(&hello(7).replace(":3,", ":1,")).unwrap_err();
    assert!(error.0.contains("version 1"), "{error}");
}

#[test]
fn configuration_of_the_server_is_kept_until_the_next() {
    let mut followed = FollowedFeed::new();
    let mut configuration = followed.follower.configuration();
    let first =
        |one: &Option<Arc<SectionDigests>>| one.as_ref().map(|digests| digests.0[0].digest.clone());
    let line = |generation: &str, digest: &str| {
        format!(
            "{{\"configuration\":{{{generation}\"sections\":[{{\"section\":\"auth_jwt_a\",\
             \"digest\":\"{digest}\"}}]}}}}"
        )
    };
    followed.receive(&hello(7)).unwrap();
    followed.receive(&line("", "1")).unwrap();
    assert_eq!(first(&configuration.borrow_and_update()).as_deref(), Some("1"));
    followed.receive(&state("complete", 7)).unwrap();
    followed.receive(&line("\"generation\":8,", "2")).unwrap();
    assert!(configuration.has_changed().unwrap());
    followed.follower.begin();
    assert_eq!(first(&configuration.borrow_and_update()).as_deref(), Some("2"));
}

#[test]
fn missed_generation_ends_the_connection() {
    let mut followed = FollowedFeed::new();
    followed.snapshot(7, &[]);
    followed.receive(&revocation(8, "a")).unwrap();
    let error = followed.receive(&state("alive", 9)).unwrap_err();
    assert!(error.0.contains("after the generation 8"), "{error}");
}

#[test]
fn next_snapshot_replaces_the_one_before() {
    let mut followed = FollowedFeed::new();
    followed.snapshot(7, &["a", "b"]);
    assert_eq!(followed.count(), 2);
    followed.follower.begin();
    followed.receive(&hello(0)).unwrap();
    followed.receive(&format!("{{\"revocation\":{{\"revocation\":{}}}}}", record("c"))).unwrap();
    followed.follower.apply().unwrap();
    assert_eq!(followed.count(), 3, "only added until it is complete");
    followed.receive(&state("complete", 0)).unwrap();
    assert_eq!(followed.count(), 1);
}

#[test]
fn snapshot_of_a_server_without_revocations_removes_none() {
    let mut followed = FollowedFeed::new();
    followed.snapshot(7, &["a", "b"]);
    followed.follower.begin();
    followed.receive(&hello(0)).unwrap();
    followed.receive(&state("complete", 0).replace("true", "false")).unwrap();
    assert_eq!(followed.count(), 2);
    assert!(!followed.service.is_ready(), "other tokens may be revoked");
    let error = followed.receive(&state("alive", 0)).unwrap_err();
    assert!(error.0.contains("reading them"), "{error}");
    assert!(!followed.service.is_ready(), "until they have been read");
    followed.follower.begin();
    followed.snapshot(1, &["c"]);
    assert_eq!((followed.count(), followed.service.is_ready()), (1, true));
}

#[test]
fn expired_revocations_are_dropped_by_a_line() {
    let mut followed = FollowedFeed::new();
    followed.snapshot(7, &["stays"]);
    let until = |generation, id: &str, until| {
        revocation(generation, id).replace("\"i\"", &format!("\"i\",\"until\":{until}"))
    };
    followed.receive(&until(8, "a", 100)).unwrap();
    followed.receive(&until(9, "b", 101)).unwrap();
    followed.receive(r#"{"expired":{"generation":10,"at":100}}"#).unwrap();
    assert_eq!(followed.count(), 2);
    followed.receive(&state("alive", 10)).unwrap();
    assert!(followed.receive(r#"{"expired":{"generation":10,"at":101}}"#).is_err());
    assert_eq!(followed.count(), 2);
}

#[test]
fn line_of_the_future_ends_the_connection() {
    let mut followed = FollowedFeed::new();
    followed.receive(&hello(7)).unwrap();
    let ahead = (crate::base::clock::since_boot() + Duration::from_secs(60)).as_millis();
    let line = format!(
        r#"{{"complete":{{"generation":7,"at":{ahead},"available":true,"revocations":0}}}}"#
    );
    let error = followed.receive(&line).unwrap_err();
    assert!(error.0.contains("time namespace"), "{error}");
    assert!(!followed.freshness().is_current());
}

#[test]
fn revocations_beyond_the_capacity_end_the_connection() {
    let mut followed = FollowedFeed::new();
    followed.receive(&hello(7)).unwrap();
    let lines = (0..10_021).map(|id| record(&id.to_string()));
    for line in lines {
        followed.receive(&format!("{{\"revocation\":{{\"revocation\":{line}}}}}")).unwrap();
    }
    let error = followed.receive(&state("complete", 7)).unwrap_err();
    assert!(error.0.contains("raise capacity"), "{error}");
    assert!(!followed.freshness().is_current());
}

#[test]
fn server_without_all_revocations_stops_verification() {
    let mut followed = FollowedFeed::new();
    followed.snapshot(7, &[]);
    assert!(followed.service.table().are_available());
    followed.receive(&state("alive", 7).replace("true", "false")).unwrap();
    assert!(!followed.service.table().are_available() && !followed.service.is_ready());
    followed.receive(&state("alive", 7)).unwrap();
    assert!(followed.service.table().are_available() && followed.service.is_ready());
}
