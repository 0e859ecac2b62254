//! Reload of configuration and certificates without interrupting requests, on SIGHUP and when their
//! files change. SIGHUP also fetches all keys. A configuration is validated as a whole, then
//! swapped. An invalid one changes nothing.
//!
//! A reload does not change sockets, threads or memory sizes. Changes to these are logged, and take
//! effect at the next restart.

mod file_versions;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use countersign_engine::{Issuer, KeySet, Snapshot};
use countersign_front::Protocols;
use sd_notify::NotifyState;

use self::file_versions::FileVersions;
use crate::{
    app::{App, static_keys_of},
    audit::{AuditEvent, AuditOperation, AuditOrigin, AuditOutcome},
    base::clock,
    config::{Config, Listener, Problems, Settings},
    keys::IssuerKeys,
    observe::{logging, reloads::ReloadKind, settings::LogSettings},
};

/// Interval between checks of the files.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Loads a [`Config`] from its source.
pub trait ConfigLoader: Send {
    /// Loads the configuration.
    ///
    /// # Errors
    /// All problems in it, as text.
    fn load(&self) -> Result<Config, String>;

    /// Returns the files that the configuration is loaded from.
    fn files(&self) -> Vec<PathBuf>;
}

/// Number of checks after which a missing file is not one that is being replaced.
const MISSING_CHECKS: u32 = 5;

/// Watches the files of a configuration for changes.
pub struct ConfigWatcher {
    origin: Box<dyn ConfigLoader>,
    versions_seen: FileVersions,
    /// Number of checks in a row at which a file was missing.
    missing_checks: u32,
    /// The problems of the current files, if they could not be applied.
    last_error: Option<String>,
    is_in_force: InForceFlag,
}

/// Whether the applied configuration is the one in force. It is not in a process that has missed
/// changes which it cannot apply: the processes before it may have applied them, or a version in
/// between.
///
/// # Synchronization
/// It is stored (Release) after the configuration was applied, and loaded (Acquire) before a
/// decision. So a decision that relies on it uses that configuration.
#[derive(Clone, Debug)]
pub struct InForceFlag(Arc<AtomicBool>);

impl InForceFlag {
    /// Returns whether it is.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, is_in_force: bool) {
        self.0.store(is_in_force, Ordering::Release);
    }
}

impl ConfigWatcher {
    /// Creates the watcher. Call this before the configuration is first loaded, so that no change
    /// in between is missed.
    #[must_use]
    pub fn new(origin: Box<dyn ConfigLoader>) -> Self {
        let mut files = origin.files();
        files.sort_unstable();
        let versions_seen = FileVersions::of(&files);
        let is_in_force = InForceFlag(Arc::new(AtomicBool::new(true)));
        Self { origin, versions_seen, missing_checks: 0, last_error: None, is_in_force }
    }
}

/// Starts the thread that checks the files, and reloads the configuration when they have changed
/// or a reload is requested. It ends when the sender of requests is dropped.
///
/// # Errors
/// The operating system cannot create a thread.
pub fn spawn(app: &Arc<App>, mut watcher: ConfigWatcher, requests: Receiver<()>) -> io::Result<()> {
    let app = Arc::clone(app);
    watcher.watch_referenced(&app);
    thread::Builder::new().name("files".into()).spawn(move || {
        loop {
            let is_requested = match requests.recv_timeout(POLL_INTERVAL) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if is_requested {
                // Before the reload, since the keys of a changed section are fetched anyway.
                drop(app.authenticator.keys.request_fetches());
            }
            watcher.poll(&app, is_requested);
            renew_certificates(&app, is_requested);
        }
    })?;
    Ok(())
}

impl ConfigWatcher {
    /// Watches the files that a configuration refers to, too, which was loaded after the watcher was
    /// created and is applied later, in another process.
    pub fn watch_loaded(&mut self, config: &Config) {
        let secrets = config.issuers.iter().flat_map(|section| section.keys.secret_files());
        self.watch(self.files_with(&config.settings, secrets));
    }

