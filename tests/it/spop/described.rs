use std::{net::IpAddr, ops::Range};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    spop::{CheckMessage, SpopClient},
};
use serde_json::{Value, json};

use super::{LISTENER, Variables, bearer, variables_of};
use crate::{
    admission::Issuer,
    fixture,
    orchestrate::tier::{self, TenantProvider},
};

/// The same listener, which trusts no proxy.
const UNTRUSTING: &str = "[listener_spop]\nbind=127.0.0.1:0\nprotocols=spop\n";
const LOG: &str = "[log]\nformat=json\nrequests=all\n";

#[track_caller]
fn check(server: &Server<'_>, message: &CheckMessage<'_>) -> Variables {
    SpopClient::connect(server.spop_address()).check(message)
}

/// Returns the log lines of checks.
fn logged(server: &Server<'_>) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["route"] == "check").collect()
}

#[test]
fn access_log_shows_the_checked_request() {
    for (listener, expected) in [
        (LISTENER, json!(["17", "203.0.113.9", "DELETE", "/page"])),
        (UNTRUSTING, json!([null, "127.0.0.1", "NOTIFY", ""])),
    ] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&format!("{}{LOG}{listener}", fixture::SIGNING));
        let bearer = bearer(&fixture::good_token());
        let forged = [("x-forwarded-for", "198.51.100.66"), ("x-request-id", "evil")];
        let lines = [&forged[..], &[("authorization", &*bearer)]].concat();
        for lines in [&lines[..], &forged] {
            let message = CheckMessage { method: "DELETE", ..CheckMessage::of(lines) };
            check(&server, &message);
        }
        eventually(|| logged(&server).len() == 2);
        for (line, status) in logged(&server).iter().zip([200, 401]) {
            let id = expected[0].as_str().or_else(|| line["request_id"].as_str()).unwrap();
            assert_ne!(id, "evil");
            let shown = [&line["request_id"], &line["client"], &line["method"], &line["uri"]];
            let expected = [&json!(id), &expected[1], &expected[2], &expected[3]];
            assert_eq!(shown, expected);
            assert_eq!((&line["status"], &line["protocol"]), (&json!(status), &json!("SPOP/2.0")));
            assert_eq!(line["listener"], "spop");
        }
        assert!(!server.log().contains(fixture::good_token().rsplit('.').next().unwrap()));
    }
}

#[test]
fn routes_decide_about_the_described_request() {
    let routes = "[route_read]\nmatch=GET /page\n[route_open]\nmatch=GET /open/*\npublic=true\n";
    for (listener, is_trusted) in [(LISTENER, true), (UNTRUSTING, false)] {
        let sandbox = Sandbox::new();
        let listener = format!("{listener}authorization=routes\n{routes}");
        let server = sandbox.serve(&format!("{}{listener}", fixture::SIGNING));
        let bearer = bearer(&fixture::good_token());
        let with_token = [("authorization", &*bearer)];
        for (method, path, lines, status) in [
            ("GET", "/page?x=1", &with_token[..], "200"),
            ("GET", "/page", &[], "401"),
            ("PUT", "/page", &with_token, "403"),
            ("GET", "/open/a", &[], "200"),
            ("GET", "/open/../page", &[], "401"),
            ("", "/page", &with_token, "403"),
            ("GET", "", &with_token, "403"),
        ] {
            let message = CheckMessage { method, path, ..CheckMessage::of(lines) };
            let expected = match lines {
                _ if is_trusted => status,
                [] => "401",
                _ => "403",
            };
            assert_eq!(check(&server, &message)["status"], expected, "{method} {path}");
        }
    }
}

#[test]
fn cookie_and_preflight_depend_on_the_described_request() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!(
        "{}[server]\ntoken_cookie=session\n{LISTENER}preflight=allow\n",
        fixture::SIGNING
    ));
    let cookie = format!("session={}", fixture::good_token());
    let status = |method, lines: &[(&str, &str)]| {
        let message = CheckMessage { method, scheme: "https", ..CheckMessage::of(lines) };
        check(&server, &message)["status"].clone()
    };
    let own = [("cookie", &*cookie), ("origin", "https://shop.example")];
    let insecure = [("cookie", &*cookie), ("origin", "http://shop.example")];
    let other = [("cookie", &*cookie), ("origin", "https://evil.example")];
    assert_eq!(status("GET", &other), "200");
    assert_eq!(["POST", "DELETE"].map(|method| status(method, &own)), ["200", "200"]);
    assert_eq!([status("POST", &other), status("POST", &insecure)], ["403", "403"]);
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    assert_eq!([status("OPTIONS", &preflight), status("GET", &preflight)], ["200", "401"]);
}

#[test]
fn e1_flood_is_charged_to_the_proxied_client() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("ES512"));
    for listener in [LISTENER, UNTRUSTING] {
        let server =
            sandbox.serve(&(issuer.configuration(&sandbox, ["off", "off", "1"], "") + listener));
        let mut client = SpopClient::connect(server.spop_address());
        let mut send = |numbers: Range<usize>, source: &dyn Fn(usize) -> IpAddr| {
            let frames = numbers.clone().map(|number| {
                let bearer = bearer(&issuer.forged(number));
                let message = CheckMessage::of(&[("authorization", &bearer)]);
                CheckMessage { source: source(number), ..message }.notify(1)
            });
            client.send(&frames.collect::<Vec<_>>());
            let answers = numbers.map(|_| client.receive().unwrap().variables());
            answers.filter(|answer| answer["status"] != "401").last()
        };
        let source = |number: usize| -> IpAddr {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            if listener == LISTENER { [203, 0, 113, 9].into() } else { [10, 0, high, low].into() }
        };
        let limited = (0..100).find_map(|batch| send(50 * batch..50 * (batch + 1), &source));
        let limited = limited.expect("every forged token was checked");
        assert_eq!((&*limited["status"], &*limited["allowed"]), ("429", "false"));
        assert_eq!(limited["x_auth_error"], "not_admitted source");
        assert!(limited["retry_after"].parse::<u64>().unwrap() >= 1);
        if listener == LISTENER {
            assert_eq!(send(0..1, &|_| [198, 51, 100, 7].into()), None, "another client");
        }
    }
}

#[test]
fn tenants_and_keys_are_those_of_auth() {
    let sandbox = Sandbox::new();
    let provider = TenantProvider::start();
    let listener = format!("{LISTENER}surface=orchestrate\n");
    let configuration = tier::configuration(&provider, "", &listener);
    let server = sandbox.serve(&configuration);
    let bearer = bearer(&provider.token("foo"));
    let key = ("x-api-key", tier::API_KEY);
    for lines in [
        vec![("authorization", &*bearer)],
        vec![key, ("x-tenant-id", "acme:eu"), ("x-username", "bob")],
        vec![key, key],
        vec![("x-api-key", "wrong"), ("authorization", &bearer)],
        vec![("authorization", &bearer), ("x-tenant-id", "bar")],
        vec![],
    ] {
        let variables = check(&server, &CheckMessage::of(&lines));
        let head: String =
            lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let response = server.request(&format!("GET /auth HTTP/1.1\r\n{head}"));
        assert_eq!(variables, variables_of(&response), "{head}");
    }
}
