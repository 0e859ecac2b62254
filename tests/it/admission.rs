use std::{fmt::Write as _, process::Command, thread};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Blame, Presentation, Reject};
use countersign_tests::{
    answers::assert_no_identity,
    binary::{Sandbox, Server},
    client::{Client, Protocol},
    engine::{self, HEADER, NOW, secret_verifier},
    http::Response,
    openssl::{SigningKey, certificate, signing_input},
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::fixture;

mod scheduling;

over_every_protocol!(
    bad_signatures_limit_their_source_only,
    ipv6_source_is_the_client_network,
    e1_untrusted_forwarded_for_changes_no_source,
    bad_signatures_limit_their_issuer_only,
    core_budget_spares_cheap_rejections,
    v1_verify_reports_limits_as_a_problem,
    inmanta_profile_reports_limits_in_its_own_form,
    good_signatures_are_never_charged,
    disabled_budgets_limit_nothing,
);

const ISSUER: &str = "https://idp/";

/// An issuer's signing key and one genuine token, from which forgeries are made.
pub(crate) struct Issuer {
    key: SigningKey,
    genuine: String,
}

impl Issuer {
    pub(crate) fn new(algorithm: &'static str) -> Self {
        let key = SigningKey::generate(algorithm, "k");
        let genuine = key.token(&fixture::claims_of(ISSUER));
        Self { key, genuine }
    }

    /// Returns a configuration with one thread, so that there is one set of budgets, with these
    /// budgets and these further options of `[listen]`.
    pub(crate) fn configuration(
        &self,
        sandbox: &Sandbox,
        [core, issuer, source]: [&str; 3],
        listen: &str,
    ) -> String {
        let jwks = sandbox.file("jwks.json", fixture::key_set(&[&self.key]));
        let algorithm = self.key.jwk()["alg"].as_str().unwrap().to_owned();
        let idp = fixture::with_idp(&algorithm, &format!("jwks_uri=file://{}", jwks.display()));
        format!(
            "{idp}[listen]\nthreads=1\n{listen}\n[limits]\nbad_signatures_per_core={core}\n\
             bad_signatures_per_issuer={issuer}\nbad_signatures_per_source={source}\n"
        )
    }

    /// Returns a new token with the signature of another one. Rejecting it takes as long as
    /// accepting a good token.
    pub(crate) fn forged(&self, number: usize) -> String {
        let (signed, signature) = self.genuine.rsplit_once('.').unwrap();
        let mut claims = fixture::claims_of(ISSUER);
        claims["jti"] = json!(number);
        let header = signed.split('.').next().unwrap();
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("{header}.{payload}.{signature}")
    }
}

/// Returns a request for `/auth` with an empty body.
fn auth_request(lines: &str, token: &str) -> (String, String) {
    (format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{lines}"), String::new())
}

/// Pipelines many requests, so that the server never waits for the client.
fn send_all(client: &mut Client, requests: &[(String, String)]) -> Vec<Response> {
    client.request_all(
        &requests.iter().map(|(head, body)| (&**head, body.as_bytes())).collect::<Vec<_>>(),
    )
}

/// The outcome of a [`flood`] of bad signatures.
struct Flood {
    /// Signatures that were checked and rejected.
    checked: u64,
    /// Answers that refused to check the signature; never empty.
    refused: Vec<Response>,
}

/// Sends batches of requests until some are refused without a signature check. Batches keep the
/// result independent of the speed of client and server.
#[track_caller]
fn flood(server: &Server<'_>, request: impl Fn(usize) -> (String, String) + Sync) -> Flood {
    let mut flood = Flood { checked: 0, refused: Vec::new() };
    for batch in 0..50 {
        for answer in batch_of(server, |number| request(BATCH * batch + number)) {
            match answer.status {
                401 | 403 => flood.checked += 1,
                _ => flood.refused.push(answer),
            }
        }
        if !flood.refused.is_empty() {
            return flood;
        }
    }
    panic!("all of {} bad signatures were checked", flood.checked);
}

/// Number of requests of a batch.
const BATCH: usize = 256;

/// Sends a batch of requests over many connections at a time, so that more wait than their budget
/// has room for. One connection waits for each of its answers.
fn batch_of(
    server: &Server<'_>,
    request: impl Fn(usize) -> (String, String) + Sync,
) -> Vec<Response> {
    const CONNECTIONS: usize = 32;
    let answers = |connection: usize| {
        let requests: Vec<_> = (0..BATCH / CONNECTIONS)
            .map(|number| request(number * CONNECTIONS + connection))
            .collect();
        send_all(&mut server.client(), &requests)
    };
    thread::scope(|scope| {
        let senders: Vec<_> =
            (0..CONNECTIONS).map(|connection| scope.spawn(move || answers(connection))).collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

/// Returns `countersign_not_admitted_total` of each budget.
fn not_admitted(server: &Server<'_>) -> [u64; 3] {
    ["core", "issuer", "source"].map(|budget| {
        server.metric(&format!("countersign_not_admitted_total{{budget=\"{budget}\"}}"))
    })
}

/// Checks that an answer of `/auth` asks the client to retry later.
#[track_caller]
fn assert_limited(answer: &Response, status: u16, reason: &str) {
    assert_eq!(
        (answer.status, answer.header("x-auth-error")),
        (status, Some(reason)),
        "{answer:?}"
    );
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{answer:?}");
    assert!(
        answer.header("www-authenticate").is_none(),
        "the answer reveals nothing about the token: {answer:?}"
    );
    assert_no_identity(answer);
}

fn bad_signatures_limit_their_source_only(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(
        &sandbox,
        ["off", "off", "1"],
        "trusted_proxies=127.0.0.1",
    ));
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let flood = flood(&server, |number| auth_request(&from("203.0.113.9"), &issuer.forged(number)));
    for answer in &flood.refused {
        assert_limited(answer, 429, "not_admitted source");
    }
    assert_eq!(server.request(&auth_request(&from("198.51.100.7"), &issuer.genuine).0).status, 200);

    let refused = u64::try_from(flood.refused.len()).unwrap();
    assert_eq!(not_admitted(&server), [0, 0, refused]);
    assert_eq!(server.metric("countersign_cold_verifications_total"), flood.checked + 1);
    assert_eq!(
        server
            .metric("countersign_verifications_total{outcome=\"rejected\",code=\"not_admitted\"}"),
        refused
    );
    assert_eq!(server.metric("countersign_sources_forgotten_total"), 0);
}

fn ipv6_source_is_the_client_network(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let listen = "trusted_proxies=127.0.0.0/8\nclient_address_header=X-Real-IP";
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], listen));
    let from = |network: &str, host: usize| {
        format!("X-Real-IP: {network}::{host:x}\r\nX-Forwarded-For: 203.0.113.{}\r\n", host % 256)
    };
    let flood = flood(&server, |number| {
        auth_request(&from("2001:db8:1:2", number), &issuer.forged(number))
    });
    assert_limited(&flood.refused[0], 429, "not_admitted source");
    assert_eq!(
        server.request(&auth_request(&from("2001:db8:1:3", 1), &issuer.genuine).0).status,
        200
    );
}

fn e1_untrusted_forwarded_for_changes_no_source(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let invented =
        |number: usize| format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
    // A client that sends X-Forwarded-For itself, where no proxy or only other proxies are trusted.
    for listen in ["", "trusted_proxies=10.0.0.0/8,127.0.0.2"] {
        let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "1", "1"], listen));
        let lines = |number| format!("X-Forwarded-For: {}\r\n", invented(number));
        let flood = flood(&server, |number| auth_request(&lines(number), &issuer.forged(number)));
        assert_limited(&flood.refused[0], 429, "not_admitted source");
        let log = server.log();
        let warnings = log.matches("a bad signature came from 127.0.0.1, which sends");
        assert_eq!(warnings.count(), 1, "logged once: {log}");
    }
    // A client that sends the start of a list which the trusted proxy continues.
    let server = sandbox.serve(&issuer.configuration(
        &sandbox,
        ["off", "off", "1"],
        "trusted_proxies=127.0.0.1",
    ));
    for line in [
        "X-Forwarded-For: {}, 203.0.113.9\r\n",
        "X-Forwarded-For: {}\r\nX-Forwarded-For: 203.0.113.9\r\n",
    ] {
        let lines = |number| line.replace("{}", &invented(number));
        let flood = flood(&server, |number| auth_request(&lines(number), &issuer.forged(number)));
        assert_limited(&flood.refused[0], 429, "not_admitted source");
    }
}

