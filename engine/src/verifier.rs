//! The way of a token: bytes in, proof or reason out.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::{
    algorithm::Algorithm,
    cache::{Cache, CacheAllocationError, CacheStatistics},
    issuer::{Issuer, IssuerConfig},
    keyset::{KeyIdentity, KeySet, VerificationKey},
    note::{RecordFields, VerificationRecord},
    reject::Reject,
    revocation::{
        Revocation, RevocationHashes, RevocationSubject, RevocationTarget, Revocations,
        RevocationsWriter,
    },
    rules,
    snapshot::Snapshot,
    time::UnixTime,
    token::{ClaimNodes, Jws, Scratch, Value, with_scratch},
    verified::Verified,
};

/// Verifies tokens against the current [`Snapshot`], from any number of threads.
///
/// # Synchronization
/// The snapshot sits behind one [`ArcSwap`]. Readers load it without a lock and
/// without writing to shared memory; a swap is visible to every verification
/// that starts after it returns. The revocations beside it never contradict a
/// snapshot: they only ever refuse more (see [`Revocations`]). What is remembered of
/// tokens is believed only as far as snapshot and revocations of now bear it out.
#[derive(Debug)]
pub struct Verifier {
    current: ArcSwap<Snapshot>,
    revocations: Arc<Revocations>,
    cache: Option<Cache>,
}

/// A signature that has to be checked, as nothing is remembered of it.
#[derive(Clone, Copy, Debug)]
pub struct SignatureCheck<'c> {
    /// The issuer that the token names.
    pub issuer: &'c IssuerConfig,
    /// The algorithm of the key that is to check it.
    pub algorithm: Algorithm,
}

