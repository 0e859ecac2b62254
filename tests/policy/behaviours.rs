//! Behaviours 60 and 64 to 78 of the Inmanta server, with the default policy.

use serde_json::{Value, json};

use super::{
    default_policy::{allows, default_policy},
    roles_and_endpoints::{ENVIRONMENT, ROLES},
};

/// Endpoints of the Inmanta server that the behaviours are about.
pub(crate) fn endpoints() -> Value {
    let of = |label: &str, environment: Option<&str>, read_only: bool| {
        json!({
            "auth_label": label,
            "client_types": ["api"],
            "environment_param": environment,
            "read_only": read_only,
        })
    };
    let tid = Some("X-Inmanta-tid");
    json!({
        "GET /api/v2/environment": of("environment.read", None, true),
        "GET /api/v2/user": of("role-assignment.read", None, true),
        "GET /api/v2/support": of("support.support-archive.read", None, true),
        "GET /api/v2/resource": of("resource.read", tid, true),
        "GET /api/v1/agentproc": of("agent.read", Some("environment"), true),
        "GET /api/v2/report": of("report.read", tid, true),
        "POST /api/v2/agents/<action>": of("agent.pause-resume", tid, false),
        "POST /api/v1/notify/<id>": of("compiler.execute", Some("id"), false),
        "POST /api/v2/environment_settings/<id>": of("environment.setting.write", tid, false),
        "PUT /api/v2/project": of("project.create", None, false),
        "PUT /api/v2/environment": of("environment.create", Some("environment_id"), false),
        "POST /api/v2/environment_auth": of("token", tid, false),
        "POST /api/v1/deploy": of("deploy", tid, false),
        "PUT /api/v1/parameter/<id>": of("parameter.write", tid, false),
        "DELETE /api/v2/discovered": of("discovered-resources.delete", tid, false),
        "PATCH /api/v2/user/<username>/password": of("user.change-password", None, false),
        "POST /api/v2/agent_call": json!({
            "auth_label": "agent.call", "client_types": ["agent"], "environment_param": tid,
            "read_only": false,
        }),
    })
}

/// Returns the decision about a call of a user with these roles.
fn decide(roles: &[&str], endpoint_id: &str, parameters: Value) -> bool {
    let roles = json!({ "urn:inmanta:roles": { ENVIRONMENT: roles }, "sub": "bob" });
    decide_for(roles, endpoint_id, parameters)
}

fn decide_for(token: Value, endpoint_id: &str, parameters: Value) -> bool {
    let request = json!({ "endpoint_id": endpoint_id, "parameters": parameters });
    allows(&default_policy(&endpoints()), &json!({ "request": request, "token": token }))
}

fn here() -> Value {
    json!({ "X-Inmanta-tid": ENVIRONMENT, "id": ENVIRONMENT })
}

#[test]
fn behaviour_60_default_policy_defines_its_roles() {
    let mut roles = ROLES.map(str::to_owned);
    roles.sort_unstable();
    assert_eq!(default_policy(&json!({})).roles(), roles);
}

#[test]
fn behaviour_64_read_only_reads() {
    let read_only = |id: &str| decide(&["read-only"], id, here());
    assert!(read_only("GET /api/v2/environment"));
    for id in [
        "POST /api/v2/agents/<action>",
        "POST /api/v1/notify/<id>",
        "POST /api/v2/environment_settings/<id>",
        "PUT /api/v2/project",
    ] {
        assert!(!read_only(id), "{id}");
    }
}

#[test]
fn behaviour_65_noc_compiles_without_update() {
    for (update, expected) in [
        (json!(false), true),
        (json!(true), false),
        (json!(null), false),
        (json!("false"), false),
        (json!(0), false),
    ] {
        let mut parameters = here();
        parameters["update"] = update.clone();
        let decision = decide(&["noc"], "POST /api/v1/notify/<id>", parameters);
        assert_eq!(decision, expected, "{update}");
    }
    assert!(decide(&["noc"], "POST /api/v1/notify/<id>", here()), "update is absent");
}

#[test]
fn behaviour_66_environment_admin_changes_settings() {
    let admin = |id: &str| decide(&["environment-admin"], id, here());
    assert!(admin("POST /api/v2/environment_settings/<id>"));
    assert!(!admin("PUT /api/v2/project"));
}

#[test]
fn behaviour_67_experts_create_tokens() {
    for (roles, expected) in
        [(&["environment-expert-admin"][..], true), (&["operator"], false), (&[], false)]
    {
        let decision = decide(roles, "POST /api/v2/environment_auth", here());
        assert_eq!(decision, expected, "{roles:?}");
    }
}

