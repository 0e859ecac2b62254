use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{ConsoleBrowser, serve, signed_in};
use crate::{
    fixture::{DEFAULT_POLICY, policy_engine, token},
    users::{Api, ENVIRONMENT, OTHER, PASSWORD},
};

over_every_protocol!(
    decision_of_the_policy_is_explained,
    routes_and_policy_are_shown_as_loaded,
    pages_of_administrators_are_refused_to_others,
    changes_of_users_are_offered_to_those_who_may,
    tokens_are_offered_to_those_who_may,
);

const PATH: &str = "/console/policy";

/// Returns options with which the default policy decides.
pub(super) fn by_policy() -> String {
    let engine = policy_engine(DEFAULT_POLICY);
    format!("authorization_provider=policy-engine\n[listen]\nauthorization=policy-engine\n{engine}")
}

/// Tests a call of the API with a token or claims.
#[track_caller]
fn test(browser: &mut ConsoleBrowser, target: &str, bearer: &str) -> String {
    let fields =
        [("place", ""), ("method", "GET"), ("target", target), ("environment", ENVIRONMENT)];
    let page = browser.post(PATH, &[&fields[..], &[("bearer", bearer)]].concat());
    assert_eq!(page.status, 200, "{page:?}");
    page.body
}

fn decision_of_the_policy_is_explained(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &by_policy());
    let mut browser = signed_in(&server);
    browser.page(PATH);
    let roles = |role: &str| {
        json!({
            "urn:inmanta:ct": ["api"],
            "urn:inmanta:is_admin": false,
            "urn:inmanta:roles": { ENVIRONMENT: [role] },
        })
    };
    let path = "/api/v2/environment_auth";
    for (claims, verdict, rule) in [
        (roles("environment-expert-admin"), "✓ allowed", "✓ holds"),
        (roles("read-only"), "✗ denied", "✗ does not hold"),
    ] {
        let of_claims = test(&mut browser, path, &claims.to_string());
        let mut with_rest = crate::fixture::claims(json!({}));
        with_rest.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        with_rest["urn:inmanta:ct"] = "api".into();
        for page in [of_claims, test(&mut browser, path, &token(&with_rest))] {
            for part in [verdict, rule, "GET /api/v2/environment_auth", "inmanta.rego", ENVIRONMENT]
            {
                assert!(page.contains(part), "{part} in {page}");
            }
        }
    }
    assert!(test(&mut browser, "/api/v2/health", "").contains("the call needs no token"));
    assert!(test(&mut browser, path, "").contains("✗ denied: the request has no token (401)"));
    let mistake = [("target", path), ("method", "GET"), ("bearer", "{\"a\":}")];
    let mistake = browser.post(PATH, &mistake);
    assert_eq!(mistake.status, 400, "{mistake:?}");
    assert!(mistake.body.contains("The claims: not JSON at line 1 column"), "{mistake:?}");
    assert!(mistake.body.contains("{&quot;a&quot;:}"), "what was typed is kept: {mistake:?}");
}

