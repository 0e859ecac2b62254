//! `countersign corpus`: deterministic tokens for load tests, the same on every machine.

mod sign;

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    thread,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::KeyType;
use serde_json::{Value, json};
use sign::CorpusSigner;

use super::{CommandError, arguments::CorpusArgs, print};

const ISSUER: &str = "https://corpus.countersign.example/";
const AUDIENCE: &str = "https://service.countersign.example/";
/// 2020-01-01 and 2100-01-01, so that tokens do not expire during load tests.
const ISSUED: u64 = 1_577_836_800;
const EXPIRES: u64 = 4_102_444_800;

pub(super) fn run(args: &CorpusArgs) -> Result<(), CommandError> {
    let signer = CorpusSigner::new(args.alg).map_err(CommandError::failed)?;
    let directory = make_directory(&args.out)?;
    let plan = plan(args.count, args.valid);
    let tokens = make_tokens(&signer, &plan)?;
    let statuses: String =
        plan.iter().map(|defect| if defect.is_none() { "200\n" } else { "401\n" }).collect();
    let jwks = directory.join("jwks.json");
    write(&directory.join("tokens.txt"), &tokens)?;
    write(&directory.join("expected.txt"), &statuses)?;
    write(&jwks, &format!("{:#}\n", json!({ "keys": [signer.jwk()] })))?;
    write(&directory.join("countersign.cfg"), &configuration(&signer, &jwks))?;
    let good = plan.iter().filter(|defect| defect.is_none()).count();
    print(format_args!("{} tokens ({good} good) in {}", args.count, directory.display()))?;
    print(format_args!(
        "start a server for them: countersign serve --config {}",
        directory.join("countersign.cfg").display()
    ))?;
    Ok(())
}

/// Defect of an invalid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenDefect {
    Expired,
    Audience,
    Issuer,
    Signature,
    Garbage,
}

/// Returns the defect of each token, in rotation. `None` for valid tokens.
fn plan(count: usize, share: f64) -> Vec<Option<TokenDefect>> {
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

fn make_tokens(
    signer: &CorpusSigner,
    plan: &[Option<TokenDefect>],
) -> Result<String, CommandError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = plan.len().div_ceil(cores).max(1);
    let parts = thread::scope(|scope| {
        let start = |(part, defects)| scope.spawn(move || make_part(signer, part * share, defects));
        let parts: Vec<_> = plan.chunks(share).enumerate().map(start).collect();
        let joined = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|_| Err("a signing thread panicked".into())));
        joined.collect::<Result<String, _>>()
    });
    parts.map_err(CommandError::failed)
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

fn configuration(signer: &CorpusSigner, jwks: &Path) -> String {
    let algorithm = signer.algorithm();
    let mut text = format!(
        "# Generated by `countersign corpus`. The keys are part of the program and\n\
         # public: for load tests only.\n\
         [auth_jwt_corpus]\n\
         algorithms={algorithm}\n\
         sign=false\n\
         client_types=api\n\
         issuer={ISSUER}\n\
         audience={AUDIENCE}\n\
         jwt_username_claim=preferred_username\n"
    );
    let _ignored = match signer.secret() {
        Some(secret) if algorithm.key_type() == KeyType::Secret => {
            writeln!(text, "key={}", URL_SAFE_NO_PAD.encode(secret))
        }
        _ => writeln!(text, "jwks_uri=file://{}", jwks.display()),
    };
    text + "\n\
         # All load comes from one address, and some tokens are invalid on purpose.\n\
         [limits]\n\
         bad_signatures_per_core=off\n\
         bad_signatures_per_issuer=off\n\
         bad_signatures_per_source=off\n\
         \n\
         # Every configuration needs a section that signs.\n\
         [auth_jwt_default]\n\
         algorithm=HS256\n\
         sign=true\n\
         client_types=agent,compiler,api\n\
         key=Y291bnRlcnNpZ24tY29ycHVzLW5vdC1hLXNlY3JldCE\n\
         expire=3600\n\
         issuer=https://localhost:8888/\n\
         audience=https://localhost:8888/\n"
}

#[expect(clippy::disallowed_methods, reason = "the command writes files")]
fn make_directory(path: &Path) -> io::Result<PathBuf> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path).and_then(|()| path.canonicalize()).map_err(named)
}

#[expect(clippy::disallowed_methods, reason = "the command writes files")]
fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
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
