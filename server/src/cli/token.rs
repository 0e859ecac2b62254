//! `countersign token`: signing, verification and dispatch to the other token commands.

pub(super) mod inspect;
pub(super) mod registry;
mod revoke;

use std::io;

use countersign_engine::{CertificateThumbprint, Presentation, Reject, UnixTime, Verified};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use uuid::Uuid;

use super::{
    CommandError, ConfigSource,
    arguments::{SignArgs, TokenCommand},
    print, process_lines,
    serve::bootstrap_token,
};
use crate::{
    accounts::signing::{self, Lifetime, TokenRequest},
    app::App,
    auth::{
        Authenticator,
        profile::{Profile, inmanta},
    },
    base::clock,
    keys::refresh,
};

pub(super) fn run(source: &ConfigSource, command: TokenCommand) -> Result<(), CommandError> {
    match command {
        TokenCommand::Sign(args) => sign(source, args),
        TokenCommand::Bootstrap => Ok(print(bootstrap_token(&source.load()?)?)?),
        TokenCommand::Create(args) => registry::create(source, args),
        TokenCommand::List(args) => registry::list(source, &args),
        TokenCommand::Delete(args) => registry::delete(source, &args),
        TokenCommand::Inspect { token } => inspect::run(token),
        TokenCommand::Revoke(args) => revoke::run(source, args),
        TokenCommand::Verify { now, certificate_thumbprint } => {
            verify(source, now.map(UnixTime), certificate_thumbprint)
        }
    }
}

fn sign(source: &ConfigSource, args: SignArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let section = config.signing().ok_or_else(|| {
        CommandError::failed("cannot sign a token: no auth_jwt section has sign = true")
    })?;
    let mut names: Vec<_> = args.claims.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CommandError::failed(format_args!("the claim {} is given twice", twice[0])));
    }
    let request = TokenRequest {
        client_types: args.client_types,
        // In the form of `/api/v2`, which ends the tokens of a deleted environment by it.
        environment: args.environment.map(|id| canonical_uuid(&id)),
        custom_claims: args
            .claims
            .into_iter()
            .map(|(name, text)| (name, Value::String(text)))
            .collect(),
        lifetime: Lifetime::of(args.expire, args.idempotent),
    };
    Ok(print(signing::sign(section, &request, clock::now()).map_err(CommandError::failed)?)?)
}

/// Returns the canonical form of a UUID, and other texts unchanged.
fn canonical_uuid(text: &str) -> String {
    Uuid::parse_str(text.trim()).map_or_else(|_| text.to_owned(), |uuid| uuid.to_string())
}

/// Verifies lines of standard input and prints the responses of the Inmanta surface.
fn verify(
    source: &ConfigSource,
    now: Option<UnixTime>,
    certificate: Option<CertificateThumbprint>,
) -> Result<(), CommandError> {
    let config = source.load()?;
    let revocations = source.revocation_service(&config, None)?;
    let app = App::new(config, 1, revocations, None)?;
    let runtime = Builder::new_current_thread().enable_time().build()?;
    load_keys(&app)?;
    let certificate = || certificate;
    let presentation = Presentation { certificate: Some(&certificate), ..Presentation::default() };
    let Authenticator { verifier, .. } = &app.authenticator;
    process_lines(|token| {
        let now = now.unwrap_or_else(clock::now);
        let verify = || {
            let mut unknown = None;
            let report = |found| unknown = Some(found);
            let verified = verifier.verify_with(token, now, presentation, |_| true, report);
            unknown.map_or(Ok(verified), |unknown| Err(Box::new(unknown)))
        };
        let verified = runtime.block_on(app.authenticator.resolve(verify));
        match verified.unwrap_or_else(|answer| Err(answer.reject())) {
            Ok(verified) => accepted(&verified),
            Err(reject) => refused(reject, token, app.settings().auth.rejected_token_status),
        }
    })?;
    Ok(())
}

/// Fetches every published key set. Failures are logged, and tokens of the issuer are then
/// rejected with `keys_unavailable`.
pub(super) fn load_keys(app: &App) -> io::Result<()> {
    let Authenticator { verifier, keys, .. } = &app.authenticator;
    refresh::spawn(verifier, keys, None)?;
    Builder::new_current_thread().build()?.block_on(keys.first_fetches());
    Ok(())
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
