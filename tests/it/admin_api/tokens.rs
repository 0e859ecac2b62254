use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{AdminApi, assert_problem};
use crate::users::{Api, ENVIRONMENT, OTHER, claims, configuration};

over_every_protocol!(tokens_are_created_listed_and_revoked, tokens_need_an_environment_that_exists,);

fn tokens_are_created_listed_and_revoked(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_environment(ENVIRONMENT);
    let api = AdminApi::root(&server);
    let environments = api.get("/environments");
    let listed = json!([{ "id": ENVIRONMENT, "name": format!("env-{ENVIRONMENT}"),
        "project": environments["items"][0]["project"] }]);
    assert_eq!(environments["items"], listed);
    let tokens = format!("/environments/{ENVIRONMENT}/tokens");
    let wanted = json!({ "client_types": ["api", "agent"], "expire": 600 });
    let created = api.send(&format!("POST {tokens}"), wanted);
    assert_eq!(created.status, 201, "{created:?}");
    let (token, jti) = (created.json()["token"].clone(), created.json()["jti"].clone());
    let (token, jti) = (token.as_str().unwrap(), jti.as_str().unwrap());
    assert_eq!(claims(token)["jti"], jti);
    assert_eq!(server.auth(token).status, 200);

    let location = created.header("location").unwrap().to_owned();
    let shown = api.get(&location);
    assert_eq!(shown["client_types"], json!(["api", "agent"]));
    assert_eq!((&shown["jti"], &shown["environment"]), (&json!(jti), &json!(ENVIRONMENT)));
    assert_eq!((&shown["created_by"], &shown["revoked_at"]), (&json!("root"), &json!(null)));
    assert!(shown["expires_at"].as_str().unwrap().ends_with('Z'), "{shown}");
    assert!(!shown.to_string().contains(token), "a token is shown once");
    assert_eq!(api.get(&tokens)["items"], json!([shown]));

    assert_eq!(api.ask(&format!("DELETE {location}")).status, 204);
    assert_eq!(server.auth(token).status, 401);
    assert!(api.get(&location)["revoked_at"].is_string());
    assert_eq!(api.ask(&format!("DELETE {location}")).status, 204, "again");
}

fn tokens_need_an_environment_that_exists(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_environment(ENVIRONMENT);
    let api = AdminApi::root(&server);
    let wanted = json!({ "client_types": ["api"] });
    let created = api.send(&format!("POST /environments/{ENVIRONMENT}/tokens"), wanted.clone());
    let jti = created.json()["jti"].as_str().unwrap().to_owned();
    let other = format!("/environments/{OTHER}/tokens");
    assert_problem(&api.send(&format!("POST {other}"), wanted), 404, "not_found");
    assert_problem(&api.ask(&format!("GET {other}")), 404, "not_found");
    assert_problem(&api.ask(&format!("GET {other}/{jti}")), 404, "not_found");
    assert_problem(&api.ask(&format!("DELETE {other}/{jti}")), 404, "not_found");
    let malformed = api.ask("GET /environments/x/tokens");
    let problem = assert_problem(&malformed, 400, "invalid_request");
    assert_eq!(problem["parameter"], "environment");
    // A token is scoped to its environment here, too.
    let token = created.json()["token"].as_str().unwrap().to_owned();
    let scoped = AdminApi { server: &server, token };
    assert_eq!(scoped.ask(&format!("GET /environments/{ENVIRONMENT}/tokens")).status, 200);
    assert_problem(&scoped.ask("GET /users"), 403, "not_authorized");
}
