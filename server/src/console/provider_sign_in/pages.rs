//! Pages of the sign-in with the provider.

use http::{HeaderValue, Response, StatusCode, header};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    super::{
        ConsoleContext, SIGN_IN_PATH,
        layout::{self, ConsolePage, refusal},
        openid::{SignInBlame, SignInError},
        provider::ConsoleProvider,
        session::ConsoleUser,
        sign_in::{BEFORE_CHANGE, page_before},
    },
    address,
};
use crate::base::reply::Body;

/// Returns the link that begins a sign-in.
pub(in crate::console) fn link(
    provider: &ConsoleProvider,
    return_path: &str,
    is_fresh: bool,
) -> Markup {
    html! {
        a.button href=(address(return_path, is_fresh)) { "Sign in at " (provider.host()) }
    }
}

const PAGE: ConsolePage<'_> = ConsolePage { title: "Sign in", active: "", user: None };

/// Returns the page of a [`SignInError`].
pub(super) fn failure_page(
    context: &ConsoleContext<'_>,
    provider: &ConsoleProvider,
    error: &SignInError,
    return_path: &str,
) -> Response<Body> {
    let blame = match error.blame() {
        SignInBlame::Browser => "",
        SignInBlame::Provider => "This is a problem of the provider, not of your account.",
        SignInBlame::Configuration => {
            "This is a problem of the configuration: an operator has to change it."
        }
        SignInBlame::Server => "This is a problem of this server, not of your account.",
    };
    let (message, remedy) = (format!("{}.", capitalized(&error.to_string())), error.remedy());
    let failure = SignInFailure { message: &message, remedy: &remedy, blame };
    let mut response = failure.respond(context, provider, error.status(), return_path);
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from_static("5");
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// What the page of a failed sign-in shows.
pub(super) struct SignInFailure<'f> {
    /// What failed.
    pub(super) message: &'f str,
    /// What to do, without a full stop.
    pub(super) remedy: &'f str,
    /// The party that has to act.
    pub(super) blame: &'f str,
}

impl SignInFailure<'_> {
    /// Returns the page.
    pub(super) fn respond(
        &self,
        context: &ConsoleContext<'_>,
        provider: &ConsoleProvider,
        status: StatusCode,
        return_path: &str,
    ) -> Response<Body> {
        let Self { message, remedy, blame } = self;
        let path = utf8_percent_encode(return_path, NON_ALPHANUMERIC);
        let content = html! {
            section.narrow {
                h1 { "You are not signed in" }
                (refusal(message))
                @if !blame.is_empty() { p { (blame) } }
                @if !remedy.is_empty() { p { "What to do: " (remedy) "." } }
                p { (link(provider, return_path, false)) }
                @if context.settings.allows_passwords {
                    p { a href={ (SIGN_IN_PATH) "?return=" (path) } { "Sign in with a password" } }
                }
            }
        };
        layout::respond(status, &PAGE, &content)
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// Returns the page that leads to the sign-out of the provider. A redirect would be one of a form,
/// which the content policy allows within the console only. The page has no token, unlike the
/// header.
pub(super) fn leave(provider: &ConsoleProvider, location: &str, shown: &str) -> Response<Body> {
    let content = html! {
        section.narrow {
            h1 { "You are signed out here" }
            p role="status" { "Next, " (provider.host()) " signs you out." }
            p { a.button href=(shown) { "Continue" } }
        }
    };
    let mut response = layout::respond(StatusCode::OK, &PAGE, &content);
    if let Ok(mut refresh) = HeaderValue::try_from(format!("0; url={location}")) {
        refresh.set_sensitive(true);
        response.headers_mut().insert(header::REFRESH, refresh);
    }
    response
}

const UNKNOWN_SIGN_IN: &str = "The change needs a recent sign-in, and the time of yours is \
                               unknown. Nothing was changed yet.";

/// Returns the page that asks a user to sign in at the provider again.
pub(in crate::console) fn confirmation(
    user: &ConsoleUser,
    provider: &ConsoleProvider,
    return_path: &str,
) -> Response<Body> {
    let content = html! {
        section.narrow {
            h1 { "Sign in again, please" }
            p {
                @if user.has_known_sign_in() { (BEFORE_CHANGE) } @else { (UNKNOWN_SIGN_IN) }
            }
            p { (link(provider, return_path, true)) }
            p { a href=(page_before(return_path)) { "Back, without a change" } }
        }
    };
    let page = ConsolePage { title: "Sign in again", active: "", user: Some(user) };
    layout::respond(StatusCode::OK, &page, &content)
}
