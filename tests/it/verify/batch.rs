use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use countersign_tests::{
    binary::{NO_BUDGETS, Sandbox, Server},
    client::Protocol,
    eventually,
    http::{Connection, Response},
    openssl::SigningKey,
    over_every_protocol,
    providers::{CannedResponse, JwksServer},
};
use serde_json::{Value, json};

use crate::{
    admission::Issuer,
    fixture::{self, SIGNING, key_set},
    revocation,
};

over_every_protocol!(
    batch_answers_are_those_of_single_calls,
    batch_answers_every_line_in_order,
    batch_without_tokens_has_an_empty_answer,
    batch_longer_than_the_memory_is_answered,
    batch_waits_for_the_keys_of_its_issuer,
    batch_has_the_time_to_retry_an_undecided_token,
);

/// The least memory that can be configured. Each client address has room for one batch.
const LEAST_MEMORY: &str = "[limits]\nrequest_memory=1048576\nrequest_memory_per_source=262144\n\
                            request_memory_per_connection=262144\n";
const HEAD: &str = "POST /v1/verify/batch HTTP/1.1\r\n";

/// Returns the answers to the tokens of a body.
#[track_caller]
fn answers(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(response.body.is_empty() || response.body.ends_with('\n'), "{response:?}");
    response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn batch(server: &Server<'_>, body: impl AsRef<[u8]>) -> Vec<Value> {
    answers(&server.send(HEAD, body.as_ref()))
}

/// Returns the subject or the reject code of each answer.
fn summary(answers: &[Value]) -> Vec<&str> {
    let text = |answer: &Value, name| answer[name].as_str().map(str::to_owned);
    let names = answers.iter().map(|answer| match text(answer, "code") {
        Some(_) => answer["code"].as_str().unwrap(),
        None => answer["subject"].as_str().unwrap(),
    });
    names.collect()
}

fn token_of(subject: &str) -> String {
    fixture::token(&fixture::claims(json!({ "sub": subject })))
}

fn batch_answers_are_those_of_single_calls(protocol: Protocol) {
    let keys = ["RS256", "PS256", "RS512", "ES256"].map(|name| SigningKey::generate(name, name));
    let mut tokens = vec![
        fixture::good_token(),
        fixture::token(&fixture::claims(json!({ "exp": 1 }))),
        fixture::token(&fixture::claims(json!({ "iss": "https://other/" }))),
        fixture::token_with_members("\"lines\":\n[1,\r\n2]"),
        "a.b.c".to_owned(),
        "x".repeat(20_000),
    ];
    for number in 0..12 {
        for key in &keys {
            let mut claims = fixture::claims_of("https://idp/");
            claims["jti"] = json!(number.to_string());
            let token = key.token(&claims);
            let (signed, signature) = token.rsplit_once('.').unwrap();
            tokens.push(match number % 3 {
                1 => format!("{signed}.{}", signature.chars().rev().collect::<String>()),
                _ => token,
            });
        }
    }
    let body = tokens.join("\n");
    for implementation in ["auto", "aws-lc"] {
        let sandbox = Sandbox::over(protocol);
        let jwks = sandbox.file("jwks.json", key_set(&keys.each_ref()));
        let idp = fixture::with_idp(
            "RS256, PS256, RS512, ES256",
            &format!("jwks_uri=file://{}", jwks.display()),
        );
        let server = sandbox.serve(&format!("{idp}{NO_BUDGETS}[crypto]\nrsa={implementation}\n"));
        // Uncached, cached, and as single calls.
        let together = [batch(&server, &body), batch(&server, &body)];
        let alone: Vec<_> = tokens.iter().map(|token| server.verify(token).json()).collect();
        for answers in together {
            for ((answer, alone), token) in answers.iter().zip(&alone).zip(&tokens) {
                assert_eq!(answer, alone, "{token}");
            }
            assert_eq!(answers.len(), tokens.len());
        }
        let verified = "countersign_verifications_total{outcome=\"verified\",code=\"\"}";
        // Two thirds of those of the provider, and two of ours.
        assert_eq!(server.metric(verified), 3 * (2 * 16 + 2));
    }
}

fn batch_answers_every_line_in_order(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let [a, b, c] = ["a", "b", "c"].map(token_of);
    let long = "x".repeat(300_000);
    let body = format!("{a}\n\n{b}\r\n \r\n{long}\n{long}\r\n\r\n{a}\n{{\"token\":\"{a}\"}}\n{c}");
    let expected =
        ["a", "segments", "b", "segments", "too_long", "too_long", "segments", "a", "base64", "c"];
    for end in ["", "\n", "\r\n"] {
        let answers = batch(&server, format!("{body}{end}"));
        assert_eq!(summary(&answers), expected, "{end:?}");
    }
    let bytes = [b"\xff\xfe\n".as_slice(), a.as_bytes(), b"\n\0\n"].concat();
    assert_eq!(summary(&batch(&server, bytes)), ["segments", "a", "segments"]);
    let [get, put] = ["GET", "PUT"]
        .map(|method| server.request(&format!("{method} /v1/verify/batch HTTP/1.1\r\n")));
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!((put.status, put.header("allow")), (405, Some("POST")));
}

fn batch_without_tokens_has_an_empty_answer(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let empty = server.request(HEAD);
    assert_eq!((answers(&empty), &*empty.body), (vec![], ""));
    // The credential of the call is not a token of the batch, and needs not be good.
    let with_credential = server.request(&format!("{HEAD}Authorization: Bearer bad\r\n"));
    assert_eq!(answers(&with_credential), [] as [Value; 0]);
    assert_eq!(summary(&batch(&server, token_of("after"))), ["after"]);
}

/// Checks that no memory is held, except for the request that asks for it.
fn assert_holds_nothing(server: &Server<'_>) {
    eventually(|| server.metric("countersign_request_memory_bytes") < 1000);
}

/// Sends a body while the response is received.
fn send_while_receiving(server: &Server<'_>, protocol: Protocol, body: &[u8]) -> Response {
    if protocol != Protocol::Http1 {
        return server.send(HEAD, body);
    }
    let stream = TcpStream::connect(server.address).unwrap();
    let mut sending = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let head = format!("{HEAD}Host: a\r\nContent-Length: {}\r\n\r\n", body.len());
            sending.write_all(head.as_bytes()).unwrap();
            sending.write_all(body).unwrap();
        });
        Connection::over(stream).receive(false)
    })
}

