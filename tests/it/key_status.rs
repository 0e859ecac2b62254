use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::{Value, json};

use crate::fixture::SIGNING;

over_every_protocol!(answer_503_names_the_issuer);

/// Starts a [`Server`] with one issuer whose provider works and one whose provider is down. A
/// failed fetch is retried after a second.
fn serve<'s>(sandbox: &'s Sandbox, provider: &JwksServer) -> Server<'s> {
    let section = |id: &str, uri: &str| {
        format!(
            "[auth_jwt_{id}]\nalgorithms=ES256\nclient_types=api\nissuer=https://{id}/\naudience=a\njwks_uri={uri}\njwks_cool_down=3600\njwks_refresh_interval=7200\n"
        )
    };
    sandbox.serve(&format!(
        "{SIGNING}{}{}",
        section("well", &provider.uri()),
        section("down", "http://127.0.0.1:9/jwks")
    ))
}

fn claims() -> Value {
    json!({ "iss": "https://well/", "aud": "a", "sub": "bob", "exp": 4_102_444_800u64 })
}

#[test]
fn skipped_keys_are_named_where_one_looks() {
    let (known, broken) =
        (SigningKey::generate("ES256", "k1"), SigningKey::generate("ES256", "k2"));
    let (mut jwk, mut unnamed) = (broken.jwk(), broken.jwk());
    jwk.as_object_mut().unwrap().remove("y");
    unnamed["alg"] = json!("Ed448");
    unnamed["kid"] = Value::Null;
    let keys = json!({ "keys": [jwk, known.jwk(), unnamed] }).to_string();
    let provider = JwksServer::start(&keys);
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider);
    assert_eq!(server.auth(&known.token(&claims())).status, 200);
    let refused = server.auth(&broken.token(&claims()));
    let challenge = refused.header("www-authenticate").unwrap_or_default().to_owned();
    assert_eq!(refused.status, 401);
    let reason = "the key named by the token (kid) was skipped: its member 'y' is missing";
    assert!(challenge.contains(reason), "{challenge}");
    let status: Value = serde_json::from_str(&server.operations("/keys").body).unwrap();
    let missing = json!({ "index": 0, "kid": "k2", "reason": "its member \"y\" is missing" });
    let unsupported =
        json!({ "index": 2, "kid": null, "reason": "its algorithm (alg) Ed448 is not supported" });
    let issuers = status["issuers"].as_array().unwrap();
    let well = issuers.iter().find(|issuer| issuer["section"] == "auth_jwt_well").unwrap();
    assert_eq!(well["skipped"], json!([missing, unsupported]));
    // Its tokens cause no fetch.
    assert_eq!(well["unknown_kids"], 0);
    let url = format!("http://{}/keys", server.metrics);
    let printed = sandbox.run(["keys", "status", "--url", &url]).stdout;
    let line = "  skipped: keys[0] (kid \"k2\"): its member \"y\" is missing\n";
    assert!(printed.contains(line), "{printed}");
}