    /// Applies changes of the files since the configuration was loaded, before it decides about
    /// requests. Returns whether the configuration is in force afterwards, or later, when mistakes
    /// in these changes are corrected. Files that may still be written are checked again later.
    pub fn apply_missed_changes(&mut self, app: &Arc<App>) -> InForceFlag {
        let mut files = self.files(app);
        // This process may have no right to list a directory.
        files.extend(self.versions_seen.paths().cloned());
        files.sort_unstable();
        files.dedup();
        let now = self.versions_seen.refresh(&files);
        self.versions_seen.mark_unreadable(&now);
        if now.has_changed_since(&self.versions_seen) {
            self.is_in_force.set(false);
            self.reload(app);
            if now.is_settled() {
                self.versions_seen = now;
            }
        }
        self.is_in_force.clone()
    }

    fn files(&self, app: &App) -> Vec<PathBuf> {
        let issuers = app.authenticator.keys.all();
        let secrets = issuers.iter().flat_map(|issuer| issuer.section().keys.secret_files());
        self.files_with(&app.settings(), secrets)
    }

    /// Returns the files of the configuration, and those that it refers to and that are read with
    /// it: the endpoints, the policy, the API keys, the signing keys, and the revocation lists of
    /// identities.
    fn files_with<'f>(
        &self,
        settings: &Settings,
        secrets: impl Iterator<Item = &'f Path>,
    ) -> Vec<PathBuf> {
        let mut files = self.origin.files();
        files.extend(settings.auth.authorization.files.iter().cloned());
        files.extend(settings.auth.tenancy.iter().filter_map(|tenancy| tenancy.key_file.clone()));
        files.extend(settings.tls_cert_auth.crl_files.iter().cloned());
        files.extend(secrets.map(Path::to_owned));
        // The order of sections differs.
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Watches the files that the applied configuration refers to, too. A change of another file
    /// in between is left for the next check.
    fn watch_referenced(&mut self, app: &App) {
        self.watch(self.files(app));
    }

    fn watch(&mut self, files: Vec<PathBuf>) {
        let before = &self.versions_seen;
        let watched: Vec<_> = before.paths().cloned().collect();
        if files != watched && FileVersions::of(&watched).is_same(before) {
            self.versions_seen = FileVersions::of(&files);
        }
    }

    fn poll(&mut self, app: &Arc<App>, is_requested: bool) {
        let now = self.versions_seen.refresh(&self.files(app));
        // Files that are being written, or missing for a moment, are left for a later check. One
        // that stays missing may be a file that the configuration does not refer to any more.
        let is_settled = now.is_settled();
        let has_changed = is_settled && !now.is_same(&self.versions_seen);
        self.missing_checks = if now.has_missing() { self.missing_checks + 1 } else { 0 };
        let is_removed =
            self.missing_checks > 0 && self.missing_checks.is_multiple_of(MISSING_CHECKS);
        if is_requested || is_settled || is_removed {
            self.versions_seen = now;
        }
        if is_requested || has_changed || is_removed {
            self.last_error = None;
            notify(&[
                NotifyState::Reloading,
                NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Ready),
            ]);
            self.reload(app);
            notify(&[NotifyState::Ready]);
        } else if is_settled && self.last_error.is_some() {
            // The mistake may be fixed in another file: a certificate, a key.
            self.reload(app);
        }
    }

    /// Loads the configuration and applies it, or logs its problems, once.
    fn reload(&mut self, app: &Arc<App>) {
        let results = app.reloads(ReloadKind::Configuration);
        let applied = self
            .origin
            .load()
            .and_then(|config| app.reconfigure(config).map_err(|problems| problems.to_string()));
        let last_error = match applied {
            Ok(needs_restart) => {
                results.record_success();
                self.is_in_force.set(true);
                log_success(app, &needs_restart);
                app.audit.record_later(reload_event(AuditOutcome::Done));
                app.maintenance.apply_config(app.maintained());
                self.watch_referenced(app);
                None
            }
            Err(problems) => Some(problems),
        };
        if let Some(problems) = last_error.as_ref().filter(|_| last_error != self.last_error) {
            let effect = if self.is_in_force.get() { PRESENT } else { UNKNOWN };
            tracing::error!("configuration not reloaded, {effect}: {problems}");
            app.settings().auth.authorization.log_policy_error(problems);
            results.record_failure();
            app.audit.record_later(reload_event(AuditOutcome::Failed));
        }
        results.set_current(last_error.is_none());
        self.last_error = last_error;
    }
}

