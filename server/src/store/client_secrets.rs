//! Secrets of login methods by a client id. Only their digests are stored.

use countersign_engine::UnixTime;
use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, moment, read_number, stored_number, unix_time};

/// Columns by name, because a newer version may have added others.
macro_rules! columns {
    () => {
        "id, method, prefix, digest, description, uses, uses_limit, ttl, is_revoked, last_used_at, created_at"
    };
}

/// A secret of a login method. Not `Debug`: it contains a digest of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret {
    /// Its id, a UUID.
    pub id: String,
    /// Id of the login method.
    pub method: String,
    /// Its first characters, by which people recognize it.
    pub prefix: String,
    /// SHA-256 of the secret in hexadecimal.
    pub digest: String,
    /// Its description.
    pub description: String,
    /// Number of logins with it.
    pub uses: u64,
    /// Most logins with it; 0 for no limit.
    pub uses_limit: u64,
    /// Its lifetime in seconds; 0 for no limit.
    pub ttl: u64,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Time of the last login with it.
    pub last_used_at: Option<UnixTime>,
    /// Time of its creation.
    pub created_at: UnixTime,
}

impl ClientSecret {
    /// Returns when it expires; `None` if it does not.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixTime> {
        (self.ttl > 0).then(|| self.created_at.plus(self.ttl))
    }

    /// Whether it has expired.
    #[must_use]
    pub fn has_expired(&self, now: UnixTime) -> bool {
        self.expires_at().is_some_and(|end| end <= now)
    }
}

impl Store {
    /// Adds a secret.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if its login method does not exist, or the database
    /// cannot be queried.
    pub async fn add_client_secret(&self, secret: ClientSecret) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_client_secret
                     (id, method, prefix, digest, description, uses_limit, ttl, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(secret.id)
            .bind(secret.method)
            .bind(secret.prefix)
            .bind(secret.digest)
            .bind(secret.description)
            .bind(stored_number(secret.uses_limit))
            .bind(stored_number(secret.ttl))
            .bind(moment(secret.created_at))
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Returns the secrets of a login method, oldest first.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn client_secrets(&self, method: &str) -> Result<Vec<ClientSecret>, StoreError> {
        let select = concat!(
            "SELECT ",
            columns!(),
            " FROM countersign_client_secret WHERE method = $1 ORDER BY created_at, id"
        );
        self.select_client_secrets(select, [method.to_owned()]).await
    }

    /// Returns the secret of a login method with this digest.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn client_secret_with_digest(
        &self,
        method: &str,
        digest: &str,
    ) -> Result<Option<ClientSecret>, StoreError> {
        let select = concat!(
            "SELECT ",
            columns!(),
            " FROM countersign_client_secret WHERE method = $1 AND digest = $2"
        );
        let found = self.select_client_secrets(select, [method.to_owned(), digest.to_owned()]);
        Ok(found.await?.pop())
    }

    async fn select_client_secrets<const N: usize>(
        &self,
        select: &'static str,
        texts: [String; N],
    ) -> Result<Vec<ClientSecret>, StoreError> {
        self.run(async move |pool| {
            let query = texts.into_iter().fold(sqlx::query(select), |query, text| query.bind(text));
            let rows = query.fetch_all(&pool).await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Counts a login with a secret, if it has one left and was not revoked. Returns whether it
    /// was counted.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn use_client_secret(&self, id: &str, now: UnixTime) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let counted = sqlx::query(
                "UPDATE countersign_client_secret SET uses = uses + 1, last_used_at = $1
                 WHERE id = $2 AND is_revoked = 0 AND (uses_limit = 0 OR uses < uses_limit)",
            );
            let counted = counted.bind(moment(now)).bind(id).execute(&pool).await?;
            Ok(counted.rows_affected() > 0)
        })
        .await
    }

    /// Revokes a secret of a login method. Returns whether it exists.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn revoke_client_secret(&self, method: &str, id: &str) -> Result<bool, StoreError> {
        let statement =
            "UPDATE countersign_client_secret SET is_revoked = 1 WHERE method = $1 AND id = $2";
        self.update(statement, [method.to_owned(), id.to_owned()]).await
    }
}

fn read(row: &AnyRow) -> sqlx::Result<ClientSecret> {
    Ok(ClientSecret {
        id: row.try_get("id")?,
        method: row.try_get("method")?,
        prefix: row.try_get("prefix")?,
        digest: row.try_get("digest")?,
        description: row.try_get("description")?,
        uses: read_number(row, "uses")?,
        uses_limit: read_number(row, "uses_limit")?,
        ttl: read_number(row, "ttl")?,
        is_revoked: row.try_get::<i64, _>("is_revoked")? != 0,
        last_used_at: row.try_get::<Option<i64>, _>("last_used_at")?.map(unix_time),
        created_at: unix_time(row.try_get("created_at")?),
    })
}
