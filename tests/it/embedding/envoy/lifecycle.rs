//! Configurations of Envoy that are wrong, validated, or replaced.

use std::time::Duration;

use countersign_tests::{
    binary::Sandbox,
    eventually,
    http::Connection,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
    proxies::free_address,
};
use serde_json::{Value, json};

use super::{
    super::{
        contract::with_listener,
        module_proxy::{ModuleAddresses, bearer, get},
    },
    configuration::{EnvoyOptions, bootstrap, route},
    dynamic::DynamicEnvoy,
    start, validate,
};
use crate::fixture;

fn addresses() -> ModuleAddresses {
    let [proxy, http2, application] = [free_address(), free_address(), free_address()];
    ModuleAddresses { proxy, http2, application }
}

#[test]
fn envoy_module_mistakes_have_their_place() {
    let sandbox = Sandbox::new();
    sandbox.file("auth.cfg", fixture::SIGNING);
    sandbox.file("bad.cfg", "[auth_jwt_x]\nalgorithm=none\n");
    let check = |config: Value, expected: &str| {
        let text = bootstrap(addresses(), &EnvoyOptions::of_filter(config)).to_string();
        let output = validate(sandbox.path(), &text);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && log.contains(expected), "{expected}: {log}");
    };
    check(json!({ "config_file": "missing.cfg" }), "missing.cfg");
    check(json!({ "config_file": "bad.cfg" }), "bad.cfg:2");
    check(json!({ "config_file": "" }), "write the file of the tier");
    check(json!({ "listener": "other" }), "is \"other\": auth.cfg has main");
    check(json!({ "listener": "metrics" }), "auth.cfg has main");
    check(json!({ "file": "auth.cfg" }), "unknown field `file`");
    check(json!({ "listener": 1 }), "listener in filter_config is a number: write main");
    let twice = json!({ "metadata_claims": ["sub", "sub"] });
    check(twice, "metadata_claims in filter_config has \"sub\" twice");
    let nameless = EnvoyOptions { routes: vec![route("/x", Some(""))], ..EnvoyOptions::default() };
    let output = validate(sandbox.path(), &bootstrap(addresses(), &nameless).to_string());
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && log.contains("write off, or a listener's name"), "{log}");
}

#[test]
fn envoy_validation_starts_no_threads() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&fixture::key_set(&[&key]));
    let sandbox = Sandbox::new();
    let options = format!("jwks_uri={}", provider.uri());
    sandbox.file("auth.cfg", with_listener(&fixture::with_idp("ES256", &options)));
    let text = bootstrap(addresses(), &EnvoyOptions::default()).to_string();
    let output = validate(sandbox.path(), &text);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let versions = "version v0.2.0 of the interface, tested with Envoy 1.40.0";
    assert!(log.contains(versions), "{log}");
    // A tier fetches keys at once.
    assert_eq!(provider.requests(), 0);
}

#[test]
fn route_of_an_unknown_listener_gets_500() {
    let options =
        EnvoyOptions { routes: vec![route("/x", Some("unknown"))], ..EnvoyOptions::default() };
    let proxy = start(&with_listener(fixture::SIGNING), &options);
    let good = bearer(&fixture::good_token());
    assert_eq!([proxy.status("/x", &good), proxy.status("/x", &good)], [500; 2]);
    assert_eq!(proxy.status("/", &good), 200);
    let log = proxy.running.log();
    assert_eq!(log.matches("has no section [listener_unknown]").count(), 1, "{log}");
}

#[test]
fn envoy_listener_update_keeps_the_tier() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&fixture::key_set(&[&key]));
    let options = format!("jwks_uri={}", provider.uri());
    let configuration = with_listener(&fixture::with_idp("ES256", &options));
    let envoy = DynamicEnvoy::start(&configuration);
    let token = bearer(&key.token(&fixture::claims_of("https://idp/")));
    assert_eq!(envoy.proxy.status("/", &token), 200, "{}", envoy.proxy.running.log());
    let fetched = provider.requests();
    // A tier that starts again could not verify it.
    provider.respond_with(CannedResponse::status("500 Internal Server Error"));
    for _ in 0..3 {
        envoy.update(json!({ "metadata_claims": ["sub"] }));
        assert_eq!(envoy.proxy.status("/", &token), 200);
    }
    assert_eq!(provider.requests(), fetched);
    // A wrong one is rejected, and the old one stays.
    envoy.replace(json!({ "listener": "other" }));
    eventually(|| !envoy.statistic("listener_manager.lds.update_rejected").contains(": 0"));
    assert!(envoy.proxy.running.log().contains("listener in filter_config is \"other\""));
    assert_eq!(envoy.proxy.status("/", &token), 200);
    // A new listener in the file takes a new tier.
    let other = configuration.replace("listener_routed", "listener_other");
    envoy.proxy.sandbox.replace("auth.cfg", other);
    provider.publish(&fixture::key_set(&[&key]));
    envoy.update(json!({ "listener": "other" }));
    assert_eq!(envoy.proxy.status("/", &token), 403);
    assert_eq!(envoy.proxy.status("/routed/", &token), 500);
}

#[test]
fn envoy_answers_what_waits_at_an_update() {
    let [old, key] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let options = format!("jwks_uri={}", provider.uri());
    let configuration = with_listener(&fixture::with_idp("ES256", &options));
    let envoy = DynamicEnvoy::start(&configuration);
    let token = |key: &SigningKey| bearer(&key.token(&fixture::claims_of("https://idp/")));
    assert_eq!(envoy.proxy.status("/", &token(&old)), 200);
    let slow = CannedResponse::json(&fixture::key_set(&[&old, &key]));
    provider.respond_with(slow.delayed(Duration::from_millis(700)));
    let before = provider.requests();
    let mut waiting = Connection::open(envoy.proxy.address);
    waiting.send_raw(get("/", &token(&key)).as_bytes());
    eventually(|| provider.requests() > before);
    envoy.update(json!({ "metadata_claims": ["sub"] }));
    assert_eq!(waiting.receive(false).status, 200);
    assert_eq!(envoy.proxy.status("/", &token(&key)), 200);
    let waited = envoy.statistic("countersign.waited");
    assert!(waited.contains("waited: ") && !waited.contains("waited: 0"), "{waited}");
}
