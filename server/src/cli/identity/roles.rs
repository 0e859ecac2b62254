//! Roles of identities in projects, and the roles that exist.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::IdentityClient;
use crate::cli::{
    self, CommandError,
    client::ApiCall,
    table::{display_value, print_list},
};

impl IdentityClient {
    /// Sets the roles of an identity in a project, of which it may not be a member yet.
    pub(super) fn assign(
        &self,
        identity: &str,
        project: &str,
        roles: &[String],
    ) -> Result<(), CommandError> {
        let (id, project_id) = (self.id(identity)?, self.0.project_id(project)?);
        let path = ["workspace", &project_id, "identity-memberships", &id];
        let body: Value = roles.iter().map(|role| json!({ "role": role })).collect();
        let body = json!({ "roles": body });
        let call = match self.0.call_whole(ApiCall::get(&path)) {
            Ok(_) => ApiCall::patch(&path, body),
            Err(error) if error.status == Some(StatusCode::NOT_FOUND) => ApiCall::post(&path, body),
            Err(error) => return Err(error.into()),
        };
        self.send(call)?;
        Ok(cli::print(format_args!("{identity} is {} in project {project}.", roles.join(", ")))?)
    }

    /// Returns the projects of an identity, each with its roles.
    pub(super) fn memberships(&self, id: &str) -> Result<Value, CommandError> {
        let path = ["identities", id, "identity-memberships"];
        let listed = self.call(Method::GET, &path, None)?;
        let memberships = listed["identityMemberships"].as_array().into_iter().flatten();
        let shown = memberships.map(|membership| {
            json!({
                "id": membership["project"]["id"],
                "name": membership["project"]["name"],
                "roles": role_names(&membership["roles"]),
            })
        });
        Ok(shown.collect())
    }

    pub(super) fn unassign(&self, identity: &str, project: &str) -> Result<(), CommandError> {
        let (id, project_id) = (self.id(identity)?, self.0.project_id(project)?);
        let path = ["workspace", &project_id, "identity-memberships", &id];
        self.send(ApiCall::delete(&path))?;
        Ok(cli::print(format_args!("{identity} has no role in project {project}."))?)
    }

    /// Adds a role to a project, or to the organization.
    pub(super) fn add_role(&self, slug: &str, project: Option<&str>) -> Result<(), CommandError> {
        let (owner, id) = self.owner(project)?;
        let body = json!({ "slug": slug, "name": slug });
        self.call(Method::POST, &[owner, &id, "roles"], Some(body))?;
        Ok(cli::print(format_args!("Role {slug} is added."))?)
    }

    pub(super) fn print_roles(
        &self,
        project: Option<&str>,
        as_json: bool,
    ) -> Result<(), CommandError> {
        let (owner, id) = self.owner(project)?;
        let mut answer = self.call(Method::GET, &[owner, &id, "roles"], None)?;
        let roles = match project {
            Some(_) => answer["roles"].take(),
            None => answer["data"]["roles"].take(),
        };
        Ok(print_list(&roles, &[("ROLE", "slug"), ("NAME", "name")], as_json)?)
    }

    /// Returns the path and the id of the owner of roles.
    fn owner(&self, project: Option<&str>) -> Result<(&'static str, String), CommandError> {
        Ok(match project {
            Some(project) => ("projects", self.0.project_id(project)?),
            None => ("organization", display_value(&self.organizations()?[0]["id"])),
        })
    }
}

/// Prints the roles in projects.
pub(super) fn print(projects: &Value) -> Result<(), CommandError> {
    for project in projects.as_array().into_iter().flatten() {
        let roles = project["roles"].as_array().into_iter().flatten().map(display_value);
        let (name, roles) = (display_value(&project["name"]), roles.collect::<Vec<_>>().join(", "));
        cli::print(format_args!("roles in project {name}: {roles}"))?;
    }
    Ok(())
}

/// Returns the names of assigned roles: of a built-in one, or of one that was added.
fn role_names(roles: &Value) -> Value {
    let name = |role: &Value| {
        let custom = &role["customRoleSlug"];
        if custom.is_string() { custom.clone() } else { role["role"].clone() }
    };
    roles.as_array().into_iter().flatten().map(name).collect()
}
