use std::thread;

use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{ConsoleBrowser, leads_to, query, serve, server_pages::machine, signed_in};
use crate::users::{Api, ENVIRONMENT, PASSWORD};

over_every_protocol!(
    changed_user_is_shown_again_with_the_differences,
    changed_method_is_shown_again,
    confirmation_is_used_once,
    one_of_concurrent_confirmations_counts,
    confirmation_is_that_of_its_page_and_session,
);

const DELETE: &str = "/console/danger/delete-user";
const DELETE_BOB: &str = "/console/danger/delete-user?user=bob";
const BOB: [(&str, &str); 2] = [("user", "bob"), ("typed", "bob")];
const REVOKE: &str = "/console/danger/revoke-subject";
const REVOKE_EVE: &str = "/console/danger/revoke-subject?section=auth_jwt_default&subject=eve";
const EVE: [(&str, &str); 3] =
    [("section", "auth_jwt_default"), ("subject", "eve"), ("typed", "eve")];
const REVOKED: &str = "/console/issuers?done=revoke#issuer-auth_jwt_default";
const CHANGED: &str = "It has changed since this page was opened: nothing was changed.";
const USED: &str = "This page was confirmed before, or another change was since";
const FOREIGN: &str = "The form is not that of this page: nothing was changed.";

/// Confirms the deletion of `bob`, which is refused because he has changed. Returns the page.
#[track_caller]
fn refused_deletion(browser: &mut ConsoleBrowser) -> String {
    let refused = browser.post(DELETE, &BOB);
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains(CHANGED), "{refused:?}");
    refused.body
}

fn changed_user_is_shown_again_with_the_differences(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    root.send("POST /role", json!({ "name": "noc" }));
    let mut browser = signed_in(&server);
    let role = json!({ "environment": ENVIRONMENT, "role": "noc" });
    let line = format!("bob loses 1 role: noc in {ENVIRONMENT}.");

    assert!(!browser.page(DELETE_BOB).contains("bob loses"));
    assert_eq!(root.send("POST /role_assignment/bob", role).status, 200);
    let page = refused_deletion(&mut browser);
    assert!(page.contains(&format!("<li>Now: {line}</li>")), "{page}");
    assert!(page.contains(&format!("<li>{line}</li>")), "{page}");
    let unassign = format!("DELETE /role_assignment/bob?environment={ENVIRONMENT}&role=noc");
    assert_eq!(root.ask(&unassign).status, 200);
    let page = refused_deletion(&mut browser);
    assert!(page.contains(&format!("<li>Not any more: {line}</li>")), "{page}");

    // What the page does not show counts, too.
    let password = json!({ "password": "another password" });
    assert_eq!(root.send("PATCH /user/bob/password", password).status, 200);
    assert!(!refused_deletion(&mut browser).contains("Now: "));
    let admin = json!({ "username": "bob", "is_admin": true });
    assert_eq!(root.send("PATCH /is_admin", admin).status, 200);
    refused_deletion(&mut browser);
    // Another user of the same name.
    assert_eq!(root.ask("DELETE /user/bob").status, 200);
    root.add_user("bob");
    refused_deletion(&mut browser);
    assert!(browser.page("/console/users").contains("<strong>bob</strong>"));
    leads_to(&browser.post(DELETE, &BOB), "/console/users?done=delete");

    // The only other administrator is gone.
    root.add_user("eve");
    root.send("PATCH /is_admin", json!({ "username": "eve", "is_admin": true }));
    let withdraw = "/console/danger/withdraw-admin";
    let only = "No other user is an administrator.";
    assert!(!browser.page(&format!("{withdraw}?user=ann")).contains(only));
    assert_eq!(root.ask("DELETE /user/eve").status, 200);
    let refused = browser.post(withdraw, &[("user", "ann"), ("typed", "ann")]);
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains(&format!("Now: {only}")), "{refused:?}");
}

