use std::{collections::BTreeSet, io::Read as _, sync::Mutex};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::{Connection, request},
};
use serde_json::{Value, json};

use crate::{
    fixture::{self, SIGNING},
    users::{Api, configuration},
};

/// Returns the access-log entries. Each entry is written before its answer is sent.
fn requests(server: &Server<'_>) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|line| line["target"] == "request").collect()
}

/// Waits for `count` entries and returns them.
fn wait_for(server: &Server<'_>, count: usize) -> Vec<Value> {
    eventually(|| requests(server).len() >= count);
    let lines = requests(server);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[test]
fn access_log_entry_has_the_outcome() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[log]\nrequests=all\n"));
    let before = requests(&server).len();
    server.auth(&fixture::good_token());
    server.auth(&fixture::token(&fixture::claims(json!({ "exp": 1 }))));
    server.request("PUT /auth/deeper?secret=1 HTTP/1.1\r\n");
    server.request("GET /nothing HTTP/1.1\r\n");
    server.verify("a.b.c");
    let lines = wait_for(&server, before + 5);
    let fields: Vec<_> = lines[before..]
        .iter()
        .map(|line| {
            json!([line["method"], line["uri"], line["route"], line["status"], line["outcome"]])
        })
        .collect();
    assert_eq!(
        fields,
        [
            json!(["GET", "/auth", "auth", 200, "verified"]),
            json!(["GET", "/auth", "auth", 401, "expired"]),
            json!(["PUT", "/auth/deeper", "auth", 401, "no_token"]),
            json!(["GET", "/nothing", "none", 404, null]),
            json!(["POST", "/v1/verify", "verify", 401, "base64"]),
        ]
    );
    for line in &lines[before..] {
        assert_eq!(
            (&line["listener"], &line["client"]),
            (&json!("main"), &json!("127.0.0.1")),
            "{line}"
        );
        assert_eq!(
            (&line["level"], &line["message"]),
            (&json!("INFO"), &json!("request")),
            "{line}"
        );
        assert!(
            line["micros"].is_u64()
                && line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')),
            "{line}"
        );
        assert_eq!(line["request_id"].as_str().map(str::len), Some(16), "{line}");
    }
    let ids: BTreeSet<_> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), lines.len(), "every request has its own identifier");
}

#[test]
fn usernames_are_escaped_in_the_log() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("b\u{202e}b");
    root.session("b\u{202e}b");
    let line = || {
        let log = server.log();
        log.lines().find(|line| line.contains("\"login\"")).map(str::to_owned)
    };
    eventually(|| line().is_some());
    let line = line().unwrap();
    assert!(!line.contains('\u{202e}'), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["user"], "b\\u{202e}b");
}

#[test]
fn access_log_can_be_limited_or_disabled() {
    for (requests, expected) in [("refused", vec!["401", "404"]), ("off", vec![])] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&format!("{SIGNING}[log]\nrequests={requests}\n"));
        // Refused readiness probes of the start-up are logged, too, and not counted here.
        let before = self::requests(&server).len();
        server.auth(&fixture::good_token());
        server.auth("a.b.c");
        server.request("GET /healthz HTTP/1.1\r\n");
        server.request("GET /nothing HTTP/1.1\r\n");
        server.auth(&fixture::good_token());
        let lines = wait_for(&server, before + expected.len());
        let statuses: Vec<_> =
            lines[before..].iter().map(|line| line["status"].to_string()).collect();
        assert_eq!(statuses, expected, "{requests}");
    }
}

#[test]
fn access_log_uses_headers_of_trusted_proxies_only() {
    let head = |id: &str| {
        format!(
            "GET /auth HTTP/1.1\r\nX-Forwarded-For: 198.51.100.7, 203.0.113.9\r\nX-Original-Method: PUT\r\nX-Original-URI: /orders?token=x\r\n{id}"
        )
    };
    let named = head("X-Request-Id: from-the-proxy\r\n");
    for trusted in ["127.0.0.0/8", "10.0.0.0/8"] {
        let sandbox = Sandbox::new();
        let listen = format!("[listen]\ntrusted_proxies={trusted}\ndialect=nginx\n");
        let server = sandbox.serve(&format!("{SIGNING}[log]\nrequests=refused\n{listen}"));
        let before = requests(&server).len();
        server.request(&named);
        server.request(&head("X-Request-Id: one\r\nX-Request-Id: two\r\n"));
        server.request(&head(&format!("X-Request-Id: {}\r\n", "long".repeat(500))));
        server.request(&head("X-Request-Id: \"quoted\" and {curly}\r\n"));
        let lines = wait_for(&server, before + 4);
        let ids: Vec<_> =
            lines[before..].iter().map(|line| line["request_id"].as_str().unwrap()).collect();
        let origin =
            json!([lines[before]["client"], lines[before]["method"], lines[before]["uri"]]);
        if trusted == "127.0.0.0/8" {
            assert_eq!(origin, json!(["203.0.113.9", "PUT", "/orders"]));
            assert_eq!(
                (ids[0], ids[1].len(), ids[2].len(), ids[3]),
                ("from-the-proxy", 16, 1024, "\"quoted\" and {curly}")
            );
        } else {
            assert_eq!(origin, json!(["127.0.0.1", "GET", "/auth"]));
            assert!(ids.iter().all(|id| id.len() == 16), "{ids:?}");
        }
    }
}

