//! Logout tokens of OpenID providers, and the sessions that they end. A token is used once, on any
//! node.

use countersign_engine::UnixTime;

use super::{Store, StoreError, moment};

/// A verified logout token, for [`Store::end_provider_sessions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderLogout {
    /// Digest of the id of the token.
    pub id: String,
    /// Time from which the token is refused for its age.
    pub until: UnixTime,
    /// The section of the provider.
    pub section: String,
    /// The subject whose sessions end, if the token names one.
    pub subject: Option<String>,
    /// The session at the provider that ends, if the token names one.
    pub session: Option<String>,
}

/// The condition for the sessions of a logout token: its section, subject and session. An empty
/// text selects all, because the drivers need the type of a parameter.
macro_rules! ended_sessions {
    () => {
        "section = $1 AND subject IS NOT NULL
             AND ($2 <> '' OR $3 <> '') AND ($2 = '' OR subject = $2)
             AND ($3 = '' OR provider_session = $3 OR (provider_session IS NULL AND $2 <> ''))"
    };
}

impl Store {
    /// Ends the sessions that a logout token names, and records its use. Returns the subject of
    /// each of them; `None` if the token was used before.
    ///
    /// A session without one at the provider ends with any session of its subject there, since it
    /// may be that one.
    ///
    /// # Errors
    /// The database cannot be queried; then nothing is changed.
    pub async fn end_provider_sessions(
        &self,
        logout: ProviderLogout,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let database = self.kind();
        self.run(async move |pool| {
            let mut transaction = database.begin(&pool).await?;
            let added = sqlx::query(
                "INSERT INTO countersign_logout_token (id, expires_at) VALUES ($1, $2)
                 ON CONFLICT DO NOTHING",
            );
            let added = added.bind(logout.id).bind(moment(logout.until));
            if added.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Ok(None);
            }
            let delete = concat!(
                "DELETE FROM countersign_console_session WHERE ",
                ended_sessions!(),
                " RETURNING subject"
            );
            let ended = sqlx::query_scalar(delete)
                .bind(logout.section)
                .bind(logout.subject.unwrap_or_default())
                .bind(logout.session.unwrap_or_default())
                .fetch_all(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(Some(ended))
        })
        .await
    }

    /// Returns the subjects of the sessions that a logout token would end; `None` if it was used
    /// before.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn subjects_of_logout(
        &self,
        logout: ProviderLogout,
    ) -> Result<Option<Vec<String>>, StoreError> {
        self.run(async move |pool| {
            let used = sqlx::query("SELECT 1 FROM countersign_logout_token WHERE id = $1");
            if used.bind(logout.id).fetch_optional(&pool).await?.is_some() {
                return Ok(None);
            }
            let select = concat!(
                "SELECT DISTINCT subject FROM countersign_console_session WHERE ",
                ended_sessions!()
            );
            let subjects = sqlx::query_scalar(select)
                .bind(logout.section)
                .bind(logout.subject.unwrap_or_default())
                .bind(logout.session.unwrap_or_default());
            Ok(Some(subjects.fetch_all(&pool).await?))
        })
        .await
    }
}