fn changed_method_is_shown_again(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[identities]\nenabled=true\n");
    let mut browser = signed_in(&server);
    let (id, _) = machine(&server, "robot");
    let root = Api::root(&server);
    let path = format!("/api/v1/auth/universal-auth/identities/{id}");
    let detach = "/console/danger/detach-method";
    let fields = [("identity", &*id), ("method", "universal-auth"), ("typed", "robot")];
    browser.page(&format!("{detach}?identity={id}&method=universal-auth"));
    assert_eq!(root.send(&format!("POST {path}/client-secrets"), json!({})).status, 200);
    let refused = browser.post(detach, &fields);
    assert_eq!(refused.status, 409, "{refused:?}");
    for part in [
        CHANGED,
        "Now: 2 client secrets are deleted with it.",
        "Not any more: 1 client secret is deleted with it.",
    ] {
        assert!(refused.body.contains(part), "{part}: {refused:?}");
    }
    let terms = json!({ "accessTokenTTL": 60 });
    assert_eq!(root.send(&format!("PATCH {path}"), terms).status, 200);
    let refused = browser.post(detach, &fields);
    assert!(refused.status == 409 && refused.body.contains(CHANGED), "{refused:?}");
    let page = format!("/console/identities?id={id}&done=1");
    leads_to(&browser.post(detach, &fields), &page);
}

fn confirmation_is_used_once(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    Api::root(&server).add_user("bob");
    let mut browser = signed_in(&server);
    browser.page(REVOKE_EVE);
    leads_to(&browser.post(REVOKE, &EVE), REVOKED);
    // The browser sends the same form again.
    let again = browser.post(REVOKE, &EVE);
    assert_eq!(again.status, 409, "{again:?}");
    assert!(again.body.contains(USED), "{again:?}");
    // That page can be confirmed.
    leads_to(&browser.post(REVOKE, &EVE), REVOKED);
    let revoked = crate::audit::audit(&sandbox, &["--operation", "token.revoke"]);
    assert_eq!(revoked.len(), 2, "{revoked:?}");
    // A mistyped name does not use it up.
    browser.page(DELETE_BOB);
    let first = browser.shown.clone();
    assert_eq!(browser.post(DELETE, &[("user", "bob"), ("typed", "bo")]).status, 400);
    browser.shown = first;
    leads_to(&browser.post(DELETE, &BOB), "/console/users?done=delete");
}

fn one_of_concurrent_confirmations_counts(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    browser.page(REVOKE_EVE);
    let mut statuses: Vec<_> = thread::scope(|scope| {
        let tabs = (0..6).map(|_| {
            let mut tab = ConsoleBrowser::new(&server);
            (tab.cookie, tab.form_token, tab.shown) =
                (browser.cookie.clone(), browser.form_token.clone(), browser.shown.clone());
            scope.spawn(move || tab.post(REVOKE, &EVE).status)
        });
        let tabs: Vec<_> = tabs.collect();
        tabs.into_iter().map(|one| one.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 409, 409, 409, 409, 409]);
    let counted = query(&sandbox, "SELECT confirmations FROM countersign_console_session");
    assert_eq!(counted, "1");
}

fn confirmation_is_that_of_its_page_and_session(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    for name in ["bob", "bo"] {
        Api::root(&server).add_user(name);
    }
    let (mut browser, mut other) = (signed_in(&server), signed_in(&server));
    browser.page(DELETE_BOB);
    other.page(DELETE_BOB);
    let own = browser.shown.clone();
    let (text, tag) = own.split_once('.').unwrap();
    let forged = [
        String::new(),
        own[1..].to_owned(),
        format!("{text}."),
        format!("{text}.{}", tag.chars().rev().collect::<String>()),
        other.shown.clone(),
    ];
    for shown in forged {
        browser.shown = shown;
        let refused = browser.post(DELETE, &BOB);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains(FOREIGN), "{refused:?}");
    }
    // Of another user, and of another change.
    browser.shown.clone_from(&own);
    let refused = browser.post(DELETE, &[("user", "bo"), ("typed", "bo")]);
    assert!(refused.status == 400 && refused.body.contains(FOREIGN), "{refused:?}");
    let set = "/console/danger/set-password";
    let password = [("user", "bob"), ("typed", "bob"), ("password", PASSWORD)];
    browser.shown.clone_from(&own);
    let refused = browser.post(set, &password);
    assert!(refused.status == 400 && refused.body.contains(FOREIGN), "{refused:?}");
    browser.shown = own;
    leads_to(&browser.post(DELETE, &BOB), "/console/users?done=delete");
}
