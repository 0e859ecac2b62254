//! Access tokens of machine identities that have a limit of uses.
//!
//! Uses are counted by one statement that changes the row, so that concurrent requests on any number
//! of nodes never make more uses than the limit. A node may count a block of uses at once (a lease),
//! and return those that it did not need. Tokens without a limit have no row.

use countersign_engine::UnixTime;
use sqlx::{AnyPool, AssertSqlSafe, Row as _};

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
    /// All uses are counted, but nodes hold this many of them, and may return some.
    Held(u64),
    /// All uses were made.
    Exhausted,
    /// The token was revoked, or its row was deleted some time after its last use.
    Revoked,
}

/// A number of uses that a node counts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The number of uses.
    pub block: u64,
    /// The number of uses that must remain before it.
    pub remaining: u64,
    /// Uses of earlier leases that the node holds no longer.
    pub settled: u64,
}

/// The column `held`, without the uses in the first parameter.
const SETTLED: &str = "CASE WHEN held > $1 THEN held - $1 ELSE 0 END";

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
    /// `settled` is the number of uses of earlier leases that the node holds no longer.
    ///
    /// # Errors
    /// The database cannot be queried. The use may have been counted.
    pub async fn use_limited_token(
        &self,
        id: &str,
        settled: u64,
        now: UnixTime,
    ) -> Result<TokenUse, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let count = format!(
                "UPDATE countersign_identity_token SET uses = uses + 1, held = {SETTLED},
                     expires_at = CASE WHEN uses + 1 >= uses_limit AND held <= $1
                                       THEN $2 ELSE expires_at END
                 WHERE id = $3 AND uses < uses_limit AND is_revoked = 0"
            );
            let count = sqlx::query(AssertSqlSafe(count)).bind(stored_number(settled));
            let counted = count.bind(moment(now)).bind(&id).execute(&pool).await?;
            if counted.rows_affected() > 0 {
                return Ok(TokenUse::Counted);
            }
            if settled > 0 {
                settle(&pool, &id, settled, 0).await?;
            }
            Ok(unusable_state(&pool, id).await?)
        })
        .await
    }

    /// Counts a block of uses of a token, if enough of them remain. Returns whether they do.
    ///
    /// # Errors
    /// The database cannot be queried. The uses may have been counted.
    pub async fn lease_uses(&self, id: &str, lease: LeaseRequest) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let count = format!(
                "UPDATE countersign_identity_token SET uses = uses + $2, held = {SETTLED} + $2
                 WHERE id = $3 AND uses_limit - uses >= $4 AND uses_limit - uses >= $2
                     AND is_revoked = 0"
            );
            let LeaseRequest { block, remaining, settled } = lease;
            let counted = sqlx::query(AssertSqlSafe(count))
                .bind(stored_number(settled))
                .bind(stored_number(block))
                .bind(id)
                .bind(stored_number(remaining))
                .execute(&pool)
                .await?;
            Ok(counted.rows_affected() > 0)
        })
        .await
    }

    /// Returns uses that were leased and not made. `settled` is the number of uses of the leases.
    ///
    /// # Errors
    /// The database cannot be queried. The uses may have been returned.
    pub async fn return_uses(&self, id: &str, unused: u64, settled: u64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| Ok(settle(&pool, &id, settled, unused).await?)).await
    }

    /// Ends the row of a token all of whose uses are counted, though nodes hold this many of them:
    /// those nodes do not run any more. Does nothing if they hold another number of uses.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn write_off_uses(
        &self,
        id: &str,
        held: u64,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            sqlx::query(
                "UPDATE countersign_identity_token SET held = 0, expires_at = $1
                 WHERE id = $2 AND held = $3 AND uses >= uses_limit",
            )
            .bind(moment(now))
            .bind(id)
            .bind(stored_number(held))
            .execute(&pool)
            .await?;
            Ok(())
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
                 WHERE id = $2 AND uses - held < uses_limit AND is_revoked = 0",
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

    /// Returns the number of uses of a token that are counted; `None` without a row.
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

/// Notes that a node does not hold leased uses any more, and returns those that it did not make.
async fn settle(pool: &AnyPool, id: &str, settled: u64, unused: u64) -> sqlx::Result<()> {
    let statement = format!(
        "UPDATE countersign_identity_token SET held = {SETTLED}, uses = uses - $2 WHERE id = $3"
    );
    let statement = sqlx::query(AssertSqlSafe(statement)).bind(stored_number(settled));
    statement.bind(stored_number(unused)).bind(id.to_owned()).execute(pool).await?;
    Ok(())
}

/// Returns why a token cannot be used.
async fn unusable_state(pool: &AnyPool, id: String) -> sqlx::Result<TokenUse> {
    let state = "SELECT is_revoked, held FROM countersign_identity_token WHERE id = $1";
    let Some(row) = sqlx::query(state).bind(id).fetch_optional(pool).await? else {
        return Ok(TokenUse::Revoked);
    };
    let held = read_number(&row, "held")?;
    Ok(match row.try_get::<i64, _>("is_revoked")? {
        0 if held > 0 => TokenUse::Held(held),
        0 => TokenUse::Exhausted,
        _ => TokenUse::Revoked,
    })
}
