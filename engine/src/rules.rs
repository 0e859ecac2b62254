//! The rules for the claims of an authentic token: pure functions of the claims, the issuer's
//! [`Rules`] and the time.
//!
//! The order of [`ClaimCheck::ALL`] is part of the behaviour, because it decides the [`Reject`] for
//! a token with several defects.

mod audience;
mod client_types;
mod conditions;
mod constraint;
mod times;
mod username;

use core::fmt::Write as _;
use std::sync::Arc;

use crate::{
    exported_claim::ExportedClaim,
    presentation::Presentation,
    reject::Reject,
    time::UnixTime,
    token::{ClaimNodes, Value},
};

pub use audience::AudienceRule;
pub use client_types::ClientTypes;
pub use conditions::{MetConditions, TokenCondition, TokenConditions, TooManyConditionsError};
pub use constraint::Constraint;
pub(crate) use times::{has_ended, has_started, time};
pub use username::UsernameRule;

/// The rules of one issuer. [`Rules::new`] has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The audience that a token must name.
    pub audience: AudienceRule,
    /// The accepted `typ` headers, without `application/` and in any case. `None` accepts every
    /// token whose `typ` does not name another kind of token.
    pub token_types: Option<Box<[Box<str>]>>,
    /// Whether its tokens are logout tokens (OpenID Connect Back-Channel Logout 1.0 section 2.4). A
    /// logout token is never accepted as another token, nor another token as a logout token.
    pub logout_tokens: bool,
    /// Whether a token must have an `exp`.
    pub require_expiry: bool,
    /// The longest time in seconds between `iat` and `exp`. If set, both claims are required.
    pub max_lifetime: Option<u32>,
    /// Seconds of clock difference tolerated for `exp` and `nbf`.
    pub leeway: u32,
    /// Seconds that `iat` may lie in the future. At least `leeway` applies. RFC 7519 section 4.1.6
    /// does not make it a start time.
    pub issued_at_leeway: u32,
    /// Whether a whole number in `sub` or `jti` is accepted, in decimal digits (RFC 7519 sections
    /// 4.1.2 and 4.1.7 want a string).
    pub numeric_ids: bool,
    /// The username of a token.
    pub username: UsernameRule,
    /// The client types that a token may have.
    pub client_types: ClientTypes,
    /// The claim that scopes a token to one environment; it must be a string.
    pub environment_claim: Box<str>,
    /// The scopes that a token must grant, all of them.
    pub scopes: Box<[Box<str>]>,
    /// Further conditions, which must all hold.
    pub constraints: Box<[Constraint]>,
    /// Whether a token with a confirmation claim (`cnf`, RFC 7800) is refused unless the request
    /// proves it. Otherwise the claim is ignored, and a stolen token is good in any hands.
    pub verify_confirmation: bool,
    /// The claims that applications receive in headers, in order.
    pub exported_claims: Arc<[ExportedClaim]>,
    /// Conditions that are evaluated for each token, and do not decide whether it is valid.
    pub conditions: TokenConditions,
    /// Claims that meet no condition of `conditions`, because the issuer is not entitled to them.
    pub withheld_claims: Box<[Box<str>]>,
}

/// One check of the claims of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimCheck {
    /// The header `typ`, and whether it is a logout token.
    Type,
    /// `iat`.
    IssuedAt,
    /// `nbf`.
    NotBefore,
    /// `exp`.
    Expiry,
    /// The time between `iat` and `exp`.
    Lifetime,
    /// `tid`, the tenant of an issuer with tenants.
    Tenant,
    /// `aud`, or the claim that takes its place.
    Audience,
    /// `sub`.
    Subject,
    /// `jti`.
    TokenId,
    /// The client types.
    ClientTypes,
    /// The environment.
    Environment,
    /// `scope` and `scp`.
    Scopes,
    /// The [`Constraint`]s.
    Constraints,
    /// The username.
    Username,
    /// `cnf`.
    Confirmation,
}

impl ClaimCheck {
    /// All checks, in the order in which they are made.
    pub const ALL: [Self; 15] = [
        Self::Type,
        Self::IssuedAt,
        Self::NotBefore,
        Self::Expiry,
        Self::Lifetime,
        Self::Tenant,
        Self::Audience,
        Self::Subject,
        Self::TokenId,
        Self::ClientTypes,
        Self::Environment,
        Self::Scopes,
        Self::Constraints,
        Self::Username,
        Self::Confirmation,
    ];
}

