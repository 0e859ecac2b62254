//! Calls about identities.

use http::Response;
use serde_json::{Value, json};

use super::{
    InfisicalContext, body::BodyReader, caller::InfisicalCaller, check_organization,
    error::InfisicalError, new_id, ok, role_changes::change_roles, shown_time,
};
use crate::{
    base::{clock, reply::Body},
    identities::{
        revocation,
        roles::{IdentityRoles, NO_ACCESS},
    },
    store::{
        custom_roles::{CustomRole, RoleScope},
        identity_projects::MembershipsOf,
        machine_identities::{
            IdentityChanges, IdentityDeletion, IdentityFilter, IdentityOrder, MachineIdentity,
        },
    },
};

/// The roles that every organization has. Only that of an administrator means something here.
pub(super) const BUILT_IN_ROLES: [&str; 3] = ["admin", "member", NO_ACCESS];
/// Most identities in one list.
const MAX_LISTED: u32 = 10_000;
/// Most characters of a name.
const MAX_NAME: usize = 255;

/// Reads a new identity.
pub(super) struct NewIdentity {
    /// Its id, which the audit log has before the identity is made.
    pub(super) id: String,
    pub(super) name: String,
    organization: String,
    role: String,
    has_delete_protection: bool,
    metadata: Vec<(String, String)>,
}

impl NewIdentity {
    pub(super) fn read(body: &[u8]) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let new = Self {
            id: new_id()?,
            name: reader.name("name"),
            organization: reader.text("organizationId"),
            role: reader.optional_text("role").unwrap_or_else(|| NO_ACCESS.into()),
            has_delete_protection: reader.flag("hasDeleteProtection").unwrap_or(false),
            metadata: read_metadata(&mut reader).unwrap_or_default(),
        };
        if new.role.is_empty() {
            reader.report("role", "String must contain at least 1 character(s)");
        }
        check_length(&mut reader, &new.name);
        reader.finish()?;
        Ok(new)
    }
}

/// Reports a name that is too long: access tokens contain it.
fn check_length(reader: &mut BodyReader, name: &str) {
    if name.chars().count() > MAX_NAME {
        reader.report("name", "String must contain at most 255 character(s)");
    }
}

/// Reads the changes of an identity.
pub(super) fn read_changes(body: &[u8]) -> Result<IdentityChanges, InfisicalError> {
    let mut reader = BodyReader::parse(body)?;
    let changes = IdentityChanges {
        name: reader.optional_text("name"),
        role: reader.optional_text("role"),
        has_delete_protection: reader.flag("hasDeleteProtection"),
        metadata: read_metadata(&mut reader),
        updated_at: clock::now(),
    };
    for (member, text) in [("name", &changes.name), ("role", &changes.role)] {
        if text.as_ref().is_some_and(String::is_empty) {
            reader.report(member, "String must contain at least 1 character(s)");
        }
    }
    check_length(&mut reader, changes.name.as_deref().unwrap_or_default());
    reader.finish()?;
    Ok(changes)
}

fn read_metadata(reader: &mut BodyReader) -> Option<Vec<(String, String)>> {
    let keys = reader.objects("metadata", "key")?;
    let values = reader.objects("metadata", "value")?;
    if keys.iter().chain(&values).any(String::is_empty) {
        reader.report("metadata", "String must contain at least 1 character(s)");
    }
    Some(keys.into_iter().zip(values).collect())
}

pub(super) async fn create(
    context: &InfisicalContext<'_>,
    new: NewIdentity,
) -> Result<Response<Body>, InfisicalError> {
    check_organization(context, &new.organization)?;
    check_role(context, &new.role).await?;
    let now = clock::now();
    let identity = MachineIdentity {
        id: new.id,
        organization: new.organization,
        name: new.name,
        role: new.role,
        has_delete_protection: new.has_delete_protection,
        metadata: new.metadata,
        created_at: now,
        updated_at: now,
    };
    context.users.store.add_machine_identity(identity.clone()).await?;
    Ok(ok(&json!({ "identity": identity_json(&identity, &[]) })))
}

pub(super) async fn list(
    context: &InfisicalContext<'_>,
    organization: &str,
) -> Result<Response<Body>, InfisicalError> {
    check_organization(context, organization)?;
    let all = IdentityFilter::all_of(organization.to_owned(), String::new());
    list_filtered(context, IdentityFilter { limit: MAX_LISTED, ..all }).await
}

