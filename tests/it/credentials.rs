use countersign_tests::{
    answers::IDENTITY,
    binary::{Sandbox, Server},
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request, with_method},
    over_every_protocol,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

over_every_protocol!(
    bearer_may_be_followed_by_several_spaces,
    several_additional_headers_are_read,
    token_cookie_counts_for_safe_methods,
    token_cookie_needs_the_own_site_for_a_post,
    token_cookie_opens_no_web_socket_of_another_site,
    token_cookie_conflicts_with_another_token,
    token_cookie_is_no_credential_of_the_api,
    preflight_needs_no_token,
    preflight_is_refused_by_default,
);

/// Options for the cookie `t`, behind a trusted proxy that states the method.
const COOKIE: &str = "\
[server]\ntoken_cookie=t\n[listen]\ntrusted_proxies=127.0.0.1\ndialect=x-forwarded\n";

fn status(server: &Server<'_>, lines: &str) -> u16 {
    server.request(&format!("GET /auth HTTP/1.1\r\n{lines}")).status
}

fn token_of(name: &str) -> String {
    fixture::token(&fixture::claims(json!({ "sub": name })))
}

fn bearer_may_be_followed_by_several_spaces(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let good = fixture::good_token();
    for spaces in [" ", "  ", "     "] {
        assert_eq!(status(&server, &format!("Authorization: Bearer{spaces}{good}\r\n")), 200);
    }
    for line in [format!("Bearer\t{good}"), format!("Bearer  {good} x"), format!("Bearer{good}")] {
        assert_eq!(status(&server, &format!("Authorization: {line}\r\n")), 401);
    }
}

fn several_additional_headers_are_read(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let headers = "[server]\nauth_additional_header=X-Forwarded-Authorization, X-Jwt\n";
    let server = sandbox.serve(&format!("{SIGNING}{headers}"));
    let (good, other) = (fixture::good_token(), token_of("alice"));
    for name in ["X-Forwarded-Authorization", "X-Jwt"] {
        for scheme in ["", "Bearer ", "bearer  "] {
            let line = format!("{name}: {scheme}{good}\r\n");
            assert_eq!(status(&server, &line), 200, "{name}: {scheme}");
            let both = format!("{line}Authorization: Bearer {other}\r\n");
            let response = server.request(&format!("GET /auth HTTP/1.1\r\n{both}"));
            assert_eq!(response.header("x-auth-user"), Some("bob"), "{name}: {scheme}");
        }
    }
    let two = |one: &str, other: &str| {
        format!("X-Forwarded-Authorization: Bearer {one}\r\nX-Jwt: {other}\r\n")
    };
    assert_eq!(status(&server, &two(&good, &good)), 200);
    assert_eq!(status(&server, &two(&good, &other)), 401);
    assert_eq!(server.metric("countersign_verifications_total{outcome=\"conflict\",code=\"\"}"), 1);
}

fn token_cookie_counts_for_safe_methods(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{COOKIE}"));
    let good = fixture::good_token();
    for lines in [
        format!("Cookie: t={good}\r\n"),
        format!("Cookie: x=1; t=\"{good}\"; y=2\r\n"),
        format!("Cookie: x=1\r\nCookie: t={good}\r\nCookie: y=2\r\n"),
    ] {
        let lines = format!("X-Forwarded-Method: GET\r\nSec-Fetch-Site: cross-site\r\n{lines}");
        assert_eq!(status(&server, &lines), 200, "{lines}");
    }
    for lines in [
        format!("Cookie: T={good}\r\n"),
        format!("Cookie: access_token={good}\r\n"),
        format!("X-Forwarded-Uri: /ws?t={good}&access_token={good}\r\n"),
        "Cookie: t=\r\n".into(),
    ] {
        let response = server.request(&format!("GET /auth?t={good} HTTP/1.1\r\n{lines}"));
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")));
    }
}

