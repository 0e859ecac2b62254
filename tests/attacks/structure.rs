use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, AudienceRule, Constraint, Reject, limits};
use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    engine::{
        HEADER, NOW, SECRET, claims, config_with, secret_keys, sign, signing_input, token, verifier,
    },
    openssl::SigningKey,
    over_every_protocol,
};
use serde_json::json;

use crate::fronts::{Fronts, public_claims, secret_section};

over_every_protocol!(
    b1_segment_must_be_canonical_base64url,
    b2_token_has_three_segments,
    b3_json_serializations_are_refused,
    b6_critical_extensions_are_refused,
    b7_unencoded_payload_is_refused,
    b8_header_and_payload_must_be_objects,
    b9_limits_are_exact_and_precede_cryptography,
    b10_encrypted_token_is_refused,
    b11_no_key_derivation_or_decompression,
    b12_configured_claim_values_are_not_patterns,
);

fn b1_segment_must_be_canonical_base64url(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    // Header and payload are one byte longer than a multiple of three, so the last character of
    // each segment has unused bits. `>` and `?` produce the characters in which the Base64
    // alphabets differ.
    let odd = |length: usize| {
        (0..3)
            .map(|blanks| " ".repeat(blanks))
            .find(|blanks| (blanks.len() + length) % 3 == 1)
            .unwrap()
    };
    let header = format!("{}{}", r#"{"alg":"HS256","x":">>>???"}"#, odd(28));
    let payload = claims(r#""x":">>>???~~~""#);
    let valid = token(&header, format!("{payload}{}", odd(payload.len())));
    fronts.accept(&valid);
    let segments: Vec<_> = valid.split('.').collect();
    assert!(valid.contains('-') && valid.contains('_'), "{valid}");
    for index in 0..3 {
        for odd in encodings(segments[index]) {
            let mut altered = segments.clone();
            altered[index] = &odd;
            fronts.refuse(&altered.join("."), Reject::Base64);
            // Signed too_large the altered encoding, so that only the encoding is wrong.
            fronts.refuse(
                &[&*sign(&altered[..2].join(".")), if index == 2 { "=" } else { "" }].concat(),
                Reject::Base64,
            );
        }
    }
}

/// Returns other encodings of a segment that lenient decoders accept, in full or as a prefix.
fn encodings(segment: &str) -> Vec<String> {
    let (middle, last) = (segment.len() / 2, segment.chars().last().unwrap());
    let mut found = vec![
        format!("{segment}="),
        format!("{segment}=="),
        format!("{segment}==="),
        format!("={segment}"),
        format!("{segment}%3D"),
        format!("{segment}!"),
        format!("{segment}\n"),
        format!("{segment}\r\n"),
        format!(" {segment}"),
        format!("{segment}\t"),
        format!("{segment}\0"),
        format!("{segment}é"),
        format!("{segment}\u{2028}"),
        format!("{} {}", &segment[..middle], &segment[middle..]),
        format!("{}\n{}", &segment[..middle], &segment[middle..]),
        format!("{}={}", &segment[..middle], &segment[middle..]),
        // Nonzero unused bits in the last character.
        format!("{}{}", &segment[..segment.len() - 1], char::from(u8::try_from(last).unwrap() + 1)),
    ];
    if segment.contains(['-', '_']) {
        found.push(segment.replace('-', "+").replace('_', "/"));
    }
    // One character too many, or too few, for whole bytes.
    found.push(if segment.len().is_multiple_of(4) {
        format!("{segment}A")
    } else {
        segment[..segment.len() / 4 * 4 + 1].to_owned()
    });
    found
}

fn b2_token_has_three_segments(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let valid = token(HEADER, claims(""));
    fronts.accept(&valid);
    let (input, tag) = valid.rsplit_once('.').unwrap();
    for odd in [
        String::new(),
        ".".into(),
        tag.into(),
        input.into(),
        format!("{valid}."),
        format!("{valid}.{tag}"),
        format!("{valid}.."),
        format!("{valid}.{valid}"),
        format!("{input}..{tag}"),
        valid.replacen('.', "..", 1),
        sign(&format!("{input}.e30")),
        format!("{valid}{}", ".".repeat(10_000)),
    ] {
        fronts.refuse(&odd, Reject::Segments);
    }
    fronts.refuse(&".".repeat(1_000_000), Reject::TooLong);
    // An empty header is refused first, however many segments follow.
    for odd in ["..", "...", "....", &format!(".{valid}"), &".".repeat(limits::MAX_TOKEN_BYTES)] {
        fronts.refuse(odd, Reject::HeaderJson);
    }
    fronts.refuse(&format!(".{}", valid.split_once('.').unwrap().1), Reject::HeaderJson);
    fronts.refuse(&sign(&format!("{}.", input.split_once('.').unwrap().0)), Reject::ClaimsJson);
}

fn b3_json_serializations_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let valid = token(HEADER, claims(""));
    fronts.accept(&valid);
    let parts: Vec<_> = valid.split('.').collect();
    let signature =
        json!({ "protected": parts[0], "header": { "kid": "k" }, "signature": parts[2] });
    let flattened =
        json!({ "payload": parts[1], "protected": parts[0], "signature": parts[2] }).to_string();
    let general = json!({ "payload": parts[1], "signatures": [signature] }).to_string();
    for whole in [&*flattened, &general, &json!(valid).to_string().replace('.', ""), "{}", "[]"] {
        fronts.refuse(whole, Reject::Segments);
    }
    // CVE-2022-39227: a string that one parser reads as a JSON object and another as a compact
    // token. A parser that splits at dots gets the claims of the attacker.
    let other = URL_SAFE_NO_PAD.encode(claims(r#""admin":true"#));
    let mixed = format!(
        r#"{{"{}.{other}.":"","protected":"{}","payload":"{}","signature":"{}"}}"#,
        parts[0], parts[0], parts[1], parts[2]
    );
    fronts.refuse(&mixed, Reject::Base64);
    fronts.refuse(&json!([valid]).to_string(), Reject::Base64);
    fronts.refuse(&json!(valid).to_string(), Reject::Base64);
}

fn b6_critical_extensions_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(r#"{"alg":"HS256","http://example.com/UNDEFINED":true}"#, claims("")));
    for header in [
        r#"{"alg":"HS256","crit":["http://example.com/UNDEFINED"],"http://example.com/UNDEFINED":true}"#,
        r#"{"crit":["exp"],"exp":4102444800,"alg":"HS256"}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":["x","x"],"x":1}"#,
        r#"{"alg":"HS256","crit":["alg"]}"#,
        r#"{"alg":"HS256","crit":["x"]}"#,
        r#"{"alg":"HS256","crit":[""]}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":true}"#,
        r#"{"alg":"HS256","crit":"x","x":1}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","crit":{}}"#,
        r#"{"alg":"HS256","crit":false}"#,
        r#"{"alg":"HS256","\u0063rit":["x"],"x":1}"#,
        // Checked before the algorithm.
        r#"{"alg":"none","crit":["x"],"x":1}"#,
    ] {
        fronts.refuse(&token(header, claims("")), Reject::Critical);
    }
}

fn b7_unencoded_payload_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(r#"{"alg":"HS256","b64":true}"#, claims("")));
    for value in ["false", "null", "0", "1", r#""false""#, r#""true""#, "[]", "{}"] {
        fronts.refuse(
            &token(format!(r#"{{"alg":"HS256","b64":{value}}}"#), claims("")),
            Reject::Unencoded,
        );
    }
    let (unencoded, critical) =
        (r#"{"alg":"HS256","b64":false}"#, r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#);
    fronts.refuse(&token(critical.replace(r#""b64":false,"#, ""), claims("")), Reject::Critical);
    fronts.refuse(
        &token(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, claims("")),
        Reject::Critical,
    );
    fronts.refuse(&token(critical, claims("")), Reject::Unencoded);
    // RFC 7797 sections 4.2 and 5.2: the payload unencoded, or detached.
    let raw = |header: &str, payload: &str| {
        sign(&format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header)))
    };
    fronts.refuse(&raw(unencoded, "e30"), Reject::Unencoded);
    fronts.refuse(&raw(unencoded, &claims("")), Reject::Unencoded);
    fronts.refuse(&raw(unencoded, ""), Reject::Unencoded);
    fronts.refuse(&raw(HEADER, &claims("")), Reject::Base64);
}

fn b8_header_and_payload_must_be_objects(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims("")));
    let wrapped = [format!("[{}]", claims("")), json!(claims("")).to_string()];
    for odd in ["[]", "\"alg\"", "5", "null", "true", "", "[{}]", "{", "{}{}", "foo"] {
        fronts.refuse(&token(odd, claims("")), Reject::HeaderJson);
        fronts.refuse(&token(HEADER, odd), Reject::ClaimsJson);
    }
    fronts.refuse(&token(format!("[{HEADER}]"), claims("")), Reject::HeaderJson);
    for odd in wrapped {
        fronts.refuse(&token(HEADER, odd), Reject::ClaimsJson);
    }
}

fn b9_limits_are_exact_and_precede_cryptography(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let fixed = token(HEADER, claims(r#""pad":"""#)).len();
    let padded = |bytes: usize| token(HEADER, claims(&format!(r#""pad":"{}""#, "x".repeat(bytes))));
    // Base64 grows in steps: the largest token within the limit, and the next larger one.
    let largest_padding = (limits::MAX_TOKEN_BYTES - fixed) / 4 * 3;
    let (largest, too_large) = (padded(largest_padding), padded(largest_padding + 4));
    assert!(largest.len() <= limits::MAX_TOKEN_BYTES && limits::MAX_TOKEN_BYTES < too_large.len());
    fronts.accept(&largest);
    fronts.refuse(&too_large, Reject::TooLong);
    fronts.refuse(&"x".repeat(limits::MAX_TOKEN_BYTES), Reject::Segments);
    fronts.refuse(&"x".repeat(limits::MAX_TOKEN_BYTES + 1), Reject::TooLong);

    // Members are bounded by the length of the token alone.
    let members =
        |count: usize| (0..count).map(|i| format!(r#""m{i}":0"#)).collect::<Vec<_>>().join(",");
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let header = |members: String| format!(r#"{{"alg":"HS256",{members}}}"#);
    for count in [256, 1000] {
        fronts.accept(&token(HEADER, claims(&members(count))));
        fronts.accept(&token(HEADER, claims(&format!(r#""o":{{{}}}"#, members(count)))));
        fronts.accept(&token(header(members(count)), claims("")));
    }
    fronts.accept(&token(
        HEADER,
        claims(&format!(r#""d":{{"x":{}}}"#, nested(limits::MAX_DEPTH - 2))),
    ));
    for (hostile, reject) in [
        (token(HEADER, claims(&format!(r#"{},"m500":0"#, members(1000)))), Reject::DuplicateMember),
        (
            token(header(format!(r#"{},"m0":0"#, members(1000))), claims("")),
            Reject::DuplicateMember,
        ),
        (
            token(HEADER, claims(&format!(r#""d":{{"x":{}}}"#, nested(limits::MAX_DEPTH - 1)))),
            Reject::TooDeep,
        ),
        (
            token(header(format!(r#""d":{}"#, nested(limits::MAX_DEPTH))), claims("")),
            Reject::TooDeep,
        ),
        (token(HEADER, claims(&format!(r#""d":{}"#, nested(5_000)))), Reject::TooDeep),
        (too_large, Reject::TooLong),
    ] {
        fronts.refuse(&hostile, reject);
        // With a wrong signature, the reason stays the same.
        let (input, _) = hostile.rsplit_once('.').unwrap();
        fronts.refuse(&format!("{input}.{}", "A".repeat(43)), reject);
    }
}

fn b10_encrypted_token_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let key = SigningKey::generate("ES256", "k");
    let fronts = Fronts::of_keys(&sandbox, &[key.jwk()], &[Algorithm::Es256]);
    fronts.accept(&key.token(&public_claims()));
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    // CVE-2026-29000: an unsigned JWT, encrypted for the public key.
    let plain = format!("{}.", signing_input(r#"{"alg":"none"}"#, public_claims().to_string()));
    for header in [
        r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT","kid":"k"}"#,
        r#"{"alg":"ECDH-ES","enc":"A128GCM","kid":"k","epk":{}}"#,
        r#"{"alg":"dir","enc":"A256GCM"}"#,
        HEADER,
    ] {
        let jwe = |key: &str| {
            format!(
                "{}.{}.{}.{}.{}",
                encode(header),
                encode(key),
                encode("iv"),
                encode(&plain),
                encode("tag")
            )
        };
        fronts.refuse(&jwe("encrypted key"), Reject::Segments);
        fronts.refuse(&jwe(""), Reject::Segments);
    }
    for algorithm in ["RSA-OAEP", "RSA1_5", "dir", "A128KW", "ECDH-ES"] {
        let header = json!({ "alg": algorithm, "enc": "A128GCM", "kid": "k" });
        fronts.refuse(
            &key.token_with_header(&header, &public_claims()),
            Reject::AlgorithmUnsupported,
        );
    }
    // Nested, as indicated by `cty`: the payload is a token instead of claims.
    let nested = token(r#"{"alg":"HS256","cty":"JWT"}"#, token(HEADER, claims("")));
    fronts.refuse(&nested, Reject::ClaimsJson);
    fronts.refuse(&token(r#"{"alg":"HS256","cty":"JWT"}"#, plain), Reject::ClaimsJson);
}

fn b11_no_key_derivation_or_decompression(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims("")));
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    // Two billion PBKDF2 iterations, if the key were derived.
    let derive =
        r#"{"alg":"PBES2-HS256+A128KW","enc":"A128CBC-HS256","p2c":2147483647,"p2s":"c2FsdA"}"#;
    let inflate = r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#;
    for header in [derive, inflate] {
        fronts.refuse(&format!("{}.{}.AA.AA.AA", encode(header), encode("key")), Reject::Segments);
        fronts.refuse(&token(header, claims("")), Reject::AlgorithmUnsupported);
    }
    // `zip` has no meaning in a JWS: the payload is used as signed.
    let zip = r#"{"alg":"HS256","zip":"DEF","p2c":2147483647}"#;
    fronts.accept(&token(zip, claims("")));
    // The claims `{}`, deflated.
    fronts.refuse(&token(zip, [0xab, 0xae, 0x05, 0x00]), Reject::ClaimsJson);
}

fn b12_configured_claim_values_are_not_patterns(protocol: Protocol) {
    for pattern in [".*", "^prod$", "(a+)+$", "prod|dev", "p.od", "prod*", "%", "[a-z]+", "*"] {
        let config = config_with(|rules| {
            let (claim, value) = ("type".into(), Box::<str>::from(pattern));
            rules.audience = AudienceRule::new(pattern);
            rules.constraints = Box::new([
                Constraint::Is { claim, value: value.clone() },
                Constraint::Contains { claim: "list".into(), value },
            ]);
        });
        let verifier = verifier([(config, secret_keys(None, SECRET))]);
        let result = |audience: &str, kind: &str, listed: &str| {
            let claims =
                json!({ "iss": "https://idp/", "aud": audience, "type": kind, "list": [listed] });
            verifier.verify(token(HEADER, claims.to_string()).as_bytes(), NOW).err()
        };
        assert_eq!(result(pattern, pattern, pattern), None);
        for other in [
            "prod",
            "dev",
            "",
            "pxod",
            &"a".repeat(5_000),
            &format!("{}!", "a".repeat(5_000)),
            &format!("{pattern}{pattern}"),
        ] {
            let aud = if other.is_empty() { Reject::AudienceMissing } else { Reject::Audience };
            assert_eq!(result(other, pattern, pattern), Some(aud), "{pattern} {other}");
            assert_eq!(
                result(pattern, other, pattern),
                Some(Reject::Constraints),
                "{pattern} {other}"
            );
            assert_eq!(
                result(pattern, pattern, other),
                Some(Reject::Constraints),
                "{pattern} {other}"
            );
        }
    }
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{}claims=type is (a+)+$\n", secret_section()));
    assert_eq!(server.auth(&token(HEADER, claims(r#""type":"(a+)+$""#))).status, 200);
    let hostile = token(HEADER, claims(&format!(r#""type":"{}!""#, "a".repeat(5_000))));
    let refused = server.auth(&hostile);
    assert_eq!(refused.status, 403, "{refused:?}");
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.contains(&Reject::Constraints.to_string()), "{challenge}");
}
