use countersign_tests::{binary::Sandbox, openssl::SigningKey};
use serde_json::{Value, json};

use crate::{
    fixture,
    users::{Api, PASSWORD, assert_done, configuration, data, refused, session_of},
};

const DENIED: &str = "Request is not allowed by the access policy.";

fn policies() -> String {
    let engine = fixture::policy_engine(fixture::DEFAULT_POLICY);
    configuration(&format!("authorization-provider=policy-engine\n{engine}"))
}

#[test]
fn c61_agents_and_compilers_bypass_the_policy() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&policies());
    let add = |client_types: &str| {
        let token = fixture::token(&fixture::claims(json!({ "urn:inmanta:ct": client_types })));
        Api::bearing(&server, &token).send("POST /role", json!({ "name": client_types }))
    };
    refused(&add("api"), 403, DENIED);
    assert_done(&add("api,compiler"));
    assert_eq!(add("agent").status, 403, "refused by its client types, not by the policy");
}

#[test]
fn c63_anonymous_calls_get_401_before_the_policy() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&policies());
    refused(
        &Api::anonymous(&server).ask("GET /user"),
        401,
        "Access to this resource is unauthorized",
    );
}

#[test]
fn c68_users_change_only_their_own_password() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&policies());
    Api::root(&server).add_user("bob");
    Api::root(&server).add_user("eve");
    let session = Api::anonymous(&server).session("bob");
    let change = |username: &str| {
        let arguments = json!({ "password": "another horse", "current_password": PASSWORD });
        Api::bearing(&server, &session).send(&format!("PATCH /user/{username}/password"), arguments)
    };
    refused(&change("eve"), 403, DENIED);
    assert_eq!(change("bob").status, 200);
}

#[test]
fn foreign_subject_cannot_use_a_local_password() {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::new();
    let keys = sandbox.file("jwks.json", fixture::key_set(&[&key]));
    let idp = fixture::with_idp("ES256", &format!("jwks_uri=file://{}", keys.display()));
    let server = sandbox.serve(&(policies() + &idp.replace(fixture::SIGNING, "")));
    Api::root(&server).add_user("bob");
    let namesake = Api::bearing(&server, &key.token(&fixture::claims_of("https://idp/")));
    let arguments = json!({ "password": "another horse", "current_password": PASSWORD });
    let text = "The issuer of the authorization token may not administer this server.";
    refused(&namesake.send("PATCH /user/bob/password", arguments), 403, text);
}

#[test]
fn c72_is_admin_must_be_a_boolean() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&policies());
    let add = |is_admin: Value| {
        let token = fixture::token(&fixture::claims(json!({ "urn:inmanta:is_admin": is_admin })));
        Api::bearing(&server, &token).send("POST /role", json!({ "name": "guest" }))
    };
    for is_admin in [json!("true"), json!(1), json!(["true"]), json!(false), Value::Null] {
        refused(&add(is_admin), 403, DENIED);
    }
    assert_done(&add(json!(true)));
}

#[test]
fn c74_every_session_can_list_but_not_add() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&policies());
    let session = session_of("bob", false);
    let bob = Api::bearing(&server, &session);
    for call in ["GET /user", "GET /environment"] {
        assert_eq!(data(&bob.ask(call)), json!([]), "{call}");
    }
    assert_eq!(data(&bob.ask("GET /role")).as_array().unwrap().len(), 5, "those of the policy");
    refused(
        &bob.send("POST /user", json!({ "username": "eve", "password": PASSWORD })),
        403,
        DENIED,
    );
}
