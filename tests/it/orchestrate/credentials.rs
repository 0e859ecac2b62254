use countersign_tests::{
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request},
    over_every_protocol,
};

use super::tier::{API_KEY, outcome, with_tier};

over_every_protocol!(
    c2_missing_credentials_are_refused,
    c3_api_key_gives_access_to_every_tenant,
    c4_wrong_api_key_is_refused,
    c5_wrong_api_key_is_refused_beside_a_token,
    c6_token_beside_an_api_key_is_not_read,
    c7_api_key_has_no_scheme,
    c8_empty_api_key_never_matches,
    c9_api_key_header_is_ignored_without_keys,
    c10_scheme_of_a_token_has_any_case,
    c11_other_schemes_are_no_credential,
    c12_scheme_without_a_token_is_no_credential,
    repeated_headers_are_refused,
);

const MISSING: &str = "missing required credentials";
const ANY_TENANT: &str = "_; *; ";

fn c2_missing_credentials_are_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let response = tier.ask(&[]);
        assert_eq!(response.body, "401 09001@: missing required credentials\n");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        assert_eq!(outcome(&tier.ask(&[("X-Tenant-ID", "foo")])), MISSING);
        assert_eq!(outcome(&tier.ask(&[("X-API-Key", "")])), MISSING);
    });
}

fn c3_api_key_gives_access_to_every_tenant(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_with_key(&[]), ANY_TENANT);
        let metric = "countersign_verifications_total{outcome=\"api_key\",code=\"\"}";
        assert_eq!(tier.server.metric(metric), 2);
        assert!(!tier.server.log().contains(API_KEY));
    });
}

fn c4_wrong_api_key_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let (start, _) = API_KEY.split_at(API_KEY.len() - 1);
        for key in ["x", start, &API_KEY.to_lowercase(), &format!("{API_KEY}Q")] {
            assert_eq!(outcome(&tier.ask(&[("X-API-Key", key)])), "invalid API key", "{key}");
        }
        let metric = "countersign_verifications_total{outcome=\"wrong_api_key\",code=\"\"}";
        assert_eq!(tier.server.metric(metric), 8);
    });
}

fn c5_wrong_api_key_is_refused_beside_a_token(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("foo", &[]), "foo; _,foo; alice");
        assert_eq!(tier.ask_as("foo", &[("X-API-Key", "x")]), "invalid API key");
    });
}

fn c6_token_beside_an_api_key_is_not_read(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_with_key(&[("Authorization", "Bearer garbage")]), ANY_TENANT);
        assert_eq!(tier.ask_as("foo", &[("X-API-Key", API_KEY)]), ANY_TENANT);
    });
}

fn c7_api_key_has_no_scheme(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let key = format!("Bearer {API_KEY}");
        assert_eq!(outcome(&tier.ask(&[("X-API-Key", &key)])), "invalid API key");
        assert_eq!(outcome(&tier.ask(&[("Authorization", API_KEY)])), MISSING);
    });
}

fn c8_empty_api_key_never_matches(protocol: Protocol) {
    with_tier(protocol, &[("AUTH_API_KEY", "")], |tier| {
        for key in ["", "x", API_KEY, "false"] {
            let lines = [("X-API-Key", key), ("X-Tenant-ID", "foo")];
            assert_eq!(outcome(&tier.ask(&lines)), MISSING, "{key}");
        }
    });
}

fn c9_api_key_header_is_ignored_without_keys(protocol: Protocol) {
    with_tier(protocol, &[("AUTH_API_KEY", "")], |tier| {
        assert_eq!(tier.ask_as("foo", &[("X-API-Key", "x")]), "foo; _,foo; alice");
    });
}

fn c10_scheme_of_a_token_has_any_case(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let token = tier.provider.token("foo");
        let lines = [("authorization", &*format!("bEaReR {token}"))];
        assert_eq!(outcome(&tier.ask(&lines)), "foo; _,foo; alice");
    });
}

fn c11_other_schemes_are_no_credential(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for line in ["Basic Zm9vOmJhcg==", "Digest x", "Token x"] {
            assert_eq!(outcome(&tier.ask(&[("Authorization", line)])), MISSING, "{line}");
        }
        assert_eq!(tier.ask_with_key(&[("Authorization", "Basic x")]), ANY_TENANT);
    });
}

fn c12_scheme_without_a_token_is_no_credential(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(outcome(&tier.ask(&[("Authorization", "Bearer")])), MISSING);
        let garbage = outcome(&tier.ask(&[("Authorization", "Bearer garbage")]));
        assert!(garbage.starts_with("could not parse the token: "), "{garbage}");
    });
}

fn repeated_headers_are_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let bearer = format!("Bearer {}", tier.provider.token("foo"));
        for (name, value) in [
            ("x-api-key", API_KEY),
            ("x-tenant-id", "foo"),
            ("x-username", ""),
            ("authorization", &bearer),
        ] {
            let others = [("X-API-Key", API_KEY), ("Authorization", &*bearer)];
            let others = others.into_iter().filter(|(other, _)| !name.eq_ignore_ascii_case(other));
            let lines: Vec<_> = [(name, value); 2].into_iter().chain(others).collect();
            let expected = format!("the header {name} is repeated");
            assert_eq!(outcome(&tier.ask(&lines)), expected);
        }
    });
}

#[test]
fn check_removes_token_and_api_key() {
    for variables in [&[][..], &[("MULTI_TENANCY_ENABLED", "false")]] {
        with_tier(None, variables, |tier| {
            let envoy = Envoy::plain(tier.server.address);
            let bearer = format!("Bearer {}", tier.provider.token("foo"));
            let (token, key) = (("authorization", &*bearer), ("x-api-key", API_KEY));
            for lines in [&[token][..], &[key], &[key, token], &[key, ("X_Auth_Tenant", "root")]] {
                let outcome = CheckOutcome::of(envoy.check(check_request(lines)).unwrap());
                assert_eq!(outcome.status, 200, "{lines:?}");
                for name in ["authorization", "x-api-key"] {
                    assert!(outcome.removed.iter().any(|one| one == name), "{outcome:?}");
                }
                // `X-Auth-Tenant` is set, and so its other spellings are removed.
                let imitates = lines.iter().any(|(name, _)| *name == "X_Auth_Tenant");
                assert_eq!(outcome.removed.iter().any(|name| name == "X_Auth_Tenant"), imitates);
                assert!(outcome.header("x-auth-allowed-tenants").is_some(), "{outcome:?}");
            }
        });
    }
}
