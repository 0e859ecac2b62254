//! Who may administer: whose tokens may change users, roles and environments, and issue tokens.

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    openssl::SigningKey,
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::{
    fixture::{self, SIGNING, issuer_section},
    users::{Api, ENVIRONMENT, OTHER, claims, data, refused},
};

over_every_protocol!(
    genuine_token_of_a_provider_does_not_administer,
    roles_of_a_provider_that_may_not_administer_do_not_count,
    section_that_administers_issues_tokens_of_any_lifetime,
    token_without_api_issues_at_most_its_own_rights,
    api_requires_tokens_unless_switched_off,
    api_without_a_signing_section_answers_health_only,
);

const MAY_NOT: &str = "The issuer of the authorization token may not administer this server.";

/// A provider whose key set is in a file.
struct FileProvider {
    key: SigningKey,
    options: String,
}

impl FileProvider {
    fn new(sandbox: &Sandbox) -> Self {
        let key = SigningKey::generate("ES256", "k");
        let file = sandbox.file("jwks.json", fixture::key_set(&[&key]));
        Self { key, options: format!("jwks_uri=file://{}\n", file.display()) }
    }

    /// Returns a section for it.
    fn section(&self, name: &str, issuer: &str) -> String {
        issuer_section(name, "ES256", issuer, &self.options)
    }

    /// Returns a token with the usual claims and these.
    fn token(&self, more: Value) -> String {
        let mut claims = fixture::claims_of("https://idp/");
        claims["exp"] = json!(4_102_444_800u64);
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.key.token(&claims)
    }
}

fn administrative_calls() -> [(&'static str, Value); 17] {
    [
        ("POST /user", json!({ "username": "mallory", "password": "mallory-password" })),
        ("DELETE /user/bob", Value::Null),
        ("PATCH /user/bob/password", json!({ "password": "mallory-password" })),
        ("PATCH /is_admin", json!({ "username": "bob", "is_admin": true })),
        ("POST /role", json!({ "name": "noc" })),
        ("DELETE /role?name=noc", Value::Null),
        ("PUT /project", json!({ "name": "new" })),
        ("PUT /api/v1/project", json!({ "name": "new" })),
        ("POST /project/11111111-1111-1111-1111-111111111111", json!({ "name": "new" })),
        ("DELETE /api/v1/project/11111111-1111-1111-1111-111111111111", Value::Null),
        (
            "PUT /environment",
            json!({ "name": "new", "project_id": "11111111-1111-1111-1111-111111111111" }),
        ),
        (
            "PUT /api/v1/environment",
            json!({ "name": "new", "project_id": "11111111-1111-1111-1111-111111111111" }),
        ),
        (
            "POST /environment/11111111-1111-1111-1111-111111111111",
            json!({ "name": "new", "project_id": "11111111-1111-1111-1111-111111111111" }),
        ),
        ("DELETE /api/v1/environment/11111111-1111-1111-1111-111111111111", Value::Null),
        ("DELETE /environment/11111111-1111-1111-1111-111111111111", Value::Null),
        ("POST /environment_auth", json!({ "client_types": ["agent"] })),
        ("POST /api/v1/environment_auth", json!({ "client_types": ["api"] })),
    ]
}

fn send(api: &Api<'_>, call: &str, body: &Value) -> countersign_tests::http::Response {
    if body.is_null() { api.ask(call) } else { api.send(call, body.clone()) }
}

fn genuine_token_of_a_provider_does_not_administer(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let idp = FileProvider::new(&sandbox);
    let server = sandbox.serve(&format!("{SIGNING}{}", idp.section("oidc", "https://idp/")));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    root.add_user("bob");
    let employee = Api::bearing(&server, &idp.token(json!({}))).within(ENVIRONMENT);
    for (call, body) in administrative_calls() {
        refused(&send(&employee, call, &body), 403, MAY_NOT);
    }
    // Also if the arguments are wrong, so that every attempt is recorded.
    refused(&employee.send("POST /user", json!({ "nonsense": 1 })), 403, MAY_NOT);
    refused(&employee.ask(&format!("DELETE /environment/{OTHER}")), 403, MAY_NOT);
    for call in ["GET /user", "GET /role", "GET /environment", "GET /environment_auth"] {
        assert_eq!(employee.ask(call).status, 200, "{call}");
    }
}

fn roles_of_a_provider_that_may_not_administer_do_not_count(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let idp = FileProvider::new(&sandbox);
    let config = |administers| {
        format!(
            "{SIGNING}{}administers={administers}\n[server]\n\
             authorization_provider=policy-engine\n{}",
            idp.section("oidc", "https://idp/"),
            fixture::policy_engine(fixture::DEFAULT_POLICY)
        )
    };
    let token = idp.token(json!({ "urn:inmanta:is_admin": true }));
    let add = |server: &Server<'_>, name: &str| {
        let user = json!({ "username": name, "password": "a good password" });
        Api::bearing(server, &token).send("POST /user", user)
    };
    let server = sandbox.serve(&config(false));
    refused(&add(&server, "carol"), 403, MAY_NOT);
    drop(server);
    let server = sandbox.serve(&config(true));
    assert_eq!(add(&server, "carol").status, 200);
}

