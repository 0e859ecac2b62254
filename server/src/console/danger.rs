//! Changes that cannot be undone, or that decide who administers: each is a [`DangerousChange`].
//!
//! All of them are made in one way. The page of a change lists what stops working, and asks for the
//! name of its object. Both the page and its form need the right to make the change, and a recent
//! sign-in. The form confirms [what the page has shown](confirmation::ShownChange), once. Changes
//! that give access, and can be undone, [need only a recent sign-in](sign_in_again).

mod change_page;
mod confirmation;
mod identity_changes;
mod subject_revocation;
mod user_changes;

use http::{Response, StatusCode};
use maud::Markup;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) use self::subject_revocation::revoke_subject;
use self::{
    change_page::{ChangePage, FormRefusal},
    confirmation::ConfirmationError,
};
use super::{
    ConsoleRequest,
    administrator_page::require_administrator,
    api_call::UserCalls,
    error_page::{CallRefusal, ConsoleError},
    request::{self, FormFields},
    see_other,
    sign_in::redirect_to_confirmation,
};
use crate::base::{printable::printable, reply::Body};

/// Prefix of the paths of the changes.
pub(super) const PATH: &str = "/console/danger/";
/// The field of the name that confirms a change.
const TYPED: &str = "typed";
/// The field of what the page has shown.
const SHOWN: &str = "shown";

/// Changes that give access and can be undone, and the page of each.
const ACCESS_CHANGES: [(&str, &str); 4] = [
    ("/console/users/add", "/console/users"),
    ("/console/users/assign", "/console/users"),
    ("/console/users/unassign", "/console/users"),
    ("/console/tokens/create", "/console/tokens"),
];

/// A change that needs a recent sign-in, and the name of what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DangerousChange {
    DeleteUser,
    SetPassword,
    GrantAdmin,
    WithdrawAdmin,
    /// Revokes all tokens of a subject.
    RevokeSubject,
    DeleteIdentity,
    /// Deletes a login method of an identity.
    DetachMethod,
    /// Revokes a client secret of an identity.
    RevokeSecret,
}

impl DangerousChange {
    const ALL: [Self; 8] = [
        Self::DeleteUser,
        Self::SetPassword,
        Self::GrantAdmin,
        Self::WithdrawAdmin,
        Self::RevokeSubject,
        Self::DeleteIdentity,
        Self::DetachMethod,
        Self::RevokeSecret,
    ];

    /// Returns the end of its path.
    const fn name(self) -> &'static str {
        match self {
            Self::DeleteUser => "delete-user",
            Self::SetPassword => "set-password",
            Self::GrantAdmin => "grant-admin",
            Self::WithdrawAdmin => "withdraw-admin",
            Self::RevokeSubject => "revoke-subject",
            Self::DeleteIdentity => "delete-identity",
            Self::DetachMethod => "detach-method",
            Self::RevokeSecret => "revoke-secret",
        }
    }

    /// Returns its path.
    pub(super) fn path(self) -> String {
        format!("{PATH}{}", self.name())
    }

    /// Returns the names of the fields that select the object of the change.
    const fn targets(self) -> &'static [&'static str] {
        match self {
            Self::DeleteUser | Self::SetPassword | Self::GrantAdmin | Self::WithdrawAdmin => {
                &["user"]
            }
            Self::RevokeSubject => &["section", "subject"],
            Self::DeleteIdentity => &["identity"],
            Self::DetachMethod => &["identity", "method"],
            Self::RevokeSecret => &["identity", "secret"],
        }
    }

    /// Returns the address of its page, with these values of its [`targets`](Self::targets).
    pub(super) fn address(self, targets: &[&str]) -> String {
        let encode = |value| utf8_percent_encode(value, NON_ALPHANUMERIC);
        let pairs = self.targets().iter().zip(targets);
        let pairs: Vec<_> =
            pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
        format!("{}?{}", self.path(), pairs.join("&"))
    }

    fn address_of(self, fields: &FormFields) -> String {
        let targets: Vec<_> = self.targets().iter().map(|name| fields.get(name)).collect();
        self.address(&targets)
    }

    fn of(name: &str) -> Result<Self, ConsoleError> {
        let found = Self::ALL.into_iter().find(|change| change.name() == name);
        found.ok_or(ConsoleError::NotFound)
    }

    /// Checks that the user may make the change.
    fn check_permission(
        self,
        calls: &UserCalls<'_>,
        fields: &FormFields,
    ) -> Result<(), ConsoleError> {
        let right = match self {
            Self::DeleteUser | Self::SetPassword | Self::GrantAdmin | Self::WithdrawAdmin => {
                return user_changes::check_permission(calls, self, fields);
            }
            Self::RevokeSubject => "revoke the tokens of others",
            Self::DeleteIdentity | Self::DetachMethod | Self::RevokeSecret => {
                "administer machine identities"
            }
        };
        require_administrator(calls.context, calls.user, right)
    }

    /// Whether the user may make the change. The page of a refused change is not offered.
    pub(super) fn is_allowed(self, calls: &UserCalls<'_>, fields: &FormFields) -> bool {
        self.check_permission(calls, fields).is_ok()
    }

    async fn preview(
        self,
        calls: &UserCalls<'_>,
        fields: &FormFields,
    ) -> Result<ChangePreview, ConsoleError> {
        match self {
            Self::DeleteUser | Self::SetPassword | Self::GrantAdmin | Self::WithdrawAdmin => {
                user_changes::preview(calls, self, fields.get("user")).await
            }
            Self::RevokeSubject => subject_revocation::preview(calls, fields),
            Self::DeleteIdentity | Self::DetachMethod | Self::RevokeSecret => {
                identity_changes::preview(calls, self, fields).await
            }
        }
    }

    async fn make(self, calls: &UserCalls<'_>, fields: &FormFields) -> Result<(), ConsoleError> {
        match self {
            Self::DeleteUser | Self::SetPassword | Self::GrantAdmin | Self::WithdrawAdmin => {
                user_changes::make(calls, self, fields).await
            }
            Self::RevokeSubject => subject_revocation::make(calls, fields).await,
            Self::DeleteIdentity | Self::DetachMethod | Self::RevokeSecret => {
                identity_changes::make(calls, self, fields).await
            }
        }
    }
}

