use std::thread;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, IssuedCertificate, ours},
    client::{Client, Protocol},
    eventually,
    http::Response,
    over_every_protocol,
    tls::{TlsClient, TlsClientOptions},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{ISSUER, IdentityApi, claims, configuration, refused, text, with_server};
use crate::{audit::audit_with, fixture::SIGNING};

over_every_protocol!(
    c43_login_without_a_certificate_is_refused,
    c44_identity_without_the_method_is_not_found,
    c45_certificate_logs_an_identity_in,
    c46_plus_sign_of_a_load_balancer_stays,
    c47_malformed_escape_is_refused,
    c48_value_without_a_whole_block_is_refused,
    c48b_certificate_that_is_none_is_refused,
    c48c_chain_is_decoded_in_chain_mode_only,
    c57_repeated_header_is_refused,
    header_of_an_untrusted_peer_is_refused,
    certificate_of_the_connection_logs_in,
    bound_token_is_used_in_every_header_format,
    refused_logins_are_in_the_audit_log,
    flood_of_refusals_hides_no_other,
    logins_at_once_hold_up_no_check,
);

const HEADER: &str = "X-Identity-Tls-Cert-Auth-Client-Cert";

/// Attaches the method with a CA in PEM to a new identity, and returns its id.
pub(super) fn attach(api: &IdentityApi<'_>, ca: &str, mut body: Value) -> String {
    let id = api.create("machine", "member");
    body["caCertificate"] = ca.into();
    let attached = api.send(&format!("POST /auth/tls-cert-auth/identities/{id}"), body);
    assert_eq!(attached.status, 200, "{attached:?}");
    id
}

/// Returns the header line of a proxy for certificates in PEM.
pub(super) fn header(pem: &str) -> String {
    format!("{HEADER}: {}\r\n", utf8_percent_encode(pem, NON_ALPHANUMERIC))
}

pub(super) fn log_in(api: &IdentityApi<'_>, identity: &str, lines: &str) -> Response {
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
        let client = header(&Authority::root("ca").client("bob", 1).pem());
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
        let id = attach(api, &ca.pem(), terms);
        let login = log_in(api, &id, &header(&ca.client("bob", 1).pem()));
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

fn c46_plus_sign_of_a_load_balancer_stays(protocol: Protocol) {
    /// What a load balancer of AWS escapes.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'+').remove(b'=').remove(b'/');
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let id = attach(api, &ca.pem(), json!({}));
        let mut clients = (1..).map(|serial| ca.client("bob", serial).pem());
        let pem = clients.find(|pem| pem.contains('+')).unwrap();
        let line = format!("{HEADER}: {}\r\n", utf8_percent_encode(&pem, ESCAPED));
        assert_eq!(log_in(api, &id, &line).status, 200);
        // As in a form, it would stand for a space.
        assert_ne!(log_in(api, &id, &line.replace('+', "%20")).status, 200);
    });
}

fn c47_malformed_escape_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let id = attach(api, &ca.pem(), json!({}));
        let line = header(&ca.client("bob", 1).pem());
        let message = "The TLS certificate in the header is not valid URL-encoded data";
        for escape in ["%", "%2", "%zz", "%ff"] {
            let damaged = line.replacen("%2D", escape, 1);
            refused(&log_in(api, &id, &damaged), 400, message);
        }
    });
}

fn c48_value_without_a_whole_block_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let id = attach(api, &Authority::root("ca").pem(), json!({}));
        for (value, message) in [
            (" ", "Certificate chain is empty or undefined"),
            (
                "-----BEGIN CERTIFICATE-----\nMII",
                "Malformed certificate chain: Found BEGIN marker without matching END marker",
            ),
            ("MII", "No valid certificates found in the chain"),
        ] {
            refused(&log_in(api, &id, &header(value)), 400, message);
        }
        // An empty line is none, and refused before the identity is looked up.
        let missing = "Missing TLS certificate in header";
        refused(&log_in(api, "unknown", &format!("{HEADER}:\r\n")), 400, missing);
        let method = "TLS Certificate auth method not found for identity, did you configure TLS \
                      Certificate auth?";
        refused(&log_in(api, "unknown", &header("MII")), 404, method);
    });
}

