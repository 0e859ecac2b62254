use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, Issuer, KeyError, KeyMaterial, KeySet, KeySetError, Reject, Snapshot,
    VerificationKey, jwks,
};
use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    engine::{
        HEADER, SECRET, claims, config, cached_verifier, secret_keys, sign_with, signing_input, token,
        verifier,
    },
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::{Value, json};

use crate::fronts::{
    Fronts, PUBLIC_ISSUER, published_issuer, public_claims, public_section, refuse, secret_section,
    signature, skipped, with_signature,
};

over_every_protocol!(
    a4_an_empty_or_missing_secret_verifies_nothing,
    a6_keys_for_other_purposes_other_algorithms_or_off_their_curve_are_not_used,
    a8_a9_a10_keys_that_a_token_brings_along_or_points_to_are_never_used_or_fetched,
    a11_a_kid_is_compared_and_nothing_else,
    a12_a_kid_means_one_key_and_secrets_do_not_mix_with_public_keys,
);

fn a4_an_empty_or_missing_secret_verifies_nothing(protocol: Protocol) {
    let forged = sign_with(b"", &signing_input(HEADER, claims("")));
    let none = KeySet::default();
    for (keys, reject) in [
        (Some(secret_keys(None, SECRET)), Reject::Signature),
        (Some(secret_keys(Some("k"), SECRET)), Reject::Signature),
        (Some(none.into()), Reject::AlgorithmNotAllowed),
        (None, Reject::KeysUnavailable),
    ] {
        let issuer = Issuer::new(config([Algorithm::Hs256]).into(), keys);
        refuse(&cached_verifier(Snapshot::new([issuer]).unwrap()), &forged, reject);
    }
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims("")));
    fronts.refuse(&forged, Reject::Signature);
    for key in ["key=", "", "key=\"\"", "key=AAAA"] {
        let section: Vec<_> = secret_section()
            .lines()
            .map(|line| if line.starts_with("key=") { key.to_owned() } else { line.to_owned() })
            .collect();
        let file = sandbox.file("c.cfg", section.join("\n"));
        assert_eq!(
            sandbox.run(["config", "check", "--config", file.to_str().unwrap()]).code(),
            2,
            "{key:?} is no key"
        );
    }
}

