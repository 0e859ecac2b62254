use std::thread;

use countersign_tests::{
    binary::Sandbox, client::Protocol, eventually, over_every_protocol, postgres::Postgres,
};
use serde_json::{Value, json};

use super::{ISSUER, IdentityApi, claims, configuration, refused, text, with_server};
use crate::{
    audit::{audit, audit_with},
    embedding,
};

over_every_protocol!(
    c63_token_is_used_from_trusted_addresses,
    c64_tightened_addresses_apply_at_once,
    c65_wildcards_alone_admit_both_families,
    wildcard_of_mapped_addresses_admits_ipv4_only,
    c66_uses_are_counted_exactly,
    c74_exhausted_token_is_not_renewed,
    c82_forged_address_does_not_count,
    uses_are_counted_after_every_other_check,
    addresses_of_one_family_are_warned_of,
    renewals_are_in_the_audit_log,
    use_from_elsewhere_is_in_the_audit_log,
);

const UNTRUSTED: &str = "You are not allowed to access this resource from the current IP address";

fn trusted(networks: &[&str]) -> Value {
    let networks: Vec<_> = networks.iter().map(|one| json!({ "ipAddress": one })).collect();
    json!({ "accessTokenTrustedIps": networks })
}

fn c63_token_is_used_from_trusted_addresses(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", trusted(&["192.0.2.0/24", "2001:db8::/32"]));
        let token = api.access_token(&machine);
        for _ in 0..2 {
            assert_eq!(api.auth_from(&token, "192.0.2.7"), 200);
            assert_eq!(api.auth_from(&token, "::ffff:192.0.2.7"), 200);
            assert_eq!(api.auth_from(&token, "2001:db8::7"), 200);
            assert_eq!(api.auth_from(&token, "198.51.100.7"), 403);
            assert_eq!(api.auth(&token), 403, "the proxy itself");
        }
        let call = api.call(&token, "GET /identities/details", "", "");
        refused(&call, 403, UNTRUSTED);
        refused(&api.renew(&token), 403, UNTRUSTED);
        let metric = "countersign_verifications_total{outcome=\"untrusted_address\",code=\"\"}";
        assert_eq!(api.server.metric(metric), 5);
        assert_eq!(api.revoke(&token).status, 200, "a revocation is possible from anywhere");
    });
}

fn c64_tightened_addresses_apply_at_once(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let token = api.access_token(&machine);
        let path = format!("PATCH /auth/universal-auth/identities/{}", machine.id);
        for (networks, expected) in
            [(&["192.0.2.0/24"][..], 403), (&["0.0.0.0/0"], 200), (&["192.0.2.0/24"], 403)]
        {
            assert_eq!(api.send(&path, trusted(networks)).status, 200);
            assert_eq!(api.auth(&token), expected, "{networks:?}");
        }
    });
}

fn c65_wildcards_alone_admit_both_families(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", trusted(&["0.0.0.0/0"]));
        assert_eq!(api.auth_from(&api.access_token(&machine), "2001:db8::1"), 200);
        let machine = api.machine("member", trusted(&["10.0.0.0/8"]));
        let token = api.access_token(&machine);
        assert_eq!(api.auth_from(&token, "::ffff:10.1.2.3"), 200, "mapped, it is one of IPv4");
        assert_eq!(api.auth_from(&token, "::ffff:11.1.2.3"), 403);
        let machine = api.machine("member", trusted(&["0.0.0.0/0", "10.0.0.0/8"]));
        let token = api.access_token(&machine);
        assert_eq!(api.auth_from(&token, "2001:db8::1"), 403);
        assert_eq!(api.auth_from(&token, "192.0.2.1"), 200);
    });
}

fn wildcard_of_mapped_addresses_admits_ipv4_only(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", trusted(&["::ffff:0.0.0.0/96"]));
        let token = api.access_token(&machine);
        let admitted = |addresses: &[&str]| {
            addresses.iter().map(|one| api.auth_from(&token, one)).collect::<Vec<_>>()
        };
        assert_eq!(admitted(&["192.0.2.1", "::ffff:198.51.100.7"]), [200, 200]);
        assert_eq!(admitted(&["2001:db8::1", "::1"]), [403, 403]);
        let path = format!("/auth/universal-auth/identities/{}", machine.id);
        let shown = api.ask(&format!("GET {path}")).json()["identityUniversalAuth"].take();
        let network = json!([{ "ipAddress": "::ffff:0.0.0.0", "type": "ipv6", "prefix": 96 }]);
        assert_eq!(shown["accessTokenTrustedIps"], network);
        // With that of IPv6, all are admitted.
        let both = trusted(&["::ffff:0.0.0.0/96", "::/0"]);
        assert_eq!(api.send(&format!("PATCH {path}"), both).status, 200);
        assert_eq!(admitted(&["192.0.2.1", "2001:db8::1"]), [200, 200]);
    });
}