/// What the page of a [`DangerousChange`] shows.
struct ChangePreview {
    /// The change in a few words.
    title: String,
    /// What stops working, and for how many.
    consequences: Vec<String>,
    /// The name that confirms the change.
    name: String,
    /// The object of the change as it is now. It is not shown.
    state: String,
    /// Further fields of the form.
    inputs: Markup,
    /// The text of its button.
    button: &'static str,
    /// The page to return to without the change.
    back: String,
    /// The page after the change.
    done: String,
    /// The command line that does the same.
    command: String,
}

/// Returns the page of the change with this name, or asks for a sign-in first.
///
/// # Errors
/// The change or its target does not exist, or the user may not make it.
pub(super) async fn page(
    calls: &UserCalls<'_>,
    name: &str,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let (change, fields) = (DangerousChange::of(name)?, request::query(request));
    change.check_permission(calls, &fields)?;
    if !calls.user.is_recent(calls.context) {
        return Ok(redirect_to_confirmation(&change.address_of(&fields)));
    }
    let preview = change.preview(calls, &fields).await?;
    let page = ChangePage { calls, change, fields: &fields, preview: &preview };
    Ok(page.respond(calls.user.stored.confirmations, &FormRefusal::none()))
}

/// Makes the change with this name, if the form confirms what its page has shown, and has the name
/// of its object.
///
/// # Errors
/// As [`page`], or the change fails.
pub(super) async fn make(
    calls: &UserCalls<'_>,
    name: &str,
    form: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    let change = DangerousChange::of(name)?;
    change.check_permission(calls, form)?;
    if !calls.user.is_recent(calls.context) {
        return Ok(redirect_to_confirmation(&change.address_of(form)));
    }
    let preview = change.preview(calls, form).await?;
    let page = ChangePage { calls, change, fields: form, preview: &preview };
    let earlier = calls.user.stored.confirmations;
    if let Err(error) = page.shown(earlier).check(&calls.user.id, form.get(SHOWN)) {
        return Ok(page.respond(earlier, &FormRefusal::from(error)));
    }
    let typed = form.get(TYPED);
    let is_name = typed == preview.name || typed == printable(&preview.name);
    if typed.is_empty() || !is_name {
        let message = "The typed name is another one: nothing was changed.";
        return Ok(page.respond(earlier, &FormRefusal::new(StatusCode::BAD_REQUEST, message)));
    }
    if !calls.user.count_confirmation(calls.context, earlier).await? {
        // The page has the number after the one that was meanwhile.
        return Ok(page.respond(earlier + 1, &FormRefusal::from(ConfirmationError::Used)));
    }
    match change.make(calls, form).await {
        Ok(()) => Ok(see_other(&preview.done)),
        Err(ConsoleError::Call(CallRefusal { status, message, .. }))
            if status.is_client_error() && status != StatusCode::NOT_FOUND =>
        {
            Ok(page.respond(earlier + 1, &FormRefusal::new(status, &message)))
        }
        Err(error) => Err(error),
    }
}

/// Returns the redirect to a sign-in that this change needs before; `None` if it needs none, or
/// the last one is recent. Where the provider does not report the time of sign-ins, none could be
/// recent, and the change is made without one.
pub(super) fn sign_in_again(calls: &UserCalls<'_>, path: &str) -> Option<Response<Body>> {
    let (_, page) = ACCESS_CHANGES.iter().find(|(change, _)| *change == path)?;
    let user = calls.user;
    let needs_sign_in = user.has_known_sign_in() && !user.is_recent(calls.context);
    needs_sign_in.then(|| redirect_to_confirmation(page))
}

/// Returns a number of things in words.
fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_addresses_of_their_own() {
        for change in DangerousChange::ALL {
            assert_eq!(DangerousChange::of(change.name()), Ok(change));
        }
        assert_eq!(DangerousChange::of("other"), Err(ConsoleError::NotFound));
        let address = DangerousChange::RevokeSubject.address(&["a_b", "x&y=\"é"]);
        let expected = "/console/danger/revoke-subject?section=a%5Fb&subject=x%26y%3D%22%C3%A9";
        assert_eq!(address, expected);
        assert_eq!(request::return_path(&address), address);
        let query = FormFields::parse(address.split_once('?').unwrap().1.as_bytes()).unwrap();
        assert_eq!(DangerousChange::RevokeSubject.address_of(&query), address);
    }
}
