//! What a login of a machine identity needs, in one turn of the database's thread: its round trips
//! cost more than the statements.

use sqlx::AnyPool;

use super::{
    Store, StoreError,
    identity_methods::{MethodRow as _, select_method},
    identity_projects::{self, ProjectMembership},
    machine_identities::{self, MachineIdentity},
    tls_certificate_methods::TlsCertificateMethod,
};

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
            let select = TlsCertificateMethod::SELECT;
            let method: Option<TlsCertificateMethod> =
                select_method(&pool, select, id.clone()).await?;
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
