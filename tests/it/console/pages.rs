use countersign_tests::{
    binary::Sandbox, client::Protocol, eventually, openssl::SigningKey, over_every_protocol,
};

use serde_json::json;

use super::{
    ConsoleBrowser, leads_to, policy::by_policy, query, serve, server_pages::machine, signed_in,
};
use crate::{
    audit::audit,
    fixture,
    users::{Api, ENVIRONMENT, OTHER, PASSWORD, claims},
};

over_every_protocol!(
    overview_shows_issuers_refusals_and_changes,
    live_changes_are_for_administrators,
    refused_calls_of_the_api_are_not_checks,
    tokens_of_the_console_are_not_cache_hits,
    users_and_their_roles_are_changed_by_the_api,
    pages_show_no_markup_of_users,
    pages_escape_characters_of_others,
    keys_are_fetched_by_administrators,
    audit_log_is_filtered_and_paged,
    audit_log_shows_the_caller_and_names,
    tokens_are_created_shown_once_and_revoked,
);

fn overview_shows_issuers_refusals_and_changes(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    let page = browser.page("/console");
    for part in ["auth_jwt_default", "✓ keys in the configuration", "user.admin", "1 key"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let mut live = |kind: &str, name: &str| {
        let figures = browser.get("/console/overview/live");
        assert_eq!(figures.header("cache-control"), Some("no-store"));
        figures.json()[kind][name].as_str().unwrap().to_owned()
    };
    assert!(live("blocks", "reasons").contains("No request was refused."));
    Api::root(&server).add_user("bob");
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1_000_000_000 })));
    assert_eq!(server.auth(&expired).status, 401);
    server.auth(&fixture::good_token());
    eventually(|| live("blocks", "reasons").contains("data-label=\"Requests\">1</td>"));
    assert!(live("blocks", "reasons").contains("#reason-expired"));
    let refused = live("blocks", "refused-requests");
    for part in ["#reason-expired", "<code>127.0.0.1</code>", "#issuer-auth_jwt_default"] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    assert!(live("blocks", "changes").contains("<code>user.add</code> bob"));
    assert!(live("blocks", "issuers").contains("data-state=\"good\""));
    assert!(live("blocks", "protocols").contains("data-label=\"99 % within\">≤ "));
    assert!(live("blocks", "checks").contains("✓ all within their budgets"));
    let sentence = live("texts", "sentence");
    assert!(sentence.starts_with("All ") || sentence.starts_with("The issuer"), "{sentence}");
    assert!(sentence.contains("of requests refused, most: "), "{sentence}");
    assert!(live("lines", "requests").contains(','));
}

fn live_changes_are_for_administrators(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &by_policy());
    Api::root(&server).add_user("bob");
    let mut bob = ConsoleBrowser::new(&server);
    assert_eq!(bob.sign_in("bob", PASSWORD).status, 303);
    let mut ann = signed_in(&server);
    let changes = |browser: &mut ConsoleBrowser| {
        let figures = browser.get("/console/overview/live").json();
        let refused = figures["blocks"]["refused-requests"].as_str().unwrap();
        format!("{}{refused}", figures["blocks"]["changes"].as_str().unwrap())
    };
    // Twice, as an update is kept until the next sample of the figures.
    for _ in 0..2 {
        let (shown, hidden) = (changes(&mut ann), changes(&mut bob));
        assert!(shown.contains("user.add"), "{shown}");
        assert!(!hidden.contains("user.add") && hidden.contains("Administrators see"), "{hidden}");
    }
}

fn refused_calls_of_the_api_are_not_checks(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    for _ in 0..10 {
        assert_ne!(Api::bearing(&server, "a.b.c").ask("GET /user").status, 200);
    }
    server.auth(&fixture::good_token());
    let mut figures = json!(null);
    eventually(|| {
        figures = browser.get("/console/overview/live").json();
        !figures["texts"]["sentence"].as_str().unwrap().contains("No requests")
    });
    let sentence = figures["texts"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("No request was refused"), "{sentence}");
    let all = "countersign_verifications_total{outcome=\"rejected\",code=\"base64\"}";
    assert_eq!(server.metric(all), 10, "the metric has them");
}

fn tokens_of_the_console_are_not_cache_hits(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    let mut figures = || browser.get("/console/overview/live").json();
    eventually(|| {
        let figures = figures();
        assert_eq!(figures["texts"]["hits"], "–", "{figures}");
        figures["lines"]["hits"].as_str().unwrap().split(' ').count() >= 3
    });
    (0..2).for_each(|_| assert_eq!(server.auth(&fixture::good_token()).status, 200));
    eventually(|| figures()["texts"]["hits"] == "50.0 %");
}

