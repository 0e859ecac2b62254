//! What every request can reach: the verifier, the settings, the counters.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use countersign_engine::{
    Issuer, KeySet, Reject, Revocation, RevocationTarget, Snapshot, UnixTime, Verified, Verifier,
};
use http::HeaderValue;

use crate::{
    admission::Caller,
    clock,
    config::{
        Config, Database, IssuerSection, KeySource, Problem, Problems, RevocationSettings, Server,
    },
    keysource::{IssuerKeys, KeyRefetch, KeySources, written},
    metrics::Metrics,
    revocation::{RevocationEntry, RevocationService, RevokeError, record::RevocationRecord},
    surface::Refusal,
    upkeep::Maintenance,
    users::Users,
};

/// The running server, apart from its sockets.
pub struct App {
    /// Verifies every token.
    pub verifier: Verifier,
    /// What is true of every request, until the configuration is read again.
    pub(crate) server: ArcSwap<Server>,
    /// Whether it has been told to stop.
    stopping: AtomicBool,
    /// Where the issuers' keys come from.
    pub keys: KeySources,
    /// Where tokens are revoked.
    pub revocations: RevocationService,
    /// `[revocation]`, as the desk was made.
    pub(crate) revocation: RevocationSettings,
    /// `[database]`, as the users were found in it.
    pub(crate) database: Database,
    /// Users of our own, where there is a database for them.
    pub users: Option<Users>,
    /// What is done for that database.
    pub(crate) upkeep: Maintenance,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is said of each listener over HTTP/3, once they are bound.
    alt_svc: OnceLock<Box<[Option<HeaderValue>]>>,
}

impl App {
    /// An application that knows the keys it was told, and will learn the others.
    ///
    /// # Errors
    /// A secret that the engine refuses.
    pub fn new(
        config: Config,
        threads: usize,
        revocations: RevocationService,
        users: Option<Users>,
    ) -> Result<Arc<Self>, Problems> {
        Ok(Arc::new(Self {
            verifier: verifier(&config, &revocations)?,
            revocation: config.revocation,
            database: config.database,
            revocations,
            users,
            upkeep: Maintenance::default(),
            server: ArcSwap::from_pointee(config.server),
            stopping: AtomicBool::new(false),
            keys: KeySources::new(&config.issuers),
            metrics: Arc::new(Metrics::new(threads)),
            alt_svc: OnceLock::new(),
        }))
    }

