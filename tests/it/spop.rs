/// Frames, handshakes and the ends of connections.
mod connections;
/// Descriptions of requests, which only a trusted proxy makes.
mod described;

use std::{collections::BTreeMap, time::Duration};

use countersign_tests::{
    binary::{Sandbox, Server},
    http::Response,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
    spop::{CheckMessage, SpopClient, kind},
};
use serde_json::json;

use crate::fixture;

/// A listener for HAProxy on this machine.
const LISTENER: &str =
    "[listener_spop]\nbind=127.0.0.1:0\nprotocols=spop\ntrusted_proxies=127.0.0.1\n";

type Variables = BTreeMap<String, String>;

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Sends a check with this bearer token on a new connection.
#[track_caller]
fn check_token(server: &Server<'_>, token: &str) -> Variables {
    let bearer = bearer(token);
    let check = CheckMessage::of(&[("authorization", &bearer)]);
    SpopClient::connect(server.spop_address()).check(&check)
}

/// Returns the variables that stand for a response of `/auth`.
fn variables_of(response: &Response) -> Variables {
    let is_allowed = response.status == 200;
    let about_http = ["date", "content-length", "connection"];
    let is_sent = |(name, value): &&(String, String)| {
        !about_http.contains(&name.as_str())
            && !(is_allowed && (value.is_empty() || name == "cache-control"))
    };
    let headers = response.headers.iter().filter(is_sent);
    let headers = headers.map(|(name, value)| (name.replace('-', "_"), value.clone()));
    let status = [
        ("allowed".into(), is_allowed.to_string()),
        ("status".into(), response.status.to_string()),
    ];
    headers.chain(status).collect()
}

#[test]
fn check_sets_the_identity_of_auth() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let scoped = json!({ "urn:inmanta:env": "é 1", "urn:inmanta:ct": ["api", "agent"] });
    for changes in [json!({}), scoped, json!({ "sub": null })] {
        let token = fixture::token(&fixture::claims(changes));
        // The second answer is from the cache.
        for _ in 0..2 {
            assert_eq!(check_token(&server, &token), variables_of(&server.auth(&token)));
        }
    }
    let usual = check_token(&server, &fixture::good_token());
    assert_eq!((&*usual["allowed"], &*usual["status"]), ("true", "200"));
    assert_eq!((&*usual["x_auth_user"], usual.get("x_auth_tenant")), ("bob", None));
}

#[test]
fn identity_headers_can_be_renamed() {
    let sandbox = Sandbox::new();
    let identity = "[identity_headers]\nsubject=X-Who.Is~It\nuser=\nclaim.groups=X-Groups\n";
    let server = sandbox.serve(&format!("{}{identity}{LISTENER}", fixture::SIGNING));
    let token = fixture::token(&fixture::claims(json!({ "groups": ["a", "b"] })));
    let variables = check_token(&server, &token);
    assert_eq!(variables["x_who.is_it"], "bob");
    assert!(variables.contains_key("x_groups") && !variables.contains_key("x_auth_user"));
}

#[test]
fn check_refuses_with_the_same_answer_as_auth() {
    let down =
        fixture::issuer_section("down", "RS256", "https://down/", "jwks_uri=http://127.0.0.1:9/");
    for surface in ["generic", "inmanta"] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&format!(
            "{}{down}[listen]\nsurface={surface}\n{LISTENER}surface={surface}\n",
            fixture::SIGNING
        ));
        let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
        let forged = format!("{}AAAA", &fixture::good_token()[..fixture::good_token().len() - 4]);
        let header = json!({ "alg": "RS256", "kid": "k" });
        let unavailable = fixture::token_with_header(&header, &fixture::claims_of("https://down/"));
        for token in [&*expired, &forged, "abc", "a b", &unavailable] {
            let variables = check_token(&server, token);
            assert_eq!(variables, variables_of(&server.auth(token)), "{surface}: {token}");
            assert_eq!(variables["allowed"], "false");
        }
        let missing = SpopClient::connect(server.spop_address()).check(&CheckMessage::of(&[]));
        let expected = server.request("GET /auth HTTP/1.1\r\n");
        assert_eq!(missing, variables_of(&expected));
        assert_eq!((&*missing["status"], &*missing["www_authenticate"]), ("401", "Bearer"));
    }
}

