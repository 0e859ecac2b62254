use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::{Value, json};

use super::{IdentityApi, MachineCredentials, configuration, text};
use crate::{
    fixture,
    users::{Api, ENVIRONMENT, TEST_PROJECT},
};

over_every_protocol!(
    roles_of_an_identity_reach_routes,
    roles_of_an_identity_reach_the_policy,
    role_that_was_taken_away_ends_tokens,
    deleted_project_ends_tokens_with_roles_in_it,
    concurrent_changes_leave_no_role_in_tokens,
);

/// Runs a test with a server whose listener asks these rules, and with a project.
fn with_rules(sandbox: &Sandbox, provider: &str, rules: &str, test: impl FnOnce(&IdentityApi<'_>)) {
    let described = format!("[listen]\nauthorization={provider}\ndialect=x-forwarded\n");
    let server = sandbox.serve(&configuration(rules).replace("[listen]\n", &described));
    Api::root(&server).add_environment(ENVIRONMENT);
    test(&IdentityApi::new(&server));
}

fn with_routes(protocol: Protocol, test: impl FnOnce(&IdentityApi<'_>)) {
    let rules = format!(
        "[routes]\nroles_claim=orgRole\n[route_open]\nmatch=GET /open\n[route_admin]\n\
         match=GET /admin\nroles=admin\n[route_project]\nmatch=GET /project\n\
         claims=projectRoles.{TEST_PROJECT} has viewer\n"
    );
    with_rules(&Sandbox::over(protocol), "routes", &rules, test);
}

impl IdentityApi<'_> {
    /// Returns the statuses of `/open`, `/admin` and `/project`.
    fn routes(&self, token: &str) -> [u16; 3] {
        ["/open", "/admin", "/project"].map(|path| self.check(token, path))
    }

    /// Returns the status of a check of `GET path`.
    fn check(&self, token: &str, path: &str) -> u16 {
        let head = format!(
            "GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX-Forwarded-Method: GET\r\n\
             X-Forwarded-Uri: {path}\r\n"
        );
        self.server.request(&head).status
    }

    #[track_caller]
    fn set_role(&self, machine: &MachineCredentials, role: &str) {
        let changed =
            self.send(&format!("PATCH /identities/{}", machine.id), json!({ "role": role }));
        assert_eq!(changed.status, 200, "{changed:?}");
    }

    #[track_caller]
    fn member(&self, method: &str, machine: &MachineCredentials, body: Value) {
        let id = &machine.id;
        let call = format!("{method} /api/v2/workspace/{TEST_PROJECT}/identity-memberships/{id}");
        let changed = self.send(&call, body);
        assert_eq!(changed.status, 200, "{changed:?}");
    }
}

fn roles_of_an_identity_reach_routes(protocol: Protocol) {
    with_routes(protocol, |api| {
        let machine = api.machine("no-access", json!({}));
        let token = api.access_token(&machine);
        assert_eq!(api.routes(&token), [200, 403, 403]);
        api.set_role(&machine, "admin");
        api.member("POST", &machine, json!({ "role": "viewer" }));
        assert_eq!(api.routes(&token), [200, 403, 403], "until the token is renewed");
        let renewed = text(&api.renew(&token).json()["accessToken"]);
        assert_eq!(api.routes(&renewed), [200, 200, 200]);
        assert_eq!(api.routes(&api.access_token(&machine)), [200, 200, 200]);
    });
}

fn roles_of_an_identity_reach_the_policy(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let policy = format!(
        "package policy\ndefault allow := false\nallow if {{ input.token.orgRole == \"admin\" }}\n\
         allow if {{ \"viewer\" in input.token.projectRoles[\"{TEST_PROJECT}\"] }}\n"
    );
    sandbox.replace("policy.rego", policy);
    let rules = fixture::policy_engine("policy.rego");
    with_rules(&sandbox, "policy-engine", &rules, |api| {
        let asked =
            |machine: &MachineCredentials| api.check(&api.access_token(machine), "/api/v2/project");
        let machine = api.machine("member", json!({}));
        assert_eq!(asked(&machine), 403);
        api.member("POST", &machine, json!({ "role": "viewer" }));
        assert_eq!(asked(&machine), 200);
        assert_eq!(asked(&api.machine("admin", json!({}))), 200);
    });
}

fn role_that_was_taken_away_ends_tokens(protocol: Protocol) {
    with_routes(protocol, |api| {
        let machine = api.machine("admin", json!({}));
        let given = json!([{ "role": "viewer" }, { "role": "member" }, { "role": "viewer" }]);
        api.member("POST", &machine, json!({ "roles": given }));
        let path = format!("/api/v2/workspace/{TEST_PROJECT}/identity-memberships/{}", machine.id);
        let stored = api.ask(&format!("GET {path}")).json()["identityMembership"]["roles"].take();
        let names = stored.as_array().unwrap().iter().map(|role| text(&role["role"]));
        assert_eq!(names.collect::<Vec<_>>(), ["viewer", "member"], "each role once");
        let changes: [&dyn Fn(); 3] = [
            &|| api.set_role(&machine, "member"),
            &|| api.member("PATCH", &machine, json!({ "roles": [{ "role": "member" }] })),
            &|| api.member("DELETE", &machine, json!({})),
        ];
        for (change, expected) in
            changes.into_iter().zip([[200, 403, 200], [200, 403, 403], [200, 403, 403]])
        {
            let before = api.access_token(&machine);
            assert_eq!(api.routes(&before)[0], 200);
            change();
            assert_eq!(api.routes(&before), [401; 3]);
            assert_eq!(api.renew(&before).status, 401);
            // A login after the change is not concerned.
            assert_eq!(api.routes(&api.access_token(&machine)), expected);
        }
        let token = api.access_token(&machine);
        api.set_role(&machine, "member");
        assert_eq!(api.routes(&token)[0], 200, "the same role again");
    });
}

fn deleted_project_ends_tokens_with_roles_in_it(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    with_rules(&sandbox, "routes", "[route_open]\nmatch=GET /open\n", |api| {
        let root = Api::root(api.server);
        let project = "00000000-0000-0000-0000-000000000009";
        root.send("PUT /project", json!({ "name": "other", "project_id": project }));
        let machine = api.machine("no-access", json!({}));
        let call = format!("POST /api/v2/workspace/{project}/identity-memberships/{}", machine.id);
        assert_eq!(api.send(&call, json!({ "role": "viewer" })).status, 200);
        let token = api.access_token(&machine);
        assert_eq!(api.check(&token, "/open"), 200);
        assert_eq!(root.ask(&format!("DELETE /project/{project}")).status, 200);
        assert_eq!(api.check(&token, "/open"), 401);
    });
}

fn concurrent_changes_leave_no_role_in_tokens(protocol: Protocol) {
    with_routes(protocol, |api| {
        let machine = api.machine("no-access", json!({}));
        let path = format!("PATCH /api/v1/identities/{} HTTP/1.1\r\n", machine.id);
        let head = format!("{path}Authorization: Bearer {}\r\n", api.token);
        for _ in 0..4 {
            let during = std::thread::scope(|scope| {
                for role in ["admin", "member"] {
                    let (mut client, head) = (api.server.client(), &head);
                    let body = json!({ "role": role }).to_string();
                    scope.spawn(move || {
                        assert_eq!(client.request(head, body.as_bytes()).status, 200);
                    });
                }
                (0..20).map(|_| api.access_token(&machine)).collect::<Vec<_>>()
            });
            let role = api.ask(&format!("GET /identities/{}", machine.id)).json();
            let is_admin = role["identity"]["role"] == "admin";
            assert_eq!(api.check(&api.access_token(&machine), "/admin") == 200, is_admin, "{role}");
            let are_admins = during.iter().any(|token| api.check(token, "/admin") == 200);
            assert!(is_admin || !are_admins, "a role that was taken away is in a token");
        }
    });
}
