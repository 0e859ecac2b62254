use std::io::{self, Write as _};

use countersign_tests::{
    binary::Sandbox,
    eventually,
    pgbouncer::{PgBouncer, PoolMode, keeps_prepared_statements},
    postgres::Postgres,
};

use super::{SERVERS, assert_agreement, configuration, revoke_id, status};

/// Sessions keep everything: notifications, prepared statements and locks.
#[test]
fn servers_agree_behind_a_session_pooler() {
    let postgres = Postgres::start();
    let pooler = PgBouncer::start(&postgres, PoolMode::Session);
    let text = configuration(&pooler.url(), "");
    let sandboxes: [_; SERVERS] = std::array::from_fn(|_| Sandbox::new());
    let servers = sandboxes.each_ref().map(|sandbox| sandbox.serve(&text));
    assert_agreement(&servers, "pooled");
    for server in &servers {
        assert!(!server.log().contains("listen_url"), "{}", server.log());
    }
}

/// Before 1.21, statements that were prepared over one connection are executed over another one.
/// From 1.21 on, everything works with a direct connection for notifications.
#[test]
fn transaction_pooler_works_or_is_named() {
    let postgres = Postgres::start();
    let pooler = PgBouncer::start(&postgres, PoolMode::Transaction);
    let listen = format!("listen_url={}\n", postgres.url());
    let text = configuration(&pooler.url(), &listen);
    let sandboxes: [_; SERVERS] = std::array::from_fn(|_| Sandbox::new());
    if keeps_prepared_statements() {
        let servers = sandboxes.each_ref().map(|sandbox| sandbox.serve(&text));
        assert_agreement(&servers, "pooled");
        return;
    }
    for sandbox in &sandboxes {
        sandbox.file("c.cfg", &text);
        let refused = sandbox.run(["serve", "--config", "c.cfg"]);
        assert_eq!(refused.code(), 1, "{refused:?}");
        assert!(refused.stderr.contains("error: url in [database] leads"), "{}", refused.stderr);
    }
}

/// Without `listen_url`, notifications are lost, and the servers poll.
#[test]
fn lost_notifications_are_warned_about() {
    if !keeps_prepared_statements() {
        writeln!(io::stderr(), "skipped: PgBouncer 1.21 or later is needed").unwrap();
        return;
    }
    let postgres = Postgres::start();
    let pooler = PgBouncer::start(&postgres, PoolMode::Transaction);
    let text = configuration(&pooler.url(), "");
    let sandboxes: [_; 2] = std::array::from_fn(|_| Sandbox::new());
    let [one, other] = sandboxes.each_ref().map(|sandbox| sandbox.serve(&text));
    for (number, (from, to)) in [(&one, &other), (&other, &one)].into_iter().enumerate() {
        revoke_id(from, &number.to_string());
        eventually(|| status(to, &number.to_string()) == 401);
    }
    eventually(|| [&one, &other].iter().all(|server| server.log().contains("listen_url")));
}
