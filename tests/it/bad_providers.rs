use std::time::Duration;

use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, CURRENT, EXPIRED},
    eventually,
    openssl::{SigningKey, certificate},
    providers::{CannedResponse, JwksServer, TlsProvider, gzip, zlib},
};
use serde_json::json;

use crate::fixture::{self, claims_of, issuer_section, key_set};

const ISSUER: &str = "https://idp/";

/// Faulty key-set answers by name, each with a piece of the log line it causes.
fn faulty_answers(elsewhere: &JwksServer) -> Vec<(&'static str, CannedResponse, &'static str)> {
    let slow = Duration::from_millis(50);
    let secret =
        json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": "k", "k": fixture::KEY }] })
            .to_string();
    let huge = json!({ "keys": [], "padding": "x".repeat(5 << 20) }).to_string();
    let bomb = vec![b' '; 64 << 20];
    let other_host = elsewhere.uri().replace("127.0.0.1", "localhost");
    vec![
        ("empty", CannedResponse::json(&key_set(&[])), "the published key set is empty"),
        ("secret", CannedResponse::json(&secret), "no usable key"),
        ("html", CannedResponse::json("<!DOCTYPE html><h1>Sorry</h1>"), "not a strict JSON object"),
        ("array", CannedResponse::json("[]"), "not a strict JSON object"),
        ("huge", CannedResponse::chunked(&huge), "too_long"),
        ("bomb", CannedResponse::coded(&gzip(&bomb), "gzip"), "once its gzip is decoded"),
        (
            "zlib_bomb",
            CannedResponse::coded(&zlib(&bomb), "deflate"),
            "once its deflate is decoded",
        ),
        ("no_gzip", CannedResponse::coded(b"{}", "gzip"), "cannot decode the content coding gzip"),
        ("brotli", CannedResponse::coded(b"{}", "br"), r#"content coding \"br\""#),
        ("twice", CannedResponse::coded(b"{}", "gzip, gzip"), r#"content coding \"gzip, gzip\""#),
        (
            "truncated",
            CannedResponse::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\":["),
            "Got error",
        ),
        ("broken", CannedResponse::status("500 Oops"), "500"),
        ("no_content", CannedResponse::status("204 No Content"), "204"),
        ("unchanged", CannedResponse::status("304 Not Modified"), "Got error"),
        ("other_port", CannedResponse::redirect(&elsewhere.uri()), "redirects are not followed"),
        ("other_host", CannedResponse::redirect(&other_host), "redirects are not followed"),
        ("circle", CannedResponse::redirect("/jwks.json"), "redirected more than 3 times"),
        ("hang_up", CannedResponse::close(), "Got error"),
        ("silence", CannedResponse::hang(), "timeout"),
        ("dripping", CannedResponse::json(&key_set(&[])).byte_by_byte(slow), "timeout"),
    ]
}

#[test]
fn d10_invalid_key_set_leaves_the_keys_in_use() {
    let key = SigningKey::generate("ES256", "k");
    let elsewhere = JwksServer::start(&key_set(&[&key]));
    let faulty_answers = faulty_answers(&elsewhere);
    let mut configuration = fixture::SIGNING.to_owned();
    let providers: Vec<_> =
        faulty_answers.iter().map(|_| JwksServer::start(&key_set(&[&key]))).collect();
    for ((name, ..), provider) in faulty_answers.iter().zip(&providers) {
        let options = "jwks_refresh_interval=2\njwks_cool_down=1\njwks_request_timeout=1";
        let options = format!("jwks_uri={}\n{options}", provider.uri());
        configuration += &issuer_section(name, "ES256", &format!("https://{name}/"), &options);
    }
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration);
    for ((_, answer, _), provider) in faulty_answers.iter().zip(&providers) {
        provider.respond_with(answer.clone());
    }
    for (name, _, reason) in &faulty_answers {
        let about = format!("Unable to load key data for auth_jwt_{name} using");
        eventually(|| server.log().contains(&about));
        let log = server.log();
        let line = log.lines().find(|line| line.contains(&about)).unwrap();
        assert!(line.contains(reason), "{name}: expected {reason:?} in {line}");
        let token = key.token(&claims_of(&format!("https://{name}/")));
        assert_eq!(server.auth(&token).status, 200, "{name}: {}", server.log());
    }
    assert_eq!(elsewhere.requests(), 0, "no redirect to another origin is followed");
}

#[test]
fn same_origin_redirects_are_followed() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start("");
    provider.respond_at("/jwks.json", CannedResponse::redirect("/v2/keys?format=jwks"));
    provider.respond_at(
        "/v2/keys?format=jwks",
        CannedResponse::redirect(&format!("{}/v3/keys", provider.origin())),
    );
    provider.respond_at("/v3/keys", CannedResponse::json(&key_set(&[&key])));
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&fixture::with_idp("ES256", &format!("jwks_uri={}", provider.uri())));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    assert_eq!(provider.requests(), 3);
}

