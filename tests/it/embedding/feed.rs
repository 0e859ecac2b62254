//! The feed from a server to tiers in other processes: by its Rust interface, and in nginx.

/// Servers with another configuration than the tier.
mod configuration;
/// The check of `countersign doctor`.
mod doctor;
/// Servers that are not ours, and clients that are not.
mod hostile;
/// Servers and workers that are killed.
mod outage;
/// Tokens whose key the server does not have.
mod unknown_kid;

use std::{
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::PathBuf,
};

use countersign_engine::{Revocation, RevocationTarget, UnixTime};
use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use super::{ComparedDecision, check, check_token, module_proxy::bearer, nginx, start};
use crate::{
    fixture,
    revocation::{configuration, revoke, stored, token},
};

/// Returns the path of the socket.
fn socket(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join("feed.sock")
}

/// Adds the feed to a configuration.
fn with_feed(sandbox: &Sandbox, configuration: &str) -> String {
    let socket = socket(sandbox);
    format!("{configuration}[feed]\nsocket={}\nmax_staleness=2\n", socket.display())
}

/// Checks a token and returns the decision.
fn decide(tier: &super::EmbeddedTier, token: &str) -> ComparedDecision {
    check(tier, &[("authorization", &format!("Bearer {token}"))]).0
}

fn with_provider(sandbox: &Sandbox, provider: &JwksServer) -> String {
    let options = format!("jwks_uri={}\njwks_request_timeout=600", provider.uri());
    with_feed(sandbox, &fixture::with_idp("ES256", &options))
}

fn revoke_token(server: &Server<'_>, token: &str) {
    assert_eq!(revoke(server, &format!("token={token}")).status, 200);
}

#[test]
fn revocation_reaches_the_tier_by_the_feed() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let [early, leaked, other] = ["0", "1", "2"].map(|id| token(json!({ "jti": id })));
    let server = sandbox.serve(&configuration);
    revoke_token(&server, &early);
    let tier = start(&sandbox, &configuration);
    assert_eq!([&early, &leaked, &other].map(|one| check_token(&tier, one)), [401, 200, 200]);
    revoke_token(&server, &leaked);
    eventually(|| check_token(&tier, &leaked) == 401);
    assert_eq!(check_token(&tier, &other), 200);
    assert_eq!(server.metric("countersign_feed_clients"), 1);
    assert!(server.metric("countersign_feed_generation") > 0);
    drop(tier);
    eventually(|| server.metric("countersign_feed_clients") == 0);
}

#[test]
fn expired_revocations_are_dropped_by_the_tier() {
    let sandbox = Sandbox::new();
    let configuration =
        with_feed(&sandbox, &format!("{}[revocation]\ncapacity=3\n", configuration()));
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    let [good, early, late] = ["old-1", "early", "late"].map(|id| token(json!({ "jti": id })));
    revoke_token(&server, &early);
    eventually(|| check_token(&tier, &early) == 401);
    // Another process adds more than there is room for, so that the server drops expired ones.
    let aged = UnixTime(fixture::now() - 2 * 86_400);
    let old = |id: usize| {
        let (issuer, token_id) = (fixture::ISSUER.into(), format!("old-{id}").into());
        let target = RevocationTarget::TokenId { issuer, token_id };
        Revocation { target, until: Some(aged) }
    };
    stored(&sandbox).append(&(0..20).map(old).collect::<Vec<_>>()).unwrap();
    // Each revocation, and the line about those that were dropped.
    eventually(|| server.metric("countersign_feed_generation") == 22);
    assert_eq!(server.metric("countersign_revocations"), 1);
    revoke_token(&server, &late);
    eventually(|| check_token(&tier, &late) == 401);
    assert_eq!([&good, &early].map(|one| check_token(&tier, one)), [200, 401]);
}

#[test]
fn rotated_keys_reach_the_tier_by_the_feed() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let [of_old, of_new] = [&old, &new].map(|key| key.token(&fixture::claims_of("https://idp/")));
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&fixture::key_set(&[&old])));
    let configuration = with_provider(&sandbox, &provider);
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &of_old), 200);
    assert_eq!(provider.requests(), 1, "the tier asks the server, and not the provider");
    provider.publish(&fixture::key_set(&[&new]));
    assert_eq!(server.auth(&of_new).status, 200);
    eventually(|| check_token(&tier, &of_new) == 200);
    assert_eq!(check_token(&tier, &of_old), 401);
    assert_eq!(provider.requests(), 2);
}

