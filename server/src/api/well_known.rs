//! `/.well-known/jwks.json`, and `/.well-known/oauth-protected-resource`.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    auth::ProtectedResource,
    base::reply::{Body, json as json_response, typed},
    keys::KeySources,
};

/// Returns the public keys of this server's own tokens (RFC 7517 section 5). The set is empty:
/// tokens are signed with HS256, whose key is secret.
pub fn jwks() -> Response<Body> {
    typed(StatusCode::OK, "application/jwk-set+json", json!({ "keys": [] }).to_string())
}

/// Returns the metadata of the protected resource (RFC 9728 section 2). Any page may read it.
///
/// Authorization servers are the issuers whose tokens are accepted, but for this server itself,
/// which has no metadata of its own (RFC 8414 section 2: an issuer is an https URL).
pub fn resource_metadata(resource: &ProtectedResource, keys: &KeySources) -> Response<Body> {
    let sources = keys.all();
    let sections: Vec<_> =
        sources.iter().map(|source| source.section()).filter(|section| !section.sign).collect();
    let names = sections.iter().map(|section| &*section.issuer.name);
    let servers: Vec<_> =
        names.filter(|name| name.starts_with("https://") && !name.contains('{')).collect();
    let mut scopes: Vec<_> = sections
        .iter()
        .flat_map(|section| &section.issuer.rules.scopes)
        .map(|one| &**one)
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    let mut metadata = json!({
        "resource": resource.identifier,
        "bearer_methods_supported": ["header"],
    });
    // A member without elements is omitted (RFC 9728 section 3.2).
    for (member, elements) in [("authorization_servers", servers), ("scopes_supported", scopes)] {
        if !elements.is_empty() {
            metadata[member] = Value::from(elements);
        }
    }
    let mut response = json_response(StatusCode::OK, &metadata);
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}
