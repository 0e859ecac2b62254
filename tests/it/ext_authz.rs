use aws_lc_rs::digest::{SHA256, digest};
use countersign_tests::{
    answers::IDENTITY,
    binary::{Sandbox, Server},
    certificates::{Authority, IssuedCertificate},
    eventually,
    grpc::{
        self, CHECK, CheckOutcome, Envoy, HEALTH, call, check_request, check_with_header_map,
        framed, with_source,
    },
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
    tls::{TlsClient, TlsClientOptions},
};
use envoy_types::pb::{
    envoy::service::auth::v3::CheckRequest,
    google::protobuf::{Struct, Value, value::Kind},
};
use http::Request;
use prost::Message as _;
use serde_json::json;

use crate::{admission::Issuer, fixture};

/// Options of a listener with HTTP/2 by prior knowledge.
const H2: &str = "[listen]\nprotocols=http/1.1, h2\n";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn check(envoy: &Envoy, check_request: CheckRequest) -> CheckOutcome {
    CheckOutcome::of(envoy.check(check_request).unwrap())
}

/// Sends a Check request with this bearer token.
fn check_token(envoy: &Envoy, token: &str) -> CheckOutcome {
    check(envoy, check_request(&[("authorization", &bearer(token))]))
}

/// Returns the answer of `/auth` to the same token, in the form of a Check response.
fn auth_answer(server: &Server<'_>, token: &str) -> (i32, Vec<(String, String)>) {
    let answer = server.auth(token);
    let about_http = ["date", "content-length", "connection"];
    let headers =
        answer.headers.into_iter().filter(|(name, _)| !about_http.contains(&name.as_str()));
    (answer.status.into(), headers.collect())
}

#[test]
fn check_sets_identity_and_removes_the_token() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{H2}", fixture::SIGNING));
    let envoy = Envoy::plain(server.address);
    let authorization = bearer(&fixture::good_token());
    let lines = [
        ("host", "shop.example"),
        ("authorization", authorization.as_str()),
        ("x-auth-environment", "root"),
        ("x-auth-tenant", "root"),
    ];
    for check_request in [check_request(&lines), check_with_header_map(&lines)] {
        let outcome = check(&envoy, check_request);
        assert_eq!((outcome.code, outcome.status), (0, 200));
        let identity = ["x-auth-subject", "x-auth-user", "x-auth-issuer", "x-auth-client-types"]
            .map(|name| outcome.header(name));
        assert_eq!(identity, [Some("bob"), Some("bob"), Some(fixture::ISSUER), Some("api")]);
        // Identity headers without a value are removed, not set to an empty value.
        assert_eq!(
            (outcome.set.len(), outcome.removed),
            (
                4,
                ["x-auth-environment", "x-auth-tenant", "x-auth-allowed-tenants", "authorization"]
                    .map(String::from)
                    .into()
            )
        );
        assert_eq!(outcome.metadata, None);
    }
    let anonymous = check_token(&envoy, &fixture::token(&fixture::claims(json!({ "sub": null }))));
    assert_eq!(
        anonymous.removed,
        [
            "x-auth-subject",
            "x-auth-user",
            "x-auth-environment",
            "x-auth-tenant",
            "x-auth-allowed-tenants",
            "authorization"
        ]
    );
    let claims = fixture::claims(json!({ "urn:inmanta:env": "e1" }));
    let scoped = check_token(&envoy, &fixture::token(&claims));
    assert_eq!(scoped.header("x-auth-environment"), Some("e1"));
    assert_eq!(scoped.removed, ["x-auth-tenant", "x-auth-allowed-tenants", "authorization"]);
    assert_eq!(server.metric("countersign_verifications_total{outcome=\"verified\",code=\"\"}"), 4);
}

