use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use countersign_engine::{Issuer, Reject, UnixTime, Verifier};
use countersign_server::{
    admission::Admission,
    auth::{Authenticator, Caller},
    base::clock,
    client::{ClientAddress, ClientCertificate},
    config::Config,
    console::openid::{
        AccessCheck, BegunSignIn, LogoutToken, LogoutTokenError, OpenIdClient, PendingKey,
        PendingSignIn, RenewableSession, SignInBlame, SignInError, SignInRequest, SignInSettings,
        SignedIn,
    },
    keys::{KeySources, refresh},
    observe::metrics::Metrics,
};
use countersign_tests::{
    binary::Sandbox,
    oidc::{AUDIENCE, CLIENT_ID, ORIGIN, OidcProvider, SUBJECT, USERNAME},
};
use tokio::runtime::{Builder, Runtime};

use crate::fixture;

/// A console with a certified provider, and a browser of its user.
pub(crate) struct SignInClient {
    runtime: Runtime,
    client: OpenIdClient,
    authenticator: Authenticator,
    admission: Admission,
    cookies: HashMap<String, String>,
}

impl SignInClient {
    pub(crate) fn new(provider: &OidcProvider) -> Self {
        let section = format!("audience={AUDIENCE}\njwt_username_claim=preferred_username");
        Self::with(provider, &section)
    }

    /// Creates a console with further options of the section.
    fn with(provider: &OidcProvider, section: &str) -> Self {
        let issuer = provider.issuer();
        let text = format!(
            "{}[auth_jwt_oidc]\nalgorithms=RS256\nclient_types=api\nissuer={issuer}\njwks_uri={}\n\
             {section}\n[web-ui]\noidc_authority={issuer}\noidc_client_id={CLIENT_ID}\n",
            fixture::SIGNING,
            provider.jwks_uri(),
        );
        let sandbox = Sandbox::new();
        let file = sandbox.file("c.cfg", text);
        let config = Config::load(&[file], []).unwrap();
        let issuers = config.issuers.iter().map(|one| Issuer::new(Arc::clone(&one.issuer), None));
        let verifier = Arc::new(Verifier::builder().issuers(issuers).build().unwrap());
        let keys = Arc::new(KeySources::new(&config.issuers));
        refresh::spawn(&verifier, &keys, None).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(keys.first_fetches());
        let metrics = Arc::new(Metrics::new(1, &config.settings.metrics));
        Self {
            runtime,
            client: OpenIdClient::start(config.sign_in.unwrap()).unwrap(),
            authenticator: Authenticator {
                verifier,
                keys,
                metrics,
                identities: None,
                freshness: None,
            },
            admission: Admission::new(config.settings.limits),
            cookies: HashMap::new(),
        }
    }

    fn begin(&self, is_fresh: bool) -> Result<BegunSignIn, SignInError> {
        let request = SignInRequest { origin: ORIGIN, return_to: "/console/tokens", is_fresh };
        self.runtime.block_on(self.client.begin(request))
    }

    fn finish(&self, pending: PendingSignIn, query: &str) -> Result<SignedIn, SignInError> {
        let caller = self.caller();
        let access = AccessCheck { authenticator: &self.authenticator, caller: &caller };
        self.runtime.block_on(self.client.finish(pending, query, access))
    }

    fn caller(&self) -> Caller<'_, 'static> {
        Caller {
            admission: &self.admission,
            client: ClientAddress::Known(Ipv4Addr::LOCALHOST.into()),
            certificate: ClientCertificate::Known(None),
            username_optional: false,
            is_call: false,
        }
    }

    /// Begins a sign-in, and signs in at the provider. Returns the query of the callback.
    fn callback(&mut self, provider: &OidcProvider, is_fresh: bool) -> (PendingSignIn, String) {
        let BegunSignIn { location, pending } = self.begin(is_fresh).unwrap();
        (pending, self.browse(provider, &location))
    }

    fn browse(&mut self, provider: &OidcProvider, location: &str) -> String {
        let callback = provider.browse(location, &mut self.cookies);
        let (origin, query) = callback.split_once('?').unwrap();
        assert!([ORIGIN.to_owned(), format!("{ORIGIN}/")].contains(&origin.to_owned()), "{origin}");
        query.to_owned()
    }

    pub(crate) fn sign_in(&mut self, provider: &OidcProvider) -> Result<SignedIn, SignInError> {
        let (pending, query) = self.callback(provider, false);
        self.finish(pending, &query)
    }
}

/// Returns the query with another value of one parameter.
pub(crate) fn with_parameter(query: &str, name: &str, value: &str) -> String {
    let other = |pair: &str| match pair.split_once('=') {
        Some((one, _)) if one == name => format!("{name}={value}"),
        _ => pair.to_owned(),
    };
    query.split('&').map(other).collect::<Vec<_>>().join("&")
}

