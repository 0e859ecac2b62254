use std::{net::SocketAddr, thread};

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::{Connection, Response},
    over_every_protocol,
};
use serde_json::json;

use super::{Api, PASSWORD, configuration, in_file, refused, session_of};

over_every_protocol!(
    failed_logins_lock_out_their_source_only,
    login_attempts_are_limited_by_source,
    unlisted_proxy_has_ten_times_the_attempts,
);

/// The test client is a trusted proxy, so that `X-Forwarded-For` names the source.
const PROXY: &str = "[listen]\ntrusted_proxies=127.0.0.0/8\n";

/// Attempts for one username that are accepted at once: one that is checked, and those that wait.
const TURNS: usize = 9;

/// Checks that logins are blocked and returns the seconds to wait.
#[track_caller]
fn assert_locked_out(response: &Response) -> u64 {
    refused(response, 429, "Too many failed logins: try again later");
    response.header("retry-after").unwrap().parse().unwrap()
}

/// Logs in from this source.
fn log_in(server: &Server<'_>, source: &str, username: &str, password: &str) -> Response {
    Api::anonymous(server).with(&format!("X-Forwarded-For: {source}")).log_in(username, password)
}

fn failed_logins_lock_out_their_source_only(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = format!("[login]\nfailures_per_user=2\nlockout=200\n{PROXY}");
    let server = sandbox.serve(&configuration(&options));
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_user("eve");
    let status = |source: &str, username: &str, password: &str| {
        log_in(&server, source, username, password).status
    };
    assert_eq!(status("192.0.2.1", "bob", "wrong"), 401);
    assert_eq!(status("192.0.2.1", "bob", PASSWORD), 200, "a success clears the failures");
    for username in ["bob", "nobody"] {
        for source in ["198.51.100.1", "198.51.100.2"] {
            assert_eq!(status(source, username, "wrong"), 401);
            assert_eq!(status(source, username, "wrong"), 401);
            let wait = assert_locked_out(&log_in(&server, source, username, PASSWORD));
            assert!((1..=201).contains(&wait), "{wait}");
        }
    }
    assert_eq!(status("198.51.100.1", "eve", PASSWORD), 200, "another user of a locked source");
    assert_eq!(status("192.0.2.1", "bob", PASSWORD), 200, "a source of earlier logins");
    assert_eq!(status("192.0.2.2", "bob", PASSWORD), 200, "a source without failures");
    // Wrong current passwords count as failed logins, too.
    let own =
        Api::bearing(&server, &session_of("bob", false)).with("X-Forwarded-For: 198.51.100.1");
    assert_locked_out(&own.send(
        "PATCH /user/bob/password",
        json!({ "password": "new password", "current_password": PASSWORD }),
    ));
}

fn login_attempts_are_limited_by_source(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&format!("[login]\nattempts_per_source=2\n{PROXY}")));
    let from = |address: &str, username: &str| log_in(&server, address, username, "wrong");
    assert_eq!((from("192.0.2.1", "a").status, from("192.0.2.1", "b").status), (401, 401));
    let wait = assert_locked_out(&from("192.0.2.1", "c"));
    assert!((1..=31).contains(&wait), "{wait}");
    assert_eq!(from("192.0.2.2", "c").status, 401);
}

fn unlisted_proxy_has_ten_times_the_attempts(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "[login]\nattempts_per_source=1\nfailures_per_user=1\n";
    let server = sandbox.serve(&configuration(options));
    Api::root(&server).add_user("bob");
    assert_eq!(Api::anonymous(&server).log_in("bob", "wrong").status, 401);
    assert_locked_out(&Api::anonymous(&server).log_in("bob", PASSWORD));
    // The client behind the proxy is not known, so no client locks out another.
    for number in 1..=9 {
        let answer = log_in(&server, "192.0.2.1", &format!("user-{number}"), "wrong");
        assert_eq!(answer.status, 401, "{number}");
    }
    assert_eq!(log_in(&server, "192.0.2.2", "bob", PASSWORD).status, 200);
    // One more is earned every six seconds, and on a busy machine, the ten may take longer. So more
    // than ten come at once: an attempt counts from its start.
    let log_in = &|number: usize| log_in(&server, "192.0.2.3", &format!("late-{number}"), "wrong");
    let answers: Vec<_> = thread::scope(|scope| {
        let logins: Vec<_> = (0..16).map(|number| scope.spawn(move || log_in(number))).collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    let refusals: Vec<_> = answers.iter().filter(|answer| answer.status != 401).collect();
    assert!(refusals.len() >= 4, "{answers:?}");
    for refusal in refusals {
        assert_locked_out(refusal);
    }
}

#[test]
fn lockout_expires() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration("[login]\nfailures_per_user=1\nlockout=2\n"));
    Api::root(&server).add_user("bob");
    let log_in = |password: &str| Api::anonymous(&server).log_in("bob", password).status;
    assert_eq!(log_in("wrong"), 401);
    assert_eq!(log_in(PASSWORD), 429);
    eventually(|| log_in(PASSWORD) == 200);
}

