//! RSA signatures in lanes, compared with aws-lc.

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, IssuerConfig, KeyMaterial, KeySet, Reject, RsaImplementation, VerificationKey,
    Verified, Verifier,
};

use super::{AUDIENCE, ISSUER, NOW};

/// Keys and genuine tokens.
const TOKENS: &str = include_str!("rsa_tokens.txt");
/// Most tokens of a batch: several groups of lanes.
const MAX_TOKENS: usize = 40;

/// A genuine token, and the modulus of its key.
struct GenuineToken {
    signed: &'static str,
    signature: Vec<u8>,
    modulus: Vec<u8>,
}

/// The genuine tokens, and a verifier with lanes and one without.
struct RsaFixture {
    tokens: Vec<GenuineToken>,
    verifiers: [Verifier; 2],
}

/// Fuzz target: a batch of tokens, four bytes each: the genuine token, how its signature is damaged,
/// where, and by which bits. Lanes accept the signatures that aws-lc accepts, in every position.
pub fn rsa_lanes(data: &[u8]) {
    let fixture = fixture();
    let (chosen, _) = data.as_chunks::<4>();
    let tokens: Vec<_> = chosen.iter().take(MAX_TOKENS).map(|of| fixture.token(*of)).collect();
    let borrowed: Vec<_> = tokens.iter().map(String::as_bytes).collect();
    let [in_lanes, by_aws_lc] = fixture.verifiers.each_ref().map(|verifier| {
        let mut results: Vec<_> = borrowed.iter().map(|_| Err(Reject::TooLong)).collect();
        verifier.verify_batch(&borrowed, NOW, &mut results);
        results.iter().map(verdict).collect::<Vec<_>>()
    });
    assert_eq!(in_lanes, by_aws_lc);
    for ([_, damage, ..], verdict) in chosen.iter().zip(&in_lanes) {
        assert!(*damage >= DAMAGES || *verdict == Ok(()), "a genuine token is rejected");
    }
}

fn verdict(result: &Result<Verified<'_>, Reject>) -> Result<(), Reject> {
    result.as_ref().map(drop).map_err(|reject| *reject)
}

/// Number of second bytes that damage nothing.
const DAMAGES: u8 = 64;

impl RsaFixture {
    fn token(&self, [index, damage, place, bits]: [u8; 4]) -> String {
        let genuine = &self.tokens[usize::from(index) % self.tokens.len()];
        let mut signature = genuine.signature.clone();
        let (length, place) = (signature.len(), usize::from(place) * 2 % signature.len());
        match damage {
            ..DAMAGES => {}
            64..128 => signature[place] ^= bits,
            128..144 => signature = vec![bits; length],
            144..160 => signature = with_last(&genuine.modulus, bits),
            160..176 => signature = with_last(&vec![0; length], bits),
            176..192 => signature[..place].fill(bits),
            192..208 => signature[place..].fill(bits),
            208..224 => signature.truncate(place),
            224..240 => signature.insert(0, bits),
            _ => signature.reverse(),
        }
        format!("{}.{}", genuine.signed, URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Returns a number whose last byte is moved by a signed distance, without a carry.
fn with_last(number: &[u8], distance: u8) -> Vec<u8> {
    let mut number = number.to_vec();
    if let Some(last) = number.last_mut() {
        *last = last.wrapping_add(distance);
    }
    number
}

fn fixture() -> &'static RsaFixture {
    static FIXTURE: OnceLock<RsaFixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let (mut tokens, mut keys) = (Vec::new(), Vec::new());
        let mut current = (Vec::new(), Vec::new());
        for line in TOKENS.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("a complete line");
            match word() {
                "key" => {
                    let exponent: u32 = word().parse().expect("an exponent");
                    current = (bytes_of(word()), exponent.to_be_bytes().to_vec());
                }
                algorithm => {
                    let (signed, signature) = word().rsplit_once('.').expect("a token");
                    keys.push(key(algorithm, keys.len() / 6, (&current.0, &current.1)));
                    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
                    tokens.push(GenuineToken { signed, signature, modulus: current.0.clone() });
                }
            }
        }
        let keys = Arc::new(KeySet::new(keys));
        let verifiers = [RsaImplementation::Auto, RsaImplementation::AwsLc].map(|implementation| {
            let issuer = IssuerConfig::new(ISSUER, AUDIENCE, Algorithm::ALL.iter().copied());
            let builder = Verifier::builder().issuer(issuer, Arc::clone(&keys)).cache_bytes(0);
            builder.rsa(implementation).build().expect("valid settings")
        });
        RsaFixture { tokens, verifiers }
    })
}

/// Returns the key of a token, whose `kid` has the number of the key and the algorithm.
fn key(algorithm: &str, number: usize, (n, e): (&[u8], &[u8])) -> VerificationKey {
    let name = format!("{number}-{algorithm}");
    let algorithm = Algorithm::ALL.iter().find(|one| one.name() == algorithm);
    let algorithm = *algorithm.expect("a known algorithm");
    VerificationKey::new(Some(&name), algorithm, KeyMaterial::Rsa { n, e }).expect("a valid key")
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| byte(pair).expect("hexadecimal digits")).collect()
}
