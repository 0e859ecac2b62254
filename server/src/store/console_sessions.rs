//! Sessions of the console.
//!
//! A session is named by the SHA-256 of the id in its cookie. Its tokens are encrypted with a key
//! that is derived from that id, so that the database alone contains no credential.

use countersign_engine::UnixTime;
use sqlx::Row as _;

use super::{Store, StoreError, moment, read_number, stored_number, unix_time};

/// A session of the console, as stored. Not `Debug`: it contains encrypted tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredConsoleSession {
    /// SHA-256 of its id, in hexadecimal.
    pub id: String,
    /// The user.
    pub username: String,
    /// The section of the issuer of its token.
    pub section: String,
    /// Its tokens, encrypted, in base64.
    pub sealed: String,
    /// The subject at the OpenID provider, if the session began there.
    pub subject: Option<String>,
    /// The session at the OpenID provider, if it has one.
    pub provider_session: Option<String>,
    /// Time of its begin.
    pub created_at: UnixTime,
    /// Approximate time of the last request.
    pub used_at: UnixTime,
    /// Time of the last check of the password, or of the last sign-in at the provider.
    pub authenticated_at: UnixTime,
    /// Time at which it ends without a further request.
    pub expires_at: UnixTime,
    /// Number of dangerous changes that were confirmed in it.
    pub confirmations: u64,
}

impl Store {
    /// Adds a session.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn add_console_session(
        &self,
        session: StoredConsoleSession,
    ) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_console_session
                 (id, username, section, sealed, subject, provider_session,
                  created_at, used_at, authenticated_at, expires_at, confirmations)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            )
            .bind(session.id)
            .bind(session.username)
            .bind(session.section)
            .bind(session.sealed)
            .bind(session.subject)
            .bind(session.provider_session)
            .bind(moment(session.created_at))
            .bind(moment(session.used_at))
            .bind(moment(session.authenticated_at))
            .bind(moment(session.expires_at))
            .bind(stored_number(session.confirmations))
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Returns the session with this id, which may have ended.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn console_session(
        &self,
        id: &str,
    ) -> Result<Option<StoredConsoleSession>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let row = sqlx::query(
                "SELECT id, username, section, sealed, subject, provider_session,
                        created_at, used_at, authenticated_at, expires_at, confirmations
                 FROM countersign_console_session WHERE id = $1",
            );
            let Some(row) = row.bind(id).fetch_optional(&pool).await? else { return Ok(None) };
            let time = |column| row.try_get(column).map(unix_time);
            Ok(Some(StoredConsoleSession {
                id: row.try_get("id")?,
                username: row.try_get("username")?,
                section: row.try_get("section")?,
                sealed: row.try_get("sealed")?,
                subject: row.try_get("subject")?,
                provider_session: row.try_get("provider_session")?,
                created_at: time("created_at")?,
                used_at: time("used_at")?,
                authenticated_at: time("authenticated_at")?,
                expires_at: time("expires_at")?,
                confirmations: read_number(&row, "confirmations")?,
            }))
        })
        .await
    }

    /// Sets [`used_at`](StoredConsoleSession::used_at) of a session, and when it ends without a
    /// further request.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn touch_console_session(
        &self,
        id: &str,
        used_at: UnixTime,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let touch = sqlx::query(
                "UPDATE countersign_console_session SET used_at = $1, expires_at = $2
                 WHERE id = $3",
            );
            let touch = touch.bind(moment(used_at)).bind(moment(expires_at)).bind(id);
            touch.execute(&pool).await?;
            Ok(())
        })
        .await
    }

    /// Replaces the tokens of a session, and
    /// [`authenticated_at`](StoredConsoleSession::authenticated_at). Ends their renewal. Returns
    /// `false` if the session has ended meanwhile.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn replace_console_tokens(
        &self,
        id: &str,
        sealed: String,
        authenticated_at: UnixTime,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let replace = sqlx::query(
                "UPDATE countersign_console_session
                 SET sealed = $1, authenticated_at = $2, renewal_until = NULL WHERE id = $3",
            );
            let replace = replace.bind(sealed).bind(moment(authenticated_at)).bind(id);
            Ok(replace.execute(&pool).await?.rows_affected() == 1)
        })
        .await
    }

    /// Begins to renew the tokens of a session, on one of all servers. Returns `false` if another
    /// request renews them, or has replaced those that are `sealed`.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn begin_console_renewal(
        &self,
        id: &str,
        sealed: &str,
        now: UnixTime,
        until: UnixTime,
    ) -> Result<bool, StoreError> {
        let [id, sealed] = [id, sealed].map(str::to_owned);
        self.run(async move |pool| {
            let begin = sqlx::query(
                "UPDATE countersign_console_session SET renewal_until = $1
                 WHERE id = $2 AND sealed = $3
                     AND (renewal_until IS NULL OR renewal_until <= $4)",
            );
            let begin = begin.bind(moment(until)).bind(id).bind(sealed).bind(moment(now));
            Ok(begin.execute(&pool).await?.rows_affected() == 1)
        })
        .await
    }

    /// Ends a renewal that failed. The next one may begin at this time.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn defer_console_renewal(&self, id: &str, until: UnixTime) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let defer = sqlx::query(
                "UPDATE countersign_console_session SET renewal_until = $1 WHERE id = $2",
            );
            defer.bind(moment(until)).bind(id).execute(&pool).await?;
            Ok(())
        })
        .await
    }

    /// Counts a confirmation in a session, if it has this number of earlier ones. Returns `false`
    /// if it has another, or has ended meanwhile.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn count_console_confirmation(
        &self,
        id: &str,
        earlier: u64,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let count = sqlx::query(
                "UPDATE countersign_console_session SET confirmations = confirmations + 1
                 WHERE id = $1 AND confirmations = $2",
            );
            let count = count.bind(id).bind(stored_number(earlier));
            Ok(count.execute(&pool).await?.rows_affected() == 1)
        })
        .await
    }

    /// Deletes a session.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_console_session(&self, id: &str) -> Result<(), StoreError> {
        let statement = "DELETE FROM countersign_console_session WHERE id = $1";
        self.update(statement, [id.into()]).await.map(drop)
    }
}
