//! The auth tier in the process of a proxy, without sockets: [`TierConfig`] reads a configuration,
//! and [`EmbeddedTier`] decides about the proxy's own requests as `/auth` decides about those that
//! it is asked about.
//!
//! - **A check never blocks.** A token in the cache is decided on the calling thread. What has to
//!   wait, for keys or for the turn of a signature check, is decided by a thread of the tier.
//! - **Reading and starting are separate**, because a proxy reads its configuration with rights
//!   that its workers give up, and forks between the two. Reading starts no thread.
//! - **Keys and revocations come from the server** of the machine, by its [`feed`](crate::feed), if
//!   the configuration has it. Otherwise the tier fetches keys itself, and reads revocations from
//!   PostgreSQL. A database file is never opened: it belongs to the server.

mod certificate;
mod decision;
mod head;
mod loaded_file;
mod pending;

use std::{
    cell::RefCell,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    ptr,
    rc::Rc,
    slice,
    sync::{
        Arc, Once, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use countersign_front::{Peer, RequestHead, Step};

pub use countersign_front::address::UNIX_PEER;

use self::pending::{CheckQueue, PendingCheck};
pub use self::{
    certificate::ConnectionCertificate,
    decision::{CallerIdentity, CheckDecision, DecisionParts},
    head::{HeaderLine, HeaderLines, InvalidHead},
};
use crate::{
    admission::Admission,
    app::App,
    auth::{Caller, PendingDecision, decide},
    base::route::Serves,
    client::{
        ClientAddress, ClientCertificate, RequestDescription, original_request::OriginalRequest,
        request_description::CheckAttributes,
    },
    config::{Config, Listener, Settings, Severity, raw},
    feed::{FeedClient, TrustedOwners, settings::FeedSettings},
    keys::{self, follower::KeyFollower},
    observe::{logging, metrics::Metrics},
    reload::{self, ConfigLoader, ConfigWatcher, InForceFlag},
    revocation::{RevocationService, follower::RevocationFollower, store::RevocationStore},
    store::{Store, settings::DatabaseLocation},
};

/// A configuration that was read, and is not in use yet.
pub struct TierConfig {
    config: Config,
    watcher: ConfigWatcher,
    owners: TrustedOwners,
}

impl TierConfig {
    /// Reads a configuration file and all files that it refers to. The environment overrides it, as
    /// for the server. The same environment counts for each reload: a proxy may give its workers
    /// another one.
    ///
    /// # Errors
    /// All mistakes in it, as text with places and remedies.
    pub fn load(
        file: &Path,
        environment: Vec<(String, String)>,
        cache: CacheSize,
    ) -> Result<Self, String> {
        let source = ConfigFile { file: file.to_owned(), environment, cache };
        let mut watcher = ConfigWatcher::new(Box::new(source.clone()));
        let config = source.load()?;
        watcher.watch_loaded(&config);
        start_logging(&config);
        loaded_file::warn_if_replaced();
        for warning in config.remarks.of(Severity::Warning) {
            tracing::warn!("{warning}");
        }
        Ok(Self { config, watcher, owners: TrustedOwners::of_configuration(file) })
    }

    /// Returns the index of the listener with this name, whose rules a check can be made by:
    /// `main`, or a section name without `listener_`.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<usize> {
        find_listener(&self.config.settings, name)
    }

    /// Returns the names of the listeners whose rules a check can be made by.
    pub fn listener_names(&self) -> impl Iterator<Item = &str> {
        self.config.settings.listeners.iter().filter(is_for_clients).map(|listener| &*listener.name)
    }

    /// Starts the tier, in the process that makes the checks.
    ///
    /// # Errors
    /// A key that the engine rejects, too little memory for the cache, or too few threads.
    pub fn start(self) -> io::Result<EmbeddedTier> {
        let Self { config, mut watcher, owners } = self;
        let feed = config.feed.clone();
        let (revocations, followed) = if feed.is_some() {
            let (revocations, follower) = RevocationService::followed(config.revocation.capacity);
            (revocations, Some(follower))
        } else {
            (stored_revocations(&config)?, None)
        };
        let threads = crate::serve::threads(config.settings.threads);
        let app = App::new(config, threads, revocations, None).map_err(io::Error::other)?;
        let feed = match feed.zip(followed) {
            Some((settings, follower)) => Some(follow_feed(&app, settings, owners, follower)?),
            None => {
                keys::refresh::spawn(&app.authenticator.verifier, &app.authenticator.keys, None)?;
                None
            }
        };
        // A proxy that replaces a process hands it what it read long ago.
        let is_in_force = watcher.apply_missed_changes(&app);
        let (reload_requests, received) = mpsc::channel();
        reload::spawn(&app, watcher, received)?;
        let checks = CheckQueue::start(Arc::clone(&app))?;
        Ok(EmbeddedTier {
            app,
            checks,
            reload_requests,
            threads: AtomicUsize::new(0),
            has_started: AtomicBool::new(false),
            is_in_force,
            _feed: feed,
        })
    }
}

/// The option of `[cache]` with the memory of a tier's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    /// `megabytes`: one process makes all checks.
    Process,
    /// `worker_megabytes`: several processes do, each with a cache of its own.
    Worker,
}

