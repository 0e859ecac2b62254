//! The outcome of verifying the token of a request.

use countersign_engine::Reject;

/// Outcome of a request to a verifying route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token was verified.
    Verified,
    /// A token was rejected.
    Rejected(Reject),
    /// The request had no token.
    NoToken,
    /// The request had two credentials.
    Conflict,
    /// The request was a CORS preflight, which needs no token.
    Preflight,
    /// The request needed no token.
    Public,
    /// The request had no token, and was allowed without one.
    Anonymous,
    /// A token was verified, and does not allow the request.
    Denied,
    /// A token was verified, and no trusted proxy described the request.
    Undescribed,
    /// The request had an API key.
    ApiKey,
    /// The request had an API key that is not accepted.
    WrongKey,
    /// The claim of the tenant, or a header that names a tenant or a user, is not acceptable.
    Tenant,
    /// The token was in a cookie, and another site may have caused the request.
    CrossSite,
    /// The access token of a machine identity may not be used from this address.
    UntrustedAddress,
    /// All uses of the access token were made.
    UsesExhausted,
    /// The login method of the access token was deleted.
    MethodDeleted,
    /// Whether the access token may be used is unknown without the database.
    UsesUnavailable,
}

impl Outcome {
    /// Whether the request was allowed.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(
            self,
            Self::Verified | Self::Preflight | Self::Public | Self::Anonymous | Self::ApiKey
        )
    }

    /// Returns its name; for a rejected token, the reject code.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Rejected(reject) => reject.code(),
            Self::NoToken => "no_token",
            Self::Conflict => "conflict",
            Self::Preflight => "preflight",
            Self::CrossSite => "cross_site",
            Self::Public => "public",
            Self::Anonymous => "anonymous",
            Self::Denied => "denied",
            Self::Undescribed => "undescribed",
            Self::ApiKey => "api_key",
            Self::WrongKey => "wrong_api_key",
            Self::Tenant => "tenant",
            Self::UntrustedAddress => "untrusted_address",
            Self::UsesExhausted => "uses_exhausted",
            Self::MethodDeleted => "method_deleted",
            Self::UsesUnavailable => "uses_unavailable",
        }
    }

    /// Returns it in words, as the reason for a refusal.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Rejected(reject) => reject.to_string(),
            Self::NoToken => "the request has no token".into(),
            Self::Conflict => "the request has two credentials".into(),
            Self::CrossSite => "another site may have caused the request".into(),
            Self::Denied => "the token does not allow the request".into(),
            Self::WrongKey => "the API key is wrong".into(),
            Self::UsesExhausted => "all uses of the access token were made".into(),
            other => other.name().replace('_', " "),
        }
    }
}
