//! `/.well-known/jwks.json`.

use http::{Response, StatusCode};
use serde_json::json;

use crate::http::{Body, typed};

/// The public keys of our own tokens (RFC 7517 section 5). They are signed with
/// HS256, whose key is a secret, so the set is empty: an `oct` key never shows.
pub(super) fn jwks() -> Response<Body> {
    typed(StatusCode::OK, "application/jwk-set+json", json!({ "keys": [] }).to_string())
}
