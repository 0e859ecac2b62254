//! What every request can reach: the verifier, the settings, the counters.

use std::sync::Arc;

use countersign_engine::{Issuer, KeyMaterial, KeySet, Snapshot, VerificationKey, Verifier};

use crate::{
    config::{Config, IssuerSection, KeySource, Problem, Problems, Server},
    keysource::Readiness,
    telemetry::Metrics,
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