#[test]
fn check_denies_with_the_same_answer_as_auth() {
    let sandbox = Sandbox::new();
    let down =
        fixture::issuer_section("down", "RS256", "https://down/", "jwks_uri=http://127.0.0.1:9/");
    for (surface, refused, code) in [("generic", 401, 16), ("inmanta", 403, 7)] {
        let server = sandbox.serve(&format!("{}{down}{H2}surface={surface}\n", fixture::SIGNING));
        let envoy = Envoy::plain(server.address);
        let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
        let forged = format!("{}AAAA", &fixture::good_token()[..fixture::good_token().len() - 4]);
        for token in [expired.as_str(), &forged, "abc", "a b"] {
            let outcome = check_token(&envoy, token);
            assert_eq!(
                (outcome.status, &outcome.set),
                (auth_answer(&server, token).0, &auth_answer(&server, token).1),
                "{token}"
            );
            // A credential with two parts is not a bearer token.
            assert_eq!(
                (outcome.status, outcome.code),
                if token == "a b" { (401, 16) } else { (refused, code) },
                "{token}"
            );
            assert_eq!(outcome.body, "", "{token}");
        }
        let unavailable = fixture::token_with_header(
            &json!({ "alg": "RS256", "kid": "k" }),
            &fixture::claims_of("https://down/"),
        );
        let unavailable_outcome = check_token(&envoy, &unavailable);
        assert_eq!((unavailable_outcome.status, unavailable_outcome.code), (503, 7));
        assert_eq!(unavailable_outcome.set, auth_answer(&server, &unavailable).1);
        assert_eq!(
            unavailable_outcome.header("x-auth-error"),
            Some("keys_unavailable https://down/")
        );
        let missing = check(&envoy, check_request(&[("host", "shop.example")]));
        assert_eq!((missing.status, missing.code), (401, 16));
        assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
        assert_eq!([&*missing.body, &*unavailable_outcome.body], ["", ""]);
    }
}

#[test]
fn e4_duplicate_credentials_are_refused() {
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&format!("{}[server]\nauth_additional_header=X-Jwt\n{H2}", fixture::SIGNING));
    let envoy = Envoy::plain(server.address);
    let (good, bearer) = (fixture::good_token(), bearer(&fixture::good_token()));
    let one = ("authorization", bearer.as_str());
    let mut in_both = check_request(&[one]);
    let http =
        in_both.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.insert("authorization".into(), bearer.clone());
    let joined = format!("{bearer},{bearer}");
    for (check_request, challenge) in [
        (check_request(&[one, one]), "invalid_request"),
        (check_request(&[one, ("Authorization", &bearer)]), "invalid_request"),
        (in_both, "invalid_request"),
        (check_request(&[one, ("x-jwt", &good), ("x-jwt", &good)]), "invalid_request"),
        // Envoy joins repeated headers like this in its map.
        (check_with_header_map(&[("authorization", &joined)]), "Bearer"),
    ] {
        let outcome = check(&envoy, check_request);
        assert_eq!((outcome.status, outcome.code), (401, 16));
        assert!(outcome.header("www-authenticate").unwrap().contains(challenge), "{outcome:?}");
    }
    assert_eq!(server.metric("countersign_verifications_total{outcome=\"conflict\",code=\"\"}"), 4);
    // The additional header wins, and both credentials are removed.
    let outcome =
        check(&envoy, check_request(&[("authorization", "Basic Ym9iOmJvYg=="), ("x-jwt", &good)]));
    assert_eq!(outcome.status, 200);
    assert!(
        ["authorization", "x-jwt"].iter().all(|name| outcome.removed.iter().any(|one| one == name)),
        "{outcome:?}"
    );
}

#[test]
fn e2_identity_header_lookalikes_are_removed() {
    let sandbox = Sandbox::new();
    let identity =
        "[identity_headers]\nsubject=X-Who\nissuer=X-Who-\nclient_types=X_Who_\ntenant=\n";
    let server = sandbox.serve(&format!("{}{identity}{H2}", fixture::SIGNING));
    let envoy = Envoy::plain(server.address);
    let authorization = bearer(&fixture::good_token());
    let client_headers = [
        ("x_who", true),
        ("X.WHO", true),
        ("x~who", true),
        ("x_auth_user", true),
        ("X-Auth_User", true),
        // The same name, which is overwritten; and names that do not collide.
        ("X-Who", false),
        ("x-whom", false),
        // Another identity header, and names that do not collide with it.
        ("x_who_", false),
        ("xwho", false),
        ("x--who", false),
        ("x-auth-tenant", false),
        ("x_auth_tenant", false),
        ("x\u{e9}who", false),
    ];
    let mut lines = vec![("authorization", authorization.as_str())];
    lines.extend(client_headers.iter().map(|(name, _)| (*name, "root")));
    for check_request in [check_request(&lines), check_with_header_map(&lines)] {
        let outcome = check(&envoy, check_request);
        assert_eq!((outcome.header("x-who"), outcome.header("x_who_")), (Some("bob"), Some("api")));
        for (name, is_removed) in client_headers {
            assert_eq!(
                outcome.removed.iter().any(|one| one == name),
                is_removed,
                "{name}: {outcome:?}"
            );
        }
        assert!(outcome.set.iter().all(|(name, _)| !outcome.removed.contains(name)), "{outcome:?}");
    }
}