/// A block without a certificate.
const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

fn c48b_certificate_that_is_none_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca").pem();
        for chain in [false, true] {
            let id = attach(api, &ca, json!({ "verifyClientCertificateChain": chain }));
            let message = "Access denied: the client certificate could not be decoded.";
            refused(&log_in(api, &id, &header(DAMAGED)), 401, message);
        }
    });
}

fn c48c_chain_is_decoded_in_chain_mode_only(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let line = header(&format!("{}{DAMAGED}", ca.client("bob", 1).pem()));
        let id = attach(api, &ca.pem(), json!({}));
        assert_eq!(log_in(api, &id, &line).status, 200);
        let id = attach(api, &ca.pem(), json!({ "verifyClientCertificateChain": true }));
        let message = "Access denied: the presented chain could not be decoded.";
        refused(&log_in(api, &id, &line), 401, message);
    });
}

fn c57_repeated_header_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let id = attach(api, &ca.pem(), json!({}));
        let line = header(&ca.client("bob", 1).pem());
        let message = "The TLS certificate header occurs more than once";
        refused(&log_in(api, &id, &line.repeat(2)), 400, message);
        // It is not a matter of their values.
        let other = format!("{line}{HEADER}: x\r\n");
        refused(&log_in(api, &id, &other), 400, message);
    });
}

fn header_of_an_untrusted_peer_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server =
        sandbox.serve(&format!("{SIGNING}[server]\nauth=true\n[identities]\nenabled=true\n"));
    let api = IdentityApi::new(&server);
    let ca = Authority::root("ca");
    let id = attach(&api, &ca.pem(), json!({}));
    let response = log_in(&api, &id, &header(&ca.client("bob", 1).pem()));
    let message = "The TLS certificate header is accepted only from trusted proxies";
    refused(&response, 400, message);
    let event = audit_with(&sandbox, "identity.login", 1).remove(0);
    assert_eq!(event["reason"], "certificate_header_untrusted");
    assert_eq!(event["from"]["client"], "127.0.0.1", "the address that was seen: {event}");
}

fn certificate_of_the_connection_logs_in(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let text_of = configuration("bind_certificates=true\n")
        .replace("trusted_proxies=127.0.0.1", "client_certificates=possession");
    let server = sandbox.serve(&text_of);
    let api = IdentityApi::new(&server);
    let ca = Authority::root("ca");
    let id = attach(&api, &ca.pem(), json!({}));
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
    let head = format!("{login}{}", header(&issued.pem()));
    assert_eq!(client(None).request(&head, body.as_bytes()).status, 400);
}

fn bound_token_is_used_in_every_header_format(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let ca = Authority::root("ca");
    let [right, other] = [("bob", 1), ("eve", 2)].map(|(name, serial)| ca.client(name, serial));
    let base64 = |issued: &IssuedCertificate| STANDARD.encode(&issued.chain[0]);
    let sequence = |issued: &IssuedCertificate| format!(":{}:", base64(issued));
    let element = |issued: &IssuedCertificate| {
        let pem = utf8_percent_encode(&issued.pem(), NON_ALPHANUMERIC).to_string();
        format!("By=spiffe://proxy;Hash=00;Cert=\"{pem}\";Subject=\"CN=bob\"")
    };
    let [of_other, of_right] = [element(&other), element(&right)];
    for (name, format, value, foreign) in [
        (
            "X-Forwarded-Client-Cert",
            "xfcc",
            format!("{of_other},{of_right}"),
            format!("{of_right},{of_other}"),
        ),
        ("Client-Cert", "rfc9440", sequence(&right), sequence(&other)),
        ("X-Forwarded-Tls-Client-Cert", "base64-der", base64(&right), base64(&other)),
    ] {
        let server = sandbox.serve(&configuration(&format!(
            "bind_certificates=true\n[listen]\nclient_certificate_header={name}\n\
             [tls_cert_auth]\ncertificate_header={name}\ncertificate_format={format}\n"
        )));
        let api = IdentityApi::new(&server);
        let id = attach(&api, &ca.pem(), json!({}));
        let [right, wrong] = [value, foreign].map(|value| format!("{name}: {value}\r\n"));
        let login = log_in(&api, &id, &right);
        assert_eq!(login.status, 200, "{login:?}");
        let token = text(&login.json()["accessToken"]);
        assert!(claims(&token)["cnf"]["x5t#S256"].is_string());
        let body = json!({ "accessToken": token }).to_string();
        for (lines, statuses) in
            [(&right, (200, 200)), (&wrong, (401, 403)), (&String::new(), (401, 403))]
        {
            let check = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{lines}");
            let renewal = api.call("", "POST /auth/token/renew", lines, &body);
            assert_eq!(
                (server.request(&check).status, renewal.status),
                statuses,
                "{name}: {lines}"
            );
        }
    }
}

