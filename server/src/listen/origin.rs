//! Which request a proxy asks about.
//!
//! Proxies say it in different headers, and each passes on the client's own copy of
//! those it does not know. So a listener reads one dialect, only from proxies it
//! trusts, and believes nothing that stands there twice.

use std::borrow::Cow;

use http::HeaderName;

use crate::http::{Fields, only_line};

/// How a proxy says which request it asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// It does not.
    None,
    /// `X-Original-Method` and `X-Original-URI`.
    Nginx,
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`: Traefik and Caddy.
    XForwarded,
    /// By the method of its question, and its path behind `/auth`: Envoy.
    EnvoyPath,
}

/// The request that a client made of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRequest<'r> {
    /// The method.
    pub method: Cow<'r, str>,
    /// The request target, as the client wrote it.
    pub uri: Cow<'r, str>,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::None, Self::Nginx, Self::XForwarded, Self::EnvoyPath];

    /// Its name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nginx => "nginx",
            Self::XForwarded => "x-forwarded",
            Self::EnvoyPath => "envoy-path",
        }
    }

    /// The original request, from a question of a proxy that is trusted.
    #[must_use]
    pub fn original<'r>(
        self,
        method: &'r str,
        target: &'r str,
        fields: &'r dyn Fields,
    ) -> Option<OriginalRequest<'r>> {
        let named = |method, uri| {
            Some(OriginalRequest { method: text(fields, &method)?, uri: text(fields, &uri)? })
        };
        match self {
            Self::None => None,
            Self::Nginx => named(ORIGINAL_METHOD, ORIGINAL_URI),
            Self::XForwarded => named(FORWARDED_METHOD, FORWARDED_URI),
            Self::EnvoyPath => {
                let uri = target.strip_prefix("/auth").filter(|rest| rest.starts_with('/'))?;
                Some(OriginalRequest { method: method.into(), uri: uri.into() })
            }
        }
    }
}

const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

fn text<'r>(fields: &'r dyn Fields, name: &HeaderName) -> Option<Cow<'r, str>> {
    only_line(fields, name).ok().flatten().map(String::from_utf8_lossy)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const LINES: [(HeaderName, &str); 4] = [
        (ORIGINAL_METHOD, "PUT"),
        (ORIGINAL_URI, "/nginx?x"),
        (FORWARDED_METHOD, "DELETE"),
        (FORWARDED_URI, "/forwarded"),
    ];

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn e1_a_listener_hears_one_dialect_and_no_other() {
        let headers = headers(&LINES);
        let said = |dialect: Dialect| {
            let original = dialect.original("POST", "/auth/envoy//..?y", &headers);
            original.map(|OriginalRequest { method, uri }| format!("{method} {uri}"))
        };
        assert_eq!(said(Dialect::None), None);
        assert_eq!(said(Dialect::Nginx).as_deref(), Some("PUT /nginx?x"));
        assert_eq!(said(Dialect::XForwarded).as_deref(), Some("DELETE /forwarded"));
        assert_eq!(said(Dialect::EnvoyPath).as_deref(), Some("POST /envoy//..?y"));
    }

    #[test]
    fn e1_what_is_said_twice_or_by_half_is_not_believed() {
        for line in &LINES[..2] {
            let lines: Vec<_> = LINES.iter().filter(|one| *one != line).cloned().collect();
            assert_eq!(Dialect::Nginx.original("GET", "/auth", &headers(&lines)), None);
            let twice: Vec<_> = [line].into_iter().chain(&LINES).cloned().collect();
            assert_eq!(Dialect::Nginx.original("GET", "/auth", &headers(&twice)), None);
        }
        for target in ["/auth", "/auth?x", "/authx/", "/"] {
            assert_eq!(Dialect::EnvoyPath.original("GET", target, &headers(&[])), None, "{target}");
        }
    }
}
