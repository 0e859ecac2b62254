//! Machine identities and their login methods, which change by the calls of `/api/v1`.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer, error::AdminError, page::ListPage, time};
use crate::{
    base::reply,
    store::{
        identity_methods::{IdentityMethod, MethodKind},
        machine_identities::{IdentityFilter, MachineIdentity},
    },
};

/// Returns a [`ListPage`] of the identities.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let mut identities = Vec::new();
    for organization in call.users.store.organizations().await? {
        let (organization, name) = (organization.id, String::new());
        let filter = IdentityFilter { organization, name, role: None, offset: 0, limit: u32::MAX };
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
    let identity = find(call).await?;
    let methods = call.users.store.methods_of_identities(vec![identity.id.clone()]).await?;
    Ok(call.representation(StatusCode::OK, &shown(&identity, &methods)))
}

/// Returns the login methods of an identity.
pub(super) async fn list_methods(call: &AdminCall<'_>) -> Answer {
    let (identity, store) = (find(call).await?, &call.users.store);
    let mut items = Vec::new();
    if let Some(tls) = store.tls_certificate_method(&identity.id).await? {
        let mut method = method_json(&tls.method, MethodKind::TlsCertificate);
        method["allowed_common_names"] = json!(tls.allowed_common_names);
        items.push(method);
    }
    if let Some(universal) = store.universal_auth_method(&identity.id).await? {
        let mut method = method_json(&universal.method, MethodKind::UniversalAuth);
        method["client_id"] = universal.client_id.into();
        items.push(method);
    }
    Ok(reply::json(StatusCode::OK, &json!({ "items": items })))
}

async fn find(call: &AdminCall<'_>) -> Result<MachineIdentity, AdminError> {
    let found = call.users.store.machine_identity(call.path_parameter("id")).await?;
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
