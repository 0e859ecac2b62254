//! Paths that need no token, and connections that become WebSockets.

use countersign_tests::{http::Connection, proxies::WEBSOCKET};
use serde_json::json;

use super::{
    super::world::{World, bearer, good, good_but},
    IDENTITY, assert_identity_and_request,
};

/// A masked text frame, as a client sends it, and bytes of any length.
const FRAMES: [&[u8]; 2] = [b"\x81\x85\x01\x02\x03\x04igohn", &[0xa5; 70_000]];

pub(super) fn websocket_needs_a_good_token(world: &mut World<'_>) {
    let exchange = world.get(&format!("{WEBSOCKET}{}", bearer(&good())));
    assert_eq!(exchange.answer.status, 101, "{:?}", exchange.answer);
    assert_identity_and_request(world, &exchange, "WebSocket");
    assert_eq!(exchange.given().lines("upgrade"), ["websocket"]);
    assert_eq!(exchange.given().lines("connection").len(), 1, "{:?}", exchange.given());

    let mut connection = Connection::open(world.address);
    let head = "GET /page?x=1 HTTP/1.1\r\nHost: shop.example\r\n";
    connection.send_raw(format!("{head}{WEBSOCKET}{}\r\n", bearer(&good())).as_bytes());
    let answer = connection.receive(false);
    assert_eq!(
        (answer.status, answer.header("upgrade"), answer.header("sec-websocket-accept")),
        (101, Some("websocket"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        "{answer:?}"
    );
    for frame in FRAMES {
        connection.send_raw(frame);
        assert!(connection.receive_bytes(frame.len()) == frame, "{} bytes", frame.len());
    }

    // A public path needs no token for it, and the identity headers are removed.
    let public = world.send(&format!(
        "GET /public/socket HTTP/1.1\r\nHost: shop.example\r\n{WEBSOCKET}X-Auth-User: root\r\n\r\n"
    ));
    assert_eq!(public.answer.status, 101, "{:?}", public.answer);
    assert_eq!(public.given().lines("upgrade"), ["websocket"]);
    assert!(!format!("{:?}", public.given()).contains("root"), "{:?}", public.given());

    for lines in [
        String::new(),
        bearer(&good_but(json!({ "exp": 1 }))),
        bearer(&world.issuer.forged(0)),
        format!("{}{}", bearer(&good()), bearer("abc")),
    ] {
        let refused = world.get(&format!("{WEBSOCKET}{lines}"));
        assert!([400, 401].contains(&refused.answer.status), "{:?}", refused.answer);
        assert!(refused.seen.is_empty(), "{:?}", refused.seen);
    }
}

pub(super) fn e2_public_path_clears_identity_headers(world: &mut World<'_>) {
    for between in "-_.!#$%&'*+^`|~".chars() {
        let lines: String = IDENTITY
            .iter()
            .map(|(name, _)| name.replace('-', &between.to_string()))
            .chain([format!("X-Auth{between}User"), format!("x{between}auth-user")])
            .map(|name| format!("{name}: root\r\n"))
            .collect();
        let override_headers = "X-Original-URL: root\r\nX-HTTP-Method-Override: root\r\n";
        let exchange = world.send(&format!(
            "GET /public/page.html?x=1 HTTP/1.1\r\nHost: shop.example\r\n{lines}{override_headers}\r\n"
        ));
        if exchange.answer.status == 400 {
            exchange.assert_refused(400);
            continue;
        }
        assert_eq!(exchange.answer.status, 200, "{between}: {:?}", exchange.answer);
        assert_eq!(exchange.given().target, "/public/page.html?x=1");
        assert!(
            !format!("{:?}", exchange.given()).contains("root"),
            "{between}: {:?}",
            exchange.given()
        );
        assert!(exchange.asked.is_empty(), "{:?}", exchange.asked);
    }
}

/// What a proxy takes for a public path, the application takes for one, too.
pub(super) fn e7_public_path_is_what_the_application_gets(world: &mut World<'_>) {
    let mut passed = 0;
    for target in [
        "/public",
        "/public/",
        "/public/a/b.txt",
        "/public/a?/../b",
        "/public/../page",
        "/public/./../page",
        "/public/%2e%2e/page",
        "/public/..%2fpage",
        "/public/..%5cpage",
        "/public/..\\page",
        "/public/..;/page",
        "/public/%2e%2e%2fpage",
        "/public/%252e%252e/page",
        "/public//../page",
        "/public/a%2f..%2f..%2fpage",
        "/page/..%2fpublic/a",
        "/page/../public/a",
        "/page/%2e%2e/public/a",
        "//public/a",
        "/public%2fa",
        "/%70ublic/a",
        "/public\\a",
        "/public;x/a",
        "/publicity",
        "/public.a",
        "/PUBLIC/a",
        "/public/a%0a?x",
        "/public%0a",
        "/page?/public/a",
        "/page#/public/a",
        "/page%3f/public/a",
        "/page%00/public/a",
        "http://shop.example/public/a",
        "http://shop.example/public/../page",
    ] {
        let exchange = world.send(&format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        let status = exchange.answer.status;
        if status == 200 {
            passed += 1;
            let given = &exchange.given().target;
            let path = given.split('?').next().unwrap();
            let is_plain =
                path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.".contains(&byte));
            assert!(
                (path == "/public" || path.starts_with("/public/"))
                    && is_plain
                    && !path.contains("/.")
                    && !path.contains("//"),
                "{target} is {given}"
            );
        } else {
            assert!((300..500).contains(&status), "{target}: {:?}", exchange.answer);
            exchange.assert_refused(status);
        }
    }
    assert!(passed >= 4, "only {passed} targets were forwarded");
}

/// Denied is 403, whichever proxy asks, and the rules see what the application would get.
pub(super) fn routes_decide_about_the_client_request(world: &mut World<'_>) {
    world.switch_to_routed();
    let admin = bearer(&good_but(json!({ "roles": ["admin"] })));
    let user = bearer(&good());
    let send = |world: &World<'_>, line: &str, token: &str| {
        let forged = "X-Forwarded-Uri: /page\r\nX-Original-URI: /page\r\nX-Auth-User: root\r\n";
        world.send(&format!("{line} HTTP/1.1\r\nHost: shop.example\r\n{forged}{token}\r\n"))
    };
    for (line, token, status) in [
        ("GET /page?x=/admin/", &user, 200),
        ("POST /page", &user, 200),
        ("PUT /page", &user, 403),
        ("DELETE /page/7", &user, 200),
        ("DELETE /page/7/8", &user, 403),
        ("GET /other", &admin, 403),
        ("GET /admin/users", &user, 403),
        ("GET /admin/users", &admin, 200),
        ("GET /%61dmin/users", &user, 403),
        ("GET /Admin/users", &admin, 403),
        ("GET /page", &String::new(), 401),
    ] {
        let exchange = send(world, line, token);
        assert_eq!(exchange.answer.status, status, "{line}: {:?}", exchange.answer);
        assert_eq!(exchange.seen.len(), usize::from(status == 200), "{line}");
    }
    let public = send(world, "GET /open/page", "Authorization: Bearer abc\r\n");
    assert_eq!(public.answer.status, 200, "{:?}", public.answer);
    assert!(!format!("{:?}", public.given().lines("x-auth-user")).contains("root"));
    // A proxy may normalize such a path, refuse it, or pass it on: it is never more than /page.
    for path in
        ["/page/../admin/users", "/page/%2e%2e/admin/users", "//admin/users", "/admin;x/users"]
    {
        let exchange = send(world, &format!("GET {path}"), &user);
        assert!(exchange.seen.is_empty(), "{path}: {:?}", exchange.seen);
    }
}
