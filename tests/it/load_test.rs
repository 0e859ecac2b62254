/// The scripts of `deploy/loadtest`, with a bounded load.
mod scripts;

use countersign_tests::{
    binary::{Sandbox, Server},
    client::{Client, Protocol},
    grpc::{Envoy, check_request},
    spop::{CheckMessage, SpopClient},
};
use serde_json::Value;

use crate::fixture::SIGNING;

/// Free ports, and a listener for HAProxy.
const PORTS: &str = "[metrics]\nbind_port=0\n[listener_spop]\nbind=127.0.0.1:0\nprotocols=spop\n";

/// Starts a load test with these further arguments.
fn start<'s>(sandbox: &'s Sandbox, arguments: &[&str]) -> Server<'s> {
    sandbox.file("ports.cfg", PORTS);
    let fixed = ["serve", "--profile", "loadtest", "--listen", "127.0.0.1:0", "-c", "ports.cfg"];
    let server = sandbox.start(fixed.iter().chain(arguments));
    server.wait_until_ready();
    server
}

fn stats(server: &Server<'_>) -> Value {
    server.request("GET /stats HTTP/1.1\r\n").json()
}

/// A token of the corpus, with the answer that it must get.
struct ListedToken {
    kind: String,
    status: u16,
    reason: String,
    text: String,
}

fn corpus(server: &Server<'_>) -> Vec<ListedToken> {
    let listed = server.request("GET /corpus HTTP/1.1\r\n");
    assert_eq!(listed.header("content-type"), Some("text/tab-separated-values"));
    listed.body.lines().map(listed_token).collect()
}

fn listed_token(line: &str) -> ListedToken {
    let [kind, status, _, text, reason] = line.split('\t').collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    let status = status.parse().unwrap();
    ListedToken { kind: kind.into(), status, reason: reason.into(), text: text.into() }
}

fn head(token: &str) -> String {
    format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n")
}

#[test]
fn corpus_names_the_answer_to_each_token() {
    for algorithm in ["RS256", "EdDSA", "HS512"] {
        let sandbox = Sandbox::new();
        let arguments = ["--algorithm", algorithm, "--tokens", "60", "--valid", "0.5"];
        let server = start(&sandbox, &arguments);
        let tokens = corpus(&server);
        assert_eq!(tokens.len(), 60);
        let mut client = server.client();
        for token in &tokens {
            let answer = client.request(&head(&token.text), b"");
            assert_eq!(answer.status, token.status, "{}", token.kind);
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            let reason = format!("error_description=\"{}\"", token.reason);
            assert!(token.kind == "valid" || challenge.ends_with(&reason), "{challenge} {reason}");
        }
        assert_eq!(client.request("GET /auth HTTP/1.1\r\n", b"").status, 401);
        let stats = stats(&server);
        assert_eq!((&stats["right"], &stats["wrong"]), (&61.into(), &0.into()), "{stats}");
        assert_eq!(stats["algorithm"], algorithm);
        let kinds = ["valid", "expired", "audience", "issuer", "signature", "garbage", "missing"];
        let right = kinds.map(|kind| stats["kinds"][kind]["right"].as_u64().unwrap());
        assert_eq!(right, [30, 6, 6, 6, 6, 6, 1]);
    }
}

#[test]
fn load_test_judges_every_protocol_of_checks() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "10"]);
    let tokens = corpus(&server);
    let valid = &tokens.iter().find(|token| token.kind == "valid").unwrap().text;
    let mut http2 = Client::plain(Protocol::Http2, server.address);
    assert_eq!(http2.request(&head(valid), b"").status, 200);
    assert_eq!(server.auth(valid).status, 200);
    let bearer = format!("Bearer {valid}");
    let check = check_request(&[("authorization", &bearer)]);
    Envoy::plain(server.address).check(check).unwrap();
    let check = CheckMessage::of(&[("authorization", &bearer)]);
    SpopClient::connect(server.spop_address()).check(&check);
    let stats = stats(&server);
    for protocol in ["http/1.1", "h2", "grpc", "spop"] {
        let latency = &stats["latency_us"][protocol];
        assert_eq!(latency["count"], 1, "{protocol}: {stats}");
        assert!(latency["p99"].as_f64().unwrap() > 0.0 && latency["max"] == latency["p99.9"]);
    }
    assert_eq!(stats["kinds"]["valid"]["right"], 4, "{stats}");
    assert_eq!(stats["wrong"], 0);
    assert!(stats["latency_us"]["h3"].is_null());
}

#[test]
fn stats_are_reset_by_delete() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "3"]);
    server.auth("unknown");
    assert_eq!(stats(&server)["kinds"]["other"]["right"], 1);
    let response = server.request("DELETE /stats HTTP/1.1\r\n");
    assert_eq!((response.status, &response.json()["checks"]), (200, &0.into()));
    assert_eq!(stats(&server)["checks"], 0);
    for (head, allowed) in [
        ("POST /stats HTTP/1.1\r\n", "GET, HEAD, DELETE"),
        ("DELETE /corpus HTTP/1.1\r\n", "GET, HEAD"),
    ] {
        let response = server.request(head);
        assert_eq!((response.status, response.header("allow")), (405, Some(allowed)));
    }
}

