//! `countersign jws verify`.

use std::path::Path;

use countersign_engine::{
    KeySet,
    jwks::{Origin, Policy},
    jws,
};
use serde_json::json;

use super::{CommandError, process_lines};
use crate::cli::JwsCommand;

pub(super) fn run(command: &JwsCommand) -> Result<(), CommandError> {
    let JwsCommand::Verify { jwks } = command;
    let json = read(jwks)?;
    let policy = Policy { origin: Origin::Static, algorithms: None };
    match KeySet::from_jwks(&json, policy) {
        Ok((keys, skipped)) => {
            for key in skipped {
                tracing::warn!("{}: key skipped: {key}", jwks.display());
            }
            process_lines(|token| match jws::verify(token, &keys) {
                Ok(_) => json!({ "ok": true }),
                Err(reject) => json!({ "ok": false, "code": reject.code() }),
            })?;
        }
        // With no set to verify by, every token is refused, and each line says so.
        Err(fault) => {
            tracing::error!("{}: {fault}", jwks.display());
            process_lines(|_| json!({ "ok": false, "code": fault.code() }))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    #[expect(clippy::disallowed_methods, reason = "the caller named this file")]
    std::fs::read(path)
        .map_err(|error| CommandError::failed(format_args!("{}: {error}", path.display())))
}
