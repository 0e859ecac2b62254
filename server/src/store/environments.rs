//! Environments, to which tokens and roles are scoped.

use sqlx::{Row as _, any::AnyRow};

use super::{DatabaseKind, Store, StoreError};

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its id, a UUID.
    pub id: String,
    /// Its name, unique in its project.
    pub name: String,
    /// The id of its project, a UUID.
    pub project_id: String,
}

impl Store {
    /// Returns all environments, by name.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn environments(&self) -> Result<Vec<Environment>, StoreError> {
        self.run(async |pool| {
            let rows = sqlx::query(
                "SELECT id, name, project_id FROM countersign_environment ORDER BY name, id",
            )
            .fetch_all(&pool)
            .await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Returns the environment of this id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn environment(&self, id: &str) -> Result<Option<Environment>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let environment = sqlx::query(
                "SELECT id, name, project_id FROM countersign_environment WHERE id = $1",
            )
            .bind(id);
            Ok(environment.fetch_optional(&pool).await?.map(|row| read(&row)).transpose()?)
        })
        .await
    }

    /// Adds an environment.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or the database cannot be queried.
    pub async fn add_environment(&self, environment: Environment) -> Result<(), StoreError> {
        let Environment { id, name, project_id } = environment;
        let statement =
            "INSERT INTO countersign_environment (id, name, project_id) VALUES ($1, $2, $3)";
        self.update(statement, [id, name, project_id]).await.map(drop)
    }

    /// Removes an environment, with its role assignments and tokens. The tokens must be revoked
    /// before; otherwise it returns [`Deletion::HasTokens`].
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_environment(&self, id: &str) -> Result<Deletion, StoreError> {
        let (id, kind) = (id.to_owned(), self.kind());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            // The row lock serializes this with the registration of tokens: a concurrent one
            // is complete by now, or fails because the environment is gone.
            let locked = match kind {
                DatabaseKind::Sqlite => "SELECT id FROM countersign_environment WHERE id = $1",
                DatabaseKind::Postgres => "SELECT id FROM countersign_environment WHERE id = $1 FOR UPDATE",
            };
            if sqlx::query(locked).bind(&id).fetch_optional(&mut *transaction).await?.is_none() {
                return Ok(Deletion::NotFound);
            }
            let tokens = sqlx::query("SELECT jti FROM countersign_token WHERE environment = $1 AND revoked_at IS NULL LIMIT 1");
            if tokens.bind(&id).fetch_optional(&mut *transaction).await?.is_some() {
                return Ok(Deletion::HasTokens);
            }
            sqlx::query("DELETE FROM countersign_environment WHERE id = $1").bind(&id).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(Deletion::Done)
        })
        .await
    }
}

/// Result of [`Store::delete_environment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The environment is removed.
    Done,
    /// No environment has this id.
    NotFound,
    /// The environment has tokens that are not revoked.
    HasTokens,
}

fn read(row: &AnyRow) -> sqlx::Result<Environment> {
    Ok(Environment {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        project_id: row.try_get("project_id")?,
    })
}
