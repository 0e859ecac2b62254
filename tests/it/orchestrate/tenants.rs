use countersign_tests::{
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request},
    over_every_protocol,
};
use serde_json::json;

use super::tier::{API_KEY, with_tier};

over_every_protocol!(
    c20_tenant_of_a_token_reads_the_public_one_too,
    c21_own_tenant_may_be_named,
    c22_public_tenant_may_be_named,
    c23_other_tenant_is_refused,
    c24_wildcard_is_refused_for_a_tenant,
    c25_wildcard_token_reads_every_tenant,
    c26_wildcard_token_acts_for_a_tenant,
    c27_wildcard_of_a_wildcard_is_the_public_tenant,
    c28_nested_tenant_reads_the_outer_ones,
    c29_nested_tenant_acts_for_an_outer_one,
    c30_token_never_names_another_user,
    c31_api_key_names_a_user,
    c32_named_tenant_clears_the_user,
    identity_headers_of_the_client_are_replaced,
);

const TENANT: &str = "X-Tenant-ID";
const USER: &str = "X-Username";

fn c20_tenant_of_a_token_reads_the_public_one_too(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("foo", &[]), "foo; _,foo; alice");
        assert_eq!(tier.ask_as("_", &[]), "_; _; alice");
        // A tenant that is configured nowhere, with characters that a header cannot carry.
        let odd = tier.provider.token_with(json!({ "tenant_id": "Zürich, 5 %" }), &[]);
        let name = "Z%C3%BCrich%2C%205%20%25";
        assert_eq!(tier.ask_with(&odd), format!("{name}; _,{name}; "));
    });
}

fn c21_own_tenant_may_be_named(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("foo", &[(TENANT, "foo")]), "foo; _,foo; ");
        assert_eq!(tier.ask_as("foo", &[(TENANT, "")]), "foo; _,foo; alice");
    });
}

fn c22_public_tenant_may_be_named(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for own in ["foo", "a:b", "_", "*"] {
            assert_eq!(tier.ask_as(own, &[(TENANT, "_")]), "_; _; ", "{own}");
        }
        assert_eq!(tier.ask_with_key(&[(TENANT, "_")]), "_; _; ");
    });
}

fn forbidden(tenant: &str) -> String {
    format!(r#"401 09002: access to tenant "{tenant}" forbidden"#)
}

fn c23_other_tenant_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for asked in ["bar", "Foo", "foo:bar", "fo"] {
            assert_eq!(tier.ask_as("foo", &[(TENANT, asked)]), forbidden(asked));
        }
        assert_eq!(tier.ask_as("foo", &[(TENANT, "foo,bar")]), forbidden("foo%2Cbar"));
        assert_eq!(tier.ask_as("_", &[(TENANT, "foo")]), forbidden("foo"));
    });
}

fn c24_wildcard_is_refused_for_a_tenant(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for own in ["foo", "a:b", "_"] {
            assert_eq!(tier.ask_as(own, &[(TENANT, "*")]), forbidden("*"), "{own}");
        }
    });
}

fn c25_wildcard_token_reads_every_tenant(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("*", &[]), "_; *; alice");
    });
}

fn c26_wildcard_token_acts_for_a_tenant(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for (asked, expected) in [("foo", "foo; _,foo; "), ("a:b", "a:b; _,a,a:b; ")] {
            assert_eq!(tier.ask_as("*", &[(TENANT, asked)]), expected);
            assert_eq!(tier.ask_with_key(&[(TENANT, asked)]), expected);
        }
        for odd in ["a::b", "*:x", "x:_"] {
            assert_eq!(tier.ask_as("*", &[(TENANT, odd)]), forbidden(odd));
            assert_eq!(tier.ask_with_key(&[(TENANT, odd)]), forbidden(odd));
        }
    });
}

fn c27_wildcard_of_a_wildcard_is_the_public_tenant(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("*", &[(TENANT, "*")]), "_; *; ");
        assert_eq!(tier.ask_with_key(&[(TENANT, "*")]), "_; *; ");
    });
}

fn c28_nested_tenant_reads_the_outer_ones(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("a:b:c", &[]), "a:b:c; _,a,a:b,a:b:c; alice");
    });
}

fn c29_nested_tenant_acts_for_an_outer_one(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("a:b", &[(TENANT, "a")]), "a; _,a; ");
        for other in ["a:c", "b", "a:b:c", "a:"] {
            assert_eq!(tier.ask_as("a:b", &[(TENANT, other)]), forbidden(other));
        }
    });
}

fn c30_token_never_names_another_user(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for (own, user) in [("foo", "alice"), ("foo", "bob"), ("*", "bob"), ("foo", "*")] {
            let expected = format!(r#"401 09002: access to username "{user}" forbidden"#);
            assert_eq!(tier.ask_as(own, &[(USER, user)]), expected, "{own}");
        }
        assert_eq!(tier.ask_as("foo", &[(USER, "")]), "foo; _,foo; alice");
    });
}

fn c31_api_key_names_a_user(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_with_key(&[(USER, "bob")]), "_; *; bob");
        assert_eq!(tier.ask_with_key(&[(USER, "*")]), "_; *; *");
        assert_eq!(tier.ask_with_key(&[(USER, "bob"), (TENANT, "foo")]), "foo; _,foo; bob");
    });
}

fn c32_named_tenant_clears_the_user(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        assert_eq!(tier.ask_as("foo", &[]), "foo; _,foo; alice");
        assert_eq!(tier.ask_as("foo", &[(TENANT, "foo")]), "foo; _,foo; ");
    });
}

fn identity_headers_of_the_client_are_replaced(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let spoofed =
            [("X-Auth-Tenant", "bar"), ("X-Auth-Allowed-Tenants", "*"), ("X-Auth-User", "root")];
        assert_eq!(tier.ask_as("foo", &spoofed), "foo; _,foo; alice");
        assert_eq!(tier.ask_with_key(&spoofed), "_; *; ");
    });
}

#[test]
fn check_sets_the_tenant_and_removes_credentials() {
    with_tier(None, &[], |tier| {
        let envoy = Envoy::plain(tier.server.address);
        let bearer = format!("Bearer {}", tier.provider.token("a:b"));
        let spoofed = [("x-auth-allowed-tenants", "*"), ("x_auth_allowed_tenants", "*")];
        for (credential, expected) in [
            (("authorization", &*bearer), ["a:b", "_,a,a:b", "alice"]),
            (("x-api-key", API_KEY), ["_", "*", ""]),
        ] {
            let lines = [&[credential][..], &spoofed].concat();
            let outcome = CheckOutcome::of(envoy.check(check_request(&lines)).unwrap());
            let header = |name| outcome.header(name).unwrap_or_default();
            let names = ["x-auth-tenant", "x-auth-allowed-tenants", "x-auth-user"];
            assert_eq!((outcome.status, names.map(header)), (200, expected));
            for name in ["authorization", "x-api-key", "x_auth_allowed_tenants"] {
                assert!(outcome.removed.iter().any(|one| one == name), "{name}: {outcome:?}");
            }
        }
        let lines = [("x-api-key", "wrong"), ("authorization", &*bearer)];
        let outcome = CheckOutcome::of(envoy.check(check_request(&lines)).unwrap());
        assert_eq!((outcome.status, &*outcome.body), (401, "401 09001@: invalid API key\n"));
    });
}
