//! The certificates that log an identity in, made by `openssl`.

use countersign_tests::{
    certificates::{Authority, EXPIRED},
    client::Protocol,
    http::Response,
    over_every_protocol,
    pki::{AUTHORITY, CertificateSpec, OpensslPki},
};
use serde_json::{Value, json};

use super::{
    IdentityApi,
    certificates::{attach, header, log_in},
    refused, with_server,
};

over_every_protocol!(
    c49_certificate_of_another_ca_is_refused,
    c50_dates_of_the_certificate_are_checked,
    c51_listed_common_name_is_accepted,
    c52_common_name_is_compared_exactly,
    c53_ca_certificate_is_not_a_client,
    c54_issuer_needs_the_name_of_the_ca,
    c55_certificate_for_servers_is_refused,
    c56_intermediate_ca_needs_chain_mode,
    alt_names_are_allowed_in_addition,
    authority_without_clients_is_not_attached,
    authority_with_an_unsupported_key_is_refused,
);

const NOT_ISSUED: &str = "Access denied: Certificate not issued by the provided CA.";
const COMMON_NAME: &str = "Access denied: TLS Certificate Auth common name not allowed.";

/// Logs in with certificates in PEM, at a new identity with this CA and these terms.
fn log_in_at(api: &IdentityApi<'_>, ca: &str, terms: Value, pem: &[&str]) -> Response {
    let id = attach(api, ca, terms);
    log_in(api, &id, &header(&pem.concat()))
}

fn in_chain_mode() -> Value {
    json!({ "verifyClientCertificateChain": true })
}

fn c49_certificate_of_another_ca_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        // Another key of the same name.
        let spec =
            CertificateSpec { subject: "/CN=ca", extensions: AUTHORITY, ..Default::default() };
        pki.issue("forged", &spec);
        let client = pki.client("forged", "/CN=bob", "");
        refused(&log_in_at(api, &ca, json!({}), &[&client]), 401, NOT_ISSUED);
        let no_path =
            "Access denied: Certificate chain could not be validated against the provided CA.";
        refused(&log_in_at(api, &ca, in_chain_mode(), &[&client]), 401, no_path);
    });
}

fn c50_dates_of_the_certificate_are_checked(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let ca = Authority::root("ca");
        let expired = ca.client_in(EXPIRED, "bob", 1).pem();
        let early = ca.client_in(2090..2095, "bob", 2).pem();
        for terms in [json!({}), in_chain_mode()] {
            let log_in = |pem: &str| log_in_at(api, &ca.pem(), terms.clone(), &[pem]);
            refused(&log_in(&expired), 401, "Access denied: Certificate has expired.");
            refused(&log_in(&early), 401, "Access denied: Certificate not yet valid.");
        }
        // The dates come first in chain mode, and after the signature otherwise.
        let foreign = Authority::root("ca").client_in(EXPIRED, "bob", 1).pem();
        refused(&log_in_at(api, &ca.pem(), json!({}), &[&foreign]), 401, NOT_ISSUED);
        let by_chain = log_in_at(api, &ca.pem(), in_chain_mode(), &[&foreign]);
        refused(&by_chain, 401, "Access denied: Certificate has expired.");
    });
}

fn c51_listed_common_name_is_accepted(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        let client = pki.client("ca", "/O=x/CN=b", "");
        for names in [json!("a, b"), json!(" b"), json!(["a", "b"])] {
            let terms = json!({ "allowedCommonNames": names });
            assert_eq!(log_in_at(api, &ca, terms, &[&client]).status, 200, "{names}");
        }
        let both = pki.client("ca", "/CN=a/CN=b", "");
        for (names, status) in [("a, b", 200), ("a", 401), ("b", 401)] {
            let terms = json!({ "allowedCommonNames": names });
            assert_eq!(log_in_at(api, &ca, terms, &[&both]).status, status, "all of {names}");
        }
    });
}

fn c52_common_name_is_compared_exactly(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        for (subject, names) in [("/CN=A", "a"), ("/CN=ab", "a"), ("/CN=ab", "a*"), ("/", "a")] {
            let client = pki.client("ca", subject, "");
            let terms = json!({ "allowedCommonNames": names });
            refused(&log_in_at(api, &ca, terms, &[&client]), 401, COMMON_NAME);
        }
    });
}

fn c53_ca_certificate_is_not_a_client(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        let middle = pki.authority("middle", Some("ca"), "");
        // It is not marked as that of an authority, but it is the configured one.
        let plain = CertificateSpec { subject: "/CN=plain", ..Default::default() };
        let plain = pki.issue("plain", &plain);
        let message = "Access denied: a CA certificate cannot be used as a client certificate.";
        for terms in [json!({}), in_chain_mode()] {
            for pem in [&ca, &middle] {
                refused(&log_in_at(api, &ca, terms.clone(), &[pem]), 401, message);
            }
        }
        refused(&log_in_at(api, &plain, json!({}), &[&plain]), 401, message);
    });
}

fn c54_issuer_needs_the_name_of_the_ca(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        let (subject, extensions) = ("/CN=renamed", AUTHORITY);
        let spec = CertificateSpec { key: Some("ca"), subject, extensions, ..Default::default() };
        let renamed = pki.issue("renamed", &spec);
        std::fs::copy(pki.file("ca", "key"), pki.file("renamed", "key")).unwrap();
        let client = pki.client("renamed", "/CN=bob", "");
        assert_eq!(log_in_at(api, &renamed, json!({}), &[&client]).status, 200);
        refused(&log_in_at(api, &ca, json!({}), &[&client]), 401, NOT_ISSUED);
    });
}

