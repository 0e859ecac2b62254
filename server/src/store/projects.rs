//! Projects, which group environments.

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{DatabaseKind, Store, StoreError};

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id, a UUID.
    pub id: String,
    /// Its name, which is unique.
    pub name: String,
}

impl Store {
    /// Returns all projects, by name.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        self.run(async |pool| {
            let rows = sqlx::query("SELECT id, name FROM countersign_project ORDER BY name");
            let rows = rows.fetch_all(&pool).await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Returns the project of this id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn project(&self, id: &str) -> Result<Option<Project>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let project = sqlx::query("SELECT id, name FROM countersign_project WHERE id = $1");
            let project = project.bind(id).fetch_optional(&pool).await?;
            Ok(project.map(|row| read(&row)).transpose()?)
        })
        .await
    }

    /// Adds a project.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if its id or name is in use, or the database cannot be
    /// queried.
    pub async fn add_project(&self, project: Project) -> Result<(), StoreError> {
        let statement = "INSERT INTO countersign_project (id, name) VALUES ($1, $2)";
        self.update(statement, [project.id, project.name]).await.map(drop)
    }

    /// Renames a project. Returns whether it exists.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the name is in use, or the database cannot be queried.
    pub async fn rename_project(&self, id: &str, name: &str) -> Result<bool, StoreError> {
        let statement = "UPDATE countersign_project SET name = $1 WHERE id = $2";
        self.update(statement, [name.into(), id.into()]).await
    }

    /// Removes a project without environments. Returns whether it existed.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if it has environments, or the database cannot be
    /// queried.
    pub async fn delete_project(&self, id: &str) -> Result<bool, StoreError> {
        let (id, kind) = (id.to_owned(), self.kind());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            if !lock_project(&mut transaction, kind, &id, ProjectLock::Delete).await? {
                return Ok(false);
            }
            let environments: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM countersign_environment WHERE project_id = $1",
            )
            .bind(&id)
            .fetch_one(&mut *transaction)
            .await?;
            if environments > 0 {
                return Err(StoreError::ForeignKeyViolation);
            }
            let delete = sqlx::query("DELETE FROM countersign_project WHERE id = $1");
            delete.bind(&id).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }
}

/// What a transaction does with a project.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProjectLock {
    /// Puts an environment into it.
    Use,
    /// Deletes it.
    Delete,
}

/// Locks a project until the end of the transaction, so that none is deleted while an environment
/// is put into it. A write transaction of SQLite is the only one. Returns whether it exists.
pub(super) async fn lock_project(
    transaction: &mut Transaction<'_, Any>,
    kind: DatabaseKind,
    id: &str,
    lock: ProjectLock,
) -> sqlx::Result<bool> {
    let select = match (kind, lock) {
        (DatabaseKind::Sqlite, _) => "SELECT id FROM countersign_project WHERE id = $1",
        (DatabaseKind::Postgres, ProjectLock::Use) => {
            "SELECT id FROM countersign_project WHERE id = $1 FOR KEY SHARE"
        }
        (DatabaseKind::Postgres, ProjectLock::Delete) => {
            "SELECT id FROM countersign_project WHERE id = $1 FOR UPDATE"
        }
    };
    Ok(sqlx::query(select).bind(id).fetch_optional(&mut **transaction).await?.is_some())
}

fn read(row: &AnyRow) -> sqlx::Result<Project> {
    Ok(Project { id: row.try_get("id")?, name: row.try_get("name")? })
}
