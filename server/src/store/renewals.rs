//! Session tokens that were renewed or ended.
//!
//! A token is named by the SHA-256 of its signing input, in hexadecimal, so that the database
//! contains no credential. A row decides whether a token can be renewed, on every node at once; the
//! revocations, which other nodes read with a delay, decide whether it is accepted.

use countersign_engine::UnixTime;
use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{Store, StoreError, moment, unix_time};

/// A session token, by the digest of its signing input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken {
    /// SHA-256 of its signing input, in hexadecimal.
    pub digest: String,
    /// Time from which it is not accepted any more, if it expires.
    pub expires_at: Option<UnixTime>,
}

/// A renewed token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRenewal {
    /// The token.
    pub token: SessionToken,
    /// Time at which it is revoked.
    pub revoke_at: UnixTime,
    /// The token that replaced it.
    pub successor: SessionToken,
    /// The claims of the successor in JSON, exactly as signed.
    pub claims: String,
}

/// State of a session token in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It was neither renewed nor ended.
    Current,
    /// It was renewed. Boxed, as this is rare.
    Renewed(Box<SessionRenewal>),
    /// Its session was ended.
    Ended,
}

impl Store {
    /// Returns the state of a session token.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn session_state(&self, digest: &str) -> Result<SessionState, StoreError> {
        let digest = digest.to_owned();
        self.run(async move |pool| {
            let row = sqlx::query(
                "SELECT token, expires_at, revoke_at, successor, successor_expires_at, claims
                 FROM countersign_renewal WHERE token = $1",
            )
            .bind(digest);
            let row = row.fetch_optional(&pool).await?;
            Ok(row.map_or(Ok(SessionState::Current), |row| read(&row))?)
        })
        .await
    }

    /// Records a renewal. Returns `false` if the token was renewed or ended before, and changes
    /// nothing then.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn add_renewal(&self, renewal: SessionRenewal) -> Result<bool, StoreError> {
        self.run(async move |pool| {
            let added = sqlx::query(
                "INSERT INTO countersign_renewal (token, expires_at, revoke_at, successor, successor_expires_at, claims)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(renewal.token.digest)
            .bind(renewal.token.expires_at.map(moment))
            .bind(moment(renewal.revoke_at))
            .bind(renewal.successor.digest)
            .bind(renewal.successor.expires_at.map(moment))
            .bind(renewal.claims);
            Ok(added.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    /// Ends the session of a token: none of its tokens can be renewed any more. Returns those that
    /// may still be accepted, which the caller has to revoke: the token, the tokens that it was
    /// renewed from, and those that it was renewed to.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn end_session(
        &self,
        token: SessionToken,
        now: UnixTime,
    ) -> Result<Vec<SessionToken>, StoreError> {
        let kind = self.kind();
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let (mut ended, mut index) = (vec![token], 0);
            while let Some(token) = ended.get(index).cloned() {
                index += 1;
                let neighbours = end_token(&mut transaction, &token, now).await?;
                let is_new =
                    |one: &SessionToken| ended.iter().all(|other| other.digest != one.digest);
                let new: Vec<_> = neighbours.into_iter().filter(is_new).collect();
                ended.extend(new);
            }
            transaction.commit().await?;
            Ok(ended)
        })
        .await
    }

    /// Returns tokens that were to be revoked by a time and are not marked as revoked, the most
    /// overdue first. The number is limited.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn overdue_tokens(&self, by: UnixTime) -> Result<Vec<SessionToken>, StoreError> {
        self.run(async move |pool| {
            let rows = sqlx::query(
                "SELECT token, expires_at FROM countersign_renewal
                 WHERE is_revoked = 0 AND revoke_at <= $1 ORDER BY revoke_at, token LIMIT 256",
            );
            let rows = rows.bind(moment(by)).fetch_all(&pool).await?;
            let tokens = rows.iter().map(|row| token(row, "token", "expires_at"));
            Ok(tokens.collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Marks a token as revoked.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn mark_token_revoked(&self, digest: &str) -> Result<(), StoreError> {
        let statement = "UPDATE countersign_renewal SET is_revoked = 1 WHERE token = $1";
        self.update(statement, [digest.into()]).await.map(drop)
    }

    /// Removes the tokens that are revoked since a time. Returns how many.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn purge_renewals(&self, revoked_by: UnixTime) -> Result<u64, StoreError> {
        self.run(async move |pool| {
            let deleted = sqlx::query(
                "DELETE FROM countersign_renewal WHERE is_revoked = 1 AND revoke_at <= $1",
            );
            Ok(deleted.bind(moment(revoked_by)).execute(&pool).await?.rows_affected())
        })
        .await
    }
}

/// Marks one token as ended. Returns the tokens that it was renewed from and to.
async fn end_token(
    transaction: &mut Transaction<'static, Any>,
    ended: &SessionToken,
    now: UnixTime,
) -> sqlx::Result<Vec<SessionToken>> {
    sqlx::query(
        "INSERT INTO countersign_renewal (token, expires_at, revoke_at) VALUES ($1, $2, $3)
         ON CONFLICT (token) DO UPDATE SET revoke_at = excluded.revoke_at, claims = NULL",
    )
    .bind(&ended.digest)
    .bind(ended.expires_at.map(moment))
    .bind(moment(now))
    .execute(&mut **transaction)
    .await?;
    let successors = sqlx::query(
        "SELECT successor, successor_expires_at FROM countersign_renewal
         WHERE token = $1 AND successor IS NOT NULL",
    );
    let successors = successors.bind(&ended.digest).fetch_all(&mut **transaction).await?;
    let predecessors = sqlx::query(
        "SELECT token, expires_at FROM countersign_renewal WHERE successor = $1 AND is_revoked = 0",
    );
    let predecessors = predecessors.bind(&ended.digest).fetch_all(&mut **transaction).await?;
    let successors = successors.iter().map(|row| token(row, "successor", "successor_expires_at"));
    let predecessors = predecessors.iter().map(|row| token(row, "token", "expires_at"));
    successors.chain(predecessors).collect()
}

fn read(row: &AnyRow) -> sqlx::Result<SessionState> {
    let Some(claims) = row.try_get("claims")? else { return Ok(SessionState::Ended) };
    Ok(SessionState::Renewed(Box::new(SessionRenewal {
        token: token(row, "token", "expires_at")?,
        revoke_at: unix_time(row.try_get("revoke_at")?),
        successor: token(row, "successor", "successor_expires_at")?,
        claims,
    })))
}

fn token(row: &AnyRow, digest: &str, expires_at: &str) -> sqlx::Result<SessionToken> {
    Ok(SessionToken {
        digest: row.try_get(digest)?,
        expires_at: row.try_get::<Option<i64>, _>(expires_at)?.map(unix_time),
    })
}