fn section_that_administers_issues_tokens_of_any_lifetime(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let idp = FileProvider::new(&sandbox);
    let section = idp.section("oidc", "https://idp/");
    let server = sandbox.serve(&format!("{SIGNING}{section}administers=true\n"));
    Api::root(&server).add_environment(ENVIRONMENT);
    Api::root(&server).add_environment(OTHER);
    let operator = Api::bearing(&server, &idp.token(json!({})));
    let all = json!({ "client_types": ["agent", "compiler", "api"], "idempotent": true });
    let issued = data(&operator.within(ENVIRONMENT).send("POST /environment_auth", all));
    assert_eq!(server.auth(issued.as_str().unwrap()).status, 200);
    let scoped = Api::bearing(&server, &idp.token(json!({ "urn:inmanta:env": ENVIRONMENT })));
    let agent = json!({ "client_types": ["agent"] });
    let elsewhere = scoped.within(OTHER).send("POST /environment_auth", agent.clone());
    let text = "The authorization token is not valid for the requested environment.";
    refused(&elsewhere, 403, text);
    assert_eq!(scoped.within(ENVIRONMENT).send("POST /environment_auth", agent).status, 200);
}

fn token_without_api_issues_at_most_its_own_rights(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&SIGNING.replace("expire=0", "expire=7200"));
    Api::root(&server).add_environment(ENVIRONMENT);
    let bearing = |client_types: &str, exp: Value| {
        let claims =
            json!({ "urn:inmanta:ct": client_types, "urn:inmanta:env": ENVIRONMENT, "exp": exp });
        Api::bearing(&server, &fixture::token(&fixture::claims(claims))).within(ENVIRONMENT)
    };
    let create = |api: &Api<'_>, wanted: Value| api.send("POST /environment_auth", wanted);
    let expiry = |response| claims(data(&response).as_str().unwrap())["exp"].as_u64();
    let end = fixture::now() + 600;
    let job = bearing("compiler", json!(end));
    for types in [json!(["api"]), json!(["agent", "api"])] {
        let text = "A token without the client type api cannot issue one with it.";
        refused(&create(&job, json!({ "client_types": types })), 403, text);
    }
    let both = json!(["agent", "compiler"]);
    let default = create(&job, json!({ "client_types": both }));
    assert!(expiry(default).unwrap() <= end, "the default of the section is longer");
    let longer = create(&job, json!({ "client_types": both, "expire": 86_400 }));
    assert!(expiry(longer).unwrap() <= end);
    let shorter = create(&job, json!({ "client_types": both, "expire": 60 }));
    assert!(expiry(shorter).unwrap() < end - 300);
    let idempotent = create(&job, json!({ "client_types": ["agent"], "idempotent": true }));
    let text = "An idempotent token never expires, but the authorization token does.";
    refused(&idempotent, 403, text);
    let idempotent = json!({ "client_types": ["agent"], "idempotent": true });
    refused(&job.send("POST /api/v1/environment_auth", idempotent), 403, text);
    let endless = bearing("compiler", Value::Null);
    let idempotent = json!({ "client_types": ["agent"], "idempotent": true });
    assert_eq!(create(&endless, idempotent).status, 200);
    let with_api = bearing("api,compiler", json!(end));
    let longer = create(&with_api, json!({ "client_types": ["api"], "expire": 86_400 }));
    assert!(expiry(longer).unwrap() > end, "a token with api counts as one");
}

