//! `countersign token revoke`.

use countersign_engine::Revocation;
use tokio::runtime::Builder;

use super::{Failure, Place, load_keys, print};
use crate::{app::App, cli::RevokeArgs, clock, revocation::record::Record};

/// Enters a revocation into the file that servers follow.
pub(super) fn run(place: &Place, args: RevokeArgs) -> Result<(), Failure> {
    let config = place.load()?;
    let (file, desk) = (place.revocations(&config)?, place.desk(&config)?);
    let app = App::new(config, 1, desk)?;
    if let Some(fault) = app.revocations.status().fault {
        return Err(Failure::work(fault));
    }
    let revocation = meaning(&app, args)?;
    let runtime = Builder::new_current_thread().build()?;
    runtime.block_on(app.revocations.revoke(revocation)).map_err(Failure::work)?;
    Ok(print(format_args!("Revoked. Servers that keep their revocations in {} know it within a second.", file.display()))?)
}

fn meaning(app: &App, args: RevokeArgs) -> Result<Revocation, Failure> {
    if let Some(token) = args.token {
        // A token that nobody signed could name anybody's.
        load_keys(app);
        let refused = |reject| Failure::work(format_args!("the token is none of ours: {reject}; name it by --issuer and --jti"));
        return app.verifier.revocation_of(token.trim().as_bytes()).map_err(refused);
    }
    if let Some(issuer) = &args.issuer {
        app.check_issuer(issuer).map_err(Failure::work)?;
    }
    let record = Record {
        issuer: args.issuer,
        jti: args.jti,
        subject: args.subject,
        kid: args.kid,
        issued_before: args.issued_before,
        signing_input_sha256: args.signing_input_sha256,
        until: args.until,
    };
    record.meaning(clock::now()).map_err(Failure::work)
}