#[test]
fn unix_socket_peer_is_logged_as_unix() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("local.sock");
    let server = sandbox.serve(&format!(
        "{SIGNING}[log]\nrequests=refused\n[listener_local]\nbind=unix:{}\n",
        path.display()
    ));
    let before = requests(&server).len();
    let mut connection = Connection::over(std::os::unix::net::UnixStream::connect(path).unwrap());
    connection.send("GET /auth HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9\r\n", b"");
    assert_eq!(connection.receive(false).status, 401);
    let line = wait_for(&server, before + 1).pop().unwrap();
    assert_eq!((&line["client"], &line["listener"]), (&json!("unix"), &json!("local")));
}

#[test]
fn human_log_format_is_readable_text() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[log]\nrequests=all\nformat=human\n"));
    server.request("GET /auth HTTP/1.1\r\n");
    eventually(|| server.log().contains("outcome=\"no_token\""));
    let log = server.log();
    assert!(log.lines().all(|line| !line.starts_with('{')), "{log}");
    let line = log.lines().find(|line| line.contains("no_token")).unwrap();
    for field in [
        " INFO request request_id=\"",
        "listener=\"main\"",
        "client=\"127.0.0.1\"",
        "uri=\"/auth\"",
        "status=401",
    ] {
        assert!(line.contains(field), "{field} is not in {line}");
    }
    assert!(!line.contains('\u{1b}'), "no colours without a terminal: {line}");
    // Without a terminal and an explicit format, `auto` means JSON.
    let server = sandbox.serve(&format!("{SIGNING}[log]\nrequests=all\nformat=auto\n"));
    server.request("GET /auth HTTP/1.1\r\n");
    eventually(|| requests(&server).iter().any(|line| line["outcome"] == "no_token"));
}

#[test]
fn log_filter_applies_and_reports_mistakes() {
    let configuration = format!("{SIGNING}[log]\nrequests=all\n");
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "warn,request=info");
    let server = sandbox.serve(&configuration);
    let before = requests(&server).len();
    server.request("GET /auth HTTP/1.1\r\n");
    wait_for(&server, before + 1);
    assert!(
        server.log().lines().all(|line| line.contains("\"target\":\"request\"")),
        "{}",
        server.log()
    );
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "request=loud");
    let server = sandbox.serve(&configuration);
    assert!(server.log().contains("COUNTERSIGN_LOG is invalid, using info"), "{}", server.log());
}

#[test]
fn unread_log_does_not_block_requests() {
    /// Many more entries than a pipe buffer holds.
    const MANY: usize = 2000;
    const LOST: &str = " log lines: the reader is too slow";
    let sandbox = Sandbox::new();
    let (mut log, end) = std::io::pipe().unwrap();
    let server = sandbox.serve_with_log(&format!("{SIGNING}[log]\nrequests=all\n"), end);
    let mut connection = Connection::open(server.address);
    let long = format!("GET /auth/{} HTTP/1.1\r\n", "\"".repeat(5000));
    let mut ask = |head: &str| {
        connection.send(head, b"");
        assert_eq!(connection.receive(false).status, 401);
    };
    (0..MANY)
        .for_each(|number| ask(if number % 10 == 0 { &long } else { "GET /auth HTTP/1.1\r\n" }));
    // Start to read the log.
    let text = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = log.read(&mut some) {
                text.lock().unwrap().extend_from_slice(&some[..length]);
            }
        });
        eventually(|| {
            ask("GET /auth HTTP/1.1\r\n");
            String::from_utf8_lossy(&text.lock().unwrap()).contains(LOST)
        });
        assert!(server.stop("TERM").0.success());
    });
    let text = String::from_utf8(text.into_inner().unwrap()).unwrap();
    let (whole, cut): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| serde_json::from_str::<Value>(line).is_ok());
    assert!(cut.len() <= 1, "{cut:?}");
    let count = |line: &&str| line.split_once(LOST)?.0.rsplit(' ').next()?.parse::<usize>().ok();
    let lost: usize = whole.iter().filter_map(count).sum();
    let written = whole.iter().filter(|line| line.contains("\"route\":\"auth\"")).count();
    assert!(lost > 0 && lost + written > MANY, "{lost} lost and {written} written");
}

