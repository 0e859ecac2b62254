use countersign_tests::{
    binary::Sandbox, client::Protocol, openssl::SigningKey, over_every_protocol,
};
use serde_json::{Value, json};

use super::{
    Api, ENVIRONMENT, OTHER, assert_done, claims, configuration, data, names, refused, session_of,
};
use crate::fixture;

over_every_protocol!(
    deleting_an_environment_revokes_its_tokens,
    idempotent_token_is_listed_and_revoked,
    environment_tokens_are_issued,
    c57_invalid_expire_is_refused,
    api_v1_registers_tokens_unless_idempotent,
    tokens_are_listed_with_their_state,
    c54_revoked_or_unregistered_token_is_refused,
    c55_c56_revocation_is_idempotent_and_scoped,
);

fn deleting_an_environment_revokes_its_tokens(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    let [gone, stays] = [ENVIRONMENT, OTHER].map(|environment| {
        root.add_environment(environment);
        // Registered, idempotent, and signed without the server.
        let idempotent = json!({ "client_types": ["agent"], "idempotent": true });
        let idempotent = data(&root.within(environment).send("POST /environment_auth", idempotent));
        let unregistered =
            fixture::token(&fixture::claims(json!({ "urn:inmanta:env": environment })));
        [root.issue(environment), idempotent.as_str().unwrap().to_owned(), unregistered]
    });
    let statuses = |tokens: &[String; 3]| tokens.each_ref().map(|token| server.auth(token).status);
    assert_eq!((statuses(&gone), statuses(&stays)), ([200; 3], [200; 3]));
    assert_done(&root.ask(&format!("DELETE /environment/{ENVIRONMENT}")));
    assert_eq!((statuses(&gone), statuses(&stays)), ([401; 3], [200; 3]));
    let later = fixture::token(&fixture::claims(json!({ "urn:inmanta:env": ENVIRONMENT, "n": 1 })));
    assert_eq!(server.auth(&later).status, 401, "also a token that is signed later");
}

fn idempotent_token_is_listed_and_revoked(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let create = || {
        let wanted = json!({ "client_types": ["agent"], "idempotent": true });
        root.within(ENVIRONMENT).send("POST /environment_auth", wanted)
    };
    let token = data(&create()).as_str().unwrap().to_owned();
    assert_eq!(data(&create()), json!(token));
    let listed = data(&root.within(ENVIRONMENT).ask("GET /environment_auth"));
    let [entry] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!(
        (&entry["created_by"], &entry["client_types"], &entry["expires_at"]),
        (&json!("root"), &json!(["agent"]), &Value::Null)
    );
    let jti = entry["jti"].as_str().unwrap();
    let revoke = root.within(ENVIRONMENT).ask(&format!("DELETE /environment_auth/{jti}"));
    assert_done(&revoke);
    assert_eq!(server.auth(&token).status, 401);
    assert_eq!(create().status, 409, "the same request gives the revoked token");
}

fn environment_tokens_are_issued(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let create =
        |arguments: Value| root.within(ENVIRONMENT).send("POST /environment_auth", arguments);
    let issue = |arguments: Value| data(&create(arguments)).as_str().unwrap().to_owned();
    let token = issue(json!({ "client_types": ["compiler", "api"] }));
    let created_by = "urn:inmanta:created_by";
    let order = ["iss", "aud", "urn:inmanta:ct", created_by, "jti", "iat", "urn:inmanta:env"];
    assert_eq!(names(&token), order.map(str::to_owned));
    let token_claims = claims(&token);
    assert_eq!(
        (&token_claims["urn:inmanta:ct"], &token_claims[created_by]),
        (&json!("compiler,api"), &json!("root"))
    );
    assert_eq!(
        (token_claims["jti"].as_str().unwrap().len(), &token_claims["urn:inmanta:env"]),
        (36, &json!(ENVIRONMENT))
    );
    assert_ne!(
        token,
        issue(json!({ "client_types": ["compiler", "api"] })),
        "each token is unique"
    );
    let token_claims =
        claims(&issue(json!({ "client_types": ["agent"], "expire": 60, "idempotent": false })));
    assert_eq!(token_claims["exp"].as_u64().unwrap() - token_claims["iat"].as_u64().unwrap(), 60);
    let same = json!({ "client_types": ["agent"], "idempotent": true });
    assert_eq!(issue(same.clone()), issue(same.clone()));
    assert_eq!(
        names(&issue(same)),
        ["iss", "aud", "urn:inmanta:ct", created_by, "urn:inmanta:env"].map(str::to_owned)
    );
    for (arguments, text) in [
        (json!({}), "Field 'client_types' is required."),
        (
            json!({ "client_types": "api" }),
            "Failed to validate argument\n1 validation error for \
             environment_create_token_arguments\nclient_types\n  Input should be a valid list",
        ),
        (
            json!({ "client_types": [1] }),
            "Failed to validate argument\n1 validation error for \
             environment_create_token_arguments\nclient_types\n  Input should be a valid string",
        ),
        (
            json!({ "client_types": [] }),
            "client_types is empty: a token without one could make no call",
        ),
    ] {
        refused(&create(arguments), 400, text);
    }
    assert_eq!(create(json!({ "client_types": ["robot"] })).status, 400);
    assert_eq!(
        data(&root.within(ENVIRONMENT).ask("GET /environment_auth")).as_array().unwrap().len(),
        4,
        "refused tokens are not registered, and an idempotent one is once"
    );
}

