//! Changes of the roles of an identity. Its tokens contain its roles, so that authorization needs no
//! look at the database: those that contain a role that was taken away are revoked.

use std::time::Duration;

use countersign_engine::UnixTime;
use tokio::time::sleep;

use super::{InfisicalContext, InfisicalError, identities::missing};
use crate::{
    base::clock,
    identities::{revocation, roles::IdentityRoles},
    store::{StoreError, identity_logins::MemberIdentity, machine_identities::MachineIdentity},
};

/// Attempts at a change while others change the same roles.
const MAX_ATTEMPTS: usize = 8;

/// Returns the [`IdentityRoles`] of an identity.
pub(super) async fn roles_of(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<IdentityRoles, InfisicalError> {
    let member = context.users.store.member_identity(id).await?;
    let member = member.filter(|one| one.identity.organization == context.organization.id);
    Ok(with_roles(member.ok_or_else(|| missing(id))?).1)
}

/// Returns a [`MemberIdentity`] as an identity and its [`IdentityRoles`].
pub(super) fn with_roles(member: MemberIdentity) -> (MachineIdentity, IdentityRoles) {
    let MemberIdentity { identity, memberships } = member;
    let projects = memberships.into_iter().map(|one| (one.project, one.roles)).collect();
    let roles = IdentityRoles { organization: identity.role.clone(), projects };
    (identity, roles)
}

/// Makes a change of the roles of an identity, and revokes the tokens with roles that it takes
/// away. `edit` applies it to the roles. `change` makes it, and returns whether it was made: not if
/// the roles are no longer the ones that it receives, as otherwise a role that was given meanwhile
/// would stay in tokens.
pub(super) async fn change_roles(
    context: &InfisicalContext<'_>,
    id: &str,
    edit: impl Fn(&mut IdentityRoles) -> Result<(), InfisicalError>,
    change: impl AsyncFn(&IdentityRoles) -> Result<bool, StoreError>,
) -> Result<(), InfisicalError> {
    for _attempt in 0..MAX_ATTEMPTS {
        let before = roles_of(context, id).await?;
        let mut after = before.clone();
        edit(&mut after)?;
        if change_once(context, id, (&before, &after), change(&before)).await? {
            return Ok(());
        }
    }
    Err(InfisicalError::unavailable("The roles are being changed by others"))
}

/// Makes one attempt at a change of roles. Returns whether it was made.
///
/// A token is issued in a second that begins before its roles are read. So no token that was issued
/// in a later second than the change contains the roles before it, and a login after the call is
/// not concerned.
async fn change_once(
    context: &InfisicalContext<'_>,
    id: &str,
    (before, after): (&IdentityRoles, &IdentityRoles),
    change: impl Future<Output = Result<bool, StoreError>>,
) -> Result<bool, InfisicalError> {
    check_size(after)?;
    if !after.lack_one_of(before) {
        return Ok(change.await?);
    }
    // Before the change: if the revocation fails, nothing has changed.
    let mut end = revoke_issued_by_now(context, id).await?;
    let is_changed = change.await?;
    if clock::now() >= end {
        end = revoke_issued_by_now(context, id).await?;
    }
    wait_until(context, end).await;
    Ok(is_changed)
}

/// Checks that the tokens of an identity [have room](IdentityRoles::fit_into_a_token) for its
/// roles.
pub(super) fn check_size(roles: &IdentityRoles) -> Result<(), InfisicalError> {
    if roles.fit_into_a_token() {
        return Ok(());
    }
    let message = "The identity has too many roles in projects: its access tokens contain them";
    Err(InfisicalError::bad_request(message))
}

/// Revokes the tokens of an identity that were issued in this second or before. Returns its end.
async fn revoke_issued_by_now(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<UnixTime, InfisicalError> {
    let now = clock::now();
    let revocations = revocation::of_issued_by(context.settings, id, now);
    context.api.revocations.revoke_all(revocations).await?;
    Ok(now.plus(1))
}

/// Waits for the end of a second.
async fn wait_until(context: &InfisicalContext<'_>, end: UnixTime) {
    // A clock that is set back must not extend it.
    const STEPS: u32 = 50;
    let waited = async move {
        for _ in 0..STEPS {
            if clock::now() >= end {
                break;
            }
            sleep(Duration::from_secs(1) / STEPS).await;
        }
        Ok(())
    };
    let _never_fails = context.users.store.spawn(waited).await;
}
