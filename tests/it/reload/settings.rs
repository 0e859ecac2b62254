use std::sync::atomic::{AtomicBool, Ordering};

use countersign_tests::{
    binary::Sandbox,
    http::{Connection, request},
    openssl::SigningKey,
    providers::JwksServer,
};
use serde_json::{Value, json};

use super::{SECOND, auth_status, reload, reload_completely, second_token};
use crate::fixture::{self, SIGNING, key_set};

#[test]
fn reload_adds_and_removes_issuers() {
    let (sandbox, token) = (Sandbox::new(), second_token());
    let server = sandbox.serve(SIGNING);
    let mut connection = Connection::open(server.address);
    assert_eq!(auth_status(&mut connection, &token), 401);
    reload_completely(&sandbox, &server, &format!("{SIGNING}{SECOND}"));
    // Repeated, so that the result is cached.
    for _ in 0..3 {
        assert_eq!(auth_status(&mut connection, &token), 200);
    }
    assert_eq!(server.verify(&token).status, 200);
    reload_completely(&sandbox, &server, SIGNING);
    assert_eq!(
        auth_status(&mut connection, &token),
        401,
        "effective with the next request on an open connection"
    );
    assert_eq!(
        (server.verify(&token).status, server.auth(&fixture::good_token()).status),
        (401, 200)
    );
    reload_completely(&sandbox, &server, &format!("{SIGNING}{SECOND}"));
    assert_eq!(auth_status(&mut connection, &token), 200);
}

#[test]
fn reload_without_issuers_refuses_every_token() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    reload_completely(&sandbox, &server, "");
    assert_eq!(server.auth(&fixture::good_token()).status, 401);
    assert!(
        server.log().contains("no auth_jwt_* section any more: every token is rejected"),
        "{}",
        server.log()
    );
}

/// Returns the guide's section, [`SIGNING`], with one line replaced.
fn with(option: &str, value: &str) -> String {
    let line = |line: &str| {
        if line.starts_with(&format!("{option}=")) {
            format!("{option}={value}\n")
        } else {
            format!("{line}\n")
        }
    };
    SIGNING.lines().map(line).collect()
}

#[test]
fn reload_changes_claim_rules_at_once() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut connection = Connection::open(server.address);
    let token = fixture::good_token();
    let other = fixture::token(&fixture::claims(json!({ "aud": "other" })));
    assert_eq!(
        (auth_status(&mut connection, &token), auth_status(&mut connection, &other)),
        (200, 401)
    );
    reload_completely(&sandbox, &server, &with("audience", "other"));
    assert_eq!(
        (auth_status(&mut connection, &token), auth_status(&mut connection, &other)),
        (401, 200)
    );
    reload_completely(&sandbox, &server, &with("audience", "other\nclaims=sub is carol"));
    assert_eq!(auth_status(&mut connection, &other), 403);
    let carol = fixture::token(&fixture::claims(json!({ "aud": "other", "sub": "carol" })));
    assert_eq!(auth_status(&mut connection, &carol), 200);
    reload_completely(&sandbox, &server, SIGNING);
    assert_eq!(
        (auth_status(&mut connection, &token), auth_status(&mut connection, &other)),
        (200, 401)
    );
    // Another secret invalidates tokens signed with the old one.
    reload_completely(
        &sandbox,
        &server,
        &with("key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"),
    );
    assert_eq!(auth_status(&mut connection, &token), 401);
}

#[test]
fn reload_changes_answers_at_once() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut connection = Connection::open(server.address);
    let mut auth = |token: &str| {
        connection.send(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
        connection.receive(false)
    };
    let token = fixture::good_token();
    assert_eq!(auth(&token).header("x-auth-user"), Some("bob"));
    reload_completely(
        &sandbox,
        &server,
        &format!("{SIGNING}[identity_headers]\nuser=X-Who\ntenant=\n"),
    );
    let answer = auth(&token);
    assert_eq!(
        (answer.header("x-who"), answer.header("x-auth-user"), answer.header("x-auth-tenant")),
        (Some("bob"), None, None)
    );
    assert_eq!(auth("a.b.c").status, 401);
    reload_completely(&sandbox, &server, &format!("{SIGNING}[listen]\nsurface=inmanta\n"));
    let answer = auth(&token);
    assert_eq!(
        (auth("a.b.c").status, answer.header("x-who"), answer.header("x-auth-user")),
        (403, None, Some("bob"))
    );
    reload_completely(
        &sandbox,
        &server,
        &format!("{SIGNING}[listen]\nsurface=inmanta\n[server]\nrejected_token_status=401\n"),
    );
    assert_eq!(auth("a.b.c").status, 401);
}

