use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{AdminApi, assert_problem, etag};
use crate::users::{Api, ENVIRONMENT, PASSWORD, configuration};

over_every_protocol!(
    lists_have_pages_that_insertions_do_not_shift,
    changes_are_made_only_if_the_etag_matches,
    another_password_or_user_has_another_etag,
    unchanged_resources_are_answered_with_304,
    bodies_and_queries_are_read_strictly,
    mistake_of_a_value_is_named_with_its_place,
    refusal_of_an_argument_has_its_place,
);

fn lists_have_pages_that_insertions_do_not_shift(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let add = |name: &str| {
        let added = api.send("POST /roles", json!({ "name": name }));
        assert_eq!(added.status, 201, "{added:?}");
    };
    for index in 0..5 {
        add(&format!("r{index}"));
    }
    let first = api.get("/roles?limit=2");
    assert_eq!(first["items"], json!([{ "name": "r0" }, { "name": "r1" }]));
    let next = first["next"].as_str().unwrap();
    add("r00");
    add("r11");
    assert_eq!(api.ask("DELETE /roles/r1").status, 204);
    let (rest, pages) = api.pages(next);
    let names: Vec<_> = rest.iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!((&names[..], pages), (&["r11", "r2", "r3", "r4"][..], 2));
    assert_eq!(api.get("/roles?limit=200")["next"], json!(null));
    for query in ["limit=0", "limit=201", "limit=x", "limit=1&limit=1", "after=%21", "other=1"] {
        let refused = api.ask(&format!("GET /roles?{query}"));
        let problem = assert_problem(&refused, 400, "invalid_request");
        assert_eq!(problem["parameter"], query.split('=').next().unwrap());
    }
}

fn changes_are_made_only_if_the_etag_matches(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let added = api.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    let old = format!("If-Match: {}\r\n", etag(&added));
    let grant = |lines: &str| api.call("PATCH /users/bob", lines, "{\"is_admin\":true}");
    let changed = grant(&old);
    assert_eq!(changed.status, 200, "{changed:?}");
    let refused = grant(&old);
    assert_problem(&refused, 412, "changed");
    assert_problem(&api.call("DELETE /users/bob", &old, ""), 412, "changed");
    let password = json!({ "password": "another password" }).to_string();
    assert_problem(&api.call("PUT /users/bob/password", &old, &password), 412, "changed");
    assert_eq!(etag(&api.ask("GET /users/bob")), etag(&changed), "nothing was changed");
    let now = format!("If-Match: \"x\", {}\r\n", etag(&changed));
    assert_eq!(api.call("DELETE /users/bob", &now, "").status, 204);
    assert_problem(&api.call("DELETE /users/bob", &now, ""), 404, "not_found");
}

fn another_password_or_user_has_another_etag(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    Api::root(&server).add_environment(ENVIRONMENT);
    api.send("POST /roles", json!({ "name": "noc" }));
    let bob = json!({ "username": "bob", "password": PASSWORD });
    let old = etag(&api.send("POST /users", bob.clone()));
    let lines = |tag: &str| format!("If-Match: {tag}\r\n");
    let set = |tag: &str, password: &str| {
        let body = json!({ "password": password }).to_string();
        api.call("PUT /users/bob/password", &lines(tag), &body)
    };
    assert_eq!(set(&old, "second password").status, 204);
    assert_problem(&set(&old, "third password"), 412, "changed");
    assert_eq!(Api::anonymous(&server).log_in("bob", "second password").status, 200);
    let new = etag(&api.ask("GET /users/bob"));
    assert_eq!(etag(&api.ask("GET /users/bob")), new, "a sign-in is not a change");

    assert_eq!(api.ask("DELETE /users/bob").status, 204);
    let recreated = etag(&api.send("POST /users", bob));
    assert_eq!(api.get("/users/bob")["username"], "bob");
    let role = format!("PUT /users/bob/roles/{ENVIRONMENT}/noc");
    for tag in [&old, &new] {
        assert_ne!(*tag, recreated);
        assert_problem(&api.call("DELETE /users/bob", &lines(tag), ""), 412, "changed");
        assert_problem(&api.call(&role, &lines(tag), ""), 412, "changed");
    }
    assert_eq!(api.call(&role, &lines(&recreated), "").status, 204);
    assert_problem(&api.call(&role, &lines(&recreated), ""), 412, "changed");
}

