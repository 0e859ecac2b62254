use std::collections::BTreeMap;

use countersign_tests::{
    answers::{IDENTITY, assert_no_identity},
    binary::Sandbox,
    client::Protocol,
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::json;

use super::{ask, bearer, described, status, token, verify};
use crate::fixture;

over_every_protocol!(
    first_route_decides,
    public_route_looks_at_no_token,
    anonymous_route_refuses_a_bad_token,
    e7_ambiguous_path_is_denied,
    undescribed_request_is_denied,
);

const RULES: &str = "\
[route_health]
match=GET /healthz
public=true
[route_admin]
match=* /admin/*
roles=admin, root
[route_read]
match=GET /orders/*
scopes=orders:read
[route_write]
match=POST|PUT /orders/{id}
claims=email_verified is true, groups has editors or owner is me
[route_closed]
match=* /closed/*
deny=true
[route_feed]
match=GET /feed
anonymous=true
scopes=feed
";

fn rules() -> String {
    described("authorization=routes\nprotocols=http/1.1, h2", RULES)
}

#[test]
fn routes_decide_alike_on_every_surface() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&rules());
    let reader = token(json!({ "scope": "orders:read" }));
    let editor = token(json!({ "email_verified": true, "groups": ["editors"] }));
    let admin = token(json!({ "roles": ["root"] }));
    for (request, token, expected) in [
        (("GET", "/orders/7?x=1"), &reader, 200),
        (("HEAD", "/orders/7"), &reader, 200),
        (("GET", "/orders/7"), &admin, 403),
        (("DELETE", "/orders/7"), &reader, 403),
        (("PUT", "/orders/7"), &editor, 200),
        (("PUT", "/orders/7/items"), &editor, 403),
        (("PUT", "/orders/7"), &reader, 403),
        (("PATCH", "/admin/users"), &admin, 200),
        (("PATCH", "/admin/users"), &editor, 403),
        (("GET", "/closed/x"), &admin, 403),
        (("GET", "/elsewhere"), &admin, 403),
        (("GET", "/orders/..%2fadmin"), &reader, 403),
    ] {
        for _ in 0..2 {
            assert_eq!(status(&server, request, token), expected, "{request:?}");
        }
    }
}

fn first_route_decides(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&described("authorization=routes", RULES));
    let reader = bearer(&token(json!({ "scope": "orders:read" })));
    let allowed = ask(&server, ("GET", "/orders/7"), &reader);
    assert_eq!((allowed.status, allowed.header("x-auth-user")), (200, Some("bob")));
    let denied = ask(&server, ("GET", "/orders/7"), &bearer(&fixture::good_token()));
    assert_eq!(denied.status, 403);
    assert_no_identity(&denied);
    let challenge = denied.header("www-authenticate").unwrap();
    assert!(challenge.starts_with(r#"Bearer error="insufficient_scope""#), "{challenge}");
    assert!(challenge.ends_with(r#"scope="orders:read""#), "{challenge}");
    let other = ask(&server, ("GET", "/elsewhere"), &reader);
    assert_eq!((other.status, other.header("www-authenticate")), (403, None));
    assert_no_identity(&other);
    // Without a token, the rules are not revealed.
    for path in ["/orders/7", "/elsewhere", "/closed/x"] {
        assert_eq!(ask(&server, ("GET", path), "").status, 401, "{path}");
    }
    assert_eq!(server.metric(r#"countersign_verifications_total{outcome="denied",code=""}"#), 2);
}

fn public_route_looks_at_no_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&described("authorization=routes\nopen_paths=/static/*", RULES));
    for lines in ["", "Authorization: Bearer abc\r\n", &bearer(&fixture::good_token())] {
        for path in ["/healthz", "/static/a.css"] {
            let answer = ask(&server, ("GET", path), lines);
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
            assert!(IDENTITY.iter().all(|name| answer.header(name) == Some("")), "{answer:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
        assert_ne!(ask(&server, ("POST", "/healthz"), lines).status, 200);
        assert_ne!(ask(&server, ("GET", "/static/..%2fadmin/x"), lines).status, 200);
    }
    assert_eq!(server.metric(r#"countersign_verifications_total{outcome="public",code=""}"#), 6);
}

#[test]
fn open_paths_need_no_authorization_provider() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&described("open_paths=/static/*", ""));
    assert_eq!(ask(&server, ("GET", "/static/a"), "").status, 200);
    assert_eq!(ask(&server, ("GET", "/page"), "").status, 401);
    assert_eq!(ask(&server, ("GET", "/page"), &bearer(&fixture::good_token())).status, 200);
    assert_eq!(server.auth(&fixture::good_token()).status, 200, "a request without a description");
}

fn anonymous_route_refuses_a_bad_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&described("authorization=routes", RULES));
    let feed = |lines: &str| ask(&server, ("GET", "/feed"), lines);
    let anonymous = feed("");
    assert_eq!(anonymous.status, 200);
    assert!(IDENTITY.iter().all(|name| anonymous.header(name) == Some("")), "{anonymous:?}");
    let subscriber = feed(&bearer(&token(json!({ "scope": "feed" }))));
    assert_eq!((subscriber.status, subscriber.header("x-auth-user")), (200, Some("bob")));
    assert_eq!(feed(&bearer(&fixture::good_token())).status, 403);
    for lines in [bearer("abc"), bearer(&token(json!({ "exp": 1 })))] {
        assert_eq!(feed(&lines).status, 401, "{lines}");
    }
    let two = format!("{0}{0}", bearer(&fixture::good_token()));
    assert_eq!(feed(&two).status, 401, "two credentials");
    for value in ["", "Bearer", "Bearer a b", "Bearer:x", "Bearer\tx", "Basic YTpi"] {
        assert_eq!(feed(&format!("Authorization: {value}\r\n")).status, 401, "{value:?}");
    }
}

fn e7_ambiguous_path_is_denied(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let rules = "[route_admin]\nmatch=* /admin/*\ndeny=true\n[route_all]\nmatch=* /*\n";
    let server = sandbox.serve(&described("authorization=routes", rules));
    let good = bearer(&fixture::good_token());
    for (path, expected) in [
        ("/page", 200),
        ("/p%61ge", 200),
        ("/page?x=/../admin", 200),
        ("/admin/x", 403),
        ("/%61dmin/x", 403),
        ("/ADMIN/x", 403),
        ("/admin", 403),
        ("//admin/x", 403),
        ("/a/../admin/x", 403),
        ("/a/%2e%2e/admin/x", 403),
        ("/a/.%2E/admin/x", 403),
        ("/./admin/x", 403),
        ("/admin%2fx", 403),
        ("/admin;a=b/x", 403),
        ("/a%5c..%5cadmin", 403),
        ("/%2561dmin/x", 403),
        ("/admin%00/x", 403),
        ("/page%", 403),
        ("/page%3fx", 403),
        ("page", 403),
    ] {
        assert_eq!(ask(&server, ("GET", path), &good).status, expected, "{path}");
    }
}

fn undescribed_request_is_denied(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let all = "[route_all]\nmatch=* /*\n";
    let good = bearer(&fixture::good_token());
    let server = sandbox.serve(&described("authorization=routes", all));
    assert_eq!(ask(&server, ("GET", "/"), &good).status, 200);
    let plain = |lines: &str| server.request(&format!("GET /auth HTTP/1.1\r\n{lines}{good}"));
    for lines in [
        "",
        "X-Forwarded-Method: GET\r\n",
        "X-Forwarded-Uri: /\r\n",
        "X-Original-Method: GET\r\nX-Original-URI: /\r\n",
        "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /\r\nX-Forwarded-Uri: /\r\n",
        "X-Forwarded-Method: DELETE,GET\r\nX-Forwarded-Uri: /\r\n",
    ] {
        assert_eq!(plain(lines).status, 403, "{lines}");
    }
    assert_eq!(
        server.metric(r#"countersign_verifications_total{outcome="undescribed",code=""}"#),
        6
    );
    // A peer that is not a trusted proxy describes nothing.
    let sandbox = Sandbox::over(protocol);
    let untrusted = described("authorization=routes", all).replace("=127.0.0.1", "=127.0.0.9");
    assert_eq!(ask(&sandbox.serve(&untrusted), ("GET", "/"), &good).status, 403);
}

#[test]
fn reloaded_rules_apply_to_cached_tokens() {
    let sandbox = Sandbox::new();
    let configuration = |scope: &str| {
        let rule = format!("[route_all]\nmatch=* /*\nscopes={scope}\n");
        described("authorization=routes", &rule)
    };
    let server = sandbox.serve(&configuration("a"));
    let token = bearer(&token(json!({ "scope": "a" })));
    let page = || ask(&server, ("GET", "/page"), &token).status;
    assert_eq!([page(), page()], [200, 200]);
    server.reload_after(|| drop(sandbox.replace("server.cfg", configuration("b"))));
    assert_eq!([page(), page()], [403, 403]);
    server.reload_after(|| drop(sandbox.replace("server.cfg", configuration("a"))));
    assert_eq!(page(), 200);
}

#[test]
fn request_is_authorized_after_the_wait_for_keys() {
    let [before, after] = ["a", "b"].map(|kid| SigningKey::generate("ES256", kid));
    let keys = JwksServer::start(&fixture::key_set(&[&before]));
    let section = fixture::issuer_section(
        "idp",
        "ES256",
        "https://idp/",
        &format!("jwks_uri={}\njwks_cool_down=1", keys.uri()),
    );
    let rules = "[route_page]\nmatch=GET /page\nissuers=idp\n";
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&described("authorization=routes", &format!("{rules}{section}")));
    keys.publish(&fixture::key_set(&[&before, &after]));
    let token = |number: u64| {
        let mut claims = fixture::claims_of("https://idp/");
        claims["n"] = number.into();
        bearer(&after.token(&claims))
    };
    let statuses: BTreeMap<_, _> = [("/other", 1), ("/page", 2)]
        .map(|(path, number)| (path, ask(&server, ("GET", path), &token(number)).status))
        .into();
    assert_eq!(statuses, BTreeMap::from([("/other", 403), ("/page", 200)]));
}

#[test]
fn verify_explains_a_denial() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&rules());
    let good = fixture::good_token();
    let request = |uri: &str| json!({ "method": "GET", "uri": uri });
    let denied = verify(&server, &json!({ "token": good, "request": request("/orders/1") }));
    assert_eq!((denied.status, &denied.json()["code"]), (403, &json!("denied")));
    assert!(denied.body.contains("[route_read] requires"), "{denied:?}");
    assert!(denied.header("www-authenticate").unwrap().contains("insufficient_scope"));
    let without = verify(&server, &json!({ "token": good }));
    assert_eq!((without.status, without.json().get("allowed")), (200, None));
    for request in [json!({}), json!({ "method": "GET" }), json!({ "method": 1, "uri": "/" })] {
        let answer = verify(&server, &json!({ "token": good, "request": request }));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("body")), "{request}");
    }
    let headers = json!({ "method": "GET", "uri": "/", "headers": { "a b": "c" } });
    assert_eq!(verify(&server, &json!({ "token": good, "request": headers })).status, 400);
}

#[test]
fn e7_request_that_cannot_be_read_is_not_verified_alone() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&rules());
    let good = fixture::good_token();
    let send = |body: &str| server.send("POST /v1/verify HTTP/1.1\r\n", body.as_bytes());
    let request = r#"{"method": "GET", "uri": "/closed/x"}"#;
    for member in [
        r#""request": null"#.to_owned(),
        format!(r#""Request": {request}"#),
        format!(r#""requests": [{request}]"#),
        r#""request": {"method": "", "uri": "/feed"}"#.into(),
        r#""request": {"method": "GET ", "uri": "/feed"}"#.into(),
        r#""request": {"method": "DELETE,GET", "uri": "/feed"}"#.into(),
        r#""request": {"method": "GET", "uri": "/feed", "headers": {"a": "1", "A": "2"}}"#.into(),
        r#""request": {"method": "GET", "uri": "/feed", "headers": {"a": "1", "a": "2"}}"#.into(),
    ] {
        let answer = send(&format!(r#"{{"token": "{good}", {member}}}"#));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("body")), "{member}");
    }
    for field in ["request=x", "%72equest=x", "Request", "requests="] {
        let answer = send(&format!("token={good}&{field}"));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("body")), "{field}");
        assert!(answer.body.contains("send JSON"), "{answer:?}");
    }
    assert_eq!(send(&format!(r#"{{"token": "{good}", "other": [1]}}"#)).status, 200);
    assert_eq!(send(&format!("token={good}&other=1")).status, 200);
}
