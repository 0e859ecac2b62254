//! `countersign jws verify`: signature checks without claims.

use std::path::Path;

use countersign_engine::{
    KeySet,
    jwks::{Origin, Policy},
    jws,
};
use serde_json::json;

use super::{CommandError, arguments::JwsCommand, process_lines};
use crate::base::redacted::is_plausible_path;

pub(super) fn run(command: &JwsCommand) -> Result<(), CommandError> {
    let JwsCommand::Verify { jwks } = command;
    let json = read(jwks)?;
    let policy = Policy { origin: Origin::Static, algorithms: None };
    match KeySet::from_jwks(&json, policy) {
        Ok(keys) => {
            for key in keys.skipped() {
                tracing::warn!("{}: key skipped: {key}", jwks.display());
            }
            process_lines(|token| match jws::verify(token, &keys) {
                Ok(_) => json!({ "ok": true }),
                Err(reject) => json!({ "ok": false, "code": reject.code() }),
            })?;
        }
        // Without a key set, every token is refused, with the error's code on each line.
        Err(error) => {
            tracing::error!("{}: {error}", jwks.display());
            process_lines(|_| json!({ "ok": false, "code": error.code() }))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    if !path.to_str().is_none_or(is_plausible_path) {
        return Err(CommandError::failed(
            "--jwks does not name a file; its value may be a key and is not shown",
        ));
    }
    #[expect(clippy::disallowed_methods, reason = "the caller named this file")]
    std::fs::read(path)
        .map_err(|error| CommandError::failed(format_args!("{}: {error}", path.display())))
}
