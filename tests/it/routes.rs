//! `[routes]`, `[route_<name>]` and `open_paths`: mistakes, the report of `config check`, and
//! `countersign routes explain`.

use countersign_tests::binary::{Output, Sandbox};
use serde_json::json;

use crate::{
    config::check,
    fixture::{SIGNING, claims, token},
};

/// Checks a `.cfg` with these lines of a rule after [`SIGNING`], and returns the output.
fn check_rule(lines: &str) -> Output {
    check(&Sandbox::new(), "c.cfg", &format!("[route_a]\n{lines}\n{SIGNING}"))
}

#[test]
fn mistakes_of_routes_have_place_and_remedy() {
    for (lines, place, expected) in [
        ("public=true", 1, "match is required in route_a section"),
        ("match=", 2, "match is required in route_a section"),
        ("match=/a", 2, "write methods and a path, such as GET /api/orders/*"),
        ("match=GET a", 2, "a path starts with /"),
        ("match=GET /a b", 2, "write methods and a path"),
        ("match=get /a", 2, "is not a method: write it in capitals"),
        ("match=GET| /a", 2, "is not a method"),
        ("match=GET /a?b=c", 2, "a pattern has no query"),
        ("match=GET /a//b", 2, "refused as ambiguous: it has an empty segment (//)"),
        ("match=GET /../a", 2, "refused as ambiguous: it has a segment . or .."),
        ("match=GET /a%2fb", 2, "refused as ambiguous: it has an encoded slash (%2F)"),
        ("match=GET /a*/b", 2, "is not a segment"),
        ("match=GET /a/**", 2, "is not a segment"),
        ("match=GET /{}/b", 2, "is not a segment"),
        ("match=GET /a{id}", 2, "is not a segment"),
        ("match=GET /<id", 2, "is not a segment"),
        ("match=GET /a\nscopes=", 3, "scopes in route_a is empty"),
        ("match=GET /a\nroles=", 3, "roles in route_a is empty"),
        ("match=GET /a\nroles=a,,b", 3, "contains an empty role"),
        ("match=GET /a\nscopes=a b", 3, "\"a b\" in route_a is not a scope"),
        ("match=GET /a\nclaims=groups in admins", 3, "\"groups in admins\" is not a condition"),
        ("match=GET /a\nclaims=a is 'b", 3, "a quotation mark has no end"),
        ("match=GET /a\nissuers=google", 3, "write the name of an auth_jwt section: default"),
        ("match=GET /a\nclient_types=robot", 3, "invalid client_type \"robot\" in route_a"),
        ("match=GET /a\ndeny=perhaps", 3, "Not a boolean: perhaps"),
        ("match=GET /a\npublic=true\nscopes=a", 3, "public and scopes in route_a exclude"),
        ("match=GET /a\ndeny=true\nclaims=a is b", 3, "deny and claims in route_a exclude"),
        ("match=GET /a\ndeny=true\npublic=true", 3, "deny and public in route_a exclude"),
        ("match=GET /a\ndeny=true\nanonymous=true", 3, "deny and anonymous in route_a exclude"),
        ("match=GET /a\npublic=true\nanonymous=true", 3, "public and anonymous in route_a exclude"),
    ] {
        let output = check_rule(lines);
        assert_eq!(output.code(), 2, "{lines}: {output:?}");
        let line = output.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(line.contains(&format!("c.cfg:{place}: ")), "{lines}: {line}");
        assert!(output.stderr.contains(expected), "{lines}: {}", output.stderr);
        assert!(output.stderr.contains("\n  help: "), "{lines}: {}", output.stderr);
    }
    let other = |text: &str| check(&Sandbox::new(), "c.cfg", text);
    for (text, expected) in [
        ("[listen]\nopen_paths=healthz\n", "c.cfg:2: open_paths in listen: \"healthz\""),
        ("[listen]\nopen_paths=/a/../b\n", "refused as ambiguous"),
        ("[routes]\ndefault=maybe\n", "choose one of deny, allow"),
        ("[routes]\nroles_claim=\n", "c.cfg:2: roles_claim in routes is empty"),
        ("[route_]\nmatch=GET /\n", "the route of [route_] has no name"),
        ("[route_a]\nmatch=GET /\nscope=a\n", "did you mean scopes?"),
    ] {
        let output = other(text);
        assert!(output.stderr.contains(expected), "{text}: {output:?}");
    }
    let scopes: String =
        (0..1025).map(|one| format!("[route_{one}]\nmatch=GET /{one}\nscopes=s{one}\n")).collect();
    let output = other(&scopes);
    assert!(
        output.code() == 2 && output.stderr.contains("more than 1024 conditions"),
        "{output:?}"
    );
}

