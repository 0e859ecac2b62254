use std::fs;

use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{ConsoleBrowser, serve, signed_in};
use crate::fixture::{self, KEY, claims, good_token, now, token};

over_every_protocol!(
    token_is_inspected_check_by_check,
    damaged_token_has_the_place_of_the_damage,
    inspected_token_shows_no_markup,
    request_of_a_token_is_decided_by_routes,
    request_of_a_tenant_is_decided_by_its_tenant,
);

const PATH: &str = "/console/inspect";

/// Inspects a token, with these further fields of the form.
#[track_caller]
fn inspect(browser: &mut ConsoleBrowser, token: &str, fields: &[(&str, &str)]) -> String {
    let page = browser.post(PATH, &[&[("token", token)], fields].concat());
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")), "{page:?}");
    page.body
}

#[track_caller]
fn contains(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part} in {page}");
    }
}

fn token_is_inspected_check_by_check(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    contains(&browser.page(PATH), &["name=\"token\"", "It is not stored, not logged"]);
    let token_of = |changes| token(&claims(changes));
    let good = inspect(&mut browser, &format!("Bearer {}\n", good_token()), &[]);
    let source = "[auth_jwt_default]</a> issuer = https://localhost:8888/, in ";
    contains(
        &good,
        &[
            "✓ The rules of its issuer accept this token.",
            "✓ signature",
            source,
            "server.cfg:",
            "[auth_jwt_default]</a> key = (not shown), in ",
        ],
    );
    for part in ["header", "payload", "signature"] {
        contains(&good, &[&format!("<span class=\"part\" data-part=\"{part}\">")]);
    }
    assert!(!good.contains('✗') && !good.contains(KEY), "{good}");
    let times = json!({ "exp": now() - 180, "iat": now() - 7200 });
    let expired = inspect(&mut browser, &token_of(times), &[]);
    contains(
        &expired,
        &[
            "<code>expired</code>",
            "✗ expiry time (exp)",
            "✓ signature",
            ">3 minutes ago<",
            "issued <time",
        ],
    );
    let other = inspect(&mut browser, &token_of(json!({ "iss": "https://other/" })), &[]);
    contains(
        &other,
        &["<code>issuer_unknown</code>", "https://localhost:8888/", "&quot;https://other/&quot;"],
    );
    let (head, signature) = good_token().rsplit_once('.').map(owned).unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let forged = inspect(&mut browser, &forged, &[]);
    contains(&forged, &["✗ signature", "anyone could have written them"]);
    let audience = inspect(&mut browser, &token_of(json!({ "aud": "other", "nbf": 1 })), &[]);
    contains(&audience, &["✗ audience", "✓ start time (nbf)", "✓ expiry time (exp)"]);
}

