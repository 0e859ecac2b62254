/// Checks of the headers that a proxy must remove or replace.
mod headers;
/// Checks of paths without authorization, and of upgrades to WebSocket.
mod routes;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
};

use countersign_tests::{eventually, http::Connection, proxies::RelayTarget};
use serde_json::json;

use super::{
    Dialect, Proxy,
    world::{Exchange, World, bearer, good, good_but, token_without_keys, with_world},
};
use headers::{
    e1_client_cannot_forge_the_original_request, e1_descriptions_by_the_client_are_removed,
    e1_forwarded_headers_name_the_client, e2_connection_cannot_remove_proxy_headers,
    e2_identity_header_lookalikes_are_removed, e3_client_identity_headers_are_replaced,
    e3_trailers_do_not_change_the_identity, upgrade_to_http2_is_not_forwarded,
};
use routes::{
    e2_public_path_clears_identity_headers, e7_public_path_is_what_the_application_gets,
    routes_decide_about_the_client_request, websocket_needs_a_good_token,
};

/// Runs all [`CHECKS`] against a proxy. They share one [`World`], because starting it takes longer
/// than most of the checks.
#[track_caller]
pub(super) fn check(proxy: &Proxy) {
    with_world(proxy, |world| {
        let broken = |world: &mut World<'_>, check: Check| {
            catch_unwind(AssertUnwindSafe(|| check(world))).is_err()
        };
        let broken: Vec<_> = CHECKS
            .iter()
            .filter(|(_, check)| broken(world, *check))
            .map(|(name, _)| *name)
            .collect();
        assert!(
            broken.is_empty(),
            "failed checks:\n{}\nthe output above shows each failure",
            broken.join("\n")
        );
    });
}

