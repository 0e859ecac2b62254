//! Changes of machine identities and of their login method by a TLS client certificate: the calls
//! of `/api/v1`, with arguments and errors in the form of this API.

use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    AdminCall, Answer, entity_tag::TaggedResource, error::AdminError, identities,
    identities::current_tls_method, no_content, with_location,
};
use crate::{
    api::{
        audited::AuditedCall,
        infisical::{IdentityCall, InfisicalError},
    },
    base::reply::Body,
};

/// Names of members of bodies, here and in the calls of `/api/v1`.
const MEMBERS: [(&str, &str); 12] = [
    ("name", "name"),
    ("role", "role"),
    ("has_delete_protection", "hasDeleteProtection"),
    ("metadata", "metadata"),
    ("ca_certificate", "caCertificate"),
    ("allowed_common_names", "allowedCommonNames"),
    ("allowed_alt_names", "allowedSubjectAltNames"),
    ("verifies_chain", "verifyClientCertificateChain"),
    ("token_ttl", "accessTokenTTL"),
    ("token_max_ttl", "accessTokenMaxTTL"),
    ("token_uses_limit", "accessTokenNumUsesLimit"),
    ("token_trusted_ips", "accessTokenTrustedIps"),
];

/// Creates an identity.
pub(super) async fn create(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let created = make(call, Method::POST, "/api/v1/identities".into(), audited).await?;
    let id = created["identity"]["id"].as_str().unwrap_or_default();
    let location = format!("/v1/admin/identities/{id}");
    let identity = identities::current(call, id).await?;
    Ok(with_location(call.representation(StatusCode::CREATED, &identity), &location))
}

/// Changes an identity.
pub(super) async fn change(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let id = call.path_parameter("id");
    let change = (Method::PATCH, identity_path(call));
    make_if_matching(call, change, identities::current(call, id), audited).await?;
    let identity = identities::current(call, id).await?;
    Ok(call.representation(StatusCode::OK, &identity))
}

/// Deletes an identity.
pub(super) async fn delete(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let current = identities::current(call, call.path_parameter("id"));
    make_if_matching(call, (Method::DELETE, identity_path(call)), current, audited).await?;
    Ok(no_content())
}

/// Attaches the login method.
pub(super) async fn attach(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    make(call, Method::POST, method_path(call), audited).await?;
    let id = call.path_parameter("id");
    let location = format!("/v1/admin/identities/{id}/methods/tls-cert-auth");
    Ok(with_location(method_response(call, StatusCode::CREATED).await?, &location))
}

/// Changes the login method.
pub(super) async fn change_method(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let (change, current) = ((Method::PATCH, method_path(call)), current_tls_method(call));
    make_if_matching(call, change, current, audited).await?;
    method_response(call, StatusCode::OK).await
}

/// Detaches the login method.
pub(super) async fn detach(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let (change, current) = ((Method::DELETE, method_path(call)), current_tls_method(call));
    make_if_matching(call, change, current, audited).await?;
    Ok(no_content())
}

async fn method_response(
    call: &AdminCall<'_>,
    status: StatusCode,
) -> Result<Response<Body>, AdminError> {
    Ok(call.representation(status, &current_tls_method(call).await?))
}

fn identity_path(call: &AdminCall<'_>) -> String {
    format!("/api/v1/identities/{}", call.path_parameter("id"))
}

fn method_path(call: &AdminCall<'_>) -> String {
    format!("/api/v1/auth/tls-cert-auth/identities/{}", call.path_parameter("id"))
}

async fn make(
    call: &AdminCall<'_>,
    method: Method,
    path: String,
    audited: &mut AuditedCall<'_>,
) -> Result<Value, AdminError> {
    let inner = IdentityCall { method, path, body: arguments(call) };
    inner.make((&call.context, call.caller), audited, async { Ok(()) }).await
}

/// Makes a change of something, which is `current` now, if that has the tag of the request.
async fn make_if_matching(
    call: &AdminCall<'_>,
    (method, path): (Method, String),
    current: impl Future<Output = Result<TaggedResource, AdminError>>,
    audited: &mut AuditedCall<'_>,
) -> Result<Value, AdminError> {
    let inner = IdentityCall { method, path, body: arguments(call) };
    let check = async { call.check_match(&current.await?) };
    inner.make((&call.context, call.caller), audited, check).await
}

/// Returns the members of the body in the form of `/api/v1`.
fn arguments(call: &AdminCall<'_>) -> Value {
    let members = MEMBERS.iter().filter_map(|(name, other)| {
        let value = match (*name, call.body.given(name)?) {
            ("metadata", Value::Object(entries)) => {
                let entries = entries.iter();
                entries.map(|(key, value)| json!({ "key": key, "value": value })).collect()
            }
            ("token_trusted_ips", Value::Array(networks)) => {
                networks.iter().map(|network| json!({ "ipAddress": network })).collect()
            }
            (_, value) => value.clone(),
        };
        Some(((*other).to_owned(), value))
    });
    Value::Object(members.collect::<Map<_, _>>())
}

/// Returns the pointer to the same place in a body of this API.
fn renamed(pointer: &str) -> String {
    let place = pointer.trim_start_matches('/');
    let (member, element) = place.split_once('/').map_or((place, None), |(a, b)| (a, Some(b)));
    let known = MEMBERS.iter().find(|(_, other)| *other == member);
    let name = known.map_or(member, |(name, _)| name);
    element.map_or_else(|| format!("/{name}"), |element| format!("/{name}/{element}"))
}

impl From<InfisicalError> for AdminError {
    fn from(error: InfisicalError) -> Self {
        let parts = error.parts();
        let message = parts.message.unwrap_or("the call failed");
        match (parts.status, parts.pointer) {
            // A role in the body that does not exist is 404 in `/api/v1`.
            (
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND,
                Some(pointer),
            ) => Self::at(&renamed(pointer), message),
            (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, _) => {
                Self::invalid(message)
            }
            (StatusCode::FORBIDDEN, _) => Self::forbidden(message),
            (StatusCode::NOT_FOUND, _) => Self::not_found(message),
            (StatusCode::CONFLICT, _) => Self::conflict(message),
            _ => Self::unavailable(message),
        }
    }
}
