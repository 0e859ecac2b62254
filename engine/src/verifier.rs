//! The [`Verifier`]: takes the bytes of a token, returns [`Verified`] or a [`Reject`].

mod batch;
mod explain;

use std::sync::Arc;

pub use explain::TokenExplanation;

use arc_swap::ArcSwap;

use crate::{
    algorithm::{Algorithm, RsaImplementation},
    builder::VerifierBuilder,
    cache::record::{RecordField, RecordFields, VerificationRecord},
    cache::{Cache, CacheStatistics, SignatureVerdicts},
    issuer::{Issuer, IssuerConfig, IssuerEpoch, TokenIssuer},
    jwks::SkippedKey,
    keyset::{KeyIdentity, KidHash, SignatureInput, VerificationKey},
    presentation::Presentation,
    reject::Reject,
    revocation::{Revocation, RevocationHashes, RevocationSubject, RevocationTarget, Revocations},
    rules::{self, AuthenticToken, NamedClaims},
    snapshot::{FoundIssuer, Snapshot},
    time::UnixTime,
    token::{ClaimNodes, Jws, Scratch, Value, WrittenNumbers, with_scratch},
    verified::Verified,
};

/// Verifies tokens against the current [`Snapshot`], from any number of threads.
///
/// # Synchronization
/// The snapshot is behind one [`ArcSwap`]. Readers load it without a lock and without writing to
/// shared memory. A swap is visible to every verification that starts after the swap returns.
/// [`Revocations`] are kept beside the snapshot and never contradict it, since a revocation only
/// adds a refusal. A cached result is used only after the current snapshot and the current
/// revocations confirm it.
#[derive(Debug)]
pub struct Verifier {
    current: ArcSwap<Snapshot>,
    revocations: Arc<Revocations>,
    cache: Option<Cache>,
    rsa: RsaImplementation,
}

/// The signature check that an uncached token needs; passed to [`Verifier::verify_if`].
#[derive(Clone, Copy, Debug)]
pub struct SignatureCheck<'c> {
    /// The issuer named by the token.
    pub issuer: &'c IssuerConfig,
    /// The algorithm of the key that checks the signature.
    pub algorithm: Algorithm,
}

/// A signature check that is due, with one of the keys that may have made the signature.
struct DueCheck<'i, 'j> {
    issuer: &'i IssuerConfig,
    key: &'i VerificationKey,
    /// Whether no other key may have made the signature.
    is_only_key: bool,
    jws: &'j Jws<'j>,
}

impl DueCheck<'_, '_> {
    /// Verifies the signature, if `admit` allows it.
    fn verify_if(
        &self,
        mut admit: impl FnMut(&SignatureCheck<'_>) -> bool,
    ) -> Result<bool, Reject> {
        if !admit(&self.signature_check()) {
            return Err(Reject::NotAdmitted);
        }
        let SignatureInput { key, signing_input, signature } = self.input();
        Ok(key.verify(signing_input, signature).is_ok())
    }

    fn signature_check(&self) -> SignatureCheck<'_> {
        SignatureCheck { issuer: self.issuer, algorithm: self.key.algorithm() }
    }

    fn input(&self) -> SignatureInput<'_> {
        let Jws { signing_input, signature, .. } = *self.jws;
        SignatureInput { key: self.key, signing_input, signature }
    }
}

/// A token that is refused with [`Reject::KidUnknown`]. Nothing in it is verified. Use it to fetch
/// the keys of its issuer, and for no other decision.
#[derive(Clone, Debug)]
pub struct UnknownKid {
    /// The configured issuer that it names.
    pub issuer: Arc<IssuerConfig>,
    /// The hash of its `kid`.
    pub kid: KidHash,
    /// Its `iat`; `None` if it has none that can be read.
    pub issued_at: Option<UnixTime>,
    epoch: IssuerEpoch,
}

impl Verifier {
    /// Returns a [`VerifierBuilder`], which configures issuers, revocations and the cache.
    pub fn builder() -> VerifierBuilder {
        VerifierBuilder::default()
    }

