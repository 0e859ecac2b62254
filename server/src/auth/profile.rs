//! Response profiles: the status and body of a refusal. Only the methods of [`Profile`] differ
//! between the compatible systems.

pub mod generic;
pub mod inmanta;
pub mod orchestrate;

use std::{fmt, sync::Arc};

use countersign_engine::{Blame, IssuerConfig, Reject, UnixTime, Verified, jwks::SkippedKey};
use http::{HeaderValue, Response, StatusCode, header};

use super::challenge::{CONFLICT, Challenges};
use crate::{
    admission::BudgetExceeded,
    base::reply::{Body, empty},
    identities::checks::IdentityRefusal,
    keys::KeySources,
    observe::metrics::Budget,
};

/// The system whose responses a listener imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// RFC 6750, for reverse proxies and applications.
    Generic,
    /// The Inmanta server: a refused token is 403, with a JSON message.
    Inmanta,
    /// Orchestrate: API keys, tenants, and 401 for every refusal.
    Orchestrate,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Generic, Self::Inmanta, Self::Orchestrate];

    /// Returns its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Inmanta => "inmanta",
            Self::Orchestrate => "orchestrate",
        }
    }

    /// Checks a token that its issuer's rules accept by those of the system that the profile
    /// imitates.
    ///
    /// # Errors
    /// The first [`Reject`] found.
    #[inline]
    pub fn check(
        self,
        verified: &Verified<'_>,
        now: impl FnOnce() -> UnixTime,
        keys: &KeySources,
    ) -> Result<(), Reject> {
        match self {
            Self::Generic => Ok(()),
            Self::Inmanta => inmanta::check(verified, now(), keys),
            Self::Orchestrate => check_key_and_issue_time(verified, now(), keys),
        }
    }

    /// Returns the response to a request without a usable credential.
    #[must_use]
    pub fn challenge(self, style: Style, challenges: &Challenges) -> Response<Body> {
        let message = match self {
            Self::Generic | Self::Inmanta => inmanta::UNAUTHORIZED,
            Self::Orchestrate => orchestrate::NO_CREDENTIAL,
        };
        let response = self.body(style, StatusCode::UNAUTHORIZED, message);
        with_challenge(response, challenges.missing())
    }

    /// Returns the response to a request with two credentials: it is unclear which one counts (RFC
    /// 6750 section 3.1, `invalid_request`).
    #[must_use]
    pub fn conflict(self, style: Style, challenges: &Challenges) -> Response<Body> {
        let message = format!("Access denied: {CONFLICT}");
        let response = self.body(style, StatusCode::UNAUTHORIZED, &message);
        with_challenge(response, challenges.conflict())
    }

    /// Returns the response to a rejected token.
    #[must_use]
    pub fn refuse(
        self,
        style: Style,
        challenges: &Challenges,
        refusal: &Refusal<'_>,
        rejected_status: StatusCode,
    ) -> Response<Body> {
        let status = self.status_of(refusal, rejected_status);
        let mut response = match (self, style) {
            (Self::Inmanta, Style::Body) => {
                self.body(style, status, &inmanta::refusal_message(refusal))
            }
            (Self::Orchestrate, Style::Body) => {
                self.body(style, status, &orchestrate::refusal_message(refusal))
            }
            _ => self.body(style, status, ""),
        };
        generic::add_headers(refusal, challenges, response.headers_mut());
        response
    }

    /// Returns the response to a genuine access token that may not be used. It has no body.
    #[must_use]
    pub fn refuse_use(self, refusal: IdentityRefusal, challenges: &Challenges) -> Response<Body> {
        let code = HeaderValue::from_static(refusal.outcome().name());
        let mut response = match (refusal, self) {
            (IdentityRefusal::Address, Self::Generic | Self::Inmanta) => {
                empty(StatusCode::FORBIDDEN)
            }
            (IdentityRefusal::Unavailable, _) => {
                let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            _ => with_challenge(empty(StatusCode::UNAUTHORIZED), challenges.refused_use(refusal)),
        };
        response.headers_mut().insert(generic::ERROR_HEADER, code);
        response
    }

    /// Returns the status of a rejection: 503 if the token could not be judged, that of the system
    /// otherwise. `rejected_status` is that of [`AuthSettings`](super::settings::AuthSettings).
    #[must_use]
    pub fn status(self, reject: Reject, rejected_status: StatusCode) -> StatusCode {
        match (reject.blame(), self) {
            (Blame::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Self::Orchestrate) => StatusCode::UNAUTHORIZED,
            (_, Self::Generic) if !is_insufficient(reject) => StatusCode::UNAUTHORIZED,
            (_, Self::Generic | Self::Inmanta) => rejected_status,
        }
    }

    /// Returns the status of a [`Refusal`]: 429 if the caller itself caused it (RFC 6585 section
    /// 4), and otherwise that of [`status`](Self::status).
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
            (Self::Inmanta, Style::Body) => inmanta::message_response(status, message),
            (Self::Orchestrate, Style::Body) => orchestrate::message_response(status, message),
        }
    }
}