#[test]
fn forward_credentials_keeps_the_token() {
    let sandbox = Sandbox::new();
    let options = "[ext_authz]\nforward_credentials=true\n[server]\nauth_additional_header=X-Jwt\n";
    let server = sandbox.serve(&format!("{}{options}{H2}", fixture::SIGNING));
    let outcome = check_token(&Envoy::plain(server.address), &fixture::good_token());
    let absent = ["x-auth-environment", "x-auth-tenant", "x-auth-allowed-tenants"];
    assert_eq!(outcome.removed, absent);
}

#[test]
fn identity_header_can_replace_authorization() {
    let sandbox = Sandbox::new();
    let identity = "[identity_headers]\nsubject=Authorization\nuser=\nenvironment=\n\
         tenant=Authorization-\nallowed_tenants=\n";
    let server = sandbox.serve(&format!("{}{identity}{H2}", fixture::SIGNING));
    let outcome = check_token(&Envoy::plain(server.address), &fixture::good_token());
    assert_eq!(
        (outcome.header("authorization"), &*outcome.removed),
        (Some("bob"), &["authorization-".to_owned()][..])
    );
}

#[test]
fn metadata_claims_keep_their_types() {
    let sandbox = Sandbox::new();
    let names = "sub,groups,address,level,huge,small,ratio,is_admin,nothing,missing";
    let server =
        sandbox.serve(&format!("{}[ext_authz]\nmetadata_claims={names}\n{H2}", fixture::SIGNING));
    let claims = json!({
        "groups": ["a", "b"], "address": { "city": "Köln", "lines": [] }, "level": 9_007_199_254_740_992u64,
        "huge": 9_007_199_254_740_993u64, "small": i64::MIN, "ratio": -0.5, "is_admin": true, "nothing": null, "other": 1,
    });
    // Setting the claim in `changes` would remove it.
    let mut claims = fixture::claims(claims);
    claims["nothing"] = json!(null);
    let value = |kind| Value { kind: Some(kind) };
    let text = |text: &str| value(Kind::StringValue(text.into()));
    let list =
        |values| value(Kind::ListValue(envoy_types::pb::google::protobuf::ListValue { values }));
    let members = |members: Vec<(&str, Value)>| {
        let fields = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        Struct { fields: fields.collect() }
    };
    let expected = members(vec![
        ("sub", text("bob")),
        ("groups", list(vec![text("a"), text("b")])),
        (
            "address",
            value(Kind::StructValue(members(vec![
                ("city", text("Köln")),
                ("lines", list(vec![])),
            ]))),
        ),
        ("level", value(Kind::NumberValue(9_007_199_254_740_992.0))),
        ("huge", text("9007199254740993")),
        ("small", text("-9223372036854775808")),
        ("ratio", value(Kind::NumberValue(-0.5))),
        ("is_admin", value(Kind::BoolValue(true))),
        ("nothing", value(Kind::NullValue(0))),
    ]);
    let envoy = Envoy::plain(server.address);
    for _ in 0..2 {
        assert_eq!(
            check_token(&envoy, &fixture::token(&claims)).metadata.as_ref(),
            Some(&expected)
        );
    }
    let beyond = fixture::token_with_members(
        r#""level":18446744073709551616,"groups":[1e400,-1e20],"ratio":1e400"#,
    );
    let expected = members(vec![
        ("sub", text("bob")),
        ("level", text("18446744073709551616")),
        ("groups", list(vec![text("1e400"), value(Kind::NumberValue(-1e20))])),
        ("ratio", text("1e400")),
    ]);
    assert_eq!(check_token(&envoy, &beyond).metadata, Some(expected));
    assert_eq!(check_token(&envoy, "abc").metadata, None);
}

