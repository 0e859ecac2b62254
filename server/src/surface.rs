//! What differs between the systems we are compatible with: where a credential
//! is looked for, which status a refusal has, and what its body says. Nothing
//! else in the server branches on the system.

pub mod generic;
pub mod inmanta;

use std::{fmt, sync::Arc};

use countersign_engine::{Blame, IssuerConfig, Reject};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use memchr::memchr;

use crate::{
    admission::{Budget, BudgetExceeded},
    http::{Body, DuplicateHeader, Fields, empty, only_line},
};

/// One system whose callers we answer as it would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// RFC 6750 and nothing else: for reverse proxies and applications.
    Generic,
    /// The Inmanta server: a refused token is 403, with a JSON message.
    Inmanta,
}

impl Profile {
    /// Every surface.
    pub const ALL: [Self; 2] = [Self::Generic, Self::Inmanta];

    /// Its name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Inmanta => "inmanta",
        }
    }

    /// The credential a request carries. The additional header, where it is
    /// configured and present, wins over `Authorization`.
    #[must_use]
    pub fn credential<'h>(
        self,
        fields: &'h impl Fields,
        additional: Option<&HeaderName>,
    ) -> Credential<'h> {
        match self {
            Self::Generic | Self::Inmanta => {
                let bare =
                    additional.map_or(Credential::None, |name| only_line(fields, name).into());
                if bare == Credential::None { bearer(fields) } else { bare }
            }
        }
    }

    /// The answer to a request without a credential that counts.
    #[must_use]
    pub fn challenge(self, style: Style) -> Response<Body> {
        let mut response = self.body(style, StatusCode::UNAUTHORIZED, inmanta::UNAUTHORIZED);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }

    /// The answer to a request with the same credential header twice: which of
    /// the two was meant cannot be told (RFC 6750 section 3.1, `invalid_request`).
    #[must_use]
    pub fn conflict(self, style: Style) -> Response<Body> {
        let mut response = self.body(
            style,
            StatusCode::UNAUTHORIZED,
            "Access denied: the credential header is given twice",
        );
        let value = HeaderValue::from_static(
            r#"Bearer error="invalid_request", error_description="the credential header is given twice""#,
        );
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        response
    }

    /// The answer to a refused token.
    #[must_use]
    pub fn refuse(
        self,
        style: Style,
        refusal: &Refusal<'_>,
        rejected_status: StatusCode,
    ) -> Response<Body> {
        let status = self.status_of(refusal, rejected_status);
        let mut response = match (self, style) {
            (Self::Inmanta, Style::Body) => {
                self.body(style, status, &inmanta::refusal_message(refusal))
            }
            _ => self.body(style, status, ""),
        };
        generic::add_headers(refusal, response.headers_mut());
        response
    }

    /// The status of a refusal: ours when we cannot tell, the system's otherwise.
    #[must_use]
    pub fn status(self, reject: Reject, rejected_status: StatusCode) -> StatusCode {
        match (reject.blame(), self) {
            (Blame::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Self::Generic) => StatusCode::UNAUTHORIZED,
            (_, Self::Inmanta) => rejected_status,
        }
    }

    /// The same, where it is known whose doing it is: 429 says that it is the caller's
    /// own (RFC 6585 section 4).
    #[must_use]
    pub fn status_of(self, refusal: &Refusal<'_>, rejected_status: StatusCode) -> StatusCode {
        match refusal.exceeded {
            Some(BudgetExceeded { budget: Budget::Source, .. }) => StatusCode::TOO_MANY_REQUESTS,
            _ => self.status(refusal.reject, rejected_status),
        }
    }

    fn body(self, style: Style, status: StatusCode, message: &str) -> Response<Body> {
        match (self, style) {
            (Self::Generic, _) | (_, Style::Bare) => empty(status),
            (Self::Inmanta, Style::Body) => inmanta::answer(status, message),
        }
    }
}

/// Whether an answer may have a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For proxies, which throw bodies away and some of them the connection too.
    Bare,
    /// For callers that read it.
    Body,
}