fn owned((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

fn damaged_token_has_the_place_of_the_damage(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    for (token, expected) in [
        ("e30.e30", "It has 2 parts"),
        ("e30.e+0.c2ln", "The payload has '+' at position 6"),
        ("hello", "not a token that can be read"),
        (&"a".repeat(17_000), "It has 17000 bytes; the longest token has 16384."),
        (
            "eyJhbGciOiJIUzI1NiJ9.WzFd.c2ln",
            "The payload, decoded, is not a JSON object: unexpected value at line 1",
        ),
    ] {
        contains(&inspect(&mut browser, token, &[]), &[expected]);
    }
    assert_eq!(browser.post(PATH, &[("token", &"a".repeat(80_000))]).status, 413);
}

fn inspected_token_shows_no_markup(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    const MARKUP: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}";
    let changes = json!({ "sub": MARKUP, MARKUP: MARKUP, "aud": MARKUP, "iss": MARKUP });
    let header = json!({ "alg": "HS256", "kid": MARKUP, "typ": MARKUP, MARKUP: MARKUP });
    let fields =
        [("target", MARKUP), ("environment", MARKUP), ("method", MARKUP), ("place", MARKUP)];
    let issuer = json!({ "iss": fixture::ISSUER });
    for token in [
        fixture::token_with_header(&header, &claims(changes.clone())),
        token(&{
            let mut claims = claims(changes);
            claims["iss"] = issuer["iss"].clone();
            claims
        }),
        MARKUP.to_owned(),
    ] {
        let page = inspect(&mut browser, &token, &fields);
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    }
}

const ROUTES: &str = "[listen]\nauthorization=routes\nopen_paths=/static/*\n\
    [route_health]\nmatch=GET /healthz\npublic=true\n\
    [route_orders]\nmatch=GET /orders\nscopes=orders:read\n\
    [route_old]\nmatch=* /old/*\ndeny=true\n";

fn request_of_a_token_is_decided_by_routes(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, ROUTES);
    let mut browser = signed_in(&server);
    let reader = token(&claims(json!({ "scope": "orders:read" })));
    let expired = token(&claims(json!({ "exp": 1 })));
    for (token, target, expected) in [
        (&reader, "/orders?x=1", "✓ allowed: the token meets every requirement"),
        (&reader, "/orders", "[route_orders]</a>, 2 of 3: GET /orders"),
        (&good_token(), "/orders", "✗ denied: [route_orders] requires the scope orders:read (403)"),
        (&reader, "/old/x", "✗ denied: with any token: [route_old] denies every"),
        (&reader, "/other", "no route matches"),
        (&expired, "/orders", "✗ denied: the token is refused (expired)"),
        (&expired, "/healthz", "✓ allowed: the route is public"),
        (&expired, "/static/x", "✓ allowed: open_paths of the listener have it"),
        (&reader, "/a/../orders", "the path is ambiguous"),
        (&reader, "orders", "A path starts with a slash."),
    ] {
        let fields = [("place", "main"), ("method", "GET"), ("target", target)];
        contains(&inspect(&mut browser, token, &fields), &[expected]);
    }
    let of_api = [("place", ""), ("method", "GET"), ("target", "/api/v2/user")];
    let allowed =
        inspect(&mut browser, &token(&claims(json!({ "urn:inmanta:ct": "api" }))), &of_api);
    contains(&allowed, &["GET /api/v2/user", "✓ allowed: the token allows the request"]);
    let agent = token(&claims(json!({ "urn:inmanta:ct": "agent" })));
    contains(
        &inspect(&mut browser, &agent, &of_api),
        &["✗ denied: ", "does not have a valid client type for this call"],
    );
}

fn request_of_a_tenant_is_decided_by_its_tenant(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "[listener_tenants]\nbind=127.0.0.1:0\nsurface=orchestrate\n\
                   authorization=routes\n[multi_tenancy]\nclaims_namespace=http://tenant.info/\n\
                   [route_acme]\nmatch=GET /acme\ntenants=acme\n";
    let server = serve(&sandbox, options);
    let mut browser = signed_in(&server);
    browser.page(PATH);
    let of_tenant =
        |tenant: &str| token(&claims(json!({ "http://tenant.info/": { "tenant_id": tenant } })));
    for (own, asked, expected) in [
        ("acme", "", "✓ allowed: the token meets every requirement"),
        ("*", "acme", "✓ allowed: the token meets every requirement"),
        ("*", "", "✗ denied: [route_acme] requires"),
        ("other", "", "✗ denied: [route_acme] requires"),
        ("acme", "other", "✗ denied: access to tenant &quot;other&quot; forbidden (401)"),
    ] {
        let fields =
            [("place", "tenants"), ("method", "GET"), ("target", "/acme"), ("tenant", asked)];
        contains(&inspect(&mut browser, &of_tenant(own), &fields), &[expected]);
    }
}

#[test]
fn inspected_token_is_neither_stored_nor_logged() {
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "trace");
    let server = serve(&sandbox, "[log]\nrequests=all\n");
    let mut browser = signed_in(&server);
    let secret = token(&claims(json!({ "sub": "only-in-the-inspected-token" })));
    let fields = [("place", ""), ("method", "GET"), ("target", "/api/v2/user")];
    contains(&inspect(&mut browser, &secret, &fields), &["only-in-the-inspected-token", "✓"]);
    let mut stored = server.log().into_bytes();
    drop(server);
    let files = fs::read_dir(sandbox.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.is_file()).for_each(|file| stored.extend(fs::read(file).unwrap()));
    let stored = String::from_utf8_lossy(&stored);
    assert!(stored.contains("/console/inspect") && stored.contains("SQLite format 3"));
    for part in secret.split('.').skip(1).chain(["only-in-the-inspected-token"]) {
        assert!(!stored.contains(part), "{part} is stored");
    }
}
