//! What is stated about the request behind a check. A browser sends cookies with requests that
//! another site causes, and preflights without a credential, so both depend on more than a token.
//!
//! Statements that allow something count only if a trusted proxy makes them. Statements that forbid
//! something count from everyone.

use std::net::IpAddr;

use countersign_front::{Fields, only_line};
use http::{HeaderName, header};

use super::{ClientSettings, original_request::METHOD_HEADERS};

/// The request behind a check, as far as it is described.
pub struct RequestDescription<'r> {
    /// The method that a trusted proxy states. `None` if it states none, empty if it states two.
    method: Option<&'r [u8]>,
    /// The method in the check, or of the check, if no trusted proxy states one.
    claimed_method: &'r [u8],
    /// `http` or `https`, if it is known.
    scheme: Option<&'r [u8]>,
    /// The host, with its port if that is given.
    host: &'r [u8],
    fields: &'r dyn Fields,
    allows_preflights: bool,
}

/// A check over HTTP.
#[derive(Clone, Copy)]
pub struct HttpCheck<'r> {
    /// Its own method.
    pub method: &'r str,
    /// Its own target.
    pub target: &'r str,
    /// Its own host.
    pub host: &'r str,
    /// Whether it arrived over TLS.
    pub is_tls: bool,
    /// Its header lines.
    pub fields: &'r dyn Fields,
}

/// The attributes of a request, in a check over gRPC or SPOP, or in this process.
#[derive(Clone, Copy)]
pub struct CheckAttributes<'r> {
    /// The method.
    pub method: &'r [u8],
    /// The host.
    pub host: &'r [u8],
    /// The scheme.
    pub scheme: &'r [u8],
    /// The header lines.
    pub fields: &'r dyn Fields,
}

impl<'r> RequestDescription<'r> {
    /// Describes the request behind a check over HTTP, which a peer of the listener sends.
    #[must_use]
    pub fn of_http(settings: &ClientSettings, peer: IpAddr, check: HttpCheck<'r>) -> Self {
        let HttpCheck { method, target, host, is_tls, fields } = check;
        let is_described = settings.describes_requests() && settings.proxies.trusts(peer);
        let own = Self {
            method: None,
            claimed_method: method.as_bytes(),
            // Behind a proxy, a check without TLS can be about a request with TLS.
            scheme: is_tls.then_some(b"https"),
            host: host.as_bytes(),
            fields,
            allows_preflights: settings.allows_preflights,
        };
        if !is_described {
            return own;
        }
        Self {
            method: settings.dialect.method(method, target, fields).unwrap_or(Some(b"")),
            scheme: only_line(fields, &FORWARDED_PROTO).unwrap_or(Some(b"")),
            host: match only_line(fields, &FORWARDED_HOST) {
                Ok(stated) => stated.unwrap_or(host.as_bytes()),
                Err(_) => b"",
            },
            ..own
        }
    }

    /// Describes the request in a check over gRPC or SPOP, which a peer of the listener sends.
    #[must_use]
    pub fn of_message(
        settings: &ClientSettings,
        peer: IpAddr,
        attributes: CheckAttributes<'r>,
    ) -> Self {
        let CheckAttributes { method, host, scheme, fields } = attributes;
        let is_trusted = settings.proxies.trusts(peer);
        Self {
            method: is_trusted.then_some(method),
            claimed_method: method,
            scheme: Some(scheme).filter(|scheme| !scheme.is_empty()),
            // Another peer could name the origin of any site.
            host: if is_trusted { host } else { b"" },
            fields,
            allows_preflights: settings.allows_preflights,
        }
    }

    /// Describes a request that arrived at this process itself.
    #[must_use]
    pub fn of_own(settings: &ClientSettings, attributes: CheckAttributes<'r>) -> Self {
        let CheckAttributes { method, host, scheme, fields } = attributes;
        Self {
            method: Some(method),
            claimed_method: method,
            scheme: Some(scheme),
            host,
            fields,
            allows_preflights: settings.allows_preflights,
        }
    }

