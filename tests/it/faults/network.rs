use countersign_tests::{
    binary::{Sandbox, Server},
    eventually, interposer,
    network_link::NetworkLink,
    openmetrics,
    openssl::SigningKey,
    postgres::Postgres,
    providers::JwksServer,
};
use serde_json::json;

use crate::{
    fixture::{self, ISSUER, claims_of, key_set},
    revocation::{self, revoke, token},
    users::{Api, PASSWORD},
};

/// Resolves the name `idp.example` to this machine, unless the switch has the first letter of a
/// fault: `d` for a resolver that is down, `g` for a name that is gone, and `s` for a resolver
/// that does not answer.
const RESOLVER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fault(void) {
    FILE *file = fopen(SWITCH, "r");
    int letter = file == NULL ? EOF : fgetc(file);
    if (file != NULL) fclose(file);
    return letter;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (next == NULL) next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name == NULL || strcmp(name, "idp.example") != 0) return next(name, service, hints, found);
    switch (fault()) {
    case 'd': return EAI_AGAIN;
    case 'g': return EAI_NONAME;
    case 's': sleep(600); return EAI_AGAIN;
    default: return next("127.0.0.1", service, hints, found);
    }
}
"#;

#[test]
fn failing_dns_leaves_the_keys_in_use() {
    let sandbox = interposer::sandbox_with(RESOLVER);
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let server = sandbox.serve(&fixture::with_idp(
        "ES256",
        &format!(
            "jwks_uri={}\njwks_refresh_interval=2\njwks_cool_down=1\njwks_request_timeout=1",
            provider.uri().replace("127.0.0.1", "idp.example")
        ),
    ));
    let [known, unknown] = [&old, &new].map(|key| key.token(&claims_of("https://idp/")));
    assert_eq!(server.auth(&known).status, 200, "{}", server.log());
    let failures = || {
        server.metric(r#"countersign_issuer_keys_fetch_failures_total{section="auth_jwt_oidc"}"#)
    };
    provider.publish(&key_set(&[&old, &new]));
    for fault in ["down", "gone", "slow"] {
        sandbox.replace("switch", fault);
        // The first of two failures may have begun before.
        let before = failures();
        eventually(|| failures() >= before + 2);
        let statuses = [&known, &fixture::good_token(), &unknown].map(|token| server.auth(token));
        let statuses = statuses.map(|answer| answer.status);
        assert!(statuses == [200, 200, 503] || statuses == [200, 200, 200], "{statuses:?}");
    }
    std::fs::remove_file(sandbox.path().join("switch")).unwrap();
    eventually(|| server.auth(&unknown).status == 200);
    assert_eq!(server.auth(&known).status, 200);
}

/// Returns the status of `/auth` for the token with this id.
fn status(server: &Server<'_>, id: &str) -> u16 {
    server.auth(&token(json!({ "jti": id }))).status
}

/// Two nodes of one database, one of which is cut off.
#[test]
fn node_that_is_cut_off_verifies_and_catches_up() {
    let postgres = Postgres::start();
    let link = NetworkLink::to(([127, 0, 0, 1], postgres.port).into());
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let node = |sandbox, port: u16| {
        let url = postgres.url().replace(&postgres.port.to_string(), &port.to_string());
        let database =
            format!("[server]\nauth=true\n[database]\nurl={url}\nconnection_timeout=1\n");
        Sandbox::serve(sandbox, &format!("{}{database}", revocation::configuration()))
    };
    let [one, cut_off] =
        [node(&sandboxes[0], postgres.port), node(&sandboxes[1], link.address.port())];
    let reachable = || {
        let families = openmetrics::parse(&cut_off.operations("/metrics").body);
        openmetrics::sum(&families, "countersign_database_reachable", &[])
    };
    let revoke_at =
        |server: &Server<'_>, id: &str| revoke(server, &format!("issuer={ISSUER}&jti={id}"));
    assert_eq!(revoke_at(&one, "before").status, 200);
    eventually(|| status(&cut_off, "before") == 401);

    link.cut();
    assert_eq!(revoke_at(&one, "meanwhile").status, 200);
    assert_eq!((status(&one, "meanwhile"), status(&one, "other")), (401, 200));
    let known = ["before", "meanwhile", "other"].map(|id| status(&cut_off, id));
    assert_eq!(known, [401, 200, 200], "with the last known set");
    let refused = revoke_at(&cut_off, "refused");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let user = json!({ "username": "bob", "password": PASSWORD });
    assert_eq!(Api::root(&cut_off).send("POST /user", user).status, 503);
    assert_eq!(reachable(), 0.0);
    assert_eq!(status(&cut_off, "before"), 401);

    link.restore();
    eventually(|| status(&cut_off, "meanwhile") == 401);
    eventually(|| revoke_at(&cut_off, "after").status == 200);
    eventually(|| status(&one, "after") == 401);
    Api::root(&cut_off).add_user("carol");
    eventually(|| reachable() == 1.0);
}

/// The standby is promoted without the last revocation, which the primary had acknowledged.
#[test]
fn failover_loses_no_revocation_of_running_servers() {
    let mut primary = Postgres::start();
    let link = NetworkLink::to(([127, 0, 0, 1], primary.port).into());
    let url = primary.url().replace(&primary.port.to_string(), &link.address.port().to_string());
    let database = format!("[database]\nurl={url}\nconnection_timeout=1\n");
    let text = format!("{}{database}", revocation::configuration());
    let (sandbox, other_sandbox) = (Sandbox::new(), Sandbox::new());
    let server = sandbox.serve(&text);
    let revoke_id = |id: &str| revoke(&server, &format!("issuer={ISSUER}&jti={id}")).status;
    assert_eq!(revoke_id("replicated"), 200);
    let mut standby = primary.start_standby();
    let count = "SELECT count(*) FROM countersign_revocation";
    eventually(|| standby.query(count) == "1");
    standby.crash();
    assert_eq!(revoke_id("lost"), 200);

    primary.crash();
    assert_eq!((status(&server, "lost"), status(&server, "other")), (401, 200));
    standby.resume();
    standby.promote();
    link.switch_to(([127, 0, 0, 1], standby.port).into());
    eventually(|| revoke_id("later") == 200);
    eventually(|| standby.query(count) == "3");
    let other = other_sandbox.serve(&text);
    for server in [&server, &other] {
        let known = ["replicated", "lost", "later", "other"].map(|id| status(server, id));
        assert_eq!(known, [401, 401, 401, 200]);
    }
}
