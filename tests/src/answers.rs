//! Assertions on the responses of `/auth`.

use crate::http::Response;

/// Identity headers of an allowing response, in order.
pub const IDENTITY: [&str; 6] = [
    "x-auth-subject",
    "x-auth-user",
    "x-auth-issuer",
    "x-auth-client-types",
    "x-auth-environment",
    "x-auth-tenant",
];

/// Checks a refusal with status 401: its challenge, and [no identity](assert_no_identity).
#[track_caller]
pub fn assert_refused(response: &Response, challenge: &str) {
    assert_eq!(response.status, 401, "{response:?}");
    assert_eq!(response.header("www-authenticate"), Some(challenge));
    assert_no_identity(response);
}

/// Checks that a refusal, whatever its status, has no body and no header of [`IDENTITY`].
#[track_caller]
pub fn assert_no_identity(response: &Response) {
    assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    assert_eq!(response.body, "");
    assert!(IDENTITY.iter().all(|name| response.header(name).is_none()), "{response:?}");
}

/// Challenge of RFC 6750 for a token refused for this reason.
pub fn invalid_token(reason: impl std::fmt::Display) -> String {
    format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"")
}
