use std::time::{Duration, Instant};

use countersign_tests::{
    binary::{Sandbox, Server},
    postgres::{Postgres, REVOCATIONS_SEEN_WITHIN},
};
use serde_json::json;

use super::{Api, ENVIRONMENT, PASSWORD, assert_done, claims, configuration, data};

/// All checks share one database and two nodes, because starting them is slow.
#[test]
fn nodes_share_users_and_revocations() {
    let postgres = Postgres::start();
    let text = configuration(&format!("[database]\nurl={}\n", postgres.url()));
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [one, other] = &sandboxes.each_ref().map(|sandbox| sandbox.serve(&text));
    check_shared_users_and_roles(one, other);
    check_revoked_tokens(one, other);
    check_sessions_of_deleted_users(one, other);
    check_renewed_sessions(one, other);
}

fn check_shared_users_and_roles(one: &Server<'_>, other: &Server<'_>) {
    let (here, there) = (Api::root(one), Api::root(other));
    here.add_user("bob");
    assert_eq!(data(&there.ask("GET /user"))[0]["username"], "bob");
    there.add_environment(ENVIRONMENT);
    assert_done(&here.send("POST /role", json!({ "name": "noc" })));
    assert_done(
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

/// Returns the time until a condition holds; `None` if it does not within 20 s.
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

/// Revokes a few times. Every revocation must be seen, and at least one in time, because the
/// machine may be busy.
#[track_caller]
fn assert_seen_in_time(revoke_and_wait: impl Fn(usize) -> Option<Duration>) {
    let took: Vec<_> =
        (0..3).map(|round| revoke_and_wait(round).expect("the revocation is seen")).collect();
    assert!(took.iter().any(|took| *took <= REVOCATIONS_SEEN_WITHIN), "{took:?}");
}

fn check_revoked_tokens(one: &Server<'_>, other: &Server<'_>) {
    let here = Api::root(one).within(ENVIRONMENT);
    assert_seen_in_time(|_| {
        let token = Api::root(one).issue(ENVIRONMENT);
        let there = Api::bearing(other, &token).within(ENVIRONMENT);
        let is_good = || (other.auth(&token).status, there.ask("GET /environment_auth").status);
        // Twice, so that the token is cached and its registration is known.
        assert_eq!((is_good(), is_good()), ((200, 200), (200, 200)));
        let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
        assert_eq!(here.ask(&format!("DELETE /environment_auth/{jti}")).status, 200);
        time_until(|| is_good() == (401, 403))
    });
}

fn check_sessions_of_deleted_users(one: &Server<'_>, other: &Server<'_>) {
    assert_seen_in_time(|round| {
        let username = format!("user-{round}");
        Api::root(one).add_user(&username);
        let session = Api::anonymous(other).session(&username);
        let current = || Api::bearing(other, &session).ask("GET /current_user").status;
        assert_eq!(
            (other.auth(&session).status, other.auth(&session).status, current()),
            (200, 200, 200)
        );
        assert_done(&Api::root(one).ask(&format!("DELETE /user/{username}")));
        assert_eq!(Api::anonymous(other).log_in(&username, PASSWORD).status, 401, "at once");
        time_until(|| (other.auth(&session).status, current()) == (401, 401))
    });
}

/// Renewals and the ends of sessions do not wait for revocations: they are decided in the database.
fn check_renewed_sessions(one: &Server<'_>, other: &Server<'_>) {
    Api::root(one).add_user("eve");
    let session = Api::anonymous(one).session("eve");
    let renew = |node, token: &str| Api::bearing(node, token).ask("POST /login/renew");
    let renewed: Vec<_> = std::thread::scope(|scope| {
        let renewals = [one, other, one, other].map(|node| scope.spawn(|| renew(node, &session)));
        renewals
            .into_iter()
            .map(|renewal| data(&renewal.join().unwrap())["token"].clone())
            .collect()
    });
    assert!(renewed.iter().all(|token| *token == renewed[0]), "one successor on both nodes");
    let successor = renewed[0].as_str().unwrap();
    assert_done(&Api::bearing(one, &session).ask("POST /logout"));
    for token in [&session, successor] {
        assert_eq!(renew(other, token).status, 401);
    }
    assert!(time_until(|| other.auth(successor).status == 401).is_some());
}