#[test]
fn startup_does_not_wait_for_a_provider() {
    let key = SigningKey::generate("ES256", "k");
    let token = key.token(&claims_of(ISSUER));
    let provider = JwksServer::start_with(CannedResponse::hang());
    let sandbox = Sandbox::new();
    let server = sandbox.listen(&fixture::with_idp(
        "ES256",
        &format!("jwks_uri={}\njwks_request_timeout=600", provider.uri()),
    ));
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    let (ready, live) = (server.operations("/ready"), server.operations("/live"));
    assert_eq!((ready.status, &ready.json()["ready"], live.status), (503, &json!(false), 200));
    let refused = server.auth(&token);
    assert_eq!((refused.status, refused.header("www-authenticate")), (503, None));
    assert!(refused.header("retry-after").is_some());
    // One attempt is enough for readiness, whatever the outcome.
    provider.respond_with(CannedResponse::close());
    server.wait_until_ready();
    assert_eq!(server.auth(&token).status, 503);
    provider.publish(&key_set(&[&key]));
    eventually(|| server.auth(&token).status == 200);
}

#[test]
fn ca_file_verifies_the_provider() {
    let key = SigningKey::generate("ES256", "k");
    let provider = TlsProvider::start();
    let uri = provider.serve("jwks.json", &json!({ "keys": [key.jwk()] }));
    let (sandbox, other) = (Sandbox::new(), Sandbox::new());
    let (others, _) = certificate(other.path());
    for (authority, status) in [(provider.authority(), 200), (others, 503)] {
        let options =
            format!("jwks_uri={uri}\nca_file={}\nvalidate_cert=true", authority.display());
        let server = sandbox.serve(&fixture::with_idp("ES256", &options));
        assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, status, "{}", server.log());
    }
    let empty = sandbox.file("empty.pem", "no certificate");
    for (authority, text) in [
        (empty.as_path(), "contains no certificate"),
        ("/nowhere.pem".as_ref(), "ca_file in auth_jwt_oidc"),
    ] {
        let options = format!("jwks_uri={uri}\nca_file={}", authority.display());
        let config = sandbox.file("c.cfg", fixture::with_idp("ES256", &options));
        let output = sandbox.run(["config", "check", "-c", config.to_str().unwrap()]);
        assert!(output.code() == 2 && output.stderr.contains(text), "{output:?}");
    }
}

#[test]
fn expired_certificate_of_a_provider_is_refused() {
    let key = SigningKey::generate("ES256", "k");
    let authority = Authority::root("provider");
    for (years, status) in [(CURRENT, 200), (EXPIRED, 503)] {
        let provider = TlsProvider::start_with(|directory| {
            std::fs::write(directory.join("ca.crt"), authority.pem()).unwrap();
            authority.server_in(years).write(directory);
        });
        let uri = provider.serve("jwks.json", &json!({ "keys": [key.jwk()] }));
        let options = format!("jwks_uri={uri}\nca_file={}", provider.authority().display());
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&fixture::with_idp("ES256", &options));
        assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, status, "{}", server.log());
        assert_eq!(server.auth(&fixture::good_token()).status, 200);
        assert_eq!(server.log().contains("certificate expired"), status == 503, "{}", server.log());
    }
}

#[test]
fn plain_http_keys_are_warned_about_under_tls() {
    let sandbox = Sandbox::new();
    let (certificate, key) = certificate(sandbox.path());
    let tls = format!(
        "[server]\nssl_cert_file={}\nssl_key_file={}\n",
        certificate.display(),
        key.display()
    );
    for (source, server, warned) in [
        ("jwks_uri=http://idp/keys", tls.as_str(), true),
        ("discovery_uri=http://idp/.well-known/openid-configuration", &tls, true),
        ("jwks_uri=https://idp/keys", &tls, false),
        ("jwks_uri=http://idp/keys", "", false),
    ] {
        let config = sandbox.file("c.cfg", fixture::with_idp("ES256", source) + server);
        let output = sandbox.run(["config", "check", "-c", config.to_str().unwrap()]);
        assert_eq!(output.code(), 0, "{output:?}");
        let text = "warning: ";
        assert_eq!(
            output.stderr.contains(text) && output.stderr.contains("is plain http"),
            warned,
            "{source}: {output:?}"
        );
    }
}

const METADATA: &str = "/.well-known/openid-configuration";

fn metadata(issuer: &str, jwks_uri: &str) -> String {
    json!({ "issuer": issuer, "jwks_uri": jwks_uri, "authorization_endpoint": "https://idp/" })
        .to_string()
}

