use std::os::unix::net::UnixStream;

use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    http::{Connection, request},
    over_every_protocol,
};

use super::{ConsoleBrowser, leads_to, serve, signed_in};
use crate::{
    config::check,
    fixture::SIGNING,
    users::{PASSWORD, configuration},
};

over_every_protocol!(pages_have_restrictive_headers, assets_are_kept_until_they_change);

fn pages_have_restrictive_headers(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    let answers = [
        (200, browser.get("/console")),
        (200, browser.get("/console/sign-in")),
        (404, browser.get("/console/nothing")),
        (405, browser.get("/console/sign-out")),
        (303, browser.get("/")),
        (403, browser.post_from("/console/sign-out", &[], "Sec-Fetch-Site: cross-site\r\n")),
    ];
    for (status, answer) in answers {
        assert_eq!(answer.status, status, "{answer:?}");
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
    }
    assert_eq!(browser.get("/console/sign-out").header("allow"), Some("POST"));
}

fn assets_are_kept_until_they_change(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = ConsoleBrowser::new(&server);
    let page = browser.page("/console/sign-in");
    let mut size = page.len();
    let paths: Vec<_> =
        page.split('"').filter(|text| text.starts_with("/console/assets/")).collect();
    assert_eq!(paths.len(), 2, "{page}");
    for path in paths {
        let asset = browser.get(path);
        assert_eq!(asset.status, 200);
        let caching = asset.header("cache-control");
        assert_eq!(caching, Some("public, max-age=31536000, immutable"));
        assert_eq!(asset.header("x-content-type-options"), Some("nosniff"));
        size += asset.body.len();
    }
    assert!(size < 50 * 1024, "the first page has {size} bytes");
    assert_eq!(browser.get("/console/assets/0000000000000000.js").status, 404);
}

#[test]
fn console_is_on_the_listener_that_is_chosen() {
    let sandbox = Sandbox::new();
    let socket = sandbox.path().join("internal.sock");
    let other = format!("[listener_internal]\nbind=unix:{}\n", socket.display());
    let status = |options: &str| {
        let server = sandbox.serve(&configuration(&format!("{other}{options}")));
        let mut connection = Connection::over(UnixStream::connect(&socket).unwrap());
        connection.send("GET /console HTTP/1.1\r\n", b"");
        let by_socket = connection.receive(false).status;
        (server.request("GET /console HTTP/1.1\r\n").status, by_socket)
    };
    assert_eq!(status(""), (303, 404));
    assert_eq!(status("[console]\nlistener=internal\n"), (404, 303));
    assert_eq!(status("[console]\nlistener=off\n"), (404, 404));
    assert_eq!(status("[web-ui]\nconsole_enabled=false\n"), (404, 404));
}

#[test]
fn server_without_accounts_has_no_console() {
    let sandbox = Sandbox::new();
    let verify_only = SIGNING.replace("sign=true", "sign=false");
    let server = sandbox.serve(&verify_only);
    for path in ["/", "/console", "/console/sign-in"] {
        let answer = server.request(&format!("GET {path} HTTP/1.1\r\n"));
        assert_eq!((answer.status, &answer.json()["code"]), (404, &"not_found".into()));
    }
    let operations = request(server.metrics, "GET /console HTTP/1.1\r\n", b"");
    assert_eq!(operations.status, 404);
}

#[test]
fn console_on_an_impossible_listener_is_an_error() {
    let sandbox = Sandbox::new();
    for (options, message) in [
        ("[console]\nlistener=nowhere\n", "listener in console: \"nowhere\" cannot serve it"),
        (
            "[listener_edge]\nbind=127.0.0.1:0\nserves=auth\n[console]\nlistener=edge\n",
            "listener in console: \"edge\" cannot serve it",
        ),
        ("auth=false\n[console]\nlistener=main\n", "cannot be served with auth = false"),
        ("[console]\nlistner=off\n", "listner"),
    ] {
        let checked = check(&sandbox, "c.cfg", &format!("{SIGNING}[server]\n{options}"));
        assert_eq!(checked.code(), 2, "{checked:?}");
        assert!(checked.stderr.contains(message), "{checked:?}");
    }
}

#[test]
fn origin_behind_a_proxy_is_that_of_the_browser() {
    let fields = [("username", "ann"), ("password", PASSWORD)];
    let proxy = "X-Forwarded-Host: auth.example\r\nX-Forwarded-Proto: https\r\n";
    for (options, lines, origin, status) in [
        ("trusted_proxies=127.0.0.1", proxy, "https://auth.example", 303),
        ("trusted_proxies=127.0.0.1", proxy, "https://test", 403),
        ("trusted_proxies=127.0.0.1", proxy, "http://auth.example", 403),
        ("trusted_proxies=127.0.0.1", "", "http://test", 303),
        ("trusted_proxies=127.0.0.1\ndialect=x-forwarded", proxy, "https://auth.example", 303),
        ("trusted_proxies=10.0.0.1", proxy, "https://auth.example", 403),
    ] {
        let sandbox = Sandbox::new();
        let server = serve(&sandbox, &format!("[listen]\n{options}\n"));
        let lines = format!("{lines}Origin: {origin}\r\n");
        let mut browser = ConsoleBrowser::new(&server);
        let answer = browser.post_from("/console/sign-in", &fields, &lines);
        assert_eq!(answer.status, status, "{options} {lines}: {answer:?}");
    }
}

#[test]
fn cookie_without_tls_has_no_prefix() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[listen]\ntrusted_proxies=127.0.0.1\n");
    let mut browser = ConsoleBrowser::new(&server);
    let fields = [("username", "ann"), ("password", PASSWORD)];
    let mut cookie = |lines: &str| {
        let lines = format!("Sec-Fetch-Site: same-origin\r\n{lines}");
        let answer = browser.post_from("/console/sign-in", &fields, &lines);
        leads_to(&answer, "/console");
        answer.header("set-cookie").unwrap().to_owned()
    };
    let plain = cookie("");
    assert!(plain.starts_with("countersign-session=") && !plain.contains("Secure"), "{plain}");
    let behind_tls = cookie("X-Forwarded-Proto: https\r\n");
    assert!(behind_tls.starts_with("__Host-") && behind_tls.contains("; Secure"), "{behind_tls}");
    for path in ["/console", "/console/assets/none.js", "/v1/admin/docs"] {
        let transport_security = |lines: &str| {
            let answer = server.request(&format!("GET {path} HTTP/1.1\r\n{lines}"));
            answer.header("strict-transport-security").map(str::to_owned)
        };
        assert_eq!(transport_security(""), None);
        let behind_tls = transport_security("X-Forwarded-Proto: https\r\n");
        assert_eq!(behind_tls.as_deref(), Some("max-age=31536000"), "{path}");
    }
}
