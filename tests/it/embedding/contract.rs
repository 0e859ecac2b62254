use std::time::Duration;

use countersign_tests::{
    client::{Client, Protocol},
    eventually,
    http::Connection,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
    proxies::WEBSOCKET,
};
use serde_json::json;

use super::module_proxy::{ModuleProxy, bearer, get, post};
use crate::fixture;

/// A module, by its forms of the configuration.
pub(super) struct ModuleKind {
    /// Starts the proxy as shipped.
    pub(super) shipped: fn(&str) -> ModuleProxy,
    /// Starts it with routes: `/routed/` is checked by the rules of the listener `routed`, `/off`
    /// is not checked, and all others are checked by the main listener. It accepts 1,000 header
    /// lines, and HTTP/2.
    pub(super) routed: fn(&str) -> ModuleProxy,
}

/// Runs all checks.
pub(super) fn check(kind: &ModuleKind) {
    let shipped = (kind.shipped)(fixture::SIGNING);
    identity_is_set(&shipped);
    bad_credentials_are_refused(&shipped);
    e2_identity_of_the_client_is_removed(&shipped);
    body_and_websocket_pass(&shipped);
    drop(shipped);
    let routed = (kind.routed)(&with_listener(fixture::SIGNING));
    routes_have_their_rules(&routed);
    many_header_lines_are_read(&routed);
    http2_is_checked(&routed);
    drop(routed);
    keys_are_waited_for(kind);
    provider_outage_is_answered_with_503(kind);
}

/// Adds the listener `routed` to a configuration.
pub(super) fn with_listener(configuration: &str) -> String {
    format!(
        "{configuration}[listener_routed]\nbind=127.0.0.1:1\nauthorization=routes\n\
         [route_page]\nmatch=GET /routed/page\n"
    )
}

fn identity_is_set(proxy: &ModuleProxy) {
    let (response, seen) = proxy.get("/page?x=1", &bearer(&fixture::good_token()));
    assert_eq!(response.status, 200, "{response:?} {}", proxy.running.log());
    let seen = seen.unwrap();
    assert_eq!((seen.target.as_str(), seen.lines("x-auth-user")), ("/page?x=1", vec!["bob"]));
    assert_eq!(seen.lines("x-auth-issuer"), [fixture::ISSUER]);
    assert_eq!(seen.header("authorization"), None);
}