    /// Whether a token in a cookie counts: the request cannot have been caused by another site, or
    /// has a method without effect (RFC 9110 section 9.2.1).
    ///
    /// A request of which no method is stated needs no proof that it comes from its own site, only
    /// the absence of one that it comes from another. Browsers send `Origin` with every request of
    /// another site, except for navigations and images, which are GET.
    #[must_use]
    pub fn may_use_cookie(&self) -> bool {
        if self.method.is_some_and(is_safe) && !self.may_have_effect() {
            return true;
        }
        match only_line(self.fields, &FETCH_SITE) {
            Ok(Some(site)) => matches!(site, b"same-origin" | b"none"),
            Ok(None) => match only_line(self.fields, &header::ORIGIN) {
                Ok(Some(origin)) => self.is_own_origin(origin),
                Ok(None) => !self.may_have_effect() && !self.is_unsafe_method_claimed(),
                Err(_) => false,
            },
            Err(_) => false,
        }
    }

    /// Whether this is a CORS preflight that needs no token: a trusted proxy states the method
    /// OPTIONS, no header replaces the method, and the request has no credential.
    #[must_use]
    pub fn is_allowed_preflight(&self) -> bool {
        let is_given =
            |name| only_line(self.fields, &name).is_ok_and(|line| line.is_some_and(is_not_empty));
        self.allows_preflights
            && self.method == Some(b"OPTIONS")
            && is_given(header::ORIGIN)
            && is_given(header::ACCESS_CONTROL_REQUEST_METHOD)
            && self.fields.line(&header::AUTHORIZATION, 0).is_none()
            && !self.may_have_effect()
    }

