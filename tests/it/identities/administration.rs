use countersign_tests::{
    binary::Sandbox, client::Protocol, database::change_meanwhile, eventually, over_every_protocol,
};
use serde_json::{Value, json};

use super::{
    IdentityApi, MachineCredentials, configuration, invalid, refused, session_of, text, with_server,
};
use crate::{
    audit::{audit, audit_with},
    fixture::{SIGNING, claims, now, token},
    users::{Api, ENVIRONMENT, in_file},
};

over_every_protocol!(
    identities_are_created_changed_and_deleted,
    identities_are_searched,
    only_administrators_administer_identities,
    identity_may_administer_by_its_role,
    roles_are_built_in_or_made,
    identities_are_members_of_projects,
    calls_have_the_envelope_of_infisical,
    routes_exist_only_if_enabled,
    hostile_bodies_are_refused,
    repeated_members_are_refused_at_any_depth,
    constraint_is_answered_as_the_check_before_it,
    logins_are_recorded_by_identity_and_without_secrets,
    changes_are_in_the_audit_log,
    refusals_have_their_target_and_reason,
);

const NOT_ALLOWED: &str = "You are not allowed to administer machine identities";

fn identities_are_created_changed_and_deleted(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let new = json!({
            "name": " build ", "organizationId": api.organization,
            "metadata": [{ "key": "team", "value": "red" }],
        });
        let created = api.send("POST /identities", new).json()["identity"].take();
        let id = text(&created["id"]);
        assert_eq!((&created["name"], &created["role"]), (&json!("build"), &json!("no-access")));
        assert_eq!(created["authMethods"], json!([]), "a new identity has no login method");
        assert_eq!(created["orgId"], api.organization.as_str());

        let shown = api.ask(&format!("GET /identities/{id}")).json()["identity"].take();
        assert_eq!(shown["identity"]["name"], "build");
        assert_eq!(shown["metadata"], json!([{ "id": "team", "key": "team", "value": "red" }]));
        let change = json!({ "role": "member", "hasDeleteProtection": true });
        let changed = api.send(&format!("PATCH /identities/{id}"), change).json();
        assert_eq!(changed["identity"]["name"], "build", "the rest stays");
        let delete = format!("DELETE /identities/{id}");
        refused(&api.ask(&delete), 400, "Identity has delete protection");
        let unprotect = json!({ "hasDeleteProtection": false });
        assert_eq!(api.send(&format!("PATCH /identities/{id}"), unprotect).status, 200);
        assert_eq!(api.ask(&delete).status, 200);
        let missing = format!("Failed to find identity with ID {id}");
        refused(&api.ask(&delete), 404, &missing);
        refused(&api.ask(&format!("GET /identities/{id}")), 404, &missing);

        let foreign = json!({ "name": "x", "organizationId": "other" });
        let foreign = api.send("POST /identities", foreign);
        refused(&foreign, 403, "You are not a member of this organization");
        let role = json!({ "name": "x", "organizationId": api.organization, "role": "ops" });
        refused(&api.send("POST /identities", role), 404, "Role with slug ops not found");
        invalid(&api.send("POST /identities", json!({ "organizationId": "x" })), "name");
    });
}

fn identities_are_searched(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for (name, role) in [("web-1", "member"), ("web-2", "admin"), ("db", "member")] {
            api.create(name, role);
        }
        let names = |list: Value| {
            let identities = list["identities"].as_array().unwrap().iter();
            let names = identities.map(|one| text(&one["identity"]["name"])).collect::<Vec<_>>();
            (names.join(" "), list["totalCount"].clone())
        };
        let list = api.ask(&format!("GET /identities?orgId={}", api.organization)).json();
        assert_eq!(names(list), ("db web-1 web-2".into(), json!(3)));
        let search = |body| names(api.send("POST /identities/search", body).json());
        let by_name = json!({ "search": { "name": { "$contains": "WEB" } }, "limit": 1 });
        assert_eq!(search(by_name), ("web-1".into(), json!(2)));
        let next = json!({ "search": { "name": "web" }, "limit": 1, "offset": 1 });
        assert_eq!(search(next), ("web-2".into(), json!(2)));
        let by_role = json!({ "search": { "role": "admin" } });
        assert_eq!(search(by_role), ("web-2".into(), json!(1)));
        for (order, expected) in [
            (json!({ "orderDirection": "desc" }), "web-2 web-1 db"),
            (json!({ "orderBy": "name", "orderDirection": "asc" }), "db web-1 web-2"),
            (json!({ "orderBy": "role" }), "web-2 db web-1"),
        ] {
            assert_eq!(search(order.clone()), (expected.into(), json!(3)), "{order}");
        }
        for (member, value) in [("orderBy", "id"), ("orderDirection", "down")] {
            invalid(&api.send("POST /identities/search", json!({ member: value })), member);
        }
        for odd in [
            json!({ "name": { "$in": ["db"] } }),
            json!({ "name": { "$contains": "db", "$ne": "db" } }),
            json!({ "role": 5 }),
            json!({ "$or": [{ "name": "db" }] }),
            json!(["db"]),
        ] {
            let search = json!({ "search": odd });
            invalid(&api.send("POST /identities/search", search), "search");
        }
        invalid(&api.send("POST /identities/search", json!({ "limit": 101 })), "limit");
    });
}

