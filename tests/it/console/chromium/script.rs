use countersign_tests::{binary::Sandbox, client::Protocol, eventually};
use serde_json::json;

use super::ChromiumOperator;
use crate::{
    console::{query, serve},
    users::{Api, ENVIRONMENT},
};

#[test]
fn keys_open_pages_and_the_filter() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    Api::root(&server).add_user("bob");
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console");
    operator.sign_in("ann");
    browser.press("gu");
    eventually(|| browser.url().ends_with("/console/users"));
    browser.press("/bob");
    let rows = "return [...document.querySelectorAll('tbody tr')]
        .filter((row) => row.offsetParent).map((row) => row.cells[0].innerText)";
    eventually(|| browser.script(rows) == json!(["bob"]));
    browser.script("document.activeElement.blur()");
    browser.press("?");
    eventually(|| browser.script("return document.getElementById('keys').open") == true);
}

#[test]
fn arrow_keys_move_between_rows() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    ["bob", "cid"].into_iter().for_each(|name| root.add_user(name));
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console/users");
    operator.sign_in("ann");
    browser.click("th:first-child a");
    eventually(|| browser.url().ends_with("/console/users?sort=user"));
    let focused = "const row = document.activeElement.closest('tbody tr');
        return row && row.cells[0].innerText";
    // Keys of WebDriver (section 17.4.2).
    let [enter, end, home, up, down] = ["\u{e007}", "\u{e010}", "\u{e011}", "\u{e013}", "\u{e015}"];
    browser.press("/");
    for (key, expected) in
        [(down, "ann"), (down, "bob"), (end, "cid"), (down, "cid"), (up, "bob"), (home, "ann")]
    {
        browser.press(key);
        assert_eq!(browser.script(focused), expected, "{key:?}");
    }
    let reached = "return document.querySelectorAll('tbody tr[tabindex=\"0\"]').length";
    assert_eq!(browser.script(reached), 1, "one row is reached by Tab");
    browser.press(enter);
    let is_open = "return document.activeElement.querySelector('details').open";
    assert_eq!(browser.script(is_open), true);
}

#[test]
fn command_of_a_form_has_its_fields() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    Api::root(&server).add_environment(ENVIRONMENT);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console/tokens");
    operator.sign_in("ann");
    let command =
        || browser.script("return document.querySelector('[data-command-of]').textContent");
    let expected =
        |flags: &str| format!("countersign token create --environment {ENVIRONMENT}{flags}");
    assert_eq!(command(), expected(" --api"));
    browser.click("[name=agent]");
    browser.click("[name=api]");
    assert_eq!(command(), expected(" --agent"));
    browser.type_into("[name=expire]", "60");
    assert_eq!(command(), expected(" --agent --expire 60"));
    browser.type_into("[name=expire]", "m; x");
    assert_eq!(command(), expected(" --agent"));
}

#[test]
fn open_overview_shows_new_refusals_and_changes() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console");
    operator.sign_in("ann");
    assert!(operator.text().contains("No request was refused."), "{}", operator.text());
    let focus = "document.querySelector('[data-block=changes] tbody tr').focus()";
    browser.script(focus);
    for _ in 0..25 {
        assert_eq!(server.request("GET /auth HTTP/1.1\r\n").status, 401);
    }
    (0..10).for_each(|_| assert_eq!(server.auth("a.b.c").status, 401));
    Api::root(&server).add_user("bob");
    let rows = "return [...document.querySelectorAll('[data-block=reasons] tbody tr')]
        .map((row) => [row.cells[0].innerText, row.cells[2].innerText])";
    let counts = || browser.script(rows);
    eventually(|| counts()[0] == json!(["the request has no token", "25"]));
    eventually(|| counts()[1][1] == "10");
    eventually(|| browser.text("[data-block=changes]").contains("user.add bob"));
    assert!(browser.text(".sentence").contains("most: the request has no token"));
    let focused = "return document.activeElement.closest('[data-block=changes] tbody tr') !== null";
    assert_eq!(browser.script(focused), true, "the focus stays");
    // A new row is reached by keys, too.
    browser.press("\u{e015}");
    let index = "return document.activeElement.sectionRowIndex";
    assert_eq!(browser.script(index), 1);
}

#[test]
fn times_are_local_with_utc_beside() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    Api::root(&server).add_environment(ENVIRONMENT);
    Api::root(&server).issue(ENVIRONMENT);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    browser.command("Emulation.setTimezoneOverride", &json!({ "timezoneId": "Asia/Kolkata" }));
    operator.open("/console/tokens");
    operator.sign_in("ann");
    let has_both = "const time = new Date(document.querySelector('main time').dateTime);
        const hour = (at) => at.toISOString().slice(11, 19);
        const local = new Date(time.getTime() + 330 * 60 * 1000);
        return shown.includes(hour(time) + ' UTC)') && shown.includes(hour(local))";
    for (path, shown) in [
        ("/console/tokens", "time.utc"),
        ("/console/audit", "time + .exact"),
        ("/console", "[data-block=changes] time + .exact"),
    ] {
        operator.open(path);
        let shown = format!("const shown = document.querySelector('{shown}').textContent;");
        let script = format!("{shown} {has_both}");
        assert_eq!(browser.script(&script), true, "{path}: {}", operator.text());
    }
}

#[test]
fn overview_shows_five_rows_until_all_are_wanted() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    for index in 0..8 {
        Api::root(&server).add_user(&format!("u{index}"));
    }
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console");
    operator.sign_in("ann");
    let rows = "return [...document.querySelectorAll('[data-block=changes] tbody tr')]
        .filter((row) => row.checkVisibility()).length";
    assert_eq!(browser.script(rows), 5);
    browser.click("section:has([data-block=changes]) summary");
    assert_eq!(browser.script(rows), 10);
    let refused = "return document.querySelector('#refused-requests details').checkVisibility()";
    assert_eq!(browser.script(refused), false, "a short table has no further rows");
}

/// The server hangs, or the network loses what it answers.
#[test]
fn overview_without_answers_is_marked_as_stale() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    operator.open("/console");
    operator.sign_in("ann");
    let is_stale = || {
        let hidden = "return document.querySelector('.stale').hidden";
        operator.browser.script(hidden) == json!(false)
    };
    assert!(!is_stale());
    server.signal("STOP");
    eventually(is_stale);
    server.signal("CONT");
    eventually(|| !is_stale());
}

#[test]
fn idle_overview_stays_signed_out() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console");
    operator.sign_in("ann");
    query(&sandbox, "DELETE FROM countersign_console_session");
    eventually(|| operator.text().contains("You are signed out. Reload the page to sign in."));
    assert!(browser.url().ends_with("/console"), "{}", browser.url());
    let polls = "let polls = 0;
        window.fetch = () => { polls += 1; return Promise.reject(); };
        document.dispatchEvent(new Event('visibilitychange'));
        return polls";
    assert_eq!(browser.script(polls), 0, "the page asks for nothing");
    assert_eq!(query(&sandbox, "SELECT count(*) FROM countersign_console_session"), "0");
}
