//! The behaviours that the real system was observed to have, by the numbers of our table
//! of them, and as we have decided where we differ.
//!
//! Some are topics elsewhere, under the same numbers: 34 to 37, 40 and 80 in `config`, 39
//! in `keys`, 41 in `cli`, 43 in `inmanta`, and 45 to 59 in `users`. 44 is of a call that
//! we do not have. 60, 64 to 67, 69 to 71, 73 and 75 to 78 are of policies that are not
//! here yet; 61 and 72 will have more to say then.

/// 1 to 33: what a token has to be.
mod tokens;
/// 38, 42, 62 and 79: what sections and the server's options change.
mod options;
/// 61, 63, 68, 72 and 74: what of the default policy is here.
mod policy;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{binary::Server, openssl};
use serde_json::{Value, json};

use crate::{
    given::{self, KEY},
    users::Api,
};

/// A token of the guide's section with one claim set, to null too.
fn claiming(name: &str, value: Value) -> String {
    let mut claims = given::claims(json!({}));
    claims[name] = value;
    given::token(&claims)
}

fn without(name: &str) -> String {
    given::token(&given::claims(json!({ name: null })))
}

/// A token of this header, signed by the guide's key.
fn headed(header: Value, issuer: &str) -> String {
    openssl::hs256(
        &URL_SAFE_NO_PAD.decode(KEY).unwrap(),
        &header,
        &given::claims(json!({ "iss": issuer, "aud": "inm" })),
    )
}

/// Checks that a server refuses a token with this text behind `Access denied`.
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
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{token}");
}