#[test]
fn pattern_that_never_matches_is_a_warning() {
    let warned = |rules: &[&str]| {
        let section = |(number, patterns)| format!("[route_{number}]\nmatch={patterns}\n");
        let text: String = rules.iter().enumerate().map(section).collect();
        let output = check(&Sandbox::new(), "c.cfg", &format!("{text}{LISTEN}"));
        assert_eq!(output.code(), 0, "{output:?}");
        output.stderr
    };
    for rules in [
        &["* /*", "GET /a"][..],
        &["GET /a/*", "GET /a/b/{c}"],
        &["GET|POST /{x}/b", "POST /a/b"],
        &["GET /a", "POST|PUT /a", "GET|PUT /a"],
        &["GET /a/*", "HEAD /a/"],
        &["GET /a/*", "GET /a/*"],
    ] {
        let last = rules.len() - 1;
        let place = format!("c.cfg:{}: ", 2 * rules.len());
        let text = format!("{place}{} in route_{last} never matches: [route_", rules[last]);
        let stderr = warned(rules);
        assert!(stderr.contains(&text) && stderr.contains("decides about all"), "{stderr}");
        assert_eq!(stderr.matches("warning: ").count(), 1, "{stderr}");
    }
    for rules in [&["GET /a/*", "GET /a"][..], &["GET /Admin/*", "GET /admin/x"]] {
        let stderr = warned(rules);
        assert!(stderr.contains("denied as ambiguous\n  help: move [route_1] before"), "{stderr}");
    }
    for rules in [
        &["GET /a", "* /*"][..],
        &["GET /a", "POST /a", "PUT|GET /a"],
        &["GET /{x}", "GET /a/b", "GET /*"],
        &["GET /a/b", "GET /a/{x}"],
        &["GET /a/*, GET /a"],
        &["* /a/b/*", "GET /a/*"],
    ] {
        assert_eq!(warned(rules), "", "{rules:?}");
    }
}

/// A listener that asks the routes.
const LISTEN: &str = "[listen]\nauthorization=routes\ntrusted_proxies=127.0.0.1\ndialect=nginx\n";

#[test]
fn routes_that_no_listener_asks_are_a_warning() {
    let rule = "[route_a]\nmatch=GET /\n";
    let output = check(&Sandbox::new(), "c.cfg", rule);
    let text = "c.cfg:1: no listener has authorization = routes, so no route decides";
    assert!(output.code() == 0 && output.stderr.contains(text), "{output:?}");
    assert_eq!(check(&Sandbox::new(), "c.cfg", &format!("{rule}{LISTEN}")).stderr, "");
}

#[test]
fn listener_that_knows_no_requests_is_a_warning() {
    let checked = |listen: &str| {
        let text = format!("{SIGNING}[listen]\nauthorization=legacy\n{listen}\n");
        check(&Sandbox::new(), "c.cfg", &text).stdout
    };
    for (listen, severity, text) in [
        ("", "warning", "listener main trusts no proxy to describe requests, so it denies all"),
        ("trusted_proxies=10.0.0.1", "warning", "listener main has no dialect, so it denies all"),
        (
            "trusted_proxies=10.0.0.1\nprotocols=h2",
            "note",
            "listener main has no dialect, so it denies all requests that are checked over HTTP",
        ),
        // For modules in proxies, which know their own requests.
        (
            "[feed]\nsocket=/run/feed.sock",
            "note",
            "listener main trusts no proxy to describe requests, so it denies all",
        ),
    ] {
        let output = checked(listen);
        let line = output.lines().find(|line| line.contains(text)).unwrap_or_default();
        assert!(line.starts_with(severity), "{listen}: {output}");
    }
    let complete = checked("trusted_proxies=10.0.0.1\ndialect=nginx");
    assert!(!complete.contains("so it denies all"), "{complete}");
}

