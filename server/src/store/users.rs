//! Users, and the issuers of their sessions.

use std::collections::{BTreeMap, BTreeSet};

use countersign_engine::UnixTime;
use sqlx::Row as _;

use super::{Store, StoreError, flag, moment, unix_time};

/// A stored user. Not `Debug`: it contains a password hash.
#[derive(Clone)]
pub struct User {
    /// The username, their identity.
    pub username: String,
    /// Password hash (argon2, in PHC format).
    pub password_hash: String,
    /// `database` or `oidc`.
    pub auth_method: String,
    /// Whether they are an administrator.
    pub is_admin: bool,
    /// Sessions issued before this time are ended.
    pub sessions_since: UnixTime,
}

impl User {
    /// Creates a new user with a local password.
    #[must_use]
    pub fn new(username: &str, password_hash: String, is_admin: bool) -> Self {
        let (username, auth_method) = (username.to_owned(), "database".to_owned());
        Self { username, password_hash, auth_method, is_admin, sessions_since: UnixTime(0) }
    }

    /// Returns a text that changes with the password, with every end of sessions, and with another
    /// user of the same name: the salt of the hash is random. It is a secret.
    #[must_use]
    pub fn credential_state(&self) -> String {
        format!("{} {}", self.sessions_since.0, self.password_hash)
    }
}

/// Roles of a user: the ordered role names by environment.
pub type Roles = BTreeMap<String, Vec<String>>;