#[test]
fn malformed_check_requests_get_a_grpc_error() {
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&format!("{}[server]\nmax_request_body_size=4000\n{H2}", fixture::SIGNING));
    let good = check_request(&[("authorization", &bearer(&fixture::good_token()))]).encode_to_vec();
    let twice = framed(&[&good[..], &good].concat());
    let two = [framed(&good), framed(&good)].concat();
    let compressed = [&[1], &framed(&good)[1..]].concat();
    for (body, code) in [
        (Vec::new(), "12"),
        (two, "12"),
        (compressed, "12"),
        (vec![0], "13"),
        (framed(&good)[..20].to_vec(), "13"),
        (framed(&good[..20]), "3"),
        (framed(b"garbage"), "3"),
        (twice, "3"),
        (vec![0; 5000], "8"),
    ] {
        let answer = call(server.address, CHECK, &body);
        assert_eq!((answer.status, answer.code()), (200, Some(code)), "{answer:?}");
        assert!(answer.body.is_empty() && answer.trailers.is_none(), "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.headers["grpc-accept-encoding"], "identity");
    }
    // An empty Check request is an anonymous request.
    let answer = call(server.address, CHECK, &framed(b""));
    assert_eq!(CheckOutcome::of(prost::Message::decode(answer.message()).unwrap()).status, 401);
    let answered = |status: &str| {
        server.metric(&format!(
            "countersign_requests_total{{route=\"check\",status=\"{status}\",http_version=\"2\"}}"
        ))
    };
    assert_eq!(["400", "401", "413", "501"].map(answered), [5, 1, 1, 3]);
}

#[test]
fn non_grpc_requests_get_an_http_answer() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{H2}", fixture::SIGNING));
    let ask = |method: &str, path: &str, media_type: &str| {
        let uri = format!("http://{}{path}", server.address);
        let request = Request::builder().method(method).uri(uri).header("content-type", media_type);
        grpc::ask(server.address, request.body(()).unwrap(), &framed(b""))
    };
    for (method, media_type, status, code) in [
        ("POST", "application/grpc", 200, Some("0")),
        ("POST", "application/grpc+proto", 200, Some("0")),
        ("POST", "application/grpc+json", 415, None),
        ("POST", "application/json", 415, None),
        ("GET", "application/grpc", 405, None),
    ] {
        let answer = ask(method, CHECK, media_type);
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{method} {media_type}: {answer:?}"
        );
    }
    for path in
        ["/envoy.service.auth.v3.Authorization/Other", "/grpc.health.v1.Health/Watch", "/a.B/C"]
    {
        let answer = ask("POST", path, "application/grpc");
        assert_eq!((answer.status, answer.code()), (200, Some("12")), "{path}");
        assert_eq!(ask("POST", path, "application/json").status, 404, "{path}");
    }
    // gRPC needs trailers, which HTTP/1 does not have here. The connection stays open.
    let head = format!("POST {CHECK} HTTP/1.1\r\nContent-Type: application/grpc\r\n");
    let mut connection = countersign_tests::http::Connection::open(server.address);
    for _ in 0..2 {
        connection.send(&head, &framed(b""));
        let answer = connection.receive(false);
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (505, &json!("http_version")),
            "{answer:?}"
        );
    }
}

#[test]
fn concurrent_checks_get_their_own_answers() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{H2}", fixture::SIGNING));
    let envoy = Envoy::plain(server.address);
    let users: Vec<_> = (0..20).map(|number| format!("user{number}")).collect();
    let tokens = users.iter().map(|user| fixture::token(&fixture::claims(json!({ "sub": user }))));
    let tokens: Vec<_> = tokens.collect();
    for _ in 0..10 {
        let questions =
            tokens.iter().map(|token| check_request(&[("authorization", &bearer(token))]));
        for (user, answer) in users.iter().zip(envoy.check_all(questions)) {
            assert_eq!(
                CheckOutcome::of(answer.unwrap()).header("x-auth-subject"),
                Some(user.as_str())
            );
        }
    }
    assert_eq!(
        server.metric(
            "countersign_requests_total{route=\"check\",status=\"200\",http_version=\"2\"}"
        ),
        200
    );
}