fn batch_longer_than_the_memory_is_answered(protocol: Protocol) {
    // Over HTTP/1, without TLS, so that both directions can be used at once.
    let sandbox = match protocol {
        Protocol::Http1 => Sandbox::new(),
        protocol => Sandbox::over(protocol),
    };
    let server = sandbox.serve(&format!("{SIGNING}{LEAST_MEMORY}"));
    let tokens: Vec<_> = (0..50).map(|number| token_of(&number.to_string())).collect();
    let mut body = String::new();
    for number in 0..40_000 {
        writeln!(body, "{}", tokens[number * 7 % 50]).unwrap();
    }
    assert!(body.len() > 4 << 20);
    let answers = answers(&send_while_receiving(&server, protocol, body.as_bytes()));
    assert_eq!(answers.len(), 40_000);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["subject"], (number * 7 % 50).to_string());
    }
    assert_holds_nothing(&server);
}

fn batch_waits_for_the_keys_of_its_issuer(protocol: Protocol) {
    let [old, new, unknown] =
        ["old", "new", "unknown"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let options = format!("jwks_uri={}", provider.uri());
    let server = sandbox.serve(&(fixture::with_idp("ES256", &options) + NO_BUDGETS));
    let [old, new, unknown] =
        [&old, &new, &unknown].map(|key| (key, key.token(&fixture::claims_of("https://idp/"))));
    assert_eq!(summary(&batch(&server, &old.1)), ["bob"]);
    provider.publish(&key_set(&[old.0, new.0]));
    let good = token_of("good");
    let lines = [&*good, &new.1, &old.1, &unknown.1, "bad", &good].join("\n");
    let expected = ["good", "bob", "bob", "kid_unknown", "segments", "good"];
    assert_eq!(summary(&batch(&server, lines)), expected);
}

fn batch_has_the_time_to_retry_an_undecided_token(protocol: Protocol) {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let options = format!("jwks_uri={}", provider.uri());
    let server = sandbox.serve(&(fixture::with_idp("ES256", &options) + NO_BUDGETS));
    provider.respond_with(CannedResponse::status("500 Oops"));
    let [old, new] = [old, new].map(|key| key.token(&fixture::claims_of("https://idp/")));
    let answers = batch(&server, [&*new, &old, &new].join("\n"));
    assert_eq!(summary(&answers), ["kid_undecided", "bob", "kid_undecided"]);
    for undecided in [&answers[0], &answers[2]] {
        let retry_after = undecided["retry_after"].as_u64().unwrap();
        assert!(undecided["status"] == 503 && (1..=30).contains(&retry_after), "{undecided}");
    }
}

#[test]
fn batch_is_refused_without_memory_for_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{LEAST_MEMORY}"));
    let mut open = OpenBatch::begin(&server);
    open.send(&format!("{}\n", token_of("first")));
    open.read_until("\"first\"");
    let refused = server.send(HEAD, token_of("second").as_bytes());
    assert_eq!((refused.status, &refused.json()["code"]), (431, &json!("request_memory")));
    assert_eq!(server.verify(&token_of("single")).status, 200);
    drop(open);
    eventually(|| server.send(HEAD, token_of("second").as_bytes()).status == 200);
}

/// A batch over HTTP/1 whose body has not ended.
struct OpenBatch {
    stream: TcpStream,
}

