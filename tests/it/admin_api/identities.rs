use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, EXPIRED},
    client::Protocol,
    over_every_protocol,
};
use serde_json::{Value, json};

use super::{AdminApi, assert_problem, etag};
use crate::{
    audit::audit,
    fixture::{claims, token},
    users::{Api, configuration},
};

over_every_protocol!(
    identities_are_created_changed_and_deleted,
    certificate_method_is_attached_changed_and_detached,
    changes_of_identities_are_made_only_if_the_etag_matches,
    mistakes_about_identities_are_located,
    changes_of_identities_are_in_the_audit_log,
    changes_of_identities_need_an_administrator,
    switched_off_identities_are_not_changed,
);

const ENABLED: &str = "[identities]\nenabled=true\n";
const MISSING: &str = "/identities/22222222-2222-2222-2222-222222222222";

/// Creates an identity, and returns its path.
#[track_caller]
fn create(api: &AdminApi<'_>, body: Value) -> String {
    let created = api.send("POST /identities", body);
    assert_eq!(created.status, 201, "{created:?}");
    let location = created.header("location").unwrap();
    let path = location.strip_prefix("/v1/admin").unwrap().to_owned();
    let identity = created.json();
    assert_eq!(path, format!("/identities/{}", identity["id"].as_str().unwrap()));
    assert_eq!((&api.get(&path), etag(&created)), {
        (&identity, etag(&api.ask(&format!("GET {path}"))))
    });
    path
}

fn authority(name: &str) -> String {
    Authority::root(name).pem()
}

fn identities_are_created_changed_and_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ENABLED));
    let api = AdminApi::root(&server);
    let path = create(&api, json!({ "name": " build ", "metadata": { "team": "red" } }));
    let identity = api.get(&path);
    let shown = json!([identity["name"], identity["role"], identity["metadata"]]);
    assert_eq!(shown, json!(["build", "no-access", { "team": "red" }]));
    let by_infisical = Api::root(&server).ask(&format!("GET /api/v1{path}")).json();
    assert_eq!(by_infisical["identity"]["identity"]["name"], "build", "one store");

    let change = json!({ "role": "member", "has_delete_protection": true, "metadata": {} });
    let changed = api.send(&format!("PATCH {path}"), change);
    let identity = changed.json();
    let shown = json!([identity["name"], identity["role"], identity["metadata"]]);
    assert_eq!((changed.status, shown), (200, json!(["build", "member", {}])));
    let delete = format!("DELETE {path}");
    assert_problem(&api.ask(&delete), 409, "conflict");
    let unprotect = json!({ "has_delete_protection": false });
    assert_eq!(api.send(&format!("PATCH {path}"), unprotect).status, 200);
    assert_eq!(api.ask(&delete).status, 204);
    for call in [delete, format!("GET {path}"), format!("DELETE {MISSING}")] {
        assert_problem(&api.ask(&call), 404, "not_found");
    }
    let missing = api.send(&format!("PATCH {MISSING}"), json!({ "name": "x" }));
    assert_problem(&missing, 404, "not_found");
}

