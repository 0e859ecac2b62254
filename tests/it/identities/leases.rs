use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually, over_every_protocol,
    postgres::Postgres,
};
use serde_json::json;

use super::{IdentityApi, configuration, with_server};

over_every_protocol!(
    leased_uses_are_counted_exactly,
    unused_leases_are_returned_when_the_server_stops,
);

/// Requests on connections of their own at the same time.
const CLIENTS: usize = 64;

/// Uses a token from many clients, each of one server in turn, until all of them are refused.
/// Counts the uses in `made` as they are made. A server that does not answer refuses.
fn use_up(servers: &[&Server<'_>], token: &str, made: &AtomicUsize) {
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = servers[number % servers.len()].client();
            let head = &head;
            scope.spawn(move || {
                while client.try_request(head, b"").is_ok_and(|response| response.status == 200) {
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

fn uses_of(servers: &[&Server<'_>], token: &str) -> usize {
    let made = AtomicUsize::new(0);
    use_up(servers, token, &made);
    made.into_inner()
}

/// Returns a token with a limit of uses.
fn limited_token(api: &IdentityApi<'_>, limit: usize) -> String {
    api.access_token(&api.machine("member", json!({ "accessTokenNumUsesLimit": limit })))
}

fn leased_uses_are_counted_exactly(protocol: Protocol) {
    with_server(protocol, "", |api| {
        for limit in [1, 64, 65, 3000] {
            let token = limited_token(api, limit);
            assert_eq!(uses_of(&[api.server], &token), limit);
            assert_eq!(api.auth(&token), 401);
        }
    });
}

fn unused_leases_are_returned_when_the_server_stops(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let start = || sandbox.serve(&configuration(""));
    let server = start();
    let token = limited_token(&IdentityApi::new(&server), 300);
    let first = (0..40).filter(|_| server.auth(&token).status == 200).count();
    assert_eq!(first, 40);
    server.stop("TERM");
    assert_eq!(uses_of(&[&start()], &token), 260);
}

#[test]
fn crash_of_a_server_never_adds_uses() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let token = limited_token(&IdentityApi::new(&server), 300);
    assert!((0..40).all(|_| server.auth(&token).status == 200));
    server.stop("KILL");
    let rest = uses_of(&[&sandbox.serve(&configuration(""))], &token);
    assert!((260 - 64..=260).contains(&rest), "a lease is lost at most: {rest}");
}

/// Returns a configuration for several servers, which share a database.
pub(super) fn shared_configuration(postgres: &Postgres, options: &str) -> String {
    let database = format!("[database]\nurl={}\n[server]", postgres.url());
    configuration(options).replace("[server]", &database)
}

/// Runs a test with two servers and one database.
fn with_two_servers(test: impl FnOnce([&Server<'_>; 2])) {
    let postgres = Postgres::start();
    let database = shared_configuration(&postgres, "");
    // Clients of HTTP/2 report a connection that is reset.
    let sandboxes = [Sandbox::over(Protocol::Http2), Sandbox::over(Protocol::Http2)];
    let servers = sandboxes.each_ref().map(|sandbox| sandbox.serve(&database));
    test(servers.each_ref());
}

#[test]
fn two_servers_make_exactly_the_allowed_uses() {
    with_two_servers(|servers| {
        let api = IdentityApi::new(servers[0]);
        for limit in [40, 1500] {
            let token = limited_token(&api, limit);
            assert_eq!(uses_of(&servers, &token), limit);
        }
        // The lease of a server that gets no more requests is waited for.
        let token = limited_token(&api, 1500);
        let made = (0..40).filter(|_| servers[0].auth(&token).status == 200).count();
        assert_eq!(made + uses_of(&[servers[1]], &token), 1500);
    });
}

#[test]
fn killed_server_never_adds_uses() {
    with_two_servers(|servers| {
        let token = limited_token(&IdentityApi::new(servers[0]), 3000);
        let made = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| use_up(&servers, &token, &made));
            eventually(|| made.load(Ordering::Relaxed) > 500);
            servers[0].signal("KILL");
        });
        let made = made.into_inner();
        assert!((500..=3000).contains(&made), "{made}");
        assert_eq!(servers[1].auth(&token).status, 401);
    });
}

#[test]
fn return_without_an_answer_never_adds_uses() {
    let postgres = Postgres::start();
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&shared_configuration(&postgres, ""));
    let token = limited_token(&IdentityApi::new(&server), 300);
    // The server gives up waiting after 10 s. Then the uses are returned all the same.
    postgres.query(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(12); RETURN NEW; END';
         CREATE TRIGGER wait BEFORE UPDATE ON countersign_identity_token FOR EACH ROW
             WHEN (NEW.uses < OLD.uses) EXECUTE FUNCTION wait()",
    );
    assert!((0..40).all(|_| server.auth(&token).status == 200));
    thread::sleep(Duration::from_secs(11));
    let uses = || postgres.query("SELECT uses FROM countersign_identity_token");
    eventually(|| uses() == "40");
    postgres.query("DROP TRIGGER wait ON countersign_identity_token");
    assert_eq!(uses_of(&[&server], &token), 260);
}

#[test]
fn deleted_identity_ends_its_tokens_on_every_server() {
    let postgres = Postgres::start();
    let issuer = "issuer=https://one.example/identities\n";
    let options = ["", issuer].map(|options| shared_configuration(&postgres, options));
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [first, second] = [0, 1].map(|number| sandboxes[number].serve(&options[number]));
    // The revocation of one server names the issuer of that server alone.
    let identity = IdentityApi::new(&second).machine("member", json!({}));
    let token = IdentityApi::new(&second).access_token(&identity);
    assert_eq!(second.auth(&token).status, 200);
    let deleted = IdentityApi::new(&first).ask(&format!("DELETE /identities/{}", identity.id));
    assert_eq!(deleted.status, 200);
    eventually(|| second.auth(&token).status == 401);
}

#[test]
fn unused_method_is_unavailable_without_a_database() {
    let mut postgres = Postgres::start();
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&shared_configuration(&postgres, ""));
    let api = IdentityApi::new(&server);
    let [used, unused] = ["a", "b"].map(|_| api.access_token(&api.machine("member", json!({}))));
    // The first look for changes by other servers, within a second of the first use, finds one.
    assert_eq!(server.auth(&used).status, 200);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(server.auth(&used).status, 200);
    postgres.crash();
    assert_eq!(server.auth(&used).status, 200);
    assert_eq!(server.auth(&unused).status, 503, "its trusted addresses are in the database");
}
