//! `countersign environment`.

use serde_json::json;

use super::{
    Failure, Place,
    client::{Call, Client},
    print,
    table::{print_list, words},
};
use crate::cli::{EnvironmentArgs, EnvironmentCommand};

pub(super) fn run(place: &Place, args: EnvironmentArgs) -> Result<(), Failure> {
    let client = Client::of(place, &args.server)?;
    match args.command {
        EnvironmentCommand::Add { name, id } => {
            let mut body = json!({ "name": name });
            if let Some(id) = id {
                body["environment_id"] = id.into();
            }
            let environment = client.call(Call::put(&["environment"], body))?;
            Ok(print(words(&environment["id"]))?)
        }
        EnvironmentCommand::List { json } => {
            let all = client.call(Call::get(&["environment"]))?;
            Ok(print_list(
                &all,
                &[("ID", "id"), ("NAME", "name"), ("PROJECT", "project_id")],
                json,
            )?)
        }
        EnvironmentCommand::Delete { environment } => {
            let id = client.environment_id(&environment)?;
            client.call(Call::delete(&["environment", &id]))?;
            Ok(print(format_args!("Environment {environment} is deleted."))?)
        }
    }
}
