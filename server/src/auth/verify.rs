//! `POST /v1/verify`: verifies a token for an application and returns its claims.
//!
//! The body is `{"token": "..."}` in JSON, the form field `token`, or the bare token. Without a
//! body, the request's own bearer token is verified. The format is detected from the body, not
//! from `Content-Type`, because many clients send JSON with the media type of a form.
//!
//! JSON may have a `request`: that which the application is about to serve. It is then authorized
//! as a request that a proxy checks at the same listener. On the `orchestrate` surface, its
//! `X-Tenant-ID` and `X-Username` count, and not those of the call itself.
//!
//! JSON and forms may have a `certificate_thumbprint`: that of the client which presented the token
//! to the application. The certificate of the application itself proves nothing about a token in
//! the body.

/// Many tokens in one call.
pub mod batch;
/// Profile, tenant and authorization.
mod decision;

use std::{collections::BTreeMap, fmt};

use countersign_engine::{CertificateThumbprint, Verified};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::percent_decode;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use self::decision::VerifyContext;
use super::{
    Authenticator, Caller, ListenerRules, PendingVerification, Rejection,
    credential::Credential,
    profile::{Profile, Refusal, generic},
    settings::AuthSettings,
};
use crate::{
    authorization::KeptRequest,
    base::{
        outcome::Outcome,
        redacted::json_error,
        reply::{Body, Reply, no_store, problem, typed},
        tenant_label::TenantLabel,
    },
    client::{ClientCertificate, original_request::is_method},
    identities::settings::is_access_token,
    tenancy::identity::TenantIdentity,
};

/// Returns the claims of the token, or a problem response with the reject code.
pub async fn respond(
    authenticator: &Authenticator,
    settings: &AuthSettings,
    (caller, rules): (&Caller<'_, '_>, ListenerRules<'_>),
    headers: &HeaderMap,
    body: &[u8],
) -> Reply {
    let context = VerifyContext { authenticator, settings, rules };
    let reply = match presented_token(settings, headers, body) {
        Err(TokenRequestError { outcome, code, detail }) => {
            Reply::with_outcome(outcome, problem(StatusCode::BAD_REQUEST, code, &detail))
        }
        Ok(presented) => context.answer(caller, presented).await,
    };
    if let Some(outcome) = reply.outcome {
        authenticator.metrics.count_check(outcome);
        if !outcome.is_allowed() {
            let line = || Some(("POST", "/v1/verify"));
            authenticator.record_refusal(&reply, &caller.client, line, || None);
        }
    }
    Reply { response: no_store(reply.response), ..reply }
}

impl VerifyContext<'_> {
    async fn answer(&self, caller: &Caller<'_, '_>, presented: PresentedToken) -> Reply {
        let PresentedToken { token, certificate, request } = presented;
        let certificate = certificate.map_or(caller.certificate, ClientCertificate::Known);
        let caller = Caller { certificate, ..*caller };
        let authenticator = self.authenticator;
        // A call about a request decides as `/auth` does, and is a use of the token.
        let verified = match &request {
            Some(_) => authenticator.use_after(&caller, PendingVerification::Use, &token).await,
            None => authenticator.verify(&caller, &token).await,
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(rejection) => return self.refused(rejection, &token),
        };
        match self.decide(&verified, request.as_ref()) {
            Ok(tenant) => {
                if request.is_some()
                    && let Err(rejection) = authenticator.count_use(&verified).await
                {
                    return self.refused(rejection, &token);
                }
                let body = verified_json(&verified, request.map(|_| true), tenant.as_ref());
                let response = typed(StatusCode::OK, "application/json", body);
                let tenant = self.tenant_label(tenant.as_ref());
                Reply { tenant, ..Reply::with_outcome(Outcome::Verified, response) }
            }
            Err(refusal) => self.problem(refusal, &token),
        }
    }

    fn tenant_label(&self, tenant: Option<&TenantIdentity>) -> TenantLabel {
        let series = self.authenticator.metrics.series().zip(tenant);
        series.map(|(series, of)| series.tenant_label(of.tenant())).unwrap_or_default()
    }

    fn refused(&self, rejection: Rejection, token: &[u8]) -> Reply {
        let outcome = rejection.outcome();
        if let Some(refusal) = rejection.identity {
            let detail = "the access token may not be used";
            let response = problem(refusal.status(), outcome.name(), detail);
            return Reply::with_outcome(outcome, response);
        }
        let refusal = self.authenticator.refusal(self.rules.profile, rejection, token);
        Reply::with_outcome(outcome, refused(self.settings, &refusal))
    }
}

