//! Local users.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    AdminCall, Answer, entity_tag::TaggedResource, error::AdminError, no_content, page::ListPage,
    segment, with_location,
};
use crate::{
    api::{audited::AuditedCall, inmanta::user_json},
    store::users::Roles,
};

/// Returns a [`ListPage`] of the users.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let store = &call.users.store;
    let (mut users, roles) = (store.users().await?, store.roles_of_all().await?);
    // The order of a database depends on its collation.
    users.sort_by(|one, other| one.username.cmp(&other.username));
    let none = Roles::new();
    let items = users.iter().map(|user| {
        let roles = roles.get(&user.username).unwrap_or(&none);
        (user.username.clone(), user_json(user, Some(roles)))
    });
    Ok(page.of_all(call, items))
}

/// Returns a user.
pub(super) async fn get(call: &AdminCall<'_>) -> Answer {
    let user = current(call, call.path_parameter("username")).await?;
    Ok(call.representation(StatusCode::OK, &user))
}

/// Adds a user.
pub(super) async fn add(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let username = call.body.text("username");
    let body = json!({ "username": username, "password": call.body.text("password") });
    let inner = AdminCall::inner(Method::POST, "/api/v2/user".into(), body);
    let authorized = inner.authorize(&call.context, call.session, audited).await?;
    let executed = authorized.execute(&call.context, call.caller, call.session, audited).await?;
    // The name as it is stored.
    let username = executed.data["username"].as_str().unwrap_or(username);
    let user = current(call, username).await?;
    let location = format!("/v1/admin/users/{}", segment(username));
    Ok(with_location(call.representation(StatusCode::CREATED, &user), &location))
}

/// Grants or withdraws administrator rights.
pub(super) async fn set_admin(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let username = call.path_parameter("username");
    let body = json!({ "username": username, "is_admin": call.body.flag("is_admin") });
    let inner = AdminCall::inner(Method::PATCH, "/api/v2/is_admin".into(), body);
    call.change(inner, current(call, username), audited).await?;
    Ok(call.representation(StatusCode::OK, &current(call, username).await?))
}

/// Changes a password.
pub(super) async fn set_password(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let username = call.path_parameter("username");
    let mut body = json!({ "password": call.body.text("password") });
    if let Some(current) = call.body.get("current_password") {
        body["current_password"] = current.clone();
    }
    let target = format!("/api/v2/user/{}/password", segment(username));
    let inner = AdminCall::inner(Method::PATCH, target, body);
    let executed = call.change(inner, current(call, username), audited).await?;
    let mut response = no_content();
    response.headers_mut().extend(executed.authorization.map(|one| (header::AUTHORIZATION, one)));
    Ok(response)
}

/// Deletes a user.
pub(super) async fn delete(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let username = call.path_parameter("username");
    let target = format!("/api/v2/user/{}", segment(username));
    let inner = AdminCall::inner(Method::DELETE, target, Value::Null);
    call.change(inner, current(call, username), audited).await?;
    Ok(no_content())
}

/// Returns a user as it is now.
///
/// Its tag changes with the password, and is another one for a later user of the same name.
pub(super) async fn current(
    call: &AdminCall<'_>,
    username: &str,
) -> Result<TaggedResource, AdminError> {
    let store = &call.users.store;
    let user = store.user(username).await?;
    let user = user.ok_or_else(|| AdminError::not_found("no user has this name"))?;
    let shown = user_json(&user, Some(&store.roles_of(username).await?));
    Ok(TaggedResource { shown, hidden: user.credential_state() })
}
