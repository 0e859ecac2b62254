use countersign_engine::UnixTime;
use countersign_server::store::renewals::{SessionRenewal, SessionToken};
use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::Response,
    over_every_protocol,
};
use serde_json::{Value, json};

use super::{
    Api, PASSWORD, assert_done, claims, configuration, data, in_file, refused, session_of, store,
};
use crate::fixture;

over_every_protocol!(
    logout_ends_one_session_or_all,
    logout_ends_the_renewed_token_and_its_successor,
    second_renewal_returns_the_same_successor,
    session_maximum_bounds_renewals,
    ended_session_is_401_and_a_revoked_token_403,
);

fn renew(server: &Server<'_>, token: &str) -> Response {
    Api::bearing(server, token).ask("POST /login/renew")
}

fn token(response: &Response) -> String {
    data(response)["token"].as_str().unwrap().to_owned()
}

/// Returns a session token as issued by a login at a time, without an expiry.
fn session_since(logged_in_at: u64) -> String {
    let mut changed = claims(&session_of("bob", false));
    changed["auth_time"] = json!(logged_in_at);
    fixture::token(&changed)
}

fn now() -> u64 {
    claims(&session_of("bob", false))["iat"].as_u64().unwrap()
}

fn logout_ends_one_session_or_all(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    Api::root(&server).add_user("eve");
    let session = |username: &str| Api::anonymous(&server).session(username);
    let log_out = |token: &str, call: &str| Api::bearing(&server, token).ask(call);
    let statuses = |tokens: &[&String]| -> Vec<u16> {
        tokens.iter().map(|token| server.auth(token).status).collect()
    };
    // In the same second, and still different tokens.
    let (one, other, third, of_eve) =
        (session("bob"), session("bob"), session("bob"), session("eve"));
    assert_eq!(statuses(&[&one, &other, &third, &of_eve]), [200; 4]);
    assert_done(&log_out(&one, "POST /logout"));
    assert_eq!(statuses(&[&one, &other, &third, &of_eve]), [401, 200, 200, 200]);
    for call in ["POST /logout", "POST /login/renew", "GET /current_user", "GET /user"] {
        assert_eq!(log_out(&one, call).status, 401, "{call}");
    }
    assert_done(&log_out(&other, "POST /logout?all=false"));
    assert_eq!(statuses(&[&other, &third]), [401, 200]);
    let fourth = session("bob");
    assert_done(&log_out(&third, "POST /logout?all=true"));
    assert_eq!(statuses(&[&third, &fourth, &of_eve]), [401, 401, 200]);
    let (fifth, sixth) = (session("bob"), session("bob"));
    assert_eq!(statuses(&[&fifth, &sixth]), [200; 2], "new sessions after the end of all");
    let all = Api::bearing(&server, &fifth).send("POST /logout", json!({ "all": true }));
    assert_done(&all);
    assert_eq!(statuses(&[&fifth, &sixth, &of_eve]), [401, 401, 200]);

    let program = fixture::token(&fixture::claims(json!({ "sub": "program" })));
    let not_a_login = log_out(&program, "POST /logout");
    refused(&not_a_login, 400, "Only login sessions issued by this server can be ended.");
    let wrong = log_out(&of_eve, "POST /logout?all=maybe");
    refused(
        &wrong,
        400,
        "Failed to validate argument\n1 validation error for logout_arguments\nall\n  Input should \
         be a valid boolean",
    );
    let anonymous = Api::anonymous(&server).ask("POST /logout");
    refused(&anonymous, 401, "Access to this resource is unauthorized");
}

fn logout_ends_the_renewed_token_and_its_successor(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    for ended_by in 0..2 {
        let old = Api::anonymous(&server).session("bob");
        let tokens = [old.clone(), token(&renew(&server, &old))];
        assert_done(&Api::bearing(&server, &tokens[ended_by]).ask("POST /logout"));
        for token in &tokens {
            assert_eq!((server.auth(token).status, renew(&server, token).status), (401, 401));
        }
    }
}

fn second_renewal_returns_the_same_successor(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    let old = Api::anonymous(&server).session("bob");
    let (first, second) = (renew(&server, &old), renew(&server, &old));
    let successor = token(&first);
    assert_eq!(token(&second), successor);
    assert_eq!(second.header("authorization"), first.header("authorization"));
    assert_eq!(data(&second)["user"]["username"], "bob");
    assert!(matches!(data(&second)["expires_in"].as_u64(), Some(3590..=3600)));
    assert_eq!((server.auth(&old).status, server.auth(&successor).status), (200, 200));
    let (before, after) = (claims(&old), claims(&successor));
    for shared in ["auth_time", "sid", "sub"] {
        assert_eq!(before[shared], after[shared], "{shared}");
    }
    assert!(after["iat"].as_u64() > before["iat"].as_u64());
}