/// Reads the filter of a search.
pub(super) fn read_search(
    context: &InfisicalContext<'_>,
    body: &[u8],
) -> Result<IdentityFilter, InfisicalError> {
    let mut reader = BodyReader::parse(body)?;
    let limit = reader.number("limit", 1, 100).unwrap_or(50);
    let offset = reader.number("offset", 0, u32::MAX.into()).unwrap_or(0);
    let order = read_order(&mut reader);
    let search = reader.value("search").cloned().unwrap_or_default();
    // A text, or an object with one operator.
    let text = |member: &str, operator: &str| {
        let value = search.get(member)?;
        value.as_str().or_else(|| value.get(operator)?.as_str()).map(str::to_owned)
    };
    let filter = IdentityFilter {
        organization: context.organization.id.clone(),
        name: text("name", "$contains").unwrap_or_default(),
        role: text("role", "$eq"),
        order,
        offset: u32::try_from(offset).unwrap_or(u32::MAX),
        limit: u32::try_from(limit).unwrap_or(100),
    };
    // A filter that is not applied would select identities that it excludes.
    let is_applied = |(member, value): (&String, &Value)| match member.as_str() {
        "name" => text("name", "$contains").is_some() && is_single(value),
        "role" => text("role", "$eq").is_some() && is_single(value),
        _ => false,
    };
    let is_known = match &search {
        Value::Null => true,
        Value::Object(members) => members.iter().all(is_applied),
        _ => false,
    };
    if !is_known {
        let message = "Only $contains of a name and $eq of a role are supported";
        reader.report("search", message);
    }
    reader.finish()?;
    Ok(filter)
}

fn read_order(reader: &mut BodyReader) -> IdentityOrder {
    let mut is_second = |member: &str, [first, second]: [&str; 2]| {
        let value = reader.optional_text(member)?;
        if value != first && value != second {
            let message = format!("Invalid enum value. Expected '{first}' | '{second}'");
            reader.report(member, &message);
        }
        Some(value == second)
    };
    IdentityOrder {
        by_role: is_second("orderBy", ["name", "role"]).unwrap_or(false),
        is_descending: is_second("orderDirection", ["asc", "desc"]).unwrap_or(false),
    }
}

/// Whether a filter is a text, or an object with one operator.
fn is_single(filter: &Value) -> bool {
    filter.as_object().is_none_or(|operators| operators.len() == 1)
}

pub(super) async fn list_filtered(
    context: &InfisicalContext<'_>,
    filter: IdentityFilter,
) -> Result<Response<Body>, InfisicalError> {
    let store = &context.users.store;
    let roles = store.custom_roles(RoleScope::Organization, &filter.organization).await?;
    let (identities, count) = store.machine_identities(filter).await?;
    let ids = identities.iter().map(|identity| identity.id.clone()).collect();
    let methods = store.methods_of_identities(ids).await?;
    let shown = identities.iter().map(|identity| {
        let methods = methods.get(&identity.id).map_or(&[][..], Vec::as_slice);
        membership_json(identity, methods, &roles)
    });
    Ok(ok(&json!({ "identities": shown.collect::<Vec<_>>(), "totalCount": count })))
}

pub(super) async fn get(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    let identity = find(context, id).await?;
    let store = &context.users.store;
    let roles = store.custom_roles(RoleScope::Organization, &identity.organization).await?;
    let methods = methods_of(context, id).await?;
    Ok(ok(&json!({ "identity": membership_json(&identity, &methods, &roles) })))
}

/// Returns the details of the calling identity.
pub(super) fn own_details(
    context: &InfisicalContext<'_>,
    caller: Option<&InfisicalCaller>,
) -> Result<Response<Body>, InfisicalError> {
    let Some(InfisicalCaller::Identity(caller)) = caller else {
        return Err(InfisicalError::forbidden("This call needs the token of a machine identity"));
    };
    let organization = context.organization;
    Ok(ok(&json!({
        "identityDetails": {
            "organization": {
                "id": organization.id,
                "name": organization.name,
                "slug": organization.slug,
            },
            "identity": { "id": caller.identity.id, "name": caller.identity.name },
        },
    })))
}

pub(super) async fn modify(
    context: &InfisicalContext<'_>,
    id: &str,
    changes: IdentityChanges,
) -> Result<Response<Body>, InfisicalError> {
    if let Some(role) = &changes.role {
        check_role(context, role).await?;
    }
    let edit = |roles: &mut IdentityRoles| {
        if let Some(role) = &changes.role {
            roles.organization.clone_from(role);
        }
        Ok(())
    };
    let change = async |before: &IdentityRoles| {
        let former_role = Some(before.organization.as_str());
        context.users.store.change_machine_identity(id, former_role, changes.clone()).await
    };
    change_roles(context, id, edit, change).await?;
    let identity = find(context, id).await?;
    let methods = methods_of(context, id).await?;
    Ok(ok(&json!({ "identity": identity_json(&identity, &methods) })))
}

