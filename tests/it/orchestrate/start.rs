use countersign_tests::{binary::Sandbox, client::Protocol, eventually, over_every_protocol};

use serde_json::json;

use super::tier::{API_KEY, NAMESPACE, TenantProvider, outcome, sandbox, with_tier};

over_every_protocol!(
    c1_everything_passes_without_multi_tenancy,
    c41_metrics_are_on_their_own_port_only,
    bodies_of_refusals_are_an_option,
    started_tier_has_neither_users_nor_console,
    keys_of_a_file_are_read_again,
);

fn c1_everything_passes_without_multi_tenancy(protocol: Protocol) {
    for variables in [
        &[("MULTI_TENANCY_ENABLED", "false")][..],
        &[("MULTI_TENANCY_ENABLED", "0"), ("AUTH_API_KEY", ""), ("AUTH_JWT_ISSUER_URL", "")],
    ] {
        with_tier(protocol, variables, |tier| {
            for lines in [
                &[][..],
                &[("X-API-Key", "wrong")],
                &[("Authorization", "Bearer garbage")],
                &[("X-Tenant-ID", "foo"), ("X-Username", "bob")],
            ] {
                assert_eq!(outcome(&tier.ask(lines)), "_; _; ", "{lines:?}");
            }
            // No other route verifies.
            assert_eq!(tier.server.verify("garbage").status, 404);
        });
    }
}

fn c41_metrics_are_on_their_own_port_only(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for path in ["/metrics", "/live", "/ready", "/ready?full=1"] {
            assert_eq!(tier.server.operations(path).status, 200, "{path}");
            let head = format!("GET {path} HTTP/1.1\r\n");
            assert_eq!(tier.server.request(&head).status, 404, "{path}");
        }
        assert!(tier.server.metrics.ip().is_loopback());
    });
}

fn bodies_of_refusals_are_an_option(protocol: Protocol) {
    with_tier(protocol, &[("INMANTA_MULTI_TENANCY_ERROR_BODY", "false")], |tier| {
        let bearer = format!("Bearer {}", tier.provider.token("foo"));
        for lines in [
            &[][..],
            &[("X-API-Key", "wrong")],
            &[("Authorization", "Bearer garbage")],
            &[("Authorization", &*bearer), ("X-Tenant-ID", "bar")],
        ] {
            let lines: String =
                lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let response = tier.server.request(&format!("GET /auth HTTP/1.1\r\n{lines}"));
            assert_eq!((response.status, &*response.body), (401, ""), "{lines}");
            assert_eq!(response.header("cache-control"), Some("no-store"));
        }
    });
}

fn started_tier_has_neither_users_nor_console(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let startup = tier.server.startup_lines.join("\n");
        for word in ["password", "admin", "console"] {
            assert!(!startup.contains(word), "{startup}");
        }
        let login = "POST /api/v2/login HTTP/1.1\r\nContent-Type: application/json\r\n";
        let response = tier.server.send(login, br#"{"username":"admin","password":"x"}"#);
        assert_eq!(response.status, 404, "{response:?}");
        assert_eq!(tier.server.request("GET /readyz HTTP/1.1\r\n").status, 200);
    });
}

fn keys_of_a_file_are_read_again(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let with = |keys: &str| sandbox.replace("keys", keys);
    with(&format!(
        "gateway = {API_KEY} from 192.0.2.1, 127.0.0.1, ::1\nfar = far-key from 10.0.0.0/8\n"
    ));
    let server = sandbox.serve(
        "[listen]\nsurface=orchestrate\n[multi_tenancy]\napi_key_file=keys\nerror_body=true\n\
         api_key=option\n",
    );
    let ask = |key: &str| {
        let response = server.request(&format!("GET /auth HTTP/1.1\r\nX-API-Key: {key}\r\n"));
        outcome(&response)
    };
    let (accepted, refused) = ("_; *; ", "invalid API key");
    assert_eq!([API_KEY, "option", "far-key"].map(ask), [accepted, accepted, refused]);
    // Both the old and the new key are valid for a while.
    with(&format!("gateway = {API_KEY}\nnext = next-key\n"));
    server.reload();
    assert_eq!([API_KEY, "option", "next-key"].map(ask), [accepted; 3]);
    with("next = next-key\n");
    eventually(|| ask(API_KEY) == refused);
    assert_eq!([API_KEY, "far-key", "next-key"].map(ask), [refused, refused, accepted]);
    // A malformed file changes nothing.
    with("next\n");
    eventually(|| server.log().contains("keys:1: write name = key"));
    assert_eq!(ask("next-key"), accepted);
    assert!(!server.log().contains("next-key") && !server.log().contains(API_KEY));
}

/// Returns the output of a start that fails.
fn refusal(variables: &[(&str, &str)]) -> String {
    let output = sandbox(None, variables.iter()).run::<&str>([]);
    assert_eq!(output.code(), 2, "{output:?}");
    output.stderr
}

