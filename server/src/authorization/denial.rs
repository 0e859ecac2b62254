//! The reason why a verified token does not allow a request.

use std::fmt;

use super::routes::RouteDenial;
use crate::base::outcome::Outcome;

/// The reason for a denial. Its text is that of the Inmanta server where that has one.
#[derive(Clone, Debug)]
pub enum Denial<'s> {
    /// The issuer of the token may not administer this server.
    MayNotAdminister,
    /// The token is scoped to an environment, and the call concerns none.
    ScopedToken,
    /// The token is scoped to another environment.
    OtherEnvironment,
    /// The token has no client type that may make the call.
    ClientType(String),
    /// The endpoint is not in the table.
    UnknownEndpoint,
    /// The access policy does not allow the request.
    Policy,
    /// The access policy could not be evaluated. The same request may be allowed later.
    PolicyFailed,
    /// The request can be read in more than one way.
    Ambiguous(String),
    /// No trusted proxy describes the request.
    Undescribed,
    /// The rules for routes do not allow the request.
    Route(RouteDenial<'s>),
}

impl Denial<'_> {
    /// Returns the outcome that metrics count.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Undescribed => Outcome::Undescribed,
            _ => Outcome::Denied,
        }
    }

    /// Returns the required scopes, separated by spaces, if the token lacks one of them.
    #[must_use]
    pub fn required_scopes(&self) -> Option<&str> {
        match self {
            Self::Route(denial) => denial.required_scopes(),
            _ => None,
        }
    }
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MayNotAdminister => {
                "The issuer of the authorization token may not administer this server."
            }
            Self::ScopedToken => "The authorization token is scoped to a specific environment.",
            Self::OtherEnvironment => {
                "The authorization token is not valid for the requested environment."
            }
            Self::ClientType(text) => text,
            Self::UnknownEndpoint => "The endpoint is not in the endpoint table.",
            Self::Policy | Self::PolicyFailed => "Request is not allowed by the access policy.",
            Self::Route(denial) => return denial.fmt(f),
            Self::Ambiguous(reason) => return write!(f, "The request is ambiguous: {reason}."),
            Self::Undescribed => "No trusted proxy describes the request.",
        })
    }
}
