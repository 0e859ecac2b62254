//! Environments, to which tokens and roles are scoped.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError};

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

    /// Adds an environment. Its id must never have been used before.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or the database cannot be queried.
    pub async fn add_environment(&self, environment: Environment) -> Result<(), StoreError> {
        let (Environment { id, name, project_id }, kind) = (environment, self.kind());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            sqlx::query("INSERT INTO countersign_environment_id (id) VALUES ($1)")
                .bind(&id)
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "INSERT INTO countersign_environment (id, name, project_id) VALUES ($1, $2, $3)",
            )
            .bind(&id)
            .bind(&name)
            .bind(&project_id)
            .execute(&mut *transaction)
            .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Removes an environment, with its role assignments and registered tokens. Returns whether it
    /// existed.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_environment(&self, id: &str) -> Result<bool, StoreError> {
        let statement = "DELETE FROM countersign_environment WHERE id = $1";
        self.update(statement, [id.to_owned()]).await
    }
}

fn read(row: &AnyRow) -> sqlx::Result<Environment> {
    Ok(Environment {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        project_id: row.try_get("project_id")?,
    })
}
