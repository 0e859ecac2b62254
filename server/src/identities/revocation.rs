//! Revocations of access tokens: of one with its renewals, of a client secret, of a login method,
//! or of an identity.
//!
//! All but that of a token, and that of a changed role, are timeless: the id of a secret, a method
//! or an identity is not used again, so no token that a concurrent login issues is accepted, and a
//! login after a method was attached again is not concerned.
//!
//! Servers of one database may have different issuers. A token is revoked for its own; the other
//! revocations are made for [`SHARED_ISSUER`] as well, and so for the tokens of every server.

use countersign_engine::{Revocation, RevocationTarget, UnixTime};

use super::{
    access_token::AccessTokenFacts,
    settings::{IdentitySettings, SHARED_ISSUER},
};
use crate::revocation::RevocationEntry;

/// Time after the last expiry for which a revocation is kept, in seconds: for logins at the same
/// time, and clocks that differ.
const MARGIN: u64 = 86_400;

/// Returns the revocation of a token by its identity, with all its renewals.
#[must_use]
pub fn of_token(
    settings: &IdentitySettings,
    facts: &AccessTokenFacts,
    now: UnixTime,
) -> RevocationEntry {
    let token_id = facts.id.as_str().into();
    let target = RevocationTarget::TokenId { issuer: settings.issuer.clone(), token_id };
    let last_expiry = facts.last_expiry(now, settings.max_token_age);
    RevocationEntry::MachineToken(revocation(target, last_expiry))
}

/// Returns the revocations of the tokens that were obtained with a client secret.
#[must_use]
pub fn of_client_secret(
    settings: &IdentitySettings,
    secret: &str,
    now: UnixTime,
) -> [RevocationEntry; 2] {
    let target = |issuer| RevocationTarget::Key { issuer, kid: secret.into() };
    everywhere(settings, target, now.plus(settings.max_token_age))
}

/// Returns the revocations of the tokens of a login method.
#[must_use]
pub fn of_method(settings: &IdentitySettings, method: &str, now: UnixTime) -> [RevocationEntry; 2] {
    let target = |issuer| RevocationTarget::Environment { issuer, environment: method.into() };
    everywhere(settings, target, now.plus(settings.max_token_age))
}

/// Returns the revocations of the tokens of an identity, at any time of issue.
#[must_use]
pub fn of_identity(
    settings: &IdentitySettings,
    identity: &str,
    now: UnixTime,
) -> [RevocationEntry; 2] {
    let last_expiry = now.plus(settings.max_token_age);
    of_issued_before(settings, identity, last_expiry.plus(MARGIN), last_expiry)
}

/// Returns the revocations of the tokens of an identity that were issued in the second `now` or
/// before.
#[must_use]
pub fn of_issued_by(
    settings: &IdentitySettings,
    identity: &str,
    now: UnixTime,
) -> [RevocationEntry; 2] {
    of_issued_before(settings, identity, now.plus(1), now.plus(settings.max_token_age))
}

fn of_issued_before(
    settings: &IdentitySettings,
    identity: &str,
    issued_before: UnixTime,
    last_expiry: UnixTime,
) -> [RevocationEntry; 2] {
    let target =
        |issuer| RevocationTarget::Subject { issuer, subject: identity.into(), issued_before };
    everywhere(settings, target, last_expiry)
}

/// Returns a revocation by both names of the issuer: that of all servers of the database, and that
/// of this server, which servers of earlier versions know.
fn everywhere(
    settings: &IdentitySettings,
    target: impl Fn(Box<str>) -> RevocationTarget,
    last_expiry: UnixTime,
) -> [RevocationEntry; 2] {
    [SHARED_ISSUER, &settings.issuer].map(|issuer| entry(target(issuer.into()), last_expiry))
}

fn entry(target: RevocationTarget, last_expiry: UnixTime) -> RevocationEntry {
    RevocationEntry::Proven(revocation(target, last_expiry))
}

fn revocation(target: RevocationTarget, last_expiry: UnixTime) -> Revocation {
    Revocation { target, until: Some(last_expiry.plus(MARGIN)) }
}
