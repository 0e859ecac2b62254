//! Errors of calls, in Infisical's envelope: `reqId`, `statusCode`, `message` and `error`.

use std::{num::NonZero, time::Duration};

use countersign_engine::{Blame, Reject};
use countersign_front::BadRequest;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    accounts::signing::random_uuid,
    auth::Rejection,
    base::reply::{Body, json as json_response},
    identities::{checks::IdentityRefusal, settings::IdentitySettings},
    observe::metrics::LoginOutcome,
    revocation::RevokeError,
    store::StoreError,
};

/// Reason of a refusal because of a lockout.
pub(super) const LOCKED_OUT: &str = "locked_out";

/// Error of a call.
#[derive(Debug)]
pub(in crate::api) struct InfisicalError {
    status: StatusCode,
    /// Name of the kind of the error.
    name: &'static str,
    /// A text; a list of issues for a body that does not have the form of the call.
    message: Value,
    /// The reason in the audit log, if the status is not enough.
    reason: Option<&'static str>,
    distinction: ErrorDistinction,
    /// Seconds after which the client may try again.
    retry_after: Option<NonZero<u32>>,
    details: Option<Box<ErrorDetails>>,
}

/// What few errors have.
#[derive(Debug, Default)]
struct ErrorDetails {
    /// The methods of the route, if the one of the request is not among them.
    allowed: Option<HeaderValue>,
    /// Pointer to the first mistake in the body.
    pointer: Option<String>,
}

/// What distinguishes an [`InfisicalError`] from others with its status, in other APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorDistinction {
    Usual,
    /// The call conflicts with the present state.
    Conflict,
    /// Something in the path does not exist.
    Missing,
}

/// Parts of an [`InfisicalError`].
pub(in crate::api) struct InfisicalErrorParts<'e> {
    /// Its status; 409 for a conflict, and 404 for what does not exist.
    pub(in crate::api) status: StatusCode,
    /// Pointer to the first mistake in the body.
    pub(in crate::api) pointer: Option<&'e str>,
    /// Its message.
    pub(in crate::api) message: Option<&'e str>,
}

impl InfisicalError {
    fn new(status: StatusCode, name: &'static str, message: impl Into<Value>) -> Self {
        let is_unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
        Self {
            status,
            name,
            message: message.into(),
            reason: None,
            distinction: ErrorDistinction::Usual,
            retry_after: NonZero::new(5).filter(|_| is_unavailable),
            details: None,
        }
    }

    /// Sets the reason in the audit log.
    pub(super) fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Sets the place in the body, a pointer.
    pub(super) fn at(mut self, pointer: &str) -> Self {
        self.details.get_or_insert_default().pointer = Some(pointer.to_owned());
        self
    }

