//! Behaviours observed of the real Inmanta server, by their numbers in our table, and as we decided
//! where we differ.
//!
//! Some are tested elsewhere under the same numbers: 34 to 37, 40 and 80 in
//! [`config`](crate::config), 39 in [`keys`](crate::keys), 41 in [`cli`](crate::cli), 43 in
//! [`inmanta`](crate::inmanta), and 45 to 59 in [`users`](crate::users). 44 is about a call that
//! Countersign does not implement. 60, 64 to 67, 69 to 71, 73 and 75 to 78 are about policies that
//! are not implemented yet. They will extend 61 and 72.

/// 1 to 33: requirements on tokens.
mod tokens;
/// 38, 42, 62 and 79: effects of section and server options.
mod options;
/// 61, 63, 68, 72 and 74: the implemented part of the default policy.
mod policy;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{binary::Server, openssl};
use serde_json::{Value, json};

use crate::{
    fixture::{self, KEY},
    users::Api,
};

/// Returns a token of the guide's section, [`fixture::SIGNING`], with one claim set, possibly to
/// null.
fn with_claim(name: &str, value: Value) -> String {
    let mut claims = fixture::claims(json!({}));
    claims[name] = value;
    fixture::token(&claims)
}

fn without_claim(name: &str) -> String {
    fixture::token(&fixture::claims(json!({ name: null })))
}

/// Returns a token with this header, signed with the guide's key, [`KEY`].
fn with_header(header: Value, issuer: &str) -> String {
    openssl::hs256(
        &URL_SAFE_NO_PAD.decode(KEY).unwrap(),
        &header,
        &fixture::claims(json!({ "iss": issuer, "aud": "inm" })),
    )
}

/// Checks that the server refuses a token with this text after `Access denied`.
#[track_caller]
fn refused(server: &Server<'_>, token: &str, text: &str) {
    let answer = Api::bearing(server, token).ask("GET /health");
    let message =
        if text.is_empty() { "Access denied".to_owned() } else { format!("Access denied: {text}") };
    assert_eq!((answer.status, answer.json()), (403, json!({ "message": message })), "{token}");
}

#[track_caller]
fn accepted(server: &Server<'_>, token: &str) {
    let answer = Api::bearing(server, token).ask("GET /health");
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"data":null}"#), "{token}");
}