fn only_administrators_administer_identities(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let agent = token(&claims(json!({ "urn:inmanta:ct": "agent" })));
        let scoped =
            token(&claims(json!({ "urn:inmanta:ct": "api", "urn:inmanta:env": ENVIRONMENT })));
        let machine = api.machine("member", json!({}));
        let machine = api.access_token(&machine);
        for token in [&agent, &scoped, &machine] {
            for call in ["GET /identities/x", "DELETE /identities/x", "GET /organization"] {
                refused(&api.call(token, call, "", ""), 403, NOT_ALLOWED);
            }
        }
        refused(&api.call("", "GET /identities/x", "", ""), 401, "Token missing");
        assert_eq!(api.call(&machine, "GET /identities/details", "", "").status, 200);
        let person = api.ask("GET /identities/details");
        refused(&person, 403, "This call needs the token of a machine identity");
    });
}

fn identity_may_administer_by_its_role(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("admin", json!({}));
        let token = api.access_token(&machine);
        let new = json!({ "name": "made", "organizationId": api.organization, "role": "admin" });
        let made = api.call(&token, "POST /identities", "", &new.to_string());
        assert_eq!(made.status, 200, "{made:?}");
        // Neither people nor their API are within its reach.
        for call in ["GET /user", "GET /role"] {
            let response = Api::bearing(api.server, &token).ask(call);
            assert_eq!(response.status, 403, "{response:?}");
            assert!(response.body.contains("machine identity"), "{response:?}");
        }
        let demote = json!({ "role": "no-access" });
        assert_eq!(api.send(&format!("PATCH /identities/{}", machine.id), demote).status, 200);
        let call = |token: &str| api.call(token, "POST /identities", "", &new.to_string());
        refused(&call(&token), 401, "Failed to authorize: token has been revoked");
        refused(&call(&api.access_token(&machine)), 403, NOT_ALLOWED);
    });
}

fn roles_are_built_in_or_made(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let path = format!("/organization/{}/roles", api.organization);
        let role = json!({ "slug": "ops", "name": "Operators" });
        assert_eq!(api.send(&format!("POST {path}"), role.clone()).status, 200);
        let again = api.send(&format!("POST {path}"), role);
        refused(&again, 400, "Role with slug ops already exists");
        for slug in ["admin", "Ops", "a b", ""] {
            let role = json!({ "slug": slug, "name": "x" });
            invalid(&api.send(&format!("POST {path}"), role), "slug");
        }
        let roles = api.ask(&format!("GET {path}")).json()["data"]["roles"].take();
        let slugs: Vec<_> =
            roles.as_array().unwrap().iter().map(|role| text(&role["slug"])).collect();
        assert_eq!(slugs, ["admin", "member", "no-access", "ops"]);
        let id = api.create("x", "ops");
        let shown = api.ask(&format!("GET /identities/{id}")).json()["identity"].take();
        assert_eq!(shown["role"], "custom");
        assert_eq!(shown["customRole"]["slug"], "ops");
    });
}

fn identities_are_members_of_projects(protocol: Protocol) {
    with_server(protocol, "", |api| {
        Api::root(api.server).add_environment(ENVIRONMENT);
        let project = crate::users::TEST_PROJECT;
        let id = api.create("x", "member");
        let path = format!("/api/v2/workspace/{project}/identity-memberships/{id}");
        let roles = json!({ "roles": [{ "role": "viewer" }] });
        let added = api.send(&format!("POST {path}"), roles.clone());
        assert_eq!(added.status, 200, "{added:?}");
        let again = format!("Identity with ID {id} already exists in project with ID {project}");
        refused(&api.send(&format!("POST {path}"), roles), 400, &again);
        let unknown = api.send(&format!("PATCH {path}"), json!({ "role": "ops" }));
        refused(&unknown, 404, "Role with slug ops not found");
        let role = json!({ "slug": "ops", "name": "Operators" });
        assert_eq!(api.send(&format!("POST /projects/{project}/roles"), role).status, 200);
        assert_eq!(api.send(&format!("PATCH {path}"), json!({ "role": "ops" })).status, 200);
        let shown = api.ask(&format!("GET {path}")).json()["identityMembership"].take();
        assert_eq!(shown["roles"][0]["customRoleSlug"], "ops");
        let list = api.ask(&format!("GET /identities/{id}/identity-memberships")).json();
        assert_eq!(list["identityMemberships"][0]["project"]["id"], project);
        assert_eq!(api.ask(&format!("DELETE {path}")).status, 200);
        assert_eq!(api.ask(&format!("GET {path}")).status, 404);
        let temporary = json!({ "roles": [{ "role": "admin", "isTemporary": true }] });
        invalid(&api.send(&format!("POST {path}"), temporary), "roles");
    });
}