impl OpenBatch {
    /// Sends the head of a request whose body has chunks.
    fn begin(server: &Server<'_>) -> Self {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!("{HEAD}Host: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Self { stream }
    }

    fn send(&mut self, data: &str) {
        write!(self.stream, "{:x}\r\n{data}\r\n", data.len()).unwrap();
    }

    /// Reads until the response contains a text.
    fn read_until(&mut self, text: &str) -> String {
        let mut response = String::new();
        while !response.contains(text) {
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer).unwrap();
            assert!(length > 0, "{response}");
            response += std::str::from_utf8(&buffer[..length]).unwrap();
        }
        response
    }

    /// Reads until the connection ends.
    fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end, too.
        let _ignored = self.stream.read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn batch_answers_before_the_body_ends() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut open = OpenBatch::begin(&server);
    let token = token_of("first");
    open.send(&token[..30]);
    open.send(&format!("{}\n{}", &token[30..], &token[..9]));
    assert!(open.read_until("\"first\"").contains("transfer-encoding: chunked\r\n"));
    open.send(&format!("{}\nbad\n", &token[9..]));
    open.read_until("segments");
    assert_eq!(server.verify(&token).status, 200, "the worker serves others meanwhile");
    open.stream.write_all(b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let rest = open.read_until("HTTP/1.1 200 OK");
    assert!(rest.starts_with("0\r\n\r\n"), "{rest}");
}

#[test]
fn slow_batch_is_cut_off() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[limits]\nbody_timeout=3\n"));
    let mut open = OpenBatch::begin(&server);
    // Answers give time for the next line, and bytes do not.
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(800));
        open.send(&format!("{}\n", token_of("slow")));
        open.read_until("\"slow\"");
    }
    let mut dripping = open.stream.try_clone().unwrap();
    let drip = thread::spawn(move || {
        while dripping.write_all(b"1\r\nx\r\n").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let rest = open.read_to_end();
    assert!(!rest.contains("0\r\n\r\n"), "the client has to notice: {rest}");
    let _ignored = open.stream.shutdown(Shutdown::Both);
    drip.join().unwrap();
}

#[test]
fn batch_whose_answers_are_not_read_is_cut_off() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[limits]\nbody_timeout=1\n"));
    let mut open = OpenBatch::begin(&server);
    let lines = format!("{}\n", token_of("unread")).repeat(100);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    // The server reads as little as the client, so that writing fails in the end.
    while open.stream.write_all(chunk.as_bytes()).is_ok() {}
    assert_holds_nothing(&server);
    assert_eq!(server.verify(&token_of("next")).status, 200);
}

#[test]
fn batch_over_http_1_0_ends_with_the_connection() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let body = [token_of("one"), token_of("two")].join("\n");
    let length = body.len();
    write!(stream, "POST /v1/verify/batch HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, lines) = response.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("chunked") && head.contains("connection: close"), "{head}");
    let lines: Vec<_> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(summary(&lines), ["one", "two"]);
}

#[test]
fn malformed_batch_body_ends_the_connection() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut open = OpenBatch::begin(&server);
    open.send(&format!("{}\n", token_of("good")));
    open.read_until("\"good\"");
    open.stream.write_all(b"not a chunk\r\n").unwrap();
    let rest = open.read_to_end();
    assert!(!rest.contains("0\r\n\r\n"), "{rest}");
}

#[test]
fn revoked_token_is_refused_in_a_batch() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&revocation::configuration());
    let [leaked, other] = ["1", "2"].map(|id| revocation::token(json!({ "jti": id })));
    let body = [&*leaked, &other].join("\n");
    assert_eq!(summary(&batch(&server, &body)), ["bob", "bob"]);
    assert_eq!(revocation::revoke(&server, &format!("token={leaked}")).status, 200);
    assert_eq!(summary(&batch(&server, &body)), ["revoked", "bob"]);
}

#[test]
fn bad_signatures_of_batches_are_charged() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], ""));
    let forged = |number: usize| {
        let tokens: Vec<_> = (0..50).map(|index| issuer.forged(number * 50 + index)).collect();
        tokens.join("\n")
    };
    let refused = |round: usize| {
        let of_connection = |connection| {
            let answers = batch(&server, forged(round * 16 + connection));
            let limited = answers.iter().filter(|answer| answer["code"] == "not_admitted");
            let limited: Vec<_> = limited.cloned().collect();
            assert!(limited.iter().all(|answer| answer["retry_after"].is_u64()), "{limited:?}");
            limited.len()
        };
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..16).map(|number| scope.spawn(move || of_connection(number))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
        })
    };
    assert!((0..20).any(|round| refused(round) > 0));
    let good = fixture::good_token();
    assert_eq!(summary(&batch(&server, &good)), ["bob"]);
    assert!(server.metric("countersign_not_admitted_total{budget=\"source\"}") > 0);
}