#[test]
fn reload_adds_and_removes_api_clients() {
    let sandbox = Sandbox::new();
    let made = sandbox.run(["key", "client", "ci"]);
    let (secret, line) = {
        let words: Vec<_> = made.text().split_whitespace().collect();
        let hash = words.iter().find(|word| word.contains("sha256:")).unwrap();
        let hash = &hash[hash.find("sha256:").unwrap()..];
        let secret =
            words.iter().rev().find(|word| word.len() > 30 && !word.contains("sha256:")).unwrap();
        ((*secret).to_owned(), format!("[api_clients]\nci = {hash}\n"))
    };
    let server = sandbox.serve(SIGNING);
    let token = fixture::good_token();
    let body = format!("token={token}&client_id=ci&client_secret={secret}");
    let head = "POST /v1/revoke HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let revoke = || request(server.address, head, body.as_bytes()).status;
    assert_eq!(revoke(), 401);
    reload_completely(&sandbox, &server, &format!("{SIGNING}{line}"));
    assert_eq!((revoke(), server.auth(&token).status), (200, 401));
    reload_completely(&sandbox, &server, SIGNING);
    assert_eq!(
        (revoke(), server.auth(&token).status),
        (401, 401),
        "a revocation outlives the client that made it"
    );
}

#[test]
fn reload_changes_trusted_proxies_and_access_log() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut connection = Connection::open(server.address);
    let mut lines = || -> Vec<Value> {
        let head = "GET /auth HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9\r\nX-Original-Method: PUT\r\nX-Original-URI: /orders\r\n";
        connection.send(head, b"");
        assert_eq!(connection.receive(false).status, 401);
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "request").collect()
    };
    assert_eq!(lines().len(), 0);
    reload_completely(&sandbox, &server, &format!("{SIGNING}[log]\nrequests=all\n"));
    let written = lines();
    let [line] = &written[..] else { panic!("{written:?}") };
    assert_eq!(
        (&line["client"], &line["method"], &line["uri"]),
        (&json!("127.0.0.1"), &json!("GET"), &json!("/auth"))
    );
    let trusting = "[listen]\ntrusted_proxies=127.0.0.0/8\ndialect=nginx\n";
    reload_completely(&sandbox, &server, &format!("{SIGNING}[log]\nrequests=refused\n{trusting}"));
    let line = lines().pop().unwrap();
    assert_eq!(
        (&line["client"], &line["method"], &line["uri"]),
        (&json!("203.0.113.9"), &json!("PUT"), &json!("/orders"))
    );
    reload_completely(&sandbox, &server, SIGNING);
    assert_eq!(lines().len(), 2);
}

#[test]
fn reload_names_settings_that_need_a_restart() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[listener_gone]\nbind=127.0.0.1:0\n"));
    let next = format!(
        "{SIGNING}{SECOND}[listen]\nthreads=7\n[cache]\nmegabytes=1\n[limits]\nidle_timeout=5\n[log]\nformat=human\n\
         [crypto]\nrsa=aws-lc\n[revocation]\ncapacity=77\n[listener_new]\nbind=127.0.0.1:0\n[server]\nbind_address=127.0.0.2\n"
    );
    // The message is repeated with every reload.
    for _ in 0..2 {
        let message = reload(&sandbox, &server, &next);
        for name in [
            "threads in [listen]",
            "[cache]",
            "rsa in [crypto]",
            "[limits]",
            "format in [log]",
            "[revocation]",
            "listener new",
            "listener gone",
            "where listener main is",
        ] {
            assert!(message.contains(name), "{name} is not in {message}");
        }
        assert!(
            message.contains("\"level\":\"WARN\"")
                && message.contains("in force; these changes need a restart"),
            "{message}"
        );
        assert_eq!(server.auth(&second_token()).status, 200);
    }
    let back = reload(&sandbox, &server, &format!("{SIGNING}[listener_gone]\nbind=127.0.0.1:0\n"));
    assert!(!back.contains("restart"), "{back}");
}

#[test]
fn requests_succeed_during_reloads() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let configuration = |second: &str| {
        fixture::with_idp("ES256", &format!("jwks_uri={}\n", provider.uri())) + second
    };
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let tokens = [fixture::good_token(), key.token(&fixture::claims_of("https://idp/"))];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients = tokens.each_ref().map(|token| {
            let (address, is_over) = (server.address, &is_over);
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                let mut answers = 0;
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(auth_status(&mut connection, token), 200);
                    answers += 1;
                    std::thread::yield_now();
                }
                answers
            })
        });
        for round in 0..20 {
            let second = [SECOND, "[identity_headers]\nuser=X-Who\n"][round % 2];
            reload_completely(&sandbox, &server, &configuration(second));
            assert_eq!(server.operations("/ready").status, 200);
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 20);
        }
    });
    let fetches = "countersign_issuer_keys_fetches_total";
    let started = format!(r#"{fetches}{{section="auth_jwt_oidc",cause="start"}}"#);
    assert_eq!(server.metric(&started), 1);
}