/// Discovery documents that must be rejected, each with its issuer and a piece of the log line.
fn rejected_metadata(uri: &str) -> Vec<(&'static str, String, &'static str)> {
    let with_password = uri.replace("http://", "http://user:secret@");
    let other_issuer = |issuer: &str| (metadata(issuer, uri), "names the issuer");
    let with_keys_at = |place: &str, reason| (metadata("https://idp/", place), reason);
    let twice = format!(
        "{{\"issuer\":\"https://evil/\",\"issuer\":\"https://idp/\",\"jwks_uri\":\"{uri}\"}}"
    );
    let long =
        json!({ "issuer": "https://idp/", "jwks_uri": uri, "padding": "x".repeat(65 * 1024) })
            .to_string();
    let cases = [
        ("https://idp/", other_issuer("https://idp")),
        ("https://idp", other_issuer("https://idp/")),
        ("https://idp/", other_issuer("https://idp//")),
        ("https://idp/", other_issuer("HTTPS://idp/")),
        ("https://idp/", other_issuer("https://evil/")),
        ("https://idp/", with_keys_at("file:///etc/passwd", "is not an http(s) URI")),
        ("https://idp/", with_keys_at("ftp://idp/keys", "is not https")),
        ("https://idp/", with_keys_at("/keys", "is not https")),
        ("https://idp/", with_keys_at("http://[", "is not an http(s) URI")),
        ("https://idp/", with_keys_at(&with_password, "contains credentials")),
        (
            "https://idp/",
            (json!({ "issuer": "https://idp/" }).to_string(), "missing field `jwks_uri`"),
        ),
        ("https://idp/", (twice, "duplicate field `issuer`")),
        ("https://idp/", (long, "the answer has 65536 bytes or more")),
        ("https://idp/", ("<!DOCTYPE html>".into(), "cannot parse the discovery document")),
    ];
    cases.into_iter().map(|(issuer, (document, reason))| (issuer, document, reason)).collect()
}

#[test]
fn metadata_with_a_bad_issuer_or_uri_are_rejected() {
    let key = SigningKey::generate("ES256", "k");
    let keys = JwksServer::start(&key_set(&[&key]));
    let provider = JwksServer::start("");
    for (issuer, document, reason) in rejected_metadata(&keys.uri()) {
        provider.respond_at(METADATA, CannedResponse::json(&document));
        let options = format!("discovery_uri={}{METADATA}", provider.origin());
        let sandbox = Sandbox::new();
        let config = sandbox.file(
            "c.cfg",
            fixture::SIGNING.to_owned() + &issuer_section("idp", "ES256", issuer, &options),
        );
        let token = key.token(&claims_of(issuer));
        let output =
            sandbox.run_with_input(["token", "verify", "-c", config.to_str().unwrap()], token);
        assert_eq!(output.json_lines()[0]["code"], "keys_unavailable", "{document}");
        assert!(
            output.stderr.contains(reason),
            "{document}: expected {reason:?} in {}",
            output.stderr
        );
        assert!(!output.stderr.contains("user:secret"), "{}", output.stderr);
    }
    assert_eq!(keys.requests(), 0);
}

#[test]
fn metadata_can_move_the_key_set() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let places = [&old, &new].map(|key| JwksServer::start(&key_set(&[key])));
    let provider = JwksServer::start("");
    provider.respond_at(METADATA, CannedResponse::json(&metadata(ISSUER, &places[0].uri())));
    let options = format!(
        "discovery_uri={}{METADATA}\njwks_refresh_interval=2\njwks_cool_down=1",
        provider.origin()
    );
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&fixture::with_idp("ES256", &options));
    let [old, new] = [old, new].map(|key| key.token(&claims_of(ISSUER)));
    assert_eq!(server.auth(&old).status, 200, "{}", server.log());
    provider.respond_at(METADATA, CannedResponse::json(&metadata(ISSUER, &places[1].uri())));
    eventually(|| server.auth(&old).status == 401);
    assert_eq!(server.auth(&new).status, 200);
    // Rejected metadata leave the keys of earlier good metadata in use.
    provider
        .respond_at(METADATA, CannedResponse::json(&metadata("https://evil/", &places[0].uri())));
    eventually(|| server.log().contains("names the issuer"));
    assert_eq!((server.auth(&new).status, server.auth(&old).status), (200, 503));
}

#[test]
fn metadata_over_tls_require_keys_over_tls() {
    let key = SigningKey::generate("ES256", "k");
    let (safe, plain) = (TlsProvider::start(), JwksServer::start(&key_set(&[&key])));
    let keys = safe.serve("jwks.json", &json!({ "keys": [key.jwk()] }));
    let sandbox = Sandbox::new();
    for (name, jwks_uri, code) in
        [("safe.json", keys, None), ("plain.json", plain.uri(), Some("keys_unavailable"))]
    {
        let uri = safe.serve(name, &json!({ "issuer": ISSUER, "jwks_uri": jwks_uri }));
        let options = format!("discovery_uri={uri}\nca_file={}", safe.authority().display());
        let config = sandbox.file("c.cfg", fixture::with_idp("ES256", &options));
        let token = key.token(&claims_of(ISSUER));
        let output =
            sandbox.run_with_input(["token", "verify", "-c", config.to_str().unwrap()], token);
        assert_eq!(output.json_lines()[0]["code"].as_str(), code, "{output:?}");
        assert_eq!(output.stderr.contains("is not https"), code.is_some(), "{output:?}");
    }
    assert_eq!(plain.requests(), 0);
}
