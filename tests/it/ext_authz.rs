use aws_lc_rs::digest::{SHA256, digest};
use countersign_tests::{
    answers::IDENTITY,
    binary::{Sandbox, Server},
    certificates::{Authority, Issued},
    eventually,
    grpc::{self, CHECK, Envoy, HEALTH, Told, call, framed, from, question, question_with_map},
    openssl::SigningKey,
    providers::{Answer, JwksServer},
    tls::{Client, Wishes},
};
use envoy_types::pb::{
    envoy::service::auth::v3::CheckRequest,
    google::protobuf::{Struct, Value, value::Kind},
};
use http::Request;
use prost::Message as _;
use serde_json::json;

use crate::{admission::Issuer, given};

/// A listener that speaks HTTP/2 without TLS.
const H2: &str = "[listen]\nprotocols=http/1.1, h2\n";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn told(envoy: &Envoy, question: CheckRequest) -> Told {
    Told::of(envoy.ask(question).unwrap())
}

/// Asks about a request with this token.
fn told_of(envoy: &Envoy, token: &str) -> Told {
    told(envoy, question(&[("authorization", &bearer(token))]))
}

/// What `/auth` says to the same token, in the form of what Envoy is told.
fn as_auth(server: &Server<'_>, token: &str) -> (i32, Vec<(String, String)>) {
    let answer = server.auth(token);
    let about_http = ["date", "content-length", "connection"];
    let headers =
        answer.headers.into_iter().filter(|(name, _)| !about_http.contains(&name.as_str()));
    (answer.status.into(), headers.collect())
}

#[test]
fn a_good_token_passes_with_its_identity_and_without_itself() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{H2}", given::SIGNING));
    let envoy = Envoy::plain(server.address);
    let authorization = bearer(&given::good_token());
    let lines = [
        ("host", "shop.example"),
        ("authorization", authorization.as_str()),
        ("x-auth-tenant", "root"),
    ];
    for question in [question(&lines), question_with_map(&lines)] {
        let told = told(&envoy, question);
        assert_eq!((told.code, told.status), (0, 200));
        let said = ["x-auth-subject", "x-auth-user", "x-auth-issuer", "x-auth-client-types"]
            .map(|name| told.header(name));
        assert_eq!(said, [Some("bob"), Some("bob"), Some(given::ISSUER), Some("api")]);
        // What there is nothing to say about is not said empty.
        assert_eq!(
            (told.set.len(), told.removed),
            (4, vec!["x-auth-tenant".into(), "authorization".into()])
        );
        assert_eq!(told.metadata, None);
    }
    let anonymous = told_of(&envoy, &given::token(&given::claims(json!({ "sub": null }))));
    assert_eq!(
        anonymous.removed,
        ["x-auth-subject", "x-auth-user", "x-auth-tenant", "authorization"]
    );
    assert_eq!(server.metric("countersign_verifications_total{outcome=\"verified\",code=\"\"}"), 3);
}

#[test]
fn whoever_may_not_pass_is_answered_as_auth_does() {
    let sandbox = Sandbox::new();
    let down =
        given::issuer_section("down", "RS256", "https://down/", "jwks_uri=http://127.0.0.1:9/");
    for (surface, refused, code) in [("generic", 401, 16), ("inmanta", 403, 7)] {
        let server = sandbox.serve(&format!("{}{down}{H2}surface={surface}\n", given::SIGNING));
        let envoy = Envoy::plain(server.address);
        let expired = given::token(&given::claims(json!({ "exp": 1 })));
        let forged = format!("{}AAAA", &given::good_token()[..given::good_token().len() - 4]);
        for token in [expired.as_str(), &forged, "abc", "a b"] {
            let told = told_of(&envoy, token);
            assert_eq!(
                (told.status, &told.set),
                (as_auth(&server, token).0, &as_auth(&server, token).1),
                "{token}"
            );
            // Two parts are no token.
            assert_eq!(
                (told.status, told.code),
                if token == "a b" { (401, 16) } else { (refused, code) },
                "{token}"
            );
        }
        let unavailable = given::token_with_header(
            &json!({ "alg": "RS256", "kid": "k" }),
            &given::claims_of("https://down/"),
        );
        let told_unavailable = told_of(&envoy, &unavailable);
        assert_eq!((told_unavailable.status, told_unavailable.code), (503, 7));
        assert_eq!(told_unavailable.set, as_auth(&server, &unavailable).1);
        assert_eq!(told_unavailable.header("x-auth-error"), Some("keys_unavailable https://down/"));
        let missing = told(&envoy, question(&[("host", "shop.example")]));
        assert_eq!((missing.status, missing.code), (401, 16));
        assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    }
}

