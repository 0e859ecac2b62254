//! Refusals of multi-tenancy, with the texts of Orchestrate.

use std::fmt;

use countersign_engine::header_safe;
use http::{HeaderName, Response, StatusCode};

use crate::base::{
    outcome::Outcome,
    reply::{Body, empty, typed},
};

/// The reason why a request is refused for its credential or its tenant.
///
/// The texts are those of Orchestrate, which its clients compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenancyRefusal {
    /// The API key is not one that is configured, or not for the address of the client.
    WrongKey,
    /// A header with a credential or a name occurs more than once.
    RepeatedHeader(HeaderName),
    /// The token has no claim with the configured name.
    NoClaim,
    /// The claim is `null`.
    NullClaim,
    /// The claim, or a name in it, has the wrong type or form.
    ClaimFormat,
    /// The claim names no tenant.
    EmptyTenant,
    /// The credential is not for this tenant, which is encoded.
    Tenant(String),
    /// The credential is not for this user, which is encoded.
    User(String),
}

impl TenancyRefusal {
    /// The refusal of a tenant that a request asks for.
    pub(super) fn tenant(asked: &[u8]) -> Self {
        Self::Tenant(shown_name(asked))
    }

    /// The refusal of a user that a request asks for.
    pub(super) fn user(asked: &[u8]) -> Self {
        Self::User(shown_name(asked))
    }

    /// Returns the outcome that metrics count.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::WrongKey => Outcome::WrongKey,
            Self::RepeatedHeader(_) => Outcome::Conflict,
            _ => Outcome::Tenant,
        }
    }

    /// Returns the code in a problem document, which never changes.
    #[must_use]
    pub const fn problem_code(&self) -> &'static str {
        match self {
            Self::WrongKey => "api_key",
            Self::RepeatedHeader(_) => "header_repeated",
            Self::NoClaim => "tenant_claim_missing",
            Self::NullClaim => "tenant_claim_null",
            Self::ClaimFormat => "tenant_claim_format",
            Self::EmptyTenant => "tenant_empty",
            Self::Tenant(_) => "tenant_forbidden",
            Self::User(_) => "username_forbidden",
        }
    }

    /// Returns the error code of Orchestrate.
    fn code(&self) -> &'static str {
        match self {
            Self::Tenant(_) | Self::User(_) => PERMISSION_DENIED,
            _ => UNAUTHORIZED,
        }
    }

    /// Returns the response, with the text as its body if the settings ask for one. Every refusal
    /// has the status 401, as in Orchestrate.
    #[must_use]
    pub fn response(&self, has_body: bool) -> Response<Body> {
        response(StatusCode::UNAUTHORIZED, has_body.then(|| (self.code(), self.to_string())))
    }
}

impl fmt::Display for TenancyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKey => f.write_str("invalid API key"),
            Self::RepeatedHeader(name) => write!(f, "the header {name} is repeated"),
            Self::NoClaim => f.write_str("could not get token claims: missing custom claims data"),
            Self::NullClaim => f.write_str("expected custom claims not found"),
            Self::ClaimFormat => {
                f.write_str("could not get token claims: invalid custom claims format")
            }
            Self::EmptyTenant => f.write_str("empty tenant in Access Token"),
            Self::Tenant(name) => write!(f, r#"access to tenant "{name}" forbidden"#),
            Self::User(name) => write!(f, r#"access to username "{name}" forbidden"#),
        }
    }
}

const UNAUTHORIZED: &str = "09001";
const PERMISSION_DENIED: &str = "09002";

/// Returns the response to a rejected token, or to none, with this text as its body.
#[must_use]
pub fn token_response(status: StatusCode, text: String) -> Response<Body> {
    response(status, Some((UNAUTHORIZED, text)))
}

fn response(status: StatusCode, error: Option<(&str, String)>) -> Response<Body> {
    match error {
        None => empty(status),
        Some((code, text)) => {
            typed(status, "text/plain", format!("{} {code}@: {text}\n", status.as_u16()))
        }
    }
}

/// Returns a name as it is shown in a refusal: encoded, and cut off where it is too long.
fn shown_name(name: &[u8]) -> String {
    const MAX_SHOWN_BYTES: usize = 128;
    let mut text = match std::str::from_utf8(name) {
        // A name that was encoded already has nothing else to encode.
        Ok(name) if name.bytes().all(|byte| byte.is_ascii_graphic()) => name.to_owned(),
        _ => header_safe(&String::from_utf8_lossy(name)),
    };
    text.truncate(MAX_SHOWN_BYTES);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }

    #[test]
    fn refusal_bodies_have_the_form_of_orchestrate() {
        for (refusal, expected) in [
            (TenancyRefusal::WrongKey, "401 09001@: invalid API key\n"),
            (TenancyRefusal::tenant(b"bar"), "401 09002@: access to tenant \"bar\" forbidden\n"),
            (TenancyRefusal::user(b"u"), "401 09002@: access to username \"u\" forbidden\n"),
            (
                TenancyRefusal::NoClaim,
                "401 09001@: could not get token claims: missing custom claims data\n",
            ),
            (TenancyRefusal::NullClaim, "401 09001@: expected custom claims not found\n"),
        ] {
            assert_eq!(body(refusal.response(true)), expected);
            assert_eq!(body(refusal.response(false)), "");
        }
    }

    #[test]
    fn names_in_refusals_are_encoded_and_short() {
        assert_eq!(shown_name(b"a\r\nb"), "a%0D%0Ab");
        assert_eq!(shown_name("é".as_bytes()), "%C3%A9");
        assert_eq!(shown_name(&[b'a'; 1000]).len(), 128);
        assert_eq!(shown_name(b"\xff \xff").len(), 21);
    }
}