#[test]
fn token_client_types_are_limited_by_the_section() {
    let sandbox = Sandbox::new();
    let section = fixture::SIGNING.replace("agent,compiler,api", "compiler,api");
    let server = sandbox.serve(&format!("{section}[server]\nauth=true\n"));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let text = "The signing config does not support the requested client type agent. Only \
         ['compiler', 'api'] are allowed.";
    refused(
        &root
            .within(ENVIRONMENT)
            .send("POST /environment_auth", json!({ "client_types": ["api", "agent"] })),
        400,
        text,
    );
}

fn c57_invalid_expire_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    for (idempotent, expire, text) in [
        (false, 0, "expire must be a positive number of seconds"),
        (false, -5, "expire must be a positive number of seconds"),
        (
            true,
            3600,
            "An idempotent token cannot have an expiry: such tokens carry no time-based claims",
        ),
    ] {
        let wanted = json!({ "client_types": ["api"], "idempotent": idempotent, "expire": expire });
        refused(&root.within(ENVIRONMENT).send("POST /environment_auth", wanted), 400, text);
    }
}

fn api_v1_registers_tokens_unless_idempotent(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let create = |arguments| {
        let answer = root.within(ENVIRONMENT).send("POST /api/v1/environment_auth", arguments);
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        assert_eq!(body, json!({ "token": body["token"] }), "no envelope");
        body["token"].as_str().unwrap().to_owned()
    };
    let registered = create(json!({ "client_types": ["agent"] }));
    let jti = claims(&registered)["jti"].as_str().unwrap().to_owned();
    assert_eq!(server.auth(&registered).status, 200);
    assert_done(&root.within(ENVIRONMENT).ask(&format!("DELETE /environment_auth/{jti}")));
    assert_eq!(server.auth(&registered).status, 401);
    let one = create(json!({ "client_types": ["agent"], "idempotent": true }));
    assert_eq!(one, create(json!({ "client_types": ["agent"], "idempotent": true })));
    let config = sandbox.path().join("server.cfg");
    let sign = [
        "token",
        "sign",
        "-c",
        config.to_str().unwrap(),
        "--idempotent",
        "--client-type",
        "agent",
        "--environment",
        ENVIRONMENT,
        "--claim",
        "urn:inmanta:created_by=root",
    ];
    assert_eq!(one, sandbox.run(sign).text());
    // In any spelling: a deleted environment ends its tokens by the canonical one.
    let odd = ENVIRONMENT.replace('-', "");
    let signed =
        sandbox.run(sign.map(|argument| if argument == ENVIRONMENT { &odd } else { argument }));
    assert_eq!(one, signed.text());
    assert!(
        claims(&create(json!({ "client_types": ["agent"], "idempotent": false })))["jti"]
            .is_string()
    );
    let expiring = json!({ "client_types": ["agent"], "idempotent": false, "expire": 60 });
    let answer = root.within(ENVIRONMENT).send("POST /api/v1/environment_auth", expiring);
    let text = "request contains fields {'expire'} that are not declared in method and no kwargs \
         argument is provided.";
    refused(&answer, 400, text);
}

