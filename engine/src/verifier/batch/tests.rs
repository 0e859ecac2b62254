use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair},
};
use proptest::prelude::*;

use super::*;
use crate::{
    algorithm::Algorithm,
    cache::CacheStatistics,
    issuer::IssuerConfig,
    keyset::{KeyIdentity, KeyMaterial, KeySet},
};

const NOW: UnixTime = UnixTime(1_700_000_000);
const SECRET: [u8; 32] = [7; 32];

/// Key pairs of the tests: three of 2048 bits, and one of 3072.
static PAIRS: LazyLock<[RsaKeyPair; 4]> = LazyLock::new(|| {
    [KeySize::Rsa2048, KeySize::Rsa2048, KeySize::Rsa2048, KeySize::Rsa3072]
        .map(|size| RsaKeyPair::generate(size).unwrap())
});

/// Tokens of every kind: see [`tokens`].
static TOKENS: LazyLock<Vec<String>> = LazyLock::new(tokens);

fn public(pair: usize, kid: Option<&str>, algorithm: Algorithm) -> VerificationKey {
    let pair = &PAIRS[pair];
    // The end of an RSAPublicKey: the modulus, and the integer 65537.
    let der = pair.public_key().as_ref();
    let end = der.len() - 5;
    let n = &der[end - pair.public_modulus_len()..end];
    VerificationKey::new(kid, algorithm, KeyMaterial::Rsa { n, e: &[1, 0, 1] }).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

fn signing_input(algorithm: Algorithm, kid: Option<&str>, claims: &str) -> String {
    let kid = kid.map(|kid| format!(r#","kid":"{kid}""#)).unwrap_or_default();
    let header = format!(r#"{{"alg":"{algorithm}"{kid}}}"#);
    format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()))
}

fn signed(pair: usize, algorithm: Algorithm, kid: Option<&str>, claims: &str) -> String {
    let input = signing_input(algorithm, kid, claims);
    let encoding: &'static dyn RsaEncoding =
        if algorithm == Algorithm::Ps256 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
    let mut signature = vec![0; PAIRS[pair].public_modulus_len()];
    let random = SystemRandom::new();
    PAIRS[pair].sign(encoding, &random, input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", encode(&signature))
}

fn claims(issuer: &str, subject: usize, expires: u64) -> String {
    format!(r#"{{"iss":"{issuer}","aud":"api","sub":"{subject}","exp":{expires}}}"#)
}

fn tokens() -> Vec<String> {
    let (rs256, ps256) = (Algorithm::Rs256, Algorithm::Ps256);
    let (later, past) = (NOW.0 + 60, NOW.0 - 60);
    let mut tokens = Vec::new();
    for subject in 0..20 {
        tokens.push(signed(0, rs256, Some("a"), &claims("rsa", subject, later)));
        tokens.push(signed(1, ps256, Some("b"), &claims("rsa", subject, later)));
    }
    for subject in 0..6 {
        tokens.push(signed(3, rs256, Some("long"), &claims("rsa", subject, later)));
        // Signed by another key, expired, and of an unknown key, algorithm or issuer.
        tokens.push(signed(2, rs256, Some("a"), &claims("rsa", subject, later)));
        tokens.push(signed(0, rs256, Some("a"), &claims("rsa", subject, past)));
        tokens.push(signed(0, rs256, Some("c"), &claims("rsa", subject, later)));
        tokens.push(signed(0, rs256, Some("b"), &claims("rsa", subject, later)));
        tokens.push(signed(0, rs256, Some("a"), &claims("other", subject, later)));
        // One of three keys without a name made the signature, or none.
        tokens.push(signed(subject % 4, rs256, None, &claims("unnamed", subject, later)));
        let input = signing_input(Algorithm::Hs256, None, &claims("secret", subject, later));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), input.as_bytes());
        tokens.push(format!("{input}.{}", encode(tag.as_ref())));
        // A signature that is too short, or no base64url.
        tokens.push(format!("{}.AAAA", signing_input(rs256, Some("a"), &claims("rsa", 0, later))));
        tokens.push(format!("{}.A", signing_input(rs256, Some("a"), &claims("rsa", 1, later))));
    }
    tokens.extend(["", "..", "a.b.c"].map(str::to_owned));
    tokens
}

fn rsa_keys(with_a: bool) -> KeySet {
    let mut keys =
        vec![public(1, Some("b"), Algorithm::Ps256), public(3, Some("long"), Algorithm::Rs256)];
    keys.extend(with_a.then(|| public(0, Some("a"), Algorithm::Rs256)));
    KeySet::published(keys)
}

fn verifier(cache_bytes: usize, rsa: RsaImplementation) -> Verifier {
    let secret = KeyMaterial::Secret(&SECRET);
    let secret = VerificationKey::new(None, Algorithm::Hs256, secret).unwrap();
    let unnamed = (0..3).map(|pair| public(pair, None, Algorithm::Rs256)).collect();
    let rsa_algorithms = [Algorithm::Rs256, Algorithm::Ps256];
    Verifier::builder()
        .issuer(IssuerConfig::new("rsa", "api", rsa_algorithms), rsa_keys(true))
        .issuer(IssuerConfig::new("unnamed", "api", rsa_algorithms), KeySet::published(unnamed))
        .issuer(IssuerConfig::new("secret", "api", [Algorithm::Hs256]), KeySet::new(vec![secret]))
        .cache_bytes(cache_bytes)
        .rsa(rsa)
        .build()
        .unwrap()
}

/// What a caller sees of a result.
type VisibleResult = Result<(String, KeyIdentity, bool), Reject>;

fn visible(result: &TokenResult<'_>) -> VisibleResult {
    let verified = result.as_ref().map_err(|reject| *reject)?;
    let subject = verified.claims().subject().unwrap().to_owned();
    Ok((subject, verified.key(), verified.is_cached()))
}

/// Results, admitted checks and counters of the cache.
type Observation = (Vec<VisibleResult>, Vec<(Box<str>, Algorithm)>, Option<CacheStatistics>);

/// Admits all checks but every `refused`-th.
fn admission<'l>(
    log: &'l mut Vec<(Box<str>, Algorithm)>,
    refused: usize,
) -> impl FnMut(&SignatureCheck<'_>) -> bool + 'l {
    move |check| {
        log.push((check.issuer.name.clone(), check.algorithm));
        !log.len().is_multiple_of(refused)
    }
}

fn one_at_a_time(verifier: &Verifier, tokens: &[&[u8]], refused: usize) -> Observation {
    let mut log = Vec::new();
    let mut admit = admission(&mut log, refused);
    let results = tokens
        .iter()
        .map(|token| visible(&verifier.verify_if(token, NOW, Presentation::default(), &mut admit)))
        .collect();
    drop(admit);
    (results, log, verifier.cache_statistics())
}

fn in_a_batch(verifier: &Verifier, tokens: &[&[u8]], refused: usize) -> Observation {
    let mut log = Vec::new();
    let mut results: Vec<_> = tokens.iter().map(|_| Err(Reject::TooLong)).collect();
    verifier.verify_batch_if(tokens, NOW, admission(&mut log, refused), &mut results);
    (results.iter().map(visible).collect(), log, verifier.cache_statistics())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A batch before a change of keys and one after it, with repeated tokens in both.
    #[test]
    fn batch_results_are_those_of_one_at_a_time(
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 0..150),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        refused in 2usize..40,
        has_cache in any::<bool>(),
        keeps_keys in any::<bool>(),
        uses_lanes in any::<bool>(),
    ) {
        let rsa = if uses_lanes { RsaImplementation::Auto } else { RsaImplementation::AwsLc };
        let [batch, single] = [rsa, RsaImplementation::AwsLc]
            .map(|rsa| verifier(if has_cache { 8 << 20 } else { 0 }, rsa));
        for round in [chosen, again] {
            let tokens: Vec<_> =
                round.iter().map(|index| index.get(&TOKENS).as_bytes()).collect();
            prop_assert_eq!(
                in_a_batch(&batch, &tokens, refused),
                one_at_a_time(&single, &tokens, refused)
            );
            for verifier in [&batch, &single] {
                let keys = Arc::new(rsa_keys(keeps_keys));
                verifier.update(|snapshot| snapshot.set_keys("rsa", Some(&keys))).unwrap();
            }
        }
    }
}

#[test]
fn batch_of_other_length_than_its_results_ends_early() {
    let verifier = verifier(0, RsaImplementation::Auto);
    let tokens: Vec<_> = TOKENS[..20].iter().map(|token| token.as_bytes()).collect();
    for (tokens, length) in [(&tokens[..], 9), (&tokens[..3], 9), (&[], 2), (&tokens[..], 0)] {
        let mut results: Vec<_> = (0..length).map(|_| Err(Reject::TooLong)).collect();
        verifier.verify_batch(tokens, NOW, &mut results);
        let verified = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(verified, tokens.len().min(length));
    }
}
