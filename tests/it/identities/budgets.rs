use countersign_tests::{binary::Sandbox, client::Protocol, http::Response, over_every_protocol};
use serde_json::{Value, json};

use super::{IdentityApi, claims, configuration, refused, session_of, text, with_server};
use crate::{
    audit::audit,
    users::{Api, assert_done},
};

over_every_protocol!(
    renewals_beyond_a_budget_are_counted,
    second_revocation_is_not_recorded,
    revocations_beyond_a_budget_are_refused,
    identity_leaves_room_to_revoke_it,
);

fn renewals_beyond_a_budget_are_counted(protocol: Protocol) {
    const RENEWALS: usize = 200;
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("no-access", json!({}));
    let token = api.access_token(&machine);
    for _ in 0..RENEWALS {
        assert_eq!(api.renew(&token).status, 200);
    }
    let other = api.machine("no-access", json!({}));
    let other_token = api.access_token(&other);
    assert_eq!(api.renew(&other_token).status, 200);
    assert!(server.stop("TERM").0.success());

    let events = audit(&sandbox, &["--operation", "identity.renew", "--outcome", "done"]);
    let count = |event: &Value| event["count"].as_u64().unwrap();
    let (counted, single): (Vec<_>, Vec<_>) = events.iter().partition(|event| count(event) > 1);
    let total: u64 = events.iter().map(count).sum();
    assert_eq!((total, counted.len()), (201, 1), "{events:?}");
    assert_eq!(counted[0]["target"], json!({ "identity": machine.id }));
    assert!((61..RENEWALS).contains(&single.len()), "{}", single.len());
    let target = json!({ "identity": other.id, "token": claims(&other_token)["jti"] });
    assert!(single.iter().any(|event| event["target"] == target), "{target}");
}

fn revocations_beyond_a_budget_are_refused(protocol: Protocol) {
    with_server(protocol, "", |api| {
        let [machine, other] = [(); 2].map(|()| api.machine("no-access", json!({})));
        let revoke_new = || {
            let token = api.access_token(&machine);
            (api.revoke(&token), token)
        };
        let is_refused = |(response, _): &(Response, _)| response.status != 200;
        let (refused, token) = (0..200).map(|_| revoke_new()).find(is_refused).unwrap();
        let seconds = refused.header("retry-after").unwrap();
        let message = format!("Rate limit exceeded. Please try again in {seconds} seconds");
        super::refused(&refused, 429, &message);
        assert_eq!(refused.json()["error"], "RateLimitExceeded");
        assert!((1..=5).contains(&seconds.parse::<u64>().unwrap()), "{seconds}");
        assert_eq!(api.auth(&token), 200, "it was not revoked");
        assert_eq!(api.revoke(&api.access_token(&other)).status, 200, "another identity");
        assert_eq!(api.ask(&format!("DELETE /identities/{}", machine.id)).status, 200);
        assert_eq!(api.auth(&token), 401);
    });
}

/// The capacity is lowered, because identities have a budget.
fn identity_leaves_room_to_revoke_it(protocol: Protocol) {
    with_server(protocol, "[revocation]\ncapacity=40\n", |api| {
        let machine = api.machine("no-access", json!({}));
        let kept = api.access_token(&machine);
        let revoked = (0..50).filter(|_| api.revoke(&api.access_token(&machine)).status == 200);
        assert_eq!(revoked.count(), 36, "a tenth is reserved");
        refused(&api.revoke(&kept), 503, "Nothing can be revoked now");

        let user = Api::bearing(api.server, &session_of("root", true));
        user.add_user("bob");
        assert_done(&Api::bearing(api.server, &user.session("bob")).ask("POST /logout"));
        assert_eq!(api.ask(&format!("DELETE /identities/{}", machine.id)).status, 200);
        assert_eq!(api.auth(&kept), 401);
    });
}

fn second_revocation_is_not_recorded(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = IdentityApi::new(&server);
    let machine = api.machine("no-access", json!({}));
    let token = api.access_token(&machine);
    for _ in 0..3 {
        assert_eq!(api.revoke(&token).status, 200);
    }
    let events = audit(&sandbox, &["--operation", "identity.revoke"]);
    assert_eq!(events.len(), 1, "{events:?}");
    let target = json!({ "identity": machine.id, "token": text(&claims(&token)["jti"]) });
    assert_eq!((&events[0]["target"], &events[0]["outcome"]), (&target, &json!("done")));
}
