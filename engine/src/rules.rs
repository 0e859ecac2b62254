//! The rules for the claims of an authentic token: pure functions of the claims, the issuer's
//! [`Rules`] and the time.
//!
//! The order of the checks is part of the behaviour, because it decides the [`Reject`] for a token
//! with several defects: `typ`, `iat`, `nbf`, `exp`, the lifetime, `aud`, `sub`, `jti`, then the
//! lists, the client types, the environment, the constraints, the username and `cnf`.

mod username;

use crate::{
    limits,
    presentation::Presentation,
    reject::Reject,
    time::UnixTime,
    token::{ClaimNodes, Value},
};

pub use username::UsernameRule;

/// The rules of one issuer. [`Rules::new`] has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The audience that `aud` must name or contain (RFC 7519 section 4.1.3).
    pub audience: Box<str>,
    /// The accepted `typ` headers, without `application/` and in any case. `None` accepts every
    /// token whose `typ` does not name another kind of token.
    pub token_types: Option<Box<[Box<str>]>>,
    /// Whether a token must have an `exp`.
    pub require_expiry: bool,
    /// The longest time in seconds between `iat` and `exp`. If set, both claims are required.
    pub max_lifetime: Option<u32>,
    /// Seconds of clock difference tolerated for `exp`, `nbf` and `iat`.
    pub leeway: u32,
    /// The username of a token.
    pub username: UsernameRule,
    /// Refuses a token with a top-level list that contains anything but strings.
    pub lists_of_strings: bool,
    /// The client types that a token may have.
    pub client_types: ClientTypes,
    /// The claim that scopes a token to one environment; it must be a string.
    pub environment_claim: Box<str>,
    /// Further conditions, which must all hold.
    pub constraints: Box<[Constraint]>,
    /// Whether a token with a confirmation claim (`cnf`, RFC 7800) is refused unless the request
    /// proves it. Otherwise the claim is ignored, and a stolen token is good in any hands.
    pub verify_confirmation: bool,
}

/// A condition on one claim. A claim that is absent or of another type does not meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// The claim is exactly this string.
    Is {
        /// The name of the claim.
        claim: Box<str>,
        /// The required string.
        value: Box<str>,
    },
    /// The claim is a list with this string in it.
    Contains {
        /// The name of the claim.
        claim: Box<str>,
        /// The required string.
        value: Box<str>,
    },
}

impl Constraint {
    fn holds(&self, claims: &ClaimNodes<'_, '_>) -> bool {
        match self {
            Self::Is { claim, value } => claims.get(claim).and_then(Value::as_str) == Some(value),
            Self::Contains { claim, value } => {
                let list = claims.get(claim).and_then(Value::elements);
                list.is_some_and(|mut list| list.any(|one| one.as_str() == Some(value)))
            }
        }
    }
}

/// The client types of a token: the claim that holds them, and the allowed values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTypes {
    /// The claim, a comma-separated string or a list of strings.
    pub claim: Box<str>,
    /// The type of a token without this claim; `None` refuses such tokens.
    pub when_absent: Option<Box<str>>,
    /// The types that the issuer's tokens may have; `None` allows any.
    pub allowed: Option<Box<[Box<str>]>>,
}

