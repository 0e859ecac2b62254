//! Sign-in of local users, sign-out, and the password that dangerous changes ask for again. Without
//! local users, the sign-in leads to the [provider](provider_sign_in) at once.
//!
//! The password is checked by the login of the API, with its limits, its audit events and its
//! hashing threads.

use http::{HeaderValue, Method, Response, StatusCode, header};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{
    ConsoleContext, ConsoleRequest, SIGN_IN_PATH,
    api_call::{CallAnswer, ConsoleCall},
    danger,
    error_page::ConsoleError,
    layout::{self, ConsolePage, form_token, refusal},
    provider_sign_in,
    request::{self, FormFields},
    see_other,
    session::{ConsoleUser, NewSession},
    session_id::SessionTokens,
    text,
};
use crate::{
    auth::Caller,
    base::{clock, printable::printable, reply::Body, route::CONSOLE_PATH},
};

/// Field of the page to return to.
const RETURN: &str = "return";
/// The page after a sign-out.
pub(super) const SIGNED_OUT_PATH: &str = "/console/sign-in?out=1";
/// The page after a sign-out here only: the provider may still know the browser.
pub(super) const SIGNED_OUT_HERE_PATH: &str = "/console/sign-in?out=here";

/// Returns the redirect to the sign-in, which then returns to the requested page. A session that
/// has lapsed `at_provider` is renewed there.
///
/// A form is answered by a page with a link instead: a browser follows no redirect of a form to a
/// provider, as `form-action` does not name it.
pub(super) fn redirect(request: &ConsoleRequest, at_provider: bool) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return session_ended(at_provider);
    }
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let path = request::return_path(target);
    if at_provider {
        return see_other(&provider_sign_in::address(path, false));
    }
    let path = utf8_percent_encode(path, NON_ALPHANUMERIC);
    see_other(&format!("{SIGN_IN_PATH}?{RETURN}={path}"))
}

/// Returns the page for a form of a session that has ended.
fn session_ended(at_provider: bool) -> Response<Body> {
    let provider = provider_sign_in::address(CONSOLE_PATH, false);
    let address = if at_provider { &provider } else { SIGN_IN_PATH };
    let content = html! {
        section.narrow {
            h1 { "Your session has ended" }
            p { "Nothing was changed. Sign in, and send the form again." }
            p { a.button href=(address) { "Sign in" } }
        }
    };
    let page = ConsolePage { title: "Signed out", active: "", user: None };
    layout::respond(StatusCode::UNAUTHORIZED, &page, &content)
}

/// Returns the redirect to the page that asks for the password again.
pub(super) fn redirect_to_confirmation(path: &str) -> Response<Body> {
    let path = utf8_percent_encode(path, NON_ALPHANUMERIC);
    see_other(&format!("/console/confirm?{RETURN}={path}"))
}

/// Returns the page of the sign-in. Without local users it is that of the provider, except after a
/// sign-out.
///
/// # Errors
/// The address of the console is unknown.
pub(super) async fn page(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let query = request::query(request);
    let (out, return_path) = (query.get("out"), request::return_path(query.get(RETURN)));
    if out.is_empty() && context.provider.is_some() && !context.settings.allows_passwords {
        return provider_sign_in::begin_with(context, request, return_path, false).await;
    }
    let note = match out {
        "" => "",
        "here" => "You are signed out here. Your provider may still know this browser.",
        _ => "You are signed out.",
    };
    let fields = SignInFields { username: "", message: "", note, return_path };
    Ok(sign_in_page(context, StatusCode::OK, &fields))
}

