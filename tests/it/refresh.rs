use aws_lc_rs::digest::{SHA256, digest};
use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::Response,
    openssl::SigningKey,
    over_every_protocol,
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use crate::fixture::{self, claims_of, key_set};

over_every_protocol!(keys_are_refreshed_on_request, refresh_requires_client_authentication);

const SECRET: &str = "7WwzQW1fTBQnJ2zq0hD1Y8sU5u2cBf0n3kq9nq2mJ6E";

fn configuration(provider: &JwksServer) -> String {
    let hash = digest(&SHA256, SECRET.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let source = format!("jwks_uri={}", provider.uri());
    format!("{}[api_clients]\nops = sha256:{hash}\n", fixture::with_idp("ES256", &source))
}

fn refresh(server: &Server<'_>, parameters: &str) -> Response {
    let body = format!("client_id=ops&client_secret={SECRET}{parameters}");
    server.send("POST /keys/refresh HTTP/1.1\r\n", body.as_bytes())
}

fn keys_are_refreshed_on_request(protocol: Protocol) {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let [old_token, new_token] = [&old, &new].map(|key| key.token(&claims_of("https://idp/")));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&provider));
    assert_eq!(server.auth(&old_token).status, 200);
    provider.publish(&key_set(&[&new]));
    let response = refresh(&server, "&section=auth_jwt_oidc");
    let confirmed = json!({ "sections": [{ "section": "auth_jwt_oidc", "result": "confirmed" }] });
    assert_eq!((response.status, response.json()), (200, confirmed));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let statuses = [&old_token, &new_token].map(|token| server.auth(token).status);
    assert_eq!((statuses, provider.requests()), ([401, 200], 2));

    provider.respond_with(CannedResponse::status("500 Oops"));
    let failed = refresh(&server, "").json();
    let section = &failed["sections"][0];
    assert_eq!((&section["result"], &section["reason"]), (&json!("failed"), &json!("status")));
    assert_eq!(failed["sections"].as_array().unwrap().len(), 1, "static keys are not fetched");
    assert_eq!(server.auth(&new_token).status, 200);
    let fetches =
        "countersign_issuer_keys_fetches_total{section=\"auth_jwt_oidc\",cause=\"request\"}";
    assert_eq!(server.metric(fetches), 2);
}

fn refresh_requires_client_authentication(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&provider));
    let post = |body: &str| server.send("POST /keys/refresh HTTP/1.1\r\n", body.as_bytes());
    for body in ["", "section=auth_jwt_oidc", "client_id=ops&client_secret=wrong", "client_id=ops"]
    {
        let refused = post(body);
        assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("invalid_client")));
        assert!(refused.header("www-authenticate").is_some());
    }
    for (parameters, text) in [
        (
            "&section=other",
            "no section is named other: choose from auth_jwt_default, auth_jwt_oidc",
        ),
        ("&section=auth_jwt_default", "auth_jwt_default has static keys, which are never fetched"),
        ("&kid=a", "unknown field `kid`"),
    ] {
        let refused = refresh(&server, parameters);
        let description = refused.json()["error_description"].as_str().unwrap().to_owned();
        assert!(refused.status == 400 && description.contains(text), "{refused:?}");
    }
    assert_eq!(server.request("GET /keys/refresh HTTP/1.1\r\n").status, 405);
    assert_eq!(provider.requests(), 1);
}

#[test]
fn requested_fetches_are_at_most_one_a_second() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider));
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..20).map(|_| scope.spawn(|| refresh(&server, ""))).collect();
        for response in requests.into_iter().map(|request| request.join().unwrap()) {
            assert_eq!(response.json()["sections"][0]["result"], "confirmed");
        }
    });
    // One at once, and one for all that came during it.
    assert!((2..=4).contains(&provider.requests()), "{}", provider.requests());
}

#[test]
fn keys_refresh_calls_the_running_server() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let token = new.token(&claims_of("https://idp/"));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider));
    provider.publish(&key_set(&[&new]));
    let url = format!("http://{}", server.address);
    let command = |section: &str| {
        let refresh = ["keys", "refresh", section, "--client", "ops", "--server", &url];
        sandbox.run_with_input(refresh, format!("{SECRET}\n"))
    };
    let done = command("auth_jwt_oidc");
    assert_eq!((done.code(), done.stdout.as_str()), (0, "[auth_jwt_oidc] fetched\n"), "{done:?}");
    assert_eq!((server.auth(&token).status, provider.requests()), (200, 2));
    let unknown = command("auth_jwt_other");
    assert_eq!(unknown.code(), 1);
    assert!(unknown.stderr.contains("no section is named auth_jwt_other"), "{unknown:?}");
    provider.respond_with(CannedResponse::status("500 Oops"));
    let failed = command("auth_jwt_oidc");
    assert!(failed.code() == 1 && failed.stdout.contains("failed: the provider answered 500"));
    let audited = sandbox.run(["audit", "--config", "server.cfg"]);
    assert!(audited.stdout.contains("keys.refresh"), "{audited:?}");
}

#[test]
fn sighup_fetches_keys() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let token = old.token(&claims_of("https://idp/"));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider));
    assert_eq!(server.auth(&token).status, 200);
    provider.publish(&key_set(&[&new]));
    server.signal("HUP");
    eventually(|| server.auth(&token).status == 401);
    assert_eq!(provider.requests(), 2);
}
