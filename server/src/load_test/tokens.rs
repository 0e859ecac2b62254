//! The tokens of a corpus: their claims, and the defects of the invalid ones.

use std::thread;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::keys::TokenSigner;
use crate::observe::answer_judge::TokenKind;

/// The issuer of the tokens.
pub const ISSUER: &str = "https://corpus.countersign.example/";
/// The audience of the tokens.
pub const AUDIENCE: &str = "https://service.countersign.example/";

/// 2020-01-01 and 2100-01-01, so that tokens do not expire during load tests.
const ISSUED: u64 = 1_577_836_800;
const EXPIRES: u64 = 4_102_444_800;

/// Returns the kind of each of `count` tokens, of which a `share` is valid. The others have the
/// defects in rotation.
#[must_use]
pub fn plan(count: usize, share: f64) -> Vec<TokenKind> {
    let mut defects = TokenKind::DEFECTS.into_iter().cycle();
    let defect = |index| (!is_valid(index, share)).then(|| defects.next()).flatten();
    (0..count).map(defect).map(|defect| defect.unwrap_or(TokenKind::Valid)).collect()
}

/// Whether the token at `index` is valid. Valid tokens are spread evenly: in any prefix,
/// their number is `share` of the tokens, to within one.
fn is_valid(index: usize, share: f64) -> bool {
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a corpus has far fewer than 2^52 tokens"
    )]
    let good_before = |count: usize| (count as f64 * share + 1e-9) as usize;
    good_before(index + 1) > good_before(index)
}

/// Makes the tokens of a plan, on all cores.
///
/// # Errors
/// A signature cannot be made.
pub fn make_tokens(signer: &impl TokenSigner, plan: &[TokenKind]) -> Result<Vec<String>, String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = plan.len().div_ceil(cores).max(1);
    let parts = thread::scope(|scope| {
        let start = |(part, kinds)| scope.spawn(move || make_part(signer, part * share, kinds));
        let parts: Vec<_> = plan.chunks(share).enumerate().map(start).collect();
        let joined = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|_| Err("a signing thread panicked".into())));
        joined.collect::<Result<Vec<_>, _>>()
    });
    Ok(parts?.concat())
}

fn make_part(
    signer: &impl TokenSigner,
    first: usize,
    kinds: &[TokenKind],
) -> Result<Vec<String>, String> {
    kinds
        .iter()
        .enumerate()
        .map(|(offset, kind)| make_token(signer, first + offset, *kind))
        .collect()
}

fn make_token(signer: &impl TokenSigner, index: usize, kind: TokenKind) -> Result<String, String> {
    let mut claims = claims(index);
    match kind {
        TokenKind::Expired => claims["exp"] = json!(ISSUED + 3600),
        TokenKind::Audience => claims["aud"] = json!("https://elsewhere.example/"),
        TokenKind::Issuer => claims["iss"] = json!("https://unknown.example/"),
        TokenKind::Garbage => return Ok(format!("garbage-{index}")),
        _ => {}
    }
    let token = sign_token(signer, &claims)?;
    Ok(if kind == TokenKind::Signature { tampered(&token) } else { token })
}

/// Signs a compact JWT.
///
/// # Errors
/// The signature cannot be made.
pub fn sign_token(signer: &impl TokenSigner, claims: &Value) -> Result<String, String> {
    let header = json!({ "alg": signer.algorithm().name(), "typ": "JWT", "kid": signer.kid() });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signing_input = format!("{}.{}", encode(&header), encode(claims));
    let signature = signer.sign(signing_input.as_bytes()).ok_or("signing failed")?;
    Ok(format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Replaces one character in the middle of the token's signature.
fn tampered(token: &str) -> String {
    let signature = token.rfind('.').map_or(0, |dot| dot + 1);
    let middle = signature + (token.len() - signature) / 2;
    let other = if token[middle..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &token[..middle], &token[middle + 1..])
}

/// Returns the claims that an identity provider typically puts into an access token.
fn claims(index: usize) -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": format!("9f1c7a52-0d4e-4b1e-8a56-{index:012x}"),
        "iat": ISSUED,
        "exp": EXPIRES,
        "jti": format!("5d0f3c1e-77aa-4c7e-9b1d-{index:012x}"),
        "azp": "countersign-load",
        "scope": "openid profile email",
        "preferred_username": format!("user-{index:06}"),
        "email": format!("user-{index:06}@corpus.countersign.example"),
        "urn:inmanta:ct": "api",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_share_of_valid_tokens_is_exact() {
        let good = |count, share| (0..count).filter(|index| is_valid(*index, share)).count();
        assert_eq!(good(1000, 1.0), 1000);
        assert_eq!(good(1000, 0.0), 0);
        assert_eq!(good(1000, 0.9), 900);
        assert_eq!(good(10, 0.5), 5);
        assert_eq!(good(100, 0.07), 7);
    }

    #[test]
    fn corpus_contains_every_defect() {
        for share in [0.0, 0.5, 0.8, 0.9] {
            let kinds = plan(50, share).into_iter().filter(|kind| *kind != TokenKind::Valid);
            assert_eq!(kinds.take(5).collect::<Vec<_>>(), TokenKind::DEFECTS, "{share}");
        }
    }
}
