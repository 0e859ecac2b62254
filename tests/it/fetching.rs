use std::fs;

use countersign_tests::{
    binary::{Output, Sandbox},
    eventually,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer, gzip, zlib},
};
use serde_json::json;

use crate::fixture::{self, claims_of, issuer_section, key_set};

const ISSUER: &str = "https://idp/";
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwb2QifQ.c2lnbmF0dXJlLW9mLWEtcG9k";

/// Options of a section that fetches often.
fn often(options: &str) -> String {
    format!("jwks_refresh_interval=2\njwks_cool_down=1\n{options}")
}

fn idp(options: &str) -> String {
    fixture::with_idp("ES256", options)
}

fn check(sandbox: &Sandbox, options: &str) -> Output {
    let config = sandbox.file("c.cfg", idp(options));
    sandbox.run(["config", "check", "-c", config.to_str().unwrap()])
}

#[test]
fn compressed_key_sets_are_read() {
    let key = SigningKey::generate("ES256", "k");
    let marked = format!("\u{feff}{}", key_set(&[&key])).into_bytes();
    let provider = JwksServer::start("");
    let mut configuration = fixture::SIGNING.to_owned();
    let forms = [
        ("gzip", CannedResponse::coded(&gzip(&marked), "gzip")),
        ("x-gzip", CannedResponse::coded(&gzip(&marked), "X-GZIP")),
        ("deflate", CannedResponse::coded(&zlib(&marked), "deflate")),
        ("identity", CannedResponse::coded(&marked, "identity")),
    ];
    for (name, response) in forms.clone() {
        provider.respond_at(&format!("/{name}"), response);
        let options = format!("jwks_uri={}/{name}", provider.origin());
        configuration += &issuer_section(name, "ES256", &format!("https://{name}/"), &options);
    }
    let issuer = "https://discovered/";
    let metadata = json!({ "issuer": issuer, "jwks_uri": format!("{}/gzip", provider.origin()) });
    let metadata = gzip(format!("\u{feff}{metadata}").as_bytes());
    provider.respond_at("/metadata", CannedResponse::coded(&metadata, "gzip"));
    let options = format!("discovery_uri={}/metadata", provider.origin());
    configuration += &issuer_section("discovered", "ES256", issuer, &options);
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration);
    for name in forms.iter().map(|(name, _)| *name).chain(["discovered"]) {
        let token = key.token(&claims_of(&format!("https://{name}/")));
        assert_eq!(server.auth(&token).status, 200, "{name}: {}", server.log());
    }
    let sent = provider.header_values("accept-encoding");
    assert!(sent.iter().all(|value| value.as_deref() == Some("gzip, identity")), "{sent:?}");
}

#[test]
fn key_set_may_need_a_token_of_a_file() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let file = sandbox.file("token", format!("{TOKEN}\n"));
    let options = format!("jwks_uri={}\njwks_token_file={}", provider.uri(), file.display());
    let server = sandbox.serve(&idp(&often(&options)));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    let sent = || provider.header_values("authorization").pop().flatten();
    assert_eq!(sent(), Some(format!("Bearer {TOKEN}")));
    // A replaced token is used by the next fetch.
    sandbox.replace("token", "second.token");
    eventually(|| sent().as_deref() == Some("Bearer second.token"));
    for (content, reason) in [
        (Some(""), "the file is empty: write the token into it"),
        (Some("two words"), "the file holds more than a token: write the token alone, on one line"),
        (Some("a\nb"), "the file holds more than a token"),
        (Some("caf\u{e9}"), "the file holds more than a token"),
        (None, "No such file or directory (os error 2): check the path and its permissions"),
    ] {
        match content {
            Some(content) => drop(sandbox.replace("token", content)),
            None => fs::remove_file(&file).unwrap(),
        }
        server.reload();
        let line = format!("jwks_token_file {}: {reason}", file.display());
        eventually(|| server.log().contains(&line));
        let sent = provider.header_values("authorization");
        assert!(sent.iter().all(Option::is_some), "nothing is requested without the token");
        assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "kept keys");
    }
    provider.respond_with(CannedResponse::status("401 Unauthorized"));
    sandbox.replace("token", TOKEN);
    server.reload();
    let remedy =
        "401 Unauthorized, expected 200; check that the token in jwks_token_file is current";
    eventually(|| server.log().contains(remedy));
    assert!(!server.log().contains(TOKEN) && !server.log().contains("second.token"));
}

