use std::time::{Duration, Instant};

use countersign_tests::{
    binary::{Sandbox, Server},
    postgres::{Postgres, REVOCATIONS_SEEN_WITHIN},
};
use serde_json::json;

use super::{Api, ENVIRONMENT, PASSWORD, claims, configuration, data, done};

/// Two nodes on one database. One database and one pair of nodes for all of it: it takes
/// its time to start them.
#[test]
fn nodes_see_each_others_users_at_once_and_revocations_in_time() {
    let postgres = Postgres::start();
    let text = configuration(&format!("[database]\nurl={}\n", postgres.url()));
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [one, other] = &sandboxes.each_ref().map(|sandbox| sandbox.serve(&text));
    users_and_roles_are_the_same(one, other);
    revoked_tokens_are_refused_elsewhere(one, other);
    sessions_of_the_deleted_are_refused_elsewhere(one, other);
}

fn users_and_roles_are_the_same(one: &Server<'_>, other: &Server<'_>) {
    let (here, there) = (Api::root(one), Api::root(other));
    here.add_user("bob");
    assert_eq!(data(&there.ask("GET /user"))[0]["username"], "bob");
    there.add_environment(ENVIRONMENT);
    done(&here.send("POST /role", json!({ "name": "noc" })));
    done(
        &there.send(
            "POST /role_assignment/bob",
            json!({ "environment": ENVIRONMENT, "role": "noc" }),
        ),
    );
    assert_eq!(
        data(&here.ask("GET /role_assignment/bob")),
        json!({ "assignments": { ENVIRONMENT: ["noc"] } })
    );
    let session = Api::anonymous(other).session("bob");
    assert_eq!(one.auth(&session).header("x-auth-subject"), Some("bob"));
    assert_eq!(claims(&session)["urn:inmanta:roles"], json!({ ENVIRONMENT: ["noc"] }));
}

/// How long it takes until something is so; `None` if it is not within 20 s.
fn time_until(is_so: impl Fn() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > Duration::from_secs(20) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(start.elapsed())
}

/// Has something revoked a few times. It must always be seen, and in time unless the
/// machine was busy with something else.
#[track_caller]
fn seen_in_time(revoke_and_wait: impl Fn(usize) -> Option<Duration>) {
    let took: Vec<_> =
        (0..3).map(|round| revoke_and_wait(round).expect("it is seen at all")).collect();
    assert!(took.iter().any(|took| *took <= REVOCATIONS_SEEN_WITHIN), "{took:?}");
}

fn revoked_tokens_are_refused_elsewhere(one: &Server<'_>, other: &Server<'_>) {
    let here = Api::root(one).within(ENVIRONMENT);
    seen_in_time(|_| {
        let token = Api::root(one).issue(ENVIRONMENT);
        let there = Api::bearing(other, &token).within(ENVIRONMENT);
        let is_good = || (other.auth(&token).status, there.ask("GET /environment_auth").status);
        // Twice: remembered by the cache, and known to be in the registry.
        assert_eq!((is_good(), is_good()), ((200, 200), (200, 200)));
        let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
        assert_eq!(here.ask(&format!("DELETE /environment_auth/{jti}")).status, 200);
        time_until(|| is_good() == (401, 403))
    });
}

fn sessions_of_the_deleted_are_refused_elsewhere(one: &Server<'_>, other: &Server<'_>) {
    seen_in_time(|round| {
        let username = format!("user-{round}");
        Api::root(one).add_user(&username);
        let session = Api::anonymous(other).session(&username);
        let current = || Api::bearing(other, &session).ask("GET /current_user").status;
        assert_eq!(
            (other.auth(&session).status, other.auth(&session).status, current()),
            (200, 200, 200)
        );
        done(&Api::root(one).ask(&format!("DELETE /user/{username}")));
        assert_eq!(Api::anonymous(other).log_in(&username, PASSWORD).status, 401, "at once");
        time_until(|| (other.auth(&session).status, current()) == (401, 403))
    });
}
