use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, IssuedCertificate, ours},
    client::{Client, Protocol},
    http::Response,
    over_every_protocol,
    tls::{TlsClient, TlsClientOptions},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{ISSUER, IdentityApi, claims, configuration, refused, text, with_server};
use crate::fixture::SIGNING;

over_every_protocol!(
    c43_login_without_a_certificate_is_refused,
    c44_identity_without_the_method_is_not_found,
    c45_certificate_logs_an_identity_in,
    c49_certificate_of_another_ca_is_refused,
    c51_common_names_are_compared_exactly,
    c57_repeated_header_is_refused,
    header_of_an_untrusted_peer_is_refused,
    certificate_of_the_connection_logs_in,
);

const HEADER: &str = "X-Identity-Tls-Cert-Auth-Client-Cert";

/// Attaches the method to a new identity and returns its id.
fn attach(api: &IdentityApi<'_>, ca: &Authority, mut body: Value) -> String {
    let id = api.create("machine", "member");
    body["caCertificate"] = ca.pem().into();
    let attached = api.send(&format!("POST /auth/tls-cert-auth/identities/{id}"), body);
    assert_eq!(attached.status, 200, "{attached:?}");
    id
}

/// Returns the header line of a proxy.
fn header(certificate: &IssuedCertificate) -> String {
    format!("{HEADER}: {}\r\n", utf8_percent_encode(&certificate.pem(), NON_ALPHANUMERIC))
}

fn log_in(api: &IdentityApi<'_>, identity: &str, lines: &str) -> Response {
    let body = json!({ "identityId": identity }).to_string();
    api.call("", "POST /auth/tls-cert-auth/login", lines, &body)
}

fn c43_login_without_a_certificate_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        refused(&log_in(api, "x", ""), 400, "Missing TLS certificate in header");
        let body = api.call("", "POST /auth/tls-cert-auth/login", "", "{}");
        super::invalid(&body, "identityId");
    });
}

fn c44_identity_without_the_method_is_not_found(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let client = header(&Authority::root("ca").client("bob", 1));
        let message = "TLS Certificate auth method not found for identity, did you configure TLS \
                       Certificate auth?";
        for id in ["unknown", &api.create("x", "member")] {
            refused(&log_in(api, id, &client), 404, message);
        }
    });
}

fn c45_certificate_logs_an_identity_in(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let terms = json!({ "accessTokenTTL": 600, "accessTokenNumUsesLimit": 1 });
        let id = attach(api, &ca, terms);
        let login = log_in(api, &id, &header(&ca.client("bob", 1)));
        assert_eq!(login.status, 200, "{login:?}");
        let login = login.json();
        assert_eq!((&login["expiresIn"], &login["tokenType"]), (&json!(600), &json!("Bearer")));
        let token = text(&login["accessToken"]);
        let claims = claims(&token);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!(ISSUER), &json!(id)));
        assert_eq!(claims["authMethod"], "tls-cert-auth");
        assert_eq!(claims["clientSecretId"], "");
        assert_eq!((api.auth(&token), api.auth(&token)), (200, 401));
    });
}

fn c49_certificate_of_another_ca_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let id = attach(api, &Authority::root("ca"), json!({}));
        let other = header(&Authority::root("ca").client("bob", 1));
        let message = "Access denied: Certificate not issued by the provided CA.";
        refused(&log_in(api, &id, &other), 401, message);
    });
}

fn c51_common_names_are_compared_exactly(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let id = attach(api, &ca, json!({ "allowedCommonNames": "alice, bob" }));
        assert_eq!(log_in(api, &id, &header(&ca.client("bob", 1))).status, 200);
        let message = "Access denied: TLS Certificate Auth common name not allowed.";
        refused(&log_in(api, &id, &header(&ca.client("Bob", 2))), 401, message);
        let id = attach(api, &ca, json!({ "allowedSubjectAltNames": ["DNS:x.example"] }));
        let message = "Access denied: TLS Certificate Auth subject alternative name not allowed.";
        refused(&log_in(api, &id, &header(&ca.client("bob", 3))), 401, message);
    });
}

fn c57_repeated_header_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let id = attach(api, &ca, json!({}));
        let line = header(&ca.client("bob", 1));
        assert_eq!(log_in(api, &id, &line.repeat(2)).status, 400);
    });
}

fn header_of_an_untrusted_peer_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server =
        sandbox.serve(&format!("{SIGNING}[server]\nauth=true\n[identities]\nenabled=true\n"));
    let api = IdentityApi::new(&server);
    let ca = Authority::root("ca");
    let id = attach(&api, &ca, json!({}));
    let response = log_in(&api, &id, &header(&ca.client("bob", 1)));
    assert_eq!(response.status, 400, "{response:?}");
}

fn certificate_of_the_connection_logs_in(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let text_of = configuration("bind_certificates=true\n")
        .replace("trusted_proxies=127.0.0.1", "client_certificates=possession");
    let server = sandbox.serve(&text_of);
    let api = IdentityApi::new(&server);
    let ca = Authority::root("ca");
    let id = attach(&api, &ca, json!({}));
    let issued = ca.client("bob", 1);
    let client = |certificate| {
        let protocols = &[protocol.alpn()];
        let options = TlsClientOptions { protocols, certificate, ..TlsClientOptions::default() };
        Client::under_tls(protocol, server.address, &TlsClient::new(&ours().0, &options))
    };
    let mut bound = client(Some(&issued));
    let body = json!({ "identityId": id }).to_string();
    let login = "POST /api/v1/auth/tls-cert-auth/login HTTP/1.1\r\n";
    let response = bound.request(login, body.as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    let token = text(&response.json()["accessToken"]);
    let check = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(bound.request(&check, b"").status, 200);
    assert_eq!(client(None).request(&check, b"").status, 401, "it is bound to the certificate");
    // A header is ignored on such a listener.
    let head = format!("{login}{}", header(&issued));
    assert_eq!(client(None).request(&head, body.as_bytes()).status, 400);
}
