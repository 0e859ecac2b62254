use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request},
    over_every_protocol,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

over_every_protocol!(resource_is_described, every_challenge_names_the_metadata);

const PATH: &str = "/.well-known/oauth-protected-resource";

fn with_resource(option: &str) -> String {
    let idp = |name, issuer| {
        fixture::issuer_section(name, "RS256", issuer, "jwks_uri=http://127.0.0.1:9/")
    };
    let issuers = idp("one", "https://idp.example/") + &idp("two", "urn:other");
    format!("{SIGNING}{issuers}[server]\nauth=true\n{option}\n")
}

fn get(server: &Server<'_>, path: &str) -> countersign_tests::http::Response {
    server.request(&format!("GET {path} HTTP/1.1\r\n"))
}

fn resource_is_described(protocol: Protocol) {
    for option in [
        "resource=https://api.example/mcp",
        "resource_metadata=https://api.example/.well-known/oauth-protected-resource/mcp",
    ] {
        let sandbox = Sandbox::over(protocol);
        let server = sandbox.serve(&with_resource(option));
        for path in [PATH.to_owned(), format!("{PATH}/mcp"), format!("{PATH}/mcp?x=y")] {
            let response = get(&server, &path);
            assert_eq!(response.status, 200, "{path}");
            assert_eq!(response.header("content-type"), Some("application/json"));
            assert_eq!(response.header("access-control-allow-origin"), Some("*"));
            let expected = json!({
                "resource": "https://api.example/mcp",
                "authorization_servers": ["https://idp.example/"],
                "bearer_methods_supported": ["header"],
            });
            assert_eq!(response.json(), expected);
        }
        for path in [format!("{PATH}/"), format!("{PATH}/other"), format!("{PATH}/mcp/")] {
            assert_eq!(get(&server, &path).status, 404, "{path}");
        }
        let head = "POST /.well-known/oauth-protected-resource HTTP/1.1\r\n";
        assert_eq!(server.request(head).status, 405);
    }
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_resource(""));
    assert_eq!(get(&server, PATH).status, 404);
}

fn every_challenge_names_the_metadata(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_resource("realm=the shop\nresource=https://api.example"));
    let good = fixture::good_token();
    let conflict = format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n");
    let metadata = "resource_metadata=\"https://api.example/.well-known/oauth-protected-resource\"";
    for (line, lines) in [
        ("GET /auth", ""),
        ("GET /auth", "Authorization: Bearer abc\r\n"),
        ("GET /auth", conflict.as_str()),
        ("GET /api/v2/environment", ""),
        ("GET /api/v2/environment", conflict.as_str()),
        ("POST /v1/verify", "Authorization: Bearer abc\r\n"),
    ] {
        let response = server.request(&format!("{line} HTTP/1.1\r\n{lines}"));
        assert_eq!(response.status, 401, "{line} {lines}");
        let challenge = response.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"the shop\", "), "{challenge}");
        assert!(challenge.ends_with(metadata), "{challenge}");
    }
}

#[test]
fn check_denials_name_the_metadata() {
    let sandbox = Sandbox::new();
    let option = "resource=https://api.example\n[listen]\nprotocols=http/1.1, h2\n";
    let server = sandbox.serve(&with_resource(option));
    let envoy = Envoy::plain(server.address);
    for lines in [&[][..], &[("authorization", "Bearer abc")]] {
        let outcome = CheckOutcome::of(envoy.check(check_request(lines)).unwrap());
        assert_eq!(outcome.status, 401);
        assert!(
            outcome.header("www-authenticate").unwrap().contains("resource_metadata=\"https://")
        );
    }
}

#[test]
fn resource_has_to_be_an_https_url() {
    let sandbox = Sandbox::new();
    for (option, is_valid) in [
        ("resource=https://api.example", true),
        ("resource=http://localhost:8000/x", true),
        ("resource=http://[::1]:8000", true),
        ("resource=http://api.example", false),
        ("resource=api.example", false),
        ("resource=/x", false),
        ("resource=https://bob@api.example", false),
        ("resource=https://api.example/?x", false),
        ("resource=https://api.example/#x", false),
        ("resource_metadata=ftp://api.example/x", false),
        ("realm=a b", true),
        ("realm=a\"b", false),
        ("realm=é", false),
    ] {
        sandbox.file("server.cfg", with_resource(option));
        let output = sandbox.run(["config", "check", "--config", "server.cfg"]);
        assert_eq!(output.status.success(), is_valid, "{option}: {output:?}");
    }
}
