use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    oidc::{OidcProvider, USERNAME},
    over_every_protocol,
};
use serde_json::json;

use super::{ProviderUser, SIGN_IN, serve, sessions, with_provider};
use crate::{
    audit::{audit, audit_with},
    console::{ConsoleBrowser, leads_to},
    openid_sign_in::with_parameter,
    users::{Api, PASSWORD},
};

over_every_protocol!(user_of_the_provider_signs_in, answer_of_another_sign_in_is_refused,);

fn user_of_the_provider_signs_in(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    let page = "/console/issuers?x=1";
    let to_sign_in = "/console/sign-in?return=%2Fconsole%2Fissuers%3Fx%3D1";
    leads_to(&user.browser.get(page), to_sign_in);
    let redirect = user.browser.get(to_sign_in);
    let cookie = redirect.header("set-cookie").unwrap();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure");
    assert!(value.starts_with("__Host-countersign-sign-in="), "{value}");
    let location = redirect.header("location").unwrap().to_owned();
    assert!(location.contains("&redirect_uri=https%3A%2F%2Ftest&"), "{location}");
    leads_to(&user.finish(&location), page);
    assert_eq!(user.browser.sign_in_cookie, None, "it is removed");
    for path in [page, "/console"] {
        let page = user.browser.page(path);
        assert!(page.contains(&format!("<span>{USERNAME}</span>")), "{page}");
        assert!(!page.contains("eyJ"), "no token in the page: {page}");
    }
    let event = &audit(&sandbox, &["--operation", "login"])[0];
    let expected = json!({ "user": USERNAME });
    assert_eq!((&event["outcome"], &event["target"]), (&json!("done"), &expected), "{event}");
    assert_eq!(event["by"]["issuer"], provider.issuer());
    assert!(!sessions(&sandbox, "sealed").contains("eyJ") && !server.log().contains("eyJ"));
    // Another sign-in of the same browser ends its session.
    user.sign_in();
    assert_eq!(sessions(&sandbox, "count(*)"), "1");
}

fn answer_of_another_sign_in_is_refused(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    let location = user.begin(SIGN_IN);
    let callback = user.callback(&location);
    let other = callback.replace("state=", "state=x");
    let refused = user.browser.get(&other);
    assert_eq!((refused.status, &user.browser.cookie), (400, &None), "{refused:?}");
    assert!(refused.body.contains("belongs to another sign-in"), "{refused:?}");
    assert!(refused.body.contains("href=\"/console/sign-in/provider?return="), "{refused:?}");
    // The sign-in that this browser has begun goes on.
    let sign_in_cookie = user.browser.sign_in_cookie.clone();
    leads_to(&user.browser.get(&callback), "/console");
    // Another tab of the browser has signed in.
    leads_to(&user.browser.get(&callback), "/console");
    user.browser.cookie = None;
    let replayed = user.browser.get(&callback);
    assert_eq!(replayed.status, 400);
    assert!(replayed.body.contains("has not begun to sign in"), "{replayed:?}");
    user.browser.sign_in_cookie = sign_in_cookie;
    let replayed = user.browser.get(&callback);
    assert!(replayed.body.contains("expired, or was used"), "{replayed:?}");
    // Another browser, to which an attacker gives the address.
    let mut victim = ConsoleBrowser::new(&server);
    let location = user.begin(SIGN_IN);
    let injected = user.callback(&location);
    assert_eq!((victim.get(&injected).status, &victim.cookie), (400, &None));
    // The provider answers with the nonce of another sign-in.
    let location = user.begin(SIGN_IN);
    let (endpoint, query) = location.split_once('?').unwrap();
    let location = format!("{endpoint}?{}", with_parameter(query, "nonce", "AAAA"));
    let refused = user.finish(&location);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.body.contains("claim nonce"), "{refused:?}");
    let reasons = audit_with(&sandbox, "login", 3);
    let has = |reason: &str| reasons.iter().any(|event| event["reason"] == reason);
    assert!(has("state") && has("grant") && has("id_token_claim"), "{reasons:?}");
    assert!(server.metric("countersign_logins_total{outcome=\"wrong\"}") >= 3);
}

#[test]
fn sign_in_that_the_provider_refuses_names_the_reason() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    let location = user.begin(SIGN_IN);
    let callback = user.callback(&location);
    provider.set_clock_ahead(120);
    let expired = user.browser.get(&callback);
    assert_eq!(expired.status, 400);
    assert!(expired.body.contains("expired, or was used"), "{expired:?}");
    provider.set_clock_ahead(0);
    provider.deny(true);
    let mut user = ProviderUser::new(&server, &provider);
    let location = user.begin(SIGN_IN);
    let denied = user.finish(&location);
    assert_eq!(denied.status, 403, "{denied:?}");
    assert!(denied.body.contains("The provider refuses the user (access_denied)"), "{denied:?}");
    let refused = audit_with(&sandbox, "login", 2);
    assert!(refused.iter().any(|event| event["reason"] == "denied"), "{refused:?}");
}