fn c66_uses_are_counted_exactly(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({ "accessTokenNumUsesLimit": 2 }));
        let token = api.access_token(&machine);
        assert_eq!([api.auth(&token), api.auth(&token), api.auth(&token)], [200, 200, 401]);
        let exhausted = api.server.auth(&token);
        assert_eq!(exhausted.header("x-auth-error"), Some("uses_exhausted"));
        let challenge = exhausted.header("www-authenticate").unwrap();
        let description = "error_description=\"all uses of the token were made\"";
        assert!(challenge.contains(description), "{challenge}");
        let call = api.call(&token, "GET /identities/details", "", "");
        refused(&call, 401, "Failed to authorize: token usage limit reached");
        assert_eq!(api.server.verify(&token).status, 200, "an inspection does not count");
        let asked = |token: &str| {
            let request = json!({ "method": "GET", "uri": "/x" });
            let body = json!({ "token": token, "request": request }).to_string();
            let head = "POST /v1/verify HTTP/1.1\r\nContent-Type: application/json\r\n";
            api.server.send(head, body.as_bytes())
        };
        assert_eq!(
            (asked(&token).status, asked(&token).json()["code"].take()),
            (401, json!("uses_exhausted"))
        );
        let counted = api.access_token(&machine);
        assert_eq!(
            [asked(&counted), asked(&counted), asked(&counted)].map(|one| one.status),
            [200, 200, 401]
        );
        let elsewhere = api.access_token(&api.machine("member", trusted(&["192.0.2.0/24"])));
        assert_eq!(asked(&elsewhere).status, 403);

        let machine = api.machine("member", json!({ "accessTokenNumUsesLimit": 30 }));
        let token = api.access_token(&machine);
        assert_eq!(allowed(&[api.server, api.server, api.server, api.server], &token, 15), 30);
    });
}

/// Uses a token this many times at each server at the same time. Returns how many were allowed.
fn allowed(servers: &[&countersign_tests::binary::Server<'_>], token: &str, times: usize) -> usize {
    thread::scope(|scope| {
        let uses = servers.iter().map(|server| {
            scope.spawn(move || (0..times).filter(|_| server.auth(token).status == 200).count())
        });
        let uses: Vec<_> = uses.collect();
        uses.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

fn c74_exhausted_token_is_not_renewed(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({ "accessTokenNumUsesLimit": 2 }));
        let token = api.access_token(&machine);
        assert_eq!(api.auth(&token), 200);
        let renewed = text(&api.renew(&token).json()["accessToken"]);
        assert_eq!(api.auth(&renewed), 200, "a renewal keeps what remains");
        assert_eq!((api.auth(&renewed), api.auth(&token)), (401, 401));
        refused(&api.renew(&renewed), 401, "Cannot renew exhausted access token");
    });
}

fn c82_forged_address_does_not_count(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", trusted(&["192.0.2.0/24"]));
        let token = api.access_token(&machine);
        assert_eq!(api.auth_from(&token, "192.0.2.7, 198.51.100.7"), 403);
        assert_eq!(api.auth_from(&token, "198.51.100.7, 192.0.2.7"), 200);
    });
}

fn uses_are_counted_after_every_other_check(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let mut terms = trusted(&["192.0.2.0/24"]);
        terms["accessTokenNumUsesLimit"] = 1.into();
        let machine = api.machine("member", terms);
        let token = api.access_token(&machine);
        assert_eq!(api.auth_from(&token, "198.51.100.7"), 403);
        let refusal = api.call(&token, "GET /organization", "X-Forwarded-For: 192.0.2.1\r\n", "");
        assert_eq!(refusal.status, 403, "the call is refused for its role");
        assert_eq!(api.auth_from(&token, "192.0.2.7"), 200);
        assert_eq!(api.auth_from(&token, "192.0.2.7"), 401);
    });
}

fn addresses_of_one_family_are_warned_of(protocol: Protocol) {
    with_server(protocol, "", |api| {
        const TEXT: &str = "can be used over IPv4 only";
        let machine = api.machine("member", trusted(&["0.0.0.0/0"]));
        let path = format!("PATCH /auth/universal-auth/identities/{}", machine.id);
        let log = || api.server.log();
        assert!(!log().contains(TEXT), "wildcards alone are those of both families: {}", log());
        assert_eq!(api.send(&path, trusted(&["10.0.0.0/8"])).status, 200);
        eventually(|| log().contains(TEXT) && log().contains(&machine.id));
    });
}