    pub(super) const fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// The refusal of a certificate.
    pub(super) fn of_certificate(status: StatusCode, message: &'static str) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::bad_request(message),
            StatusCode::SERVICE_UNAVAILABLE => Self::unavailable(message),
            _ => Self::unauthorized(message),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message.into())
    }

    /// The error of a role in the body that does not exist. It has the status of a path that does
    /// not.
    pub(super) fn missing_role(role: &str) -> Self {
        Self::not_found(format!("Role with slug {role} not found")).at("/role")
    }

    /// The error of a change that the present state does not allow. It has the status of a bad
    /// request.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { distinction: ErrorDistinction::Conflict, ..Self::bad_request(message) }
    }

    /// The error of something in the path that does not exist. It has the status of a bad request.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { distinction: ErrorDistinction::Missing, ..Self::bad_request(message) }
    }

    /// Returns the parts of the error that an API with errors in another form shows.
    pub(in crate::api) fn parts(&self) -> InfisicalErrorParts<'_> {
        let status = match self.distinction {
            ErrorDistinction::Conflict => StatusCode::CONFLICT,
            ErrorDistinction::Missing => StatusCode::NOT_FOUND,
            ErrorDistinction::Usual => self.status,
        };
        let message = match &self.message {
            Value::Array(issues) => &issues[0]["message"],
            message => message,
        };
        let pointer = self.details.as_ref().and_then(|details| details.pointer.as_deref());
        InfisicalErrorParts { status, pointer, message: message.as_str() }
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UnauthorizedError", message.into())
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "ForbiddenError", message.into())
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message.into())
    }

    pub(super) fn unknown_route() -> Self {
        Self::not_found("This route does not exist")
    }

    /// The error for a route that has only these methods.
    pub(super) fn method_not_allowed(methods: &[&str]) -> Self {
        let message = "This route does not have this method";
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        let allowed = HeaderValue::from_str(&methods.join(", ")).ok();
        error.details.get_or_insert_default().allowed = allowed;
        error
    }

    /// The members of a body that do not have the form of the call.
    pub(super) fn validation(issues: Vec<Value>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "ValidationFailure", issues)
    }

    /// The refusal of a body that is too long, too slow, or too much for the memory of the server.
    pub(super) fn of_body(reason: &BadRequest) -> Self {
        let name = match reason.status {
            StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLarge",
            StatusCode::REQUEST_TIMEOUT => "RequestTimeout",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "BadRequest",
        };
        Self::new(reason.status, name, &*reason.detail)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message.into())
    }

    /// The refusal of a call that is possible again after this time.
    pub(super) fn too_many(wait: Duration) -> Self {
        let whole = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        let seconds = NonZero::<u32>::MIN.saturating_add(whole);
        let message = format!("Rate limit exceeded. Please try again in {seconds} seconds");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitExceeded", message);
        Self { retry_after: Some(seconds), ..error }
    }

    /// The refusal of a token.
    pub(super) fn rejected(rejection: &Rejection, settings: &IdentitySettings) -> Self {
        if let Some(refusal) = rejection.identity {
            return refusal.into();
        }
        let token_error = |status, message: &str| Self::new(status, "TokenError", message);
        match rejection.reject {
            Reject::Revoked => Self::unauthorized("Failed to authorize: token has been revoked"),
            Reject::Expired => token_error(
                settings.expired_status,
                "Your token has expired. Please re-authenticate.",
            ),
            Reject::AlgorithmNotAllowed => token_error(
                StatusCode::FORBIDDEN,
                "The access token is signed with an invalid algorithm. Please provide a valid \
                 token and try again.",
            ),
            Reject::Signature => token_error(StatusCode::FORBIDDEN, "invalid signature"),
            reject => match reject.blame() {
                Blame::Unavailable => {
                    Self::unavailable(format!("The token cannot be verified now: {reject}"))
                }
                Blame::Malformed => token_error(
                    StatusCode::FORBIDDEN,
                    "The provided access token is malformed. Please use a valid token or generate \
                     a new one and try again.",
                ),
                Blame::Untrusted | Blame::Claims => {
                    token_error(StatusCode::FORBIDDEN, &reject.to_string())
                }
            },
        }
    }

    /// Returns the outcome of a login with this error, for metrics.
    pub(super) fn login_outcome(&self) -> LoginOutcome {
        match self.reason {
            Some(LOCKED_OUT) => LoginOutcome::TooMany,
            _ if self.status == StatusCode::SERVICE_UNAVAILABLE => LoginOutcome::Unavailable,
            _ => LoginOutcome::Wrong,
        }
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn into_response(self) -> Response<Body> {
        // By it, an operator can refer to a response. Without randomness, it has none.
        let id = random_uuid().map(|id| format!("req-{id}")).unwrap_or_default();
        let body = json!({
            "reqId": id,
            "statusCode": self.status.as_u16(),
            "message": self.message,
            "error": self.name,
        });
        let mut response = json_response(self.status, &body);
        let headers = response.headers_mut();
        if let Some(allowed) = self.details.and_then(|details| details.allowed) {
            headers.insert(header::ALLOW, allowed);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.get().into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<IdentityRefusal> for InfisicalError {
    fn from(refusal: IdentityRefusal) -> Self {
        let error = match refusal {
            IdentityRefusal::Address => Self::forbidden(
                "You are not allowed to access this resource from the current IP address",
            ),
            IdentityRefusal::Exhausted => {
                Self::unauthorized("Failed to authorize: token usage limit reached")
            }
            IdentityRefusal::Revoked => {
                Self::unauthorized("Failed to authorize: auth method has been revoked")
            }
            IdentityRefusal::Unavailable => Self::unavailable("The database does not answer"),
        };
        error.because(refusal.outcome().name())
    }
}

/// Fallback for database errors without a specific response. The reason is only logged.
impl From<StoreError> for InfisicalError {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self::unavailable("The database does not answer")
    }
}

impl From<RevokeError> for InfisicalError {
    fn from(error: RevokeError) -> Self {
        tracing::error!("{error}");
        Self::unavailable("Nothing can be revoked now")
    }
}
