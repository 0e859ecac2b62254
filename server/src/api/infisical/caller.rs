//! The caller of a call that needs a token, and whether it may administer machine identities.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::Reject;
use http::HeaderMap;

use super::{InfisicalContext, error::InfisicalError};
use crate::{
    accounts::{TokenRegistration, session::Session},
    api::audited::AuditedCall,
    audit::{AuditCaller, AuditOperation, AuditTarget},
    auth::{Rejection, credential::Credential, profile::Profile},
    base::{clock, exact_json, outcome::Outcome},
    identities::{
        access_token::AccessTokenFacts,
        checks::IdentityRefusal,
        settings::{IdentitySettings, is_access_token},
    },
    store::{Store, StoreError, machine_identities::MachineIdentity},
};

/// The role in the organization that may administer its identities.
pub(super) const ADMIN_ROLE: &str = "admin";

/// The bearer of the token of a call.
pub(super) enum InfisicalCaller {
    /// A user, or a program with a token of an issuer that may administer.
    Person(Box<Session>),
    /// A machine identity.
    Identity(Box<IdentityCaller>),
}

/// A machine identity that calls.
pub(super) struct IdentityCaller {
    pub(super) facts: AccessTokenFacts,
    pub(super) identity: MachineIdentity,
}

impl InfisicalCaller {
    /// Verifies the token of a call. A use of it is not counted yet.
    pub(super) async fn authenticate(
        context: &InfisicalContext<'_>,
        headers: &HeaderMap,
        audited: &mut AuditedCall<'_>,
    ) -> Result<Self, InfisicalError> {
        if headers.contains_key("x-api-key") {
            return Err(InfisicalError::bad_request(
                "API key authentication is not supported anymore. Please switch to identity \
                 authentication.",
            ));
        }
        let metrics = &context.api.authenticator.metrics;
        let token = match context.api.auth.credentials.in_headers(headers) {
            Credential::Token(token) => token,
            Credential::None => {
                metrics.count_call(Outcome::NoToken);
                return Err(InfisicalError::unauthorized("Token missing"));
            }
            Credential::Conflict => {
                metrics.count_call(Outcome::Conflict);
                return Err(InfisicalError::unauthorized("The request has two credentials"));
            }
            Credential::CrossSite => {
                metrics.count_call(Outcome::CrossSite);
                return Err(InfisicalError::forbidden(
                    "The token is in a cookie, and another site may have caused the request",
                ));
            }
        };
        let refused = |rejection: Rejection| {
            metrics.count_call(rejection.outcome());
            InfisicalError::rejected(&rejection, context.settings)
        };
        let authenticator = context.api.authenticator;
        let verified = match authenticator.verify(context.caller, token).await {
            Ok(verified) => verified,
            Err(rejection)
                if rejection.reject == Reject::Revoked && rejection.identity.is_none() =>
            {
                metrics.count_call(rejection.outcome());
                return Err(revoked_part(context, token).await);
            }
            Err(rejection) => return Err(refused(rejection)),
        };
        if is_access_token(&verified) {
            let claims = exact_json::claims(&verified.claims().json());
            drop(verified);
            let facts = AccessTokenFacts::read(&claims).ok_or_else(invalid_claims)?;
            return Self::of_identity(context, facts, audited).await;
        }
        let checked = Profile::Inmanta.check(&verified, clock::now, &authenticator.keys);
        checked.map_err(|reject| refused(reject.into()))?;
        let issuer = &verified.issuer().name;
        let signing = context.api.settings.signing.as_ref();
        let is_ours = signing.is_some_and(|one| one.issuer.name == *issuer);
        let may_administer = context.api.auth.authorization.may_administer(issuer);
        let session = Session::of(&verified, token, is_ours, may_administer);
        drop(verified);
        metrics.count_call(Outcome::Verified);
        if let Some(jti) = session.registered_id()
            && context.users.token_registration(jti).await? != TokenRegistration::Valid
        {
            return Err(InfisicalError::unauthorized(
                "Failed to authorize: token has been revoked",
            ));
        }
        Ok(Self::Person(Box::new(session)))
    }

    async fn of_identity(
        context: &InfisicalContext<'_>,
        facts: AccessTokenFacts,
        audited: &mut AuditedCall<'_>,
    ) -> Result<Self, InfisicalError> {
        let metrics = &context.api.authenticator.metrics;
        let refused = |refusal: IdentityRefusal| {
            metrics.count_call(refusal.outcome());
            InfisicalError::from(refusal)
        };
        audited.set_audited_caller(facts.audited(&context.settings.issuer));
        let client = context.caller.client.get();
        let checked = context.checks.check_address(&facts.method, client).await;
        if checked == Err(IdentityRefusal::Address) {
            audited.record_refusal(AuditOperation::UseIdentityToken, context.caller);
            audited.set_audited_caller(facts.audited(&context.settings.issuer));
            audited.set_target((AuditTarget::default(), Some(facts.method_kind.clone())));
        }
        checked.map_err(refused)?;
        let identity = context.users.store.machine_identity(&facts.identity).await?;
        let identity = identity.ok_or(IdentityRefusal::Revoked).map_err(refused)?;
        metrics.count_call(Outcome::Verified);
        Ok(Self::Identity(Box::new(IdentityCaller { facts, identity })))
    }

