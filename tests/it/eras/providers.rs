use countersign_tests::{
    binary::{Sandbox, Server},
    http::Response,
    openssl::SigningKey,
    providers::JwksServer,
};
use serde_json::{Value, json};

use super::blocks;
use crate::fixture::SIGNING;

/// The year 2100.
const LATER: u64 = 4_102_444_800;
const KID: &str = "l4BZ1GZGw7Zq1-Yd0BbY7h3o1eI";

/// A provider: its published keys, the claims of its tokens, and the guide's block for it.
struct Provider {
    key: SigningKey,
    jwks: Value,
    block: String,
    claims: Value,
    /// The expected user name.
    user: &'static str,
    /// The header that carries the token, if it is not `Authorization`.
    header: Option<&'static str>,
}

impl Provider {
    fn new(
        block: impl Into<String>,
        user: &'static str,
        claims: Value,
        publish: impl FnOnce(Value) -> Value,
    ) -> Self {
        let key = SigningKey::generate("RS256", KID);
        Self { jwks: publish(key.jwk()), key, block: block.into(), claims, user, header: None }
    }

    /// Starts a [`Server`] with the guide's block and the keys from `keys`.
    fn serve<'s>(&self, sandbox: &'s Sandbox, keys: &JwksServer, options: &str) -> Server<'s> {
        let lines = self.block.lines().map(|line| {
            if line.starts_with("jwks_uri=") {
                format!("jwks_uri={}\n{options}", keys.uri())
            } else {
                format!("{line}\n")
            }
        });
        sandbox.serve(&format!("{SIGNING}{}", lines.collect::<String>().trim_start()))
    }

    fn request(&self, server: &Server<'_>, token: &str) -> Response {
        match self.header {
            Some(name) => server.request(&format!("GET /auth HTTP/1.1\r\n{name}: {token}\r\n")),
            None => server.auth(token),
        }
    }

    fn token(&self, changes: &Value) -> String {
        self.key.token(&changed(&self.claims, changes))
    }

    /// Checks that the provider's tokens are accepted and that deviating tokens are rejected.
    fn assert_works(&self) {
        let (sandbox, keys) = (Sandbox::new(), JwksServer::start(&self.jwks.to_string()));
        let server = self.serve(&sandbox, &keys, "");
        let accepted = self.request(&server, &self.token(&json!({})));
        assert_eq!(
            (accepted.status, accepted.header("x-auth-user")),
            (200, Some(self.user)),
            "{accepted:?} {}",
            server.log()
        );
        assert_eq!(accepted.header("x-auth-client-types"), Some("api"));
        let impostor = SigningKey::generate("RS256", KID);
        let good = self.token(&json!({}));
        let header = json!({ "alg": "none", "kid": KID });
        for (deviation, token) in [
            ("another audience", self.token(&json!({ "aud": "somebody-else" }))),
            ("no audience", self.token(&json!({ "aud": null }))),
            ("another issuer", self.token(&json!({ "iss": "https://idp.example/" }))),
            (
                "the issuer with an extra slash",
                self.token(&json!({ "iss": format!("{}/", self.claims["iss"].as_str().unwrap()) })),
            ),
            ("long expired", self.token(&json!({ "exp": 1_700_000_000 }))),
            ("not yet valid", self.token(&json!({ "nbf": LATER - 1 }))),
            (
                "a client type of the server's own",
                self.token(&json!({ "urn:inmanta:ct": "agent" })),
            ),
            ("another key of the same name", impostor.token(&self.claims)),
            (
                "a key of another name",
                self.key
                    .token_with_header(&json!({ "alg": "RS256", "kid": "other" }), &self.claims),
            ),
            (
                "another algorithm",
                self.key.token_with_header(&json!({ "alg": "PS256", "kid": KID }), &self.claims),
            ),
            ("no algorithm", self.key.token_with_header(&header, &self.claims)),
            ("no signature", good[..=good.rfind('.').unwrap()].to_owned()),
        ] {
            assert_eq!(self.request(&server, &token).status, 401, "{deviation}");
        }
    }
}

