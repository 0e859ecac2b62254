use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, IssuerConfig, KeyError, Reject};
use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    engine::{
        AUDIENCE, HEADER, ISSUER, SECRET, claims, config, secret_keys, sign_with, signing_input,
        token, verifier,
    },
    openssl::{SigningKey, openssl},
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::fronts::{
    Fronts, accept, public_claims, published_issuer, refuse, signature, skipped_key_faults,
    with_signature,
};

over_every_protocol!(
    a1_none_and_missing_signature_are_refused,
    a2_public_key_is_never_used_as_hmac_secret,
    a3_key_without_alg_uses_the_configured_one,
    a7_alg_comes_from_the_protected_header_only,
    a16_key_verifies_only_its_own_algorithm,
    a17_hmac_tag_wrong_at_any_byte_is_refused,
    a18_secret_is_never_taken_from_the_token,
);

fn a1_none_and_missing_signature_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let valid = token(HEADER, claims(""));
    fronts.accept(&valid);
    for name in
        ["none", "None", "NONE", "nOnE", "noNe", "none ", " none", "", "null", "HS256\0", "hs256"]
    {
        let header = json!({ "alg": name }).to_string();
        fronts.refuse(
            &format!("{}.", signing_input(&header, claims(""))),
            Reject::AlgorithmUnsupported,
        );
        fronts.refuse(&token(header, claims("")), Reject::AlgorithmUnsupported);
    }
    for header in [
        "{}",
        r#"{"alg":null}"#,
        r#"{"alg":0}"#,
        r#"{"alg":["none"]}"#,
        r#"{"alg":{"alg":"none"}}"#,
        r#"{"typ":"JWT"}"#,
    ] {
        fronts.refuse(&format!("{}.", signing_input(header, claims(""))), Reject::AlgorithmMissing);
        fronts.refuse(&token(header, claims("")), Reject::AlgorithmMissing);
    }
    fronts.refuse(&with_signature(&valid, b""), Reject::Signature);
    fronts.refuse(&with_signature(&valid, b"\0"), Reject::Signature);
    fronts.refuse(valid.rsplit_once('.').unwrap().0, Reject::Segments);
}

fn a2_public_key_is_never_used_as_hmac_secret(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    for algorithm in ["RS256", "ES256"] {
        let key = SigningKey::generate(algorithm, "k");
        // Even if the operator has allowed both kinds for one issuer.
        let both = [Algorithm::from_name(algorithm).unwrap(), Algorithm::Hs256];
        let permissive = verifier([published_issuer(&[key.jwk()], &both)]);
        let fronts = Fronts::of_keys(&sandbox, &[key.jwk()], &both[..1]);
        fronts.accept(&key.token(&public_claims()));
        for secret in encodings(&key) {
            let forged = |header: Value| {
                sign_with(&secret, &signing_input(header.to_string(), public_claims().to_string()))
            };
            fronts.refuse(
                &forged(json!({ "alg": "HS256", "kid": "k" })),
                Reject::AlgorithmNotAllowed,
            );
            refuse(
                &permissive,
                &forged(json!({ "alg": "HS256", "kid": "k" })),
                Reject::AlgorithmNotAllowed,
            );
            refuse(&permissive, &forged(json!({ "alg": "HS256" })), Reject::AlgorithmNotAllowed);
            refuse(
                &permissive,
                &forged(json!({ "alg": "HS256", "kid": "other" })),
                Reject::KidUnknown,
            );
            // A provider cannot publish the bytes as a secret either.
            let jwk = json!({ "kty": "oct", "alg": "HS256", "kid": "k2", "k": URL_SAFE_NO_PAD.encode(&secret) });
            assert_eq!(skipped_key_faults(&[key.jwk(), jwk], &both), [KeyError::SecretInPublicSet]);
        }
    }
}

