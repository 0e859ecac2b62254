//! What a user needs to open a page, so that the navigation has no page that is refused.

use super::{ConsoleContext, STATUS};
use crate::{accounts::session::Session, api::inmanta, base::claims::ROLES_CLAIM};

/// What a user needs to open a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageRight {
    /// To read the state of the server.
    Status,
    /// To list the tokens of an environment.
    Tokens,
    /// To list users.
    Users,
    /// To be an administrator.
    Administration,
}

impl PageRight {
    const ALL: [Self; 4] = [Self::Status, Self::Tokens, Self::Users, Self::Administration];

    fn is_held(self, context: &ConsoleContext<'_>, session: &Session) -> bool {
        let (method, path) = match self {
            Self::Status => STATUS,
            Self::Tokens => {
                return may_list_tokens(context, session, None)
                    || own_environments(session)
                        .any(|id| may_list_tokens(context, session, Some(id)));
            }
            Self::Users => ("GET", "/api/v2/user"),
            Self::Administration => return context.api.is_administrator(session),
        };
        inmanta::may_call(&context.api, session, method, path)
    }
}

/// The [`PageRight`]s that a user has.
#[derive(Clone, Copy, Default)]
pub(super) struct UserRights([bool; PageRight::ALL.len()]);

impl UserRights {
    /// Asks the authorizer of the API.
    pub(super) fn of(context: &ConsoleContext<'_>, session: &Session) -> Self {
        Self(PageRight::ALL.map(|right| right.is_held(context, session)))
    }

    /// Whether the user has this right.
    pub(super) const fn has(self, right: PageRight) -> bool {
        self.0[right as usize]
    }
}

/// Whether a user may list the tokens of an environment, or without one, those of each.
pub(super) fn may_list_tokens(
    context: &ConsoleContext<'_>,
    session: &Session,
    environment: Option<&str>,
) -> bool {
    let call = ("GET", "/api/v2/environment_auth");
    inmanta::may_call_within(&context.api, session, environment, call)
}

/// Returns the environments that a token names: that of its scope, and those of its roles.
fn own_environments(session: &Session) -> impl Iterator<Item = &str> {
    let roles = session.claim(ROLES_CLAIM).and_then(|roles| roles.as_object());
    let of_roles = roles.into_iter().flat_map(|roles| roles.keys().map(String::as_str));
    session.environment().into_iter().chain(of_roles)
}
