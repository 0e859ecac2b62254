use std::{thread::sleep, time::Duration};

use countersign_tests::{
    certificates::Authority, client::Protocol, http::Response, over_every_protocol,
};
use serde_json::{Value, json};

use super::{IdentityApi, invalid, refused, text, with_server};
use crate::fixture::now;

over_every_protocol!(
    c60_attachment_has_the_defaults,
    c58_ttl_above_max_ttl_is_invalid,
    c59_numbers_beyond_their_limits_are_invalid,
    c61_method_is_attached_once,
    c62_malformed_addresses_are_refused,
    c79_single_lower_max_ttl_is_refused,
    certificate_method_has_the_shape_of_terraform,
    lists_of_names_must_have_names,
    client_secrets_are_listed_and_revoked,
    locked_out_client_can_be_let_in,
);

/// Returns the path of a login method.
fn path(kind: &str, identity: &str) -> String {
    format!("/auth/{kind}/identities/{identity}")
}

fn universal(identity: &str) -> String {
    path("universal-auth", identity)
}

/// Returns a CA certificate in PEM.
fn ca() -> String {
    Authority::root("issuing").pem()
}

fn attach(api: &IdentityApi<'_>, mut body: Value) -> Response {
    let id = api.create("x", "member");
    if body.get("caCertificate").is_none() {
        body["caCertificate"] = ca().into();
    }
    api.send(&format!("POST {}", path("tls-cert-auth", &id)), body)
}

fn c60_attachment_has_the_defaults(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let shown = attach(api, json!({})).json()["identityTlsCertAuth"].take();
        let wildcards = json!([
            { "ipAddress": "0.0.0.0", "type": "ipv4", "prefix": 0 },
            { "ipAddress": "::", "type": "ipv6", "prefix": 0 },
        ]);
        for (member, expected) in [
            ("accessTokenTTL", json!(2_592_000)),
            ("accessTokenMaxTTL", json!(2_592_000)),
            ("accessTokenNumUsesLimit", json!(0)),
            ("accessTokenTrustedIps", wildcards),
            ("allowedCommonNames", Value::Null),
            ("allowedSubjectAltNames", Value::Null),
            ("verifyClientCertificateChain", json!(false)),
        ] {
            assert_eq!(shown[member], expected, "{member}");
        }
    });
}

fn c58_ttl_above_max_ttl_is_invalid(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let terms = json!({ "accessTokenTTL": 100, "accessTokenMaxTTL": 50 });
        invalid(&attach(api, terms.clone()), "accessTokenTTL");
        invalid(&attach(api, json!({ "accessTokenMaxTTL": 50 })), "accessTokenTTL");
        let id = api.create("x", "member");
        invalid(&api.send(&format!("POST {}", universal(&id)), terms), "accessTokenTTL");
    });
}

fn c59_numbers_beyond_their_limits_are_invalid(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for (member, value) in [
            ("accessTokenTTL", json!(315_360_001)),
            ("accessTokenTTL", json!(-1)),
            ("accessTokenTTL", json!(1.5)),
            ("accessTokenTTL", json!("1")),
            ("accessTokenMaxTTL", json!(0)),
            ("accessTokenNumUsesLimit", json!(-1)),
            ("accessTokenTrustedIps", json!([])),
            ("accessTokenTrustedIps", json!(["10.0.0.1"])),
            ("caCertificate", json!("x".repeat(10_241))),
            ("caCertificate", json!("no certificate")),
            ("verifyClientCertificateChain", json!("true")),
        ] {
            invalid(&attach(api, json!({ member: value })), member);
        }
    });
}

fn c61_method_is_attached_once(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let id = api.create("x", "member");
        let tls = path("tls-cert-auth", &id);
        let detached = "The identity does not have TLS Certificate Auth attached";
        refused(&api.send(&format!("PATCH {tls}"), json!({})), 404, detached);
        refused(&api.ask(&format!("GET {tls}")), 400, detached);
        let no_method = "The identity does not have TLS Certificate auth";
        refused(&api.ask(&format!("DELETE {tls}")), 400, no_method);
        let body = json!({ "caCertificate": ca() });
        assert_eq!(api.send(&format!("POST {tls}"), body.clone()).status, 200);
        let again = "Failed to add TLS Certificate Auth to already configured identity";
        refused(&api.send(&format!("POST {tls}"), body.clone()), 400, again);
        let shown = api.ask(&format!("GET /identities/{id}")).json()["identity"].take();
        assert_eq!(shown["identity"]["authMethods"], json!(["tls-cert-auth"]));
        assert_eq!(api.ask(&format!("DELETE {tls}")).status, 200);
        assert_eq!(api.send(&format!("POST {tls}"), body).status, 200, "and again");
        let unknown = api.send(&format!("PATCH {}", path("tls-cert-auth", "y")), json!({}));
        refused(&unknown, 404, "Failed to find identity with ID y");
    });
}