    /// Whether requests can be answered as they will be answered from now on.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() && self.keys.all_fetched_once() && self.revocations.is_ready()
    }

    /// What is true of a request now. Not for holding on to while waiting.
    pub fn server(&self) -> Guard<Arc<Server>> {
        self.server.load()
    }

    /// The same, for as long as it takes.
    #[must_use]
    pub fn server_arc(&self) -> Arc<Server> {
        self.server.load_full()
    }

    /// Answers from now on that it is not ready.
    pub fn stop(&self) {
        // Relaxed: nothing else hangs on it.
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it has been told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Says where there is HTTP/3, of each listener; once they are bound.
    pub(crate) fn set_alt_svc(&self, alt_svc: Box<[Option<HeaderValue>]>) {
        let _said_before = self.alt_svc.set(alt_svc);
    }

    /// `Alt-Svc` of a listener.
    #[must_use]
    pub fn alt_svc_of(&self, listener: usize) -> Option<&HeaderValue> {
        self.alt_svc.get()?.get(listener)?.as_ref()
    }

    /// The keys in use of each issuer, in the order of the sections.
    #[must_use]
    pub fn keys_in_use(&self) -> Vec<(Arc<IssuerKeys>, Option<Arc<KeySet>>)> {
        let snapshot = self.verifier.snapshot();
        let keys =
            |source: &IssuerKeys| snapshot.issuer(&source.section().issuer.name)?.keys().cloned();
        self.keys.all().into_iter().map(|source| (Arc::clone(&source), keys(&source))).collect()
    }

    /// What can be said about a token that was refused to this caller.
    #[must_use]
    pub fn refusal<'t>(
        &self,
        caller: &Caller<'_, '_>,
        reject: Reject,
        token: &'t [u8],
    ) -> Refusal<'t> {
        let issuer = (reject == Reject::KeysUnavailable)
            .then(|| self.verifier.claimed_issuer(token))
            .flatten();
        let exceeded = caller.exceeded().filter(|_| reject == Reject::NotAdmitted);
        Refusal { reject, token, issuer, exceeded }
    }

    /// What a request to revoke means. Not in the name of an issuer that is not
    /// configured, nor by a `kid` that a key without one could take: nothing would
    /// come of it but the belief that something was revoked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn revocation(&self, record: RevocationRecord) -> Result<Revocation, String> {
        let rules = |source: &IssuerKeys| source.section().issuer.rules.clone();
        let Some(name) = &record.issuer else {
            // Of all issuers, so that of the one whose clock may be furthest ahead.
            let leeway =
                self.keys.all().iter().map(|source| rules(source).leeway).max().unwrap_or_default();
            return record.into_validated(clock::now(), leeway.into());
        };
        let Some((source, keys)) = self
            .keys_in_use()
            .into_iter()
            .find(|(source, _)| *source.section().issuer.name == **name)
        else {
            let first = self.keys.all().first().map(|source| source.section().issuer.name.clone());
            let hint = first
                .map_or_else(String::new, |first| format!("; one of those that are is {first}"));
            return Err(format!("the issuer {name} is not configured{hint}"));
        };
        let serves_every_kid = keys.is_some_and(|keys| keys.iter().any(|key| key.kid().is_none()));
        if record.kid.is_some() && serves_every_kid {
            return Err(format!(
                "a key of {name} has no kid, so whoever has it can name any: replace the key"
            ));
        }
        let (leeway, max_lifetime) = (rules(&source).leeway.into(), rules(&source).max_lifetime);
        let mut revocation = record.into_validated(clock::now(), leeway)?;
        revocation.until = revocation
            .until
            .or_else(|| last_expiry(&revocation.target, max_lifetime?.into(), leeway));
        Ok(revocation)
    }

    /// Revokes one token. One that is none of ours needs no revoking (RFC 7009
    /// section 2.2). One whose key is not known, and is not known after its issuer
    /// was asked, is revoked as it is. Whoever may ask for this has said who they are,
    /// so their signatures are checked without a budget.
    ///
    /// # Errors
    /// Why it is not revoked.
    pub async fn revoke_token(&self, token: &[u8]) -> Result<RevocationOutcome, RevokeError> {
        let mut known = self.verifier.revocation_of(token);
        if let Err(Reject::KidUnknown) = known
            && let Some(refetch) = self.refetch(token)
        {
            known = refetch.wait(|| self.verifier.revocation_of(token)).await;
        }
        let revocation = match known {
            Ok(revocation) if revocation.until.is_some_and(|until| until <= clock::now()) => {
                return Ok(RevocationOutcome::Unnecessary);
            }
            Ok(revocation) => RevocationEntry::Proven(revocation),
            Err(Reject::KidUnknown | Reject::KeysUnavailable) => {
                match Revocation::of_unverified(token) {
                    Ok(revocation) => RevocationEntry::Unproven(revocation),
                    Err(_) => return Ok(RevocationOutcome::Unnecessary),
                }
            }
            Err(reject) => return Ok(RevocationOutcome::NotOurs(reject)),
        };
        self.revocations.revoke(revocation).await.map(|()| RevocationOutcome::Done)
    }

    /// Verifies a token as of now. One whose key nobody knows is verified again
    /// when its issuer has been asked for new keys.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify<'t>(
        &self,
        caller: &Caller<'_, '_>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Reject> {
        match self.verify_or_wait(caller, token) {
            Verdict::Now(verified) => verified,
            Verdict::Later(refetch) => self.verify_after(caller, refetch, token).await,
        }
    }

    /// Verifies a token by the keys there are, or says what to wait for first.
    #[must_use]
    pub fn verify_or_wait<'t>(&self, caller: &Caller<'_, '_>, token: &'t [u8]) -> Verdict<'t> {
        let verified = self.verify_now(caller, token);
        if !matches!(verified, Err(Reject::KidUnknown)) {
            return Verdict::Now(verified);
        }
        match self.refetch(token) {
            Some(refetch) => Verdict::Later(refetch),
            // In the meantime the key may have come.
            None => Verdict::Now(self.verify_now(caller, token)),
        }
    }

    /// Verifies a token once the wait is over.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify_after<'t>(
        &self,
        caller: &Caller<'_, '_>,
        refetch: KeyRefetch,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Reject> {
        refetch.wait(|| self.verify_now(caller, token)).await
    }

    fn verify_now<'t>(
        &self,
        caller: &Caller<'_, '_>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Reject> {
        caller.verify(&self.verifier, &self.metrics, token, clock::now())
    }

    /// What there is to wait for before a token with an unknown key is refused.
    fn refetch(&self, token: &[u8]) -> Option<KeyRefetch> {
        self.keys.refetch(&self.verifier.claimed_issuer(token)?.name)
    }
}

