use std::collections::BTreeMap;

use countersign_engine::{Revocation, RevocationTarget, UnixTime};
use countersign_server::{
    audit::{AuditEvent, AuditFilter, AuditOperation, AuditOrigin, AuditOutcome},
    revocation::store::RevocationStore,
    store::{
        DatabaseKind, Store, StoreError,
        expiry::{ExpiringTable, OPEN_SECONDS, SweepTime},
        renewals::{SessionRenewal, SessionState, SessionToken},
        servers::{ConfigDigests, ServerRun},
        tokens::IssuedToken,
        users::User,
    },
};
use countersign_tests::postgres::Postgres;

use super::{
    projects::{add_environment, environment},
    store,
};

/// Generates two tests from each function: on an empty SQLite and on an empty PostgreSQL database.
macro_rules! over_every_store {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                let directory = tempfile::tempdir().unwrap();
                super::$name(&|| super::store(&directory, ""));
            }

            #[test]
            fn postgresql() {
                let (directory, postgres) = (tempfile::tempdir().unwrap(), super::Postgres::start());
                super::$name(&|| super::store(&directory, &format!("url={}", postgres.url())));
            }
        }
    )+};
}

pub(crate) use over_every_store;

over_every_store!(
    users_are_added_changed_and_deleted,
    first_user_is_added_once,
    roles_are_per_environment_and_cascade,
    tokens_are_listed_newest_first,
    idempotent_token_is_registered_once,
    texts_are_stored_unchanged,
    concurrent_writers_lose_nothing,
    revocations_of_other_nodes_are_read,
    expired_revocations_are_deleted,
    nothing_is_deleted_in_the_first_hour,
    stored_revocations_keep_their_own_ends,
    revocations_imported_are_read_once,
    servers_are_listed_while_heartbeats_last,
    audit_events_are_selected_and_purged,
    server_restart_replaces_its_entry,
    login_sources_are_the_latest_of_a_user,
    renewal_is_recorded_once,
    session_end_covers_its_renewals,
    concurrent_renewals_have_one_successor,
);

pub(super) const ENVIRONMENT: &str = "11111111-1111-1111-1111-111111111111";
pub(super) const OTHER: &str = "22222222-2222-2222-2222-222222222222";

fn audit_event(at: u64, user: &str, outcome: AuditOutcome) -> AuditEvent {
    let origin = AuditOrigin { client: Some("192.0.2.1".into()), peer: None };
    let mut event = AuditEvent::new(AuditOperation::DeleteUser, origin, UnixTime(at));
    (event.outcome, event.target.user) = (outcome, Some(user.into()));
    event
}