/// Starts to follow the feed of the server. Keys in files are read by this process.
fn follow_feed(
    app: &App,
    settings: FeedSettings,
    owners: TrustedOwners,
    revocations: RevocationFollower,
) -> io::Result<FeedClient> {
    let (verifier, keys) = (&app.authenticator.verifier, &app.authenticator.keys);
    keys::refresh::spawn_for_files(verifier, keys)?;
    let followers = (KeyFollower::new(verifier, keys), revocations);
    FeedClient::start(settings, owners, followers, app.digests.subscribe())
}

/// Returns the environment of this process, for [`TierConfig::load`]. Variables that are not UTF-8
/// are left out.
#[expect(clippy::disallowed_methods, reason = "the environment overrides the configuration file")]
#[must_use]
pub fn process_environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .collect()
}

/// Starts logging to standard error, with the first configuration of the process.
fn start_logging(config: &Config) {
    static STARTED: Once = Once::new();
    let log = &config.settings.log;
    STARTED.call_once(|| logging::start_logging(&log.level, log.format));
}

/// Opens the revocations in PostgreSQL, in the background. Those in a file are the server's.
fn stored_revocations(config: &Config) -> io::Result<RevocationService> {
    let is_shared = matches!(config.database.location, DatabaseLocation::Postgres { .. });
    let store = if is_shared && config.revocation.file.is_none() {
        let no_directory = || Err(io::Error::other("a tier in a proxy has no state directory"));
        Ok(RevocationStore::in_database(Store::new(&config.database, no_directory)?, Vec::new()))
    } else {
        let reason = "revocations are applied in a proxy only by the feed of a server, or if they \
                      are in PostgreSQL";
        tracing::warn!("{reason}: see [feed], and url in [database]");
        Err(reason.to_owned())
    };
    RevocationService::open_in_background(store, &config.revocation)
}

/// The auth tier in this process. Any thread may make checks.
pub struct EmbeddedTier {
    app: Arc<App>,
    checks: CheckQueue,
    reload_requests: mpsc::Sender<()>,
    /// Number of threads that have made a check.
    threads: AtomicUsize,
    has_started: AtomicBool,
    is_in_force: InForceFlag,
    /// Follows the server's feed, if there is one.
    _feed: Option<FeedClient>,
}

/// A request of a client of the proxy.
#[derive(Clone, Copy)]
pub struct EmbeddedRequest<'r, H> {
    /// Its head, as the client sent it.
    pub head: &'r H,
    /// Whether it arrived over TLS.
    pub is_tls: bool,
    /// The peer of its connection.
    pub peer: IpAddr,
    /// The certificate of its connection.
    pub certificate: ConnectionCertificate<'r>,
    /// What the decision has if the request is allowed.
    pub parts: DecisionParts,
}

impl EmbeddedTier {
    /// Whether the configuration is in force, and keys and revocations have been read, so that good
    /// tokens are accepted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_in_force.get() && self.app.is_ready()
    }

    /// Whether it has been ready once, or a check does not wait for that any more.
    fn has_started(&self) -> bool {
        // A flag that is set once. Acquire and Release, because the configuration is applied before.
        if self.has_started.load(Ordering::Acquire) {
            return true;
        }
        let has_started =
            self.is_in_force.get() && (self.app.is_ready() || !self.checks.is_starting());
        self.has_started.store(has_started, Ordering::Release);
        has_started
    }

    /// Returns the index of the listener with this name, as [`TierConfig::listener`] does.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<usize> {
        find_listener(&self.app.settings(), name)
    }

    /// Whether a reload can apply another version of the configuration to this tier. Otherwise,
    /// it takes a new one: for other listeners, another database or feed, or other sizes of memory.
    #[must_use]
    pub fn can_follow(&self, config: &TierConfig) -> bool {
        let Config { settings: next, database, revocation, feed, .. } = &config.config;
        let now = self.app.settings();
        let sizes = |of: &Settings| (of.cache_bytes, of.rsa, of.limits, of.memory);
        let (names, next_names) = (now.listeners.iter(), next.listeners.iter());
        names.map(|listener| &listener.name).eq(next_names.map(|listener| &listener.name))
            && sizes(&now) == sizes(next)
            && (&self.app.database, &self.app.revocation) == (database, revocation)
            && self.app.feed == *feed
    }

    /// Reads the configuration again, in the background.
    pub fn reload(&self) {
        let _ignored = self.reload_requests.send(());
    }

    /// Decides about a request by the rules of the listener with this index, and writes the decision.
    /// Returns `false` if that has to wait: see [`check_later`](Self::check_later).
    pub fn check<H: RequestHead>(
        &self,
        listener: usize,
        request: &EmbeddedRequest<'_, H>,
        decision: &mut CheckDecision,
    ) -> bool {
        // Before the decision, which may otherwise be the last one without keys.
        let has_started = self.has_started();
        if !has_started && !self.is_in_force.get() {
            decision.refuse_overload();
            return true;
        }
        with_admission(&self.app, &self.threads, |admission| {
            let step = decide_request(&self.app, admission, listener, request, decision);
            matches!(step, Step::Done(())) && (has_started || !pending::is_undecided(decision))
        })
    }

    /// Allows a request without a check, and writes that its identity headers are removed, in every
    /// spelling. Its credential stays: it is for the application.
    pub fn pass<H: RequestHead>(&self, head: &H, decision: &mut CheckDecision) {
        decision.write_unchecked(&self.app.settings().auth, head);
    }

    /// Decides about a request after what it has to wait for. `callback` is called with the
    /// decision, once, on another thread, or on this one if too many checks wait.
    pub fn check_later<H: RequestHead>(
        &self,
        listener: usize,
        request: &EmbeddedRequest<'_, H>,
        callback: DecisionCallback,
    ) {
        let limit = self.app.settings().memory.process;
        self.checks.submit(PendingCheck::new(listener, request), limit, callback);
    }
}

