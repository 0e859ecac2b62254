use countersign_engine::Reject;
use countersign_tests::{
    answers::{IDENTITY, assert_no_identity, assert_refused, invalid_token},
    binary::{Sandbox, Server},
    client::{Client, Protocol},
    engine::{HEADER, ISSUER, claims, token},
    http::Response,
    over_every_protocol,
};
use serde_json::json;

use crate::fronts::{secret_section, with_signature};

over_every_protocol!(
    e1_forwarding_headers_change_no_result,
    e2_similar_header_names_are_ignored,
    e3_identity_headers_of_client_are_ignored,
    e3_claim_cannot_inject_a_header,
    e4_duplicate_credential_header_is_refused,
    e4_token_counts_only_in_its_own_header,
    e5_bad_token_is_invalid_and_never_missing,
    e6_refusal_reveals_nothing_of_the_token,
    e7_path_is_not_normalized,
    e8_requests_on_one_connection_are_isolated,
    e8_concurrent_connections_are_isolated,
);

fn get(server: &Server<'_>, lines: &str) -> Response {
    server.request(&format!("GET /auth HTTP/1.1\r\n{lines}"))
}

fn valid_token() -> String {
    token(HEADER, claims(""))
}

fn with_additional_header(sandbox: &Sandbox) -> Server<'_> {
    sandbox.serve(&format!("{}[server]\nauth_additional_header=X-Jwt\n", secret_section()))
}

/// Returns the identity headers of an allowing response.
fn identity(response: &Response) -> [String; 6] {
    assert_eq!((response.status, response.body.as_str()), (200, ""), "{response:?}");
    IDENTITY.map(|name| response.header(name).unwrap().to_owned())
}

fn bob() -> [String; 6] {
    ["bob", "bob", ISSUER, "api", "", ""].map(str::to_owned)
}

fn e1_forwarding_headers_change_no_result(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    let (bearer, bad) = (
        format!("Authorization: Bearer {}\r\n", valid_token()),
        with_signature(&valid_token(), b""),
    );
    let mut lines: Vec<String> = Vec::new();
    for name in [
        "X-Forwarded-Uri",
        "X-Forwarded-Prefix",
        "X-Original-URI",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Envoy-Original-Path",
        "X-Auth-Request-Redirect",
    ] {
        for path in [
            "/",
            "/healthz",
            "/v1/verify",
            "/metrics",
            "/.well-known/jwks.json",
            "/auth/../healthz",
            "//",
            "http://evil/",
        ] {
            lines.push(format!("{name}: {path}\r\n"));
        }
    }
    for name in
        ["X-Forwarded-Method", "X-Original-Method", "X-HTTP-Method-Override", "X-Method-Override"]
    {
        lines.extend(
            ["OPTIONS", "HEAD", "TRACE", "DELETE", ""]
                .map(|method| format!("{name}: {method}\r\n")),
        );
    }
    for name in [
        "X-Forwarded-For",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
    ] {
        lines.extend(
            ["127.0.0.1", "localhost", "https", "127.0.0.1, 10.0.0.1"]
                .map(|value| format!("{name}: {value}\r\n")),
        );
    }
    lines.push("Forwarded: for=127.0.0.1;host=localhost;proto=https\r\n".into());
    // Many at once, within the limit of a hundred lines per head.
    lines.push(lines.iter().step_by(2).map(String::as_str).collect());
    for line in &lines {
        assert_eq!(identity(&get(&server, &format!("{line}{bearer}"))), bob(), "{line}");
        assert_refused(&get(&server, line), "Bearer");
        assert_refused(
            &get(&server, &format!("{line}Authorization: Bearer {bad}\r\n")),
            &invalid_token(Reject::Signature),
        );
    }
    // They do not change the route either.
    let elsewhere = server.request(&format!(
        "GET /nowhere HTTP/1.1\r\nX-Original-URL: /auth\r\nX-Forwarded-Uri: /auth\r\n{bearer}"
    ));
    assert_eq!(elsewhere.status, 404);
    assert_eq!(
        server.request("GET /v1/verify HTTP/1.1\r\nX-HTTP-Method-Override: POST\r\n").status,
        405
    );
}

