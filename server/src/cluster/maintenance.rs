//! Background maintenance of the database.
//!
//! It listens for revocations of other nodes, follows the key in force, revokes renewed session tokens, deletes tokens that
//! expired long ago, and records a heartbeat with the server's [`config_digests`] for `countersign
//! doctor`.
//!
//! An unreachable database does not block requests. The failure is logged once and the
//! work is retried.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use countersign_engine::UnixTime;

use super::{
    digest::config_digests,
    signing_key::{SigningKeyFollower, spawn_poll},
};
use crate::{
    accounts::{signing::random_uuid, spawn_revocation_of_renewed},
    audit::settings::AuditSettings,
    base::clock,
    keys::KeySources,
    revocation::RevocationService,
    store::{
        Store,
        servers::{ConfigDigests, ServerRun},
    },
};

/// Background work for the database. It starts once the configuration needs a database.
#[derive(Default)]
pub struct Maintenance {
    /// Name of this server for operators. Set once it listens.
    name: OnceLock<String>,
    /// Command channel of the heartbeat thread. Set once the thread runs.
    commands: OnceLock<Sender<HeartbeatCommand>>,
}

/// The parts of a server that maintenance works on.
pub struct MaintainedServer {
    /// The database.
    pub store: Store,
    /// The issuers whose digests are recorded.
    pub keys: Arc<KeySources>,
    /// Ids of the API keys by name, which are recorded, too; empty for a key without an id.
    pub api_keys: BTreeMap<String, String>,
    /// The key in force of the section that signs.
    pub signing_key: Arc<SigningKeyFollower>,
    /// The revocations that other nodes add to.
    pub revocations: Arc<RevocationService>,
    /// Time that expired tokens stay in the registry, in seconds.
    pub token_retention: u32,
    /// How long audit events are stored.
    pub audit: AuditSettings,
}

/// Command to the heartbeat thread.
enum HeartbeatCommand {
    /// Record the digests of the current configuration, with these API keys.
    Refresh(BTreeMap<String, String>),
    /// Record the digests, as the key that signs has changed.
    Record,
    /// Delete the record of this server, then acknowledge.
    Withdraw(Sender<()>),
}

impl Maintenance {
    /// Starts the work for the server called `name`.
    pub fn start(&self, server: Option<MaintainedServer>, name: String) {
        let _ignored = self.name.set(name);
        self.apply_config(server);
    }

    /// Applies a reloaded configuration. It may be the first one that needs the database.
    pub fn apply_config(&self, server: Option<MaintainedServer>) {
        if let Some(commands) = self.commands.get() {
            let api_keys = server.map(|server| server.api_keys).unwrap_or_default();
            let _ignored = commands.send(HeartbeatCommand::Refresh(api_keys));
            return;
        }
        let (Some(name), Some(server)) = (self.name.get(), server) else { return };
        let MaintainedServer {
            store,
            keys,
            api_keys,
            signing_key,
            revocations,
            token_retention,
            audit,
        } = server;
        let (commands, queue) = channel();
        let record = commands.clone();
        // Only the reload thread calls this more than once.
        if self.commands.set(commands).is_ok() {
            store.spawn_revocation_listener(revocations.poll_trigger());
            store.spawn_token_deletion(token_retention.into());
            store.spawn_identity_token_deletion();
            store.spawn_console_session_deletion();
            store.spawn_logout_token_deletion();
            spawn_revocation_of_renewed(&store, &revocations);
            store.spawn_audit_deletion(audit);
            spawn_poll(&store, Arc::clone(&keys), signing_key, move || {
                let _ignored = record.send(HeartbeatCommand::Record);
            });
            let heartbeat = Heartbeat::new((keys, api_keys), store, name.clone());
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
    keys: Arc<KeySources>,
    api_keys: BTreeMap<String, String>,
    store: Store,
    id: String,
    name: String,
    started_at: UnixTime,
    /// Whether the last write succeeded.
    is_healthy: bool,
}

impl Heartbeat {
    fn new(
        (keys, api_keys): (Arc<KeySources>, BTreeMap<String, String>),
        store: Store,
        name: String,
    ) -> io::Result<Self> {
        let id = random_uuid().map_err(io::Error::other)?.to_string();
        let started_at = clock::now();
        Ok(Self { keys, api_keys, store, id, name, started_at, is_healthy: true })
    }

    fn spawn(mut self, queue: Receiver<HeartbeatCommand>) -> io::Result<()> {
        thread::Builder::new().name("heartbeat".into()).spawn(move || self.run(&queue)).map(drop)
    }

    fn run(&mut self, queue: &Receiver<HeartbeatCommand>) {
        loop {
            self.record();
            match queue.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(HeartbeatCommand::Withdraw(done)) => {
                    // If this fails, the record expires without further heartbeats.
                    let _ignored = self.store.block_on(self.store.remove_server(&self.id));
                    let _ignored = done.send(());
                    return;
                }
                Ok(HeartbeatCommand::Refresh(api_keys)) => self.api_keys = api_keys,
                Ok(HeartbeatCommand::Record) | Err(RecvTimeoutError::Timeout) => {}
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

    fn try_record(&self) -> Result<(), String> {
        let sources = self.keys.all();
        let now = clock::now();
        let run = ServerRun {
            id: self.id.clone(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: self.started_at,
            seen_at: now,
            digests: ConfigDigests {
                api_keys: self.api_keys.clone(),
                ..config_digests(sources.iter().map(|source| source.section()))
            },
        };
        let written = self.store.block_on(async {
            self.store.record_heartbeat(run).await?;
            self.store
                .remove_servers(UnixTime(now.0.saturating_sub(RECORD_RETENTION_SECONDS)))
                .await
        });
        written.map(drop).map_err(|error| error.to_string())
    }
}
