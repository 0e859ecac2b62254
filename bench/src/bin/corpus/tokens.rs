//! The tokens: their claims, and the defects of the invalid ones.

use std::thread;

use countersign_bench::{AUDIENCE, ISSUER};
use serde_json::{Value, json};

use crate::sign::CorpusSigner;

/// 2020-01-01 and 2100-01-01, so that tokens do not expire during load tests.
const ISSUED: u64 = 1_577_836_800;
const EXPIRES: u64 = 4_102_444_800;

/// Defect of an invalid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenDefect {
    Expired,
    Audience,
    Issuer,
    Signature,
    Garbage,
}

/// Returns the defect of each token, in rotation. `None` for valid tokens.
pub(crate) fn plan(count: usize, share: f64) -> Vec<Option<TokenDefect>> {
    let mut defects = [
        TokenDefect::Expired,
        TokenDefect::Audience,
        TokenDefect::Issuer,
        TokenDefect::Signature,
        TokenDefect::Garbage,
    ]
    .into_iter()
    .cycle();
    (0..count).map(|index| if is_valid(index, share) { None } else { defects.next() }).collect()
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

/// Makes the tokens of a plan, one per line, on all cores.
pub(crate) fn make_tokens(
    signer: &CorpusSigner,
    plan: &[Option<TokenDefect>],
) -> Result<String, String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = plan.len().div_ceil(cores).max(1);
    thread::scope(|scope| {
        let start = |(part, defects)| scope.spawn(move || make_part(signer, part * share, defects));
        let parts: Vec<_> = plan.chunks(share).enumerate().map(start).collect();
        let joined = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|_| Err("a signing thread panicked".into())));
        joined.collect()
    })
}

fn make_part(
    signer: &CorpusSigner,
    first: usize,
    defects: &[Option<TokenDefect>],
) -> Result<String, String> {
    let mut lines = String::new();
    for (offset, defect) in defects.iter().enumerate() {
        lines.push_str(&make_token(signer, first + offset, *defect)?);
        lines.push('\n');
    }
    Ok(lines)
}

fn make_token(
    signer: &CorpusSigner,
    index: usize,
    defect: Option<TokenDefect>,
) -> Result<String, String> {
    let mut claims = claims(index);
    match defect {
        Some(TokenDefect::Expired) => claims["exp"] = json!(ISSUED + 3600),
        Some(TokenDefect::Audience) => claims["aud"] = json!("https://elsewhere.example/"),
        Some(TokenDefect::Issuer) => claims["iss"] = json!("https://unknown.example/"),
        Some(TokenDefect::Garbage) => return Ok(format!("garbage-{index}")),
        Some(TokenDefect::Signature) | None => {}
    }
    let token = signer.token(&header(signer), &claims)?;
    Ok(if defect == Some(TokenDefect::Signature) { tampered(&token) } else { token })
}

/// Replaces one character in the middle of the token's signature.
fn tampered(token: &str) -> String {
    let signature = token.rfind('.').map_or(0, |dot| dot + 1);
    let middle = signature + (token.len() - signature) / 2;
    let other = if token[middle..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &token[..middle], &token[middle + 1..])
}

fn header(signer: &CorpusSigner) -> Value {
    json!({ "alg": signer.algorithm().name(), "typ": "JWT", "kid": signer.kid() })
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
            let defects: Vec<_> = plan(50, share).into_iter().flatten().collect();
            assert_eq!(
                defects[..5],
                [
                    TokenDefect::Expired,
                    TokenDefect::Audience,
                    TokenDefect::Issuer,
                    TokenDefect::Signature,
                    TokenDefect::Garbage
                ],
                "{share}"
            );
        }
    }
}
