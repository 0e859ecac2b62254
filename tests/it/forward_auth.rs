use countersign_tests::{
    answers::{IDENTITY, assert_refused},
    binary::{Sandbox, Server},
    client::Protocol,
    http::{Connection, Response},
    over_every_protocol,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

over_every_protocol!(
    auth_returns_identity_headers_without_a_body,
    environment_of_a_token_is_handed_on,
    missing_token_challenge_names_no_error,
    additional_header_overrides_authorization,
    identity_headers_can_be_renamed_and_disabled,
    auth_ignores_the_body,
    inmanta_profile_refuses_with_403_and_no_body,
);

fn get(server: &Server<'_>, lines: &str) -> Response {
    server.request(&format!("GET /auth HTTP/1.1\r\n{lines}"))
}

fn auth_returns_identity_headers_without_a_body(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let token = fixture::token(&fixture::claims(
        json!({ "sub": "böb 100%", "urn:inmanta:ct": ["api", "agent"], "urn:inmanta:env": "é 1" }),
    ));
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "PROPFIND"] {
        for path in ["/auth", "/auth/", "/auth/some/path?query=1", "/auth?x"] {
            let response = server
                .request(&format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"));
            assert_eq!(response.status, 200, "{method} {path}");
            let values = IDENTITY.map(|name| response.header(name).unwrap().to_owned());
            let name = "b%C3%B6b%20100%25";
            assert_eq!(values, [name, name, fixture::ISSUER, "api,agent", "%C3%A9%201", ""]);
            assert_eq!(response.header("cache-control"), Some("no-store"));
            // In HTTP/2 and HTTP/3 the end of the stream ends the body.
            let length = (protocol == Protocol::Http1).then_some("0");
            assert_eq!((response.body.as_str(), response.header("content-length")), ("", length));
        }
    }
    assert_eq!(server.request("GET /authx HTTP/1.1\r\n").status, 404);
}

fn environment_of_a_token_is_handed_on(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let scoped = fixture::token(&fixture::claims(json!({ "urn:inmanta:env": "e1" })));
    for _ in 0..2 {
        for (token, environment) in [(&scoped, "e1"), (&fixture::good_token(), "")] {
            let lines = format!("X-Auth-Environment: e2\r\nAuthorization: Bearer {token}\r\n");
            let response = get(&server, &lines);
            assert_eq!(response.header("x-auth-environment"), Some(environment));
        }
    }
}

fn missing_token_challenge_names_no_error(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    for lines in [
        "",
        "Authorization: Basic Ym9iOnB3\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer a b\r\n",
    ] {
        assert_refused(&get(&server, lines), "Bearer");
    }
}

fn additional_header_overrides_authorization(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox
        .serve(&format!("{SIGNING}[server]\nauth_additional_header=Cf-Access-Jwt-Assertion\n"));
    let user = |name: &str| fixture::token(&fixture::claims(json!({ "sub": name })));
    let subject = |lines: &str| get(&server, lines).header("x-auth-subject").map(str::to_owned);
    let (cloudflare, bearer) = (user("cloudflare"), user("bearer"));
    let both =
        format!("Cf-Access-Jwt-Assertion: {cloudflare}\r\nAuthorization: Bearer {bearer}\r\n");
    assert_eq!(subject(&both).as_deref(), Some("cloudflare"));
    assert_eq!(subject(&format!("Authorization: Bearer {bearer}\r\n")).as_deref(), Some("bearer"));
    assert_eq!(
        subject(&format!("Cf-Access-Jwt-Assertion: abc\r\nAuthorization: Bearer {bearer}\r\n")),
        None
    );
    let with_scheme = format!("Cf-Access-Jwt-Assertion: Bearer {cloudflare}\r\n");
    assert_eq!(subject(&with_scheme).as_deref(), Some("cloudflare"));
    // E2: the variant with underscores is another header and has no effect.
    assert_eq!(get(&server, &format!("Cf_Access_Jwt_Assertion: {cloudflare}\r\n")).status, 401);
}

fn identity_headers_can_be_renamed_and_disabled(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[identity_headers]\nsubject=X-Who\ntenant=\n"));
    let response = server.auth(&fixture::good_token());
    assert_eq!(response.header("x-who"), Some("bob"));
    assert!(
        response.header("x-auth-subject").is_none() && response.header("x-auth-tenant").is_none()
    );
    assert_eq!(response.header("x-auth-user"), Some("bob"));
}

#[test]
fn auth_does_not_wait_for_a_body() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let good = fixture::good_token();
    let mut connection = Connection::open(server.address);
    // A common nginx misconfiguration: a Content-Length without a body.
    connection.send_raw(
        format!("GET /auth HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\nAuthorization: Bearer {good}\r\n\r\n").as_bytes(),
    );
    assert_eq!(connection.receive(false).status, 200);
}

fn auth_ignores_the_body(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let head =
        format!("POST /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", fixture::good_token());
    for length in [1, 4, 100, 65_536, 1_000_000] {
        assert_eq!(server.send(&head, &vec![b'x'; length]).status, 200, "{length} bytes");
        assert_eq!(
            server.send("POST /auth HTTP/1.1\r\n", &vec![b'x'; length]).status,
            401,
            "{length} bytes"
        );
    }
}

fn inmanta_profile_refuses_with_403_and_no_body(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[listen]\nsurface=inmanta\n"));
    let response = server.auth("abc");
    assert_eq!((response.status, response.body.as_str()), (403, ""));
    assert_eq!(get(&server, "").status, 401);
}
