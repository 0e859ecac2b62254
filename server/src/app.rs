//! The running server without its sockets: the shared state ([`App`]), and the [`AppService`] that
//! answers requests on each worker.

mod dispatch;
mod metrics;
mod notification;
mod pending_request;
mod service;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use countersign_engine::{BuildError, Issuer, KeySet, Verifier};
use countersign_front::{ConnectionCounts, RequestMemory};
use http::HeaderValue;
use tokio::sync::watch;

pub use self::{pending_request::PendingAppRequest, service::AppService};
use crate::{
    accounts::Users,
    api::ApiContext,
    audit::{Audit, settings::AuditSettings},
    auth::Authenticator,
    cluster::{
        maintenance::{MaintainedServer, Maintenance},
        signing_key::SigningKeyFollower,
    },
    config::{Config, Problem, Problems, Settings},
    console::{page_updates::PageUpdates, provider::ConsoleProvider},
    feed::{configuration::SectionDigests, publisher::FeedPublisher, settings::FeedSettings},
    identities::checks::IdentityChecks,
    keys::{IssuerSection, KeySources, settings::KeySource, static_keys},
    load_test::LoadTest,
    observe::{
        figures::RecentFigures,
        metrics::Metrics,
        reloads::{ReloadKind, ReloadResults},
    },
    revocation::{RevocationService, settings::RevocationSettings},
    store::{DatabaseHealth, Store, settings::Database},
};

/// State of the running server, shared by all threads.
pub struct App {
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// The current settings, replaced by a reload.
    pub(crate) settings: ArcSwap<Settings>,
    /// Stores and publishes revocations.
    pub revocations: Arc<RevocationService>,
    /// The local users, if the server has a database.
    pub users: Option<Users>,
    /// The audit log.
    pub(crate) audit: Arc<Audit>,
    /// Open and refused connections.
    pub connections: Arc<ConnectionCounts>,
    /// Memory held by requests in progress.
    pub request_memory: Arc<RequestMemory>,
    /// Bytes in which each thread keeps long strings of requests with their Huffman code.
    pub(crate) known_string_bytes: usize,
    /// Background work on the database: heartbeats, and deletion of expired tokens.
    pub(crate) maintenance: Maintenance,
    /// The key in force of the section that signs.
    pub(crate) signing_key: Arc<SigningKeyFollower>,
    /// `[revocation]` as of the start; a change needs a restart.
    pub(crate) revocation: RevocationSettings,
    /// `[feed]` as of the start; a change needs a restart.
    pub(crate) feed: Option<FeedSettings>,
    /// Digests of the present configuration, for the feed.
    pub(crate) digests: watch::Sender<Arc<SectionDigests>>,
    /// The feed, if this is a server that has one.
    pub(crate) feed_publisher: OnceLock<Arc<FeedPublisher>>,
    /// `[audit]` as of the start; a change needs a restart.
    pub(crate) audit_settings: AuditSettings,
    /// `[database]` as of the start; a change needs a restart.
    pub(crate) database: Database,
    /// Number of databases that lack what this server knew of them.
    pub unexpected_databases: Arc<AtomicUsize>,
    /// The load test of the profile `loadtest`.
    pub(crate) load_test: Option<Arc<LoadTest>>,
    /// Recent figures, for the console and the Admin API.
    pub(crate) figures: RecentFigures,
    /// Updates of the overview of the console.
    pub(crate) page_updates: PageUpdates,
    /// The OpenID provider of the console, replaced by a reload.
    pub(crate) console_provider: ArcSwapOption<ConsoleProvider>,
    /// Results of reloads, by [`ReloadKind`].
    reloads: [ReloadResults; ReloadKind::ALL.len()],
    is_stopping: AtomicBool,
    /// `Alt-Svc` of each listener, once the sockets are bound.
    alt_svc: OnceLock<Box<[Option<HeaderValue>]>>,
}