fn users_and_their_roles_are_changed_by_the_api(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let mut browser = signed_in(&server);
    browser.page("/console/users");
    let short = browser.post("/console/users/add", &[("username", "bob"), ("password", "x")]);
    assert_eq!(short.status, 400);
    assert!(short.body.contains("at least 8 characters"), "{short:?}");
    assert!(short.body.contains("name=\"username\" value=\"bob\""), "the name is kept: {short:?}");
    let added = browser.post("/console/users/add", &[("username", "bob"), ("password", PASSWORD)]);
    leads_to(&added, "/console/users?done=add");
    let role = [("username", "bob"), ("environment", ENVIRONMENT), ("role", "operator")];
    root.send("POST /role", json!({ "name": "operator" }));
    leads_to(&browser.post("/console/users/assign", &role), "/console/users?done=assign");
    let page = browser.page("/console/users");
    assert!(page.contains(&format!("operator in env-{ENVIRONMENT}")), "{page}");
    let roles = root.ask("GET /role_assignment/bob").json();
    assert_eq!(roles["data"]["assignments"][ENVIRONMENT][0], "operator");
    leads_to(&browser.post("/console/users/unassign", &role), "/console/users?done=unassign");
    let events = audit(&sandbox, &["--user", "ann"]);
    let by_ann = |operation: &str| {
        events.iter().any(|one| one["operation"] == operation && one["by"]["user"] == "ann")
    };
    for operation in ["user.add", "role.assign", "role.unassign"] {
        assert!(by_ann(operation), "{operation} in {events:?}");
    }
    assert_eq!(browser.post("/console/users/other", &role).status, 404);
}

fn pages_show_no_markup_of_users(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    const NAME: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
    Api::root(&server).add_user(NAME);
    let mut browser = ConsoleBrowser::new(&server);
    assert_eq!(browser.sign_in(NAME, PASSWORD).status, 303);
    for path in ["/console", "/console/users", "/console/issuers", "/console/confirm"] {
        let page = browser.page(path);
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    }
}

fn pages_escape_characters_of_others(protocol: Protocol) {
    const OVERRIDE: char = '\u{202e}';
    let sandbox = Sandbox::over(protocol);
    let key = SigningKey::generate("ES256", &format!("kid{OVERRIDE}x"));
    let keys = sandbox.file("jwks.json", fixture::key_set(&[&key]));
    let keys = format!("jwks_uri=file://{}", keys.display());
    let section = fixture::issuer_section("external", "ES256", "https://idp/", &keys);
    let server = serve(&sandbox, &section);
    server.wait_until_ready();
    let name = format!("eve{OVERRIDE}y");
    let root = Api::root(&server);
    root.add_user(&name);
    root.send("PATCH /is_admin", json!({ "username": name, "is_admin": true }));
    let mut browser = ConsoleBrowser::new(&server);
    assert_eq!(browser.sign_in(&name, PASSWORD).status, 303);
    for path in ["/console", "/console/issuers", "/console/audit"] {
        let page = browser.page(path);
        assert!(page.contains("<span>eve\\u{202e}y</span>"), "{page}");
        assert!(!page.contains(OVERRIDE), "{page}");
    }
    assert!(browser.page("/console/issuers").contains(">kid\\u{202e}x</code>"));
    let twice = [("username", &*name), ("password", PASSWORD)];
    let refused = browser.post("/console/users/add", &twice);
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("with name eve\\u{202e}y already exists"), "{refused:?}");
}

fn keys_are_fetched_by_administrators(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    browser.page("/console/issuers");
    leads_to(&browser.post("/console/issuers/refresh", &[]), "/console/issuers?fetched=ok");
    let events = audit(&sandbox, &["--operation", "keys.refresh"]);
    assert_eq!((events.len(), &events[0]["by"]["user"]), (1, &"ann".into()), "{events:?}");
}

fn audit_log_is_filtered_and_paged(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    (0..55).for_each(|number| {
        drop(root.send("POST /role", json!({ "name": format!("r-{number}-x") })))
    });
    let mut browser = signed_in(&server);
    let all = browser.page("/console/audit");
    assert!(all.contains("r-54-x") && !all.contains("r-2-x"), "{all}");
    let older = all.split("href=\"").find(|text| text.starts_with("/console/audit?before="));
    let older = browser.page(older.unwrap().split('"').next().unwrap());
    assert!(older.contains("r-2-x") && !older.contains("r-54-x"), "{older}");
    let logins = browser.page("/console/audit?operation=login&user=ann");
    assert!(logins.contains("<code>login</code>") && !logins.contains("r-54-x"), "{logins}");
    let none = browser.page("/console/audit?operation=login&outcome=refused&user=%3Cb%3E");
    assert!(none.contains("No such change") && !none.contains("<b>"), "{none}");
}