fn c62_malformed_addresses_are_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for address in ["300.1.1.1", "10.0.0.0/33", "10.0.0.0/8abc", "localhost"] {
            let body = json!({ "accessTokenTrustedIps": [{ "ipAddress": address }] });
            let message = "The IP is not a valid IPv4, IPv6, or CIDR block";
            refused(&attach(api, body), 400, message);
        }
        let body = json!({ "accessTokenTrustedIps": [{ "ipAddress": "10.0.0.5/24" }] });
        let shown = attach(api, body).json()["identityTlsCertAuth"].take();
        let expected = json!([{ "ipAddress": "10.0.0.0", "type": "ipv4", "prefix": 24 }]);
        assert_eq!(shown["accessTokenTrustedIps"], expected);
    });
}

fn c79_single_lower_max_ttl_is_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let id = api.create("x", "member");
        let tls = path("tls-cert-auth", &id);
        assert_eq!(api.send(&format!("POST {tls}"), json!({ "caCertificate": ca() })).status, 200);
        let patch = |body| api.send(&format!("PATCH {tls}"), body);
        let lower = patch(json!({ "accessTokenMaxTTL": 50 }));
        refused(&lower, 400, "Access token TTL cannot be greater than max TTL");
        let both = patch(json!({ "accessTokenMaxTTL": 50, "accessTokenTTL": 50 }));
        assert_eq!(both.json()["identityTlsCertAuth"]["accessTokenMaxTTL"], 50);
        assert_eq!(patch(json!({ "accessTokenMaxTTL": 0 })).status, 200, "0 is no limit");
        let both = patch(json!({ "accessTokenMaxTTL": 50, "accessTokenTTL": 51 }));
        invalid(&both, "accessTokenTTL");
    });
}

/// Terraform's provider works with the token of an identity alone.
fn certificate_method_has_the_shape_of_terraform(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let token = api.access_token(&api.machine("admin", json!({})));
        let send = |call: &str, body: &Value| api.call(&token, call, "", &body.to_string());
        let id = api.create("x", "member");
        let (tls, certificate) = (path("tls-cert-auth", &id), format!("\n{}\n", ca()));
        let body = json!({
            "caCertificate": certificate,
            "allowedCommonNames": " a, b ",
            "allowedSubjectAltNames": ["DNS:a.example"],
            "verifyClientCertificateChain": true,
            "accessTokenTTL": 60,
            "accessTokenTrustedIps": [{ "ipAddress": "10.1.0.0/16" }, { "ipAddress": "::1" }],
        });
        let attached = send(&format!("POST {tls}"), &body).json()["identityTlsCertAuth"].take();
        assert_eq!(attached.get("caCertificate"), None);
        let shown = send(&format!("GET {tls}"), &Value::Null).json();
        let shown = &shown["identityTlsCertAuth"];
        for (member, expected) in [
            ("identityId", json!(id)),
            ("caCertificate", json!(certificate)),
            ("allowedCommonNames", json!("a,b")),
            ("allowedSubjectAltNames", json!(["DNS:a.example"])),
            ("verifyClientCertificateChain", json!(true)),
            ("accessTokenTTL", json!(60)),
            ("accessTokenMaxTTL", json!(2_592_000)),
            ("accessTokenNumUsesLimit", json!(0)),
        ] {
            assert_eq!(shown[member], expected, "{member}");
        }
        // It joins address and prefix, and compares the result with its own.
        let networks = shown["accessTokenTrustedIps"].as_array().unwrap().iter().map(|one| {
            let address = text(&one["ipAddress"]);
            match one["prefix"].as_u64() {
                Some(prefix) => format!("{address}/{prefix}"),
                None => address,
            }
        });
        assert_eq!(networks.collect::<Vec<_>>(), ["10.1.0.0/16", "::1"]);

        let change = json!({ "allowedCommonNames": null, "allowedSubjectAltNames": [] });
        let changed = send(&format!("PATCH {tls}"), &change).json();
        let changed = &changed["identityTlsCertAuth"];
        assert_eq!(changed["allowedCommonNames"], Value::Null);
        assert_eq!(changed["allowedSubjectAltNames"], Value::Null);
        assert_eq!(changed["verifyClientCertificateChain"], true, "the rest stays");
        assert_eq!(send(&format!("DELETE {tls}"), &Value::Null).status, 200);
        assert_eq!(send(&format!("GET {tls}"), &Value::Null).status, 400, "not 404");
    });
}

fn lists_of_names_must_have_names(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for names in [json!(" "), json!(","), json!("a,,b"), json!([]), json!([""]), json!(5)] {
            invalid(&attach(api, json!({ "allowedCommonNames": names })), "allowedCommonNames");
        }
        let listed = attach(api, json!({ "allowedCommonNames": ["a", "b"] }));
        assert_eq!(listed.json()["identityTlsCertAuth"]["allowedCommonNames"], "a,b");
        // One name, which would be two in a text with commas.
        let listed = attach(api, json!({ "allowedCommonNames": ["a,b"] }));
        let shown = listed.json()["identityTlsCertAuth"]["allowedCommonNames"].take();
        assert_eq!(shown, json!(["a,b"]));
    });
}

