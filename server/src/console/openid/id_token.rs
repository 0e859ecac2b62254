//! ID tokens (OpenID Connect Core 1.0 section 2): who signed in, for us, just now, and with which
//! access token.
//!
//! Signature, issuer, audience and times are checked by the engine. The claims that bind the token
//! to this sign-in are checked here.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Algorithm as DigestAlgorithm, SHA256, SHA384, SHA512, digest},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Reject, UnixTime, jws::UnverifiedToken};
use serde_json::{Map, Value};

use super::{error::SignInError, provider::KnownProvider};
use crate::base::{
    claims::{AUTH_TIME_CLAIM, SESSION_ID_CLAIM},
    exact_json,
};

/// Claims of a verified ID token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdToken {
    /// `sub`.
    pub(super) subject: String,
    /// `sid`, the session at the provider (OpenID Connect Back-Channel Logout 1.0 section 2.1).
    pub(super) session: Option<String>,
    /// `auth_time`, the time at which the user signed in at the provider.
    pub(super) authenticated_at: Option<UnixTime>,
}

/// What an [`IdToken`] is bound to.
#[derive(Clone, Copy)]
pub(super) struct ExpectedToken<'e> {
    /// `oidc_client_id`.
    pub(super) client_id: &'e str,
    /// The nonce of the sign-in; `None` for a token that came with a renewed access token.
    pub(super) nonce: Option<&'e str>,
    /// The access token that came with it.
    pub(super) access_token: &'e str,
    /// Time since which the user must have signed in, if that is required.
    pub(super) fresh_since: Option<UnixTime>,
}

impl IdToken {
    /// Verifies an ID token.
    pub(super) fn verify(
        provider: &KnownProvider,
        token: &str,
        expected: ExpectedToken<'_>,
        now: UnixTime,
    ) -> Result<Self, SignInError> {
        let verified =
            provider.id_tokens.verify(token.as_bytes(), now).map_err(SignInError::IdToken)?;
        let claims = exact_json::claims(&verified.claims().json());
        let header = header(token)?;
        check_type(&header)?;
        if verified.claims().issued_at().is_none() {
            return Err(SignInError::IdTokenClaim("iat"));
        }
        check_party(&claims, expected.client_id)?;
        check_nonce(&claims, expected.nonce)?;
        check_access_token(&claims, &header, expected.access_token)?;
        let authenticated_at = read_time(&claims, AUTH_TIME_CLAIM)?;
        if expected.fresh_since.is_some_and(|since| authenticated_at < Some(since)) {
            return Err(SignInError::NotFresh);
        }
        let subject = verified.claims().subject().filter(|subject| !subject.is_empty());
        Ok(Self {
            subject: subject.ok_or(SignInError::IdTokenClaim("sub"))?.into(),
            session: read_text(&claims, SESSION_ID_CLAIM)?,
            authenticated_at,
        })
    }
}

fn header(token: &str) -> Result<Map<String, Value>, SignInError> {
    let token = UnverifiedToken::decode(token.as_bytes()).map_err(SignInError::IdToken)?;
    Ok(exact_json::claims(&token.header))
}

/// Refuses an access token in the place of an ID token. Those of some providers have the client as
/// their audience.
fn check_type(header: &Map<String, Value>) -> Result<(), SignInError> {
    let kind = header.get("typ").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if kind.trim_start_matches("application/") == "at+jwt" {
        return Err(SignInError::IdToken(Reject::Type));
    }
    Ok(())
}

/// Checks `azp`: a token for several clients names the one that it was issued to (section 3.1.3.7,
/// steps 4 and 5).
fn check_party(claims: &Map<String, Value>, client_id: &str) -> Result<(), SignInError> {
    let has_others = matches!(claims.get("aud"), Some(Value::Array(all)) if all.len() > 1);
    match claims.get("azp") {
        None if !has_others => Ok(()),
        Some(Value::String(party)) if party == client_id => Ok(()),
        _ => Err(SignInError::IdTokenClaim("azp")),
    }
}

