//! Memberships of machine identities in projects.

use countersign_engine::UnixTime;
use sqlx::{AnyPool, Row as _, any::AnyRow};

use super::{Store, StoreError, json_text, moment, read_json, unix_time};

/// The membership of an identity in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectMembership {
    /// Its id, a UUID.
    pub id: String,
    /// Id of the identity.
    pub identity: String,
    /// Id of the project.
    pub project: String,
    /// Slugs of its roles in the project.
    pub roles: Vec<String>,
    /// Time of its creation.
    pub created_at: UnixTime,
    /// Time of its last change.
    pub updated_at: UnixTime,
}

/// The memberships of an identity or of a project.
#[derive(Clone, Debug)]
pub enum MembershipsOf {
    /// Of the identity of this id, by project.
    Identity(String),
    /// Of the project of this id, by identity.
    Project(String),
}

impl Store {
    /// Returns memberships.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn project_memberships(
        &self,
        of: MembershipsOf,
    ) -> Result<Vec<ProjectMembership>, StoreError> {
        self.run(async move |pool| {
            Ok(match of {
                MembershipsOf::Identity(id) => of_identity(&pool, id).await?,
                MembershipsOf::Project(id) => {
                    let select = "SELECT id, identity, project, roles, created_at, updated_at
                         FROM countersign_identity_project WHERE project = $1 ORDER BY identity";
                    memberships(&pool, select, id).await?
                }
            })
        })
        .await
    }

    /// Returns the membership of an identity in a project.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn project_membership(
        &self,
        identity: &str,
        project: &str,
    ) -> Result<Option<ProjectMembership>, StoreError> {
        let (identity, project) = (identity.to_owned(), project.to_owned());
        self.run(async move |pool| {
            let select = "SELECT id, identity, project, roles, created_at, updated_at
                          FROM countersign_identity_project WHERE identity = $1 AND project = $2";
            let row = sqlx::query(select).bind(identity).bind(project);
            Ok(row.fetch_optional(&pool).await?.map(|row| read(&row)).transpose()?)
        })
        .await
    }

    /// Adds a membership.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the identity is a member,
    /// [`StoreError::ForeignKeyViolation`] if the identity or the project does not exist, or the
    /// database cannot be queried.
    pub async fn add_project_membership(&self, new: ProjectMembership) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_identity_project
                     (id, identity, project, roles, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(new.id)
            .bind(new.identity)
            .bind(new.project)
            .bind(json_text(&new.roles))
            .bind(moment(new.created_at))
            .bind(moment(new.updated_at))
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Replaces the roles of a membership. Returns whether it exists, and has the former roles.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn set_project_roles(
        &self,
        identity: &str,
        project: &str,
        (former, roles): (&[String], &[String]),
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let [former, roles] = [former, roles].map(json_text);
        let [identity, project] = [identity, project].map(str::to_owned);
        self.run(async move |pool| {
            let changed = sqlx::query(
                "UPDATE countersign_identity_project SET roles = $1, updated_at = $2
                 WHERE identity = $3 AND project = $4 AND roles = $5",
            );
            let changed = changed.bind(roles).bind(moment(now)).bind(identity).bind(project);
            let changed = changed.bind(former);
            Ok(changed.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    /// Removes a membership. Returns whether it existed, and had the former roles.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_project_membership(
        &self,
        identity: &str,
        project: &str,
        former: &[String],
    ) -> Result<bool, StoreError> {
        let statement = "DELETE FROM countersign_identity_project
                         WHERE identity = $1 AND project = $2 AND roles = $3";
        let [identity, project] = [identity, project].map(str::to_owned);
        self.update(statement, [identity, project, json_text(former)]).await
    }
}

/// Returns the memberships of an identity, by project.
pub(super) async fn of_identity(
    pool: &AnyPool,
    id: String,
) -> sqlx::Result<Vec<ProjectMembership>> {
    let select = "SELECT id, identity, project, roles, created_at, updated_at
                  FROM countersign_identity_project WHERE identity = $1 ORDER BY project";
    memberships(pool, select, id).await
}

async fn memberships(
    pool: &AnyPool,
    select: &'static str,
    id: String,
) -> sqlx::Result<Vec<ProjectMembership>> {
    sqlx::query(select).bind(id).fetch_all(pool).await?.iter().map(read).collect()
}

fn read(row: &AnyRow) -> sqlx::Result<ProjectMembership> {
    Ok(ProjectMembership {
        id: row.try_get("id")?,
        identity: row.try_get("identity")?,
        project: row.try_get("project")?,
        roles: read_json(row, "roles")?,
        created_at: unix_time(row.try_get("created_at")?),
        updated_at: unix_time(row.try_get("updated_at")?),
    })
}
