//! Roles that operators define for machine identities, in an organization or a project.

use countersign_engine::UnixTime;
use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, moment, unix_time};

/// What a role applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleScope {
    /// An organization.
    Organization,
    /// A project.
    Project,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomRole {
    /// Its id, a UUID.
    pub id: String,
    /// Id of the organization or the project.
    pub owner: String,
    /// Its name in assignments, which is unique for its owner.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Time of its creation.
    pub created_at: UnixTime,
    /// Time of its last change.
    pub updated_at: UnixTime,
}

impl Store {
    /// Returns the roles of an organization or a project, by slug.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn custom_roles(
        &self,
        scope: RoleScope,
        owner: &str,
    ) -> Result<Vec<CustomRole>, StoreError> {
        let owner = owner.to_owned();
        self.run(async move |pool| {
            let select = match scope {
                RoleScope::Organization => {
                    "SELECT id, organization AS owner, slug, name, description, created_at, updated_at
                     FROM countersign_organization_role WHERE organization = $1 ORDER BY slug"
                }
                RoleScope::Project => {
                    "SELECT id, project AS owner, slug, name, description, created_at, updated_at
                     FROM countersign_project_role WHERE project = $1 ORDER BY slug"
                }
            };
            let rows = sqlx::query(select).bind(owner).fetch_all(&pool).await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Adds a role.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if its owner has one of this slug,
    /// [`StoreError::ForeignKeyViolation`] if the owner does not exist, or the database cannot be
    /// queried.
    pub async fn add_custom_role(
        &self,
        scope: RoleScope,
        role: CustomRole,
    ) -> Result<(), StoreError> {
        self.run(async move |pool| {
            let insert = match scope {
                RoleScope::Organization => {
                    "INSERT INTO countersign_organization_role
                         (id, organization, slug, name, description, created_at, updated_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)"
                }
                RoleScope::Project => {
                    "INSERT INTO countersign_project_role
                         (id, project, slug, name, description, created_at, updated_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)"
                }
            };
            sqlx::query(insert)
                .bind(role.id)
                .bind(role.owner)
                .bind(role.slug)
                .bind(role.name)
                .bind(role.description)
                .bind(moment(role.created_at))
                .bind(moment(role.updated_at))
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }
}

fn read(row: &AnyRow) -> sqlx::Result<CustomRole> {
    Ok(CustomRole {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        created_at: unix_time(row.try_get("created_at")?),
        updated_at: unix_time(row.try_get("updated_at")?),
    })
}