fn unchanged_resources_are_answered_with_304(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let added = api.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    let known = format!("If-None-Match: {}\r\n", etag(&added));
    let same = api.call("GET /users/bob", &known, "");
    assert_eq!((same.status, &*same.body, etag(&same)), (304, "", etag(&added)));
    api.send("PATCH /users/bob", json!({ "is_admin": true }));
    let other = api.call("GET /users/bob", &known, "");
    assert_eq!((other.status, &other.json()["is_admin"]), (200, &json!(true)));
}

fn bodies_and_queries_are_read_strictly(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for (body, pointer) in [
        ("", ""),
        ("[]", ""),
        ("{\"username\":\"bob\"}", "/password"),
        ("{\"username\":7,\"password\":\"x\"}", "/username"),
        ("{\"username\":\"a\",\"username\":\"b\",\"password\":\"x\"}", "/username"),
        ("{\"username\":\"a\",\"password\":\"x\",\"a/b\":1}", "/a~1b"),
    ] {
        let problem = assert_problem(&api.call("POST /users", "", body), 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{body}");
    }
    assert_problem(&api.call("DELETE /users/bob", "", "{}"), 400, "invalid_request");
    assert_problem(&api.ask("DELETE /users/bob?force=true"), 400, "invalid_request");
    assert_problem(&api.ask("GET /users/b%00b"), 400, "invalid_request");
    let long = format!("{{\"username\":\"{}\"}}", "x".repeat(70_000));
    assert_problem(&api.call("POST /users", "", &long), 413, "body_too_large");
    let body = json!({ "name": "noc" }).to_string();
    let add = |lines: &str| api.call("POST /roles", lines, &body);
    assert_problem(&add("Content-Encoding: gzip\r\n"), 415, "compressed_body");
    assert_problem(&add("Content-Encoding: identity, gzip\r\n"), 415, "compressed_body");
    let form =
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: , Identity\r\n";
    assert_eq!(add(form).status, 201, "the type of the content is not looked at");
}

fn mistake_of_a_value_is_named_with_its_place(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    Api::root(&server).add_environment(ENVIRONMENT);
    let tokens = format!("POST /environments/{ENVIRONMENT}/tokens");
    let deep = format!("{{\"username\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for (call, body, pointer, mistake) in [
        ("POST /users", "{\"username\":\"\\ud800\"}", "/username", "surrogate pair"),
        ("POST /users", "{\"username\":\"a\",\"password\":\"\\udc00\"}", "/password", "surrogate"),
        (&tokens, "{\"client_types\":[\"api\",\"\\ud800x\"]}", "/client_types/1", "surrogate"),
        (&tokens, "{\"client_types\":[\"api\"],\"expire\":1e400}", "/expire", "too large"),
        (&tokens, "{\"client_types\":[{\"a\":1,\"a\":2}]}", "/client_types/0/a", "there twice"),
        ("POST /users", &deep, "/username", "nested too deeply"),
    ] {
        let problem = assert_problem(&api.call(call, "", body), 400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(detail.starts_with(&pointer[1..]) && detail.contains(mistake), "{problem}");
        assert_eq!(detail.contains("too deeply"), mistake.contains("too deeply"), "{problem}");
    }
}

fn refusal_of_an_argument_has_its_place(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let without_compiler = "client_types=agent,api";
    let configuration =
        configuration("").replace("client_types=agent,compiler,api", without_compiler);
    let server = sandbox.serve(&configuration);
    let api = AdminApi::root(&server);
    Api::root(&server).add_environment(ENVIRONMENT);
    Api::root(&server).add_user("bob");
    let tokens = format!("POST /environments/{ENVIRONMENT}/tokens");
    for (call, body, pointer) in [
        ("POST /users", json!({ "username": "eve", "password": "a" }), "/password"),
        (&tokens, json!({ "client_types": ["api"], "idempotent": true, "expire": 1 }), "/expire"),
        (&tokens, json!({ "client_types": ["api", "compiler"] }), "/client_types/1"),
        ("PUT /users/bob/password", json!({ "password": "a" }), "/password"),
    ] {
        let problem = assert_problem(&api.send(call, body), 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
}