impl App {
    /// Creates the server with its static keys. Other keys are fetched once it runs.
    ///
    /// # Errors
    /// A secret that the engine rejects, or too little memory for the cache.
    pub fn new(
        mut config: Config,
        threads: usize,
        revocations: RevocationService,
        users: Option<Users>,
    ) -> Result<Arc<Self>, Problems> {
        let load_test = config.load_test.take().map(|settings| LoadTest::new(settings, threads));
        let load_test = load_test.map(Arc::new);
        let judge = load_test.as_ref().map(|load_test| Arc::clone(&load_test.judge));
        let metrics = Metrics::new(threads, &config.settings.metrics).with_judge(judge);
        let metrics = Arc::new(metrics);
        let is_used = config.uses_database();
        let store = users.as_ref().filter(|_| is_used).map(|users| users.store.clone());
        let audit = Arc::new(Audit::new(store, config.audit.clone(), Arc::clone(&metrics)));
        let authenticator = Authenticator {
            verifier: Arc::new(verifier(&config, &revocations)?),
            keys: Arc::new(KeySources::new(&config.issuers)),
            metrics,
            identities: users.as_ref().map(|users| identity_checks(users, &audit)).transpose()?,
            freshness: revocations.freshness().cloned(),
        };
        config.settings.auth.authorization.open_log(None);
        let console_provider = config.console_provider(None);
        Ok(Arc::new(Self {
            authenticator,
            request_memory: Arc::new(RequestMemory::new(config.settings.memory)),
            known_string_bytes: known_string_bytes(config.settings.cache_bytes, threads),
            audit,
            settings: ArcSwap::from_pointee(config.settings),
            revocations: Arc::new(revocations),
            users,
            connections: Arc::new(ConnectionCounts::new(threads)),
            maintenance: Maintenance::default(),
            signing_key: Arc::default(),
            revocation: config.revocation,
            feed: config.feed,
            digests: watch::Sender::new(Arc::new(config.digests)),
            feed_publisher: OnceLock::new(),
            audit_settings: config.audit,
            database: config.database,
            unexpected_databases: Arc::default(),
            load_test,
            figures: RecentFigures::default(),
            page_updates: PageUpdates::default(),
            console_provider: ArcSwapOption::new(console_provider),
            reloads: std::array::from_fn(|_| ReloadResults::new()),
            is_stopping: AtomicBool::new(false),
            alt_svc: OnceLock::new(),
        }))
    }

