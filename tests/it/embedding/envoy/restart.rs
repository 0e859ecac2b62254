//! The end of Envoy while requests wait, and its replacement by another process.

use std::process::Command;

use countersign_tests::{eventually, proxies::DaemonProcess};
use serde_json::json;

use super::{
    super::{contract::with_listener, late_key::LateKey, module_proxy::ModuleProxy},
    configuration::{EnvoyOptions, bootstrap},
    restartable, start,
};
fn assert_clean(log: &str) {
    for crash in ["Caught ", "[critical]", "assert failure", "panicked"] {
        assert!(!log.contains(crash), "{log}");
    }
}

#[test]
fn envoy_ends_cleanly_while_requests_wait() {
    let issuer = LateKey::start();
    let mut proxy = start(&with_listener(&issuer.configuration()), &EnvoyOptions::default());
    let [old, _] = issuer.tokens();
    assert_eq!(proxy.status("/", &old), 200, "{}", proxy.running.log());
    let waiting = issuer.wait_at(proxy.address);
    proxy.running.signal("TERM");
    for mut connection in waiting {
        // The connection ends, or the request was answered before.
        let answer = String::from_utf8(connection.receive_all()).unwrap();
        let is_right = answer.is_empty() || answer.starts_with("HTTP/1.1 503");
        assert!(is_right, "{answer}");
    }
    let mut status = None;
    eventually(|| {
        status = proxy.running.exit_status();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?} {}", proxy.running.log());
    assert_clean(&proxy.running.log());
    assert_eq!(proxy.application.take().len(), 0);
}

#[test]
fn hot_restart_answers_what_waits() {
    let issuer = LateKey::start();
    let configuration = with_listener(&issuer.configuration());
    let mut addresses = None;
    // A number of its own, from the range of the process ids.
    let base = std::process::id().to_string();
    let restart = |command: &mut Command, epoch: &str| {
        command.args(["--base-id", &base, "--restart-epoch", epoch]);
        command.args(["--drain-time-s", "3", "--parent-shutdown-time-s", "4"]);
    };
    let mut first = ModuleProxy::start(&configuration, |directory, given| {
        addresses = Some(given);
        let text = bootstrap(given, &EnvoyOptions::default()).to_string();
        let mut command = restartable(directory, "first.yaml", &text);
        restart(&mut command, "0");
        command
    });
    let [old, late] = issuer.tokens();
    assert_eq!(first.status("/", &old), 200, "{}", first.running.log());
    let waiting = issuer.wait_at(first.address);
    let response_headers = json!({ "x-version": "second" });
    let options = EnvoyOptions { response_headers, ..EnvoyOptions::default() };
    let text = bootstrap(addresses.unwrap(), &options).to_string();
    let mut command = restartable(first.sandbox.path(), "second.yaml", &text);
    restart(&mut command, "1");
    let second = DaemonProcess::start(command, first.sandbox.path(), first.address);
    for mut connection in waiting {
        assert_eq!(connection.receive(false).status, 200, "{}", first.running.log());
    }
    // Until it takes over, the first process answers.
    eventually(|| {
        let (response, _) = first.get("/", &late);
        assert_eq!(response.status, 200, "{response:?}");
        response.header("x-version") == Some("second")
    });
    eventually(|| first.running.exit_status().is_some());
    let status = first.running.exit_status().unwrap();
    assert!(status.success(), "{status} {}", first.running.log());
    assert_eq!([first.status("/", &old), first.status("/", "")], [200, 401]);
    // Both have one log.
    assert_clean(&second.log());
}
