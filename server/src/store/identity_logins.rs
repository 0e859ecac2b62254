//! What a login of a machine identity needs, in one turn of the database's thread: its round trips
//! cost more than the statements.

use sqlx::AnyPool;

use super::{
    Store, StoreError, identity_methods::MethodRow, identity_projects, machine_identities,
    tls_certificate_methods::TlsCertificateMethod,
};
use crate::store::{identity_projects::ProjectMembership, machine_identities::MachineIdentity};

/// An identity with its memberships in projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberIdentity {
    /// The [`MachineIdentity`].
    pub identity: MachineIdentity,
    /// Its memberships, by project.
    pub memberships: Vec<ProjectMembership>,
}

impl Store {
    /// Returns a [`MemberIdentity`].
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn member_identity(&self, id: &str) -> Result<Option<MemberIdentity>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| Ok(member_identity(&pool, id).await?)).await
    }

    /// Returns the [`TlsCertificateMethod`] of an identity, and the [`MemberIdentity`].
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn tls_certificate_login(
        &self,
        identity: &str,
    ) -> Result<(Option<TlsCertificateMethod>, Option<MemberIdentity>), StoreError> {
        let id = identity.to_owned();
        self.run(async move |pool| {
            let method = sqlx::query(TlsCertificateMethod::SELECT).bind(id.clone());
            let method = method.fetch_optional(&pool).await?;
            let method = method.map(|row| TlsCertificateMethod::read(&row)).transpose()?;
            let identity = if method.is_some() { member_identity(&pool, id).await? } else { None };
            Ok((method, identity))
        })
        .await
    }
}

async fn member_identity(pool: &AnyPool, id: String) -> sqlx::Result<Option<MemberIdentity>> {
    let Some(identity) = machine_identities::find(pool, id.clone()).await? else {
        return Ok(None);
    };
    let memberships = identity_projects::of_identity(pool, id).await?;
    Ok(Some(MemberIdentity { identity, memberships }))
}