/// Checks what the systems that we imitate demand of every token, beyond the rules of its issuer: a
/// `kid` for a published key, and an `iat` that is not in the future.
fn check_key_and_issue_time(
    verified: &Verified<'_>,
    now: UnixTime,
    keys: &KeySources,
) -> Result<(), Reject> {
    let (claims, issuer) = (verified.claims(), verified.issuer());
    let latest = now.plus(issuer.rules.leeway.into());
    if !verified.names_key() && keys.are_published(&issuer.name) {
        return Err(Reject::KidMissing);
    }
    if claims.issued_at().is_some_and(|issued_at| issued_at > latest) {
        return Err(Reject::IssuedInFuture);
    }
    Ok(())
}

/// Returns a response with a challenge.
pub(super) fn with_challenge(
    mut response: Response<Body>,
    challenge: HeaderValue,
) -> Response<Body> {
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// Whether the token is valid but lacks what the configuration demands, so that its issuer would
/// only issue another like it (RFC 6750 section 3.1, `insufficient_scope`).
pub(super) const fn is_insufficient(reject: Reject) -> bool {
    matches!(reject, Reject::Constraints | Reject::Scope | Reject::Username)
}

/// Whether a response may have a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No body: for proxies, which discard it. Some also close the connection.
    Bare,
    /// With a body, for callers that read it.
    Body,
}

/// A rejected token. Not `Debug`, as it holds the token.
pub struct Refusal<'t> {
    /// The reason.
    pub reject: Reject,
    /// The token.
    pub token: &'t [u8],
    /// The configured issuer that it names, if the reason is about its keys or scopes.
    pub issuer: Option<Arc<IssuerConfig>>,
    /// The budget that is exceeded, if that is the reason.
    pub exceeded: Option<BudgetExceeded>,
    /// Seconds until the keys are fetched again, if the `kid` is undecided.
    pub retry_after: Option<u64>,
    /// Whether the keys are missing because their issuer publishes an empty key set.
    pub is_emptied: bool,
    /// The key that the token names, if it cannot be used.
    pub skipped: Option<SkippedKey>,
    /// Whether the `iss` differs from a configured issuer by a trailing slash alone.
    pub differs_by_slash: bool,
}

impl Refusal<'_> {
    /// Returns the scopes that the token must grant, if it does not grant them all.
    #[must_use]
    pub fn missing_scopes(&self) -> &[Box<str>] {
        let issuer = self.issuer.as_ref().filter(|_| self.reject == Reject::Scope);
        issuer.map_or(&[], |issuer| &issuer.rules.scopes)
    }

    /// Returns the seconds after which a retry may succeed.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        /// Long enough for a provider that was merely slow.
        const DEFAULT_RETRY_AFTER: u64 = 5;
        let exceeded = self.exceeded.map(|exceeded| exceeded.retry_after);
        exceeded.or(self.retry_after).unwrap_or(DEFAULT_RETRY_AFTER)
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(skipped) = &self.skipped {
            let kid = skipped.shown_kid().unwrap_or_default();
            return write!(f, "the key {kid} of the issuer was skipped: {}", skipped.error);
        }
        if self.differs_by_slash {
            return f.write_str(
                "the issuer (iss) differs from a configured one only by a trailing slash",
            );
        }
        match (&self.issuer, self.exceeded) {
            (Some(issuer), _) if self.reject == Reject::KidUndecided => {
                let name = &issuer.name;
                write!(
                    f,
                    "the key id (kid) is unknown, and the keys of the issuer {name} cannot be fetched"
                )
            }
            (Some(issuer), _) if self.reject == Reject::KeysUnavailable => {
                let reason = if self.is_emptied { ": it publishes an empty key set" } else { "" };
                write!(f, "the keys of the issuer {} are unavailable{reason}", issuer.name)
            }
            (_, Some(BudgetExceeded { budget, .. })) => {
                let whose = match budget {
                    Budget::Core => "in all",
                    Budget::Issuer => "in the name of this issuer",
                    Budget::Source => "from this address",
                };
                write!(f, "the signature was not checked: too many others {whose} were bad")
            }
            _ => self.reject.fmt(f),
        }
    }
}
