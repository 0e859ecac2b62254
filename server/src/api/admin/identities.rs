//! Machine identities and their login methods, as they are now.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    AdminCall, Answer, entity_tag::TaggedResource, error::AdminError, page::ListPage, time,
};
use crate::{
    base::reply,
    store::{
        identity_methods::{IdentityMethod, MethodKind},
        machine_identities::{IdentityFilter, MachineIdentity},
        tls_certificate_methods::TlsCertificateMethod,
    },
};

/// Returns a [`ListPage`] of the identities.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let mut identities = Vec::new();
    for organization in call.users.store.organizations().await? {
        let (organization, name) = (organization.id, String::new());
        let filter = IdentityFilter::all_of(organization, name);
        identities.extend(call.users.store.machine_identities(filter).await?.0);
    }
    identities.sort_by(|one, other| one.id.cmp(&other.id));
    let after = page.after.clone().unwrap_or_default();
    let rest = identities.into_iter().filter(|identity| identity.id > after);
    let rest: Vec<_> = rest.take(page.limit + 1).collect();
    let ids = rest.iter().map(|identity| identity.id.clone()).collect();
    let methods = call.users.store.methods_of_identities(ids).await?;
    let items = rest.iter().map(|identity| (identity.id.clone(), shown(identity, &methods)));
    Ok(page.of_rest(call, items.collect()))
}

/// Returns an identity.
pub(super) async fn get(call: &AdminCall<'_>) -> Answer {
    let identity = current(call, call.path_parameter("id")).await?;
    Ok(call.representation(StatusCode::OK, &identity))
}

/// Returns an identity as it is now.
pub(super) async fn current(call: &AdminCall<'_>, id: &str) -> Result<TaggedResource, AdminError> {
    let identity = find(call, id).await?;
    let methods = call.users.store.methods_of_identities(vec![identity.id.clone()]).await?;
    Ok(shown(&identity, &methods).into())
}

/// Returns the login method by a TLS client certificate.
pub(super) async fn get_tls_method(call: &AdminCall<'_>) -> Answer {
    Ok(call.representation(StatusCode::OK, &current_tls_method(call).await?))
}

/// Returns the login method by a TLS client certificate as it is now.
pub(super) async fn current_tls_method(call: &AdminCall<'_>) -> Result<TaggedResource, AdminError> {
    let identity = find(call, call.path_parameter("id")).await?;
    let method = call.users.store.tls_certificate_method(&identity.id).await?;
    let method = method.ok_or_else(|| {
        AdminError::not_found("the machine identity has no login method by a certificate")
    })?;
    let mut shown = tls_method_json(&method);
    shown["ca_certificate"] = method.ca_certificate.into();
    Ok(shown.into())
}

/// Returns the login methods of an identity.
pub(super) async fn list_methods(call: &AdminCall<'_>) -> Answer {
    let (identity, store) = (find(call, call.path_parameter("id")).await?, &call.users.store);
    let mut items = Vec::new();
    if let Some(tls) = store.tls_certificate_method(&identity.id).await? {
        items.push(tls_method_json(&tls));
    }
    if let Some(universal) = store.universal_auth_method(&identity.id).await? {
        let mut method = method_json(&universal.method, MethodKind::UniversalAuth);
        method["client_id"] = universal.client_id.into();
        items.push(method);
    }
    Ok(reply::json(StatusCode::OK, &json!({ "items": items })))
}

async fn find(call: &AdminCall<'_>, id: &str) -> Result<MachineIdentity, AdminError> {
    let found = call.users.store.machine_identity(id).await?;
    found.ok_or_else(|| AdminError::not_found("no machine identity has this id"))
}

fn shown(identity: &MachineIdentity, methods: &BTreeMap<String, Vec<String>>) -> Value {
    let metadata: BTreeMap<_, _> = identity.metadata.iter().cloned().collect();
    json!({
        "id": identity.id,
        "name": identity.name,
        "role": identity.role,
        "has_delete_protection": identity.has_delete_protection,
        "metadata": metadata,
        "methods": methods.get(&identity.id).map_or(&[][..], Vec::as_slice),
        "created_at": time(identity.created_at),
        "updated_at": time(identity.updated_at),
    })
}

fn tls_method_json(tls: &TlsCertificateMethod) -> Value {
    let mut method = method_json(&tls.method, MethodKind::TlsCertificate);
    method["allowed_common_names"] = json!(tls.allowed_common_names);
    method["allowed_alt_names"] = json!(tls.allowed_alt_names);
    method["verifies_chain"] = tls.verifies_chain.into();
    method
}

fn method_json(method: &IdentityMethod, kind: MethodKind) -> Value {
    json!({
        "id": method.id,
        "kind": kind.name(),
        "token_ttl": method.terms.ttl,
        "token_max_ttl": method.terms.max_ttl,
        "token_uses_limit": method.terms.uses_limit,
        "token_trusted_ips": method.terms.trusted_ips,
        "created_at": time(method.created_at),
        "updated_at": time(method.updated_at),
    })
}
