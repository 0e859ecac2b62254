//! What a server does for its database away from requests: it hears what other nodes
//! revoke, forgets tokens that expired long ago, and writes down that it runs and what it
//! accepts, for `countersign doctor` to compare.
//!
//! A database that is away holds up nobody: it is told once, and asked again.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use countersign_engine::UnixTime;

use crate::{
    app::App,
    clock,
    fingerprint::Fingerprints,
    issue::random_uuid,
    store::{Store, servers::ServerRun},
};

/// Looks after the database, once there is something in it to look after.
#[derive(Default)]
pub struct Maintenance {
    /// What operators know this server by, once it listens.
    name: OnceLock<String>,
    /// Where the thread is told things, once there is one.
    commands: OnceLock<Sender<HeartbeatCommand>>,
}

/// What the thread is told.
enum HeartbeatCommand {
    /// To write down what is configured now.
    Refresh,
    /// To take back what it wrote, and say so.
    Withdraw(Sender<()>),
}

impl Maintenance {
    /// Begins, for a server that is known by this name.
    pub fn start(&self, app: &Arc<App>, name: String) {
        let _begun_before = self.name.set(name);
        self.apply_config(app);
    }

    /// Goes on with a configuration that was read again, which may be the first to need
    /// the database.
    pub fn apply_config(&self, app: &Arc<App>) {
        if let Some(commands) = self.commands.get() {
            let _it_has_left = commands.send(HeartbeatCommand::Refresh);
            return;
        }
        let (Some(name), Some(users)) = (self.name.get(), &app.users) else { return };
        let server = app.server_arc();
        if !(server.auth || app.database.is_configured) {
            return;
        }
        let (commands, queue) = channel();
        // Only the thread of reloads comes here twice.
        if self.commands.set(commands).is_ok() {
            users.store.spawn_revocation_listener(app.revocations.poll_trigger());
            users.store.spawn_token_purge(server.login.token_retention.into());
            let presence = Heartbeat::new(app, users.store.clone(), name.clone());
            if let Err(error) = presence.and_then(|presence| presence.spawn(queue)) {
                tracing::warn!("other servers cannot be told that this one runs: {error}");
            }
        }
    }

    /// Has what was written about this server taken back. Whoever wants to know that it is
    /// waits at what this returns.
    #[must_use]
    pub fn withdraw(&self) -> Option<Receiver<()>> {
        let (done, left) = channel();
        self.commands.get()?.send(HeartbeatCommand::Withdraw(done)).ok()?;
        Some(left)
    }
}

/// How often it is written down that a server runs.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// For how long nothing was heard, in seconds, of a server that ended without a word, or
/// whose clock is wrong, or ours.
const RECORD_RETENTION_SECONDS: u64 = 24 * 3600;

/// This server, as it writes itself down.
struct Heartbeat {
    app: Arc<App>,
    store: Store,
    id: String,
    name: String,
    started_at: UnixTime,
    /// Of the configuration in force; made again when there is another.
    fingerprints: Option<Fingerprints>,
    /// Whether the database has answered as far as is known.
    is_healthy: bool,
}

impl Heartbeat {
    fn new(app: &Arc<App>, store: Store, name: String) -> io::Result<Self> {
        let id = random_uuid().map_err(io::Error::other)?.to_string();
        Ok(Self {
            app: Arc::clone(app),
            store,
            id,
            name,
            started_at: clock::now(),
            fingerprints: None,
            is_healthy: true,
        })
    }

    fn spawn(mut self, queue: Receiver<HeartbeatCommand>) -> io::Result<()> {
        thread::Builder::new().name("presence".into()).spawn(move || self.run(&queue)).map(drop)
    }

    fn run(&mut self, queue: &Receiver<HeartbeatCommand>) {
        loop {
            self.record();
            match queue.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(HeartbeatCommand::Refresh) => self.fingerprints = None,
                Ok(HeartbeatCommand::Withdraw(done)) => {
                    // Otherwise others see in time that it is gone.
                    let _unavailable = self.store.block_on(self.store.remove_server(&self.id));
                    let _nobody_waits = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn record(&mut self) {
        match self.try_record() {
            Ok(()) => self.is_healthy = true,
            Err(reason) => {
                if self.is_healthy {
                    tracing::warn!(
                        "{}: it cannot be written down that this server runs: {reason}",
                        self.store.location()
                    );
                }
                self.is_healthy = false;
            }
        }
    }

    fn try_record(&mut self) -> Result<(), String> {
        let fingerprints = self.fingerprints()?;
        let now = clock::now();
        let run = ServerRun {
            id: self.id.clone(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: self.started_at,
            seen_at: now,
            fingerprints,
        };
        let written = self.store.block_on(async {
            self.store.record_heartbeat(run).await?;
            self.store
                .remove_servers(UnixTime(now.0.saturating_sub(RECORD_RETENTION_SECONDS)))
                .await
        });
        written.map(drop).map_err(|fault| fault.to_string())
    }

    fn fingerprints(&mut self) -> Result<Fingerprints, String> {
        if let Some(known) = &self.fingerprints {
            return Ok(known.clone());
        }
        let sources = self.app.keys.all();
        let made = Fingerprints::of(sources.iter().map(|source| source.section()))
            .map_err(|_| "there is too little memory")?;
        self.fingerprints = Some(made.clone());
        Ok(made)
    }
}
