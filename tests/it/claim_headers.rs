use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request},
    http::Response,
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::fixture::{self, SIGNING};

over_every_protocol!(
    claims_are_passed_on_in_headers,
    claims_are_absent_rather_than_wrong,
    too_large_claims_refuse_the_token,
);

const HEADERS: &str = "\
[identity_headers]
claim.email = X-Auth-Email
claim.groups = X-Auth-Groups
claim.level = X-Auth-Level
claim.is_admin = X-Auth-Admin
claim.user.name = X-Auth-Name
claim./user/address.json = X-Auth-Address
claim.https://idp.example/Roles = X-Auth-Roles
claim.data.json.text = X-Auth-Data
";
const NAMES: [&str; 8] = [
    "x-auth-email",
    "x-auth-groups",
    "x-auth-level",
    "x-auth-admin",
    "x-auth-name",
    "x-auth-address",
    "x-auth-roles",
    "x-auth-data",
];

fn token(claims: Value) -> String {
    fixture::token(&fixture::claims(claims))
}

fn values(response: &Response) -> Vec<Option<&str>> {
    NAMES.iter().map(|name| response.header(name)).collect()
}

/// Sends a token twice, so that the second answer is from the cache.
fn ask(server: &Server<'_>, token: &str) -> Response {
    let lines = NAMES.map(|name| format!("{name}: spoofed\r\n")).concat();
    let head = format!("GET /auth HTTP/1.1\r\n{lines}Authorization: Bearer {token}\r\n");
    let (first, second) = (server.request(&head), server.request(&head));
    assert_eq!(values(&first), values(&second));
    second
}

fn claims_are_passed_on_in_headers(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{HEADERS}"));
    let claims = json!({
        "email": "bob@example.com",
        "groups": ["a b", "c,d", "é"],
        "level": 9_007_199_254_740_993u64,
        "is_admin": true,
        "user": { "name": "Bob \"B\" %", "address": { "city": "Köln", "lines": [1, null] } },
        "https://idp.example/Roles": ["admin"],
        "data.json": "x",
    });
    let response = ask(&server, &token(claims));
    assert_eq!(
        values(&response),
        [
            Some("bob@example.com"),
            Some("a%20b,c%2Cd,%C3%A9"),
            Some("9007199254740993"),
            Some("true"),
            Some("Bob%20\"B\"%20%25"),
            Some(r#"{"city":"K%C3%B6ln","lines":[1,null]}"#),
            Some("admin"),
            Some("x"),
        ]
    );
    assert_eq!(response.header("x-auth-user"), Some("bob"));
}

fn claims_are_absent_rather_than_wrong(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{HEADERS}"));
    let mut claims = fixture::claims(json!({
        "groups": ["a", { "name": "b" }],
        "level": { "x": 1 },
        "user": "bob",
        "EMAIL": "other",
        "https://idp.example/roles": ["other"],
    }));
    claims["email"] = json!(null);
    let response = ask(&server, &fixture::token(&claims));
    assert_eq!((response.status, values(&response)), (200, vec![Some(""); NAMES.len()]));
}

fn too_large_claims_refuse_the_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}{HEADERS}"));
    // Each space takes three bytes.
    let with = |spaces: usize| token(json!({ "email": " ".repeat(spaces), "level": 12 }));
    let fits = ask(&server, &with(2730));
    assert_eq!((fits.status, fits.header("x-auth-email").unwrap().len()), (200, 8190));
    let over = ask(&server, &with(2731));
    assert_eq!(over.status, 401);
    assert!(over.header("www-authenticate").unwrap().contains("longer than 8 KiB"), "{over:?}");
    assert_eq!(values(&over), vec![None; NAMES.len()]);
    let metric = "countersign_verifications_total{outcome=\"rejected\",code=\"claims_too_large\"}";
    assert_eq!(server.metric(metric), 2);
}