fn bad_signatures_limit_their_issuer_only(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "1", "off"], ""));
    let flood = flood(&server, |number| auth_request("", &issuer.forged(number)));
    assert_limited(&flood.refused[0], 503, "not_admitted issuer");
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    let [core, of_issuer, source] = not_admitted(&server);
    assert!(core == 0 && of_issuer > 0 && source == 0, "{core} {of_issuer} {source}");
}

fn core_budget_spares_cheap_rejections(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["1", "off", "off"], ""));
    // Every other token is malformed, which is found without a signature check.
    let token =
        |number: usize| if number.is_multiple_of(2) { issuer.forged(number) } else { "abc".into() };
    let flood = flood(&server, |number| auth_request("", &token(number)));
    for answer in &flood.refused {
        assert_limited(answer, 503, "not_admitted core");
    }
    let malformed =
        server.metric("countersign_verifications_total{outcome=\"rejected\",code=\"segments\"}");
    assert_eq!(
        malformed * 2,
        flood.checked + u64::try_from(flood.refused.len()).unwrap(),
        "every other token is malformed"
    );
}

fn v1_verify_reports_limits_as_a_problem(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    for (budgets, status, whose) in [
        (["off", "off", "1"], 429, "from this address"),
        (["off", "1", "off"], 503, "of this issuer"),
    ] {
        let server = sandbox.serve(&issuer.configuration(&sandbox, budgets, ""));
        let flood =
            flood(&server, |number| ("POST /v1/verify HTTP/1.1\r\n".into(), issuer.forged(number)));
        let answer = &flood.refused[0];
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{answer:?}"
        );
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{answer:?}");
        let problem = answer.json();
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&json!(status), &json!("not_admitted"))
        );
        assert!(problem["detail"].as_str().unwrap().contains(whose), "{problem}");
    }
}