    /// Counts a use of the token of a call that is allowed.
    pub(super) async fn count_use(
        &self,
        context: &InfisicalContext<'_>,
    ) -> Result<(), InfisicalError> {
        let Self::Identity(caller) = self else { return Ok(()) };
        if caller.facts.uses_limit == 0 {
            return Ok(());
        }
        Ok(context.checks.count_use(&caller.facts.id).await?)
    }

    /// Checks that the caller may administer the identities of the organization. An identity with
    /// the role of an administrator may, and a person that may administer by `/api/v2`.
    pub(super) fn check_administrator(
        &self,
        context: &InfisicalContext<'_>,
    ) -> Result<(), InfisicalError> {
        let may_administer = match self {
            Self::Identity(caller) => caller.identity.role == ADMIN_ROLE,
            Self::Person(session) => context.api.is_administrator(session),
        };
        if may_administer {
            return Ok(());
        }
        Err(InfisicalError::forbidden("You are not allowed to administer machine identities"))
    }

    /// Returns the caller for the audit log.
    pub(super) fn audited(&self, issuer: &str) -> AuditCaller {
        match self {
            Self::Person(session) => AuditCaller::of(session),
            Self::Identity(caller) => caller.facts.audited(issuer),
        }
    }
}

/// Returns the error of a token that was revoked, which names the part of it that was: the token,
/// the client secret or login method by which it was obtained, or all tokens of the identity.
async fn revoked_part(context: &InfisicalContext<'_>, token: &[u8]) -> InfisicalError {
    let part = match facts_of_revoked(token) {
        Some(facts) => missing_part(&context.users.store, &facts).await.unwrap_or(None),
        None => None,
    };
    let part = part.unwrap_or("token has");
    InfisicalError::unauthorized(format!("Failed to authorize: {part} been revoked"))
}

/// Returns the part of a token's origin that was deleted or revoked, if any.
async fn missing_part(
    store: &Store,
    facts: &AccessTokenFacts,
) -> Result<Option<&'static str>, StoreError> {
    if store.machine_identity(&facts.identity).await?.is_none() {
        return Ok(Some("identity tokens have"));
    }
    if store.identity_method(&facts.method).await?.is_none() {
        return Ok(Some("auth method has"));
    }
    let Some(id) = &facts.client_secret else { return Ok(None) };
    let secrets = store.client_secrets(&facts.method).await?;
    let is_usable = secrets.iter().any(|secret| secret.id == *id && !secret.is_revoked);
    Ok((!is_usable).then_some("client secret has"))
}

/// Returns the facts of a token that is authentic, but was revoked.
pub(super) fn facts_of_revoked(token: &[u8]) -> Option<AccessTokenFacts> {
    let payload = token.split(|byte| *byte == b'.').nth(1)?;
    AccessTokenFacts::read(&exact_json::claims(&URL_SAFE_NO_PAD.decode(payload).ok()?))
}

/// The error of an access token whose claims are not those of this server.
fn invalid_claims() -> InfisicalError {
    InfisicalError::unauthorized("Invalid identity access token claims, please re-authenticate")
}

/// Reason to refuse the access token in the body of a call.
pub(super) enum PresentedTokenError {
    /// It is not authentic, or does not apply any more.
    Rejected(Rejection),
    /// It is a token of another kind.
    OtherKind,
    /// Its claims are not those of this version.
    InvalidClaims,
}

impl PresentedTokenError {
    /// Whether the token was revoked. Its issuer is not known for certain, but only an authentic
    /// token is rejected for this.
    pub(super) fn is_revocation(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { reject: Reject::Revoked, identity: None, .. }))
    }

    pub(super) fn into_error(self, settings: &IdentitySettings) -> InfisicalError {
        match self {
            Self::Rejected(rejection) => InfisicalError::rejected(&rejection, settings),
            Self::OtherKind => InfisicalError::bad_request("Token is not an identity access token"),
            Self::InvalidClaims => invalid_claims(),
        }
    }
}

/// Verifies the access token in the body of a call, without a look at its uses and the client's
/// address.
pub(super) async fn verify_presented(
    context: &InfisicalContext<'_>,
    token: &str,
) -> Result<AccessTokenFacts, PresentedTokenError> {
    let verified = context.api.authenticator.verify(context.caller, token.as_bytes()).await;
    let verified = verified.map_err(PresentedTokenError::Rejected)?;
    if !is_access_token(&verified) {
        return Err(PresentedTokenError::OtherKind);
    }
    let claims = exact_json::claims(&verified.claims().json());
    AccessTokenFacts::read(&claims).ok_or(PresentedTokenError::InvalidClaims)
}
