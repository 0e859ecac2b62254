//! Headers by which a client tries to claim an identity or another request.

use countersign_tests::proxies::WEBSOCKET;
use serde_json::json;

use super::{
    super::world::{World, bearer, good, good_but},
    IDENTITY, assert_identity_and_request,
};

pub(super) fn e3_client_identity_headers_are_replaced(world: &mut World<'_>) {
    let claimed = |name: &str| {
        format!(
            "{name}: root\r\n{}: root, root\r\n{}: root\r\n",
            name.to_lowercase(),
            name.to_uppercase()
        )
    };
    let lines: String = IDENTITY.iter().map(|(name, _)| claimed(name)).collect();
    // The second token has no subject.
    let without_subject = good_but(json!({ "sub": null }));
    for (token, subject) in [(good(), "bob"), (without_subject, "")] {
        for lines in [format!("{lines}{}", bearer(&token)), format!("{}{lines}", bearer(&token))] {
            let exchange = world.get(&lines);
            assert_eq!(exchange.answer.status, 200, "{:?}", exchange.answer);
            assert!(!format!("{:?}", exchange.seen).contains("root"), "{:?}", exchange.seen);
            assert_eq!(exchange.given().lines("x-auth-subject").concat(), subject);
        }
    }
    world.get(&lines).assert_refused(401);
}

/// Many applications map every separator in a header's name to an underscore, as in
/// `HTTP_X_AUTH_USER`.
pub(super) fn e2_identity_header_lookalikes_are_removed(world: &mut World<'_>) {
    for between in "_.!#$%&'*+^`|~".chars() {
        let mut lines: String = IDENTITY
            .iter()
            .map(|(name, _)| format!("{}: root\r\n", name.replace('-', &between.to_string())))
            .collect();
        lines += &format!(
            "x{between}auth-user: root\r\nX-Auth{between}User: root\r\nX_AUTH{between}CLIENT-TYPES: root\r\n"
        );
        let exchange = world.get(&format!("{lines}{}", bearer(&good())));
        if exchange.answer.status == 200 {
            assert!(
                !format!("{:?}", exchange.given()).contains("root"),
                "{between}: {:?}",
                exchange.given()
            );
        } else {
            exchange.assert_refused(400);
        }
    }
    // Invalid header names (RFC 9112 section 5.1).
    for name in [
        "X-Auth-User ",
        "X-Auth-User\t",
        "X-Auth-User\u{b}",
        "X-Auth-User\0",
        "X-Auth-\rUser",
        "\"X-Auth-User\"",
        "(X-Auth-User)",
    ] {
        let exchange = world.get(&format!("{name}: root\r\n{}", bearer(&good())));
        let passed =
            exchange.answer.status == 200 && !format!("{:?}", exchange.given()).contains("root");
        assert!(
            passed || exchange.answer.status == 400 && exchange.seen.is_empty(),
            "{name:?}: {:?}",
            exchange.seen
        );
    }
}

/// Some applications merge trailers into the headers.
pub(super) fn e3_trailers_do_not_change_the_identity(world: &mut World<'_>) {
    let lines = format!(
        "{}Trailer: X-Auth-User, X_Auth_User\r\nTransfer-Encoding: chunked\r\n",
        bearer(&good())
    );
    let trailers = "X-Auth-User: root\r\nX-Auth-Tenant: root\r\nX_Auth_User: root\r\nX-Forwarded-For: root\r\n";
    let request = format!(
        "POST /form HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n4\r\nname\r\n0\r\n{trailers}\r\n"
    );
    let exchange = world.send(&request);
    assert!([200, 400].contains(&exchange.answer.status), "{:?}", exchange.answer);
    assert!(!format!("{:?}", exchange.asked).contains("root"), "{:?}", exchange.asked);
    assert_eq!(
        format!("{:?}", exchange.seen).contains("root"),
        world.proxy.passes_trailers,
        "{:?}",
        exchange.seen
    );
}

/// Only the proxy describes the original request to Countersign.
pub(super) fn e1_client_cannot_forge_the_original_request(world: &mut World<'_>) {
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Method",
        "X-Forwarded-Uri",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Original-Method",
        "X-Original-URI",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Real-IP",
        "X-Client-IP",
        "X-Envoy-External-Address",
        "X-Envoy-Original-Path",
        "X-Envoy-Original-Method",
        "Forwarded",
    ];
    for value in ["evil", "198.51.100.66", "127.0.0.1, 198.51.100.66", ""] {
        let lines: String = names
            .map(|name| format!("{name}: {value}\r\n{}: {value}\r\n", name.to_lowercase()))
            .concat();
        let exchange = world.get(&format!("{lines}{}", bearer(&good())));
        assert_eq!(exchange.answer.status, 200, "{:?}", exchange.answer);
        let auth_request = exchange.auth_request();
        assert_eq!(
            world.proxy.dialect.original_request(auth_request),
            ("GET".into(), "/page?x=1".into())
        );
        assert_eq!(
            auth_request.lines(&world.proxy.address_header.to_lowercase()),
            ["127.0.0.1"],
            "{auth_request:?}"
        );
        world.get(&lines).assert_refused(401);
    }
}

