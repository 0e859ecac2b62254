//! Machine identities.

use countersign_engine::UnixTime;
use sqlx::{AnyPool, AssertSqlSafe, Row as _, any::AnyRow};

use super::{
    DatabaseKind, Store, StoreError, flag, identity_methods::count_change, json_text, moment,
    read_json, unix_time,
};

/// Columns by name, because a newer version may have added others.
macro_rules! columns {
    () => {
        "id, organization, name, role, has_delete_protection, metadata, created_at, updated_at"
    };
}

/// A machine identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineIdentity {
    /// Its id, a UUID.
    pub id: String,
    /// Id of its organization.
    pub organization: String,
    /// Its name, which need not be unique.
    pub name: String,
    /// Slug of its role in the organization.
    pub role: String,
    /// Whether it cannot be deleted.
    pub has_delete_protection: bool,
    /// Keys and values that an operator gave it.
    pub metadata: Vec<(String, String)>,
    /// Time of its creation.
    pub created_at: UnixTime,
    /// Time of its last change.
    pub updated_at: UnixTime,
}

/// Changes of an identity; `None` leaves a member as it is.
#[derive(Clone, Debug)]
pub struct IdentityChanges {
    /// The new name.
    pub name: Option<String>,
    /// The new role.
    pub role: Option<String>,
    /// Whether it cannot be deleted.
    pub has_delete_protection: Option<bool>,
    /// The new metadata, in place of all of the former.
    pub metadata: Option<Vec<(String, String)>>,
    /// Time of the change.
    pub updated_at: UnixTime,
}

/// The part of a list of identities.
#[derive(Clone, Debug)]
pub struct IdentityFilter {
    /// Id of the organization.
    pub organization: String,
    /// Text that the name contains, in any case of its ASCII letters; empty for all.
    pub name: String,
    /// Slug of the role, if only identities with this role are wanted.
    pub role: Option<String>,
    /// The order.
    pub order: IdentityOrder,
    /// Number of identities to leave out.
    pub offset: u32,
    /// Most identities to return.
    pub limit: u32,
}

/// An order of identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityOrder {
    /// By the role, and then by the name; otherwise by the name alone.
    pub by_role: bool,
    /// From the last to the first.
    pub is_descending: bool,
}

/// Result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityDeletion {
    /// It was deleted, with its login methods and memberships.
    Deleted,
    /// It is protected, and exists.
    Protected,
    /// The identity does not exist.
    Missing,
}

