//! Reload: the configuration and the certificates are loaded again while requests go on, on
//! SIGHUP and when their files change. A configuration is validated as a whole, then swapped; one
//! with a mistake changes nothing.
//!
//! Sockets, threads and memory stay as they are. A change that needs others takes effect at the
//! next restart, and is logged by name.

use std::{
    io::{self, Read as _},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use aws_lc_rs::digest;
use countersign_engine::{Issuer, KeySet, Snapshot};
use countersign_front::Protocols;
use sd_notify::NotifyState;

use crate::{
    app::{App, static_keys_of},
    base::watched_file::{FileVersion, open_regular},
    config::{Config, Listener, Problems, Settings},
    keys::IssuerKeys,
    observe::settings::LogSettings,
};

/// Interval between checks of the files.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Loads a [`Config`] from its source.
pub trait ConfigLoader: Send {
    /// Loads the configuration.
    ///
    /// # Errors
    /// All mistakes in it, as text.
    fn load(&self) -> Result<Config, String>;

    /// Returns the files that it is loaded from.
    fn files(&self) -> Vec<PathBuf>;
}

/// The files of a configuration, and their contents at the last check.
pub struct ConfigWatcher {
    origin: Box<dyn ConfigLoader>,
    versions_seen: FileVersions,
    /// The mistakes that keep the present files from being in force.
    last_error: Option<String>,
}

impl ConfigWatcher {
    /// Creates the watcher. It must exist before the configuration is loaded for the first time,
    /// so that every later change is noticed.
    #[must_use]
    pub fn new(origin: Box<dyn ConfigLoader>) -> Self {
        let versions_seen = FileVersions::of(&origin.files());
        Self { origin, versions_seen, last_error: None }
    }
}

/// Starts the thread that checks the files, and reloads the configuration when they have changed
/// or a reload is requested. It ends when the sender of requests is dropped.
///
/// # Errors
/// The operating system cannot create a thread.
pub fn spawn(app: &Arc<App>, mut watched: ConfigWatcher, requests: Receiver<()>) -> io::Result<()> {
    let app = Arc::clone(app);
    thread::Builder::new().name("files".into()).spawn(move || {
        loop {
            let is_requested = match requests.recv_timeout(POLL_INTERVAL) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            watched.poll(&app, is_requested);
            renew_certificates(&app, is_requested);
        }
    })?;
    Ok(())
}

impl ConfigWatcher {
    fn poll(&mut self, app: &Arc<App>, is_requested: bool) {
        let now = self.versions_seen.refresh(&self.origin.files());
        // A file that is being written, or is missing for a moment, is left for a later check.
        let is_settled = now.is_settled();
        let is_news = is_settled && now.fingerprint() != self.versions_seen.fingerprint();
        if is_requested || is_settled {
            self.versions_seen = now;
        }
        if is_requested || is_news {
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

    /// Loads the configuration and applies it, or logs its mistakes, once.
    fn reload(&mut self, app: &Arc<App>) {
        let taken = self
            .origin
            .load()
            .and_then(|config| app.reconfigure(config).map_err(|problems| problems.to_string()));
        let last_error = match taken {
            Ok(needs_restart) => {
                log_success(app, &needs_restart);
                app.maintenance.apply_config(app.maintained());
                None
            }
            Err(problems) => Some(problems),
        };
        if let Some(problems) = last_error.as_ref().filter(|_| last_error != self.last_error) {
            tracing::error!(
                "configuration not reloaded, continuing with the present one: {problems}"
            );
        }
        self.last_error = last_error;
    }
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
    if app.authenticator.keys.all().is_empty() {
        tracing::warn!("no auth_jwt_* section any more: every token is rejected");
    }
}

/// Files as they were at one check.
struct FileVersions {
    versions: Vec<(PathBuf, Option<FileVersion>)>,
    /// Digest of names and contents; `None` if a file cannot be read.
    fingerprint: Option<digest::Digest>,
}

impl FileVersions {
    fn of(files: &[PathBuf]) -> Self {
        // Taken before the files are read, so that a write in between is noticed at the next check.
        let versions = versions(files);
        Self { versions, fingerprint: fingerprint(files) }
    }

    /// Checks the files again. Those that are unchanged for the file system are not read again.
    fn refresh(&self, files: &[PathBuf]) -> Self {
        let versions = versions(files);
        let is_same = self.is_settled() && versions == self.versions;
        Self { versions, fingerprint: if is_same { self.fingerprint } else { fingerprint(files) } }
    }

    fn is_settled(&self) -> bool {
        self.versions.iter().all(|(_, version)| version.is_some())
    }

    fn fingerprint(&self) -> Option<&[u8]> {
        self.fingerprint.as_ref().map(AsRef::as_ref)
    }
}

/// Returns the version of each file: `None` if it may still change unnoticed, or is missing.
fn versions(files: &[PathBuf]) -> Vec<(PathBuf, Option<FileVersion>)> {
    files
        .iter()
        .map(|file| (file.clone(), file.metadata().ok().and_then(|about| FileVersion::of(&about))))
        .collect()
}

fn fingerprint(files: &[PathBuf]) -> Option<digest::Digest> {
    let mut all = digest::Context::new(&digest::SHA256);
    for file in files {
        let mut bytes = Vec::new();
        open_regular(file).and_then(|mut file| file.read_to_end(&mut bytes)).ok()?;
        all.update(digest::digest(&digest::SHA256, file.as_os_str().as_encoded_bytes()).as_ref());
        all.update(digest::digest(&digest::SHA256, &bytes).as_ref());
    }
    Some(all.finish())
}

/// Notifies the service manager, if there is one.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}

fn renew_certificates(app: &App, is_requested: bool) {
    for listener in &app.settings_arc().listeners {
        let Some(tls) = &listener.tls else { continue };
        match tls.reload() {
            Ok(true) => {
                tracing::info!(listener = listener.name, "certificates reloaded");
                for warning in tls.warnings() {
                    tracing::warn!(listener = listener.name, "{warning}");
                }
            }
            Ok(false) => {}
            Err(error) if error.is_new() || is_requested => {
                tracing::error!(
                    listener = listener.name,
                    "cannot reload the certificates, continuing with the present ones: {error}"
                );
            }
            Err(_) => {}
        }
    }
}

impl App {
    /// Applies a configuration, and returns the names of the parts that need a restart.
    ///
    /// # Errors
    /// A secret that the engine rejects; then nothing has changed.
    pub fn reconfigure(&self, config: Config) -> Result<Vec<String>, Problems> {
        let Config { settings, issuers, database, revocation, .. } = config;
        let written = issuers.iter().map(static_keys_of).collect::<Result<Vec<_>, _>>()?;
        let mut needs_restart = Vec::new();
        if revocation != self.revocation {
            needs_restart.push("[revocation]".into());
        }
        if database != self.database {
            needs_restart.push("[database]".into());
        }
        let settings = next_settings(&self.settings(), settings, &mut needs_restart);

        let new = self.authenticator.keys.replace(&issuers);
        let sources: Vec<_> = self.authenticator.keys.all().into_iter().zip(written).collect();
        self.authenticator.verifier.reconfigure(|current| next_snapshot(current, &sources));
        self.authenticator.keys.start(new);
        self.settings.store(Arc::new(settings));
        Ok(needs_restart)
    }
}

/// Returns the issuers of `sources`, each with its static keys, or those it has already.
fn next_snapshot(
    current: &Snapshot,
    sources: &[(Arc<IssuerKeys>, Option<Arc<KeySet>>)],
) -> Snapshot {
    let issuers = sources.iter().map(|(source, written)| {
        let config = &source.section().issuer;
        match current.issuer(&config.name) {
            Some(issuer) if Arc::ptr_eq(issuer.config(), config) => issuer.clone(),
            known => {
                let kept = known.and_then(Issuer::keys).filter(|_| source.has_keys());
                Issuer::new(Arc::clone(config), written.as_ref().or(kept).cloned())
            }
        }
    });
    // Two issuers with one name are rejected when the configuration is read.
    Snapshot::new(issuers).unwrap_or_else(|_| current.clone())
}

/// Returns the next settings, with the parts of the old ones that cannot change now.
fn next_settings(before: &Settings, next: Settings, needs_restart: &mut Vec<String>) -> Settings {
    let mut unchangeable = |name: &str, is_other: bool| {
        if is_other {
            needs_restart.push(name.into());
        }
    };
    unchangeable("threads in [listen]", next.threads != before.threads);
    unchangeable("[cache]", next.cache_bytes != before.cache_bytes);
    unchangeable("[limits]", next.limits != before.limits || next.timeouts != before.timeouts);
    unchangeable("[login]", next.api.login.differs_in_startup_settings(&before.api.login));
    unchangeable("[quic]", next.quic != before.quic);
    unchangeable("format in [log]", next.log.format != before.log.format);
    for listener in
        next.listeners.iter().filter(|listener| before.listener(&listener.name).is_none())
    {
        needs_restart.push(format!("listener {}", listener.name));
    }
    let mut coming = next.listeners;
    let listeners = before.listeners.iter().map(|listener| {
        let place = coming.iter().position(|one| one.name == listener.name);
        if let Some(next) = place.map(|place| coming.remove(place)) {
            return next_listener(listener, next, needs_restart);
        }
        needs_restart.push(format!("listener {}", listener.name));
        listener.clone()
    });
    let listeners = listeners.collect();
    let (log, quic) = (LogSettings { format: before.log.format, ..next.log }, before.quic.clone());
    let (limits, timeouts, cache_bytes, threads) =
        (before.limits, before.timeouts, before.cache_bytes, before.threads);
    Settings { listeners, log, quic, limits, timeouts, cache_bytes, threads, ..next }
}

fn next_listener(
    before: &Listener,
    mut next: Listener,
    needs_restart: &mut Vec<String>,
) -> Listener {
    let sockets = |protocols: Protocols| (protocols.use_tcp(), protocols.http3);
    let are_others = sockets(next.protocols) != sockets(before.protocols);
    if next.addresses != before.addresses || next.serves != before.serves || are_others {
        needs_restart.push(format!("where listener {} is and what it serves", before.name));
    }
    if let (Some(one), Some(other)) = (&before.tls, &next.tls)
        && (one.files(), one.protocols()) == (other.files(), other.protocols())
    {
        // Session tickets stay valid.
        next.tls = Some(Arc::clone(one));
    }
    if are_others {
        next.protocols = before.protocols;
    }
    Listener { addresses: before.addresses.clone(), serves: before.serves, ..next }
}