#[test]
fn metrics_show_the_key_status_of_each_issuer() {
    let (known, unknown) =
        (SigningKey::generate("ES256", "k1"), SigningKey::generate("ES256", "k2"));
    let provider = JwksServer::start(&json!({ "keys": [known.jwk()] }).to_string());
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider);
    assert_eq!(server.auth(&known.token(&claims())).status, 200);
    for _ in 0..3 {
        assert_eq!(server.auth(&unknown.token(&claims())).status, 401);
    }
    let metrics = server.operations("/metrics").body;
    let value = |line: &str| {
        metrics
            .lines()
            .find_map(|one| one.strip_prefix(line)?.strip_prefix(' ')?.parse::<f64>().ok())
    };
    for (line, expected) in [
        (r#"countersign_issuer_keys{section="auth_jwt_well"}"#, 1.0),
        (r#"countersign_issuer_keys{section="auth_jwt_down"}"#, 0.0),
        (r#"countersign_issuer_keys_fetches_total{section="auth_jwt_well",cause="start"}"#, 1.0),
        (
            r#"countersign_issuer_keys_fetches_total{section="auth_jwt_well",cause="unknown_kid"}"#,
            1.0,
        ),
        (r#"countersign_issuer_keys_fetches_total{section="auth_jwt_well",cause="schedule"}"#, 0.0),
        (r#"countersign_issuer_unknown_kids_total{section="auth_jwt_well"}"#, 3.0),
        (r#"countersign_issuer_unknown_kids_total{section="auth_jwt_down"}"#, 0.0),
        (r#"countersign_issuer_keys_fetch_failures_total{section="auth_jwt_well"}"#, 0.0),
        (r#"countersign_issuer_keys_failing{section="auth_jwt_down",reason="unreachable"}"#, 1.0),
    ] {
        assert_eq!(value(line), Some(expected), "{line} in\n{metrics}");
    }
    assert!(
        value(r#"countersign_issuer_keys_staleness_seconds{section="auth_jwt_well"}"#).unwrap()
            < 60.0
    );
    assert!(
        value(r#"countersign_issuer_keys_last_success_timestamp_seconds{section="auth_jwt_well"}"#)
            .unwrap()
            > 1.7e9
    );
    assert!(
        value(r#"countersign_issuer_keys_last_failure_timestamp_seconds{section="auth_jwt_down"}"#)
            .unwrap()
            > 1.7e9
    );
    assert!(
        !metrics.contains(r#"last_failure_timestamp_seconds{section="auth_jwt_well"}"#),
        "no failure has occurred"
    );
}

#[test]
fn keys_status_reads_the_running_server() {
    let known = SigningKey::generate("ES256", "k1");
    let provider = JwksServer::start(&json!({ "keys": [known.jwk()] }).to_string());
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider);
    let url = format!("http://{}/keys", server.metrics);
    // The failed fetch is retried after a second.
    eventually(|| {
        server.operations("/keys").json()["issuers"][1]["fetches"]["retry"].as_u64() > Some(0)
    });

    let printed = sandbox.run(["keys", "status", "--url", &url]);
    let text = printed.text();
    for expected in [
        "[auth_jwt_default] https://localhost:8888/\n  keys: HS256 (no kid)\n  static keys, never refreshed\n".to_owned(),
        format!("[auth_jwt_well] https://well/\n  keys: ES256 k1\n  from jwks_uri {}\n  confirmed ", provider.uri()),
        "[auth_jwt_down] https://down/\n  no keys: its tokens are answered with 503\n".to_owned(),
        "never confirmed".to_owned(),
        "(failing now): ".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected:?} is not in\n{text}");
    }
    let json = sandbox.run(["keys", "status", "--json", "--url", &url]).json_lines().remove(0);
    assert_eq!(json["issuers"][2]["keys"], json!([{ "kid": "k1", "alg": "ES256" }]));
    assert_eq!(json["issuers"][1]["last_failure"]["reason"], "unreachable");

    drop(server);
    let stopped = sandbox.run(["keys", "status", "--url", &url]);
    assert_eq!(stopped.code(), 1);
    assert!(
        stopped.stderr.contains("no server answers at") && stopped.stderr.contains("--config"),
        "{stopped:?}"
    );
}

fn answer_503_names_the_issuer(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k1");
    let provider = JwksServer::start("{}");
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &provider);
    let token = key.token(&claims());
    let answer = server.auth(&token);
    assert_eq!((answer.status, answer.body.as_str()), (503, ""));
    assert_eq!(answer.header("x-auth-error"), Some("keys_unavailable https://well/"));
    let body = json!({ "token": token }).to_string();
    let problem = server.send("POST /v1/verify HTTP/1.1\r\n", body.as_bytes());
    assert_eq!(
        (problem.status, &problem.json()["detail"]),
        (503, &json!("the keys of the issuer https://well/ are unavailable"))
    );
}