/// Signs a local user in.
///
/// # Errors
/// Local users cannot sign in, the form is malformed, or the session cannot be stored.
pub(super) async fn sign_in(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let form = request::form(request).ok_or(ConsoleError::Form)?;
    let signing = context.api.settings.signing.as_deref();
    let Some(signing) = signing.filter(|_| context.settings.allows_passwords) else {
        return Err(ConsoleError::Forbidden("Local users cannot sign in here.".into()));
    };
    let (username, return_path) = (form.get("username"), request::return_path(form.get(RETURN)));
    let answer = log_in(context, caller, username, form.get("password")).await;
    let Some(token) = issued_token(&answer) else {
        let message = refusal_text(&answer);
        let fields = SignInFields { username, message: &message, note: "", return_path };
        return Ok(refused(sign_in_page(context, answer.status, &fields), &answer));
    };
    ConsoleUser::end_earlier(context, caller, request).await?;
    let username = answer.data()["user"]["username"].as_str().unwrap_or(username);
    let new = NewSession {
        username,
        section: signing.section(),
        tokens: SessionTokens { access: token, provider: None },
        subject: None,
        provider_session: None,
        authenticated_at: Some(clock::now()),
    };
    let id = ConsoleUser::begin(context, new).await?;
    let mut response = see_other(return_path);
    let cookie = request::set_cookie(request::is_secure(context, request), Some(&id));
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

/// Ends the session of a user.
///
/// # Errors
/// The session cannot be deleted.
pub(super) async fn sign_out(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    user: ConsoleUser,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let mut response = if user.is_of_provider() {
        provider_sign_in::sign_out(context, caller, user, request).await?
    } else {
        user.end(context, caller).await?;
        see_other(SIGNED_OUT_PATH)
    };
    let cookie = request::set_cookie(request::is_secure(context, request), None);
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

/// Returns the page to which a user returns without a sign-in. That of a change needs one.
pub(super) fn page_before(return_path: &str) -> &str {
    if return_path.starts_with(danger::PATH) { CONSOLE_PATH } else { return_path }
}

/// Why the password is asked again.
pub(super) const BEFORE_CHANGE: &str = "The change needs a recent sign-in, and yours was some time \
                                        ago. Nothing was changed yet.";

/// Returns the page that asks for the password again, here or at the provider.
pub(super) fn confirmation_page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Response<Body> {
    let query = request::query(request);
    let path = request::return_path(query.get(RETURN));
    match context.provider.filter(|_| user.is_of_provider()) {
        Some(provider) => provider_sign_in::confirmation(user, provider, path),
        None => confirmation(user, StatusCode::OK, "", path),
    }
}

/// Checks the password of a user again.
///
/// # Errors
/// The session is not that of a local user, or cannot be stored.
pub(super) async fn confirm(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    user: ConsoleUser,
    form: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    if !user.session.is_login() {
        return Err(ConsoleError::Forbidden("Your session has no password: sign in again.".into()));
    }
    let return_path = request::return_path(form.get(RETURN));
    let answer = log_in(context, caller, &user.stored.username, form.get("password")).await;
    match issued_token(&answer) {
        Some(token) => {
            user.authenticate_again(context, caller, token).await?;
            Ok(see_other(return_path))
        }
        None => {
            let page = confirmation(&user, answer.status, &refusal_text(&answer), return_path);
            Ok(refused(page, &answer))
        }
    }
}

async fn log_in(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    username: &str,
    password: &str,
) -> CallAnswer {
    let call = ConsoleCall {
        token: None,
        environment: None,
        method: Method::POST,
        target: "/api/v2/login",
        body: json!({ "username": username, "password": password }),
    };
    call.make(context, caller).await
}

fn issued_token(answer: &CallAnswer) -> Option<String> {
    let token = answer.data()["token"].as_str().map(str::to_owned);
    token.filter(|_| answer.status == StatusCode::OK)
}

/// Returns why a login is refused, and for how long.
fn refusal_text(answer: &CallAnswer) -> String {
    let message = answer.message();
    let seconds = answer.retry_after.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(seconds) = seconds else { return message.into_owned() };
    let message = message.trim_end_matches(": try again later").trim_end_matches('.');
    format!("{message}: try again in {}.", text::wait(seconds))
}

/// Adds the time after which to try again.
fn refused(mut page: Response<Body>, answer: &CallAnswer) -> Response<Body> {
    let retry_after = answer.retry_after.clone();
    page.headers_mut().extend(retry_after.map(|time: HeaderValue| (header::RETRY_AFTER, time)));
    page
}

/// What the page of the sign-in shows.
struct SignInFields<'f> {
    username: &'f str,
    /// Why a sign-in was refused.
    message: &'f str,
    note: &'f str,
    return_path: &'f str,
}

fn sign_in_page(
    context: &ConsoleContext<'_>,
    status: StatusCode,
    fields: &SignInFields<'_>,
) -> Response<Body> {
    let content = html! {
        section.narrow {
            h1 { "Sign in to Countersign" }
            @if !fields.note.is_empty() { p role="status" { (fields.note) } }
            (refusal(fields.message))
            @if let Some(provider) = context.provider {
                p { (provider_sign_in::link(provider, fields.return_path, false)) }
            }
            @if context.settings.allows_passwords {
                @if context.provider.is_some() { h2 { "Or with a password of this server" } }
                (password_form(fields))
            }
            @if context.provider.is_none() && !context.settings.allows_passwords {
                (refusal(NO_SIGN_IN))
            }
        }
    };
    layout::respond(status, &ConsolePage { title: "Sign in", active: "", user: None }, &content)
}

/// What the page shows if no user can sign in.
const NO_SIGN_IN: &str = "No user can sign in: no section of the configuration verifies the access \
                          tokens of oidc_authority. See countersign config check.";

fn password_form(fields: &SignInFields<'_>) -> Markup {
    html! {
        form method="post" action=(SIGN_IN_PATH) {
            input type="hidden" name=(RETURN) value=(fields.return_path);
            label for="username" { "Username" }
            input #username name="username" value=(fields.username) autocomplete="username"
                autocapitalize="none" spellcheck="false" required
                autofocus[fields.username.is_empty()];
            label for="password" { "Password" }
            input #password name="password" type="password" autocomplete="current-password"
                required autofocus[!fields.username.is_empty()];
            button.main type="submit" { "Sign in" }
        }
        details {
            summary { "Forgot the password?" }
            p {
                "An administrator sets a new one: "
                code { "countersign user password NAME" }
            }
        }
    }
}

fn confirmation(
    user: &ConsoleUser,
    status: StatusCode,
    message: &str,
    return_path: &str,
) -> Response<Body> {
    let content = html! {
        section.narrow {
            h1 { "Your password, please" }
            p { (BEFORE_CHANGE) }
            (refusal(message))
            form method="post" action="/console/confirm" {
                (form_token(user))
                input type="hidden" name=(RETURN) value=(return_path);
                input type="hidden" name="username" value=(user.stored.username)
                    autocomplete="username";
                label for="password" { "Password of " (printable(&user.stored.username)) }
                input #password name="password" type="password" autocomplete="current-password"
                    required autofocus;
                button.main type="submit" { "Continue" }
            }
            p { a href=(page_before(return_path)) { "Back, without a change" } }
        }
    };
    layout::respond(
        status,
        &ConsolePage { title: "Password", active: "", user: Some(user) },
        &content,
    )
}
