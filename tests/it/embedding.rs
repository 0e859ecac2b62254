//! The tier in another process: by its Rust interface, as a C library, and in modules of proxies.

mod c_library;
/// A proxy with a module, between a client and an application.
mod module_proxy;
mod late_key;
/// The checks of every module.
mod contract;
mod feed;
mod nginx;
mod envoy;
mod soak;

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::mpsc,
    thread,
    time::Duration,
};

use countersign_engine::CertificateThumbprint;
use countersign_server::embedding::{
    CacheSize, CheckDecision, ConnectionCertificate, DecisionParts, EmbeddedRequest, EmbeddedTier,
    HeaderLines, TierConfig,
};
use countersign_tests::{
    binary::Sandbox,
    certificates::Authority,
    eventually,
    grpc::{CheckOutcome, Envoy, check_request},
    openssl::SigningKey,
    providers::JwksServer,
};
use serde_json::json;

use crate::{fixture, possession::bound_to};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A decision in the form of those over gRPC.
#[derive(Debug, PartialEq)]
struct ComparedDecision {
    status: i32,
    set: Vec<(String, String)>,
    removed: Vec<String>,
    body: String,
}

impl From<&CheckDecision> for ComparedDecision {
    fn from(decision: &CheckDecision) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let set = decision.lines().map(|(name, value)| (text(name), text(value)));
        Self {
            status: decision.status().into(),
            set: set.collect(),
            removed: decision.removed().map(text).collect(),
            body: text(decision.body()),
        }
    }
}

impl From<CheckOutcome> for ComparedDecision {
    fn from(outcome: CheckOutcome) -> Self {
        let CheckOutcome { status, set, removed, body, .. } = outcome;
        Self { status, set, removed, body }
    }
}

pub(crate) fn start(sandbox: &Sandbox, configuration: &str) -> EmbeddedTier {
    let file = sandbox.file("embedded.cfg", configuration);
    TierConfig::load(&file, Vec::new(), CacheSize::Process).unwrap().start().unwrap()
}

/// Checks `GET /page?x=1` with these header lines. Returns the decision, and whether it was made
/// at once.
fn check(tier: &EmbeddedTier, lines: &[(&str, &str)]) -> (ComparedDecision, bool) {
    check_with(tier, lines, ConnectionCertificate::Absent)
}

/// Like [`check`], of a client with this certificate.
fn check_with(
    tier: &EmbeddedTier,
    lines: &[(&str, &str)],
    certificate: ConnectionCertificate<'_>,
) -> (ComparedDecision, bool) {
    let parts = [&b"GET"[..], b"/page?x=1", b"shop.example"];
    let head = HeaderLines::new(parts, lines).unwrap();
    let request = EmbeddedRequest {
        head: &head,
        is_tls: true,
        peer: CLIENT,
        certificate,
        parts: DecisionParts { changes: true, identity: true, claims: false },
    };
    let mut decision = CheckDecision::default();
    if tier.check(0, &request, &mut decision) {
        return (ComparedDecision::from(&decision), true);
    }
    let (decided, received) = mpsc::channel();
    let callback =
        move |decision: &CheckDecision| decided.send(ComparedDecision::from(decision)).unwrap();
    tier.check_later(0, &request, Box::new(callback));
    (received.recv_timeout(Duration::from_secs(20)).unwrap(), false)
}

fn has_line(lines: &[(&str, &str)], name: &str) -> bool {
    lines.iter().any(|line| line.0.eq_ignore_ascii_case(name))
}

pub(crate) fn check_token(tier: &EmbeddedTier, token: &str) -> i32 {
    check(tier, &[("authorization", &format!("Bearer {token}"))]).0.status
}

