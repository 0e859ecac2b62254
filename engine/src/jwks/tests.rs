use super::*;

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// RFC 7515 appendix A.3.
const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
/// RFC 8037 appendix A.2.
const ED: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

fn secret(members: &str) -> String {
    format!(r#"{{"kty":"oct","k":"{SECRET}"{members}}}"#)
}

fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn read(
    json: &str,
    origin: Origin,
    algorithms: &[Algorithm],
) -> Result<(usize, Vec<KeyError>), KeySetError> {
    let algorithms = (!algorithms.is_empty()).then(|| algorithms.iter().copied().collect());
    let set = KeySet::from_jwks(json.as_bytes(), Policy { origin, algorithms })?;
    Ok((set.len(), set.skipped().iter().map(|key| key.error).collect()))
}

#[test]
fn a12_ambiguous_static_set_is_refused() {
    let mixed = set(&[
        secret(r#","alg":"HS256","kid":"a""#),
        format!(r#"{{{EC},"alg":"ES256","kid":"b"}}"#),
    ]);
    assert_eq!(read(&mixed, Origin::Static, &[]), Err(KeySetError::Mixed));
    let twice =
        set(&[secret(r#","alg":"HS256","kid":"a""#), secret(r#","alg":"HS384","kid":"a""#)]);
    assert_eq!(read(&twice, Origin::Static, &[]), Err(KeySetError::DuplicateKid));
    let apart =
        set(&[secret(r#","alg":"HS256","kid":"a""#), secret(r#","alg":"HS256","kid":"b""#)]);
    assert_eq!(read(&apart, Origin::Static, &[]), Ok((2, vec![])));
}

#[test]
fn published_set_skips_secrets_and_duplicates() {
    let ec = |kid| format!(r#"{{{EC},"alg":"ES256","kid":"{kid}"}}"#);
    let published =
        set(&[ec("a"), secret(r#","alg":"HS256","kid":"s""#), ec("a"), ec("b"), "5".to_owned()]);
    assert_eq!(
        read(&published, Origin::Published, &[]),
        Ok((2, vec![KeyError::SecretInPublicSet, KeyError::Duplicate, KeyError::NotAnObject]))
    );
}

#[test]
fn one_bad_key_leaves_the_others_alone() {
    let good = format!(r#"{{{EC},"alg":"ES256","kid":"good"}}"#);
    let deep = format!(r#"{{"kid":"deep","x":{}{}}}"#, "[".repeat(20), "]".repeat(20));
    for (bad, error) in [
        (r#"{"kid":"a","kid":"b"}"#, KeyError::DuplicateMember),
        (r#"{"kty":"EC","kid":"b","x":{"y":1,"y":2}}"#, KeyError::DuplicateMember),
        (r#"{"kty":tru}"#, KeyError::NotAnObject),
        (r#"{"kty":"EC" "kid":"b"}"#, KeyError::NotAnObject),
        ("{\"kty\":\"\n\"}", KeyError::NotAnObject),
        ("[]", KeyError::NotAnObject),
        ("null", KeyError::NotAnObject),
        (r#"{"exp":1e999,"iat":99999999999999999999999}"#, KeyError::MissingMember("kty")),
        (&deep, KeyError::TooDeep),
    ] {
        for origin in [Origin::Static, Origin::Published] {
            let json = set(&[bad.to_owned(), good.clone()]);
            assert_eq!(read(&json, origin, &[]), Ok((1, vec![error])), "{bad}");
        }
    }
    let invalid_utf8 = [br#"{"keys":[{"x":"\xff"},"#, good.as_bytes(), b"]}"].concat();
    let policy = Policy { origin: Origin::Published, algorithms: None };
    let set = KeySet::from_jwks(&invalid_utf8, policy).unwrap();
    assert_eq!((set.len(), set.skipped()[0].error), (1, KeyError::NotAnObject));
}

#[test]
fn skipped_key_has_its_kid_and_reason() {
    let json = r#"{"keys":[{"kty":"RSA","kid":"k1","x5c":["MIIC"]},{"use":"enc","kid":"k2","kid2":1,"use":"enc"}]}"#;
    let policy = Policy { origin: Origin::Published, algorithms: None };
    let set = KeySet::from_jwks(json.as_bytes(), policy).unwrap();
    let shown: Vec<_> = set.skipped().iter().map(SkippedKey::to_string).collect();
    let expected = [
        r#"keys[0] (kid "k1"): its member "n" is missing"#,
        r#"keys[1] (kid "k2"): one of its members is there twice"#,
    ];
    assert_eq!(shown, expected);
    assert_eq!(set.skipped_key("k2").map(|key| key.index), Some(1));
    let long = SkippedKey { kid: Some("k".repeat(100).into()), ..set.skipped()[0].clone() };
    assert_eq!(long.shown_kid().unwrap().len(), 66);
}

#[test]
fn null_and_empty_members_of_a_jwk_are_absent() {
    for value in ["null", r#""""#] {
        let members: String = ["alg", "kid", "use", "key_ops", "x5c", "x5t", "d"]
            .map(|name| format!(r#","{name}":{value}"#))
            .concat();
        let json = set(&[format!("{{{EC}{members}}}")]);
        assert_eq!(read(&json, Origin::Published, &[Algorithm::Es256]), Ok((1, vec![])));
        let policy = Policy {
            origin: Origin::Published,
            algorithms: Some([Algorithm::Es256].into_iter().collect()),
        };
        let set = KeySet::from_jwks(json.as_bytes(), policy).unwrap();
        assert_eq!(set.iter().next().unwrap().kid(), None);
    }
}

#[test]
fn key_identity_does_not_depend_on_the_spelling() {
    let identity = |jwk: &str| {
        let policy = Policy { origin: Origin::Published, algorithms: None };
        let set = KeySet::from_jwks(set(&[jwk.to_owned()]).as_bytes(), policy).unwrap();
        assert_eq!(set.skipped(), [], "{jwk}");
        set.iter().next().unwrap().identity()
    };
    let ec = |x: &str, y: &str| {
        identity(&format!(r#"{{"kty":"EC","crv":"P-256","alg":"ES256","x":"{x}","y":"{y}"}}"#))
    };
    let (x, y) = (
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    );
    let usual = ec(x, y);
    let standard = "x/FEzRu9m36HLN/tue659LNpXW6pCyStikYjKIWI5a0=";
    let padded = format!("{x}=");
    assert_eq!(ec(x, standard), usual);
    assert_eq!(ec(&padded, y), usual);
    assert_eq!(ec(&zero_in_front(x), &zero_in_front(&zero_in_front(y))), usual);
}

/// Encodes the number with one more zero byte in front.
fn zero_in_front(encoded: &str) -> String {
    let mut buffer = vec![0; encoded.len()];
    let number = crate::token::decode_base64(encoded.as_bytes(), &mut buffer).unwrap();
    base64_simd::URL_SAFE_NO_PAD.encode_to_string([&[0], number].concat())
}

#[test]
fn published_private_key_is_skipped() {
    let pair = set(&[format!(r#"{{{EC},"alg":"ES256","d":"AAAA"}}"#)]);
    assert_eq!(read(&pair, Origin::Published, &[]), Ok((0, vec![KeyError::Private])));
    assert_eq!(read(&pair, Origin::Static, &[]), Ok((1, vec![])));
}

#[test]
fn a3_key_without_alg_serves_fitting_algorithms() {
    let ec = set(&[format!("{{{EC}}}")]);
    assert_eq!(read(&ec, Origin::Published, &[]), Ok((0, vec![KeyError::NoAlgorithm])));
    assert_eq!(
        read(&ec, Origin::Published, &[Algorithm::Rs256]),
        Ok((0, vec![KeyError::AlgorithmNotConfigured]))
    );
    assert_eq!(
        read(&ec, Origin::Published, &[Algorithm::Es256, Algorithm::Es384]),
        Ok((1, vec![]))
    );
    let named = set(&[format!(r#"{{{ED},"alg":"EdDSA"}}"#)]);
    assert_eq!(
        read(&named, Origin::Published, &[Algorithm::Es256]),
        Ok((0, vec![KeyError::AlgorithmNotConfigured]))
    );
    assert_eq!(read(&named, Origin::Published, &[]), Ok((1, vec![])));
}

#[test]
fn a6_key_of_other_use_or_algorithm_is_skipped() {
    for (members, error) in [
        (r#","use":"enc","alg":"ES256""#, KeyError::NotForSignatures),
        (r#","key_ops":["sign"],"alg":"ES256""#, KeyError::NotForSignatures),
        (r#","key_ops":"verify","alg":"ES256""#, KeyError::MemberType("key_ops")),
        (r#","alg":"ES384""#, KeyError::WrongCurve),
        (r#","alg":"RS256""#, KeyError::WrongKeyType),
        (r#","alg":"HS256""#, KeyError::WrongKeyType),
        (r#","alg":"ES521""#, KeyError::UnknownAlgorithm),
        (r#","alg":"none""#, KeyError::UnknownAlgorithm),
        (r#","alg":5"#, KeyError::MemberType("alg")),
        (r#","alg":"ES256","kid":5"#, KeyError::MemberType("kid")),
    ] {
        assert_eq!(
            read(&set(&[format!("{{{EC}{members}}}")]), Origin::Static, &[]),
            Ok((0, vec![error])),
            "{members}"
        );
    }
    let ops = set(&[format!(r#"{{{EC},"use":"sig","key_ops":["verify"],"alg":"ES256"}}"#)]);
    assert_eq!(read(&ops, Origin::Static, &[]), Ok((1, vec![])));
}

#[test]
fn missing_or_misencoded_member_is_reported() {
    for (jwk, error) in [
        (r#"{"kty":"oct","alg":"HS256"}"#.to_owned(), KeyError::MissingMember("k")),
        (r#"{"kty":"oct","alg":"HS256","k":"AA="}"#.to_owned(), KeyError::Encoding("k")),
        (r#"{"kty":"RSA","alg":"RS256","n":"AQAB"}"#.to_owned(), KeyError::MissingMember("e")),
        (r#"{"kty":"RSA","alg":"RS256","n":"AQAB","e":"AQAB"}"#.to_owned(), KeyError::ModulusSize),
        (r#"{"kty":"XYZ"}"#.to_owned(), KeyError::UnknownKeyType),
        (r#"{"alg":"HS256"}"#.to_owned(), KeyError::MissingMember("kty")),
        (secret(r#","alg":"HS512""#), KeyError::SecretTooShort),
    ] {
        assert_eq!(
            read(&set(std::slice::from_ref(&jwk)), Origin::Static, &[]),
            Ok((0, vec![error])),
            "{jwk}"
        );
    }
}

#[test]
fn document_without_key_set_is_refused() {
    assert_eq!(read("<html>", Origin::Published, &[]), Err(KeySetError::Json));
    assert_eq!(read(r#"{"keys":{}}"#, Origin::Published, &[]), Err(KeySetError::NotAKeySet));
    assert_eq!(read("{}", Origin::Published, &[]), Err(KeySetError::NotAKeySet));
    assert_eq!(read(r#"{"keys":[]}"#, Origin::Published, &[]), Ok((0, vec![])));
    assert_eq!(read(r#"{"keys":[],"keys":[]}"#, Origin::Published, &[]), Err(KeySetError::Json));
    assert_eq!(
        read(&" ".repeat(limits::MAX_KEY_SET_BYTES + 1), Origin::Published, &[]),
        Err(KeySetError::TooLong)
    );
    let many: Vec<_> =
        (0..=limits::MAX_KEYS).map(|kid| secret(&format!(r#","kid":"{kid}""#))).collect();
    assert_eq!(read(&set(&many), Origin::Published, &[]), Err(KeySetError::TooManyKeys));
}

#[test]
fn single_jwk_is_a_set_of_one() {
    assert_eq!(read(&secret(r#","alg":"HS256""#), Origin::Static, &[]), Ok((1, vec![])));
}

#[test]
fn kid_has_a_longest_length() {
    let with = |bytes: usize| {
        let kid = "k".repeat(bytes);
        read(&set(&[format!(r#"{{{EC},"alg":"ES256","kid":"{kid}"}}"#)]), Origin::Published, &[])
    };
    assert_eq!(with(limits::MAX_KID_BYTES), Ok((1, vec![])));
    assert_eq!(with(limits::MAX_KID_BYTES + 1), Ok((0, vec![KeyError::KidTooLong])));
}