fn token_cookie_needs_the_own_site_for_a_post(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{COOKIE}"));
    let good = fixture::good_token();
    let host = "X-Forwarded-Host: app.example\r\nX-Forwarded-Proto: https\r\n";
    let post = |lines: &str| {
        let lines = format!("X-Forwarded-Method: POST\r\n{host}Cookie: t={good}\r\n{lines}");
        server.request(&format!("GET /auth HTTP/1.1\r\n{lines}"))
    };
    for lines in [
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: same-origin\r\nOrigin: https://evil.example\r\n",
        "Origin: https://app.example\r\n",
    ] {
        assert_eq!(post(lines).status, 200, "{lines}");
    }
    let refused = [
        "",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://app.example\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: http://app.example\r\n",
        "Origin: null\r\n",
    ];
    for lines in refused {
        let response = post(lines);
        assert_eq!(response.status, 403, "{lines}");
        let challenge = response.header("www-authenticate").unwrap();
        assert!(challenge.contains("may come from another site"), "{challenge}");
        assert!(response.header("x-auth-user").is_none());
    }
    let counted =
        server.metric("countersign_verifications_total{outcome=\"cross_site\",code=\"\"}");
    assert_eq!(counted, refused.len() as u64);
    // The same token in a header, which a browser sends for no other site without asking.
    assert_eq!(post(&format!("Authorization: Bearer {good}\r\n")).status, 200);
    // A GET that an application may take for something else.
    for line in ["X-HTTP-Method-Override: DELETE", "X_HTTP_Method_Override: DELETE"] {
        let lines = format!("X-Forwarded-Method: GET\r\nCookie: t={good}\r\n{line}\r\n");
        assert_eq!(status(&server, &lines), 403, "{line}");
    }
}

fn token_cookie_opens_no_web_socket_of_another_site(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{COOKIE}"));
    let get = format!("X-Forwarded-Method: GET\r\nCookie: t={}\r\n", fixture::good_token());
    // Proxies remove `Upgrade` from checks. HTTP/2 and HTTP/3 do not have it.
    let mut handshakes = vec!["Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"];
    if protocol == Protocol::Http1 {
        handshakes.extend(["Upgrade: websocket\r\n", "Connection: upgrade\r\n"]);
    }
    for handshake in handshakes {
        for (site, expected) in [
            ("", 403),
            ("Origin: https://evil.example\r\n", 403),
            ("Sec-Fetch-Site: cross-site\r\n", 403),
            ("Sec-Fetch-Site: same-origin\r\n", 200),
        ] {
            assert_eq!(status(&server, &format!("{get}{handshake}{site}")), expected, "{site}");
        }
    }
}

fn token_cookie_conflicts_with_another_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{COOKIE}"));
    let (good, other) = (fixture::good_token(), token_of("alice"));
    for (lines, expected) in [
        (format!("Cookie: t={good}\r\nAuthorization: Bearer {good}\r\n"), 200),
        (format!("Cookie: t={good}\r\nAuthorization: Bearer {other}\r\n"), 401),
        (format!("Cookie: t=garbage\r\nAuthorization: Bearer {good}\r\n"), 401),
        (format!("Cookie: t={good}; t={other}\r\n"), 401),
        (format!("Cookie: t={good}\r\nCookie: t={other}\r\n"), 401),
        (format!("Cookie: t={good}; t={good}\r\n"), 200),
    ] {
        let lines = format!("GET /auth HTTP/1.1\r\nX-Forwarded-Method: GET\r\n{lines}");
        let response = server.request(&lines);
        assert_eq!(response.status, expected, "{lines}");
        if expected == 401 {
            assert!(response.header("www-authenticate").unwrap().contains("invalid_request"));
        }
    }
}

fn token_cookie_is_no_credential_of_the_api(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{COOKIE}[server]\nauth=true\n"));
    let lines = format!("Cookie: t={}\r\n", fixture::good_token());
    assert_eq!(server.request(&format!("POST /v1/verify HTTP/1.1\r\n{lines}")).status, 400);
    let list = server.request(&format!("GET /api/v2/environment HTTP/1.1\r\n{lines}"));
    assert_eq!(list.status, 401);
}

