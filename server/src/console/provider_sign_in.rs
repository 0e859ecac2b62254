//! Sign-in with the [`ConsoleProvider`]: its begin, the return of the browser, and the sign-out.

mod pages;
mod sign_out;

use http::{HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::pages::SignInFailure;
pub(super) use self::{
    pages::{confirmation, link},
    sign_out::sign_out,
};
use super::{
    ConsoleContext, ConsoleRequest, audit_event,
    error_page::{self, ConsoleError},
    openid::{
        AccessCheck, BegunSignIn, PendingSignIn, SIGNED_OUT_STATE, SignInError, SignInRequest,
        SignedIn, pending,
    },
    provider::ConsoleProvider,
    request, see_other,
    session::{Activity, ConsoleUser, NewSession, RequestSession, session_tokens},
    sign_in::SIGNED_OUT_PATH,
    text,
};
use crate::{
    accounts::{
        attempts::{LoginOrigin, TooManyAttempts},
        session::Session,
    },
    admission::Source,
    api::inmanta,
    audit::{AuditCaller, AuditOperation, AuditOutcome, AuditTarget},
    auth::{
        Caller,
        credential::{Credential, in_cookie},
    },
    base::{clock, printable::printable, reply::Body, route::CONSOLE_PATH},
    observe::metrics::{LoginOutcome, MetricEvent},
};

/// Path at which a sign-in with the provider begins.
pub(super) const PROVIDER_PATH: &str = "/console/sign-in/provider";
/// Parameter of the page to return to.
const RETURN: &str = "return";
/// Parameter of a sign-in for which the provider has to ask the user again.
const FRESH: &str = "fresh";

/// The reason why a browser that returns from the provider is not signed in.
enum CallbackError {
    /// The sign-in failed.
    SignIn(SignInError),
    /// The API does not accept the access token, for this reason.
    Api(String),
    /// Too many sign-ins from the source.
    TooMany(TooManyAttempts),
    /// The console cannot answer.
    Console(ConsoleError),
}

impl From<SignInError> for CallbackError {
    fn from(error: SignInError) -> Self {
        Self::SignIn(error)
    }
}

impl From<ConsoleError> for CallbackError {
    fn from(error: ConsoleError) -> Self {
        Self::Console(error)
    }
}

/// Returns the address at which a sign-in begins that then returns to a page.
pub(super) fn address(return_path: &str, is_fresh: bool) -> String {
    let fresh = if is_fresh { "&fresh=1" } else { "" };
    let path = utf8_percent_encode(return_path, NON_ALPHANUMERIC);
    format!("{PROVIDER_PATH}?{RETURN}={path}{fresh}")
}

/// Begins the sign-in that an [`address`] describes.
///
/// # Errors
/// No provider is configured, or the origin of the console is unknown.
pub(super) async fn begin(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let query = request::query(request);
    let return_path = request::return_path(query.get(RETURN));
    begin_with(context, request, return_path, query.get(FRESH) == "1").await
}

/// Begins a sign-in: sends the browser to the provider.
///
/// # Errors
/// As [`begin`].
pub(super) async fn begin_with(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
    return_path: &str,
    is_fresh: bool,
) -> Result<Response<Body>, ConsoleError> {
    let provider = context.provider.ok_or(ConsoleError::NotFound)?;
    let origin = request::origin(context, request).ok_or(ConsoleError::Host)?;
    let wanted = SignInRequest { origin: &origin, return_to: return_path, is_fresh };
    let begun = provider.client.begin(wanted).await;
    let begun = begun.and_then(|BegunSignIn { location, pending }| {
        let sealed = pending.seal(&provider.key, provider.client.settings())?;
        Ok((location, sealed))
    });
    Ok(match begun {
        Ok((location, sealed)) => {
            let mut response = see_other(&location);
            set_pending(context, request, &mut response, Some(&sealed));
            response
        }
        Err(error) => {
            log_failure(&error);
            pages::failure_page(context, provider, &error, return_path)
        }
    })
}

/// Answers at the root: to a browser that returns from the provider, or with a redirect to the
/// first page.
pub(super) async fn callback(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| {
        query.split('&').any(|pair| pair.split('=').next().is_some_and(|name| name == wanted))
    };
    let is_answer = *request.method() == Method::GET && (has("code") || has("error"));
    let Some(provider) = context.provider.filter(|_| is_answer) else {
        let is_signed_out =
            query.split('&').any(|pair| pair.strip_prefix("state=") == Some(SIGNED_OUT_STATE));
        return see_other(if is_signed_out { SIGNED_OUT_PATH } else { CONSOLE_PATH });
    };
    let pending = open_pending(context, request, provider);
    let return_path = pending.as_ref().map_or(CONSOLE_PATH, PendingSignIn::return_to).to_owned();
    let finished = match pending {
        Ok(pending) => finish(context, caller, request, (provider, pending, query)).await,
        Err(error) => Err(error.into()),
    };
    // An answer with another state, or none, does not end the sign-in that this browser has begun:
    // another site may have caused it.
    let keeps_pending = matches!(
        finished,
        Err(CallbackError::SignIn(
            SignInError::State | SignInError::Callback("state" | "the query")
        ))
    );
    let mut response = match finished {
        Ok(response) => response,
        // Of several tabs that sign in at once, one has done so.
        Err(CallbackError::SignIn(SignInError::NotBegun | SignInError::State))
            if is_signed_in(context, caller, request).await =>
        {
            see_other(CONSOLE_PATH)
        }
        Err(error) => refuse(context, caller, provider, &error, &return_path),
    };
    if !keeps_pending {
        set_pending(context, request, &mut response, None);
    }
    response
}

async fn is_signed_in(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> bool {
    let session = ConsoleUser::of(context, caller, request, Activity::Background).await;
    matches!(session, Ok(RequestSession::Valid(_)))
}

fn open_pending(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
    provider: &ConsoleProvider,
) -> Result<PendingSignIn, SignInError> {
    let name = pending::cookie_name(request::is_secure(context, request));
    let Credential::Token(sealed) = in_cookie(request.headers(), name) else {
        return Err(SignInError::NotBegun);
    };
    let sealed = str::from_utf8(sealed).map_err(|_| SignInError::NotBegun)?;
    PendingSignIn::open(sealed, &provider.key, provider.client.settings(), clock::now())
}

fn set_pending(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
    response: &mut Response<Body>,
    sealed: Option<&str>,
) {
    let line = pending::set_cookie(sealed, request::is_secure(context, request));
    if let Ok(mut line) = HeaderValue::try_from(line) {
        line.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, line);
    }
}

/// Finishes a sign-in, and begins a session.
async fn finish(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
    (provider, pending, query): (&ConsoleProvider, PendingSignIn, &str),
) -> Result<Response<Body>, CallbackError> {
    // First, since another site may have caused an answer that is not that of this sign-in.
    provider.client.check_state(&pending, query)?;
    let users = context.api.users.ok_or(ConsoleError::Unavailable)?;
    let origin = LoginOrigin {
        source: Source::of(caller.client.get()),
        is_shared: caller.client.is_unlisted_proxy(),
    };
    users.begin_sign_in(origin).map_err(CallbackError::TooMany)?;
    let with_username = Caller { username_optional: false, ..*caller };
    let access = AccessCheck { authenticator: context.api.authenticator, caller: &with_username };
    let signed_in = provider.client.finish(pending, query, access).await?;
    let session = accepted_by_api(context, caller, &signed_in).await?;
    ConsoleUser::end_earlier(context, caller, request).await?;
    let SignedIn { username, subject, session: provider_session, .. } = signed_in;
    let new = NewSession {
        username: &username,
        section: &provider.client.settings().section,
        tokens: session_tokens(provider.client.settings(), signed_in.tokens, signed_in.expires_at),
        subject: Some(subject),
        provider_session,
        authenticated_at: signed_in.authenticated_at,
    };
    let id = ConsoleUser::begin(context, new).await?;
    record_sign_in(context, caller, provider, (&session, &username)).await;
    let mut response = see_other(&signed_in.return_to);
    let cookie = request::set_cookie(request::is_secure(context, request), Some(&id));
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

/// Verifies the access token as every request of the session will. Otherwise the first page could
/// lead to a sign-in again, without an end.
async fn accepted_by_api(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    signed_in: &SignedIn,
) -> Result<Session, CallbackError> {
    let token = &signed_in.tokens.access_token;
    match inmanta::authenticate(&context.api, caller, token).await {
        Ok(Some(session)) => Ok(session),
        Ok(None) => Err(ConsoleError::Unavailable.into()),
        Err(reply) => {
            let status = reply.response.status();
            if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
                return Err(ConsoleError::Undecided.into());
            }
            let body: serde_json::Value =
                serde_json::from_slice(reply.response.body()).unwrap_or_default();
            let message = body["message"].as_str().unwrap_or("The access token is refused.");
            Err(CallbackError::Api(message.to_owned()))
        }
    }
}

async fn record_sign_in(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    provider: &ConsoleProvider,
    (session, username): (&Session, &str),
) {
    let metrics = &context.api.authenticator.metrics;
    metrics.count_event(MetricEvent::Login(LoginOutcome::Done));
    let section = &provider.client.settings().section;
    let client = caller.client.get();
    tracing::info!(user = %printable(username), %client, section, "sign-in");
    let mut event = audit_event::new(AuditOperation::Login, caller);
    event.outcome = AuditOutcome::Done;
    event.caller = AuditCaller::of(session);
    event.target = AuditTarget { user: Some(username.to_owned()), ..AuditTarget::default() };
    event.detail = Some(by(provider));
    audit_event::record(context, event).await;
}

/// Logs and records the reason of a failed sign-in, and returns its page.
fn refuse(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    provider: &ConsoleProvider,
    error: &CallbackError,
    return_path: &str,
) -> Response<Body> {
    let page = |status, message: &str, remedy: &str| {
        let failure = SignInFailure { message, remedy, blame: "" };
        failure.respond(context, provider, status, return_path)
    };
    let (reason, outcome, response) = match error {
        CallbackError::SignIn(error) => {
            log_failure(error);
            let response = pages::failure_page(context, provider, error, return_path);
            if is_from_anyone(error) {
                return response;
            }
            let is_unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
            let outcome =
                if is_unavailable { LoginOutcome::Unavailable } else { LoginOutcome::Wrong };
            ((!is_unavailable).then(|| error.code()), outcome, response)
        }
        CallbackError::Api(message) => {
            tracing::warn!(client = %caller.client.get(), "sign-in refused: {message}");
            let response = page(StatusCode::FORBIDDEN, message, "");
            (Some("not_authorized"), LoginOutcome::Wrong, response)
        }
        CallbackError::TooMany(TooManyAttempts(wait)) => {
            let seconds = wait.as_secs() + 1;
            let remedy = format!("try again in {}", text::wait(seconds));
            let message = "Too many sign-ins come from your address.";
            let mut response = page(StatusCode::TOO_MANY_REQUESTS, message, &remedy);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            (Some("too_many_attempts"), LoginOutcome::TooMany, response)
        }
        CallbackError::Console(error) => return error_page::respond(error, None),
    };
    context.api.authenticator.metrics.count_event(MetricEvent::Login(outcome));
    if let Some(reason) = reason {
        let mut event = audit_event::new(AuditOperation::Login, caller);
        (event.outcome, event.reason) = (AuditOutcome::Refused, Some(reason.to_owned()));
        event.detail = Some(by(provider));
        context.api.audit.record_later(event);
    }
    response
}

/// Returns the detail of an event in the audit log.
fn by(provider: &ConsoleProvider) -> String {
    format!("by the provider of {}", provider.client.settings().section)
}

/// Whether anyone can cause an error, without a sign-in that has begun.
const fn is_from_anyone(error: &SignInError) -> bool {
    matches!(error, SignInError::NotBegun | SignInError::Late)
}

fn log_failure(error: &SignInError) {
    let (code, remedy) = (error.code(), error.remedy());
    // Anyone can repeat these without a limit.
    let is_repeatable = matches!(error, SignInError::Busy | SignInError::Unreachable(_));
    if is_repeatable || is_from_anyone(error) {
        tracing::debug!(code, "sign-in with the provider failed: {error}");
    } else {
        tracing::warn!(code, "sign-in with the provider failed: {error}; {remedy}");
    }
}
