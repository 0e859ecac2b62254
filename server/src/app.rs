//! What every request can reach: the verifier, the settings, the counters.

use std::sync::Arc;

use countersign_engine::{Issuer, Reject, Snapshot, Verified, Verifier};

use crate::{
    clock,
    config::{Config, IssuerSection, KeySource, Problem, Problems, Server},
    keysource::{KeySources, Refetch, written},
    metrics::Metrics,
    revocation::Desk,
    surface::Refusal,
};

/// The running server, apart from its sockets.
pub struct App {
    /// Verifies every token.
    pub verifier: Verifier,
    /// What is true of every request.
    pub server: Server,
    /// Where the issuers' keys come from.
    pub keys: KeySources,
    /// Where tokens are revoked.
    pub revocations: Desk,
    /// Counters.
    pub metrics: Metrics,
}

impl App {
    /// An application that knows the keys it was told, and will learn the others.
    ///
    /// # Errors
    /// A secret that the engine refuses.
    pub fn new(config: Config, threads: usize, revocations: Desk) -> Result<Arc<Self>, Problems> {
        Ok(Arc::new(Self {
            verifier: Verifier::with_revocations(snapshot(&config.issuers)?, Arc::clone(revocations.table())),
            revocations,
            server: config.server,
            keys: KeySources::new(&config.issuers),
            metrics: Metrics::new(threads),
        }))
    }

    /// Whether requests can be answered as they will be answered from now on.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.keys.were_all_asked() && self.revocations.is_ready()
    }

    /// What can be said about a refused token.
    #[must_use]
    pub fn refusal<'t>(&self, reject: Reject, token: &'t [u8]) -> Refusal<'t> {
        let issuer = (reject == Reject::KeysUnavailable).then(|| self.verifier.claimed_issuer(token)).flatten();
        Refusal { reject, token, issuer }
    }

    /// Refuses to revoke in the name of an issuer that is not configured: nothing
    /// would come of it but the belief that something was revoked.
    ///
    /// # Errors
    /// A sentence with the issuers there are.
    pub fn check_issuer(&self, issuer: &str) -> Result<(), String> {
        let mut names = self.keys.iter().map(|source| &*source.section().issuer.name);
        if names.clone().any(|name| name == issuer) {
            return Ok(());
        }
        let first = names.next().map_or_else(String::new, |name| format!("; one of those that are is {name}"));
        Err(format!("the issuer {issuer} is not configured{first}"))
    }

    /// Verifies a token as of now. One whose key nobody knows is verified again
    /// when its issuer has been asked for new keys.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify(&self, token: &[u8]) -> Result<Verified, Reject> {
        let first = self.verify_now(token);
        match self.refetch(token, &first) {
            Some(refetch) => self.verify_after(refetch, token).await,
            None => first,
        }
    }

    /// Verifies a token by the keys there are.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_now(&self, token: &[u8]) -> Result<Verified, Reject> {
        self.verifier.verify(token, clock::now())
    }

    /// What there is to wait for before a token is refused for good.
    #[must_use]
    pub fn refetch(&self, token: &[u8], verified: &Result<Verified, Reject>) -> Option<Refetch> {
        match verified {
            Err(Reject::KidUnknown) => self.keys.refetch(&self.verifier.claimed_issuer(token)?.name),
            _ => None,
        }
    }

    /// Verifies a token once the wait is over.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify_after(&self, refetch: Refetch, token: &[u8]) -> Result<Verified, Reject> {
        refetch.wait(|| self.verify_now(token)).await
    }
}

/// The issuers with the keys that need no fetching.
fn snapshot(sections: &[IssuerSection]) -> Result<Snapshot, Problems> {
    let mut issuers = Vec::new();
    for section in sections {
        let keys = match &section.keys {
            KeySource::Secret(secret) => {
                let keys = written::secret_keys(secret.expose(), section.issuer.algorithms);
                let place = format!("[{}]", section.section());
                Some(Arc::new(keys.map_err(|fault| Problem::new(place, format!("the key cannot be used: {fault}")))?))
            }
            KeySource::Written(keys) => Some(Arc::clone(keys)),
            KeySource::Renewed(_) => None,
        };
        issuers.push(Issuer::new(Arc::clone(&section.issuer), keys));
    }
    Snapshot::new(issuers).map_err(|duplicate| Problem::new("auth_jwt_*", duplicate.to_string()).into())
}
