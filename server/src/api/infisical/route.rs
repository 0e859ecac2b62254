//! The calls, by method and path.

use crate::{
    api::request_test::own_call::RequiredRight,
    audit::{AuditOperation, AuditTarget},
};

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InfisicalOperation {
    CreateIdentity,
    ListIdentities,
    SearchIdentities,
    OwnDetails,
    GetIdentity,
    ModifyIdentity,
    DeleteIdentity,
    ListProjectsOfIdentity,
    TlsLogin,
    AttachTls,
    ModifyTls,
    GetTls,
    DeleteTls,
    UniversalLogin,
    AttachUniversal,
    ModifyUniversal,
    GetUniversal,
    DeleteUniversal,
    ClearLockouts,
    CreateSecret,
    ListSecrets,
    GetSecret,
    RevokeSecret,
    RenewToken,
    RevokeToken,
    ListOrganizations,
    ListOrganizationRoles,
    CreateOrganizationRole,
    ListProjectRoles,
    CreateProjectRole,
    ListMembers,
    AddMember,
    ModifyMember,
    GetMember,
    RemoveMember,
}

use InfisicalOperation as Operation;

/// Method, path and operation of each call. `:` stands for an id in the path.
const CALLS: &[(&str, &str, Operation)] = &[
    ("POST", "/api/v1/identities", Operation::CreateIdentity),
    ("GET", "/api/v1/identities", Operation::ListIdentities),
    ("POST", "/api/v1/identities/search", Operation::SearchIdentities),
    ("GET", "/api/v1/identities/details", Operation::OwnDetails),
    ("GET", "/api/v1/identities/:", Operation::GetIdentity),
    ("PATCH", "/api/v1/identities/:", Operation::ModifyIdentity),
    ("DELETE", "/api/v1/identities/:", Operation::DeleteIdentity),
    ("GET", "/api/v1/identities/:/identity-memberships", Operation::ListProjectsOfIdentity),
    ("POST", "/api/v1/auth/tls-cert-auth/login", Operation::TlsLogin),
    ("POST", "/api/v1/auth/tls-cert-auth/identities/:", Operation::AttachTls),
    ("PATCH", "/api/v1/auth/tls-cert-auth/identities/:", Operation::ModifyTls),
    ("GET", "/api/v1/auth/tls-cert-auth/identities/:", Operation::GetTls),
    ("DELETE", "/api/v1/auth/tls-cert-auth/identities/:", Operation::DeleteTls),
    ("POST", "/api/v1/auth/universal-auth/login", Operation::UniversalLogin),
    ("POST", "/api/v1/auth/universal-auth/identities/:", Operation::AttachUniversal),
    ("PATCH", "/api/v1/auth/universal-auth/identities/:", Operation::ModifyUniversal),
    ("GET", "/api/v1/auth/universal-auth/identities/:", Operation::GetUniversal),
    ("DELETE", "/api/v1/auth/universal-auth/identities/:", Operation::DeleteUniversal),
    ("POST", "/api/v1/auth/universal-auth/identities/:/clear-lockouts", Operation::ClearLockouts),
    ("POST", "/api/v1/auth/universal-auth/identities/:/client-secrets", Operation::CreateSecret),
    ("GET", "/api/v1/auth/universal-auth/identities/:/client-secrets", Operation::ListSecrets),
    ("GET", "/api/v1/auth/universal-auth/identities/:/client-secrets/:", Operation::GetSecret),
    (
        "POST",
        "/api/v1/auth/universal-auth/identities/:/client-secrets/:/revoke",
        Operation::RevokeSecret,
    ),
    ("POST", "/api/v1/auth/token/renew", Operation::RenewToken),
    ("POST", "/api/v1/auth/token/revoke", Operation::RevokeToken),
    ("GET", "/api/v1/organization", Operation::ListOrganizations),
    ("GET", "/api/v1/organization/:/roles", Operation::ListOrganizationRoles),
    ("POST", "/api/v1/organization/:/roles", Operation::CreateOrganizationRole),
    ("GET", "/api/v1/projects/:/roles", Operation::ListProjectRoles),
    ("POST", "/api/v1/projects/:/roles", Operation::CreateProjectRole),
    ("GET", "/api/v2/workspace/:/identity-memberships", Operation::ListMembers),
    ("POST", "/api/v2/workspace/:/identity-memberships/:", Operation::AddMember),
    ("PATCH", "/api/v2/workspace/:/identity-memberships/:", Operation::ModifyMember),
    ("GET", "/api/v2/workspace/:/identity-memberships/:", Operation::GetMember),
    ("DELETE", "/api/v2/workspace/:/identity-memberships/:", Operation::RemoveMember),
];

