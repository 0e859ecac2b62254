//! [`TokenKind`]: the defect of a token in a load test, and the answer that it must get.

use countersign_engine::Reject;
use http::StatusCode;

use crate::base::outcome::Outcome;

/// The token of a request, by its defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A token of the corpus without a defect.
    Valid,
    /// Its `exp` is in the past.
    Expired,
    /// Its `aud` is another service.
    Audience,
    /// Its `iss` is not configured.
    Issuer,
    /// One character of its signature is another.
    Signature,
    /// A string that is not a JWT.
    Garbage,
    /// The request has no token.
    Missing,
    /// The token is not in the corpus. It must be refused, for whatever reason.
    Other,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Valid,
        Self::Expired,
        Self::Audience,
        Self::Issuer,
        Self::Signature,
        Self::Garbage,
        Self::Missing,
        Self::Other,
    ];

    /// The defects of tokens in a corpus.
    pub const DEFECTS: [Self; 5] =
        [Self::Expired, Self::Audience, Self::Issuer, Self::Signature, Self::Garbage];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Signature => "signature",
            Self::Garbage => "garbage",
            Self::Missing => "missing",
            Self::Other => "other",
        }
    }

    /// Returns the status and the outcome that it must get; `None` if any refusal is right.
    #[must_use]
    pub const fn expected(self) -> Option<(StatusCode, Outcome)> {
        let rejected = match self {
            Self::Valid => return Some((StatusCode::OK, Outcome::Verified)),
            Self::Other => return None,
            Self::Missing => Outcome::NoToken,
            Self::Expired => Outcome::Rejected(Reject::Expired),
            Self::Audience => Outcome::Rejected(Reject::Audience),
            Self::Issuer => Outcome::Rejected(Reject::IssuerUnknown),
            Self::Signature => Outcome::Rejected(Reject::Signature),
            Self::Garbage => Outcome::Rejected(Reject::Segments),
        };
        Some((StatusCode::UNAUTHORIZED, rejected))
    }

    /// Returns its index in [`ALL`](Self::ALL).
    #[must_use]
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Valid => 0,
            Self::Expired => 1,
            Self::Audience => 2,
            Self::Issuer => 3,
            Self::Signature => 4,
            Self::Garbage => 5,
            Self::Missing => 6,
            Self::Other => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_among_all_kinds() {
        for (index, kind) in TokenKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
