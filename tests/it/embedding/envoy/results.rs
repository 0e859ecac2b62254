//! Results of a check other than the response: counters, metadata, routes, and certificates.

use countersign_tests::{
    certificates::{Authority, ours},
    client::{Client, Protocol},
    eventually,
    http::request,
    tls::{TlsClient, TlsClientOptions},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{
    super::{
        contract::with_listener,
        module_proxy::{ModuleProxy, bearer},
    },
    command,
    configuration::{EnvoyOptions, bootstrap, route, tls},
    start,
};
use crate::{fixture, possession::bound_to};

/// Returns the value of a counter, by the administration interface.
fn counter(admin: std::net::SocketAddr, name: &str) -> u64 {
    let head = "GET /stats?filter=countersign HTTP/1.1\r\nConnection: close\r\n";
    let stats = request(admin, head, b"").body;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("{name}: {stats}")).trim().parse().unwrap()
}

#[test]
fn envoy_module_counts_its_decisions() {
    let mut admin = None;
    let idp = "jwks_uri=http://127.0.0.1:9/jwks";
    let configuration = with_listener(&fixture::with_idp("ES256", idp));
    let proxy = ModuleProxy::start(&configuration, |directory, addresses| {
        admin = Some(addresses.http2);
        command(directory, &bootstrap(addresses, &EnvoyOptions::default()).to_string())
    });
    let of_idp = fixture::token_with_header(
        &json!({ "alg": "ES256", "kid": "k" }),
        &fixture::claims_of("https://idp/"),
    );
    for (token, status) in [
        (fixture::good_token(), 200),
        (fixture::good_token(), 200),
        ("abc".into(), 401),
        (of_idp, 503),
    ] {
        assert_eq!(proxy.status("/", &bearer(&token)), status, "{}", proxy.running.log());
    }
    assert_eq!(proxy.status("/off", ""), 200);
    let admin = admin.unwrap();
    let counted = || {
        ["allowed", "refused", "failed"].map(|name| counter(admin, &format!("countersign.{name}")))
    };
    eventually(|| counted() == [2, 1, 1]);
    // The access log has the reasons that clients do not get.
    for details in ["countersign\n", "countersign:keys_unavailable\n"] {
        eventually(|| proxy.running.log().contains(&format!("details={details}")));
    }
}

#[test]
fn envoy_module_refuses_grpc_with_a_status_of_grpc() {
    let idp = "jwks_uri=http://127.0.0.1:9/jwks";
    let proxy = start(&with_listener(&fixture::with_idp("ES256", idp)), &EnvoyOptions::default());
    let of_idp = fixture::token_with_header(
        &json!({ "alg": "ES256", "kid": "k" }),
        &fixture::claims_of("https://idp/"),
    );
    for (token, status) in [("abc", "16"), (&of_idp, "14")] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let lines = format!("Content-Type: {kind}\r\n{}", bearer(token));
            let (response, seen) = proxy.get("/", &lines);
            let response_status = (response.status, response.header("grpc-status"));
            assert_eq!(response_status, (200, Some(status)), "{response:?}");
            assert!(seen.is_none(), "the application has not seen it");
        }
    }
    let lines = format!("Content-Type: application/grpc-web\r\n{}", bearer("abc"));
    let (response, _) = proxy.get("/", &lines);
    assert_eq!((response.status, response.header("grpc-status")), (401, None));
}

#[test]
fn envoy_module_takes_the_peer_from_the_connection() {
    let issued = Authority::root("clients").client("bob", 1);
    let options = EnvoyOptions { use_remote_address: false, ..EnvoyOptions::default() };
    // A line of the client names a trusted proxy, which may pass certificates on.
    for (trusted, status) in [("192.0.2.9", 401), ("127.0.0.1", 200)] {
        let configuration = format!(
            "{}[listen]\ntrusted_proxies={trusted}\nclient_certificate_header=X-Cert\n",
            fixture::SIGNING
        );
        let proxy = start(&with_listener(&configuration), &options);
        let lines = format!(
            "X-Forwarded-For: 192.0.2.9\r\nX-Cert: {}\r\n{}",
            utf8_percent_encode(&issued.pem(), NON_ALPHANUMERIC),
            bearer(&bound_to(&issued))
        );
        assert_eq!(proxy.get("/", &lines).0.status, status, "{}", proxy.running.log());
    }
}

#[test]
fn envoy_module_sets_metadata_of_claims() {
    let options = EnvoyOptions {
        filter_config: json!({
            "metadata_claims": ["sub", "groups", "level", "huge", "is_admin", "address", "missing"],
        }),
        response_headers: json!({ "x-metadata": "%DYNAMIC_METADATA(countersign)%" }),
        ..EnvoyOptions::default()
    };
    let proxy = start(&with_listener(fixture::SIGNING), &options);
    let claims = json!({
        "groups": ["a", "b"], "level": 7, "huge": 9_007_199_254_740_993u64, "is_admin": true,
        "address": { "city": "x" }, "other": 1,
    });
    let expected = json!({
        "sub": "bob", "groups": ["a", "b"], "level": 7, "huge": "9007199254740993",
        "is_admin": true, "address": "{\"city\":\"x\"}",
    });
    let token = bearer(&fixture::token(&fixture::claims(claims)));
    for _ in 0..2 {
        let (response, _) = proxy.get("/", &token);
        let metadata = response.header("x-metadata").unwrap_or_else(|| panic!("{response:?}"));
        let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
        assert_eq!(metadata, expected);
    }
}

#[test]
fn envoy_module_may_change_the_route() {
    let mut other = route("/", None);
    other["match"]["headers"] =
        json!([{ "name": "x-auth-user", "string_match": { "exact": "bob" } }]);
    other["route"] = json!({ "cluster": "application", "prefix_rewrite": "/of-bob/" });
    for (clears, path) in [(true, "/of-bob/page"), (false, "/page")] {
        let options = EnvoyOptions {
            routes: vec![other.clone()],
            filter_config: json!({ "clear_route_cache": clears }),
            ..EnvoyOptions::default()
        };
        let proxy = start(&with_listener(fixture::SIGNING), &options);
        let (response, seen) = proxy.get("/page", &bearer(&fixture::good_token()));
        assert_eq!((response.status, &*seen.unwrap().target), (200, path));
    }
}

#[test]
fn envoy_module_knows_the_client_certificate() {
    let clients = Authority::root("clients");
    let (bound, other) = (clients.client("bob", 1), clients.client("eve", 2));
    let options = EnvoyOptions { tls: Some(tls()), ..EnvoyOptions::default() };
    let proxy = ModuleProxy::start(&with_listener(fixture::SIGNING), |directory, addresses| {
        ours().1.write(directory);
        std::fs::write(directory.join("clients.crt"), clients.pem()).unwrap();
        command(directory, &bootstrap(addresses, &options).to_string())
    });
    for (certificate, status) in [(Some(&bound), 200), (Some(&other), 401), (None, 401)] {
        let protocols = &[Protocol::Http1.alpn()];
        let options = TlsClientOptions { protocols, certificate, ..TlsClientOptions::default() };
        let tls = TlsClient::new(&ours().0, &options);
        let mut client = Client::under_tls(Protocol::Http1, proxy.address, &tls);
        let head = |token: &str| format!("GET /page HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        assert_eq!(client.request(&head(&bound_to(&bound)), b"").status, status);
        assert_eq!(client.request(&head(&fixture::good_token()), b"").status, 200);
    }
}