#[test]
fn new_key_serves_the_first_check_that_names_it() {
    let sandbox = Sandbox::new();
    let (old, new) = (SigningKey::generate("ES256", "old"), SigningKey::generate("ES256", "new"));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let idp =
        fixture::with_idp("ES256", &format!("jwks_uri={}\njwks_cool_down=1\n", provider.uri()));
    let server = sandbox.serve(&format!("{idp}[ext_authz]\nmetadata_claims=sub\n{H2}"));
    let envoy = Envoy::plain(server.address);
    assert_eq!(check_token(&envoy, &old.token(&fixture::claims_of("https://idp/"))).status, 200);
    provider.publish(&fixture::key_set(&[&old, &new]));
    let token = new.token(&fixture::claims_of("https://idp/"));
    let lines = [("authorization", bearer(&token)), ("x_auth_user", "root".into())];
    let lines = lines.each_ref().map(|(name, value)| (*name, value.as_str()));
    // The answer waits for the new key, unless the cool-down of the previous fetch still lasts.
    let mut last = None;
    eventually(|| {
        let outcome = check(&envoy, check_request(&lines));
        let is_allowed = outcome.status == 200;
        last = Some(outcome);
        is_allowed
    });
    let outcome = last.unwrap();
    assert_eq!(outcome.header("x-auth-subject"), Some("bob"));
    assert!(
        outcome.removed.contains(&"x_auth_user".to_owned()) && outcome.metadata.is_some(),
        "{outcome:?}"
    );
    let unknown =
        SigningKey::generate("ES256", "unknown").token(&fixture::claims_of("https://idp/"));
    assert_eq!(check_token(&envoy, &unknown).status, 401);
}

#[test]
fn e1_flood_is_charged_to_the_proxied_client() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("ES512"));
    let flood = |envoy: &Envoy, about: &dyn Fn(usize, CheckRequest) -> CheckRequest| {
        (0..100).find_map(|batch| {
            let numbers = (0..50).map(|number| 50 * batch + number);
            let asked = numbers.map(|number| {
                about(number, check_request(&[("authorization", &bearer(&issuer.forged(number)))]))
            });
            let outcome =
                envoy.check_all(asked).into_iter().map(|answer| CheckOutcome::of(answer.unwrap()));
            outcome.filter(|outcome| outcome.status != 401).last()
        })
    };
    let server = sandbox.serve(&issuer.configuration(
        &sandbox,
        ["off", "off", "1"],
        "trusted_proxies=127.0.0.1\nprotocols=http/1.1, h2",
    ));
    let envoy = Envoy::plain(server.address);
    let limited = flood(&envoy, &|_, check_request| with_source(check_request, "203.0.113.9", ""))
        .expect("every forged token was checked");
    assert_eq!((limited.status, limited.code), (429, 7));
    assert_eq!(limited.header("x-auth-error"), Some("not_admitted source"));
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // Other clients are not limited, and neither are requests without a signature check.
    let genuine = || check_request(&[("authorization", &bearer(&issuer.forged(0)))]);
    assert_eq!(check(&envoy, with_source(genuine(), "198.51.100.7", "")).status, 401);
    assert_eq!(check(&envoy, with_source(check_request(&[]), "203.0.113.9", "")).status, 401);
    drop(server);

    // An untrusted proxy is charged itself, whatever address it sends.
    for trusted in ["", "trusted_proxies=10.0.0.0/8\n"] {
        let listen = format!("{trusted}protocols=http/1.1, h2");
        let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], &listen));
        let invented = |number: usize, check_request| {
            with_source(check_request, &format!("10.0.{}.{}", number / 256, number % 256), "")
        };
        let limited = flood(&Envoy::plain(server.address), &invented)
            .expect("every forged token was checked");
        assert_eq!(limited.status, 429);
    }
}