/// The claims that an issuer's rules refer to.
pub(crate) struct NamedClaims<'d, 'b> {
    /// The claim with the username.
    pub(crate) username: Option<Value<'d, 'b>>,
    pub(crate) client_types: Option<Value<'d, 'b>>,
    pub(crate) environment: Option<Value<'d, 'b>>,
    /// Whether a claim is a list that contains anything but strings.
    pub(crate) has_mixed_list: bool,
}

/// An authentic token whose claims are checked.
pub(crate) struct AuthenticToken<'t, 'd, 'b> {
    /// The header `typ`.
    pub(crate) token_type: Option<&'t str>,
    /// The tenant in its `iss`, if its issuer has tenants.
    pub(crate) tenant: Option<&'t str>,
    pub(crate) claims: &'t ClaimNodes<'d, 'b>,
    /// The result of [`Rules::find`].
    pub(crate) named: &'t NamedClaims<'d, 'b>,
    pub(crate) now: UnixTime,
    pub(crate) presentation: &'t Presentation<'t>,
}

impl Rules {
    /// Creates the default rules for tokens with this audience.
    ///
    /// # Defaults
    /// The clocks agree (no leeway), the username is the `sub`, if there is one, and every lifetime
    /// and client type is accepted. A confirmation claim is verified. The claims of client types
    /// and of the environment have names in Inmanta's namespace, so tokens of other systems do not
    /// contain them by accident.
    #[must_use]
    pub fn new(audience: &str) -> Self {
        Self {
            audience: AudienceRule::new(audience),
            token_types: None,
            logout_tokens: false,
            require_expiry: false,
            max_lifetime: None,
            leeway: 0,
            issued_at_leeway: 0,
            numeric_ids: false,
            username: UsernameRule {
                claims: ["sub".into()].into(),
                required: false,
                takes_numbers: false,
                prefix: "".into(),
            },
            client_types: ClientTypes {
                claim: "urn:inmanta:ct".into(),
                when_absent: Some("".into()),
                allowed: None,
            },
            environment_claim: "urn:inmanta:env".into(),
            scopes: Box::new([]),
            constraints: Box::new([]),
            verify_confirmation: true,
            exported_claims: Arc::default(),
            conditions: TokenConditions::default(),
            withheld_claims: Box::default(),
        }
    }

    /// Finds the claims that these rules refer to. One claim may serve two purposes.
    pub(crate) fn find<'d, 'b>(&self, claims: &ClaimNodes<'d, 'b>) -> NamedClaims<'d, 'b> {
        let mut found = NamedClaims {
            username: self.username.find(claims),
            client_types: None,
            environment: None,
            has_mixed_list: false,
        };
        for (name, value) in claims.all() {
            found.has_mixed_list |= is_mixed_list(value);
            if name == &*self.client_types.claim {
                found.client_types = Some(value);
            }
            if name == &*self.environment_claim {
                found.environment = Some(value);
            }
        }
        found
    }

    /// Makes all checks.
    ///
    /// The result depends on the presentation only if
    /// [`depends_on_request`](Self::depends_on_request) is true.
    pub(crate) fn check(&self, token: &AuthenticToken<'_, '_, '_>) -> Result<(), Reject> {
        ClaimCheck::ALL.into_iter().try_for_each(|check| self.check_one(check, token))
    }

    /// Makes one check. It may rely on those before it.
    pub(crate) fn check_one(
        &self,
        check: ClaimCheck,
        token: &AuthenticToken<'_, '_, '_>,
    ) -> Result<(), Reject> {
        let AuthenticToken { token_type, tenant, claims, named, now, presentation } = *token;
        match check {
            ClaimCheck::Type => self.check_type(token_type, claims),
            ClaimCheck::IssuedAt => self.check_issued_at(claims, now),
            ClaimCheck::NotBefore => self.check_not_before(claims, now),
            ClaimCheck::Expiry => self.check_expiry(claims, now),
            ClaimCheck::Lifetime => self.check_lifetime(claims),
            ClaimCheck::Tenant => check_tenant(tenant, claims),
            ClaimCheck::Audience => self.audience.check(claims),
            ClaimCheck::Subject => self.check_id(claims.subject, Reject::SubjectFormat),
            ClaimCheck::TokenId => self.check_id(claims.token_id, Reject::TokenIdFormat),
            ClaimCheck::ClientTypes => self.client_types.check(named.client_types),
            ClaimCheck::Environment => check_environment(named.environment),
            ClaimCheck::Scopes => {
                let granted = self.scopes.iter().all(|scope| constraint::grants(claims, scope));
                if granted { Ok(()) } else { Err(Reject::Scope) }
            }
            ClaimCheck::Constraints => {
                let met = self.constraints.iter().all(|constraint| constraint.holds(claims));
                if met { Ok(()) } else { Err(Reject::Constraints) }
            }
            ClaimCheck::Username => {
                self.username.check(named.username, presentation.username_optional)
            }
            ClaimCheck::Confirmation => match claims.confirmation {
                Some(claim) if self.verify_confirmation => presentation.check_confirmation(claim),
                _ => Ok(()),
            },
        }
    }

