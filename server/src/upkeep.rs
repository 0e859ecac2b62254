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
pub struct Upkeep {
    /// What operators know this server by, once it listens.
    name: OnceLock<String>,
    /// Where the thread is told things, once there is one.
    orders: OnceLock<Sender<Order>>,
}

/// What the thread is told.
enum Order {
    /// To write down what is configured now.
    Write,
    /// To take back what it wrote, and say so.
    Leave(Sender<()>),
}

impl Upkeep {
    /// Begins, for a server that is known by this name.
    pub fn begin(&self, app: &Arc<App>, name: String) {
        let _begun_before = self.name.set(name);
        self.go_on(app);
    }

    /// Goes on with a configuration that was read again, which may be the first to need
    /// the database.
    pub fn go_on(&self, app: &Arc<App>) {
        if let Some(orders) = self.orders.get() {
            let _it_has_left = orders.send(Order::Write);
            return;
        }
        let (Some(name), Some(users)) = (self.name.get(), &app.users) else { return };
        let server = app.server_for_long();
        if !(server.auth || app.database.is_configured) {
            return;
        }
        let (orders, queue) = channel();
        // Only the thread of reloads comes here twice.
        if self.orders.set(orders).is_ok() {
            users.store.when_others_revoke(app.revocations.notice());
            users.store.forget_expired_tokens(server.login.token_retention.into());
            let presence = Presence::new(app, users.store.clone(), name.clone());
            if let Err(error) = presence.and_then(|presence| presence.spawn(queue)) {
                tracing::warn!("other servers cannot be told that this one runs: {error}");
            }
        }
    }

    /// Has what was written about this server taken back. Whoever wants to know that it is
    /// waits at what this returns.
    #[must_use]
    pub fn leave(&self) -> Option<Receiver<()>> {
        let (done, left) = channel();
        self.orders.get()?.send(Order::Leave(done)).ok()?;
        Some(left)
    }
}

/// How often it is written down that a server runs.
const PAUSE: Duration = Duration::from_secs(30);
/// For how long nothing was heard, in seconds, of a server that ended without a word, or
/// whose clock is wrong, or ours.
const FORGOTTEN: u64 = 24 * 3600;

/// This server, as it writes itself down.
struct Presence {
    app: Arc<App>,
    store: Store,
    id: String,
    name: String,
    started_at: UnixTime,
    /// Of the configuration in force; made again when there is another.
    fingerprints: Option<Fingerprints>,
    /// Whether the database has answered as far as is known.
    is_well: bool,
}

impl Presence {
    fn new(app: &Arc<App>, store: Store, name: String) -> io::Result<Self> {
        let id = random_uuid().map_err(io::Error::other)?.to_string();
        Ok(Self {
            app: Arc::clone(app),
            store,
            id,
            name,
            started_at: clock::now(),
            fingerprints: None,
            is_well: true,
        })
    }

    fn spawn(mut self, queue: Receiver<Order>) -> io::Result<()> {
        thread::Builder::new().name("presence".into()).spawn(move || self.work(&queue)).map(drop)
    }

    fn work(&mut self, queue: &Receiver<Order>) {
        loop {
            self.write();
            match queue.recv_timeout(PAUSE) {
                Ok(Order::Write) => self.fingerprints = None,
                Ok(Order::Leave(done)) => {
                    // Otherwise others see in time that it is gone.
                    let _unavailable = self.store.block_on(self.store.forget_server(&self.id));
                    let _nobody_waits = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => self.is_well = true,
            Err(reason) => {
                if self.is_well {
                    tracing::warn!(
                        "{}: it cannot be written down that this server runs: {reason}",
                        self.store.place()
                    );
                }
                self.is_well = false;
            }
        }
    }

    fn try_write(&mut self) -> Result<(), String> {
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
            self.store.note_server(run).await?;
            self.store.forget_servers(UnixTime(now.0.saturating_sub(FORGOTTEN))).await
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
