use countersign_tests::{
    answers::{IDENTITY, assert_refused},
    binary::{Sandbox, Server},
    client::Protocol,
    http::{Connection, Response},
    over_every_protocol,
};
use serde_json::json;

use crate::given::{self, SIGNING};

over_every_protocol!(
    a_good_token_passes_with_every_identity_header_and_no_body,
    without_a_token_the_challenge_names_no_error,
    the_additional_header_carries_a_bare_token_and_wins,
    identity_headers_can_be_renamed_and_switched_off,
    a_body_changes_no_answer,
    the_inmanta_surface_refuses_with_its_own_status_and_still_no_body,
);

fn get(server: &Server<'_>, lines: &str) -> Response {
    server.request(&format!("GET /auth HTTP/1.1\r\n{lines}"))
}

fn a_good_token_passes_with_every_identity_header_and_no_body(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let token = given::token(&given::claims(
        json!({ "sub": "böb 100%", "urn:inmanta:ct": ["api", "agent"] }),
    ));
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "PROPFIND"] {
        for path in ["/auth", "/auth/", "/auth/some/path?query=1", "/auth?x"] {
            let response = server
                .request(&format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"));
            assert_eq!(response.status, 200, "{method} {path}");
            let values = IDENTITY.map(|name| response.header(name).unwrap().to_owned());
            assert_eq!(
                values,
                ["b%C3%B6b%20100%25", "b%C3%B6b%20100%25", given::ISSUER, "api,agent", ""]
            );
            assert_eq!(response.header("cache-control"), Some("no-store"));
            // After HTTP/1 the end of a body is told by its stream.
            let length = (protocol == Protocol::Http1).then_some("0");
            assert_eq!((response.body.as_str(), response.header("content-length")), ("", length));
        }
    }
    assert_eq!(server.request("GET /authx HTTP/1.1\r\n").status, 404);
}

fn without_a_token_the_challenge_names_no_error(protocol: Protocol) {
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

fn the_additional_header_carries_a_bare_token_and_wins(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox
        .serve(&format!("{SIGNING}[server]\nauth_additional_header=Cf-Access-Jwt-Assertion\n"));
    let user = |name: &str| given::token(&given::claims(json!({ "sub": name })));
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
    assert_eq!(
        get(&server, &format!("Cf-Access-Jwt-Assertion: Bearer {cloudflare}\r\n")).status,
        401,
        "bare, without a scheme"
    );
    // E2: the underscore twin is another header, and means nothing.
    assert_eq!(get(&server, &format!("Cf_Access_Jwt_Assertion: {cloudflare}\r\n")).status, 401);
}

fn identity_headers_can_be_renamed_and_switched_off(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[identity_headers]\nsubject=X-Who\ntenant=\n"));
    let response = server.auth(&given::good_token());
    assert_eq!(response.header("x-who"), Some("bob"));
    assert!(
        response.header("x-auth-subject").is_none() && response.header("x-auth-tenant").is_none()
    );
    assert_eq!(response.header("x-auth-user"), Some("bob"));
}

#[test]
fn a_body_is_never_waited_for() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let good = given::good_token();
    let mut connection = Connection::open(server.address);
    // nginx's misconfiguration: a length, and no body that would fill it.
    connection.send_raw(
        format!("GET /auth HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\nAuthorization: Bearer {good}\r\n\r\n").as_bytes(),
    );
    assert_eq!(connection.receive(false).status, 200);
}

fn a_body_changes_no_answer(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let head = format!("POST /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", given::good_token());
    for length in [1, 4, 100, 65_536, 1_000_000] {
        assert_eq!(server.send(&head, &vec![b'x'; length]).status, 200, "{length} bytes");
        assert_eq!(
            server.send("POST /auth HTTP/1.1\r\n", &vec![b'x'; length]).status,
            401,
            "{length} bytes"
        );
    }
}

fn the_inmanta_surface_refuses_with_its_own_status_and_still_no_body(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[listen]\nsurface=inmanta\n"));
    let response = server.auth("abc");
    assert_eq!((response.status, response.body.as_str()), (403, ""));
    assert_eq!(get(&server, "").status, 401);
}
