//! The authorization provider `legacy`: checks client types and the environment of a token.
//! It ignores roles.

use uuid::Uuid;

use super::{
    Denial, Principal,
    endpoints::{Endpoint, EnvironmentScope, FoundEndpoint},
};
use crate::base::claims::ClientType;

/// Authorizes a call.
pub(super) fn authorize(
    principal: &(impl Principal + ?Sized),
    call: &FoundEndpoint<'_>,
) -> Result<(), Denial<'static>> {
    let endpoint = call.endpoint.ok_or(Denial::UnknownEndpoint)?;
    if let Some(scope) = principal.environment() {
        if endpoint.takes_scoped_tokens {
            return Ok(());
        }
        match &endpoint.environment {
            EnvironmentScope::Global => return Err(Denial::ScopedToken),
            EnvironmentScope::Any => {}
            EnvironmentScope::Parameter(name) => {
                let named = call.parameters.get(&**name).and_then(|value| value.as_str());
                if !named.is_some_and(|named| is_same_environment(named, scope)) {
                    return Err(Denial::OtherEnvironment);
                }
            }
        }
    }
    let client_types = principal.client_types();
    let is_accepted = |one: &ClientType| client_types.contains(&one.name());
    if endpoint.client_types.iter().any(is_accepted) {
        Ok(())
    } else {
        Err(Denial::ClientType(client_type_message(&client_types, endpoint)))
    }
}

/// Whether two texts name the same environment. Its id is a UUID, whose letters have no case.
fn is_same_environment(one: &str, other: &str) -> bool {
    match (Uuid::parse_str(one), Uuid::parse_str(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn client_type_message(provided: &[&str], endpoint: &Endpoint) -> String {
    format!(
        "The authorization token does not have a valid client type for this call. ({} provided, {} \
         expected)",
        python_list(provided.iter().map(|name| format!("'{name}'"))),
        python_list(endpoint.client_types.iter().map(|one| python_name(*one)))
    )
}

fn python_name(client_type: ClientType) -> String {
    format!("<ClientType.{client_type}: '{client_type}'>")
}

fn python_list(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(", "))
}
