use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::{Connection, request},
    over_every_protocol,
};
use serde_json::{Value, json};

use super::auth_request;
use crate::fixture::{self, SIGNING};

over_every_protocol!(
    access_log_entries_have_outcomes_but_no_secrets,
    e1_untrusted_request_id_is_ignored,
);

/// Waits for `count` access-log entries of the main listeners and returns them. Probes on the
/// metrics listener are left out.
#[track_caller]
pub(super) fn request_lines(server: &Server<'_>, count: usize) -> Vec<Value> {
    let read = || {
        let log = server.log();
        // The last line may be incomplete.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        // Configuration warnings are plain text.
        let lines = whole
            .lines()
            .filter(|line| !line.starts_with("warning: ") && !line.starts_with("  help: "));
        let lines = lines.map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        lines
            .filter(|line| line["target"] == "request" && line["listener"] != "metrics")
            .collect::<Vec<_>>()
    };
    eventually(|| read().len() >= count);
    let lines = read();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn with_log(options: &str) -> String {
    format!("{SIGNING}[log]\nrequests=all\nformat=json\n{options}\n")
}

fn access_log_entries_have_outcomes_but_no_secrets(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_log(""));
    let (good, expired) =
        (fixture::good_token(), fixture::token(&fixture::claims(json!({ "exp": 1 }))));
    let ask = |head: &str, token: &str| {
        server.request(&format!("{head}\r\nAuthorization: Bearer {token}\r\n"))
    };
    ask("GET /auth HTTP/1.1", &good);
    ask(&format!("DELETE /auth/a/b?access_token={good} HTTP/1.1"), &expired);
    ask("GET /nothing?x HTTP/1.1", "x");
    server.send("POST /v1/verify HTTP/1.1\r\n", good.as_bytes());
    server.request("GET /auth HTTP/1.1\r\n");
    let lines = request_lines(&server, 5);
    let fields = |line: &Value| {
        ["method", "uri", "route", "status", "outcome"].map(|name| line[name].clone())
    };
    assert_eq!(
        fields(&lines[0]),
        [json!("GET"), json!("/auth"), json!("auth"), json!(200), json!("verified")]
    );
    assert_eq!(
        fields(&lines[1])[..4],
        [json!("DELETE"), json!("/auth/a/b"), json!("auth"), json!(401)]
    );
    assert_eq!(
        fields(&lines[2]),
        [json!("GET"), json!("/nothing"), json!("none"), json!(404), Value::Null]
    );
    assert_eq!(
        fields(&lines[3]),
        [json!("POST"), json!("/v1/verify"), json!("verify"), json!(200), json!("verified")]
    );
    assert_eq!(
        fields(&lines[4]),
        [json!("GET"), json!("/auth"), json!("auth"), json!(401), json!("no_token")]
    );
    let mut ids: Vec<_> =
        lines.iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each request has its own id");
    for line in &lines {
        assert_eq!(
            (line["client"].as_str(), line["listener"].as_str()),
            (Some("127.0.0.1"), Some("main"))
        );
        assert!(line["micros"].is_u64());
    }
    let log = server.log();
    assert!(!log.contains(&good) && !log.contains(&expired), "{log}");
}

#[test]
fn access_log_can_be_limited_to_refusals() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[log]\nrequests=refused\nformat=json\n"));
    let mut connection = Connection::open(server.address);
    for request in [
        &*auth_request(""),
        "GET /auth HTTP/1.1\r\nHost: t\r\n\r\n",
        &auth_request(""),
        "GET /x HTTP/1.1\r\nHost: t\r\n\r\n",
    ] {
        connection.send_raw(request.as_bytes());
        connection.receive(false);
    }
    let statuses: Vec<_> =
        request_lines(&server, 2).iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [401, 404]);
}

/// Request identifiers that try to break out of their field or line.
const IDS: [&str; 6] = [
    "plain-1",
    r#"","status":200,"x":""#,
    r"\",
    r"\n{\u0022target\u0022:\u0022request\u0022}",
    "a\tb",
    "\u{9b}31m\u{2028}\u{202e}",
];

#[test]
fn e1_trusted_request_id_is_logged_as_text() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_log("[listen]\ntrusted_proxies=127.0.0.1"));
    let long = "y".repeat(8 * 1024);
    for id in IDS.into_iter().chain([&*long]) {
        request(server.address, &format!("GET /auth HTTP/1.1\r\nX-Request-ID: {id}\r\n"), b"");
    }
    request(
        server.address,
        "GET /auth HTTP/1.1\r\nX-Request-ID: one\r\nX-Request-ID: two\r\n",
        b"",
    );
    let lines = request_lines(&server, IDS.len() + 2);
    for (id, line) in IDS.iter().zip(&lines) {
        assert_eq!(
            (line["request_id"].as_str(), line["status"].as_u64()),
            (Some(*id), Some(401)),
            "{line}"
        );
    }
    let shortened = lines[IDS.len()]["request_id"].as_str().unwrap();
    assert!(
        long.starts_with(shortened) && (16..=1024).contains(&shortened.len()),
        "{}",
        shortened.len()
    );
    let duplicate = lines[IDS.len() + 1]["request_id"].as_str().unwrap();
    assert!(
        duplicate.len() == 16 && duplicate.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{duplicate}"
    );
    // Bytes that could end a log line make the request invalid.
    for id in ["a\rb", "a\nb", "a\0b", "a\x1b[31mb", "a\x7fb", "a\x08b"] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(
            format!("GET /auth HTTP/1.1\r\nHost: t\r\nX-Request-ID: {id}\r\n\r\n").as_bytes(),
        );
        assert_eq!(connection.receive(false).status, 400, "{id:?}");
    }
    let mut connection = Connection::open(server.address);
    connection.send_raw(b"GET /auth HTTP/1.1\r\nHost: t\r\nX-Request-ID: \xff\xfe\r\n\r\n");
    connection.receive(false);
    assert_eq!(
        request_lines(&server, IDS.len() + 3)[IDS.len() + 2]["request_id"],
        "\u{fffd}\u{fffd}"
    );
}

fn e1_untrusted_request_id_is_ignored(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_log("[listen]\ntrusted_proxies=10.0.0.0/8"));
    for id in IDS {
        server.request(&format!("GET /auth HTTP/1.1\r\nX-Request-ID: {id}\r\n"));
    }
    for line in request_lines(&server, IDS.len()) {
        let id = line["request_id"].as_str().unwrap();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    }
}

#[test]
fn human_log_entry_is_a_single_line() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!(
        "{SIGNING}[log]\nrequests=all\nformat=human\n[listen]\ntrusted_proxies=127.0.0.1\n"
    ));
    for id in IDS {
        request(
            server.address,
            &format!("GET /auth/\u{9b}/{} HTTP/1.1\r\nX-Request-ID: {id}\r\n", "z".repeat(5000)),
            b"",
        );
    }
    let lines = || {
        server
            .log()
            .lines()
            .filter(|line| line.contains("/auth/"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    eventually(|| lines().len() >= IDS.len());
    for (id, line) in IDS.iter().zip(lines()) {
        assert!(line.contains(&format!("{id:?}")), "{id:?} is not in {line}");
        assert!(!line.contains(char::is_control) && line.chars().count() < 2000, "{line}");
    }
    assert_eq!(lines().len(), IDS.len());
}
