//! Comparison of the lanes with aws-lc, ring and textbook arithmetic.
//!
//! `vectors.txt` has moduli of adverse shapes, and for each of them signatures that are valid, or
//! whose block differs from a valid one in a single respect. Its keys and signatures were made with
//! Python's integers.

#![cfg(test)]

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self as aws, KeyPair as _, RsaEncoding},
};

use super::{
    RsaImplementation, RsaKey, ifma,
    lanes::{RsaCheck, verify_all},
    montgomery::LANES,
    parse,
    random::RandomNumbers,
};
use crate::algorithm::Algorithm;

/// The message of all signatures in `vectors.txt`.
const MESSAGE: &[u8] = b"message";

/// A key, for each RSA algorithm, and its signatures.
struct VectorKey {
    name: &'static str,
    n: Vec<u8>,
    e: Vec<u8>,
    keys: Vec<(Algorithm, RsaKey)>,
    signatures: Vec<VectorSignature>,
}

struct VectorSignature {
    algorithm: Algorithm,
    is_valid: bool,
    name: &'static str,
    bytes: Vec<u8>,
}

impl VectorKey {
    fn new(name: &'static str, e: u32, n: &str) -> Self {
        let n = bytes_of(n);
        let e = e.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let keys = RSA.map(|algorithm| (algorithm, parse(algorithm, &n, &e).unwrap()));
        Self { name, n, e, keys: keys.into(), signatures: Vec::new() }
    }

    fn key(&self, algorithm: Algorithm) -> &RsaKey {
        &self.keys.iter().find(|(of, _)| *of == algorithm).unwrap().1
    }

    fn check<'c>(&'c self, algorithm: Algorithm, signature: &'c [u8]) -> RsaCheck<'c> {
        RsaCheck { key: self.key(algorithm), message: MESSAGE, signature }
    }

