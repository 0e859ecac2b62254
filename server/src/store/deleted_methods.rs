//! Rows of access tokens whose login method was deleted.
//!
//! The tokens are refused from the deletion of the method on. A method may have a million rows, so
//! they are deleted after it in parts, as those of a [sweep](super::expiry), with pauses in which
//! others can write. Rows that are left when the process stops are deleted by the sweep, once they
//! have expired.

use sqlx::AnyPool;
use tokio::time::sleep;

use super::{
    Store, StoreError,
    expiry::{PART_PAUSE, PART_ROWS},
};

impl Store {
    /// Starts the deletion of the rows of tokens of deleted login methods.
    pub(super) fn spawn_deletion_after(&self, methods: Vec<String>) {
        let store = self.clone();
        self.spawn_task(async move {
            for method in methods {
                if let Err(error) = store.delete_tokens_of(&method).await {
                    tracing::warn!(
                        method,
                        "cannot delete the access tokens of a deleted login method now; they are \
                         refused, and will be deleted after they have expired: {error}"
                    );
                }
            }
        });
    }

    async fn delete_tokens_of(&self, method: &str) -> Result<(), StoreError> {
        loop {
            let method = method.to_owned();
            if self.run_again(move |pool| delete_part(pool, method.clone())).await? < PART_ROWS {
                return Ok(());
            }
            sleep(PART_PAUSE).await;
        }
    }
}

/// Deletes some rows of tokens of a login method. Returns how many.
async fn delete_part(pool: AnyPool, method: String) -> sqlx::Result<u64> {
    let delete = "DELETE FROM countersign_identity_token WHERE id IN
                      (SELECT id FROM countersign_identity_token WHERE method = $1 LIMIT $2)";
    let delete =
        sqlx::query(delete).bind(method).bind(i64::try_from(PART_ROWS).unwrap_or(i64::MAX));
    Ok(delete.execute(&pool).await?.rows_affected())
}
