//! `countersign token revoke`.

use std::io;

use tokio::runtime::Builder;

use super::{Failure, Place, load_keys, print};
use crate::{
    app::{App, Revoking},
    cli::RevokeArgs,
    revocation::{Entry, record::Record},
};

/// Enters a revocation into the file that servers follow.
pub(super) fn run(place: &Place, args: RevokeArgs) -> Result<(), Failure> {
    let config = place.load()?;
    let file = place.revocations(&config)?;
    let desk = place.desk(&config, None)?;
    let app = App::new(config, 1, desk, None)?;
    if let Some(fault) = app.revocations.status().fault {
        return Err(Failure::work(fault));
    }
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(revoke(&app, args))?;
    Ok(print(format_args!(
        "Revoked. Servers that keep their revocations in {} know it within a second.",
        file.display()
    ))?)
}

async fn revoke(app: &App, args: RevokeArgs) -> Result<(), Failure> {
    let Some(token) = args.token else {
        let record = Record {
            issuer: args.issuer,
            jti: args.jti,
            subject: args.subject,
            kid: args.kid,
            issued_before: args.issued_before,
            signing_input_sha256: args.signing_input_sha256,
            until: args.until,
        };
        let revocation = app.revocation(record).map_err(Failure::work)?;
        return app.revocations.revoke(Entry::Proven(revocation)).await.map_err(Failure::work);
    };
    let token = if token == "-" { io::read_to_string(io::stdin())? } else { token };
    // A token that nobody signed could name anybody's.
    load_keys(app);
    match app.revoke_token(token.trim().as_bytes()).await.map_err(Failure::work)? {
        Revoking::Done => Ok(()),
        Revoking::Needless => Err(Failure::work("the token is dead already, or none")),
        Revoking::NoneOfOurs(reject) => {
            Err(Failure::work(format_args!("the token is none of ours: {reject}")))
        }
    }
}
