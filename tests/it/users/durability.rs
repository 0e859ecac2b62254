use std::sync::{
    Barrier, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    postgres::Postgres,
};
use serde_json::{Value, json};

use super::{
    Api, ENVIRONMENT, PASSWORD, claims, configuration, data, in_file, refused, session_of,
};

#[test]
fn acknowledged_writes_survive_a_kill_on_sqlite() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let database = in_file(&sandbox);
    assert_acknowledged_writes_survive(&sandbox, &database);
}

#[test]
fn acknowledged_writes_survive_a_kill_on_postgresql() {
    let (sandbox, postgres) = (Sandbox::over(Protocol::Http2), Postgres::start());
    assert_acknowledged_writes_survive(&sandbox, &format!("[database]\nurl={}\n", postgres.url()));
}

const WRITERS: usize = 16;
const WRITES: usize = 1000;

/// Writes roles and tokens on [`WRITERS`] connections, kills the server halfway, and checks that
/// every acknowledged write is still there.
fn assert_acknowledged_writes_survive(sandbox: &Sandbox, database: &str) {
    let text = configuration(database);
    let server = sandbox.serve(&text);
    Api::root(&server).add_environment(ENVIRONMENT);
    let acknowledged = write_until_killed(server);
    assert!(acknowledged.len() >= WRITES / 2, "{}", acknowledged.len());
    let server = sandbox.serve(&text);
    let root = Api::root(&server);
    let roles = data(&root.ask("GET /role"));
    let tokens = data(&root.within(ENVIRONMENT).ask("GET /environment_auth"));
    let names = roles
        .as_array()
        .unwrap()
        .iter()
        .chain(tokens.as_array().unwrap().iter().map(|token| &token["jti"]));
    let kept: Vec<_> = names.filter_map(Value::as_str).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !kept.contains(&name.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
}

/// Returns the names of the writes that were acknowledged before the server was killed.
fn write_until_killed(server: Server<'_>) -> Vec<String> {
    let (acknowledged, next, start) =
        (Mutex::new(Vec::new()), AtomicUsize::new(0), Barrier::new(WRITERS + 1));
    let token = session_of("root", true);
    let write = |mut client: countersign_tests::client::Client| {
        // Connect before the server is killed.
        assert_eq!(client.request("GET /healthz HTTP/1.1\r\n", b"").status, 200);
        start.wait();
        let head = |path: &str| {
            format!(
                "POST /api/v2/{path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX-Inmanta-tid: {ENVIRONMENT}\r\n"
            )
        };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (path, body) = match number % 2 {
                _ if number >= WRITES => return,
                0 => ("role", json!({ "name": format!("role-{number}") })),
                _ => ("environment_auth", json!({ "client_types": ["api"] })),
            };
            let Ok(answer) = client.try_request(&head(path), body.to_string().as_bytes()) else {
                return;
            };
            assert_eq!(answer.status, 200, "{answer:?}");
            let name = match path {
                "role" => format!("role-{number}"),
                _ => claims(data(&answer).as_str().unwrap())["jti"].as_str().unwrap().to_owned(),
            };
            acknowledged.lock().unwrap().push(name);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            let client = server.client();
            scope.spawn(|| write(client));
        }
        start.wait();
        eventually(|| acknowledged.lock().unwrap().len() >= WRITES / 2);
        server.stop("KILL");
    });
    acknowledged.into_inner().unwrap()
}

/// One test for a database that is started late, crashes and returns, because starting one is slow.
#[test]
fn database_outage_affects_only_calls_that_need_it() {
    let (sandbox, mut postgres) = (Sandbox::new(), Postgres::start());
    postgres.crash();
    let database = format!("[database]\nurl={}\nconnection_timeout=1\n", postgres.url());
    let server = sandbox.listen(&configuration(&database));
    // Revocations are unknown, so every token is refused.
    assert_eq!(
        (server.operations("/ready").status, server.auth(&session_of("bob", false)).status),
        (503, 503)
    );
    postgres.resume();
    server.wait_until_ready();
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    let session = Api::anonymous(&server).session("bob");
    let [revoked, issued] = [(), ()].map(|()| root.issue(ENVIRONMENT));
    let revoke = format!("DELETE /environment_auth/{}", claims(&revoked)["jti"].as_str().unwrap());
    assert_eq!(root.within(ENVIRONMENT).ask(&revoke).status, 200);

    postgres.crash();
    let statuses = || [&session, &issued, &revoked].map(|token| server.auth(token).status);
    assert_eq!(statuses(), [200, 200, 401]);
    for answer in [
        root.ask("GET /user"),
        Api::anonymous(&server).log_in("bob", PASSWORD),
        root.within(ENVIRONMENT).send("POST /environment_auth", json!({ "client_types": ["api"] })),
        // The registry is needed to authorize this call.
        Api::bearing(&server, &issued).within(ENVIRONMENT).ask("GET /environment_auth"),
    ] {
        refused(&answer, 503, "This cannot be done now: the database does not answer");
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(statuses(), [200, 200, 401]);

    postgres.resume();
    eventually(|| root.ask("GET /user").status == 200);
    assert_eq!(Api::anonymous(&server).log_in("bob", PASSWORD).status, 200);
    assert_eq!(
        data(&root.within(ENVIRONMENT).ask("GET /environment_auth")).as_array().map(Vec::len),
        Some(2)
    );
    eventually(|| server.operations("/ready").status == 200);
    assert_eq!(statuses(), [200, 200, 401]);
}
