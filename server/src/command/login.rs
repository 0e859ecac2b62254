//! `countersign login`.

use serde_json::json;

use super::{
    Failure, Place,
    client::{Call, Client},
    password::Passwords,
    print, printable,
};
use crate::cli::LoginArgs;

pub(super) fn run(place: &Place, args: &LoginArgs) -> Result<(), Failure> {
    let client = Client::of(place, &args.server)?;
    let password =
        Passwords::choose(args.password_stdin).ask(&format!("Password of {}: ", args.user))?;
    let call = Call::post(&["login"], json!({ "username": args.user, "password": password }));
    let session = client.call(call.anonymous())?;
    let token = session["token"]
        .as_str()
        .ok_or_else(|| Failure::work("the server let you in, but gave no token"))?;
    Ok(print(printable(token))?)
}