#[test]
fn embedded_decision_is_that_over_grpc() {
    let sandbox = Sandbox::new();
    let configuration = format!(
        "{}[listen]\nprotocols=http/1.1, h2\ntrusted_proxies=127.0.0.1\n[server]\ntoken_cookie=t\n",
        fixture::SIGNING
    );
    let server = sandbox.serve(&configuration);
    let (envoy, tier) = (Envoy::plain(server.address), start(&sandbox, &configuration));
    let good = fixture::good_token();
    let bearer = format!("Bearer {good}");
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
    let expired = format!("Bearer {expired}");
    let forged = format!("{}AAAA", &bearer[..bearer.len() - 4]);
    let environment = fixture::token(&fixture::claims(json!({ "urn:inmanta:env": "e1" })));
    let environment = format!("Bearer {environment}");
    let cookies = format!("a=1; t={good}; b=2");
    let many: Vec<_> = (0..900).map(|number| (format!("x-{number}"), "v".to_owned())).collect();
    let mut many: Vec<_> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    many.push(("authorization", &bearer));
    let tables: [&[(&str, &str)]; 12] = [
        &[],
        &[("authorization", &bearer)],
        &[("Authorization", &bearer), ("x-auth-user", "root"), ("X_Auth_User", "root")],
        &[("authorization", &bearer), ("x.auth.user", "root"), ("X-AUTH-SUBJECT", "root")],
        &[("authorization", &bearer), ("authorization", &bearer)],
        &[("authorization", &environment), ("x-auth-environment", "root")],
        &[("authorization", &expired)],
        &[("authorization", &forged)],
        &[("authorization", "Bearer abc")],
        &[("authorization", "Basic Ym9iOngK")],
        &[("cookie", &cookies), ("sec-fetch-site", "same-origin")],
        &many,
    ];
    for lines in tables {
        let over_grpc = CheckOutcome::of(envoy.check(check_request(lines)).unwrap());
        let mut over_grpc = ComparedDecision::from(over_grpc);
        // That of the tier removes only what the request has.
        over_grpc.removed.retain(|name| has_line(lines, name));
        let mut embedded = check(&tier, lines).0;
        for decision in [&mut over_grpc, &mut embedded] {
            decision.removed.iter_mut().for_each(|name| name.make_ascii_lowercase());
            decision.removed.sort();
        }
        assert_eq!(embedded, over_grpc, "{lines:?}");
    }
    assert_eq!(check_token(&tier, &good), 200);
}

#[test]
fn decision_has_the_parts_that_are_asked_for() {
    let sandbox = Sandbox::new();
    let tier = start(&sandbox, fixture::SIGNING);
    let bearer = format!("Bearer {}", fixture::good_token());
    let lines = [("authorization", &*bearer), ("x_auth_user", "root")];
    let head = HeaderLines::new([b"GET", b"/", b"shop.example"], &lines).unwrap();
    for [changes, identity, claims] in
        [[true, true, false], [false, true, true], [true, false, false]]
    {
        let (certificate, is_tls) = (ConnectionCertificate::Absent, false);
        let (head, peer) = (&head, CLIENT);
        let parts = DecisionParts { changes, identity, claims };
        let request = EmbeddedRequest { head, is_tls, peer, certificate, parts };
        let mut decision = CheckDecision::default();
        eventually(|| tier.check(0, &request, &mut decision));
        assert!(decision.is_allowed());
        let removed: Vec<_> = decision.removed().collect();
        let expected = [&b"authorization"[..], b"x_auth_user"];
        assert_eq!(removed, expected[..if changes { 2 } else { 0 }]);
        assert_eq!(decision.lines().count() > 2, changes);
        assert_eq!(!decision.identity().subject.is_empty(), identity);
        assert_eq!(!decision.claims().is_empty(), claims);
    }
}

#[test]
fn certificate_of_a_trusted_proxy_is_its_own() {
    let sandbox = Sandbox::new();
    let issued = Authority::root("clients").client("bob", 1);
    let bearer = format!("Bearer {}", bound_to(&issued));
    let lines = [("authorization", &*bearer)];
    let pem = issued.pem();
    let encoded = ConnectionCertificate::encoded(pem.as_bytes());
    let thumbprint = CertificateThumbprint::of(&issued.chain[0]);
    for (trusted, status) in [("", 200), ("[listen]\ntrusted_proxies=127.0.0.1\n", 401)] {
        let tier = start(&sandbox, &format!("{}{trusted}", fixture::SIGNING));
        for certificate in [encoded, ConnectionCertificate::Thumbprint(thumbprint)] {
            assert_eq!(check_with(&tier, &lines, certificate).0.status, status, "{trusted}");
        }
        assert_eq!(check(&tier, &lines).0.status, 401);
    }
}

