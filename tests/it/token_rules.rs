//! Which tokens a section accepts without further options: those that end, by a clock that may
//! differ a little, of a user whose name is where the configuration says.

use std::time::{SystemTime, UNIX_EPOCH};

use countersign_engine::{Reject, limits::MAX_TIME_TO_EXPIRY};
use countersign_tests::{
    answers::{assert_no_identity, assert_refused, invalid_token},
    binary::{Sandbox, Server},
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request},
    http::Response,
    openssl::SigningKey,
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::{
    config::check,
    fixture::{self, KEY, SIGNING},
};

over_every_protocol!(
    public_keys_require_an_expiry,
    expiry_far_ahead_looks_like_milliseconds,
    token_without_its_username_is_forbidden,
    prefix_keeps_the_admins_of_two_issuers_apart,
    inmanta_api_takes_a_token_of_no_user,
);

/// An issuer with published keys, in each form of a section.
pub(crate) struct FileProvider {
    pub(crate) key: SigningKey,
}

const IDP: &str = "https://idp/";

impl FileProvider {
    pub(crate) fn new() -> Self {
        Self { key: SigningKey::generate("ES256", "k") }
    }

    /// Returns the key set in a file, as a line of its section.
    pub(crate) fn jwks(&self, sandbox: &Sandbox) -> String {
        let file = sandbox.file("keys.json", fixture::key_set(&[&self.key]));
        format!("jwks_uri=file://{}", file.display())
    }