fn certificate_method_is_attached_changed_and_detached(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ENABLED));
    let api = AdminApi::root(&server);
    let identity = create(&api, json!({ "name": "build" }));
    let (methods, path) =
        (format!("{identity}/methods"), format!("{identity}/methods/tls-cert-auth"));
    assert_problem(&api.ask(&format!("GET {path}")), 404, "not_found");
    let ca = authority("ca");
    let new = json!({
        "kind": "tls-cert-auth", "ca_certificate": ca, "allowed_common_names": ["a", "b"],
        "token_ttl": 60, "token_max_ttl": 600, "token_trusted_ips": ["10.0.0.0/8"],
    });
    let attached = api.send(&format!("POST {methods}"), new.clone());
    assert_eq!(attached.status, 201, "{attached:?}");
    assert_eq!(attached.header("location"), Some(&*format!("/v1/admin{path}")));
    let method = attached.json();
    assert_eq!(api.get(&path), method);
    let shown = json!([
        method["kind"],
        method["ca_certificate"],
        method["allowed_common_names"],
        method["allowed_alt_names"],
        method["verifies_chain"],
        method["token_ttl"],
        method["token_trusted_ips"],
    ]);
    assert_eq!(shown, json!(["tls-cert-auth", ca, ["a", "b"], null, false, 60, ["10.0.0.0/8"]]));
    assert_eq!(api.get(&identity)["methods"], json!(["tls-cert-auth"]));
    let listed = &api.get(&methods)["items"][0];
    assert_eq!(json!([listed["id"], listed["ca_certificate"]]), json!([method["id"], null]));
    assert_problem(&api.send(&format!("POST {methods}"), new), 409, "conflict");

    let change = json!({ "allowed_common_names": null, "verifies_chain": true });
    let changed = api.send(&format!("PATCH {path}"), change).json();
    let shown = json!([
        changed["allowed_common_names"],
        changed["verifies_chain"],
        changed["token_max_ttl"],
    ]);
    assert_eq!(shown, json!([null, true, 600]));
    assert_eq!(api.ask(&format!("DELETE {path}")).status, 204);
    for call in [format!("DELETE {path}"), format!("GET {path}")] {
        assert_problem(&api.ask(&call), 404, "not_found");
    }
    assert_eq!(api.get(&methods)["items"], json!([]));
}

fn changes_of_identities_are_made_only_if_the_etag_matches(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ENABLED));
    let api = AdminApi::root(&server);
    let identity = create(&api, json!({ "name": "build" }));
    let new = json!({ "kind": "tls-cert-auth", "ca_certificate": authority("ca") });
    assert_eq!(api.send(&format!("POST {identity}/methods"), new).status, 201);
    for (path, change) in [
        (&format!("{identity}/methods/tls-cert-auth"), "{\"token_ttl\":60}"),
        (&identity, "{\"role\":\"member\"}"),
    ] {
        let old = etag(&api.ask(&format!("GET {path}")));
        let patch =
            |tag: &str| api.call(&format!("PATCH {path}"), &format!("If-Match: {tag}\r\n"), change);
        assert_problem(&patch("\"x\""), 412, "changed");
        let changed = patch(&old);
        assert_eq!(changed.status, 200, "{changed:?}");
        let tag = etag(&changed);
        assert_ne!(tag, old);
        let delete =
            |tag: &str| api.call(&format!("DELETE {path}"), &format!("If-Match: {tag}\r\n"), "");
        assert_problem(&delete(&old), 412, "changed");
        let known = api.call(&format!("GET {path}"), &format!("If-None-Match: {tag}\r\n"), "");
        assert_eq!(known.status, 304, "{known:?}");
        assert_eq!(delete(&tag).status, 204);
    }
}

