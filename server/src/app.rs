//! What every request can reach: the verifier, the settings, the counters.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use countersign_engine::{Issuer, KeyMaterial, KeySet, Snapshot, VerificationKey, Verifier};

use crate::{
    config::{Config, IssuerSection, KeySource, Problem, Problems, Server},
    metrics::Metrics,
};

/// The running server, apart from its sockets.
pub struct App {
    /// Verifies every token.
    pub verifier: Verifier,
    /// What is true of every request.
    pub server: Server,
    /// The issuers configured.
    pub issuers: Vec<IssuerSection>,
    /// Counters.
    pub metrics: Metrics,
    /// Whether every issuer's keys have been asked for once.
    pub readiness: Readiness,
}

impl App {
    /// An application that knows its own secrets, and will learn published keys.
    ///
    /// # Errors
    /// A secret that the engine refuses.
    pub fn new(config: Config, threads: usize) -> Result<Arc<Self>, Problems> {
        let verifier = Verifier::new(snapshot(&config.issuers)?);
        let published = config.issuers.iter().filter(|section| matches!(section.keys, KeySource::Jwks(_))).count();
        Ok(Arc::new(Self {
            verifier,
            server: config.server,
            issuers: config.issuers,
            metrics: Metrics::new(threads),
            readiness: Readiness::new(published),
        }))
    }
}

/// How many issuers have not been asked for their keys yet.
///
/// # Synchronization
/// A counter that only falls; a probe that reads it late asks again.
#[derive(Debug)]
pub struct Readiness {
    pending: AtomicUsize,
}

impl Readiness {
    fn new(published: usize) -> Self {
        Self { pending: AtomicUsize::new(published) }
    }

    /// Notes that an issuer has been asked for the first time.
    pub fn asked_one(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether every issuer has been asked once, whatever it answered. A provider
    /// that is down keeps its own tokens out, not the whole server.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }
}

/// The issuers with the keys that need no fetching.
fn snapshot(sections: &[IssuerSection]) -> Result<Snapshot, Problems> {
    let mut issuers = Vec::new();
    for section in sections {
        let keys = match &section.keys {
            KeySource::Secret(secret) => {
                let place = format!("[{}]", section.section());
                let keys = section.issuer.algorithms.iter().map(|algorithm| {
                    VerificationKey::new(None, algorithm, KeyMaterial::Secret(secret.expose()))
                        .map_err(|fault| Problem::new(&place, format!("the key cannot be used: {fault}")))
                });
                Some(Arc::new(KeySet::new(keys.collect::<Result<_, _>>()?)))
            }
            KeySource::Jwks(_) => None,
        };
        issuers.push(Issuer::new(Arc::clone(&section.issuer), keys));
    }
    Snapshot::new(issuers).map_err(|duplicate| Problem::new("auth_jwt_*", duplicate.to_string()).into())
}
