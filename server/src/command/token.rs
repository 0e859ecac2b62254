//! `countersign token`.

pub(super) mod inspect;
pub(super) mod registry;
mod revoke;

use std::sync::Arc;

use countersign_engine::{Reject, UnixTime, Verified, rotation::Cause};
use http::StatusCode;
use serde_json::{Value, json};

use super::{CommandError, ConfigSource, print, process_lines, serve::bootstrap_token};
use crate::{
    app::App,
    cli::{SignArgs, TokenCommand},
    clock,
    issue::{self, Lifetime, TokenRequest},
    keysource::fetch::{FetchedKeys, Fetcher},
    surface::{Profile, inmanta},
};

pub(super) fn run(place: &ConfigSource, command: TokenCommand) -> Result<(), CommandError> {
    match command {
        TokenCommand::Sign(args) => sign(place, args),
        TokenCommand::Bootstrap => Ok(print(bootstrap_token(&place.load()?)?)?),
        TokenCommand::Create(args) => registry::create(place, args),
        TokenCommand::List(args) => registry::list(place, &args),
        TokenCommand::Delete(args) => registry::delete(place, &args),
        TokenCommand::Inspect { token } => inspect::run(token),
        TokenCommand::Revoke(args) => revoke::run(place, args),
        TokenCommand::Verify { now } => verify(place, now.map(UnixTime)),
    }
}

fn sign(place: &ConfigSource, args: SignArgs) -> Result<(), CommandError> {
    let config = place.load()?;
    let section = config.signing().ok_or_else(|| {
        CommandError::failed("no auth_jwt section is configured: nothing to sign with")
    })?;
    let mut names: Vec<_> = args.claims.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CommandError::failed(format_args!("the claim {} is given twice", twice[0])));
    }
    let request = TokenRequest {
        client_types: args.client_types,
        environment: args.environment,
        custom_claims: args
            .claims
            .into_iter()
            .map(|(name, text)| (name, Value::String(text)))
            .collect(),
        lifetime: Lifetime::of(args.expire, args.idempotent),
    };
    Ok(print(issue::sign(section, &request, clock::now()).map_err(CommandError::failed)?)?)
}

/// Verifies lines of standard input as the Inmanta surface would answer them.
fn verify(place: &ConfigSource, now: Option<UnixTime>) -> Result<(), CommandError> {
    let config = place.load()?;
    let revocations = place.revocation_service(&config, None)?;
    let app = App::new(config, 1, revocations, None)?;
    load_keys(&app);
    process_lines(|token| match app.verifier.verify(token, now.unwrap_or_else(clock::now)) {
        Ok(verified) => accepted(&verified),
        Err(reject) => refused(reject, token, app.server().rejected_token_status),
    })?;
    Ok(())
}

/// Fetches every published key set. What cannot be fetched is told, and its
/// issuer's tokens answered with `keys_unavailable`.
pub(super) fn load_keys(app: &App) {
    for source in app.keys.all() {
        let (section, Some(renewed)) = (source.section(), source.renewed()) else { continue };
        let mut fetcher = Fetcher::new(section, renewed);
        match fetcher.fetch(Cause::Start) {
            Ok(FetchedKeys { keys, .. }) => {
                app.verifier.replace_keys(&section.issuer.name, &Arc::new(keys.unwrap_or_default()))
            }
            Err(fault) => tracing::error!("{}", fetcher.describe(&fault)),
        }
    }
}

fn accepted(verified: &Verified<'_>) -> Value {
    json!({
        "ok": true,
        "section": verified.issuer().section,
        "username": verified.claims().username(),
        "claims": inmanta::claims(verified.claims()),
    })
}

fn refused(reject: Reject, token: &[u8], rejected_status: StatusCode) -> Value {
    json!({
        "ok": false,
        "status": Profile::Inmanta.status(reject, rejected_status).as_u16(),
        "code": reject.code(),
        "message": inmanta::message(reject, token),
    })
}
