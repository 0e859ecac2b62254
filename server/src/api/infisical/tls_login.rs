//! Login with a TLS client certificate.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Response};

use super::{
    InfisicalContext,
    body::BodyReader,
    error::InfisicalError,
    logins::{check_organization_name, issue_for, read_organization},
};
use crate::{
    audit::AuditTarget,
    base::{background_pool::BackgroundBusyError, clock, reply::Body},
    identities::certificate::{
        AllowedAltName, CertificateRules, CertificateSource, CommonNames, IssuingCa,
        PresentationError, PresentedChain, RevocationLists,
    },
    store::{identity_methods::MethodKind, tls_certificate_methods::TlsCertificateMethod},
};

/// A login with a certificate.
pub(super) struct CertificateLogin {
    identity: String,
    organization: Option<String>,
}

impl CertificateLogin {
    pub(super) fn read(body: &[u8]) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let login = Self {
            identity: reader.text("identityId"),
            organization: read_organization(&mut reader),
        };
        reader.finish()?;
        Ok(login)
    }

    pub(super) fn audit_target(&self) -> AuditTarget {
        AuditTarget { user: Some(self.identity.clone()), ..AuditTarget::default() }
    }

    /// Logs in. A request without an acceptable certificate is refused before the identity is looked
    /// up, and a malformed one after it, as Infisical does.
    pub(super) async fn log_in(
        self,
        context: &InfisicalContext<'_>,
        (certificate, headers): (CertificateSource<'_>, &HeaderMap),
    ) -> Result<Response<Body>, InfisicalError> {
        let presented = match certificate.presented_certificate(headers) {
            Err(error) if !matches!(error, PresentationError::Malformed(_)) => {
                return Err(refused(error));
            }
            presented => presented,
        };
        // Before the identity is read: see `change_roles`.
        let now = clock::now();
        let (method, member) = context.users.store.tls_certificate_login(&self.identity).await?;
        let method = method.ok_or_else(|| {
            InfisicalError::not_found(
                "TLS Certificate auth method not found for identity, did you configure TLS \
                 Certificate auth?",
            )
            .because("method_not_attached")
        })?;
        let member = member.ok_or_else(|| InfisicalError::unauthorized("Identity not found"))?;
        let chain = presented.map_err(refused)?;
        let revoked = Arc::clone(&certificate.settings.revoked);
        let thumbprint = check(context, method.clone(), (chain, revoked)).await?;
        check_organization_name(context, self.organization.as_deref())?;
        let login = (&method.method, MethodKind::TlsCertificate);
        issue_for(context, member, now, login, None, thumbprint).await
    }
}

/// Checks a chain by the rules of a login method, on a thread that serves no requests. Returns the
/// thumbprint of the certificate if its tokens are bound to it.
async fn check(
    context: &InfisicalContext<'_>,
    method: TlsCertificateMethod,
    (chain, revoked): (PresentedChain, Arc<RevocationLists>),
) -> Result<Option<String>, InfisicalError> {
    let (is_bound, now) = (context.settings.binds_certificates, clock::now());
    let checked = context.checks.certificates.run(move |_| {
        rules(&method, revoked)?.check(&chain, now).map_err(|refusal| {
            InfisicalError::of_certificate(refusal.status(), refusal.message())
                .because(refusal.code())
        })?;
        Ok(is_bound.then(|| thumbprint(&chain)).flatten())
    });
    checked.await.map_err(|BackgroundBusyError| {
        InfisicalError::unavailable("Too many clients log in with certificates at once")
    })?
}

/// Returns the rules of a login method. They were checked when it was stored.
fn rules(
    method: &TlsCertificateMethod,
    revoked: Arc<RevocationLists>,
) -> Result<CertificateRules, InfisicalError> {
    let damaged = || InfisicalError::unavailable("The stored login method cannot be read");
    let common_names = method.allowed_common_names.clone().map(CommonNames::listed).transpose();
    let alt_names = method.allowed_alt_names.as_ref().map(|names| {
        names.iter().map(|name| AllowedAltName::parse(name)).collect::<Result<Vec<_>, _>>()
    });
    Ok(CertificateRules {
        ca: IssuingCa::parse(&method.ca_certificate).map_err(|_| damaged())?,
        verify_chain: method.verifies_chain,
        common_names: common_names.map_err(|_| damaged())?,
        subject_alt_names: alt_names.transpose().map_err(|_| damaged())?,
        revoked,
    })
}

/// Returns the thumbprint of the client's own certificate (RFC 8705 section 3.1).
fn thumbprint(chain: &PresentedChain) -> Option<String> {
    let certificate = chain.leaf()?;
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)))
}

fn refused(error: PresentationError) -> InfisicalError {
    InfisicalError::of_certificate(error.status(), error.message()).because(error.code())
}
