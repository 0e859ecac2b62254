//! Environments. Somebody else knows what is in them; here they are what tokens and roles
//! are scoped to.

use http::Response;
use serde_json::{Value, json};

use super::{
    Context, data, done,
    fault::Fault,
    request::OfEnvironments,
    tokens::{random_uuid, withdraw},
};
use crate::{
    http::Body,
    store::{
        StoreFault,
        environments::{Deletion, Environment},
    },
};

pub(super) async fn answer(
    context: &Context<'_>,
    asked: OfEnvironments,
) -> Result<Response<Body>, Fault> {
    let store = &context.users.store;
    match asked {
        OfEnvironments::List => {
            Ok(data(&store.environments().await?.iter().map(shown_environment).collect()))
        }
        OfEnvironments::Get { id } => match store.environment(&id).await? {
            Some(environment) => Ok(data(&shown_environment(&environment))),
            None => Err(no_such_environment(&id)),
        },
        OfEnvironments::Create { name, id, project_id } => {
            create(context, name, id, project_id).await
        }
        OfEnvironments::Delete { id } => delete(context, &id).await,
    }
}

async fn create(
    context: &Context<'_>,
    name: String,
    id: Option<String>,
    project_id: Option<String>,
) -> Result<Response<Body>, Fault> {
    /// The project of environments that were not said to have one.
    const NO_PROJECT: &str = "00000000-0000-0000-0000-000000000000";
    let id = id.map_or_else(|| random_uuid().map(|id| id.to_string()), Ok)?;
    let environment =
        Environment { id, name, project_id: project_id.unwrap_or_else(|| NO_PROJECT.into()) };
    match context.users.store.add_environment(environment.clone()).await {
        Ok(()) => Ok(data(&shown_environment(&environment))),
        Err(StoreFault::Exists) => {
            let Environment { id, name, project_id } = environment;
            Err(Fault::Conflict(format!(
                "An environment with id {id}, or with name {name} in project {project_id}, already exists."
            )))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Removes an environment, and revokes its tokens.
async fn delete(context: &Context<'_>, id: &str) -> Result<Response<Body>, Fault> {
    /// Somebody may issue one more meanwhile, but hardly for ever.
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        for token in context
            .users
            .store
            .tokens_of(id)
            .await?
            .iter()
            .filter(|token| token.revoked_at.is_none())
        {
            withdraw(context, token).await?;
        }
        match context.users.store.delete_environment(id).await? {
            Deletion::Done => return Ok(done()),
            Deletion::NotThere => return Err(no_such_environment(id)),
            Deletion::HasTokens => {}
        }
    }
    Err(Fault::Unavailable("tokens are issued for the environment all the time".into()))
}

fn shown_environment(environment: &Environment) -> Value {
    json!({ "id": environment.id, "name": environment.name, "project_id": environment.project_id })
}

fn no_such_environment(id: &str) -> Fault {
    Fault::not_found(format!("The environment with id {id} does not exist."))
}