fn mistakes_about_identities_are_located(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ENABLED));
    let api = AdminApi::root(&server);
    let identity = create(&api, json!({ "name": "build" }));
    for (body, pointer) in [
        (json!({}), "/name"),
        (json!({ "name": "" }), "/name"),
        (json!({ "name": "  " }), "/name"),
        (json!({ "name": "a", "organizationId": "x" }), "/organizationId"),
        (json!({ "name": "a", "metadata": { "k": 1 } }), "/metadata/k"),
        (json!({ "name": "a", "metadata": { "": "v" } }), "/metadata/"),
        (json!({ "name": "a", "metadata": { "k": "v", "a": " " } }), "/metadata/a"),
        (json!({ "name": "a", "metadata": [] }), "/metadata"),
        (json!({ "name": "a", "role": "ops" }), "/role"),
    ] {
        let problem = assert_problem(&api.send("POST /identities", body), 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    for (members, pointer) in [
        (json!({ "kind": "universal-auth" }), "/kind"),
        (json!({ "ca_certificate": "x" }), "/ca_certificate"),
        (json!({ "allowed_common_names": [1] }), "/allowed_common_names/0"),
        (json!({ "allowed_common_names": [] }), "/allowed_common_names"),
        (json!({ "allowed_common_names": [""] }), "/allowed_common_names/0"),
        (json!({ "allowed_common_names": ["a", " "] }), "/allowed_common_names/1"),
        (json!({ "allowed_alt_names": ["DNS:a", "IP:x"] }), "/allowed_alt_names/1"),
        (json!({ "token_ttl": 700, "token_max_ttl": 600 }), "/token_ttl"),
        (json!({ "token_max_ttl": 0 }), "/token_max_ttl"),
        (json!({ "token_max_ttl": 1 }), "/token_max_ttl"),
        (json!({ "token_trusted_ips": [] }), "/token_trusted_ips"),
        (json!({ "token_trusted_ips": ["10.0.0.1", "300.1.1.1"] }), "/token_trusted_ips/1"),
        (json!({ "accessTokenTTL": 60 }), "/accessTokenTTL"),
    ] {
        let mut body = json!({ "kind": "tls-cert-auth", "ca_certificate": authority("ca") });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let refused = api.send(&format!("POST {identity}/methods"), body);
        let problem = assert_problem(&refused, 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    assert_eq!(api.get("/identities")["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get(&identity)["methods"], json!([]));
    let new = json!({ "kind": "tls-cert-auth", "ca_certificate": authority("ca") });
    assert_eq!(api.send(&format!("POST {identity}/methods"), new).status, 201);
    let expired = Authority::root_in(EXPIRED, "ca").pem();
    for (change, pointer) in [
        (json!({ "token_max_ttl": 1 }), "/token_max_ttl"),
        (json!({ "token_ttl": 99_999_999 }), "/token_ttl"),
        (json!({ "token_trusted_ips": ["300.1.1.1"] }), "/token_trusted_ips/0"),
        (json!({ "ca_certificate": expired }), "/ca_certificate"),
    ] {
        let refused = api.send(&format!("PATCH {identity}/methods/tls-cert-auth"), change);
        let problem = assert_problem(&refused, 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
}

fn changes_of_identities_are_in_the_audit_log(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ENABLED));
    let api = AdminApi::root(&server);
    let identity = create(&api, json!({ "name": "build" }));
    let new = json!({ "kind": "tls-cert-auth", "ca_certificate": authority("ca") });
    assert_eq!(api.send(&format!("POST {identity}/methods"), new).status, 201);
    let method = format!("{identity}/methods/tls-cert-auth");
    assert_eq!(api.send(&format!("PATCH {method}"), json!({ "token_ttl": 60 })).status, 200);
    assert_eq!(api.ask(&format!("DELETE {method}")).status, 204);
    assert_eq!(api.send(&format!("PATCH {identity}"), json!({ "name": "b" })).status, 200);
    let stale = api.call(&format!("DELETE {identity}"), "If-Match: \"x\"\r\n", "");
    assert_problem(&stale, 412, "changed");
    assert_eq!(api.ask(&format!("DELETE {identity}")).status, 204);
    let id = identity.strip_prefix("/identities/").unwrap();
    let events = audit(&sandbox, &[]);
    let shown = events.iter().map(|event| {
        assert_eq!(json!([event["target"]["identity"], event["by"]["user"]]), json!([id, "root"]));
        assert_eq!(event["outcome"], "done", "{event}");
        event["operation"].as_str().unwrap()
    });
    let operations: Vec<_> = shown.collect();
    assert_eq!(
        operations,
        [
            "identity.add",
            "identity.method.add",
            "identity.method.modify",
            "identity.method.delete",
            "identity.modify",
            "identity.delete",
        ]
    );
}

fn changes_of_identities_need_an_administrator(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ENABLED));
    let root = AdminApi::root(&server);
    let identity = create(&root, json!({ "name": "build" }));
    let agent = token(&claims(json!({ "urn:inmanta:ct": "agent" })));
    let agent = AdminApi { server: &server, token: agent };
    for call in [
        "POST /identities".to_owned(),
        format!("PATCH {identity}"),
        format!("POST {identity}/methods"),
        format!("DELETE {identity}"),
        format!("DELETE {MISSING}"),
    ] {
        assert_problem(&agent.call(&call, "", "{"), 403, "not_authorized");
    }
    assert_eq!(root.get("/identities")["items"].as_array().unwrap().len(), 1);
}

fn switched_off_identities_are_not_changed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let refused = api.send("POST /identities", json!({ "name": "build" }));
    let problem = assert_problem(&refused, 409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("enabled = true"), "{problem}");
    assert_eq!(api.get("/identities")["items"], json!([]));
}
