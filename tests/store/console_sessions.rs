use countersign_engine::UnixTime;
use countersign_server::store::{
    Store,
    console_sessions::StoredConsoleSession,
    expiry::{ExpiringTable, OPEN_SECONDS, SweepTime},
    logout_tokens::ProviderLogout,
};
use countersign_tests::postgres::Postgres;

use super::{
    contract::{over_every_store, wait},
    store,
};

over_every_store!(
    console_session_is_changed_until_it_is_deleted,
    console_tokens_are_renewed_by_one_request,
    console_confirmation_is_counted_once,
    logout_token_ends_the_sessions_it_names,
    logout_token_is_used_once,
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
        confirmations: 0,
    }
}

fn console_session_is_changed_until_it_is_deleted(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        store.add_console_session(session("a", None)).await.unwrap();
        assert!(store.console_session("a").await.unwrap().unwrap() == session("a", None));
        store.touch_console_session("a", UnixTime(50), UnixTime(200)).await.unwrap();
        let replaced = |id| store.replace_console_tokens(id, "other".into(), UnixTime(60));
        assert_eq!(replaced("a").await, Ok(true));
        assert_eq!(replaced("b").await, Ok(false));
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

fn console_tokens_are_renewed_by_one_request(open: &dyn Fn() -> Store) {
    let (store, other) = (open(), open());
    wait(&store, async {
        store.add_console_session(session("a", Some("x"))).await.unwrap();
        let begin = |store: &Store, sealed: &'static str, now| {
            let store = store.clone();
            async move {
                let (now, until) = (UnixTime(now), UnixTime(now + 10));
                store.begin_console_renewal("a", sealed, now, until).await
            }
        };
        assert_eq!(begin(&store, "sealed", 100).await, Ok(true));
        assert_eq!(begin(&other, "sealed", 109).await, Ok(false), "another one has begun");
        assert_eq!(begin(&other, "sealed", 110).await, Ok(true), "it takes too long");
        store.defer_console_renewal("a", UnixTime(115)).await.unwrap();
        assert_eq!(begin(&store, "sealed", 114).await, Ok(false));
        let replaced = store.replace_console_tokens("a", "other".into(), UnixTime(60)).await;
        assert_eq!(replaced, Ok(true));
        assert_eq!(begin(&store, "sealed", 120).await, Ok(false), "they were replaced");
        assert_eq!(begin(&store, "other", 114).await, Ok(true));
    });
}

fn console_confirmation_is_counted_once(open: &dyn Fn() -> Store) {
    let (store, other) = (open(), open());
    wait(&store, async {
        store.add_console_session(session("a", None)).await.unwrap();
        let count = |earlier| store.count_console_confirmation("a", earlier);
        assert_eq!(
            [count(1).await, count(0).await, count(0).await],
            [Ok(false), Ok(true), Ok(false)]
        );
        assert_eq!(other.count_console_confirmation("a", 0).await, Ok(false), "on another server");
        assert_eq!(other.count_console_confirmation("b", 0).await, Ok(false));
        assert_eq!(count(1).await, Ok(true));
        let counted = StoredConsoleSession { confirmations: 2, ..session("a", None) };
        assert!(store.console_session("a").await.unwrap().unwrap() == counted);
    });
}

fn logout(id: &str, subject: Option<&str>, session: Option<&str>) -> ProviderLogout {
    ProviderLogout {
        id: id.into(),
        until: UnixTime(100),
        section: "auth_jwt_idp".into(),
        subject: subject.map(str::to_owned),
        session: session.map(str::to_owned),
    }
}

fn logout_token_ends_the_sessions_it_names(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        let sessions = [("local", None), ("a", Some("x")), ("b", Some("y")), ("c", Some("y"))];
        for (id, provider_session) in sessions {
            store.add_console_session(session(id, provider_session)).await.unwrap();
        }
        let unnamed =
            StoredConsoleSession { provider_session: None, ..session("d", Some("unnamed")) };
        store.add_console_session(unnamed).await.unwrap();
        let ended = async |logout| {
            let ended = store.end_provider_sessions(logout).await.unwrap().unwrap();
            assert!(ended.iter().all(|subject| subject == "subject"), "{ended:?}");
            ended.len()
        };
        assert_eq!(ended(logout("1", Some("other"), None)).await, 0);
        assert_eq!(ended(logout("2", None, None)).await, 0);
        assert_eq!(ended(logout("3", Some("other"), Some("y"))).await, 0);
        let elsewhere =
            ProviderLogout { section: "auth_jwt_x".into(), ..logout("4", Some("subject"), None) };
        assert_eq!(ended(elsewhere).await, 0);
        assert_eq!(ended(logout("5", None, Some("y"))).await, 2);
        assert_eq!(ended(logout("6", Some("subject"), Some("z"))).await, 1, "without a session");
        assert_eq!(ended(logout("7", Some("subject"), None)).await, 1);
        assert!(store.console_session("local").await.unwrap().is_some());
    });
}

fn logout_token_is_used_once(open: &dyn Fn() -> Store) {
    let (store, other) = (open(), open());
    wait(&store, async {
        let token = |id| logout(id, Some("subject"), None);
        assert_eq!(store.end_provider_sessions(token("a")).await, Ok(Some(Vec::new())));
        store.add_console_session(session("s", Some("x"))).await.unwrap();
        assert_eq!(other.end_provider_sessions(token("a")).await, Ok(None));
        assert_eq!(other.subjects_of_logout(token("a")).await, Ok(None));
        assert!(store.console_session("s").await.unwrap().is_some());
        let expected = Ok(Some(vec!["subject".to_owned()]));
        for _ in 0..2 {
            assert_eq!(other.subjects_of_logout(token("b")).await, expected, "nothing ends");
        }
        let of_session = logout("b", None, Some("x"));
        assert_eq!(other.subjects_of_logout(of_session).await, expected);
        let elsewhere = logout("b", None, Some("y"));
        assert_eq!(other.subjects_of_logout(elsewhere).await, Ok(Some(Vec::new())));
        assert_eq!(other.end_provider_sessions(token("b")).await, expected);
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