fn e2_similar_header_names_are_ignored(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = with_additional_header(&sandbox);
    let good = valid_token();
    assert_eq!(identity(&get(&server, &format!("X-Jwt: {good}\r\n"))), bob());
    for line in [
        format!("X_Jwt: {good}\r\n"),
        format!("X-Jwt-: {good}\r\n"),
        format!("XJwt: {good}\r\n"),
        format!("Http-X-Jwt: {good}\r\n"),
        format!("Authorization_: Bearer {good}\r\n"),
        format!("Proxy-Authorization: Bearer {good}\r\n"),
        format!("X-Authorization: Bearer {good}\r\n"),
        format!("X-Forwarded-Access-Token: {good}\r\n"),
    ] {
        assert_refused(&get(&server, &line), "Bearer");
    }
    let similar =
        "X_Auth_User: root\r\nX_Auth_Subject: root\r\nx_auth_tenant: root\r\nX.Auth.User: root\r\n";
    let response = get(&server, &format!("{similar}X-Jwt: {good}\r\n"));
    assert_eq!(identity(&response), bob());
    assert!(
        response.headers.iter().all(|(name, value)| !name.contains('_') && value != "root"),
        "{response:?}"
    );
}

#[test]
fn e2_connection_header_removes_nothing() {
    let sandbox = Sandbox::new();
    let server = with_additional_header(&sandbox);
    let good = valid_token();
    for listed in [
        "X-Auth-User, X-Auth-Subject",
        "Authorization",
        "close, X-Jwt, Authorization",
        "keep-alive, X-Auth-Issuer",
        "WWW-Authenticate",
    ] {
        let line = format!("Connection: {listed}\r\n");
        assert_eq!(
            identity(&get(&server, &format!("{line}Authorization: Bearer {good}\r\n"))),
            bob(),
            "{listed}"
        );
        assert_eq!(identity(&get(&server, &format!("{line}X-Jwt: {good}\r\n"))), bob(), "{listed}");
        // An invalid token is not ignored, even if its header is listed in Connection.
        let refused =
            get(&server, &format!("{line}X-Jwt: abc\r\nAuthorization: Bearer {good}\r\n"));
        assert_refused(&refused, &invalid_token(Reject::Segments));
        assert_refused(&get(&server, &line), "Bearer");
    }
}