    pub(crate) fn new(
        snapshot: Snapshot,
        revocations: Arc<Revocations>,
        cache: Option<Cache>,
        rsa: RsaImplementation,
    ) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot), revocations, cache, rsa }
    }

    /// Returns the counters of the cache, or `None` without a cache.
    #[must_use]
    pub fn cache_statistics(&self) -> Option<CacheStatistics> {
        self.cache.as_ref().map(Cache::statistics)
    }

    /// Verifies a compact JWT (RFC 7519 section 7.2) at the time `now`, as presented by a request
    /// without a client certificate.
    ///
    /// # Errors
    /// The first [`Reject`] found. Bounds are checked before parsing, parsing comes before
    /// cryptography, and the signature is checked before any claim.
    pub fn verify<'t>(&self, token: &'t [u8], now: UnixTime) -> Result<Verified<'t>, Reject> {
        self.verify_if(token, now, Presentation::default(), |_| true)
    }

    /// Verifies a token as presented by a request, and calls `admit` before each signature check,
    /// the expensive step. A token is checked with one key, or with each of a few if its header
    /// does not distinguish them, until one of them has made the signature.
    ///
    /// A token whose acceptance depends on the request, such as one that is bound to a client
    /// certificate, is never accepted from the cache. Only its signature is not checked again.
    ///
    /// A cached token is verified without calling `admit`. `admit` runs in the middle of the
    /// verification, while the thread's buffers are borrowed, so it must not use a verifier itself.
    ///
    /// # Errors
    /// The errors of [`verify`](Self::verify), and [`Reject::NotAdmitted`] if `admit` returned
    /// `false` before a key that made the signature was found.
    #[inline]
    pub fn verify_if<'t>(
        &self,
        token: &'t [u8],
        now: UnixTime,
        presentation: Presentation<'_>,
        admit: impl FnMut(&SignatureCheck<'_>) -> bool,
    ) -> Result<Verified<'t>, Reject> {
        self.verify_with(token, now, presentation, admit, drop)
    }

    /// Verifies a token as [`verify_if`](Self::verify_if) does, and passes an [`UnknownKid`] to
    /// `report` before it returns [`Reject::KidUnknown`], so that the caller need not read the
    /// token again.
    ///
    /// # Errors
    /// The errors of [`verify_if`](Self::verify_if).
    #[inline]
    pub fn verify_with<'t>(
        &self,
        token: &'t [u8],
        now: UnixTime,
        presentation: Presentation<'_>,
        mut admit: impl FnMut(&SignatureCheck<'_>) -> bool,
        report: impl FnOnce(UnknownKid),
    ) -> Result<Verified<'t>, Reject> {
        let snapshot = self.current.load();
        let cached = self.cache.as_ref().and_then(|cache| cache.find(token));
        match cached {
            Some(record) if self.still_holds(&snapshot, &record, now) => {
                Ok(Verified::new(token, snapshot, record, true))
            }
            cached => {
                let presented = PresentedToken { token, now, presentation };
                let check = |due: DueCheck<'_, '_>| due.verify_if(&mut admit);
                let record =
                    self.verify_uncached(&presented, &snapshot, cached, (check, report))?;
                Ok(Verified::new(token, snapshot, record, false))
            }
        }
    }

    /// Verifies a token in full, without a look at the cache, and keeps nothing of it: for previews
    /// of decisions.
    ///
    /// # Errors
    /// The errors of [`verify`](Self::verify).
    pub fn verify_apart<'t>(
        &self,
        token: &'t [u8],
        now: UnixTime,
        presentation: Presentation<'_>,
    ) -> Result<Verified<'t>, Reject> {
        let snapshot = self.current.load();
        let mut record = VerificationRecord::from_pool();
        let verification = UncachedVerification {
            snapshot: &snapshot,
            revocations: &self.revocations,
            cache: None,
            presented: &PresentedToken { token, now, presentation },
            signer: None,
        };
        let check = |due: DueCheck<'_, '_>| due.verify_if(|_| true);
        with_scratch(|scratch| verification.run(scratch, (check, drop), &mut record))?;
        Ok(Verified::new(token, snapshot, record, false))
    }

    /// Whether a cached result still holds under this snapshot, time and revocation set.
    #[inline]
    fn still_holds(&self, snapshot: &Snapshot, record: &VerificationRecord, now: UnixTime) -> bool {
        let Some(issuer) =
            snapshot.get(record.issuer()).filter(|issuer| issuer.epoch() == record.epoch())
        else {
            return false;
        };
        let config = issuer.config();
        let of_token = || TokenIssuer {
            config,
            tenant: record.text(RecordField::Issuer).and_then(|name| config.match_name(name)?),
        };
        record.is_valid_at(now, config.rules.leeway)
            && !self.revocations.may_apply(record.hashes(), of_token, record.issued_at())
    }

    /// Verifies a token in full, except that a signature already checked with the same key is not
    /// checked again.
    #[inline(never)]
    fn verify_uncached<'w>(
        &self,
        presented: &PresentedToken<'_, '_>,
        snapshot: &'w Snapshot,
        cached: Option<VerificationRecord>,
        callbacks: (impl FnMut(DueCheck<'w, '_>) -> Result<bool, Reject>, impl FnOnce(UnknownKid)),
    ) -> Result<VerificationRecord, Reject> {
        let signer = cached.as_ref().map(VerificationRecord::key);
        let mut record = VerificationRecord::from_pool();
        let verification = UncachedVerification {
            snapshot,
            revocations: &self.revocations,
            cache: self.cache.as_ref(),
            presented,
            signer,
        };
        with_scratch(|scratch| verification.run(scratch, callbacks, &mut record))?;
        if let Some(cache) = &self.cache
            && !cached.is_some_and(|cached| record.continue_from(&cached))
        {
            cache.insert(presented.token, &record);
        }
        Ok(record)
    }

    /// Returns whether the issuer still has the configuration and the keys under which the `kid` is
    /// unknown. Verifying the token again would then give the same result.
    #[must_use]
    pub fn is_still_unknown(&self, unknown: &UnknownKid) -> bool {
        let snapshot = self.current.load();
        snapshot.issuer(&unknown.issuer.name).is_some_and(|issuer| issuer.epoch() == unknown.epoch)
    }

    /// Returns the configured issuer named by a token whose signature was not checked.
    ///
    /// Use it to report which keys are missing, and for no other decision.
    #[must_use]
    pub fn claimed_issuer(&self, token: &[u8]) -> Option<Arc<IssuerConfig>> {
        let snapshot = self.current.load();
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token).ok()?;
            let document = scratch.claims.parse(jws.payload).ok()?;
            let found = issuer(&snapshot, &ClaimNodes::find(&document)).ok()?;
            Some(Arc::clone(found.issuer.config()))
        })
    }

    /// Returns the skipped key that a token names which is refused with [`Reject::KeySkipped`].
    ///
    /// Use it to report the reason, and for no other decision.
    #[must_use]
    pub fn skipped_key(&self, token: &[u8]) -> Option<SkippedKey> {
        let issuer = self.claimed_issuer(token)?;
        let snapshot = self.current.load();
        let keys = snapshot.issuer(&issuer.name)?.keys()?;
        with_scratch(|scratch| {
            let kid = scratch.jws.decode(token).ok()?.header.key.kid?;
            keys.skipped_key(kid).cloned()
        })
    }

    /// Returns the revocation of exactly this token, for as long as the token could be valid. The
    /// revocation names the token id (`jti`), or the signing input of a token without one.
    ///
    /// # Errors
    /// The [`Reject`] of a token that no configured issuer is known to have signed. Its other
    /// claims are not checked, because a token that is not valid yet can be revoked too. If the key
    /// is unknown, use [`Revocation::of_unverified`].
    pub fn revocation_of(&self, token: &[u8]) -> Result<Revocation, Reject> {
        let snapshot = self.current.load();
        with_scratch(|Scratch { jws, claims, issuer_name, token_id, .. }| {
            let jws = jws.decode(token)?;
            let document =
                claims.parse(jws.payload).map_err(|error| error.reject(Reject::ClaimsJson))?;
            let claims = ClaimNodes::find(&document);
            let FoundIssuer { issuer, tenant, .. } = issuer(&snapshot, &claims)?;
            issuer.select(jws.header)?.verify(jws.signing_input, jws.signature)?;
            let config = issuer.config();
            let token_id = config.rules.read_id(claims.token_id, token_id);
            let target = match token_id.filter(|token_id| !token_id.is_empty()) {
                Some(token_id) => RevocationTarget::TokenId {
                    issuer: config.canonical_name(tenant, issuer_name).into(),
                    token_id: token_id.into(),
                },
                None => RevocationTarget::signing_input(jws.signing_input),
            };
            let expires = rules::time(claims.expires, Reject::ExpiryFormat)?;
            Ok(Revocation { target, until: expires.map(|at| at.plus(config.rules.leeway.into())) })
        })
    }

    /// Returns the snapshot used by verifications that start now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Changes the snapshot: the keys of an issuer, the issuers, or both.
    ///
    /// `change` gets a copy of the current snapshot, which then replaces it as a whole. A
    /// verification uses the snapshot from before or after the change, and one that starts after
    /// this returns uses the new one. If another thread has changed the snapshot in between,
    /// `change` runs again, on the newer snapshot. Returns the result of the last run.
    ///
    /// An issuer that keeps its configuration and keys keeps its cached tokens
    /// ([`Snapshot::set_keys`], [`Snapshot::set_issuers`]).
    ///
    /// # Example
    /// ```
    /// use std::sync::Arc;
    /// use countersign_engine::{KeySet, UnknownIssuerError, Verifier};
    ///
    /// # let verifier = Verifier::builder().build()?;
    /// let keys = Arc::new(KeySet::default());
    /// let unknown = verifier.update(|snapshot| snapshot.set_keys("https://idp/", Some(&keys)));
    /// assert_eq!(unknown, Err(UnknownIssuerError("https://idp/".into())));
    /// # Ok::<(), countersign_engine::BuildError>(())
    /// ```
    pub fn update<T>(&self, mut change: impl FnMut(&mut Snapshot) -> T) -> T {
        let mut current = self.current.load();
        loop {
            let mut next = Snapshot::clone(&current);
            let result = change(&mut next);
            let previous = self.current.compare_and_swap(&*current, Arc::new(next));
            if Arc::ptr_eq(&current, &previous) {
                return result;
            }
            current = previous;
        }
    }
}