/// The effect of a configuration that cannot be applied.
const PRESENT: &str = "continuing with the present one";
/// Its effect in a process that has missed changes.
const UNKNOWN: &str = "answering every request with 503, because it has changed since the proxy \
                       read it, and the version that was in force is not known; correct it, or \
                       reload the proxy if this process may not read a file";

fn reload_event(outcome: AuditOutcome) -> AuditEvent {
    let origin = AuditOrigin::default();
    AuditEvent { outcome, ..AuditEvent::new(AuditOperation::Reload, origin, clock::now()) }
}

fn log_success(app: &App, needs_restart: &[String]) {
    if needs_restart.is_empty() {
        tracing::info!("configuration reloaded and in force");
    } else {
        let needs_restart = needs_restart.join(", ");
        tracing::warn!(
            "configuration reloaded and in force; these changes need a restart: {needs_restart}"
        );
    }
    app.settings().api.log_restrictions();
    app.settings().log_console_without_tls();
    app.settings().console.log_missing_section();
    if app.authenticator.keys.all().is_empty() {
        tracing::warn!("no auth_jwt_* section any more: every token is rejected");
    }
}

/// Notifies the service manager, if there is one.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}

fn renew_certificates(app: &App, is_requested: bool) {
    let (results, mut are_current) = (app.reloads(ReloadKind::Certificates), true);
    for listener in &app.settings_arc().listeners {
        let Some(tls) = &listener.tls else { continue };
        match tls.reload() {
            Ok(true) => {
                results.record_success();
                tracing::info!(listener = listener.name, "certificates reloaded");
                for warning in tls.warnings() {
                    tracing::warn!(listener = listener.name, "{warning}");
                }
            }
            Ok(false) => {}
            Err(error) if error.is_new() || is_requested => {
                are_current = false;
                results.record_failure();
                tracing::error!(
                    listener = listener.name,
                    "cannot reload the certificates, continuing with the present ones: {error}"
                );
            }
            Err(_) => are_current = false,
        }
    }
    results.set_current(are_current);
}

impl App {
    /// Applies a configuration. Returns the sections and options whose changes need a restart.
    ///
    /// # Errors
    /// A secret that the engine rejects; then nothing has changed.
    pub fn reconfigure(&self, config: Config) -> Result<Vec<String>, Problems> {
        let console_provider = config.console_provider(self.console_provider.load().as_deref());
        let Config { settings, issuers, database, audit, revocation, feed, mut digests, .. } =
            config;
        let static_keys = issuers.iter().map(static_keys_of).collect::<Result<Vec<_>, _>>()?;
        self.signing_key.apply(&issuers);
        let mut needs_restart = Vec::new();
        if revocation != self.revocation {
            needs_restart.push("[revocation]".into());
        }
        if database != self.database {
            needs_restart.push("[database]".into());
        }
        if feed != self.feed {
            needs_restart.push("[feed]".into());
        }
        if audit != self.audit_settings {
            needs_restart.push("[audit]".into());
        }
        let mut settings = next_settings(&self.settings(), settings, &mut needs_restart);
        settings.auth.authorization.open_log(Some(&self.settings().auth.authorization));

        let new = self.authenticator.keys.replace(&issuers);
        let sources: Vec<_> = self.authenticator.keys.all().into_iter().zip(static_keys).collect();
        self.authenticator.verifier.update(|snapshot| set_issuers(snapshot, &sources));
        self.authenticator.keys.start(new);
        logging::set_level(&settings.log.level);
        self.console_provider.store(console_provider);
        self.settings.store(Arc::new(settings));
        // Its changes need a restart.
        digests.keep("limits", &self.digests.borrow());
        self.digests.send_if_modified(|present| {
            let has_changed = **present != digests;
            *present = Arc::new(digests);
            has_changed
        });
        Ok(needs_restart)
    }
}