fn audit_events_are_selected_and_purged(open: &dyn Fn() -> Store) {
    let store = open();
    let read = |filter: AuditFilter| {
        wait(&store, store.audit_events(AuditFilter { limit: 100, ..filter })).unwrap()
    };
    let mut odd = audit_event(10, "b\0b", AuditOutcome::Done);
    odd.caller.issuer = Some("x".repeat(1000));
    odd.count = 7;
    let refused = (20..26).map(|at| audit_event(at, "eve", AuditOutcome::Refused));
    let done = (30..34).map(|at| audit_event(at, "bob", AuditOutcome::Done));
    let renewed = (40..46).map(|at| AuditEvent {
        operation: AuditOperation::IdentityRenewal,
        ..audit_event(at, "machine", AuditOutcome::Done)
    });
    let events: Vec<_> = [odd].into_iter().chain(refused).chain(done).chain(renewed).collect();
    wait(&store, store.append_audit_events(events.clone())).unwrap();

    let all = read(AuditFilter::default());
    assert_eq!(
        all.iter().map(|(_, event)| event.at.0).collect::<Vec<_>>(),
        [10, 20, 21, 22, 23, 24, 25, 30, 31, 32, 33, 40, 41, 42, 43, 44, 45]
    );
    let AuditEvent { target, caller, count, .. } = &all[0].1;
    assert_eq!((target.user.as_deref(), *count), (Some("bb"), 7), "NUL cannot be stored");
    assert_eq!(caller.issuer.as_ref().map(String::len), Some(255));
    assert_eq!(all[1].1, events[1]);
    let count = |filter| read(filter).len();
    let default = AuditFilter::default;
    assert_eq!(count(AuditFilter { since: Some(UnixTime(25)), ..default() }), 11);
    assert_eq!(count(AuditFilter { user: Some("eve".into()), ..default() }), 6);
    assert_eq!(count(AuditFilter { outcome: Some(AuditOutcome::Done), ..default() }), 11);
    assert_eq!(count(AuditFilter { operation: Some(AuditOperation::Login), ..default() }), 0);
    assert_eq!(count(AuditFilter { after: all[8].0, ..default() }), 8);
    assert_eq!(count(AuditFilter { before: Some(all[2].0), ..default() }), 2);

    // The oldest of each kind above the limit: machine identities displace no change.
    assert_eq!(wait(&store, store.delete_excess_events(3)).unwrap(), 8);
    let left = read(AuditFilter::default());
    assert_eq!(
        left.iter().map(|(_, event)| event.at.0).collect::<Vec<_>>(),
        [23, 24, 25, 31, 32, 33, 43, 44, 45]
    );
    assert_eq!(wait(&store, store.delete_excess_events(3)).unwrap(), 0);
    // Old events. The clock of PostgreSQL is that of now.
    for open in [0, OPEN_SECONDS] {
        let at = SweepTime { now: 24, open };
        wait(&store, store.sweep_at(ExpiringTable::Audit, at)).unwrap();
    }
    let left = read(AuditFilter::default()).len();
    assert_eq!(left, if store.kind() == DatabaseKind::Sqlite { 7 } else { 0 });
}

pub(super) fn user(name: &str) -> User {
    User::new(name, "hash".into(), false)
}

pub(super) fn token(jti: &str, issued_at: u64) -> IssuedToken {
    IssuedToken {
        jti: jti.into(),
        issuer: "i".into(),
        created_by: Some("admin".into()),
        client_types: vec!["api".into(), "compiler".into()],
        environment: Some(ENVIRONMENT.into()),
        issued_at: UnixTime(issued_at),
        expires_at: Some(UnixTime(issued_at + 60)),
        revoked_at: None,
        last_used: None,
        signing_input_sha256: None,
    }
}

/// Runs a future on the store's thread.
pub(super) fn wait<T>(store: &Store, work: impl Future<Output = T>) -> T {
    store.block_on(work)
}

fn users_are_added_changed_and_deleted(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        assert!(store.user("bob").await.unwrap().is_none());
        store.add_user(user("bob")).await.unwrap();
        store.add_user(User { is_admin: true, ..user("Bob") }).await.unwrap();
        assert_eq!(store.add_user(user("bob")).await, Err(StoreError::AlreadyExists));
        let names: Vec<_> = store
            .users()
            .await
            .unwrap()
            .into_iter()
            .map(|user| (user.username, user.is_admin))
            .collect();
        assert_eq!(names, [("Bob".to_owned(), true), ("bob".to_owned(), false)]);
        assert_eq!(store.set_password_hash("bob", "new", UnixTime(7)).await, Ok(true));
        assert_eq!(store.renew_password_hash("bob", "old", "newer").await, Ok(false));
        assert_eq!(store.renew_password_hash("bob", "new", "newer").await, Ok(true));
        let changed = [("old", false), ("newer", true), ("newer", false)];
        for (old, is_changed) in changed {
            let changed = store.change_password_hash("bob", old, "newest", UnixTime(8)).await;
            assert_eq!(changed, Ok(is_changed));
        }
        assert_eq!(store.grant_admin("bob").await, Ok(true));
        assert_eq!(
            (store.grant_admin("eve").await, store.end_sessions("eve", UnixTime(1)).await),
            (Ok(false), Ok(false))
        );
        let bob = store.user("bob").await.unwrap().unwrap();
        assert_eq!(
            (bob.password_hash.as_str(), bob.is_admin, bob.sessions_since),
            ("newest", true, UnixTime(8))
        );
        assert_eq!(store.revoke_admin("bob", UnixTime(9)).await, Ok(true));
        let bob = store.user("bob").await.unwrap().unwrap();
        assert_eq!((bob.is_admin, bob.sessions_since), (false, UnixTime(9)));
        assert_eq!(
            (store.delete_user("bob").await, store.delete_user("bob").await),
            (Ok(true), Ok(false))
        );
    });
}

