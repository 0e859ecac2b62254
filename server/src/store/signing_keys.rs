//! The keys that sign: which of the keys of a section is in force, and until when its tokens live.

use countersign_engine::UnixTime;
use sqlx::Row as _;

use super::{Store, StoreError, moment, unix_time};

/// The key of a section that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInForce {
    /// Its [id](crate::keys::secret_id::secret_id).
    pub key_id: String,
    /// Time since which it is.
    pub since: UnixTime,
}

/// Ends of the tokens in the registry that are neither revoked nor expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenEnds {
    /// The latest end.
    pub latest: Option<UnixTime>,
    /// Number of those that never expire.
    pub unlimited: u64,
}

impl Store {
    /// Returns the key of a section that is in force; `None` if it was never rotated.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn key_in_force(&self, section: &str) -> Result<Option<KeyInForce>, StoreError> {
        let section = section.to_owned();
        self.run(async move |pool| {
            let key = "SELECT key_id, since FROM countersign_signing_key WHERE section = $1";
            let row = sqlx::query(key).bind(section).fetch_optional(&pool).await?;
            let read = |row: sqlx::any::AnyRow| -> sqlx::Result<_> {
                let since = unix_time(row.try_get("since")?);
                Ok(KeyInForce { key_id: row.try_get("key_id")?, since })
            };
            Ok(row.map(read).transpose()?)
        })
        .await
    }

    /// Puts a key of a section in force. Returns `false` if it already is, and changes nothing then.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn put_key_in_force(
        &self,
        section: &str,
        key: KeyInForce,
    ) -> Result<bool, StoreError> {
        let section = section.to_owned();
        self.run(async move |pool| {
            let put = sqlx::query(
                "INSERT INTO countersign_signing_key (section, key_id, since) VALUES ($1, $2, $3)
                 ON CONFLICT (section) DO UPDATE SET key_id = excluded.key_id, since = excluded.since
                 WHERE countersign_signing_key.key_id <> excluded.key_id",
            );
            let put = put.bind(section).bind(key.key_id).bind(moment(key.since));
            Ok(put.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    /// Returns the ends of the tokens of an issuer that were issued by a time, and live at `now`.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn token_ends(
        &self,
        issuer: &str,
        issued_by: UnixTime,
        now: UnixTime,
    ) -> Result<TokenEnds, StoreError> {
        let issuer = issuer.to_owned();
        self.run(async move |pool| {
            let ends = sqlx::query(
                "SELECT MAX(expires_at) AS latest, COUNT(*) - COUNT(expires_at) AS unlimited
                 FROM countersign_token WHERE issuer = $1 AND issued_at <= $2 AND revoked_at IS NULL
                 AND (expires_at IS NULL OR expires_at > $3)",
            );
            let ends = ends.bind(issuer).bind(moment(issued_by)).bind(moment(now));
            let row = ends.fetch_one(&pool).await?;
            let latest = row.try_get::<Option<i64>, _>("latest")?.map(unix_time);
            let unlimited = u64::try_from(row.try_get::<i64, _>("unlimited")?).unwrap_or_default();
            Ok(TokenEnds { latest, unlimited })
        })
        .await
    }
}