fn find_listener(settings: &Settings, name: &str) -> Option<usize> {
    settings.listeners.iter().position(|one| one.name == name && is_for_clients(&one))
}

/// Whether a listener has rules for requests. One for operators has none.
fn is_for_clients(listener: &&Listener) -> bool {
    listener.serves != Serves::Operations
}

/// Receives a decision that had to wait.
pub type DecisionCallback = Box<dyn FnOnce(&CheckDecision) + Send>;

/// Decides about a request by the present keys and revocations, and writes the decision.
fn decide_request<'a, H: RequestHead>(
    app: &App,
    admission: &'a Admission,
    listener: usize,
    request: &EmbeddedRequest<'_, H>,
    decision: &mut CheckDecision,
) -> Step<(), PendingDecision<'a>> {
    let settings = app.settings();
    let EmbeddedRequest { head, is_tls, peer: address, certificate, .. } = *request;
    let client = &settings.listeners[listener].client;
    let peer = Peer { address, listener, certificates: &[], tls: None };
    let deferred = ClientCertificate::Deferred { peer: &peer, settings: client, fields: head };
    // That of a trusted proxy is its own, and a header has that of its client.
    let is_own = !client.proxies.trusts(address);
    let certificate = certificate.known().filter(|_| is_own).unwrap_or(deferred);
    let address = ClientAddress::Deferred { peer: address, proxies: &client.proxies, fields: head };
    let caller = Caller {
        admission,
        client: address,
        certificate,
        username_optional: false,
        is_call: false,
    };
    let describe = || {
        let scheme: &[u8] = if is_tls { b"https" } else { b"http" };
        let (method, host) = (head.method().as_bytes(), head.host().as_bytes());
        RequestDescription::of_own(client, CheckAttributes { method, host, scheme, fields: head })
    };
    let original = || OriginalRequest::new(head.method().as_bytes(), head.target().as_bytes());
    let authenticator = &app.authenticator;
    match decide(authenticator, &**settings, listener, &caller, head, (describe, original)) {
        Step::Done(decided) => {
            decision.write(&settings.auth, request, &decided);
            Step::Done(())
        }
        Step::Wait(pending) => Step::Wait(pending),
    }
}

/// Calls `use_it` with the admission budgets of the calling thread.
fn with_admission<R>(
    app: &Arc<App>,
    threads: &AtomicUsize,
    use_it: impl FnOnce(&Admission) -> R,
) -> R {
    thread_local! {
        /// The budgets of this thread, one for each tier in the process.
        static BUDGETS: RefCell<Vec<(Weak<App>, Rc<Admission>)>> = const { RefCell::new(Vec::new()) };
    }
    let find = |budgets: &mut Vec<(Weak<App>, Rc<Admission>)>| {
        let known = budgets.iter().find(|(of, _)| ptr::eq(of.as_ptr(), Arc::as_ptr(app)));
        if let Some((_, admission)) = known {
            return Rc::clone(admission);
        }
        budgets.retain(|(of, _)| of.strong_count() > 0);
        Metrics::use_shard(threads.fetch_add(1, Ordering::Relaxed));
        let admission = Rc::new(Admission::new(app.settings().limits));
        budgets.push((Arc::downgrade(app), Rc::clone(&admission)));
        admission
    };
    let admission = BUDGETS.with_borrow_mut(find);
    use_it(&admission)
}

/// The configuration file of a tier, and the environment that overrides it.
#[derive(Clone)]
struct ConfigFile {
    file: PathBuf,
    environment: Vec<(String, String)>,
    cache: CacheSize,
}

impl ConfigLoader for ConfigFile {
    fn load(&self) -> Result<Config, String> {
        let config = Config::load(slice::from_ref(&self.file), self.environment.clone());
        let mut config = config.map_err(|problems| problems.to_string())?;
        if self.cache == CacheSize::Worker {
            config.settings.cache_bytes = config.settings.worker_cache_bytes;
        }
        Ok(config)
    }

    fn files(&self) -> Vec<PathBuf> {
        raw::expand(slice::from_ref(&self.file)).unwrap_or_default()
    }
}
