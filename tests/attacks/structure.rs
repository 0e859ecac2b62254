use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, Constraint, Reject, limits};
use countersign_tests::{
    answers::{assert_refused, invalid_token},
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
    b1_a_segment_has_one_spelling,
    b2_a_token_has_three_segments,
    b3_the_json_serializations_are_refused_also_when_mixed_with_the_compact_one,
    b6_an_extension_that_must_be_understood_is_not,
    b7_an_unencoded_payload_is_refused,
    b8_header_and_payload_are_objects,
    b9_bounds_hold_to_the_byte_and_come_before_any_cryptography,
    b10_an_encrypted_token_is_no_signed_one,
    b11_nothing_is_derived_or_inflated_for_a_token,
    b12_what_is_configured_for_a_claim_is_text_and_no_pattern,
);

fn b1_a_segment_has_one_spelling(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    // Sixteen bytes and a payload one byte longer than a multiple of three: the last
    // character of every segment has bits that mean nothing, and `>` and `?` make
    // the characters in which the alphabets differ.
    let odd = |length: usize| {
        (0..3)
            .map(|blanks| " ".repeat(blanks))
            .find(|blanks| (blanks.len() + length) % 3 == 1)
            .unwrap()
    };
    let header = format!("{}{}", r#"{"alg":"HS256","x":">>>???"}"#, odd(28));
    let payload = claims(r#""x":">>>???~~~""#);
    let honest = token(&header, format!("{payload}{}", odd(payload.len())));
    fronts.accept(&honest);
    let segments: Vec<_> = honest.split('.').collect();
    assert!(honest.contains('-') && honest.contains('_'), "{honest}");
    for place in 0..3 {
        for odd in spellings(segments[place]) {
            let mut altered = segments.clone();
            altered[place] = &odd;
            fronts.refuse(&altered.join("."), Reject::Base64);
            // Signed as it is spelled, so that its spelling alone is wrong.
            fronts.refuse(
                &[&*sign(&altered[..2].join(".")), if place == 2 { "=" } else { "" }].concat(),
                Reject::Base64,
            );
        }
    }
}

/// Other spellings of a segment, that lenient decoders take for the same or for a prefix.
fn spellings(segment: &str) -> Vec<String> {
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
        // The unused bits of the last character.
        format!("{}{}", &segment[..segment.len() - 1], char::from(u8::try_from(last).unwrap() + 1)),
    ];
    if segment.contains(['-', '_']) {
        found.push(segment.replace('-', "+").replace('_', "/"));
    }
    // One character too many, or too few, to be whole bytes.
    found.push(if segment.len().is_multiple_of(4) {
        format!("{segment}A")
    } else {
        segment[..segment.len() / 4 * 4 + 1].to_owned()
    });
    found
}

fn b2_a_token_has_three_segments(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let honest = token(HEADER, claims(""));
    fronts.accept(&honest);
    let (input, tag) = honest.rsplit_once('.').unwrap();
    for odd in [
        String::new(),
        ".".into(),
        tag.into(),
        input.into(),
        format!("{honest}."),
        format!("{honest}.{tag}"),
        format!("{honest}.."),
        format!("{honest}.{honest}"),
        format!("{input}..{tag}"),
        honest.replacen('.', "..", 1),
        sign(&format!("{input}.e30")),
        format!("{honest}{}", ".".repeat(10_000)),
    ] {
        fronts.refuse(&odd, Reject::Segments);
    }
    fronts.refuse(&".".repeat(1_000_000), Reject::TooLong);
    // An empty header is no header, however many segments follow.
    for odd in ["..", "...", "....", &format!(".{honest}"), &".".repeat(limits::MAX_TOKEN_BYTES)] {
        fronts.refuse(odd, Reject::HeaderJson);
    }
    fronts.refuse(&format!(".{}", honest.split_once('.').unwrap().1), Reject::HeaderJson);
    fronts.refuse(&sign(&format!("{}.", input.split_once('.').unwrap().0)), Reject::ClaimsJson);
}

fn b3_the_json_serializations_are_refused_also_when_mixed_with_the_compact_one(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let honest = token(HEADER, claims(""));
    fronts.accept(&honest);
    let parts: Vec<_> = honest.split('.').collect();
    let signature =
        json!({ "protected": parts[0], "header": { "kid": "k" }, "signature": parts[2] });
    let flattened =
        json!({ "payload": parts[1], "protected": parts[0], "signature": parts[2] }).to_string();
    let general = json!({ "payload": parts[1], "signatures": [signature] }).to_string();
    for whole in [&*flattened, &general, &json!(honest).to_string().replace('.', ""), "{}", "[]"] {
        fronts.refuse(whole, Reject::Segments);
    }
    // CVE-2022-39227: one string that is a JSON object to one reader and compact to
    // the other, with the claims of the attacker for whoever splits at dots.
    let other = URL_SAFE_NO_PAD.encode(claims(r#""admin":true"#));
    let mixed = format!(
        r#"{{"{}.{other}.":"","protected":"{}","payload":"{}","signature":"{}"}}"#,
        parts[0], parts[0], parts[1], parts[2]
    );
    fronts.refuse(&mixed, Reject::Base64);
    fronts.refuse(&json!([honest]).to_string(), Reject::Base64);
    fronts.refuse(&json!(honest).to_string(), Reject::Base64);
}

fn b6_an_extension_that_must_be_understood_is_not(protocol: Protocol) {
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
        // Before an algorithm is even looked at.
        r#"{"alg":"none","crit":["x"],"x":1}"#,
    ] {
        fronts.refuse(&token(header, claims("")), Reject::Critical);
    }
}

fn b7_an_unencoded_payload_is_refused(protocol: Protocol) {
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
    // RFC 7797 section 4.2 and 5.2: the payload as it is, or left out.
    let raw = |header: &str, payload: &str| {
        sign(&format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header)))
    };
    fronts.refuse(&raw(unencoded, "e30"), Reject::Unencoded);
    fronts.refuse(&raw(unencoded, &claims("")), Reject::Unencoded);
    fronts.refuse(&raw(unencoded, ""), Reject::Unencoded);
    fronts.refuse(&raw(HEADER, &claims("")), Reject::Base64);
}