#[test]
fn tier_waits_for_the_first_keys_of_the_server() {
    let key = SigningKey::generate("ES256", "k");
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(""));
    provider.respond_with(CannedResponse::hang());
    let configuration = with_provider(&sandbox, &provider);
    let server = sandbox.listen(&configuration);
    let tier = start(&sandbox, &configuration);
    let token = key.token(&fixture::claims_of("https://idp/"));
    assert_eq!(check_token(&tier, &token), 503);
    assert_eq!(check_token(&tier, &fixture::good_token()), 200, "its key is in the configuration");
    provider.publish(&fixture::key_set(&[&key]));
    eventually(|| check_token(&tier, &token) == 200);
    assert_eq!(provider.requests(), 1, "{}", server.log());
}

#[test]
fn tier_outlives_its_server_for_max_staleness() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    let (good, leaked) = (token(json!({ "jti": "1" })), token(json!({ "jti": "2" })));
    assert_eq!(check_token(&tier, &good), 200);
    revoke_token(&server, &leaked);
    eventually(|| check_token(&tier, &leaked) == 401);
    server.signal("KILL");
    assert_eq!([&good, &leaked].map(|one| check_token(&tier, one)), [200, 401]);
    eventually(|| check_token(&tier, &good) == 503);
    let refused = decide(&tier, &good);
    assert!(refused.set.iter().any(|(name, _)| name == "retry-after"), "{refused:?}");
    drop(server);
    let server = sandbox.serve(&configuration);
    eventually(|| check_token(&tier, &good) == 200);
    assert_eq!(check_token(&tier, &leaked), 401);
    // A server that stops and starts within that time is not noticed.
    server.stop("TERM");
    let _server = sandbox.serve(&configuration);
    assert_eq!(check_token(&tier, &good), 200);
    assert_eq!(check_token(&tier, &leaked), 401);
}

#[test]
fn silent_server_is_not_trusted() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    let good = token(json!({ "jti": "1" }));
    assert_eq!(check_token(&tier, &good), 200);
    server.signal("STOP");
    eventually(|| check_token(&tier, &good) == 503);
    server.signal("CONT");
    eventually(|| check_token(&tier, &good) == 200);
}

#[test]
fn tier_takes_over_the_revocations_of_the_next_server() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let [first, second] = ["1", "2"].map(|id| token(json!({ "jti": id })));
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    revoke_token(&server, &first);
    eventually(|| check_token(&tier, &first) == 401);
    server.stop("TERM");
    std::fs::remove_dir_all(sandbox.path().join(".local/state/countersign")).unwrap();
    let server = sandbox.serve(&configuration);
    revoke_token(&server, &second);
    eventually(|| check_token(&tier, &first) == 200);
    assert_eq!(check_token(&tier, &second), 401);
}

#[test]
fn tier_of_another_configuration_has_no_keys() {
    let key = SigningKey::generate("ES256", "k");
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&fixture::key_set(&[&key])));
    let configuration = with_provider(&sandbox, &provider);
    let other = configuration.replace("/jwks.json", "/other.json");
    let _server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &other);
    let token = key.token(&fixture::claims_of("https://idp/"));
    assert_eq!(check_token(&tier, &token), 503);
    // Its keys are there as soon as both agree.
    sandbox.replace("embedded.cfg", &configuration);
    tier.reload();
    eventually(|| check_token(&tier, &token) == 200);
    assert_eq!(provider.requests(), 1);
}