    /// Whether the request may do more than its method does: a header replaces the method, or the
    /// request opens a connection of another protocol.
    ///
    /// Proxies remove `Upgrade` and `Connection` from checks, but not the headers of a WebSocket
    /// handshake.
    fn may_have_effect(&self) -> bool {
        let changes_meaning = |name: &[u8]| {
            let is = |other: &str| is_spelling_of(name, other);
            METHOD_OVERRIDES.iter().any(|override_| is(override_))
                || is("upgrade")
                || name.get(..WEBSOCKET.len()).is_some_and(|start| is_spelling_of(start, WEBSOCKET))
        };
        let mut connections = (0..).map_while(|nth| self.fields.line(&header::CONNECTION, nth));
        let is_websocket =
            |name| self.fields.line(&name, 0).is_some_and(|mode| mode == b"websocket");
        self.fields.any_name(&changes_meaning)
            || connections.any(|line| {
                line.split(|byte| *byte == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
            })
            || is_websocket(FETCH_MODE)
            || is_websocket(FETCH_DEST)
    }

    /// Whether the method is another than a safe one, or stated to be so by a header that the
    /// listener does not read otherwise.
    fn is_unsafe_method_claimed(&self) -> bool {
        !is_safe(self.method.unwrap_or(self.claimed_method))
            || METHOD_HEADERS.iter().any(|name| {
                let mut methods = (0..).map_while(|nth| self.fields.line(name, nth));
                methods.any(|method| !is_safe(method))
            })
    }

    /// Whether an `Origin` is that of the request itself (RFC 6454 section 7). The scheme is not
    /// compared if it is unknown.
    fn is_own_origin(&self, origin: &[u8]) -> bool {
        let (scheme, default_port, authority) = if let Some(rest) = origin.strip_prefix(b"https://")
        {
            (UriScheme::Https, &b"443"[..], rest)
        } else if let Some(rest) = origin.strip_prefix(b"http://") {
            (UriScheme::Http, &b"80"[..], rest)
        } else {
            return false;
        };
        let is_same_scheme = self.scheme.is_none_or(|own| UriScheme::of(own) == Some(scheme));
        let with_port = |authority| host_and_port(authority, default_port);
        let ((name, port), (own_name, own_port)) = (with_port(authority), with_port(self.host));
        is_same_scheme
            && !name.is_empty()
            && name.eq_ignore_ascii_case(own_name)
            && port == own_port
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UriScheme {
    Http,
    Https,
}

impl UriScheme {
    /// Traefik states the schemes of WebSockets, too.
    fn of(text: &[u8]) -> Option<Self> {
        match text.to_ascii_lowercase().as_slice() {
            b"http" | b"ws" => Some(Self::Http),
            b"https" | b"wss" => Some(Self::Https),
            _ => None,
        }
    }
}

/// Headers by which some frameworks replace the method.
const METHOD_OVERRIDES: [&str; 9] = [
    "x-http-method-override",
    "x-http-method",
    "x-http-verb",
    "x-httpmethodoverride",
    "x-method",
    "x-method-override",
    "x-methodoverride",
    "x-request-method",
    "x-rest-method",
];
/// Start of the names of the headers of a WebSocket handshake (RFC 6455 section 11.3).
const WEBSOCKET: &str = "sec-websocket-";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The safe methods (RFC 9110 section 9.2.1). Methods are case-sensitive.
fn is_safe(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

fn is_not_empty(text: &[u8]) -> bool {
    !text.is_empty()
}

/// Whether an application may take a header name for this one: it has the same letters and digits,
/// and any characters between them. CGI and its descendants make one `HTTP_X_AUTH_USER` of
/// `X-Auth-User`, `X_Auth_User` and more.
#[must_use]
pub fn is_spelling_of(name: &[u8], other: &str) -> bool {
    let folded =
        |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.iter().map(folded).eq(other.as_bytes().iter().map(folded))
}

/// Splits a host and a port in digits. An IPv6 address has its colons in brackets.
fn host_and_port<'t>(authority: &'t [u8], default_port: &'t [u8]) -> (&'t [u8], &'t [u8]) {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    match colon.map(|colon| (&authority[..colon], &authority[colon + 1..])) {
        Some((name, port)) if !port.is_empty() && port.iter().all(u8::is_ascii_digit) => {
            (name, port)
        }
        _ => (authority, default_port),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::base::test_headers::{Lines, headers};
    use crate::client::{
        original_request::Dialect,
        trusted_proxies::{Network, TrustedProxies},
    };

    /// Settings that trust the proxy 10.0.0.1 and allow preflights.
    fn settings(dialect: Dialect) -> ClientSettings {
        let header = HeaderName::from_static("x-forwarded-for");
        let proxies = TrustedProxies::new(vec![Network::parse("10.0.0.1").unwrap()], false, header);
        ClientSettings { proxies, dialect, certificate_header: None, allows_preflights: true }
    }

    /// Describes a check by GET of the trusted proxy 10.0.0.1, or of another peer.
    fn described<'r>(
        dialect: Dialect,
        peer: &str,
        fields: &'r HeaderMap,
    ) -> RequestDescription<'r> {
        let settings = settings(dialect);
        let check = HttpCheck {
            method: "GET",
            target: "/auth",
            host: "own.example",
            is_tls: false,
            fields,
        };
        RequestDescription::of_http(&settings, peer.parse().unwrap(), check)
    }

    /// Whether a cookie counts, if a trusted proxy states a method with these lines.
    fn counts(method: &'static str, lines: Lines<'_>) -> bool {
        let headers = headers(&[&[("x-forwarded-method", method)], lines].concat());
        described(Dialect::XForwarded, "10.0.0.1", &headers).may_use_cookie()
    }

    const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

    #[test]
    fn cookie_counts_for_safe_methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(counts(method, &[]) && counts(method, &[CROSS]), "{method}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "get", "", "X"] {
            assert!(!counts(method, &[]) && !counts(method, &[CROSS]), "{method}");
            assert!(counts(method, &[SAME]), "{method}");
        }
        assert!(!counts("GET", &[("x-forwarded-method", "GET")]), "a method stated twice");
    }

