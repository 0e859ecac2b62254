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
    store::{Store, machine_identities::IdentityFilter},
};

/// Appends a revocation to the storage that servers follow.
pub(super) fn run(source: &ConfigSource, args: RevokeArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let store = source.audited_store(&config)?;
    let args = args.resolved(&config, store.as_ref())?;
    let location = source.revocation_location(&config)?;
    let revocations = source.revocation_service(&config, None)?;
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
    fn resolved(self, config: &Config, store: Option<&Store>) -> Result<Self, CommandError> {
        let Some(identity) = self.identity else { return Ok(self) };
        let settings = config.settings.api.identities.as_ref();
        let (settings, store) = settings.zip(store).ok_or_else(|| {
            CommandError::failed("--identity needs enabled = true in [identities]")
        })?;
        let subject = store.block_on(find_identity(store, &identity))?;
        let issuer = settings.issuer.to_string();
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

/// Returns the id of the machine identity with this id or name.
async fn find_identity(store: &Store, text: &str) -> Result<String, CommandError> {
    let id = text.to_lowercase();
    if store.machine_identity(&id).await.map_err(CommandError::failed)?.is_some() {
        return Ok(id);
    }
    let mut found = Vec::new();
    for organization in store.organizations().await.map_err(CommandError::failed)? {
        let (organization, name) = (organization.id, text.to_owned());
        let filter = IdentityFilter::all_of(organization, name);
        let (named, _) = store.machine_identities(filter).await.map_err(CommandError::failed)?;
        found.extend(named.into_iter().filter(|one| one.name == text).map(|one| one.id));
    }
    match (found.pop(), found.is_empty()) {
        (Some(id), true) => Ok(id),
        (Some(_), false) => Err(CommandError::failed(format_args!(
            "more than one machine identity is named {text}: give the id of one, as countersign \
             identity list prints it"
        ))),
        (None, _) => Err(CommandError::failed(format_args!(
            "no machine identity has the id or the name {text}; the tokens of a deleted identity \
             are revoked already"
        ))),
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
