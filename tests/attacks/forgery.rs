use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, KeyError, Reject};
use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    engine::{NOW, published_keys},
    openssl::{SigningKey, openssl},
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::fronts::{Fronts, public_claims, signature, with_signature};

over_every_protocol!(
    a13_oversized_rsa_keys_are_rejected_unused,
    a14_ecdsa_range_and_length_are_checked,
    a14_eddsa_signature_is_not_malleable,
    a15_pkcs1_padding_has_one_encoding,
    a15_pss_salt_and_hashes_are_checked,
    a15_rsa_signature_above_modulus_is_refused,
);

fn a13_oversized_rsa_keys_are_rejected_unused(protocol: Protocol) {
    let good = SigningKey::generate("RS256", "good");
    let rsa = |kid: &str, n: &[u8], e: &[u8]| json!({ "kty": "RSA", "alg": "RS256", "kid": kid, "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
    let modulus = |bytes| vec![0xb5; bytes];
    let cases = [
        (rsa("8200 bits", &modulus(1025), &[1, 0, 1]), KeyError::ModulusSize),
        (rsa("16 kbit", &modulus(2048), &[1, 0, 1]), KeyError::ModulusSize),
        (rsa("512 kbit", &modulus(65_536), &[1, 0, 1]), KeyError::ModulusSize),
        (rsa("33 bits", &modulus(256), &[1, 0, 0, 0, 1]), KeyError::Exponent),
        (rsa("64 bits", &modulus(256), &[0xff; 8]), KeyError::Exponent),
        (rsa("all bits", &modulus(256), &[0xb3; 256]), KeyError::Exponent),
        (rsa("more bits", &modulus(1024), &[0xb3; 8192]), KeyError::Exponent),
    ];
    let mut keys: Vec<_> = cases.iter().map(|(jwk, _)| jwk.clone()).collect();
    keys.push(good.jwk());
    let set = published_keys(&json!({ "keys": keys }), [Algorithm::Rs256].into_iter().collect());
    assert_eq!(set.len(), 1, "the good key serves all the same");
    for (skipped, (jwk, fault)) in set.skipped().iter().zip(&cases) {
        assert_eq!((skipped.kid.as_deref(), skipped.error), (jwk["kid"].as_str(), *fault));
    }
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &keys, &[Algorithm::Rs256]);
    fronts.accept(&good.token(&public_claims()));
    for (jwk, fault) in cases {
        let header = json!({ "alg": "RS256", "kid": jwk["kid"] });
        let token = good.token_with_header(&header, &public_claims());
        assert_eq!(fronts.verifier.verify(token.as_bytes(), NOW).err(), Some(Reject::KeySkipped));
        let refused = fronts.server.auth(&token);
        let challenge = refused.header("www-authenticate").unwrap();
        assert_eq!(refused.status, 401);
        assert!(challenge.contains(&fault.to_string()), "{challenge}");
    }
}

fn a14_ecdsa_range_and_length_are_checked(protocol: Protocol) {
    const CURVES: [(&str, Algorithm, &str); 3] = [
        (
            "ES256",
            Algorithm::Es256,
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        ),
        (
            "ES384",
            Algorithm::Es384,
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        ),
        (
            "ES512",
            Algorithm::Es512,
            "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
        ),
    ];
    let keys = CURVES.map(|(name, ..)| SigningKey::generate(name, name));
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(
        &sandbox,
        &keys.each_ref().map(SigningKey::jwk),
        &CURVES.map(|(_, algorithm, _)| algorithm),
    );
    for (key, (_, _, order)) in keys.iter().zip(CURVES) {
        let valid = key.token(&public_claims());
        fronts.accept(&valid);
        let both = signature(&valid);
        let (r, s) = both.split_at(both.len() / 2);
        let (order, length) = (bytes_of_hex(order), r.len());
        let (zero, full) = (vec![0; length], vec![0xff; length]);
        let mut one = zero.clone();
        one[length - 1] = 1;
        for (left, right) in [
            (&zero, &zero),
            (&order, &order),
            (&full, &full),
            (&one, &one),
            (&one, &zero),
            (&order, &one),
        ] {
            fronts.refuse(&with_signature(&valid, &[&**left, right].concat()), Reject::Signature);
        }
        for other in [&*zero, &order, &full, &one] {
            fronts.refuse(&with_signature(&valid, &[r, other].concat()), Reject::Signature);
            fronts.refuse(&with_signature(&valid, &[other, s].concat()), Reject::Signature);
        }
        for odd in [
            der(r, s),
            [s, r].concat(),
            both[1..].to_vec(),
            both[..both.len() - 1].to_vec(),
            [&*both, &[0]].concat(),
            [&[0], &*both].concat(),
            [&[0], r, &[0], s].concat(),
            [r, s, r, s].concat(),
            r.to_vec(),
            Vec::new(),
        ] {
            fronts.refuse(&with_signature(&valid, &odd), Reject::Signature);
        }
    }
}

/// Encodes the two numbers in DER (X9.62), which other protocols use but JWS does not.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let digits: Vec<_> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let positive = if digits[0] & 0x80 == 0 { digits } else { [&[0], &*digits].concat() };
        [&[2, u8::try_from(positive.len()).unwrap()], &*positive].concat()
    };
    let both = [integer(r), integer(s)].concat();
    let length = u8::try_from(both.len()).unwrap();
    if length < 0x80 {
        [&[0x30, length], &*both].concat()
    } else {
        [&[0x30, 0x81, length], &*both].concat()
    }
}

