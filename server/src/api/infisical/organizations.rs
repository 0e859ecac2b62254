//! Calls about organizations and their roles.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::{
    InfisicalContext, InfisicalError, Operation, body::BodyReader, check_organization,
    identities::BUILT_IN_ROLES, new_id, ok, shown_time,
};
use crate::{
    audit::AuditTarget,
    base::{clock, reply::Body},
    identities::roles::NO_ACCESS,
    store::{
        StoreError,
        custom_roles::{CustomRole, RoleScope},
    },
};

/// A call about organizations.
pub(super) enum OrganizationCall<'r> {
    List,
    ListRoles(&'r str),
    CreateRole(&'r str, NewRole),
}

/// A role to add.
pub(super) struct NewRole {
    pub(super) slug: String,
    name: String,
    description: String,
}

impl NewRole {
    pub(super) fn read(body: &[u8]) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let slug = reader.name("slug");
        let description = reader.optional_text("description").unwrap_or_default();
        let role = Self { name: reader.name("name"), slug, description };
        let is_slug = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if role.slug.len() > 64 || !role.slug.bytes().all(is_slug) {
            reader.report("slug", "A slug has at most 64 lower-case letters, digits and hyphens");
        } else if BUILT_IN_ROLES.contains(&role.slug.as_str()) || role.slug == "viewer" {
            reader.report("slug", "The slug is that of a built-in role");
        }
        reader.finish()?;
        Ok(role)
    }

    /// Adds the role to its owner.
    pub(super) async fn add(
        self,
        context: &InfisicalContext<'_>,
        (scope, owner): (RoleScope, &str),
    ) -> Result<Response<Body>, InfisicalError> {
        let now = clock::now();
        let role = CustomRole {
            id: new_id()?,
            owner: owner.to_owned(),
            slug: self.slug,
            name: self.name,
            description: self.description,
            created_at: now,
            updated_at: now,
        };
        match context.users.store.add_custom_role(scope, role.clone()).await {
            Ok(()) => Ok(ok(&json!({ "role": role_json(scope, &role) }))),
            Err(StoreError::AlreadyExists) => {
                let message = format!("Role with slug {} already exists", role.slug);
                Err(InfisicalError::bad_request(message))
            }
            Err(StoreError::ForeignKeyViolation) => Err(unknown_project(owner)),
            Err(error) => Err(error.into()),
        }
    }
}

impl<'r> OrganizationCall<'r> {
    pub(super) fn read(
        operation: Operation,
        id: &'r str,
        body: &Bytes,
    ) -> Result<Self, InfisicalError> {
        Ok(match operation {
            Operation::ListOrganizationRoles => Self::ListRoles(id),
            Operation::CreateOrganizationRole => Self::CreateRole(id, NewRole::read(body)?),
            _ => Self::List,
        })
    }

    pub(super) fn audit_target(&self) -> (AuditTarget, Option<String>) {
        let mut target = AuditTarget::default();
        if let Self::CreateRole(_, role) = self {
            target.role = Some(role.slug.clone());
        }
        (target, None)
    }

    pub(super) async fn execute(
        self,
        context: &InfisicalContext<'_>,
    ) -> Result<Response<Body>, InfisicalError> {
        match self {
            Self::List => {
                let organizations = context.users.store.organizations().await?;
                let shown = organizations.iter().map(|one| {
                    json!({
                        "id": one.id,
                        "name": one.name,
                        "slug": one.slug,
                        "createdAt": shown_time(one.created_at),
                    })
                });
                Ok(ok(&json!({ "organizations": shown.collect::<Vec<_>>() })))
            }
            Self::ListRoles(id) => {
                check_organization(context, id)?;
                let shown = roles_json(context, RoleScope::Organization, id).await?;
                Ok(ok(&json!({ "data": { "roles": shown } })))
            }
            Self::CreateRole(id, role) => {
                check_organization(context, id)?;
                role.add(context, (RoleScope::Organization, id)).await
            }
        }
    }
}

/// Returns the error for a project that does not exist.
pub(super) fn unknown_project(id: &str) -> InfisicalError {
    InfisicalError::not_found(format!("Project with ID {id} not found"))
}

/// Returns all roles of an organization or a project: the built-in ones first.
pub(super) async fn roles_json(
    context: &InfisicalContext<'_>,
    scope: RoleScope,
    owner: &str,
) -> Result<Vec<Value>, InfisicalError> {
    let custom = context.users.store.custom_roles(scope, owner).await?;
    let built_in = built_in_roles(scope).iter().map(|slug| {
        let created_at = shown_time(context.organization.created_at);
        json!({ "id": slug, "slug": slug, "name": slug, "createdAt": created_at })
    });
    Ok(built_in.chain(custom.iter().map(|role| role_json(scope, role))).collect())
}

/// Returns the roles that every organization or project has.
pub(super) const fn built_in_roles(scope: RoleScope) -> &'static [&'static str] {
    match scope {
        RoleScope::Organization => &BUILT_IN_ROLES,
        RoleScope::Project => &["admin", "member", "viewer", NO_ACCESS],
    }
}

fn role_json(scope: RoleScope, role: &CustomRole) -> Value {
    let owner = match scope {
        RoleScope::Organization => "orgId",
        RoleScope::Project => "projectId",
    };
    json!({
        "id": role.id,
        owner: role.owner,
        "slug": role.slug,
        "name": role.name,
        "description": role.description,
        "permissions": [],
        "createdAt": shown_time(role.created_at),
        "updatedAt": shown_time(role.updated_at),
    })
}
