//! The times of a token (RFC 7519 sections 4.1.4 to 4.1.6).

use super::Rules;
use crate::{
    limits,
    reject::Reject,
    time::UnixTime,
    token::{ClaimNodes, Value},
};

impl Rules {
    pub(super) fn check_issued_at(
        &self,
        claims: &ClaimNodes<'_, '_>,
        now: UnixTime,
    ) -> Result<(), Reject> {
        let issued_at = time(claims.issued_at, Reject::IssuedAtFormat)?;
        let leeway = self.leeway.max(self.issued_at_leeway);
        check_start(issued_at, now, leeway, Reject::IssuedInFuture)
    }

    pub(super) fn check_not_before(
        &self,
        claims: &ClaimNodes<'_, '_>,
        now: UnixTime,
    ) -> Result<(), Reject> {
        let not_before = time(claims.not_before, Reject::NotBeforeFormat)?;
        check_start(not_before, now, self.leeway, Reject::NotYetValid)
    }

    /// Checks `exp`, the first second in which the token has expired: a token whose `exp` is now
    /// has expired.
    pub(super) fn check_expiry(
        &self,
        claims: &ClaimNodes<'_, '_>,
        now: UnixTime,
    ) -> Result<(), Reject> {
        match time(claims.expires, Reject::ExpiryFormat)? {
            Some(expires) if has_ended(expires, now, self.leeway) => Err(Reject::Expired),
            // Not checked again for a cached token: time only brings `exp` closer.
            Some(expires) if expires > now.plus(limits::MAX_TIME_TO_EXPIRY) => {
                Err(Reject::ExpiryFormat)
            }
            None if self.require_expiry => Err(Reject::ExpiryMissing),
            _ => Ok(()),
        }
    }

    pub(super) fn check_lifetime(&self, claims: &ClaimNodes<'_, '_>) -> Result<(), Reject> {
        let Some(most) = self.max_lifetime else { return Ok(()) };
        let issued_at = time(claims.issued_at, Reject::IssuedAtFormat)?;
        let expires = time(claims.expires, Reject::ExpiryFormat)?;
        let is_short =
            |(issued_at, expires): (UnixTime, UnixTime)| expires <= issued_at.plus(most.into());
        if issued_at.zip(expires).is_some_and(is_short) { Ok(()) } else { Err(Reject::Lifetime) }
    }

    /// Returns the earliest time at which a token with these claims is valid, for a clock that may
    /// be [`leeway`](Self::leeway) seconds slow.
    pub(crate) fn start(
        &self,
        issued_at: Option<UnixTime>,
        not_before: Option<UnixTime>,
    ) -> Option<UnixTime> {
        let extra = self.issued_at_leeway.saturating_sub(self.leeway);
        issued_at.map(|at| at.minus(extra.into())).max(not_before)
    }
}

fn check_start(
    start: Option<UnixTime>,
    now: UnixTime,
    leeway: u32,
    too_early: Reject,
) -> Result<(), Reject> {
    match start {
        Some(start) if !has_started(start, now, leeway) => Err(too_early),
        _ => Ok(()),
    }
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
