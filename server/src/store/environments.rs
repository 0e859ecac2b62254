//! Environments: what tokens and roles can be scoped to.

use sqlx::Row as _;

use super::{Store, StoreFault};

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its id, a UUID.
    pub id: String,
    /// Its name, which no other in its project has.
    pub name: String,
    /// The id of its project, a UUID.
    pub project_id: String,
}

impl Store {
    /// All environments, by name.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn environments(&self) -> Result<Vec<Environment>, StoreFault> {
        self.run(async |pool| {
            let rows = sqlx::query("SELECT * FROM countersign_environment ORDER BY name, id").fetch_all(&pool).await?;
            let read = |row: &sqlx::any::AnyRow| {
                Ok(Environment { id: row.try_get("id")?, name: row.try_get("name")?, project_id: row.try_get("project_id")? })
            };
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// The environment of this id.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn environment(&self, id: &str) -> Result<Option<Environment>, StoreFault> {
        Ok(self.environments().await?.into_iter().find(|environment| environment.id == id))
    }

    /// Adds an environment.
    ///
    /// # Errors
    /// [`StoreFault::Exists`], or the database cannot be asked.
    pub async fn add_environment(&self, environment: Environment) -> Result<(), StoreFault> {
        let Environment { id, name, project_id } = environment;
        let statement = "INSERT INTO countersign_environment (id, name, project_id) VALUES ($1, $2, $3)";
        self.change(statement, [id, name, project_id]).await.map(drop)
    }

    /// Removes an environment, with the roles in it and its tokens; says whether there
    /// was one.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn delete_environment(&self, id: &str) -> Result<bool, StoreFault> {
        self.change("DELETE FROM countersign_environment WHERE id = $1", [id.into()]).await
    }
}