#[test]
fn user_of_a_certified_provider_signs_in() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let signed_in = console.sign_in(&provider).unwrap();
    assert_eq!((&*signed_in.username, &*signed_in.subject), (USERNAME, SUBJECT));
    assert_eq!(signed_in.return_to, "/console/tokens");
    assert!(signed_in.session.is_some());
    assert!(signed_in.expires_at > Some(clock::now()));
    // The provider knows the browser, and asks for nothing.
    assert_eq!(console.sign_in(&provider).unwrap().session, signed_in.session);
}

#[test]
fn access_token_is_renewed() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let signed_in = console.sign_in(&provider).unwrap();
    let renew = |username: &str, tokens| {
        let session = RenewableSession { username, subject: SUBJECT, tokens, origin: ORIGIN };
        let caller = console.caller();
        let access = AccessCheck { authenticator: &console.authenticator, caller: &caller };
        console.runtime.block_on(console.client.refresh(session, access))
    };
    let renewed = renew(USERNAME, &signed_in.tokens).unwrap();
    assert_ne!(renewed.tokens.access_token, signed_in.tokens.access_token);
    assert_ne!(renewed.tokens.refresh_token, signed_in.tokens.refresh_token, "it is rotated");
    assert_eq!(renew("other", &renewed.tokens), Err(SignInError::OtherUser));
    // A refresh token that was used is not accepted again.
    assert_eq!(renew(USERNAME, &signed_in.tokens), Err(SignInError::Grant));
}

#[test]
fn answer_with_another_state_is_refused() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let (pending, query) = console.callback(&provider, false);
    let other = with_parameter(&query, "state", "AAAA");
    assert_eq!(console.finish(pending, &other), Err(SignInError::State));
    // The code of one sign-in does not finish another one, whose state an attacker knows.
    let BegunSignIn { location, pending } = console.begin(false).unwrap();
    let state = location.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let injected = with_parameter(&query, "state", state);
    assert_eq!(console.finish(pending, &injected), Err(SignInError::Grant), "PKCE");
}

#[test]
fn answer_with_another_nonce_is_refused() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let BegunSignIn { location, pending } = console.begin(false).unwrap();
    let (endpoint, query) = location.split_once('?').unwrap();
    let location = format!("{endpoint}?{}", with_parameter(query, "nonce", "AAAA"));
    let query = console.browse(&provider, &location);
    assert_eq!(console.finish(pending, &query), Err(SignInError::IdTokenClaim("nonce")));
}

#[test]
fn answer_of_another_provider_is_refused() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    for issuer in ["https%3A%2F%2Fevil.example", ""] {
        let (pending, query) = console.callback(&provider, false);
        let other = with_parameter(&query, "iss", issuer);
        assert_ne!(other, query);
        assert_eq!(console.finish(pending, &other), Err(SignInError::ResponseIssuer));
    }
    let (pending, query) = console.callback(&provider, false);
    let absent = query.split('&').filter(|pair| !pair.starts_with("iss=")).collect::<Vec<_>>();
    assert_eq!(console.finish(pending, &absent.join("&")), Err(SignInError::ResponseIssuer));
}

#[test]
fn expired_and_replayed_codes_are_refused() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let (key, settings) = (PendingKey::new(None).unwrap(), console.client.settings().clone());
    let open = |sealed: &str| PendingSignIn::open(sealed, &key, &settings, clock::now()).unwrap();
    let (pending, query) = console.callback(&provider, false);
    let sealed = pending.seal(&key, &settings).unwrap();
    assert!(console.finish(open(&sealed), &query).is_ok());
    let replayed = console.finish(open(&sealed), &query).unwrap_err();
    assert_eq!((&replayed, replayed.blame()), (&SignInError::Grant, SignInBlame::Browser));

    let (pending, query) = console.callback(&provider, false);
    provider.set_clock_ahead(120);
    assert_eq!(console.finish(pending, &query), Err(SignInError::Grant));
}

#[test]
fn refused_user_is_not_signed_in() {
    let provider = OidcProvider::start();
    provider.deny(true);
    let mut console = SignInClient::new(&provider);
    let error = console.sign_in(&provider).unwrap_err();
    assert_eq!((error.code(), error.status().as_u16()), ("denied", 403), "{error}");
}

#[test]
fn fresh_sign_in_has_a_new_time() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    provider.set_clock_ahead(-1000);
    console.sign_in(&provider).unwrap();
    provider.set_clock_ahead(0);
    let (pending, query) = console.callback(&provider, true);
    let fresh = console.finish(pending, &query).unwrap();
    assert!(fresh.authenticated_at > Some(UnixTime(fixture::now() - 100)), "{fresh:?}");
}