#[test]
fn nginx_module_follows_the_feed() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&fixture::key_set(&[&key]));
    let sandbox = Sandbox::new();
    let options = format!("jwks_uri={}", provider.uri());
    let section = fixture::issuer_section("oidc", "ES256", "https://idp/", &options);
    let configuration = with_feed(&sandbox, &format!("{}{section}", configuration()));
    let server = sandbox.serve(&configuration);
    let nginx = nginx::start(&configuration, nginx::CHECK_ALL);
    let (status, log) = (|token: &str| nginx.status("/", &bearer(token)), || nginx.running.log());
    let (of_idp, leaked) =
        (key.token(&fixture::claims_of("https://idp/")), token(json!({ "jti": "1" })));
    assert_eq!([status(&of_idp), status(&leaked)], [200, 200], "{}", log());
    revoke_token(&server, &leaked);
    // Both workers.
    eventually(|| (0..8).all(|_| status(&leaked) == 401));
    // Workers of a reload have the keys at once, although the provider does not answer.
    provider.respond_with(CannedResponse::hang());
    nginx::reload(&nginx);
    for _ in 0..8 {
        assert_eq!([status(&of_idp), status(&leaked)], [200, 401], "{}", log());
    }
    assert_eq!(provider.requests(), 1);
    server.signal("KILL");
    assert_eq!([status(&of_idp), status(&leaked)], [200, 401]);
    eventually(|| (0..8).all(|_| status(&of_idp) == 503));
    eventually(|| log().contains("no token is verified, because the feed"));
    drop(server);
    provider.publish(&fixture::key_set(&[&key]));
    let _server = sandbox.serve(&configuration);
    eventually(|| (0..8).all(|_| status(&of_idp) == 200));
    assert_eq!(status(&leaked), 401);
    eventually(|| log().contains("is current again"));
}

#[test]
fn feed_is_checked_with_the_configuration() {
    let sandbox = Sandbox::new();
    for (options, expected) in [
        ("socket=feed.sock", "is not an absolute path"),
        (&*format!("socket=/{}", "run.d/".repeat(20)), "longer than 107 bytes"),
        ("socket=/run/feed.sock\nmode=0444", "no client can connect"),
        ("socket=/run/feed.sock\nmax_staleness=1", "from 2 to 3600"),
        ("socket=/run/feed.sock\nstaleness=1", "max_staleness"),
        ("max_staleness=9", "has no effect without a socket"),
    ] {
        let configuration = format!("{}[feed]\n{options}\n", fixture::SIGNING);
        let file = sandbox.file("check.cfg", configuration);
        let output = sandbox.run(["config", "check", "--config", file.to_str().unwrap()]);
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(text.contains(expected), "{options}: {text}");
    }
}

#[test]
fn file_of_the_feed_is_that_of_one_server() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, fixture::SIGNING);
    let mode = || std::fs::metadata(socket(&sandbox)).unwrap().permissions().mode() & 0o777;
    let server = sandbox.serve(&configuration);
    assert_eq!(mode(), 0o660);
    // Another server does not take it over.
    let second = Sandbox::new();
    let ports = "[metrics]\nbind_port=0\n[server]\nbind_port=0\n";
    let file = second.file("second.cfg", format!("{configuration}{ports}"));
    let output = second.run(["--config", file.to_str().unwrap()]);
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("choose another with socket in [feed]"), "{output:?}");
    // One that was killed leaves it, and the next one replaces it.
    server.signal("KILL");
    drop(server);
    assert!(socket(&sandbox).exists());
    let server = sandbox.serve(&format!("{configuration}mode=0600\n"));
    assert_eq!(mode(), 0o600);
    server.stop("TERM");
    assert!(!socket(&sandbox).exists());
    // A server that stops leaves the file of another one.
    let server = sandbox.serve(&configuration);
    std::fs::remove_file(socket(&sandbox)).unwrap();
    let other = UnixListener::bind(socket(&sandbox)).unwrap();
    server.stop("TERM");
    assert!(socket(&sandbox).exists());
    drop(other);
}

#[test]
fn directory_of_all_users_is_refused_for_the_feed() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, fixture::SIGNING);
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    eventually(|| tier.is_ready());
    // As /tmp: its files are those of their owners, but a missing one may be created by all.
    std::fs::set_permissions(sandbox.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &fixture::good_token()), 503);
    drop(server);
    let ports = "[metrics]\nbind_port=0\n[server]\nbind_port=0\n";
    let file = sandbox.file("other.cfg", format!("{configuration}{ports}"));
    let output = sandbox.run(["--config", file.to_str().unwrap()]);
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("all users may write to"), "{output:?}");
}
