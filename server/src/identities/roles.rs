//! The roles of machine identities, which their access tokens contain.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The role of an identity without any.
pub const NO_ACCESS: &str = "no-access";
/// Claim with the role in the organization, and that with the roles in projects by project.
const ROLE_CLAIMS: [&str; 2] = ["orgRole", "projectRoles"];
/// Maximum size of the roles in projects, in bytes of JSON: every token contains them.
pub const MAX_PROJECT_ROLES: usize = 4096;

/// The roles of an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityRoles {
    /// Slug of its role in the organization.
    pub organization: String,
    /// Slugs of its roles in projects, by the id of the project.
    pub projects: BTreeMap<String, Vec<String>>,
}

impl IdentityRoles {
    /// Whether a role of `before` is absent.
    #[must_use]
    pub fn lack_one_of(&self, before: &Self) -> bool {
        let is_kept = |(project, roles): (&String, &Vec<String>)| {
            let now = self.projects.get(project).map(Vec::as_slice).unwrap_or_default();
            roles.iter().all(|role| role == NO_ACCESS || now.contains(role))
        };
        let (now, role) = (&self.organization, &before.organization);
        (now != role && role != NO_ACCESS) || !before.projects.iter().all(is_kept)
    }

    /// Whether the tokens of the identity have room for its roles.
    #[must_use]
    pub fn fit_into_a_token(&self) -> bool {
        serde_json::to_vec(&self.projects).is_ok_and(|json| json.len() <= MAX_PROJECT_ROLES)
    }

    pub(super) fn add_to(&self, claims: &mut Value) {
        let [organization, projects] = ROLE_CLAIMS;
        claims[organization] = self.organization.as_str().into();
        claims[projects] = self.projects.iter().map(|(id, roles)| (id, roles.as_slice())).collect();
    }

    pub(super) fn read(claims: &Map<String, Value>) -> Option<Self> {
        let [organization, projects] = ROLE_CLAIMS;
        let projects = serde_json::from_value(claims.get(projects)?.clone()).ok()?;
        Some(Self { organization: claims.get(organization)?.as_str()?.to_owned(), projects })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(organization: &str, projects: &[(&str, &[&str])]) -> IdentityRoles {
        let owned = |roles: &[&str]| roles.iter().map(|&role| role.to_owned()).collect();
        IdentityRoles {
            organization: organization.into(),
            projects: projects.iter().map(|(id, roles)| ((*id).to_owned(), owned(roles))).collect(),
        }
    }

    #[test]
    fn lost_role_is_found() {
        let before = roles("member", &[("p", &["admin", "ops"]), ("q", &["no-access"])]);
        let lacks = |organization, projects| roles(organization, projects).lack_one_of(&before);
        assert!(!lacks("member", &[("p", &["ops", "admin", "more"])]));
        assert!(lacks("admin", &[("p", &["admin", "ops"])]), "another role replaces it");
        assert!(lacks("member", &[("p", &["ops"])]));
        assert!(lacks("member", &[("q", &["admin", "ops"])]));
        assert!(!roles("admin", &[]).lack_one_of(&roles("no-access", &[])));
    }

    #[test]
    fn roles_in_projects_are_limited() {
        let slug = "r".repeat(MAX_PROJECT_ROLES - r#"{"p":[""]}"#.len());
        assert!(roles("", &[("p", &[&slug])]).fit_into_a_token());
        assert!(!roles("", &[("p", &[&format!("{slug}r")])]).fit_into_a_token());
    }
}
