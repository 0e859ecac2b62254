use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{Api, ENVIRONMENT, OTHER, assert_done, claims, configuration, data, refused};

over_every_protocol!(
    c58_assigned_roles_cannot_be_deleted,
    c59_role_assignments_reference_existing_rows,
    removing_a_role_ends_the_session,
);

fn c58_assigned_roles_cannot_be_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for name in ["operator", "no c"] {
        assert_done(&root.send("POST /role", json!({ "name": name })));
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
    assert_done(&root.send(
        "POST /role_assignment/bob",
        json!({ "environment": ENVIRONMENT, "role": "operator" }),
    ));
    let assigned = "Role operator cannot be delete because it's still assigned to a user.";
    refused(&root.ask("DELETE /role?name=operator"), 400, assigned);
    assert_done(&root.ask("DELETE /role?name=no%20c"));
    assert_eq!(data(&root.ask("GET /role")), json!(["operator"]));
}

fn c59_role_assignments_reference_existing_rows(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    for name in ["operator", "noc"] {
        assert_done(&root.send("POST /role", json!({ "name": name })));
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
        assert_done(&assign("bob", ENVIRONMENT, role));
    }
    let of = |username: &str| {
        data(&root.ask(&format!("GET /role_assignment/{username}")))["assignments"].clone()
    };
    assert_eq!((of("bob"), of("eve")), (json!({ ENVIRONMENT: ["noc", "operator"] }), json!({})));
    assert_done(&unassign("bob", ENVIRONMENT, "noc"));
    assert_eq!(of("bob"), json!({ ENVIRONMENT: ["operator"] }));
    assert_eq!(unassign("bob", ENVIRONMENT, "noc").status, 400);
    assert_done(&root.ask("DELETE /user/bob"));
    assert_done(&root.ask("DELETE /role?name=operator"));
}

fn removing_a_role_ends_the_session(protocol: Protocol) {
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
        assert_done(&root.send("POST /role", json!({ "name": role })));
        assert_done(&root.send(
            "POST /role_assignment/bob",
            json!({ "environment": environment, "role": role }),
        ));
    }
    let session = Api::anonymous(&server).session("bob");
    let roles = json!({ ENVIRONMENT: ["noc", "operator"], OTHER: ["read-only"] });
    assert_eq!(claims(&session)["urn:inmanta:roles"], roles);
    for assignment in [
        format!("environment={OTHER}&role=noc"),
        format!("environment={ENVIRONMENT}&role=read-only"),
    ] {
        let none = root.ask(&format!("DELETE /role_assignment/bob?{assignment}"));
        assert_eq!(
            (none.status, server.auth(&session).status),
            (400, 200),
            "no role was removed: {assignment}"
        );
    }
    assert_done(
        &root.ask(&format!("DELETE /role_assignment/bob?environment={OTHER}&role=read-only")),
    );
    assert_eq!(server.auth(&session).status, 401);
}
