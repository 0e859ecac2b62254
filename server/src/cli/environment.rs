//! `countersign environment`: environments of a running server.

use serde_json::json;

use super::{
    CommandError, ConfigSource,
    arguments::{EnvironmentArgs, EnvironmentCommand},
    client::{ApiCall, ServerClient},
    print,
    table::{display_value, print_list},
};

pub(super) fn run(source: &ConfigSource, args: EnvironmentArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    match args.command {
        EnvironmentCommand::Add { name, project, id } => {
            let project = match project {
                Some(project) => client.project_id(&project)?,
                None => client.default_project_id()?,
            };
            let mut body = json!({ "name": name, "project_id": project });
            if let Some(id) = id {
                body["environment_id"] = id.into();
            }
            let environment = client.call(ApiCall::put(&["environment"], body))?;
            Ok(print(display_value(&environment["id"]))?)
        }
        EnvironmentCommand::List { json } => {
            let all = client.call(ApiCall::get(&["environment"]))?;
            Ok(print_list(
                &all,
                &[("ID", "id"), ("NAME", "name"), ("PROJECT", "project_id")],
                json,
            )?)
        }
        EnvironmentCommand::Delete { environment } => {
            let id = client.environment_id(&environment)?;
            client.call(ApiCall::delete(&["environment", &id]))?;
            Ok(print(format_args!("Environment {environment} is deleted."))?)
        }
    }
}
