use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{Api, ENVIRONMENT, OTHER, claims, configuration, data, done, refused};

over_every_protocol!(
    c58_roles_are_added_listed_and_deleted_unless_somebody_has_them,
    c59_a_role_is_had_by_a_user_in_an_environment_that_are_there,
    a_session_says_the_roles_and_ends_when_one_is_lost,
);

fn c58_roles_are_added_listed_and_deleted_unless_somebody_has_them(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for name in ["operator", "no c"] {
        done(&root.send("POST /role", json!({ "name": name })));
    }
    assert_eq!(data(&root.ask("GET /role")), json!(["no c", "operator"]));
    refused(
        &root.send("POST /role", json!({ "name": "operator" })),
        400,
        "Role operator already exists.",
    );
    refused(&root.ask("DELETE /role?name=none"), 400, "Role none doesn't exist.");
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    done(&root.send(
        "POST /role_assignment/bob",
        json!({ "environment": ENVIRONMENT, "role": "operator" }),
    ));
    let assigned = "Role operator cannot be delete because it's still assigned to a user.";
    refused(&root.ask("DELETE /role?name=operator"), 400, assigned);
    done(&root.ask("DELETE /role?name=no%20c"));
    assert_eq!(data(&root.ask("GET /role")), json!(["operator"]));
}

fn c59_a_role_is_had_by_a_user_in_an_environment_that_are_there(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    for name in ["operator", "noc"] {
        done(&root.send("POST /role", json!({ "name": name })));
    }
    let assign = |username: &str, environment: &str, role: &str| {
        root.send(
            &format!("POST /role_assignment/{username}"),
            json!({ "environment": environment, "role": role }),
        )
    };
    let unassign = |username: &str, environment: &str, role: &str| {
        root.ask(&format!(
            "DELETE /role_assignment/{username}?environment={environment}&role={role}"
        ))
    };
    for (username, environment, role) in
        [("eve", ENVIRONMENT, "noc"), ("bob", OTHER, "noc"), ("bob", ENVIRONMENT, "none")]
    {
        let text = format!(
            "Cannot assign role {role} to user {username}. Role {role}, environment {environment} or user {username} doesn't exist."
        );
        refused(&assign(username, environment, role), 400, &text);
        let text =
            format!("Role {role} (environment={environment}) is not assigned to user {username}");
        refused(&unassign(username, environment, role), 400, &text);
    }
    for role in ["operator", "noc", "noc"] {
        done(&assign("bob", ENVIRONMENT, role));
    }
    let of = |username: &str| {
        data(&root.ask(&format!("GET /role_assignment/{username}")))["assignments"].clone()
    };
    assert_eq!((of("bob"), of("eve")), (json!({ ENVIRONMENT: ["noc", "operator"] }), json!({})));
    done(&unassign("bob", ENVIRONMENT, "noc"));
    assert_eq!(of("bob"), json!({ ENVIRONMENT: ["operator"] }));
    assert_eq!(unassign("bob", ENVIRONMENT, "noc").status, 400);
    done(&root.ask("DELETE /user/bob"));
    done(&root.ask("DELETE /role?name=operator"));
}

fn a_session_says_the_roles_and_ends_when_one_is_lost(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    for environment in [OTHER, ENVIRONMENT] {
        root.add_environment(environment);
    }
    for (environment, role) in
        [(ENVIRONMENT, "operator"), (ENVIRONMENT, "noc"), (OTHER, "read-only")]
    {
        done(&root.send("POST /role", json!({ "name": role })));
        done(&root.send(
            "POST /role_assignment/bob",
            json!({ "environment": environment, "role": role }),
        ));
    }
    let session = Api::anonymous(&server).session("bob");
    let roles = json!({ ENVIRONMENT: ["noc", "operator"], OTHER: ["read-only"] });
    assert_eq!(claims(&session)["urn:inmanta:roles"], roles);
    for place in [
        format!("environment={OTHER}&role=noc"),
        format!("environment={ENVIRONMENT}&role=read-only"),
    ] {
        let none = root.ask(&format!("DELETE /role_assignment/bob?{place}"));
        assert_eq!(
            (none.status, server.auth(&session).status),
            (400, 200),
            "nothing is lost: {place}"
        );
    }
    done(&root.ask(&format!("DELETE /role_assignment/bob?environment={OTHER}&role=read-only")));
    assert_eq!(server.auth(&session).status, 401);
}
