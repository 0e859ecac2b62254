use countersign_tests::{binary::Sandbox, eventually, postgres::Postgres};
use serde_json::json;

use super::{IdentityApi, MachineCredentials, leases::shared_configuration, text};
use crate::users::{Api, ENVIRONMENT, TEST_PROJECT};

/// Issues a token on a server, makes a change on another server with another issuer, and checks
/// that it ends the token.
fn ends_tokens_elsewhere(change: impl FnOnce(&Sandbox, &IdentityApi<'_>, &MachineCredentials)) {
    let postgres = Postgres::start();
    let issuer = "issuer=https://one.example/identities\n";
    let options = ["", issuer].map(|options| shared_configuration(&postgres, options));
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [first, second] = [0, 1].map(|number| sandboxes[number].serve(&options[number]));
    Api::root(&first).add_environment(ENVIRONMENT);
    let [first, second] = [&first, &second].map(IdentityApi::new);
    let machine = second.machine("admin", json!({}));
    let member = format!("/api/v2/workspace/{TEST_PROJECT}/identity-memberships/{}", machine.id);
    let added = second.send(&format!("POST {member}"), json!({ "role": "viewer" }));
    assert_eq!(added.status, 200, "{added:?}");
    let token = second.access_token(&machine);
    assert_eq!(second.auth(&token), 200);
    change(&sandboxes[0], &first, &machine);
    eventually(|| second.auth(&token) == 401);
    assert_eq!(second.renew(&token).status, 401);
}

#[test]
fn role_taken_away_ends_tokens_of_other_issuers() {
    ends_tokens_elsewhere(|_, api, machine| {
        let call = format!("PATCH /identities/{}", machine.id);
        assert_eq!(api.send(&call, json!({ "role": "no-access" })).status, 200);
    });
}

#[test]
fn lost_membership_ends_tokens_of_other_issuers() {
    ends_tokens_elsewhere(|_, api, machine| {
        let id = &machine.id;
        let path = format!("/api/v2/workspace/{TEST_PROJECT}/identity-memberships/{id}");
        assert_eq!(api.ask(&format!("DELETE {path}")).status, 200);
    });
}

#[test]
fn revoked_secret_ends_tokens_of_other_issuers() {
    ends_tokens_elsewhere(|_, api, machine| {
        let path = format!("/auth/universal-auth/identities/{}/client-secrets", machine.id);
        let secrets = api.ask(&format!("GET {path}")).json();
        let id = text(&secrets["clientSecretData"][0]["id"]);
        assert_eq!(api.send(&format!("POST {path}/{id}/revoke"), json!({})).status, 200);
    });
}

#[test]
fn revocation_by_command_ends_tokens_of_other_issuers() {
    ends_tokens_elsewhere(|sandbox, _, machine| {
        let config = sandbox.path().join("server.cfg");
        let revoke = ["token", "revoke", "-c", config.to_str().unwrap(), "--identity", &machine.id];
        let revoked = sandbox.run(revoke);
        assert_eq!(revoked.code(), 0, "{revoked:?}");
    });
}