impl Store {
    /// Returns the user of this name.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn user(&self, username: &str) -> Result<Option<User>, StoreError> {
        let username = username.to_owned();
        self.run(async move |pool| {
            let user = sqlx::query(
                "SELECT username, password_hash, auth_method, is_admin, sessions_since FROM countersign_user WHERE username = $1",
            )
            .bind(username);
            Ok(user.fetch_optional(&pool).await?.map(|row| read(&row)).transpose()?)
        })
        .await
    }

    /// Returns all users, by name.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.run(async |pool| {
            let rows = sqlx::query(
                "SELECT username, password_hash, auth_method, is_admin, sessions_since FROM countersign_user ORDER BY username",
            )
            .fetch_all(&pool)
            .await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Whether a user exists.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        self.run(async |pool| {
            let any = sqlx::query("SELECT 1 AS found FROM countersign_user LIMIT 1");
            Ok(any.fetch_optional(&pool).await?.is_some())
        })
        .await
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or the database cannot be queried.
    pub async fn add_user(&self, user: User) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query("INSERT INTO countersign_user (username, password_hash, auth_method, is_admin) VALUES ($1, $2, $3, $4)")
                .bind(user.username)
                .bind(user.password_hash)
                .bind(user.auth_method)
                .bind(flag(user.is_admin))
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// Adds a user if the store has none yet. Returns whether it was added.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn add_first_user(&self, user: User) -> Result<bool, StoreError> {
        self.run(async move |pool| {
            let added = sqlx::query(
                "INSERT INTO countersign_user (username, password_hash, auth_method, is_admin)
                 SELECT $1, $2, $3, CAST($4 AS BIGINT) WHERE NOT EXISTS (SELECT 1 FROM countersign_user)",
            )
            .bind(user.username)
            .bind(user.password_hash)
            .bind(user.auth_method)
            .bind(flag(user.is_admin))
            .execute(&pool)
            .await?;
            Ok(added.rows_affected() > 0)
        })
        .await
    }

    /// Removes a user and their role assignments. Returns whether the user existed.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_user(&self, username: &str) -> Result<bool, StoreError> {
        let username = username.to_owned();
        self.update("DELETE FROM countersign_user WHERE username = $1", [username]).await
    }

    /// Sets a user's password hash, and ends the sessions issued before a time. Returns whether
    /// the user exists.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn set_password_hash(
        &self,
        username: &str,
        hash: &str,
        sessions_since: UnixTime,
    ) -> Result<bool, StoreError> {
        let texts = [username.into(), hash.into()];
        let statement = "UPDATE countersign_user SET password_hash = $3, sessions_since = $1 WHERE username = $2";
        self.execute_at(statement, sessions_since, texts).await
    }

    /// Ends the sessions of a user issued before a time. Returns whether the user exists.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn end_sessions(
        &self,
        username: &str,
        sessions_since: UnixTime,
    ) -> Result<bool, StoreError> {
        let statement = "UPDATE countersign_user SET sessions_since = $1 WHERE username = $2";
        self.execute_at(statement, sessions_since, [username.into()]).await
    }

    /// Records an issuer that signs sessions.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn record_signer(&self, issuer: &str) -> Result<(), StoreError> {
        let statement =
            "INSERT INTO countersign_signer (issuer) VALUES ($1) ON CONFLICT DO NOTHING";
        self.update(statement, [issuer.into()]).await.map(drop)
    }

    /// Returns the issuers that sign, or have signed, sessions.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn signers(&self) -> Result<BTreeSet<String>, StoreError> {
        let signers = "SELECT issuer FROM countersign_signer";
        self.run(async move |pool| {
            Ok(sqlx::query_scalar(signers).fetch_all(&pool).await?.into_iter().collect())
        })
        .await
    }

    /// Replaces the password hash `old` by `new`, unless it was changed meanwhile. Returns whether
    /// it was replaced.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn renew_password_hash(
        &self,
        username: &str,
        old: &str,
        new: &str,
    ) -> Result<bool, StoreError> {
        let texts = [new.into(), username.into(), old.into()];
        self.update("UPDATE countersign_user SET password_hash = $1 WHERE username = $2 AND password_hash = $3", texts).await
    }

    /// Replaces the password hash `old` by `new`, unless it was changed meanwhile, and ends the
    /// sessions issued before a time. Returns whether it was replaced.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn change_password_hash(
        &self,
        username: &str,
        old: &str,
        new: &str,
        sessions_since: UnixTime,
    ) -> Result<bool, StoreError> {
        let texts = [new.into(), username.into(), old.into()];
        let statement = "UPDATE countersign_user SET sessions_since = $1, password_hash = $2
                         WHERE username = $3 AND password_hash = $4";
        self.execute_at(statement, sessions_since, texts).await
    }

    /// Makes a user an administrator. Returns whether the user exists.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn grant_admin(&self, username: &str) -> Result<bool, StoreError> {
        self.update(
            "UPDATE countersign_user SET is_admin = 1 WHERE username = $1",
            [username.into()],
        )
        .await
    }

    /// Takes administrator rights from a user, and ends the sessions issued before a time. Returns
    /// whether the user exists.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn revoke_admin(
        &self,
        username: &str,
        sessions_since: UnixTime,
    ) -> Result<bool, StoreError> {
        let statement =
            "UPDATE countersign_user SET is_admin = 0, sessions_since = $1 WHERE username = $2";
        self.execute_at(statement, sessions_since, [username.into()]).await
    }

    /// Executes a statement with a time and text parameters. Returns whether it changed a row.
    async fn execute_at<const N: usize>(
        &self,
        statement: &'static str,
        at: UnixTime,
        texts: [String; N],
    ) -> Result<bool, StoreError> {
        self.run(async move |pool| {
            let query = texts
                .into_iter()
                .fold(sqlx::query(statement).bind(moment(at)), |query, text| query.bind(text));
            Ok(query.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    /// Executes a statement with text parameters. Returns whether it changed a row.
    pub(super) async fn update<const N: usize>(
        &self,
        statement: &'static str,
        texts: [String; N],
    ) -> Result<bool, StoreError> {
        self.run(async move |pool| {
            let query =
                texts.into_iter().fold(sqlx::query(statement), |query, text| query.bind(text));
            Ok(query.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }
}

fn read(row: &sqlx::any::AnyRow) -> sqlx::Result<User> {
    Ok(User {
        username: row.try_get("username")?,
        password_hash: row.try_get("password_hash")?,
        auth_method: row.try_get("auth_method")?,
        is_admin: row.try_get::<i64, _>("is_admin")? != 0,
        sessions_since: unix_time(row.try_get("sessions_since")?),
    })
}