#[test]
fn behaviour_68_users_change_their_own_password() {
    const PASSWORD: &str = "PATCH /api/v2/user/<username>/password";
    for id in [PASSWORD, "PATCH /api/v2/user/{username}/password"] {
        assert!(decide(&[], id, json!({ "username": "bob" })), "{id}");
        assert!(!decide(&[], id, json!({ "username": "alice" })), "{id}");
        assert!(!decide(&[], id, json!({})), "{id}");
    }
    let nameless = json!({ "sub": null });
    assert!(!decide_for(nameless, PASSWORD, json!({ "username": null })));
    // A user of the same name at another issuer.
    let foreign = json!({
        "request": { "endpoint_id": PASSWORD, "parameters": { "username": "bob" } },
        "token": { "sub": "bob" },
        "issuer": { "name": "auth_jwt_idp" },
    });
    assert!(!allows(&default_policy(&endpoints()), &foreign));
}

#[test]
fn behaviour_69_support_archive_is_for_administrators() {
    assert!(!decide(&ROLES, "GET /api/v2/support", here()));
    let admin = json!({ "urn:inmanta:is_admin": true });
    assert!(decide_for(admin, "GET /api/v2/support", here()));
}

#[test]
fn behaviour_70_operator_deploys_as_noc_does() {
    // The real server denies the operator; the guide includes noc in it, and wins (D6).
    assert!(decide(&["operator"], "POST /api/v1/deploy", here()));
    assert!(!decide(&["read-only"], "POST /api/v1/deploy", here()));
}

#[test]
fn behaviour_71_roles_add_up() {
    assert!(decide(&["read-only", "noc"], "POST /api/v1/deploy", here()));
}

#[test]
fn behaviour_72_administrator_is_a_boolean() {
    for (is_admin, expected) in
        [(json!(true), true), (json!("true"), false), (json!(1), false), (json!([true]), false)]
    {
        let token = json!({ "urn:inmanta:is_admin": is_admin });
        assert_eq!(decide_for(token, "PUT /api/v2/project", here()), expected, "{is_admin}");
    }
}

#[test]
fn behaviour_73_experts_do_anything_in_their_environment() {
    // The real server denies these; the guide is explicit, and wins (D6).
    for id in ["PUT /api/v1/parameter/<id>", "DELETE /api/v2/discovered", "GET /api/v2/report"] {
        assert!(decide(&["environment-expert-admin"], id, here()), "{id}");
        assert!(!decide(&["environment-admin"], id, here()), "{id}");
    }
    let other = json!({ "X-Inmanta-tid": "22222222-2222-2222-2222-222222222222" });
    for (id, parameters) in [
        ("PUT /api/v1/parameter/<id>", other),
        ("PUT /api/v2/environment", json!({ "environment_id": ENVIRONMENT })),
        ("PUT /api/v2/project", here()),
        ("POST /api/v2/agent_call", here()),
    ] {
        assert!(!decide(&["environment-expert-admin"], id, parameters), "{id}");
    }
}

#[test]
fn behaviour_74_every_user_lists_users() {
    assert!(decide_for(json!({ "sub": "bob" }), "GET /api/v2/user", json!({})));
}

#[test]
fn behaviour_75_unknown_endpoint_is_for_administrators() {
    assert!(!decide(&ROLES, "GET /api/v9/unknown", here()));
    assert!(decide_for(json!({ "urn:inmanta:is_admin": true }), "GET /api/v9/unknown", here()));
}

#[test]
fn behaviour_76_environment_that_is_missing_is_denied() {
    let list = |parameters| decide(&["read-only"], "GET /api/v1/agentproc", parameters);
    assert!(!list(json!({})));
    assert!(!list(json!({ "environment": null })));
    assert!(list(json!({ "environment": ENVIRONMENT })));
}

#[test]
fn behaviour_77_roles_of_another_type_are_denied() {
    for roles in [
        json!(["read-only"]),
        json!("read-only"),
        json!({ ENVIRONMENT: "read-only" }),
        json!({ ENVIRONMENT: { "read-only": "read-only" } }),
        json!({ ENVIRONMENT: [["read-only"]] }),
        json!({ ENVIRONMENT: null }),
        json!(null),
    ] {
        let token = json!({ "urn:inmanta:roles": roles });
        assert!(!decide_for(token, "GET /api/v2/resource", here()), "{roles}");
    }
}

#[test]
fn behaviour_78_environment_ids_are_compared_exactly() {
    let token = json!({ "urn:inmanta:roles": { "aaaaaaaa-1111": ["read-only"] } });
    for (environment, expected) in [("AAAAAAAA-1111", false), ("aaaaaaaa-1111", true)] {
        let parameters = json!({ "X-Inmanta-tid": environment });
        assert_eq!(decide_for(token.clone(), "GET /api/v2/resource", parameters), expected);
    }
}
