//! Environments, to which tokens and roles are scoped.

use sqlx::{Row as _, any::AnyRow};

use super::{
    Store, StoreError,
    projects::{ProjectLock, lock_project},
};

/// An environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Its id, a UUID.
    pub id: String,
    /// Its name, unique in its project.
    pub name: String,
    /// The id of its project, a UUID.
    pub project_id: String,
    /// The URL of a Git repository, or empty.
    pub repo_url: String,
    /// A branch of the repository, or empty.
    pub repo_branch: String,
    /// Its description, or empty.
    pub description: String,
    /// Its icon, as a media type and base64, or empty.
    pub icon: String,
}

/// Changes of an environment. Absent values stay as they are.
#[derive(Clone, Debug, Default)]
pub struct EnvironmentChanges {
    /// Its name.
    pub name: String,
    /// The id of its project.
    pub project_id: Option<String>,
    /// The URL of its repository.
    pub repo_url: Option<String>,
    /// The branch of the repository.
    pub repo_branch: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its icon.
    pub icon: Option<String>,
}

macro_rules! columns {
    () => {
        "id, name, project_id, repo_url, repo_branch, description, icon"
    };
}

impl Store {
    /// Returns all environments, by project, name and id. Descriptions and icons, which may be
    /// large, are empty unless `details` is set.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn environments(&self, details: bool) -> Result<Vec<Environment>, StoreError> {
        self.run(async move |pool| {
            let rows = sqlx::query(
                "SELECT id, name, project_id, repo_url, repo_branch,
                     CASE WHEN $1 = 1 THEN description ELSE '' END AS description,
                     CASE WHEN $1 = 1 THEN icon ELSE '' END AS icon
                 FROM countersign_environment ORDER BY project_id, name, id",
            );
            let rows = rows.bind(i64::from(details)).fetch_all(&pool).await?;
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
            let environment = sqlx::query(concat!(
                "SELECT ",
                columns!(),
                " FROM countersign_environment WHERE id = $1"
            ));
            let environment = environment.bind(id).fetch_optional(&pool).await?;
            Ok(environment.map(|row| read(&row)).transpose()?)
        })
        .await
    }

    /// Returns the id of the environment with this name in a project.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn environment_named(
        &self,
        project_id: &str,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let (project_id, name) = (project_id.to_owned(), name.to_owned());
        self.run(async move |pool| {
            let id = "SELECT id FROM countersign_environment WHERE project_id = $1 AND name = $2";
            let id = sqlx::query_scalar(id).bind(project_id).bind(name);
            Ok(id.fetch_optional(&pool).await?)
        })
        .await
    }

    /// Adds an environment. Its id must never have been used before.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if its id was used, or its name is in its project,
    /// [`StoreError::ForeignKeyViolation`] if the project does not exist, or the database cannot
    /// be queried.
    pub async fn add_environment(&self, environment: Environment) -> Result<(), StoreError> {
        let kind = self.kind();
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let project = &environment.project_id;
            if !lock_project(&mut transaction, kind, project, ProjectLock::Use).await? {
                return Err(StoreError::ForeignKeyViolation);
            }
            sqlx::query("INSERT INTO countersign_environment_id (id) VALUES ($1)")
                .bind(&environment.id)
                .execute(&mut *transaction)
                .await?;
            sqlx::query(concat!(
                "INSERT INTO countersign_environment (",
                columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7)"
            ))
            .bind(environment.id)
            .bind(environment.name)
            .bind(environment.project_id)
            .bind(environment.repo_url)
            .bind(environment.repo_branch)
            .bind(environment.description)
            .bind(environment.icon)
            .execute(&mut *transaction)
            .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Changes an environment. Returns whether it exists.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if its name is in its project,
    /// [`StoreError::ForeignKeyViolation`] if the project does not exist, or the database cannot
    /// be queried.
    pub async fn change_environment(
        &self,
        id: &str,
        changes: EnvironmentChanges,
    ) -> Result<bool, StoreError> {
        let (id, kind) = (id.to_owned(), self.kind());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            if let Some(project) = &changes.project_id
                && !lock_project(&mut transaction, kind, project, ProjectLock::Use).await?
            {
                return Err(StoreError::ForeignKeyViolation);
            }
            let changed = sqlx::query(
                "UPDATE countersign_environment SET name = $1,
                     project_id = COALESCE($2, project_id),
                     repo_url = COALESCE($3, repo_url),
                     repo_branch = COALESCE($4, repo_branch),
                     description = COALESCE($5, description),
                     icon = COALESCE($6, icon)
                 WHERE id = $7",
            )
            .bind(changes.name)
            .bind(changes.project_id)
            .bind(changes.repo_url)
            .bind(changes.repo_branch)
            .bind(changes.description)
            .bind(changes.icon)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(changed.rows_affected() > 0)
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
        repo_url: row.try_get("repo_url")?,
        repo_branch: row.try_get("repo_branch")?,
        description: row.try_get("description")?,
        icon: row.try_get("icon")?,
    })
}