    /// The verdict of ring.
    fn ring_accepts(&self, algorithm: Algorithm, signature: &[u8]) -> bool {
        let key = ring::signature::RsaPublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(ring_parameters(algorithm), MESSAGE, signature).is_ok()
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

fn ring_parameters(algorithm: Algorithm) -> &'static ring::signature::RsaParameters {
    match algorithm {
        Algorithm::Rs256 => &ring::signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &ring::signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &ring::signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &ring::signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &ring::signature::RSA_PSS_2048_8192_SHA384,
        _ => &ring::signature::RSA_PSS_2048_8192_SHA512,
    }
}

fn vectors() -> Vec<VectorKey> {
    let mut keys: Vec<VectorKey> = Vec::new();
    for line in include_str!("vectors.txt").lines() {
        match *line.split(' ').collect::<Vec<_>>() {
            ["key", name, e, n] => keys.push(VectorKey::new(name, e.parse().unwrap(), n)),
            ["signature", algorithm, verdict, name, bytes] => {
                keys.last_mut().unwrap().signatures.push(VectorSignature {
                    algorithm: Algorithm::from_name(algorithm).unwrap(),
                    is_valid: verdict == "valid",
                    name,
                    bytes: bytes_of(bytes),
                });
            }
            _ => panic!("{line}"),
        }
    }
    keys
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap();
    let byte = |pair: &[u8; 2]| u8::try_from(16 * digit(pair[0]) + digit(pair[1])).unwrap();
    hex.as_bytes().as_chunks::<2>().0.iter().map(byte).collect()
}

fn in_lanes(checks: &[RsaCheck<'_>]) -> Vec<bool> {
    let mut is_valid = vec![false; checks.len()];
    verify_all(checks.iter().copied().enumerate(), RsaImplementation::Auto, &mut is_valid);
    is_valid
}

fn alone(check: &RsaCheck<'_>) -> bool {
    check.key.verify(check.message, check.signature)
}

/// Whether there are lanes. Reports the test as skipped on standard error, since the test runner
/// captures the output of passing tests.
pub(super) fn has_lanes() -> bool {
    use std::io::Write as _;
    if !ifma::is_available() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        drop(writeln!(std::io::stderr(), "SKIPPED: {test}: the processor lacks AVX-512 IFMA"));
    }
    ifma::is_available()
}

#[test]
fn rsa_vectors_agree_in_every_lane() {
    if !has_lanes() {
        return;
    }
    let mut count = 0;
    for key in vectors() {
        let good = key.signatures.iter().find(|one| one.is_valid).unwrap();
        for one in &key.signatures {
            let name = (key.name, one.algorithm, one.name);
            let check = key.check(one.algorithm, &one.bytes);
            assert!(check.fits_lanes(), "{name:?}");
            assert_eq!(alone(&check), one.is_valid, "aws-lc: {name:?}");
            assert_eq!(key.ring_accepts(one.algorithm, &one.bytes), one.is_valid, "{name:?}");
            assert_eq!(in_lanes(&[check]), [one.is_valid], "{name:?}");
            for lane in 0..LANES {
                let mut checks = [key.check(good.algorithm, &good.bytes); LANES];
                checks[lane] = check;
                let mut expected = [true; LANES];
                expected[lane] = one.is_valid;
                assert_eq!(in_lanes(&checks), expected, "{name:?}");
                count += 1;
            }
        }
    }
    assert!(count > 900, "{count}");
}

/// Signatures of all keys in one call: several sizes, exponents and algorithms.
#[test]
fn rsa_signatures_of_many_keys_keep_their_order() {
    if !has_lanes() {
        return;
    }
    let keys = vectors();
    let mut all: Vec<_> =
        keys.iter().flat_map(|key| key.signatures.iter().map(move |one| (key, one))).collect();
    let mut random = RandomNumbers::new(1);
    for length in (0..40).chain([all.len()]) {
        for index in (1..all.len()).rev() {
            all.swap(index, random.below(index + 1));
        }
        let chosen = &all[..length];
        let checks: Vec<_> =
            chosen.iter().map(|(key, one)| key.check(one.algorithm, &one.bytes)).collect();
        let expected: Vec<_> = chosen.iter().map(|(_, one)| one.is_valid).collect();
        assert_eq!(in_lanes(&checks), expected);
        let mut by_aws_lc = vec![false; length];
        let implementation = RsaImplementation::AwsLc;
        verify_all(checks.into_iter().enumerate(), implementation, &mut by_aws_lc);
        assert_eq!(by_aws_lc, expected);
    }
}

/// Numbers at the edges of the range, and signatures of the wrong length.
#[test]
fn rsa_signature_at_the_edge_of_the_range_agrees() {
    if !has_lanes() {
        return;
    }
    for key in vectors() {
        let good = &key.signatures[0];
        for (edge, is_in_range) in edges(&key.n) {
            for algorithm in [Algorithm::Rs256, Algorithm::Ps256] {
                let check = key.check(algorithm, &edge);
                assert_eq!(check.fits_lanes(), is_in_range, "{} {edge:x?}", key.name);
                let others = key.check(good.algorithm, &good.bytes);
                let mut checks = [others; LANES];
                checks[1] = check;
                let expected = core::array::from_fn::<_, LANES, _>(|lane| lane != 1);
                assert_eq!(in_lanes(&checks), expected);
                assert_eq!(in_lanes(&[check]), [false]);
                assert!(!alone(&check) && !key.ring_accepts(algorithm, &edge), "{}", key.name);
            }
        }
    }
}

/// Numbers, and whether each is as long as n and below it.
fn edges(n: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let near = |difference: i8| {
        let mut number = n.to_vec();
        for byte in number.iter_mut().rev() {
            let carries = *byte == if difference == 1 { 0xff } else { 0 };
            *byte = byte.wrapping_add_signed(difference);
            if !carries {
                break;
            }
        }
        number
    };
    let small = |number: u8| {
        let mut bytes = vec![0; n.len()];
        *bytes.last_mut().unwrap() = number;
        bytes
    };
    vec![
        (small(0), true),
        (small(1), true),
        (small(2), true),
        (near(-1), true),
        (n.to_vec(), false),
        (near(1), false),
        (vec![0xff; n.len()], false),
        (n[1..].to_vec(), false),
        ([&[0], n].concat(), false),
        (Vec::new(), false),
    ]
}

/// Signatures that aws-lc makes, and damaged ones, in groups of all lengths.
#[test]
fn rsa_random_signatures_agree() {
    if has_lanes() {
        compare_random_signatures(KeySize::Rsa2048, 40);
        compare_random_signatures(KeySize::Rsa3072, 5);
        compare_random_signatures(KeySize::Rsa4096, 3);
    }
}

#[test]
#[ignore = "takes an hour: cargo test --release -p countersign-engine -- --ignored rsa_"]
fn rsa_millions_of_signatures_agree() {
    if has_lanes() {
        for _ in 0..20 {
            compare_random_signatures(KeySize::Rsa2048, 5_000);
            compare_random_signatures(KeySize::Rsa3072, 500);
            compare_random_signatures(KeySize::Rsa4096, 500);
        }
    }
}

fn compare_random_signatures(size: KeySize, rounds: u64) {
    let pairs = [(); 2].map(|()| aws::RsaKeyPair::generate(size).unwrap());
    let keys: Vec<Vec<_>> =
        pairs.iter().map(|pair| RSA.map(|one| public(pair, one)).into()).collect();
    let system = SystemRandom::new();
    let mut random = RandomNumbers::new(rounds);
    for round in 0..rounds {
        let message = round.to_be_bytes();
        let mut signatures = Vec::new();
        for _ in 0..1 + round % 20 {
            let (pair, algorithm) = (random.below(pairs.len()), random.below(RSA.len()));
            let mut signature = vec![0; pairs[pair].public_modulus_len()];
            pairs[pair].sign(encoding(RSA[algorithm]), &system, &message, &mut signature).unwrap();
            let is_damaged = random.below(3) == 0;
            if is_damaged {
                let place = random.below(signature.len());
                signature[place] ^= 1 << random.below(8);
            }
            signatures.push((&keys[pair][algorithm], signature, !is_damaged));
        }
        let checks: Vec<_> = signatures
            .iter()
            .map(|(key, signature, _)| RsaCheck { key, message: &message, signature })
            .collect();
        let expected: Vec<_> = signatures.iter().map(|(_, _, is_good)| *is_good).collect();
        assert_eq!(in_lanes(&checks), expected);
        assert_eq!(checks.iter().map(alone).collect::<Vec<_>>(), expected);
    }
}

fn public(pair: &aws::RsaKeyPair, algorithm: Algorithm) -> RsaKey {
    // The end of an RSAPublicKey (RFC 8017 section A.1.1): the modulus, and the integer 65537.
    let der = pair.public_key().as_ref();
    let (rest, exponent) = der.split_at(der.len() - 5);
    assert_eq!(exponent, [2, 3, 1, 0, 1]);
    parse(algorithm, &rest[rest.len() - pair.public_modulus_len()..], &exponent[2..]).unwrap()
}

fn encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Rs256 => &aws::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &aws::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &aws::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &aws::RSA_PSS_SHA256,
        Algorithm::Ps384 => &aws::RSA_PSS_SHA384,
        _ => &aws::RSA_PSS_SHA512,
    }
}