/// What becomes of a token.
pub enum Verdict<'t> {
    /// It is judged.
    Now(Result<Verified<'t>, Reject>),
    /// Its key is not known; its issuer is being asked.
    Later(KeyRefetch),
}

/// What became of a token that was to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationOutcome {
    /// It is revoked.
    Done,
    /// It has expired, or is no token.
    Unnecessary,
    /// None of our issuers made it.
    NotOurs(Reject),
}

/// When the last of the tokens has died that an issuer dated as it may: issued
/// before the moment, or just now.
fn last_expiry(target: &RevocationTarget, max_lifetime: u64, leeway: u64) -> Option<UnixTime> {
    let latest = match target {
        RevocationTarget::Subject { issued_before, .. }
        | RevocationTarget::Everything { issued_before, .. } => *issued_before,
        RevocationTarget::TokenId { .. } => clock::now().plus(leeway),
        // Whoever has the key can go on signing.
        RevocationTarget::Key { .. } | RevocationTarget::SigningInput(_) => return None,
    };
    Some(latest.plus(max_lifetime).plus(leeway))
}

fn verifier(config: &Config, revocations: &RevocationService) -> Result<Verifier, Problems> {
    let verifier =
        Verifier::with_revocations(snapshot(&config.issuers)?, Arc::clone(revocations.table()));
    match config.server.cache_bytes {
        0 => Ok(verifier),
        bytes => verifier
            .with_cache(bytes)
            .map_err(|fault| Problem::new("[cache] megabytes", fault.to_string()).into()),
    }
}

/// The issuers with the keys that need no fetching.
fn snapshot(sections: &[IssuerSection]) -> Result<Snapshot, Problems> {
    let issuers = sections
        .iter()
        .map(|section| Ok(Issuer::new(Arc::clone(&section.issuer), static_keys(section)?)));
    let issuers: Vec<_> = issuers.collect::<Result<_, Problem>>()?;
    Snapshot::new(issuers)
        .map_err(|duplicate| Problem::new("auth_jwt_*", duplicate.to_string()).into())
}

/// The keys of a section that need no fetching.
pub(crate) fn static_keys(section: &IssuerSection) -> Result<Option<Arc<KeySet>>, Problem> {
    match &section.keys {
        KeySource::Secret(secret) => {
            let keys = written::secret_keys(secret.expose(), section.issuer.algorithms);
            let place = format!("[{}]", section.section());
            let keys = keys
                .map_err(|fault| Problem::new(place, format!("the key cannot be used: {fault}")))?;
            Ok(Some(Arc::new(keys)))
        }
        KeySource::Static(keys) => Ok(Some(Arc::clone(keys))),
        KeySource::Refreshed(_) => Ok(None),
    }
}
