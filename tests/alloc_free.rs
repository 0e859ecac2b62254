//! Verifying a token does not allocate, and neither does refusing one, for every [`Reject`], or
//! deciding by route about its request. A counting allocator checks this.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, CertificateThumbprint, ClientTypes, Constraint, ExportFormat, ExportedClaim, Issuer,
    IssuerConfig, IssuerTenants, KeyMaterial, KeySet, Presentation, Reject, Revocation,
    RevocationTarget, RevocationsWriter, Rules, UnixTime, UsernameRule, VerificationKey, Verifier,
    jwks::{Origin, Policy},
};
use countersign_server::{
    authorization::routes::RouteMatch,
    config::{Config, ConfigFormat, RawConfig},
    embedding::{
        CacheSize, CheckDecision, ConnectionCertificate, DecisionParts, EmbeddedRequest,
        HeaderLines, TierConfig,
    },
    tenancy::{
        identity::TenantIdentity,
        tenant::{TenantAccess, TenantImpersonation},
    },
};
use countersign_tests::{
    allocations::{CountingAllocator, allocation_count},
    engine::{NOW, SECRET, signing_input, token as signed},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn rules() -> Rules {
    Rules {
        client_types: ClientTypes {
            claim: "ct".into(),
            when_absent: None,
            allowed: Some(Box::new(["api".into()])),
        },
        environment_claim: "env".into(),
        constraints: Box::new([Constraint::Is { claim: "zone".into(), value: "a".into() }]),
        exported_claims: [("sub", ExportFormat::Text), ("big", ExportFormat::Json)]
            .map(|(path, format)| ExportedClaim { path: path.into(), format })
            .into(),
        ..Rules::new("us")
    }
}

fn named() -> Rules {
    let rules = rules();
    let username = UsernameRule { required: true, takes_numbers: true, ..rules.username.clone() };
    Rules {
        username: UsernameRule { claims: ["name".into()].into(), prefix: "é:".into(), ..username },
        ..rules
    }
}

fn issuer(name: &str, rules: Rules, kid_required: bool, keys: Option<KeySet>) -> Issuer {
    let usual = IssuerConfig::new(name, "us", [Algorithm::Hs256, Algorithm::Es256]);
    let config = IssuerConfig { kid_required, rules, ..usual };
    Issuer::new(Arc::new(config), keys.map(Arc::new))
}

const SKIPPED_KEY: &[u8] = br#"{"keys":[{"kty":"EC","kid":"skipped"}]}"#;

/// An issuer whose names have a tenant, and whose tokens have numbers as ids.
fn with_tenants(keys: Option<KeySet>) -> Issuer {
    let rules = Rules { numeric_ids: true, ..rules() };
    let config = IssuerConfig {
        aliases: ["alias/{tenantid}".into()].into(),
        tenants: IssuerTenants::Any,
        rules,
        ..IssuerConfig::new("of/{tenantid}", "us", [Algorithm::Hs256])
    };
    Issuer::new(Arc::new(config), keys.map(Arc::new))
}

fn verifier(writer: &RevocationsWriter, cache_bytes: usize) -> Verifier {
    let key = |kid| {
        VerificationKey::new(Some(kid), Algorithm::Hs256, KeyMaterial::Secret(SECRET)).unwrap()
    };
    let set = || Some(KeySet::published(vec![key("k"), key("revoked")]));
    let policy = Policy { origin: Origin::Published, algorithms: None };
    let issuers = [
        issuer("i", rules(), false, set()),
        issuer("strict", Rules { max_lifetime: Some(60), ..rules() }, true, set()),
        issuer("ends", Rules { require_expiry: true, ..rules() }, true, set()),
        issuer("named", named(), true, set()),
        issuer("down", rules(), false, None),
        issuer("scoped", Rules { scopes: ["a".into()].into(), ..rules() }, true, set()),
        with_tenants(set()),
        issuer("skips", rules(), false, Some(KeySet::from_jwks(SKIPPED_KEY, policy).unwrap())),
    ];
    let builder = Verifier::builder().issuers(issuers).revocations(writer.revocations());
    builder.cache_bytes(cache_bytes).build().unwrap()
}

/// One token for every reason, in the order of [`Reject::ALL`] where that matters.
fn hostile_tokens() -> Vec<String> {
    let header = r#"{"alg":"HS256","kid":"k"}"#;
    let valid = r#""iss":"i","aud":"us","ct":"api","zone":"a""#;
    let mut tokens: Vec<_> = ["", "a.b", "a.b.c.d", "!.!.!", "e30.e30.%%", "W10.e30.", "e30.W10."]
        .map(str::to_owned)
        .into();
    tokens.push("a".repeat(20_000));
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#.to_owned(),
        r#"{"alg":"HS256","crit":["x"]}"#.into(),
        r#"{"alg":"HS256","b64":false}"#.into(),
        r#"{"alg":"HS256","kid":5}"#.into(),
        r#"{"alg":"HS256","typ":5}"#.into(),
        format!("{}1{}", r#"{"a":"#.repeat(20), "}".repeat(20)),
        format!(
            "{{{}}}",
            (0..1000)
                .chain([500])
                .map(|member| format!(r#""{member}":1"#))
                .collect::<Vec<_>>()
                .join(",")
        ),
        "{}".into(),
        r#"{"alg":"none"}"#.into(),
        r#"{"alg":"ES256"}"#.into(),
        r#"{"alg":"RS256","kid":"k"}"#.into(),
        r#"{"alg":"HS256"}"#.into(),
        r#"{"alg":"HS256","kid":"other"}"#.into(),
        r#"{"alg":"HS256","kid":"k","typ":"dpop+jwt"}"#.into(),
        r#"{"alg":"HS256","kid":"revoked"}"#.into(),
    ] {
        tokens.push(signed(&header, format!("{{{valid}}}")));
    }
    for claims in [
        "{}".to_owned(),
        r#"{"iss":"nobody"}"#.into(),
        r#"{"iss":"down"}"#.into(),
        r#"{"iss":"strict","aud":"us","ct":"api","zone":"a"}"#.into(),
        r#"{"iss":"ends","aud":"us","ct":"api","zone":"a"}"#.into(),
        r#"{"iss":"named","aud":"us","ct":"api","zone":"a"}"#.into(),
        r#"{"iss":"i"}"#.into(),
        r#"{"iss":"i","aud":5}"#.into(),
        r#"{"iss":"i","aud":"them"}"#.into(),
        r#"{"iss":"i","aud":"us"}"#.into(),
        r#"{"iss":"i","aud":"us","ct":5}"#.into(),
        r#"{"iss":"i","aud":"us","ct":"compiler"}"#.into(),
        r#"{"iss":"i","aud":"us","ct":"api"}"#.into(),
        r#"{"iss":"scoped","aud":"us","ct":"api","zone":"a","scope":"b"}"#.into(),
        r#"{"iss":"of/t","aud":"us","ct":"api","zone":"a","tid":"u"}"#.into(),
    ] {
        tokens.push(signed(header, claims));
    }
    for member in [
        r#""iat":"x""#,
        r#""iat":1800000000"#,
        r#""nbf":"x""#,
        r#""nbf":1800000000"#,
        r#""exp":"x""#,
        r#""exp":1"#,
        r#""sub":5"#,
        r#""jti":5"#,
        r#""env":5"#,
        r#""cnf":{"x5t#S256":"ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"}"#,
    ] {
        tokens.push(signed(header, format!("{{{valid},{member}}}")));
    }
    let big = "é".repeat(2000);
    tokens.push(signed(header, format!(r#"{{{valid},"big":["{big}"]}}"#)));
    tokens.push(signed(r#"{"alg":"ES256","kid":"skipped"}"#, r#"{"iss":"skips"}"#));
    let forged = signed(header, format!("{{{valid}}}"));
    tokens.push(format!("{}{}", &forged[..forged.len() - 4], "AAAA"));
    tokens
}

/// Returns the reason, and the number of allocations.
fn refuse(verifier: &Verifier, token: &str) -> (Reject, u64) {
    let before = allocation_count();
    let verdict = verifier.verify(token.as_bytes(), NOW);
    let count = allocation_count() - before;
    (verdict.expect_err(token), count)
}

#[test]
fn every_reject_is_returned_without_allocating() {
    every_reason(0);
    every_reason(1 << 20);
}

#[test]
fn cached_verdict_is_found_without_allocating() {
    let [ours, other] =
        [1, 2].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap());
    let material = KeyMaterial::OctetKeyPair { curve: "Ed25519", x: ours.public_key().as_ref() };
    let key = VerificationKey::new(Some("k"), Algorithm::EdDsa, material).unwrap();
    let config =
        IssuerConfig { rules: rules(), ..IssuerConfig::new("i", "us", [Algorithm::EdDsa]) };
    let builder = Verifier::builder().issuer(config, KeySet::published(vec![key]));
    let verifier = builder.cache_bytes(1 << 20).build().unwrap();
    let token = |key: &Ed25519KeyPair, members: &str| {
        let input = signing_input(
            r#"{"alg":"EdDSA","kid":"k"}"#,
            format!(r#"{{"iss":"i","aud":"us","ct":"api","zone":"a"{members}}}"#),
        );
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes())))
    };
    let warm = (token(&ours, r#","exp":1"#), token(&other, ""));
    let (genuine, forged) = (token(&ours, r#","exp":2"#), token(&other, r#","x":1"#));
    for _ in 0..2 {
        assert_eq!(
            [refuse(&verifier, &warm.0).0, refuse(&verifier, &warm.1).0],
            [Reject::Expired, Reject::Signature]
        );
    }
    for _ in 0..3 {
        assert_eq!(refuse(&verifier, &genuine), (Reject::Expired, 0));
        assert_eq!(refuse(&verifier, &forged), (Reject::Signature, 0));
    }
    assert_eq!(verifier.cache_statistics().unwrap().refused.entries, 4);
}

fn every_reason(cache_bytes: usize) {
    let mut writer = RevocationsWriter::new(10);
    let key = RevocationTarget::Key { issuer: "i".into(), kid: "revoked".into() };
    writer.insert(&[Revocation { target: key, until: None }]).unwrap();
    let verifier = verifier(&writer, cache_bytes);
    let tokens = hostile_tokens();
    let good =
        signed(r#"{"alg":"HS256","kid":"k"}"#, r#"{"iss":"i","aud":"us","ct":"api","zone":"a"}"#);
    // The first token allocates the thread's buffers.
    assert!(
        verifier.verify(good.as_bytes(), NOW).is_ok(),
        "the valid token that the others are derived from"
    );

    let mut seen = BTreeSet::new();
    for token in &tokens {
        let (reject, count) = refuse(&verifier, token);
        assert_eq!(count, 0, "{reject:?} of {token:.200}");
        seen.insert(reject.index());
    }
    writer.mark_unavailable();
    let (reject, count) = refuse(&verifier, &good);
    assert_eq!((reject, count), (Reject::RevocationsUnavailable, 0));
    seen.insert(reject.index());

    let new =
        signed(r#"{"alg":"HS256","kid":"k"}"#, r#"{"iss":"i","aud":"us","ct":"api","new":1}"#);
    let before = allocation_count();
    let not_admitted =
        verifier.verify_if(new.as_bytes(), NOW, Presentation::default(), |_| false).map(drop);
    assert_eq!((not_admitted, allocation_count() - before), (Err(Reject::NotAdmitted), 0));
    seen.insert(Reject::NotAdmitted.index());

    // Callers decide that a kid is undecided, by a report that allocates nothing either.
    let unknown = signed(r#"{"alg":"HS256","kid":"none"}"#, r#"{"iss":"i","aud":"us","iat":1}"#);
    for allocations in [None, Some(0)] {
        let (mut reported, before) = (None, allocation_count());
        let report = |unknown| reported = Some(unknown);
        let presentation = Presentation::default();
        let result =
            verifier.verify_with(unknown.as_bytes(), NOW, presentation, |_| true, report).map(drop);
        assert_eq!(result, Err(Reject::KidUnknown));
        assert!(reported.is_some_and(|unknown| unknown.issued_at == Some(UnixTime(1))));
        if let Some(allocations) = allocations {
            assert_eq!(allocation_count() - before, allocations);
        }
    }
    seen.insert(Reject::KidUndecided.index());
    // Callers refuse a list by what the record of the token has.
    seen.insert(Reject::ListFormat.index());

    let missing: Vec<_> =
        Reject::ALL.iter().filter(|reject| !seen.contains(&reject.index())).collect();
    assert!(missing.is_empty(), "no token covers {missing:?}");
}

#[test]
fn verification_allocates_nothing_cached_or_not() {
    let claims = r#"{"iss":"i","aud":"us","zone":"a","ct":["api","api"],"sub":"é, 5 %","env":"e","jti":"1","exp":1800000000,"big":[1.50]}"#;
    let token = signed(r#"{"alg":"HS256","kid":"k"}"#, claims);
    for cache_bytes in [0, 1 << 20] {
        let verifier = verifier(&RevocationsWriter::new(10), cache_bytes);
        // The first token allocates the thread's buffers.
        assert!(!verifier.verify(token.as_bytes(), NOW).unwrap().is_cached());
        let before = allocation_count();
        for _ in 0..100 {
            let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
            assert_eq!(verified.is_cached(), cache_bytes > 0);
            let (claims, identity) = (verified.claims(), verified.identity());
            assert_eq!((claims.subject(), claims.environment()), (Some("é, 5 %"), Some("e")));
            assert_eq!(
                (claims.expires_at(), claims.client_types().count()),
                (Some(UnixTime(1_800_000_000)), 2)
            );
            let texts = (identity.subject(), identity.issuer());
            assert_eq!(texts, (&b"%C3%A9%2C%205%20%25"[..], &b"i"[..]));
            let mut values = identity.exported_values();
            let exported = [0; 3].map(|_| values.next());
            assert_eq!(exported, [Some(&b"%C3%A9%2C%205%20%25"[..]), Some(b"[1.50]"), None]);
        }
        assert_eq!(allocation_count() - before, 0, "with a cache of {cache_bytes} bytes");
    }
}

#[test]
fn decision_by_route_allocates_nothing() {
    let route = |number| {
        format!(
            "[route_{number}]\nmatch=GET /api/v{number}/*/items/{{id}}\nscopes=read{number}\n\
             roles=admin\nclaims=groups has g{number}\n"
        )
    };
    let routes: String = (0..300).map(route).collect();
    let mut raw = RawConfig::default();
    raw.add("c.cfg", &format!("{routes}[listen]\nopen_paths=/static/*\n"), ConfigFormat::Ini);
    let settings = Config::from_raw(raw).unwrap().settings;
    let rules = Rules {
        conditions: settings.auth.authorization.routes.conditions().clone(),
        ..Rules::new("us")
    };
    let key = VerificationKey::new(None, Algorithm::Hs256, KeyMaterial::Secret(SECRET)).unwrap();
    let issuer = issuer("i", rules, false, Some(KeySet::new(vec![key])));
    let verifier = Verifier::builder().issuers([issuer]).cache_bytes(1 << 20).build().unwrap();
    let claims =
        r#"{"iss":"i","aud":"us","scope":"x read299","roles":["admin"],"groups":["g299"]}"#;
    let token = signed(r#"{"alg":"HS256"}"#, claims);
    let decide = |target: &str| match settings.auth.authorization.routes.find("GET", target) {
        RouteMatch::Token(route) => {
            let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
            route.authorize(&verified, None).map_err(|denial| denial.required_scopes())
        }
        _ => Err(None),
    };
    decide("/api/v299/x/items/7").unwrap();
    let open_paths = &settings.listeners[0].access.as_ref().unwrap().open_paths;
    let before = allocation_count();
    for _ in 0..100 {
        assert_eq!(decide("/api/v299/x/items/7?query"), Ok(()));
        assert_eq!(decide("/api/v298/x/items/7"), Err(Some("read298")));
        assert_eq!(decide("/API/v299/x/items/7"), Err(None));
        assert_eq!(decide("/api/v299/../x"), Err(None));
        assert!(open_paths.contains("GET", "/static/a") && !open_paths.contains("GET", "/a"));
    }
    assert_eq!(allocation_count() - before, 0);
}

#[test]
fn tenancy_step_on_a_cached_token_allocates_nothing() {
    let mut raw = RawConfig::default();
    let text = "[listen]\nsurface=orchestrate\n[multi_tenancy]\napi_key=key\n\
                [identity_headers]\nclaim.email=X-Email\n\
                [route_a]\nmatch=GET /a\ntenants=a, b, c:*, *\n\
                [route_below]\nmatch=GET /below\ntenants=a:*\n";
    raw.add("c.cfg", text, ConfigFormat::Ini);
    let settings = Config::from_raw(raw).unwrap().settings;
    let tenancy = settings.auth.tenancy.as_ref().unwrap();
    let exported_claims = Arc::clone(settings.auth.identity_headers.exported_claims());
    let conditions = settings.auth.authorization.routes.conditions().clone();
    let rules = Rules { exported_claims, conditions, ..Rules::new("us") };
    let key = VerificationKey::new(None, Algorithm::Hs256, KeyMaterial::Secret(SECRET)).unwrap();
    let issuer = issuer("i", rules, false, Some(KeySet::new(vec![key])));
    let verifier = Verifier::builder().issuers([issuer]).cache_bytes(1 << 20).build().unwrap();
    let claims = r#"{"iss":"i","aud":"us","email":"e",
        "orchestrate.info":{"tenant_id":"a:b","username":"alice"}}"#;
    let token = signed(r#"{"alg":"HS256"}"#, claims);
    let act = |asked: TenantImpersonation<'_>, expected: [&[u8]; 3]| {
        let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
        let credential = tenancy.credential(&verified).unwrap().unwrap();
        let identity = TenantIdentity::new(&TenantAccess::of(credential, asked).unwrap());
        assert_eq!([identity.tenant(), identity.allowed_tenants(), identity.user()], expected);
        ["/a", "/below"].map(|path| match settings.auth.authorization.routes.find("GET", path) {
            RouteMatch::Token(route) => route.authorize(&verified, Some(&identity)).is_ok(),
            _ => false,
        })
    };
    let (own, outer) =
        (TenantImpersonation::default(), TenantImpersonation { tenant: b"a", user: b"" });
    act(own, [b"a:b", b"_,a,a:b", b"alice"]);
    let before = allocation_count();
    for _ in 0..100 {
        assert_eq!(act(own, [b"a:b", b"_,a,a:b", b"alice"]), [false, true]);
        assert_eq!(act(outer, [b"a", b"_,a", b""]), [true, false]);
        assert!(tenancy.keys.find(b"key", || IpAddr::V4(Ipv4Addr::LOCALHOST)).is_some());
        assert!(tenancy.keys.find(b"other", || IpAddr::V4(Ipv4Addr::LOCALHOST)).is_none());
    }
    assert_eq!(allocation_count() - before, 0);
}

#[test]
fn tenant_and_numeric_ids_are_read_without_allocating() {
    let claims = r#"{"iss":"alias/t","aud":"us","zone":"a","ct":"api","tid":"t","sub":17,"jti":5}"#;
    let token = signed(r#"{"alg":"HS256","kid":"k"}"#, claims);
    for cache_bytes in [0, 1 << 20] {
        let verifier = verifier(&RevocationsWriter::new(10), cache_bytes);
        drop(verifier.verify(token.as_bytes(), NOW).unwrap());
        let before = allocation_count();
        for _ in 0..100 {
            let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
            assert_eq!(verified.claims().subject(), Some("17"));
            assert_eq!(verified.identity().issuer(), b"of/t");
        }
        assert_eq!(allocation_count() - before, 0, "with a cache of {cache_bytes} bytes");
    }
}

#[test]
fn tokens_verified_each_time_allocate_nothing() {
    let bound = r#""name":5,"cnf":{"x5t#S256":"ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"}"#;
    let certificate = || Some(CertificateThumbprint::of(b"abc"));
    let presentation = Presentation { certificate: Some(&certificate), username_optional: true };
    for (member, username) in [(bound, Some("é:5")), (r#""x":1"#, None)] {
        let claims = format!(r#"{{"iss":"named","aud":"us","ct":"api","zone":"a",{member}}}"#);
        let token = signed(r#"{"alg":"HS256","kid":"k"}"#, claims);
        let verifier = verifier(&RevocationsWriter::new(10), 1 << 20);
        let verify = || {
            let verified =
                verifier.verify_if(token.as_bytes(), NOW, presentation, |_| true).unwrap();
            assert!(!verified.is_cached());
            assert_eq!(verified.claims().username(), username);
        };
        // The first verification allocates the thread's buffers, and the second one that of the
        // record it finds in the cache.
        verify();
        verify();
        let before = allocation_count();
        (0..100).for_each(|_| verify());
        assert_eq!(allocation_count() - before, 0, "{member}");
    }
}

/// Decisions in the process of a proxy, on a token in the cache.
#[test]
fn embedded_decisions_allocate_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("auth.cfg");
    let configuration = format!(
        "[auth_jwt_default]\nalgorithm=HS256\nkey={}\nissuer=i\naudience=us\nexpire=0\n\
         client_types=api\n[listener_routed]\nbind=127.0.0.1:1\nauthorization=routes\n\
         [route_page]\nmatch=GET /page\n",
        URL_SAFE_NO_PAD.encode(SECRET)
    );
    std::fs::write(&file, configuration).unwrap();
    let tier = TierConfig::load(&file, Vec::new(), CacheSize::Process).unwrap().start().unwrap();
    let claims = r#"{"iss":"i","aud":"us","sub":"bob","exp":4102444800}"#;
    let bearer = format!("Bearer {}", signed(r#"{"alg":"HS256"}"#, claims));
    let lines = [("Host", "a.example"), ("authorization", &*bearer), ("X_Auth_User", "x")];
    let head = HeaderLines::new([b"GET", b"/page", b"a.example"], &lines).unwrap();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = EmbeddedRequest {
        head: &head,
        is_tls: true,
        peer,
        certificate: ConnectionCertificate::Absent,
        parts: DecisionParts { changes: true, identity: true, claims: false },
    };
    let mut decision = CheckDecision::new();
    for listener in [0, 1] {
        let mut check = || {
            assert!(tier.check(listener, &request, &mut decision));
            assert!(decision.is_allowed(), "{}", decision.status());
        };
        // The first checks allocate the thread's buffers.
        (0..3).for_each(|_| check());
        let before = allocation_count();
        (0..100).for_each(|_| check());
        assert_eq!(allocation_count() - before, 0, "{listener}");
    }
}

#[test]
fn allocation_counter_counts() {
    let before = allocation_count();
    drop(std::hint::black_box(vec![1, 2, 3]));
    assert_eq!(allocation_count() - before, 1);
}