fn bad_credentials_are_refused(proxy: &ModuleProxy) {
    let good = bearer(&fixture::good_token());
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
    for lines in [
        String::new(),
        bearer(&format!("{}x", fixture::good_token())),
        bearer(&expired),
        bearer("abc"),
        "Authorization: Basic Ym9iOngK\r\n".into(),
    ] {
        let (response, seen) = proxy.get("/page", &lines);
        assert_eq!((response.status, seen.is_none()), (401, true), "{lines}");
        assert!(response.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    // A proxy may join two lines to one before the module reads them.
    let (response, seen) = proxy.get("/page", &good.repeat(2));
    assert!([400, 401].contains(&response.status) && seen.is_none(), "{response:?}");
}

fn e2_identity_of_the_client_is_removed(proxy: &ModuleProxy) {
    let forged: String = "-_.!~"
        .chars()
        .flat_map(|between| ["User", "Subject", "Tenant"].map(|name| (between, name)))
        .map(|(between, name)| format!("X{between}Auth{between}{name}: root\r\n"))
        .collect();
    let token = fixture::token(&fixture::claims(json!({ "sub": null })));
    for (target, lines, users) in [
        ("/page", bearer(&fixture::good_token()), vec!["bob"]),
        ("/page", bearer(&token), vec![]),
        ("/public/page", String::new(), vec![]),
    ] {
        let (response, seen) = proxy.get(target, &format!("{forged}{lines}{forged}"));
        assert_eq!(response.status, 200, "{response:?}");
        let seen = seen.unwrap();
        assert_eq!(seen.lines("x-auth-user"), users);
        assert!(!format!("{seen:?}").contains("root"), "{seen:?}");
    }
}

fn body_and_websocket_pass(proxy: &ModuleProxy) {
    let good = bearer(&fixture::good_token());
    let body = "name=value&".repeat(10_000);
    let (response, seen) = proxy.send(&post("/form", &good, &body));
    assert_eq!((response.status, seen.unwrap().body == body), (200, true));
    let (response, seen) = proxy.send(&post("/form", "", &body));
    assert_eq!((response.status, seen.is_none()), (401, true));
    let upgrade = |lines: &str| {
        let mut connection = Connection::open(proxy.address);
        let head = "GET /socket HTTP/1.1\r\nHost: shop.example\r\n";
        connection.send_raw(format!("{head}{WEBSOCKET}{lines}\r\n").as_bytes());
        (connection.receive(false).status, connection)
    };
    let (status, mut connection) = upgrade(&good);
    assert_eq!(status, 101);
    connection.send_raw(b"frame");
    assert_eq!(connection.receive_bytes(5), b"frame");
    assert_eq!(proxy.application.take().len(), 1);
    assert_eq!((upgrade("").0, proxy.application.take().len()), (401, 0));
}

fn routes_have_their_rules(proxy: &ModuleProxy) {
    let good = bearer(&fixture::good_token());
    for (target, lines, status) in [
        ("/routed/page", &*good, 200),
        ("/routed/other", &good, 403),
        ("/routed/page", "", 401),
        ("/other", &good, 200),
        ("/off", "", 200),
        ("/off", "X-Auth-User: root\r\n", 200),
        ("/off", "Authorization: Bearer abc\r\n", 200),
    ] {
        let (response, seen) = proxy.get(target, lines);
        assert_eq!(response.status, status, "{target} {lines} {response:?}");
        assert_eq!(seen.is_some(), status == 200);
        assert!(!format!("{seen:?}").contains("root"), "{seen:?}");
    }
}

fn many_header_lines_are_read(proxy: &ModuleProxy) {
    let good = bearer(&fixture::good_token());
    // nginx itself refuses more than 1,000 lines.
    let many: String = (0..990).map(|number| format!("x-{number}: v\r\n")).collect();
    let (response, seen) = proxy.get("/page", &format!("{many}{good}"));
    assert_eq!(response.status, 200, "{response:?} {}", proxy.running.log());
    assert_eq!(seen.unwrap().header("x-989"), Some("v"));
    assert_eq!(proxy.status("/page", &many), 401);
}

fn http2_is_checked(proxy: &ModuleProxy) {
    let mut client = Client::plain(Protocol::Http2, proxy.http2);
    let good = bearer(&fixture::good_token());
    for (target, lines, status) in [
        ("/page", &*good, 200),
        ("/page", "", 401),
        ("/routed/page", &good, 200),
        ("/routed/other", &good, 403),
        ("/off", "x-auth-user: root\r\n", 200),
    ] {
        let response = client.request(&format!("GET {target} HTTP/1.1\r\n{lines}"), b"");
        assert_eq!(response.status, status, "{target} {lines}");
        assert!(!format!("{:?}", proxy.application.take()).contains("root"));
    }
    let head = format!("POST /form HTTP/1.1\r\n{good}");
    assert_eq!(client.request(&head, b"name=value").status, 200);
    assert_eq!(proxy.application.take().pop().unwrap().body, "name=value");
}

fn keys_are_waited_for(kind: &ModuleKind) {
    let [old, key] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let options = format!("jwks_uri={}", provider.uri());
    let proxy = (kind.routed)(&with_listener(&fixture::with_idp("ES256", &options)));
    let (response, _) = proxy.get("/", &bearer(&old.token(&fixture::claims_of("https://idp/"))));
    assert_eq!(response.status, 200, "{response:?} {}", proxy.running.log());
    let slow = CannedResponse::json(&fixture::key_set(&[&old, &key]));
    provider.respond_with(slow.delayed(Duration::from_millis(700)));
    let token = bearer(&key.token(&fixture::claims_of("https://idp/")));
    let denied = token.clone();
    // A client that leaves while its request waits, and others that stay.
    let mut leaving = Connection::open(proxy.address);
    let before = provider.requests();
    leaving.send_raw(get("/", &token).as_bytes());
    eventually(|| provider.requests() > before);
    drop(leaving);
    let body = "name=value&".repeat(10_000);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..6).map(|_| scope.spawn(|| proxy.status("/", &token))).collect();
        let refused = scope.spawn(|| proxy.status("/routed/other", &denied));
        let mut posting = Connection::open(proxy.address);
        posting.send_raw(post("/form", &token, &body).as_bytes());
        assert_eq!(posting.receive(false).status, 200);
        for status in waiting {
            assert_eq!(status.join().unwrap(), 200);
        }
        assert_eq!(refused.join().unwrap(), 403);
    });
    let (response, seen) = proxy.send(&post("/form", &token, &body));
    assert_eq!((response.status, seen.unwrap().body == body), (200, true));
    let log = proxy.running.log();
    assert!(!log.contains("[alert]") && !log.contains("signal 11"), "{log}");
}

fn provider_outage_is_answered_with_503(kind: &ModuleKind) {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start_with(CannedResponse::status("500 Internal Server Error"));
    let options = format!("jwks_uri={}", provider.uri());
    let proxy = (kind.routed)(&with_listener(&fixture::with_idp("ES256", &options)));
    let token = bearer(&key.token(&fixture::claims_of("https://idp/")));
    let (response, seen) = proxy.get("/", &token);
    assert_eq!((response.status, seen.is_none()), (503, true), "{response:?}");
    assert!(response.header("retry-after").is_some(), "{response:?}");
    // It names the issuer, for the operator.
    assert_eq!(response.header("x-auth-error"), None);
    // Other issuers are not concerned.
    assert_eq!(proxy.status("/", &bearer(&fixture::good_token())), 200);
    provider.publish(&fixture::key_set(&[&key]));
    eventually(|| proxy.status("/", &token) == 200);
}
