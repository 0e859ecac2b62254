//! `countersign role`: roles and their assignments.

use serde_json::json;

use super::{
    CommandError, ConfigSource,
    arguments::{RoleArgs, RoleCommand},
    client::{ApiCall, ServerClient},
    print, printable,
};

pub(super) fn run(source: &ConfigSource, args: RoleArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    match args.command {
        RoleCommand::Add { name } => {
            client.call(ApiCall::post(&["role"], json!({ "name": name })))?;
            Ok(print(format_args!("Role {name} is added."))?)
        }
        RoleCommand::List { json } => list(&client, json),
        RoleCommand::Delete { name } => {
            client.call(ApiCall::delete(&["role"]).query(&[("name", &name)]))?;
            Ok(print(format_args!("Role {name} is deleted."))?)
        }
        RoleCommand::Assign(args) => {
            let environment = client.environment_id(&args.environment)?;
            let body = json!({ "environment": environment, "role": args.role });
            client.call(ApiCall::post(&["role_assignment", &args.user], body))?;
            Ok(print(format_args!("{} is {} in environment {environment}.", args.user, args.role))?)
        }
        RoleCommand::Unassign(args) => {
            let environment = client.environment_id(&args.environment)?;
            let arguments = [("environment", &*environment), ("role", &args.role)];
            client.call(ApiCall::delete(&["role_assignment", &args.user]).query(&arguments))?;
            Ok(print(format_args!(
                "{} is no longer {} in environment {environment}.",
                args.user, args.role
            ))?)
        }
    }
}

fn list(client: &ServerClient, as_json: bool) -> Result<(), CommandError> {
    let roles = client.call(ApiCall::get(&["role"]))?;
    if as_json {
        return Ok(print(roles)?);
    }
    for role in roles.as_array().into_iter().flatten() {
        print(printable(role.as_str().or_else(|| role["name"].as_str()).unwrap_or_default()))?;
    }
    Ok(())
}
