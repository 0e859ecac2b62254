//! Calls about client secrets, and logins with one.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Response;
use serde_json::{Value, json};

use super::{
    InfisicalContext,
    body::BodyReader,
    error::{InfisicalError, LOCKED_OUT},
    logins::{check_organization_name, issue_for, read_organization},
    methods::{MAX_TTL, MAX_USES},
    new_id, ok, shown_time,
    universal_auth::{attached, detached},
};
use crate::{
    admission::Source,
    audit::AuditTarget,
    base::{clock, hex::to_hex, reply::Body},
    identities::{checks::IdentityRefusal, revocation, trusted_ips::TrustedIps},
    store::{
        StoreError, client_secrets::ClientSecret, identity_methods::MethodKind,
        universal_auth_methods::UniversalAuthMethod,
    },
};

/// Length of the part of a secret by which people recognize it.
const PREFIX_CHARS: usize = 4;

/// A secret to create.
pub(super) struct NewSecret {
    description: String,
    uses_limit: u64,
    ttl: u64,
}

impl NewSecret {
    pub(super) fn read(body: &[u8]) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let new = Self {
            description: reader.optional_text("description").unwrap_or_default(),
            uses_limit: reader.number("numUsesLimit", 0, MAX_USES).unwrap_or(0),
            ttl: reader.number("ttl", 0, MAX_TTL).unwrap_or(0),
        };
        reader.finish()?;
        Ok(new)
    }
}

/// Creates a secret. Only this response contains it.
pub(super) async fn create(
    context: &InfisicalContext<'_>,
    identity: &str,
    new: NewSecret,
) -> Result<Response<Body>, InfisicalError> {
    let method = attached(context, identity).await?;
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)
        .map_err(|_| InfisicalError::unavailable("The operating system gives no randomness"))?;
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    let stored = ClientSecret {
        id: new_id()?,
        method: method.method.id,
        prefix: secret.chars().take(PREFIX_CHARS).collect(),
        digest: secret_digest(&secret),
        description: new.description,
        uses: 0,
        uses_limit: new.uses_limit,
        ttl: new.ttl,
        is_revoked: false,
        last_used_at: None,
        created_at: clock::now(),
    };
    match context.users.store.add_client_secret(stored.clone()).await {
        Ok(()) => {}
        // The method was deleted meanwhile, maybe with its identity.
        Err(StoreError::ForeignKeyViolation) => {
            attached(context, identity).await?;
            return Err(detached());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ok(&json!({ "clientSecret": secret, "clientSecretData": secret_json(&stored) })))
}