#[test]
fn a5_weak_keys_are_no_keys() {
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let shortest = algorithm.min_secret_bytes().unwrap();
        let fault = |length| {
            VerificationKey::new(None, algorithm, KeyMaterial::Secret(&vec![0xa5; length])).err()
        };
        assert_eq!(fault(shortest), None);
        for length in [0, 1, 16, shortest / 2, shortest - 1] {
            assert_eq!(fault(length), Some(KeyError::SecretTooShort), "{algorithm} {length}");
        }
    }
    let rsa = |n: &[u8]| json!({ "kty": "RSA", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB" });
    let strong = SigningKey::generate("RS256", "k").jwk();
    for (bytes, first) in [(64, 0xff), (128, 0xff), (255, 0xff), (256, 0x7f)] {
        let mut n = vec![0xb5; bytes];
        n[0] = first;
        assert_eq!(
            skipped(&[strong.clone(), rsa(&n)], &[Algorithm::Rs256]),
            [KeyError::ModulusSize],
            "{bytes} bytes"
        );
    }
    assert_eq!(
        skipped(&[strong, rsa(&power_of_65537(128))], &[Algorithm::Rs256]),
        [KeyError::Roca]
    );
}

/// A modulus with the structure that gives ROCA's away: it lies in the subgroup
/// that 65537 generates, modulo whatever prime.
fn power_of_65537(exponent: usize) -> Vec<u8> {
    // Digits of 16 bits, the lowest first: times 65537 is a shift and an addition.
    let mut digits = vec![1u32];
    for _ in 0..exponent {
        let mut carry = 0;
        let times: Vec<_> = (0..=digits.len())
            .map(|place| {
                let sum = digits.get(place).unwrap_or(&0)
                    + place.checked_sub(1).map_or(0, |below| digits[below])
                    + carry;
                carry = sum >> 16;
                sum & 0xffff
            })
            .collect();
        digits = times;
    }
    let bytes: Vec<_> = digits
        .iter()
        .rev()
        .flat_map(|digit| u16::try_from(*digit).unwrap().to_be_bytes())
        .collect();
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

fn a6_keys_for_other_purposes_other_algorithms_or_off_their_curve_are_not_used(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let (ec, ed) = (SigningKey::generate("ES256", "e"), SigningKey::generate("EdDSA", "d"));
    let all: Vec<_> = Algorithm::ALL
        .iter()
        .copied()
        .filter(|algorithm| algorithm.min_secret_bytes().is_none())
        .collect();
    let fronts = Fronts::of_keys(&sandbox, &[ec.jwk(), ed.jwk()], &all);
    fronts.accept(&ec.token(&public_claims()));
    fronts.accept(&ed.token(&public_claims()));
    let x = ec.jwk()["x"].clone();
    for (key, changes, fault) in [
        (&ec, json!({ "use": "enc" }), KeyError::NotForSignatures),
        (&ec, json!({ "key_ops": ["sign", "deriveKey"] }), KeyError::NotForSignatures),
        (&ec, json!({ "key_ops": [] }), KeyError::NotForSignatures),
        (&ec, json!({ "key_ops": "verify" }), KeyError::MemberType("key_ops")),
        (&ec, json!({ "kty": "RSA" }), KeyError::MissingMember("n")),
        (&ec, json!({ "kty": "OKP" }), KeyError::WrongKeyType),
        (&ec, json!({ "kty": "ec" }), KeyError::UnknownKeyType),
        (&ec, json!({ "crv": "P-384" }), KeyError::WrongCurve),
        (&ec, json!({ "crv": "secp256k1" }), KeyError::WrongCurve),
        (&ec, json!({ "alg": "ES384" }), KeyError::WrongCurve),
        (&ec, json!({ "alg": "ES256K" }), KeyError::UnknownAlgorithm),
        (&ec, json!({ "alg": "ECDH-ES" }), KeyError::UnknownAlgorithm),
        (&ec, json!({ "alg": "EdDSA" }), KeyError::WrongKeyType),
        (&ec, json!({ "y": x }), KeyError::Invalid),
        (&ec, json!({ "x": "AAAA" }), KeyError::CoordinateLength),
        (&ec, json!({ "y": Value::Null }), KeyError::MissingMember("y")),
        (&ed, json!({ "crv": "X25519" }), KeyError::WrongCurve),
        (&ed, json!({ "crv": "Ed448" }), KeyError::WrongCurve),
        (&ed, json!({ "x": URL_SAFE_NO_PAD.encode([0; 32]) }), KeyError::SmallOrder),
    ] {
        let mut jwk = key.jwk();
        changes.as_object().unwrap().iter().for_each(|(name, value)| jwk[name] = value.clone());
        assert_eq!(skipped(std::slice::from_ref(&jwk), &all), [fault], "{jwk}");
        let verifier = verifier([published_issuer(&[jwk], &all)]);
        refuse(&verifier, &key.token(&public_claims()), Reject::KidUnknown);
    }
    for (e, fault) in [
        ("AQ", KeyError::Exponent),
        ("Ag", KeyError::Exponent),
        ("", KeyError::Exponent),
        ("AAEAAQ", KeyError::LeadingZeros),
    ] {
        let jwk = json!({ "kty": "RSA", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode([0xb5; 256]), "e": e });
        assert_eq!(skipped(&[jwk], &all), [fault], "{e}");
    }
}

fn a8_a9_a10_keys_that_a_token_brings_along_or_points_to_are_never_used_or_fetched(
    protocol: Protocol,
) {
    let (known, foreign) = (SigningKey::generate("ES256", "k"), SigningKey::generate("ES256", "k"));
    let provider = JwksServer::start(&json!({ "keys": [known.jwk()] }).to_string());
    let evil = JwksServer::start(&json!({ "keys": [foreign.jwk()] }).to_string());
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&(secret_section() + &public_section("ES256", &provider.uri())));
    let verifier = verifier([published_issuer(&[known.jwk()], &[Algorithm::Es256])]);
    let fronts = Fronts { verifier, server };
    fronts.accept(&known.token(&public_claims()));
    let asked = provider.requests();
    let chain = [URL_SAFE_NO_PAD.encode("a certificate")];
    for brought in [
        json!({ "jwk": foreign.jwk() }),
        json!({ "jwks": { "keys": [foreign.jwk()] } }),
        json!({ "jku": evil.uri() }),
        json!({ "x5u": evil.uri(), "x5c": chain, "x5t": "AAAA" }),
        json!({ "jku": provider.uri(), "jwk": foreign.jwk(), "iss": evil.uri(), "jwks_uri": evil.uri() }),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": "k" });
        header.as_object_mut().unwrap().extend(brought.as_object().unwrap().clone());
        fronts.accept(&known.token_with_header(&header, &public_claims()));
        fronts.refuse(&foreign.token_with_header(&header, &public_claims()), Reject::Signature);
        header["kid"] = json!(evil.uri());
        fronts.refuse(&foreign.token_with_header(&header, &public_claims()), Reject::KidUnknown);
        header.as_object_mut().unwrap().remove("kid");
        fronts.refuse(&foreign.token_with_header(&header, &public_claims()), Reject::KidMissing);
    }
    for issuer in [
        evil.uri(),
        format!("{PUBLIC_ISSUER}@{}", evil.uri()),
        "http://169.254.169.254/".into(),
        "file:///etc/passwd".into(),
    ] {
        let claims = json!({ "iss": issuer, "aud": evil.uri(), "tid": evil.uri(), "azp": evil.uri(), "jwks_uri": evil.uri() });
        fronts.refuse(&foreign.token(&claims), Reject::IssuerUnknown);
    }
    // The issuer itself is asked for a kid that nobody knows, once.
    assert_eq!((evil.requests(), provider.requests()), (0, asked + 1));
}

fn a11_a_kid_is_compared_and_nothing_else(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let key = SigningKey::generate("EdDSA", "k");
    let fronts = Fronts::of_keys(&sandbox, &[key.jwk()], &[Algorithm::EdDsa]);
    fronts.accept(&key.token(&public_claims()));
    // Signed by the known key and by what the file or row would hold: the same answer.
    let signed = key.token(&public_claims());
    let forged = |kid: &Value| {
        with_signature(
            &[
                &signing_input(
                    json!({ "alg": "EdDSA", "kid": kid }).to_string(),
                    public_claims().to_string(),
                ),
                ".",
            ]
            .concat(),
            &signature(&signed),
        )
    };
    let long = "k".repeat(8_000);
    for kid in [
        "",
        "K",
        "k ",
        "k\0",
        "\0",
        "k\n",
        "../../../../../dev/null",
        "/dev/null",
        "%2e%2e%2fk",
        "x' OR '1'='1",
        "k\u{200b}",
        "*",
        ".*",
        "k,k",
        &long,
    ] {
        fronts.refuse(&forged(&json!(kid)), Reject::KidUnknown);
        let in_file = sign_with(
            b"",
            &signing_input(
                json!({ "alg": "HS256", "kid": kid }).to_string(),
                public_claims().to_string(),
            ),
        );
        fronts.refuse(&in_file, Reject::AlgorithmNotAllowed);
    }
    for kid in [json!(5), json!(null), json!(["k"]), json!({ "k": "k" }), json!(true), json!(1.5)] {
        fronts.refuse(&forged(&kid), Reject::KidType);
    }
    fronts.refuse(&forged(&json!("k".repeat(100_000))), Reject::TooLong);
}

fn a12_a_kid_means_one_key_and_secrets_do_not_mix_with_public_keys(protocol: Protocol) {
    let (first, second, other) = (
        SigningKey::generate("ES256", "k"),
        SigningKey::generate("ES256", "k"),
        SigningKey::generate("ES256", "o"),
    );
    let oct =
        json!({ "kty": "oct", "alg": "HS256", "kid": "s", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let sandbox = Sandbox::over(protocol);
    let keys = [first.jwk(), second.jwk(), oct.clone(), other.jwk()];
    assert_eq!(
        skipped(&keys, &[Algorithm::Es256]),
        [KeyError::Duplicate, KeyError::SecretInPublicSet]
    );
    let fronts = Fronts::of_keys(&sandbox, &keys, &[Algorithm::Es256]);
    fronts.accept(&first.token(&public_claims()));
    fronts.accept(&other.token(&public_claims()));
    fronts.refuse(&second.token(&public_claims()), Reject::Signature);
    let header = json!({ "alg": "HS256", "kid": "s" }).to_string();
    fronts.refuse(&token(header, public_claims().to_string()), Reject::AlgorithmNotAllowed);
    // What an operator wrote down is refused whole instead.
    for (keys, fault) in [
        (vec![first.jwk(), other.jwk()], None),
        (vec![first.jwk(), second.jwk()], Some(KeySetError::DuplicateKid)),
        (vec![first.jwk(), oct], Some(KeySetError::Mixed)),
    ] {
        let policy = jwks::Policy { origin: jwks::Origin::Static, algorithms: None };
        assert_eq!(
            KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), policy).err(),
            fault
        );
    }
}