fn c55_certificate_for_servers_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        let message =
            "Access denied: the client certificate is not valid for client authentication.";
        for terms in [json!({}), in_chain_mode()] {
            let client = pki.client("ca", "/CN=bob", "extendedKeyUsage=serverAuth");
            refused(&log_in_at(api, &ca, terms.clone(), &[&client]), 401, message);
            let client = pki.client("ca", "/CN=bob", "extendedKeyUsage=serverAuth,clientAuth");
            assert_eq!(log_in_at(api, &ca, terms, &[&client]).status, 200);
        }
    });
}

fn c56_intermediate_ca_needs_chain_mode(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        let middle = pki.authority("middle", Some("ca"), "");
        let client = pki.client("middle", "/CN=bob", "");
        let direct = log_in_at(api, &ca, json!({}), &[&client, &middle]);
        refused(&direct, 401, NOT_ISSUED);
        let presented = log_in_at(api, &ca, in_chain_mode(), &[&client, &middle]);
        assert_eq!(presented.status, 200, "{presented:?}");
        let message =
            "Access denied: Certificate chain could not be validated against the provided CA.";
        refused(&log_in_at(api, &ca, in_chain_mode(), &[&client]), 401, message);
    });
}

fn alt_names_are_allowed_in_addition(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let pki = OpensslPki::default();
        let ca = pki.authority("ca", None, "");
        let client = pki.client("ca", "/CN=bob", "subjectAltName=DNS:a.example,URI:spiffe://x/b");
        let message = "Access denied: TLS Certificate Auth subject alternative name not allowed.";
        for (names, expected) in [
            (json!({ "allowedSubjectAltNames": ["a.example"] }), None),
            (json!({ "allowedSubjectAltNames": ["uri:spiffe://x/b"] }), None),
            (json!({ "allowedSubjectAltNames": [] }), None),
            (json!({ "allowedSubjectAltNames": ["b.example"] }), Some(message)),
            (
                json!({ "allowedSubjectAltNames": ["a.example"], "allowedCommonNames": "alice" }),
                Some(COMMON_NAME),
            ),
        ] {
            let response = log_in_at(api, &ca, names, &[&client]);
            match expected {
                None => assert_eq!(response.status, 200, "{response:?}"),
                Some(message) => refused(&response, 401, message),
            }
        }
    });
}

fn authority_without_clients_is_not_attached(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let attach = |ca: &str| {
            let id = api.create("machine", "member");
            let path = format!("/auth/tls-cert-auth/identities/{id}");
            (api.send(&format!("POST {path}"), json!({ "caCertificate": ca })), path)
        };
        for (extension, message) in [
            (
                "extendedKeyUsage=serverAuth",
                "The CA certificate is not permitted to issue client authentication certificates.",
            ),
            (
                "nameConstraints=permitted;URI:spiffe://example.org",
                "The CA certificate restricts a URI name that is not a fully qualified domain \
                 name, so no client certificate can satisfy it.",
            ),
        ] {
            let ca = OpensslPki::default().authority("ca", None, extension);
            refused(&attach(&ca).0, 400, message);
            // The same for a change to it, which leaves the method as it was.
            let good = OpensslPki::default().authority("ca", None, "");
            let (attached, path) = attach(&good);
            assert_eq!(attached.status, 200, "{attached:?}");
            let change = json!({ "caCertificate": ca, "accessTokenTTL": 60 });
            refused(&api.send(&format!("PATCH {path}"), change), 400, message);
            let shown = api.ask(&format!("GET {path}")).json()["identityTlsCertAuth"].take();
            assert_eq!(
                (&shown["caCertificate"], &shown["accessTokenTTL"]),
                (&json!(good), &json!(2_592_000))
            );
        }
        let (response, _) = attach(&Authority::root_in(EXPIRED, "ca").pem());
        assert_eq!(response.status, 400, "{response:?}");
        assert!(response.body.contains("The CA certificate has expired on "), "{response:?}");
    });
}

fn authority_with_an_unsupported_key_is_refused(protocol: Protocol) {
    const UNSUPPORTED: &str = "The key of the CA certificate is not supported, so no client \
                               certificate can be verified. Supported are RSA with 2048 to 8192 \
                               bits, ECDSA with P-256, P-384 or P-521, and Ed25519.";
    with_server(protocol, "", |api| {
        for (algorithm, option, is_supported) in [
            ("RSA", Some("rsa_keygen_bits:1024"), false),
            ("RSA", Some("rsa_keygen_bits:2048"), true),
            ("EC", Some("ec_paramgen_curve:secp224r1"), false),
            ("EC", Some("ec_paramgen_curve:P-521"), true),
            ("ED448", None, false),
            ("ED25519", None, true),
        ] {
            let pki = OpensslPki::default();
            let options: Vec<_> = option.into_iter().flat_map(|one| ["-pkeyopt", one]).collect();
            let ca =
                pki.authority_with_key("ca", &[&["-algorithm", algorithm], &*options].concat());
            let id = api.create("machine", "member");
            let path = format!("POST /auth/tls-cert-auth/identities/{id}");
            let attached = api.send(&path, json!({ "caCertificate": ca }));
            if !is_supported {
                refused(&attached, 400, UNSUPPORTED);
                continue;
            }
            assert_eq!(attached.status, 200, "{algorithm} {option:?}: {attached:?}");
            let client = pki.client("ca", "/CN=bob", "");
            assert_eq!(log_in(api, &id, &header(&client)).status, 200, "{algorithm} {option:?}");
        }
    });
}