#[test]
fn check_sets_or_removes_headers_of_claims() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{HEADERS}[listen]\nprotocols=http/1.1, h2\n"));
    let envoy = Envoy::plain(server.address);
    let bearer =
        format!("Bearer {}", token(json!({ "email": "bob@example.com", "groups": ["a", "b"] })));
    let spoofed = [("x-auth-level", "1"), ("x_auth_email", "root"), ("authorization", &bearer)];
    for _ in 0..2 {
        let outcome = CheckOutcome::of(envoy.check(check_request(&spoofed)).unwrap());
        assert_eq!(outcome.status, 200);
        let set = ["x-auth-email", "x-auth-groups"].map(|name| outcome.header(name));
        assert_eq!(set, [Some("bob@example.com"), Some("a,b")]);
        for name in NAMES[2..].iter().chain(&["x_auth_email"]) {
            assert!(outcome.removed.iter().any(|one| one == name), "{name}: {outcome:?}");
        }
    }
}

#[test]
fn reload_of_claims_applies_to_cached_tokens() {
    let sandbox = Sandbox::new();
    let with = |option: &str| format!("{SIGNING}[identity_headers]\n{option}\n");
    let server = sandbox.serve(&with("claim.email = X-One"));
    let token = token(json!({ "email": "bob@example.com", "level": 7 }));
    let of = |name: &str| server.auth(&token).header(name).map(str::to_owned);
    for _ in 0..2 {
        assert_eq!(of("x-one").as_deref(), Some("bob@example.com"));
    }
    for (option, expected) in [
        ("claim.level = X-One", "7"),
        ("claim.level.json = X-One\nclaim.email = X-Two", "7"),
        ("claim.a = X-Two\nclaim.email = X-One", "bob@example.com"),
    ] {
        sandbox.replace("server.cfg", with(option));
        server.reload();
        assert_eq!(of("x-one").as_deref(), Some(expected), "{option}");
    }
}

#[test]
fn header_of_a_claim_has_a_name_of_its_own() {
    let sandbox = Sandbox::new();
    for (option, message) in [
        ("claim.email=X-Auth-Email", ""),
        ("claim.email=", ""),
        ("claim.email=X-Auth-User", "already in use"),
        ("claim.email=X_Auth_User", "may take it for x-auth-user"),
        ("claim.a=X-A\nclaim.b=X_A", "may take it for x-a"),
        ("claim.a=X-A\nclaim.b=X-A", "already in use"),
        ("claim.email=X-Forwarded-Email", "another meaning"),
        ("claim.email=Host", "another meaning"),
        ("claim.email=Content-Type", "another meaning"),
        ("claim.email=X Y", "not a valid header name"),
        ("claim.=X-A", "names no claim"),
        ("claim.email=X-Jwt", "already in use"),
    ] {
        let text = format!(
            "{SIGNING}[server]\nauth_additional_header=X-Jwt\n[identity_headers]\n{option}\n"
        );
        sandbox.file("server.cfg", text);
        let output = sandbox.run(["config", "check", "--config", "server.cfg"]);
        assert_eq!(output.status.success(), message.is_empty(), "{option}: {output:?}");
        assert!(format!("{}{}", output.stdout, output.stderr).contains(message), "{output:?}");
    }
}

#[test]
fn claims_are_named_in_toml() {
    let sandbox = Sandbox::new();
    let text = SIGNING
        .lines()
        .map(|line| match line.split_once('=') {
            Some((name, value)) if value.parse::<bool>().is_err() && name != "expire" => {
                format!("{name} = \"{value}\"\n")
            }
            _ => format!("{line}\n"),
        })
        .collect::<String>();
    let claims = "[identity_headers]\nclaim.user.name = \"X-Name\"\n\
                  \"claim.https://idp.example/Roles\" = \"X-Roles\"\n";
    sandbox.file("server.toml", format!("{text}{claims}"));
    let output = sandbox.run(["config", "check", "--config", "server.toml"]);
    for line in ["user.name as x-name", "https://idp.example/Roles as x-roles"] {
        assert!(output.stdout.contains(line), "{output:?}");
    }
}
