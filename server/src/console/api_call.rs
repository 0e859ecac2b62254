//! Calls of the API on behalf of a user of the console.
//!
//! The console changes and reads through [`inmanta::respond`] and [`infisical::respond`], as every
//! other client: tokens, authorization, limits and the audit log are those of the API.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    ConsoleContext,
    error_page::{CallRefusal, ConsoleError},
    session::ConsoleUser,
};
use crate::{
    api::{infisical, inmanta},
    auth::Caller,
    base::reply::{Body, Reply},
};

/// The header that names an environment.
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-inmanta-tid");

/// A call of the API.
pub(super) struct ConsoleCall<'c> {
    /// The token of the user, if the call needs one.
    pub(super) token: Option<&'c str>,
    /// The environment that a header names, if the call is within one.
    pub(super) environment: Option<&'c str>,
    /// Its method.
    pub(super) method: Method,
    /// Its path and query, percent-encoded.
    pub(super) target: &'c str,
    /// Its arguments. Null for none.
    pub(super) body: Value,
}

/// The calls of a user, as the client of a request.
#[derive(Clone, Copy)]
pub(super) struct UserCalls<'c> {
    pub(super) context: &'c ConsoleContext<'c>,
    pub(super) caller: &'c Caller<'c, 'c>,
    pub(super) user: &'c ConsoleUser,
}

impl UserCalls<'_> {
    /// Reads from a path.
    pub(super) async fn get(&self, target: &str) -> CallAnswer {
        self.make(Method::GET, target, Value::Null).await
    }

    /// Makes a call.
    pub(super) async fn make(&self, method: Method, target: &str, body: Value) -> CallAnswer {
        self.make_within("", method, target, body).await
    }

    /// Makes a call within an environment, unless that is empty.
    pub(super) async fn make_within(
        &self,
        environment: &str,
        method: Method,
        target: &str,
        body: Value,
    ) -> CallAnswer {
        let environment = Some(environment).filter(|environment| !environment.is_empty());
        let call = ConsoleCall { environment, ..self.call(method, target, body) };
        call.make(self.context, self.caller).await
    }

    /// Makes a call about machine identities.
    pub(super) async fn make_infisical(
        &self,
        method: Method,
        target: &str,
        body: Value,
    ) -> CallAnswer {
        self.call(method, target, body).make_infisical(self.context, self.caller).await
    }

    /// Whether the user may make a call that has no arguments, without making it.
    pub(super) fn may_make(&self, method: &str, path: &str) -> bool {
        inmanta::may_call(&self.context.api, &self.user.session, method, path)
    }

    /// As [`may_make`](Self::may_make), within an environment.
    pub(super) fn may_make_within(&self, environment: &str, method: &str, path: &str) -> bool {
        let (api, session) = (&self.context.api, &self.user.session);
        inmanta::may_call_within(api, session, Some(environment), (method, path))
    }

    /// Checks that the user may make a call, without making it.
    ///
    /// # Errors
    /// The call would be refused.
    pub(super) fn check(
        &self,
        method: Method,
        target: &str,
        body: Value,
    ) -> Result<(), ConsoleError> {
        let request = self.call(method, target, body).request();
        let session = &self.user.session;
        let refused =
            request.and_then(|request| inmanta::denial(&self.context.api, session, &request));
        refused.map_or(Ok(()), |refused| Err(CallAnswer::from(refused).into_error()))
    }

    fn call<'t>(&'t self, method: Method, target: &'t str, body: Value) -> ConsoleCall<'t> {
        ConsoleCall { token: Some(&self.user.token), environment: None, method, target, body }
    }
}

/// The answer to a [`ConsoleCall`]. Not `Debug`: it may contain a token.
pub(super) struct CallAnswer {
    /// Its status.
    pub(super) status: StatusCode,
    /// The seconds after which to try again, if it has them.
    pub(super) retry_after: Option<HeaderValue>,
    body: Value,
}