type Check = fn(&mut World<'_>);

/// Pairs functions with their names.
macro_rules! checks {
    ($($name:ident,)*) => { &[$((stringify!($name), $name)),*] };
}

/// The order matters: later checks switch to another server.
const CHECKS: &[(&str, Check)] = checks![
    good_token_is_forwarded_with_identity,
    access_log_shows_the_client_request,
    refusals_carry_their_challenge,
    e4_two_credentials_are_refused,
    body_is_sent_only_to_the_application,
    every_method_is_authorized,
    e7_application_gets_the_authorized_target,
    e3_client_identity_headers_are_replaced,
    e2_identity_header_lookalikes_are_removed,
    e3_trailers_do_not_change_the_identity,
    e1_client_cannot_forge_the_original_request,
    e2_connection_cannot_remove_proxy_headers,
    e1_descriptions_by_the_client_are_removed,
    e1_forwarded_headers_name_the_client,
    upgrade_to_http2_is_not_forwarded,
    websocket_needs_a_good_token,
    e2_public_path_clears_identity_headers,
    e7_public_path_is_what_the_application_gets,
    malformed_request_is_the_fault_of_the_client,
    oversized_head_never_bypasses_authorization,
    client_address_is_forwarded,
    unavailable_keys_are_answered_with_503,
    e8_requests_are_independent,
    auth_connections_are_reused,
    forbidden_token_gets_403,
    routes_decide_about_the_client_request,
    e1_flood_gets_429,
    client_faults_keep_their_status,
    unreachable_countersign_blocks_all_requests,
];

/// The identity headers of the good token.
const IDENTITY: [(&str, &str); 7] = [
    ("X-Auth-Subject", "bob"),
    ("X-Auth-User", "bob@example.com"),
    ("X-Auth-Issuer", "https://people/"),
    ("X-Auth-Client-Types", "api"),
    ("X-Auth-Environment", "e1"),
    ("X-Auth-Tenant", ""),
    ("X-Auth-Allowed-Tenants", ""),
];

/// Asserts that the application gets the identity of the token, and Countersign the request of
/// the client.
fn assert_identity_and_request(world: &World<'_>, exchange: &Exchange, case: &str) {
    for (name, value) in IDENTITY {
        assert_eq!(
            exchange.given().lines(&name.to_lowercase()).concat(),
            value,
            "{case} {name} in {:?}",
            exchange.given()
        );
    }
    assert_eq!(
        world.proxy.dialect.original_request(exchange.auth_request()),
        ("GET".into(), "/page?x=1".into())
    );
    assert_eq!(
        exchange.auth_request().lines(&world.proxy.address_header.to_lowercase()),
        ["127.0.0.1"]
    );
}

fn good_token_is_forwarded_with_identity(world: &mut World<'_>) {
    let exchange = world.get(&bearer(&good()));
    assert_eq!((exchange.answer.status, exchange.answer.body.as_str()), (200, "hello"));
    assert_eq!(exchange.given().target, "/page?x=1");
    assert_identity_and_request(world, &exchange, "");
    assert!(
        exchange.answer.headers.iter().all(|(name, _)| !name.starts_with("x-auth")),
        "{:?}",
        exchange.answer
    );
    // Error answers of the application are passed on unchanged.
    for status in [401, 429, 500, 503] {
        let request = format!(
            "GET /status/{status} HTTP/1.1\r\nHost: shop.example\r\n{}\r\n",
            bearer(&good())
        );
        let answer = world.send(&request).answer;
        assert_eq!((answer.status, answer.body.as_str()), (status, "hello"));
    }
    let broken = world
        .send(&format!("GET /status/ HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", bearer(&good())))
        .answer;
    assert!(
        [502, 503].contains(&broken.status) && broken.header("retry-after").is_none(),
        "{broken:?}"
    );
}

fn access_log_shows_the_client_request(world: &mut World<'_>) {
    let forged = "X-Forwarded-Method: GET\r\nX-Original-URI: /evil\r\nX-Request-ID: evil\r\nX-Forwarded-For: 198.51.100.66\r\n";
    let request = format!(
        "DELETE /a/page?x=1 HTTP/1.1\r\nHost: shop.example\r\n{forged}{}\r\n",
        bearer(&good())
    );
    assert_eq!(world.send(&request).answer.status, 200);
    eventually(|| world.last_line().is_some_and(|line| line["method"] == "DELETE"));
    let line = world.last_line().unwrap();
    assert_eq!(
        (&line["uri"], &line["client"], &line["status"]),
        (&json!("/a/page"), &json!("127.0.0.1"), &json!(200))
    );
    assert_ne!(line["request_id"], "evil", "{line}");
}

fn refusals_carry_their_challenge(world: &mut World<'_>) {
    for lines in [
        "",
        "Authorization: Basic Ym9iOmJvYg==\r\n",
        "Authorization:\r\n",
        "Authorization: Bearer\r\n",
    ] {
        let missing = world.get(lines);
        missing.assert_refused(401);
        assert_eq!(missing.answer.header("www-authenticate"), Some("Bearer"), "{lines:?}");
    }
    let (good, other) = (good(), good_but(json!({ "sub": "eve" })));
    let spliced =
        format!("{}.{}", good.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    for (token, reason) in [
        (world.issuer.forged(0), "signature"),
        (spliced, "signature"),
        (good_but(json!({ "exp": 1 })), "expired"),
        (good_but(json!({ "aud": "them" })), "audience"),
        (good_but(json!({ "iss": "https://nobody/" })), "issuer"),
        ("abc".into(), ""),
        ("x".repeat(3000), ""),
    ] {
        let refused = world.get(&bearer(&token));
        refused.assert_refused(401);
        let challenge = refused.answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer error=\"invalid_token\"") && challenge.contains(reason),
            "{challenge}"
        );
    }
}

fn e4_two_credentials_are_refused(world: &mut World<'_>) {
    for pair in [
        [good(), good_but(json!({ "sub": "eve" }))],
        [good(), "abc".into()],
        ["abc".into(), good()],
    ] {
        let exchange = world.get(&pair.map(|token| bearer(&token)).concat());
        assert!([400, 401].contains(&exchange.answer.status), "{:?}", exchange.answer);
        assert!(exchange.seen.is_empty());
    }
}