#[test]
fn provider_that_needs_a_token_names_the_option() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let provider = JwksServer::start_with(CannedResponse::status(status));
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&idp(&format!("jwks_uri={}", provider.uri())));
        let text =
            format!("{status}, expected 200; if it requires a bearer token, set jwks_token_file");
        assert!(server.log().contains(&text), "{}", server.log());
    }
}

#[test]
fn token_is_sent_to_the_configured_origin_alone() {
    let key = SigningKey::generate("ES256", "k");
    let [provider, elsewhere] = [(); 2].map(|()| JwksServer::start(&key_set(&[&key])));
    let sandbox = Sandbox::new();
    let file = sandbox.file("token", TOKEN);
    let token_file = format!("jwks_token_file={}", file.display());
    let metadata = |jwks_uri: &str| {
        CannedResponse::json(&json!({ "issuer": ISSUER, "jwks_uri": jwks_uri }).to_string())
    };
    let sent = format!("Bearer {TOKEN}");
    let discovery = format!("discovery_uri={}/metadata\n{token_file}", provider.origin());
    provider.respond_at("/metadata", metadata(&provider.uri()));
    let server = sandbox.serve(&idp(&discovery));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    let values = provider.header_values("authorization");
    assert_eq!(values, [Some(sent.clone()), Some(sent.clone())], "one origin");
    drop(server);

    provider.respond_at("/metadata", metadata(&elsewhere.uri()));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&idp(&discovery));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    assert_eq!(elsewhere.header_values("authorization"), [None], "another port");
    drop(server);

    elsewhere.respond_with(CannedResponse::status("401 Unauthorized"));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&idp(&discovery));
    let remedy =
        "sent neither on a redirect nor to another origin than the configured one: set jwks_uri";
    assert!(server.log().contains(remedy), "{}", server.log());
    drop(server);

    provider.respond_at("/jwks.json", CannedResponse::redirect("/moved"));
    provider.respond_at("/moved", CannedResponse::json(&key_set(&[&key])));
    let before = provider.requests();
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&idp(&format!("jwks_uri={}\n{token_file}", provider.uri())));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    let values = provider.header_values("authorization");
    assert_eq!(values[before..], [Some(sent), None], "a redirect on the same origin");
    assert!(elsewhere.header_values("authorization").iter().all(Option::is_none));
}

#[test]
fn token_does_not_pass_a_proxy_in_plain_text() {
    let key = SigningKey::generate("ES256", "k");
    let [provider, proxy] = [(); 2].map(|()| JwksServer::start(&key_set(&[&key])));
    let sandbox = Sandbox::new().variable("http_proxy", &proxy.origin());
    let file = sandbox.file("token", TOKEN);
    let uri = format!("jwks_uri={}\n", provider.uri());
    let server = sandbox.serve(&idp(&format!("{uri}jwks_token_file={}", file.display())));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    assert_eq!((provider.requests(), proxy.requests()), (1, 0));
}

#[test]
fn token_needs_a_protected_connection() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("token", TOKEN);
    let token_file = format!("jwks_token_file={}", file.display());
    for (options, text, help) in [
        (
            "jwks_uri=http://idp.example/keys",
            "jwks_token_file in auth_jwt_oidc would be sent in plain text: jwks_uri is http",
            "write an https:// URI as jwks_uri",
        ),
        (
            "discovery_uri=http://idp.example/metadata",
            "would be sent in plain text: discovery_uri is http",
            "write an https:// URI as discovery_uri",
        ),
        (
            "jwks_uri=https://idp.example/keys\nvalidate_cert=false",
            "could be sent to any server: validate_cert is off",
            "set ca_file for a private certificate authority",
        ),
    ] {
        let output = check(&sandbox, &format!("{options}\n{token_file}"));
        assert!(
            output.code() == 2 && output.stderr.contains(text) && output.stderr.contains(help),
            "{output:?}"
        );
    }
    for options in ["jwks_uri=https://idp.example/keys", "jwks_uri=http://[::1]:1/keys"] {
        let output = check(&sandbox, &format!("{options}\n{token_file}"));
        assert_eq!(output.code(), 0, "{output:?}");
        assert!(output.stdout.contains("lets other users read the secret in"), "{output:?}");
    }
    let output = check(&sandbox, &format!("jwks_uri=file:///keys.json\n{token_file}"));
    assert!(
        output
            .stderr
            .contains("jwks_token_file in auth_jwt_oidc is ignored: its keys come from a file"),
        "{output:?}"
    );
    let misplaced =
        check(&sandbox, &format!("jwks_uri=https://idp.example/keys\njwks_token_file={TOKEN}"));
    assert!(misplaced.code() == 2 && !misplaced.stderr.contains("c2lnbmF0"), "{misplaced:?}");
}
