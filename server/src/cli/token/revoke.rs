//! `countersign token revoke`: revocations without a running server.

use std::io;

use countersign_engine::Revocation;
use tokio::runtime::Builder;

use super::{CommandError, ConfigSource, load_keys, print};
use crate::{
    app::App,
    audit::{AuditOperation, AuditTarget},
    auth::RevocationOutcome,
    base::clock,
    cli::{arguments::RevokeArgs, record_change},
    config::Config,
    revocation::record::RevocationRecord,
};

/// Appends a revocation to the storage that servers follow.
pub(super) fn run(source: &ConfigSource, args: RevokeArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let args = args.resolved(&config)?;
    let location = source.revocation_location(&config)?;
    let revocations = source.revocation_service(&config, None)?;
    let store = source.audited_store(&config)?;
    let app = App::new(config, 1, revocations, None)?;
    if let Some(error) = app.revocations.status().error {
        return Err(CommandError::failed(error));
    }
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let record = args.record();
    let target = AuditTarget::from(&record);
    if args.token.is_some() || args.kid.is_some() {
        // The signature is verified first: a forged token could name any user's tokens. A kid
        // matters only if every key of the issuer has one.
        load_keys(&app)?;
    }
    let revoked = runtime.block_on(revoke(&app, args.token, record))?;
    let detail = match &revoked {
        Some(revocation) => RevocationRecord::from(revocation).to_string(),
        None => "by token".to_owned(),
    };
    record_change(store.as_ref(), AuditOperation::RevokeToken, target, Some(detail))?;
    print(format_args!(
        "Revoked. Servers with revocations in {location} apply it within a second."
    ))?;
    if let Some(at) = revoked.as_ref().and_then(RevocationRecord::tokens_valid_from) {
        let date = clock::rfc3339(at).unwrap_or_default();
        print(format_args!("Tokens issued from {} ({date}) on are not revoked.", at.0))?;
    }
    Ok(())
}

impl RevokeArgs {
    /// Replaces a machine identity by the issuer and the subject of its access tokens.
    fn resolved(self, config: &Config) -> Result<Self, CommandError> {
        let Some(identity) = self.identity else { return Ok(self) };
        let settings = config.settings.api.identities.as_ref().ok_or_else(|| {
            CommandError::failed("--identity needs enabled = true in [identities]")
        })?;
        let (issuer, subject) = (settings.issuer.to_string(), identity.to_lowercase());
        Ok(Self { identity: None, issuer: Some(issuer), subject: Some(subject), ..self })
    }

    fn record(&self) -> RevocationRecord {
        RevocationRecord {
            issuer: self.issuer.clone(),
            jti: self.jti.clone(),
            subject: self.subject.clone(),
            kid: self.kid.clone(),
            environment: self.environment.clone(),
            issued_before: self.issued_before,
            signing_input_sha256: self.signing_input_sha256.clone(),
            until: self.until,
        }
    }
}

/// Revokes a token, or what the record describes. Returns the revocation of the latter.
async fn revoke(
    app: &App,
    token: Option<String>,
    record: RevocationRecord,
) -> Result<Option<Revocation>, CommandError> {
    let Some(token) = token else {
        let revocation =
            app.authenticator.validate_revocation(record).map_err(CommandError::failed)?;
        let stored = app.authenticator.revoke_described(&app.revocations, &revocation);
        stored.await.map_err(CommandError::failed)?;
        return Ok(Some(revocation));
    };
    let token = if token == "-" { io::read_to_string(io::stdin())? } else { token };
    let revoked = app.authenticator.revoke_token(&app.revocations, token.trim().as_bytes());
    match revoked.await.map_err(CommandError::failed)? {
        RevocationOutcome::Done => Ok(None),
        RevocationOutcome::Unnecessary => {
            Err(CommandError::failed("the token has expired or is not a JWT"))
        }
        RevocationOutcome::NotOurs(reject) => Err(CommandError::failed(format_args!(
            "no configured issuer accepts the token: {reject}"
        ))),
    }
}
