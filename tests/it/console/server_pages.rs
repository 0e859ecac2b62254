use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::{Value, json};

use super::{query, serve, signed_in};
use crate::{
    fixture::{KEY, issuer_section, key_set},
    users::{Api, ENVIRONMENT, TEST_PROJECT},
};

over_every_protocol!(
    configuration_has_places_and_defaults_not_secrets,
    cluster_lists_servers_and_differences,
    identities_are_listed_with_their_methods,
    api_keys_are_listed_by_name,
    next_fetch_of_keys_is_shown,
);

fn next_fetch_of_keys_is_shown(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let keys = JwksServer::start(&key_set(&[&SigningKey::generate("ES256", "k")]));
    let jwks_uri = format!("jwks_uri={}", keys.uri());
    let section = issuer_section("external", "ES256", "https://idp/", &jwks_uri);
    let server = serve(&sandbox, &section);
    server.wait_until_ready();
    let mut browser = signed_in(&server);
    let overview = browser.page("/console");
    contains(&overview, &["data-label=\"Next fetch\">–</td>", "data-label=\"Next fetch\">in "]);
    contains(&browser.page("/console/issuers"), &["<dt>Next fetch</dt><dd>in "]);
}

#[track_caller]
fn contains(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part} in {page}");
    }
}

fn configuration_has_places_and_defaults_not_secrets(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol).variable("INMANTA_LOGIN_LOCKOUT", "77");
    let secret = "sha256:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let options = format!(
        "realm=<b>orders</b>\n[api_clients]\ndeployer={secret}\n[auth_jwt_idp]\nalgorithms=ES256\n\
         client_types=api\nissuer=https://idp.example/\naudience=a\n\
         jwks_uri=https://idp.invalid/keys?api_key=s3cret\n"
    );
    let server = serve(&sandbox, &options);
    let mut browser = signed_in(&server);
    let page = browser.page("/console/configuration");
    contains(
        &page,
        &[
            "[auth_jwt_default]",
            "server.cfg:",
            "&lt;b&gt;orders&lt;/b&gt;",
            "deployer",
            "INMANTA_LOGIN_LOCKOUT",
            "https://idp.invalid/keys?…",
            "(not shown)",
        ],
    );
    for hidden in [KEY, secret, "s3cret", "<b>"] {
        assert!(!page.contains(hidden), "{hidden} in {page}");
    }
    assert!(!page.contains(">default<"), "{page}");
    let page = browser.page("/console/configuration?defaults=1");
    contains(&page, &[">default<", "session_idle", "1800", "[cache]"]);
    assert!(!page.contains(KEY) && !page.contains("s3cret"), "{page}");
}

fn cluster_lists_servers_and_differences(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    let version = env!("CARGO_PKG_VERSION");
    let address = format!("({})", server.address);
    eventually(|| browser.page("/console/cluster").contains(&address));
    let page = browser.page("/console/cluster");
    contains(&page, &["1 server runs on this database.", "✓ runs", version, "✓ No difference"]);
    // Another run, as a server with another key records it.
    query(
        &sandbox,
        "INSERT INTO countersign_server (id, name, version, started_at, seen_at, sections, signing_key)
         SELECT 'x', '<b>other</b>', version, started_at, seen_at, '{\"auth_jwt_default\":\"1\"}', 'y'
         FROM countersign_server;
         INSERT INTO countersign_server (id, name, version, started_at, seen_at, sections, signing_key)
         SELECT 'z', 'old', '0.0.1', started_at, seen_at - 600, sections, signing_key
         FROM countersign_server WHERE id <> 'x'",
    );
    let page = browser.page("/console/cluster");
    contains(
        &page,
        &[
            "2 servers run on this database.",
            "2 differences</a>.",
            "the signing key differs between servers",
            "[auth_jwt_default] differs between servers",
            "&lt;b&gt;other&lt;/b&gt;",
            "! no heartbeat",
            "0.0.1",
        ],
    );
    assert!(!page.contains("<b>"), "{page}");
}

/// Creates an identity with universal auth and a client secret. Returns its id, and the secret.
pub(super) fn machine(server: &Server<'_>, name: &str) -> (String, String) {
    let root = Api::root(server);
    let organization = root.ask("GET /api/v1/organization").json()["organizations"][0]["id"].take();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let new = json!({ "name": name, "organizationId": organization, "role": "member" });
    let id = text(&root.send("POST /api/v1/identities", new).json()["identity"]["id"]);
    let path = format!("/api/v1/auth/universal-auth/identities/{id}");
    let terms = json!({ "accessTokenTrustedIps": [{ "ipAddress": "10.0.0.0/8" }] });
    assert_eq!(root.send(&format!("POST {path}"), terms).status, 200);
    let described = json!({ "description": "<i>for tests</i>" });
    let created = root.send(&format!("POST {path}/client-secrets"), described).json();
    (id, text(&created["clientSecret"]))
}

fn identities_are_listed_with_their_methods(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[identities]\nenabled=true\n");
    let mut browser = signed_in(&server);
    contains(&browser.page("/console/identities"), &["No identity exists yet", "Its id"]);
    let (id, secret) = machine(&server, "<b>robot</b>");
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let membership = format!("/api/v2/workspace/{TEST_PROJECT}/identity-memberships/{id}");
    let added = root.send(&format!("POST {membership}"), json!({ "role": "viewer" }));
    assert_eq!(added.status, 200, "{added:?}");
    let list = browser.page("/console/identities?name=ROB");
    contains(&list, &["1 identity", "&lt;b&gt;robot&lt;/b&gt;", &id, "universal-auth", "member"]);
    contains(&browser.page("/console/identities?name=other"), &["No identity has this"]);
    let page = browser.page(&format!("/console/identities?id={}", id.replace('-', "%2D")));
    contains(
        &page,
        &[
            "Login method universal-auth",
            "10.0.0.0/8",
            "&lt;i&gt;for tests&lt;/i&gt;",
            "✓ not revoked",
            "tests",
            "viewer",
        ],
    );
    for hidden in [&*secret, "<b>", "<i>"] {
        assert!(!page.contains(hidden) && !list.contains(hidden), "{hidden} in {page}");
    }
    assert_eq!(browser.get("/console/identities?id=..%2F..%2Fuser").status, 404);
    let missing = "/console/identities?id=11111111-1111-1111-1111-111111111111";
    assert_eq!(browser.get(missing).status, 404);
}

fn api_keys_are_listed_by_name(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    sandbox.file("keys", format!("ci = {KEY} from 10.0.0.0/8\nother = far-key\n"));
    let options = "[listener_tenants]\nbind=127.0.0.1:0\nsurface=orchestrate\n\
                   [multi_tenancy]\napi_key_file=keys\n";
    let server = serve(&sandbox, options);
    let mut browser = signed_in(&server);
    let page = browser.page("/console/tenants");
    contains(
        &page,
        &["<strong>ci</strong>", "10.0.0.0/8", "any address", "No request was counted"],
    );
    assert!(!page.contains(KEY) && !page.contains("far-key"), "{page}");
    drop(server);
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let page = signed_in(&server).page("/console/tenants");
    contains(&page, &["This server knows no tenants."]);
}