/// Returns the claims with some replaced or, by null, removed.
fn changed(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// Returns the published form of a key, with some members replaced or, by null, removed.
fn published(jwk: &Value, changes: Value) -> Value {
    changed(jwk, &changes)
}

/// Returns Entra's key set: keys without an algorithm, each with its certificate.
fn entra_keys(jwk: Value) -> Value {
    let issuer = blocks::ENTRA_ISSUERS[0];
    let more = json!({ "alg": null, "x5t": KID, "x5c": ["MIIC/jCCAeag"], "cloud_instance_name": "microsoftonline.com", "issuer": issuer });
    // The set also holds the key of another rotation.
    let other = SigningKey::generate("RS256", "next").jwk();
    json!({ "keys": [published(&other, more.clone()), published(&jwk, more)] })
}

#[test]
fn entra_v2_tokens_verify_with_keys_without_alg() {
    let claims = json!({
        "aud": "api://3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77",
        "iss": blocks::ENTRA_ISSUERS[0],
        "iat": 1_760_000_000, "nbf": 1_760_000_000, "exp": LATER,
        "aio": "ATQAy/8TAAAA", "azp": "3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77", "azpacr": "0",
        "name": "Alice Example", "oid": "5a2f6a34-9b0e-4a39-9c43-5d0f5b2f1c10", "preferred_username": "alice@example.com",
        "rh": "1.AX0A", "scp": "access", "sid": "00518b2c", "sub": "mPp1-q_3yM7lq0y6",
        "tid": "9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11", "uti": "h3bXk", "ver": "2.0",
    });
    let provider = Provider::new(blocks::ENTRA, "alice@example.com", claims, entra_keys);
    assert!(provider.jwks["keys"].as_array().unwrap().iter().all(|key| key.get("alg").is_none()));
    provider.assert_works();
}

#[test]
fn entra_v1_tokens_verify_under_their_own_issuer() {
    let claims = json!({
        "aud": "api://3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77",
        "iss": blocks::ENTRA_ISSUERS[1],
        "iat": 1_760_000_000, "nbf": 1_760_000_000, "exp": LATER,
        "acr": "1", "aio": "AXQAi/8TAAAA", "amr": ["pwd", "mfa"], "appid": "3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77", "appidacr": "0",
        "family_name": "Example", "given_name": "Alice", "ipaddr": "192.0.2.7", "name": "Alice Example",
        "oid": "5a2f6a34-9b0e-4a39-9c43-5d0f5b2f1c10", "preferred_username": "alice@example.com", "rh": "1.AX0A", "scp": "access",
        "sub": "mPp1-q_3yM7lq0y6", "tid": "9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11", "unique_name": "alice@example.com",
        "upn": "alice@example.com", "uti": "h3bXk", "ver": "1.0",
    });
    let block = blocks::ENTRA.replacen(blocks::ENTRA_ISSUERS[0], blocks::ENTRA_ISSUERS[1], 1);
    Provider::new(block, "alice@example.com", claims, entra_keys).assert_works();
}

#[test]
fn authentik_tokens_are_accepted() {
    let claims = json!({
        "iss": "https://auth.example.com/application/o/inmanta/",
        "sub": "5b3b6c2b4d1e0f9a8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b",
        "aud": "x4kqZ1mVbY7cT0nPwLr8sDfGhJ2", "exp": LATER, "iat": 1_760_000_000, "auth_time": 1_760_000_000,
        "acr": "goauthentik.io/providers/oauth2/default", "amr": ["pwd"], "sid": "a1b2",
        "email": "bob@example.com", "email_verified": true, "name": "Bob", "given_name": "Bob", "preferred_username": "bob",
        "nickname": "bob", "groups": ["authentik Admins", "operators"],
        "azp": "x4kqZ1mVbY7cT0nPwLr8sDfGhJ2", "uid": "Qm9i", "scope": "openid profile email",
    });
    let keys = |jwk: Value| {
        let more =
            json!({ "x5c": ["MIIFUjCCAzqg"], "x5t": "dGh1bWI", "x5t#S256": "dGh1bWJwcmludA" });
        json!({ "keys": [published(&jwk, more)] })
    };
    Provider::new(blocks::AUTHENTIK, "bob", claims, keys).assert_works();
}

/// Returns Keycloak's key set: an encryption key before the signing key.
fn keycloak_keys(jwk: Value) -> Value {
    let encrypting = SigningKey::generate("RS256", "enc").jwk();
    let more = json!({ "x5c": ["MIICnzCCAYcC"], "x5t": "dGh1bWI", "x5t#S256": "dGh1bWJwcmludA" });
    let encrypting = published(
        &published(&encrypting, json!({ "use": "enc", "alg": "RSA-OAEP" })),
        more.clone(),
    );
    json!({ "keys": [encrypting, published(&jwk, more)] })
}

#[test]
fn keycloak_tokens_need_no_client_type() {
    let claims = json!({
        "exp": LATER, "iat": 1_760_000_000, "auth_time": 1_760_000_000, "jti": "onrtac:0b6e0f3c-2f0e-4d0b-b1a2-6a1c2d3e4f50",
        "iss": "http://keycloak.example.com:8080/realms/inmanta", "aud": ["inmantaso", "account"],
        "sub": "f2d7b0a4-3c1e-4f5d-8e6a-7b9c0d1e2f3a", "typ": "Bearer", "azp": "inmantaso", "sid": "3f0e", "acr": "1",
        "allowed-origins": ["https://orchestrator.example.com"],
        "realm_access": { "roles": ["default-roles-inmanta", "offline_access"] },
        "resource_access": { "account": { "roles": ["manage-account"] } },
        "scope": "openid profile email", "email_verified": true, "name": "Carol Example", "preferred_username": "carol",
        "given_name": "Carol", "family_name": "Example", "email": "carol@example.com",
    });
    Provider::new(blocks::GENERIC, "carol", claims, keycloak_keys).assert_works();
}

/// Returns claims as Keycloak issued them when the older guide was written.
fn older_claims() -> Value {
    json!({
        "jti": "8a5c9a3e-8f0b-4f0e-9d2b-1c3d5e7f9a0b", "exp": LATER, "nbf": 0, "iat": 1_510_000_000,
        "iss": "http://localhost:8080/auth/realms/master", "aud": "inmanta", "sub": "c0ffee00-1234-4abc-8def-001122334455",
        "typ": "Bearer", "azp": "inmanta", "nonce": "n", "auth_time": 1_510_000_000, "session_state": "s", "acr": "1",
        "client_session": "c", "allowed-origins": ["http://localhost:8888"], "realm_access": { "roles": ["uma_authorization"] },
        "resource_access": { "account": { "roles": ["view-profile"] } }, "urn:inmanta:ct": "api", "preferred_username": "dave",
    })
}

#[test]
fn older_keycloak_tokens_are_accepted() {
    let user = "c0ffee00-1234-4abc-8def-001122334455";
    Provider::new(blocks::OLDER_KEYCLOAK, user, older_claims(), keycloak_keys).assert_works();
}

#[test]
fn legacy_option_requires_the_client_type_claim() {
    let provider = Provider::new(blocks::OLDER_KEYCLOAK, "", older_claims(), keycloak_keys);
    let keys = JwksServer::start(&provider.jwks.to_string());
    let without = provider.token(&json!({ "urn:inmanta:ct": null }));
    // The older guide's mapper names the claim with a stray leading colon.
    let slipped = provider.token(&json!({ "urn:inmanta:ct": null, ":urn:inmanta:ct": "api" }));
    for (options, expected) in [("", 200), ("legacy_require_client_type=true\n", 401)] {
        let sandbox = Sandbox::new();
        let server = provider.serve(&sandbox, &keys, options);
        assert_eq!(server.auth(&provider.token(&json!({}))).status, 200, "{options}");
        assert_eq!(
            [&without, &slipped].map(|token| server.auth(token).status),
            [expected; 2],
            "{options}"
        );
    }
}

#[test]
fn cloudflare_tokens_are_read_from_their_header() {
    let claims = json!({
        "aud": ["4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"],
        "email": "erin@example.com", "exp": LATER, "iat": 1_760_000_000, "nbf": 1_760_000_000,
        "iss": "https://acme.cloudflareaccess.com", "type": "app", "identity_nonce": "6ei69kawdKzMIAPF",
        "sub": "7335d417-61da-459d-899c-0a01c76a2f94", "country": "BE",
    });
    let keys = |jwk: Value| {
        let other = SigningKey::generate("RS256", "previous").jwk();
        let certificate = json!({ "kid": KID, "cert": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" });
        json!({ "keys": [other, jwk], "public_cert": certificate, "public_certs": [certificate] })
    };
    let block = format!("{}{}", blocks::CLOUDFLARE, blocks::CLOUDFLARE_HEADER);
    let provider = Provider::new(block, "erin@example.com", claims, keys);
    Provider { header: Some("Cf-Access-Jwt-Assertion"), ..provider }.assert_works();
}