impl Verifier {
    /// A verifier that starts with `snapshot` and never revokes anything.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self::with_revocations(snapshot, Arc::clone(RevocationsWriter::new(0).revocations()))
    }

    /// A verifier that starts with `snapshot` and refuses what is revoked.
    #[must_use]
    pub fn with_revocations(snapshot: Snapshot, revocations: Arc<Revocations>) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot), revocations, cache: None }
    }

    /// This verifier with a cache of so many bytes, an upper bound that is never
    /// exceeded: a token of usual size takes its own length and some 250 bytes.
    ///
    /// # Errors
    /// [`CacheAllocationError`].
    pub fn with_cache(mut self, bytes: usize) -> Result<Self, CacheAllocationError> {
        self.cache = Some(Cache::new(bytes)?);
        Ok(self)
    }

    /// What was counted in the cache, if there is one.
    #[must_use]
    pub fn cache_statistics(&self) -> Option<CacheStatistics> {
        self.cache.as_ref().map(Cache::statistics)
    }

    /// Verifies a compact JWT (RFC 7519 section 7.2) at the moment `now`.
    ///
    /// # Errors
    /// The first [`Reject`] on the token's way; bounds come before parsing,
    /// parsing before cryptography, and the signature before any claim.
    pub fn verify<'t>(&self, token: &'t [u8], now: UnixTime) -> Result<Verified<'t>, Reject> {
        self.verify_if(token, now, |_| true)
    }

    /// Verifies a token, and asks `admit` before a signature is checked, which is what
    /// costs. A token that is remembered is verified without asking. `admit` is asked in
    /// the middle of the work, and must not use a verifier itself.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and [`Reject::NotAdmitted`] when `admit` said no.
    #[inline]
    pub fn verify_if<'t>(
        &self,
        token: &'t [u8],
        now: UnixTime,
        admit: impl FnOnce(&SignatureCheck<'_>) -> bool,
    ) -> Result<Verified<'t>, Reject> {
        let snapshot = self.current.load();
        let known = self.cache.as_ref().and_then(|cache| cache.find(token));
        match known {
            Some(record) if self.still_holds(&snapshot, &record, now) => {
                Ok(Verified::new(token, snapshot, record, true))
            }
            known => self.verify_uncached(token, now, snapshot, known, admit),
        }
    }

    /// Whether what was found in the past would be found now.
    #[inline]
    fn still_holds(&self, snapshot: &Snapshot, record: &VerificationRecord, now: UnixTime) -> bool {
        let Some(issuer) =
            snapshot.get(record.issuer()).filter(|issuer| issuer.epoch() == record.epoch())
        else {
            return false;
        };
        let config = issuer.config();
        record.is_alive(now, config.rules.leeway)
            && !self.revocations.may_apply(record.hashes(), &config.name, record.issued_at())
    }

    /// The whole way, except that a signature is not checked again by the key that is
    /// known to have made it.
    #[inline(never)]
    fn verify_uncached<'t>(
        &self,
        token: &'t [u8],
        now: UnixTime,
        snapshot: Guard<Arc<Snapshot>>,
        known: Option<VerificationRecord>,
        admit: impl FnOnce(&SignatureCheck<'_>) -> bool,
    ) -> Result<Verified<'t>, Reject> {
        let signer = known.as_ref().map(VerificationRecord::key);
        let mut record = VerificationRecord::from_pool();
        let verification = Verification {
            snapshot: &snapshot,
            revocations: &self.revocations,
            cache: self.cache.as_ref(),
            token,
            now,
            signer,
        };
        with_scratch(|scratch| verification.run(scratch, admit, &mut record))?;
        if let Some(cache) = &self.cache
            && known.is_none_or(|known| known.words() != record.words())
        {
            cache.insert(token, &record);
        }
        Ok(Verified::new(token, snapshot, record, false))
    }

    /// The configured issuer that a token names, though nobody has vouched for it:
    /// for saying whose keys are missing, and for asking that issuer for them.
    #[must_use]
    pub fn claimed_issuer(&self, token: &[u8]) -> Option<Arc<IssuerConfig>> {
        let snapshot = self.current.load();
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token).ok()?;
            let document = scratch.claims.parse(jws.payload).ok()?;
            let (_, issuer) = issuer(&snapshot, &ClaimNodes::find(&document)).ok()?;
            Some(Arc::clone(issuer.config()))
        })
    }

    /// What revokes exactly this token, for as long as it could be alive: its id, or
    /// what was signed where it has none.
    ///
    /// # Errors
    /// The [`Reject`] of a token that none of our issuers is known to have signed;
    /// its claims are not looked at further, since one that is not valid yet may be
    /// revoked too. For one whose key is not known see [`Revocation::of_unverified`].
    pub fn revocation_of(&self, token: &[u8]) -> Result<Revocation, Reject> {
        let snapshot = self.current.load();
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token)?;
            let document = scratch
                .claims
                .parse(jws.payload)
                .map_err(|error| error.reject(Reject::ClaimsJson))?;
            let claims = ClaimNodes::find(&document);
            let (_, issuer) = issuer(&snapshot, &claims)?;
            issuer.select(jws.header)?.verify(jws.signing_input, jws.signature)?;
            let config = issuer.config();
            let target = match claims
                .token_id
                .and_then(Value::as_str)
                .filter(|token_id| !token_id.is_empty())
            {
                Some(token_id) => RevocationTarget::TokenId {
                    issuer: config.name.clone(),
                    token_id: token_id.into(),
                },
                None => RevocationTarget::signing_input(jws.signing_input),
            };
            let expires = rules::time(claims.expires, Reject::ExpiryFormat)?;
            Ok(Revocation { target, until: expires.map(|at| at.plus(config.rules.leeway.into())) })
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

    /// Replaces everything by what becomes of it, even if it changes meanwhile: `next`
    /// is called again then. An issuer that is taken over as it is keeps what is
    /// remembered of its tokens.
    pub fn reconfigure(&self, mut next: impl FnMut(&Snapshot) -> Snapshot) {
        self.current.rcu(|current| next(current));
    }

    /// Replaces or takes away the keys of the issuer with this very configuration.
    /// Whoever asks its provider may come too late with the answer: keys that were
    /// found for another configuration are not for this one.
    pub fn renew_keys(&self, of: &Arc<IssuerConfig>, keys: Option<&Arc<KeySet>>) {
        self.current.rcu(|current| match current.issuer(&of.name) {
            Some(issuer) if Arc::ptr_eq(issuer.config(), of) => current.with_keys(&of.name, keys),
            _ => Snapshot::clone(current),
        });
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

/// The verification of one token that is not, or not wholly, remembered.
struct Verification<'w> {
    snapshot: &'w Snapshot,
    revocations: &'w Revocations,
    cache: Option<&'w Cache>,
    token: &'w [u8],
    now: UnixTime,
    /// The key that is known to have made the signature.
    signer: Option<KeyIdentity>,
}

