use countersign_tests::{
    binary::{Output, Sandbox, Server},
    eventually,
    oidc::{AUDIENCE, OidcProvider},
    openssl::SigningKey,
    providers::JwksServer,
};
use serde_json::json;

use crate::fixture::{self, SIGNING, claims_of, key_set};

const ISSUES_NOTHING: &str =
    "no auth_jwt_* section has sign = true: this server verifies tokens, and its API issues none";
const ISSUER: &str = "https://idp/";

/// Returns a section with issuer, audience and key source, and nothing else.
fn verifying(issuer: &str, audience: &str, source: &str) -> String {
    format!("[auth_jwt_idp]\nissuer={issuer}\naudience={audience}\n{source}\n")
}

fn check(sandbox: &Sandbox, configuration: &str) -> Output {
    let config = sandbox.file("c.cfg", configuration);
    sandbox.run(["config", "check", "-c", config.to_str().unwrap()])
}

/// Logs in with a password, which only a server with a section that signs can answer.
fn log_in(server: &Server<'_>) -> (u16, String) {
    let head = "POST /api/v2/login HTTP/1.1\r\nContent-Type: application/json\r\n";
    let response = server.send(head, br#"{"username":"admin","password":"wrong"}"#);
    (response.status, response.body)
}

#[test]
fn server_without_a_signing_section_verifies() {
    let (sandbox, key) = (Sandbox::new(), SigningKey::generate("ES256", "k"));
    let keys = JwksServer::start(&key_set(&[&key]));
    let server = sandbox.serve(&verifying(ISSUER, "inm", &format!("jwks_uri={}", keys.uri())));
    assert_eq!(server.auth(&key.token(&claims_of(ISSUER))).status, 200, "{}", server.log());
    assert_eq!(server.auth(&fixture::good_token()).status, 401);
    assert_eq!(server.request("GET /readyz HTTP/1.1\r\n").status, 200);
    assert_eq!(server.request("GET /api/v2/health HTTP/1.1\r\n").status, 200);
    assert!(server.log().contains(ISSUES_NOTHING), "{}", server.log());
    let answer = json!({ "message": ISSUES_NOTHING });
    assert_eq!(log_in(&server), (401, answer.to_string()));
    for head in [
        "POST /api/v2/environment_auth HTTP/1.1\r\n",
        "POST /api/v2/login/renew HTTP/1.1\r\n",
        "GET /api/v2/user HTTP/1.1\r\n",
    ] {
        let token = key.token(&claims_of(ISSUER));
        let response = server.send(&format!("{head}Authorization: Bearer {token}\r\n"), b"{}");
        assert!(
            response.status == 401 && response.body.contains(ISSUES_NOTHING),
            "{head}: {response:?}"
        );
    }
}

#[test]
fn commands_name_what_they_need_to_sign() {
    let sandbox = Sandbox::new();
    let keys = JwksServer::start(&key_set(&[&SigningKey::generate("ES256", "k")]));
    let configuration = verifying(ISSUER, "inm", &format!("jwks_uri={}", keys.uri()));
    let server = sandbox.serve(&configuration);
    let config = sandbox.path().join("server.cfg");
    let config = config.to_str().unwrap();
    for arguments in [
        &["token", "sign", "--client-type", "api"][..],
        &["token", "bootstrap"],
        &["client-config", "--api", "--local"],
    ] {
        let output = sandbox.run([arguments, &["-c", config]].concat());
        assert!(
            output.code() == 1
                && output.stderr.contains("no auth_jwt_* section has sign = true")
                && output.stderr.contains("help: set sign = true in a section"),
            "{arguments:?}: {output:?}"
        );
    }
    let url = format!("http://{}", server.address);
    let login = ["login", "admin", "--server", &url, "--password-stdin"];
    let output = sandbox.run_with_input(login, "wrong\n");
    assert!(
        output.code() == 1
            && output.stderr.contains(ISSUES_NOTHING)
            && output.stderr.contains("help: use tokens of the issuers that it verifies"),
        "{output:?}"
    );
    let address = format!("[client_rest_transport]\nport={}\n", server.address.port());
    let doctor = sandbox.file("doctor.cfg", format!("{configuration}{address}"));
    let output = sandbox.run(["doctor", "-c", doctor.to_str().unwrap()]);
    assert!(
        output.code() == 0
            && output.stdout.contains("OK     the server verifies tokens, and its API issues none"),
        "{output:?}"
    );
}

#[test]
fn written_auth_needs_a_signing_section() {
    let sandbox = Sandbox::new();
    let section = verifying(ISSUER, "inm", "");
    let noted = check(&sandbox, &section);
    assert!(
        noted.code() == 0
            && noted.stdout.contains(&format!("note: auth_jwt_*: {ISSUES_NOTHING}"))
            && noted.stdout.contains("help: to issue tokens, set sign = true"),
        "{noted:?}"
    );
    let refused = check(&sandbox, &format!("[server]\nauth=yes\n{section}"));
    assert!(
        refused.code() == 2
            && refused.stderr.contains(
                "One auth_jwt section should have sign set to true:\nauth_jwt_idp -> sign=False"
            )
            && refused.stderr.contains("or remove auth = true from [server]"),
        "{refused:?}"
    );
    let open = check(&sandbox, &format!("[server]\nauth=false\n{section}"));
    assert!(open.code() == 0 && open.stdout.contains(ISSUES_NOTHING), "{open:?}");
    let signing = check(&sandbox, &format!("{SIGNING}{section}"));
    assert!(signing.code() == 0 && !signing.text().contains(ISSUES_NOTHING), "{signing:?}");
}

#[test]
fn reload_can_add_and_remove_the_signing_section() {
    let (sandbox, key) = (Sandbox::new(), SigningKey::generate("ES256", "k"));
    let keys = JwksServer::start(&key_set(&[&key]));
    let section = verifying(ISSUER, "inm", &format!("jwks_uri={}", keys.uri()));
    let server = sandbox.serve(&section);
    let theirs = key.token(&claims_of(ISSUER));
    for (configuration, has_signer) in
        [(format!("{SIGNING}{section}"), true), (section.clone(), false)]
    {
        sandbox.replace("server.cfg", &configuration);
        assert!(server.reload().contains("in force"), "{}", server.log());
        eventually(|| server.auth(&theirs).status == 200);
        let ours = server.auth(&fixture::good_token()).status;
        assert_eq!(ours, if has_signer { 200 } else { 401 });
        let (status, text) = log_in(&server);
        let expected = if has_signer { "Invalid username or password" } else { ISSUES_NOTHING };
        assert!(status == 401 && text.contains(expected), "{text}: {}", server.log());
    }
    assert_eq!(server.log().matches(ISSUES_NOTHING).count(), 2, "at the start and the reload");
}

#[test]
fn issuer_and_audience_are_a_whole_section() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let server = sandbox.serve(&verifying(provider.issuer(), AUDIENCE, ""));
    for algorithm in ["RS256", "ES256"] {
        let token = provider.token(algorithm);
        assert_eq!(server.auth(&token).status, 200, "{algorithm}: {}", server.log());
    }
    assert_eq!(provider.requests(), (1, 1));
}

