/// PgBouncer between the servers and the database.
mod pooler;

use std::{thread::sleep, time::Duration};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    network_link::NetworkLink,
    openmetrics,
    postgres::Postgres,
};
use serde_json::json;

use crate::{
    fixture::{self, ISSUER},
    identities::IdentityApi,
    revocation::{self, revoke, token},
    users::{Api, data},
};

/// Number of servers.
const SERVERS: usize = 3;

/// Returns the configuration of a server of this database, which reads and writes everything that
/// servers share.
fn configuration(url: &str, options: &str) -> String {
    format!(
        "{}[server]\nauth=true\n[listen]\ntrusted_proxies=127.0.0.1\n[identities]\nenabled=true\n\
         [database]\nurl={url}\nconnection_timeout=2\n{options}",
        revocation::configuration()
    )
}

/// Returns the status of `/auth` for the token with this id.
fn status(server: &Server<'_>, id: &str) -> u16 {
    server.auth(&token(json!({ "jti": id }))).status
}

#[track_caller]
fn revoke_id(server: &Server<'_>, id: &str) {
    let answer = revoke(server, &format!("issuer={ISSUER}&jti={id}"));
    assert_eq!(answer.status, 200, "{answer:?} {}", server.log());
}

/// Checks that users, revocations and numbers of uses of each server are those of all.
fn assert_agreement(servers: &[Server<'_>], round: &str) {
    for (number, server) in servers.iter().enumerate() {
        let name = format!("{round}-{number}");
        Api::root(server).add_user(&name);
        let session = Api::anonymous(&servers[(number + 1) % servers.len()]).session(&name);
        revoke_id(server, &name);
        for other in servers {
            let users = data(&Api::root(other).ask("GET /user"));
            assert!(users.to_string().contains(&format!("\"{name}\"")), "{users}");
            assert_eq!(other.auth(&session).status, 200);
            eventually(|| status(other, &name) == 401);
            assert_eq!(status(other, "another"), 200);
        }
    }
    assert_uses_are_exact(servers);
}

/// Uses a token with a limit at all servers in turn.
fn assert_uses_are_exact(servers: &[Server<'_>]) {
    let api = IdentityApi::new(&servers[0]);
    let limit = 90;
    let machine = api.machine("member", json!({ "accessTokenNumUsesLimit": limit }));
    let limited = api.access_token(&machine);
    let mut made = 0;
    // A server without a lease waits for those of the others.
    for turn in 0..2 * limit {
        made += usize::from(servers[turn % servers.len()].auth(&limited).status == 200);
    }
    assert_eq!(made, limit);
}

#[test]
fn three_servers_agree() {
    let postgres = Postgres::start();
    let text = configuration(&postgres.url(), "");
    let sandboxes: [_; SERVERS] = std::array::from_fn(|_| Sandbox::new());
    let servers = sandboxes.each_ref().map(|sandbox| sandbox.serve(&text));
    assert_agreement(&servers, "first");
    check_configuration_versions(&servers, &sandboxes, &text);
}

/// The doctor finds the one server that accepts other tokens, until all have the new section.
fn check_configuration_versions(servers: &[Server<'_>], sandboxes: &[Sandbox], text: &str) {
    let section = format!(
        "[auth_jwt_later]\nalgorithm=HS256\nclient_types=api\nissuer=https://later/\naudience=later\nkey={}\n",
        fixture::KEY.replace('r', "s")
    );
    let changed = format!("{text}{section}");
    let report = || {
        let sandbox = Sandbox::new();
        sandbox.file("c.cfg", &changed);
        sandbox.run(["doctor", "-c", "c.cfg"]).stdout
    };
    let differs = || report().contains("auth_jwt_later");
    eventually(|| report().matches(", started ").count() == SERVERS);
    for (server, sandbox) in servers.iter().zip(sandboxes) {
        eventually(differs);
        let log = server.reload_after(|| drop(sandbox.replace("server.cfg", &changed)));
        assert!(log.contains("configuration reloaded"), "{log}");
    }
    eventually(|| !differs());
}

/// Two of three servers reach the database. The third one is cut off.
#[test]
fn node_that_is_cut_off_refuses_after_max_staleness() {
    let postgres = Postgres::start();
    let link = NetworkLink::to(([127, 0, 0, 1], postgres.port).into());
    let far = postgres.url().replace(&postgres.port.to_string(), &link.address.port().to_string());
    let limit = "[revocation]\nmax_staleness=8\n";
    let sandboxes: [_; SERVERS] = std::array::from_fn(|_| Sandbox::new());
    let url = postgres.url();
    let texts = [&url, &url, &far].map(|url| configuration(url, limit));
    let [one, other, cut_off]: [_; SERVERS] =
        std::array::from_fn(|number| sandboxes[number].serve(&texts[number]));
    revoke_id(&one, "before");
    eventually(|| status(&cut_off, "before") == 401);
    assert!(staleness(&cut_off) < 5.0);

    link.cut();
    revoke_id(&one, "meanwhile");
    eventually(|| status(&other, "meanwhile") == 401);
    assert_eq!(["before", "meanwhile"].map(|id| status(&cut_off, id)), [401, 200]);
    eventually(|| status(&cut_off, "meanwhile") == 503);
    assert!(staleness(&cut_off) > 7.0, "{}", staleness(&cut_off));
    let refused = cut_off.auth(&token(json!({})));
    assert_eq!(
        (refused.status, refused.header("x-auth-error")),
        (503, Some("revocations_unavailable"))
    );
    assert_eq!(cut_off.operations("/ready").status, 503);
    assert_eq!(cut_off.operations("/live").status, 200);
    sleep(Duration::from_secs(1));
    assert_eq!([&one, &other].map(|server| status(server, "another")), [200, 200]);

    link.restore();
    eventually(|| status(&cut_off, "another") == 200);
    assert_eq!(status(&cut_off, "meanwhile"), 401, "before a token is verified again");
    eventually(|| cut_off.operations("/ready").status == 200);
    eventually(|| staleness(&cut_off) < 5.0);
}

/// Returns how long ago a server read the revocations, by its metrics.
fn staleness(server: &Server<'_>) -> f64 {
    let families = openmetrics::parse(&server.operations("/metrics").body);
    openmetrics::sum(&families, "countersign_revocations_staleness_seconds", &[])
}
