//! Options of a section for the tokens of real providers: several names and tenants of an issuer,
//! audiences, scopes, ids that are numbers, and what only the Inmanta surface demands.

use countersign_engine::Reject;
use countersign_tests::{
    answers::{assert_refused, invalid_token},
    binary::{Sandbox, Server},
    client::Protocol,
    openssl::openssl,
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::{
    config::check,
    fixture::{self, SIGNING},
    token_rules::FileProvider,
};

over_every_protocol!(
    aliases_and_tenants_are_one_issuer,
    revocation_applies_to_every_name_of_an_issuer,
    one_of_several_audiences_is_enough,
    missing_scope_is_named,
    only_the_inmanta_surface_demands_what_its_server_does,
);

/// Returns the configuration with a section for the provider.
fn configuration(provider: &FileProvider, sandbox: &Sandbox, options: &str) -> String {
    let keys = provider.jwks(sandbox);
    format!("{SIGNING}[auth_jwt_idp]\nalgorithms=ES256\nclient_types=api\n{keys}\n{options}\n")
}

fn serve<'s>(provider: &FileProvider, sandbox: &'s Sandbox, options: &str) -> Server<'s> {
    sandbox.serve(&configuration(provider, sandbox, options))
}

const A: &str = "11111111-1111-1111-1111-111111111111";
const B: &str = "22222222-2222-2222-2222-222222222222";

/// Options of an issuer with two names, each with a tenant.
fn tenants(listed: &str) -> String {
    format!(
        "issuer=https://idp/{{tenantid}}/v2.0, https://sts/{{tenantid}}/\ntenants={listed}\naudience=us"
    )
}

fn aliases_and_tenants_are_one_issuer(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let server = serve(&provider, &sandbox, &tenants(&format!("{A}, {B}")));
    let auth = |issuer: &str, tenant: &str| {
        server.auth(&provider.token(&json!({ "iss": issuer, "aud": "us", "tid": tenant })))
    };
    let name = format!("https://idp/{A}/v2.0");
    for _ in 0..2 {
        for issuer in [&name, &format!("https://sts/{A}/")] {
            let answer = auth(issuer, A);
            assert_eq!((answer.status, answer.header("x-auth-issuer")), (200, Some(&*name)));
        }
        assert_eq!(auth(&format!("https://idp/{B}/v2.0"), B).status, 200);
        assert_refused(&auth(&name, B), &invalid_token(Reject::Tenant));
        let unknown = "33333333-3333-3333-3333-333333333333";
        for issuer in [
            format!("https://idp/{unknown}/v2.0"),
            "https://idp/{tenantid}/v2.0".into(),
            format!("https://idp/{A}/v2.0/"),
            format!("https://idp/x/{A}/v2.0"),
        ] {
            assert_refused(&auth(&issuer, unknown), &invalid_token(Reject::IssuerUnknown));
        }
    }
    let any = serve(&provider, &sandbox, &tenants("*"));
    let token = |iss: &str, tid| provider.token(&json!({ "iss": iss, "aud": "us", "tid": tid }));
    assert_eq!(any.auth(&token("https://idp/contoso.example/v2.0", "contoso.example")).status, 200);
    assert_eq!(any.auth(&token("https://idp/a/b/v2.0", "a/b")).status, 401);
}

#[test]
fn names_of_issuers_are_checked() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let said = |options: &str| {
        let output = check(&sandbox, "c.cfg", &configuration(&provider, &sandbox, options));
        (format!("{}{}", output.stdout, output.stderr), output.code())
    };
    for (options, expected) in [
        ("issuer=https://idp/{tenantid}/\naudience=us", "tenants is required"),
        ("issuer=https://idp/{tenantid}/\ntenants=a", "audience is required"),
        ("issuer=https://idp/{tenantid}/\naudience=us\ntenants=a/b", "is not a tenant"),
        ("issuer=https://{tenantid}/{tenantid}/\naudience=us\ntenants=a", "with one tenant"),
        ("issuer=https://idp/, https://idp/\naudience=us", "twice"),
        ("issuer=https://idp/, https://localhost:8888/", "Only one configuration per issuer"),
        (
            "issuer=https://{tenantid}/\ntenants=*\naudience=us\n[auth_jwt_b]\nissuer=https://x/\n\
             algorithms=HS256\nclient_types=api\nkey=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs",
            "Only one configuration per issuer",
        ),
        ("issuer=https://idp/\nscopes=a b", "is not a scope"),
        ("issuer=https://idp/\naudience=a,,b", "contains an empty text"),
    ] {
        let (output, code) = said(options);
        assert!(code == 2 && output.contains(expected), "{options}: {output}");
    }
    for (options, expected) in [
        ("issuer=https://idp/{tenantid}/\naudience=us\ntenants=*", "tokens of every tenant"),
        ("issuer=https://idp/\ntenants=a", "tenants in auth_jwt_idp is ignored"),
        ("issuer=https://idp/\nrequire_audience=false", "accepts tokens without aud"),
    ] {
        let (output, code) = said(options);
        assert!(code == 0 && output.contains(expected), "{options}: {output}");
    }
}

