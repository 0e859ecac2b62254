use std::{sync::mpsc::channel, thread};

use countersign_server::store::{
    Store, identity_methods::MethodKind, machine_identities::IdentityDeletion,
};
use countersign_tests::{eventually, postgres::Postgres};
use tempfile::TempDir;

use super::{contract::wait, identities::add_method, store};

/// Two servers of one database with an identity, which has a login method.
struct SharedDatabase {
    _directory: TempDir,
    postgres: Postgres,
    servers: [Store; 2],
}

impl SharedDatabase {
    fn start() -> Self {
        let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
        let servers = [(); 2].map(|()| store(&directory, &format!("url={}", postgres.url())));
        wait(&servers[0], add_method(&servers[0]));
        wait(&servers[1], servers[1].open()).unwrap();
        Self { _directory: directory, postgres, servers }
    }

    /// Waits until this many sessions wait for a lock or in a trigger.
    fn await_waiting(&self, expected: usize) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' OR wait_event = 'PgSleep'";
        eventually(|| self.postgres.query(waiting) == expected.to_string());
    }
}

#[test]
fn deletion_waits_for_a_change_of_a_method() {
    let database = SharedDatabase::start();
    let [first, second] = &database.servers;
    let ((begun, has_begun), (finish, may_finish)) = (channel(), channel());
    thread::scope(|scope| {
        let changed = scope.spawn(move || {
            let change = first.change_tls_certificate_method("i", move |_| {
                begun.send(()).unwrap();
                may_finish.recv().map_err(drop)
            });
            wait(first, change)
        });
        has_begun.recv().unwrap();
        let deleted = scope.spawn(|| wait(second, second.delete_machine_identity("i")));
        database.await_waiting(1);
        finish.send(()).unwrap();
        assert!(matches!(changed.join().unwrap(), Ok(Some(Ok(_)))));
        assert_eq!(deleted.join().unwrap(), Ok(IdentityDeletion::Deleted));
    });
}

#[test]
fn deletions_of_identity_and_method_both_succeed() {
    let database = SharedDatabase::start();
    let [first, second] = &database.servers;
    database.postgres.query(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
         CREATE TRIGGER wait BEFORE UPDATE ON countersign_organization FOR EACH ROW
             EXECUTE FUNCTION wait()",
    );
    thread::scope(|scope| {
        let deleted = scope.spawn(|| wait(first, first.delete_machine_identity("i")));
        database.await_waiting(1);
        let kind = MethodKind::TlsCertificate;
        let detached = scope.spawn(move || wait(second, second.delete_identity_method("i", kind)));
        database.await_waiting(2);
        assert_eq!(deleted.join().unwrap(), Ok(IdentityDeletion::Deleted));
        assert_eq!(detached.join().unwrap(), Ok(None), "deleted with the identity");
    });
}

#[test]
fn deletion_runs_again_after_a_deadlock() {
    for code in ["40P01", "40001"] {
        let database = SharedDatabase::start();
        let [server, _] = &database.servers;
        database.postgres.query(&format!(
            "CREATE SEQUENCE attempt;
             CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN
                      IF nextval(''attempt'') < 3 THEN RAISE SQLSTATE ''{code}''; END IF;
                      RETURN NEW;
                  END';
             CREATE TRIGGER fail BEFORE UPDATE ON countersign_organization FOR EACH ROW
                 EXECUTE FUNCTION fail()"
        ));
        let deleted = wait(server, server.delete_machine_identity("i"));
        assert_eq!(deleted, Ok(IdentityDeletion::Deleted), "{code}");
        assert_eq!(database.postgres.query("SELECT last_value FROM attempt"), "3");
    }
}
