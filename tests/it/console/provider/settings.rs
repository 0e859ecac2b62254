use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    oidc::{AUDIENCE, OidcProvider},
    openssl::{SigningKey, certificate},
    providers::TlsProvider,
};
use serde_json::json;

use super::{SIGN_IN, serve, with_provider};
use crate::{
    config::check,
    console::ConsoleBrowser,
    fixture::SIGNING,
    users::{Api, configuration, in_file},
};

#[test]
fn origin_of_the_console_is_that_of_the_browser() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: c.example:8443\r\n";
    let begin = |options: &str, lines: &str| {
        let server = serve(&sandbox, &provider, options);
        let redirect = server.request(&format!("GET {SIGN_IN} HTTP/1.1\r\n{lines}"));
        let location = redirect.header("location").unwrap().to_owned();
        let uri = location.split("redirect_uri=").nth(1).unwrap().split('&').next().unwrap();
        (uri.to_owned(), redirect.header("set-cookie").unwrap().to_owned())
    };
    for (options, lines, uri) in [
        ("", "", "http%3A%2F%2Ftest"),
        ("", forwarded, "http%3A%2F%2Ftest"),
        ("[listen]\ntrusted_proxies=127.0.0.1\n", forwarded, "https%3A%2F%2Fc.example%3A8443"),
    ] {
        let (found, cookie) = begin(options, lines);
        assert_eq!(found, uri, "{options}");
        let is_secure = uri.starts_with("https");
        assert_eq!(cookie.starts_with("__Host-countersign-sign-in="), is_secure, "{cookie}");
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{cookie}");
    }
}

#[test]
fn sign_in_trusts_what_its_section_trusts() {
    let (provider, key) = (TlsProvider::start(), SigningKey::generate("ES256", "k"));
    let keys = provider.serve("jwks.json", &json!({ "keys": [key.jwk()] }));
    let issuer = keys.trim_end_matches("/jwks.json");
    let metadata = json!({
        "issuer": issuer, "jwks_uri": keys,
        "authorization_endpoint": format!("{issuer}/auth"),
        "token_endpoint": format!("{issuer}/token"),
    });
    provider.serve(".well-known/openid-configuration", &metadata);
    let (sandbox, other) = (Sandbox::new(), Sandbox::new());
    let (others, _) = certificate(other.path());
    for (trust, status) in [
        (format!("ca_file={}", provider.authority().display()), 303),
        (format!("ca_file={}", others.display()), 503),
        (String::new(), 503),
        ("validate_cert=false".into(), 303),
    ] {
        let options = format!(
            "[auth_jwt_oidc]\nalgorithms=ES256\nclient_types=api\nissuer={issuer}\n\
             jwks_uri={keys}\naudience={AUDIENCE}\n{trust}\n\
             [web-ui]\noidc_authority={issuer}\noidc_client_id=console\n{}",
            in_file(&sandbox)
        );
        let server = sandbox.serve(&configuration(&options));
        let page = server.request(&format!("GET {SIGN_IN} HTTP/1.1\r\n"));
        assert_eq!(page.status, status, "{trust}: {page:?}");
        assert_eq!(page.body.contains("ca_file of its section"), status == 503, "{page:?}");
    }
}

#[test]
fn provider_without_a_section_is_reported() {
    let sandbox = Sandbox::new();
    let text = format!(
        "{SIGNING}[web-ui]\noidc_authority=https://idp.example/\noidc_client_id=console\n{}",
        in_file(&sandbox)
    );
    let checked = check(&sandbox, "c.cfg", &text);
    assert_eq!(checked.code(), 0, "{checked:?}");
    let expected = "no section verifies the access tokens of https://idp.example/";
    assert!(checked.text().contains(&format!("note: [web-ui] oidc_authority: {expected}")));
    let server = sandbox.serve(&text);
    assert!(server.log().contains(expected), "{}", server.log());
    let page = ConsoleBrowser::new(&server).page("/console/sign-in");
    assert!(page.contains("No user can sign in"), "{page}");
}

#[test]
fn check_and_server_agree_about_passwords_only() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let text = with_provider(&sandbox, &provider, "auth_method=database\n");
    for fallback in ["", "oidc_local_fallback=true\n"] {
        let text = text.replace("{fallback}", fallback);
        let checked = check(&sandbox, "c.cfg", &text);
        let expected = format!(
            "the web console logs in with a local password, and not at {}: auth_method is database",
            provider.issuer()
        );
        assert!(checked.text().contains(&expected), "{checked:?}");
        assert_eq!(checked.text().matches("the web console logs in").count(), 1, "{checked:?}");
        let page = ConsoleBrowser::new(&sandbox.serve(&text)).page("/console/sign-in");
        assert!(page.contains("name=\"password\"") && !page.contains("Sign in at"), "{page}");
    }
}

#[test]
fn config_js_describes_the_login() {
    let (sandbox, provider) = (Sandbox::over(Protocol::Http2), OidcProvider::start());
    let text = with_provider(&sandbox, &provider, "[console]\nlistener=off\n");
    let server = sandbox.serve(&text.replace("{fallback}", "oidc_local_fallback=true\n"));
    let config = |path: &str| server.request(&format!("GET {path} HTTP/1.1\r\n"));
    let described = config("/console/config.js");
    let expected =
        format!("\"method\": \"oidc-generic\", \"authority\": \"{}\"", provider.issuer());
    assert_eq!(described.status, 200);
    assert!(described.body.contains(&expected), "{described:?}");
    assert!(described.body.contains("\"localFallback\": false"), "without users: {described:?}");
    assert_eq!(described.header("cache-control"), Some("no-cache"));
    assert_eq!(described.header("content-type"), Some("application/javascript"));
    Api::root(&server).add_user("ann");
    let described = config("/console/lsm/catalog/config.js");
    assert!(described.body.contains("\"localFallback\": true"), "{described:?}");
    assert_eq!(config("/console").status, 404, "the console is off");
}