fn audit_log_shows_the_caller_and_names(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server =
        serve(&sandbox, "[identities]\nenabled=true\n[listen]\ntrusted_proxies=127.0.0.1\n");
    let (id, _) = machine(&server, "robot");
    let root = Api::root(&server).with("X-Forwarded-For: 192.0.2.7");
    let bad = root.send("POST /role", json!({ "name": "operator" }));
    assert_eq!(bad.status, 200, "{bad:?}");
    let mut browser = signed_in(&server);
    let page = browser.page("/console/audit");
    for part in [
        &format!("robot ({id})"),
        &format!("of {}", fixture::ISSUER),
        "192.0.2.7<br><span class=\"empty\">through 127.0.0.1",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let details = audit(&sandbox, &[]).into_iter().filter_map(|event| {
        let detail = event["detail"].as_str()?.to_owned();
        Some(detail)
    });
    for detail in details {
        assert!(page.contains(&detail.replace('"', "&quot;")), "{detail} in {page}");
    }
    let hour_ago = "UPDATE countersign_audit SET at = at - 4000 WHERE operation = 'role.add'";
    query(&sandbox, hour_ago);
    for (since, is_shown) in [("", true), ("3600", false), ("86400", true), ("x", true)] {
        let page = browser.page(&format!("/console/audit?since={since}"));
        assert_eq!(page.contains("<code>role.add</code> operator"), is_shown, "{since}: {page}");
    }
}

fn tokens_are_created_shown_once_and_revoked(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "");
    let mut browser = signed_in(&server);
    assert!(browser.page("/console/tokens").contains("none exists yet"));
    Api::root(&server).add_environment(ENVIRONMENT);
    let unknown = browser.get(&format!("/console/tokens?environment={OTHER}"));
    assert_eq!(unknown.status, 404, "{unknown:?}");
    assert!(unknown.body.contains("This environment does not exist"), "{unknown:?}");
    assert!(!unknown.body.contains("/console/tokens/create"), "{unknown:?}");
    browser.page("/console/tokens");
    let wrong = [("environment", ENVIRONMENT), ("api", "on"), ("expire", "soon")];
    let refused = browser.post("/console/tokens/create", &wrong);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("value=\"soon\""), "what was typed is kept: {refused:?}");
    let wrong = [("environment", ENVIRONMENT), ("agent", "on"), ("expire", "1h")];
    let refused = browser.post("/console/tokens/create", &wrong);
    assert_eq!(refused.status, 400, "{refused:?}");
    for part in [
        "name=\"agent\" checked",
        "name=\"api\" data-flag",
        "value=\"1h\"",
        "id=\"new-token-expire\">✗ Write a number of seconds",
        &format!("countersign token create --environment {ENVIRONMENT} --agent<"),
    ] {
        assert!(refused.body.contains(part), "{part} in {}", refused.body);
    }
    assert!(!refused.body.contains("Failed to validate"), "{}", refused.body);
    let untyped = browser.post("/console/tokens/create", &[("environment", ENVIRONMENT)]);
    assert_eq!(untyped.status, 400, "{untyped:?}");
    assert!(untyped.body.contains("id=\"new-token-types\">✗ Choose one"), "{}", untyped.body);
    let new = [("environment", ENVIRONMENT), ("compiler", "on"), ("expire", "600")];
    let created = browser.post("/console/tokens/create", &new);
    assert_eq!((created.status, created.header("cache-control")), (200, Some("no-store")));
    let (_, token) = created.body.split_once("<code data-copy=\"\">eyJ").unwrap();
    let token = format!("eyJ{}", token.split('<').next().unwrap());
    assert_eq!(server.auth(&token).status, 200);
    let claims = claims(&token);
    assert_eq!(
        (&claims["urn:inmanta:ct"], &claims["urn:inmanta:env"]),
        (&json!("compiler"), &json!(ENVIRONMENT))
    );
    let page = browser.page(&format!("/console/tokens?environment={ENVIRONMENT}"));
    let jti = claims["jti"].as_str().unwrap();
    assert!(page.contains(jti) && !page.contains("eyJ"), "{page}");
    let revoked =
        browser.post("/console/tokens/revoke", &[("environment", ENVIRONMENT), ("jti", jti)]);
    leads_to(
        &revoked,
        &format!("/console/tokens?environment={}&done=revoke", ENVIRONMENT.replace('-', "%2D")),
    );
    assert_eq!(server.auth(&token).status, 401);
}