/// A token, and the time and the request in which it is presented.
struct PresentedToken<'t, 'p> {
    token: &'t [u8],
    now: UnixTime,
    presentation: Presentation<'p>,
}

impl PresentedToken<'_, '_> {
    /// Returns the token for the checks of its claims.
    fn authentic<'t, 'd, 'b>(
        &'t self,
        jws: &Jws<'t>,
        tenant: Option<&'t str>,
        (claims, named): (&'t ClaimNodes<'d, 'b>, &'t NamedClaims<'d, 'b>),
    ) -> AuthenticToken<'t, 'd, 'b> {
        AuthenticToken {
            token_type: jws.header.token_type,
            tenant,
            claims,
            named,
            now: self.now,
            presentation: &self.presentation,
        }
    }
}

/// Verification of one token that the cache does not fully answer.
struct UncachedVerification<'w, 'p> {
    snapshot: &'w Snapshot,
    revocations: &'p Revocations,
    cache: Option<&'p Cache>,
    presented: &'p PresentedToken<'p, 'p>,
    /// The key that is known to have made the signature.
    signer: Option<KeyIdentity>,
}

impl<'w> UncachedVerification<'w, '_> {
    fn run(
        &self,
        scratch: &mut Scratch,
        (check, report): (
            impl FnMut(DueCheck<'w, '_>) -> Result<bool, Reject>,
            impl FnOnce(UnknownKid),
        ),
        record: &mut VerificationRecord,
    ) -> Result<(), Reject> {
        let Scratch {
            jws,
            claims,
            name,
            texts,
            client_types,
            username,
            issuer_name,
            subject,
            token_id,
            exported,
            conditions,
        } = scratch;
        let jws = jws.decode(self.presented.token)?;
        let document =
            claims.parse(jws.payload).map_err(|error| error.reject(Reject::ClaimsJson))?;
        let claims = ClaimNodes::find(&document);
        let FoundIssuer { index, issuer, tenant } = issuer(self.snapshot, &claims)?;
        let authenticated = self.authenticate(issuer, &jws, check);
        if let (Err(Reject::KidUnknown), Some(kid)) = (&authenticated, jws.header.key.kid) {
            report(UnknownKid {
                issuer: Arc::clone(issuer.config()),
                kid: KidHash::of(kid),
                issued_at: rules::time(claims.issued_at, Reject::IssuedAtFormat).ok().flatten(),
                epoch: issuer.epoch(),
            });
        }
        let (key, signature_checked) = authenticated?;

        let config = issuer.config();
        let rules = &config.rules;
        let named = rules.find(&claims);
        let authentic = self.presented.authentic(&jws, tenant, (&claims, &named));
        let checked = rules.check(&authentic).and_then(|()| {
            let numbers = WrittenNumbers::of(&document, jws.payload);
            exported.write(&rules.exported_claims, &claims, numbers)?;
            let issuer = TokenIssuer { config, tenant };
            let ids = (subject, token_id);
            let revocation_subject =
                revocation_subject(issuer, key.kid(), &jws, (&claims, &named), ids);
            self.revocations.check(&revocation_subject, name).map(|()| revocation_subject)
        });
        let revocation_subject = checked.inspect_err(|_| {
            if let (true, Some(cache)) = (signature_checked, self.cache) {
                cache.insert_verdicts(self.presented.token, &SignatureVerdicts::signed_by(key));
            }
        })?;
        let depends_on_request = rules.depends_on_request(&claims, &named);
        let not_before = rules::time(claims.not_before, Reject::NotBeforeFormat)?;
        let client_types = rules.client_types.join(named.client_types, client_types);
        rules.conditions.evaluate(config, &claims, client_types, conditions);
        let fields = RecordFields {
            epoch: if depends_on_request { IssuerEpoch::NEVER } else { issuer.epoch() },
            issuer: index,
            key: key.identity(),
            start: rules.start(revocation_subject.issued_at, not_before),
            issued_at: revocation_subject.issued_at,
            expires_at: rules::time(claims.expires, Reject::ExpiryFormat)?,
            // Only a cached record is compared with later revocations.
            hashes: self.cache.map_or_else(RevocationHashes::default, |_| {
                self.revocations.hashes(&revocation_subject)
            }),
            subject: revocation_subject.subject,
            username: rules.username.read(named.username, username),
            client_types,
            environment: named.environment.and_then(Value::as_str),
            issuer_name: match tenant {
                Some(_) => Some(config.canonical_name(tenant, issuer_name)),
                // An alias without a tenant, where the name has one.
                None if issuer.has_tenants() => claims.issuer.and_then(Value::as_str),
                None => None,
            },
            has_mixed_list: named.has_mixed_list,
            names_key: jws.header.key.kid.is_some(),
            exported,
            conditions,
        };
        record.write(&fields, texts);
        Ok(())
    }

    /// Returns the issuer's key that made the signature, and whether the signature was checked just
    /// now.
    fn authenticate(
        &self,
        issuer: &'w Issuer,
        jws: &Jws<'_>,
        mut check: impl FnMut(DueCheck<'w, '_>) -> Result<bool, Reject>,
    ) -> Result<(&'w VerificationKey, bool), Reject> {
        let candidates = issuer.select(jws.header)?;
        if let Some(key) = candidates.iter().find(|key| self.signer == Some(key.identity())) {
            return Ok((key, false));
        }
        let (token, algorithm) = (self.presented.token, candidates.algorithm());
        let mut verdicts = self.cache.map(|cache| cache.verdicts(token, algorithm));
        let verdict = |verdicts: &Option<SignatureVerdicts>, key| verdicts.as_ref()?.of(key);
        if let Some(key) = candidates.iter().find(|key| verdict(&verdicts, key) == Some(true)) {
            return Ok((key, false));
        }
        let is_only_key = candidates.iter().nth(1).is_none();
        let (mut reject, mut is_new) = (Reject::Signature, false);
        for key in candidates.iter() {
            if verdict(&verdicts, key).is_some() {
                continue;
            }
            match check(DueCheck { issuer: issuer.config(), key, is_only_key, jws }) {
                Ok(true) => return Ok((key, true)),
                Ok(false) => is_new = true,
                Err(refused) => {
                    reject = refused;
                    break;
                }
            }
            verdicts.iter_mut().for_each(|verdicts| verdicts.add_invalid(key));
        }
        if let (true, Some(cache), Some(verdicts)) = (is_new, self.cache, &verdicts) {
            cache.insert_verdicts(token, verdicts);
        }
        Err(reject)
    }
}

