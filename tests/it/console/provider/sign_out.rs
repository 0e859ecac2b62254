use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    database::query_sqlite,
    eventually,
    http::Response,
    oidc::{CLIENT_ID, OidcProvider, USERNAME},
    over_every_protocol,
};
use serde_json::json;

use super::{ProviderUser, SIGN_IN, serve, sessions};
use crate::{
    audit::audit,
    console::{ConsoleBrowser, leads_to},
    openid_sign_in::SignInClient,
    users::{Api, session_of},
};

over_every_protocol!(
    sign_out_ends_at_both_ends,
    sign_out_revokes_the_refresh_token,
    back_channel_logout_ends_the_session,
);

fn sign_out_ends_at_both_ends(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    user.browser.page("/console");
    let out = user.browser.post("/console/sign-out", &[]);
    assert_eq!((out.status, &user.browser.cookie), (200, &None), "{out:?}");
    let refresh = out.header("refresh").unwrap();
    let start = format!("0; url={}/session/end?client_id={CLIENT_ID}&", provider.issuer());
    assert!(refresh.starts_with(&start), "{refresh}");
    assert!(refresh.contains("&id_token_hint=eyJ"), "{refresh}");
    assert!(refresh.contains("post_logout_redirect_uri=https%3A%2F%2Ftest&"), "{refresh}");
    assert!(out.body.contains("You are signed out here") && !out.body.contains("eyJ"), "{out:?}");
    assert_eq!(sessions(&sandbox, "count(*)"), "0");
    leads_to(&user.browser.get("/?state=signed-out"), "/console/sign-in?out=1");
    // Otherwise the provider would sign the user in again.
    let page = user.browser.page("/console/sign-in?out=1");
    assert!(page.contains("You are signed out") && page.contains("/console/sign-in/provider"));
    let event = &audit(&sandbox, &["--operation", "logout"])[0];
    assert_eq!((&event["outcome"], &event["by"]["user"]), (&json!("done"), &json!(USERNAME)));
}

fn sign_out_revokes_the_refresh_token(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    for (revokes, revoked) in [(true, 1), (false, 1)] {
        provider.set_revocation(revokes);
        user.sign_in();
        user.browser.page("/console");
        let out = user.browser.post("/console/sign-out", &[]);
        assert_eq!((out.status, &user.browser.cookie), (200, &None), "{out:?}");
        assert!(out.header("refresh").unwrap().contains("/session/end?"), "{out:?}");
        assert_eq!(
            (sessions(&sandbox, "count(*)"), provider.revoked_tokens()),
            ("0".into(), revoked)
        );
    }
    let warning = "cannot revoke the refresh token of a session that ended: ";
    assert_eq!(server.log().matches(warning).count(), 1, "{}", server.log());
}

fn log_out(browser: &mut ConsoleBrowser, body: &str) -> Response {
    let head = "POST /console/back-channel-logout HTTP/1.1\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n";
    browser.client.request(head, body.as_bytes())
}

fn back_channel_logout_ends_the_session(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    let server = serve(&sandbox, &provider, "");
    let [mut user, mut other] = [(); 2].map(|()| ProviderUser::new(&server, &provider));
    user.sign_in();
    let session = sessions(&sandbox, "provider_session");
    other.sign_in();
    let token = SignInClient::new(&provider).sign_in(&provider).unwrap().tokens;
    let id_token = format!("logout_token={}", token.id_token.unwrap());
    for (body, status) in [("", 400), ("logout_token=a.b.c", 400), (&id_token, 400)] {
        assert_eq!(log_out(&mut user.browser, body).status, status, "{body}");
    }
    user.browser.page("/console");
    let body = provider.logout_body(&session);
    let done = log_out(&mut user.browser, &body);
    assert_eq!((done.status, done.header("cache-control")), (200, Some("no-store")), "{done:?}");
    leads_to(&user.browser.get("/console"), SIGN_IN);
    other.browser.page("/console");
    let replayed = log_out(&mut user.browser, &body);
    assert_eq!((replayed.status, &replayed.json()["error"]), (400, &json!("invalid_request")));
    assert_eq!(server.auth(&token.access_token).status, 200, "bearer tokens stay valid");
    let event = &audit(&sandbox, &["--operation", "logout"])[0];
    assert_eq!(event["by"]["issuer"], provider.issuer(), "{event}");
}

#[test]
fn back_channel_logout_may_revoke_tokens() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let options = "[console]\nbackchannel_revokes_tokens=true\n";
    let server = serve(&sandbox, &provider, options);
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    let token = SignInClient::new(&provider).sign_in(&provider).unwrap().tokens.access_token;
    assert_eq!(server.auth(&token).status, 200);
    let body = provider.logout_body(&sessions(&sandbox, "provider_session"));
    assert_eq!(log_out(&mut user.browser, &body).status, 200);
    assert_eq!(server.auth(&token).status, 401);
}

#[test]
fn logout_is_repeated_after_a_failed_revocation() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let revocations = sandbox.path().join("revoked.db");
    let options = format!(
        "[revocation]\nfile={}\n[console]\nbackchannel_revokes_tokens=true\n",
        revocations.display()
    );
    let server = serve(&sandbox, &provider, &options);
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    let token = SignInClient::new(&provider).sign_in(&provider).unwrap().tokens.access_token;
    // One revocation is stored, and after it none can be.
    let ended = Api::bearing(&server, &session_of("eve", false)).ask("POST /logout");
    assert_eq!(ended.status, 200, "{ended:?}");
    let full = "CREATE UNIQUE INDEX one ON countersign_revocation (number > 0)";
    query_sqlite(&revocations, full);
    // The subject of a token that names a session only is that of the session.
    let body = provider.logout_body_of_session(&sessions(&sandbox, "provider_session"));
    let failed = log_out(&mut user.browser, &body);
    assert_eq!((failed.status, failed.header("retry-after")), (503, Some("5")), "{failed:?}");
    assert_eq!(sessions(&sandbox, "count(*)"), "1");
    query_sqlite(&revocations, "DROP INDEX one");
    eventually(|| log_out(&mut user.browser, &body).status == 200);
    assert_eq!(sessions(&sandbox, "count(*)"), "0");
    assert_eq!(server.auth(&token).status, 401);
    assert_eq!(log_out(&mut user.browser, &body).status, 400, "it is used");
}
