use countersign_engine::{Algorithm, Reject, UnixTime, limits};
use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    engine::{
        AUDIENCE, HEADER, ISSUER, NOW, SECRET, claims, config_with, secret_keys, sign_with,
        signing_input, token, verifier,
    },
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::json;

use crate::fronts::{Fronts, PUBLIC_ISSUER, public_section, published_issuer, secret_section};

over_every_protocol!(
    c1_malformed_time_is_refused_not_ignored,
    c1_exp_in_milliseconds_is_refused,
    c2_exp_boundary_is_exact_with_any_leeway,
    c3_audience_must_match_exactly,
    c4_issuer_is_compared_byte_by_byte,
    c5_key_is_bound_to_its_issuer,
    c6_id_token_is_refused,
    c6_token_of_another_type_is_refused,
    c7_lifetime_of_a_token_is_limited,
    c7_token_from_the_future_is_refused,
);

/// Time in the far future, also for the server's real clock.
const FAR: u64 = 4_102_444_800;

fn c1_malformed_time_is_refused_not_ignored(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    for valid in [
        format!(r#""exp":{FAR},"nbf":0,"iat":0"#),
        format!(r#""exp":{FAR}.5,"nbf":1600000000.25,"iat":-0"#),
        r#""exp":4.1024448e9,"nbf":1.6e9,"iat":16E8"#.to_owned(),
        format!(r#""exp":{}"#, FAR + 100),
    ] {
        fronts.accept(&token(HEADER, claims(&valid)));
    }
    for (name, reject) in [
        ("exp", Reject::ExpiryFormat),
        ("nbf", Reject::NotBeforeFormat),
        ("iat", Reject::IssuedAtFormat),
    ] {
        for value in [
            "\"4102444800\"",
            "\"\"",
            "\"never\"",
            "null",
            "true",
            "false",
            "[]",
            "[4102444800]",
            "{}",
            "-1",
            "-0.5",
            "-1e300",
            "9007199254740992",
            "9007199254740993.0",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "1e16",
            "1e308",
            "-9223372036854775808",
            "1e400",
            "-1e400",
            "99999999999999999999999999e999",
        ] {
            fronts.refuse(&token(HEADER, claims(&format!(r#""{name}":{value}"#))), reject);
        }
        for value in ["NaN", "Infinity"] {
            fronts.refuse(
                &token(HEADER, claims(&format!(r#""{name}":{value}"#))),
                Reject::ClaimsJson,
            );
        }
    }
}

#[test]
fn c1_time_plus_leeway_does_not_overflow() {
    let lenient =
        verifier([(config_with(|rules| rules.leeway = u32::MAX), secret_keys(None, SECRET))]);
    let latest = token(HEADER, claims(&format!(r#""exp":{}"#, limits::MAX_TIME)));
    let end = limits::MAX_TIME + u64::from(u32::MAX);
    for (now, expected) in [
        (0, Some(Reject::ExpiryFormat)),
        (NOW.0, Some(Reject::ExpiryFormat)),
        (limits::MAX_TIME - limits::MAX_TIME_TO_EXPIRY - 1, Some(Reject::ExpiryFormat)),
        (limits::MAX_TIME - limits::MAX_TIME_TO_EXPIRY, None),
        (end - 1, None),
        (end, Some(Reject::Expired)),
        (u64::MAX - 1, Some(Reject::Expired)),
        (u64::MAX, Some(Reject::Expired)),
    ] {
        assert_eq!(lenient.verify(latest.as_bytes(), UnixTime(now)).err(), expected, "{now}");
    }
    for name in ["nbf", "iat"] {
        let token = token(HEADER, claims(&format!(r#""{name}":{}"#, limits::MAX_TIME)));
        let early = if name == "nbf" { Reject::NotYetValid } else { Reject::IssuedInFuture };
        assert_eq!(lenient.verify(token.as_bytes(), NOW).err(), Some(early));
        assert!(lenient.verify(token.as_bytes(), UnixTime(u64::MAX)).is_ok());
    }
}

fn c1_exp_in_milliseconds_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let with_exp = |exp: u64| token(HEADER, claims(&format!(r#""exp":{exp}"#)));
    fronts.accept(&with_exp(FAR));
    for exp in [FAR * 1000, FAR * 1_000_000, limits::MAX_TIME, 9_999_999_999] {
        fronts.refuse(&with_exp(exp), Reject::ExpiryFormat);
    }
}

fn c2_exp_boundary_is_exact_with_any_leeway(protocol: Protocol) {
    for leeway in [0, 1, 60, 3600] {
        let verifier =
            verifier([(config_with(|rules| rules.leeway = leeway), secret_keys(None, SECRET))]);
        let end = NOW.0 + u64::from(leeway);
        for exp in [format!("{}", NOW.0), format!("{}.0", NOW.0), format!("{}.999", NOW.0)] {
            let token = token(HEADER, claims(&format!(r#""exp":{exp}"#)));
            for (now, expected) in
                [(end - 1, None), (end, Some(Reject::Expired)), (end + 1, Some(Reject::Expired))]
            {
                assert_eq!(
                    verifier.verify(token.as_bytes(), UnixTime(now)).err(),
                    expected,
                    "{exp} at {now}, leeway {leeway}"
                );
            }
        }
    }
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims(&format!(r#""exp":{FAR}"#))));
    for expired in ["0", "1", "1e0", "0.5", "1600000000", "1600000000.9"] {
        fronts.refuse(&token(HEADER, claims(&format!(r#""exp":{expired}"#))), Reject::Expired);
    }
}

fn c3_audience_must_match_exactly(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let with = |member: &str| token(HEADER, format!(r#"{{"iss":"{ISSUER}","sub":"bob"{member}}}"#));
    for valid in [r#""us""#, r#"["us"]"#, r#"["them","us"]"#, r#"["us","us"]"#] {
        fronts.accept(&with(&format!(r#","aud":{valid}"#)));
    }
    fronts.refuse(&with(""), Reject::AudienceMissing);
    // For another service of the same issuer, although issued to a client named `us`.
    fronts.refuse(
        &with(r#","aud":"them","azp":"us","client_id":"us","resource":"us""#),
        Reject::Audience,
    );
    for (audience, reject) in [
        ("null", Reject::AudienceMissing),
        (r#""""#, Reject::AudienceMissing),
        ("[]", Reject::AudienceMissing),
        (r#""them""#, Reject::Audience),
        (r#""US""#, Reject::Audience),
        (r#""us ""#, Reject::Audience),
        (r#"" us""#, Reject::Audience),
        (r#""u""#, Reject::Audience),
        (r#""us/""#, Reject::Audience),
        (r#""usa""#, Reject::Audience),
        (r#""us,them""#, Reject::Audience),
        (r#""them us""#, Reject::Audience),
        (r#""us\u0000""#, Reject::Audience),
        (r#""[\"us\"]""#, Reject::Audience),
        (r#"["them"]"#, Reject::Audience),
        (r#"["","them"]"#, Reject::Audience),
        (r#"[["us"]]"#, Reject::AudienceFormat),
        (r#"[{"us":"us"}]"#, Reject::AudienceFormat),
        (r#"["us",5]"#, Reject::AudienceFormat),
        (r#"[null,"us"]"#, Reject::AudienceFormat),
        (r#"{"us":"us"}"#, Reject::AudienceFormat),
        ("true", Reject::AudienceFormat),
        ("0", Reject::AudienceFormat),
    ] {
        fronts.refuse(&with(&format!(r#","aud":{audience}"#)), reject);
    }
}

fn c4_issuer_is_compared_byte_by_byte(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let of = |issuer: &str| {
        token(HEADER, format!(r#"{{"iss":{issuer},"aud":"{AUDIENCE}","sub":"bob"}}"#))
    };
    fronts.accept(&of(r#""https://idp/""#));
    fronts.accept(&of(r#""https:\/\/idp\u002f""#));
    for issuer in [
        r#""https://idp""#,
        r#""https://idp//""#,
        r#""https://idp/x""#,
        r#""https://idp/?""#,
        r#""https://idp/#""#,
        r#""https://idp.evil/""#,
        r#""https://evil/https://idp/""#,
        r#""https://x@idp/""#,
        r#""https://idp:443/""#,
        r#""http://idp/""#,
        r#""HTTPS://idp/""#,
        r#""https://IDP/""#,
        r#""https://\u0456dp/""#,
        r#""https://idp%2f""#,
        r#""https://idp/./""#,
        r#"" https://idp/""#,
        r#""https://idp/ ""#,
        r#""https://idp/\n""#,
        r#""https://idp/\u0000""#,
        r#""ttps://idp/""#,
        r#""""#,
        r#""/""#,
        r#"["https://idp/"]"#,
        r#"["https://idp/","https://evil/"]"#,
        r#"{"https://idp/":true}"#,
        "null",
        "true",
        "5",
    ] {
        fronts.refuse(&of(issuer), Reject::IssuerUnknown);
    }
    fronts.refuse(&token(HEADER, r#"{"aud":"us"}"#), Reject::IssuerMissing);
    fronts.refuse(
        &token(r#"{"alg":"HS256","iss":"https://idp/"}"#, r#"{"aud":"us"}"#),
        Reject::IssuerMissing,
    );
}

fn c5_key_is_bound_to_its_issuer(protocol: Protocol) {
    const OTHER_SECRET: &[u8; 32] = &[7; 32];
    let (one, other, lone) = (
        SigningKey::generate("ES256", "k"),
        SigningKey::generate("ES256", "k"),
        SigningKey::generate("ES256", "lone"),
    );
    let (first, second) = (
        JwksServer::start(&json!({ "keys": [one.jwk()] }).to_string()),
        JwksServer::start(&json!({ "keys": [other.jwk(), lone.jwk()] }).to_string()),
    );
    let sandbox = Sandbox::over(protocol);
    let renamed = public_section("ES256", &second.uri()).replace("public", "second");
    let server =
        sandbox.serve(&[secret_section(), public_section("ES256", &first.uri()), renamed].concat());
    let (mut config, keys) = published_issuer(&[other.jwk(), lone.jwk()], &[Algorithm::Es256]);
    config.name = "https://second/".into();
    let verifier = verifier([
        published_issuer(&[one.jwk()], &[Algorithm::Es256]),
        (config, keys),
        (config_with(|_| ()), secret_keys(None, SECRET)),
        {
            let mut config = config_with(|_| ());
            config.name = "https://third/".into();
            (config, secret_keys(None, OTHER_SECRET))
        },
    ]);
    let of = |issuer: &str| json!({ "iss": issuer, "aud": AUDIENCE, "sub": "bob", "exp": FAR });
    // Only the engine has a fourth issuer, so that two issuers have different secrets.
    let by = |secret, issuer| sign_with(secret, &signing_input(HEADER, of(issuer).to_string()));
    let engine = |token: &str| verifier.verify(token.as_bytes(), NOW).err();
    assert_eq!(
        [engine(&by(SECRET, ISSUER)), engine(&by(OTHER_SECRET, "https://third/"))],
        [None, None]
    );
    assert_eq!(engine(&by(OTHER_SECRET, ISSUER)), Some(Reject::Signature));
    assert_eq!(engine(&by(SECRET, "https://third/")), Some(Reject::Signature));

    let fronts = Fronts { verifier, server };
    fronts.accept(&one.token(&of(PUBLIC_ISSUER)));
    fronts.accept(&other.token(&of("https://second/")));
    fronts.accept(&lone.token(&of("https://second/")));
    fronts.refuse(&one.token(&of("https://second/")), Reject::Signature);
    fronts.refuse(&other.token(&of(PUBLIC_ISSUER)), Reject::Signature);
    fronts.refuse(&lone.token(&of(PUBLIC_ISSUER)), Reject::KidUnknown);
    fronts.refuse(&one.token(&of(ISSUER)), Reject::AlgorithmNotAllowed);
    fronts.refuse(&by(SECRET, PUBLIC_ISSUER), Reject::AlgorithmNotAllowed);
}

fn c6_id_token_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        claims(r#""client_id":"console","scope":"all""#),
    ));
    // Claims of an ID token: the client as the audience, and details of the login.
    let login =
        r#""nonce":"n-0S6","auth_time":1600000000,"at_hash":"MTIzNDU2Nzg5MDEyMzQ1Ng","acr":"0""#;
    for audience in [r#""console""#, r#"["console"]"#, r#"["console","account"]"#] {
        let claims =
            format!(r#"{{"iss":"{ISSUER}","aud":{audience},"azp":"us","sub":"bob",{login}}}"#);
        fronts.refuse(&token(r#"{"alg":"HS256","typ":"JWT"}"#, &claims), Reject::Audience);
        fronts.refuse(&token(r#"{"alg":"HS256","typ":"at+jwt"}"#, &claims), Reject::Audience);
    }
}

fn c6_token_of_another_type_is_refused(protocol: Protocol) {
    let typed = |name: &str| token(format!(r#"{{"alg":"HS256","typ":"{name}"}}"#), claims(""));
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    for accepted in ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"] {
        fronts.accept(&typed(accepted));
    }
    for other in [
        "dpop+jwt",
        "secevent+jwt",
        "logout+jwt",
        "application/dpop+jwt",
        "DPOP+JWT",
        "token-introspection+jwt",
    ] {
        fronts.refuse(&typed(other), Reject::Type);
    }
    // Logout tokens of many providers have no type of their own, and may have our audience.
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for escaped in [event.to_owned(), event.replace('/', r"\/")] {
        let logout = claims(&format!(r#""sid":"s","events":{{"{escaped}":{{}}}}"#));
        fronts.refuse(&token(HEADER, &logout), Reject::Type);
    }
    for odd in ["5", "null", r#"["at+jwt"]"#] {
        fronts.refuse(
            &token(format!(r#"{{"alg":"HS256","typ":{odd}}}"#), claims("")),
            Reject::TypeFormat,
        );
    }
    // RFC 9068 section 4: a resource server may accept only access tokens.
    let sandbox = Sandbox::over(protocol);
    // Countersign issues tokens of type JWT, so another section has to sign.
    let signer = secret_section()
        .replace("[auth_jwt_secret]", "[auth_jwt_signer]")
        .replace(ISSUER, "https://signer/");
    let server = sandbox
        .serve(&(signer + &secret_section().replace("sign=true", "sign=false") + "typ=at+jwt\n"));
    let strict = config_with(|rules| rules.token_types = Some(Box::new(["at+jwt".into()])));
    let fronts = Fronts { verifier: verifier([(strict, secret_keys(None, SECRET))]), server };
    fronts.accept(&typed("at+jwt"));
    fronts.accept(&typed("application/at+JWT"));
    fronts.refuse(&typed("JWT"), Reject::Type);
    fronts.refuse(&token(HEADER, claims("")), Reject::Type);
}

fn c7_lifetime_of_a_token_is_limited(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let section = secret_section().replace("expire=0", "expire=600");
    let server = sandbox.serve(&(section + "max_lifetime=600\nleeway=60\n"));
    let bounded = config_with(|rules| (rules.max_lifetime, rules.leeway) = (Some(600), 60));
    let fronts = Fronts { verifier: verifier([(bounded, secret_keys(None, SECRET))]), server };
    let living = |members: &str| token(HEADER, claims(members));
    let start = FAR - 300;
    for members in [
        String::new(),
        format!(r#""exp":{FAR}"#),
        r#""iat":1600000000"#.into(),
        format!(r#""iat":1600000000,"exp":{FAR}"#),
    ] {
        fronts.refuse(&living(&members), Reject::Lifetime);
    }
    let within = |at: u64| {
        let token = living(&format!(r#""iat":{start},"exp":{}"#, start + at));
        fronts.verifier.verify(token.as_bytes(), UnixTime(start)).err()
    };
    assert_eq!(within(600), None, "the leeway does not extend the lifetime");
    assert_eq!(within(601), Some(Reject::Lifetime));
}

fn c7_token_from_the_future_is_refused(protocol: Protocol) {
    for leeway in [0, 60] {
        let verifier =
            verifier([(config_with(|rules| rules.leeway = leeway), secret_keys(None, SECRET))]);
        let latest = NOW.0 + u64::from(leeway);
        for (name, reject) in [("iat", Reject::IssuedInFuture), ("nbf", Reject::NotYetValid)] {
            for (at, expected) in
                [(0, None), (latest, None), (latest + 1, Some(reject)), (FAR, Some(reject))]
            {
                let token = token(HEADER, claims(&format!(r#""{name}":{at},"exp":{}"#, FAR + 1)));
                assert_eq!(
                    verifier.verify(token.as_bytes(), NOW).err(),
                    expected,
                    "{name} {at}, leeway {leeway}"
                );
            }
        }
    }
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims(r#""iat":1600000000,"nbf":1600000000"#)));
    fronts.refuse(&token(HEADER, claims(r#""iat":4102444800"#)), Reject::IssuedInFuture);
    fronts.refuse(&token(HEADER, claims(r#""nbf":4102444800"#)), Reject::NotYetValid);
    fronts.refuse(&token(HEADER, claims(r#""iat":4102444800,"exp":1"#)), Reject::IssuedInFuture);
}
