//! The response to a refused request, with `satisfy` and `error_page` of nginx.

use super::{
    super::module_proxy::{ModuleProxy, bearer},
    start,
};
use crate::fixture;

/// Returns the status of a response, and the number of its challenges and of its lines that keep it
/// out of caches.
fn refusal(nginx: &ModuleProxy, target: &str, lines: &str) -> (u16, usize, usize) {
    let (response, _) = nginx.get(target, lines);
    let count = |name: &str| response.headers.iter().filter(|line| line.0 == name).count();
    (response.status, count("www-authenticate"), count("cache-control"))
}

#[test]
fn nginx_refusal_is_not_cached_with_satisfy_any() {
    let nginx = start(
        fixture::SIGNING,
        "countersign_check on;
        satisfy any;
        location /refused { deny all; proxy_pass http://APPLICATION; }
        location /local { allow 127.0.0.0/8; deny all; proxy_pass http://APPLICATION; }
        location /basic { auth_basic realm; auth_basic_user_file users; proxy_pass http://APPLICATION; }",
    );
    nginx.sandbox.file("users", "bob:{PLAIN}secret\n");
    let good = bearer(&fixture::good_token());
    for (target, lines, expected) in [
        ("/refused", "", (401, 1, 1)),
        ("/refused", &*bearer("abc"), (401, 1, 1)),
        ("/refused", &good, (200, 0, 0)),
        // Another module has allowed it.
        ("/local", "", (200, 0, 0)),
        ("/local", &bearer("abc"), (200, 0, 0)),
        // Both modules challenge the client.
        ("/basic", "", (401, 2, 1)),
        ("/basic", "Authorization: Basic Ym9iOnNlY3JldA==\r\n", (200, 0, 0)),
    ] {
        assert_eq!(refusal(&nginx, target, lines), expected, "{target} {lines}");
    }
}

#[test]
fn nginx_error_page_has_no_line_twice() {
    let nginx = start(
        fixture::SIGNING,
        "location / {
            countersign_check on; error_page 401 /page.html; proxy_pass http://APPLICATION;
        }
        location /open {
            countersign_check on; error_page 401 /off/page.html; proxy_pass http://APPLICATION;
        }
        location /off/ { countersign_check off; return 200 page; }",
    );
    let (response, _) = nginx.get("/x", "");
    assert_eq!(response.status, 401);
    // The page is checked, too, and refused.
    assert_eq!(refusal(&nginx, "/x", ""), (401, 1, 1), "{response:?}");
    let (response, _) = nginx.get("/open", "");
    assert_eq!((response.status, &*response.body), (401, "page"));
    assert_eq!(refusal(&nginx, "/open", ""), (401, 1, 1));
}
