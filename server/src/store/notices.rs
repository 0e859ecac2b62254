//! Notifications of other nodes' revocations (PostgreSQL LISTEN/NOTIFY).
//!
//! A lost notification only causes a short delay, because every node also polls. A transaction
//! pooler loses all of them: each connection is therefore probed once, by a notification that this
//! process sends itself.

use std::{process, sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use tokio::time::{sleep, timeout};

use super::{DatabaseKind, Store, connection::StoreInner};
use crate::base::clock::since_boot;

/// Channel of the notifications.
const CHANNEL: &str = "countersign_revocation";
/// Interval between attempts to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// Time within which a probe has to arrive.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Store {
    /// Starts the task that calls `then` whenever another node may have revoked something.
    pub fn spawn_revocation_listener(&self, then: impl Fn() + Send + Sync + 'static) {
        if self.0.kind == DatabaseKind::Postgres {
            let inner = Arc::clone(&self.0);
            self.0.runtime.spawn(async move {
                let mut is_loss_logged = false;
                loop {
                    // Not logged here: queries report an unreachable database.
                    let _ignored = listen(&inner, &then, &mut is_loss_logged).await;
                    sleep(RECONNECT_INTERVAL).await;
                }
            });
        }
    }
}

async fn listen(
    inner: &StoreInner,
    then: &(impl Fn() + Sync),
    is_loss_logged: &mut bool,
) -> sqlx::Result<()> {
    let mut listener = PgListener::connect(&inner.direct_url).await?;
    // A channel of its own, so that a probe wakes no other node.
    let probe = format!("countersign_probe_{}_{}", process::id(), since_boot().as_nanos());
    listener.listen_all([CHANNEL, &probe]).await?;
    // Notifications before LISTEN are lost, so poll once after connecting.
    then();
    sqlx::query("SELECT pg_notify($1, '')").bind(&probe).execute(&inner.pool).await?;
    match timeout(PROBE_TIMEOUT, listener.try_recv()).await {
        Ok(received) => drop(received?),
        Err(_) if *is_loss_logged => {}
        Err(_) => {
            *is_loss_logged = true;
            tracing::warn!(
                "{}: notifications do not arrive, so that revocations of other servers take up to \
                 half a second: set listen_url in [database] to a connection without a transaction \
                 pooler",
                inner.location
            );
        }
    }
    loop {
        then();
        // `None` means that the connection was lost and re-established.
        listener.try_recv().await?;
    }
}
