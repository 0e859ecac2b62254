//! `countersign token`: signing, verification and dispatch to the other token commands.

mod explain;
pub(super) mod inspect;
pub(super) mod registry;
mod revoke;

use std::{io, sync::Arc};

use countersign_engine::{Presentation, Reject, UnixTime, Verified};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::{
    CommandError, ConfigSource,
    arguments::{SignArgs, TokenCommand, VerifyArgs},
    prepared_signing_section, print, process_lines,
    serve::bootstrap_token,
};
use crate::{
    accounts::signing::{self, Lifetime, TokenRequest},
    app::App,
    auth::{
        Authenticator,
        profile::{Profile, inmanta},
    },
    base::{clock, exact_json},
    config::{Config, Settings},
    keys::refresh,
};

pub(super) fn run(source: &ConfigSource, command: TokenCommand) -> Result<(), CommandError> {
    match command {
        TokenCommand::Sign(args) => sign(source, args),
        TokenCommand::Bootstrap => {
            let config = source.load()?;
            Ok(print(bootstrap_token(prepared_signing_section(source, &config)?)?)?)
        }
        TokenCommand::Create(args) => registry::create(source, args),
        TokenCommand::List(args) => registry::list(source, &args),
        TokenCommand::Delete(args) => registry::delete(source, &args),
        TokenCommand::Inspect { token } => inspect::run(token),
        TokenCommand::Revoke(args) => revoke::run(source, args),
        TokenCommand::Explain { token, how } => explain::run(source, token, &how),
        TokenCommand::Verify(how) => verify(source, &how),
    }
}

fn sign(source: &ConfigSource, args: SignArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let section = prepared_signing_section(source, &config)?;
    let texts = args.claims.into_iter().map(|(name, text)| (name, Value::String(text)));
    let claims: Vec<_> = texts.chain(args.json_claims).collect();
    let mut names: Vec<_> = claims.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CommandError::failed(format_args!("the claim {} is given twice", twice[0])));
    }
    let request = TokenRequest {
        client_types: args.client_types,
        // In the form of `/api/v2`, which ends the tokens of a deleted environment by it.
        environment: args.environment.map(|id| canonical_uuid(&id)),
        custom_claims: claims,
        lifetime: Lifetime::of(args.expire, args.idempotent),
    };
    Ok(print(signing::sign(section, &request, clock::now()).map_err(CommandError::failed)?)?)
}

/// Returns the canonical form of a UUID, and other texts unchanged.
fn canonical_uuid(text: &str) -> String {
    Uuid::parse_str(text.trim()).map_or_else(|_| text.to_owned(), |uuid| uuid.to_string())
}

/// Verifies lines of standard input and prints the response of the surface to each.
fn verify(source: &ConfigSource, how: &VerifyArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let verifier = CommandVerifier::new(source, config, how)?;
    process_lines(|token| match verifier.verify(token) {
        Ok(verified) => accepted(how.surface, &verified),
        Err(reject) => verifier.refused(reject, token),
    })?;
    Ok(())
}

/// Verifies tokens as a server with this configuration would.
pub(super) struct CommandVerifier<'h> {
    app: Arc<App>,
    runtime: Runtime,
    how: &'h VerifyArgs,
}

impl<'h> CommandVerifier<'h> {
    /// Fetches the keys of all issuers.
    pub(super) fn new(
        source: &ConfigSource,
        config: Config,
        how: &'h VerifyArgs,
    ) -> Result<Self, CommandError> {
        let revocations = source.revocation_service(&config, None)?;
        let app = App::new(config, 1, revocations, None)?;
        let runtime = Builder::new_current_thread().enable_time().build()?;
        load_keys(&app)?;
        Ok(Self { app, runtime, how })
    }

    /// Returns the settings of the server.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.app.settings_arc()
    }

    fn now(&self) -> UnixTime {
        self.how.now.map_or_else(clock::now, UnixTime)
    }

    /// Calls `verify` with the request that presents the token.
    fn presenting<T>(&self, verify: impl FnOnce(Presentation<'_>) -> T) -> T {
        let certificate = || self.how.certificate_thumbprint;
        verify(Presentation { certificate: Some(&certificate), ..Presentation::default() })
    }

    pub(super) fn verify<'t>(&self, token: &'t [u8]) -> Result<Verified<'t>, Reject> {
        let Authenticator { verifier, keys, .. } = &self.app.authenticator;
        let verify = || {
            let mut unknown = None;
            let report = |found| unknown = Some(found);
            let verified = self.presenting(|presentation| {
                verifier.verify_with(token, self.now(), presentation, |_| true, report)
            });
            unknown.map_or(Ok(verified), |unknown| Err(Box::new(unknown)))
        };
        let verified = self.runtime.block_on(self.app.authenticator.resolve(verify));
        let verified = verified.unwrap_or_else(|answer| Err(answer.reject()))?;
        self.how.surface.check(&verified, || self.now(), keys)?;
        Ok(verified)
    }

    fn refused(&self, reject: Reject, token: &[u8]) -> Value {
        let message = match self.how.surface {
            Profile::Inmanta => inmanta::message(reject, token),
            Profile::Generic | Profile::Orchestrate => reject.to_string(),
        };
        let rejected_status = self.app.settings().auth.rejected_token_status;
        json!({
            "ok": false,
            "status": self.how.surface.status(reject, rejected_status).as_u16(),
            "code": reject.code(),
            "message": message,
        })
    }
}

/// Fetches every published key set. Failures are logged, and tokens of the issuer are then
/// rejected with `keys_unavailable`.
pub(super) fn load_keys(app: &App) -> io::Result<()> {
    let Authenticator { verifier, keys, .. } = &app.authenticator;
    refresh::spawn(verifier, keys, None)?;
    Builder::new_current_thread().build()?.block_on(keys.first_fetches());
    Ok(())
}

fn accepted(surface: Profile, verified: &Verified<'_>) -> Value {
    let claims = match surface {
        Profile::Inmanta => inmanta::claims(verified.claims()),
        Profile::Generic | Profile::Orchestrate => {
            let json = verified.claims().json();
            serde_json::from_slice(&json).map_or(Value::Null, exact_json::exact)
        }
    };
    json!({
        "ok": true,
        "section": verified.issuer().section,
        "username": verified.claims().username(),
        "claims": claims,
    })
}
