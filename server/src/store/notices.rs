//! Notices of other nodes: PostgreSQL tells those who listen. One that is lost costs a
//! little time, since everybody looks anyway.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use tokio::time::sleep;

use super::{DatabaseKind, Store, StoreInner};

/// Where revocations are told of.
const CHANNEL: &str = "countersign_revocation";
/// How long until the next try where there is nobody to listen to.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

impl Store {
    /// Calls `then` whenever another node has revoked something, or may have.
    pub fn spawn_revocation_listener(&self, then: impl Fn() + Send + Sync + 'static) {
        if self.0.kind == DatabaseKind::Postgres {
            let inner = Arc::clone(&self.0);
            self.0.runtime.spawn(async move {
                loop {
                    // Why there is no connection is told where something is asked.
                    let _lost = listen(&inner, &then).await;
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
        // What was told before is heard by nobody.
        then();
        // None: the connection was lost, and is there again.
        listener.try_recv().await?;
    }
}
