//! A request to the console: its cookie, its form, and whether another site may have caused it.

use countersign_front::only_line;
use http::{HeaderName, HeaderValue, header, uri::Authority};
use percent_encoding::percent_decode_str;

use super::{ConsoleContext, ConsoleRequest, session_id::SessionId};
use crate::{
    auth::credential::{Credential, in_cookie},
    client::{RequestDescription, request_description::HttpCheck, transport_security},
};

/// Name of the cookie over TLS. A browser accepts the prefix only from this host, over TLS.
const COOKIE: &str = "__Host-countersign-session";
/// Name of the cookie over plain HTTP.
const PLAIN_COOKIE: &str = "countersign-session";
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Most fields of a form or query. They are compared with each other.
const MAX_FIELDS: usize = 64;

/// The fields of a form or query, in their order.
#[derive(Default)]
pub(super) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Parses a form or query; `None` if it is malformed, has a field twice, or more than
    /// [`MAX_FIELDS`].
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.split(|byte| *byte == b'&').count() > MAX_FIELDS {
            return None;
        }
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(text).ok()?;
        let is_repeated = |(index, (name, _)): (usize, &(String, String))| {
            fields.iter().skip(index + 1).any(|(other, _)| other == name)
        };
        let has_repeated = fields.iter().enumerate().any(is_repeated);
        (!has_repeated).then_some(Self(fields))
    }

    /// Returns a query with one field.
    pub(super) fn of(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    /// Returns the value of a field; empty if the form does not have it.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns the address of a page with these fields as its query, but for those that change.
    /// Empty ones are left out.
    pub(super) fn address(&self, path: &str, changes: &[(&str, &str)]) -> String {
        let kept = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = kept.filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let fields = kept.chain(changes.iter().copied());
        let fields: Vec<_> = fields.filter(|(_, value)| !value.is_empty()).collect();
        match serde_urlencoded::to_string(fields) {
            Ok(query) if !query.is_empty() => format!("{path}?{query}"),
            _ => path.to_owned(),
        }
    }
}

/// Returns the [`FormFields`] in the body of a request; `None` if it is not a well-formed form.
pub(super) fn form(request: &ConsoleRequest) -> Option<FormFields> {
    let media_type = request.headers().get(header::CONTENT_TYPE)?.as_bytes();
    let media_type = media_type.split(|byte| *byte == b';').next()?.trim_ascii();
    media_type.eq_ignore_ascii_case(FORM).then(|| FormFields::parse(request.body()))?
}

/// Returns the query of a request. A malformed one is empty.
pub(super) fn query(request: &ConsoleRequest) -> FormFields {
    FormFields::parse(request.uri().query().unwrap_or_default().as_bytes()).unwrap_or_default()
}

/// Whether the browser's connection is protected by TLS, here or at a trusted proxy.
pub(super) fn is_secure(context: &ConsoleContext<'_>, request: &ConsoleRequest) -> bool {
    let peer = context.peer.address;
    transport_security::is_secure(context.client, peer, context.is_tls, request.headers())
}

/// Returns the origin of the console as the browser sees it: scheme, host and port, without a slash
/// at the end. `None` if the host is missing or malformed.
pub(super) fn origin(context: &ConsoleContext<'_>, request: &ConsoleRequest) -> Option<String> {
    let host: Authority = host(context, request)?.parse().ok()?;
    let scheme = if is_secure(context, request) { "https" } else { "http" };
    (!host.as_str().contains('@')).then(|| format!("{scheme}://{host}"))
}

/// Returns the host and port to which the browser has sent a request, which a trusted proxy can
/// state. `None` if that is missing, or stated twice.
fn host<'r>(context: &ConsoleContext<'_>, request: &'r ConsoleRequest) -> Option<&'r str> {
    let headers = request.headers();
    let is_from_proxy = context.client.proxies.trusts(context.peer.address);
    let forwarded = only_line(headers, &FORWARDED_HOST).ok()?.filter(|_| is_from_proxy);
    let host = match forwarded {
        Some(host) => host,
        None => only_line(headers, &header::HOST).ok()??,
    };
    str::from_utf8(host).ok()
}