fn client_secrets_are_listed_and_revoked(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let secrets = format!("{}/client-secrets", universal(&machine.id));
        let list = api.ask(&format!("GET {secrets}"));
        assert!(!list.body.contains(&machine.secret), "{list:?}");
        let shown = list.json()["clientSecretData"][0].take();
        let prefix: String = machine.secret.chars().take(4).collect();
        assert_eq!(shown["clientSecretPrefix"], prefix.as_str());
        let token = api.access_token(&machine);
        let other = api.send(&format!("POST {secrets}"), json!({})).json();
        let other = super::MachineCredentials {
            id: machine.id.clone(),
            client_id: machine.client_id.clone(),
            secret: text(&other["clientSecret"]),
        };
        let other_token = api.access_token(&other);
        let secret = format!("{secrets}/{}", text(&shown["id"]));
        let used = api.ask(&format!("GET {secret}")).json()["clientSecretData"].take();
        assert_eq!(used["clientSecretNumUses"], 1);
        let revoked = api.send(&format!("POST {secret}/revoke"), json!({})).json();
        assert_eq!(revoked["clientSecretData"]["isClientSecretRevoked"], true);
        refused(&api.log_in(&machine), 401, "Invalid credentials");
        refused(&api.renew(&token), 401, "Cannot renew: token has been revoked");
        let details = api.call(&token, "GET /identities/details", "", "");
        refused(&details, 401, "Failed to authorize: client secret has been revoked");
        assert_eq!((api.auth(&token), api.auth(&other_token)), (401, 200));
        assert_eq!(api.renew(&other_token).status, 200);
        assert_eq!(api.send(&format!("POST {secrets}/unknown/revoke"), json!({})).status, 404);

        let limited = api.send(&format!("POST {secrets}"), json!({ "numUsesLimit": 1 })).json();
        let limited = super::MachineCredentials {
            id: machine.id.clone(),
            client_id: machine.client_id,
            secret: text(&limited["clientSecret"]),
        };
        assert_eq!(api.log_in(&limited).status, 200);
        let message = "Access denied due to client secret usage limit reached";
        refused(&api.log_in(&limited), 401, message);

        let short = api.send(&format!("POST {secrets}"), json!({ "ttl": 1 })).json();
        let data = &short["clientSecretData"];
        assert_eq!((&data["clientSecretTTL"], &data["description"]), (&json!(1), &json!("")));
        let short = super::MachineCredentials { secret: text(&short["clientSecret"]), ..limited };
        let created = now();
        while now() < created + 2 {
            sleep(Duration::from_millis(20));
        }
        for _ in 0..2 {
            refused(&api.log_in(&short), 401, "Access denied due to expired client secret");
        }
    });
}

fn locked_out_client_can_be_let_in(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({ "lockoutThreshold": 2 }));
        let wrong = super::MachineCredentials {
            id: machine.id.clone(),
            client_id: machine.client_id.clone(),
            secret: "wrong".into(),
        };
        for _ in 0..2 {
            refused(&api.log_in(&wrong), 401, "Invalid credentials");
        }
        let locked = "This identity auth method is temporarily locked, please try again later";
        refused(&api.log_in(&machine), 401, locked);
        let body = json!({ "clientId": machine.client_id, "clientSecret": machine.secret });
        let elsewhere = api.call(
            "",
            "POST /auth/universal-auth/login",
            "X-Forwarded-For: 192.0.2.9\r\n",
            &body.to_string(),
        );
        assert_eq!(elsewhere.status, 200, "another source is not locked out: {elsewhere:?}");
        let clear = format!("POST {}/clear-lockouts", universal(&machine.id));
        assert_eq!(api.send(&clear, json!({})).json(), json!({ "deleted": 1 }));
        assert_eq!(api.log_in(&machine).status, 200);
        let unknown = super::MachineCredentials { client_id: "x".into(), ..machine };
        refused(&api.log_in(&unknown), 401, "Invalid credentials");
        for (outcome, count) in [("done", 2), ("wrong", 3), ("too_many", 1), ("unavailable", 0)] {
            let metric = format!("countersign_identity_logins_total{{outcome=\"{outcome}\"}}");
            assert_eq!(api.server.metric(&metric), count, "{outcome}");
        }
    });
}

#[test]
fn many_logins_at_once_lock_out_no_machine() {
    with_server(Protocol::Http1, "", |api| {
        let machine = api.machine("member", json!({}));
        let body = json!({ "clientId": machine.client_id, "clientSecret": machine.secret });
        let (head, body) =
            ("POST /api/v1/auth/universal-auth/login HTTP/1.1\r\n", body.to_string());
        std::thread::scope(|scope| {
            for _ in 0..32 {
                let mut client = api.server.client();
                let body = &body;
                scope.spawn(move || {
                    assert_eq!(client.request(head, body.as_bytes()).status, 200);
                });
            }
        });
    });
}