#[test]
fn discovery_uri_has_a_default_for_secure_issuers() {
    let sandbox = Sandbox::new();
    for (issuer, uri) in [
        ("https://idp.example", "https://idp.example/.well-known/openid-configuration"),
        ("https://idp.example/", "https://idp.example/.well-known/openid-configuration"),
        ("https://idp.example/a/", "https://idp.example/a/.well-known/openid-configuration"),
        ("http://[::1]:80/a", "http://[::1]:80/a/.well-known/openid-configuration"),
    ] {
        let output = check(&sandbox, &verifying(issuer, "inm", ""));
        let all = "RS256/RS384/RS512/PS256/PS384/PS512/ES256/ES384/ES512/EdDSA";
        let line = format!(
            "accepts {all} tokens of {issuer} for inm (any client type), with keys from \
             discovery_uri {uri}\n"
        );
        assert!(output.code() == 0 && output.stdout.contains(&line), "{output:?}");
    }
    for (issuer, options, text) in [
        ("http://idp.example/", "", "algorithm is required in auth_jwt_idp section"),
        ("idp", "", "algorithm is required in auth_jwt_idp section"),
        ("https://idp.example/?a=b", "", "algorithm is required in auth_jwt_idp section"),
        (ISSUER, "sign=true", "algorithm is required in auth_jwt_idp section"),
        (ISSUER, "key_file=k.pem", "algorithm is required in auth_jwt_idp section"),
        ("http://idp.example/", "algorithms=ES256", "jwks_uri is required for RS256 based"),
        (ISSUER, "algorithm=RS256", "jwks_uri is required for RS256 based providers in section"),
        (ISSUER, "algorithms=HS256", "key is required in auth_jwt_idp for algorithm HS256"),
    ] {
        let output = check(&sandbox, &verifying(issuer, "inm", options));
        assert!(
            output.code() == 2 && output.stderr.contains(text),
            "{issuer} {options}: {output:?}"
        );
    }
}

#[test]
fn client_types_are_required_where_they_are_used() {
    let sandbox = Sandbox::new();
    let required = "client_types is a required option for auth_jwt_";
    let section = verifying(ISSUER, "inm", "");
    assert_eq!(check(&sandbox, &section).code(), 0);
    let inmanta = "[listener_inner]\nbind=127.0.0.1:0\nsurface=inmanta\n";
    let signing = SIGNING.replace("client_types=agent,compiler,api\n", "");
    for configuration in [format!("{section}{inmanta}"), format!("{section}{signing}")] {
        let output = check(&sandbox, &configuration);
        assert!(output.code() == 2 && output.stderr.contains(required), "{output:?}");
    }
    let key = SigningKey::generate("ES256", "k");
    let keys = JwksServer::start(&key_set(&[&key]));
    let server = sandbox.serve(&verifying(ISSUER, "inm", &format!("jwks_uri={}", keys.uri())));
    let mut claims = claims_of(ISSUER);
    claims["urn:inmanta:ct"] = json!("robot");
    assert_eq!(server.auth(&key.token(&claims)).status, 200, "{}", server.log());
}
