/// Rules without a language: `[route_<name>]`, `open_paths`.
mod routes;
/// Client types and environments: `authorization = legacy`.
mod legacy;
/// The access policy: `authorization = policy-engine`.
mod policy;
/// Endpoint files, and `countersign endpoints import`.
mod endpoints;

use countersign_tests::{
    binary::Server,
    grpc::{CheckOutcome, Envoy, check_request, with_target},
    http::Response,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

/// Returns [`SIGNING`] and a listener whose proxies describe requests, with these options.
fn described(listen: &str, rest: &str) -> String {
    format!("{SIGNING}[listen]\ntrusted_proxies=127.0.0.1\ndialect=x-forwarded\n{listen}\n{rest}\n")
}

/// Asks `/auth` about a request, with these further header lines.
fn ask(server: &Server<'_>, (method, uri): (&str, &str), lines: &str) -> Response {
    server.request(&format!(
        "GET /auth HTTP/1.1\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Uri: {uri}\r\n{lines}"
    ))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Returns a token of the signing section with these claims.
fn token(claims: serde_json::Value) -> String {
    fixture::token(&fixture::claims(claims))
}

/// Asks about a request with a token over `/auth`, gRPC and `/v1/verify`, and returns the status,
/// which must be the same.
#[track_caller]
fn status(server: &Server<'_>, (method, uri): (&str, &str), token: &str) -> u16 {
    let status = ask(server, (method, uri), &bearer(token)).status;
    let authorization = format!("Bearer {token}");
    let check = with_target(check_request(&[("authorization", &authorization)]), method, uri);
    let checked = CheckOutcome::of(Envoy::plain(server.address).check(check).unwrap());
    let body = json!({ "token": token, "request": { "method": method, "uri": uri } });
    let verified = verify(server, &body);
    assert_eq!(
        (checked.status, verified.status),
        (status.into(), status),
        "{method} {uri}: gRPC, /v1/verify"
    );
    if status == 200 {
        assert_eq!(verified.json()["allowed"], true);
    }
    status
}

fn verify(server: &Server<'_>, body: &serde_json::Value) -> Response {
    server.send("POST /v1/verify HTTP/1.1\r\n", body.to_string().as_bytes())
}