fn body_is_sent_only_to_the_application(world: &mut World<'_>) {
    let head = format!("POST /form HTTP/1.1\r\nHost: shop.example\r\n{}", bearer(&good()));
    let long = "name=value&".repeat(10_000);
    for (rest, body) in [
        ("Content-Length: 10\r\n\r\nname=value".to_owned(), "name=value"),
        (
            "Transfer-Encoding: chunked\r\n\r\n4\r\nname\r\n6\r\n=value\r\n0\r\n\r\n".into(),
            "name=value",
        ),
        (format!("Content-Length: {}\r\n\r\n{long}", long.len()), &long),
    ] {
        let exchange = world.send(&format!("{head}{rest}"));
        assert_eq!(exchange.answer.status, 200, "{:?}", exchange.answer);
        assert_eq!(
            (exchange.given().method.as_str(), exchange.given().body.as_str()),
            ("POST", body)
        );
        let auth_request = exchange.auth_request();
        assert_eq!(
            world.proxy.dialect.original_request(auth_request),
            ("POST".into(), "/form".into())
        );
        assert!(
            auth_request.body.is_empty() && auth_request.lines("transfer-encoding").is_empty(),
            "{auth_request:?}"
        );
        assert!(
            ["", "0"].contains(&auth_request.header("content-length").unwrap_or_default()),
            "{auth_request:?}"
        );
    }
    // Expect: 100-continue concerns only the client and the proxy.
    let patient =
        world.send(&format!("{head}Expect: 100-continue\r\nContent-Length: 4\r\n\r\nname"));
    assert_eq!(patient.given().body, "name", "{:?}", patient.answer);
    assert!(patient.auth_request().lines("expect").is_empty(), "{:?}", patient.auth_request());
    world
        .send(&format!(
            "POST /form HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{long}",
            long.len()
        ))
        .assert_refused(401);
}

fn every_method_is_authorized(world: &mut World<'_>) {
    for method in
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE", "get"]
    {
        let request = |lines: &str| {
            let length = if ["POST", "PUT", "PATCH"].contains(&method) {
                "Content-Length: 0\r\n"
            } else {
                ""
            };
            world.send(&format!(
                "{method} /page HTTP/1.1\r\nHost: shop.example\r\n{length}{lines}\r\n"
            ))
        };
        let allowed = request(&bearer(&good()));
        if allowed.answer.status == 200 {
            assert_eq!(allowed.given().method, method);
            assert_eq!(
                world.proxy.dialect.original_request(allowed.auth_request()),
                (method.into(), "/page".into())
            );
            request("").assert_refused(401);
        } else {
            // A proxy may refuse unusual methods itself, with or without a token.
            assert!(
                ["PROPFIND", "PURGE", "get"].contains(&method),
                "{method}: {:?}",
                allowed.answer
            );
            allowed.assert_refused(allowed.answer.status);
            let status = request("").answer.status;
            assert!((400..600).contains(&status), "{method}: {status}");
        }
    }
}