fn renewals_are_in_the_audit_log(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("member", trusted(&["192.0.2.0/24"]));
    let token = api.access_token(&machine);
    let body = json!({ "accessToken": token }).to_string();
    let renew_from = |address: &str| {
        let line = format!("X-Forwarded-For: {address}\r\n");
        api.call("", "POST /auth/token/renew", &line, &body)
    };
    assert_eq!(renew_from("192.0.2.7").status, 200);
    refused(&renew_from("198.51.100.7"), 403, UNTRUSTED);
    let events = audit_with(&sandbox, "identity.renew", 1);
    assert_eq!((events.len(), &events[0]["reason"]), (1, &json!("untrusted_address")));
    assert_eq!(events[0]["from"]["client"], "198.51.100.7");
    let target = json!({ "identity": machine.id, "token": claims(&token)["jti"] });
    assert_eq!(events[0]["target"], target);
    let done = audit(&sandbox, &["--operation", "identity.renew", "--outcome", "done"]);
    assert_eq!((done.len(), &done[0]["target"]), (1, &target));
    assert_eq!(
        (&done[0]["detail"], &done[0]["from"]["client"]),
        (&json!("universal-auth"), &json!("192.0.2.7"))
    );
}

fn use_from_elsewhere_is_in_the_audit_log(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("admin", trusted(&["192.0.2.0/24"]));
    let token = api.access_token(&machine);
    let jti = claims(&token)["jti"].clone();
    let by = json!({ "user": machine.id, "issuer": ISSUER, "jti": jti });
    let mut address = 0;
    // The first check asks the database for the addresses, the second knows them.
    for (call, operation) in [
        ("GET /auth", "identity.use"),
        ("GET /auth", "identity.use"),
        ("GET /api/v1/identities/details", "identity.use"),
        ("GET /api/v1/identities", "identity.use"),
        ("POST /v1/verify", "identity.use"),
        ("POST /api/v1/identities", "identity.add"),
    ] {
        address += 1;
        let client = format!("198.51.100.{address}");
        let line = format!("X-Forwarded-For: {client}\r\n");
        let request = json!({ "method": "GET", "uri": "/" });
        let (credential, body) = match call {
            "POST /v1/verify" => (
                "Content-Type: application/json\r\n".to_owned(),
                json!({ "token": token, "request": request }).to_string(),
            ),
            _ => (format!("Authorization: Bearer {token}\r\n"), String::new()),
        };
        let head = format!("{call} HTTP/1.1\r\n{credential}{line}");
        assert_eq!(server.send(&head, body.as_bytes()).status, 403, "{call}");
        let events = || audit_with(&sandbox, operation, 1);
        eventually(|| events().iter().any(|event| event["from"]["client"] == client));
        let events = events();
        let event = events.iter().find(|event| event["from"]["client"] == client).unwrap();
        assert_eq!((&event["by"], &event["reason"]), (&by, &json!("untrusted_address")), "{call}");
        assert_eq!((&event["detail"], &event["count"]), (&json!("universal-auth"), &json!(1)));
    }
}

#[test]
fn nodes_count_uses_and_see_changes_together() {
    let postgres = Postgres::start();
    let database = configuration("")
        .replace("[server]", &format!("[database]\nurl={}\n[server]", postgres.url()));
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [one, other] = &sandboxes.each_ref().map(|sandbox| sandbox.serve(&database));
    let (here, there) = (IdentityApi::new(one), IdentityApi::new(other));
    assert_eq!(here.organization, there.organization);

    let machine = here.machine("member", json!({ "accessTokenNumUsesLimit": 40 }));
    let token = there.access_token(&machine);
    assert_eq!(allowed(&[one, other, one, other], &token, 20), 40);

    let machine = here.machine("member", json!({}));
    let token = here.access_token(&machine);
    assert_eq!((here.auth(&token), there.auth(&token)), (200, 200));
    let path = format!("PATCH /auth/universal-auth/identities/{}", machine.id);
    assert_eq!(here.send(&path, trusted(&["192.0.2.0/24"])).status, 200);
    assert_eq!(here.auth(&token), 403);
    eventually(|| there.auth(&token) == 403);
    assert_eq!(here.ask(&format!("DELETE /identities/{}", machine.id)).status, 200);
    assert_eq!(here.auth(&token), 401);
    eventually(|| there.auth(&token) == 401);
}

#[test]
fn tier_in_a_proxy_refuses_access_tokens_with_503() {
    let sandbox = Sandbox::new();
    let feed = format!("[feed]\nsocket={}/feed.sock\n", sandbox.path().display());
    let with_feed = configuration(&feed);
    let server = sandbox.serve(&with_feed);
    let api = IdentityApi::new(&server);
    let machine = api.machine("member", json!({}));
    let token = api.access_token(&machine);
    assert_eq!(api.auth(&token), 200);
    for configuration in [with_feed, configuration("")] {
        let tier = embedding::start(&sandbox, &configuration);
        assert_eq!(embedding::check_token(&tier, &token), 503);
        assert_eq!(embedding::check_token(&tier, &api.token), 200);
    }
}
