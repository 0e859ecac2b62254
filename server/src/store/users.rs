//! Users.

use std::collections::{BTreeMap, BTreeSet};

use countersign_engine::UnixTime;
use sqlx::Row as _;

use super::{Store, StoreError, flag, moment, unix_time};

/// A user as stored. Not `Debug`: it holds the hash of a password.
#[derive(Clone)]
pub struct User {
    /// The name, which is who they are.
    pub username: String,
    /// What their password is verified by (argon2, in PHC form).
    pub password_hash: String,
    /// `database` or `oidc`.
    pub auth_method: String,
    /// Whether they may do everything.
    pub is_admin: bool,
    /// Sessions that were begun before this moment are over.
    pub sessions_since: UnixTime,
}

impl User {
    /// Somebody with a password of ours, new.
    #[must_use]
    pub fn new(username: &str, password_hash: String, is_admin: bool) -> Self {
        let (username, auth_method) = (username.to_owned(), "database".to_owned());
        Self { username, password_hash, auth_method, is_admin, sessions_since: UnixTime(0) }
    }
}

/// The roles of somebody: of each environment their names, in order.
pub type Roles = BTreeMap<String, Vec<String>>;

impl Store {
    /// The user of this name.
    ///
    /// # Errors
    /// The database cannot be asked.
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

    /// All users, by name.
    ///
    /// # Errors
    /// The database cannot be asked.
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

    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or the database cannot be asked.
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

    /// Adds the first user; says whether there was none.
    ///
    /// # Errors
    /// The database cannot be asked.
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

    /// Removes a user with all their roles; says whether there was one.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn delete_user(&self, username: &str) -> Result<bool, StoreError> {
        let username = username.to_owned();
        self.update("DELETE FROM countersign_user WHERE username = $1", [username]).await
    }

    /// Sets what a user's password is verified by, and ends the sessions begun before a
    /// moment; says whether there is such a user.
    ///
    /// # Errors
    /// The database cannot be asked.
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

    /// Ends the sessions of a user that were begun before a moment; says whether there is
    /// such a user.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn end_sessions(
        &self,
        username: &str,
        sessions_since: UnixTime,
    ) -> Result<bool, StoreError> {
        let statement = "UPDATE countersign_user SET sessions_since = $1 WHERE username = $2";
        self.execute_at(statement, sessions_since, [username.into()]).await
    }

    /// Notes that there are sessions in the name of an issuer.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn record_signer(&self, issuer: &str) -> Result<(), StoreError> {
        let statement =
            "INSERT INTO countersign_signer (issuer) VALUES ($1) ON CONFLICT DO NOTHING";
        self.update(statement, [issuer.into()]).await.map(drop)
    }

    /// The issuers in whose name sessions are, or were, signed.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn signers(&self) -> Result<BTreeSet<String>, StoreError> {
        let signers = "SELECT issuer FROM countersign_signer";
        self.run(async move |pool| {
            Ok(sqlx::query_scalar(signers).fetch_all(&pool).await?.into_iter().collect())
        })
        .await
    }

    /// Replaces one hash of a password by another of the same password, unless it was
    /// changed meanwhile.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn renew_password_hash(
        &self,
        username: &str,
        old: &str,
        new: &str,
    ) -> Result<bool, StoreError> {
        let texts = [new.into(), username.into(), old.into()];
        self.update("UPDATE countersign_user SET password_hash = $1 WHERE username = $2 AND password_hash = $3", texts).await
    }

    /// Lets a user do everything; says whether there is such a user.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn grant_admin(&self, username: &str) -> Result<bool, StoreError> {
        self.update(
            "UPDATE countersign_user SET is_admin = 1 WHERE username = $1",
            [username.into()],
        )
        .await
    }

    /// Lets a user do no more than their roles say, and ends the sessions begun before a
    /// moment; says whether there is such a user.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn revoke_admin(
        &self,
        username: &str,
        sessions_since: UnixTime,
    ) -> Result<bool, StoreError> {
        let statement =
            "UPDATE countersign_user SET is_admin = 0, sessions_since = $1 WHERE username = $2";
        self.execute_at(statement, sessions_since, [username.into()]).await
    }

    /// Executes a statement with a moment and these texts; says whether it changed
    /// anything.
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

    /// Executes a statement with these texts; says whether it changed anything.
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
