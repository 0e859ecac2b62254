//! The form of a new token.

use maud::{Markup, html};
use serde_json::{Value, json};

use crate::{
    base::claims::ClientType,
    console::{
        layout::{as_form_command, field_error, form_token},
        request::FormFields,
        session::ConsoleUser,
    },
};

/// The id of the form, by which the script finds it.
const FORM_ID: &str = "new-token";
const TYPES_ERROR: &str = "new-token-types";
const EXPIRE_ERROR: &str = "new-token-expire";

/// The fields of the form as they were sent, and what is wrong with them.
pub(super) struct NewTokenForm {
    client_types: Vec<ClientType>,
    expire: String,
    types_error: &'static str,
    expire_error: &'static str,
}

/// The form at first.
impl Default for NewTokenForm {
    fn default() -> Self {
        Self {
            client_types: vec![ClientType::Api],
            expire: String::new(),
            types_error: "",
            expire_error: "",
        }
    }
}

impl NewTokenForm {
    /// Reads and checks a form. The API checks the permission.
    pub(super) fn read(form: &FormFields) -> Self {
        let is_chosen = |one: &ClientType| form.get(one.name()) == "on";
        let client_types: Vec<_> = ClientType::ALL.into_iter().filter(is_chosen).collect();
        let expire = form.get("expire").trim().to_owned();
        let is_number = expire.is_empty() || expire.parse::<i64>().is_ok_and(|number| number > 0);
        Self {
            types_error: if client_types.is_empty() { "Choose one at least." } else { "" },
            expire_error: if is_number { "" } else { "Write a number of seconds, such as 3600." },
            client_types,
            expire,
        }
    }

    /// Whether nothing is wrong with the fields.
    pub(super) const fn is_valid(&self) -> bool {
        self.types_error.is_empty() && self.expire_error.is_empty()
    }

    /// Returns the arguments of the call of the API.
    pub(super) fn arguments(&self) -> Value {
        let client_types: Vec<_> = self.client_types.iter().map(|one| one.name()).collect();
        let mut arguments = json!({ "client_types": client_types });
        if let Ok(seconds) = self.expire.parse::<i64>() {
            arguments["expire"] = seconds.into();
        }
        arguments
    }

    /// Returns the section with the form.
    pub(super) fn render(&self, user: &ConsoleUser, environment: &str) -> Markup {
        html! {
            section.narrow {
                h2 { "Create a token" }
                form id=(FORM_ID) method="post" action="/console/tokens/create" {
                    (form_token(user))
                    input type="hidden" name="environment" value=(environment);
                    (self.client_types())
                    label for="expire" { "Lifetime in seconds; empty for that of the section" }
                    input #expire name="expire" value=(self.expire) inputmode="numeric"
                        autocomplete="off" data-flag="--expire"
                        aria-invalid=[(!self.expire_error.is_empty()).then_some("true")]
                        aria-describedby=(EXPIRE_ERROR);
                    (field_error(EXPIRE_ERROR, self.expire_error))
                    button.main type="submit" { "Create" }
                }
                (as_form_command(FORM_ID, &command(environment), &self.flags()))
            }
        }
    }

    fn client_types(&self) -> Markup {
        html! {
            fieldset aria-describedby=(TYPES_ERROR) {
                legend { "Client types" }
                @for one in ClientType::ALL {
                    label.choice {
                        input type="checkbox" name=(one.name())
                            checked[self.client_types.contains(&one)]
                            data-flag={ "--" (one.name()) };
                        " " (one.name())
                    }
                }
                (field_error(TYPES_ERROR, self.types_error))
            }
        }
    }

    /// Returns the options of the command line, each after a space.
    fn flags(&self) -> String {
        let mut flags: String =
            self.client_types.iter().map(|one| format!(" --{}", one.name())).collect();
        if !self.expire.is_empty() && self.expire_error.is_empty() {
            flags.push_str(&format!(" --expire {}", self.expire));
        }
        flags
    }
}

fn command(environment: &str) -> String {
    format!("countersign token create --environment {environment}")
}
