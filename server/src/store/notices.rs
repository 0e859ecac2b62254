//! Notifications of other nodes' revocations (PostgreSQL LISTEN/NOTIFY).
//!
//! A lost notification only causes a short delay, because every node also polls.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use tokio::time::sleep;

use super::{DatabaseKind, Store, connection::StoreInner};

/// Channel of the notifications.
const CHANNEL: &str = "countersign_revocation";
/// Interval between attempts to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

impl Store {
    /// Starts the task that calls `then` whenever another node may have revoked something.
    pub fn spawn_revocation_listener(&self, then: impl Fn() + Send + Sync + 'static) {
        if self.0.kind == DatabaseKind::Postgres {
            let inner = Arc::clone(&self.0);
            self.0.runtime.spawn(async move {
                loop {
                    // Not logged here: queries report an unreachable database.
                    let _ignored = listen(&inner, &then).await;
                    sleep(RECONNECT_INTERVAL).await;
                }
            });
        }
    }
}

async fn listen(inner: &StoreInner, then: &(impl Fn() + Sync)) -> sqlx::Result<()> {
    let mut listener = PgListener::connect(&inner.direct_url).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // Notifications before LISTEN are lost, so poll once after connecting.
        then();
        // `None` means that the connection was lost and re-established.
        listener.try_recv().await?;
    }
}