fn calls_have_the_envelope_of_infisical(protocol: Protocol) {
    with_server(protocol, "", |api| {
        refused(&api.ask("GET /auth/nothing"), 404, "This route does not exist");
        let message = "This route does not have this method";
        let other = api.ask("PUT /identities/x");
        refused(&other, 405, message);
        assert_eq!(other.header("allow"), Some("GET, PATCH, DELETE"));
        let body = api.call(&api.token, "POST /identities", "", "{");
        refused(&body, 400, "Body is not valid JSON");
        let other = api.call(&api.token, "GET /identities/x", "X-Infisical-Org: sub\r\n", "");
        refused(&other, 404, "Sub organization with slug sub not found");
        let forged = token(&claims(json!({}))).replace(".ey", ".eX");
        let response = api.call(&forged, "GET /identities/x", "", "");
        assert_eq!((response.status, &response.json()["error"]), (403, &json!("TokenError")));
    });
}

fn routes_exist_only_if_enabled(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[server]\nauth=true\n"));
    let api = Api::bearing(&server, &session_of("root", true));
    for call in ["GET /api/v1/identities", "POST /api/v1/auth/token/renew"] {
        let response = api.send(call, json!({}));
        assert_eq!(response.status, 404, "{response:?}");
        assert!(response.json().get("reqId").is_none(), "{response:?}");
    }
}

fn changes_are_in_the_audit_log(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("member", json!({}));
    let token = api.access_token(&machine);
    refused(&api.call(&token, "DELETE /identities/x", "", ""), 403, NOT_ALLOWED);
    assert_eq!(api.revoke(&token).status, 200);
    assert_eq!(api.ask(&format!("DELETE /identities/{}", machine.id)).status, 200);
    let events = audit(&sandbox, &[]);
    let operations: Vec<_> = events
        .iter()
        .map(|event| format!("{} {}", text(&event["operation"]), text(&event["outcome"])))
        .collect();
    for expected in [
        "identity.add done",
        "identity.method.add done",
        "identity.secret.add done",
        "identity.login done",
        "identity.revoke done",
        "identity.delete done",
    ] {
        assert!(operations.iter().any(|one| one == expected), "{expected}: {operations:?}");
    }
    let all = events.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains(&machine.secret) && !all.contains(&token), "{all}");
    assert!(!server.log().contains(&machine.secret));
}

fn refusals_have_their_target_and_reason(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("member", json!({}));
    let token = api.access_token(&machine);
    let secrets = format!("POST /auth/universal-auth/identities/{}/client-secrets", machine.id);
    let with_secret = |limit: Value| MachineCredentials {
        id: machine.id.clone(),
        client_id: machine.client_id.clone(),
        secret: text(&api.send(&secrets, limit).json()["clientSecret"]),
    };
    let (short, limited) =
        (with_secret(json!({ "ttl": 1 })), with_secret(json!({ "numUsesLimit": 1 })));
    let created = now();
    assert_eq!(api.log_in(&limited).status, 200);
    assert_eq!(api.log_in(&limited).status, 401);
    let memberships = "/api/v2/workspace/p/identity-memberships/i";
    for call in ["DELETE /identities/x", &format!("DELETE {memberships}"), "POST /identities"] {
        refused(&api.call(&token, call, "", ""), 403, NOT_ALLOWED);
    }
    assert_eq!(api.revoke(&token).status, 200);
    assert_eq!(api.renew(&token).status, 401);
    eventually(|| now() >= created + 2);
    assert_eq!(api.log_in(&short).status, 401);
    assert!(server.stop("TERM").0.success());

    let of_machine = json!({ "identity": machine.id });
    let of_token = json!({ "identity": machine.id, "token": super::claims(&token)["jti"] });
    for (operation, reason, target) in [
        ("identity.login", "secret_exhausted", &of_machine),
        ("identity.login", "secret_expired", &of_machine),
        ("identity.delete", "not_authorized", &json!({ "identity": "x" })),
        ("role.unassign", "not_authorized", &json!({ "identity": "i", "project": "p" })),
        ("identity.add", "not_authorized", &json!({})),
        ("identity.renew", "revoked", &of_token),
    ] {
        let events = audit(&sandbox, &["--operation", operation, "--outcome", "refused"]);
        let event = events.iter().find(|event| event["reason"] == reason);
        assert_eq!(event.map(|event| &event["target"]), Some(target), "{operation}: {events:?}");
    }
}