#[test]
fn access_log_shows_the_checked_request() {
    let theirs = Authority::root("theirs");
    let shown = theirs.client("shown", 1);
    let fingerprint: String = digest(&SHA256, &shown.chain[0])
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let escaped: String = shown.pem().bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (trusted, uri, client, method) in [
        ("trusted_proxies=127.0.0.1\n", "/page", "203.0.113.9", "GET"),
        ("", CHECK, "127.0.0.1", "POST"),
    ] {
        let sandbox = Sandbox::new();
        let server = sandbox
            .serve(&format!("{}{H2}{trusted}[log]\nformat=json\nrequests=all\n", fixture::SIGNING));
        let envoy = Envoy::plain(server.address);
        let authorization = bearer(&fixture::good_token());
        for (lines, id) in [(vec![], "17"), (vec![("x-request-id", "abc")], "abc")] {
            let lines = [
                lines,
                vec![("authorization", &*authorization), ("x-forwarded-for", "198.51.100.66")],
            ]
            .concat();
            check(&envoy, with_source(check_request(&lines), "203.0.113.9", &escaped));
            let id = format!("\"request_id\":\"{}", if trusted.is_empty() { "" } else { id });
            let parts = [
                format!("\"uri\":\"{uri}\""),
                format!("\"client\":\"{client}\""),
                format!("\"method\":\"{method}\""),
                id,
            ];
            eventually(|| {
                server.log().lines().any(|line| parts.iter().all(|part| line.contains(part)))
            });
        }
        check_token(&envoy, "abc");
        eventually(|| {
            server
                .log()
                .lines()
                .any(|line| line.contains("\"route\":\"check\"") && line.contains("\"status\":401"))
        });
        assert_eq!(server.log().contains(&fingerprint), !trusted.is_empty());
        assert!(!server.log().contains(fixture::good_token().rsplit('.').next().unwrap()));
    }
}

#[test]
fn grpc_health_reports_readiness() {
    let sandbox = Sandbox::new();
    let provider = JwksServer::start_with(CannedResponse::hang());
    let idp = fixture::with_idp("ES256", &format!("jwks_uri={}\n", provider.uri()));
    let service = |name: &str| {
        framed(&[&[0x0a, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat())
    };
    let ours = "envoy.service.auth.v3.Authorization";
    // A server that still waits for its keys.
    let server = sandbox.listen(&format!("{idp}{H2}"));
    let status = |body: &[u8]| call(server.address, HEALTH, body).message().to_vec();
    assert_eq!([status(&framed(b"")), status(&service(ours))], [b"\x08\x02", b"\x08\x02"]);
    drop(server);
    let server = sandbox.serve(&format!("{}{H2}", fixture::SIGNING));
    let status = |body: &[u8]| call(server.address, HEALTH, body).message().to_vec();
    assert_eq!(
        [status(&framed(b"")), status(&service("")), status(&service(ours))],
        [b"\x08\x01"; 3]
    );
    assert_eq!(call(server.address, HEALTH, &service("another")).code(), Some("5"));
    assert_eq!(call(server.address, HEALTH, &framed(b"\x08\x01")).code(), Some("3"));
    assert_eq!(call(server.address, HEALTH, b"").code(), Some("12"));
}

#[test]
fn check_requires_the_proxy_certificate() {
    let sandbox = Sandbox::new();
    let (ours, theirs) = (Authority::root("ours"), Authority::root("theirs"));
    ours.server().write(sandbox.path());
    sandbox.file("clients.crt", theirs.pem());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let listen = "[listen]\nclient_certificates=required\nclient_ca_file=clients.crt\n";
    let server = sandbox.serve(&format!("{}{tls}{listen}", fixture::SIGNING));
    let envoy = |certificate: Option<&IssuedCertificate>| {
        let options =
            TlsClientOptions { certificate, protocols: &["h2"], ..TlsClientOptions::default() };
        Envoy::under_tls(server.address, &TlsClient::new(&ours, &options))
    };
    let (proxy, stranger) = (theirs.client("proxy", 1), ours.client("stranger", 1));
    for _ in 0..3 {
        let outcome = check_token(&envoy(Some(&proxy)), &fixture::good_token());
        assert_eq!((outcome.status, outcome.header(IDENTITY[0])), (200, Some("bob")));
    }
    for certificate in [None, Some(&stranger)] {
        let check_request = check_request(&[("authorization", &bearer(&fixture::good_token()))]);
        assert!(envoy(certificate).check(check_request).is_err());
    }
}
