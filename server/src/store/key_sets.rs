//! The last good key sets of providers.

use countersign_engine::UnixTime;
use sqlx::Row as _;

use super::{Store, StoreError, moment, unix_time};

/// The section that a key set was fetched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetOwner {
    /// Name of the section.
    pub section: String,
    /// The issuer.
    pub issuer: String,
    /// Digest of the location and of what authenticates it.
    pub source: String,
}

/// A stored key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKeySet {
    /// Public keys, as a JWK Set.
    pub keys: String,
    /// Time of the last fetch that returned or confirmed them.
    pub fetched_at: UnixTime,
}

impl Store {
    /// Returns the key set of a section.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn key_set(&self, owner: KeySetOwner) -> Result<Option<StoredKeySet>, StoreError> {
        self.run(async move |pool| {
            let found = sqlx::query(
                "SELECT keys, fetched_at FROM countersign_key_set
                 WHERE section = $1 AND issuer = $2 AND source = $3",
            );
            let found = found.bind(owner.section).bind(owner.issuer).bind(owner.source);
            let Some(row) = found.fetch_optional(&pool).await? else { return Ok(None) };
            let fetched_at = unix_time(row.try_get("fetched_at")?);
            Ok(Some(StoredKeySet { keys: row.try_get("keys")?, fetched_at }))
        })
        .await
    }

    /// Stores the key set of a section, and deletes those of an earlier configuration of it.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn save_key_set(
        &self,
        owner: KeySetOwner,
        set: StoredKeySet,
    ) -> Result<(), StoreError> {
        let kind = self.kind();
        self.run(async move |pool| {
            let KeySetOwner { section, issuer, source } = owner;
            let mut transaction = kind.begin(&pool).await?;
            sqlx::query(
                "DELETE FROM countersign_key_set
                 WHERE section = $1 AND (issuer <> $2 OR source <> $3)",
            )
            .bind(section.clone())
            .bind(issuer.clone())
            .bind(source.clone())
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "INSERT INTO countersign_key_set (section, issuer, source, keys, fetched_at)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (section, issuer, source)
                 DO UPDATE SET keys = excluded.keys, fetched_at = excluded.fetched_at",
            )
            .bind(section)
            .bind(issuer)
            .bind(source)
            .bind(set.keys)
            .bind(moment(set.fetched_at))
            .execute(&mut *transaction)
            .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Deletes the key set of a section.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_key_set(&self, owner: KeySetOwner) -> Result<(), StoreError> {
        self.run(async move |pool| {
            let delete = sqlx::query(
                "DELETE FROM countersign_key_set
                 WHERE section = $1 AND issuer = $2 AND source = $3",
            );
            let delete = delete.bind(owner.section).bind(owner.issuer).bind(owner.source);
            delete.execute(&pool).await?;
            Ok(())
        })
        .await
    }
}