fn e7_application_gets_the_authorized_target(world: &mut World<'_>) {
    let mut passed = 0;
    for target in [
        "/",
        "//",
        "/a//b",
        "/a/../b",
        "/a/./b",
        "/../b",
        "/%2e%2e/b",
        "/a%2Fb",
        "/a%2fb",
        "/a%5cb",
        "/a\\b",
        "/a;x=1/b",
        "/%61dmin",
        "/a%00b",
        "/a%b",
        "/a%0d%0aX-Auth-User:%20root",
        "/a b",
        "/a\tb",
        "/b\u{f8}b",
        "/a?x=1&y=%20&x=2",
        "/a?x=1;y=2",
        "/a?x=%zz",
        "/a?",
        "/a?/../b?c",
        "/a#b",
        "/a?x#b",
        "?x",
        "*",
        "a",
        "http://shop.example/a?x",
        "http://shop.example",
        "/_auth",
        "/auth",
        "/auth/",
        "/healthz",
    ] {
        let exchange = world.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: shop.example\r\n{}\r\n",
            bearer(&good())
        ));
        if exchange.answer.status == 200 {
            passed += 1;
            let original = world.proxy.dialect.original_request(exchange.auth_request());
            assert_eq!(original, ("GET".into(), exchange.given().target.clone()), "{target:?}");
        } else {
            assert!(
                (300..500).contains(&exchange.answer.status),
                "{target:?}: {:?}",
                exchange.answer
            );
            exchange.assert_refused(exchange.answer.status);
        }
        let refused = world.send(&format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        assert!((300..500).contains(&refused.answer.status), "{target:?}: {:?}", refused.answer);
        assert!(refused.seen.is_empty(), "{target:?}");
    }
    assert!(passed >= 12, "only {passed} targets were forwarded");
}

/// A request that a proxy forwards and Countersign cannot read.
fn malformed_request_is_the_fault_of_the_client(world: &mut World<'_>) {
    let many: String = (0..250).map(|line| format!("X-Pad-{line}: x\r\n")).collect();
    for lines in ["X-Odd: a\u{1}b\r\n", &many] {
        let exchange = world.get(&format!("{lines}{}", bearer(&good())));
        match exchange.answer.status {
            200 => assert_eq!(exchange.seen.len(), 1),
            status => {
                assert!([400, 431].contains(&status), "{lines:?}: {:?}", exchange.answer);
                exchange.assert_refused(status);
            }
        }
    }
}

/// Countersign and the proxies have different limits for the size of a head.
fn oversized_head_never_bypasses_authorization(world: &mut World<'_>) {
    for (lines, length) in [(1, 7000), (4, 7000), (9, 7000), (200, 10)] {
        let padding: String =
            (0..lines).map(|line| format!("X-Pad-{line}: {}\r\n", "x".repeat(length))).collect();
        let refused = world.get(&padding);
        assert!(
            (400..600).contains(&refused.answer.status),
            "{lines} of {length}: {:?}",
            refused.answer
        );
        assert!(refused.seen.is_empty());
        let exchange = world.get(&format!("{padding}{}", bearer(&good())));
        assert_eq!(
            exchange.answer.status == 200,
            exchange.seen.len() == 1,
            "{lines} of {length}: {:?}",
            exchange.answer
        );
    }
}

