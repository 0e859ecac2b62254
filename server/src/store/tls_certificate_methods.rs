//! Login methods of machine identities by a TLS client certificate.

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{
    DatabaseKind, Store, StoreError, flag,
    identity_methods::{IdentityMethod, MethodKind, insert_method, read_method, update_method},
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

/// The method of an identity. PostgreSQL locks the row with `FOR UPDATE` at the end.
macro_rules! select {
    ($lock:literal) => {
        concat!(
            "SELECT m.id, m.identity, m.token_ttl, m.token_max_ttl, m.token_period,
                 m.token_uses_limit, m.token_trusted_ips, m.created_at, m.updated_at,
                 t.ca_certificate, t.allowed_common_names, t.allowed_alt_names, t.verifies_chain
             FROM countersign_identity_method m
             JOIN countersign_tls_certificate_method t ON t.method = m.id
             WHERE m.identity = $1",
            $lock
        )
    };
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
        let identity = identity.to_owned();
        self.run(async move |pool| {
            let method = sqlx::query(select!("")).bind(identity).fetch_optional(&pool).await?;
            Ok(method.map(|row| read(&row)).transpose()?)
        })
        .await
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
        let kind = self.kind();
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            insert_method(&mut transaction, MethodKind::TlsCertificate, &new.method).await?;
            sqlx::query(
                "INSERT INTO countersign_tls_certificate_method
                     (method, ca_certificate, allowed_common_names, allowed_alt_names, verifies_chain)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(&new.method.id)
            .bind(&new.ca_certificate)
            .bind(new.allowed_common_names.as_ref().map(json_text))
            .bind(new.allowed_alt_names.as_ref().map(json_text))
            .bind(flag(new.verifies_chain))
            .execute(&mut *transaction)
            .await?;
            Ok(transaction.commit().await?)
        })
        .await
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
        let (identity, kind) = (identity.to_owned(), self.kind());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let select = match kind {
                DatabaseKind::Sqlite => select!(""),
                DatabaseKind::Postgres => select!(" FOR UPDATE"),
            };
            let row = sqlx::query(select).bind(identity).fetch_optional(&mut *transaction).await?;
            let Some(mut method) = row.map(|row| read(&row)).transpose()? else { return Ok(None) };
            if let Err(refusal) = change(&mut method) {
                return Ok(Some(Err(refusal)));
            }
            update(&mut transaction, &method).await?;
            transaction.commit().await?;
            Ok(Some(Ok(method)))
        })
        .await
    }
}

async fn update(
    transaction: &mut Transaction<'static, Any>,
    changed: &TlsCertificateMethod,
) -> sqlx::Result<()> {
    update_method(transaction, &changed.method).await?;
    sqlx::query(
        "UPDATE countersign_tls_certificate_method SET ca_certificate = $1,
             allowed_common_names = $2, allowed_alt_names = $3, verifies_chain = $4
         WHERE method = $5",
    )
    .bind(&changed.ca_certificate)
    .bind(changed.allowed_common_names.as_ref().map(json_text))
    .bind(changed.allowed_alt_names.as_ref().map(json_text))
    .bind(flag(changed.verifies_chain))
    .bind(&changed.method.id)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> sqlx::Result<TlsCertificateMethod> {
    Ok(TlsCertificateMethod {
        method: read_method(row)?,
        ca_certificate: row.try_get("ca_certificate")?,
        allowed_common_names: read_optional_json(row, "allowed_common_names")?,
        allowed_alt_names: read_optional_json(row, "allowed_alt_names")?,
        verifies_chain: row.try_get::<i64, _>("verifies_chain")? != 0,
    })
}
