//! What authorizes requests: listeners, rules by route, the access policy, and the endpoints that
//! it knows.

use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer, page::ListPage};
use crate::{
    api::settings::DecidingListener,
    authorization::{
        policy::Policy,
        routes::{RoutePattern, RouteRule},
    },
};

/// Returns how requests are authorized.
pub(super) fn get(call: &AdminCall<'_>) -> Answer {
    let (authorization, settings) = (&call.context.auth.authorization, call.context.settings);
    let routes = &authorization.routes;
    let authorization = json!({
        "api": settings.authorization_provider.name(),
        "listeners": settings.deciding.iter().map(listener_json).collect::<Value>(),
        "routes": routes.rules().iter().map(route_json).collect::<Value>(),
        "allows_others": routes.allows_others(),
        "policy": authorization.policy.policy.as_deref().map(policy_json),
    });
    Ok(call.representation(StatusCode::OK, &authorization.into()))
}

/// Returns a [`ListPage`] of the endpoints that the access policy knows.
pub(super) fn list_endpoints(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let mut data = call.context.auth.authorization.endpoints.data();
    let endpoints = data["endpoints"].take();
    let mut items: Vec<_> = endpoints
        .as_object()
        .into_iter()
        .flatten()
        .map(|(id, properties)| (id.clone(), endpoint_json(id, properties)))
        .collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(page.of_all(call, items))
}

fn listener_json(DecidingListener { name, profile, access }: &DecidingListener) -> Value {
    let open_paths = access.open_paths.patterns().iter().map(RoutePattern::to_string);
    json!({
        "name": name,
        "surface": profile.name(),
        "authorization": access.provider.name(),
        "open_paths": open_paths.collect::<Vec<_>>(),
    })
}

fn route_json(rule: &RouteRule) -> Value {
    json!({ "section": rule.name, "requests": rule.pattern_list(), "allows": rule.access() })
}

fn policy_json(policy: &Policy) -> Value {
    json!({
        "path": policy.path(),
        "is_deterministic": policy.is_deterministic(),
        "roles": policy.roles(),
        "text": policy.text(),
    })
}

fn endpoint_json(id: &str, properties: &Value) -> Value {
    json!({
        "id": id,
        "client_types": properties["client_types"],
        "label": properties["auth_label"],
        "environment": properties["environment_param"],
    })
}
