//! Background maintenance of the database.
//!
//! It listens for revocations of other nodes, deletes tokens that expired long ago, and
//! records a heartbeat with the server's [`Fingerprints`] for `countersign doctor`.
//!
//! An unreachable database does not block requests. The failure is logged once and the
//! work is retried.

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

/// Background work for the database. It starts once the configuration needs a database.
#[derive(Default)]
pub struct Maintenance {
    /// Name of this server for operators. Set once it listens.
    name: OnceLock<String>,
    /// Command channel of the heartbeat thread. Set once the thread runs.
    commands: OnceLock<Sender<HeartbeatCommand>>,
}

/// Command to the heartbeat thread.
enum HeartbeatCommand {
    /// Record the fingerprints of the current configuration.
    Refresh,
    /// Delete the record of this server, then acknowledge.
    Withdraw(Sender<()>),
}

impl Maintenance {
    /// Starts the work for the server called `name`.
    pub fn start(&self, app: &Arc<App>, name: String) {
        let _ignored = self.name.set(name);
        self.apply_config(app);
    }

    /// Applies a reloaded configuration. It may be the first one that needs the database.
    pub fn apply_config(&self, app: &Arc<App>) {
        if let Some(commands) = self.commands.get() {
            let _ignored = commands.send(HeartbeatCommand::Refresh);
            return;
        }
        let (Some(name), Some(users)) = (self.name.get(), &app.users) else { return };
        let server = app.server_arc();
        if !(server.auth || app.database.is_configured) {
            return;
        }
        let (commands, queue) = channel();
        // Only the reload thread calls this more than once.
        if self.commands.set(commands).is_ok() {
            users.store.spawn_revocation_listener(app.revocations.poll_trigger());
            users.store.spawn_token_purge(server.login.token_retention.into());
            let heartbeat = Heartbeat::new(app, users.store.clone(), name.clone());
            if let Err(error) = heartbeat.and_then(|heartbeat| heartbeat.spawn(queue)) {
                tracing::warn!("cannot start the heartbeat for countersign doctor: {error}");
            }
        }
    }

    /// Deletes the record of this server. The returned channel signals completion.
    #[must_use]
    pub fn withdraw(&self) -> Option<Receiver<()>> {
        let (done, left) = channel();
        self.commands.get()?.send(HeartbeatCommand::Withdraw(done)).ok()?;
        Some(left)
    }
}

/// Interval between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// Age at which a heartbeat is deleted: the server crashed, or one of the clocks is wrong.
const RECORD_RETENTION_SECONDS: u64 = 24 * 3600;

/// Heartbeat of this server in the database.
struct Heartbeat {
    app: Arc<App>,
    store: Store,
    id: String,
    name: String,
    started_at: UnixTime,
    /// [`Fingerprints`] of the current configuration. Cleared by a reload.
    fingerprints: Option<Fingerprints>,
    /// Whether the last write succeeded.
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
        thread::Builder::new().name("heartbeat".into()).spawn(move || self.run(&queue)).map(drop)
    }

    fn run(&mut self, queue: &Receiver<HeartbeatCommand>) {
        loop {
            self.record();
            match queue.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(HeartbeatCommand::Refresh) => self.fingerprints = None,
                Ok(HeartbeatCommand::Withdraw(done)) => {
                    // If this fails, the record expires without further heartbeats.
                    let _ignored = self.store.block_on(self.store.remove_server(&self.id));
                    let _ignored = done.send(());
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
                    tracing::warn!("{}: cannot record heartbeat: {reason}", self.store.location());
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
        written.map(drop).map_err(|error| error.to_string())
    }

    fn fingerprints(&mut self) -> Result<Fingerprints, String> {
        if let Some(known) = &self.fingerprints {
            return Ok(known.clone());
        }
        let sources = self.app.keys.all();
        let made = Fingerprints::of(sources.iter().map(|source| source.section()))
            .map_err(|_| "not enough memory to compute fingerprints")?;
        self.fingerprints = Some(made.clone());
        Ok(made)
    }
}