fn b8_header_and_payload_are_objects(protocol: Protocol) {
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

fn b9_bounds_hold_to_the_byte_and_come_before_any_cryptography(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let fixed = token(HEADER, claims(r#""pad":"""#)).len();
    let padded = |bytes: usize| token(HEADER, claims(&format!(r#""pad":"{}""#, "x".repeat(bytes))));
    // Base64 grows in steps; the largest that fits, and the smallest that does not.
    let most = (limits::MAX_TOKEN_BYTES - fixed) / 4 * 3;
    let (largest, over) = (padded(most), padded(most + 4));
    assert!(largest.len() <= limits::MAX_TOKEN_BYTES && limits::MAX_TOKEN_BYTES < over.len());
    fronts.accept(&largest);
    fronts.refuse(&over, Reject::TooLong);
    fronts.refuse(&"x".repeat(limits::MAX_TOKEN_BYTES), Reject::Segments);
    fronts.refuse(&"x".repeat(limits::MAX_TOKEN_BYTES + 1), Reject::TooLong);

    let members =
        |count: usize| (0..count).map(|i| format!(r#""m{i}":0"#)).collect::<Vec<_>>().join(",");
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let header = |members: String| format!(r#"{{"alg":"HS256",{members}}}"#);
    fronts.accept(&token(HEADER, claims(&members(limits::MAX_MEMBERS - 3))));
    fronts.accept(&token(header(members(limits::MAX_MEMBERS - 1)), claims("")));
    fronts.accept(&token(
        HEADER,
        claims(&format!(r#""d":{{"x":{}}}"#, nested(limits::MAX_DEPTH - 2))),
    ));
    for (hostile, reject) in [
        (token(HEADER, claims(&members(limits::MAX_MEMBERS - 2))), Reject::TooManyMembers),
        (token(header(members(limits::MAX_MEMBERS)), claims("")), Reject::TooManyMembers),
        (
            token(HEADER, claims(&format!(r#""o":{{{}}}"#, members(limits::MAX_MEMBERS + 1)))),
            Reject::TooManyMembers,
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
        (over, Reject::TooLong),
    ] {
        fronts.refuse(&hostile, reject);
        // With a signature that is wrong, and under no algorithm: still that reason.
        let (input, _) = hostile.rsplit_once('.').unwrap();
        fronts.refuse(&format!("{input}.{}", "A".repeat(43)), reject);
    }
}

fn b10_an_encrypted_token_is_no_signed_one(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let key = SigningKey::generate("ES256", "k");
    let fronts = Fronts::of_keys(&sandbox, &[key.jwk()], &[Algorithm::Es256]);
    fronts.accept(&key.token(&public_claims()));
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    // CVE-2026-29000: a PlainJWT, encrypted for the public key that everybody has.
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
    // Nested, as `cty` would say: the payload is a token, and so no claims.
    let nested = token(r#"{"alg":"HS256","cty":"JWT"}"#, token(HEADER, claims("")));
    fronts.refuse(&nested, Reject::ClaimsJson);
    fronts.refuse(&token(r#"{"alg":"HS256","cty":"JWT"}"#, plain), Reject::ClaimsJson);
}

fn b11_nothing_is_derived_or_inflated_for_a_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims("")));
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    // Two thousand million rounds, were anybody to derive that key.
    let derive =
        r#"{"alg":"PBES2-HS256+A128KW","enc":"A128CBC-HS256","p2c":2147483647,"p2s":"c2FsdA"}"#;
    let inflate = r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#;
    for header in [derive, inflate] {
        fronts.refuse(&format!("{}.{}.AA.AA.AA", encode(header), encode("key")), Reject::Segments);
        fronts.refuse(&token(header, claims("")), Reject::AlgorithmUnsupported);
    }
    // `zip` means nothing to a signed token: its payload is what is signed.
    let zip = r#"{"alg":"HS256","zip":"DEF","p2c":2147483647}"#;
    fronts.accept(&token(zip, claims("")));
    // The claims `{}`, deflated.
    fronts.refuse(&token(zip, [0xab, 0xae, 0x05, 0x00]), Reject::ClaimsJson);
}

fn b12_what_is_configured_for_a_claim_is_text_and_no_pattern(protocol: Protocol) {
    for pattern in [".*", "^prod$", "(a+)+$", "prod|dev", "p.od", "prod*", "%", "[a-z]+", "*"] {
        let config = config_with(|rules| {
            let (claim, value): (Box<str>, Box<str>) = ("type".into(), pattern.into());
            rules.audience = pattern.into();
            rules.constraints = Box::new([
                Constraint::Is { claim, value: value.clone() },
                Constraint::Contains { claim: "list".into(), value },
            ]);
        });
        let verifier = verifier([(config, secret_keys(None, SECRET))]);
        let verdict = |audience: &str, kind: &str, listed: &str| {
            let claims =
                json!({ "iss": "https://idp/", "aud": audience, "type": kind, "list": [listed] });
            verifier.verify(token(HEADER, claims.to_string()).as_bytes(), NOW).err()
        };
        assert_eq!(verdict(pattern, pattern, pattern), None);
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
            assert_eq!(verdict(other, pattern, pattern), Some(aud), "{pattern} {other}");
            assert_eq!(
                verdict(pattern, other, pattern),
                Some(Reject::Constraints),
                "{pattern} {other}"
            );
            assert_eq!(
                verdict(pattern, pattern, other),
                Some(Reject::Constraints),
                "{pattern} {other}"
            );
        }
    }
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{}claims=type is (a+)+$\n", secret_section()));
    assert_eq!(server.auth(&token(HEADER, claims(r#""type":"(a+)+$""#))).status, 200);
    let hostile = token(HEADER, claims(&format!(r#""type":"{}!""#, "a".repeat(5_000))));
    assert_refused(&server.auth(&hostile), &invalid_token(Reject::Constraints));
}