fn routes_and_policy_are_shown_as_loaded(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let rest = "[listener_b]\nbind=127.0.0.1:0\nauthorization=routes\nopen_paths=/static/*\n\
                [route_orders]\nmatch=GET /orders/*\nroles=ops\n";
    let server = serve(&sandbox, &format!("{}{rest}", by_policy()));
    let page = signed_in(&server).page(PATH);
    for part in [
        "listener <strong>b</strong>",
        "GET and HEAD of /static/*",
        "[route_orders]",
        "GET /orders/*",
        "the role ops in ",
        "inmanta.rego",
        "package policy",
        "GET /api/v2/environment",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    drop(server);
    let page = signed_in(&serve(&Sandbox::over(protocol), "")).page(PATH);
    assert!(page.contains("No rules by route.") && page.contains("print-default"), "{page}");
}

fn pages_of_administrators_are_refused_to_others(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &by_policy());
    Api::root(&server).add_user("bob");
    let mut browser = ConsoleBrowser::new(&server);
    assert_eq!(browser.sign_in("bob", PASSWORD).status, 303);
    let page = browser.page("/console/confirm");
    let (_, navigation) = page.split_once("<nav").unwrap();
    let (navigation, _) = navigation.split_once("</nav>").unwrap();
    for path in ["inspect", "policy", "configuration", "cluster", "tenants", "audit"] {
        let page = browser.get(&format!("/console/{path}"));
        assert_eq!(page.status, 403, "{path}: {page:?}");
        assert!(!navigation.contains(path), "{path} in {navigation}");
    }
    let links = navigation.split("href=\"").skip(1).map(|link| link.split('"').next().unwrap());
    let pages: Vec<_> = links.collect();
    assert!(pages.contains(&"/console/users") && pages.len() == 3, "{pages:?}");
    for path in pages {
        browser.page(path);
    }
    assert!(!browser.page("/console/users").contains("Add a user"));
    for path in ["/console/inspect", PATH] {
        let fields = [("token", "a.b.c"), ("target", "/"), ("method", "GET")];
        assert_eq!(browser.post(path, &fields).status, 403, "{path}");
        let other = browser.post_from(path, &fields, "Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(other.status, 403, "{path}");
    }
}

fn changes_of_users_are_offered_to_those_who_may(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &by_policy());
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    root.add_environment(OTHER);
    for name in ["bob", "eve"] {
        root.add_user(name);
        let role = json!({ "environment": ENVIRONMENT, "role": "read-only" });
        let assigned = root.send(&format!("POST /role_assignment/{name}"), role);
        assert_eq!(assigned.status, 200, "{assigned:?}");
    }
    let expert = json!({ "environment": OTHER, "role": "environment-expert-admin" });
    assert_eq!(root.send("POST /role_assignment/eve", expert).status, 200);
    let changes =
        ["users/assign", "users/unassign", "danger/grant-admin", "danger/delete-user", "users/add"];
    let offered = |name: &str| {
        let mut browser = ConsoleBrowser::new(&server);
        assert_eq!(browser.sign_in(name, PASSWORD).status, 303);
        let page = browser.page("/console/users");
        assert!(page.contains("read-only in "), "{page}");
        let offers = |change: &&str| page.contains(&format!("/console/{change}"));
        changes.into_iter().filter(offers).collect::<Vec<_>>()
    };
    assert_eq!(offered("ann"), changes);
    assert_eq!(offered("bob"), [""; 0]);
    assert_eq!(offered("eve"), [""; 0]);
}

fn tokens_are_offered_to_those_who_may(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &by_policy());
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    root.add_environment(OTHER);
    for (name, role) in [("bob", "environment-admin"), ("eve", "environment-expert-admin")] {
        root.add_user(name);
        let role = json!({ "environment": OTHER, "role": role });
        assert_eq!(root.send(&format!("POST /role_assignment/{name}"), role).status, 200);
    }
    let browser = |name: &str| {
        let mut browser = ConsoleBrowser::new(&server);
        assert_eq!(browser.sign_in(name, PASSWORD).status, 303);
        browser
    };
    let (entry, form) = ("href=\"/console/tokens\"", "action=\"/console/tokens/create\"");
    let refused = browser("bob").page("/console/tokens");
    assert!(!refused.contains(entry) && !refused.contains(form), "{refused}");
    assert!(refused.contains("Access denied"), "{refused}");

    let mut eve = browser("eve");
    let own = eve.page("/console/tokens");
    assert!(own.contains(entry) && own.contains(form), "{own}");
    assert!(own.contains(&format!("value=\"{OTHER}\" selected")), "{own}");
    let environment = [("environment", OTHER), ("api", "on"), ("expire", "600")];
    assert_eq!(eve.post("/console/tokens/create", &environment).status, 200);
    assert!(eve.page("/console/tokens").contains("/console/tokens/revoke"));
    let other = eve.page(&format!("/console/tokens?environment={ENVIRONMENT}"));
    assert!(other.contains("Access denied") && !other.contains(form), "{other}");
}