fn e3_identity_headers_of_client_are_ignored(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    let lines: String = IDENTITY.iter().map(|name| format!("{name}: root\r\n")).collect();
    assert_refused(&get(&server, &lines), "Bearer");
    let anonymous = token(HEADER, r#"{"iss":"https://idp/","aud":"us"}"#);
    let allowed = get(&server, &format!("{lines}Authorization: Bearer {anonymous}\r\n"));
    assert_eq!(
        identity(&allowed),
        ["", "", ISSUER, "api", "", ""],
        "empty headers are sent, so that they overwrite"
    );
}

fn e3_claim_cannot_inject_a_header(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    let names = |response: &Response| {
        response.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let usual = names(&server.auth(&valid_token()));
    for (subject, header) in [
        ("bob\r\nX-Auth-User: root", "bob%0D%0AX-Auth-User:%20root"),
        ("bob\nSet-Cookie: a=b", "bob%0ASet-Cookie:%20a=b"),
        ("bob\r\n\r\nHTTP/1.1 200 OK", "bob%0D%0A%0D%0AHTTP/1.1%20200%20OK"),
        ("bob\0", "bob%00"),
        ("\u{7f}", "%7F"),
        ("bob,root", "bob%2Croot"),
        ("bob%0d%0a", "bob%250d%250a"),
        ("bøb", "b%C3%B8b"),
        ("bob\u{a0}", "bob%C2%A0"),
        ("\u{202e}bob", "%E2%80%AEbob"),
        (" bob ", "%20bob%20"),
        ("嘊嘍X-Auth-User: root", "%E5%98%8A%E5%98%8DX-Auth-User:%20root"),
    ] {
        let claims =
            json!({ "iss": ISSUER, "aud": "us", "sub": subject, "urn:inmanta:env": subject });
        let response = server.auth(&token(HEADER, claims.to_string()));
        assert_eq!(identity(&response), [header, header, ISSUER, "api", header, ""]);
        assert_eq!(names(&response), usual, "{subject:?}");
    }
    // An empty scope would look like none.
    let unscoped = json!({ "iss": ISSUER, "aud": "us", "sub": "bob", "urn:inmanta:env": "" });
    assert_eq!(server.auth(&token(HEADER, unscoped.to_string())).status, 401);
    let long = "b".repeat(10_000);
    assert_eq!(
        identity(
            &server.auth(&token(
                HEADER,
                json!({ "iss": ISSUER, "aud": "us", "sub": long }).to_string()
            ))
        )[0],
        long
    );
}

fn e4_duplicate_credential_header_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = with_additional_header(&sandbox);
    let good = valid_token();
    let conflict =
        "Bearer error=\"invalid_request\", error_description=\"the request has two credentials\"";
    for lines in [
        format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
        format!("Authorization: Bearer {good}\r\nAuthorization: Bearer abc\r\n"),
        format!("Authorization: Bearer abc\r\nAuthorization: Bearer {good}\r\n"),
        format!("authorization: Bearer {good}\r\nAUTHORIZATION: Basic x\r\n"),
        format!("Authorization:\r\nAuthorization: Bearer {good}\r\n"),
        format!("X-Jwt: {good}\r\nx-jwt: {good}\r\n"),
        format!("X-Jwt: {good}\r\nx-jwt: abc\r\nAuthorization: Bearer {good}\r\n"),
    ] {
        assert_refused(&get(&server, &lines), conflict);
    }
    for one_line in [
        format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
        format!("Authorization: Basic x, Bearer {good}\r\n"),
    ] {
        assert_refused(&get(&server, &one_line), "Bearer");
    }
}

fn e4_token_counts_only_in_its_own_header(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = with_additional_header(&sandbox);
    let (good, root) = (valid_token(), token(HEADER, claims("").replace("bob", "root")));
    // With two tokens, the configured header takes precedence, valid or not.
    let both = |additional: &str, bearer: &str| {
        get(&server, &format!("Authorization: Bearer {bearer}\r\nX-Jwt: {additional}\r\n"))
    };
    assert_eq!(identity(&both(&good, &root)), bob());
    assert_eq!(identity(&both(&root, &good))[0], "root");
    assert_eq!(identity(&both(&good, "abc")), bob());
    assert_refused(&both("abc", &good), &invalid_token(Reject::Segments));
    // RFC 6750 sections 2.2 and 2.3, and headers that browsers send by themselves.
    let form = format!("access_token={good}");
    let head = "POST /auth HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    assert_refused(&server.send(head, form.as_bytes()), "Bearer");
    assert_refused(
        &server.request(&format!("GET /auth?access_token={good} HTTP/1.1\r\n")),
        "Bearer",
    );
    assert_refused(&server.request(&format!("GET /auth/{good} HTTP/1.1\r\n")), "Bearer");
    assert_refused(
        &get(
            &server,
            &format!("Cookie: token={good}; access_token={good}; Authorization=Bearer {good}\r\n"),
        ),
        "Bearer",
    );
    assert_refused(&get(&server, &format!("Sec-WebSocket-Protocol: bearer, {good}\r\n")), "Bearer");
}

fn e5_bad_token_is_invalid_and_never_missing(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = with_additional_header(&sandbox);
    assert_refused(&get(&server, ""), "Bearer");
    for (bad, reject) in [
        ("abc".to_owned(), Reject::Segments),
        ("..".to_owned(), Reject::HeaderJson),
        ("null".to_owned(), Reject::Segments),
        (with_signature(&valid_token(), b""), Reject::Signature),
        (token(HEADER, claims(r#""exp":1"#)), Reject::Expired),
        (token(HEADER, claims("").replace("\"us\"", "\"them\"")), Reject::Audience),
        (token(r#"{"alg":"none"}"#, claims("")), Reject::AlgorithmUnsupported),
        ("x".repeat(16_385), Reject::TooLong),
    ] {
        assert_refused(&server.auth(&bad), &invalid_token(reject));
        assert_refused(&get(&server, &format!("X-Jwt: {bad}\r\n")), &invalid_token(reject));
        assert_refused(
            &get(&server, &format!("X-Jwt: {bad}\r\nAuthorization: Bearer {}\r\n", valid_token())),
            &invalid_token(reject),
        );
    }
    assert_refused(&get(&server, "X-Jwt:\r\n"), &invalid_token(Reject::Segments));
    assert_refused(
        &get(&server, &format!("X-Jwt:\r\nAuthorization: Bearer {}\r\n", valid_token())),
        &invalid_token(Reject::Segments),
    );
}

fn e6_refusal_reveals_nothing_of_the_token(protocol: Protocol) {
    const MARK: &str = "mallory";
    let marked = format!(
        r#"{{"iss":"{ISSUER}","aud":"us","sub":"{MARK}","name":"{MARK}","urn:inmanta:env":"{MARK}","jti":"{MARK}","tenant":"{MARK}""#
    );
    let with = |members: &str| format!("{marked}{members}}}");
    let header = format!(r#"{{"alg":"HS256","kid":"{MARK}","typ":"{MARK}"}}"#);
    let unknown = format!(r#"{{"alg":"{MARK}","kid":"{MARK}"}}"#);
    for surface in ["", "[listen]\nsurface=inmanta\n"] {
        let sandbox = Sandbox::over(protocol);
        let server = sandbox.serve(&format!("{}{surface}", secret_section()));
        assert_eq!(identity(&server.auth(&token(&header, with(""))))[..2], [MARK, MARK]);
        for refused in [
            with_signature(&token(&header, with("")), &[7; 32]),
            token(&header, with(r#","exp":1"#)),
            token(&header, with(r#","nbf":4102444800"#)),
            token(&header, with("").replace("\"us\"", &format!("\"{MARK}\""))),
            token(&header, with("").replace(ISSUER, &format!("https://{MARK}/"))),
            token(&header, with(&format!(r#","urn:inmanta:ct":"{MARK}""#))),
            token(&header, with(&format!(r#","exp":"{MARK}""#))),
            token(unknown.clone(), with("")),
            token(&header, format!("{{{MARK}")),
        ] {
            let response = server.auth(&refused);
            assert_no_identity(&response);
            assert!(matches!(response.status, 401 | 403), "{response:?}");
            assert!(!format!("{response:?}").contains(MARK), "{response:?}");
        }
    }
}

fn e7_path_is_not_normalized(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    let bearer = format!("Authorization: Bearer {}\r\n", valid_token());
    for path in [
        "/auth",
        "/auth/",
        "/auth//x",
        "/auth///",
        "/auth/..",
        "/auth/../v1/verify",
        "/auth/../metrics",
        "/auth/../../etc/passwd",
        "/auth/%2e%2e/",
        "/auth/%2e%2e/healthz",
        "/auth/..%2fhealthz",
        "/auth/%2F%2Fx",
        "/auth/..;/healthz",
        "/auth/%00",
        "/auth/%",
        "/auth?/../healthz",
        "/auth?path=/healthz",
        "http://evil/auth",
        "http://evil/auth/../healthz",
    ] {
        for method in ["GET", "POST", "OPTIONS", "TRACE", "PURGE"] {
            let request =
                |lines: &str| server.request(&format!("{method} {path} HTTP/1.1\r\n{lines}"));
            assert_eq!(identity(&request(&bearer)), bob(), "{method} {path}");
            assert_refused(&request(""), "Bearer");
        }
    }
    // `/v1/verify` reads a token from the body, paths below `/auth/` do not.
    let body = json!({ "token": valid_token() }).to_string();
    assert_refused(&server.send("POST /auth/../v1/verify HTTP/1.1\r\n", body.as_bytes()), "Bearer");
    for path in [
        "//auth",
        "/AUTH",
        "/Auth",
        "/%61uth",
        "/./auth",
        "/x/../auth",
        "/auth%2f",
        "/auth%2Fx",
        "/auth;x",
        "/authx",
        "/auth.",
        "/v1/../auth",
    ] {
        assert_eq!(
            server.request(&format!("GET {path} HTTP/1.1\r\n{bearer}")).status,
            404,
            "{path}"
        );
    }
}

fn e8_requests_on_one_connection_are_isolated(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    let mut client = server.client();
    for round in 0..50 {
        alternate(&mut client, &format!("user-{round}"));
    }
    // Concurrent requests, pipelined or in streams: each gets its own response.
    let head = |number: usize| match number % 2 {
        0 => format!(
            "GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n",
            token(HEADER, claims("").replace("bob", &number.to_string()))
        ),
        _ => "GET /auth HTTP/1.1\r\n".to_owned(),
    };
    let heads: Vec<_> = (0..40).map(head).collect();
    let requests: Vec<_> = heads.iter().map(|head| (head.as_str(), &b""[..])).collect();
    for (number, response) in client.request_all(&requests).iter().enumerate() {
        match number % 2 {
            0 => assert_eq!(identity(response)[0], number.to_string()),
            _ => assert_refused(response, "Bearer"),
        }
    }
}

fn e8_concurrent_connections_are_isolated(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let mut client = server.client();
            scope.spawn(move || {
                (0..100).for_each(|round| alternate(&mut client, &format!("user-{number}-{round}")))
            });
        }
    });
}

/// Sends a valid token, an invalid one and none. Only the first response has an identity.
fn alternate(client: &mut Client, user: &str) {
    let mut ask = |lines: &str| client.request(&format!("GET /auth HTTP/1.1\r\n{lines}"), b"");
    let good = token(HEADER, claims("").replace("bob", user));
    assert_eq!(identity(&ask(&format!("Authorization: Bearer {good}\r\n")))[0], user);
    let bad = with_signature(&good, b"bad");
    assert_refused(
        &ask(&format!("Authorization: Bearer {bad}\r\n")),
        &invalid_token(Reject::Signature),
    );
    assert_refused(&ask(""), "Bearer");
}
