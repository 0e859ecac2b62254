//! Error responses of the API, with the Inmanta server's texts.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    accounts::{LoginError, attempts::TooManyAttempts, signing::SigningError},
    auth::profile::inmanta,
    base::reply::Body,
    revocation::RevokeError,
    store::StoreError,
};

/// Error of a call.
pub(in crate::api) enum ApiError {
    /// The arguments are invalid.
    Request(String),
    /// An argument is invalid.
    Argument {
        /// Pointer to it, or to an element of it, in the object of all arguments.
        pointer: String,
        /// The mistake.
        text: String,
    },
    /// The state of the server does not allow the change. The Inmanta server answers as for
    /// invalid arguments.
    Refused(ChangeRefusal, String),
    /// The body cannot be read. The text is the whole message.
    Body(String),
    /// Authentication failed.
    Unauthorized(String),
    /// The caller is not authorized.
    Forbidden(String),
    /// The object does not exist.
    NotFound(String),
    /// The object already exists, or was changed concurrently.
    Conflict(String),
    /// Too many attempts, with their description; a new one is possible after this time.
    TooMany(&'static str, Duration),
    /// Temporarily unavailable.
    Unavailable(String),
}

/// Why the state of the server does not allow a change. It may be found by a check before the
/// change, or by a constraint of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum ChangeRefusal {
    /// The object of the change, or one that it refers to, does not exist.
    Missing,
    /// The new object exists already, or the one to delete is in use.
    Conflict,
}

impl ApiError {
    pub(super) fn request(text: impl Into<String>) -> Self {
        Self::Request(text.into())
    }

    /// Error of the argument with this name.
    pub(super) fn argument(name: &str, text: impl Into<String>) -> Self {
        Self::Argument { pointer: format!("/{name}"), text: text.into() }
    }

    pub(super) fn refused(refusal: ChangeRefusal, text: impl Into<String>) -> Self {
        Self::Refused(refusal, text.into())
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::NotFound(text.into())
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let retry_after = match &self {
            // Rounded up, so that a client does not retry too early.
            Self::TooMany(_, wait) => Some(wait.as_secs() + 1),
            Self::Unavailable(_) => Some(5),
            _ => None,
        };
        let (status, message) = match self {
            Self::Request(text) | Self::Argument { text, .. } | Self::Refused(_, text) => {
                (StatusCode::BAD_REQUEST, format!("Invalid request: {text}"))
            }
            Self::Body(text) => (StatusCode::BAD_REQUEST, text),
            Self::Unauthorized(text) => (StatusCode::UNAUTHORIZED, text),
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, format!("Access denied: {text}")),
            Self::NotFound(text) => (
                StatusCode::NOT_FOUND,
                format!("Request or referenced resource does not exist: {text}"),
            ),
            Self::Conflict(text) => (
                StatusCode::CONFLICT,
                format!("Request conflicts with the current state of the resource: {text}"),
            ),
            Self::TooMany(attempts, _) => {
                (StatusCode::TOO_MANY_REQUESTS, format!("Too many {attempts}: try again later"))
            }
            Self::Unavailable(text) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("This cannot be done now: {text}"))
            }
        };
        let mut response = inmanta::message_response(status, &message);
        advise_client(&mut response, retry_after);
        response
    }
}

/// The error of a call within an environment that does not exist.
pub(super) fn unknown_environment() -> ApiError {
    ApiError::not_found("The given environment id does not exist!")
}

/// Adds to a refusal when to try again, in seconds, and what credential is needed.
pub(in crate::api) fn advise_client(response: &mut Response<Body>, retry_after: Option<u64>) {
    let needs_token = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if needs_token {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

/// Fallback for database errors without a specific response. The reason is only logged.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self::Unavailable("the database does not answer".into())
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::Unauthorized("Invalid username or password".into()),
            LoginError::TooMany(wait) => Self::TooMany("failed logins", wait),
            LoginError::Busy => Self::Unavailable("too many users log in at once".into()),
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<TooManyAttempts> for ApiError {
    fn from(TooManyAttempts(wait): TooManyAttempts) -> Self {
        Self::TooMany("renewals", wait)
    }
}

impl From<RevokeError> for ApiError {
    fn from(error: RevokeError) -> Self {
        tracing::error!("{error}");
        Self::Unavailable("nothing can be revoked".into())
    }
}

impl From<SigningError> for ApiError {
    fn from(error: SigningError) -> Self {
        let text = error.to_string();
        match error {
            SigningError::ClientType(..) => Self::argument("client_types", text),
            SigningError::Lifetime(_) => Self::argument("expire", text),
            SigningError::NoSecret(_) => Self::Request(text),
        }
    }
}
