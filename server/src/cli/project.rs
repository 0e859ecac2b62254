//! `countersign project`: projects of a running server.

use serde_json::json;

use super::{
    CommandError, ConfigSource,
    arguments::{ProjectArgs, ProjectCommand},
    client::{ApiCall, ServerClient},
    print,
    table::{display_value, print_list},
};

pub(super) fn run(source: &ConfigSource, args: ProjectArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    match args.command {
        ProjectCommand::Add { name, id } => {
            let mut body = json!({ "name": name });
            if let Some(id) = id {
                body["project_id"] = id.into();
            }
            let project = client.call(ApiCall::put(&["project"], body))?;
            Ok(print(display_value(&project["id"]))?)
        }
        ProjectCommand::List { json } => {
            let all = client.call(ApiCall::get(&["project"]))?;
            Ok(print_list(&all, &[("ID", "id"), ("NAME", "name")], json)?)
        }
        ProjectCommand::Delete { project } => {
            let id = client.project_id(&project)?;
            client.call(ApiCall::delete(&["project", &id]))?;
            Ok(print(format_args!("Project {project} is deleted."))?)
        }
    }
}