#[test]
fn e4_a_credential_that_is_there_twice_is_none() {
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&format!("{}[server]\nauth_additional_header=X-Jwt\n{H2}", given::SIGNING));
    let envoy = Envoy::plain(server.address);
    let (good, bearer) = (given::good_token(), bearer(&given::good_token()));
    let one = ("authorization", bearer.as_str());
    let mut in_both = question(&[one]);
    let http =
        in_both.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.insert("authorization".into(), bearer.clone());
    let joined = format!("{bearer},{bearer}");
    for (question, challenge) in [
        (question(&[one, one]), "invalid_request"),
        (question(&[one, ("Authorization", &bearer)]), "invalid_request"),
        (in_both, "invalid_request"),
        (question(&[one, ("x-jwt", &good), ("x-jwt", &good)]), "invalid_request"),
        // As Envoy puts two lines into a map.
        (question_with_map(&[("authorization", &joined)]), "Bearer"),
    ] {
        let told = told(&envoy, question);
        assert_eq!((told.status, told.code), (401, 16));
        assert!(told.header("www-authenticate").unwrap().contains(challenge), "{told:?}");
    }
    assert_eq!(server.metric("countersign_verifications_total{outcome=\"conflict\",code=\"\"}"), 4);
    // The additional header wins, and neither of the two goes on.
    let told = told(&envoy, question(&[("authorization", "Basic Ym9iOmJvYg=="), ("x-jwt", &good)]));
    assert_eq!(told.status, 200);
    assert!(
        ["authorization", "x-jwt"].iter().all(|name| told.removed.iter().any(|one| one == name)),
        "{told:?}"
    );
}

#[test]
fn e2_what_a_client_says_of_itself_is_taken_away_however_it_spells_it() {
    let sandbox = Sandbox::new();
    let identity =
        "[identity_headers]\nsubject=X-Who\nissuer=X-Who-\nclient_types=X_Who_\ntenant=\n";
    let server = sandbox.serve(&format!("{}{identity}{H2}", given::SIGNING));
    let envoy = Envoy::plain(server.address);
    let authorization = bearer(&given::good_token());
    let theirs = [
        ("x_who", true),
        ("X.WHO", true),
        ("x~who", true),
        ("x_auth_user", true),
        ("X-Auth_User", true),
        // The same name, which is set; and others, which are nobody's.
        ("X-Who", false),
        ("x-whom", false),
        // Another identity.
        ("x_who_", false),
        ("xwho", false),
        ("x--who", false),
        ("x-auth-tenant", false),
        ("x_auth_tenant", false),
        ("x\u{e9}who", false),
    ];
    let mut lines = vec![("authorization", authorization.as_str())];
    lines.extend(theirs.iter().map(|(name, _)| (*name, "root")));
    for question in [question(&lines), question_with_map(&lines)] {
        let told = told(&envoy, question);
        assert_eq!((told.header("x-who"), told.header("x_who_")), (Some("bob"), Some("api")));
        for (name, is_removed) in theirs {
            assert_eq!(told.removed.iter().any(|one| one == name), is_removed, "{name}: {told:?}");
        }
        assert!(told.set.iter().all(|(name, _)| !told.removed.contains(name)), "{told:?}");
    }
}

#[test]
fn credentials_go_on_where_that_is_configured() {
    let sandbox = Sandbox::new();
    let options = "[ext_authz]\nforward_credentials=true\n[server]\nauth_additional_header=X-Jwt\n";
    let server = sandbox.serve(&format!("{}{options}{H2}", given::SIGNING));
    let told = told_of(&Envoy::plain(server.address), &given::good_token());
    assert_eq!(told.removed, ["x-auth-tenant"]);
}

#[test]
fn an_identity_may_take_the_place_of_the_credential() {
    let sandbox = Sandbox::new();
    let identity = "[identity_headers]\nsubject=Authorization\nuser=\ntenant=Authorization-\n";
    let server = sandbox.serve(&format!("{}{identity}{H2}", given::SIGNING));
    let told = told_of(&Envoy::plain(server.address), &given::good_token());
    assert_eq!(
        (told.header("authorization"), &*told.removed),
        (Some("bob"), &["authorization-".to_owned()][..])
    );
}

