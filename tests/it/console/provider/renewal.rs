use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::Response,
    oidc::OidcProvider,
    over_every_protocol,
};

use super::{ProviderUser, query, serve, sessions, with_provider};
use crate::{console::leads_to, users::Api};

over_every_protocol!(
    access_token_is_renewed_once,
    session_without_refresh_token_lapses,
    updates_of_a_page_leave_a_lapsed_session,
    form_of_a_lapsed_session_gets_a_page,
    idle_page_causes_no_sign_in,
);

fn access_token_is_renewed_once(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    provider.set_tokens(4, true);
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    let head = format!("GET /console HTTP/1.1\r\n{}", user.browser.cookie_lines());
    // The provider ends a session whose refresh token is used twice.
    for _ in 0..2 {
        let before = sessions(&sandbox, "sealed");
        eventually(|| {
            let requests = [(head.as_str(), &b""[..]); 4];
            for page in user.browser.client.request_all(&requests) {
                assert_eq!(page.status, 200, "{page:?}");
            }
            sessions(&sandbox, "sealed") != before
        });
    }
}

/// Starts a server that accepts access tokens for 300 seconds after their end.
fn serve_with_leeway<'s>(sandbox: &'s Sandbox, provider: &OidcProvider) -> Server<'s> {
    let text = with_provider(sandbox, provider, "").replace("{fallback}", "");
    let server = sandbox.serve(&text.replace("leeway=0", "leeway=300"));
    server.wait_until_ready();
    server
}

/// Starts a server with a user whose access token has expired, but for the leeway of the section.
fn serve_expired<'s, 'p>(
    sandbox: &'s Sandbox,
    provider: &'p OidcProvider,
) -> (Server<'s>, ProviderUser<'p>) {
    let server = serve_with_leeway(sandbox, provider);
    let mut user = ProviderUser::new(&server, provider);
    provider.set_clock_ahead(-100);
    provider.set_tokens(50, true);
    user.sign_in();
    provider.set_clock_ahead(0);
    provider.set_tokens(3600, true);
    (server, user)
}

#[test]
fn requests_wait_for_the_renewal_of_an_expired_token() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let (_server, mut user) = serve_expired(&sandbox, &provider);
    let before = provider.token_requests();
    let head = format!("GET /console HTTP/1.1\r\n{}", user.browser.cookie_lines());
    for page in user.browser.client.request_all(&[(head.as_str(), &b""[..]); 8]) {
        assert_eq!(page.status, 200, "{page:?}");
    }
    assert_eq!(provider.token_requests(), before + 1);
}

#[test]
fn expired_session_survives_a_provider_that_is_down() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let (_server, user) = serve_expired(&sandbox, &provider);
    let ProviderUser { mut browser, .. } = user;
    drop(provider);
    let page = browser.get("/console");
    assert_eq!((page.status, page.header("retry-after")), (503, Some("5")), "{page:?}");
    assert!(page.body.contains("the OpenID provider does not renew it now"), "{page:?}");
    assert_eq!(sessions(&sandbox, "count(*)"), "1");
}

fn session_without_refresh_token_lapses(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    provider.set_tokens(2, false);
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    let at_provider = "/console/sign-in/provider?return=%2Fconsole%2Fissuers";
    let mut lapsed = None;
    eventually(|| {
        lapsed = Some(user.browser.get("/console/issuers")).filter(|page| page.status != 200);
        lapsed.is_some()
    });
    leads_to(&lapsed.unwrap(), at_provider);
    assert_eq!(sessions(&sandbox, "count(*)"), "0");
    provider.set_tokens(3600, false);
    // The provider knows the browser, and asks for nothing.
    let location = user.begin(at_provider);
    leads_to(&user.finish(&location), "/console/issuers");
    user.browser.page("/console/issuers");
}

/// Opens the live figures until the session has lapsed, and then a page.
fn page_after_lapsed_updates(user: &mut ProviderUser<'_>) -> Response {
    eventually(|| user.browser.get("/console/overview/live").status == 401);
    assert_eq!(user.browser.get("/console/overview/live").status, 401);
    user.browser.get("/console/tokens")
}

fn updates_of_a_page_leave_a_lapsed_session(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    provider.set_tokens(2, false);
    let text = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&text.replace("{fallback}", "oidc_local_fallback=true\n"));
    server.wait_until_ready();
    Api::root(&server).add_user("ann");
    let mut user = ProviderUser::new(&server, &provider);
    let at_provider = "/console/sign-in/provider?return=%2Fconsole%2Ftokens";
    let location = user.begin(at_provider);
    leads_to(&user.finish(&location), "/console/tokens");
    leads_to(&page_after_lapsed_updates(&mut user), at_provider);
    assert_eq!(sessions(&sandbox, "count(*)"), "0");
    // A sign-in at once replaces the lapsed session.
    let location = user.begin(at_provider);
    leads_to(&user.finish(&location), "/console/tokens");
    eventually(|| user.browser.get("/console/overview/live").status == 401);
    provider.set_tokens(3600, false);
    let location = user.begin(at_provider);
    leads_to(&user.finish(&location), "/console/tokens");
    assert_eq!(sessions(&sandbox, "count(*)"), "1");
}

fn form_of_a_lapsed_session_gets_a_page(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    provider.set_tokens(2, false);
    let server = serve(&sandbox, &provider, "");
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    user.browser.page("/console/inspect");
    let mut lapsed = None;
    eventually(|| {
        let answer = user.browser.post("/console/inspect", &[]);
        lapsed = Some(answer).filter(|answer| answer.status != 200);
        lapsed.is_some()
    });
    // A browser follows no redirect of a form to the provider.
    let lapsed = lapsed.unwrap();
    assert_eq!((lapsed.status, lapsed.header("location")), (401, None), "{lapsed:?}");
    let link = "href=\"/console/sign-in/provider?return=%2Fconsole\"";
    assert!(lapsed.body.contains(link), "{lapsed:?}");
}

fn idle_page_causes_no_sign_in(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), OidcProvider::start());
    let server = serve(&sandbox, &provider, "[console]\nsession_idle=600\n");
    let mut user = ProviderUser::new(&server, &provider);
    user.sign_in();
    user.browser.page("/console");
    let before = provider.token_requests();
    query(&sandbox, "UPDATE countersign_console_session SET used_at = used_at - 601");
    for _ in 0..2 {
        let figures = user.browser.get("/console/overview/live");
        // Neither a redirect to the provider, which knows the browser, nor a new session.
        let found = (figures.status, figures.header("location"), figures.header("set-cookie"));
        assert_eq!(found, (401, None, None), "{figures:?}");
    }
    assert_eq!((sessions(&sandbox, "count(*)"), provider.token_requests()), ("0".into(), before));
}

#[test]
fn refresh_token_is_not_sent_to_another_provider() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let [provider, other] = [(); 2].map(|()| OidcProvider::start());
    let (server, mut user) = serve_expired(&sandbox, &provider);
    let before = provider.token_requests();
    // A section of the same name, whose provider has another client for the console.
    drop(server);
    let server = serve_with_leeway(&sandbox, &other);
    user.browser.client = server.client();
    let at_provider = "/console/sign-in/provider?return=%2Fconsole";
    leads_to(&user.browser.get("/console"), at_provider);
    assert_eq!((provider.token_requests(), other.token_requests()), (before, 0));
    assert_eq!(sessions(&sandbox, "count(*)"), "0");
    user.provider = &other;
    user.cookies.clear();
    let location = user.begin(at_provider);
    leads_to(&user.finish(&location), "/console");
}