/// Replaces the issuers by those of `sources`, each with its static keys or the keys it already
/// has.
fn set_issuers(snapshot: &mut Snapshot, sources: &[(Arc<IssuerKeys>, Option<Arc<KeySet>>)]) {
    let issuers = sources.iter().map(|(source, static_keys)| {
        let config = &source.section().issuer;
        match snapshot.issuer(&config.name) {
            Some(issuer) if Arc::ptr_eq(issuer.config(), config) => issuer.clone(),
            known => {
                let kept = known.and_then(Issuer::keys).filter(|_| source.has_keys());
                Issuer::new(Arc::clone(config), static_keys.as_ref().or(kept).cloned())
            }
        }
    });
    let issuers: Vec<_> = issuers.collect();
    // Two issuers with one name are rejected when the configuration is read.
    let _ignored = snapshot.set_issuers(issuers);
}

/// Returns the next settings, with the current values of the parts that need a restart.
fn next_settings(before: &Settings, next: Settings, needs_restart: &mut Vec<String>) -> Settings {
    let mut check = |name: &str, has_changed: bool| {
        if has_changed {
            needs_restart.push(name.into());
        }
    };
    check("threads in [listen]", next.threads != before.threads);
    check("[cache]", next.cache_bytes != before.cache_bytes);
    check("rsa in [crypto]", next.rsa != before.rsa);
    let limits = |of: &Settings| (of.limits, of.timeouts, of.request_limits, of.memory);
    check("[limits]", limits(&next) != limits(before));
    check("[login]", next.api.login.differs_in_startup_settings(&before.api.login));
    check("[quic]", next.quic != before.quic);
    check("[metrics]", next.metrics != before.metrics);
    check("format in [log]", next.log.format != before.log.format);
    for listener in
        next.listeners.iter().filter(|listener| before.listener(&listener.name).is_none())
    {
        needs_restart.push(format!("listener {}", listener.name));
    }
    let mut next_listeners = next.listeners;
    let listeners = before.listeners.iter().map(|listener| {
        let index = next_listeners.iter().position(|next| next.name == listener.name);
        if let Some(next) = index.map(|index| next_listeners.remove(index)) {
            return next_listener(listener, next, needs_restart);
        }
        needs_restart.push(format!("listener {}", listener.name));
        listener.clone()
    });
    let listeners = listeners.collect();
    let (log, quic) = (LogSettings { format: before.log.format, ..next.log }, before.quic.clone());
    let metrics = before.metrics.clone();
    let Settings { limits, timeouts, request_limits, memory, cache_bytes, rsa, threads, .. } =
        *before;
    Settings {
        listeners,
        log,
        metrics,
        quic,
        limits,
        timeouts,
        request_limits,
        memory,
        cache_bytes,
        rsa,
        threads,
        ..next
    }
}

fn next_listener(
    before: &Listener,
    mut next: Listener,
    needs_restart: &mut Vec<String>,
) -> Listener {
    let sockets = |protocols: Protocols| (protocols.use_tcp(), protocols.http3);
    let sockets_differ = sockets(next.protocols) != sockets(before.protocols);
    if next.addresses != before.addresses || next.serves != before.serves || sockets_differ {
        needs_restart.push(format!("where listener {} is and what it serves", before.name));
    }
    if let (Some(one), Some(other)) = (&before.tls, &next.tls)
        && (one.files(), one.protocols()) == (other.files(), other.protocols())
    {
        // Session tickets stay valid.
        next.tls = Some(Arc::clone(one));
    }
    if sockets_differ {
        next.protocols = before.protocols;
    }
    Listener { addresses: before.addresses.clone(), serves: before.serves, ..next }
}