/// Result of finding a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InfisicalMatch<'p> {
    /// The call, with the ids in its path.
    Call(InfisicalOperation, Vec<&'p str>),
    /// The path has only these methods.
    OtherMethods(Vec<&'static str>),
    /// The path does not exist.
    NotFound,
}

/// Returns what the caller of a call needs; `None` for a call that does not exist.
pub(in crate::api) fn required_right(method: &str, path: &str) -> Option<RequiredRight> {
    let InfisicalMatch::Call(operation, _) = find(method, path) else { return None };
    Some(match operation {
        Operation::OwnDetails => RequiredRight::OwnIdentity,
        _ if operation.is_open() => {
            RequiredRight::Nothing("the call needs no token but what is in its body")
        }
        _ => RequiredRight::IdentityAdministrator,
    })
}

/// Finds a call. A fixed segment takes precedence over an id.
pub(super) fn find<'p>(method: &str, path: &'p str) -> InfisicalMatch<'p> {
    let (mut methods, mut is_fixed) = (Vec::new(), false);
    for (call_method, pattern, operation) in CALLS {
        let Some(ids) = ids_in(pattern, path) else { continue };
        // `details` is not the id of an identity.
        if is_fixed && !ids.is_empty() {
            break;
        }
        if *call_method == method {
            return InfisicalMatch::Call(*operation, ids);
        }
        is_fixed |= ids.is_empty();
        methods.push(*call_method);
    }
    if methods.is_empty() {
        InfisicalMatch::NotFound
    } else {
        InfisicalMatch::OtherMethods(methods)
    }
}

fn ids_in<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut ids = Vec::new();
    let (mut expected, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(ids),
            (Some(":"), Some(id)) if !id.is_empty() => ids.push(id),
            (Some(expected), Some(given)) if expected == given => {}
            _ => return None,
        }
    }
}

impl InfisicalOperation {
    /// Whether the call authenticates by its body alone.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::TlsLogin | Self::UniversalLogin | Self::RenewToken | Self::RevokeToken)
    }

    /// Returns what the ids in the path of a call are, for a refusal: its body is not read then.
    pub(super) fn target_in_path(self, ids: &[&str]) -> AuditTarget {
        let id = |nth: usize| ids.get(nth).map(|id| (*id).to_owned());
        let (user, project) = match self {
            Self::ListProjectRoles
            | Self::CreateProjectRole
            | Self::ListMembers
            | Self::AddMember
            | Self::ModifyMember
            | Self::GetMember
            | Self::RemoveMember => (id(1), id(0)),
            Self::ListOrganizationRoles | Self::CreateOrganizationRole => (None, None),
            _ => (id(0), None),
        };
        AuditTarget { user, project, ..AuditTarget::default() }
    }

    /// Returns the recorded operation; `None` for a call that only reads.
    pub(super) const fn audited(self) -> Option<AuditOperation> {
        Some(match self {
            Self::CreateIdentity => AuditOperation::CreateIdentity,
            Self::ModifyIdentity => AuditOperation::ModifyIdentity,
            Self::DeleteIdentity => AuditOperation::DeleteIdentity,
            Self::TlsLogin | Self::UniversalLogin => AuditOperation::IdentityLogin,
            Self::AttachTls | Self::AttachUniversal => AuditOperation::AttachMethod,
            Self::ModifyTls | Self::ModifyUniversal | Self::ClearLockouts => {
                AuditOperation::ModifyMethod
            }
            Self::DeleteTls | Self::DeleteUniversal => AuditOperation::DeleteMethod,
            Self::CreateSecret => AuditOperation::AddClientSecret,
            Self::RevokeSecret => AuditOperation::RevokeClientSecret,
            Self::RenewToken => AuditOperation::IdentityRenewal,
            Self::RevokeToken => AuditOperation::RevokeIdentityToken,
            Self::CreateOrganizationRole | Self::CreateProjectRole => AuditOperation::AddRole,
            Self::AddMember | Self::ModifyMember => AuditOperation::AssignRole,
            Self::RemoveMember => AuditOperation::UnassignRole,
            Self::ListIdentities
            | Self::SearchIdentities
            | Self::OwnDetails
            | Self::GetIdentity
            | Self::ListProjectsOfIdentity
            | Self::GetTls
            | Self::GetUniversal
            | Self::ListSecrets
            | Self::GetSecret
            | Self::ListOrganizations
            | Self::ListOrganizationRoles
            | Self::ListProjectRoles
            | Self::ListMembers
            | Self::GetMember => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_by_method_and_path() {
        let call = |operation, ids: &[&'static str]| InfisicalMatch::Call(operation, ids.to_vec());
        let others = |methods: &[&'static str]| InfisicalMatch::OtherMethods(methods.to_vec());
        for (method, path, expected) in [
            ("GET", "/api/v1/identities/details", call(Operation::OwnDetails, &[])),
            ("GET", "/api/v1/identities/x", call(Operation::GetIdentity, &["x"])),
            ("DELETE", "/api/v1/identities/details", others(&["GET"])),
            ("PUT", "/api/v1/identities/x", others(&["GET", "PATCH", "DELETE"])),
            ("GET", "/api/v1/identities/", InfisicalMatch::NotFound),
            ("GET", "/api/v1/identities/x/", InfisicalMatch::NotFound),
            ("GET", "/api/v1/auth/tls-cert-auth/login", others(&["POST"])),
            (
                "POST",
                "/api/v2/workspace/p/identity-memberships/i",
                call(Operation::AddMember, &["p", "i"]),
            ),
        ] {
            assert_eq!(find(method, path), expected, "{method} {path}");
        }
    }
}