#[test]
fn renewed_token_is_revoked_after_ten_seconds() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    let old = Api::anonymous(&server).session("bob");
    let successor = token(&renew(&server, &old));
    assert_eq!(server.auth(&old).status, 200);
    eventually(|| server.auth(&old).status == 401);
    assert_eq!(renew(&server, &old).status, 401);
    assert_eq!((server.auth(&successor).status, renew(&server, &successor).status), (200, 200));
}

/// The server that renewed the token may have stopped before the time.
#[test]
fn renewed_token_is_revoked_by_a_later_start() {
    let (sandbox, old) = (Sandbox::new(), session_of("bob", false));
    let configuration = configuration(&in_file(&sandbox));
    let renewal = |token: &str, revoke_at| SessionRenewal {
        token: SessionToken { digest: digest(token), expires_at: None },
        revoke_at: UnixTime(revoke_at),
        successor: SessionToken { digest: "1".into(), expires_at: None },
        claims: "{}".into(),
    };
    let (store, other) = (store(&sandbox), session_of("eve", false));
    store.block_on(async {
        assert_eq!(store.add_renewal(renewal(&old, now() - 100)).await, Ok(true));
        assert_eq!(store.add_renewal(renewal(&other, now() + 1000)).await, Ok(true));
    });
    let server = sandbox.serve(&configuration);
    eventually(|| server.auth(&old).status == 401);
    assert_eq!(server.auth(&other).status, 200);
}

/// Returns the digest by which the store names a token.
fn digest(token: &str) -> String {
    countersign_server::accounts::signing::token_digest(token.as_bytes())
}

fn session_maximum_bounds_renewals(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("login_session_max=600\n"));
    Api::root(&server).add_user("bob");
    let body = data(&Api::anonymous(&server).log_in("bob", PASSWORD));
    assert_eq!(body["expires_in"], 600, "a token does not outlive the session");
    let began = now() - 500;
    let renewed = renew(&server, &session_since(began));
    let after = claims(&token(&renewed));
    assert_eq!((&after["auth_time"], &after["exp"]), (&json!(began), &json!(began + 600)));
    let text = "The session has reached its maximum duration: log in again.";
    refused(&renew(&server, &session_since(now() - 600)), 401, text);
}

#[test]
fn session_maximum_has_a_default_and_can_be_off() {
    const LONG_AGO: u64 = 43_300;
    for (options, status, expires) in [
        ("", 401, Some(3600)),
        ("login_session_max=0\n", 200, Some(3600)),
        ("login_session_expire=0\n", 200, None),
        ("login_session_expire=0\nlogin_session_max=43200\n", 401, Some(43_200)),
        ("login_session_expire=0\nlogin_session_max=0\n", 200, None),
    ] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&configuration(options));
        Api::root(&server).add_user("bob");
        let body = data(&Api::anonymous(&server).log_in("bob", PASSWORD));
        assert_eq!(body.get("expires_in").and_then(Value::as_u64), expires, "{options}");
        let renewed = renew(&server, &session_since(now() - LONG_AGO));
        assert_eq!(renewed.status, status, "{options}: {renewed:?}");
        let fresh = renew(&server, &session_since(now() - 40_000));
        assert_eq!(fresh.status, 200, "{options}: {fresh:?}");
    }
}

fn ended_session_is_401_and_a_revoked_token_403(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(super::ENVIRONMENT);
    let issued = root.issue(super::ENVIRONMENT);
    let environment = root.within(super::ENVIRONMENT);
    let jti = claims(&issued)["jti"].as_str().unwrap().to_owned();
    assert_eq!(environment.ask(&format!("DELETE /environment_auth/{jti}")).status, 200);
    let bearing = |token: &str| Api::bearing(&server, token).within(super::ENVIRONMENT);
    assert_eq!(bearing(&issued).ask("GET /environment_auth").status, 403);

    let session = Api::anonymous(&server).session("bob");
    root.send("PATCH /user/bob/password", json!({ "password": "another horse" }));
    let ended = bearing(&session).ask("GET /user");
    assert_eq!((ended.status, ended.header("www-authenticate").is_some()), (401, true));
    let mut expired = claims(&session_of("bob", false));
    expired["exp"] = json!(now() - 10);
    assert_eq!(bearing(&fixture::token(&expired)).ask("GET /user").status, 401);
    let without_login = fixture::claims(json!({ "exp": now() - 10 }));
    assert_eq!(bearing(&fixture::token(&without_login)).ask("GET /user").status, 403);
}

#[test]
fn renewals_of_a_user_are_limited() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    Api::root(&server).add_user("eve");
    // Issued a while ago, so that no renewal has to wait for a later second.
    let session = |number: u64| {
        let mut changed = claims(&session_of("bob", false));
        changed["iat"] = json!(now() - 100 - number);
        fixture::token(&changed)
    };
    let mut answers = (0..100).map(|number| renew(&server, &session(number)));
    let limited = answers.find(|answer| answer.status != 200);
    let limited = limited.expect("a user has 60 renewals at once");
    refused(&limited, 429, "Too many renewals: try again later");
    assert!(limited.header("retry-after").is_some());
    assert_eq!(renew(&server, &Api::anonymous(&server).session("eve")).status, 200);
}