    fn serve<'s>(&self, sandbox: &'s Sandbox, options: &str) -> Server<'s> {
        let options = format!("{}\n{options}", self.jwks(sandbox));
        sandbox.serve(&fixture::with_idp("ES256", &options))
    }

    /// Makes a token with some claims replaced or, by null, removed.
    pub(crate) fn token(&self, changes: &Value) -> String {
        let mut claims = fixture::claims_of(IDP);
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.key.token(&claims)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn public_keys_require_an_expiry(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let endless = provider.token(&json!({ "exp": null }));
    let jwk = format!("key={}", provider.key.jwk());
    sandbox.file("key.json", provider.key.jwk().to_string());
    for keys in [provider.jwks(&sandbox), jwk, "key_file=key.json".into()] {
        let server = sandbox.serve(&fixture::with_idp("ES256", &keys));
        assert_eq!(server.auth(&provider.token(&json!({}))).status, 200, "{keys}");
        assert_refused(&server.auth(&endless), &invalid_token(Reject::ExpiryMissing));
        let own = fixture::token(&fixture::claims(json!({ "exp": null })));
        assert_eq!(server.auth(&own).status, 200, "tokens of our own may be endless");
        // The clocks of issuers on other machines differ a little.
        let ended = |ago: u64| provider.token(&json!({ "exp": now() - ago }));
        assert_eq!([server.auth(&ended(5)).status, server.auth(&ended(60)).status], [200, 401]);
        let own = fixture::token(&fixture::claims(json!({ "exp": now() - 1 })));
        assert_refused(&server.auth(&own), &invalid_token(Reject::Expired));
    }
    let server = provider.serve(&sandbox, "require_exp=false\nleeway=0");
    assert_eq!(server.auth(&endless).status, 200);
    assert_eq!(server.auth(&provider.token(&json!({ "exp": now() - 5 }))).status, 401);
    let shared = |options: &str| {
        let section =
            fixture::issuer_section("oidc", "HS256", IDP, &format!("key={KEY}\n{options}"));
        sandbox.serve(&format!("{SIGNING}{section}"))
    };
    let mut claims = fixture::claims_of(IDP);
    claims.as_object_mut().unwrap().remove("exp");
    let endless = fixture::token(&claims);
    assert_eq!(shared("").auth(&endless).status, 200);
    let strict = shared("require_exp=true");
    assert_refused(&strict.auth(&endless), &invalid_token(Reject::ExpiryMissing));
}

fn expiry_far_ahead_looks_like_milliseconds(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let server = provider.serve(&sandbox, "[server]\nauth=true");
    let (near, far) = (now() + MAX_TIME_TO_EXPIRY - 60, now() + MAX_TIME_TO_EXPIRY + 60);
    for exp in [far, now() * 1000] {
        let refused = provider.token(&json!({ "exp": exp }));
        assert_refused(&server.auth(&refused), &invalid_token(Reject::ExpiryFormat));
        let own = fixture::token(&fixture::claims(json!({ "exp": exp })));
        assert_refused(&server.auth(&own), &invalid_token(Reject::ExpiryFormat));
    }
    assert!(Reject::ExpiryFormat.to_string().contains("looks like milliseconds"));
    for _ in 0..2 {
        assert_eq!(server.auth(&provider.token(&json!({ "exp": near }))).status, 200);
    }
    let message = |exp: Value| {
        let token = fixture::token(&fixture::claims(json!({ "exp": exp })));
        current_user(&server, &token).json()["message"].as_str().unwrap().to_owned()
    };
    assert!(message(json!(far)).contains("looks like milliseconds"));
    let real = "Access denied: Expiration Time claim (exp) must be an integer.";
    assert_eq!(message(json!("abc")), real, "the Inmanta server's own words");
}

fn current_user(server: &Server<'_>, token: &str) -> Response {
    let head = format!("GET /api/v2/current_user HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    server.request(&head)
}

/// A 403: another token of the same kind would not help (RFC 6750 section 3.1).
#[track_caller]
fn assert_forbidden(response: &Response) {
    assert_eq!(response.status, 403, "{response:?}");
    let challenge = response.header("www-authenticate").unwrap();
    assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
    assert!(challenge.contains(&Reject::Username.to_string()), "{challenge}");
    assert_no_identity(response);
}

fn token_without_its_username_is_forbidden(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let claim = "jwt_username_claim=preferred_username";
    let named = |name: Value| provider.token(&json!({ "preferred_username": name }));
    let user = |response: &Response| response.header("x-auth-user").map(str::to_owned);
    let server = provider.serve(&sandbox, claim);
    for _ in 0..2 {
        assert_eq!(user(&server.auth(&named(json!("Bob")))).as_deref(), Some("Bob"));
        for name in [json!(null), json!(""), json!(5), json!(true), json!(["Bob"]), json!({})] {
            assert_forbidden(&server.auth(&named(name)));
        }
    }
    let problem = server.verify(&named(json!(5)));
    assert_eq!((problem.status, &problem.json()["code"]), (403, &json!("username_claim")));
    // Tokens of agents and compilers have no user, and no claim that names one.
    let agent = json!({ "sub": null, "urn:inmanta:ct": "agent" });
    let own = server.auth(&fixture::token(&fixture::claims(agent)));
    assert_eq!((own.status, user(&own).as_deref()), (200, Some("")));
    drop(server);

    let unauthorized = format!("{claim}\n[server]\nrejected_token_status=401");
    assert_eq!(provider.serve(&sandbox, &unauthorized).auth(&named(json!(5))).status, 401);
    let free = provider.serve(&sandbox, &format!("{claim}\nusername_required=false"));
    for name in [json!(null), json!(5)] {
        let response = free.auth(&named(name));
        assert_eq!((response.status, user(&response).as_deref()), (200, Some("")));
    }
    drop(free);
    let text = provider.serve(&sandbox, &format!("{claim}\nusername_as_text=true"));
    assert_eq!(user(&text.auth(&named(json!(5)))).as_deref(), Some("5"));
    assert_forbidden(&text.auth(&named(json!(5.5))));
    drop(text);
    // The default claim, `sub`, is required only where the configuration says so.
    let without_subject = provider.token(&json!({ "sub": null }));
    assert_eq!(provider.serve(&sandbox, "").auth(&without_subject).status, 200);
    assert_forbidden(&provider.serve(&sandbox, "username_required=true").auth(&without_subject));
}

fn prefix_keeps_the_admins_of_two_issuers_apart(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let server = provider.serve(&sandbox, "username_prefix=idp:\n[server]\nauth=true");
    let theirs = provider.token(&json!({ "sub": "admin" }));
    let ours = fixture::token(&fixture::claims(json!({ "sub": "admin" })));
    for _ in 0..2 {
        for (token, name) in [(&theirs, "idp:admin"), (&ours, "admin")] {
            let response = server.auth(token);
            assert_eq!(response.header("x-auth-user"), Some(name));
            assert_eq!(response.header("x-auth-subject"), Some("admin"), "as in the token");
            assert_eq!(server.verify(token).json()["username"], name);
            assert_eq!(current_user(&server, token).json()["data"]["username"], name);
        }
    }
}

fn inmanta_api_takes_a_token_of_no_user(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let server =
        provider.serve(&sandbox, "jwt_username_claim=preferred_username\n[server]\nauth=true");
    let named = |name: Value| provider.token(&json!({ "preferred_username": name }));
    let nameless = named(json!(null));
    // Neither answer may depend on a cached result of the other.
    for _ in 0..3 {
        let answer = current_user(&server, &nameless);
        assert_eq!(answer.status, 404, "{answer:?}");
        let message = "No current user found, probably an API token is used.";
        assert!(answer.body.contains(message), "{answer:?}");
        assert_forbidden(&server.auth(&nameless));
    }
    assert_eq!(current_user(&server, &named(json!("Bob"))).json()["data"]["username"], "Bob");
    for odd in [json!(5), json!(["Bob"])] {
        let refused = current_user(&server, &named(odd));
        let message = format!("Access denied: {}", Reject::Username);
        assert_eq!((refused.status, &refused.json()["message"]), (403, &json!(message)));
    }
}

#[test]
fn check_of_a_token_without_username_is_forbidden() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let options = "jwt_username_claim=email\n[listen]\nprotocols=http/1.1, h2";
    let server = provider.serve(&sandbox, options);
    let envoy = Envoy::plain(server.address);
    let check = |changes: Value| {
        let authorization = format!("Bearer {}", provider.token(&changes));
        let request = check_request(&[("authorization", &authorization)]);
        CheckOutcome::of(envoy.check(request).unwrap())
    };
    assert_eq!(check(json!({})).status, 403);
    let allowed = check(json!({ "email": "bob@example.com" }));
    assert_eq!(allowed.header("x-auth-user"), Some("bob@example.com"));
}

#[test]
fn unmet_claims_option_is_forbidden() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let server = provider.serve(&sandbox, "claims=read in scope");
    assert_eq!(server.auth(&provider.token(&json!({ "scope": ["read", "x"] }))).status, 200);
    let refused = server.auth(&provider.token(&json!({ "scope": ["x"] })));
    assert_eq!(refused.status, 403, "{refused:?}");
    let expired = server.auth(&provider.token(&json!({ "scope": ["x"], "exp": 1 })));
    assert_eq!(expired.status, 401, "another token may help");
}

