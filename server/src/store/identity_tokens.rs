//! Access tokens of machine identities that have a limit of uses.
//!
//! A use is one statement that changes the row, so that concurrent requests on any number of nodes
//! never make more uses than the limit. Tokens without a limit have no row.

use countersign_engine::UnixTime;
use sqlx::AnyPool;

use super::{Store, StoreError, moment, read_number, stored_number};

/// A new access token with a limit of uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedToken {
    /// Its id, a UUID, which its renewals share.
    pub id: String,
    /// Id of the login method.
    pub method: String,
    /// Number of uses.
    pub uses_limit: u64,
    /// Time of its issue.
    pub created_at: UnixTime,
    /// Time of its expiry.
    pub expires_at: UnixTime,
}

/// Result of a use of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// It was counted.
    Counted,
    /// All uses were made.
    Exhausted,
    /// The token was revoked, or its row was deleted some time after its last use.
    Revoked,
}

impl Store {
    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if its login method does not exist any more, or the
    /// database cannot be queried.
    pub async fn add_limited_token(&self, token: LimitedToken) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_identity_token
                     (id, method, uses_limit, created_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(token.id)
            .bind(token.method)
            .bind(stored_number(token.uses_limit))
            .bind(moment(token.created_at))
            .bind(moment(token.expires_at))
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Counts one use of a token, if it has one left. The row of a token without any left ends.
    ///
    /// # Errors
    /// The database cannot be queried. The use may have been counted.
    pub async fn use_limited_token(&self, id: &str, now: UnixTime) -> Result<TokenUse, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let counted = sqlx::query(
                "UPDATE countersign_identity_token SET uses = uses + 1,
                     expires_at = CASE WHEN uses + 1 >= uses_limit THEN $1 ELSE expires_at END
                 WHERE id = $2 AND uses < uses_limit AND is_revoked = 0",
            );
            let counted = counted.bind(moment(now)).bind(&id).execute(&pool).await?;
            if counted.rows_affected() > 0 {
                return Ok(TokenUse::Counted);
            }
            Ok(unusable_state(&pool, id).await?)
        })
        .await
    }

    /// Extends the row of a token that is renewed, if it has uses left. Its uses stay as they are.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn renew_limited_token(
        &self,
        id: &str,
        expires_at: UnixTime,
    ) -> Result<TokenUse, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let renewed = sqlx::query(
                "UPDATE countersign_identity_token SET
                     expires_at = CASE WHEN expires_at < $1 THEN $1 ELSE expires_at END
                 WHERE id = $2 AND uses < uses_limit AND is_revoked = 0",
            );
            let renewed = renewed.bind(moment(expires_at)).bind(&id).execute(&pool).await?;
            if renewed.rows_affected() > 0 {
                return Ok(TokenUse::Counted);
            }
            Ok(unusable_state(&pool, id).await?)
        })
        .await
    }

    /// Marks a token as revoked. Returns whether it has a row.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn revoke_limited_token(&self, id: &str) -> Result<bool, StoreError> {
        let statement = "UPDATE countersign_identity_token SET is_revoked = 1 WHERE id = $1";
        self.update(statement, [id.to_owned()]).await
    }

    /// Returns the number of uses that were made of a token; `None` without a row.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn uses_of_limited_token(&self, id: &str) -> Result<Option<u64>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let uses = "SELECT uses FROM countersign_identity_token WHERE id = $1";
            let row = sqlx::query(uses).bind(id).fetch_optional(&pool).await?;
            Ok(row.map(|row| read_number(&row, "uses")).transpose()?)
        })
        .await
    }
}

/// Returns why a token cannot be used.
async fn unusable_state(pool: &AnyPool, id: String) -> sqlx::Result<TokenUse> {
    let state = "SELECT is_revoked FROM countersign_identity_token WHERE id = $1";
    let state = sqlx::query_scalar::<_, i64>(state).bind(id).fetch_optional(pool).await?;
    Ok(if state == Some(0) { TokenUse::Exhausted } else { TokenUse::Revoked })
}