fn tokens_are_listed_with_their_state(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for environment in [ENVIRONMENT, OTHER] {
        root.add_environment(environment);
    }
    let list = |environment: &str| data(&root.within(environment).ask("GET /environment_auth"));
    assert_eq!(list(ENVIRONMENT), json!([]));
    let wanted = json!({ "client_types": ["api", "compiler"], "expire": 60 });
    let token = data(&root.within(ENVIRONMENT).send("POST /environment_auth", wanted));
    let mut listed = list(ENVIRONMENT)[0].clone();
    let [issued, expires] =
        ["issued_at", "expires_at"].map(|name| listed[name].take().as_str().unwrap().to_owned());
    assert!(issued < expires && issued.ends_with(".000000+00:00"), "{issued} {expires}");
    let expected = json!({
        "jti": claims(token.as_str().unwrap())["jti"], "created_by": "root", "client_types": ["api", "compiler"],
        "environment": ENVIRONMENT, "issued_at": null, "expires_at": null, "revoked_at": null, "last_used": null,
    });
    assert_eq!(listed, expected);
    let bearer = Api::bearing(&server, token.as_str().unwrap()).within(ENVIRONMENT);
    assert_eq!(data(&bearer.ask("GET /environment_auth")).as_array().map(Vec::len), Some(1));
    assert!(list(ENVIRONMENT)[0]["last_used"].as_str() >= Some(&issued), "{listed}");
    assert_eq!(list(OTHER), json!([]));
}

fn c54_revoked_or_unregistered_token_is_refused(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::over(protocol);
    let idp = format!(
        "jwks_uri=file://{}",
        sandbox.file("jwks.json", fixture::key_set(&[&key])).display()
    );
    let server =
        sandbox.serve(&format!("{}[server]\nauth=true\n", fixture::with_idp("ES256", &idp)));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let token = root.issue(ENVIRONMENT);
    let status = |token: &str| {
        Api::bearing(&server, token).within(ENVIRONMENT).ask("GET /environment_auth").status
    };
    assert_eq!((status(&token), server.auth(&token).status), (200, 200));
    let revoke = format!("DELETE /environment_auth/{}", claims(&token)["jti"].as_str().unwrap());
    assert_eq!(root.within(ENVIRONMENT).ask(&revoke).status, 200);
    assert_eq!((status(&token), server.auth(&token).status), (403, 401));
    let invalid = "The provided token has an invalid jti claim.";
    let unknown = "The provided token is not recognized; it may have been revoked.";
    for (jti, text) in [("no-uuid", invalid), ("", invalid), (OTHER, unknown)] {
        let unregistered = fixture::token(&fixture::claims(json!({ "jti": jti })));
        refused(&Api::bearing(&server, &unregistered).ask("GET /user"), 403, text);
    }
    // The ids of tokens of other issuers are not in the registry.
    let mut elsewhere = fixture::claims_of("https://idp/");
    elsewhere["jti"] = json!("no-uuid");
    assert_eq!(Api::bearing(&server, &key.token(&elsewhere)).ask("GET /user").status, 200);
}

fn c55_c56_revocation_is_idempotent_and_scoped(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for environment in [ENVIRONMENT, OTHER] {
        root.add_environment(environment);
    }
    let token = root.issue(ENVIRONMENT);
    let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
    let revoke = |environment: &str, jti: &str| {
        root.within(environment).ask(&format!("DELETE /environment_auth/{jti}"))
    };
    for (environment, jti) in [(OTHER, &*jti), (ENVIRONMENT, OTHER)] {
        let text = format!("No token with jti {jti} exists in environment {environment}.");
        refused(&revoke(environment, jti), 404, &text);
    }
    assert_eq!(revoke(ENVIRONMENT, "no-uuid").status, 400);
    assert_eq!(server.auth(&token).status, 200);
    let listed = || data(&root.within(ENVIRONMENT).ask("GET /environment_auth"));
    assert_done(&revoke(ENVIRONMENT, &jti));
    let revoked = listed();
    assert!(revoked[0]["revoked_at"].is_string() && revoked[0]["jti"] == *jti, "{revoked}");
    assert_done(&revoke(ENVIRONMENT, &jti.to_uppercase()));
    assert_eq!(listed(), revoked);
    // A session is not registered.
    assert_eq!(Api::bearing(&server, &session_of("bob", false)).ask("GET /user").status, 200);
}