fn first_user_is_added_once(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        assert_eq!(store.add_first_user(User { is_admin: true, ..user("admin") }).await, Ok(true));
        assert_eq!(store.add_first_user(user("second")).await, Ok(false));
        assert!(store.user("admin").await.unwrap().unwrap().is_admin);
    });
}

fn roles_are_per_environment_and_cascade(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        store.add_user(user("bob")).await.unwrap();
        add_environment(&store, environment(ENVIRONMENT, "prod")).await;
        for role in ["operator", "noc"] {
            store.add_role(role).await.unwrap();
        }
        assert_eq!(store.add_role("noc").await, Err(StoreError::AlreadyExists));
        store.add_missing_roles(&[]).await.unwrap();
        // Behaviour 60 of the Inmanta server: roles of the policy are added and never deleted.
        store.add_missing_roles(&["noc".into(), "expert".into()]).await.unwrap();
        assert_eq!(store.roles().await.unwrap(), ["expert", "noc", "operator"]);
        assert!(store.delete_role("expert").await.unwrap());
        for (username, environment, role) in
            [("eve", ENVIRONMENT, "noc"), ("bob", OTHER, "noc"), ("bob", ENVIRONMENT, "none")]
        {
            assert_eq!(
                store.assign_role(username, environment, role).await,
                Err(StoreError::ForeignKeyViolation),
                "{username} {role}"
            );
        }
        for role in ["operator", "noc", "noc"] {
            store.assign_role("bob", ENVIRONMENT, role).await.unwrap();
        }
        let both = BTreeMap::from([(
            ENVIRONMENT.to_owned(),
            vec!["noc".to_owned(), "operator".to_owned()],
        )]);
        assert_eq!(store.roles_of("bob").await, Ok(both));
        assert_eq!(store.delete_role("noc").await, Err(StoreError::ForeignKeyViolation));
        assert_eq!(store.unassign_role("bob", ENVIRONMENT, "noc").await, Ok(true));
        assert_eq!(store.unassign_role("bob", ENVIRONMENT, "noc").await, Ok(false));
        assert_eq!(
            (store.delete_role("noc").await, store.delete_role("noc").await),
            (Ok(true), Ok(false))
        );
        store.delete_user("bob").await.unwrap();
        assert_eq!(store.roles_of_all().await, Ok(BTreeMap::new()));
        assert_eq!(store.roles().await, Ok(vec!["operator".to_owned()]));
    });
}

fn tokens_are_listed_newest_first(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        assert_eq!(store.register_token(token("a", 1)).await, Err(StoreError::ForeignKeyViolation));
        add_environment(&store, environment(ENVIRONMENT, "prod")).await;
        for (jti, at) in [("a", 100), ("b", 300), ("c", 200)] {
            store.register_token(token(jti, at)).await.unwrap();
        }
        store
            .register_token(IssuedToken { expires_at: None, created_by: None, ..token("d", 50) })
            .await
            .unwrap();
        let listed = store.tokens_of(ENVIRONMENT).await.unwrap();
        assert_eq!(
            listed.iter().map(|token| token.jti.as_str()).collect::<Vec<_>>(),
            ["b", "c", "a", "d"]
        );
        assert_eq!(listed[0], token("b", 300));
        store.mark_revoked("a", UnixTime(400)).await.unwrap();
        store.mark_revoked("a", UnixTime(500)).await.unwrap();
        store.mark_used("a", UnixTime(450)).await.unwrap();
        let revoked = store.token("a").await.unwrap().unwrap();
        assert_eq!(
            (revoked.revoked_at, revoked.last_used),
            (Some(UnixTime(400)), Some(UnixTime(450)))
        );
        for open in [0, OPEN_SECONDS] {
            store.sweep_at(ExpiringTable::Tokens, SweepTime { now: 260, open }).await.unwrap();
        }
        let left = store.tokens_of(ENVIRONMENT).await.unwrap();
        let left: Vec<_> = left.iter().map(|token| token.jti.as_str()).collect();
        // The clock of PostgreSQL is that of now.
        let expected: &[&str] =
            if store.kind() == DatabaseKind::Sqlite { &["b", "d"] } else { &["d"] };
        assert_eq!(left, expected, "tokens that never expire stay");
        assert_eq!(store.tokens_of(OTHER).await, Ok(vec![]));
    });
}

