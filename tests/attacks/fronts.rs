//! Both ways to verify a token, with the same keys and rules: the engine called directly, and
//! `/auth` of the real server.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, AlgorithmSet, Blame, IssuerConfig, KeyError, KeySet, Reject, Rules, Verifier,
};
use countersign_tests::{
    answers::{assert_no_identity, assert_refused, invalid_token},
    binary::{Sandbox, Server},
    engine::{
        AUDIENCE, ISSUER, NOW, SECRET, config, published_keys, secret_keys, secret_verifier,
        verifier,
    },
};
use serde_json::{Value, json};

/// Issuer with published keys. [`ISSUER`] signs with [`SECRET`].
pub(crate) const PUBLIC_ISSUER: &str = "https://public/";

/// The engine's [`Verifier`] and a running [`Server`] of the same configuration.
pub(crate) struct Fronts<'s> {
    pub(crate) verifier: Verifier,
    pub(crate) server: Server<'s>,
}

impl<'s> Fronts<'s> {
    /// Configures the issuer with the secret.
    pub(crate) fn of_secret(sandbox: &'s Sandbox) -> Self {
        let server = sandbox.serve(&secret_section());
        Self { verifier: secret_verifier(), server }
    }

    /// Configures the issuer with the secret, and an issuer that publishes `keys`.
    pub(crate) fn of_keys(sandbox: &'s Sandbox, keys: &[Value], algorithms: &[Algorithm]) -> Self {
        let file = sandbox.file("jwks.json", json!({ "keys": keys }).to_string());
        let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let section = public_section(&names.join(","), &format!("file://{}", file.display()));
        let server = sandbox.serve(&(secret_section() + &section));
        let issuers = [
            (config([Algorithm::Hs256]), secret_keys(None, SECRET)),
            published_issuer(keys, algorithms),
        ];
        Self { verifier: verifier(issuers), server }
    }

    /// Asserts that engine and server accept the token.
    #[track_caller]
    pub(crate) fn accept(&self, token: &str) {
        accept(&self.verifier, token);
        let response = self.server.auth(token);
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, ""),
            "{response:?} for {token}"
        );
    }

    /// Asserts that engine and server refuse the token for this reason.
    #[track_caller]
    pub(crate) fn refuse(&self, token: &str, reject: Reject) {
        refuse(&self.verifier, token, reject);
        if !can_be_carried(token) {
            return;
        }
        let response = self.server.auth(token);
        if reject.blame() == Blame::Unavailable {
            assert_eq!(response.status, 503, "{response:?} to {token}");
            assert_no_identity(&response);
        } else {
            assert_refused(&response, &invalid_token(reject));
        }
    }
}

/// Asserts that the engine refuses the token for this reason.
#[track_caller]
pub(crate) fn refuse(verifier: &Verifier, token: &str, reject: Reject) {
    assert_eq!(verifier.verify(token.as_bytes(), NOW).err(), Some(reject), "{token:.2000}");
}

/// Asserts that the engine accepts the token.
#[track_caller]
pub(crate) fn accept(verifier: &Verifier, token: &str) {
    let result = verifier.verify(token.as_bytes(), NOW);
    assert!(result.is_ok(), "{result:?} for {token}");
}

/// Returns whether a request can carry the token. HTTP forbids control characters in headers, a
/// space ends a bearer token, and the size of a head is limited.
fn can_be_carried(token: &str) -> bool {
    const HEAD: usize = 24 * 1024;
    !token.is_empty() && token.len() < HEAD && token.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

/// Engine configuration of an issuer that publishes these keys.
pub(crate) fn published_issuer(
    keys: &[Value],
    algorithms: &[Algorithm],
) -> (IssuerConfig, Arc<KeySet>) {
    let allowed: AlgorithmSet = algorithms.iter().copied().collect();
    let set = published_keys(&json!({ "keys": keys }), allowed);
    let usual = config(algorithms.iter().copied());
    // The server's defaults for published keys.
    let rules = Rules { require_expiry: true, leeway: 30, ..usual.rules };
    (IssuerConfig { name: PUBLIC_ISSUER.into(), rules, ..usual }, set)
}

/// Returns the faults of the keys that are skipped in a published set.
pub(crate) fn skipped_key_faults(keys: &[Value], algorithms: &[Algorithm]) -> Vec<KeyError> {
    let set = published_keys(&json!({ "keys": keys }), algorithms.iter().copied().collect());
    set.skipped().iter().map(|key| key.error).collect()
}

/// Server configuration of the issuer with the secret.
pub(crate) fn secret_section() -> String {
    format!(
        "[auth_jwt_secret]\nalgorithm=HS256\nsign=true\nexpire=0\nclient_types=agent,compiler,api\nkey={}\nissuer={ISSUER}\naudience={AUDIENCE}\n",
        URL_SAFE_NO_PAD.encode(SECRET)
    )
}

/// Server configuration of the issuer that publishes its keys at `uri`.
pub(crate) fn public_section(algorithms: &str, uri: &str) -> String {
    format!(
        "[auth_jwt_public]\nalgorithms={algorithms}\nclient_types=api\nissuer={PUBLIC_ISSUER}\naudience={AUDIENCE}\njwks_uri={uri}\n"
    )
}

/// Valid claims of the issuer that publishes its keys.
pub(crate) fn public_claims() -> Value {
    json!({ "iss": PUBLIC_ISSUER, "aud": AUDIENCE, "sub": "bob", "exp": 4_102_444_800u64 })
}

/// Replaces the signature of a token.
pub(crate) fn with_signature(token: &str, signature: &[u8]) -> String {
    let (signing_input, _) = token.rsplit_once('.').unwrap();
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns the signature of a token.
pub(crate) fn signature(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap()
}
