//! Users, and the roles that they have.

use std::collections::{HashMap, HashSet};

use countersign_engine::{Revocation, RevocationTarget, UnixTime};

use super::{
    ASSIGNMENT, DELETED_HERE, DIFFERS, ExistingUser, INVALID_NAME, ImportAction, ImportPlanner,
    ImportValue, InsertOrder, USER, digest_of, is_valid_name,
};
use crate::{
    accounts::{check_username, password},
    import::{
        KindReport,
        source::{SourceAssignment, SourceContents, SourceUser},
    },
    store::moment,
};

/// The values of a user that may change, as they were imported.
struct ImportedUser {
    /// Digest of the name.
    name: String,
    /// Digest of the password hash.
    password: String,
    is_admin: bool,
}

impl ImportedUser {
    fn of(user: &SourceUser) -> Self {
        Self {
            name: digest_of(&[&user.username]),
            password: digest_of(&[usable_hash(user)]),
            is_admin: user.is_admin,
        }
    }

    /// Parses [`text`](Self::text).
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ').map(str::to_owned);
        let (name, password) = (parts.next()?, parts.next()?);
        Some(Self { name, password, is_admin: parts.next()? == "admin" })
    }

    fn text(&self) -> String {
        let Self { name, password, is_admin } = self;
        format!("{name} {password} {}", if *is_admin { "admin" } else { "user" })
    }
}

