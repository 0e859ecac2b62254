use countersign_engine::UnixTime;
use countersign_server::store::{
    Store,
    console_sessions::StoredConsoleSession,
    expiry::{ExpiringTable, OPEN_SECONDS, SweepTime},
};
use countersign_tests::postgres::Postgres;

use super::{
    contract::{over_every_store, wait},
    store,
};

over_every_store!(
    console_session_is_changed_until_it_is_deleted,
    sessions_of_a_provider_are_deleted,
    ended_console_sessions_are_swept,
);

fn session(id: &str, provider_session: Option<&str>) -> StoredConsoleSession {
    StoredConsoleSession {
        id: id.into(),
        username: "bob".into(),
        section: "auth_jwt_idp".into(),
        sealed: "sealed".into(),
        subject: provider_session.map(|_| "subject".into()),
        provider_session: provider_session.map(str::to_owned),
        created_at: UnixTime(10),
        used_at: UnixTime(11),
        authenticated_at: UnixTime(12),
        expires_at: UnixTime(100),
    }
}

fn console_session_is_changed_until_it_is_deleted(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        store.add_console_session(session("a", None)).await.unwrap();
        assert!(store.console_session("a").await.unwrap().unwrap() == session("a", None));
        store.touch_console_session("a", UnixTime(50), UnixTime(200)).await.unwrap();
        store.replace_console_tokens("a", "other".into(), UnixTime(60)).await.unwrap();
        let changed = StoredConsoleSession {
            sealed: "other".into(),
            used_at: UnixTime(50),
            authenticated_at: UnixTime(60),
            expires_at: UnixTime(200),
            ..session("a", None)
        };
        assert!(store.console_session("a").await.unwrap().unwrap() == changed);
        store.delete_console_session("a").await.unwrap();
        assert!(store.console_session("a").await.unwrap().is_none());
    });
}

fn sessions_of_a_provider_are_deleted(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        let sessions = [("local", None), ("a", Some("x")), ("b", Some("y")), ("c", Some("y"))];
        for (id, provider_session) in sessions {
            store.add_console_session(session(id, provider_session)).await.unwrap();
        }
        let delete = |subject, provider_session| {
            store.delete_provider_sessions("auth_jwt_idp", subject, provider_session)
        };
        assert_eq!(delete("other", None).await, Ok(0));
        assert_eq!(delete("subject", Some("y")).await, Ok(2));
        assert_eq!(store.delete_provider_sessions("auth_jwt_x", "subject", None).await, Ok(0));
        assert_eq!(delete("subject", None).await, Ok(1));
        assert!(store.console_session("local").await.unwrap().is_some());
    });
}

fn ended_console_sessions_are_swept(open: &dyn Fn() -> Store) {
    let store = open();
    let current = StoredConsoleSession { expires_at: UnixTime(1 << 40), ..session("b", None) };
    wait(&store, async {
        store.add_console_session(session("a", None)).await.unwrap();
        store.add_console_session(current).await.unwrap();
        for open in [0, OPEN_SECONDS] {
            let at = SweepTime { now: 1000, open };
            store.sweep_at(ExpiringTable::ConsoleSessions, at).await.unwrap();
        }
        assert!(store.console_session("a").await.unwrap().is_none());
        assert!(store.console_session("b").await.unwrap().is_some());
    });
}
