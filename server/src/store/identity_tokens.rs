//! Access tokens of machine identities that have a limit of uses.
//!
//! Uses are counted by one statement that changes the row, so that concurrent requests on any number
//! of nodes never make more uses than the limit. A node may count a block of uses at once (a lease),
//! and return those that it did not need. Tokens without a limit have no row.
//!
//! A token ends with its login method, whose row each use looks up: rows of tokens are deleted
//! later.

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
    /// The token was revoked, its login method was deleted, or its row was deleted some time after
    /// its last use.
    Revoked,
}

/// Uses that a node has counted at once.
///
/// Its id makes the end of a lease count once, however often the node has to ask for it: without an
/// answer of the database, it cannot know whether a lease has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UseLease {
    /// A text of its own, without characters that have a meaning in a pattern; empty for no lease.
    pub id: String,
    /// The number of uses.
    pub uses: u64,
}

/// Uses that a node counts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest<'l> {
    /// The new lease.
    pub lease: &'l UseLease,
    /// The number of uses that must remain before it.
    pub remaining: u64,
    /// The lease before it, all of whose uses were made.
    pub ended: &'l UseLease,
}

/// The condition that the login method of a token exists.
const HAS_METHOD: &str = "EXISTS (SELECT 1 FROM countersign_identity_method m
    WHERE m.id = countersign_identity_token.method)";

/// The column `held` without the lease of the parameters `$1`, its uses, and `$2`, its id.
const HELD_BY_OTHERS: &str = "CASE WHEN leases LIKE '%' || $2 || '%' THEN held - $1 ELSE held END";

impl Store {
    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if its login method does not exist any more, or the
    /// database cannot be queried.
    pub async fn add_limited_token(&self, token: LimitedToken) -> Result<(), StoreError> {
        self.run(async move |pool| {
            let added = sqlx::query(
                "INSERT INTO countersign_identity_token
                     (id, method, uses_limit, created_at, expires_at)
                 SELECT $1, id, $3, $4, $5 FROM countersign_identity_method WHERE id = $2",
            )
            .bind(token.id)
            .bind(token.method)
            .bind(stored_number(token.uses_limit))
            .bind(moment(token.created_at))
            .bind(moment(token.expires_at))
            .execute(&pool)
            .await?;
            if added.rows_affected() > 0 { Ok(()) } else { Err(StoreError::ForeignKeyViolation) }
        })
        .await
    }

    /// Counts one use of a token, if it has one left, and ends a lease all of whose uses were made.
    /// The row of a token without any use left ends.
    ///
    /// # Errors
    /// The database cannot be queried. The use may have been counted.
    pub async fn use_limited_token(
        &self,
        id: &str,
        ended: &UseLease,
        now: UnixTime,
    ) -> Result<TokenUse, StoreError> {
        let (id, ended) = (id.to_owned(), ended.clone());
        self.run(async move |pool| {
            let count = format!(
                "UPDATE countersign_identity_token SET uses = uses + 1, held = {HELD_BY_OTHERS},
                     leases = REPLACE(leases, $2, ''),
                     expires_at = CASE WHEN uses + 1 >= uses_limit AND {HELD_BY_OTHERS} = 0
                                       THEN $3 ELSE expires_at END
                 WHERE id = $4 AND uses < uses_limit AND is_revoked = 0 AND {HAS_METHOD}"
            );
            let count = sqlx::query(AssertSqlSafe(count));
            let count = count.bind(stored_number(ended.uses)).bind(ended.marker());
            let counted = count.bind(moment(now)).bind(&id).execute(&pool).await?;
            if counted.rows_affected() > 0 {
                return Ok(TokenUse::Counted);
            }
            if ended.uses > 0 {
                end_lease(&pool, &id, &ended, 0).await?;
            }
            Ok(unusable_state(&pool, id).await?)
        })
        .await
    }

    /// Counts a block of uses of a token, if enough of them remain. Returns whether they do.
    ///
    /// # Errors
    /// The database cannot be queried. The uses may have been counted.
    pub async fn lease_uses(
        &self,
        id: &str,
        request: LeaseRequest<'_>,
    ) -> Result<bool, StoreError> {
        let (id, remaining) = (id.to_owned(), request.remaining);
        let (lease, ended) = (request.lease.clone(), request.ended.clone());
        self.run(async move |pool| {
            let count = format!(
                "UPDATE countersign_identity_token SET uses = uses + $3,
                     held = {HELD_BY_OTHERS} + $3, leases = REPLACE(leases, $2, '') || $4
                 WHERE id = $5 AND uses_limit - uses >= $6 AND uses_limit - uses >= $3
                     AND is_revoked = 0 AND {HAS_METHOD}"
            );
            let count = sqlx::query(AssertSqlSafe(count));
            let count = count.bind(stored_number(ended.uses)).bind(ended.marker());
            let count = count.bind(stored_number(lease.uses)).bind(lease.marker());
            let count = count.bind(id).bind(stored_number(remaining));
            Ok(count.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    /// Ends a lease, and returns those of its uses that were not made. Does nothing if the lease
    /// has ended, so it can be called again if it fails.
    ///
    /// # Errors
    /// The database cannot be queried. The lease may have ended.
    pub async fn return_uses(
        &self,
        id: &str,
        lease: &UseLease,
        unused: u64,
    ) -> Result<(), StoreError> {
        let (id, lease) = (id.to_owned(), lease.clone());
        self.run(async move |pool| Ok(end_lease(&pool, &id, &lease, unused).await?)).await
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
                "UPDATE countersign_identity_token SET held = 0, leases = '', expires_at = $1
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
            let renew = format!(
                "UPDATE countersign_identity_token SET
                     expires_at = CASE WHEN expires_at < $1 THEN $1 ELSE expires_at END
                 WHERE id = $2 AND uses - held < uses_limit AND is_revoked = 0 AND {HAS_METHOD}"
            );
            let renewed = sqlx::query(AssertSqlSafe(renew));
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

impl UseLease {
    /// Returns what the column `leases` has of it.
    fn marker(&self) -> String {
        if self.id.is_empty() { String::new() } else { format!("|{}|", self.id) }
    }
}

/// Ends a lease that has not ended, and returns the uses that were not made.
async fn end_lease(pool: &AnyPool, id: &str, lease: &UseLease, unused: u64) -> sqlx::Result<()> {
    let statement = sqlx::query(
        "UPDATE countersign_identity_token
         SET held = held - $1, uses = uses - $3, leases = REPLACE(leases, $2, '')
         WHERE id = $4 AND leases LIKE '%' || $2 || '%'",
    );
    let statement = statement.bind(stored_number(lease.uses)).bind(lease.marker());
    statement.bind(stored_number(unused)).bind(id.to_owned()).execute(pool).await?;
    Ok(())
}

/// Returns why a token cannot be used.
async fn unusable_state(pool: &AnyPool, id: String) -> sqlx::Result<TokenUse> {
    let state = format!(
        "SELECT is_revoked, held FROM countersign_identity_token WHERE id = $1 AND {HAS_METHOD}"
    );
    let Some(row) = sqlx::query(AssertSqlSafe(state)).bind(id).fetch_optional(pool).await? else {
        return Ok(TokenUse::Revoked);
    };
    let held = read_number(&row, "held")?;
    Ok(match row.try_get::<i64, _>("is_revoked")? {
        0 if held > 0 => TokenUse::Held(held),
        0 => TokenUse::Exhausted,
        _ => TokenUse::Revoked,
    })
}