fn refused_logins_are_in_the_audit_log(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let ca = Authority::root("ca");
    let chain = json!({ "verifyClientCertificateChain": true, "allowedCommonNames": "alice" });
    let id = attach(&api, &ca.pem(), chain);
    let client = ca.client("bob", 1).pem();
    let foreign = Authority::root("other").client("alice", 1).pem();
    for (identity, lines, reason) in [
        (&*id, String::new(), "certificate_missing"),
        ("unknown", header(&client), "method_not_attached"),
        (&id, header(&client).repeat(2), "certificate_header_duplicate"),
        (&id, header("%"), "certificate_header_malformed"),
        (&id, header(DAMAGED), "certificate_unreadable"),
        (&id, header(&format!("{client}{DAMAGED}")), "certificate_chain_unreadable"),
        (&id, header(&foreign), "ca_verification_failed"),
        (&id, header(&client), "common_name_not_allowed"),
    ] {
        assert!(log_in(&api, identity, &lines).status >= 400, "{reason}");
        let events = || audit_with(&sandbox, "identity.login", 1);
        eventually(|| events().iter().any(|event| event["reason"] == reason));
        let events = events();
        let event = events.iter().find(|event| event["reason"] == reason).unwrap();
        let recorded = event["target"]["identity"].as_str().unwrap();
        assert_eq!(recorded == identity, identity == id, "{event}");
        assert!(recorded == identity || recorded.starts_with("unknown:"), "{event}");
    }
}

fn flood_of_refusals_hides_no_other(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let from = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    for number in 0..70 {
        let response = log_in(&api, &format!("junk-{number}"), &from("198.51.100.7"));
        assert_eq!(response.status, 400);
    }
    let repeated = format!("{}{}", from("198.51.100.7"), header("x").repeat(2));
    assert_eq!(log_in(&api, "junk", &repeated).status, 400);
    assert_eq!(log_in(&api, "junk", &from("192.0.2.7")).status, 400);
    let events = || audit_with(&sandbox, "identity.login", 1);
    let has = |name: &str, value: &str| {
        events().iter().any(|event| event.to_string().contains(&format!("\"{name}\":\"{value}\"")))
    };
    eventually(|| has("client", "192.0.2.7") && has("reason", "certificate_header_duplicate"));
    assert!(events().len() < 30, "a part of the flood is only counted: {}", events().len());
}

fn logins_at_once_hold_up_no_check(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("[listen]\nthreads=1\n"));
    let api = IdentityApi::new(&server);
    let ca = Authority::root("ca");
    let id = attach(&api, &ca.pem(), json!({ "verifyClientCertificateChain": true }));
    let line = header(&ca.client("bob", 1).pem());
    let login = || log_in(&api, &id, &line);
    let token = text(&login().json()["accessToken"]);
    thread::scope(|scope| {
        let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| login().status)).collect();
        assert_eq!(api.auth(&token), 200);
        for login in logins {
            assert_eq!(login.join().unwrap(), 200);
        }
    });
}
