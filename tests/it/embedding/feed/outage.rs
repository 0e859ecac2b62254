//! Servers and workers that are killed, while requests wait or the feed is stale.

use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

use countersign_tests::{
    binary::Sandbox,
    eventually,
    http::Connection,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use super::{
    super::{
        check, check_token,
        contract::with_listener,
        envoy,
        module_proxy::{ModuleProxy, bearer, get},
        nginx, start,
    },
    configuration, revoke_token, socket, token, with_feed, with_provider,
};
use crate::fixture;

pub(super) fn start_nginx(configuration: &str) -> ModuleProxy {
    nginx::start(configuration, nginx::CHECK_ALL)
}

fn server_kill_is_survived_by(begin: fn(&str) -> ModuleProxy) {
    let key = SigningKey::generate("ES256", "k");
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(""));
    provider.respond_with(CannedResponse::hang());
    let configuration = with_provider(&sandbox, &provider);
    let server = sandbox.listen(&configuration);
    let proxy = begin(&with_listener(&configuration));
    let good = bearer(&fixture::good_token());
    assert_eq!(proxy.status("/", &good), 200, "{}", proxy.running.log());
    let of_idp = bearer(&key.token(&fixture::claims_of("https://idp/")));
    let waiting = (0..4).map(|_| {
        let mut connection = Connection::open(proxy.address);
        connection.send_raw(get("/", &of_idp).as_bytes());
        connection
    });
    let waiting: Vec<_> = waiting.collect();
    server.signal("KILL");
    assert_eq!(proxy.status("/", &good), 200, "{}", proxy.running.log());
    for mut connection in waiting {
        let response = connection.receive(false);
        assert_eq!(response.status, 503, "{response:?}");
    }
    eventually(|| (0..8).all(|_| proxy.status("/", &good) == 503));
    assert_eq!(proxy.status("/", &of_idp), 503);
    drop(server);
    provider.publish(&fixture::key_set(&[&key]));
    let _server = sandbox.serve(&configuration);
    eventually(|| (0..8).all(|_| proxy.status("/", &of_idp) == 200));
    eventually(|| (0..8).all(|_| proxy.status("/", &good) == 200));
}

#[test]
fn server_is_killed_while_requests_wait_in_nginx() {
    server_kill_is_survived_by(start_nginx);
}

#[test]
fn server_is_killed_while_requests_wait_in_envoy() {
    server_kill_is_survived_by(envoy::routed);
}

#[test]
fn keys_stay_in_use_while_a_server_starts() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&fixture::key_set(&[&key]));
    let sandbox = Sandbox::new();
    let options = format!("jwks_uri={}\njwks_request_timeout=600", provider.uri());
    let section = fixture::issuer_section("oidc", "ES256", "https://idp/", &options);
    let configuration = with_feed(&sandbox, &format!("{}{section}", configuration()));
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    let of_idp = key.token(&fixture::claims_of("https://idp/"));
    assert_eq!(check_token(&tier, &of_idp), 200);
    // The next server has no stored keys, and its provider does not answer.
    server.stop("TERM");
    std::fs::remove_dir_all(sandbox.path().join(".local/state/countersign")).unwrap();
    provider.respond_with(CannedResponse::hang());
    let server = sandbox.listen(&configuration);
    let leaked = token(json!({ "jti": "1" }));
    revoke_token(&server, &leaked);
    eventually(|| check_token(&tier, &leaked) == 401);
    assert_eq!(check_token(&tier, &of_idp), 200);
    provider.respond_with(CannedResponse::status("500 Internal Server Error"));
    eventually(|| check_token(&tier, &of_idp) == 503);
    provider.publish(&fixture::key_set(&[&key]));
    eventually(|| check_token(&tier, &of_idp) == 200);
}

#[test]
fn tier_without_a_server_stops_to_wait() {
    let sandbox = Sandbox::new();
    let tier = start(&sandbox, &with_feed(&sandbox, fixture::SIGNING));
    let bearer = format!("Bearer {}", fixture::good_token());
    let refused_at_once = || {
        let (decision, is_made_at_once) = check(&tier, &[("authorization", &bearer)]);
        assert_eq!(decision.status, 503);
        is_made_at_once
    };
    assert!(!refused_at_once(), "the server may be starting, too");
    eventually(refused_at_once);
}

#[test]
fn worker_that_starts_without_a_server_waits() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let server = sandbox.serve(&configuration);
    let nginx = start_nginx(&configuration);
    let [good, leaked] = ["1", "2"].map(|id| token(json!({ "jti": id })));
    revoke_token(&server, &leaked);
    let (good, leaked) = (bearer(&good), bearer(&leaked));
    eventually(|| (0..8).all(|_| nginx.status("/", &leaked) == 401));
    server.signal("KILL");
    drop(server);
    eventually(|| (0..8).all(|_| nginx.status("/", &good) == 503));
    nginx::kill_workers(&nginx);
    assert_eq!([nginx.status("/", &good), nginx.status("/", &leaked)], [503, 503]);
    let _server = sandbox.serve(&configuration);
    eventually(|| (0..8).all(|_| nginx.status("/", &good) == 200));
    assert_eq!(nginx.status("/", &leaked), 401);
    let log = nginx.running.log();
    assert_eq!(log.matches("exited on signal").count(), 2, "{log}");
    assert!(log.contains("has not been received yet: cannot connect"), "{log}");
}

#[test]
fn removed_socket_of_the_feed_is_bound_again() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let server = sandbox.serve(&configuration);
    let nginx = start_nginx(&configuration);
    let good = bearer(&token(json!({ "jti": "1" })));
    let socket = socket(&sandbox);
    assert_eq!(nginx.status("/", &good), 200, "{}", nginx.running.log());
    std::fs::remove_file(&socket).unwrap();
    eventually(|| socket.exists());
    eventually(|| server.log().contains("is bound again"));
    nginx::kill_workers(&nginx);
    assert_eq!([(); 8].map(|()| nginx.status("/", &good)), [200; 8], "{}", nginx.running.log());
    // The file of another process stays.
    std::fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    eventually(|| server.log().contains("another file is in its place"));
    drop(other);
    std::fs::remove_file(&socket).unwrap();
    eventually(|| server.log().matches("is bound again").count() == 2);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    server.stop("TERM");
    assert!(!socket.exists());
}
