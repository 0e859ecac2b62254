//! Machine identities: deletion, and the end of a login method or a client secret.

use http::Method;
use maud::html;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ChangePreview, DangerousChange, count};
use crate::{
    console::{
        api_call::{CallAnswer, UserCalls},
        error_page::{CallRefusal, ConsoleError},
        request::FormFields,
    },
    store::identity_methods::MethodKind,
};

const PAGE: &str = "/console/identities";

/// The identity of a change, by its id, and its login method or client secret.
struct IdentityTarget {
    identity: Uuid,
    /// The path of the change in the API.
    path: String,
}

impl IdentityTarget {
    /// Reads the fields of a change. Ids are segments of paths.
    fn of(change: DangerousChange, fields: &FormFields) -> Result<Self, ConsoleError> {
        let missing = || ConsoleError::from(CallRefusal::not_found("It does not exist.".into()));
        let id = |name| Uuid::parse_str(fields.get(name)).map_err(|_| missing());
        let identity = id("identity")?;
        let path = match change {
            DangerousChange::DetachMethod => {
                let mut kinds = MethodKind::ALL.into_iter();
                let kind = kinds.find(|kind| kind.name() == fields.get("method"));
                method_path(kind.ok_or_else(missing)?, identity)
            }
            DangerousChange::RevokeSecret => {
                let path = secrets_path(identity);
                format!("{path}/{}/revoke", id("secret")?)
            }
            _ => format!("/api/v1/identities/{identity}"),
        };
        Ok(Self { identity, path })
    }
}

fn method_path(kind: MethodKind, identity: Uuid) -> String {
    format!("/api/v1/auth/{}/identities/{identity}", kind.name())
}

fn secrets_path(identity: Uuid) -> String {
    format!("{}/client-secrets", method_path(MethodKind::UniversalAuth, identity))
}

async fn get(calls: &UserCalls<'_>, target: &str) -> Result<CallAnswer, ConsoleError> {
    calls.make_infisical(Method::GET, target, Value::Null).await.into_success()
}

pub(super) async fn preview(
    calls: &UserCalls<'_>,
    change: DangerousChange,
    fields: &FormFields,
) -> Result<ChangePreview, ConsoleError> {
    let IdentityTarget { identity, path } = IdentityTarget::of(change, fields)?;
    let shown = get(calls, &format!("/api/v1/identities/{identity}")).await?;
    let found = &shown.body()["identity"]["identity"];
    let name = found["name"].as_str().unwrap_or_default().to_owned();
    let methods = found["authMethods"].as_array().map_or(0, Vec::len);
    let mut consequences = match change {
        DangerousChange::DeleteIdentity => {
            let path = format!("/api/v1/identities/{identity}/identity-memberships");
            let projects = get(calls, &path).await?;
            let projects = projects.body()["identityMemberships"].as_array().map_or(0, Vec::len);
            let (methods, projects) = (count(methods, "login method"), count(projects, "project"));
            vec![
                format!("All access tokens of {name} are refused at once."),
                format!("{name} cannot log in any more: it loses {methods}, and is in {projects}."),
            ]
        }
        DangerousChange::DetachMethod => {
            method_consequences(calls, identity, fields, &name).await?
        }
        _ => secret_consequences(calls, &path, &name).await?,
    };
    consequences.push("It cannot be undone.".into());
    let state = match change {
        DangerousChange::DetachMethod => {
            json!([shown.body(), get(calls, &path).await?.body()]).to_string()
        }
        _ => shown.body().to_string(),
    };
    let page = format!("{PAGE}?id={identity}");
    let (title, button, done, command) = match change {
        DangerousChange::DeleteIdentity => {
            (format!("Delete the identity {name}"), "Delete the identity", PAGE, "delete IDENTITY")
        }
        DangerousChange::DetachMethod => {
            let title = format!("Detach {} from {name}", fields.get("method"));
            (title, "Detach the method", &*page, "detach IDENTITY METHOD")
        }
        _ => {
            let title = format!("Revoke a client secret of {name}");
            (title, "Revoke the secret", &*page, "revoke-secret IDENTITY SECRET")
        }
    };
    let done = if done == PAGE { format!("{PAGE}?done=delete") } else { format!("{done}&done=1") };
    Ok(ChangePreview {
        title,
        consequences,
        name,
        state,
        inputs: html! {},
        button,
        back: page,
        done,
        command: format!("countersign identity {command}"),
    })
}

async fn method_consequences(
    calls: &UserCalls<'_>,
    identity: Uuid,
    fields: &FormFields,
    name: &str,
) -> Result<Vec<String>, ConsoleError> {
    let method = fields.get("method");
    let mut all = vec![
        format!("{name} cannot log in by {method} any more."),
        "Access tokens that were obtained by it are refused at once.".into(),
    ];
    if method == MethodKind::UniversalAuth.name() {
        let secrets = get(calls, &secrets_path(identity)).await?;
        let secrets = secrets.body()["clientSecretData"].as_array().map_or(0, Vec::len);
        all.push(format!(
            "{} deleted with it.",
            match secrets {
                1 => "1 client secret is".to_owned(),
                number => format!("{number} client secrets are"),
            }
        ));
    }
    Ok(all)
}

/// `path` is that of the call that revokes the secret.
async fn secret_consequences(
    calls: &UserCalls<'_>,
    path: &str,
    name: &str,
) -> Result<Vec<String>, ConsoleError> {
    let secret = get(calls, path.trim_end_matches("/revoke")).await?;
    let mut all = vec![
        format!("{name} cannot log in with this client secret any more."),
        "Access tokens that were obtained with it are refused at once.".into(),
    ];
    if secret.body()["clientSecretData"]["isClientSecretRevoked"] == true {
        all.push("It is revoked already.".into());
    }
    Ok(all)
}

pub(super) async fn make(
    calls: &UserCalls<'_>,
    change: DangerousChange,
    fields: &FormFields,
) -> Result<(), ConsoleError> {
    let IdentityTarget { path, .. } = IdentityTarget::of(change, fields)?;
    let (method, body) = match change {
        DangerousChange::RevokeSecret => (Method::POST, json!({})),
        _ => (Method::DELETE, Value::Null),
    };
    calls.make_infisical(method, &path, body).await.into_success().map(drop)
}
