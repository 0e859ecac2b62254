//! Registry of the issued tokens, which can be listed and revoked by id.

use countersign_engine::UnixTime;
use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, moment, unix_time};

/// Columns by name, because a newer version may have added others.
macro_rules! columns {
    () => {
        "jti, issuer, created_by, client_types, environment, issued_at, expires_at, revoked_at, last_used, \
         signing_input_sha256"
    };
}

/// An issued token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// Its id, a UUID. An idempotent token has no such claim; its id is made of its digest.
    pub jti: String,
    /// The issuer that signed it.
    pub issuer: String,
    /// The user that requested it, if it was a user.
    pub created_by: Option<String>,
    /// Client types of its bearer.
    pub client_types: Vec<String>,
    /// The environment it is scoped to.
    pub environment: Option<String>,
    /// Time of issue.
    pub issued_at: UnixTime,
    /// Expiry time, if it expires.
    pub expires_at: Option<UnixTime>,
    /// Time of revocation, if it was revoked.
    pub revoked_at: Option<UnixTime>,
    /// Approximate time of its last use.
    pub last_used: Option<UnixTime>,
    /// SHA-256 of the signing input of an idempotent token, in hexadecimal.
    pub signing_input_sha256: Option<String>,
}

impl Store {
    /// Adds a token to the registry, unless it has one of this id: an idempotent token.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if its environment does not exist, or the database
    /// cannot be queried.
    pub async fn register_token(&self, token: IssuedToken) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_token (jti, issuer, created_by, client_types, environment, issued_at, expires_at, signing_input_sha256)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (jti) DO NOTHING",
            )
            .bind(token.jti)
            .bind(token.issuer)
            .bind(token.created_by)
            .bind(token.client_types.join(","))
            .bind(token.environment)
            .bind(moment(token.issued_at))
            .bind(token.expires_at.map(moment))
            .bind(token.signing_input_sha256)
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Returns the token of this id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn token(&self, jti: &str) -> Result<Option<IssuedToken>, StoreError> {
        let jti = jti.to_owned();
        self.run(async move |pool| {
            let token = sqlx::query(concat!(
                "SELECT ",
                columns!(),
                " FROM countersign_token WHERE jti = $1"
            ))
            .bind(jti);
            Ok(token.fetch_optional(&pool).await?.map(|row| read(&row)).transpose()?)
        })
        .await
    }

    /// Returns the tokens of an environment, newest first.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn tokens_of(&self, environment: &str) -> Result<Vec<IssuedToken>, StoreError> {
        let environment = environment.to_owned();
        self.run(async move |pool| {
            let tokens = concat!(
                "SELECT ",
                columns!(),
                " FROM countersign_token WHERE environment = $1 ORDER BY issued_at DESC, jti"
            );
            let rows = sqlx::query(tokens).bind(environment).fetch_all(&pool).await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Marks a token as revoked, unless it is marked already.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn mark_revoked(&self, jti: &str, now: UnixTime) -> Result<(), StoreError> {
        let statement =
            "UPDATE countersign_token SET revoked_at = $1 WHERE jti = $2 AND revoked_at IS NULL";
        self.set_timestamp(statement, jti, now).await
    }

    /// Sets the time of a token's last use.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn mark_used(&self, jti: &str, now: UnixTime) -> Result<(), StoreError> {
        self.set_timestamp("UPDATE countersign_token SET last_used = $1 WHERE jti = $2", jti, now)
            .await
    }

    async fn set_timestamp(
        &self,
        statement: &'static str,
        jti: &str,
        at: UnixTime,
    ) -> Result<(), StoreError> {
        let jti = jti.to_owned();
        self.run(async move |pool| {
            sqlx::query(statement).bind(moment(at)).bind(jti).execute(&pool).await?;
            Ok(())
        })
        .await
    }
}

fn read(row: &AnyRow) -> sqlx::Result<IssuedToken> {
    let time = |column| row.try_get::<Option<i64>, _>(column).map(|at| at.map(unix_time));
    Ok(IssuedToken {
        jti: row.try_get("jti")?,
        issuer: row.try_get("issuer")?,
        created_by: row.try_get("created_by")?,
        client_types: row
            .try_get::<String, _>("client_types")?
            .split(',')
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect(),
        environment: row.try_get("environment")?,
        issued_at: unix_time(row.try_get("issued_at")?),
        expires_at: time("expires_at")?,
        revoked_at: time("revoked_at")?,
        last_used: time("last_used")?,
        signing_input_sha256: row.try_get("signing_input_sha256")?,
    })
}