/// The answer for a verified token. Its claims are as they were signed, with numbers of any size.
#[derive(Serialize)]
struct VerifiedToken<'v> {
    ok: bool,
    /// Present if the body of the call has a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<bool>,
    section: &'v str,
    issuer: &'v str,
    subject: Option<&'v str>,
    username: Option<&'v str>,
    client_types: Vec<&'v str>,
    environment: Option<&'v str>,
    expires_at: Option<u64>,
    /// The tenant that the request acts for, on the `orchestrate` surface.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_tenants: Option<Vec<&'v str>>,
    claims: Option<&'v RawValue>,
}

fn verified_json(
    verified: &Verified<'_>,
    allowed: Option<bool>,
    tenant: Option<&TenantIdentity>,
) -> String {
    let claims = verified.claims();
    let json = claims.json();
    // As in the identity headers, the user is then that of the tenant.
    let (tenant, allowed_tenants, username) = match tenant.map(TenantIdentity::names) {
        Some(names) => (Some(names.tenant), Some(names.allowed_tenants), names.username),
        None => (None, None, claims.username()),
    };
    let answer = VerifiedToken {
        ok: true,
        allowed,
        section: &verified.issuer().section,
        issuer: verified.issuer_name(),
        subject: claims.subject(),
        username,
        client_types: claims.client_types().collect(),
        // The tokens of machine identities have their login method in its place.
        environment: claims.environment().filter(|_| !is_access_token(verified)),
        expires_at: claims.expires_at().map(|at| at.0),
        tenant,
        allowed_tenants,
        claims: serde_json::from_slice(&json).ok(),
    };
    serde_json::to_string(&answer).unwrap_or_default()
}

/// Returns the problem response to a rejected token.
pub(crate) fn refused(settings: &AuthSettings, refusal: &Refusal<'_>) -> Response<Body> {
    let status = Profile::Generic.status_of(refusal, settings.rejected_token_status);
    let mut response = problem(status, refusal.reject.code(), &refusal.to_string());
    generic::add_headers(refusal, &settings.challenges, response.headers_mut());
    response
}

/// The token of a request.
struct PresentedToken {
    token: Vec<u8>,
    /// The certificate of the client that presented the token to the application, if the body
    /// names one. `None` for the token of the request itself.
    certificate: Option<Option<CertificateThumbprint>>,
    /// The request to authorize.
    request: Option<KeptRequest>,
}

/// Error for a request without a token, or with more than one.
struct TokenRequestError {
    outcome: Outcome,
    code: &'static str,
    detail: String,
}

impl TokenRequestError {
    fn missing() -> Self {
        let detail = "no token: send {\"token\": \"...\"} as JSON, or a bearer token and no body";
        Self { outcome: Outcome::NoToken, code: "token_missing", detail: detail.into() }
    }

    fn thumbprint() -> Self {
        let detail = "certificate_thumbprint is not 43 characters of base64url: send the SHA-256 \
                      of the certificate in DER, as in x5t#S256 (RFC 8705)";
        Self { outcome: Outcome::NoToken, code: "certificate_thumbprint", detail: detail.into() }
    }

    /// Error for a request to authorize that cannot be used.
    fn request(detail: &str) -> Self {
        Self { outcome: Outcome::NoToken, code: "body", detail: detail.into() }
    }

    fn conflict() -> Self {
        Self {
            outcome: Outcome::Conflict,
            code: "credential_conflict",
            detail: "the credential is given twice".into(),
        }
    }
}

