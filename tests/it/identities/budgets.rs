use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::{Value, json};

use super::{IdentityApi, claims, configuration, text};
use crate::audit::audit;

over_every_protocol!(renewals_beyond_a_budget_are_counted, second_revocation_is_not_recorded,);

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
    assert_eq!(counted[0]["target"], json!({ "user": machine.id }));
    assert!((61..RENEWALS).contains(&single.len()), "{}", single.len());
    let target = json!({ "user": other.id, "token": claims(&other_token)["jti"] });
    assert!(single.iter().any(|event| event["target"] == target), "{target}");
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
    let target = json!({ "user": machine.id, "token": text(&claims(&token)["jti"]) });
    assert_eq!((&events[0]["target"], &events[0]["outcome"]), (&target, &json!("done")));
}