fn a14_eddsa_signature_is_not_malleable(protocol: Protocol) {
    let key = SigningKey::generate("EdDSA", "k");
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &[key.jwk()], &[Algorithm::EdDsa]);
    let valid = key.token(&public_claims());
    fronts.accept(&valid);
    let good = signature(&valid);
    // S plus the group order gives the same point (RFC 8032 section 5.1.7).
    let order = bytes_of_hex("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed");
    let s: Vec<_> = good[32..].iter().rev().copied().collect();
    let same: Vec<_> = sum(&s, &order).into_iter().rev().take(32).collect();
    let (zero, full) = ([0; 32], [0xff; 32]);
    for (left, right) in [
        (&good[..32], &*same),
        (&good[..32], &zero),
        (&zero, &good[32..]),
        (&zero, &zero),
        (&full, &full),
    ] {
        fronts.refuse(&with_signature(&valid, &[left, right].concat()), Reject::Signature);
    }
    fronts.refuse(&with_signature(&valid, &good[..63]), Reject::Signature);
    fronts.refuse(&with_signature(&valid, &[&*good, &[0]].concat()), Reject::Signature);
}

/// RSA key used without padding, so that a test chooses the encoded message.
struct RawRsa {
    key: SigningKey,
    modulus: Vec<u8>,
}

impl RawRsa {
    fn generate(algorithm: &'static str) -> Self {
        let key = SigningKey::generate(algorithm, "k");
        let modulus = URL_SAFE_NO_PAD.decode(key.jwk()["n"].as_str().unwrap()).unwrap();
        Self { key, modulus }
    }

    fn raw(&self, operation: &str, input: &[u8]) -> Vec<u8> {
        let path = self.key.path();
        openssl(
            &[
                "pkeyutl",
                operation,
                "-inkey",
                path.to_str().unwrap(),
                "-pkeyopt",
                "rsa_padding_mode:none",
            ],
            input,
        )
    }

    /// Returns the encoded message of a signature.
    fn recover(&self, signature: &[u8]) -> Vec<u8> {
        self.raw("-verifyrecover", signature)
    }

    /// Signs an encoded message.
    fn sign_raw(&self, encoded: &[u8]) -> Vec<u8> {
        // Decryption is the same operation, and accepts any number.
        self.raw("-decrypt", encoded)
    }
}

