use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use countersign_engine::{
    Algorithm, AudienceRule, Constraint, Issuer, KeySet, Reject, Rules, Snapshot, UnixTime,
    Verifier,
};
use countersign_tests::{
    answers::{assert_refused, invalid_token},
    binary::Sandbox,
    client::Protocol,
    engine::{
        HEADER, ISSUER, NOW, SECRET, cached_verifier, claims, config, config_with, replace,
        secret_keys, secret_verifier, set_keys, sign_with, signing_input, snapshot, token,
        verifier,
    },
    over_every_protocol,
};

use crate::fronts::{secret_section, signature, with_signature};

over_every_protocol!(d1_server_refuses_cached_token_after_exp);

const OTHER: &[u8; 32] = &[7; 32];

/// Verifies a token repeatedly on this and another thread. Asserts that cached and uncached results
/// agree, and returns the result.
#[track_caller]
fn verify_repeatedly(verifier: &Verifier, token: &str, now: UnixTime) -> Option<Reject> {
    let verify = || verifier.verify(token.as_bytes(), now).err();
    let first = verify();
    for _ in 0..8 {
        assert_eq!(verify(), first);
    }
    let is_cached =
        verifier.verify(token.as_bytes(), now).is_ok_and(|verified| verified.is_cached());
    assert_eq!(
        is_cached,
        first.is_none(),
        "accepted tokens are cached, otherwise this tests nothing"
    );
    let elsewhere =
        std::thread::scope(|scope| scope.spawn(|| [verify(), verify()]).join().unwrap());
    assert_eq!(elsewhere, [first, first]);
    assert_eq!(verify(), first);
    first
}

fn token_signed_with(header: &str, secret: &[u8]) -> String {
    sign_with(secret, &signing_input(header, claims("")))
}