    /// Whether the server is ready: a first key fetch has ended for every issuer, all revocations
    /// are known, and the server is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping()
            && self.authenticator.keys.all_fetched_once()
            && self.revocations.is_ready()
    }

    /// Returns the current settings. The guard must not be held across an await.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Returns the current settings, to be held for as long as a request takes.
    #[must_use]
    pub fn settings_arc(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Has the key in force sign from the start, if the section that signs has several. If the
    /// database cannot be read, `key` signs until it can.
    pub(crate) fn load_signing_key(&self) {
        let sources = self.authenticator.keys.all();
        let sections = || sources.iter().map(|source| source.section());
        let mut signing = sections().filter(|section| section.sign);
        let has_several =
            signing.any(|section| section.secrets().is_some_and(|secrets| secrets.all().len() > 1));
        let Some(store) = self.store_in_use().filter(|_| has_several) else { return };
        if let Err(error) = store.block_on(self.signing_key.read(store, sections())) {
            tracing::warn!(
                "cannot read which signing key is in force, signing with key until then: {error}"
            );
        }
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

    /// Returns the `Alt-Svc` value of a listener, if it has HTTP/3.
    #[must_use]
    pub fn alt_svc(&self, listener: usize) -> Option<&HeaderValue> {
        self.alt_svc.get()?.get(listener)?.as_ref()
    }

    /// Returns the context of the API handlers.
    pub(crate) fn api<'a>(&'a self, settings: &'a Settings) -> ApiContext<'a> {
        ApiContext {
            authenticator: &self.authenticator,
            revocations: &self.revocations,
            audit: &self.audit,
            users: self.users.as_ref(),
            identities: self.authenticator.identities.as_ref(),
            auth: &settings.auth,
            settings: &settings.api,
            figures: &self.figures,
        }
    }

    /// Returns the results of the reloads of this kind.
    pub(crate) fn reloads(&self, kind: ReloadKind) -> &ReloadResults {
        let [configuration, certificates] = &self.reloads;
        match kind {
            ReloadKind::Configuration => configuration,
            ReloadKind::Certificates => certificates,
        }
    }

    /// Returns the database; `None` if none is in use.
    fn store_in_use(&self) -> Option<&Store> {
        let store = &self.users.as_ref()?.store;
        let is_used = self.settings().api.issues_tokens() || self.database.is_configured;
        is_used.then_some(store)
    }

    /// Returns the state of the database; `None` if none is in use.
    pub(crate) fn database_health(&self) -> Option<DatabaseHealth> {
        self.store_in_use().map(Store::health)
    }

    /// Returns the parts that [`Maintenance`] works on; `None` if no database is in use.
    pub(crate) fn maintained(&self) -> Option<MaintainedServer> {
        let (store, settings) = (self.store_in_use()?, self.settings());
        Some(MaintainedServer {
            store: store.clone(),
            keys: Arc::clone(&self.authenticator.keys),
            signing_key: Arc::clone(&self.signing_key),
            api_keys: settings.auth.api_key_ids(),
            revocations: Arc::clone(&self.revocations),
            token_retention: settings.api.login.token_retention,
            audit: self.audit_settings.clone(),
        })
    }
}

/// Returns the bytes for known strings of each of the threads: as many as for the cache of tokens,
/// together. A token and its code take nearly twice the bytes of the token.
fn known_string_bytes(cache_bytes: usize, threads: usize) -> usize {
    cache_bytes / threads.max(1)
}

fn verifier(config: &Config, revocations: &RevocationService) -> Result<Verifier, Problems> {
    let issuers = config
        .issuers
        .iter()
        .map(|section| Ok(Issuer::new(Arc::clone(&section.issuer), static_keys_of(section)?)));
    let builder = Verifier::builder()
        .issuers(issuers.collect::<Result<Vec<_>, Problem>>()?)
        .revocations(revocations.table())
        .cache_bytes(config.settings.cache_bytes)
        .rsa(config.settings.rsa);
    builder.build().map_err(|error| {
        let place = match error {
            BuildError::Cache(_) => "[cache] megabytes",
            _ => "auth_jwt_*",
        };
        Problem::error(place, error.to_string()).into()
    })
}

fn identity_checks(users: &Users, audit: &Arc<Audit>) -> Result<Arc<IdentityChecks>, Problem> {
    let checks = IdentityChecks::new(users.store.clone(), Arc::clone(audit)).map_err(|error| {
        Problem::error("[identities]", format!("cannot start the threads of checks: {error}"))
    })?;
    let checks = Arc::new(checks);
    checks.spawn_poll();
    Ok(checks)
}

/// Returns the static keys of a section; `None` if they are fetched.
pub(crate) fn static_keys_of(section: &IssuerSection) -> Result<Option<Arc<KeySet>>, Problem> {
    match &section.keys {
        KeySource::Secret(secrets) => {
            let keys = static_keys::rotating_keys(secrets, section.issuer.algorithms);
            let place = format!("[{}]", section.section());
            let keys = keys.map_err(|error| {
                Problem::error(place, format!("the key cannot be used: {error}"))
            })?;
            Ok(Some(Arc::new(keys)))
        }
        KeySource::Static(keys) => Ok(Some(Arc::clone(keys))),
        KeySource::Refreshed(_) => Ok(None),
    }
}
