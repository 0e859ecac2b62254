//! Revocation of tokens, by the token itself or by a description of several.

use countersign_engine::{
    Presentation, Reject, Revocation, RevocationTarget, UnixTime, UnknownKid,
};

use super::Authenticator;
use crate::{
    base::clock,
    keys::IssuerKeys,
    revocation::{
        RevocationEntry, RevocationService, RevokeError,
        record::{RecordMistake, RevocationRecord},
    },
};

/// The outcome of revoking a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationOutcome {
    /// The token is revoked.
    Done,
    /// The token has expired, or the bytes are not a token.
    Unnecessary,
    /// No configured issuer signed the token.
    NotOurs(Reject),
}

impl Authenticator {
    /// Validates a request to revoke. A revocation without effect is rejected: of an issuer that is
    /// not configured, or of a `kid` while the issuer has a key without `kid`, which can sign
    /// tokens with any `kid`.
    ///
    /// # Errors
    /// The mistake, and the remedy.
    pub fn validate_revocation(
        &self,
        record: RevocationRecord,
    ) -> Result<Revocation, RecordMistake> {
        let rules = |source: &IssuerKeys| source.section().issuer.rules.clone();
        let Some(name) = &record.issuer else {
            // It applies to all issuers, so the largest clock difference counts.
            let leeway =
                self.keys.all().iter().map(|source| rules(source).leeway).max().unwrap_or_default();
            return record.into_validated(clock::now(), leeway.into());
        };
        let Some((source, keys)) = self.keys_in_use().into_iter().find(|(source, _)| {
            let issuer = &source.section().issuer;
            issuer.is_named(name) || issuer.names().any(|one| *one == **name)
        }) else {
            let first = self.keys.all().first().map(|source| source.section().issuer.name.clone());
            let hint = first
                .map_or_else(String::new, |first| format!("; one of those that are is {first}"));
            let text = format!("the issuer {name} is not configured{hint}");
            return Err(RecordMistake::new("issuer", text));
        };
        let serves_every_kid = keys.is_some_and(|keys| keys.iter().any(|key| key.kid().is_none()));
        if record.kid.is_some() && serves_every_kid {
            let text =
                format!("a key of {name} has no kid, so its holder can name any: replace the key");
            return Err(RecordMistake::new("kid", text));
        }
        let (leeway, max_lifetime) = (rules(&source).leeway.into(), rules(&source).max_lifetime);
        let mut revocation = record.into_validated(clock::now(), leeway)?;
        revocation.until = revocation
            .until
            .or_else(|| last_expiry(&revocation.target, max_lifetime?.into(), leeway));
        Ok(revocation)
    }

    /// Revokes one token. A token of another issuer needs no revocation (RFC 7009 section
    /// 2.2). A token whose key is still unknown after a refetch is revoked without a check of its
    /// signature. Callers have authenticated, so admission budgets do not apply.
    ///
    /// # Errors
    /// [`RevokeError`] if the revocation cannot be stored.
    pub async fn revoke_token(
        &self,
        revocations: &RevocationService,
        token: &[u8],
    ) -> Result<RevocationOutcome, RevokeError> {
        let read = || match self.verifier.revocation_of(token) {
            Err(reject @ Reject::KidUnknown) => {
                self.unknown_kid(token).map_or(Ok(Err(reject)), Err)
            }
            known => Ok(known),
        };
        let known = self.resolve(read).await.unwrap_or(Err(Reject::KidUnknown));
        let revocation = match known {
            Ok(revocation) if revocation.until.is_some_and(|until| until <= clock::now()) => {
                return Ok(RevocationOutcome::Unnecessary);
            }
            Ok(revocation) => {
                self.revoke_described(revocations, &revocation).await?;
                return Ok(RevocationOutcome::Done);
            }
            Err(Reject::KidUnknown | Reject::KeySkipped | Reject::KeysUnavailable) => {
                match Revocation::of_unverified(token) {
                    Ok(revocation) => RevocationEntry::Unproven(revocation),
                    Err(_) => return Ok(RevocationOutcome::Unnecessary),
                }
            }
            Err(reject) => return Ok(RevocationOutcome::NotOurs(reject)),
        };
        revocations.revoke(revocation).await.map(|()| RevocationOutcome::Done)
    }

    /// Revokes under every name of the issuer, so that the revocation outlives a change of its
    /// names in the configuration.
    ///
    /// # Errors
    /// [`RevokeError`] if it cannot be stored.
    pub async fn revoke_described(
        &self,
        revocations: &RevocationService,
        revocation: &Revocation,
    ) -> Result<(), RevokeError> {
        let Revocation { target, until } = revocation;
        let name = target.issuer().unwrap_or_default();
        let sources = self.keys.all();
        let others = sources.iter().flat_map(|source| source.section().issuer.names_beside(name));
        let others = others.map(|name| target.with_issuer(&name));
        for target in [target.clone()].into_iter().chain(others) {
            let entry = RevocationEntry::Proven(Revocation { target, until: *until });
            revocations.revoke(entry).await?;
        }
        Ok(())
    }

    fn unknown_kid(&self, token: &[u8]) -> Option<Box<UnknownKid>> {
        let (mut unknown, now) = (None, clock::now());
        let report = |found| unknown = Some(Box::new(found));
        // Only the header and `iss` are read: no signature is admitted.
        let verifier = &self.verifier;
        drop(verifier.verify_with(token, now, Presentation::default(), |_| false, report));
        unknown
    }
}

/// Returns when the last token expires that the revocation applies to, if its issuer keeps to
/// the maximum lifetime.
fn last_expiry(target: &RevocationTarget, max_lifetime: u64, leeway: u64) -> Option<UnixTime> {
    let latest = match target {
        RevocationTarget::Subject { issued_before, .. }
        | RevocationTarget::Everything { issued_before, .. } => *issued_before,
        RevocationTarget::TokenId { .. } => clock::now().plus(leeway),
        // The holder of the key can go on signing, and tokens can be issued for the environment.
        RevocationTarget::Key { .. }
        | RevocationTarget::Environment { .. }
        | RevocationTarget::SigningInput(_) => return None,
    };
    Some(latest.plus(max_lifetime).plus(leeway))
}
