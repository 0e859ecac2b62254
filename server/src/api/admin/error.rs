//! Errors of calls, as problems (RFC 9457).

use http::{Response, StatusCode};

use crate::{
    api::{
        inmanta::{ApiError, ChangeRefusal, advise_client},
        settings::NO_SUCH_CALL,
    },
    base::reply::{Body, problem_with},
    revocation::RevokeError,
    store::StoreError,
};

/// Error of a call.
#[derive(Debug)]
pub(super) struct AdminError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// Name and value of a further member: `pointer` to a member of the body, or `parameter`.
    place: Option<(&'static str, String)>,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
}

impl AdminError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), place: None, retry_after: None }
    }

    /// Error of a body that cannot be read.
    pub(super) fn body(detail: &str) -> Self {
        Self { place: Some(("pointer", String::new())), ..Self::invalid(detail) }
    }

    /// Error of a member of the body, or of an element of it: `element` is the pointer from the
    /// member, such as `/` and an index.
    pub(super) fn member(name: &str, element: &str, detail: &str) -> Self {
        let pointer = format!("/{}{element}", name.replace('~', "~0").replace('/', "~1"));
        let detail = format!("{name}{element}: {detail}");
        Self { place: Some(("pointer", pointer)), ..Self::invalid(detail) }
    }

    /// Error of a place in the body, a pointer to a member or an element of one.
    pub(super) fn at(pointer: &str, detail: &str) -> Self {
        let detail = format!("{}: {detail}", pointer.trim_start_matches('/'));
        Self { place: Some(("pointer", pointer.to_owned())), ..Self::invalid(detail) }
    }

    /// Error of a parameter of the query or the path.
    pub(super) fn parameter(name: &str, detail: &str) -> Self {
        let detail = format!("{name}: {detail}");
        Self { place: Some(("parameter", name.to_owned())), ..Self::invalid(detail) }
    }

    /// Error of a call that cannot be made as it is.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// Error of a caller that may not make the call.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_authorized", detail)
    }

    /// Error of a body that is compressed.
    pub(super) fn compressed() -> Self {
        let detail = "the body is compressed (Content-Encoding): send it as it is";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed_body", detail)
    }

    /// Error of something that does not exist.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Error of a path without a call.
    pub(super) fn no_such_call() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_call", NO_SUCH_CALL)
    }

    /// Error of a change that conflicts with the present state.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// Error of a change of something that is not as the caller expects.
    pub(super) fn changed() -> Self {
        let detail = "it was changed meanwhile: the ETag in If-Match is not that of now";
        Self::new(StatusCode::PRECONDITION_FAILED, "changed", detail)
    }

    /// Error of a call that cannot be answered now.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        Self { retry_after: Some(5), ..error }
    }

    /// Returns the pointer to the member that is wrong; `None` for the body itself.
    #[cfg(test)]
    pub(super) fn pointer(&self) -> Option<&str> {
        self.place.as_ref().map(|(_, pointer)| &**pointer).filter(|pointer| !pointer.is_empty())
    }

    /// Returns the problem.
    pub(super) fn into_response(self) -> Response<Body> {
        let Self { status, code, detail, place, retry_after } = self;
        let place = place.as_ref().map(|(name, value)| (*name, &**value));
        let mut response = problem_with(status, code, &detail, place);
        advise_client(&mut response, retry_after);
        response
    }
}

impl From<ApiError> for AdminError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Request(text) | ApiError::Body(text) => Self::invalid(text),
            ApiError::Argument { pointer, text } => Self::at(&pointer, &text),
            ApiError::Unauthorized(text) => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
            }
            ApiError::Forbidden(text) => Self::forbidden(text),
            ApiError::NotFound(text) | ApiError::Refused(ChangeRefusal::Missing, text) => {
                Self::not_found(text)
            }
            ApiError::Conflict(text) | ApiError::Refused(ChangeRefusal::Conflict, text) => {
                Self::conflict(text)
            }
            ApiError::TooMany(attempts, wait) => {
                let detail = format!("too many {attempts}: try again later");
                let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail);
                // Rounded up, so that a client does not retry too early.
                Self { retry_after: Some(wait.as_secs() + 1), ..error }
            }
            ApiError::Unavailable(text) => Self::unavailable(text),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<RevokeError> for AdminError {
    fn from(error: RevokeError) -> Self {
        tracing::error!("{error}");
        Self::unavailable("nothing can be revoked")
    }
}