#[test]
fn chosen_claims_are_metadata_of_the_same_type() {
    let sandbox = Sandbox::new();
    let names = "sub,groups,address,level,huge,small,ratio,is_admin,nothing,missing";
    let server =
        sandbox.serve(&format!("{}[ext_authz]\nmetadata_claims={names}\n{H2}", given::SIGNING));
    let claims = json!({
        "groups": ["a", "b"], "address": { "city": "Köln", "lines": [] }, "level": 9_007_199_254_740_992u64,
        "huge": 9_007_199_254_740_993u64, "small": i64::MIN, "ratio": -0.5, "is_admin": true, "nothing": null, "other": 1,
    });
    // A null in the list of changes would remove the claim.
    let mut claims = given::claims(claims);
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
        assert_eq!(told_of(&envoy, &given::token(&claims)).metadata.as_ref(), Some(&expected));
    }
    assert_eq!(told_of(&envoy, "abc").metadata, None);
}

#[test]
fn a_question_that_cannot_be_read_is_a_fault_and_lets_nobody_pass() {
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&format!("{}[server]\nmax_request_body_size=4000\n{H2}", given::SIGNING));
    let good = question(&[("authorization", &bearer(&given::good_token()))]).encode_to_vec();
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
    // An empty question is one about nobody.
    let answer = call(server.address, CHECK, &framed(b""));
    assert_eq!(Told::of(prost::Message::decode(answer.message()).unwrap()).status, 401);
    let answered = |status: &str| {
        server.metric(&format!("countersign_requests_total{{route=\"check\",status=\"{status}\"}}"))
    };
    assert_eq!(["400", "401", "413", "501"].map(answered), [5, 1, 1, 3]);
}

#[test]
fn what_is_no_call_is_answered_as_http() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{H2}", given::SIGNING));
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
    // Not without trailers, and the connection goes on.
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
fn many_questions_on_one_connection_have_each_its_own_answer() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{H2}", given::SIGNING));
    let envoy = Envoy::plain(server.address);
    let users: Vec<_> = (0..20).map(|number| format!("user{number}")).collect();
    let tokens = users.iter().map(|user| given::token(&given::claims(json!({ "sub": user }))));
    let tokens: Vec<_> = tokens.collect();
    for _ in 0..10 {
        let questions = tokens.iter().map(|token| question(&[("authorization", &bearer(token))]));
        for (user, answer) in users.iter().zip(envoy.ask_together(questions)) {
            assert_eq!(Told::of(answer.unwrap()).header("x-auth-subject"), Some(user.as_str()));
        }
    }
    assert_eq!(server.metric("countersign_requests_total{route=\"check\",status=\"200\"}"), 200);
}

#[test]
fn a_new_key_works_with_its_first_question() {
    let sandbox = Sandbox::new();
    let (old, new) = (SigningKey::generate("ES256", "old"), SigningKey::generate("ES256", "new"));
    let provider = JwksServer::start(&given::key_set(&[&old]));
    let idp = given::with_idp("ES256", &format!("jwks_uri={}\njwks_cool_down=1\n", provider.uri()));
    let server = sandbox.serve(&format!("{idp}[ext_authz]\nmetadata_claims=sub\n{H2}"));
    let envoy = Envoy::plain(server.address);
    assert_eq!(told_of(&envoy, &old.token(&given::claims_of("https://idp/"))).status, 200);
    provider.publish(&given::key_set(&[&old, &new]));
    let token = new.token(&given::claims_of("https://idp/"));
    let lines = [("authorization", bearer(&token)), ("x_auth_user", "root".into())];
    let lines = lines.each_ref().map(|(name, value)| (*name, value.as_str()));
    // Unless the one before has just asked, the answer waits for the key.
    let mut last = None;
    eventually(|| {
        let told = told(&envoy, question(&lines));
        let is_allowed = told.status == 200;
        last = Some(told);
        is_allowed
    });
    let told = last.unwrap();
    assert_eq!(told.header("x-auth-subject"), Some("bob"));
    assert!(
        told.removed.contains(&"x_auth_user".to_owned()) && told.metadata.is_some(),
        "{told:?}"
    );
    let unknown = SigningKey::generate("ES256", "unknown").token(&given::claims_of("https://idp/"));
    assert_eq!(told_of(&envoy, &unknown).status, 401);
}

