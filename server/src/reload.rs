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
    app::{App, written_keys},
    config::{Config, Listener, Log, Problems, Protocols, Server},
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

/// Files of a configuration, and what was in them when they were last looked at.
pub struct Watched {
    origin: Box<dyn Origin>,
    seen: Seen,
    /// What is wrong with what they say now, if it is not in force for that.
    mistake: Option<String>,
}

impl Watched {
    /// To be made before the configuration is read for the first time: what changes
    /// after this is noticed.
    #[must_use]
    pub fn new(origin: Box<dyn Origin>) -> Self {
        let seen = Seen::of(&origin.files());
        Self { origin, seen, mistake: None }
    }
}

/// Starts the thread that looks at files, and reads the configuration again when they
/// have changed or somebody says so. It ends when nobody can say so any more.
///
/// # Errors
/// The operating system has no thread to give.
pub fn spawn(app: &Arc<App>, mut watched: Watched, told: Receiver<()>) -> io::Result<()> {
    let app = Arc::clone(app);
    thread::Builder::new().name("files".into()).spawn(move || {
        loop {
            let is_told = match told.recv_timeout(LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            watched.look(&app, is_told);
            renew_certificates(&app, is_told);
        }
    })?;
    Ok(())
}

impl Watched {
    fn look(&mut self, app: &Arc<App>, is_told: bool) {
        let now = self.seen.again(&self.origin.files());
        // What is being written, or is gone for the moment, is waited for.
        let is_settled = now.is_settled();
        let is_news = is_settled && now.fingerprint() != self.seen.fingerprint();
        if is_told || is_settled {
            self.seen = now;
        }
        if is_told || is_news {
            self.mistake = None;
            notify(&[
                NotifyState::Reloading,
                NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Ready),
            ]);
            self.reload(app);
            notify(&[NotifyState::Ready]);
        } else if is_settled && self.mistake.is_some() {
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
        let mistake = match taken {
            Ok(waiting) => {
                tell_success(app, &waiting);
                app.upkeep.go_on(app);
                None
            }
            Err(problems) => Some(problems),
        };
        if let Some(problems) = mistake.as_ref().filter(|_| mistake != self.mistake) {
            tracing::error!(
                "the configuration was read again and is not taken over, nothing has changed: {problems}"
            );
        }
        self.mistake = mistake;
    }
}

fn tell_success(app: &App, waiting: &[String]) {
    if waiting.is_empty() {
        tracing::info!("the configuration was read again and is in force");
    } else {
        let waiting = waiting.join(", ");
        tracing::warn!(
            "the configuration was read again and is in force, but for what waits for a restart: {waiting}"
        );
    }
    if app.keys.all().is_empty() {
        tracing::warn!("there is no auth_jwt_* section any more: every token is refused");
    }
}

/// Files as they were at one look.
struct Seen {
    versions: Vec<(PathBuf, Option<Version>)>,
    /// Of their names and of what they contain; `None` if one cannot be read.
    fingerprint: Option<digest::Digest>,
}

impl Seen {
    fn of(files: &[PathBuf]) -> Self {
        // Before the files are read: what is written in between is seen next time.
        let versions = versions(files);
        Self { versions, fingerprint: fingerprint(files) }
    }

    /// Looks again. What the file system says is the same is not read again.
    fn again(&self, files: &[PathBuf]) -> Self {
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
fn versions(files: &[PathBuf]) -> Vec<(PathBuf, Option<Version>)> {
    files
        .iter()
        .map(|file| (file.clone(), file.metadata().ok().and_then(|about| Version::of(&about))))
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

fn renew_certificates(app: &App, is_told: bool) {
    for listener in &app.server_for_long().listeners {
        let Some(tls) = &listener.tls else { continue };
        match tls.renew() {
            Ok(true) => {
                tracing::info!(
                    listener = listener.name,
                    "the certificates were read again and are in use"
                );
                for remark in tls.remarks() {
                    tracing::warn!(listener = listener.name, "{remark}");
                }
            }
            Ok(false) => {}
            Err(fault) if fault.is_news() || is_told => {
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
        let written = issuers.iter().map(written_keys).collect::<Result<Vec<_>, _>>()?;
        let mut waiting = Vec::new();
        if revocation != self.revocation {
            waiting.push("[revocation]".into());
        }
        if database != self.database {
            waiting.push("[database]".into());
        }
        let server = next_server(&self.server(), server, &mut waiting);

        let new = self.keys.replace(&issuers);
        let sources: Vec<_> = self.keys.all().into_iter().zip(written).collect();
        self.verifier.reconfigure(|current| next_snapshot(current, &sources));
        self.keys.start(new);
        self.server.store(Arc::new(server));
        Ok(waiting)
    }
}

/// The issuers of `sources`, each with the keys that are written down for it or that it
/// has already.
fn next_snapshot(current: &Snapshot, sources: &[(Arc<Source>, Option<Arc<KeySet>>)]) -> Snapshot {
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
fn next_server(before: &Server, next: Server, waiting: &mut Vec<String>) -> Server {
    let mut unchangeable = |name: &str, is_other: bool| {
        if is_other {
            waiting.push(name.into());
        }
    };
    unchangeable("threads in [listen]", next.threads != before.threads);
    unchangeable("[cache]", next.cache_bytes != before.cache_bytes);
    unchangeable("[limits]", next.limits != before.limits || next.patience != before.patience);
    unchangeable("[login]", next.login.needs_restart_after(&before.login));
    unchangeable("[quic]", next.quic != before.quic);
    unchangeable("format in [log]", next.log.format != before.log.format);
    for listener in
        next.listeners.iter().filter(|listener| before.listener(&listener.name).is_none())
    {
        waiting.push(format!("listener {}", listener.name));
    }
    let mut coming = next.listeners;
    let listeners = before.listeners.iter().map(|listener| {
        let place = coming.iter().position(|one| one.name == listener.name);
        if let Some(next) = place.map(|place| coming.remove(place)) {
            return next_listener(listener, next, waiting);
        }
        waiting.push(format!("listener {}", listener.name));
        listener.clone()
    });
    let listeners = listeners.collect();
    let (log, quic) = (Log { format: before.log.format, ..next.log }, before.quic.clone());
    let (limits, patience, cache_bytes, threads) =
        (before.limits, before.patience, before.cache_bytes, before.threads);
    Server { listeners, log, quic, limits, patience, cache_bytes, threads, ..next }
}

fn next_listener(before: &Listener, mut next: Listener, waiting: &mut Vec<String>) -> Listener {
    let sockets = |protocols: Protocols| (protocols.use_tcp(), protocols.http3);
    let are_others = sockets(next.protocols) != sockets(before.protocols);
    if next.places != before.places || next.serves != before.serves || are_others {
        waiting.push(format!("where listener {} is and what it serves", before.name));
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
    Listener { places: before.places.clone(), serves: before.serves, ..next }
}