#[test]
fn d1_cached_token_expires_at_its_exp() {
    for leeway in [0, 30] {
        let verifier =
            verifier([(config_with(|rules| rules.leeway = leeway), secret_keys(None, SECRET))]);
        let exp = NOW.0 + 100;
        let end = exp + u64::from(leeway);
        for members in [
            format!(r#""exp":{exp}"#),
            format!(r#""exp":{exp}.9"#),
            format!(r#""exp":{exp},"iat":1600000000"#),
            format!(r#""iat":1600000000,"nbf":1600000000,"exp":{exp},"jti":"1""#),
        ] {
            let token = token(HEADER, claims(&members));
            for (now, expected) in [
                (NOW.0, None),
                (end - 1, None),
                (end, Some(Reject::Expired)),
                (end + 1, Some(Reject::Expired)),
                (u64::MAX, Some(Reject::Expired)),
                // The clock was set back: the token is valid again.
                (end - 1, None),
                (end, Some(Reject::Expired)),
            ] {
                assert_eq!(
                    verify_repeatedly(&verifier, &token, UnixTime(now)),
                    expected,
                    "{members} at {now}"
                );
            }
        }
        let without_exp = token(HEADER, claims(""));
        assert_eq!(
            [NOW.0, u64::MAX].map(|now| verify_repeatedly(&verifier, &without_exp, UnixTime(now))),
            [None, None]
        );
    }
}

fn d1_server_refuses_cached_token_after_exp(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let exp = now().as_secs() + 4;
    let token = token(HEADER, claims(&format!(r#""exp":{exp}"#)));
    for _ in 0..10 {
        assert_eq!(server.auth(&token).status, 200);
    }
    std::thread::sleep(Duration::from_secs(exp).saturating_sub(now()));
    for _ in 0..10 {
        assert_refused(&server.auth(&token), &invalid_token(Reject::Expired));
    }
}

#[test]
fn d2_early_token_is_accepted_only_from_its_nbf() {
    let verifier = secret_verifier();
    for (name, reject) in [("nbf", Reject::NotYetValid), ("iat", Reject::IssuedInFuture)] {
        let start = NOW.0 + 100;
        let token = token(HEADER, claims(&format!(r#""{name}":{start},"exp":{}"#, start + 50)));
        for (now, expected) in [
            (NOW.0, Some(reject)),
            (start - 1, Some(reject)),
            (start, None),
            (start + 49, None),
            (start - 1, Some(reject)),
            (start + 50, Some(Reject::Expired)),
            (start, None),
        ] {
            assert_eq!(
                verify_repeatedly(&verifier, &token, UnixTime(now)),
                expected,
                "{name} at {now}"
            );
        }
    }
}

#[test]
fn d3_cached_token_is_refused_without_its_key() {
    let verifier = verifier([(config([Algorithm::Hs256]), secret_keys(Some("k"), SECRET))]);
    let token = token_signed_with(r#"{"alg":"HS256","kid":"k"}"#, SECRET);
    assert_eq!(verify_repeatedly(&verifier, &token, NOW), None);
    for (keys, reject) in [
        (Arc::new(KeySet::default()), Reject::KidUnknown),
        (secret_keys(Some("other"), SECRET), Reject::KidUnknown),
        (secret_keys(Some("k"), OTHER), Reject::Signature),
    ] {
        set_keys(&verifier, ISSUER, Some(&keys));
        assert_eq!(verify_repeatedly(&verifier, &token, NOW), Some(reject));
        set_keys(&verifier, ISSUER, Some(&secret_keys(Some("k"), SECRET)));
        assert_eq!(verify_repeatedly(&verifier, &token, NOW), None, "the key is back");
    }
    // The issuer is removed, or has no keys.
    replace(&verifier, Snapshot::default());
    assert_eq!(verify_repeatedly(&verifier, &token, NOW), Some(Reject::IssuerUnknown));
    replace(&verifier, snapshot([(config([Algorithm::Hs256]), secret_keys(Some("k"), SECRET))]));
    assert_eq!(verify_repeatedly(&verifier, &token, NOW), None);
    replace(
        &verifier,
        Snapshot::new([Issuer::new(config([Algorithm::Hs256]).into(), None)]).unwrap(),
    );
    assert_eq!(verify_repeatedly(&verifier, &token, NOW), Some(Reject::KeysUnavailable));
}

#[test]
fn d4_new_key_with_old_kid_ends_old_tokens() {
    let header = r#"{"alg":"HS256","kid":"k"}"#;
    let (old, new) = (token_signed_with(header, SECRET), token_signed_with(header, OTHER));
    let verifier =
        verifier([(config([Algorithm::Hs256, Algorithm::Hs384]), secret_keys(Some("k"), SECRET))]);
    for _ in 0..3 {
        assert_eq!(
            [verify_repeatedly(&verifier, &old, NOW), verify_repeatedly(&verifier, &new, NOW)],
            [None, Some(Reject::Signature)]
        );
        set_keys(&verifier, ISSUER, Some(&secret_keys(Some("k"), OTHER)));
        assert_eq!(
            [verify_repeatedly(&verifier, &old, NOW), verify_repeatedly(&verifier, &new, NOW)],
            [Some(Reject::Signature), None]
        );
        set_keys(&verifier, ISSUER, Some(&secret_keys(Some("k"), SECRET)));
    }
    // The same key published again is the same key.
    assert_eq!(verify_repeatedly(&verifier, &old, NOW), None);
    // The same bytes and kid with another algorithm are another key.
    let long = [SECRET.as_slice(), SECRET].concat();
    let of = |algorithm| {
        let material = countersign_engine::KeyMaterial::Secret(&long);
        Arc::new(KeySet::new(vec![
            countersign_engine::VerificationKey::new(Some("k"), algorithm, material).unwrap(),
        ]))
    };
    let by_long = token_signed_with(header, &long);
    set_keys(&verifier, ISSUER, Some(&of(Algorithm::Hs256)));
    assert_eq!(verify_repeatedly(&verifier, &by_long, NOW), None);
    set_keys(&verifier, ISSUER, Some(&of(Algorithm::Hs384)));
    assert_eq!(verify_repeatedly(&verifier, &by_long, NOW), Some(Reject::AlgorithmNotAllowed));
}

#[test]
fn d5_cached_token_follows_current_rules() {
    let expired_at = NOW.0 - 10;
    let members =
        format!(r#""exp":{expired_at},"list":[1],"type":"dev","urn:inmanta:ct":"api","e":5"#);
    let lenient = |rules: &mut Rules| {
        rules.leeway = 60;
    };
    type Change = fn(&mut Rules);
    let cases: [(Change, Reject); 7] = [
        (|rules| rules.audience = AudienceRule::new("them"), Reject::Audience),
        (|rules| rules.leeway = 0, Reject::Expired),
        (|rules| rules.leeway = 10, Reject::Expired),
        (|rules| rules.scopes = ["a".into()].into(), Reject::Scope),
        (
            |rules| rules.client_types.allowed = Some(Box::new(["agent".into()])),
            Reject::ClientTypes,
        ),
        (|rules| rules.environment_claim = "e".into(), Reject::EnvironmentFormat),
        (
            |rules| {
                rules.constraints =
                    Box::new([Constraint::Is { claim: "type".into(), value: "prod".into() }])
            },
            Reject::Constraints,
        ),
    ];
    let token = token(HEADER, claims(&members));
    let of = |change: &dyn Fn(&mut Rules)| {
        [(config_with(|rules| change(rules)), secret_keys(None, SECRET))]
    };
    let changing = verifier(of(&lenient));
    for (change, reject) in cases {
        let strict = |rules: &mut Rules| {
            lenient(rules);
            change(rules);
        };
        // One verifier with changing rules, and two verifiers with different rules.
        let (one, other) = (verifier(of(&lenient)), verifier(of(&strict)));
        for _ in 0..3 {
            assert_eq!(verify_repeatedly(&changing, &token, NOW), None);
            replace(&changing, snapshot(of(&strict)));
            assert_eq!(verify_repeatedly(&changing, &token, NOW), Some(reject));
            replace(&changing, snapshot(of(&lenient)));
            assert_eq!(
                [verify_repeatedly(&one, &token, NOW), verify_repeatedly(&other, &token, NOW)],
                [None, Some(reject)]
            );
        }
    }
}

#[test]
fn d5_cached_username_follows_current_rules() {
    let by = |claim: &'static str| {
        [(
            config_with(|rules| rules.username.claims = [claim.into()].into()),
            secret_keys(None, SECRET),
        )]
    };
    let token = token(HEADER, claims(r#""email":"bob@example.com""#));
    let (changing, other) = (verifier(by("sub")), verifier(by("email")));
    let username = |verifier: &Verifier| {
        assert_eq!(verify_repeatedly(verifier, &token, NOW), None);
        verifier.verify(token.as_bytes(), NOW).unwrap().claims().username().map(str::to_owned)
    };
    for _ in 0..3 {
        assert_eq!(
            [username(&changing), username(&other)],
            [Some("bob".into()), Some("bob@example.com".into())]
        );
        replace(&changing, snapshot(by("email")));
        assert_eq!(username(&changing).as_deref(), Some("bob@example.com"));
        replace(&changing, snapshot(by("missing")));
        assert_eq!(username(&changing), None);
        replace(&changing, snapshot(by("sub")));
    }
}

#[test]
fn d6_similar_tokens_are_not_confused() {
    let verifier = secret_verifier();
    // Equal for four kilobytes, then different digits, then equal again.
    let padding = "x".repeat(4_096);
    let of = |user: usize| {
        token(
            HEADER,
            format!(
                r#"{{"iss":"{ISSUER}","aud":"us","pad":"{padding}","sub":"user-{user:03}","end":"{padding}"}}"#
            ),
        )
    };
    let tokens: Vec<_> = (0..200).map(of).collect();
    for _ in 0..3 {
        for (user, token) in tokens.iter().enumerate() {
            let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
            assert_eq!(verified.claims().subject(), Some(&*format!("user-{user:03}")));
            // The token with the valid signature of another token.
            let crossed = with_signature(token, &signature(&tokens[(user + 1) % tokens.len()]));
            assert_eq!(verifier.verify(crossed.as_bytes(), NOW).err(), Some(Reject::Signature));
        }
    }
    // The same payload and signature under another header.
    let valid = &tokens[0];
    let (header, rest) = valid.split_once('.').unwrap();
    let other = signing_input(r#"{"alg":"HS384"}"#, "");
    assert_eq!(other.len(), header.len() + 1);
    assert_eq!(
        verify_repeatedly(&verifier, &format!("{other}{rest}"), NOW),
        Some(Reject::AlgorithmNotAllowed)
    );
    assert_eq!(verify_repeatedly(&verifier, valid, NOW), None);
}

#[test]
fn d7_token_with_one_more_byte_is_refused() {
    let verifier = secret_verifier();
    let valid = token(HEADER, claims(""));
    assert_eq!(verify_repeatedly(&verifier, &valid, NOW), None);
    for byte in 0..=u8::MAX {
        let reject = match byte {
            b'.' => Reject::Segments,
            // 44 characters decode to 33 bytes, a tag of another length.
            b'-' | b'_' => Reject::Signature,
            byte if byte.is_ascii_alphanumeric() => Reject::Signature,
            _ => Reject::Base64,
        };
        let longer = [valid.as_bytes(), &[byte]].concat();
        assert_eq!(verifier.verify(&longer, NOW).err(), Some(reject), "{byte} appended");
        let longer = [&[byte], valid.as_bytes()].concat();
        let reject = if byte == b'.' { Reject::HeaderJson } else { Reject::Base64 };
        assert_eq!(verifier.verify(&longer, NOW).err(), Some(reject), "{byte} prepended");
        assert!(verifier.verify(valid.as_bytes(), NOW).is_ok());
    }
}

#[test]
fn d7_flood_of_invalid_tokens_changes_no_result() {
    let verifier = secret_verifier();
    let good: Vec<_> =
        (0..20).map(|user| token(HEADER, claims(&format!(r#""jti":"{user}""#)))).collect();
    let bad: Vec<_> = good.iter().map(|token| with_signature(token, &[0x5a; 32])).collect();
    for round in 0..20_000usize {
        // Always a new payload and sometimes a new header, with an invalid signature.
        let header = if round % 7 == 0 {
            format!(r#"{{"alg":"HS256","kid":"{round}"}}"#)
        } else {
            HEADER.to_owned()
        };
        let garbage = format!(
            "{}.{}",
            signing_input(header, claims(&format!(r#""jti":"{round}""#))),
            "A".repeat(43)
        );
        assert_eq!(verifier.verify(garbage.as_bytes(), NOW).err(), Some(Reject::Signature));
        assert!(verifier.verify(good[round % 20].as_bytes(), NOW).is_ok(), "{round}");
        assert_eq!(
            verifier.verify(bad[round % 20].as_bytes(), NOW).err(),
            Some(Reject::Signature),
            "{round}"
        );
    }
}

#[test]
fn d8_cached_refusal_ends_when_keys_change() {
    let right = secret_keys(Some("k"), SECRET);
    let token = token_signed_with(r#"{"alg":"HS256","kid":"k"}"#, SECRET);
    let issuer =
        |keys| Snapshot::new([Issuer::new(config([Algorithm::Hs256]).into(), keys)]).unwrap();
    for (before, reject) in [
        (issuer(Some(secret_keys(Some("old"), OTHER))), Reject::KidUnknown),
        (issuer(Some(secret_keys(Some("k"), OTHER))), Reject::Signature),
        (issuer(Some(Arc::default())), Reject::KidUnknown),
        (issuer(None), Reject::KeysUnavailable),
    ] {
        let verifier = cached_verifier(before);
        assert_eq!(verify_repeatedly(&verifier, &token, NOW), Some(reject));
        set_keys(&verifier, ISSUER, Some(&right));
        assert!(verifier.verify(token.as_bytes(), NOW).is_ok(), "at once, after {reject}");
        assert_eq!(verify_repeatedly(&verifier, &token, NOW), None);
    }
    // Also when the issuer, its algorithms or its rules change.
    let strict = config_with(|rules| rules.audience = AudienceRule::new("them"));
    for (before, reject) in [
        (Snapshot::default(), Reject::IssuerUnknown),
        (snapshot([(config([Algorithm::Hs512]), Arc::clone(&right))]), Reject::AlgorithmNotAllowed),
        (snapshot([(strict, Arc::clone(&right))]), Reject::Audience),
    ] {
        let verifier = cached_verifier(before);
        assert_eq!(verify_repeatedly(&verifier, &token, NOW), Some(reject));
        replace(&verifier, snapshot([(config([Algorithm::Hs256]), Arc::clone(&right))]));
        assert!(verifier.verify(token.as_bytes(), NOW).is_ok(), "accepted at once after {reject}");
    }
}
