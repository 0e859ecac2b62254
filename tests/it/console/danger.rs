use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    over_every_protocol,
};
use serde_json::json;

use super::{
    ConsoleBrowser, leads_to, policy::by_policy, query, serve, server_pages::machine, signed_in,
};
use crate::{
    audit::audit,
    fixture,
    users::{Api, ENVIRONMENT, PASSWORD, session_of},
};

over_every_protocol!(
    deletion_asks_for_the_password_and_the_name,
    rights_and_passwords_of_others_are_changed,
    tokens_of_a_subject_are_revoked,
    methods_of_an_identity_are_detached,
    access_is_given_after_a_recent_sign_in,
    dangerous_changes_need_rights,
);

const DELETE: &str = "/console/danger/delete-user";

/// Makes the last sign-in of all sessions too old for a dangerous change.
fn age_sign_in(sandbox: &Sandbox) {
    let age = "UPDATE countersign_console_session SET authenticated_at = authenticated_at - 301";
    query(sandbox, age);
}

/// Opens the page of a change, and confirms it with this name.
#[track_caller]
fn confirm(browser: &mut ConsoleBrowser, address: &str, name: &str, done: &str) {
    browser.page(address);
    let (path, targets) = address.split_once('?').unwrap();
    let targets = targets.split('&').map(|pair| pair.split_once('=').unwrap());
    let fields: Vec<_> = targets.chain([("typed", name)]).collect();
    leads_to(&browser.post(path, &fields), done);
}

fn deletion_asks_for_the_password_and_the_name(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    root.send("POST /role", json!({ "name": "operator" }));
    root.send(
        "POST /role_assignment/bob",
        json!({ "environment": ENVIRONMENT, "role": "operator" }),
    );
    let mut browser = signed_in(&server);
    age_sign_in(&sandbox);
    let address = format!("{DELETE}?user=bob");
    assert!(browser.page("/console/users").contains(&format!("href=\"{address}\"")));
    let deletion = [("user", "bob"), ("typed", "bob")];
    let asked = "/console/confirm?return=%2Fconsole%2Fdanger%2Fdelete%2Duser%3Fuser%3Dbob";
    leads_to(&browser.get(&address), asked);
    leads_to(&browser.post(DELETE, &deletion), asked);
    let question = browser.page(asked);
    assert!(question.contains(&format!("name=\"return\" value=\"{address}\"")), "{question}");
    let password = |password| [("password", password), ("return", &*address)];
    assert_eq!(browser.post("/console/confirm", &password("wrong")).status, 401);
    leads_to(&browser.post(DELETE, &deletion), asked);
    leads_to(&browser.post("/console/confirm", &password(PASSWORD)), &address);
    let page = browser.page(&address);
    for part in
        ["All sessions of bob end at once", "bob loses 1 role: operator in ", "cannot be undone"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
    for typed in ["", "bo", "ann"] {
        let refused = browser.post(DELETE, &[("user", "bob"), ("typed", typed)]);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains("nothing was changed"), "{refused:?}");
    }
    assert!(browser.page("/console/users").contains("<strong>bob</strong>"));
    confirm(&mut browser, &address, "bob", "/console/users?done=delete");
    assert!(!browser.page("/console/users").contains("<strong>bob</strong>"));
    let gone = browser.get(&address);
    assert_eq!(gone.status, 404, "{gone:?}");
    assert!(gone.body.contains("No user has the name bob."), "{gone:?}");
    assert_eq!(browser.get("/console/danger/other?user=bob").status, 404);
}