#[test]
fn fresh_sign_in_cannot_be_removed_from_the_uri() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    provider.set_clock_ahead(-1000);
    console.sign_in(&provider).unwrap();
    provider.set_clock_ahead(0);
    for max_age in ["max_age=100000", "other=0"] {
        let BegunSignIn { location, pending } = console.begin(true).unwrap();
        let location = location.replace("prompt=login", "x=y").replace("max_age=0", max_age);
        let query = console.browse(&provider, &location);
        assert_eq!(console.finish(pending, &query), Err(SignInError::NotFresh), "{max_age}");
    }
}

#[test]
fn provider_that_is_down_is_reported() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let (pending, query) = console.callback(&provider, false);
    drop(provider);
    let error = console.finish(pending, &query).unwrap_err();
    assert!(matches!(error, SignInError::Unreachable(_)), "{error}");
    assert_eq!((error.blame(), error.status().as_u16()), (SignInBlame::Provider, 503));
    // A server that does not know the provider yet.
    let settings = console.client.settings().clone();
    let client = OpenIdClient::start(settings).unwrap();
    let request = SignInRequest { origin: ORIGIN, return_to: "/console", is_fresh: false };
    let error = console.runtime.block_on(client.begin(request)).err().unwrap();
    assert!(matches!(error, SignInError::Unreachable(_)), "{error}");
    assert!(error.remedy().contains("oidc_authority"), "{}", error.remedy());
}

#[test]
fn rotated_keys_of_the_provider_are_fetched() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    console.sign_in(&provider).unwrap();
    provider.rotate();
    assert!(console.sign_in(&provider).is_ok());
}

#[test]
fn unusable_access_token_names_its_remedy() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::with(&provider, "audience=other");
    let error = console.sign_in(&provider).unwrap_err();
    let expected = (SignInBlame::Configuration, "access_token");
    assert_eq!((error.blame(), error.code()), expected, "{error}");
    assert!(error.remedy().contains("audience of [auth_jwt_oidc]"), "{}", error.remedy());

    let mut console =
        SignInClient::with(&provider, &format!("audience={AUDIENCE}\njwt_username_claim=upn"));
    let error = console.sign_in(&provider).unwrap_err();
    assert_eq!(error, SignInError::Username { section: "auth_jwt_oidc".into() });
}

#[test]
fn unknown_client_is_an_error_of_configuration() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let (pending, query) = console.callback(&provider, false);
    let settings =
        SignInSettings { client_id: "unknown".into(), ..console.client.settings().clone() };
    console.client = OpenIdClient::start(settings).unwrap();
    let error = console.finish(pending, &query).unwrap_err();
    assert_eq!((error.blame(), error.code()), (SignInBlame::Configuration, "client"), "{error}");
    assert!(error.remedy().contains("oidc_client_id"), "{}", error.remedy());
}

#[test]
fn back_channel_logout_names_the_session() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let signed_in = console.sign_in(&provider).unwrap();
    let session = signed_in.session.unwrap();
    let body = provider.logout_body(&session);
    let token = LogoutToken::read_form(body.as_bytes()).unwrap();
    let verify = |token: &str| {
        let caller = console.caller();
        console.runtime.block_on(console.client.verify_logout_token(token, &caller))
    };
    let logout = verify(&token).unwrap();
    assert_eq!(
        (logout.session.as_deref(), logout.subject.as_deref()),
        (Some(&*session), Some(SUBJECT))
    );
    assert_ne!(
        verify(&LogoutToken::read_form(provider.logout_body(&session).as_bytes()).unwrap())
            .unwrap()
            .id,
        logout.id
    );

    // One kind of token is never another.
    let refused = Err(LogoutTokenError::Token(Reject::Type));
    assert_eq!(verify(signed_in.tokens.id_token.as_deref().unwrap()), refused);
    let access = Err(LogoutTokenError::Token(Reject::Audience));
    let access_token = verify(&signed_in.tokens.access_token);
    assert!([refused, access].contains(&access_token), "{access_token:?}");
    let now = clock::now();
    let accepted = console.authenticator.verifier.verify(token.as_bytes(), now);
    assert_eq!(accepted.err(), Some(Reject::Type));
}

#[test]
fn sign_out_ends_at_the_provider() {
    let provider = OidcProvider::start();
    let mut console = SignInClient::new(&provider);
    let signed_in = console.sign_in(&provider).unwrap();
    let id_token = signed_in.tokens.id_token.unwrap();
    let uri = |token: &str| {
        let verifier = &console.authenticator.verifier;
        let uri = console.client.end_session_uri(Some(token), ORIGIN, verifier);
        console.runtime.block_on(uri).unwrap().unwrap()
    };
    let with_hint = uri(&id_token);
    let start = format!(
        "{}/session/end?client_id={CLIENT_ID}&post_logout_redirect_uri=http%3A%2F%2Flocalhost%3A8888&state=signed-out",
        provider.issuer()
    );
    assert_eq!(with_hint, format!("{start}&id_token_hint={id_token}"));
    // A token that this server accepts as a credential is not part of a URI.
    assert_eq!(uri(&signed_in.tokens.access_token), start);
}