fn presented_token(
    settings: &AuthSettings,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<PresentedToken, TokenRequestError> {
    if body.is_empty() {
        return match settings.credentials.in_headers(headers) {
            Credential::Token(token) => {
                Ok(PresentedToken { token: token.to_vec(), certificate: None, request: None })
            }
            Credential::None => Err(TokenRequestError::missing()),
            Credential::Conflict | Credential::CrossSite => Err(TokenRequestError::conflict()),
        };
    }
    match body.trim_ascii_start() {
        [b'{', ..] => json_token(body),
        // A token contains no `=`, and every form does.
        form if form.contains(&b'=') => form_token(form),
        _ => Ok(PresentedToken { token: body.to_vec(), certificate: Some(None), request: None }),
    }
}

/// The body in JSON; serde rejects repeated members.
#[derive(Deserialize)]
struct VerifyRequest {
    token: Option<String>,
    certificate_thumbprint: Option<String>,
    /// If it is present, it is not null: a call without it authorizes nothing.
    #[serde(default, deserialize_with = "present")]
    request: Option<DescribedRequest>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

fn present<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<DescribedRequest>, D::Error> {
    DescribedRequest::deserialize(deserializer).map(Some)
}

/// Whether a member is meant to be `request`. Without it, the call would authorize nothing.
fn seems_request(name: &str) -> bool {
    let name = name.trim();
    name.eq_ignore_ascii_case("request") || name.eq_ignore_ascii_case("requests")
}

/// The request that an application is about to serve.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedRequest {
    method: String,
    /// The request target: the path, and the query if there is one.
    uri: String,
    #[serde(default)]
    headers: DescribedHeaders,
}

/// The members of `headers`, which may repeat names.
#[derive(Default)]
struct DescribedHeaders(Vec<(String, String)>);

impl<'d> Deserialize<'d> for DescribedHeaders {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'d> Visitor<'d> for Members {
            type Value = DescribedHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and values")
            }

            fn visit_map<M: MapAccess<'d>>(self, mut members: M) -> Result<Self::Value, M::Error> {
                let mut headers = Vec::new();
                while let Some(member) = members.next_entry()? {
                    headers.push(member);
                }
                Ok(DescribedHeaders(headers))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl DescribedRequest {
    fn keep(self) -> Result<KeptRequest, TokenRequestError> {
        if !is_method(&self.method) {
            let detail = "method in request is not a method, such as GET";
            return Err(TokenRequestError::request(detail));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers.0 {
            let line = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(value)) = line else {
                let detail = "headers in request is not an object of header names and values";
                return Err(TokenRequestError::request(detail));
            };
            if headers.insert(name, value).is_some() {
                let detail = "headers in request has a header twice: their names have no case";
                return Err(TokenRequestError::request(detail));
            }
        }
        Ok(KeptRequest::of_parts(self.method, self.uri, headers))
    }
}

fn json_token(body: &[u8]) -> Result<PresentedToken, TokenRequestError> {
    let request: VerifyRequest =
        serde_json::from_slice(body).map_err(|error| TokenRequestError {
            outcome: Outcome::NoToken,
            code: "body",
            detail: format!(
                "cannot parse the body: {}; send {{\"token\": \"...\"}}",
                json_error(&error)
            ),
        })?;
    if request.others.keys().any(|name| seems_request(name)) {
        let detail = "the member with the request to authorize is named request";
        return Err(TokenRequestError::request(detail));
    }
    Ok(PresentedToken {
        token: request.token.ok_or_else(TokenRequestError::missing)?.into_bytes(),
        certificate: Some(thumbprint(request.certificate_thumbprint.as_deref())?),
        request: request.request.map(DescribedRequest::keep).transpose()?,
    })
}

fn form_token(body: &[u8]) -> Result<PresentedToken, TokenRequestError> {
    let field = |name: &str| {
        let values = |field| <[u8]>::strip_prefix(field, name.as_bytes())?.strip_prefix(b"=");
        let mut values = body.split(|byte| *byte == b'&').filter_map(values);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(TokenRequestError::conflict()),
            (value, None) => Ok(value.map(|value| percent_decode(value).collect::<Vec<u8>>())),
        }
    };
    let mut names = body.split(|byte| *byte == b'&').map(|field| {
        let name = field.split(|byte| *byte == b'=').next().unwrap_or_default();
        percent_decode(name).map(|byte| if byte == b'+' { b' ' } else { byte }).collect::<Vec<_>>()
    });
    if names.any(|name| seems_request(&String::from_utf8_lossy(&name))) {
        let detail = "a form has no request to authorize: send JSON";
        return Err(TokenRequestError::request(detail));
    }
    let certificate = field("certificate_thumbprint")?;
    let certificate = certificate.as_deref().map(String::from_utf8_lossy);
    Ok(PresentedToken {
        token: field("token")?.ok_or_else(TokenRequestError::missing)?,
        certificate: Some(thumbprint(certificate.as_deref())?),
        request: None,
    })
}

fn thumbprint(text: Option<&str>) -> Result<Option<CertificateThumbprint>, TokenRequestError> {
    text.map(|text| CertificateThumbprint::parse(text).ok_or_else(TokenRequestError::thumbprint))
        .transpose()
}
