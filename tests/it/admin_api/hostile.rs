use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{AdminApi, assert_problem, etag};
use crate::users::{Api, ENVIRONMENT, OTHER, PASSWORD, configuration};

over_every_protocol!(
    cursors_are_accepted_by_their_list_only,
    limits_are_whole_numbers_within_bounds,
    other_methods_are_answered_with_those_of_the_path,
    preconditions_that_are_not_taken_are_refused,
    odd_paths_and_bodies_are_refused,
);

fn cursors_are_accepted_by_their_list_only(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let (api, root) = (AdminApi::root(&server), Api::root(&server));
    for environment in [ENVIRONMENT, OTHER] {
        root.add_environment(environment);
        root.issue(environment);
        root.issue(environment);
    }
    for name in ["a", "b"] {
        assert_eq!(api.send("POST /roles", json!({ "name": name })).status, 201);
        root.add_user(name);
    }
    let tokens = |environment: &str| format!("/environments/{environment}/tokens");
    let lists = [
        "/roles".to_owned(),
        "/users".into(),
        "/audit-events".into(),
        "/configuration".into(),
        tokens(ENVIRONMENT),
        tokens(OTHER),
    ];
    let cursors = lists.each_ref().map(|list| {
        let next = api.get(&format!("{list}?limit=1"))["next"].take();
        next.as_str().unwrap().split_once("after=").unwrap().1.to_owned()
    });
    for (index, list) in lists.iter().enumerate() {
        for (of, cursor) in cursors.iter().enumerate() {
            let answer = api.ask(&format!("GET {list}?after={cursor}"));
            if of == index {
                assert_eq!(answer.status, 200, "{answer:?}");
            } else {
                let problem = assert_problem(&answer, 400, "invalid_request");
                assert_eq!(problem["parameter"], "after");
            }
        }
    }
    for cursor in ["", "%00", "AAAA", "%2A", &"A".repeat(6000)] {
        for list in ["/revocations", "/identities", "/audit-events", "/issuers", "/servers"] {
            let answer = api.ask(&format!("GET {list}?after={cursor}"));
            assert_problem(&answer, 400, "invalid_request");
        }
    }
}

fn limits_are_whole_numbers_within_bounds(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for list in ["/users", "/audit-events", "/revocations"] {
        for limit in
            ["0", "201", "-1", "%2B5", "1.0", "1e1", "18446744073709551617", "", "%20", "x"]
        {
            let answer = api.ask(&format!("GET {list}?limit={limit}"));
            let problem = assert_problem(&answer, 400, "invalid_request");
            assert_eq!(problem["parameter"], "limit");
        }
        assert_eq!(api.ask(&format!("GET {list}?limit=200")).status, 200);
    }
}