/// Returns a public key in every encoding that has been used in this attack.
fn encodings(key: &SigningKey) -> Vec<Vec<u8>> {
    let path = key.path();
    let public =
        |form| openssl(&["pkey", "-in", path.to_str().unwrap(), "-pubout", "-outform", form], b"");
    let (pem, der, jwk) = (public("PEM"), public("DER"), key.jwk());
    let text = String::from_utf8(pem.clone()).unwrap();
    let member =
        |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap();
    vec![
        text.trim_end().into(),
        text.replace('\n', "\r\n").into(),
        text.replace("PUBLIC KEY", "RSA PUBLIC KEY").into(),
        text.lines().filter(|line| !line.starts_with('-')).collect::<String>().into(),
        format!("\n {text}").into(),
        [b"\xef\xbb\xbf", &*pem].concat(),
        pem,
        der,
        jwk.to_string().into(),
        member("n"),
        [member("x"), member("y")].concat(),
        Vec::new(),
    ]
}

fn a3_key_without_alg_uses_the_configured_one(protocol: Protocol) {
    let (rsa, ec) = (SigningKey::generate("RS256", "r"), SigningKey::generate("ES256", "e"));
    let without_alg = [&rsa, &ec].map(|key| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    });
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &without_alg, &[Algorithm::Rs256, Algorithm::Es256]);
    fronts.accept(&rsa.token(&public_claims()));
    fronts.accept(&ec.token(&public_claims()));
    for (kid, algorithm) in [
        ("r", "HS256"),
        ("r", "RS512"),
        ("r", "PS256"),
        ("e", "HS256"),
        ("e", "ES384"),
        ("r", "ES256"),
        ("e", "RS256"),
    ] {
        let header = json!({ "alg": algorithm, "kid": kid });
        // Some libraries used an empty secret for a key they could not parse.
        let forged =
            sign_with(b"", &signing_input(header.to_string(), public_claims().to_string()));
        fronts.refuse(&forged, Reject::AlgorithmNotAllowed);
        let signed =
            if kid == "r" { &rsa } else { &ec }.token_with_header(&header, &public_claims());
        fronts.refuse(&signed, Reject::AlgorithmNotAllowed);
    }
}

