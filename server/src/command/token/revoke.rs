//! `countersign token revoke`.

use std::io;

use tokio::runtime::Builder;

use super::{CommandError, ConfigSource, load_keys, print};
use crate::{
    app::{App, RevocationOutcome},
    cli::RevokeArgs,
    revocation::{RevocationEntry, record::RevocationRecord},
};

/// Enters a revocation into the file that servers follow.
pub(super) fn run(place: &ConfigSource, args: RevokeArgs) -> Result<(), CommandError> {
    let config = place.load()?;
    let file = place.revocation_file(&config)?;
    let revocations = place.revocation_service(&config, None)?;
    let app = App::new(config, 1, revocations, None)?;
    if let Some(fault) = app.revocations.status().error {
        return Err(CommandError::failed(fault));
    }
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(revoke(&app, args))?;
    Ok(print(format_args!(
        "Revoked. Servers that keep their revocations in {} know it within a second.",
        file.display()
    ))?)
}

async fn revoke(app: &App, args: RevokeArgs) -> Result<(), CommandError> {
    let Some(token) = args.token else {
        let record = RevocationRecord {
            issuer: args.issuer,
            jti: args.jti,
            subject: args.subject,
            kid: args.kid,
            issued_before: args.issued_before,
            signing_input_sha256: args.signing_input_sha256,
            until: args.until,
        };
        let revocation = app.revocation(record).map_err(CommandError::failed)?;
        return app
            .revocations
            .revoke(RevocationEntry::Proven(revocation))
            .await
            .map_err(CommandError::failed);
    };
    let token = if token == "-" { io::read_to_string(io::stdin())? } else { token };
    // A token that nobody signed could name anybody's.
    load_keys(app);
    match app.revoke_token(token.trim().as_bytes()).await.map_err(CommandError::failed)? {
        RevocationOutcome::Done => Ok(()),
        RevocationOutcome::Unnecessary => {
            Err(CommandError::failed("the token is dead already, or none"))
        }
        RevocationOutcome::NotOurs(reject) => {
            Err(CommandError::failed(format_args!("the token is none of ours: {reject}")))
        }
    }
}
