//! Revocation of renewed session tokens, once their overlap with the successor has passed.

use std::{sync::Arc, time::Duration};

use countersign_engine::UnixTime;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    base::clock,
    revocation::{RevocationEntry, RevocationService, RevokeError, record::RevocationRecord},
    store::{
        Store, StoreError,
        renewals::{SessionRenewal, SessionToken},
    },
};

/// Time that a token is accepted after its renewal, for requests that are under way and for other
/// tabs of a browser.
pub const RENEWAL_OVERLAP: Duration = Duration::from_secs(10);
/// Interval at which tokens are looked for that were not revoked in time, because the server that
/// renewed them has stopped or could not revoke.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Seconds of delay from which a revocation counts as overdue. Until then the server that renewed
/// the token is expected to revoke it.
const OVERDUE_SECONDS: u64 = 5;
/// Seconds that a renewal is kept after the revocation of its token. All nodes know the revocation
/// by then, so that no second successor is issued.
const RETENTION_SECONDS: u64 = 600;

/// Records a renewal, and revokes the renewed token after [`RENEWAL_OVERLAP`]. Returns `false` if
/// the token was renewed or ended before, and does nothing then.
///
/// # Errors
/// The database cannot be queried.
pub async fn record_renewal(
    store: &Store,
    revocations: &Arc<RevocationService>,
    renewal: SessionRenewal,
) -> Result<bool, StoreError> {
    let (writer, revocations) = (store.clone(), Arc::clone(revocations));
    let (result, received) = oneshot::channel();
    // A task, because the token must be revoked even if the client does not wait for the answer.
    store.spawn_task(async move {
        let token = renewal.token.clone();
        let added = writer.add_renewal(renewal).await;
        let is_added = added == Ok(true);
        let _ignored = result.send(added);
        if !is_added {
            return;
        }
        sleep(RENEWAL_OVERLAP).await;
        // After an error, the token is overdue.
        if let Err(error) = revoke(&writer, &revocations, token).await {
            tracing::warn!("cannot revoke a renewed token, will retry: {error}");
        }
    });
    received.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the query panicked".into())))
}

/// Starts the task that revokes overdue tokens, and forgets those that were revoked long ago.
pub fn spawn_revocation_of_renewed(store: &Store, revocations: &Arc<RevocationService>) {
    let (store, revocations) = (store.clone(), Arc::clone(revocations));
    store.clone().spawn_task(async move {
        let mut is_healthy = true;
        loop {
            let swept = sweep(&store, &revocations).await;
            if let (Err(error), true) = (&swept, is_healthy) {
                tracing::warn!("cannot revoke renewed tokens, will retry: {error}");
            }
            is_healthy = swept.is_ok();
            sleep(SWEEP_INTERVAL).await;
        }
    });
}

async fn sweep(store: &Store, revocations: &RevocationService) -> Result<(), String> {
    let before = |seconds| UnixTime(clock::now().0.saturating_sub(seconds));
    let text = |error: StoreError| error.to_string();
    for token in store.overdue_tokens(before(OVERDUE_SECONDS)).await.map_err(text)? {
        revoke(store, revocations, token).await?;
    }
    store.purge_renewals(before(RETENTION_SECONDS)).await.map(drop).map_err(text)
}

async fn revoke(
    store: &Store,
    revocations: &RevocationService,
    token: SessionToken,
) -> Result<(), String> {
    let digest = token.digest.clone();
    revoke_token(revocations, token).await.map_err(|error| error.to_string())?;
    store.mark_token_revoked(&digest).await.map_err(|error| error.to_string())
}

/// Revokes a session token.
///
/// # Errors
/// The revocation cannot be stored.
pub async fn revoke_token(
    revocations: &RevocationService,
    token: SessionToken,
) -> Result<(), RevokeError> {
    let record = RevocationRecord {
        signing_input_sha256: Some(token.digest),
        until: token.expires_at.map(|end| end.0),
        ..RevocationRecord::default()
    };
    let revocation = record.into_revocation().map_err(RevokeError::Store)?;
    revocations.revoke(RevocationEntry::Session(revocation)).await
}