fn a7_alg_comes_from_the_protected_header_only(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    // Other members do not count as `alg`, whatever their names.
    fronts.accept(&token(
        r#"{"alg":"HS256","header":{"alg":"none"},"unprotected":{"alg":"none"},"Alg":"none"}"#,
        claims(""),
    ));
    for (header, reject) in [
        (r#"{"alg":["HS256","none"]}"#, Reject::AlgorithmMissing),
        (r#"{"alg":["HS256"]}"#, Reject::AlgorithmMissing),
        (r#"{"alg":"HS256,none"}"#, Reject::AlgorithmUnsupported),
        (r#"{"alg":"none","alg":"HS256"}"#, Reject::DuplicateMember),
        (r#"{"alg":"HS256","\u0061lg":"none"}"#, Reject::DuplicateMember),
        (r#"{"header":{"alg":"HS256"}}"#, Reject::AlgorithmMissing),
        (r#"{"Alg":"HS256"}"#, Reject::AlgorithmMissing),
    ] {
        fronts.refuse(&token(header, claims("")), reject);
    }
    let valid = token(HEADER, claims(""));
    let parts: Vec<_> = valid.split('.').collect();
    let unprotected =
        json!({ "header": { "alg": "HS256" }, "payload": parts[1], "signature": parts[2] });
    fronts.refuse(&unprotected.to_string(), Reject::Segments);
}

fn a16_key_verifies_only_its_own_algorithm(protocol: Protocol) {
    let signing = ["RS256", "RS512", "PS256", "ES256", "EdDSA"]
        .map(|algorithm| SigningKey::generate(algorithm, algorithm));
    let all: Vec<_> = Algorithm::ALL
        .iter()
        .copied()
        .filter(|algorithm| algorithm.min_secret_bytes().is_none())
        .collect();
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_keys(&sandbox, &signing.each_ref().map(SigningKey::jwk), &all);
    for (key, own) in signing.iter().zip(["RS256", "RS512", "PS256", "ES256", "EdDSA"]) {
        fronts.accept(&key.token(&public_claims()));
        for other in
            Algorithm::ALL.iter().map(|algorithm| algorithm.name()).filter(|other| *other != own)
        {
            let header = json!({ "alg": other, "kid": own });
            fronts.refuse(
                &key.token_with_header(&header, &public_claims()),
                Reject::AlgorithmNotAllowed,
            );
        }
        for unknown in ["ES256K", "Ed448", "ESP256", "RS1", "RSA1_5", "RSA-OAEP", "PS256 ", "es256"]
        {
            let header = json!({ "alg": unknown, "kid": own });
            fronts.refuse(
                &key.token_with_header(&header, &public_claims()),
                Reject::AlgorithmUnsupported,
            );
        }
    }
    // RFC 9864: another name of the same algorithm, in the token and in the key.
    let ed = &signing[4];
    let header = json!({ "alg": "Ed25519", "kid": "EdDSA" });
    let renamed = ed.token_with_header(&header, &public_claims());
    fronts.accept(&renamed);
    let mut jwk = ed.jwk();
    jwk["alg"] = json!("Ed25519");
    let by_new_name = verifier([published_issuer(&[jwk], &[Algorithm::EdDsa])]);
    for token in [&renamed, &ed.token(&public_claims())] {
        accept(&by_new_name, token);
    }
    // The same RSA key published for PSS only: its PKCS#1 signatures are refused.
    let mut jwk = signing[0].jwk();
    jwk["alg"] = json!("PS256");
    let pss_only = verifier([published_issuer(&[jwk], &all)]);
    refuse(&pss_only, &signing[0].token(&public_claims()), Reject::AlgorithmNotAllowed);
    let header = json!({ "alg": "PS256", "kid": "RS256" });
    refuse(&pss_only, &signing[0].token_with_header(&header, &public_claims()), Reject::Signature);
}

fn a17_hmac_tag_wrong_at_any_byte_is_refused(protocol: Protocol) {
    // `hmac::verify` compares in constant time. This test can only show that the comparison covers
    // every byte of the tag.
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let valid = token(HEADER, claims(""));
    fronts.accept(&valid);
    let tag = signature(&valid);
    for index in 0..tag.len() {
        let mut wrong = tag.clone();
        wrong[index] ^= 1;
        fronts.refuse(&with_signature(&valid, &wrong), Reject::Signature);
    }
    for length in [0, 1, 16, 20, 31] {
        fronts.refuse(&with_signature(&valid, &tag[..length]), Reject::Signature);
    }
    fronts.refuse(&with_signature(&valid, &[&*tag, &tag].concat()), Reject::Signature);
}

fn a18_secret_is_never_taken_from_the_token(protocol: Protocol) {
    const ATTACKER_SECRET: &[u8; 32] = &[0x61; 32];
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let named = verifier([(
        IssuerConfig { kid_required: true, ..config([Algorithm::Hs256]) },
        secret_keys(Some("k"), SECRET),
    )]);
    let (text, encoded) =
        (str::from_utf8(ATTACKER_SECRET).unwrap(), URL_SAFE_NO_PAD.encode(ATTACKER_SECRET));
    let jwk = json!({ "kty": "oct", "k": encoded, "alg": "HS256", "kid": "k" });
    for member in [
        json!({ "kid": text }),
        json!({ "kid": "k", "k": encoded, "key": text, "secret": text, "client_secret": text }),
        json!({ "kid": "k", "jwk": jwk, "jwks": { "keys": [jwk] } }),
        json!({ "kid": "k", "sub": text, "client_id": text, "x5c": [encoded] }),
    ] {
        let mut header = json!({ "alg": "HS256" });
        header.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let mut payload =
            json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "bob", "secret": text, "jwk": jwk });
        let free = signing_input(header.to_string(), payload.to_string());
        fronts.accept(&sign_with(SECRET, &free));
        payload["cnf"] = json!({ "jwk": jwk });
        let input = signing_input(header.to_string(), payload.to_string());
        let reject = if header["kid"] == "k" { Reject::Signature } else { Reject::KidUnknown };
        fronts.refuse(&sign_with(SECRET, &input), Reject::Bound);
        fronts.refuse(&sign_with(ATTACKER_SECRET, &input), Reject::Signature);
        refuse(&named, &sign_with(ATTACKER_SECRET, &input), reject);
    }
    accept(&named, &token(r#"{"alg":"HS256","kid":"k"}"#, claims("")));
}
