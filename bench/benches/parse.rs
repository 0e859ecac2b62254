//! Tracks everything before the signature check: splitting, base64url, JSON with its checks, and
//! finding the issuer. It also tracks how fast malformed tokens are rejected.
//!
//! `Verifier::claimed_issuer` does exactly this part of a verification. The peer decodes a token
//! without checking it, which is the same work.

use std::{hint::black_box, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{Keys, accepts, peers::PeerClaims};
use countersign_engine::Algorithm;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn parse(criterion: &mut Criterion) {
    let keys = Keys::generate();
    let verifier = keys.verifier(Algorithm::Rs256);
    let token = keys.token(Algorithm::Rs256, 1);
    for (name, token) in [("9 claims", token.clone()), ("100 claims", with_more_claims(&token))] {
        criterion.bench_function(&format!("parse/{name}/countersign"), |bencher| {
            bencher
                .iter(|| assert!(verifier.claimed_issuer(black_box(token.as_bytes())).is_some()));
        });
        criterion.bench_function(
            &format!("parse/{name}/jsonwebtoken, nothing checked"),
            |bencher| {
                bencher.iter(|| {
                    jsonwebtoken::dangerous::insecure_decode::<PeerClaims>(black_box(
                        token.as_bytes(),
                    ))
                    .unwrap()
                });
            },
        );
    }
    for (name, bad) in malformed(&token) {
        criterion.bench_function(&format!("parse/rejected/{name}"), |bencher| {
            bencher.iter(|| assert!(!accepts(&verifier, black_box(bad.as_bytes()))));
        });
    }
}

/// The signature no longer matches the longer payload; parsing does not check it.
fn with_more_claims(token: &str) -> String {
    rewritten(token, |claims| {
        let members = claims.as_object_mut().unwrap();
        members.extend((0..91).map(|number| (format!("claim-{number}"), Value::from(number))));
        claims.to_string()
    })
}

fn malformed(token: &str) -> [(&'static str, String); 3] {
    let mut alphabet = token.to_owned();
    alphabet.replace_range(400..401, "+");
    let duplicate =
        rewritten(token, |claims| claims.to_string().replacen('{', "{\"sub\":\"another\",", 1));
    [
        ("two segments", token.rsplit_once('.').unwrap().0.to_owned()),
        ("not base64url", alphabet),
        ("a duplicate claim", duplicate),
    ]
}

fn rewritten(token: &str, rewrite: impl FnOnce(&mut Value) -> String) -> String {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(rewrite(&mut claims)))
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(50);
    targets = parse
}
criterion_main!(benches);
