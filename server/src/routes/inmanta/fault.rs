//! Why a call is not made, in the words of the Inmanta server.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    http::Body, issue::SigningError, revocation::RevokeError, store::StoreError, surface::inmanta,
    users::LoginError,
};

/// Why a call is not made.
pub(super) enum ApiError {
    /// What is asked for cannot be meant.
    Request(String),
    /// Whoever asks is not who they say.
    Unauthorized(String),
    /// They may not.
    Forbidden(String),
    /// There is no such thing.
    NotFound(String),
    /// There is such a thing already.
    Conflict(String),
    /// It was tried too often.
    TooMany(Duration),
    /// It cannot be done now.
    Unavailable(String),
}

impl ApiError {
    pub(super) fn request(text: impl Into<String>) -> Self {
        Self::Request(text.into())
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::NotFound(text.into())
    }

    pub(super) fn answer(self) -> Response<Body> {
        let retry_after = match &self {
            // Rounded up: earlier would be too early.
            Self::TooMany(wait) => Some(wait.as_secs() + 1),
            Self::Unavailable(_) => Some(5),
            _ => None,
        };
        let (status, message) = match self {
            Self::Request(text) => (StatusCode::BAD_REQUEST, format!("Invalid request: {text}")),
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
            Self::TooMany(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many failed logins: try again later".into())
            }
            Self::Unavailable(text) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("This cannot be done now: {text}"))
            }
        };
        let mut response = inmanta::answer(status, &message);
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What was not foreseen where it was asked. The reason is for the log.
impl From<StoreError> for ApiError {
    fn from(fault: StoreError) -> Self {
        tracing::error!("{fault}");
        Self::Unavailable("the database does not answer".into())
    }
}

impl From<LoginError> for ApiError {
    fn from(fault: LoginError) -> Self {
        match fault {
            LoginError::Wrong => Self::Unauthorized("Invalid username or password".into()),
            LoginError::TooMany(wait) => Self::TooMany(wait),
            LoginError::Busy => Self::Unavailable("too many users log in at once".into()),
            LoginError::Store(fault) => fault.into(),
        }
    }
}

impl From<RevokeError> for ApiError {
    fn from(fault: RevokeError) -> Self {
        tracing::error!("{fault}");
        Self::Unavailable("nothing can be revoked".into())
    }
}

impl From<SigningError> for ApiError {
    fn from(error: SigningError) -> Self {
        Self::Request(error.to_string())
    }
}