/// `Connection` names headers that are removed before the next hop. Here the client names headers
/// that the proxy sets.
pub(super) fn e2_connection_cannot_remove_proxy_headers(world: &mut World<'_>) {
    let identity = IDENTITY.map(|(name, _)| name).join(", ");
    let proxy_headers = "X-Forwarded-For, X-Real-IP, X-Forwarded-Method, X-Forwarded-Uri, X-Forwarded-Host, X-Forwarded-Proto, X-Original-Method, X-Original-URI";
    for line in [
        format!("Connection: close, {identity}\r\n"),
        format!("Connection: {proxy_headers}\r\n"),
        format!(
            "Connection: keep-alive\r\nConnection: {identity}, {proxy_headers}\r\nKeep-Alive: 1\r\n"
        ),
        format!("{WEBSOCKET}Connection: {identity}, {proxy_headers}\r\n"),
        format!("Proxy-Connection: {identity}\r\nTE: trailers\r\nTrailer: X-Auth-User\r\n"),
    ] {
        let exchange = world.get(&format!("{line}{}", bearer(&good())));
        if ![101, 200].contains(&exchange.answer.status) {
            assert!([400, 403].contains(&exchange.answer.status), "{line}: {:?}", exchange.answer);
            exchange.assert_refused(exchange.answer.status);
            continue;
        }
        assert_identity_and_request(world, &exchange, &line);
        let options = exchange.given().lines("connection").concat().to_lowercase();
        assert!(!options.contains("x-"), "the next hop would drop {options}");
    }
    let without = world.get(&format!("Connection: Authorization\r\n{}", bearer(&good())));
    assert!([200, 401].contains(&without.answer.status), "{:?}", without.answer);
}

/// Many applications take the client's address, its certificate, the scheme, the host, the method or
/// the path from such headers. They get none that the client wrote, in any spelling.
pub(super) fn e1_descriptions_by_the_client_are_removed(world: &mut World<'_>) {
    let names = [
        "Client-Cert",
        "Client-Cert-Chain",
        "Forwarded",
        "X-Amzn-Mtls-Clientcert",
        "X-Amzn-Mtls-Clientcert-Issuer",
        "X-Amzn-Mtls-Clientcert-Leaf",
        "X-Amzn-Mtls-Clientcert-Serial-Number",
        "X-Amzn-Mtls-Clientcert-Subject",
        "X-Amzn-Mtls-Clientcert-Validity",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Method",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Proto",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Forwarded-Tls-Client-Cert",
        "X-Forwarded-Tls-Client-Cert-Info",
        "X-Forwarded-Uri",
        "X-HTTP-Method",
        "X-HTTP-Method-Override",
        "X-Identity-Tls-Cert-Auth-Client-Cert",
        "X-Method-Override",
        "X-Original-Host",
        "X-Original-Method",
        "X-Original-URI",
        "X-Original-URL",
        "X-Real-IP",
        "X-Rewrite-URL",
    ];
    for (path, authorization) in [("/page", bearer(&good())), ("/public/page", String::new())] {
        for between in ["-", "_", "."] {
            let lines: String = names
                .map(|name| name.replace('-', between))
                .map(|name| format!("{name}: evil\r\n{}: evil\r\n", name.to_lowercase()))
                .concat();
            let exchange = world.send(&format!(
                "GET {path} HTTP/1.1\r\nHost: shop.example\r\n{lines}{authorization}\r\n"
            ));
            assert_eq!(exchange.answer.status, 200, "{path} {between}: {:?}", exchange.answer);
            assert!(
                !format!("{:?}", exchange.given()).contains("evil"),
                "{path} {between}: {:?}",
                exchange.given()
            );
        }
    }
}

/// The application gets the host as the client wrote it, and the client's address and scheme.
pub(super) fn e1_forwarded_headers_name_the_client(world: &mut World<'_>) {
    let forged = "X-Forwarded-For: 198.51.100.66\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 198.51.100.66\r\n";
    for (path, authorization) in [("/page", bearer(&good())), ("/public/page", String::new())] {
        for forged in ["", forged] {
            let exchange = world.send(&format!(
                "GET {path} HTTP/1.1\r\nHost: shop.example:8000\r\n{forged}{authorization}\r\n"
            ));
            let given = exchange.given();
            assert_eq!(given.lines("host"), ["shop.example:8000"], "{given:?}");
            assert_eq!(given.lines("x-forwarded-proto"), ["http"], "{given:?}");
            assert_eq!(given.lines("x-forwarded-for"), ["127.0.0.1"], "{given:?}");
        }
    }
}

/// A client upgraded to HTTP/2 by the application would bypass authorization.
pub(super) fn upgrade_to_http2_is_not_forwarded(world: &mut World<'_>) {
    for protocol in ["h2c", "websocket, h2c", "h2c\r\nUpgrade: websocket", "HTTP/2.0", "TLS/1.0"] {
        let lines = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        );
        let exchange = world.get(&format!("{lines}{}", bearer(&good())));
        if [101, 200].contains(&exchange.answer.status) {
            let upgrade = exchange.given().lines("upgrade");
            assert!(
                upgrade.is_empty() || upgrade == ["websocket"] && protocol.contains("websocket"),
                "{protocol}: {:?}",
                exchange.given()
            );
        } else {
            assert!(
                [400, 403].contains(&exchange.answer.status),
                "{protocol}: {:?}",
                exchange.answer
            );
            assert!(exchange.seen.is_empty());
        }
        let refused = world.get(&lines);
        assert!(
            [400, 401, 403].contains(&refused.answer.status),
            "{protocol}: {:?}",
            refused.answer
        );
        assert!(refused.seen.is_empty());
    }
}