#[test]
fn provider_that_is_down_is_no_loop() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    let location = user.begin(SIGN_IN);
    let callback = user.callback(&location);
    let ProviderUser { mut browser, .. } = user;
    drop(provider);
    let failed = browser.get(&callback);
    assert_eq!((failed.status, failed.header("retry-after")), (503, Some("5")), "{failed:?}");
    assert!(failed.body.contains("This is a problem of the provider"), "{failed:?}");
    assert_eq!(failed.header("location"), None);
    drop(server);
    // A server that does not know the provider yet.
    let server =
        sandbox.serve(&std::fs::read_to_string(sandbox.path().join("server.cfg")).unwrap());
    let failed = ConsoleBrowser::new(&server).get(SIGN_IN);
    assert_eq!((failed.status, failed.header("location")), (503, None), "{failed:?}");
    assert!(failed.body.contains("oidc_authority of [web-ui]"), "{failed:?}");
}

#[test]
fn deletion_asks_the_provider_to_sign_in_again() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    Api::root(&server).add_user("bob");
    let mut user = ProviderUser::new(&server, &provider);
    provider.set_clock_ahead(-400);
    user.sign_in();
    provider.set_clock_ahead(0);
    let address = "/console/danger/delete-user?user=bob";
    let deletion = [("user", "bob"), ("typed", "bob")];
    let confirm = "/console/confirm?return=%2Fconsole%2Fdanger%2Fdelete%2Duser%3Fuser%3Dbob";
    leads_to(&user.browser.get(address), confirm);
    let again = "/console/sign-in/provider\
                 ?return=%2Fconsole%2Fdanger%2Fdelete%2Duser%3Fuser%3Dbob&fresh=1";
    assert!(user.browser.page(confirm).contains(&again.replace('&', "&amp;")));
    let location = user.begin(again);
    assert!(location.contains("&prompt=login"), "{location}");
    leads_to(&user.finish(&location), address);
    user.browser.page(address);
    let deleted = user.browser.post("/console/danger/delete-user", &deletion);
    leads_to(&deleted, "/console/users?done=delete");
}

#[test]
fn local_users_sign_in_beside_the_provider() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let text = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&text.replace("{fallback}", "oidc_local_fallback=true\n"));
    server.wait_until_ready();
    Api::root(&server).add_user("ann");
    let mut user = ProviderUser::new(&server, &provider);
    let page = user.browser.page(SIGN_IN);
    assert!(page.contains("name=\"password\"") && page.contains("/console/sign-in/provider"));
    leads_to(&user.browser.sign_in("ann", PASSWORD), "/console");
    let location = user.begin("/console/sign-in/provider?return=%2Fconsole");
    leads_to(&user.finish(&location), "/console");
    drop(server);
    let server = serve(&sandbox, &provider, "");
    let refused = ConsoleBrowser::new(&server).sign_in("ann", PASSWORD);
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[test]
fn sign_ins_of_an_address_are_limited() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let server = serve(&sandbox, &provider, "[login]\nattempts_per_source=2\n");
    let mut user = ProviderUser::new(&server, &provider);
    let refusals = [400, 400, 429].map(|status| {
        let location = user.begin(SIGN_IN);
        let callback = user.callback(&location).replace("code=", "code=x");
        let refused = user.browser.get(&callback);
        assert_eq!(refused.status, status, "{refused:?}");
        refused
    });
    assert!(refusals[2].header("retry-after").is_some(), "{refusals:?}");
}

#[test]
fn sign_in_ends_on_another_server() {
    let [one, other] = [(); 2].map(|()| Sandbox::over(Protocol::Http2));
    let provider = OidcProvider::start();
    let server = serve(&one, &provider, "");
    // It has the same database, and the same signing key.
    let text = with_provider(&one, &provider, "").replace("{fallback}", "");
    let second = other.serve(&text);
    second.wait_until_ready();
    let mut user = ProviderUser::new(&server, &provider);
    let location = user.begin(SIGN_IN);
    user.browser.client = second.client();
    leads_to(&user.finish(&location), "/console");
    user.browser.client = server.client();
    user.browser.page("/console");
}

#[test]
fn sign_in_outlives_a_reload() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    let location = user.begin(SIGN_IN);
    server.reload();
    leads_to(&user.finish(&location), "/console");
    user.browser.page("/console");
}
