//! Sign-in with an OpenID provider.

/// How users sign in, and how a sign-in is refused.
mod sign_in;
/// How the tokens of a session are renewed.
mod renewal;
/// Sign-out, here and from the provider.
mod sign_out;
/// What the configuration decides.
mod settings;

use std::collections::HashMap;

use countersign_tests::{
    binary::{Sandbox, Server},
    http::Response,
    oidc::{AUDIENCE, CLIENT_ID, OidcProvider},
};

use super::{ConsoleBrowser, leads_to, query};
use crate::users::{configuration, in_file};

const SIGN_IN: &str = "/console/sign-in?return=%2Fconsole";

/// Returns a configuration with the provider.
fn with_provider(sandbox: &Sandbox, provider: &OidcProvider, options: &str) -> String {
    let issuer = provider.issuer();
    let options = format!(
        "{options}[auth_jwt_oidc]\nalgorithms=RS256\nclient_types=api\nissuer={issuer}\n\
         jwks_uri={}\naudience={AUDIENCE}\njwt_username_claim=preferred_username\nleeway=0\n\
         [web-ui]\noidc_authority={issuer}\noidc_client_id={CLIENT_ID}\n{{fallback}}{}",
        provider.jwks_uri(),
        in_file(sandbox)
    );
    configuration(&options)
}

/// Starts a server whose users sign in with the provider.
fn serve<'s>(sandbox: &'s Sandbox, provider: &OidcProvider, options: &str) -> Server<'s> {
    let text = with_provider(sandbox, provider, options).replace("{fallback}", "");
    let server = sandbox.serve(&text);
    server.wait_until_ready();
    server
}

/// A browser with its cookies at the provider.
struct ProviderUser<'p> {
    browser: ConsoleBrowser,
    provider: &'p OidcProvider,
    cookies: HashMap<String, String>,
}

impl<'p> ProviderUser<'p> {
    fn new(server: &Server<'_>, provider: &'p OidcProvider) -> Self {
        Self { browser: ConsoleBrowser::new(server), provider, cookies: HashMap::new() }
    }

    /// Begins a sign-in. Returns the address of the provider.
    #[track_caller]
    fn begin(&mut self, path: &str) -> String {
        let redirect = self.browser.get(path);
        assert_eq!(redirect.status, 303, "{redirect:?}");
        let location = redirect.header("location").unwrap().to_owned();
        assert!(location.starts_with(self.provider.issuer()), "{location}");
        location
    }

    /// Signs in at the provider. Returns the path with which it sends the browser back.
    fn callback(&mut self, location: &str) -> String {
        let back = self.provider.browse(location, &mut self.cookies);
        let query = back.split_once('?').unwrap().1;
        assert!(back.starts_with("https://test"), "{back}");
        format!("/?{query}")
    }

    #[track_caller]
    fn finish(&mut self, location: &str) -> Response {
        let callback = self.callback(location);
        self.browser.get(&callback)
    }

    #[track_caller]
    fn sign_in(&mut self) {
        let location = self.begin(SIGN_IN);
        leads_to(&self.finish(&location), "/console");
    }
}

fn sessions(sandbox: &Sandbox, column: &str) -> String {
    query(sandbox, &format!("SELECT {column} FROM countersign_console_session"))
}