fn rights_and_passwords_of_others_are_changed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    Api::root(&server).add_user("b\"<b>&b");
    let mut browser = signed_in(&server);
    let (name, encoded) = ("b\"<b>&b", "b%22%3Cb%3E%26b");
    let grant = format!("/console/danger/grant-admin?user={encoded}");
    assert!(browser.page("/console/users").contains(&grant));
    let page = browser.page(&grant);
    assert!(page.contains("b&quot;&lt;b&gt;&amp;b may change everything"), "{page}");
    let granted = [("user", name), ("typed", name)];
    let done = browser.post("/console/danger/grant-admin", &granted);
    leads_to(&done, "/console/users?done=admin");
    let users = browser.page("/console/users");
    assert!(users.contains(&format!("/console/danger/withdraw-admin?user={encoded}")), "{users}");
    let mut other = ConsoleBrowser::new(&server);
    assert_eq!(other.sign_in(name, PASSWORD).status, 303);
    let set = "/console/danger/set-password";
    let password = |password| [("user", name), ("typed", name), ("password", password)];
    browser.page(&format!("{set}?user={encoded}"));
    let short = browser.post(set, &password("x"));
    assert_eq!(short.status, 400, "{short:?}");
    assert!(short.body.contains("at least 8 characters"), "{short:?}");
    leads_to(&browser.post(set, &password("another password")), "/console/users?done=password");
    leads_to(&other.get("/console"), "/console/sign-in?return=%2Fconsole");
    assert_eq!(other.sign_in(name, PASSWORD).status, 401);
    assert_eq!(other.sign_in(name, "another password").status, 303);
    // One's own needs the current one, and ends the session.
    let own = browser.page(&format!("{set}?user=ann"));
    assert!(own.contains("It is your own account") && own.contains("name=\"current\""), "{own}");
    let fields = |current| {
        [("user", "ann"), ("typed", "ann"), ("password", "another password"), ("current", current)]
    };
    let wrong = browser.post(set, &fields("wrong password"));
    assert_eq!(wrong.status, 401, "{wrong:?}");
    assert!(wrong.body.contains("The current password is incorrect"), "{wrong:?}");
    leads_to(&browser.post(set, &fields(PASSWORD)), "/console/users?done=password");
    assert_eq!(browser.get("/console").status, 303);
    let operations = ["user.admin", "user.password"];
    for operation in operations {
        let events = audit(&sandbox, &["--operation", operation]);
        assert!(events.iter().any(|one| one["by"]["user"] == "ann"), "{operation} {events:?}");
    }
}

fn tokens_of_a_subject_are_revoked(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    let [bob, eve] = ["bob", "eve"].map(|name| session_of(name, false));
    assert_eq!([server.auth(&bob).status, server.auth(&eve).status], [200, 200]);
    let form = browser.page("/console/issuers");
    assert!(form.contains("action=\"/console/danger/revoke-subject\""), "{form}");
    let address = "/console/danger/revoke-subject?section=auth_jwt_default&subject=bob";
    let page = browser.page(address);
    assert!(page.contains(fixture::ISSUER), "the issuer is named: {page}");
    let done = "/console/issuers?done=revoke#issuer-auth_jwt_default";
    confirm(&mut browser, address, "bob", done);
    assert_eq!([server.auth(&bob).status, server.auth(&eve).status], [401, 200]);
    let events = audit(&sandbox, &["--operation", "token.revoke"]);
    let found = (&events[0]["by"]["user"], &events[0]["target"]["user"], &events[0]["outcome"]);
    assert_eq!(found, (&json!("ann"), &json!("bob"), &json!("done")), "{events:?}");
    for (section, subject, status) in [("other", "bob", 404), ("auth_jwt_default", "", 400)] {
        let address = format!("/console/danger/revoke-subject?section={section}&subject={subject}");
        assert_eq!(browser.get(&address).status, status, "{address}");
    }
}

fn methods_of_an_identity_are_detached(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[identities]\nenabled=true\n");
    let mut browser = signed_in(&server);
    let (id, secret) = machine(&server, "robot");
    let log_in = |status| {
        let client = Api::root(&server)
            .ask(&format!("GET /api/v1/auth/universal-auth/identities/{id}"))
            .json()["identityUniversalAuth"]["clientId"]
            .take();
        let login = json!({ "clientId": client, "clientSecret": secret });
        let answer = Api::anonymous(&server).send("POST /api/v1/auth/universal-auth/login", login);
        assert_eq!(answer.status, status, "{answer:?}");
        answer.json()["accessToken"].as_str().unwrap_or_default().to_owned()
    };
    let page = format!("/console/identities?id={id}");
    let token = log_in(200);
    // It is for other addresses than that of the test.
    assert_eq!(server.auth(&token).status, 403);
    let shown = browser.page(&page);
    let link =
        shown.split("href=\"").find(|rest| rest.starts_with("/console/danger/revoke-secret"));
    let link = link.unwrap().split('"').next().unwrap().replace("&amp;", "&").replace("%2D", "-");
    confirm(&mut browser, &link, "robot", &format!("{page}&done=1"));
    assert_eq!(server.auth(&token).status, 401);
    log_in(401);
    let detach = format!("/console/danger/detach-method?identity={id}&method=universal-auth");
    assert!(browser.page(&detach).contains("1 client secret is deleted with it."));
    confirm(&mut browser, &detach, "robot", &format!("{page}&done=1"));
    assert!(browser.page(&page).contains("The identity cannot log in"));
    let delete = format!("/console/danger/delete-identity?identity={id}");
    confirm(&mut browser, &delete, "robot", "/console/identities?done=delete");
    assert_eq!(browser.get(&page).status, 404);
    for address in [
        "/console/danger/delete-identity?identity=..%2F..%2Fx".to_owned(),
        format!("/console/danger/detach-method?identity={id}&method=other"),
        format!("/console/danger/revoke-secret?identity={id}&secret=x"),
    ] {
        assert_eq!(browser.get(&address).status, 404, "{address}");
    }
}