/// curl connects from another loopback address than the other checks.
fn client_address_is_forwarded(world: &mut World<'_>) {
    drop(world.relay.take());
    let url = format!("http://{}/page?x=1", world.address);
    let forged = format!("{}: 198.51.100.66", world.proxy.address_header);
    let authorization = format!("Authorization: Bearer {}", good());
    let arguments = [
        "--silent",
        "--interface",
        "127.0.0.2",
        "--write-out",
        "%{http_code}",
        "--header",
        &forged,
        "--header",
    ];
    let output =
        Command::new("curl").args(arguments).args([&authorization, &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello200");
    let asked = world.relay.take();
    assert_eq!(
        asked[0].lines(&world.proxy.address_header.to_lowercase()),
        ["127.0.0.2"],
        "{asked:?}"
    );
}

fn unavailable_keys_are_answered_with_503(world: &mut World<'_>) {
    let answer = world.get(&bearer(&token_without_keys()));
    answer.assert_refused(503);
    assert_eq!(answer.answer.header("retry-after"), Some("5"));
    // A 503 is an answer about one token: it is not repeated, and does not eject the server.
    for _ in 0..10 {
        let answer = world.get(&bearer(&token_without_keys()));
        answer.assert_refused(503);
        assert!(answer.asked.len() <= 1, "{} requests", answer.asked.len());
    }
    assert_eq!(world.get(&bearer(&good())).answer.status, 200);
}

fn e8_requests_are_independent(world: &mut World<'_>) {
    // Pipelined on one connection.
    let request = |user: &str, lines: &str| {
        format!("GET /{user} HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n")
    };
    let mut connection = Connection::open(world.address);
    connection.send_raw(
        format!("{}{}", request("bob", &bearer(&good())), request("nobody", "")).as_bytes(),
    );
    assert_eq!((connection.receive(false).status, connection.receive(false).status), (200, 401));

    // Concurrently, for several users.
    let address = world.address;
    drop(world.take_forwarded());
    std::thread::scope(|scope| {
        for user in ["ann", "ben", "cleo", "dan"] {
            let bearer = bearer(&good_but(json!({ "sub": user })));
            scope.spawn(move || {
                for _ in 0..20 {
                    let ask = |lines: &str| {
                        let mut connection = Connection::open(address);
                        connection.send_raw(request(user, lines).as_bytes());
                        connection.receive(false).status
                    };
                    assert_eq!((ask(&bearer), ask("")), (200, 401));
                }
            });
        }
    });
    let seen = world.take_forwarded();
    assert_eq!(seen.len(), 80);
    for given in seen {
        assert_eq!(given.target.trim_start_matches('/'), given.lines("x-auth-subject").concat());
    }
}

fn auth_connections_are_reused(world: &mut World<'_>) {
    const REQUESTS: usize = 20;
    let (good, before) = (bearer(&good()), world.relay.connections());
    for _ in 0..REQUESTS {
        assert_eq!(world.get(&good).answer.status, 200);
        world.get("").assert_refused(401);
    }
    let opened = world.relay.connections() - before;
    let kept = opened <= 4;
    assert!(
        kept == world.proxy.keeps_connections && opened <= 2 * REQUESTS,
        "{opened} connections for {} auth requests",
        2 * REQUESTS
    );
}

fn forbidden_token_gets_403(world: &mut World<'_>) {
    world.switch_to_strict();
    for token in [good_but(json!({ "aud": "them" })), good_but(json!({ "exp": 1 })), "abc".into()] {
        world.get(&bearer(&token)).assert_refused(403);
    }
    world.get("").assert_refused(401);
}

fn e1_flood_gets_429(world: &mut World<'_>) {
    world.switch_to_strict();
    let limited = (0..50).find_map(|batch| {
        let requests: Vec<_> = (32 * batch..32 * (batch + 1))
            .map(|number| {
                let header = world.proxy.address_header;
                let token = bearer(&world.issuer.forged(number));
                format!("{header}: 10.0.{}.{}\r\n{token}", number / 256, number % 256)
            })
            .collect();
        let (answers, seen) = world.get_all(&requests);
        assert!(seen.is_empty(), "{seen:?}");
        answers.into_iter().find(|answer| answer.status != 403)
    });
    let limited = limited.expect("every forged token was checked");
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
}

fn client_faults_keep_their_status(world: &mut World<'_>) {
    // Checks over gRPC and SPOP have their own forms of answers.
    if matches!(world.proxy.dialect, Dialect::Grpc | Dialect::Spop) {
        return;
    }
    for status in [400, 401, 403, 413, 429, 431, 503] {
        world.relay.retarget(RelayTarget::Status(status));
        world.get(&bearer(&good())).assert_refused(status);
    }
    world.switch_to_generic();
}

fn unreachable_countersign_blocks_all_requests(world: &mut World<'_>) {
    let good = bearer(&good());
    for way in [RelayTarget::Refused, RelayTarget::Close, RelayTarget::Garbage, RelayTarget::Hang] {
        world.relay.retarget(way);
        // For a proxy without a timeout, the connection is closed after the request has arrived.
        let exchange = if way == RelayTarget::Hang && !world.proxy.times_out {
            world.get_and_hang_up(&good)
        } else {
            world.get(&good)
        };
        exchange.assert_refused(world.proxy.status_when_down);
    }
    world.switch_to_generic();
}