fn inmanta_profile_reports_limits_in_its_own_form(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let configuration = issuer.configuration(&sandbox, ["off", "off", "1"], "surface=inmanta");
    let server = sandbox.serve(&format!("{configuration}[server]\nauth=true\n"));
    let bare = flood(&server, |number| auth_request("", &issuer.forged(number)));
    assert_limited(&bare.refused[0], 429, "not_admitted source");
    let health = flood(&server, |number| {
        let (head, body) = auth_request("", &issuer.forged(number));
        (head.replace("/auth", "/api/v2/health"), body)
    });
    let answer = &health.refused[0];
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.json()["message"],
        "the signature was not checked: too many others from this address were bad"
    );
}

fn good_signatures_are_never_charged(protocol: Protocol) {
    let (sandbox, signer) = (Sandbox::over(protocol), Signer::new());
    let jwks = sandbox.file("jwks.json", json!({ "keys": [signer.jwk()] }).to_string());
    let idp = fixture::with_idp("EdDSA", &format!("jwks_uri=file://{}", jwks.display()));
    let limits = "[limits]\nbad_signatures_per_core=1\nbad_signatures_per_issuer=1\nbad_signatures_per_source=1\n";
    let server = sandbox.serve(&format!("{idp}[listen]\nthreads=1\n{limits}"));
    let mut client = server.client();
    for batch in 0..40 {
        // Good and expired tokens alternate, none of them cached.
        let token = |number: usize| {
            let mut claims = fixture::claims_of(ISSUER);
            claims["jti"] = json!(format!("{batch}-{number}"));
            claims["exp"] = json!(if number.is_multiple_of(2) { 4_102_444_800u64 } else { 1 });
            signer.token(&claims)
        };
        let requests: Vec<_> = (0..50).map(|number| auth_request("", &token(number))).collect();
        for (number, answer) in send_all(&mut client, &requests).iter().enumerate() {
            let expected = if number % 2 == 0 { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{batch}-{number}");
        }
    }
    assert_eq!(
        (server.metric("countersign_cold_verifications_total"), not_admitted(&server)),
        (2000, [0; 3])
    );
    // The same number of bad signatures would have been refused long before.
    let forged = Issuer {
        key: SigningKey::generate("EdDSA", "k"),
        genuine: signer.token(&fixture::claims_of(ISSUER)),
    };
    assert!(flood(&server, |number| auth_request("", &forged.forged(number))).checked < 2000);
}

fn disabled_budgets_limit_nothing(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "off"], ""));
    let mut client = server.client();
    for batch in 0..10 {
        let requests: Vec<_> =
            (0..50).map(|number| auth_request("", &issuer.forged(50 * batch + number))).collect();
        assert!(send_all(&mut client, &requests).iter().all(|answer| answer.status == 401));
    }
    assert_eq!(
        (server.metric("countersign_cold_verifications_total"), not_admitted(&server)),
        (500, [0; 3])
    );
    // With the smallest budgets, the same requests are refused.
    drop(server);
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["1", "1", "1"], ""));
    assert!(flood(&server, |number| auth_request("", &issuer.forged(number))).checked < 500);
}