#[test]
fn load_test_routes_exist_in_load_tests_only() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    for path in ["/stats", "/corpus"] {
        assert_eq!(server.request(&format!("GET {path} HTTP/1.1\r\n")).status, 404, "{path}");
    }
}

#[test]
fn load_test_warns_and_keeps_the_state_of_others() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "20", "--valid", "0.5"]);
    assert!(server.log().contains("the keys of this server are public"), "{}", server.log());
    let state = sandbox.path().join(".local/state/countersign");
    let entries: Vec<_> =
        std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["loadtest"]);
    assert!(server.reload().contains("configuration reloaded"));
    assert_eq!(corpus(&server).len(), 20);
    let address = server.address;
    let (_, lines) = server.stop("TERM");
    let line = format!(
        "  load test 20 RS256 tokens, 10 of them valid: http://{address}/corpus, \
         http://{address}/stats"
    );
    assert!(lines.contains(&line), "{lines:?}");
}

#[test]
fn load_test_refuses_issuers_of_ones_own() {
    let sandbox = Sandbox::new();
    sandbox.file("own.cfg", SIGNING);
    let run = |sandbox: &Sandbox, arguments: &[&str]| {
        let output = sandbox.run(["serve", "--profile", "loadtest"].iter().chain(arguments));
        assert_eq!(output.code(), 2, "{output:?}");
        output.stderr
    };
    let text = "--profile loadtest excludes issuers of your own";
    assert!(run(&sandbox, &["--config", "own.cfg"]).contains(text));
    let issuer = ["--issuer", "https://idp.example", "--audience", "a"];
    assert!(run(&sandbox, &issuer).contains("cannot be used with"));
    let named = Sandbox::new().variable("INMANTA_AUTH_JWT_IDP_ISSUER", "https://idp.example");
    assert!(run(&named, &[]).contains(text));
}

#[test]
fn load_test_listens_on_loopback_only() {
    let sandbox = Sandbox::new();
    sandbox.file("ports.cfg", PORTS);
    sandbox.file("wide.cfg", "[listener_wide]\nbind=127.0.0.1:0, [::]:0\n");
    let refused = |sandbox: &Sandbox, arguments: &[&str], place: &str| {
        let fixed = ["serve", "--profile", "loadtest", "-c", "ports.cfg"];
        let output = sandbox.run(fixed.iter().chain(arguments));
        let is_named = output.stderr.contains(place) && output.stderr.contains("not loopback");
        assert!(output.code() == 2 && is_named, "{output:?}");
    };
    refused(&sandbox, &["--listen", "0.0.0.0:0"], "0.0.0.0:0");
    refused(&sandbox, &["--listen", "127.0.0.1:0", "-c", "wide.cfg"], "[::]:0");
    let activated = Sandbox::new().variable("LISTEN_FDS", "1");
    activated.file("ports.cfg", PORTS);
    refused(&activated, &["--listen", "127.0.0.1:0"], "LISTEN_FDS");
    let server = start(&sandbox, &["--tokens", "3", "-c", "wide.cfg", "--allow-remote"]);
    assert_eq!(corpus(&server).len(), 3);
}

#[test]
fn corpus_arguments_need_the_profile() {
    let sandbox = Sandbox::new();
    for (arguments, expected) in [
        (["--tokens", "3"], "add --profile loadtest"),
        (["--listen", "127.0.0.1:0"], "--profile"),
        (["--algorithm", "ES256"], "choose one of RS256"),
        (["--valid", "2"], "a number from 0 to 1"),
    ] {
        let output = sandbox.run(["serve"].iter().chain(&arguments));
        assert!(output.code() == 2 && output.stderr.contains(expected), "{output:?}");
    }
}

#[test]
fn loadtest_corpus_writes_the_tokens_of_the_server() {
    let sandbox = Sandbox::new();
    let arguments = ["--algorithm", "EdDSA", "--tokens", "20", "--valid", "0.5"];
    let server = start(&sandbox, &arguments);
    let written = sandbox.run(["loadtest", "corpus", "--out", "c"].iter().chain(&arguments));
    assert_eq!(written.text(), "20 EdDSA tokens, 10 of them valid in c");
    let read = |name: &str| std::fs::read_to_string(sandbox.path().join("c").join(name)).unwrap();
    assert_eq!(read("corpus.tsv"), server.request("GET /corpus HTTP/1.1\r\n").body);
    let (tokens, expected) = (read("tokens.txt"), read("expected.txt"));
    for (token, status) in tokens.lines().zip(expected.lines()) {
        assert_eq!(server.auth(token).status.to_string(), status);
    }
    let signed = tokens.lines().filter(|token| token.starts_with("ey")).collect::<Vec<_>>();
    let verified = sandbox
        .run_with_input(["jws", "verify", "--jwks", "c/jwks.json"], signed.join("\n") + "\n")
        .json_lines();
    // All but those with a damaged signature.
    assert_eq!(verified.iter().filter(|line| line["ok"] == true).count(), signed.len() - 2);
}