/// Checks `nonce`, without which a token of another sign-in could be injected (step 11).
fn check_nonce(claims: &Map<String, Value>, expected: Option<&str>) -> Result<(), SignInError> {
    let Some(expected) = expected else { return Ok(()) };
    let nonce = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
    verify_slices_are_equal(nonce.as_bytes(), expected.as_bytes())
        .map_err(|_| SignInError::IdTokenClaim("nonce"))
}

/// Checks `at_hash`, if it is present: the left half of the hash of the access token (section
/// 3.1.3.8).
fn check_access_token(
    claims: &Map<String, Value>,
    header: &Map<String, Value>,
    access_token: &str,
) -> Result<(), SignInError> {
    let Some(claim) = claims.get("at_hash") else { return Ok(()) };
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(digest_of);
    let expected = algorithm.map(|algorithm| {
        let digest = digest(algorithm, access_token.as_bytes());
        let half = digest.as_ref().len() / 2;
        URL_SAFE_NO_PAD.encode(&digest.as_ref()[..half])
    });
    if expected.is_some() && claim.as_str() == expected.as_deref() {
        return Ok(());
    }
    Err(SignInError::IdTokenClaim("at_hash"))
}

/// Returns the hash of a signature algorithm.
fn digest_of(algorithm: &str) -> Option<&'static DigestAlgorithm> {
    match algorithm {
        "EdDSA" | "Ed25519" => Some(&SHA512),
        _ if algorithm.ends_with("256") => Some(&SHA256),
        _ if algorithm.ends_with("384") => Some(&SHA384),
        _ if algorithm.ends_with("512") => Some(&SHA512),
        _ => None,
    }
}

/// Reads a claim that is a text, or absent.
pub(super) fn read_text(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, SignInError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(SignInError::IdTokenClaim(name)),
    }
}

