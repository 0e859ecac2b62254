//! What a user needs to open a page, so that the navigation has no page that is refused.

use super::{ConsoleContext, STATUS};
use crate::{accounts::session::Session, api::inmanta};

/// What a user needs to open a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageRight {
    /// To read the state of the server.
    Status,
    /// To list environments.
    Environments,
    /// To list users.
    Users,
    /// To be an administrator.
    Administration,
}

impl PageRight {
    const ALL: [Self; 4] = [Self::Status, Self::Environments, Self::Users, Self::Administration];

    fn is_held(self, context: &ConsoleContext<'_>, session: &Session) -> bool {
        let (method, path) = match self {
            Self::Status => STATUS,
            Self::Environments => ("GET", "/api/v2/environment"),
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
