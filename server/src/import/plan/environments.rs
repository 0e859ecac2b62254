//! Roles, projects and environments.

use std::collections::{HashMap, HashSet};

use super::{
    DELETED_HERE, ENVIRONMENT, INVALID_NAME, ImportAction, ImportPlanner, ImportValue, InsertOrder,
    PROJECT, ROLE, compare, digest_of, is_valid_name, without_a_free_name,
};
use crate::import::{
    KindReport,
    source::{EnvironmentValues, SourceEnvironment, SourceName},
};

impl ImportPlanner<'_> {
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
        let held: HashMap<_, _> = self.existing.projects.clone().into_iter().collect();
        let action_of = |this: &Self, SourceName { id, name }: &SourceName| {
            let here = this.existing.projects.get(id).map(|name| digest_of(&[name]));
            let refusal = (!is_valid_name(name)).then_some(INVALID_NAME);
            let base = this.imported(PROJECT, id);
            compare(base.as_deref(), here.as_deref(), &digest_of(&[name])).unless(refusal)
        };
        let wanted = projects.iter().filter(|one| action_of(self, one).writes());
        let wanted = wanted.map(|one| (one.id.clone(), one.name.clone())).collect();
        let refused = without_a_free_name(&held, &wanted);
        for project in projects {
            let SourceName { id, name } = project;
            let taken = refused.contains(id).then_some(TAKEN);
            let action = action_of(self, project).unless(taken);
            let values = || vec![ImportValue::text(id), ImportValue::text(name)];
            match action {
                ImportAction::Add => self.insert(InsertOrder::Projects, values()),
                ImportAction::Change => {
                    self.release("UPDATE countersign_project SET name = id WHERE id = $1", id);
                    self.update("UPDATE countersign_project SET name = $2 WHERE id = $1", values());
                }
                ImportAction::Keep | ImportAction::Skip(_) => {}
            }
            if action.writes() {
                self.existing.projects.insert(id.clone(), name.clone());
            }
            report.count(name, action);
            if self.existing.projects.get(id) == Some(name) {
                self.record(PROJECT, id, &digest_of(&[name]));
            }
        }
        let ids: HashSet<_> = projects.iter().map(|project| &project.id).collect();
        for (id, name) in self.existing.projects.iter().filter(|(id, _)| !ids.contains(id)) {
            report.note_missing(name, self.imported(PROJECT, id).is_some());
        }
        self.plan.report.kinds.push(report);
    }

    pub(super) fn plan_environments(&mut self, environments: &[SourceEnvironment]) {
        const TAKEN: &str = "skipped, because its project has another one of this name here";
        let mut report = KindReport::of("environments");
        let place = |values: &EnvironmentValues| (values.project.clone(), values.name.clone());
        let held = self.existing.environments.iter();
        let held = held.map(|(id, values)| (id.clone(), place(values))).collect();
        let wanted = environments.iter().filter(|one| self.environment_action(one).writes());
        let wanted = wanted.map(|one| (one.id.clone(), place(&one.values))).collect();
        let refused = without_a_free_name(&held, &wanted);
        for environment in environments {
            let SourceEnvironment { id, values, .. } = environment;
            let taken = refused.contains(id).then_some(TAKEN);
            let action = self.environment_action(environment).unless(taken);
            if action.writes() {
                self.write_environment(id, values, action);
            }
            report.count(&values.name, action);
            if self.existing.environments.get(id) == Some(values) {
                self.record(ENVIRONMENT, id, &digest_of_environment(values));
            }
        }
        let ids: HashSet<_> = environments.iter().map(|one| &one.id).collect();
        for (id, values) in self.existing.environments.iter().filter(|(id, _)| !ids.contains(id)) {
            report.note_missing(&values.name, self.imported(ENVIRONMENT, id).is_some());
        }
        self.plan.report.kinds.push(report);
    }

    /// Returns what happens to an environment, if its name is free.
    fn environment_action(&self, environment: &SourceEnvironment) -> ImportAction {
        let SourceEnvironment { id, values, .. } = environment;
        let here = self.existing.environments.get(id).map(digest_of_environment);
        // An id that was used here before belongs to a deleted environment.
        let was_used = here.is_none() && self.existing.environment_ids.contains(id);
        let base = self.imported(ENVIRONMENT, id).or_else(|| was_used.then(String::new));
        compare(base.as_deref(), here.as_deref(), &digest_of_environment(values))
            .unless(self.environment_refusal(environment))
    }

    /// Returns the reason not to write an environment.
    fn environment_refusal(&self, environment: &SourceEnvironment) -> Option<&'static str> {
        if environment.is_being_deleted {
            Some("skipped, because the source is deleting it")
        } else if !is_valid_name(&environment.values.name) {
            Some(INVALID_NAME)
        } else if !self.existing.projects.contains_key(&environment.values.project) {
            Some("skipped, because its project is not here")
        } else {
            None
        }
    }

    fn write_environment(&mut self, id: &str, values: &EnvironmentValues, action: ImportAction) {
        let texts = [[id].as_slice(), &texts(values)].concat();
        let row = texts.into_iter().map(ImportValue::text).collect();
        if action == ImportAction::Add {
            self.insert(InsertOrder::EnvironmentIds, vec![ImportValue::text(id)]);
            self.insert(InsertOrder::Environments, row);
        } else {
            let release = "UPDATE countersign_environment SET name = id WHERE id = $1";
            self.release(release, id);
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