fn read_time(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<UnixTime>, SignInError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(time) => {
            let seconds = time.as_u64().ok_or(SignInError::IdTokenClaim(name))?;
            Ok(Some(UnixTime(seconds)))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::{
        super::provider::tests::{CLIENT_ID, ISSUER, provider},
        *,
    };

    pub(in crate::console::openid) const NOW: UnixTime = UnixTime(1_800_000_000);

    /// A provider with a key, and the means to sign with it.
    pub(in crate::console::openid) struct Signer {
        key: Ed25519KeyPair,
        pub(in crate::console::openid) provider: KnownProvider,
    }

    impl Signer {
        pub(in crate::console::openid) fn new() -> Self {
            let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
            let provider = provider(&URL_SAFE_NO_PAD.encode(key.public_key().as_ref()));
            Self { key, provider }
        }

        pub(in crate::console::openid) fn sign(
            &self,
            kind: Option<&str>,
            claims: &Value,
        ) -> String {
            let mut header = json!({ "alg": "EdDSA", "kid": "k" });
            if let Some(kind) = kind {
                header["typ"] = kind.into();
            }
            let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
            let input = format!("{}.{}", part(&header), part(claims));
            let signature = self.key.sign(input.as_bytes());
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    /// Returns `claims` with some replaced or, by null, removed.
    pub(in crate::console::openid) fn changed(mut claims: Value, changes: &Value) -> Value {
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn claims(changes: &Value) -> Value {
        let claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "sub": "u1", "sid": "s1", "nonce": "n",
            "iat": NOW.0, "exp": NOW.0 + 300, "auth_time": NOW.0 - 100,
            "at_hash": "",
        });
        let digest = digest(&SHA512, b"token");
        let claims =
            changed(claims, &json!({ "at_hash": URL_SAFE_NO_PAD.encode(&digest.as_ref()[..32]) }));
        changed(claims, changes)
    }

    fn verify_typed(
        kind: Option<&str>,
        changes: &Value,
        fresh_since: Option<UnixTime>,
    ) -> Result<IdToken, SignInError> {
        let signer = Signer::new();
        let token = signer.sign(kind, &claims(changes));
        let (client_id, nonce, access_token) = (CLIENT_ID, Some("n"), "token");
        let expected = ExpectedToken { client_id, nonce, access_token, fresh_since };
        IdToken::verify(&signer.provider, &token, expected, NOW)
    }

    fn verify(changes: &Value) -> Result<IdToken, SignInError> {
        verify_typed(Some("JWT"), changes, None)
    }

    #[test]
    fn id_token_is_bound_to_its_sign_in() {
        let token = verify(&json!({})).unwrap();
        assert_eq!((&*token.subject, token.session.as_deref()), ("u1", Some("s1")));
        for fine in [
            json!({ "at_hash": null, "sid": null, "auth_time": null }),
            json!({ "azp": CLIENT_ID }),
            json!({ "aud": [CLIENT_ID] }),
            json!({ "aud": [CLIENT_ID, "api"], "azp": CLIENT_ID }),
        ] {
            assert!(verify(&fine).is_ok(), "{fine}");
        }
        for (changes, claim) in [
            (json!({ "nonce": "m" }), "nonce"),
            (json!({ "nonce": null }), "nonce"),
            (json!({ "nonce": ["n"] }), "nonce"),
            (json!({ "azp": "other" }), "azp"),
            (json!({ "aud": [CLIENT_ID, "api"] }), "azp"),
            (json!({ "at_hash": "x" }), "at_hash"),
            (json!({ "at_hash": 5 }), "at_hash"),
            (json!({ "sub": null }), "sub"),
            (json!({ "sub": "" }), "sub"),
            (json!({ "iat": null }), "iat"),
            (json!({ "sid": 5 }), "sid"),
            (json!({ "auth_time": "now" }), "auth_time"),
        ] {
            assert_eq!(verify(&changes), Err(SignInError::IdTokenClaim(claim)), "{changes}");
        }
    }

    #[test]
    fn id_token_is_checked_by_the_engine() {
        let event = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
        for (changes, reject) in [
            (json!({ "iss": "https://other.example" }), Reject::IssuerUnknown),
            (json!({ "aud": "api" }), Reject::Audience),
            (json!({ "exp": NOW.0 }), Reject::Expired),
            (json!({ "exp": null }), Reject::ExpiryMissing),
            (json!({ "iat": NOW.0 + 60 }), Reject::IssuedInFuture),
            (json!({ "events": event }), Reject::Type),
        ] {
            assert_eq!(verify(&changes), Err(SignInError::IdToken(reject)), "{changes}");
        }
        for kind in ["at+jwt", "application/AT+JWT", "logout+jwt"] {
            let refused = verify_typed(Some(kind), &json!({}), None);
            assert_eq!(refused, Err(SignInError::IdToken(Reject::Type)), "{kind}");
        }
    }

    #[test]
    fn fresh_sign_in_needs_a_new_auth_time() {
        let since = Some(UnixTime(NOW.0 - 10));
        let at = |time: Value| verify_typed(None, &json!({ "auth_time": time }), since).err();
        assert_eq!(at(json!(NOW.0 - 10)), None);
        assert_eq!(at(json!(NOW.0 - 11)), Some(SignInError::NotFresh));
        assert_eq!(at(Value::Null), Some(SignInError::NotFresh), "cannot tell");
    }

    #[test]
    fn at_hash_is_that_of_the_specification() {
        // The example of OpenID Connect Core 1.0 appendix A.3.
        let claims = json!({ "at_hash": "77QmUPtjPfzWtF2AnpK9RQ" });
        let check = |token: &str, algorithm: &str| {
            let header = json!({ "alg": algorithm });
            let (claims, header) = (claims.as_object().unwrap(), header.as_object().unwrap());
            check_access_token(claims, header, token)
        };
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(check(token, "RS256"), Ok(()));
        assert!(check(token, "RS512").is_err() && check(token, "none").is_err());
        assert!(check("other", "RS256").is_err());
    }
}