#[test]
fn token_cookie_of_an_unstated_method_needs_no_proof() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[server]\ntoken_cookie=t\n"));
    let cookie = format!("Cookie: t={}\r\n", fixture::good_token());
    for (lines, expected) in [
        ("", 200),
        ("Sec-Fetch-Site: same-origin\r\n", 200),
        ("Origin: http://test\r\n", 200),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Origin: https://evil.example\r\n", 403),
        ("X-Forwarded-Method: POST\r\n", 403),
        ("X-Original-Method: POST\r\n", 403),
    ] {
        assert_eq!(status(&server, &format!("{cookie}{lines}")), expected, "{lines}");
    }
    let post = server.request(&format!("POST /auth HTTP/1.1\r\n{cookie}"));
    assert_eq!(post.status, 403);
}

#[test]
fn token_cookie_is_removed_by_a_check() {
    let listen = "protocols=http/1.1, h2\n";
    for (options, rest) in [("", true), ("[ext_authz]\nforward_credentials=true\n", false)] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&format!("{SIGNING}{COOKIE}{listen}{options}"));
        let envoy = Envoy::plain(server.address);
        let outcome = |method: &str, lines: &[(&str, &str)]| -> CheckOutcome {
            CheckOutcome::of(envoy.check(with_method(check_request(lines), method)).unwrap())
        };
        let token = fixture::good_token();
        let (alone, among) = (format!("t={token}"), format!("x=1; t={token}; y=2"));
        let cross = ("sec-fetch-site", "cross-site");
        let one = outcome("GET", &[("cookie", &alone), cross]);
        assert_eq!((one.status, one.header("cookie")), (200, None));
        assert_eq!(one.removed.iter().any(|name| name == "cookie"), rest);
        let several = outcome("GET", &[("cookie", &among), cross]);
        assert_eq!((several.status, several.header("cookie")), (200, rest.then_some("x=1; y=2")));
        assert!(!several.removed.iter().any(|name| name == "cookie"));
        let crumbs = outcome("GET", &[("cookie", "x=1"), ("cookie", &alone), ("cookie", "y=2")]);
        assert_eq!((crumbs.status, crumbs.header("cookie")), (200, rest.then_some("x=1; y=2")));
        let post = |lines: &[(&str, &str)]| {
            outcome("POST", &[&[("cookie", alone.as_str())], lines].concat()).status
        };
        assert_eq!([post(&[]), post(&[cross])], [403, 403]);
        assert_eq!(post(&[("origin", "https://shop.example")]), 200);
        assert_eq!(post(&[("origin", "http://shop.example")]), 403);
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), 200);
        let upgrade = ("upgrade", "websocket");
        assert_eq!(outcome("GET", &[("cookie", &alone), upgrade, cross]).status, 403);
    }
}

const PREFLIGHT: &str = "\
    X-Forwarded-Method: OPTIONS\r\nOrigin: https://app.example\r\n\
    Access-Control-Request-Method: PUT\r\n";

fn preflight_needs_no_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "[server]\ntoken_cookie=t\nauth_additional_header=X-Jwt\n\
                   [listen]\npreflight=allow\ntrusted_proxies=127.0.0.1\ndialect=x-forwarded\n";
    let server = sandbox.serve(&format!("{SIGNING}{options}"));
    for method in ["GET", "OPTIONS"] {
        let head = format!("{method} /auth HTTP/1.1\r\n{PREFLIGHT}X-Auth-User: root\r\n");
        let response = server.request(&head);
        assert_eq!(response.status, 200);
        assert!(IDENTITY.iter().all(|name| response.header(name) == Some("")), "{response:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    assert_eq!(
        server.metric("countersign_verifications_total{outcome=\"preflight\",code=\"\"}"),
        2
    );
    // With a token, it is verified as any request.
    for line in ["Authorization: Bearer abc", "X-Jwt: abc", "Cookie: t=abc"] {
        assert_eq!(status(&server, &format!("{PREFLIGHT}{line}\r\n")), 401, "{line}");
    }
    let good = format!("{PREFLIGHT}Authorization: Bearer {}\r\n", fixture::good_token());
    let verified = server.request(&format!("GET /auth HTTP/1.1\r\n{good}"));
    assert_eq!((verified.status, verified.header("x-auth-user")), (200, Some("bob")));
    for line in [
        "Authorization: Basic Ym9iOnB3",
        "X-HTTP-Method-Override: DELETE",
        "X_HTTP_Method_Override: DELETE",
        "X-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Forwarded-Method: DELETE",
        "Origin: https://other.example",
        "Sec-WebSocket-Key: eA==",
    ] {
        assert_eq!(status(&server, &format!("{PREFLIGHT}{line}\r\n")), 401, "{line}");
    }
    let without = |name: &str| {
        let lines = PREFLIGHT.split_inclusive("\r\n").filter(|line| !line.starts_with(name));
        lines.collect::<String>()
    };
    for name in ["X-Forwarded-Method", "Origin", "Access-Control-Request-Method"] {
        assert_eq!(status(&server, &without(name)), 401, "{name}");
    }
    // The method of the check itself proves nothing in this dialect.
    let own = format!("OPTIONS /auth HTTP/1.1\r\n{}", without("X-Forwarded-Method"));
    assert_eq!(server.request(&own).status, 401);
}

