//! Pages for administrators: one check before, and one frame around their content.

use http::{Response, StatusCode};
use maud::Markup;

use super::{
    ConsoleContext,
    error_page::ConsoleError,
    layout::{self, ConsolePage},
    session::ConsoleUser,
};
use crate::base::reply::Body;

/// A page that only administrators see.
pub(super) struct AdministratorPage {
    /// Its title.
    pub(super) title: &'static str,
    /// Its path in the navigation.
    pub(super) path: &'static str,
    /// What others may not do, for their error.
    pub(super) right: &'static str,
}

impl AdministratorPage {
    /// Checks that a user may see the page.
    ///
    /// # Errors
    /// The user is not an administrator.
    pub(super) fn check(
        &self,
        context: &ConsoleContext<'_>,
        user: &ConsoleUser,
    ) -> Result<(), ConsoleError> {
        require_administrator(context, user, self.right)
    }

    /// Returns the page with this content.
    pub(super) fn respond(
        &self,
        user: &ConsoleUser,
        status: StatusCode,
        content: &Markup,
    ) -> Response<Body> {
        let page = ConsolePage { title: self.title, active: self.path, user: Some(user) };
        layout::respond(status, &page, content)
    }
}

/// Checks that a user is an administrator. `right` is what others may not do, for their error.
///
/// # Errors
/// The user is not an administrator.
pub(super) fn require_administrator(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    right: &str,
) -> Result<(), ConsoleError> {
    if context.api.is_administrator(&user.session) {
        return Ok(());
    }
    Err(ConsoleError::Forbidden(format!("You may not {right}.")))
}