/// A refused token. Not `Debug`: it holds the token.
pub struct Refusal<'t> {
    /// Why.
    pub reject: Reject,
    /// The token.
    pub token: &'t [u8],
    /// The issuer of ours that it names, where that is whose keys are missing.
    pub issuer: Option<Arc<IssuerConfig>>,
    /// The budget that is spent, where that is why.
    pub exceeded: Option<BudgetExceeded>,
}

impl Refusal<'_> {
    /// After how many seconds to come again, where that may help.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        /// Long enough for a provider that was only slow.
        const DEFAULT_RETRY_AFTER: u64 = 5;
        self.exceeded.map_or(DEFAULT_RETRY_AFTER, |exceeded| exceeded.retry_after)
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.issuer, self.exceeded) {
            (Some(issuer), _) => {
                write!(f, "the keys of the issuer {} are unavailable", issuer.name)
            }
            (None, Some(BudgetExceeded { budget, .. })) => {
                let whose = match budget {
                    Budget::Core => "in all",
                    Budget::Issuer => "in the name of this issuer",
                    Budget::Source => "from this address",
                };
                write!(f, "the signature was not checked: too many others {whose} were bad")
            }
            (None, None) => self.reject.fmt(f),
        }
    }
}

/// What a request offers as its proof. Not `Debug`: it holds a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'h> {
    /// Nothing, or nothing that is a bearer token.
    None,
    /// A token, whatever it is worth.
    Token(&'h [u8]),
    /// The same header twice.
    Conflict,
}

impl<'h> From<Result<Option<&'h [u8]>, DuplicateHeader>> for Credential<'h> {
    fn from(line: Result<Option<&'h [u8]>, DuplicateHeader>) -> Self {
        match line {
            Ok(None) => Self::None,
            Ok(Some(line)) => Self::Token(line),
            Err(DuplicateHeader) => Self::Conflict,
        }
    }
}

/// `Authorization` of exactly two parts, the first `Bearer` in any case; any
/// other scheme is no bearer token (RFC 6750 section 2.1).
fn bearer(fields: &impl Fields) -> Credential<'_> {
    let found = only_line(fields, &header::AUTHORIZATION).into();
    let Credential::Token(line) = found else { return found };
    match line.split_at_checked(7) {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case(b"Bearer ") && memchr(b' ', token).is_none() =>
        {
            Credential::Token(token)
        }
        _ => Credential::None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn credential(lines: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        match Profile::Generic.credential(&headers, Some(&HeaderName::from_static("x-jwt"))) {
            Credential::None => "none".into(),
            Credential::Token(token) => String::from_utf8_lossy(token).into_owned(),
            Credential::Conflict => "conflict".into(),
        }
    }

    #[test]
    fn a_bearer_token_is_exactly_two_parts() {
        assert_eq!(credential(&[("authorization", "Bearer abc")]), "abc");
        assert_eq!(credential(&[("authorization", "bEARER abc")]), "abc");
        for line in [
            "abc",
            "Basic abc",
            "Bearer",
            "Bearer abc def",
            "Bearer  abc",
            "Bearerabc",
            "",
            "Token Bearer abc",
        ] {
            assert_eq!(credential(&[("authorization", line)]), "none", "{line:?}");
        }
    }

    #[test]
    fn e4_two_lines_of_one_header_conflict_and_the_additional_header_wins() {
        assert_eq!(credential(&[]), "none");
        assert_eq!(
            credential(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]),
            "conflict"
        );
        assert_eq!(credential(&[("x-jwt", "a"), ("x-jwt", "a")]), "conflict");
        assert_eq!(credential(&[("x-jwt", "a"), ("authorization", "Bearer b")]), "a");
        assert_eq!(
            credential(&[
                ("x-jwt", "a"),
                ("authorization", "Bearer b"),
                ("authorization", "Bearer b")
            ]),
            "a"
        );
        assert_eq!(
            credential(&[("x-jwt", ""), ("authorization", "Bearer b")]),
            "",
            "e5: present and worthless is not absent"
        );
    }
}
