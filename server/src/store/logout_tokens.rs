//! Logout tokens of OpenID providers that were used, so that none is used twice, on any node.

use countersign_engine::UnixTime;

use super::{Store, StoreError, moment};

impl Store {
    /// Records the use of a logout token, by the digest of its id. Returns `false` if it was used
    /// before. From `expires_at` on, it is refused for its age.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn use_logout_token(
        &self,
        id: String,
        expires_at: UnixTime,
    ) -> Result<bool, StoreError> {
        self.run(async move |pool| {
            let added = sqlx::query(
                "INSERT INTO countersign_logout_token (id, expires_at) VALUES ($1, $2)
                 ON CONFLICT DO NOTHING",
            )
            .bind(id)
            .bind(moment(expires_at));
            Ok(added.execute(&pool).await?.rows_affected() == 1)
        })
        .await
    }
}