    /// Whether the token may be accepted from one request and refused from another, so that the
    /// result must not be cached.
    pub(crate) fn depends_on_request(
        &self,
        claims: &ClaimNodes<'_, '_>,
        named: &NamedClaims<'_, '_>,
    ) -> bool {
        (self.verify_confirmation && claims.confirmation.is_some())
            || (self.username.required && named.username.is_none())
    }

    /// Returns the text of a `sub` or `jti` that has passed its check. It is in `buffer` if the
    /// claim is a number.
    pub(crate) fn read_id<'r>(
        &self,
        claim: Option<Value<'_, 'r>>,
        buffer: &'r mut String,
    ) -> Option<&'r str> {
        let claim = claim?;
        let number = claim.as_integer().filter(|_| self.numeric_ids);
        claim.as_str().or_else(|| {
            buffer.clear();
            write!(buffer, "{}", number?).ok()?;
            Some(buffer)
        })
    }

    fn check_id(&self, claim: Option<Value<'_, '_>>, format: Reject) -> Result<(), Reject> {
        match claim {
            Some(claim) if claim.as_str().is_none() => {
                let is_number = self.numeric_ids && claim.as_integer().is_some();
                if is_number { Ok(()) } else { Err(format) }
            }
            _ => Ok(()),
        }
    }

    /// Checks the `typ` header.
    ///
    /// Unless types are configured, a token that is explicitly typed as something other than an
    /// access token (`dpop+jwt`, `secevent+jwt`, `logout+jwt`, ...) is refused. Most issuers use
    /// `JWT` or no type at all (RFC 8725 section 3.11, RFC 9068 section 2.1). That includes logout
    /// tokens, which their `events` distinguish.
    fn check_type(
        &self,
        token_type: Option<&str>,
        claims: &ClaimNodes<'_, '_>,
    ) -> Result<(), Reject> {
        let usual = if self.logout_tokens { "logout+jwt" } else { "at+jwt" };
        // RFC 7515 section 4.1.9: the prefix may be omitted where the name is unambiguous.
        let short =
            token_type.map(|name| strip_prefix_any_case(name, "application/").unwrap_or(name));
        let fits = match (&self.token_types, short) {
            (Some(types), Some(name)) => types.iter().any(|one| one.eq_ignore_ascii_case(name)),
            (Some(_), None) => false,
            (None, Some(name)) => {
                !ends_with_any_case(name, "+jwt") || name.eq_ignore_ascii_case(usual)
            }
            (None, None) => true,
        };
        let is_expected = fits && is_logout_token(claims) == self.logout_tokens;
        if is_expected { Ok(()) } else { Err(Reject::Type) }
    }
}

/// Whether the events of a token have that of a logout.
fn is_logout_token(claims: &ClaimNodes<'_, '_>) -> bool {
    const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
    let events = claims.events.and_then(Value::members);
    events.is_some_and(|events| events.get(EVENT).is_some())
}

/// Checks that `tid` is the tenant in `iss`, so that two claims never name two tenants.
fn check_tenant(tenant: Option<&str>, claims: &ClaimNodes<'_, '_>) -> Result<(), Reject> {
    match tenant {
        Some(tenant) if claims.get("tid").and_then(Value::as_str) != Some(tenant) => {
            Err(Reject::Tenant)
        }
        _ => Ok(()),
    }
}

/// Checks that the environment is a string that is not empty: an empty scope would look like none.
fn check_environment(claim: Option<Value<'_, '_>>) -> Result<(), Reject> {
    match claim {
        Some(claim) if claim.as_str().is_none_or(str::is_empty) => Err(Reject::EnvironmentFormat),
        _ => Ok(()),
    }
}

fn strip_prefix_any_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn ends_with_any_case(text: &str, ending: &str) -> bool {
    let place = text.len().checked_sub(ending.len());
    place.and_then(|place| text.get(place..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

fn is_mixed_list(claim: Value<'_, '_>) -> bool {
    claim.elements().is_some_and(|mut list| list.any(|one| one.as_str().is_none()))
}

#[cfg(test)]
mod tests;