#[test]
fn embedded_check_waits_for_keys() {
    let (sandbox, key) = (Sandbox::new(), SigningKey::generate("ES256", "k"));
    let provider = JwksServer::start(&fixture::key_set(&[&key]));
    let options = format!("jwks_uri={}", provider.uri());
    let tier = start(&sandbox, &fixture::with_idp("ES256", &options));
    let token = format!("Bearer {}", key.token(&fixture::claims_of("https://idp/")));
    let (decided, _) = check(&tier, &[("authorization", &token)]);
    assert_eq!(decided.status, 200, "{decided:?}");
    let (decided, was_decided_at_once) = check(&tier, &[("authorization", &token)]);
    assert_eq!((decided.status, was_decided_at_once), (200, true));
    // A key that appears later.
    let next = SigningKey::generate("ES256", "next");
    provider.publish(&fixture::key_set(&[&key, &next]));
    let token = format!("Bearer {}", next.token(&fixture::claims_of("https://idp/")));
    let (decided, was_decided_at_once) = check(&tier, &[("authorization", &token)]);
    assert_eq!((decided.status, was_decided_at_once), (200, false), "{decided:?}");
}

#[test]
fn embedded_tier_follows_its_configuration() {
    let sandbox = Sandbox::new();
    let tier = start(&sandbox, fixture::SIGNING);
    let good = fixture::good_token();
    assert_eq!(check_token(&tier, &good), 200);
    // A configuration with a mistake changes nothing.
    sandbox.replace("embedded.cfg", "[auth_jwt_default]\nalgorithm=none\n");
    tier.reload();
    assert_eq!(check_token(&tier, &good), 200);
    let other = fixture::SIGNING.replace("client_types=agent,compiler,api", "client_types=agent");
    sandbox.replace("embedded.cfg", other);
    tier.reload();
    eventually(|| check_token(&tier, &good) != 200);
}

#[test]
fn start_does_not_wait_for_the_database() {
    let (sandbox, database) = (Sandbox::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = database.local_addr().unwrap();
    let configuration = format!(
        "{}[database]\nurl=postgres://user@{address}/name\nconnection_timeout=60\n",
        fixture::SIGNING
    );
    let (started, receiver) = mpsc::channel();
    thread::spawn(move || started.send(start(&sandbox, &configuration)));
    let tier = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(check_token(&tier, &fixture::good_token()), 503);
}

#[test]
fn environment_counts_after_a_reload() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("embedded.cfg", fixture::SIGNING);
    let environment = vec![("INMANTA_AUTH_JWT_DEFAULT_AUDIENCE".into(), "other".into())];
    let tier = TierConfig::load(&file, environment, CacheSize::Process).unwrap().start().unwrap();
    let good = fixture::good_token();
    assert_eq!(check_token(&tier, &good), 401);
    let second = fixture::issuer_section(
        "second",
        "HS256",
        "https://second/",
        &format!("key={}", fixture::KEY),
    );
    sandbox.replace("embedded.cfg", format!("{}{second}", fixture::SIGNING));
    tier.reload();
    let of_second = fixture::token(&fixture::claims_of("https://second/"));
    eventually(|| check_token(&tier, &of_second) == 200);
    assert_eq!(check_token(&tier, &good), 401);
}

#[test]
fn size_of_a_workers_cache_is_an_option_of_its_own() {
    let sandbox = Sandbox::new();
    let load = |sizes: [u32; 2], of| {
        let [process, worker] = sizes;
        let sizes = format!("[cache]\nmegabytes={process}\nworker_megabytes={worker}\n");
        let file = sandbox.file("embedded.cfg", format!("{}{sizes}", fixture::SIGNING));
        TierConfig::load(&file, Vec::new(), of).unwrap()
    };
    for (of, same, other) in
        [(CacheSize::Process, [1, 3], [3, 2]), (CacheSize::Worker, [3, 2], [1, 3])]
    {
        // A tier follows a configuration only with a cache of the same size.
        let tier = load([1, 2], of).start().unwrap();
        assert!(tier.can_follow(&load(same, of)), "{of:?}");
        assert!(!tier.can_follow(&load(other, of)), "{of:?}");
    }
}

#[test]
fn mistakes_of_an_embedded_tier_have_their_place() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("bad.cfg", "[auth_jwt_x]\nalgorithm=none\n");
    let problems = TierConfig::load(&file, Vec::new(), CacheSize::Process).map(drop).unwrap_err();
    assert!(problems.contains("bad.cfg:2") && problems.contains("algorithm"), "{problems}");
    let good = TierConfig::load(
        &sandbox.file("good.cfg", fixture::SIGNING),
        Vec::new(),
        CacheSize::Process,
    )
    .unwrap();
    assert_eq!([good.listener("main"), good.listener("other")], [Some(0), None]);
}