/// Deletes an identity. Its tokens are revoked before: ids are not used again, so none that a
/// concurrent login issues is accepted either.
pub(super) async fn delete(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    let identity = find(context, id).await?;
    let is_protected = || InfisicalError::conflict("Identity has delete protection");
    if identity.has_delete_protection {
        return Err(is_protected());
    }
    let methods = methods_of(context, id).await?;
    let revocations = revocation::of_identity(context.settings, id, clock::now());
    context.api.revocations.revoke_all(revocations).await?;
    match context.users.store.delete_machine_identity(id).await? {
        IdentityDeletion::Deleted => {
            context.checks.forget_methods();
            Ok(ok(&json!({ "identity": identity_json(&identity, &methods) })))
        }
        IdentityDeletion::Protected => Err(is_protected()),
        IdentityDeletion::Missing => Err(missing(id)),
    }
}

pub(super) async fn list_projects(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    let identity = find(context, id).await?;
    let methods = methods_of(context, id).await?;
    let memberships =
        context.users.store.project_memberships(MembershipsOf::Identity(id.to_owned())).await?;
    let mut shown = Vec::new();
    for membership in &memberships {
        if let Some(project) = context.users.store.project(&membership.project).await? {
            shown.push(super::projects::membership_json(
                membership,
                (&identity, &methods),
                &project,
            ));
        }
    }
    Ok(ok(&json!({ "identityMemberships": shown })))
}

/// Returns an identity of the organization.
pub(super) async fn find(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<MachineIdentity, InfisicalError> {
    let found = context.users.store.machine_identity(id).await?;
    found
        .filter(|identity| identity.organization == context.organization.id)
        .ok_or_else(|| missing(id))
}

pub(super) async fn methods_of(
    context: &InfisicalContext<'_>,
    id: &str,
) -> Result<Vec<String>, InfisicalError> {
    let methods = context.users.store.methods_of_identities(vec![id.to_owned()]).await?;
    Ok(methods.into_values().next().unwrap_or_default())
}

async fn check_role(context: &InfisicalContext<'_>, role: &str) -> Result<(), InfisicalError> {
    if BUILT_IN_ROLES.contains(&role) {
        return Ok(());
    }
    let organization = &context.organization.id;
    let roles = context.users.store.custom_roles(RoleScope::Organization, organization).await?;
    if roles.iter().any(|one| one.slug == role) {
        return Ok(());
    }
    Err(InfisicalError::missing_role(role))
}

/// Returns the error for an identity that does not exist.
pub(super) fn missing(id: &str) -> InfisicalError {
    InfisicalError::not_found(format!("Failed to find identity with ID {id}"))
}

fn identity_json(identity: &MachineIdentity, methods: &[String]) -> Value {
    json!({
        "id": identity.id,
        "name": identity.name,
        "orgId": identity.organization,
        "role": identity.role,
        "hasDeleteProtection": identity.has_delete_protection,
        "createdAt": shown_time(identity.created_at),
        "updatedAt": shown_time(identity.updated_at),
        "authMethods": methods,
        "metadata": metadata_json(identity),
    })
}

/// Returns an identity as a member of its organization. It has one such membership, whose id is
/// that of the identity.
fn membership_json(identity: &MachineIdentity, methods: &[String], roles: &[CustomRole]) -> Value {
    let custom = roles.iter().find(|role| role.slug == identity.role);
    let mut shown = json!({
        "id": identity.id,
        "role": if custom.is_some() { "custom" } else { identity.role.as_str() },
        "roleId": custom.map(|role| &role.id),
        "createdAt": shown_time(identity.created_at),
        "updatedAt": shown_time(identity.updated_at),
        "identityId": identity.id,
        "orgId": identity.organization,
        "metadata": metadata_json(identity),
        "identity": {
            "id": identity.id,
            "name": identity.name,
            "hasDeleteProtection": identity.has_delete_protection,
            "authMethods": methods,
        },
    });
    if let Some(role) = custom {
        shown["customRole"] = json!({
            "id": role.id,
            "name": role.name,
            "slug": role.slug,
            "description": role.description,
            "permissions": [],
        });
    }
    shown
}

/// Returns the metadata. A key is the id of its entry, too.
fn metadata_json(identity: &MachineIdentity) -> Value {
    let entries = identity.metadata.iter();
    entries.map(|(key, value)| json!({ "id": key, "key": key, "value": value })).collect()
}