/// Returns the properties by which a token can be revoked. `kid` is that of its key. `subject` and
/// `token_id` are buffers for ids that are numbers.
fn revocation_subject<'t>(
    issuer: TokenIssuer<'t>,
    kid: Option<&'t str>,
    jws: &Jws<'t>,
    (claims, named): (&ClaimNodes<'_, 't>, &NamedClaims<'_, 't>),
    (subject, token_id): (&'t mut String, &'t mut String),
) -> RevocationSubject<'t> {
    let rules = &issuer.config.rules;
    RevocationSubject {
        issuer,
        kid: kid.or(jws.header.key.kid),
        token_id: rules.read_id(claims.token_id, token_id),
        subject: rules.read_id(claims.subject, subject),
        environment: named.environment.and_then(Value::as_str),
        issued_at: rules::time(claims.issued_at, Reject::IssuedAtFormat).ok().flatten(),
        signing_input: jws.signing_input,
    }
}

/// Returns the issuer named by `iss`.
///
/// The claim only selects among the configured issuers, and all later steps are bound to that
/// issuer (RFC 8725 section 3.8).
fn issuer<'s, 'b>(
    snapshot: &'s Snapshot,
    claims: &ClaimNodes<'_, 'b>,
) -> Result<FoundIssuer<'s, 'b>, Reject> {
    let name = claims.issuer.ok_or(Reject::IssuerMissing)?;
    name.as_str().and_then(|name| snapshot.find(name)).ok_or(Reject::IssuerUnknown)
}
