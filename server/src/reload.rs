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

use crate::{
    app::{App, written_keys},
    config::{Config, IssuerSection, Listener, Problems, Server},
    file::{Version, open_regular},
    keysource::Source,
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where a configuration comes from.
pub trait Origin: Send {
    /// Reads it.
    ///
    /// # Errors
    /// Every mistake in it, in words.
    fn load(&self) -> Result<Config, String>;

    /// The files that it is read from.
    fn files(&self) -> Vec<PathBuf>;
}

/// Starts the thread that looks at files, and reads the configuration again when they
/// have changed or somebody says so. It ends when nobody can say so any more.
///
/// # Errors
/// The operating system has no thread to give.
pub fn spawn(app: &Arc<App>, origin: Box<dyn Origin>, told: Receiver<()>) -> io::Result<()> {
    let app = Arc::clone(app);
    thread::Builder::new().name("files".into()).spawn(move || {
        let mut seen = Seen::of(&origin.files());
        loop {
            let is_told = match told.recv_timeout(LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if seen.changes(&origin.files()) || is_told {
                reload(&app, &*origin);
            }
            renew_certificates(&app, is_told);
        }
    })?;
    Ok(())
}

/// Files as they were at the last look that counted.
struct Seen {
    versions: Vec<(PathBuf, Option<Version>)>,
    /// Of what they contain.
    fingerprint: Option<digest::Digest>,
}

impl Seen {
    fn of(files: &[PathBuf]) -> Self {
        Self { versions: versions(files), fingerprint: fingerprint(files) }
    }

    /// Looks again, and says whether they contain something else. What is being
    /// written, or is gone for the moment, is waited for.
    fn changes(&mut self, files: &[PathBuf]) -> bool {
        let versions = versions(files);
        if versions == self.versions || versions.iter().any(|(_, version)| version.is_none()) {
            return false;
        }
        let now = Self { versions, fingerprint: fingerprint(files) };
        let before = std::mem::replace(self, now);
        self.fingerprint.as_ref().map(AsRef::as_ref) != before.fingerprint.as_ref().map(AsRef::as_ref)
    }
}

fn versions(files: &[PathBuf]) -> Vec<(PathBuf, Option<Version>)> {
    files.iter().map(|file| (file.clone(), file.metadata().ok().and_then(|about| Version::of(&about)))).collect()
}

/// `None` if one of them cannot be read.
fn fingerprint(files: &[PathBuf]) -> Option<digest::Digest> {
    let mut all = digest::Context::new(&digest::SHA256);
    for file in files {
        let mut bytes = Vec::new();
        open_regular(file).and_then(|mut file| file.read_to_end(&mut bytes)).ok()?;
        all.update(digest::digest(&digest::SHA256, &bytes).as_ref());
    }
    Some(all.finish())
}

fn reload(app: &App, origin: &dyn Origin) {
    notify(&[
        sd_notify::NotifyState::Reloading,
        sd_notify::NotifyState::monotonic_usec_now().unwrap_or(sd_notify::NotifyState::Ready),
    ]);
    match origin.load().and_then(|config| app.reconfigure(config).map_err(|problems| problems.to_string())) {
        Ok(waiting) if waiting.is_empty() => tracing::info!("the configuration was read again and is in force"),
        Ok(waiting) => {
            let waiting = waiting.join(", ");
            tracing::warn!("the configuration was read again and is in force, but for what waits for a restart: {waiting}");
        }
        Err(problems) => {
            tracing::error!("the configuration was read again and is not taken over, nothing has changed: {problems}")
        }
    }
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells the service manager, if there is one.
pub fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager could not be told: {error}");
    }
}

fn renew_certificates(app: &App, is_told: bool) {
    for listener in &app.server_for_long().listeners {
        let Some(tls) = &listener.tls else { continue };
        match tls.renew() {
            Ok(true) => {
                tracing::info!(listener = listener.name, "the certificates were read again and are in use");
                for remark in tls.remarks() {
                    tracing::warn!(listener = listener.name, "{remark}");
                }
            }
            Ok(false) => {}
            Err(fault) if fault.is_news() || is_told => {
                tracing::error!(listener = listener.name, "the certificates are not taken over, those in use stay: {fault}");
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
        let Config { server, issuers, revocation, .. } = config;
        let written = issuers.iter().map(written_keys).collect::<Result<Vec<_>, _>>()?;
        let mut waiting = Vec::new();
        if revocation != self.revocation {
            waiting.push("[revocation]".into());
        }
        let server = next_server(&self.server(), server, &mut waiting);

        let before: Vec<_> = self.keys.all();
        let new = self.keys.replace(&issuers);
        let sources: Vec<_> = self.keys.all().into_iter().zip(written).collect();
        self.verifier.reconfigure(|current| next_snapshot(current, &before, &sources));
        self.keys.start(new);
        self.server.store(Arc::new(server));
        Ok(waiting)
    }
}

/// The issuers of `sources`, each with the keys that are written down for it or that it
/// has already.
fn next_snapshot(current: &Snapshot, before: &[Arc<Source>], sources: &[(Arc<Source>, Option<Arc<KeySet>>)]) -> Snapshot {
    let issuers = sources.iter().map(|(source, written)| {
        let section = source.section();
        match current.issuer(&section.issuer.name) {
            Some(issuer) if Arc::ptr_eq(issuer.config(), &section.issuer) => issuer.clone(),
            known => {
                let kept =
                    known.and_then(Issuer::keys).filter(|_| before.iter().any(|source| keeps_keys(source.section(), section)));
                Issuer::new(Arc::clone(&section.issuer), written.as_ref().or(kept).cloned())
            }
        }
    });
    // Two issuers of one name are a mistake in a configuration, and were found there.
    Snapshot::new(issuers).unwrap_or_else(|_| current.clone())
}

/// Whether the keys of one section are those of another, so that they need not be waited
/// for again.
fn keeps_keys(before: &IssuerSection, now: &IssuerSection) -> bool {
    let (one, other) = (&before.issuer, &now.issuer);
    one.name == other.name && one.algorithms == other.algorithms && before.has_same_source(now)
}

/// The settings to come, with everything of the old ones that cannot change now.
fn next_server(before: &Server, next: Server, waiting: &mut Vec<String>) -> Server {
    let mut unchangeable = |name: &str, is_other: bool| {
        if is_other {
            waiting.push(name.into());
        }
    };
    unchangeable("threads in [listen]", next.threads != before.threads);
    unchangeable("[cache]", next.cache_bytes != before.cache_bytes);
    unchangeable("[limits]", next.limits != before.limits || next.patience != before.patience);
    unchangeable("format in [log]", next.log.format != before.log.format);
    for listener in next.listeners.iter().filter(|listener| before.listener(&listener.name).is_none()) {
        waiting.push(format!("listener {}", listener.name));
    }
    let mut coming = next.listeners;
    let listeners = before.listeners.iter().map(|listener| {
        let place = coming.iter().position(|one| one.name == listener.name);
        if let Some(next) = place.map(|place| coming.swap_remove(place)) {
            return next_listener(listener, next, waiting);
        }
        waiting.push(format!("listener {}", listener.name));
        listener.clone()
    });
    let listeners = listeners.collect();
    let (limits, patience, cache_bytes, threads) = (before.limits, before.patience, before.cache_bytes, before.threads);
    Server { listeners, limits, patience, cache_bytes, threads, ..next }
}

fn next_listener(before: &Listener, mut next: Listener, waiting: &mut Vec<String>) -> Listener {
    if next.places != before.places || next.serves != before.serves {
        waiting.push(format!("where listener {} is and what it serves", before.name));
    }
    if let (Some(one), Some(other)) = (&before.tls, &next.tls)
        && one.files() == other.files()
    {
        // Its tickets go on.
        next.tls = Some(Arc::clone(one));
    }
    Listener { places: before.places.clone(), serves: before.serves, ..next }
}