fn idempotent_token_is_registered_once(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        add_environment(&store, environment(ENVIRONMENT, "prod")).await;
        let digest = || Some("digest".to_owned());
        let first = IssuedToken { signing_input_sha256: digest(), ..token("a", 1) };
        store.register_token(first.clone()).await.unwrap();
        store.mark_revoked("a", UnixTime(5)).await.unwrap();
        let again = IssuedToken { signing_input_sha256: digest(), ..token("a", 9) };
        store.register_token(again).await.unwrap();
        let kept = store.token("a").await.unwrap().unwrap();
        assert_eq!(kept, IssuedToken { revoked_at: Some(UnixTime(5)), ..first });
    });
}

fn texts_are_stored_unchanged(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        for name in ["O'Brien", "a\"b;--", "caf\u{e9}", "cafe\u{301}", "%_\\", " ", "\u{1f600}"] {
            store.add_user(user(name)).await.unwrap();
            assert_eq!(store.user(name).await.unwrap().unwrap().username, name);
        }
        assert!(store.user("CAF\u{c9}").await.unwrap().is_none());
    });
}

fn concurrent_writers_lose_nothing(open: &dyn Fn() -> Store) {
    let store = &open();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            scope.spawn(move || {
                for number in 0..25 {
                    wait(store, store.add_user(user(&format!("{writer}-{number}")))).unwrap();
                }
            });
        }
    });
    assert_eq!(wait(store, store.users()).unwrap().len(), 200);
}

fn revocation(jti: &str, until: Option<u64>) -> Revocation {
    let target = RevocationTarget::TokenId { issuer: "i".into(), token_id: jti.into() };
    Revocation { target, until: until.map(UnixTime) }
}

fn revocations_of_other_nodes_are_read(open: &dyn Fn() -> Store) {
    let (mut one, mut other) = (
        RevocationStore::in_database(open(), vec![]),
        RevocationStore::in_database(open(), vec![]),
    );
    assert_eq!(one.read_new().unwrap(), Some(vec![]));
    assert_eq!(one.append(&[revocation("a", None)]).unwrap(), []);
    assert_eq!(
        other.append(&[revocation("b", Some(7))]).unwrap(),
        [revocation("a", None)],
        "earlier revocations of the other node"
    );
    assert_eq!(one.read_new().unwrap(), Some(vec![revocation("b", Some(7))]));
    assert_eq!((one.read_new().unwrap(), other.read_new().unwrap()), (Some(vec![]), Some(vec![])));
}

fn expired_revocations_are_deleted(open: &dyn Fn() -> Store) {
    let mut ledger = RevocationStore::in_database(open(), vec![]);
    let [a, b, c, d] = [("a", None), ("b", Some(7)), ("c", Some(1 << 40)), ("d", Some(7))]
        .map(|(jti, until)| revocation(jti, until));
    ledger.append(&[a.clone(), b, c.clone(), d.clone()]).unwrap();
    let store = open();
    for open in [0, OPEN_SECONDS] {
        let at = SweepTime { now: 100, open };
        wait(&store, store.sweep_at(ExpiringTable::Revocations, at)).unwrap();
    }
    let left = RevocationStore::in_database(open(), vec![]).read_new().unwrap().unwrap();
    assert_eq!(left, [a, c, d], "the newest row stays");
    assert_eq!(ledger.read_new().unwrap(), Some(vec![]));
    assert!(!ledger.was_replaced());
}