fn preflight_is_refused_by_default(protocol: Protocol) {
    for options in [
        "trusted_proxies=127.0.0.1\ndialect=x-forwarded\n",
        "trusted_proxies=10.0.0.1\ndialect=x-forwarded\npreflight=allow\n",
        "trusted_proxies=127.0.0.1\ndialect=nginx\npreflight=allow\n",
    ] {
        let sandbox = Sandbox::over(protocol);
        let server = sandbox.serve(&format!("{SIGNING}[listen]\n{options}"));
        assert_eq!(status(&server, PREFLIGHT), 401, "{options}");
    }
}

#[test]
fn preflight_needs_a_dialect_and_a_trusted_proxy() {
    for (options, is_valid) in [
        ("trusted_proxies=127.0.0.1\ndialect=nginx\n", true),
        ("trusted_proxies=127.0.0.1\n", false),
        ("trusted_proxies=127.0.0.1\ndialect=none\n", false),
        ("trusted_proxies=\ndialect=nginx\n", false),
        ("dialect=nginx\n", false),
    ] {
        let sandbox = Sandbox::new();
        sandbox.file("server.cfg", format!("{SIGNING}[listen]\npreflight=allow\n{options}"));
        let output = sandbox.run(["config", "check", "--config", "server.cfg"]);
        assert_eq!(output.status.success(), is_valid, "{options}: {output:?}");
        assert_eq!(output.stdout.contains("allows CORS preflights without a token"), is_valid);
    }
}

#[test]
fn preflight_in_a_check_has_no_identity() {
    const METHOD: (&str, &str) = ("access-control-request-method", "PUT");
    const ORIGIN: (&str, &str) = ("origin", "https://app.example");
    let common = "protocols=http/1.1, h2\npreflight=allow\ndialect=envoy-path\n";
    for (trusted, expected) in [("127.0.0.1", 200), ("10.0.0.1", 401)] {
        let sandbox = Sandbox::new();
        let server =
            sandbox.serve(&format!("{SIGNING}[listen]\n{common}trusted_proxies={trusted}\n"));
        let envoy = Envoy::plain(server.address);
        let check = |method: &str, lines: &[(&str, &str)]| {
            CheckOutcome::of(envoy.check(with_method(check_request(lines), method)).unwrap())
        };
        let spoofed = [METHOD, ORIGIN, ("x-auth-user", "root"), ("x_auth_user", "root")];
        let outcome = check("OPTIONS", &spoofed);
        assert_eq!(outcome.status, expected);
        if expected == 200 {
            assert!(outcome.set.is_empty(), "{outcome:?}");
            let is_removed = |name: &&str| outcome.removed.iter().any(|one| one == name);
            assert!(IDENTITY.iter().chain(&["x_auth_user"]).all(is_removed), "{outcome:?}");
        }
        for (method, line) in [
            ("GET", ("x", "y")),
            ("OPTIONS", ("x-http-method-override", "DELETE")),
            ("OPTIONS", ("X.HTTP~Method-Override", "DELETE")),
            ("OPTIONS", ("authorization", "Bearer abc")),
        ] {
            assert_eq!(check(method, &[METHOD, ORIGIN, line]).status, 401, "{method} {line:?}");
        }
    }
}
