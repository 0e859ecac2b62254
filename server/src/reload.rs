//! A configuration that is read again while requests go on: on SIGHUP, and when its
//! files change. It is checked as a whole and then taken over; one with a mistake
//! changes nothing.
//!
//! Sockets, threads and memory are as they were made. What would need others waits for
//! a restart, and is named.

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
use sd_notify::NotifyState;

use crate::{
    app::{App, static_keys},
    config::{Config, Listener, LogSettings, Problems, Protocols, Server},
    file::{FileVersion, open_regular},
    keysource::IssuerKeys,
};

/// How often files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Where a configuration comes from.
pub trait ConfigLoader: Send {
    /// Reads it.
    ///
    /// # Errors
    /// Every mistake in it, in words.
    fn load(&self) -> Result<Config, String>;

    /// The files that it is read from.
    fn files(&self) -> Vec<PathBuf>;
}

/// Files of a configuration, and what was in them when they were last looked at.
pub struct ConfigWatcher {
    origin: Box<dyn ConfigLoader>,
    versions_seen: FileVersions,
    /// What is wrong with what they say now, if it is not in force for that.
    last_error: Option<String>,
}

impl ConfigWatcher {
    /// To be made before the configuration is read for the first time: what changes
    /// after this is noticed.
    #[must_use]
    pub fn new(origin: Box<dyn ConfigLoader>) -> Self {
        let versions_seen = FileVersions::of(&origin.files());
        Self { origin, versions_seen, last_error: None }
    }
}

/// Starts the thread that looks at files, and reads the configuration again when they
/// have changed or somebody says so. It ends when nobody can say so any more.
///
/// # Errors
/// The operating system has no thread to give.
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
        // What is being written, or is gone for the moment, is waited for.
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
            // It may be mended in another file: a certificate, a key.
            self.reload(app);
        }
    }

    /// Reads the configuration and takes it over, or says what is wrong with it, once.
    fn reload(&mut self, app: &Arc<App>) {
        let taken = self
            .origin
            .load()
            .and_then(|config| app.reconfigure(config).map_err(|problems| problems.to_string()));
        let last_error = match taken {
            Ok(needs_restart) => {
                log_success(app, &needs_restart);
                app.upkeep.apply_config(app);
                None
            }
            Err(problems) => Some(problems),
        };
        if let Some(problems) = last_error.as_ref().filter(|_| last_error != self.last_error) {
            tracing::error!(
                "the configuration was read again and is not taken over, nothing has changed: {problems}"
            );
        }
        self.last_error = last_error;
    }
}

fn log_success(app: &App, needs_restart: &[String]) {
    if needs_restart.is_empty() {
        tracing::info!("the configuration was read again and is in force");
    } else {
        let needs_restart = needs_restart.join(", ");
        tracing::warn!(
            "the configuration was read again and is in force, but for what waits for a restart: {needs_restart}"
        );
    }
    if app.keys.all().is_empty() {
        tracing::warn!("there is no auth_jwt_* section any more: every token is refused");
    }
}

/// Files as they were at one look.
struct FileVersions {
    versions: Vec<(PathBuf, Option<FileVersion>)>,
    /// Of their names and of what they contain; `None` if one cannot be read.
    fingerprint: Option<digest::Digest>,
}

impl FileVersions {
    fn of(files: &[PathBuf]) -> Self {
        // Before the files are read: what is written in between is seen next time.
        let versions = versions(files);
        Self { versions, fingerprint: fingerprint(files) }
    }

    /// Looks again. What the file system says is the same is not read again.
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

/// `None` for those that may still change unseen, or are not there.
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

/// Tells the service manager, if there is one.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager could not be told: {error}");
    }
}

fn renew_certificates(app: &App, is_requested: bool) {
    for listener in &app.server_arc().listeners {
        let Some(tls) = &listener.tls else { continue };
        match tls.reload() {
            Ok(true) => {
                tracing::info!(
                    listener = listener.name,
                    "the certificates were read again and are in use"
                );
                for remark in tls.warnings() {
                    tracing::warn!(listener = listener.name, "{remark}");
                }
            }
            Ok(false) => {}
            Err(fault) if fault.is_new() || is_requested => {
                tracing::error!(
                    listener = listener.name,
                    "the certificates are not taken over, those in use stay: {fault}"
                );
            }
            Err(_) => {}
        }
    }
}

impl App {
    /// Takes over a configuration, apart from what needs a restart, which it names.
    ///
    /// # Errors
    /// A secret that the engine refuses; then nothing has changed.
    pub fn reconfigure(&self, config: Config) -> Result<Vec<String>, Problems> {
        let Config { server, issuers, database, revocation, .. } = config;
        let written = issuers.iter().map(static_keys).collect::<Result<Vec<_>, _>>()?;
        let mut needs_restart = Vec::new();
        if revocation != self.revocation {
            needs_restart.push("[revocation]".into());
        }
        if database != self.database {
            needs_restart.push("[database]".into());
        }
        let server = next_server(&self.server(), server, &mut needs_restart);

        let new = self.keys.replace(&issuers);
        let sources: Vec<_> = self.keys.all().into_iter().zip(written).collect();
        self.verifier.reconfigure(|current| next_snapshot(current, &sources));
        self.keys.start(new);
        self.server.store(Arc::new(server));
        Ok(needs_restart)
    }
}

/// The issuers of `sources`, each with the keys that are written down for it or that it
/// has already.
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
    // Two issuers of one name are a mistake in a configuration, and were found there.
    Snapshot::new(issuers).unwrap_or_else(|_| current.clone())
}

/// The settings to come, with everything of the old ones that cannot change now.
fn next_server(before: &Server, next: Server, needs_restart: &mut Vec<String>) -> Server {
    let mut unchangeable = |name: &str, is_other: bool| {
        if is_other {
            needs_restart.push(name.into());
        }
    };
    unchangeable("threads in [listen]", next.threads != before.threads);
    unchangeable("[cache]", next.cache_bytes != before.cache_bytes);
    unchangeable("[limits]", next.limits != before.limits || next.timeouts != before.timeouts);
    unchangeable("[login]", next.login.differs_in_startup_settings(&before.login));
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
    Server { listeners, log, quic, limits, timeouts, cache_bytes, threads, ..next }
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
        // Its tickets go on.
        next.tls = Some(Arc::clone(one));
    }
    if are_others {
        next.protocols = before.protocols;
    }
    Listener { addresses: before.addresses.clone(), serves: before.serves, ..next }
}
