//! The Orchestrate profile: every refusal is 401, with a text in Orchestrate's form if the settings
//! ask for one.

use countersign_engine::{Blame, Reject, header_safe, jws::UnverifiedToken};
use http::{Response, StatusCode};
use serde_json::Value;

use super::Refusal;
use crate::{
    base::{reply::Body, uri::differ_by_slash},
    tenancy::refusal::token_response,
};

/// The message of the response to a request without a credential.
pub const NO_CREDENTIAL: &str = "missing required credentials";

/// Returns a response with a message.
#[must_use]
pub fn message_response(status: StatusCode, message: &str) -> Response<Body> {
    token_response(status, message.to_owned())
}

/// Returns the message for a rejected token: the step of Orchestrate's validation that fails, and
/// our own description.
#[must_use]
pub fn refusal_message(refusal: &Refusal<'_>) -> String {
    let step = match (refusal.reject.blame(), refusal.reject) {
        (Blame::Malformed, _) => "could not parse the token",
        (
            _,
            Reject::AlgorithmMissing | Reject::AlgorithmUnsupported | Reject::AlgorithmNotAllowed,
        ) => {
            let algorithm = algorithm(refusal.token);
            return format!(
                r#"expected "RS256" signing algorithm but token specified "{algorithm}""#
            );
        }
        (
            _,
            Reject::KidMissing
            | Reject::KidUnknown
            | Reject::KidUndecided
            | Reject::KeySkipped
            | Reject::KeysUnavailable,
        ) => "error getting the keys from the key func",
        (_, Reject::Signature) => "could not get token claims",
        _ => "expected claims not validated",
    };
    format!("{step}: {refusal}")
}

/// Returns the algorithm that a token names, for a message.
fn algorithm(token: &[u8]) -> String {
    const MAX_CHARS: usize = 16;
    let header = UnverifiedToken::decode(token).map(|token| token.header).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    let name = header["alg"].as_str().unwrap_or_default();
    header_safe(&name.chars().take(MAX_CHARS).collect::<String>())
}

/// Whether the `iss` of a token differs from one of these issuers by a trailing slash alone.
#[must_use]
pub fn differs_by_slash<'n>(token: &[u8], mut issuers: impl Iterator<Item = &'n str>) -> bool {
    let claims = UnverifiedToken::decode(token).map(|token| token.payload).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    let Some(name) = claims["iss"].as_str() else { return false };
    issuers.any(|issuer| differ_by_slash(issuer, name))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn token(header: &str, claims: &str) -> Vec<u8> {
        let encode = |text| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode(header), encode(claims)).into()
    }

    fn message(reject: Reject, token: &[u8], differs_by_slash: bool) -> String {
        refusal_message(&Refusal {
            reject,
            token,
            issuer: None,
            exceeded: None,
            retry_after: None,
            is_emptied: false,
            skipped: None,
            differs_by_slash,
        })
    }

    #[test]
    fn token_refusals_name_the_step_of_validation() {
        for (reject, step) in [
            (Reject::Segments, "could not parse the token: "),
            (Reject::KidUnknown, "error getting the keys from the key func: "),
            (Reject::Signature, "could not get token claims: "),
            (Reject::Expired, "expected claims not validated: "),
        ] {
            assert_eq!(message(reject, b"", false), format!("{step}{reject}"));
        }
        let hs256 = token(r#"{"alg":"HS256"}"#, "{}");
        let expected = r#"expected "RS256" signing algorithm but token specified "HS256""#;
        assert_eq!(message(Reject::AlgorithmNotAllowed, &hs256, false), expected);
        let slash = message(Reject::IssuerUnknown, b"", true);
        assert!(slash.ends_with("only by a trailing slash"), "{slash}");
    }

    #[test]
    fn issuers_are_compared_without_the_trailing_slash() {
        let differs = |name: &str, issuer: &str| {
            let claims = format!(r#"{{"iss":"{name}"}}"#);
            differs_by_slash(&token("{}", &claims), [issuer].into_iter())
        };
        assert!(differs("https://idp", "https://idp/") && differs("https://idp/", "https://idp"));
        assert!(!differs("https://idp", "https://idp2/") && !differs("https://idp", "https://idp"));
        assert!(!differs_by_slash(b"", ["/"].into_iter()));
    }
}