fn nothing_is_deleted_in_the_first_hour(open: &dyn Fn() -> Store) {
    let mut ledger = RevocationStore::in_database(open(), vec![]);
    ledger.append(&[revocation("a", Some(7)), revocation("b", None)]).unwrap();
    assert_eq!(ledger.delete_expired().unwrap(), 0);
    let store = open();
    for table in [ExpiringTable::Revocations, ExpiringTable::Tokens] {
        assert_eq!(wait(&store, store.delete_expired(table, 0)), Ok(0));
    }
    assert_eq!(RevocationStore::in_database(open(), vec![]).read_new().unwrap().unwrap().len(), 2);
}

fn stored_revocations_keep_their_own_ends(open: &dyn Fn() -> Store) {
    let mut ledger = RevocationStore::in_database(open(), vec![]);
    let rows = [subject(1000, None), subject(2000, Some(9)), subject(1, Some(u64::MAX))];
    ledger.append(&rows).unwrap();
    assert_eq!(
        RevocationStore::in_database(open(), vec![]).read_new().unwrap(),
        Some(rows.to_vec())
    );
    assert_eq!(ledger.read_new().unwrap(), Some(vec![]));
}

fn subject(issued_before: u64, until: Option<u64>) -> Revocation {
    let target = RevocationTarget::Subject {
        issuer: "i".into(),
        subject: "bob".into(),
        issued_before: UnixTime(issued_before),
    };
    Revocation { target, until: until.map(UnixTime) }
}

fn revocations_imported_are_read_once(open: &dyn Fn() -> Store) {
    let mut ledger = RevocationStore::in_database(open(), vec![revocation("old", None)]);
    assert_eq!(ledger.read_new().unwrap(), Some(vec![revocation("old", None)]));
    assert_eq!(ledger.read_new().unwrap(), Some(vec![]));
}

/// Creates a server started at 100 with its last heartbeat at `seen_at`.
fn server(id: &str, name: &str, seen_at: u64) -> ServerRun {
    let digest = |text: &str| text.to_owned();
    let sections = [("auth_jwt_\"a\"", "1"), ("auth_jwt_b", "2")]
        .map(|(section, text)| (section.to_owned(), digest(text)));
    ServerRun {
        id: id.into(),
        name: name.into(),
        version: "0.1.0".into(),
        started_at: UnixTime(100),
        seen_at: UnixTime(seen_at),
        digests: ConfigDigests {
            sections: sections.into(),
            api_keys: [("gateway".into(), "5f".into())].into(),
            signing_key: Some(digest("3")),
            verified_keys: ["3".into(), "4".into()].into(),
        },
    }
}

fn servers_are_listed_while_heartbeats_last(open: &dyn Fn() -> Store) {
    let (store, other) = (open(), open());
    let listed = |at: u64| {
        let servers = wait(&other, other.servers_active_since(UnixTime(at - 120))).unwrap();
        servers.into_iter().map(|server| server.id).collect::<Vec<_>>()
    };
    wait(&store, async {
        for one in [server("1", "b", 1000), server("2", "a", 1000), server("3", "c", 1030)] {
            store.record_heartbeat(one).await.unwrap();
        }
    });
    assert_eq!(listed(1031), ["2", "1", "3"], "by name");
    let all = wait(&other, other.servers_active_since(UnixTime(1000))).unwrap();
    assert_eq!(all, [server("3", "c", 1030)], "as it was written");
    // A killed server sends no heartbeats, while another continues with other keys.
    let changed = ConfigDigests { signing_key: None, ..server("2", "a", 0).digests };
    let next = ServerRun { digests: changed.clone(), ..server("2", "a", 1100) };
    wait(&store, store.record_heartbeat(next)).unwrap();
    assert_eq!(
        (listed(1119), listed(1120)),
        (vec!["2".to_owned(), "1".into(), "3".into()], vec!["2".into(), "3".into()])
    );
    assert_eq!(
        wait(&other, other.servers_active_since(UnixTime(1099))).unwrap()[0].digests,
        changed
    );
    assert_eq!(wait(&store, store.remove_servers(UnixTime(1000))), Ok(1));
    assert_eq!(listed(1031), ["2", "3"]);
    assert_eq!(
        (wait(&store, store.remove_server("3")), wait(&store, store.remove_server("3"))),
        (Ok(true), Ok(false))
    );
    assert_eq!(listed(1031), ["2"]);
}

