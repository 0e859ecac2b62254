//! Login methods of machine identities by a TLS client certificate.

use sqlx::{Row as _, any::AnyRow};

use super::{
    Store, StoreError, flag,
    identity_methods::{IdentityMethod, MethodKind, MethodRow, MethodStatement, read_method},
    json_text, read_optional_json,
};

/// A login method by a TLS client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCertificateMethod {
    /// What all login methods have.
    pub method: IdentityMethod,
    /// The certificate of the issuing CA in PEM, as it was given.
    pub ca_certificate: String,
    /// The accepted common names; `None` for any.
    pub allowed_common_names: Option<Vec<String>>,
    /// The accepted alternative names; `None` for any.
    pub allowed_alt_names: Option<Vec<String>>,
    /// Whether the certificate may be issued by intermediate CAs that the client presents.
    pub verifies_chain: bool,
}

impl Store {
    /// Returns the method of an identity.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn tls_certificate_method(
        &self,
        identity: &str,
    ) -> Result<Option<TlsCertificateMethod>, StoreError> {
        self.select_method(TlsCertificateMethod::SELECT, identity).await
    }

    /// Adds a method to its identity.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the identity has one,
    /// [`StoreError::ForeignKeyViolation`] if the identity does not exist, or the database cannot
    /// be queried.
    pub async fn add_tls_certificate_method(
        &self,
        new: TlsCertificateMethod,
    ) -> Result<(), StoreError> {
        self.add_method(new).await
    }

    /// Changes the method of an identity by `change`, which may refuse. No other change is made at
    /// the same time. Returns the changed method, or the refusal; `None` without a method.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn change_tls_certificate_method<E: Send + 'static>(
        &self,
        identity: &str,
        change: impl FnOnce(&mut TlsCertificateMethod) -> Result<(), E> + Send + 'static,
    ) -> Result<Option<Result<TlsCertificateMethod, E>>, StoreError> {
        self.change_method(identity, change).await
    }
}

impl MethodRow for TlsCertificateMethod {
    const KIND: MethodKind = MethodKind::TlsCertificate;
    const SELECT: &'static str = "
        SELECT m.id, m.identity, m.token_ttl, m.token_max_ttl, m.token_period,
            m.token_uses_limit, m.token_trusted_ips, m.created_at, m.updated_at,
            t.ca_certificate, t.allowed_common_names, t.allowed_alt_names, t.verifies_chain
        FROM countersign_identity_method m
        JOIN countersign_tls_certificate_method t ON t.method = m.id
        WHERE m.identity = $1";

    fn common(&self) -> &IdentityMethod {
        &self.method
    }

    fn insertion(&self) -> MethodStatement {
        sqlx::query(
            "INSERT INTO countersign_tls_certificate_method
                 (method, ca_certificate, allowed_common_names, allowed_alt_names, verifies_chain)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&self.method.id)
        .bind(&self.ca_certificate)
        .bind(self.allowed_common_names.as_ref().map(json_text))
        .bind(self.allowed_alt_names.as_ref().map(json_text))
        .bind(flag(self.verifies_chain))
    }

    fn change(&self) -> MethodStatement {
        sqlx::query(
            "UPDATE countersign_tls_certificate_method SET ca_certificate = $1,
                 allowed_common_names = $2, allowed_alt_names = $3, verifies_chain = $4
             WHERE method = $5",
        )
        .bind(&self.ca_certificate)
        .bind(self.allowed_common_names.as_ref().map(json_text))
        .bind(self.allowed_alt_names.as_ref().map(json_text))
        .bind(flag(self.verifies_chain))
        .bind(&self.method.id)
    }

    fn read(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            method: read_method(row)?,
            ca_certificate: row.try_get("ca_certificate")?,
            allowed_common_names: read_optional_json(row, "allowed_common_names")?,
            allowed_alt_names: read_optional_json(row, "allowed_alt_names")?,
            verifies_chain: row.try_get::<i64, _>("verifies_chain")? != 0,
        })
    }
}