#[test]
fn tls_source_is_the_connection_address() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("ES512"));
    let (certificate, key) = certificate(sandbox.path());
    let tls = format!(
        "[server]\nssl_cert_file={}\nssl_key_file={}\n",
        certificate.display(),
        key.display()
    );
    let server = sandbox.serve(&(issuer.configuration(&sandbox, ["off", "off", "1"], "") + &tls));
    let curl = |interface: &str, tokens: &[String]| -> Vec<String> {
        let mut script = String::new();
        for token in tokens {
            let url = format!("https://127.0.0.1:{}/auth", server.address.port());
            let options = format!(
                "http1.1\nsilent\ncacert=\"{}\"\ninterface={interface}",
                certificate.display()
            );
            let shown = "write-out=\"%{http_code}\\n\"";
            writeln!(
                script,
                "{options}\n{shown}\nurl=\"{url}\"\nheader=\"Authorization: Bearer {token}\"\nnext"
            )
            .unwrap();
        }
        let script = sandbox.file("curl.txt", script.trim_end().trim_end_matches("next"));
        let output = Command::new("curl")
            .args(["--parallel", "--parallel-immediate", "--config"])
            .arg(script)
            .output()
            .expect("curl is missing: apt-get install curl");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let forged: Vec<_> = (0..400).map(|number| issuer.forged(number)).collect();
    let statuses = curl("127.0.0.1", &forged);
    assert_eq!(statuses.len(), 400);
    assert!(statuses.iter().all(|status| status == "401" || status == "429"), "{statuses:?}");
    assert!(statuses.iter().any(|status| status == "429"), "{statuses:?}");
    assert_eq!(curl("127.0.0.2", std::slice::from_ref(&issuer.genuine)), ["200"]);
}

#[test]
fn admission_precedes_each_signature_check() {
    let verifier = secret_verifier();
    let good = engine::token(HEADER, engine::claims(""));
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, "A".repeat(43));
    for (token, expected) in [
        (good.clone(), None),
        (engine::token(HEADER, engine::claims(r#""exp":1"#)), Some(Reject::Expired)),
        (forged, Some(Reject::Signature)),
        ("abc".into(), Some(Reject::Segments)),
        (engine::token(HEADER, r#"{"iss":"https://nobody/"}"#), Some(Reject::IssuerUnknown)),
        (
            engine::token(r#"{"alg":"RS256"}"#, engine::claims("")),
            Some(Reject::AlgorithmNotAllowed),
        ),
    ] {
        let mut admissions = Vec::new();
        let verdict = verifier.verify_if(token.as_bytes(), NOW, Presentation::default(), |check| {
            admissions.push((check.issuer.name.to_string(), check.algorithm.name()));
            true
        });
        assert_eq!(verdict.err(), expected);
        let checked = expected
            .is_none_or(|reject| reject == Reject::Signature || reject.blame() == Blame::Claims);
        let expected_admissions = checked.then(|| (engine::ISSUER.to_owned(), "HS256"));
        assert_eq!(admissions, expected_admissions.into_iter().collect::<Vec<_>>(), "{expected:?}");
    }
    assert_eq!(
        verifier
            .verify_if(good.as_bytes(), NOW, Presentation::default(), |_| panic!(
                "the result should be cached"
            ))
            .err(),
        None
    );
    let new = engine::token(HEADER, engine::claims(r#""new":1"#));
    assert_eq!(
        verifier.verify_if(new.as_bytes(), NOW, Presentation::default(), |_| false).err(),
        Some(Reject::NotAdmitted)
    );
}

/// Signs many tokens quickly, in this process.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA", "kid": "k", "use": "sig" })
    }

    fn token(&self, claims: &Value) -> String {
        let input = signing_input(&json!({ "alg": "EdDSA", "kid": "k" }), claims);
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(input.as_bytes()));
        format!("{input}.{signature}")
    }
}