fn server_restart_replaces_its_entry(open: &dyn Fn() -> Store) {
    let store = open();
    let listed = || {
        let servers = wait(&store, store.servers_active_since(UnixTime(0))).unwrap();
        servers.into_iter().map(|server| server.id).collect::<Vec<_>>()
    };
    wait(&store, async {
        for one in [
            server("1", "a", 990),
            ServerRun { started_at: UnixTime(995), ..server("2", "a", 1000) },
        ] {
            store.record_heartbeat(one).await.unwrap();
        }
    });
    assert_eq!(listed(), ["2"]);
    // Two servers of the same name on different machines.
    wait(&store, store.record_heartbeat(server("1", "a", 1010))).unwrap();
    assert_eq!(listed(), ["1", "2"]);
}

#[test]
fn revocations_before_unreadable_row_are_kept() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let mut ledger =
        RevocationStore::in_database(store(&directory, &format!("url={}", postgres.url())), vec![]);
    ledger.append(&[revocation("a", None)]).unwrap();
    let mut other =
        RevocationStore::in_database(store(&directory, &format!("url={}", postgres.url())), vec![]);
    let odd = postgres.query(
        "INSERT INTO countersign_revocation (record) VALUES ('{\"new\": 1}') RETURNING number",
    );
    for ledger in [&mut ledger, &mut other] {
        let error = ledger.read_new().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains(&format!("the revocation {odd} ")), "{error}");
    }
    postgres.query("DELETE FROM countersign_revocation WHERE record LIKE '%new%'");
    for ledger in [&mut ledger, &mut other] {
        assert_eq!(
            ledger.read_new().unwrap(),
            Some(vec![revocation("a", None)]),
            "everything is read again after an error"
        );
    }
}

#[test]
fn columns_use_bytewise_collation() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let collations = "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_name LIKE 'countersign_%'
                      AND column_name IN ('username', 'role', 'environment', 'jti')";
    let store = store(&directory, &format!("url={}", postgres.url()));
    store.block_on(store.open()).unwrap();
    assert_eq!(postgres.query(collations), "C");
}

fn login_sources_are_the_latest_of_a_user(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        assert_eq!(
            store.record_login_source("bob", "a", UnixTime(1)).await,
            Err(StoreError::ForeignKeyViolation)
        );
        store.add_user(user("bob")).await.unwrap();
        store.add_user(user("eve")).await.unwrap();
        for number in 0..16 {
            store.record_login_source("bob", &format!("{number}"), UnixTime(number)).await.unwrap();
        }
        // Used again, so that it is not the oldest.
        store.record_login_source("bob", "0", UnixTime(20)).await.unwrap();
        store.record_login_source("bob", "16", UnixTime(21)).await.unwrap();
        store.record_login_source("eve", "1", UnixTime(5)).await.unwrap();
        for (username, source, is_known) in [
            ("bob", "0", true),
            ("bob", "1", false),
            ("bob", "2", true),
            ("bob", "16", true),
            ("eve", "1", true),
            ("eve", "2", false),
        ] {
            let known = store.is_login_source(username, source).await;
            assert_eq!(known, Ok(is_known), "{username} {source}");
        }
        store.delete_user("bob").await.unwrap();
        assert_eq!(store.is_login_source("bob", "0").await, Ok(false));
    });
}