fn a15_pkcs1_padding_has_one_encoding(protocol: Protocol) {
    let rsa = RawRsa::generate("RS256");
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &[rsa.key.jwk()], &[Algorithm::Rs256]);
    let valid = rsa.key.token(&public_claims());
    let encoded = rsa.recover(&signature(&valid));
    let accepted = |encoded: &[u8]| with_signature(&valid, &rsa.sign_raw(encoded));
    fronts.accept(&accepted(&encoded));
    // RFC 8017 section 9.2: 00 01 ff .. ff 00, the DigestInfo of SHA-256, the hash.
    let hash = &encoded[224..];
    const SHA256: &[u8] =
        b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    assert_eq!(
        encoded,
        padded(0xff, &[SHA256, hash].concat()),
        "the valid encoding is the one that is altered"
    );
    let info = |prefix: &[u8]| padded(0xff, &[prefix, hash].concat());
    let replaced = |index: usize, byte| {
        let mut other = encoded.clone();
        other[index] = byte;
        other
    };
    // Bleichenbacher 2006: short padding, and free bytes after the hash to form a cube.
    let mut early = [&[0, 1][..], &[0xff; 8], &[0], SHA256, hash].concat();
    early.resize(256, 0x17);
    for forged in [
        early,
        replaced(1, 2),
        replaced(1, 0),
        replaced(0, 1),
        replaced(2, 0xfe),
        replaced(100, 0),
        replaced(203, 0xfe),
        replaced(204, 0xff),
        replaced(206, 0x32),
        replaced(219, 2),
        replaced(221, 1),
        replaced(255, encoded[255] ^ 1),
        padded(0x00, &[SHA256, hash].concat()),
        // Without NULL, with lengths in two bytes, for another hash, and only the hash.
        info(b"\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20"),
        info(b"\x30\x81\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"),
        info(b"\x30\x32\x30\x81\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"),
        info(b"\x30\x80\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"),
        info(b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x20"),
        info(b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x20"),
        info(b"\x30\x2d\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x20"),
        info(b"\x04\x20"),
        info(b""),
    ] {
        fronts.refuse(&accepted(&forged), Reject::Signature);
    }
    assert_numbers_out_of_range_are_refused(&fronts, &rsa, &valid);
}

/// Adds PKCS#1 padding to `content`, for 2048 bits.
fn padded(filler: u8, content: &[u8]) -> Vec<u8> {
    [&[0, 1], &*vec![filler; 256 - 3 - content.len()], &[0], content].concat()
}

fn a15_pss_salt_and_hashes_are_checked(protocol: Protocol) {
    let rsa = RawRsa::generate("PS256");
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &[rsa.key.jwk()], &[Algorithm::Ps256]);
    let valid = rsa.key.token(&public_claims());
    let (signing_input, _) = valid.rsplit_once('.').unwrap();
    let path = rsa.key.path();
    let message = sandbox.file("message", signing_input);
    let signed = |hash: &str, mask: &str, salt: &str| {
        let options = [format!("rsa_pss_saltlen:{salt}"), format!("rsa_mgf1_md:{mask}")];
        let arguments = [
            "dgst",
            hash,
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            &options[0],
            "-sigopt",
            &options[1],
            "-sign",
        ];
        let signature = openssl(
            &[&arguments[..], &[path.to_str().unwrap(), message.to_str().unwrap()]].concat(),
            b"",
        );
        with_signature(&valid, &signature)
    };
    fronts.accept(&signed("-sha256", "sha256", "32"));
    for (hash, mask, salt) in [
        ("-sha256", "sha256", "0"),
        ("-sha256", "sha256", "20"),
        ("-sha256", "sha256", "31"),
        ("-sha256", "sha256", "33"),
        ("-sha256", "sha256", "max"),
        ("-sha256", "sha1", "32"),
        ("-sha256", "sha512", "32"),
        ("-sha1", "sha256", "32"),
        ("-sha384", "sha384", "48"),
        ("-sha512", "sha512", "32"),
    ] {
        fronts.refuse(&signed(hash, mask, salt), Reject::Signature);
    }
    let encoded = rsa.recover(&signature(&valid));
    for (index, change) in [(255, 0xbc ^ 0xcc), (254, 1), (223, 1), (222, 1), (100, 1), (1, 1)] {
        let mut other = encoded.clone();
        other[index] ^= change;
        fronts.refuse(&with_signature(&valid, &rsa.sign_raw(&other)), Reject::Signature);
    }
    // A PKCS#1 signature of the same key.
    let pkcs1 = openssl(
        &["dgst", "-sha256", "-sign", path.to_str().unwrap(), message.to_str().unwrap()],
        b"",
    );
    fronts.refuse(&with_signature(&valid, &pkcs1), Reject::Signature);
    assert_numbers_out_of_range_are_refused(&fronts, &rsa, &valid);
}

/// RFC 8017 sections 8.1.2 and 8.2.2: a signature is as long as the modulus, and below it.
fn assert_numbers_out_of_range_are_refused(fronts: &Fronts<'_>, rsa: &RawRsa, valid: &str) {
    let s = signature(valid);
    let numbers = [
        [&[0], &*s].concat(),
        [&[0, 0], &*s].concat(),
        [&*s, &[0]].concat(),
        s[1..].to_vec(),
        s[..255].to_vec(),
        rsa.modulus.clone(),
        sum(&s, &rsa.modulus),
        vec![0; 256],
        sum(&[0; 256], &[1])[1..].to_vec(),
        vec![0xff; 256],
        Vec::new(),
    ];
    for number in numbers {
        fronts.refuse(&with_signature(valid, &number), Reject::Signature);
    }
}

fn a15_rsa_signature_above_modulus_is_refused(protocol: Protocol) {
    let rsa = RawRsa::generate("RS256");
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &[rsa.key.jwk()], &[Algorithm::Rs256]);
    // About one in three signatures plus the modulus still fits into 2048 bits.
    let found = (0..200).find_map(|jti| {
        let mut claims: Value = public_claims();
        claims["jti"] = json!(jti.to_string());
        let valid = rsa.key.token(&claims);
        let larger = sum(&signature(&valid), &rsa.modulus);
        (larger[0] == 0).then(|| (with_signature(&valid, &larger[1..]), valid))
    });
    let (larger, valid) = found.expect("one of 200 signatures plus the modulus fits");
    fronts.accept(&valid);
    fronts.refuse(&larger, Reject::Signature);
}

/// Adds two big-endian numbers. The sum is one byte longer than the longer of them.
fn sum(one: &[u8], other: &[u8]) -> Vec<u8> {
    let digit = |number: &[u8], index: usize| {
        number.len().checked_sub(index + 1).map_or(0, |index| u16::from(number[index]))
    };
    let mut carry = 0;
    let digits = (0..=one.len().max(other.len())).map(|index| {
        let sum = digit(one, index) + digit(other, index) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    });
    let mut digits: Vec<_> = digits.collect();
    digits.reverse();
    digits
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|index| u8::from_str_radix(&text[index..index + 2], 16).unwrap())
        .collect()
}
