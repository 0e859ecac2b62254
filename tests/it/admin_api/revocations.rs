use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{AdminApi, assert_problem};
use crate::{
    fixture::{ISSUER, claims, now, token},
    users::configuration,
};

over_every_protocol!(revocations_are_added_and_listed, implausible_revocations_are_refused);

fn revocations_are_added_and_listed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let victim = token(&claims(json!({ "sub": "victim", "iat": now() })));
    assert_eq!(server.auth(&victim).status, 200);
    let by_subject = json!({ "issuer": ISSUER, "subject": "victim" });
    let added = api.send("POST /revocations", by_subject);
    assert_eq!(added.status, 201, "{added:?}");
    let added = added.json();
    assert_eq!(
        (&added["kind"], &added["record"]["subject"]),
        (&json!("subject"), &json!("victim"))
    );
    assert_eq!(added["record"]["issued_before"], added["tokens_valid_from"]);
    assert_eq!(server.auth(&victim).status, 401);

    let until = now() + 600;
    for number in 0..3 {
        let by_id = json!({ "issuer": ISSUER, "jti": format!("id-{number}"), "until": until });
        assert_eq!(api.send("POST /revocations", by_id).status, 201);
    }
    let (listed, pages) = api.pages("/revocations?limit=3");
    assert_eq!((listed.len(), pages), (4, 2));
    assert_eq!(listed[0]["record"], added["record"]);
    assert_eq!(listed[3]["record"], json!({ "issuer": ISSUER, "jti": "id-2", "until": until }));
    assert!(listed.is_sorted_by_key(|one| one["number"].as_u64().unwrap()));
}

fn implausible_revocations_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let digest = "ab".repeat(32);
    for (record, pointer) in [
        (json!({}), ""),
        (json!({ "issuer": ISSUER }), ""),
        (json!({ "issuer": "https://other/", "jti": "x" }), "/issuer"),
        (json!({ "kid": "x" }), "/issuer"),
        (json!({ "issuer": ISSUER, "signing_input_sha256": digest }), "/issuer"),
        (json!({ "issuer": ISSUER, "kid": "x" }), "/kid"),
        (json!({ "issuer": ISSUER, "jti": "" }), "/jti"),
        (json!({ "issuer": ISSUER, "jti": "x", "subject": "y" }), "/subject"),
        (json!({ "issuer": ISSUER, "jti": "x", "issued_before": 1 }), "/issued_before"),
        (json!({ "issued_before": 99_999_999_999_u64 }), "/issued_before"),
        (json!({ "issuer": ISSUER, "jti": "x", "until": 1 }), "/until"),
        (json!({ "signing_input_sha256": "zz" }), "/signing_input_sha256"),
        (json!({ "issuer": ISSUER, "environment": "prod" }), "/environment"),
        (json!({ "issuer": ISSUER, "jit": "x" }), "/jit"),
        (json!({ "issuer": ISSUER, "jti": null }), "/jti"),
    ] {
        let refused = api.send("POST /revocations", record);
        let problem = assert_problem(&refused, 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    assert_eq!(api.get("/revocations")["items"], json!([]));
    assert_problem(&api.ask("DELETE /revocations"), 405, "method_not_allowed");
}