fn session_token(digest: &str) -> SessionToken {
    SessionToken { digest: digest.into(), expires_at: Some(UnixTime(500)) }
}

/// Creates the renewal of a token, to be revoked at 110.
fn renewal(token: &str, successor: &str) -> SessionRenewal {
    SessionRenewal {
        token: session_token(token),
        revoke_at: UnixTime(110),
        successor: SessionToken { digest: successor.into(), expires_at: None },
        claims: format!("{{\"of\":\"{successor}\"}}"),
    }
}

fn renewal_is_recorded_once(open: &dyn Fn() -> Store) {
    let (store, other) = (open(), open());
    wait(&store, async {
        assert_eq!(store.session_state("a").await, Ok(SessionState::Current));
        assert_eq!(store.add_renewal(renewal("a", "b")).await, Ok(true));
        assert_eq!(other.add_renewal(renewal("a", "c")).await, Ok(false));
        let renewed = SessionState::Renewed(Box::new(renewal("a", "b")));
        assert_eq!(other.session_state("a").await, Ok(renewed));
        assert_eq!(store.overdue_tokens(UnixTime(109)).await, Ok(vec![]));
        assert_eq!(store.overdue_tokens(UnixTime(110)).await, Ok(vec![session_token("a")]));
        assert_eq!(store.purge_renewals(UnixTime(110)).await, Ok(0), "not revoked yet");
        store.mark_token_revoked("a").await.unwrap();
        assert_eq!(store.overdue_tokens(UnixTime(110)).await, Ok(vec![]));
        assert_eq!(store.purge_renewals(UnixTime(109)).await, Ok(0));
        assert_eq!(store.purge_renewals(UnixTime(110)).await, Ok(1));
        assert_eq!(store.session_state("a").await, Ok(SessionState::Current));
    });
}

fn session_end_covers_its_renewals(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        for (token, successor) in [("a", "b"), ("b", "c"), ("x", "y")] {
            assert_eq!(store.add_renewal(renewal(token, successor)).await, Ok(true));
        }
        let digests = |tokens: Vec<SessionToken>| {
            let mut digests: Vec<_> = tokens.into_iter().map(|token| token.digest).collect();
            digests.sort();
            digests
        };
        let ended = store.end_session(session_token("b"), UnixTime(105)).await.unwrap();
        assert_eq!(digests(ended), ["a", "b", "c"]);
        for token in ["a", "b", "c"] {
            assert_eq!(store.session_state(token).await, Ok(SessionState::Ended), "{token}");
            assert_eq!(store.add_renewal(renewal(token, "d")).await, Ok(false), "{token}");
        }
        assert_eq!(digests(store.overdue_tokens(UnixTime(105)).await.unwrap()), ["a", "b", "c"]);
        // A retry ends the same tokens.
        let again = store.end_session(session_token("c"), UnixTime(106)).await.unwrap();
        assert_eq!(digests(again), ["a", "b", "c"]);
        let alone = store.end_session(session_token("z"), UnixTime(105)).await.unwrap();
        assert_eq!(digests(alone), ["z"]);
        assert!(matches!(store.session_state("x").await, Ok(SessionState::Renewed(_))));
    });
}

fn concurrent_renewals_have_one_successor(open: &dyn Fn() -> Store) {
    let stores = [open(), open()];
    let added: Vec<bool> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let store = &stores[writer % 2];
                let renewal = renewal("a", &writer.to_string());
                scope.spawn(move || wait(store, store.add_renewal(renewal)).unwrap())
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let successor = added.iter().position(|is_added| *is_added).unwrap();
    assert_eq!(added.iter().filter(|is_added| **is_added).count(), 1);
    let SessionState::Renewed(renewed) = wait(&stores[1], stores[1].session_state("a")).unwrap()
    else {
        panic!()
    };
    assert_eq!(renewed.successor.digest, successor.to_string());
}
