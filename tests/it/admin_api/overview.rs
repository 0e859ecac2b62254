use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually, over_every_protocol,
};
use serde_json::json;

use super::{AdminApi, assert_problem};
use crate::{
    fixture::{claims, good_token, token},
    users::configuration,
};

over_every_protocol!(
    overview_has_the_figures_of_checks,
    overview_needs_the_right_to_read_the_status,
    last_refused_requests_are_listed,
    equal_refused_requests_are_one_item,
    refused_requests_show_no_token_of_a_path,
);

fn overview_has_the_figures_of_checks(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("[console]\nlistener=off\n"));
    let api = AdminApi::root(&server);
    // After the first sample, so that all requests are in the figures.
    eventually(|| !api.get("/overview")["recent"].is_null());
    let expired = token(&claims(json!({ "exp": 1 })));
    for _ in 0..4 {
        assert_eq!(server.auth(&good_token()).status, 200);
    }
    assert_eq!(server.auth(&expired).status, 401);
    eventually(|| api.get("/overview")["recent"]["requests"] == 5);
    let overview = api.get("/overview");
    let recent = &overview["recent"];
    assert_eq!(recent["refused"], 1, "{overview}");
    let refusal = &recent["refusals"][0];
    assert_eq!(json!([refusal["code"], refusal["requests"]]), json!(["expired", 1]));
    assert!(recent["tokens"].as_u64() >= recent["cache_hits"].as_u64(), "{overview}");
    assert!(recent["cache_hits"].as_u64().unwrap() >= 1, "{overview}");
    assert!(recent["seconds"].as_u64().unwrap() >= 2, "{overview}");
    let over_one = recent["protocols"].as_array().unwrap();
    assert_eq!((over_one.len(), &over_one[0]["requests"]), (1, &json!(5)), "{overview}");
    for figures in [recent, &over_one[0]] {
        assert!(figures["p50_micros"].as_u64() <= figures["p99_micros"].as_u64(), "{overview}");
    }
    assert_eq!(json!([recent["delayed_checks"], recent["refused_checks"]]), json!([0, []]));
    let issuer = &overview["issuers"][0];
    assert_eq!(json!([issuer["section"], issuer["state"], issuer["keys"], issuer["age"]]), {
        json!(["auth_jwt_default", "static", 1, null])
    });
}

fn overview_needs_the_right_to_read_the_status(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let anonymous = AdminApi { server: &server, token: String::new() };
    assert_problem(&anonymous.ask("GET /overview"), 401, "token_missing");
    let scoped = json!({ "urn:inmanta:ct": "compiler" });
    let scoped = AdminApi { server: &server, token: token(&claims(scoped)) };
    assert_problem(&scoped.ask("GET /overview"), 403, "not_authorized");
}

fn last_refused_requests_are_listed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "[listen]\ntrusted_proxies=127.0.0.1\ndialect=nginx\n";
    let server = sandbox.serve(&configuration(options));
    let api = AdminApi::root(&server);
    let refused = || api.get("/refused-requests")["items"].take();
    assert_eq!(refused(), json!([]));
    let expired = token(&claims(json!({ "exp": 1 })));
    let lines = format!(
        "X-Original-Method: PUT\r\nX-Original-URI: /orders/7?token={expired}\r\n\
         X-Forwarded-For: 192.0.2.7\r\n"
    );
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {expired}\r\n{lines}");
    assert_eq!(server.request(&head).status, 401);
    let listed = refused();
    let mut first = listed[0].clone();
    assert!(first["at"].take().as_str().unwrap().ends_with('Z'), "{listed}");
    let expected = json!({
        "at": null, "count": 1, "code": "expired", "reason": first["reason"], "client": "192.0.2.7",
        "method": "PUT", "path": "/orders/7", "section": "auth_jwt_default",
    });
    assert_eq!((first, listed.as_array().unwrap().len()), (expected, 1));
    assert_eq!(server.request("GET /auth HTTP/1.1\r\n").status, 401);
    let listed = refused();
    let newest = &listed[0];
    assert_eq!(json!([newest["code"], newest["path"], newest["section"]]), {
        json!(["no_token", null, null])
    });
    (0..30).for_each(|_| assert_eq!(server.request(&head).status, 401));
    let listed = refused();
    assert_eq!(json!([listed[0]["count"], listed.as_array().unwrap().len()]), json!([31, 2]));
    let parts: Vec<_> = expired.split('.').collect();
    assert!(parts.iter().all(|part| !refused().to_string().contains(part)), "{}", refused());
    let agent = token(&claims(json!({ "urn:inmanta:ct": "agent" })));
    let agent = AdminApi { server: &server, token: agent };
    assert_problem(&agent.ask("GET /refused-requests"), 403, "not_authorized");
}

/// Makes a request without a token, which a proxy describes, and that is refused.
#[track_caller]
fn refuse(server: &Server<'_>, client: &str, target: &str) {
    let head = format!(
        "GET /auth HTTP/1.1\r\nX-Original-Method: GET\r\nX-Original-URI: {target}\r\n\
         X-Forwarded-For: {client}\r\n"
    );
    assert_eq!(server.request(&head).status, 401);
}

fn equal_refused_requests_are_one_item(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "[listen]\ntrusted_proxies=127.0.0.1\ndialect=nginx\n";
    let server = sandbox.serve(&configuration(options));
    let api = AdminApi::root(&server);
    refuse(&server, "192.0.2.8", "/orders");
    (0..12).for_each(|_| refuse(&server, "192.0.2.7", "/health?x"));
    refuse(&server, "192.0.2.7", "/");
    refuse(&server, "192.0.2.7", "/health");
    let listed = api.get("/refused-requests")["items"].take();
    let shown = listed.as_array().unwrap().iter();
    let shown: Vec<_> =
        shown.map(|one| json!([one["client"], one["path"], one["count"]])).collect();
    let expected = [
        json!(["192.0.2.7", "/health", 13]),
        json!(["192.0.2.7", "/", 1]),
        json!(["192.0.2.8", "/orders", 1]),
    ];
    assert_eq!(shown, expected);
    // A client with many different requests keeps no other one from the list.
    for round in 0..3 {
        (0..20).for_each(|path| refuse(&server, "192.0.2.7", &format!("/{round}/{path}")));
        refuse(&server, "192.0.2.9", &format!("/{round}"));
    }
    let listed = api.get("/refused-requests")["items"].to_string();
    assert!(listed.contains("192.0.2.8") && listed.contains("192.0.2.9"), "{listed}");
}

fn refused_requests_show_no_token_of_a_path(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "[listen]\ntrusted_proxies=127.0.0.1\ndialect=nginx\n";
    let server = sandbox.serve(&configuration(options));
    let token = good_token();
    for (client, (target, _)) in shown_paths(&token).iter().enumerate() {
        refuse(&server, &format!("192.0.2.{client}"), target);
    }
    let listed = AdminApi::root(&server).get("/refused-requests")["items"].take();
    let shown = listed.as_array().unwrap().iter().rev().map(|one| one["path"].as_str().unwrap());
    let expected: Vec<_> = shown_paths(&token).into_iter().map(|(_, path)| path).collect();
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

/// Returns targets with a token in their paths, and the paths as they are shown.
fn shown_paths(token: &str) -> [(String, &'static str); 4] {
    [
        (format!("/reset/{token}"), "/reset/…"),
        (format!("/x;token={token};a=b/{token}/y"), "/x;token=…;a=b/…/y"),
        ("/x%3Faccess_token=abc".into(), "/x%3F…"),
        ("/files/access_token=abc".into(), "/files/access_token=…"),
    ]
}