#[test]
fn c42_start_without_a_verifier_is_refused() {
    let error = refusal(&[("MULTI_TENANCY_ENABLED", "true")]);
    assert!(error.contains("multi-tenancy is on, but nothing can verify a request"), "{error}");
    for variable in ["AUTH_JWT_ISSUER_URL", "AUTH_API_KEY"] {
        assert!(error.contains(variable), "{error}");
    }
    let empty = [("MULTI_TENANCY_ENABLED", "1"), ("AUTH_API_KEY", ""), ("AUTH_JWT_ISSUER_URL", "")];
    assert!(refusal(&empty).contains("nothing can verify"));
}

#[test]
fn malformed_variables_refuse_the_start() {
    let key = ("AUTH_API_KEY", API_KEY);
    for (variables, message) in [
        (&[("MULTI_TENANCY_ENABLED", "yes")][..], "MULTI_TENANCY_ENABLED is not a boolean"),
        (
            &[("AUTH_JWT_CLAIMS_NAMESPACE", "a"), ("AUTH_JWT_ORCHESTRATE_CLAIMS", "b")],
            "have different values",
        ),
        (&[("AUTH_JWT_CERTIFICATE", "x")], "AUTH_JWT_CERTIFICATE is set, but not"),
        (
            &[("AUTH_JWT_CERTIFICATE", "s3cret"), ("AUTH_JWT_ISSUER_URL", "https://idp/")],
            "cannot be used",
        ),
        (
            &[("AUTH_JWT_REQUIRE_EXP", "2"), ("AUTH_JWT_ISSUER_URL", "https://idp/")],
            "not a boolean",
        ),
    ] {
        let error = refusal(&[&[key], variables].concat());
        assert!(error.contains(message), "{variables:?}: {error}");
        assert!(!error.contains(API_KEY) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn issuer_without_its_slash_is_reported_at_start() {
    let provider = TenantProvider::start();
    let issuer = provider.server.origin();
    let sandbox = sandbox(None, [("AUTH_JWT_ISSUER_URL", &*issuer)].iter());
    let server = sandbox.start::<&str>([]);
    eventually(|| server.log().contains("they differ only by a trailing slash"));
    assert_eq!(server.auth(&provider.token("foo")).status, 401);
    let output = sandbox.run(["config", "check"]);
    let expected = "takes the tenant from the claim orchestrate.info; API keys: none";
    assert!(output.text().contains(expected), "{output:?}");
}

#[test]
fn rules_by_route_apply_to_tokens_of_tenants() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    let server = sandbox.serve(&format!(
        "[auth_jwt_idp]\nissuer={0}\naudience_match=none\n\
         discovery_uri={0}.well-known/openid-configuration\n\
         [multi_tenancy]\nclaims_namespace={NAMESPACE}\napi_key={API_KEY}\n\
         [listen]\nsurface=orchestrate\nauthorization=routes\ntrusted_proxies=127.0.0.1\n\
         dialect=envoy-path\n[route_orders]\nmatch=GET /orders\nscopes=read\n\
         [route_health]\nmatch=GET /healthz\npublic=true\n",
        provider.issuer(),
    ));
    let ask =
        |path: &str, line: &str| server.request(&format!("GET /auth{path} HTTP/1.1\r\n{line}\r\n"));
    let bearer = |scope: &str| {
        let tenancy = json!({ "tenant_id": "foo", "username": "alice" });
        let token = provider.token_with(tenancy, &[("scope", json!(scope))]);
        format!("Authorization: Bearer {token}")
    };
    let (read, write, key) = (bearer("read"), bearer("write"), format!("X-API-Key: {API_KEY}"));
    assert_eq!(outcome(&ask("/orders", &read)), "foo; _,foo; alice");
    assert_eq!(ask("/orders", &write).status, 403);
    assert_eq!(ask("/other", &read).status, 403);
    assert_eq!(outcome(&ask("/other", &key)), "_; *; ");
    assert_eq!(outcome(&ask("/healthz", "Accept: */*")), "_; _; ");
}

#[test]
fn api_key_alone_starts_with_a_warning() {
    let sandbox =
        sandbox(None, [("MULTI_TENANCY_ENABLED", "true"), ("AUTH_API_KEY", "false")].iter());
    let server = sandbox.start::<&str>([]);
    let log = server.log();
    assert!(log.contains("only API keys are accepted"), "{log}");
    assert!(log.contains("the API key api_key is a common word"), "{log}");
    let response = server.request("GET /auth HTTP/1.1\r\nX-API-Key: false\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-auth-allowed-tenants"), Some("*"));
}

#[test]
fn other_surfaces_have_no_tenant() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    let server = sandbox.serve(&format!(
        "[auth_jwt_idp]\nissuer={}\naudience_match=none\n\
         discovery_uri={}.well-known/openid-configuration\n\
         [multi_tenancy]\nclaims_namespace={NAMESPACE}\napi_key={API_KEY}\n\
         [listener_tier]\nbind=127.0.0.1:0\nsurface=orchestrate\n",
        provider.issuer(),
        provider.issuer(),
    ));
    let response = server.auth(&provider.token("foo"));
    assert_eq!((response.status, response.header("x-auth-tenant")), (200, Some("")));
    assert_eq!(response.header("x-auth-allowed-tenants"), None);
    let head = format!("GET /auth HTTP/1.1\r\nX-API-Key: {API_KEY}\r\n");
    assert_eq!(server.request(&head).status, 401);
}