/// Begins a login over HTTP/1.1 from this source, and does not wait for the answer.
fn begin_login(address: SocketAddr, source: &str) -> Connection {
    let mut connection = Connection::open(address);
    let head = format!("POST /api/v2/login HTTP/1.1\r\nX-Forwarded-For: {source}\r\n");
    connection.send(&head, br#"{"username":"bob","password":"wrong"}"#);
    connection
}

/// Fails to log in as bob until each further attempt is delayed by two seconds.
fn fail_logins(server: &Server<'_>) {
    for number in 0..6 {
        assert_eq!(log_in(server, &format!("198.51.100.{number}"), "bob", "wrong").status, 401);
    }
}

fn outcome(server: &Server<'_>, name: &str) -> u64 {
    server.metric(&format!("countersign_logins_total{{outcome=\"{name}\"}}"))
}

#[test]
fn attackers_delay_only_sources_without_a_login() {
    let sandbox = Sandbox::new();
    let text = configuration(&format!("{PROXY}{}", in_file(&sandbox)));
    let server = sandbox.serve(&text);
    Api::root(&server).add_user("bob");
    assert_eq!(log_in(&server, "192.0.2.1", "bob", PASSWORD).status, 200);
    drop(server);
    // The source is known after a restart, too.
    let server = sandbox.serve(&text);
    fail_logins(&server);
    let attack: Vec<_> = (0..TURNS + 2)
        .map(|number| begin_login(server.address, &format!("203.0.113.{number}")))
        .collect();
    eventually(|| outcome(&server, "too_many") == 2);
    let before = outcome(&server, "wrong");
    for _ in 0..3 {
        assert_eq!(log_in(&server, "192.0.2.1", "bob", PASSWORD).status, 200);
    }
    let checked = outcome(&server, "wrong") - before;
    assert!(checked < TURNS as u64, "the attack still waits: {checked}");
    drop(attack);
    // Once the attack is over, other sources get in.
    eventually(|| log_in(&server, "192.0.2.2", "bob", PASSWORD).status == 200);
}

#[test]
fn source_without_failures_passes_those_of_an_attack() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(PROXY));
    Api::root(&server).add_user("bob");
    fail_logins(&server);
    // From the sources of the failed logins.
    let _attack: Vec<_> = (0..TURNS + 1)
        .map(|number| begin_login(server.address, &format!("198.51.100.{}", number % 6)))
        .collect();
    eventually(|| outcome(&server, "too_many") == 1);
    let before = outcome(&server, "wrong");
    assert_eq!(log_in(&server, "192.0.2.2", "bob", PASSWORD).status, 200);
    let checked = outcome(&server, "wrong") - before;
    assert!(checked < TURNS as u64 - 1, "most of the attack still waits: {checked}");
}

#[test]
fn waiting_login_ends_with_its_client() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(PROXY));
    Api::root(&server).add_user("bob");
    fail_logins(&server);
    let attack: Vec<_> = (0..TURNS + 1)
        .map(|number| begin_login(server.address, &format!("203.0.113.{number}")))
        .collect();
    eventually(|| outcome(&server, "too_many") == 1);
    let before = outcome(&server, "wrong");
    drop(attack);
    eventually(|| log_in(&server, "192.0.2.2", "bob", PASSWORD).status == 200);
    let checked = outcome(&server, "wrong") - before;
    assert!(checked < TURNS as u64 - 1, "closed connections do not wait: {checked}");
}

#[test]
fn attack_on_one_user_does_not_delay_others() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&format!("[login]\nhashing_threads=1\n{PROXY}")));
    Api::root(&server).add_user("bob");
    Api::root(&server).add_user("eve");
    fail_logins(&server);
    let _attack: Vec<_> = (0..TURNS + 1)
        .map(|number| begin_login(server.address, &format!("203.0.113.{number}")))
        .collect();
    eventually(|| outcome(&server, "too_many") == 1);
    let before = outcome(&server, "wrong");
    for number in 0..5 {
        assert_eq!(log_in(&server, &format!("192.0.2.{number}"), "eve", PASSWORD).status, 200);
    }
    let checked = outcome(&server, "wrong") - before;
    assert!(checked < TURNS as u64, "the attack waits without a hashing thread: {checked}");
}
