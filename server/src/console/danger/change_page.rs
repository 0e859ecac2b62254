//! The page of a change: its consequences, and the form that confirms it.

use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ChangePreview, DangerousChange, SHOWN, TYPED,
    confirmation::{ConfirmationError, LineChange, ShownChange},
};
use crate::{
    base::{printable::printable, reply::Body},
    console::{
        api_call::UserCalls,
        layout::{self, ConsolePage, as_command, form_token, refusal},
        request::FormFields,
    },
};

/// Why a form was not accepted, for the page that is shown again.
pub(super) struct FormRefusal {
    status: StatusCode,
    /// Empty for a page that is opened.
    message: String,
    /// The differences from the page of the form.
    changes: Vec<LineChange>,
}

impl FormRefusal {
    /// A page that is opened.
    pub(super) fn none() -> Self {
        Self::new(StatusCode::OK, "")
    }

    /// Creates a refusal.
    pub(super) fn new(status: StatusCode, message: &str) -> Self {
        Self { status, message: message.to_owned(), changes: Vec::new() }
    }
}

impl From<ConfirmationError> for FormRefusal {
    fn from(error: ConfirmationError) -> Self {
        let refusal = Self::new(error.status(), error.message());
        match error {
            ConfirmationError::Changed(changes) => Self { changes, ..refusal },
            ConfirmationError::Foreign | ConfirmationError::Used => refusal,
        }
    }
}

/// The page of a [`DangerousChange`].
pub(super) struct ChangePage<'p> {
    pub(super) calls: &'p UserCalls<'p>,
    pub(super) change: DangerousChange,
    /// The fields of its query or form.
    pub(super) fields: &'p FormFields,
    pub(super) preview: &'p ChangePreview,
}

impl ChangePage<'_> {
    /// Returns what it shows after this number of confirmations in the session.
    pub(super) fn shown(&self, earlier: u64) -> ShownChange {
        let address = self.change.address_of(self.fields);
        ShownChange::new(&self.calls.user.id, address, earlier, self.preview)
    }

    /// Returns the page after this number of confirmations in the session.
    pub(super) fn respond(&self, earlier: u64, refused: &FormRefusal) -> Response<Body> {
        let Self { calls, change, fields, preview } = self;
        let ChangePreview { title, consequences, name, inputs, button, back, command, .. } =
            preview;
        let user = calls.user;
        let content = html! {
            section.notice {
                h1 { (printable(title)) }
                (refusal(&refused.message))
                (differences(&refused.changes))
                ul { @for one in consequences { li { (printable(one)) } } }
                form.danger method="post" action=(change.path()) {
                    (form_token(user))
                    input type="hidden" name=(SHOWN) value=(self.shown(earlier).seal(&user.id));
                    @for target in change.targets() {
                        input type="hidden" name=(target) value=(fields.get(target));
                    }
                    (inputs)
                    label for="typed" { "Type " strong { (printable(name)) } " to confirm" }
                    input #typed name=(TYPED) autocomplete="off" autocapitalize="none"
                        spellcheck="false" required;
                    p { button type="submit" { (button) } }
                }
                p { a href=(back) { "Back, without a change" } }
                (as_command(command))
            }
        };
        let page = ConsolePage { title: button, active: "", user: Some(user) };
        layout::respond(refused.status, &page, &content)
    }
}

/// Returns the differences between the page of a form and that of now.
fn differences(changes: &[LineChange]) -> Markup {
    html! {
        @if !changes.is_empty() {
            ul {
                @for change in changes {
                    @match change {
                        LineChange::Added(line) => li { "Now: " (printable(line)) },
                        LineChange::Removed(line) => li { "Not any more: " (printable(line)) },
                    }
                }
            }
        }
    }
}