impl Store {
    /// Returns the identity of this id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn machine_identity(&self, id: &str) -> Result<Option<MachineIdentity>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| Ok(find(&pool, id).await?)).await
    }

    /// Returns identities in an order, and the number of all that the filter selects.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn machine_identities(
        &self,
        filter: IdentityFilter,
    ) -> Result<(Vec<MachineIdentity>, u64), StoreError> {
        self.run(async move |pool| {
            let (name, role) = (like_pattern(&filter.name), filter.role.unwrap_or_default());
            let select = format!(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM countersign_identity
                      WHERE organization = $1 AND lower(name) LIKE $2 ESCAPE '\\'
                          AND ($3 = '' OR role = $3)
                      ORDER BY {order} LIMIT $4 OFFSET $5"
                ),
                order = filter.order.columns()
            );
            let rows = sqlx::query(AssertSqlSafe(select))
                .bind(&filter.organization)
                .bind(&name)
                .bind(&role)
                .bind(i64::from(filter.limit))
                .bind(i64::from(filter.offset));
            let rows = rows.fetch_all(&pool).await?;
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM countersign_identity
                 WHERE organization = $1 AND lower(name) LIKE $2 ESCAPE '\\' AND ($3 = '' OR role = $3)",
            )
            .bind(&filter.organization)
            .bind(&name)
            .bind(&role)
            .fetch_one(&pool)
            .await?;
            let identities = rows.iter().map(read).collect::<sqlx::Result<_>>()?;
            Ok((identities, u64::try_from(count).unwrap_or_default()))
        })
        .await
    }

    /// Adds an identity.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if its id is in use, [`StoreError::ForeignKeyViolation`] if
    /// the organization does not exist, or the database cannot be queried.
    pub async fn add_machine_identity(&self, identity: MachineIdentity) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query(concat!(
                "INSERT INTO countersign_identity (",
                columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            ))
            .bind(identity.id)
            .bind(identity.organization)
            .bind(identity.name)
            .bind(identity.role)
            .bind(flag(identity.has_delete_protection))
            .bind(json_text(&identity.metadata))
            .bind(moment(identity.created_at))
            .bind(moment(identity.updated_at))
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Changes an identity. Returns whether it exists, and has the former role if one is given:
    /// `None` for any.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn change_machine_identity(
        &self,
        id: &str,
        former_role: Option<&str>,
        changes: IdentityChanges,
    ) -> Result<bool, StoreError> {
        let (id, former_role) = (id.to_owned(), former_role.unwrap_or_default().to_owned());
        self.run(async move |pool| {
            let changed = sqlx::query(
                "UPDATE countersign_identity SET name = COALESCE($1, name),
                     role = COALESCE($2, role),
                     has_delete_protection =
                         COALESCE(CAST($3 AS BIGINT), has_delete_protection),
                     metadata = COALESCE($4, metadata), updated_at = $5
                 WHERE id = $6 AND ($7 = '' OR role = $7)",
            )
            .bind(changes.name)
            .bind(changes.role)
            .bind(changes.has_delete_protection.map(flag))
            .bind(changes.metadata.as_ref().map(json_text))
            .bind(moment(changes.updated_at))
            .bind(id)
            .bind(former_role);
            Ok(changed.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    /// Removes an identity, with its login methods, tokens and memberships, unless it is protected.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_machine_identity(&self, id: &str) -> Result<IdentityDeletion, StoreError> {
        let (id, kind) = (id.to_owned(), self.kind());
        let deletion = self.run_again(move |pool| delete(pool, kind, id.clone()));
        let (deletion, methods) = deletion.await?;
        self.spawn_deletion_after(methods);
        Ok(deletion)
    }
}

/// Deletes an identity. Returns the ids of its login methods, too.
async fn delete(
    pool: AnyPool,
    kind: DatabaseKind,
    id: String,
) -> sqlx::Result<(IdentityDeletion, Vec<String>)> {
    let mut transaction = kind.begin(&pool).await?;
    let select = match kind {
        DatabaseKind::Sqlite => {
            "SELECT has_delete_protection FROM countersign_identity WHERE id = $1"
        }
        DatabaseKind::Postgres => {
            "SELECT has_delete_protection FROM countersign_identity WHERE id = $1 FOR UPDATE"
        }
    };
    let protection: Option<i64> =
        sqlx::query_scalar(select).bind(&id).fetch_optional(&mut *transaction).await?;
    match protection {
        None => Ok((IdentityDeletion::Missing, Vec::new())),
        Some(0) => {
            // Before the change is counted: the organization is locked last.
            let methods =
                "DELETE FROM countersign_identity_method WHERE identity = $1 RETURNING id";
            let methods =
                sqlx::query_scalar(methods).bind(&id).fetch_all(&mut *transaction).await?;
            count_change(&mut transaction, &id).await?;
            let delete = sqlx::query("DELETE FROM countersign_identity WHERE id = $1");
            delete.bind(&id).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok((IdentityDeletion::Deleted, methods))
        }
        Some(_) => Ok((IdentityDeletion::Protected, Vec::new())),
    }
}

impl IdentityFilter {
    /// Selects all identities of an organization whose name contains a text.
    #[must_use]
    pub fn all_of(organization: String, name: String) -> Self {
        let order = IdentityOrder::default();
        Self { organization, name, role: None, order, offset: 0, limit: u32::MAX }
    }
}

impl IdentityOrder {
    const fn columns(self) -> &'static str {
        match (self.by_role, self.is_descending) {
            (false, false) => "name, id",
            (false, true) => "name DESC, id DESC",
            (true, false) => "role, name, id",
            (true, true) => "role DESC, name DESC, id DESC",
        }
    }
}

/// Returns the pattern of `LIKE` for lower-case texts that contain this one.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.to_ascii_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Returns the identity of this id.
pub(super) async fn find(pool: &AnyPool, id: String) -> sqlx::Result<Option<MachineIdentity>> {
    let select = concat!("SELECT ", columns!(), " FROM countersign_identity WHERE id = $1");
    let identity = sqlx::query(select).bind(id).fetch_optional(pool).await?;
    identity.map(|row| read(&row)).transpose()
}

fn read(row: &AnyRow) -> sqlx::Result<MachineIdentity> {
    Ok(MachineIdentity {
        id: row.try_get("id")?,
        organization: row.try_get("organization")?,
        name: row.try_get("name")?,
        role: row.try_get("role")?,
        has_delete_protection: row.try_get::<i64, _>("has_delete_protection")? != 0,
        metadata: read_json(row, "metadata")?,
        created_at: unix_time(row.try_get("created_at")?),
        updated_at: unix_time(row.try_get("updated_at")?),
    })
}