/// The claims that an issuer's rules refer to, found in one pass.
pub(crate) struct NamedClaims<'d, 'b> {
    /// The claim with the username.
    pub(crate) username: Option<Value<'d, 'b>>,
    pub(crate) client_types: Option<Value<'d, 'b>>,
    pub(crate) environment: Option<Value<'d, 'b>>,
    /// Whether a list contains anything but strings, if the rules forbid that.
    has_mixed_list: bool,
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
            audience: audience.into(),
            token_types: None,
            require_expiry: false,
            max_lifetime: None,
            leeway: 0,
            username: UsernameRule {
                claims: ["sub".into()].into(),
                required: false,
                takes_numbers: false,
                prefix: "".into(),
            },
            lists_of_strings: false,
            client_types: ClientTypes {
                claim: "urn:inmanta:ct".into(),
                when_absent: Some("".into()),
                allowed: None,
            },
            environment_claim: "urn:inmanta:env".into(),
            constraints: Box::new([]),
            verify_confirmation: true,
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
            found.has_mixed_list |= self.lists_of_strings && is_mixed_list(value);
            if name == &*self.client_types.claim {
                found.client_types = Some(value);
            }
            if name == &*self.environment_claim {
                found.environment = Some(value);
            }
        }
        found
    }

    /// Checks all rules. `named` is the result of [`find`](Self::find).
    ///
    /// The result depends on `presentation` only if
    /// [`depends_on_request`](Self::depends_on_request) is true.
    pub(crate) fn check(
        &self,
        token_type: Option<&str>,
        claims: &ClaimNodes<'_, '_>,
        named: &NamedClaims<'_, '_>,
        now: UnixTime,
        presentation: &Presentation<'_>,
    ) -> Result<(), Reject> {
        self.check_type(token_type)?;
        self.check_times(claims, now)?;
        self.check_audience(claims.audience)?;
        check_string(claims.subject, Reject::SubjectFormat)?;
        check_string(claims.token_id, Reject::TokenIdFormat)?;
        if named.has_mixed_list {
            return Err(Reject::ListFormat);
        }
        self.client_types.check(named.client_types)?;
        check_string(named.environment, Reject::EnvironmentFormat)?;
        // An empty scope would look like none.
        if named.environment.and_then(Value::as_str) == Some("") {
            return Err(Reject::EnvironmentFormat);
        }
        if !self.constraints.iter().all(|constraint| constraint.holds(claims)) {
            return Err(Reject::Constraints);
        }
        self.username.check(named.username, presentation.username_optional)?;
        match claims.confirmation {
            Some(claim) if self.verify_confirmation => presentation.check_confirmation(claim),
            _ => Ok(()),
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

    /// Checks the `typ` header.
    ///
    /// Unless types are configured, a token that is explicitly typed as something other than an
    /// access token (`dpop+jwt`, `secevent+jwt`, `logout+jwt`, ...) is refused. Most issuers use
    /// `JWT` or no type at all (RFC 8725 section 3.11, RFC 9068 section 2.1).
    fn check_type(&self, token_type: Option<&str>) -> Result<(), Reject> {
        const ACCESS_TOKEN_TYPE: &str = "at+jwt";
        // RFC 7515 section 4.1.9: the prefix may be omitted where the name is unambiguous.
        let short =
            token_type.map(|name| strip_prefix_any_case(name, "application/").unwrap_or(name));
        let fits = match (&self.token_types, short) {
            (Some(types), Some(name)) => types.iter().any(|one| one.eq_ignore_ascii_case(name)),
            (Some(_), None) => false,
            (None, Some(name)) => {
                !ends_with_any_case(name, "+jwt") || name.eq_ignore_ascii_case(ACCESS_TOKEN_TYPE)
            }
            (None, None) => true,
        };
        if fits { Ok(()) } else { Err(Reject::Type) }
    }

    /// Checks the times (RFC 7519 sections 4.1.4 to 4.1.6).
    ///
    /// `exp` is the first second in which the token has expired, so a token whose `exp` is now has
    /// expired.
    fn check_times(&self, claims: &ClaimNodes<'_, '_>, now: UnixTime) -> Result<(), Reject> {
        let issued_at = time(claims.issued_at, Reject::IssuedAtFormat)?;
        if issued_at.is_some_and(|issued_at| !has_started(issued_at, now, self.leeway)) {
            return Err(Reject::IssuedInFuture);
        }
        if time(claims.not_before, Reject::NotBeforeFormat)?
            .is_some_and(|not_before| !has_started(not_before, now, self.leeway))
        {
            return Err(Reject::NotYetValid);
        }
        let expires = time(claims.expires, Reject::ExpiryFormat)?;
        match expires {
            Some(expires) if has_ended(expires, now, self.leeway) => return Err(Reject::Expired),
            // Not checked again for a cached token: time only brings `exp` closer.
            Some(expires) if expires > now.plus(limits::MAX_TIME_TO_EXPIRY) => {
                return Err(Reject::ExpiryFormat);
            }
            None if self.require_expiry => return Err(Reject::ExpiryMissing),
            _ => {}
        }
        let Some(max_lifetime) = self.max_lifetime else { return Ok(()) };
        let is_short = |(issued_at, expires): (UnixTime, UnixTime)| {
            expires <= issued_at.plus(max_lifetime.into())
        };
        if issued_at.zip(expires).is_some_and(is_short) { Ok(()) } else { Err(Reject::Lifetime) }
    }

    fn check_audience(&self, claim: Option<Value<'_, '_>>) -> Result<(), Reject> {
        let claim = claim.filter(|claim| !claim.is_null()).ok_or(Reject::AudienceMissing)?;
        if let Some(audience) = claim.as_str() {
            return match audience {
                "" => Err(Reject::AudienceMissing),
                audience if audience == &*self.audience => Ok(()),
                _ => Err(Reject::Audience),
            };
        }
        let audiences = claim.elements().ok_or(Reject::AudienceFormat)?;
        let (mut count, mut matches) = (0usize, false);
        for audience in audiences {
            count = count.saturating_add(1);
            matches |= audience.as_str().ok_or(Reject::AudienceFormat)? == &*self.audience;
        }
        match (count, matches) {
            (0, _) => Err(Reject::AudienceMissing),
            (_, true) => Ok(()),
            (_, false) => Err(Reject::Audience),
        }
    }
}

impl ClientTypes {
    fn check(&self, claim: Option<Value<'_, '_>>) -> Result<(), Reject> {
        match claim {
            Some(claim) => each_client_type(claim, |client_type| self.check_one(client_type)),
            None => match &self.when_absent {
                Some(client_type) => self.check_one(client_type),
                None => Err(Reject::ClientTypesMissing),
            },
        }
    }

    fn check_one(&self, client_type: &str) -> Result<(), Reject> {
        let allowed = |types: &[Box<str>]| types.iter().any(|one| **one == *client_type);
        match &self.allowed {
            Some(types) if !allowed(types) => Err(Reject::ClientTypes),
            _ => Ok(()),
        }
    }

    /// Returns the client types of a claim that has passed [`check`](Self::check), joined by
    /// commas. The result is in `buffer` unless the claim already has that form.
    pub(crate) fn join<'r>(
        &'r self,
        claim: Option<Value<'_, 'r>>,
        buffer: &'r mut String,
    ) -> &'r str {
        let Some(claim) = claim else { return self.when_absent.as_deref().unwrap_or_default() };
        // One type, or several without white space: the claim already has the right form.
        if let Some(types) = claim.as_str().filter(|types| !types.contains(char::is_whitespace)) {
            return types;
        }
        buffer.clear();
        let read = each_client_type(claim, |client_type| {
            if !buffer.is_empty() {
                buffer.push(',');
            }
            buffer.push_str(client_type);
            Ok(())
        });
        debug_assert!(read.is_ok(), "the claim has passed `check`");
        buffer
    }
}