impl ImportPlanner<'_> {
    pub(super) fn plan_users(&mut self, users: &[SourceUser]) {
        let mut report = KindReport::of("users");
        let imported: HashMap<_, _> = self
            .existing
            .users
            .iter()
            .filter_map(|(name, user)| Some((user.source_id.clone()?, name.clone())))
            .collect();
        let ids: HashSet<_> = users.iter().map(|user| &user.id).collect();
        // Names at the last import of users that the source still has. Another user who now has
        // such a name may be the same person.
        let known_names: HashSet<_> = self
            .existing
            .imported
            .iter()
            .filter(|((kind, id), _)| kind == USER && ids.contains(id))
            .filter_map(|(_, values)| Some(ImportedUser::parse(values)?.name))
            .collect();
        for user in users {
            let base = self.imported(USER, &user.id).as_deref().and_then(ImportedUser::parse);
            let action = match (imported.get(&user.id), base) {
                (Some(name), Some(base)) => self.update_user(name, user, base),
                (None, Some(_)) => ImportAction::Skip(DELETED_HERE),
                _ if !self.existing.users.contains_key(&user.username)
                    && known_names.contains(&digest_of(&[&user.username])) =>
                {
                    ImportAction::Skip(DELETED_HERE)
                }
                _ if self.is_earlier_user_here(user, &ids) => ImportAction::Skip(EARLIER_USER),
                _ => self.add_user(user),
            };
            report.count(&user.username, action);
        }
        let mut imported: Vec<_> = imported.into_iter().collect();
        imported.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
        for (id, name) in imported.iter().filter(|(id, _)| !ids.contains(id)) {
            report.note_missing(name, self.imported(USER, id).is_some());
        }
        self.plan.report.kinds.push(report);
    }

    /// Whether the name of a user is that of an imported user here that the source has deleted.
    fn is_earlier_user_here(&self, user: &SourceUser, ids: &HashSet<&String>) -> bool {
        let here = self.existing.users.get(&user.username);
        let source_id = here.and_then(|here| here.source_id.as_ref());
        source_id.is_some_and(|id| !ids.contains(id))
    }

    fn add_user(&mut self, user: &SourceUser) -> ImportAction {
        let SourceUser { id, username, password_hash, auth_method, is_admin } = user;
        let reason = if !is_valid_name(username) {
            Some(INVALID_NAME)
        } else if check_username(username).is_err() {
            Some("skipped, because a user cannot have the name . or ..: rename it in the source")
        } else if self.existing.users.contains_key(username) {
            Some("skipped, because another user has this name here")
        } else {
            match auth_method.as_str() {
                "oidc" => None,
                "database" => (!password::is_supported(password_hash)).then_some(
                    "skipped, because the password hash has an unknown form: add the user here",
                ),
                _ => Some("skipped, because the authentication method is unknown"),
            }
        };
        if let Some(reason) = reason {
            return ImportAction::Skip(reason);
        }
        let texts = [&**username, usable_hash(user), auth_method].map(ImportValue::text);
        let mut row = Vec::from(texts);
        row.extend([ImportValue::flag(*is_admin), ImportValue::text(id)]);
        self.insert(InsertOrder::Users, row);
        let added = ExistingUser {
            password_hash: usable_hash(user).to_owned(),
            is_admin: *is_admin,
            source_id: Some(id.clone()),
        };
        self.existing.users.insert(username.clone(), added);
        self.usernames.insert(id.clone(), username.clone());
        self.record(USER, id, &ImportedUser::of(user).text());
        ImportAction::Add
    }

    /// Takes over the values of an imported user that changed in the source, and not here.
    fn update_user(&mut self, name: &str, user: &SourceUser, base: ImportedUser) -> ImportAction {
        self.usernames.insert(user.id.clone(), name.to_owned());
        if name != user.username {
            return ImportAction::Skip("renamed in the source, and kept as it is here");
        }
        let Some(here) = self.existing.users.get(name).cloned() else { return ImportAction::Keep };
        let password_here = digest_of(&[&here.password_hash]);
        let (mut next, mut action) = (ImportedUser::of(user), ImportAction::Keep);
        let mut ends_sessions = false;
        if next.password != base.password && next.password != password_here {
            if base.password == password_here {
                let statement =
                    "UPDATE countersign_user SET password_hash = $1 WHERE username = $2";
                let texts = [usable_hash(user), name].map(ImportValue::text);
                self.update(statement, texts.into());
                (action, ends_sessions) = (ImportAction::Change, true);
            } else {
                (action, next.password) = (ImportAction::Skip(DIFFERS), base.password);
            }
        }
        if next.is_admin != base.is_admin && next.is_admin != here.is_admin {
            let statement = "UPDATE countersign_user SET is_admin = $1 WHERE username = $2";
            let parameters = vec![ImportValue::flag(next.is_admin), ImportValue::text(name)];
            self.update(statement, parameters);
            (action, ends_sessions) = (ImportAction::Change, ends_sessions || here.is_admin);
        }
        if ends_sessions {
            self.end_sessions(name);
        }
        self.record(USER, &user.id, &next.text());
        action
    }

    /// Ends the sessions of a user whose password was changed, or whose rights were withdrawn, as
    /// the API does.
    fn end_sessions(&mut self, username: &str) {
        let end = self.settings.now.plus(1).plus(self.settings.leeway);
        let statement = "UPDATE countersign_user SET sessions_since = $1 WHERE username = $2";
        let parameters = vec![ImportValue::Number(Some(moment(end))), ImportValue::text(username)];
        self.update(statement, parameters);
        for issuer in self.existing.signers.iter().chain(&self.settings.issuer) {
            self.plan.revocations.push(sessions_before(end, issuer, username));
        }
    }

    pub(super) fn plan_assignments(&mut self, source: &SourceContents) {
        let mut report = KindReport::of("role assignments");
        let roles: HashMap<_, _> = source.roles.iter().map(|one| (&*one.id, &*one.name)).collect();
        let users: HashMap<_, _> =
            source.users.iter().map(|one| (&*one.id, &*one.username)).collect();
        let mut ids = HashSet::new();
        for SourceAssignment { user, environment, role } in &source.assignments {
            let (username, role) = (self.usernames.get(user).cloned(), roles.get(&**role).copied());
            let id = format!("{user}/{environment}/{}", role.unwrap_or_default());
            let shown = username.as_deref().or_else(|| users.get(&**user).copied());
            let shown = self.described(shown.unwrap_or(user), role.unwrap_or("?"), environment);
            let action = match (username, role) {
                (Some(username), Some(role)) => {
                    self.assign(&id, (username, environment.clone(), role.to_owned()))
                }
                _ => ImportAction::Skip(INCOMPLETE),
            };
            if report.count(&shown, action) {
                self.record(ASSIGNMENT, &id, "");
            }
            ids.insert(id);
        }
        let users: HashMap<_, _> = self.usernames.iter().map(|(id, name)| (name, id)).collect();
        for (username, environment, role) in &self.existing.assignments {
            let Some(user) = users.get(username) else { continue };
            let id = format!("{user}/{environment}/{role}");
            let was_imported = self.imported(ASSIGNMENT, &id).is_some();
            let shown = self.described(username, role, environment);
            report.note_missing(&shown, was_imported && !ids.contains(&id));
        }
        self.plan.report.kinds.push(report);
    }

    /// Describes an assignment, with the name of its environment if that is here.
    fn described(&self, username: &str, role: &str, environment: &str) -> String {
        let name = self.existing.environments.get(environment).map(|values| &*values.name);
        format!("{username} ({role} in {})", name.unwrap_or(environment))
    }

    /// Assigns a role, unless it was removed from the user here.
    fn assign(&mut self, id: &str, assignment: (String, String, String)) -> ImportAction {
        let (username, environment, role) = &assignment;
        if self.existing.assignments.contains(&assignment) {
            return ImportAction::Keep;
        }
        if !self.existing.environments.contains_key(environment)
            || !self.existing.roles.contains(role)
        {
            return ImportAction::Skip(INCOMPLETE);
        }
        if self.imported(ASSIGNMENT, id).is_some() {
            return ImportAction::Skip("skipped, because it was removed here");
        }
        let row = [username, environment, role].map(|text| ImportValue::text(text));
        self.insert(InsertOrder::Assignments, row.into());
        self.existing.assignments.insert(assignment);
        ImportAction::Add
    }
}

/// Returns the password hash of a user, or an empty one if no password matches it. Such a hash
/// locks the user in the source, or is that of a user of an OpenID provider.
fn usable_hash(user: &SourceUser) -> &str {
    if password::is_supported(&user.password_hash) { &user.password_hash } else { "" }
}

/// Reason to skip an assignment.
const INCOMPLETE: &str =
    "skipped, because the user, the role or the environment was not imported or is not here";
/// Reason to skip a user.
const EARLIER_USER: &str = "skipped, because an earlier user of this name, which the source has \
     deleted, is still here: delete that user here, then repeat the import";

fn sessions_before(issued_before: UnixTime, issuer: &str, username: &str) -> Revocation {
    let target = RevocationTarget::Subject {
        issuer: issuer.into(),
        subject: username.into(),
        issued_before,
    };
    Revocation { target, until: None }
}
