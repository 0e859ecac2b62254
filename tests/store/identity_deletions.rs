use std::{sync::mpsc::channel, thread};

use countersign_engine::UnixTime;
use countersign_server::store::{
    Store, StoreError,
    identity_methods::MethodKind,
    identity_tokens::{LeaseRequest, TokenUse, UseLease},
    machine_identities::IdentityDeletion,
};
use countersign_tests::{database::query_sqlite, eventually, postgres::Postgres};
use tempfile::TempDir;

use super::{
    contract::{over_every_store, wait},
    identities::{add_method, limited},
    store,
};

over_every_store!(rows_of_tokens_are_deleted_after_their_method);

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

/// Checks that a token of a deleted method is refused, though its row exists.
fn assert_ended(store: &Store) {
    let lease = UseLease { id: "l".into(), uses: 1 };
    let request = LeaseRequest { lease: &lease, remaining: 0, ended: &UseLease::default() };
    wait(store, async {
        assert_eq!(store.uses_of_limited_token("t").await, Ok(Some(1)));
        let used = store.use_limited_token("t", &UseLease::default(), UnixTime(30)).await;
        assert_eq!(used, Ok(TokenUse::Revoked));
        assert_eq!(store.lease_uses("t", request).await, Ok(false));
        assert_eq!(store.renew_limited_token("t", UnixTime(40)).await, Ok(TokenUse::Revoked));
        let late = store.add_limited_token(limited("u", 2)).await;
        assert_eq!(late, Err(StoreError::ForeignKeyViolation), "a login that raced with it");
    });
}

/// Adds a token that was used once.
fn add_token(store: &Store) {
    wait(store, async {
        store.add_limited_token(limited("t", 5)).await.unwrap();
        let used = store.use_limited_token("t", &UseLease::default(), UnixTime(30)).await;
        assert_eq!(used, Ok(TokenUse::Counted));
    });
}

#[test]
fn deletion_in_sqlite_keeps_rows_of_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory, "");
    wait(&store, add_method(&store));
    add_token(&store);
    query_sqlite(
        &directory.path().join("countersign.db"),
        "CREATE TRIGGER keep BEFORE DELETE ON countersign_identity_token
             BEGIN SELECT RAISE(ABORT, 'kept'); END",
    );
    assert_eq!(wait(&store, store.delete_machine_identity("i")), Ok(IdentityDeletion::Deleted));
    assert_ended(&store);
}

#[test]
fn deletion_in_postgresql_keeps_rows_of_tokens() {
    let database = SharedDatabase::start();
    let [server, other] = &database.servers;
    add_token(server);
    database.postgres.query(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN RAISE EXCEPTION ''kept''; END';
         CREATE TRIGGER keep BEFORE DELETE ON countersign_identity_token FOR EACH ROW
             EXECUTE FUNCTION keep()",
    );
    let kind = MethodKind::TlsCertificate;
    assert_eq!(wait(server, server.delete_identity_method("i", kind)), Ok(Some("m".into())));
    assert_ended(other);
}

fn rows_of_tokens_are_deleted_after_their_method(open: &dyn Fn() -> Store) {
    const TOKENS: usize = 600;
    let store = open();
    wait(&store, async {
        add_method(&store).await;
        for number in 0..TOKENS {
            store.add_limited_token(limited(&number.to_string(), 2)).await.unwrap();
        }
        let kind = MethodKind::TlsCertificate;
        store.delete_identity_method("i", kind).await.unwrap();
    });
    for number in 0..TOKENS {
        let uses = || wait(&store, store.uses_of_limited_token(&number.to_string()));
        eventually(|| uses() == Ok(None));
    }
}