/// Whether a request with an effect comes from a page of the console, by
/// [`RequestDescription::may_use_cookie`]: no other site can have caused it.
pub(super) fn is_same_origin(context: &ConsoleContext<'_>, request: &ConsoleRequest) -> bool {
    let check = HttpCheck {
        method: request.method().as_str(),
        target: request.uri().path(),
        host: host(context, request).unwrap_or_default(),
        is_tls: is_secure(context, request),
        fields: request.headers(),
    };
    RequestDescription::of_http(context.client, context.peer.address, check).may_use_cookie()
}

/// Returns the [`SessionId`] in the cookie of a request.
pub(super) fn session_id(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
) -> Option<SessionId> {
    match in_cookie(request.headers(), cookie_name(is_secure(context, request))) {
        Credential::Token(value) => SessionId::parse(value),
        Credential::None | Credential::Conflict | Credential::CrossSite => None,
    }
}

/// Returns the `Set-Cookie` value with a session id, or the one that removes the cookie.
pub(super) fn set_cookie(is_secure: bool, id: Option<&SessionId>) -> Option<HeaderValue> {
    let (name, value) = (cookie_name(is_secure), id.map(SessionId::cookie_value));
    let secure = if is_secure { "; Secure" } else { "" };
    let age = if id.is_some() { "" } else { "; Max-Age=0" };
    let value = value.unwrap_or_default();
    let line = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}");
    let mut line = HeaderValue::from_str(&line).ok()?;
    line.set_sensitive(true);
    Some(line)
}

fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { COOKIE } else { PLAIN_COOKIE }
}

/// Returns the page to return to after a sign-in, if it is one of the console. Any other address
/// could be that of another site.
pub(super) fn return_path(given: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~?=&%+:@".contains(&byte);
    let path = given.split('?').next().unwrap_or_default();
    let is_page = path == "/console" || path.starts_with("/console/");
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let is_normal = !decoded.contains("..") && !decoded.contains("//") && !decoded.contains('\\');
    if is_page && is_normal && given.bytes().all(is_plain) { given } else { "/console" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_with_a_repeated_field_are_refused() {
        assert!(FormFields::parse(b"a=1&b=2&a=3").is_none());
        let form = FormFields::parse(b"a=1&b=%26+x&c").unwrap();
        assert_eq!(
            (form.get("a"), form.get("b"), form.get("c"), form.get("d")),
            ("1", "& x", "", "")
        );
    }

    #[test]
    fn forms_with_too_many_fields_are_refused() {
        let form = |fields: usize| {
            let fields: Vec<_> = (0..fields).map(|number| number.to_string()).collect();
            FormFields::parse(fields.join("&").as_bytes())
        };
        assert!(form(MAX_FIELDS).is_some());
        assert!(form(MAX_FIELDS + 1).is_none());
    }

    #[test]
    fn sign_in_returns_to_pages_of_the_console_only() {
        for path in [
            "/console",
            "/console?sort=when",
            "/console/users?user=b%20c&x",
            "/console/danger/delete-user?user=a%2E%2Eb%2F%2Fc",
            "/console/issuers",
        ] {
            assert_eq!(return_path(path), path);
        }
        for path in [
            "",
            "/",
            "/consoles",
            "//evil.example/console",
            "https://evil.example/console",
            "/console/../api",
            "/console/%2e%2e/api",
            "/console//evil.example",
            "/console/%2fevil.example/x//",
            "/console\\evil",
            "/console/\r\nSet-Cookie: a=b",
            "/console/ü",
        ] {
            assert_eq!(return_path(path), "/console", "{path}");
        }
    }

    #[test]
    fn cookie_has_its_prefix_over_tls_only() {
        let id = SessionId::random().unwrap();
        let line =
            |is_secure| set_cookie(is_secure, Some(&id)).unwrap().to_str().unwrap().to_owned();
        let value = id.cookie_value();
        let secure =
            format!("__Host-countersign-session={value}; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(line(true), secure);
        let plain = format!("countersign-session={value}; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(line(false), plain);
        let removed = set_cookie(true, None).unwrap();
        assert!(removed.to_str().unwrap().ends_with("; Secure; Max-Age=0"));
    }
}