#[test]
fn log_contains_no_token_and_no_key() {
    let client = "s3cret-of-a-client-0123456789";
    let hash = countersign_server::base::secret_hash::hash_text(client);
    let configuration = format!(
        "{SIGNING}[log]\nrequests=all\n[server]\nauth=true\nauth_additional_header=X-Token\n[api_clients]\nci={hash}\n\
         [listen]\ntrusted_proxies=127.0.0.0/8\ndialect=nginx\n"
    );
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "trace");
    let server = sandbox.serve(&configuration);
    let (good, expired) =
        (fixture::good_token(), fixture::token(&fixture::claims(json!({ "exp": 1 }))));
    let before = requests(&server).len();
    for token in [&good, &expired] {
        server.auth(token);
        server.verify(token);
        for head in [
            format!("GET /auth?access_token={token} HTTP/1.1\r\n"),
            format!("GET /auth/x#access_token={token} HTTP/1.1\r\n"),
            format!("GET /nothing?{token} HTTP/1.1\r\n"),
            format!("GET http://user:{token}@host/auth HTTP/1.1\r\n"),
            format!("GET /auth HTTP/1.1\r\nCookie: session={token}; other=1\r\n"),
            format!(
                "GET /auth HTTP/1.1\r\nX-Token: {token}\r\nReferer: https://app/?t={token}\r\n"
            ),
            format!(
                "GET /auth HTTP/1.1\r\nX-Original-Method: GET\r\nX-Original-URI: /a?t={token}\r\n"
            ),
            format!(
                "GET /auth HTTP/1.1\r\nAuthorization: Basic {token}\r\nX-Forwarded-For: {token}\r\n"
            ),
            format!(
                "GET /api/v2/health HTTP/1.1\r\nX-Token: {token}\r\nAuthorization: Bearer {token}\r\n"
            ),
            // Malformed requests, which are refused while they are parsed.
            format!("GET /auth?{token}\r\n"),
            format!("GET /auth HTTP/1.1\r\nAuthorization : Bearer {token}\r\n"),
        ] {
            server.request(&head);
        }
        for body in [json!({ "token": token }).to_string(), format!("{{\"token\": \"{token}\"")] {
            request(server.address, "POST /v1/verify HTTP/1.1\r\n", body.as_bytes());
        }
    }
    let form = format!("token={expired}&client_id=ci&client_secret={client}");
    let head = "POST /v1/revoke HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(request(server.address, head, form.as_bytes()).status, 200);
    eventually(|| requests(&server).len() >= before + 20);
    let log = server.log();
    let parts = [&good, &expired].into_iter().flat_map(|token| token.split('.').skip(1));
    for secret in parts.chain([fixture::KEY, client, &hash["sha256:".len()..]]) {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn log_level_is_configured_and_reloads() {
    let sandbox = Sandbox::new();
    let with = |level: &str| format!("{SIGNING}[log]\nrequests=all\nlevel={level}\n");
    let server = sandbox.serve(&with("warn"));
    server.request("GET /auth HTTP/1.1\r\n");
    assert_eq!(server.log(), "", "requests are logged at level info");
    sandbox.replace("server.cfg", with("warn,request=info"));
    server.signal("HUP");
    eventually(|| {
        server.request("GET /auth HTTP/1.1\r\n");
        !requests(&server).is_empty()
    });
    assert_eq!(requests(&server).len(), server.log().lines().count(), "{}", server.log());
    let wrong = sandbox.file("wrong.cfg", with("loud=x"));
    let refused = sandbox.run(["config", "check", "--config", wrong.to_str().unwrap()]);
    assert!(
        refused.code() == 2 && refused.stderr.contains("level in log is not a filter"),
        "{refused:?}"
    );
}
