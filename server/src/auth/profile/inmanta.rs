//! The Inmanta profile: messages of the Inmanta server.

use countersign_engine::{Blame, Reject, UnixTime, Verified, jws::UnverifiedToken};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Refusal, check_key_and_issue_time};
use crate::{
    base::{
        claims::CLIENT_TYPES_CLAIM,
        exact_json::{self, RawMembers},
        reply::{Body, json},
    },
    keys::KeySources,
};

/// The message of the response to a request without a token.
pub const UNAUTHORIZED: &str = "Access to this resource is unauthorized";

/// Checks what the Inmanta server demands of every token, beyond the rules of its issuer: an `iat`
/// that is not in the future, a `kid` for a published key, and no list of anything but strings.
///
/// # Errors
/// The first [`Reject`] found.
pub fn check(verified: &Verified<'_>, now: UnixTime, keys: &KeySources) -> Result<(), Reject> {
    check_key_and_issue_time(verified, now, keys)?;
    if verified.claims().has_mixed_list() {
        return Err(Reject::ListFormat);
    }
    Ok(())
}

/// Returns a response with a message in JSON.
#[must_use]
pub fn message_response(status: StatusCode, message: &str) -> Response<Body> {
    json(status, &json!({ "message": message }))
}

/// Returns the message for a rejected token.
#[must_use]
pub fn message(reject: Reject, token: &[u8]) -> String {
    match detail(reject, token) {
        detail if detail.is_empty() => "Access denied".into(),
        detail => format!("Access denied: {detail}"),
    }
}

fn detail(reject: Reject, token: &[u8]) -> String {
    let text = match reject {
        reject if reject.blame() == Blame::Malformed => {
            "Unable to decode provided JWT bearer token."
        }
        Reject::IssuerMissing => "Issuer is required in token to validate.",
        Reject::IssuerUnknown => "Unknown issuer for token",
        Reject::AlgorithmMissing => "alg field is missing in jwt header or is not a valid string",
        Reject::AlgorithmUnsupported | Reject::AlgorithmNotAllowed => {
            return algorithm_detail(token);
        }
        Reject::KidMissing => KID_MISSING,
        Reject::KidUnknown => KID_UNKNOWN,
        // The Inmanta server looks for the key first.
        Reject::Signature if is_nameless_rs256(token) => KID_MISSING,
        Reject::Signature => "Signature verification failed",
        Reject::IssuedAtFormat => "Issued At claim (iat) must be an integer.",
        Reject::IssuedInFuture => "The token is not yet valid (iat)",
        Reject::NotBeforeFormat => "Not Before claim (nbf) must be an integer.",
        Reject::NotYetValid => "The token is not yet valid (nbf)",
        Reject::ExpiryFormat if !has_number(token, "exp") => {
            "Expiration Time claim (exp) must be an integer."
        }
        Reject::Expired => "Signature has expired",
        Reject::Revoked => REVOKED,
        Reject::AudienceMissing => "aud",
        Reject::AudienceFormat => "Invalid claim format in token",
        Reject::Audience => "Audience doesn't match",
        Reject::SubjectFormat => "Subject must be a string",
        Reject::TokenIdFormat => "JWT ID must be a string",
        Reject::ListFormat => "",
        Reject::Constraints => {
            "The configured claims constraints did not match. See logs for details."
        }
        // Reject reasons that the Inmanta server does not have.
        other => return other.to_string(),
    };
    text.into()
}

/// Returns the message of a refusal: in the Inmanta server's words, or in our own if the token
/// could not be verified.
#[must_use]
pub fn refusal_message(refusal: &Refusal<'_>) -> String {
    match (&refusal.issuer, refusal.exceeded) {
        (Some(_), _) | (_, Some(_)) if refusal.reject.blame() == Blame::Unavailable => {
            refusal.to_string()
        }
        _ if refusal.skipped.is_some() => format!("Access denied: {refusal}"),
        _ => message(refusal.reject, refusal.token),
    }
}

/// Detail of a revoked token.
pub const REVOKED: &str = "The provided token has been revoked.";
const KID_MISSING: &str = "kid is missing in jwt header or is not a valid string";
const KID_UNKNOWN: &str = "The kid provided in the token does not match a known key. Check the jwks_uri or try restarting the \
                           server to load any new keys.";

/// Returns the detail for an algorithm that is not allowed. The Inmanta server looks for the key
/// before it checks the section's algorithm, and compares names first in lower case and later
/// exactly.
fn algorithm_detail(token: &[u8]) -> String {
    let header = header(token);
    let member = |name| header.as_ref()?.get(name)?.as_str();
    let name = member("alg").unwrap_or_default();
    match name.to_lowercase().as_str() {
        "rs256" if member("kid").is_none() => KID_MISSING.into(),
        // An RS256 token for a section without published keys.
        "rs256" if name == "RS256" => KID_UNKNOWN.into(),
        "rs256" | "hs256" => "The specified alg value is not allowed".into(),
        lower => format!("Algorithm {lower} is not supported."),
    }
}

fn is_nameless_rs256(token: &[u8]) -> bool {
    let header = header(token);
    header.as_ref().is_some_and(|header| header["alg"] == "RS256" && header.get("kid").is_none())
}

fn header(token: &[u8]) -> Option<Value> {
    serde_json::from_slice(&UnverifiedToken::decode(token).ok()?.header).ok()
}

/// Whether a claim is a number. The Inmanta server has no message for one that is too large.
fn has_number(token: &[u8], claim: &str) -> bool {
    let parts = UnverifiedToken::decode(token).ok();
    let payload = parts.map(|parts| parts.payload).unwrap_or_default();
    let claims: RawMembers<'_> = serde_json::from_slice(&payload).unwrap_or_default();
    let first = claims.get(claim).and_then(|claim| claim.get().bytes().next());
    first.is_some_and(|first| first == b'-' || first.is_ascii_digit())
}

/// Returns the claims in the Inmanta server's form: strings, booleans, objects and lists of
/// strings. Numbers and nulls are dropped, and the client types are a list.
#[must_use]
pub fn claims(claims: countersign_engine::Claims<'_>) -> Value {
    let mut members = exact_json::claims(&claims.json());
    members.retain(|_, claim| !claim.is_number() && !claim.is_null());
    members.insert(CLIENT_TYPES_CLAIM.into(), claims.client_types().collect());
    Value::Object(members)
}
