//! Roles, and who has them where.

use http::Response;
use serde_json::json;

use super::{
    Context, data, done,
    fault::Fault,
    request::OfRoles,
    users::{end_of_sessions, end_sessions},
};
use crate::{http::Body, store::StoreFault};

pub(super) async fn answer(context: &Context<'_>, asked: OfRoles) -> Result<Response<Body>, Fault> {
    let store = &context.users.store;
    match asked {
        OfRoles::List => Ok(data(&json!(store.roles().await?))),
        OfRoles::Add { name } => match store.add_role(&name).await {
            Ok(()) => Ok(done()),
            Err(StoreFault::Exists) => Err(Fault::request(format!("Role {name} already exists."))),
            Err(fault) => Err(fault.into()),
        },
        OfRoles::Delete { name } => match store.delete_role(&name).await {
            Ok(true) => Ok(done()),
            Ok(false) => Err(Fault::request(format!("Role {name} doesn't exist."))),
            Err(StoreFault::Reference) => {
                Err(Fault::request(format!("Role {name} cannot be delete because it's still assigned to a user.")))
            }
            Err(fault) => Err(fault.into()),
        },
        OfRoles::Of { username } => Ok(data(&json!({ "assignments": store.roles_of(&username).await? }))),
        OfRoles::Assign { username, environment, role } => match store.assign_role(&username, &environment, &role).await {
            Ok(()) => Ok(done()),
            Err(StoreFault::Reference) => Err(Fault::request(format!(
                "Cannot assign role {role} to user {username}. Role {role}, environment {environment} or user {username} doesn't \
                 exist."
            ))),
            Err(fault) => Err(fault.into()),
        },
        OfRoles::Unassign { username, environment, role } => {
            let was_assigned = store.unassign_role(&username, &environment, &role).await?;
            let end = end_of_sessions(context);
            // Also the second time: the first may have failed half-way.
            if store.end_sessions(&username, end).await? {
                end_sessions(context, &username, end).await?;
            }
            if !was_assigned {
                let text = format!("Role {role} (environment={environment}) is not assigned to user {username}");
                return Err(Fault::request(text));
            }
            Ok(done())
        }
    }
}