fn other_methods_are_answered_with_those_of_the_path(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for (path, allowed) in [
        ("/users", "GET, HEAD, POST"),
        ("/users/bob", "GET, HEAD, PATCH, DELETE"),
        ("/users/bob/password", "PUT"),
        ("/docs", "GET, HEAD"),
        ("/issuers/x/refresh", "POST"),
    ] {
        for method in ["PUT", "OPTIONS", "TRACE", "PROPFIND", "get"] {
            if allowed.split(", ").any(|one| one == method) {
                continue;
            }
            let answer = api.ask(&format!("{method} {path}"));
            assert_problem(&answer, 405, "method_not_allowed");
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let head = api.ask("HEAD /users");
    assert_eq!((head.status, &*head.body), (200, ""), "{head:?}");
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert_eq!(api.ask("HEAD /users/nemo").status, 404);
    assert_eq!(api.ask("HEAD /issuers/x/refresh").status, 405);
}

fn preconditions_that_are_not_taken_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let bob = json!({ "username": "bob", "password": PASSWORD }).to_string();
    let refused = api.call("POST /users", "If-Match: *\r\n", &bob);
    assert_eq!(assert_problem(&refused, 400, "invalid_request")["parameter"], "If-Match");
    let refused = api.call("POST /users", "If-None-Match: *\r\n", &bob);
    assert_eq!(assert_problem(&refused, 400, "invalid_request")["parameter"], "If-None-Match");
    assert_eq!(api.get("/users")["items"], json!([]), "nothing was added");
    let tag = etag(&api.call("POST /users", "", &bob));
    let patch = |lines: &str| api.call("PATCH /users/bob", lines, "{\"is_admin\":true}").status;
    for malformed in ["bob", "\"a", "*, \"a\"", "\"a\" \"b\"", ",", &tag.replace('"', "")] {
        assert_eq!(patch(&format!("If-Match: {malformed}\r\n")), 400, "{malformed}");
    }
    assert_eq!(patch(&format!("If-Match: {tag}\r\nIf-Match: *\r\n")), 400, "two lines");
    assert_eq!(patch(&format!("If-Match: W/{tag}\r\n")), 412, "a weak tag never matches");
    assert_eq!(patch("If-Match: \"a\"\r\nIf-Match: \"b\"\r\n"), 412);
    assert_eq!(etag(&api.ask("GET /users/bob")), tag, "nothing was changed");
    assert_eq!(patch(&format!("If-Match: \"a\"\r\nIf-Match: {tag}, \"b\"\r\n")), 200);
    assert_eq!(patch("If-Match: *\r\n"), 200);
    assert_eq!(api.call("GET /users/bob", "If-None-Match: *\r\n", "").status, 304);
    assert_eq!(api.call("GET /users/bob", "If-None-Match: \"a\r\n", "").status, 200);
    // Also where a refusal of the change itself is a conflict.
    assert_eq!(api.call("POST /roles", "", "{\"name\":\"kept\"}").status, 201);
    let malformed = api.call("DELETE /roles/kept", "If-Match: abc\r\n", "");
    assert_problem(&malformed, 400, "invalid_request");
    let missing = api.call("PATCH /users/eve", "If-Match: *\r\n", "{\"is_admin\":true}");
    assert_problem(&missing, 404, "not_found");
}

fn odd_paths_and_bodies_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for (path, status) in [
        ("/users/a%2Fb", 404),
        ("/users/%2e%2e", 404),
        ("/users/..", 404),
        ("/users/a%00b", 400),
        ("/users/%ff", 404),
        ("/users/%", 404),
        ("/users/", 404),
        ("//users", 404),
        ("/users%2Fbob", 404),
        ("/users;x=1", 404),
        ("/%75sers", 404),
        ("/environments/11111111111111111111111111111111/tokens", 404),
        ("/environments/x/tokens", 400),
        ("/environments/a%00/tokens", 400),
        ("/issuers/a%0Ab", 404),
    ] {
        let answer = api.ask(&format!("GET {path}"));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let bodies: [&[u8]; 7] = [
        b"{\"username\":\"\xff\",\"password\":\"correct horse\"}",
        b"\xef\xbb\xbf{\"username\":\"bob\",\"password\":\"correct horse\"}",
        b"{\"username\":\"b\\u0000b\",\"password\":\"correct horse\"}",
        b"{\"username\":\"\\ud800\",\"password\":\"correct horse\"}",
        b"{\"username\":\"bob\",\"password\":\"correct horse\"}{}",
        b"{\"username\":\"bob\",\"user\\u006eame\":\"eve\",\"password\":\"correct horse\"}",
        b"{\"username\":{\"a\":1,\"a\":2},\"password\":\"correct horse\"}",
    ];
    let head = format!("POST /v1/admin/users HTTP/1.1\r\nAuthorization: Bearer {}\r\n", api.token);
    for body in bodies {
        assert_problem(&server.send(&head, body), 400, "invalid_request");
    }
    assert_eq!(api.get("/users")["items"], json!([]));
}
