//! [`ChangeRights`]: the changes that the page of the users offers. They are those that the
//! authorizer of the API allows.

use std::{cell::RefCell, collections::BTreeMap};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::console::{api_call::UserCalls, danger::DangerousChange, request::FormFields};

/// The changes that a user may make. Whether another user is concerned, or the own account, makes a
/// difference, and so does the environment of a role; other names do not.
pub(super) struct ChangeRights<'c> {
    calls: &'c UserCalls<'c>,
    /// The name of another user.
    other: &'c str,
    /// The name of a role.
    role: &'c str,
    own_changes: Vec<DangerousChange>,
    other_changes: Vec<DangerousChange>,
    /// What is known about changes of roles, by environment.
    roles: RefCell<BTreeMap<(RoleChange, String), bool>>,
}

/// A change of the roles of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RoleChange {
    Assign,
    Unassign,
}

/// The changes of one user that the page offers.
const CHANGES: [DangerousChange; 4] = [
    DangerousChange::GrantAdmin,
    DangerousChange::WithdrawAdmin,
    DangerousChange::SetPassword,
    DangerousChange::DeleteUser,
];

impl<'c> ChangeRights<'c> {
    /// Asks about changes of these users. `role` is the name of a role, if there is one.
    pub(super) fn of(calls: &'c UserCalls<'c>, users: &[&'c Value], role: &'c str) -> Self {
        let own = calls.user.session.username().unwrap_or_default();
        let mut names = users.iter().filter_map(|one| one["username"].as_str());
        let other = names.find(|name| *name != own).unwrap_or(own);
        let allowed = |name: &str| {
            let fields = FormFields::of("user", name);
            let is_allowed = |change: &DangerousChange| change.is_allowed(calls, &fields);
            CHANGES.into_iter().filter(is_allowed).collect()
        };
        let (own_changes, other_changes) = (allowed(own), allowed(other));
        Self { calls, other, role, own_changes, other_changes, roles: RefCell::default() }
    }

    /// Whether the user may make a change of this user.
    pub(super) fn has(&self, change: DangerousChange, username: &str) -> bool {
        let is_own = self.calls.user.session.username() == Some(username);
        let allowed = if is_own { &self.own_changes } else { &self.other_changes };
        allowed.contains(&change)
    }

    /// Whether the user may change roles in an environment.
    pub(super) fn has_role_change(&self, change: RoleChange, environment: &str) -> bool {
        let mut known = self.roles.borrow_mut();
        let is_allowed = || self.may_change_roles(change, environment);
        *known.entry((change, environment.to_owned())).or_insert_with(is_allowed)
    }

    fn may_change_roles(&self, change: RoleChange, environment: &str) -> bool {
        let name = utf8_percent_encode(self.other, NON_ALPHANUMERIC);
        let path = format!("/api/v2/role_assignment/{name}");
        let role = [("environment", environment), ("role", self.role)];
        let checked = match change {
            RoleChange::Assign => {
                let body = json!({ "environment": environment, "role": self.role });
                self.calls.check(Method::POST, &path, body)
            }
            RoleChange::Unassign => {
                let query = serde_urlencoded::to_string(role).unwrap_or_default();
                self.calls.check(Method::DELETE, &format!("{path}?{query}"), Value::Null)
            }
        };
        checked.is_ok()
    }
}
