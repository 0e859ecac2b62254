//! Roles, projects and environments.

use std::collections::HashSet;

use super::{
    DELETED_HERE, ENVIRONMENT, INVALID_NAME, ImportAction, ImportValue, InsertOrder, PROJECT,
    Planner, ROLE, compare, digest_of, is_valid_name,
};
use crate::import::{
    KindReport,
    source::{EnvironmentValues, SourceEnvironment, SourceName},
};

impl Planner<'_> {
    pub(super) fn plan_roles(&mut self, roles: &[SourceName]) {
        let mut report = KindReport::of("roles");
        for SourceName { name, .. } in roles {
            let action = if self.existing.roles.contains(name) {
                ImportAction::Keep
            } else if self.imported(ROLE, name).is_some() {
                ImportAction::Skip(DELETED_HERE)
            } else if is_valid_name(name) {
                ImportAction::Add
            } else {
                ImportAction::Skip(INVALID_NAME)
            };
            if action == ImportAction::Add {
                self.insert(InsertOrder::Roles, vec![ImportValue::text(name)]);
                self.existing.roles.insert(name.clone());
            }
            if report.count(name, action) {
                self.record(ROLE, name, "");
            }
        }
        let names: HashSet<_> = roles.iter().map(|role| &role.name).collect();
        for name in self.existing.roles.iter().filter(|name| !names.contains(name)) {
            report.note_missing(name, self.imported(ROLE, name).is_some());
        }
        self.plan.report.kinds.push(report);
    }

    pub(super) fn plan_projects(&mut self, projects: &[SourceName]) {
        const TAKEN: &str = "skipped, because another project has this name here";
        let mut report = KindReport::of("projects");
        for SourceName { id, name } in projects {
            let base = self.imported(PROJECT, id);
            let here = self.existing.projects.get(id).map(|name| digest_of(&[name]));
            let digest = digest_of(&[name]);
            let refusal = if !is_valid_name(name) {
                Some(INVALID_NAME)
            } else {
                let mut taken = self.existing.projects.iter();
                taken.any(|(other, taken)| taken == name && other != id).then_some(TAKEN)
            };
            let action = compare(base.as_deref(), here.as_deref(), &digest).unless(refusal);
            let values = || vec![ImportValue::text(id), ImportValue::text(name)];
            match action {
                ImportAction::Add => self.insert(InsertOrder::Projects, values()),
                ImportAction::Change => {
                    self.update("UPDATE countersign_project SET name = $2 WHERE id = $1", values())
                }
                ImportAction::Keep | ImportAction::Skip(_) => {}
            }
            if action.writes() {
                self.existing.projects.insert(id.clone(), name.clone());
            }
            report.count(name, action);
            if action.writes() || here == Some(digest.clone()) {
                self.record(PROJECT, id, &digest);
            }
        }
        let ids: HashSet<_> = projects.iter().map(|project| &project.id).collect();
        for (id, name) in self.existing.projects.iter().filter(|(id, _)| !ids.contains(id)) {
            report.note_missing(name, self.imported(PROJECT, id).is_some());
        }
        self.plan.report.kinds.push(report);
    }

    pub(super) fn plan_environments(&mut self, environments: &[SourceEnvironment]) {
        let mut report = KindReport::of("environments");
        let place = |values: &EnvironmentValues| (values.project.clone(), values.name.clone());
        let mut names: HashSet<_> = self.existing.environments.values().map(place).collect();
        for environment in environments {
            let SourceEnvironment { id, values, .. } = environment;
            let here = self.existing.environments.get(id);
            // An id that was used here before belongs to a deleted environment.
            let was_used = here.is_none() && self.existing.environment_ids.contains(id);
            let base = self.imported(ENVIRONMENT, id).or_else(|| was_used.then(String::new));
            let is_taken = here.map(place) != Some(place(values)) && names.contains(&place(values));
            let refusal = self.environment_refusal(environment, is_taken);
            let (here, digest) = (here.map(digest_of_environment), digest_of_environment(values));
            let action = compare(base.as_deref(), here.as_deref(), &digest).unless(refusal);
            if action.writes() {
                self.write_environment(id, values, action);
                names.insert(place(values));
            }
            report.count(&values.name, action);
            if action.writes() || here == Some(digest.clone()) {
                self.record(ENVIRONMENT, id, &digest);
            }
        }
        let ids: HashSet<_> = environments.iter().map(|one| &one.id).collect();
        for (id, values) in self.existing.environments.iter().filter(|(id, _)| !ids.contains(id)) {
            report.note_missing(&values.name, self.imported(ENVIRONMENT, id).is_some());
        }
        self.plan.report.kinds.push(report);
    }

    /// Returns the reason not to write an environment.
    fn environment_refusal(
        &self,
        environment: &SourceEnvironment,
        is_taken: bool,
    ) -> Option<&'static str> {
        if environment.is_being_deleted {
            Some("skipped, because the source is deleting it")
        } else if !is_valid_name(&environment.values.name) {
            Some(INVALID_NAME)
        } else if !self.existing.projects.contains_key(&environment.values.project) {
            Some("skipped, because its project is not here")
        } else {
            is_taken.then_some("skipped, because its project has another one of this name here")
        }
    }

    fn write_environment(&mut self, id: &str, values: &EnvironmentValues, action: ImportAction) {
        let texts = [[id].as_slice(), &texts(values)].concat();
        let row = texts.into_iter().map(ImportValue::text).collect();
        if action == ImportAction::Add {
            self.insert(InsertOrder::EnvironmentIds, vec![ImportValue::text(id)]);
            self.insert(InsertOrder::Environments, row);
        } else {
            let statement = "UPDATE countersign_environment SET name = $2, project_id = $3, \
                             repo_url = $4, repo_branch = $5, description = $6, icon = $7 \
                             WHERE id = $1";
            self.update(statement, row);
        }
        self.existing.environment_ids.insert(id.to_owned());
        self.existing.environments.insert(id.to_owned(), values.clone());
    }
}

fn texts(values: &EnvironmentValues) -> [&str; 6] {
    let EnvironmentValues { name, project, repo_url, repo_branch, description, icon } = values;
    [name, project, repo_url, repo_branch, description, icon]
}

fn digest_of_environment(values: &EnvironmentValues) -> String {
    digest_of(&texts(values))
}
