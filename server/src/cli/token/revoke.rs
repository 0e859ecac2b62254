//! `countersign token revoke`: revocations without a running server.

use std::io;

use tokio::runtime::Builder;

use super::{CommandError, ConfigSource, load_keys, print};
use crate::{
    app::App,
    audit::{AuditOperation, AuditTarget},
    auth::RevocationOutcome,
    cli::{arguments::RevokeArgs, record_change},
    revocation::{RevocationEntry, record::RevocationRecord},
};

/// Appends a revocation to the storage that servers follow.
pub(super) fn run(source: &ConfigSource, args: RevokeArgs) -> Result<(), CommandError> {
    let config = source.load()?;
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
    let detail = match args.token {
        Some(_) => "by token".to_owned(),
        None => record.to_string(),
    };
    if args.token.is_some() {
        // The signature is verified first: a forged token could name any user's tokens.
        load_keys(&app)?;
    }
    runtime.block_on(revoke(&app, args.token, record))?;
    record_change(store.as_ref(), AuditOperation::RevokeToken, target, Some(detail))?;
    Ok(print(format_args!(
        "Revoked. Servers with revocations in {location} apply it within a second."
    ))?)
}

impl RevokeArgs {
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

async fn revoke(
    app: &App,
    token: Option<String>,
    record: RevocationRecord,
) -> Result<(), CommandError> {
    let Some(token) = token else {
        let revocation =
            app.authenticator.validate_revocation(record).map_err(CommandError::failed)?;
        return app
            .revocations
            .revoke(RevocationEntry::Proven(revocation))
            .await
            .map_err(CommandError::failed);
    };
    let token = if token == "-" { io::read_to_string(io::stdin())? } else { token };
    let revoked = app.authenticator.revoke_token(&app.revocations, token.trim().as_bytes());
    match revoked.await.map_err(CommandError::failed)? {
        RevocationOutcome::Done => Ok(()),
        RevocationOutcome::Unnecessary => {
            Err(CommandError::failed("the token has expired or is not a JWT"))
        }
        RevocationOutcome::NotOurs(reject) => Err(CommandError::failed(format_args!(
            "no configured issuer accepts the token: {reject}"
        ))),
    }
}