fn access_is_given_after_a_recent_sign_in(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    Api::root(&server).add_environment(ENVIRONMENT);
    let mut browser = signed_in(&server);
    browser.page("/console/users");
    age_sign_in(&sandbox);
    let user = [("username", "bob"), ("password", PASSWORD)];
    let role = [("username", "ann"), ("environment", ENVIRONMENT), ("role", "operator")];
    let token = [("environment", ENVIRONMENT), ("api", "on")];
    for (path, fields, page) in [
        ("/console/users/add", &user[..], "users"),
        ("/console/users/assign", &role, "users"),
        ("/console/users/unassign", &role, "users"),
        ("/console/tokens/create", &token, "tokens"),
    ] {
        let asked = browser.post(path, fields);
        leads_to(&asked, &format!("/console/confirm?return=%2Fconsole%2F{page}"));
    }
    assert!(!browser.page("/console/users").contains("<strong>bob</strong>"));
    let revoked = browser.post("/console/tokens/revoke", &token);
    assert_eq!(revoked.status, 404, "a token is revoked at once: {revoked:?}");
    // As in the session of a provider that reports no time.
    query(&sandbox, "UPDATE countersign_console_session SET authenticated_at = 0");
    leads_to(&browser.post("/console/users/add", &user), "/console/users?done=add");
    assert_eq!(browser.get("/console/danger/delete-user?user=bob").status, 303);
}

fn dangerous_changes_need_rights(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &format!("{}[identities]\nenabled=true\n", by_policy()));
    Api::root(&server).add_user("bob");
    let mut bob = ConsoleBrowser::new(&server);
    assert_eq!(bob.sign_in("bob", PASSWORD).status, 303);
    bob.page("/console/confirm");
    let id = machine(&server, "robot").0;
    for (path, fields) in [
        (DELETE, &[("user", "ann"), ("typed", "ann")][..]),
        ("/console/danger/grant-admin", &[("user", "bob"), ("typed", "bob")]),
        (
            "/console/danger/revoke-subject",
            &[("section", "auth_jwt_default"), ("subject", "ann"), ("typed", "ann")],
        ),
        ("/console/danger/delete-identity", &[("identity", &id), ("typed", "robot")]),
    ] {
        let refused = bob.post(path, fields);
        assert_eq!(refused.status, 403, "{path}: {refused:?}");
        let other = bob.post_from(path, fields, "Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(other.status, 403, "{path}: {other:?}");
    }
    assert_still_there(&server);
    // The page is refused, too, before a question for the password, and also if nothing has the
    // name.
    for is_recent in [true, false] {
        for target in [
            "delete-user?user=ann",
            "delete-user?user=nemo",
            "set-password?user=ann",
            "grant-admin?user=bob",
            "withdraw-admin?user=ann",
            "revoke-subject?section=auth_jwt_default&subject=ann",
            "revoke-subject?section=nothing&subject=ann",
            &format!("delete-identity?identity={id}"),
            &format!("detach-method?identity={id}&method=universal-auth"),
            "delete-identity?identity=11111111-1111-1111-1111-111111111111",
        ] {
            let page = bob.get(&format!("/console/danger/{target}"));
            assert_eq!(page.status, 403, "{target}: {page:?}");
            assert!(page.body.contains("<h1>Not allowed</h1>"), "{target}: {page:?}");
            assert!(!page.body.contains("class=\"danger\""), "{target}: {page:?}");
        }
        if is_recent {
            // One's own password is one's own right.
            let own = bob.page("/console/danger/set-password?user=bob");
            assert!(own.contains("class=\"danger\""), "{own}");
            age_sign_in(&sandbox);
        }
    }
}

#[track_caller]
fn assert_still_there(server: &Server<'_>) {
    let users = Api::root(server).ask("GET /user").json();
    let users: Vec<_> = users["data"].as_array().unwrap().iter().collect();
    assert_eq!(users.len(), 2, "{users:?}");
    assert!(users.iter().all(|one| (one["username"] == "ann") == (one["is_admin"] == true)));
}