impl Verification<'_> {
    fn run(
        &self,
        scratch: &mut Scratch,
        admit: impl FnOnce(&SignatureCheck<'_>) -> bool,
        record: &mut VerificationRecord,
    ) -> Result<(), Reject> {
        let Scratch { jws, claims, name, texts, client_types } = scratch;
        let jws = jws.decode(self.token)?;
        let document =
            claims.parse(jws.payload).map_err(|error| error.reject(Reject::ClaimsJson))?;
        let claims = ClaimNodes::find(&document);
        let (index, issuer) = issuer(self.snapshot, &claims)?;
        let (key, was_checked) = self.authenticate(issuer, &jws, admit)?;

        let rules = &issuer.config().rules;
        let named = rules.find(&claims);
        let mut judge = || {
            rules.check(jws.header.token_type, &claims, &named, self.now)?;
            let revocation_subject = revocation_subject(issuer, key, &jws, &claims)?;
            self.revocations.check(&revocation_subject, name).map(|()| revocation_subject)
        };
        let revocation_subject = judge().inspect_err(|_| {
            if let (true, Some(cache)) = (was_checked, self.cache) {
                cache.insert_verdict(self.token, key, true);
            }
        })?;
        let not_before = rules::time(claims.not_before, Reject::NotBeforeFormat)?;
        let fields = RecordFields {
            epoch: issuer.epoch(),
            issuer: index,
            key: key.identity(),
            start: revocation_subject.issued_at.max(not_before),
            issued_at: revocation_subject.issued_at,
            expires_at: rules::time(claims.expires, Reject::ExpiryFormat)?,
            // Nobody asks later where nothing is remembered.
            hashes: self.cache.map_or_else(RevocationHashes::default, |_| {
                self.revocations.hashes(&revocation_subject)
            }),
            subject: revocation_subject.subject,
            username: named.username.and_then(Value::as_str),
            client_types: rules.client_types.join(named.client_types, client_types),
            environment: named.environment.and_then(Value::as_str),
        };
        record.write(&fields, texts);
        Ok(())
    }

    /// The key of the issuer that made the signature, and whether that had to be
    /// checked.
    fn authenticate<'i>(
        &self,
        issuer: &'i Issuer,
        jws: &Jws<'_>,
        admit: impl FnOnce(&SignatureCheck<'_>) -> bool,
    ) -> Result<(&'i VerificationKey, bool), Reject> {
        let key = issuer.select(jws.header)?;
        if self.signer == Some(key.identity()) {
            return Ok((key, false));
        }
        if let Some(is_genuine) = self.cache.and_then(|cache| cache.verdict(self.token, key)) {
            return if is_genuine { Ok((key, false)) } else { Err(Reject::Signature) };
        }
        if !admit(&SignatureCheck { issuer: issuer.config(), algorithm: key.algorithm() }) {
            return Err(Reject::NotAdmitted);
        }
        let verdict = key.verify(jws.signing_input, jws.signature);
        if let (Err(_), Some(cache)) = (verdict, self.cache) {
            cache.insert_verdict(self.token, key, false);
        }
        verdict.map(|()| (key, true))
    }
}

/// A claim chooses the issuer, but only among those configured, and everything
/// that follows is bound to that issuer (RFC 8725 section 3.8).
fn issuer<'s>(
    snapshot: &'s Snapshot,
    claims: &ClaimNodes<'_, '_>,
) -> Result<(u32, &'s Issuer), Reject> {
    let name = claims.issuer.ok_or(Reject::IssuerMissing)?;
    name.as_str().and_then(|name| snapshot.find(name)).ok_or(Reject::IssuerUnknown)
}

/// What of a token that has passed its issuer's rules can be revoked.
fn revocation_subject<'p>(
    issuer: &'p Issuer,
    key: &'p VerificationKey,
    jws: &Jws<'p>,
    claims: &ClaimNodes<'_, 'p>,
) -> Result<RevocationSubject<'p>, Reject> {
    Ok(RevocationSubject {
        issuer: &issuer.config().name,
        kid: key.kid().or(jws.header.kid),
        token_id: claims.token_id.and_then(Value::as_str),
        subject: claims.subject.and_then(Value::as_str),
        issued_at: rules::time(claims.issued_at, Reject::IssuedAtFormat)?,
        signing_input: jws.signing_input,
    })
}