#[test]
fn e4_duplicate_credentials_are_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox
        .serve(&format!("{}[server]\nauth_additional_header=X-Jwt\n{LISTENER}", fixture::SIGNING));
    let (good, bearer) = (fixture::good_token(), bearer(&fixture::good_token()));
    let joined = format!("{bearer},{bearer}");
    for (lines, challenge) in [
        (vec![("authorization", &*bearer), ("authorization", &bearer)], "invalid_request"),
        (vec![("authorization", &bearer), ("Authorization", &bearer)], "invalid_request"),
        (vec![("authorization", &bearer), ("authorization", "Basic x")], "invalid_request"),
        (vec![("x-jwt", &good), ("a", "b"), ("X-JWT", &good)], "invalid_request"),
        (vec![("authorization", &joined)], "Bearer"),
        (vec![("authorization ", &bearer)], "Bearer"),
    ] {
        let variables = SpopClient::connect(server.spop_address()).check(&CheckMessage::of(&lines));
        assert_eq!(variables["status"], "401", "{variables:?}");
        assert!(variables["www_authenticate"].contains(challenge), "{variables:?}");
    }
    let lines = [("authorization", "Basic x"), ("x-jwt", good.as_str())];
    let variables = SpopClient::connect(server.spop_address()).check(&CheckMessage::of(&lines));
    assert_eq!(variables["allowed"], "true", "the additional header goes first");
}

#[test]
fn pipelined_checks_have_their_own_answers() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let users: Vec<_> = (0..200).map(|number| format!("user{number}")).collect();
    let claims = |user: &String| fixture::claims(json!({ "sub": user }));
    let bearers: Vec<_> = users.iter().map(|user| bearer(&fixture::token(&claims(user)))).collect();
    let checks = bearers.iter().zip(0..).map(|(bearer, stream)| {
        CheckMessage::of(&[("authorization", bearer.as_str())]).notify(1000 * stream)
    });
    let mut client = SpopClient::connect(server.spop_address());
    client.send(&checks.collect::<Vec<_>>());
    for _ in &users {
        let answer = client.receive().unwrap();
        let (stream, frame) = answer.ids;
        let user = &users[usize::try_from(stream / 1000).unwrap()];
        assert_eq!((frame, &answer.variables()["x_auth_subject"]), (1, user));
    }
    let counted = "countersign_requests_total{route=\"check\",status=\"200\",\
                   http_version=\"spop\"}";
    assert_eq!(server.metric(counted), 200);
}

#[test]
fn check_that_waits_for_a_key_does_not_block_others() {
    let sandbox = Sandbox::new();
    let (old, new) = (SigningKey::generate("ES256", "old"), SigningKey::generate("ES256", "new"));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let options = format!("jwks_uri={}\njwks_cool_down=1\n", provider.uri());
    let log = "[log]\nformat=json\nrequests=all\n";
    let server = sandbox.serve(&format!("{}{log}{LISTENER}", fixture::with_idp("ES256", &options)));
    std::thread::sleep(Duration::from_millis(1100));
    let keys = fixture::key_set(&[&old, &new]);
    provider.respond_with(CannedResponse::json(&keys).delayed(Duration::from_millis(500)));
    let [new, old] =
        [&new, &old].map(|key| bearer(&key.token(&fixture::claims_of("https://idp/"))));
    let mut client = SpopClient::connect(server.spop_address());
    let waiting = CheckMessage::of(&[("authorization", &new)]);
    let other = CheckMessage::of(&[("authorization", &old)]);
    client.send(&[waiting.notify(1), other.notify(2), other.notify(3)]);
    let answers = [(); 3].map(|()| client.receive().unwrap());
    assert_eq!(answers.each_ref().map(|answer| answer.ids.0), [2, 3, 1]);
    for answer in &answers {
        assert_eq!(answer.variables()["x_auth_subject"], "bob", "{answer:?}");
    }
    let path = "\"uri\":\"/page\"";
    let logged = || server.log().lines().filter(|line| line.contains(path)).count();
    countersign_tests::eventually(|| logged() == 3);
    let unknown = SigningKey::generate("ES256", "unknown");
    let unknown = unknown.token(&fixture::claims_of("https://idp/"));
    let refused = check_token(&server, &unknown);
    assert!(["401", "503"].contains(&&*refused["status"]), "{refused:?}");
}

#[test]
fn answer_without_room_refuses_the_request() {
    const MAX_FRAME: u64 = 1400;
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let mut client = SpopClient::open(server.spop_address());
    client.send(&[countersign_tests::spop::hello("2.0", MAX_FRAME, "pipelining")]);
    assert_eq!(client.receive().unwrap().kind, kind::AGENT_HELLO);
    // Its subject is in the token once, and in the answer twice.
    let long = fixture::token(&fixture::claims(json!({ "sub": "x".repeat(700) })));
    let short = fixture::good_token();
    for (token, is_answered) in [(&short, true), (&long, false)] {
        let bearer = bearer(token);
        let check = CheckMessage::of(&[("authorization", &bearer)]);
        assert!(u64::try_from(check.notify(7).bytes().len()).unwrap() <= MAX_FRAME);
        assert_eq!(client.check(&check).is_empty(), !is_answered);
    }
}