fn api_requires_tokens_unless_switched_off(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    for call in ["GET /user", "GET /role", "GET /environment"] {
        assert_eq!(Api::anonymous(&server).ask(call).status, 401, "{call}");
    }
    drop(server);
    let server = sandbox.serve(&format!("{SIGNING}[server]\nauth=false\n"));
    for call in ["GET /user", "GET /role", "GET /environment"] {
        assert_eq!(Api::anonymous(&server).ask(call).status, 200, "{call}");
    }
    assert_eq!(Api::anonymous(&server).send("POST /role", json!({ "name": "noc" })).status, 400);
    let log = server.log();
    assert!(log.contains("auth is false: everybody who reaches /api/v2"), "{log}");
}

fn api_without_a_signing_section_answers_health_only(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve("[cache]\nmegabytes=1\n");
    let anonymous = Api::anonymous(&server).within(ENVIRONMENT);
    assert_eq!(anonymous.ask("GET /health").status, 200);
    for (call, body) in administrative_calls() {
        assert_eq!(send(&anonymous, call, &body).status, 401, "{call}");
    }
    assert_eq!(anonymous.log_in("bob", "x").status, 401);
    assert_eq!(anonymous.ask("GET /user").status, 401);
}

/// Configurations, and the sections beside the signing one that may administer with each.
#[test]
fn config_check_reports_who_may_administer() {
    let sandbox = Sandbox::new();
    let idp = FileProvider::new(&sandbox);
    let one = idp.section("one", "https://idp/realms/a");
    let two = format!("{one}{}", idp.section("two", "https://sts.idp/"));
    let cases: [(&str, &str, &[&str]); 14] = [
        (&one, "", &[]),
        (&one, "[server]\nauth_method=jwt\n", &["one"]),
        (&one, "[server]\nauth_method=oidc\n", &["one"]),
        (&one, "[server]\nauth_method=database\n", &[]),
        (&two, "[server]\nauth_method=jwt\n", &[]),
        (&two, "[web-ui]\noidc_authority=https://idp/realms/a/\n", &["one"]),
        (&two, "[web-ui]\noidc_authority=https://sts.idp\n", &["two"]),
        (&two, "[web-ui]\noidc_auth_url=https://idp\noidc_realm=a\n", &["one"]),
        (&two, "[dashboard]\nenabled=true\nauth_url=https://idp\nrealm=a\n", &["one"]),
        (&one, "[web-ui]\noidc_authority=https://login.example/v2.0\n", &["one"]),
        (&two, "[web-ui]\noidc_authority=https://login.example/v2.0\n", &[]),
        (&two, "[server]\nauth_method=database\n[web-ui]\noidc_authority=https://sts.idp\n", &[]),
        (&two, "[auth_jwt_two]\nadministers=true\n", &["two"]),
        (
            &one,
            "[server]\nauth_method=jwt\n[auth_jwt_one]\nadministers=false\n[auth_jwt_default]\n\
             administers=false\n",
            &[],
        ),
    ];
    for (sections, options, expected) in cases {
        let config = sandbox.file("check.cfg", format!("{SIGNING}{sections}{options}"));
        let report = sandbox.run(["config", "check", "-c", config.to_str().unwrap()]);
        let text = report.text();
        for name in
            ["one", "two"].into_iter().filter(|name| sections.contains(&format!("_{name}]")))
        {
            let answer = if expected.contains(&name) { "yes" } else { "no" };
            let line = format!("tokens of [auth_jwt_{name}]: {answer}, since ");
            assert!(text.contains(&line), "{options}\n{text}");
        }
        let signs = if options.contains("auth_jwt_default") { "no" } else { "yes" };
        assert!(text.contains(&format!("tokens of [auth_jwt_default]: {signs}, since ")), "{text}");
    }
}

#[test]
fn config_check_prints_the_line_that_would_change_a_right() {
    let sandbox = Sandbox::new();
    let idp = FileProvider::new(&sandbox);
    let check = |options: &str| {
        let section = idp.section("cf", "https://team.cloudflareaccess.com");
        let config = sandbox.file("check.cfg", format!("{SIGNING}{section}{options}"));
        sandbox.run(["config", "check", "-c", config.to_str().unwrap()]).text().to_owned()
    };
    let denied = check("");
    let line =
        "change it with auth_method = jwt in [server], or administers = true in [auth_jwt_cf]";
    assert!(denied.contains(line), "{denied}");
    let granted = check("[server]\nauth_method=jwt\n");
    assert!(granted.contains("change it with administers = false in [auth_jwt_cf]"), "{granted}");
}

#[test]
fn main_listener_serves_what_it_is_told() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[listen]\nserves=auth\n"));
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    assert_eq!(Api::anonymous(&server).ask("GET /health").status, 404);
    assert_eq!(server.verify(&fixture::good_token()).status, 404);
}
