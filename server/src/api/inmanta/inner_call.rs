//! Calls of this API on behalf of another surface of the server, which authenticates the caller.
//! Authorization, execution and the audit log are those of a request.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use serde_json::Value;

use super::{
    ApiError, EnvironmentLookup, NO_SUCH_CALL, authorize, origin_of, perform, request::ApiRequest,
};
use crate::{
    accounts::session::Session,
    api::{ApiContext, audited::AuditedCall},
    auth::Caller,
    authorization::endpoints::api::{ApiEndpoint, PathMatch, find_endpoint},
};

/// A call. Not `Debug`: it may contain a password.
pub(in crate::api) struct InnerCall<'c> {
    /// Its method.
    pub(in crate::api) method: Method,
    /// Its path and query, percent-encoded.
    pub(in crate::api) target: String,
    /// The environment that it concerns, if a header names one.
    pub(in crate::api) environment: Option<&'c str>,
    /// Its arguments. Null for none.
    pub(in crate::api) body: Value,
}

/// The answer to an [`InnerCall`]. Not `Debug`: it may contain a token.
pub(in crate::api) struct InnerAnswer {
    /// The value in its envelope; null without one.
    pub(in crate::api) data: Value,
    /// The header `Authorization`, with the token of a new session.
    pub(in crate::api) authorization: Option<HeaderValue>,
}

/// An [`InnerCall`] that its caller may make. Not `Debug`: it may contain a password.
pub(in crate::api) struct AuthorizedCall {
    endpoint: &'static ApiEndpoint,
    request: ApiRequest,
}

impl InnerCall<'_> {
    /// Checks that the holder of a session may make the call, and that its environment exists.
    ///
    /// # Errors
    /// The arguments are invalid, the call is not allowed, or the environment does not exist.
    pub(in crate::api) async fn authorize(
        &self,
        context: &ApiContext<'_>,
        session: &Session,
        audited: &mut AuditedCall<'_>,
    ) -> Result<AuthorizedCall, ApiError> {
        let request = self.request()?;
        match find_endpoint(self.method.as_str(), request.uri().path()) {
            PathMatch::Endpoint(endpoint, of_path) => {
                let called = (of_path, &request);
                let call = (endpoint, EnvironmentLookup::AfterAuthorization);
                let request = authorize(context, Some(session), call, called, audited).await?;
                Ok(AuthorizedCall { endpoint, request })
            }
            PathMatch::OtherMethods(_) | PathMatch::NotFound => {
                Err(ApiError::not_found(NO_SUCH_CALL))
            }
        }
    }

    fn request(&self) -> Result<Request<Bytes>, ApiError> {
        const ENVIRONMENT: HeaderName = HeaderName::from_static("x-inmanta-tid");
        let body = if self.body.is_null() { Bytes::new() } else { self.body.to_string().into() };
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.method);
        let target = self.target.parse();
        *request.uri_mut() = target.map_err(|_| ApiError::not_found(NO_SUCH_CALL))?;
        if let Some(environment) = self.environment {
            let value = HeaderValue::from_str(environment);
            let value = value.map_err(|_| ApiError::request("the environment is not a UUID"))?;
            request.headers_mut().insert(ENVIRONMENT, value);
        }
        Ok(request)
    }
}

impl AuthorizedCall {
    /// Executes the call, for the session that it was authorized for.
    ///
    /// # Errors
    /// The [`ApiError`] of the call.
    pub(in crate::api) async fn execute(
        self,
        context: &ApiContext<'_>,
        caller: &Caller<'_, '_>,
        session: &Session,
        audited: &mut AuditedCall<'_>,
    ) -> Result<InnerAnswer, ApiError> {
        let (origin, call) = (origin_of(caller), (self.endpoint, self.request));
        let executed = perform(context, origin, Some(session), call, audited).await?;
        let mut body: Value = serde_json::from_slice(executed.body()).unwrap_or_default();
        Ok(InnerAnswer {
            data: body.get_mut("data").map(Value::take).unwrap_or_default(),
            authorization: executed.headers().get(header::AUTHORIZATION).cloned(),
        })
    }
}