impl CallAnswer {
    /// Returns its whole body.
    pub(super) const fn body(&self) -> &Value {
        &self.body
    }

    /// The answer to a call that cannot be sent.
    fn malformed() -> Self {
        let body = json!({ "message": "An argument has characters that it cannot have." });
        Self { status: StatusCode::BAD_REQUEST, retry_after: None, body }
    }

    /// Returns the value in its envelope.
    pub(super) fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// Returns the answer of a call whose data a page needs.
    ///
    /// # Errors
    /// The call is refused, or fails.
    pub(super) fn into_success(self) -> Result<Self, ConsoleError> {
        if self.status == StatusCode::OK { Ok(self) } else { Err(self.into_error()) }
    }

    /// Returns the answer of a call whose data a page shows to those who may have them.
    ///
    /// # Errors
    /// The call fails for another reason.
    pub(super) fn unless_failed(self) -> Result<Self, ConsoleError> {
        if self.status == StatusCode::FORBIDDEN { Ok(self) } else { self.into_success() }
    }

    /// Returns the [`ConsoleError`] of a page that needs the data of this call, and lacks it.
    fn into_error(self) -> ConsoleError {
        let message = self.message().into_owned();
        match self.status {
            StatusCode::FORBIDDEN => ConsoleError::Forbidden(message),
            status => {
                let retry_after = self.retry_after;
                ConsoleError::Call(CallRefusal { status, message, retry_after })
            }
        }
    }

    /// Returns the message of a refusal. Bodies in a wrong form are answered with a list.
    pub(super) fn message(&self) -> Cow<'_, str> {
        match &self.body["message"] {
            Value::String(message) => message.into(),
            Value::Array(issues) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let issue = |issue: &Value| {
                    format!("{}: {}", text(&issue["path"][0]), text(&issue["message"]))
                };
                issues.iter().map(issue).collect::<Vec<_>>().join("; ").into()
            }
            _ => "The call failed without a reason.".into(),
        }
    }
}

impl ConsoleCall<'_> {
    /// Makes the call as the client of a request, the [`Caller`].
    pub(super) async fn make(
        self,
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
    ) -> CallAnswer {
        match self.request() {
            Some(request) => inmanta::respond(&context.api, caller, &request).await.into(),
            None => CallAnswer::malformed(),
        }
    }

    /// Makes a call about machine identities as the client of a request, the [`Caller`].
    async fn make_infisical(
        self,
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
    ) -> CallAnswer {
        let (Some(request), Some(identities)) = (self.request(), &context.api.settings.identities)
        else {
            return CallAnswer::malformed();
        };
        let caller = (caller, context.certificate);
        // Apart, so that the memory of its work is not counted for every other page.
        let reply = infisical::respond(&context.api, identities, caller, &request);
        Box::pin(reply).await.into()
    }

    /// Returns the request of the call; `None` if an argument cannot be part of one.
    fn request(self) -> Option<Request<Bytes>> {
        let body = if self.body.is_null() { Bytes::new() } else { self.body.to_string().into() };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        let token = self.token.map(|token| format!("Bearer {token}"));
        let token = token.map(HeaderValue::try_from).transpose().ok()?;
        let environment = self.environment.map(HeaderValue::from_str).transpose().ok()?;
        *request.uri_mut() = self.target.parse().ok()?;
        let headers = request.headers_mut();
        headers.extend(token.map(|token| (header::AUTHORIZATION, token)));
        headers.extend(environment.map(|id| (ENVIRONMENT, id)));
        Some(request)
    }
}

impl From<Reply> for CallAnswer {
    fn from(reply: Reply) -> Self {
        reply.response.into()
    }
}

impl From<Response<Body>> for CallAnswer {
    fn from(response: Response<Body>) -> Self {
        Self {
            status: response.status(),
            retry_after: response.headers().get(header::RETRY_AFTER).cloned(),
            body: serde_json::from_slice(response.body()).unwrap_or_default(),
        }
    }
}
