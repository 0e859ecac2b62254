//! The running server apart from its sockets: its features joined, and the service that
//! answers requests with them.

mod dispatch;
mod metrics;
mod service;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use countersign_engine::{Issuer, KeySet, Snapshot, Verifier};
use countersign_front::ConnectionCounts;
use http::HeaderValue;

pub use self::service::{AppService, PendingExchange};
use crate::{
    accounts::Users,
    api::ApiContext,
    auth::Authenticator,
    cluster::heartbeat::{MaintainedServer, Maintenance},
    config::{Config, Problem, Problems, Settings},
    keys::{IssuerSection, KeySources, settings::KeySource, static_keys},
    observe::metrics::Metrics,
    revocation::{RevocationService, settings::RevocationSettings},
    store::settings::Database,
};

/// The running server, apart from its sockets.
pub struct App {
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// The settings in force.
    pub(crate) settings: ArcSwap<Settings>,
    /// Revokes tokens.
    pub revocations: Arc<RevocationService>,
    /// The local users, if the server has a database.
    pub users: Option<Users>,
    /// Open and refused connections.
    pub connections: Arc<ConnectionCounts>,
    /// Keeps the database in order.
    pub(crate) maintenance: Maintenance,
    /// `[revocation]` as of the start; a change needs a restart.
    pub(crate) revocation: RevocationSettings,
    /// `[database]` as of the start; a change needs a restart.
    pub(crate) database: Database,
    is_stopping: AtomicBool,
    /// `Alt-Svc` of each listener, once the sockets are bound.
    alt_svc: OnceLock<Box<[Option<HeaderValue>]>>,
}

impl App {
    /// Creates the server. It knows static keys; others are fetched once it runs.
    ///
    /// # Errors
    /// A secret that the engine rejects, or too little memory for the cache.
    pub fn new(
        config: Config,
        threads: usize,
        revocations: RevocationService,
        users: Option<Users>,
    ) -> Result<Arc<Self>, Problems> {
        let authenticator = Authenticator {
            verifier: Arc::new(verifier(&config, &revocations)?),
            keys: Arc::new(KeySources::new(&config.issuers)),
            metrics: Arc::new(Metrics::new(threads)),
        };
        Ok(Arc::new(Self {
            authenticator,
            settings: ArcSwap::from_pointee(config.settings),
            revocations: Arc::new(revocations),
            users,
            connections: Arc::new(ConnectionCounts::new(threads)),
            maintenance: Maintenance::default(),
            revocation: config.revocation,
            database: config.database,
            is_stopping: AtomicBool::new(false),
            alt_svc: OnceLock::new(),
        }))
    }

    /// Whether requests are answered as they should be: every issuer has been asked for its
    /// keys, all revocations are known, and the server is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping()
            && self.authenticator.keys.all_fetched_once()
            && self.revocations.is_ready()
    }

    /// Returns the settings in force. The guard must not be held across an await.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Returns the settings in force, to be held for as long as a request takes.
    #[must_use]
    pub fn settings_arc(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Makes the server report that it is not ready.
    pub fn stop(&self) {
        // Relaxed: nothing else depends on it.
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Sets `Alt-Svc` of each listener, once the sockets are bound.
    pub(crate) fn set_alt_svc(&self, alt_svc: Box<[Option<HeaderValue>]>) {
        let _ignored = self.alt_svc.set(alt_svc);
    }

    /// `Alt-Svc` of a listener.
    #[must_use]
    pub fn alt_svc(&self, listener: usize) -> Option<&HeaderValue> {
        self.alt_svc.get()?.get(listener)?.as_ref()
    }

    /// What the handlers of the API work with.
    pub(crate) fn api<'a>(&'a self, settings: &'a Settings) -> ApiContext<'a> {
        ApiContext {
            authenticator: &self.authenticator,
            revocations: &self.revocations,
            users: self.users.as_ref(),
            auth: &settings.auth,
            settings: &settings.api,
        }
    }

    /// What maintenance works with; `None` without a database that is in use.
    pub(crate) fn maintained(&self) -> Option<MaintainedServer> {
        let (users, settings) = (self.users.as_ref()?, self.settings());
        let is_used = settings.api.requires_token || self.database.is_configured;
        is_used.then(|| MaintainedServer {
            store: users.store.clone(),
            keys: Arc::clone(&self.authenticator.keys),
            revocations: Arc::clone(&self.revocations),
            token_retention: settings.api.login.token_retention,
        })
    }
}

fn verifier(config: &Config, revocations: &RevocationService) -> Result<Verifier, Problems> {
    let verifier =
        Verifier::with_revocations(snapshot(&config.issuers)?, Arc::clone(revocations.table()));
    match config.settings.cache_bytes {
        0 => Ok(verifier),
        bytes => verifier
            .with_cache(bytes)
            .map_err(|error| Problem::new("[cache] megabytes", error.to_string()).into()),
    }
}

/// The issuers with their static keys.
fn snapshot(sections: &[IssuerSection]) -> Result<Snapshot, Problems> {
    let issuers = sections
        .iter()
        .map(|section| Ok(Issuer::new(Arc::clone(&section.issuer), static_keys_of(section)?)));
    let issuers: Vec<_> = issuers.collect::<Result<_, Problem>>()?;
    Snapshot::new(issuers)
        .map_err(|duplicate| Problem::new("auth_jwt_*", duplicate.to_string()).into())
}

/// The static keys of a section; `None` if they are fetched.
pub(crate) fn static_keys_of(section: &IssuerSection) -> Result<Option<Arc<KeySet>>, Problem> {
    match &section.keys {
        KeySource::Secret(secret) => {
            let keys = static_keys::secret_keys(secret.expose(), section.issuer.algorithms);
            let place = format!("[{}]", section.section());
            let keys = keys
                .map_err(|error| Problem::new(place, format!("the key cannot be used: {error}")))?;
            Ok(Some(Arc::new(keys)))
        }
        KeySource::Static(keys) => Ok(Some(Arc::clone(keys))),
        KeySource::Refreshed(_) => Ok(None),
    }
}
