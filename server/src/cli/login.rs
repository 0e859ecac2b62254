//! `countersign login`: login to a running server.

use serde_json::json;

use super::{
    CommandError, ConfigSource,
    arguments::LoginArgs,
    client::{ApiCall, ServerClient},
    password::PasswordInput,
    print, printable,
};

pub(super) fn run(source: &ConfigSource, args: &LoginArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    let password =
        PasswordInput::choose(args.password_stdin).ask(&format!("Password of {}: ", args.user))?;
    let call = ApiCall::post(&["login"], json!({ "username": args.user, "password": password }));
    let session = client.call(call.anonymous())?;
    let token = session["token"].as_str().ok_or_else(|| {
        CommandError::failed("the login succeeded, but the response contains no token")
    })?;
    Ok(print(printable(token))?)
}