fn revocation_applies_to_every_name_of_an_issuer(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let server = serve(&provider, &sandbox, &tenants(&format!("{A}, {B}")));
    let status = |issuer: String, tenant: &str, jti: &str| {
        let claims = json!({ "iss": issuer, "aud": "us", "tid": tenant, "jti": jti, "iat": 1 });
        server.auth(&provider.token(&claims)).status
    };
    let statuses = |jti: &str| {
        [
            status(format!("https://idp/{A}/v2.0"), A, jti),
            status(format!("https://sts/{A}/"), A, jti),
            status(format!("https://idp/{B}/v2.0"), B, jti),
        ]
    };
    let revoke = |options: &[&str]| {
        let config = sandbox.path().join("server.cfg");
        let base = ["token", "revoke", "--config", config.to_str().unwrap()];
        let output = sandbox.run(base.iter().chain(options));
        assert_eq!(output.code(), 0, "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(1500));
    };
    assert_eq!((statuses("1"), statuses("2")), ([200; 3], [200; 3]));
    revoke(&["--issuer", &format!("https://sts/{A}/"), "--jti", "1"]);
    assert_eq!((statuses("1"), statuses("2")), ([401, 401, 200], [200; 3]));
    revoke(&["--issuer", "https://idp/{tenantid}/v2.0", "--jti", "2"]);
    assert_eq!(statuses("2"), [401; 3]);
}

/// The configuration may lose the name that a revocation was entered under.
#[test]
fn revocation_outlives_the_names_of_its_issuer() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let token = |iss: &str, tid: &str| {
        provider.token(&json!({ "iss": iss, "aud": "us", "tid": tid, "iat": 1 }))
    };
    for (revoked, before, after) in [
        ("https://old/", "issuer=https://idp/, https://old/", "issuer=https://idp/"),
        ("https://idp/", "issuer=https://idp/, https://new/", "issuer=https://new/"),
        (
            "https://idp/{tenantid}/",
            "issuer=https://idp/{tenantid}/\ntenants=a, b",
            "issuer=https://idp/b/",
        ),
    ] {
        let sandbox = Sandbox::new();
        let configure =
            |names: &str| configuration(&provider, &sandbox, &format!("{names}\naudience=us"));
        let config = sandbox.file("c.cfg", configure(before));
        let output = sandbox.run(
            ["token", "revoke", "--config", config.to_str().unwrap(), "--subject", "bob"]
                .into_iter()
                .chain(["--issuer", revoked]),
        );
        assert_eq!(output.code(), 0, "{output:?}");
        let server = sandbox.serve(&configure(after));
        let iss = after.trim_start_matches("issuer=");
        assert_refused(&server.auth(&token(iss, "b")), &invalid_token(Reject::Revoked));
    }
    let server = serve(&provider, &sandbox, "issuer=https://new/\naudience=us");
    assert_eq!(server.auth(&token("https://new/", "b")).status, 200, "only those revoked");
}

#[test]
fn public_key_is_no_shared_secret() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let pem = openssl(&["pkey", "-in", provider.key.path().to_str().unwrap(), "-pubout"], b"");
    let pem = sandbox.file("key.pem", pem);
    for source in [
        format!("key_file={}\nkey_encoding=text", pem.display()),
        format!("key={}\nkey_encoding=text", provider.key.jwk()),
    ] {
        let section = format!(
            "{SIGNING}[auth_jwt_idp]\nalgorithms=HS256\nclient_types=api\nissuer=https://idp/\n{source}\n"
        );
        let output = check(&sandbox, "c.cfg", &section);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("it is a public key or a certificate"), "{said}");
    }
}

fn one_of_several_audiences_is_enough(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let statuses = |options: &str| {
        let options = format!("issuer=https://idp/\n{options}");
        let server = serve(&provider, &sandbox, &options);
        [
            json!({ "aud": "web" }),
            json!({ "aud": ["app", "x"] }),
            json!({ "aud": ["app", "web"] }),
            json!({ "aud": "x", "client_id": "web" }),
            json!({ "aud": null, "client_id": "web" }),
        ]
        .map(|mut claims| {
            claims["iss"] = json!("https://idp/");
            server.auth(&provider.token(&claims)).status
        })
    };
    assert_eq!(statuses("audience=web, app"), [200, 200, 200, 401, 401]);
    assert_eq!(statuses("audience=web, app\naudience_match=all"), [401, 401, 200, 401, 401]);
    assert_eq!(statuses("audience=web\nrequire_audience=false"), [200, 401, 200, 401, 200]);
    assert_eq!(statuses("audience=web\naudience_claim=client_id"), [401, 401, 401, 200, 200]);
}