const ROUTES: &str = "\
[listen]
authorization=routes
trusted_proxies=127.0.0.1
dialect=nginx
open_paths=/static/*
[routes]
roles_claim=realm_access.roles
[route_health]
match=GET /healthz
public=true
[route_orders]
match=GET /orders, GET /orders/*
scopes=orders:read
roles=admin, ops
[route_groups]
match=* /groups/{id}
claims=groups has staff or email is 'a b@c'
issuers=default
client_types=api
anonymous=true
[route_old]
match=GET|POST /old/*
deny=true
";

#[test]
fn config_check_prints_the_routes_in_their_order() {
    let output = check(&Sandbox::new(), "c.cfg", &format!("{ROUTES}{SIGNING}"));
    assert!(
        output.stdout.contains("  routes, of which the first that matches a request decides:\n")
    );
    let listener =
        "    authorizes requests by routes\n    needs no token for GET and HEAD of /static/*\n";
    assert!(output.stdout.contains(listener), "{}", output.stdout);
    let rows: Vec<_> = output.text().lines().filter(|line| line.contains("  allows ")).collect();
    assert_eq!(
        rows,
        [
            "    [route_health]  GET /healthz                allows every request",
            "    [route_orders]  GET /orders, GET /orders/*  allows a token with the scope \
             orders:read and one of the roles admin, ops in realm_access.roles",
            "    [route_groups]  * /groups/{id}              allows no token, or a token with \
             groups has staff or email is a b@c and the issuer default and the client type api",
            "    [route_old]     GET|POST /old/*             allows no request",
            "    otherwise                                   allows no request",
        ]
    );
}

#[test]
fn conditions_on_rights_here_need_an_issuer_that_administers() {
    let rule = "[route_a]\nmatch=GET /\nclaims=urn:inmanta:is_admin is true\n";
    let noted = |line: &str| {
        let idp = format!(
            "[auth_jwt_idp]\nalgorithms=ES256\nissuer=https://idp/\naudience=a\n\
             jwks_uri=https://idp/keys\n{line}\n"
        );
        let output = check(&Sandbox::new(), "c.cfg", &format!("{SIGNING}{idp}{rule}"));
        let text = "conditions on urn:inmanta:is_admin never hold for tokens of [auth_jwt_idp]";
        output.text().matches(text).count()
    };
    assert_eq!(noted(""), 1);
    assert_eq!(noted("administers=true"), 0);
}

#[test]
fn explanation_of_a_route_names_what_decides() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", format!("{ROUTES}{SIGNING}"));
    let config = config.to_str().unwrap();
    let explain = |request: [&str; 2], token: Option<&str>| {
        let mut arguments = vec!["routes", "explain", request[0], request[1]];
        arguments.extend(token.iter().flat_map(|token| ["--token", token]));
        arguments.extend(["--config", config]);
        let output = sandbox.run(arguments);
        assert!(!output.stdout.contains("secret@example"), "no value of a claim: {output:?}");
        (output.code(), output.stdout)
    };
    let with = |changes| token(&claims(changes));
    let admin = with(json!({
        "scope": "orders:read", "realm_access": { "roles": ["admin"] }, "email": "secret@example",
    }));
    let (scope, email) = (with(json!({ "scope": "orders:read" })), with(json!({ "email": "x" })));
    for (request, token, code, expected) in [
        (
            ["GET", "/healthz"],
            None,
            0,
            &["[route_health], 1 of 4", "allowed: the route is public"][..],
        ),
        (["GET", "/orders/7"], None, 1, &["denied: the request has no token (401)"]),
        (
            ["GET", "/orders/%37"],
            Some(&*admin),
            0,
            &[
                "path      /orders/7",
                "[route_orders], 2 of 4: GET /orders, GET /orders/*",
                "met       the scope orders:read",
                "met       one of the roles admin, ops in realm_access.roles",
                "allowed: the token meets every requirement",
            ],
        ),
        (
            ["GET", "/orders"],
            Some(&scope),
            1,
            &[
                "met       the scope orders:read",
                "not met   one of the roles admin, ops in realm_access.roles",
                "denied: [route_orders] requires one of the roles admin, ops in realm_access.roles \
                 (403)",
            ],
        ),
        (["GET", "/orders"], Some("a.b.c"), 1, &["denied: the token is refused (base64)"]),
        (["PUT", "/groups/x"], None, 0, &["allowed: the route needs no token"]),
        (
            ["PUT", "/groups/x"],
            Some(&email),
            1,
            &["not met   groups has staff or email is a b@c", "met       the issuer default"],
        ),
        (["GET", "/old/x"], Some(&admin), 1, &["denied, with any token: [route_old] denies every"]),
        (
            ["GET", "/Orders"],
            Some(&admin),
            1,
            &["denied, with any token: the request is ambiguous"],
        ),
        (["GET", "/a/../orders"], None, 1, &["the path is ambiguous: it has a segment . or .."]),
        (["GET", "/static/x"], None, 0, &["allowed: open_paths of the listener main"]),
        (["POST", "/static/x"], None, 1, &["no route matches"]),
    ] {
        let (found, stdout) = explain(request, token);
        assert_eq!(found, code, "{request:?}: {stdout}");
        for words in expected {
            assert!(stdout.contains(words), "{request:?}: {words:?} is not in {stdout}");
        }
    }
    let output = sandbox.run_with_input(
        ["routes", "explain", "GET", "/orders", "--token", "-", "--config", config],
        &admin,
    );
    assert_eq!(output.code(), 0, "{output:?}");
}

#[test]
fn explanation_is_about_one_listener() {
    let sandbox = Sandbox::new();
    let two = format!(
        "{ROUTES}{SIGNING}[listener_b]\nbind=127.0.0.1:0\nauthorization=routes\n\
         [listener_c]\nbind=127.0.0.1:0\nauthorization=legacy\n"
    );
    sandbox.file("c.cfg", two);
    let explain = |path: &str, listener: &[&str]| {
        let arguments = ["routes", "explain", "GET", path, "--config", "c.cfg"];
        sandbox.run(arguments.iter().chain(listener))
    };
    let differing = explain("/static/x", &[]);
    assert_eq!(differing.code(), 1);
    assert!(differing.stderr.contains("choose one with --listener: main, b"), "{differing:?}");
    assert_eq!(explain("/static/x", &["--listener", "main"]).code(), 0);
    let other = explain("/static/x", &["--listener", "b"]);
    assert!(other.code() == 1 && other.stdout.contains("no route matches"), "{other:?}");
    assert_eq!(explain("/healthz", &[]).code(), 0);
    for (name, expected) in [("c", "does not ask the routes"), ("d", "no listener is named d")] {
        let output = explain("/healthz", &["--listener", name]);
        assert!(output.code() == 1 && output.stderr.contains(expected), "{output:?}");
    }
}