#[test]
fn signing_section_accepts_the_tokens_it_signs() {
    for (line, reason) in [
        ("username_required=true", "tokens of agents and compilers have no username"),
        ("username_prefix=us:", "the names of users would not be those of /api/v2"),
        ("require_exp=true", "expire is 0, so its tokens never expire"),
    ] {
        let output = check(&Sandbox::new(), "c.cfg", &format!("{SIGNING}{line}\n"));
        assert_eq!(output.code(), 2, "{line}");
        let option = line.split('=').next().unwrap();
        let error = format!("{option} in auth_jwt_default, which signs: {reason}");
        assert!(output.stderr.contains(&error), "{}", output.stderr);
    }
    let ending = SIGNING.replace("expire=0", "expire=60");
    let output = check(&Sandbox::new(), "c.cfg", &format!("{ending}require_exp=true\n"));
    assert_eq!((output.code(), &*output.stderr), (0, ""));
    // A lifetime that its own verification would take for milliseconds.
    let endless = SIGNING.replace("expire=0", &format!("expire={}", MAX_TIME_TO_EXPIRY + 1));
    let output = check(&Sandbox::new(), "c.cfg", &endless);
    assert!(output.code() == 2 && output.stderr.contains("expire in auth_jwt_default must be"));
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    let expire = (MAX_TIME_TO_EXPIRY + 1).to_string();
    let arguments =
        ["token", "sign", "--client-type", "api", "--expire", &expire, "--config", "c.cfg"];
    let output = sandbox.run(arguments);
    assert!(output.code() == 1 && output.stderr.contains("exceeds 3155760000 s"), "{output:?}");
    drop(config);
}