fn missing_scope_is_named(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let options = "issuer=https://idp/\naudience=us\nscopes=orders:read, orders:write";
    let server = serve(&provider, &sandbox, options);
    let with = |claim: &str, value: Value| {
        server.auth(&provider.token(&json!({ "iss": "https://idp/", "aud": "us", claim: value })))
    };
    assert_eq!(with("scope", json!("orders:write x orders:read")).status, 200);
    assert_eq!(with("scp", json!(["orders:write", "orders:read"])).status, 200);
    for _ in 0..2 {
        let refused = with("scope", json!("orders:read"));
        let challenge = refused.header("www-authenticate").unwrap();
        assert_eq!(refused.status, 403);
        assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
        assert!(challenge.contains(r#"scope="orders:read orders:write""#), "{challenge}");
    }
}

fn only_the_inmanta_surface_demands_what_its_server_does(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), FileProvider::new());
    let now = fixture::now();
    let mut usual = fixture::claims_of("https://idp/");
    usual["aud"] = json!("us");
    let mut ahead = usual.clone();
    ahead["iat"] = json!(now + 20);
    let mut mixed = usual.clone();
    mixed["authorization_details"] = json!([{ "type": "payment" }]);
    let without_kid = provider.key.token_with_header(&json!({ "alg": "ES256" }), &usual);
    let tokens = [provider.key.token(&mixed), provider.key.token(&ahead), without_kid];
    for (profile, statuses) in [("generic", [200; 3]), ("inmanta", [403; 3])] {
        let options =
            format!("issuer=https://idp/\naudience=us\nleeway=0\n[listen]\nsurface={profile}");
        let server = serve(&provider, &sandbox, &options);
        for _ in 0..2 {
            assert_eq!(
                tokens.each_ref().map(|token| server.auth(token).status),
                statuses,
                "{profile}"
            );
        }
        let api = tokens.each_ref().map(|token| {
            let head =
                format!("GET /api/v2/current_user HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
            server.request(&head).status
        });
        assert_eq!(api, [403; 3], "the API is Inmanta's on every listener");
    }
}

#[test]
fn numbers_are_ids_where_the_section_says_so() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let options = "issuer=https://idp/\naudience=us\nsubject_as_text=true";
    let server = serve(&provider, &sandbox, options);
    let token =
        provider.token(&json!({ "iss": "https://idp/", "aud": "us", "sub": 4711, "jti": 17 }));
    for _ in 0..2 {
        let answer = server.auth(&token);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-auth-subject"), Some("4711"));
        assert_eq!(answer.header("x-auth-user"), Some("4711"));
    }
    let strict = serve(&provider, &sandbox, "issuer=https://idp/\naudience=us");
    assert_refused(&strict.auth(&token), &invalid_token(Reject::SubjectFormat));
}

#[test]
fn explanation_names_the_line_that_decides() {
    let (sandbox, provider) = (Sandbox::new(), FileProvider::new());
    let options = "issuer=https://idp/\naudience=web, app\njwt_username_claim=user.name";
    let config = sandbox.file("c.cfg", configuration(&provider, &sandbox, options));
    let explain = |claims: Value| {
        let base = ["token", "explain", "--config", config.to_str().unwrap()];
        let output = sandbox.run_with_input(base, provider.token(&claims));
        assert_eq!(output.code(), 0, "{output:?}");
        output.text().to_owned()
    };
    let good = explain(json!({ "iss": "https://idp/", "aud": "app", "user": { "name": "Ann" } }));
    assert!(good.starts_with("accepted: a token of [auth_jwt_idp], username Ann"), "{good}");
    assert!(!good.contains("\nrefused"), "{good}");
    let bad = explain(json!({ "iss": "https://idp/", "aud": ["other"], "nbf": 4_000_000_000u64 }));
    assert!(bad.starts_with("refused (not_yet_valid)"), "{bad}");
    let block = bad.split("\n\n").find(|block| block.starts_with("refused  audience")).unwrap();
    for part in
        ["expected  web, or app", r#"found     ["other"]"#, "audience = web, app, in", "c.cfg:"]
    {
        assert!(block.contains(part), "{part}: {block}");
    }
    assert!(bad.contains("refused  username"), "every check is made: {bad}");
    let foreign = explain(json!({ "iss": "https://other/" }));
    assert!(foreign.starts_with("refused (issuer_unknown)"), "{foreign}");
    assert!(foreign.contains("expected  https://localhost:8888/, or https://idp/"), "{foreign}");
    assert!(foreign.contains(r#"found     "https://other/""#), "{foreign}");
}
