use std::os::unix::net::UnixStream;

use countersign_tests::{
    binary::Sandbox, client::Protocol, eventually, http::Connection, over_every_protocol,
};
use serde_json::{Value, json};

use super::{AdminApi, assert_problem};
use crate::{
    fixture::{KEY, claims, token},
    users::{Api, PASSWORD, configuration},
};

over_every_protocol!(
    audit_events_are_filtered_and_paged,
    identities_are_shown_with_their_methods,
    api_keys_are_shown_by_name,
    tenants_are_shown_with_their_requests,
    configuration_is_shown_without_secrets,
    servers_show_themselves,
);

fn audit_events_are_filtered_and_paged(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(api.send("POST /roles", json!({ "name": name })).status, 201);
    }
    api.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    let roles = |events: &[Value]| {
        let roles = events.iter().map(|event| event["target"]["role"].as_str().unwrap_or("-"));
        roles.collect::<Vec<_>>().join(" ")
    };
    let (events, pages) = api.pages("/audit-events?limit=4");
    assert_eq!((roles(&events), pages), ("- e d c b a".into(), 2), "the newest first");
    let (events, pages) = api.pages("/audit-events?operation=role.add&limit=2");
    assert_eq!((roles(&events), pages), ("e d c b a".into(), 3), "pages have the filter");
    assert_eq!(events[0]["by"]["user"], "root");
    assert_eq!(api.get("/audit-events?user=bob")["items"][0]["operation"], "user.add");
    assert_eq!(api.get("/audit-events?outcome=failed")["items"], json!([]));
    assert_eq!(api.get("/audit-events?since=4000000000")["items"], json!([]));
    for query in ["outcome=x", "operation=x", "since=x", "since=-1", "after=eA"] {
        let refused = api.ask(&format!("GET /audit-events?{query}"));
        assert_problem(&refused, 400, "invalid_request");
    }
}

fn identities_are_shown_with_their_methods(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("[identities]\nenabled=true\n"));
    let (api, infisical) = (AdminApi::root(&server), Api::root(&server));
    let organizations = infisical.ask("GET /api/v1/organization").json();
    let new = json!({
        "name": "build", "organizationId": organizations["organizations"][0]["id"],
        "metadata": [{ "key": "team", "value": "red" }],
    });
    let created = infisical.send("POST /api/v1/identities", new).json();
    let id = created["identity"]["id"].as_str().unwrap();
    let method = format!("POST /api/v1/auth/universal-auth/identities/{id}");
    let attached = infisical.send(&method, json!({ "accessTokenTTL": 60 })).json();
    let identity = api.get(&format!("/identities/{id}"));
    assert_eq!(
        (&identity["name"], &identity["metadata"]),
        (&json!("build"), &json!({ "team": "red" }))
    );
    assert_eq!(identity["methods"], json!(["universal-auth"]));
    assert_eq!(api.get("/identities")["items"], json!([identity]));
    let methods = api.get(&format!("/identities/{id}/methods"));
    let shown = &methods["items"][0];
    assert_eq!((&shown["kind"], &shown["token_ttl"]), (&json!("universal-auth"), &json!(60)));
    assert_eq!(shown["client_id"], attached["identityUniversalAuth"]["clientId"]);
    let other = "GET /identities/22222222-2222-2222-2222-222222222222";
    assert_problem(&api.ask(other), 404, "not_found");
}

fn api_keys_are_shown_by_name(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let secret = "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ";
    sandbox.file("keys", format!("other = far-key\nci = {secret} from 10.0.0.0/8\n"));
    let options = "[listener_orchestrate]\nbind=127.0.0.1:0\nsurface=orchestrate\n\
                   [multi_tenancy]\napi_key_file=keys\n";
    let server = sandbox.serve(&configuration(options));
    let api = AdminApi::root(&server);
    let (keys, pages) = api.pages("/api-keys?limit=1");
    let names = keys.iter().map(|key| json!([key["name"], key["sources"]])).collect::<Value>();
    assert_eq!((names, pages), (json!([["ci", ["10.0.0.0/8"]], ["other", []]]), 2));
    let shown = api.ask("GET /api-keys").body;
    assert!(!shown.contains(secret) && !shown.contains("far-key"), "{shown}");
    assert_eq!(api.get("/tenants")["items"], json!([]), "metrics do not count them");
}

fn tenants_are_shown_with_their_requests(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let socket = sandbox.path().join("tier.sock");
    let options = format!(
        "[metrics]\norchestrate_names=true\norchestrate_tenants=100\n\
         [listener_tier]\nbind=unix:{}\nsurface=orchestrate\n\
         [multi_tenancy]\nclaims_namespace=http://tenant.info/\n",
        socket.display()
    );
    let server = sandbox.serve(&configuration(&options));
    let mut connection = Connection::over(UnixStream::connect(&socket).unwrap());
    for (tenant, lines, status) in [
        ("acme", "", 200),
        ("acme", "X-Tenant-ID: other\r\n", 401),
        ("bolt", "", 200),
        ("Zürich", "", 200),
    ] {
        let token = token(&claims(json!({ "http://tenant.info/": { "tenant_id": tenant } })));
        let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{lines}");
        connection.send(&head, b"");
        assert_eq!(connection.receive(false).status, status, "{tenant} {lines}");
    }
    let api = AdminApi::root(&server);
    let (tenants, _) = api.pages("/tenants?limit=1");
    let of = |name: &str| {
        let found = tenants.iter().find(|one| one["name"] == name);
        found.map(|one| json!([one["requests"], one["refused"]]))
    };
    for name in ["acme", "bolt", "Zürich"] {
        assert_eq!(of(name), Some(json!([1, 0])), "{name} in {tenants:?}");
    }
    // The refused check. Calls of this API are not checks.
    assert_eq!(of("_"), Some(json!([1, 1])), "{tenants:?}");
}

fn servers_show_themselves(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let servers = || api.get("/servers")["items"].take();
    eventually(|| servers() != json!([]));
    let servers = servers();
    assert_eq!(servers.as_array().unwrap().len(), 1, "{servers}");
    assert_eq!(servers[0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(servers[0]["sections"]["auth_jwt_default"].is_string(), "{servers}");
}

fn configuration_is_shown_without_secrets(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let clients = format!("[api_clients]\ndeployer=sha256:{}\n", "0".repeat(64));
    let server = sandbox.serve(&configuration(&clients));
    let api = AdminApi::root(&server);
    let (options, _) = api.pages("/configuration?limit=3");
    let option = |section: &str, name: &str| {
        let is_it = |one: &&Value| one["section"] == section && one["option"] == name;
        options.iter().find(is_it).unwrap_or_else(|| panic!("{options:?}"))
    };
    let algorithm = option("auth_jwt_default", "algorithm");
    assert_eq!((&algorithm["value"], &algorithm["is_hidden"]), (&json!("HS256"), &json!(false)));
    assert!(algorithm["place"].as_str().unwrap().contains("server.cfg:2"), "{algorithm}");
    for (section, name) in [("auth_jwt_default", "key"), ("api_clients", "deployer")] {
        let hidden = option(section, name);
        assert_eq!((&hidden["value"], &hidden["is_hidden"]), (&json!(null), &json!(true)));
    }
    assert!(!json!(options).to_string().contains(KEY), "{options:?}");
}
