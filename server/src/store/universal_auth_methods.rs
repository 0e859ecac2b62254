//! Login methods of machine identities by a client id and a secret.

use sqlx::{Row as _, any::AnyRow};

use super::{
    Store, StoreError, flag,
    identity_methods::{IdentityMethod, MethodKind, MethodRow, MethodStatement, read_method},
    json_text, read_json, read_number, stored_number,
};

/// A login method by a client id and a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniversalAuthMethod {
    /// What all login methods have.
    pub method: IdentityMethod,
    /// The client id, a UUID.
    pub client_id: String,
    /// Networks from which a secret may be used, as addresses or in CIDR notation.
    pub secret_trusted_ips: Vec<String>,
    /// Limits of failed logins.
    pub lockout: LockoutSettings,
}

/// Limits of failed logins with a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// Number of failures after which logins are refused.
    pub threshold: u64,
    /// Time for which they are refused, in seconds.
    pub duration: u64,
    /// Time after the last failure after which none counts, in seconds.
    pub counter_reset: u64,
}

/// A method by the column of its look-up.
macro_rules! select {
    ($column:literal) => {
        concat!(
            "SELECT m.id, m.identity, m.token_ttl, m.token_max_ttl, m.token_period,
                 m.token_uses_limit, m.token_trusted_ips, m.created_at, m.updated_at,
                 u.client_id, u.secret_trusted_ips, u.lockout_enabled, u.lockout_threshold,
                 u.lockout_duration, u.lockout_counter_reset
             FROM countersign_identity_method m
             JOIN countersign_universal_auth_method u ON u.method = m.id
             WHERE ",
            $column,
            " = $1"
        )
    };
}

impl Store {
    /// Returns the method of an identity.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn universal_auth_method(
        &self,
        identity: &str,
    ) -> Result<Option<UniversalAuthMethod>, StoreError> {
        self.select_method(UniversalAuthMethod::SELECT, identity).await
    }

    /// Returns the method with a client id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn universal_auth_client(
        &self,
        client_id: &str,
    ) -> Result<Option<UniversalAuthMethod>, StoreError> {
        self.select_method(select!("u.client_id"), client_id).await
    }

    /// Adds a method to its identity.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the identity has one,
    /// [`StoreError::ForeignKeyViolation`] if the identity does not exist, or the database cannot
    /// be queried.
    pub async fn add_universal_auth_method(
        &self,
        new: UniversalAuthMethod,
    ) -> Result<(), StoreError> {
        self.add_method(new).await
    }

    /// Changes the method of an identity by `change`, which may refuse. No other change is made at
    /// the same time. Returns the changed method, or the refusal; `None` without a method.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn change_universal_auth_method<E: Send + 'static>(
        &self,
        identity: &str,
        change: impl FnOnce(&mut UniversalAuthMethod) -> Result<(), E> + Send + 'static,
    ) -> Result<Option<Result<UniversalAuthMethod, E>>, StoreError> {
        self.change_method(identity, change).await
    }
}

impl MethodRow for UniversalAuthMethod {
    const KIND: MethodKind = MethodKind::UniversalAuth;
    const SELECT: &'static str = select!("m.identity");

    fn common(&self) -> &IdentityMethod {
        &self.method
    }

    fn insertion(&self) -> MethodStatement {
        sqlx::query(
            "INSERT INTO countersign_universal_auth_method
                 (method, client_id, secret_trusted_ips, lockout_enabled, lockout_threshold,
                  lockout_duration, lockout_counter_reset)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&self.method.id)
        .bind(&self.client_id)
        .bind(json_text(&self.secret_trusted_ips))
        .bind(flag(self.lockout.enabled))
        .bind(stored_number(self.lockout.threshold))
        .bind(stored_number(self.lockout.duration))
        .bind(stored_number(self.lockout.counter_reset))
    }

    fn change(&self) -> MethodStatement {
        sqlx::query(
            "UPDATE countersign_universal_auth_method SET secret_trusted_ips = $1,
                 lockout_enabled = $2, lockout_threshold = $3, lockout_duration = $4,
                 lockout_counter_reset = $5
             WHERE method = $6",
        )
        .bind(json_text(&self.secret_trusted_ips))
        .bind(flag(self.lockout.enabled))
        .bind(stored_number(self.lockout.threshold))
        .bind(stored_number(self.lockout.duration))
        .bind(stored_number(self.lockout.counter_reset))
        .bind(&self.method.id)
    }

    fn read(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            method: read_method(row)?,
            client_id: row.try_get("client_id")?,
            secret_trusted_ips: read_json(row, "secret_trusted_ips")?,
            lockout: LockoutSettings {
                enabled: row.try_get::<i64, _>("lockout_enabled")? != 0,
                threshold: read_number(row, "lockout_threshold")?,
                duration: read_number(row, "lockout_duration")?,
                counter_reset: read_number(row, "lockout_counter_reset")?,
            },
        })
    }
}