fn hostile_bodies_are_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for depth in [100, 1200, 30_000] {
            for (open, close) in [("[", "]"), ("{\"\":", "}")] {
                let value = format!("{}0{}", open.repeat(depth), close.repeat(depth));
                for call in
                    ["tls-cert-auth/login", "universal-auth/login", "token/renew", "token/revoke"]
                {
                    let body = format!("{{\"x\":{value}}}");
                    let refusal = api.call("", &format!("POST /auth/{call}"), "", &body);
                    assert!(matches!(refusal.status, 400 | 413 | 422), "{depth}: {refusal:?}");
                }
            }
        }
        let long = json!({ "clientId": "x".repeat(70_000), "clientSecret": "x" });
        let long = api.open("POST /auth/universal-auth/login", long);
        refused(&long, 413, "a body may have 65536 bytes");
        assert_eq!(long.json()["error"], "PayloadTooLarge", "{long:?}");
        let body = json!({ "clientId": "a\0", "clientSecret": "x" });
        invalid(&api.open("POST /auth/universal-auth/login", body), "clientId");
        let number = api.call("", "POST /auth/token/revoke", "", "{\"accessToken\":1e999}");
        assert_eq!(number.status, 400);
    });
}

fn repeated_members_are_refused_at_any_depth(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let machine = api.machine("member", json!({}));
        let token = api.token.clone();
        let method = format!("PATCH /auth/universal-auth/identities/{}", machine.id);
        let organization = &api.organization;
        let new = |rest: &str| format!("{{\"organizationId\":\"{organization}\",{rest}}}");
        for (call, body) in [
            ("POST /identities", new("\"name\":\"a\",\"name\":\"b\"")),
            (
                "POST /identities",
                new("\"name\":\"a\",\"metadata\":[{\"key\":\"k\",\"key\":\"l\",\"value\":\"v\"}]"),
            ),
            ("POST /identities/search", "{\"search\":{\"name\":\"a\",\"name\":\"b\"}}".into()),
            (
                "POST /identities/search",
                "{\"search\":{\"name\":{\"$contains\":\"a\",\"$\\u0063ontains\":\"b\"}}}".into(),
            ),
            (
                &method,
                "{\"accessTokenTrustedIps\":[{\"ipAddress\":\"10.0.0.1\",\"ipAddress\":\"::/0\"}]}"
                    .into(),
            ),
        ] {
            let refusal = api.call(&token, call, "", &body);
            refused(&refusal, 400, "Body has a member twice");
        }
        let all = api.ask(&format!("GET /identities?orgId={organization}")).json();
        assert_eq!(all["totalCount"], 1, "nothing was added: {all}");
    });
}

fn constraint_is_answered_as_the_check_before_it(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&in_file(&sandbox)));
    let (api, file) = (IdentityApi::new(&server), sandbox.path().join("users.db"));
    let machine = api.machine("member", json!({}));
    let project = "00000000-0000-0000-0000-000000000009";
    let new = json!({ "name": "other", "project_id": project });
    assert_eq!(Api::root(&server).send("PUT /project", new).status, 200);
    // What another change has deleted exists again, because the trigger is undone.
    let secret = format!("POST /auth/universal-auth/identities/{}/client-secrets", machine.id);
    let insert = "BEFORE INSERT ON countersign_client_secret";
    change_meanwhile(&file, insert, "DELETE FROM countersign_identity_method");
    refused(&api.send(&secret, json!({})), 400, "The identity does not have universal auth");
    let member = format!("POST /api/v2/workspace/{project}/identity-memberships/{}", machine.id);
    let insert = "BEFORE INSERT ON countersign_identity_project";
    let delete = format!("DELETE FROM countersign_project WHERE id = '{project}'");
    change_meanwhile(&file, insert, &delete);
    let missing = format!("Project with ID {project} not found");
    refused(&api.send(&member, json!({ "role": "viewer" })), 404, &missing);
}

fn logins_are_recorded_by_identity_and_without_secrets(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("member", json!({}));
    let body = json!({ "clientId": machine.secret, "clientSecret": machine.client_id });
    assert_eq!(api.open("POST /auth/universal-auth/login", body).status, 401);
    assert_eq!(api.log_in(&machine).status, 200);
    let refused = audit_with(&sandbox, "identity.login", 1);
    let target = text(&refused[0]["target"]["identity"]);
    assert!(target.starts_with("unknown:"), "{target}");
    let of_identity = audit(&sandbox, &["--user", &machine.id]);
    let operations: Vec<_> = of_identity.iter().map(|event| text(&event["operation"])).collect();
    for operation in ["identity.add", "identity.login"] {
        assert!(operations.iter().any(|one| one == operation), "{operation}: {operations:?}");
    }
}
