//! The sources from which users have logged in, as digests.

use countersign_engine::UnixTime;

use super::{Store, StoreError, moment};

/// Number of sources kept for a user: those of the latest logins.
const MAX_SOURCES_PER_USER: i64 = 16;

impl Store {
    /// Returns whether a user has logged in from this source before.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn is_login_source(&self, username: &str, source: &str) -> Result<bool, StoreError> {
        let (username, source) = (username.to_owned(), source.to_owned());
        self.run(async move |pool| {
            let known = sqlx::query(
                "SELECT source FROM countersign_login_source WHERE username = $1 AND source = $2",
            )
            .bind(username)
            .bind(source);
            Ok(known.fetch_optional(&pool).await?.is_some())
        })
        .await
    }

    /// Records a login of a user from this source, and forgets the oldest sources beyond a limit.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if the user does not exist, or the database cannot be
    /// queried.
    pub async fn record_login_source(
        &self,
        username: &str,
        source: &str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let (username, source) = (username.to_owned(), source.to_owned());
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_login_source (username, source, last_login) VALUES ($1, $2, $3)
                 ON CONFLICT (username, source) DO UPDATE SET last_login = excluded.last_login",
            )
            .bind(&username)
            .bind(source)
            .bind(moment(now))
            .execute(&pool)
            .await?;
            sqlx::query(
                "DELETE FROM countersign_login_source WHERE username = $1 AND source NOT IN
                 (SELECT source FROM countersign_login_source WHERE username = $1
                  ORDER BY last_login DESC, source LIMIT $2)",
            )
            .bind(username)
            .bind(MAX_SOURCES_PER_USER)
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }
}
