//! The original request that a proxy asks about in a forward-auth check.
//!
//! Proxies name it in different headers, and each passes on the client's copy of the headers it
//! does not know. So a listener reads exactly one [`Dialect`], only from trusted proxies, and
//! ignores a header that occurs twice.

use countersign_front::{DuplicateHeader, Fields, only_line};
use http::HeaderName;

use super::forwarded::is_token_byte;
use crate::base::header_names::is_header;

/// The headers or path in which a proxy names the original request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The original request is not named.
    None,
    /// `X-Original-Method` and `X-Original-URI`.
    Nginx,
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`: Traefik and Caddy.
    XForwarded,
    /// The method of the check itself, and its path after `/auth`: Envoy.
    EnvoyPath,
}

/// The request that a client sent to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalRequest<'r> {
    /// The method.
    pub method: &'r str,
    /// The request target, as the client wrote it.
    pub uri: &'r str,
}

impl<'r> OriginalRequest<'r> {
    /// Returns the request with this method and this target. `None` if the method is not one, or
    /// either is not UTF-8: a replacement of bytes would be another request.
    #[must_use]
    pub fn new(method: &'r [u8], uri: &'r [u8]) -> Option<Self> {
        let (method, uri) = (str::from_utf8(method).ok()?, str::from_utf8(uri).ok()?);
        is_method(method).then_some(Self { method, uri })
    }
}

/// Whether a text is a method: a token (RFC 9110 section 9.1).
#[must_use]
pub fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::None, Self::Nginx, Self::XForwarded, Self::EnvoyPath];

    /// Returns the name of the dialect in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nginx => "nginx",
            Self::XForwarded => "x-forwarded",
            Self::EnvoyPath => "envoy-path",
        }
    }

    /// Whether proxies name the method or the target in the header line with this name.
    #[must_use]
    pub fn reads_header(self, name: &[u8]) -> bool {
        let headers = match self {
            Self::None | Self::EnvoyPath => return false,
            Self::Nginx => [ORIGINAL_METHOD, ORIGINAL_URI],
            Self::XForwarded => [FORWARDED_METHOD, FORWARDED_URI],
        };
        headers.iter().any(|header| is_header(name, header))
    }

    /// Returns the original request of a check. The caller has verified that the proxy is trusted.
    #[must_use]
    pub fn original<'r>(
        self,
        method: &'r str,
        target: &'r str,
        fields: &'r dyn Fields,
    ) -> Option<OriginalRequest<'r>> {
        let (method, uri) = self.named(method, target, fields)?;
        OriginalRequest::new(method, uri)
    }

    /// Returns the method and the target that a proxy names, which may be any bytes. The caller has
    /// verified that the proxy is trusted.
    #[must_use]
    pub fn named<'r>(
        self,
        method: &'r str,
        target: &'r str,
        fields: &'r dyn Fields,
    ) -> Option<(&'r [u8], &'r [u8])> {
        let named = |method, uri| Some((line(fields, &method)?, line(fields, &uri)?));
        match self {
            Self::None => None,
            Self::Nginx => named(ORIGINAL_METHOD, ORIGINAL_URI),
            Self::XForwarded => named(FORWARDED_METHOD, FORWARDED_URI),
            Self::EnvoyPath => {
                let uri = target.strip_prefix("/auth").filter(|rest| rest.starts_with('/'))?;
                Some((method.as_bytes(), uri.as_bytes()))
            }
        }
    }

    /// Returns the method of the original request, or `None` if the proxy does not state it. The
    /// caller has verified that the proxy is trusted.
    ///
    /// # Errors
    /// [`DuplicateHeader`] if two methods are stated.
    pub fn method<'r>(
        self,
        method: &'r str,
        target: &str,
        fields: &'r dyn Fields,
    ) -> Result<Option<&'r [u8]>, DuplicateHeader> {
        match self {
            Self::None => Ok(None),
            Self::Nginx => only_line(fields, &ORIGINAL_METHOD),
            Self::XForwarded => only_line(fields, &FORWARDED_METHOD),
            Self::EnvoyPath => Ok(target.starts_with("/auth/").then_some(method.as_bytes())),
        }
    }
}

/// The headers in which any proxy states the method of the original request.
pub(super) const METHOD_HEADERS: [HeaderName; 2] = [ORIGINAL_METHOD, FORWARDED_METHOD];
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

fn line<'r>(fields: &'r dyn Fields, name: &HeaderName) -> Option<&'r [u8]> {
    only_line(fields, name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::base::test_headers::headers;

    const LINES: [(HeaderName, &str); 4] = [
        (ORIGINAL_METHOD, "PUT"),
        (ORIGINAL_URI, "/nginx?x"),
        (FORWARDED_METHOD, "DELETE"),
        (FORWARDED_URI, "/forwarded"),
    ];

    #[test]
    fn e1_listener_reads_only_its_own_dialect() {
        let headers = headers(&LINES);
        let original = |dialect: Dialect| {
            let original = dialect.original("POST", "/auth/envoy//..?y", &headers);
            original.map(|OriginalRequest { method, uri }| format!("{method} {uri}"))
        };
        assert_eq!(original(Dialect::None), None);
        assert_eq!(original(Dialect::Nginx).as_deref(), Some("PUT /nginx?x"));
        assert_eq!(original(Dialect::XForwarded).as_deref(), Some("DELETE /forwarded"));
        assert_eq!(original(Dialect::EnvoyPath).as_deref(), Some("POST /envoy//..?y"));
    }

    #[test]
    fn e7_original_that_is_not_a_request_is_none() {
        for (method, uri, is_request) in [
            (&b"GET"[..], &b"/caf\xc3\xa9"[..], true),
            (b"M-SEARCH", b"*", true),
            (b"GET", b"/adm\xffin/x", false),
            (b"G\xffT", b"/", false),
            (b"", b"/", false),
            (b"DELETE ", b"/", false),
            (b"DELETE,GET", b"/", false),
            (b"G\xc3\xa9T", b"/", false),
        ] {
            assert_eq!(OriginalRequest::new(method, uri).is_some(), is_request, "{method:?}");
        }
    }

    #[test]
    fn e1_duplicate_or_partial_original_is_ignored() {
        for line in &LINES[..2] {
            let lines: Vec<_> = LINES.iter().filter(|one| *one != line).cloned().collect();
            assert_eq!(Dialect::Nginx.original("GET", "/auth", &headers(&lines)), None);
            let twice: Vec<_> = [line].into_iter().chain(&LINES).cloned().collect();
            assert_eq!(Dialect::Nginx.original("GET", "/auth", &headers(&twice)), None);
        }
        for target in ["/auth", "/auth?x", "/authx/", "/"] {
            assert_eq!(
                Dialect::EnvoyPath.original("GET", target, &HeaderMap::new()),
                None,
                "{target}"
            );
        }
    }
}