#[test]
fn e1_a_flood_is_charged_to_the_client_that_a_trusted_proxy_names() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("RS256"));
    let flood = |envoy: &Envoy, about: &dyn Fn(usize, CheckRequest) -> CheckRequest| {
        (0..100).find_map(|batch| {
            let numbers = (0..50).map(|number| 50 * batch + number);
            let asked = numbers.map(|number| {
                about(number, question(&[("authorization", &bearer(&issuer.forged(number)))]))
            });
            let told =
                envoy.ask_together(asked).into_iter().map(|answer| Told::of(answer.unwrap()));
            told.filter(|told| told.status != 401).last()
        })
    };
    let server = sandbox.serve(&issuer.configuration(
        &sandbox,
        ["off", "off", "1"],
        "trusted_proxies=127.0.0.1\nprotocols=http/1.1, h2",
    ));
    let envoy = Envoy::plain(server.address);
    let put_off = flood(&envoy, &|_, question| from(question, "203.0.113.9", ""))
        .expect("not all of them were checked");
    assert_eq!((put_off.status, put_off.code), (429, 7));
    assert_eq!(put_off.header("x-auth-error"), Some("not_admitted source"));
    assert!(put_off.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // Somebody else, and he himself with what needs no checking.
    let genuine = || question(&[("authorization", &bearer(&issuer.forged(0)))]);
    assert_eq!(told(&envoy, from(genuine(), "198.51.100.7", "")).status, 401);
    assert_eq!(told(&envoy, from(question(&[]), "203.0.113.9", "")).status, 401);
    drop(server);

    // Whom nobody trusts is charged himself, whatever he says.
    for trusted in ["", "trusted_proxies=10.0.0.0/8\n"] {
        let listen = format!("{trusted}protocols=http/1.1, h2");
        let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], &listen));
        let invented = |number: usize, question| {
            from(question, &format!("10.0.{}.{}", number / 256, number % 256), "")
        };
        let put_off =
            flood(&Envoy::plain(server.address), &invented).expect("not all of them were checked");
        assert_eq!(put_off.status, 429);
    }
}

#[test]
fn the_request_that_a_trusted_proxy_asks_about_is_written_down() {
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
            .serve(&format!("{}{H2}{trusted}[log]\nformat=json\nrequests=all\n", given::SIGNING));
        let envoy = Envoy::plain(server.address);
        let authorization = bearer(&given::good_token());
        for (lines, id) in [(vec![], "17"), (vec![("x-request-id", "abc")], "abc")] {
            let lines = [
                lines,
                vec![("authorization", &*authorization), ("x-forwarded-for", "198.51.100.66")],
            ]
            .concat();
            told(&envoy, from(question(&lines), "203.0.113.9", &escaped));
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
        told_of(&envoy, "abc");
        eventually(|| {
            server
                .log()
                .lines()
                .any(|line| line.contains("\"route\":\"check\"") && line.contains("\"status\":401"))
        });
        assert_eq!(server.log().contains(&fingerprint), !trusted.is_empty());
        assert!(!server.log().contains(given::good_token().rsplit('.').next().unwrap()));
    }
}

#[test]
fn health_is_that_of_the_server() {
    let sandbox = Sandbox::new();
    let provider = JwksServer::start_with(Answer::silence());
    let idp = given::with_idp("ES256", &format!("jwks_uri={}\n", provider.uri()));
    let service = |name: &str| {
        framed(&[&[0x0a, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat())
    };
    let ours = "envoy.service.auth.v3.Authorization";
    // One that waits for its keys.
    let server = sandbox.listen(&format!("{idp}{H2}"));
    let status = |body: &[u8]| call(server.address, HEALTH, body).message().to_vec();
    assert_eq!([status(&framed(b"")), status(&service(ours))], [b"\x08\x02", b"\x08\x02"]);
    drop(server);
    let server = sandbox.serve(&format!("{}{H2}", given::SIGNING));
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
fn only_proxies_with_a_certificate_ask_where_one_is_required() {
    let sandbox = Sandbox::new();
    let (ours, theirs) = (Authority::root("ours"), Authority::root("theirs"));
    ours.server().write(sandbox.path());
    sandbox.file("clients.crt", theirs.pem());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let listen = "[listen]\nclient_certificates=required\nclient_ca_file=clients.crt\n";
    let server = sandbox.serve(&format!("{}{tls}{listen}", given::SIGNING));
    let envoy = |certificate: Option<&Issued>| {
        let wishes = Wishes { certificate, protocols: &["h2"], ..Wishes::default() };
        Envoy::under_tls(server.address, &Client::new(&ours, &wishes))
    };
    let (proxy, stranger) = (theirs.client("proxy", 1), ours.client("stranger", 1));
    for _ in 0..3 {
        let told = told_of(&envoy(Some(&proxy)), &given::good_token());
        assert_eq!((told.status, told.header(IDENTITY[0])), (200, Some("bob")));
    }
    for certificate in [None, Some(&stranger)] {
        let question = question(&[("authorization", &bearer(&given::good_token()))]);
        assert!(envoy(certificate).ask(question).is_err());
    }
}
