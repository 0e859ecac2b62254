//! Organizations, to which machine identities belong.

use countersign_engine::UnixTime;
use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, moment, unix_time};

/// Slug of the organization that exists in every database.
pub const DEFAULT_ORGANIZATION: &str = "default";

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id, a UUID.
    pub id: String,
    /// Its name in paths, which is unique.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Time of its creation.
    pub created_at: UnixTime,
}

impl Store {
    /// Returns the organization with the slug of `new`, which is added if there is none. All nodes
    /// get the same one.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn ensure_organization(&self, new: Organization) -> Result<Organization, StoreError> {
        self.run(async move |pool| {
            let select = "SELECT id, slug, name, created_at FROM countersign_organization
                          WHERE slug = $1";
            let stored = sqlx::query(select).bind(&new.slug).fetch_optional(&pool).await?;
            if let Some(stored) = stored {
                return Ok(read(&stored)?);
            }
            sqlx::query(
                "INSERT INTO countersign_organization (id, slug, name, created_at)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(&new.id)
            .bind(&new.slug)
            .bind(&new.name)
            .bind(moment(new.created_at))
            .execute(&pool)
            .await?;
            // Another node may have been faster.
            Ok(read(&sqlx::query(select).bind(&new.slug).fetch_one(&pool).await?)?)
        })
        .await
    }

    /// Returns all organizations, by slug.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn organizations(&self) -> Result<Vec<Organization>, StoreError> {
        self.run(async |pool| {
            let rows = sqlx::query(
                "SELECT id, slug, name, created_at FROM countersign_organization ORDER BY slug",
            );
            let rows = rows.fetch_all(&pool).await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }
}

fn read(row: &AnyRow) -> sqlx::Result<Organization> {
    Ok(Organization {
        id: row.try_get("id")?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        created_at: unix_time(row.try_get("created_at")?),
    })
}
