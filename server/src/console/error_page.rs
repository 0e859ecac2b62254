//! Errors of the console, and their pages.

use http::{HeaderValue, Response, StatusCode, header};
use maud::html;

use super::{
    layout::{self, ConsolePage},
    session::ConsoleUser,
};
use crate::{
    base::{printable::printable, reply::Body},
    store::StoreError,
};

/// Error of a request to the console, which [`respond`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConsoleError {
    /// The page does not exist.
    NotFound,
    /// The page has these other methods.
    Method(&'static str),
    /// Another site may have sent the form, or it is that of an earlier session.
    CrossSite,
    /// The body is not a form.
    Form,
    /// The request names no host, or two.
    Host,
    /// The user may not see this page or make this change, with the reason.
    Forbidden(String),
    /// A call of the API that the page needs is refused, or fails.
    Call(CallRefusal),
    /// Whether the session is valid cannot be decided now.
    Undecided,
    /// The access token of the session has expired, and the provider does not renew it now.
    Provider,
    /// The database, or another part that the page needs, is unavailable.
    Unavailable,
}

/// The answer to a call of the API that was not successful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallRefusal {
    /// Its status, which the page has too.
    pub(super) status: StatusCode,
    /// Its message.
    pub(super) message: String,
    /// The seconds after which to try again, if it has them.
    pub(super) retry_after: Option<HeaderValue>,
}

impl CallRefusal {
    /// Creates a refusal that the console makes itself.
    pub(super) const fn new(status: StatusCode, message: String) -> Self {
        Self { status, message, retry_after: None }
    }

    /// The refusal of a call about something that does not exist.
    pub(super) const fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl From<CallRefusal> for ConsoleError {
    fn from(refusal: CallRefusal) -> Self {
        Self::Call(refusal)
    }
}

/// The reason is only logged.
impl From<StoreError> for ConsoleError {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self::Unavailable
    }
}

impl ConsoleError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Call(refusal) => refusal.status,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::CrossSite | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Form | Self::Host => StatusCode::BAD_REQUEST,
            Self::Undecided | Self::Provider | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Call(refusal) => match refusal.status {
                StatusCode::UNAUTHORIZED => "Signed out",
                StatusCode::NOT_FOUND => "No longer there",
                StatusCode::CONFLICT => "Changed meanwhile",
                StatusCode::TOO_MANY_REQUESTS => "Too many requests",
                status if status.is_client_error() => "Not accepted",
                StatusCode::SERVICE_UNAVAILABLE => "Not available now",
                _ => "Failed",
            },
            Self::NotFound => "No such page",
            Self::Method(_) => "Not possible here",
            Self::CrossSite => "Form not accepted",
            Self::Form => "Not a form",
            Self::Host => "Address unknown",
            Self::Forbidden(_) => "Not allowed",
            Self::Undecided | Self::Provider | Self::Unavailable => "Not available now",
        }
    }

    /// Returns the mistake, and its remedy.
    fn detail(&self) -> &str {
        match self {
            Self::NotFound => "The console has no page at this address.",
            Self::Method(_) => "This address does not answer the method of the request.",
            Self::CrossSite => {
                "The form may come from another site, or from a session that has ended. Open the \
                 page again, and repeat the change."
            }
            Self::Form => "The body of the request is not a form of this console.",
            Self::Host => {
                "The request does not name the address of this console. A proxy in between has to \
                 pass on the Host header, or to set X-Forwarded-Host."
            }
            Self::Forbidden(reason) | Self::Call(CallRefusal { message: reason, .. }) => reason,
            Self::Undecided => {
                "Whether you are signed in cannot be decided now: keys or revocations are \
                 unavailable. Nothing was changed. Try again in a few seconds."
            }
            Self::Provider => {
                "Your access token has expired, and the OpenID provider does not renew it now. \
                 Nothing was changed. This is a problem of the provider; the log of this server \
                 has the reason. Try again in a few seconds."
            }
            Self::Unavailable => {
                "The database does not answer. Tokens that need no database are still verified. \
                 The log of the server has the reason."
            }
        }
    }
}

/// Answers with the page of an error, which a signed-in user may see.
pub(super) fn respond(error: &ConsoleError, user: Option<&ConsoleUser>) -> Response<Body> {
    let content = html! {
        section.notice {
            h1 { (error.title()) }
            p { (printable(error.detail())) }
            @if matches!(error, ConsoleError::Call(call) if call.status.is_server_error()) {
                p { "The log of the server has the reason." }
            }
            p { a href="/console" { "To the overview" } }
        }
    };
    let page = ConsolePage { title: error.title(), active: "", user };
    let mut response = layout::respond(error.status(), &page, &content);
    let headers = response.headers_mut();
    if let ConsoleError::Method(methods) = error {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    let retry_after = match error {
        ConsoleError::Call(call) => call.retry_after.clone(),
        _ if error.status() == StatusCode::SERVICE_UNAVAILABLE => {
            Some(HeaderValue::from_static("5"))
        }
        _ => None,
    };
    headers.extend(retry_after.map(|seconds| (header::RETRY_AFTER, seconds)));
    response
}
