//! Roles, and their assignments to users in environments.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError, users::Roles};

impl Store {
    /// Returns the names of all roles, in order.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn roles(&self) -> Result<Vec<String>, StoreError> {
        self.run(async |pool| {
            Ok(sqlx::query_scalar("SELECT name FROM countersign_role ORDER BY name")
                .fetch_all(&pool)
                .await?)
        })
        .await
    }

    /// Adds a role.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or the database cannot be queried.
    pub async fn add_role(&self, name: &str) -> Result<(), StoreError> {
        self.update("INSERT INTO countersign_role (name) VALUES ($1)", [name.into()])
            .await
            .map(drop)
    }

    /// Adds the roles that do not exist yet, in one query.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn add_missing_roles(&self, names: &[String]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let names = names.to_vec();
        self.run(async move |pool| {
            let rows: Vec<_> = (1..=names.len()).map(|index| format!("(${index})")).collect();
            let rows = rows.join(", ");
            let statement =
                format!("INSERT INTO countersign_role (name) VALUES {rows} ON CONFLICT DO NOTHING");
            // It has placeholders only.
            let query = sqlx::query(AssertSqlSafe(statement));
            names.into_iter().fold(query, |query, name| query.bind(name)).execute(&pool).await?;
            Ok(())
        })
        .await
    }

    /// Removes a role. Returns whether it existed.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if it is assigned, or the database cannot be queried.
    pub async fn delete_role(&self, name: &str) -> Result<bool, StoreError> {
        self.update("DELETE FROM countersign_role WHERE name = $1", [name.into()]).await
    }

    /// Assigns a role to a user in an environment, unless it is assigned already.
    ///
    /// # Errors
    /// [`StoreError::ForeignKeyViolation`] if the user, the environment or the role does not
    /// exist, or the database cannot be queried.
    pub async fn assign_role(
        &self,
        username: &str,
        environment: &str,
        role: &str,
    ) -> Result<(), StoreError> {
        let texts = [username.into(), environment.into(), role.into()];
        let statement = "INSERT INTO countersign_role_assignment (username, environment, role) VALUES ($1, $2, $3)
                         ON CONFLICT DO NOTHING";
        self.update(statement, texts).await.map(drop)
    }

    /// Removes the assignment of a role in an environment. Returns whether it existed.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn unassign_role(
        &self,
        username: &str,
        environment: &str,
        role: &str,
    ) -> Result<bool, StoreError> {
        let texts = [username.into(), environment.into(), role.into()];
        let statement = "DELETE FROM countersign_role_assignment WHERE username = $1 AND environment = $2 AND role = $3";
        self.update(statement, texts).await
    }

    /// Returns the roles of a user.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn roles_of(&self, username: &str) -> Result<Roles, StoreError> {
        let username = username.to_owned();
        self.run(async move |pool| {
            let rows = sqlx::query("SELECT environment, role FROM countersign_role_assignment WHERE username = $1 ORDER BY role");
            let mut roles = Roles::new();
            for row in rows.bind(username).fetch_all(&pool).await? {
                roles.entry(row.try_get("environment")?).or_default().push(row.try_get("role")?);
            }
            Ok(roles)
        })
        .await
    }

    /// Returns the roles of all users that have any.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn roles_of_all(&self) -> Result<BTreeMap<String, Roles>, StoreError> {
        self.run(async |pool| {
            let rows = sqlx::query(
                "SELECT username, environment, role FROM countersign_role_assignment ORDER BY role",
            );
            let mut all = BTreeMap::<String, Roles>::new();
            for row in rows.fetch_all(&pool).await? {
                let of_user = all.entry(row.try_get("username")?).or_default();
                of_user.entry(row.try_get("environment")?).or_default().push(row.try_get("role")?);
            }
            Ok(all)
        })
        .await
    }
}
