use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};

use super::{leads_to, query, serve, signed_in};
use crate::users::{Api, ENVIRONMENT, PASSWORD};

over_every_protocol!(
    refused_call_is_shown_with_its_reason,
    page_without_its_table_says_so,
    form_of_an_ended_session_gets_a_page,
);

const UNAVAILABLE: &str = "The database does not answer.";

fn refused_call_is_shown_with_its_reason(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "[identities]\nenabled=true\n");
    let mut browser = signed_in(&server);
    let missing = "/console/identities?id=11111111-1111-1111-1111-111111111111";
    for (path, status, title, reason) in [
        (missing, 404, "No longer there", "Failed to find identity with ID 11111111"),
        ("/console/identities?offset=5000000000", 422, "Not accepted", "offset: "),
    ] {
        let page = browser.get(path);
        assert_eq!((page.status, page.header("retry-after")), (status, None), "{page:?}");
        assert!(page.body.contains(title) && page.body.contains(reason), "{page:?}");
        assert!(!page.body.contains(UNAVAILABLE), "{page:?}");
    }
    let user = [("username", "ann"), ("password", PASSWORD)];
    browser.page("/console/users");
    let twice = browser.post("/console/users/add", &user);
    assert_eq!(twice.status, 409, "{twice:?}");
    assert!(twice.body.contains("A user with name ann already exists."), "{twice:?}");
}

fn page_without_its_table_says_so(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    Api::root(&server).add_environment(ENVIRONMENT);
    let mut browser = signed_in(&server);
    query(&sandbox, "ALTER TABLE countersign_environment RENAME TO away");
    for path in ["/console/tokens", "/console/users"] {
        let page = browser.get(path);
        assert_eq!((page.status, page.header("retry-after")), (503, Some("5")), "{page:?}");
        let reason = "This cannot be done now: the database does not answer";
        assert!(page.body.contains(reason), "{page:?}");
        assert!(page.body.contains("The log of the server has the reason."), "{page:?}");
    }
    query(&sandbox, "ALTER TABLE away RENAME TO countersign_environment");
    browser.page("/console/tokens");
}

fn form_of_an_ended_session_gets_a_page(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    query(&sandbox, "DELETE FROM countersign_console_session");
    let user = [("username", "bob"), ("password", PASSWORD)];
    let ended = browser.post("/console/users/add", &user);
    assert_eq!((ended.status, ended.header("location")), (401, None), "{ended:?}");
    assert!(ended.body.contains("<a class=\"button\" href=\"/console/sign-in\">"), "{ended:?}");
    assert!(ended.body.contains("Nothing was changed."), "{ended:?}");
    leads_to(&browser.get("/console/users"), "/console/sign-in?return=%2Fconsole%2Fusers");
}
