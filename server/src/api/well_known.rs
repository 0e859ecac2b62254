//! `/.well-known/jwks.json`.

use http::{Response, StatusCode};
use serde_json::json;

use crate::base::reply::{Body, typed};

/// Returns the public keys of this server's own tokens (RFC 7517 section 5). The set is empty:
/// tokens are signed with HS256, whose key is secret.
pub fn jwks() -> Response<Body> {
    typed(StatusCode::OK, "application/jwk-set+json", json!({ "keys": [] }).to_string())
}
