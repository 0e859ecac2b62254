//! The authorization provider `legacy`: checks client types and the environment of a token.
//! It ignores roles.

use super::{ApiCall, WRONG_ENVIRONMENT};
use crate::{accounts::session::Session, base::claims::ClientType};

pub(super) fn authorize(session: &Session, call: &ApiCall<'_>) -> Result<(), String> {
    if let Some(scope) = session.environment() {
        if call.endpoint.environment.is_none() {
            return Err("The authorization token is scoped to a specific environment.".into());
        }
        if call.environment != Some(scope) {
            return Err(WRONG_ENVIRONMENT.into());
        }
    }
    let expected = call.endpoint.client_types;
    let has_client_type =
        session.client_types().iter().any(|has| expected.iter().any(|one| one.name() == has));
    if has_client_type {
        return Ok(());
    }
    Err(format!(
        "The authorization token does not have a valid client type for this call. ({} provided, {} expected)",
        python_list(session.client_types().iter().map(|name| format!("'{name}'"))),
        python_list(expected.iter().map(|one| python_name(*one)))
    ))
}

fn python_name(client_type: ClientType) -> String {
    format!("<ClientType.{client_type}: '{client_type}'>")
}

fn python_list(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(", "))
}
