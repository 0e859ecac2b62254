//! The configuration of a server that accepts the tokens of a [`Corpus`](super::Corpus).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{
    keys::{TestKey, TokenSigner as _},
    tokens::{AUDIENCE, ISSUER},
};

/// Returns the options of the configuration, by section and name.
#[must_use]
pub fn options(key: &TestKey) -> Vec<(&'static str, &'static str, String)> {
    let verification_key = match key.secret() {
        Some(secret) => URL_SAFE_NO_PAD.encode(secret),
        None => json!({ "keys": [key.jwk()] }).to_string(),
    };
    let issuer = [
        ("algorithms", key.algorithm().name()),
        ("client_types", "api"),
        ("issuer", ISSUER),
        ("audience", AUDIENCE),
        ("jwt_username_claim", "preferred_username"),
        ("key", &verification_key),
    ];
    // All load comes from one address, and some tokens are invalid on purpose.
    let limits = [
        ("bad_signatures_per_core", "off"),
        ("bad_signatures_per_issuer", "off"),
        ("bad_signatures_per_source", "off"),
    ];
    let of = |section, options: &[(&'static str, &str)]| -> Vec<_> {
        options.iter().map(|(option, text)| (section, *option, (*text).to_owned())).collect()
    };
    let listen = [("protocols", "http/1.1, h2")];
    [of("auth_jwt_loadtest", &issuer), of("limits", &limits), of("listen", &listen)].concat()
}
