use countersign_tests::{binary::Sandbox, client::Protocol, eventually, over_every_protocol};

use super::{ConsoleBrowser, database, leads_to, query, serve, signed_in};
use crate::users::{Api, PASSWORD};

over_every_protocol!(
    session_ends_when_it_is_idle_and_at_its_maximum,
    session_ends_with_the_sessions_of_its_user,
    updates_of_a_page_do_not_extend_a_session,
    login_token_of_a_session_is_renewed,
);

const SIGN_IN: &str = "/console/sign-in?return=%2Fconsole";

fn session_ends_when_it_is_idle_and_at_its_maximum(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[console]\nsession_idle=600\nsession_max=3600\n");
    for (ended, current) in [("used_at", 500), ("created_at", 3500)] {
        let mut browser = signed_in(&server);
        let later = |seconds: u32| {
            let statement =
                format!("UPDATE countersign_console_session SET {ended} = {ended} - {seconds}");
            query(&sandbox, &statement);
        };
        later(current);
        browser.page("/console");
        let used = "SELECT strftime('%s', 'now') - used_at < 60 FROM countersign_console_session";
        assert_eq!(query(&sandbox, used), "1", "the request is noted");
        later(3601);
        leads_to(&browser.get("/console"), SIGN_IN);
        assert_eq!(query(&sandbox, "SELECT count(*) FROM countersign_console_session"), "0");
    }
}

fn session_ends_with_the_sessions_of_its_user(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    let mut browser = signed_in(&server);
    assert_eq!(root.ask("DELETE /user/ann").status, 200);
    leads_to(&browser.get("/console"), SIGN_IN);
    assert_eq!(browser.get("/console/overview/live").status, 401);
}

fn updates_of_a_page_do_not_extend_a_session(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[console]\nsession_idle=600\n");
    let mut browser = signed_in(&server);
    query(&sandbox, "UPDATE countersign_console_session SET used_at = used_at - 300");
    let used = || query(&sandbox, "SELECT used_at FROM countersign_console_session");
    let before = used();
    assert_eq!(browser.get("/console/overview/live").status, 200);
    assert_eq!(used(), before);
    browser.page("/console");
    assert_ne!(used(), before);
}

fn login_token_of_a_session_is_renewed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "login_session_expire=6\n");
    let mut browser = signed_in(&server);
    let sealed = || query(&sandbox, "SELECT sealed FROM countersign_console_session");
    let before = sealed();
    eventually(|| {
        browser.page("/console");
        sealed() != before
    });
    browser.page("/console");
}

#[test]
fn database_has_no_credential_of_a_session() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut browser = ConsoleBrowser::new(&server);
    browser.sign_in("ann", PASSWORD);
    let cookie = browser.cookie.clone().unwrap();
    let (name, id) = cookie.split_once('=').unwrap();
    assert_eq!(name, "countersign-session", "without TLS");
    browser.page("/console");
    let file =
        String::from_utf8_lossy(&std::fs::read(database(sandbox.path())).unwrap()).into_owned();
    let journal = std::fs::read(sandbox.path().join("users.db-wal")).unwrap_or_default();
    let stored = file + &String::from_utf8_lossy(&journal);
    assert!(stored.contains("ann") && !stored.contains(id) && !stored.contains("eyJ"));
    assert!(!server.log().contains(id));
    query(&sandbox, "UPDATE countersign_console_session SET sealed = 'AAAA' || sealed");
    leads_to(&browser.get("/console"), SIGN_IN);
}