pub(super) async fn list(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<Response<Body>, InfisicalError> {
    let method = attached(context, identity).await?;
    let secrets = context.users.store.client_secrets(&method.method.id).await?;
    let shown: Vec<_> = secrets.iter().map(secret_json).collect();
    Ok(ok(&json!({ "clientSecretData": shown })))
}

pub(super) async fn get(
    context: &InfisicalContext<'_>,
    identity: &str,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    let method = attached(context, identity).await?;
    let secrets = context.users.store.client_secrets(&method.method.id).await?;
    let secret = secrets.iter().find(|secret| secret.id == id).ok_or_else(|| missing(id))?;
    Ok(ok(&json!({ "clientSecretData": secret_json(secret) })))
}

/// Revokes a secret, and the tokens of logins with it.
pub(super) async fn revoke(
    context: &InfisicalContext<'_>,
    identity: &str,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    // An unknown one is refused before.
    get(context, identity, id).await?;
    let method = attached(context, identity).await?;
    // Before the change: if the revocation fails, nothing has changed.
    let revocations = revocation::of_client_secret(context.settings, id, clock::now());
    context.api.revocations.revoke_all(revocations).await?;
    if !context.users.store.revoke_client_secret(&method.method.id, id).await? {
        return Err(missing(id));
    }
    get(context, identity, id).await
}

/// A login with a client id and a secret. Not `Debug`: it contains the secret.
pub(super) struct ClientLogin {
    client_id: String,
    secret: String,
    organization: Option<String>,
}

impl ClientLogin {
    pub(super) fn read(body: &[u8]) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let login = Self {
            client_id: reader.text("clientId"),
            secret: reader.text("clientSecret"),
            organization: read_organization(&mut reader),
        };
        reader.finish()?;
        Ok(login)
    }

    /// Returns the client id for the audit log, and the kind of the login method.
    pub(super) fn audit_target(&self) -> (AuditTarget, Option<String>) {
        let target = AuditTarget { user: Some(self.client_id.clone()), ..AuditTarget::default() };
        (target, Some(MethodKind::UniversalAuth.name().into()))
    }

    /// Returns the identity for the audit log, and the client id as a further fact.
    pub(super) fn audit_target_of(
        &self,
        client: &UniversalAuthMethod,
    ) -> (AuditTarget, Option<String>) {
        let user = Some(client.method.identity.clone());
        let detail = format!("{} {}", MethodKind::UniversalAuth.name(), self.client_id);
        (AuditTarget { user, ..AuditTarget::default() }, Some(detail))
    }

    /// Returns the login method with the client id.
    pub(super) async fn find_client(
        &self,
        context: &InfisicalContext<'_>,
    ) -> Result<UniversalAuthMethod, InfisicalError> {
        let client = context.users.store.universal_auth_client(&self.client_id).await?;
        client.ok_or_else(invalid)
    }

    /// Logs in: trusted addresses first, then the lockout, then the secret and its limits.
    pub(super) async fn log_in(
        self,
        context: &InfisicalContext<'_>,
        client: UniversalAuthMethod,
    ) -> Result<Response<Body>, InfisicalError> {
        let store = &context.users.store;
        let address = context.caller.client.get();
        let trusted = TrustedIps::parse(&client.secret_trusted_ips);
        let trusted = trusted.map_err(|_| InfisicalError::unavailable("Malformed addresses"))?;
        if !trusted.contains(address) {
            return Err(IdentityRefusal::Address.into());
        }
        let secret = self.check_secret(context, &client, Source::of(address)).await?;
        // Before the identity is read: see `change_roles`.
        let now = clock::now();
        let member = store.member_identity(&client.method.identity).await?;
        let member = member.ok_or_else(|| InfisicalError::unauthorized("Identity not found"))?;
        check_organization_name(context, self.organization.as_deref())?;
        let login = (&client.method, MethodKind::UniversalAuth);
        issue_for(context, member, now, login, Some(secret), None).await
    }

    /// Checks the secret, and counts its use. Returns its id.
    async fn check_secret(
        &self,
        context: &InfisicalContext<'_>,
        client: &UniversalAuthMethod,
        source: Source,
    ) -> Result<String, InfisicalError> {
        let (store, now) = (&context.users.store, clock::now());
        let (lockouts, attempt) = (&context.checks.lockouts, (&*client.method.id, source));
        lockouts.check(client.lockout, attempt, now).map_err(|_| {
            InfisicalError::unauthorized(
                "This identity auth method is temporarily locked, please try again later",
            )
            .because(LOCKED_OUT)
        })?;
        // The secret has 256 random bits, so the time of a look-up by its digest reveals nothing.
        let digest = secret_digest(&self.secret);
        let secret = store.client_secret_with_digest(&client.method.id, &digest).await?;
        let secret = secret.filter(|secret| !secret.is_revoked).ok_or_else(|| {
            lockouts.fail(client.lockout, attempt, now);
            invalid()
        })?;
        // It is not marked as revoked: the tokens that were obtained with it are not, and an
        // operator may want to revoke them.
        if secret.has_expired(now) {
            let message = "Access denied due to expired client secret";
            return Err(InfisicalError::unauthorized(message).because("secret_expired"));
        }
        if !store.use_client_secret(&secret.id, now).await? {
            let message = "Access denied due to client secret usage limit reached";
            return Err(InfisicalError::unauthorized(message).because("secret_exhausted"));
        }
        lockouts.succeed(&client.method.id, source);
        Ok(secret.id)
    }
}

fn invalid() -> InfisicalError {
    InfisicalError::unauthorized("Invalid credentials")
}

fn missing(id: &str) -> InfisicalError {
    InfisicalError::not_found(format!("Client secret with ID {id} not found"))
}

fn secret_digest(secret: &str) -> String {
    to_hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

fn secret_json(secret: &ClientSecret) -> Value {
    json!({
        "id": secret.id,
        "identityUAId": secret.method,
        "description": secret.description,
        "clientSecretPrefix": secret.prefix,
        "clientSecretNumUses": secret.uses,
        "clientSecretNumUsesLimit": secret.uses_limit,
        "clientSecretTTL": secret.ttl,
        "isClientSecretRevoked": secret.is_revoked,
        "createdAt": shown_time(secret.created_at),
        "updatedAt": shown_time(secret.last_used_at.unwrap_or(secret.created_at)),
    })
}