/// Calls `visit` with each client type of the claim.
///
/// White space around the types of a comma-separated string is ignored. An empty type, or one that
/// contains a comma, is refused.
fn each_client_type(
    claim: Value<'_, '_>,
    mut visit: impl FnMut(&str) -> Result<(), Reject>,
) -> Result<(), Reject> {
    let mut visit = |client_type: &str| match client_type {
        "" => Err(Reject::ClientTypesFormat),
        client_type => visit(client_type),
    };
    if let Some(types) = claim.as_str() {
        // Usually there is exactly one.
        if types.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
            return visit(types);
        }
        return types.split(',').try_for_each(|one| visit(one.trim()));
    }
    let types = claim.elements().ok_or(Reject::ClientTypesFormat)?;
    let mut is_empty = true;
    for one in types {
        is_empty = false;
        match one.as_str() {
            Some(one) if !one.contains(',') => visit(one)?,
            _ => return Err(Reject::ClientTypesFormat),
        }
    }
    // A list without a type is refused like an empty string.
    if is_empty { Err(Reject::ClientTypesFormat) } else { Ok(()) }
}

/// Whether `iat` or `nbf` has come, for a clock that may be `leeway` seconds slow.
#[inline]
pub(crate) fn has_started(start: UnixTime, now: UnixTime, leeway: u32) -> bool {
    start <= now.plus(leeway.into())
}

/// Whether `exp` has come, for a clock that may be `leeway` seconds fast.
#[inline]
pub(crate) fn has_ended(end: UnixTime, now: UnixTime, leeway: u32) -> bool {
    end.plus(leeway.into()) <= now
}

/// Reads a NumericDate. A claim that is present but cannot be read is an error, never treated as
/// absent.
pub(crate) fn time(
    claim: Option<Value<'_, '_>>,
    format: Reject,
) -> Result<Option<UnixTime>, Reject> {
    claim.map(|claim| claim.as_whole(limits::MAX_TIME).map(UnixTime).ok_or(format)).transpose()
}

fn strip_prefix_any_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn ends_with_any_case(text: &str, ending: &str) -> bool {
    let place = text.len().checked_sub(ending.len());
    place.and_then(|place| text.get(place..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

fn check_string(claim: Option<Value<'_, '_>>, format: Reject) -> Result<(), Reject> {
    match claim {
        Some(claim) if claim.as_str().is_none() => Err(format),
        _ => Ok(()),
    }
}

fn is_mixed_list(claim: Value<'_, '_>) -> bool {
    claim.elements().is_some_and(|mut list| list.any(|one| one.as_str().is_none()))
}

#[cfg(test)]
mod tests;
