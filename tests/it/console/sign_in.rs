use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};

use super::{ConsoleBrowser, leads_to, serve, signed_in};
use crate::{audit::audit_with, users::PASSWORD};

over_every_protocol!(
    sign_in_leads_to_the_requested_page,
    wrong_password_is_refused_as_by_the_api,
    forms_of_other_sites_are_refused,
    form_needs_the_token_of_its_session,
    sign_out_ends_the_session_and_its_token,
);

fn sign_in_leads_to_the_requested_page(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = ConsoleBrowser::new(&server);
    leads_to(&browser.get("/"), "/console");
    leads_to(&browser.get("/console"), "/console/sign-in?return=%2Fconsole");
    leads_to(
        &browser.get("/console/issuers?x=1"),
        "/console/sign-in?return=%2Fconsole%2Fissuers%3Fx%3D1",
    );
    let form = browser.page("/console/sign-in?return=%2Fconsole%2Fissuers");
    assert!(form.contains("name=\"return\" value=\"/console/issuers\""), "{form}");
    let fields = [("username", "ann"), ("password", PASSWORD), ("return", "/console/issuers")];
    let answer = browser.post("/console/sign-in", &fields);
    leads_to(&answer, "/console/issuers");
    let cookie = answer.header("set-cookie").unwrap();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Secure");
    let id = value.strip_prefix("__Host-countersign-session=").unwrap();
    assert_eq!(id.len(), 43, "256 random bits");
    for path in ["/console", "/console/issuers", "/console/users"] {
        let page = browser.page(path);
        assert!(page.contains("<span>ann</span>"), "{page}");
        assert!(!page.contains("eyJ") && !page.contains(id), "no token in the page: {page}");
    }
    let elsewhere =
        [("username", "ann"), ("password", PASSWORD), ("return", "//evil.example/console")];
    leads_to(&browser.post("/console/sign-in", &elsewhere), "/console");
}

fn wrong_password_is_refused_as_by_the_api(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[login]\nfailures_per_user=2\nlockout=200\n");
    let mut browser = ConsoleBrowser::new(&server);
    for username in ["ann", "<b>eve"] {
        for _ in 0..2 {
            let refused = browser.sign_in(username, "wrong");
            assert_eq!(refused.status, 401);
            assert_eq!(refused.header("set-cookie"), None);
            assert!(refused.body.contains("Invalid username or password"), "{refused:?}");
            assert!(!refused.body.contains("<b>eve"), "{refused:?}");
        }
        let locked = browser.sign_in(username, PASSWORD);
        assert_eq!(locked.status, 429);
        assert!(locked.header("retry-after").is_some(), "{locked:?}");
        let how_long = "Too many failed logins: try again in 4 minutes.";
        assert!(locked.body.contains(how_long), "{locked:?}");
    }
    let refused = audit_with(&sandbox, "login", 2);
    assert!(refused.iter().any(|event| event["target"]["user"] == "ann"), "{refused:?}");
    assert_eq!(server.metric("countersign_logins_total{outcome=\"wrong\"}"), 4);
}

fn forms_of_other_sites_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = ConsoleBrowser::new(&server);
    let fields = [("username", "ann"), ("password", PASSWORD)];
    for lines in [
        "",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://test\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: http://test\r\n",
        "Origin: null\r\n",
    ] {
        let refused = browser.post_from("/console/sign-in", &fields, lines);
        assert_eq!((refused.status, refused.header("set-cookie")), (403, None), "{lines}");
    }
    for lines in ["Origin: https://test\r\n", "Sec-Fetch-Site: same-origin\r\n"] {
        let answer = browser.post_from("/console/sign-in", &fields, lines);
        leads_to(&answer, "/console");
    }
}

fn form_needs_the_token_of_its_session(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let (mut browser, mut other) = (signed_in(&server), signed_in(&server));
    let user = [("username", "eve"), ("password", PASSWORD)];
    std::mem::swap(&mut browser.form_token, &mut other.form_token);
    assert_eq!(browser.post("/console/users/add", &user).status, 403);
    assert_eq!(browser.post("/console/sign-out", &[]).status, 403);
    browser.form_token = String::new();
    assert_eq!(browser.post("/console/users/add", &user).status, 403);
    browser.page("/console/users");
    leads_to(&browser.post("/console/users/add", &user), "/console/users?done=add");
}

fn sign_out_ends_the_session_and_its_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let (mut browser, mut other) = (signed_in(&server), signed_in(&server));
    let cookie = browser.cookie.clone();
    let out = browser.post("/console/sign-out", &[]);
    leads_to(&out, "/console/sign-in?out=1");
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"), "{out:?}");
    assert_eq!(browser.cookie, None);
    browser.cookie = cookie;
    leads_to(&browser.get("/console"), "/console/sign-in?return=%2Fconsole");
    other.page("/console");
    let revoked = "SELECT count(*) FROM countersign_renewal WHERE is_revoked = 1";
    assert_eq!(super::query(&sandbox, revoked), "1");
    let sessions = "SELECT count(*) FROM countersign_console_session";
    assert_eq!(super::query(&sandbox, sessions), "1");
}