    #[test]
    fn cookie_needs_the_own_site_for_other_requests() {
        let site = |value| [("sec-fetch-site", value)];
        let own = ("origin", "http://own.example");
        for (value, is_own) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("Same-Origin", false),
            ("same-origin, none", false),
            ("", false),
        ] {
            assert_eq!(counts("POST", &site(value)), is_own, "{value}");
            // `Origin` counts only without it.
            assert_eq!(counts("POST", &[site(value)[0], own]), is_own, "{value}");
        }
        assert!(!counts("POST", &[SAME, SAME]));
        assert!(counts("POST", &[own]) && !counts("POST", &[own, own]));
    }

    #[test]
    fn origin_is_compared_with_the_stated_host_and_scheme() {
        let post =
            |origin, lines: Lines<'_>| counts("POST", &[&[("origin", origin)], lines].concat());
        let (host, https) = (("x-forwarded-host", "app.example"), ("x-forwarded-proto", "https"));
        for origin in ["https://app.example", "https://APP.example", "https://app.example:443"] {
            assert!(post(origin, &[host, https]), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://evil.example",
            "https://own.example",
            "https://app.example/",
            "https://app.example@evil.example",
            "//app.example",
            "app.example",
            "null",
            "",
            "https://",
            "https://:443",
        ] {
            assert!(!post(origin, &[host, https]), "{origin}");
        }
        let port = ("x-forwarded-host", "app.example:8443");
        assert!(post("https://app.example:8443", &[port, https]));
        assert!(!post("https://app.example", &[port, https]));
        let v6 = ("x-forwarded-host", "[2001:db8::1]");
        assert!(post("https://[2001:db8::1]", &[v6, https]));
        assert!(!post("https://[2001:db8::1]:1", &[v6, https]));
        // A scheme that is not stated is not compared. One that is stated twice fits none.
        assert!(post("https://app.example", &[host]) && post("http://app.example", &[host]));
        assert!(post("https://app.example", &[host, ("x-forwarded-proto", "wss")]));
        assert!(!post("https://app.example", &[host, https, https]));
        assert!(!post("https://app.example", &[host, host, https]));
        assert!(!post("https://app.example", &[host, ("x-forwarded-proto", "https,http")]));
    }

    #[test]
    fn upgrade_or_method_override_is_not_safe() {
        for line in [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-version", "13"),
            ("sec_websocket_key", "x"),
            ("sec-fetch-mode", "websocket"),
            ("sec-fetch-dest", "websocket"),
            ("x-http-method-override", "DELETE"),
            ("x_http_method_override", "DELETE"),
            ("x-http-method", "DELETE"),
            ("x-method-override", "DELETE"),
        ] {
            assert!(!counts("GET", &[line]), "{line:?}");
            assert!(!counts("GET", &[line, CROSS]) && counts("GET", &[line, SAME]), "{line:?}");
            let headers = headers(&[line]);
            assert!(!described(Dialect::None, "10.0.0.1", &headers).may_use_cookie(), "{line:?}");
        }
        for line in [("connection", "close"), ("x-http-methods", "x"), ("sec-fetch-mode", "cors")] {
            assert!(counts("GET", &[line]), "{line:?}");
        }
    }

    #[test]
    fn unknown_method_needs_no_sign_of_another_site() {
        for (dialect, peer) in [
            (Dialect::None, "10.0.0.1"),
            (Dialect::None, "192.0.2.1"),
            (Dialect::XForwarded, "192.0.2.1"),
            (Dialect::XForwarded, "10.0.0.1"),
            (Dialect::Nginx, "10.0.0.1"),
        ] {
            for (lines, counts) in [
                (&[][..], true),
                (&[SAME], true),
                (&[CROSS], false),
                (&[("origin", "http://own.example")], true),
                (&[("origin", "http://evil.example")], false),
                (&[("origin", "null")], false),
            ] {
                let headers = headers(lines);
                let description = described(dialect, peer, &headers);
                assert_eq!(description.may_use_cookie(), counts, "{dialect:?} {peer} {lines:?}");
                assert!(!description.is_allowed_preflight());
            }
        }
        // A header of the other dialect, and a header of an untrusted peer, can only forbid.
        for (name, dialect, peer) in [
            ("x-original-method", Dialect::XForwarded, "10.0.0.1"),
            ("x-forwarded-method", Dialect::None, "10.0.0.1"),
            ("x-forwarded-method", Dialect::XForwarded, "192.0.2.1"),
        ] {
            for (method, counts) in [("POST", false), ("GET", true)] {
                let headers = headers(&[(name, method)]);
                assert_eq!(described(dialect, peer, &headers).may_use_cookie(), counts, "{name}");
                let headers = self::headers(&[(name, method), CROSS]);
                assert!(!described(dialect, peer, &headers).may_use_cookie(), "{name}");
            }
        }
    }

    #[test]
    fn untrusted_grpc_peer_states_no_method() {
        let none = HeaderMap::new();
        let cross = headers(&[CROSS]);
        let counts = |is_trusted, method: &'static str, fields| {
            let attributes =
                CheckAttributes { method: method.as_bytes(), host: b"h", scheme: b"https", fields };
            let peer = if is_trusted { "10.0.0.1" } else { "192.0.2.1" }.parse().unwrap();
            let settings = settings(Dialect::None);
            RequestDescription::of_message(&settings, peer, attributes).may_use_cookie()
        };
        assert!(counts(true, "GET", &cross) && !counts(false, "GET", &cross));
        assert!(counts(false, "GET", &none) && !counts(false, "POST", &none));
        assert!(!counts(true, "", &none));
    }

    #[test]
    fn preflight_is_stated_by_a_trusted_proxy() {
        const ORIGIN: (&str, &str) = ("origin", "https://app.example");
        const METHOD: (&str, &str) = ("access-control-request-method", "PUT");
        const OPTIONS: (&str, &str) = ("x-forwarded-method", "OPTIONS");
        let is_preflight = |dialect, peer, lines: Lines<'_>| {
            described(dialect, peer, &headers(lines)).is_allowed_preflight()
        };
        let trusted = |lines: Lines<'_>| is_preflight(Dialect::XForwarded, "10.0.0.1", lines);
        let preflight = [OPTIONS, ORIGIN, METHOD];
        assert!(trusted(&preflight));
        assert!(!is_preflight(Dialect::XForwarded, "192.0.2.1", &preflight));
        assert!(!is_preflight(Dialect::Nginx, "10.0.0.1", &preflight));
        assert!(!is_preflight(Dialect::None, "10.0.0.1", &preflight));
        for (without, _) in preflight.iter().enumerate() {
            let mut lines = preflight.to_vec();
            lines.remove(without);
            assert!(!trusted(&lines), "{lines:?}");
            let mut twice = preflight.to_vec();
            twice.push(preflight[without]);
            assert!(!trusted(&twice), "{twice:?}");
        }
        for line in [
            ("x-http-method-override", "DELETE"),
            ("X_HTTP_METHOD_OVERRIDE", "DELETE"),
            ("x-http-method", "DELETE"),
            ("x-method-override", ""),
            ("upgrade", "h2c"),
            ("connection", "upgrade"),
            ("sec-websocket-key", "x"),
            ("authorization", "Basic x"),
            ("authorization", ""),
        ] {
            assert!(!trusted(&[&[line], &preflight[..]].concat()), "{line:?}");
        }
        for method in ["GET", "options", "OPTIONS ", ""] {
            assert!(!trusted(&[("x-forwarded-method", method), ORIGIN, METHOD]), "{method}");
        }
        assert!(!trusted(&[OPTIONS, ("origin", ""), METHOD]));
        let headers = headers(&preflight);
        let refusing = ClientSettings { allows_preflights: false, ..settings(Dialect::XForwarded) };
        let check =
            HttpCheck { method: "GET", target: "/", host: "h", is_tls: false, fields: &headers };
        let peer = "10.0.0.1".parse().unwrap();
        let description = RequestDescription::of_http(&refusing, peer, check);
        assert!(!description.is_allowed_preflight());
    }
}
