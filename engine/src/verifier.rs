//! The way of a token: bytes in, proof or reason out.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    algorithm::Algorithm,
    issuer::{Issuer, IssuerConfig},
    keyset::{KeySet, VerificationKey},
    reject::Reject,
    revocation::{Presented, Revocation, Revocations, Revoked, Revoker},
    rules,
    snapshot::Snapshot,
    time::UnixTime,
    token::{ClaimNodes, Jws, Scratch, Value, with_scratch},
    verified::{Claims, Verified},
};

/// Verifies tokens against the current [`Snapshot`], from any number of threads.
///
/// # Synchronization
/// The snapshot sits behind one [`ArcSwap`]. Readers load it without a lock and
/// without writing to shared memory; a swap is visible to every verification
/// that starts after it returns. The revocations beside it never contradict a
/// snapshot: they only ever refuse more (see [`Revocations`]).
#[derive(Debug)]
pub struct Verifier {
    current: ArcSwap<Snapshot>,
    revocations: Arc<Revocations>,
}

/// A cold verification: the work of checking one signature, about to be done.
#[derive(Clone, Copy, Debug)]
pub struct Cold<'c> {
    /// The issuer whose key would check it. The token names it, and may be lying.
    pub issuer: &'c IssuerConfig,
    /// The algorithm it would be checked by.
    pub algorithm: Algorithm,
}

impl Verifier {
    /// A verifier that starts with `snapshot` and never revokes anything.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self::with_revocations(snapshot, Arc::clone(Revoker::new(0).revocations()))
    }

    /// A verifier that starts with `snapshot` and refuses what is revoked.
    #[must_use]
    pub fn with_revocations(snapshot: Snapshot, revocations: Arc<Revocations>) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot), revocations }
    }

    /// Verifies a compact JWT (RFC 7519 section 7.2) at the moment `now`.
    ///
    /// # Errors
    /// The first [`Reject`] on the token's way; bounds come before parsing,
    /// parsing before cryptography, and the signature before any claim.
    pub fn verify(&self, token: &[u8], now: UnixTime) -> Result<Verified, Reject> {
        self.verify_if(token, now, |_| true)
    }

    /// Verifies as [`verify`](Self::verify) does, and asks `admit` before the one step
    /// that is expensive: it is called at most once, when the key has been found and
    /// the signature would be checked next. It must not use a verifier itself.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and [`Reject::NotAdmitted`] where `admit` said no.
    pub fn verify_if(&self, token: &[u8], now: UnixTime, admit: impl FnOnce(&Cold<'_>) -> bool) -> Result<Verified, Reject> {
        let snapshot = self.current.load();
        with_scratch(|scratch| verify(&snapshot, &self.revocations, scratch, token, now, admit))
    }

    /// The configured issuer that a token names, though nobody has vouched for it:
    /// for saying whose keys are missing, and for asking that issuer for them.
    #[must_use]
    pub fn claimed_issuer(&self, token: &[u8]) -> Option<Arc<IssuerConfig>> {
        let snapshot = self.current.load();
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token).ok()?;
            let document = scratch.claims.parse(jws.payload).ok()?;
            let issuer = issuer(&snapshot, &ClaimNodes::find(&document)).ok()?;
            Some(Arc::clone(issuer.config()))
        })
    }

    /// What revokes exactly this token, for as long as it could be alive: its id, or
    /// what was signed where it has none.
    ///
    /// # Errors
    /// The [`Reject`] of a token that none of our issuers is known to have signed;
    /// its claims are not looked at further, since one that is not valid yet may be
    /// revoked too. For one whose key is not known see [`Revocation::of_unproven`].
    pub fn revocation_of(&self, token: &[u8]) -> Result<Revocation, Reject> {
        let snapshot = self.current.load();
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token)?;
            let document = scratch.claims.parse(jws.payload).map_err(|fault| fault.reject(Reject::ClaimsJson))?;
            let claims = ClaimNodes::find(&document);
            let issuer = issuer(&snapshot, &claims)?;
            authenticate(issuer, &jws, |_| true)?;
            let config = issuer.config();
            let what = match claims.token_id.and_then(Value::as_str).filter(|token_id| !token_id.is_empty()) {
                Some(token_id) => Revoked::TokenId { issuer: config.name.clone(), token_id: token_id.into() },
                None => Revoked::signing_input(jws.signing_input),
            };
            let expires = rules::time(claims.expires, Reject::ExpiryFormat)?;
            Ok(Revocation { what, until: expires.map(|at| at.plus(config.rules.leeway.into())) })
        })
    }

    /// The snapshot that verifications starting now would use.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces everything.
    pub fn replace(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    /// Replaces the keys of one issuer; the other issuers are not touched, even
    /// if they change at the same time.
    pub fn replace_keys(&self, issuer: &str, keys: &Arc<KeySet>) {
        self.current.rcu(|current| current.with_keys(issuer, Some(keys)));
    }

    /// Takes an issuer's keys away: its tokens are answered with
    /// [`Reject::KeysUnavailable`] until there are keys again.
    pub fn withdraw_keys(&self, issuer: &str) {
        self.current.rcu(|current| current.with_keys(issuer, None));
    }
}

fn verify(
    snapshot: &Snapshot,
    revocations: &Revocations,
    scratch: &mut Scratch,
    token: &[u8],
    now: UnixTime,
    admit: impl FnOnce(&Cold<'_>) -> bool,
) -> Result<Verified, Reject> {
    let jws = scratch.jws.decode(token)?;
    let document = scratch.claims.parse(jws.payload).map_err(|fault| fault.reject(Reject::ClaimsJson))?;
    let claims = ClaimNodes::find(&document);
    let issuer = issuer(snapshot, &claims)?;
    let key = authenticate(issuer, &jws, admit)?;

    let config = issuer.config();
    let named = config.rules.find(&claims);
    config.rules.check(jws.header.token_type, &claims, &named, now)?;
    let presented = Presented {
        issuer: &config.name,
        kid: key.kid().or(jws.header.kid),
        token_id: claims.token_id.and_then(Value::as_str),
        subject: claims.subject.and_then(Value::as_str),
        issued_at: rules::time(claims.issued_at, Reject::IssuedAtFormat)?,
        signing_input: jws.signing_input,
    };
    revocations.check(&presented, &mut scratch.name)?;
    let claims = Claims::collect(&config.rules, &claims, &named, jws.payload)?;
    Ok(Verified::new(Arc::clone(config), key.identity(), claims))
}

/// A claim chooses the issuer, but only among those configured, and everything
/// that follows is bound to that issuer (RFC 8725 section 3.8).
fn issuer<'s>(snapshot: &'s Snapshot, claims: &ClaimNodes<'_, '_>) -> Result<&'s Issuer, Reject> {
    let name = claims.issuer.ok_or(Reject::IssuerMissing)?;
    name.as_str().and_then(|name| snapshot.issuer(name)).ok_or(Reject::IssuerUnknown)
}

/// The key of the issuer that made the signature, if the work of telling is admitted.
fn authenticate<'s>(
    issuer: &'s Issuer,
    jws: &Jws<'_>,
    admit: impl FnOnce(&Cold<'_>) -> bool,
) -> Result<&'s VerificationKey, Reject> {
    let key = issuer.select(jws.header)?;
    if !admit(&Cold { issuer: issuer.config(), algorithm: key.algorithm() }) {
        return Err(Reject::NotAdmitted);
    }
    key.verify(jws.signing_input, jws.signature)?;
    Ok(key)
}
