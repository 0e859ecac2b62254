//! One machine identity: its login methods, its secrets by their descriptions, and its projects.

use maud::{Markup, html};
use serde_json::Value;
use uuid::Uuid;

use super::{super::api_call::UserCalls, PATH, get, role, text, texts};
use crate::{
    base::printable::printable,
    console::{
        danger::DangerousChange,
        error_page::ConsoleError,
        layout::as_command,
        text::{utc, whole},
    },
    store::identity_methods::MethodKind,
};

/// Returns the page of an identity.
///
/// # Errors
/// It does not exist, or the call is refused.
pub(super) async fn detail(
    calls: &UserCalls<'_>,
    id: &str,
    is_changed: bool,
) -> Result<Markup, ConsoleError> {
    // An id is a segment of the paths below.
    let id = Uuid::parse_str(id).map_err(|_| ConsoleError::NotFound)?;
    let found = get(calls, &format!("/api/v1/identities/{id}")).await?;
    let membership = &found.body()["identity"];
    let methods = membership["identity"]["authMethods"].as_array().cloned().unwrap_or_default();
    let mut sections = Vec::new();
    let is_attached = |kind: &MethodKind| methods.iter().any(|method| *method == kind.name());
    for kind in MethodKind::ALL.into_iter().filter(is_attached) {
        sections.push(method_section(calls, kind, id).await?);
    }
    let projects = format!("/api/v1/identities/{id}/identity-memberships");
    let projects = get(calls, &projects).await?;
    let name = text(&membership["identity"]["name"]);
    let command = format!("countersign identity show {}", text(&membership["identityId"]));
    Ok(html! {
        p { a href=(PATH) { "All identities" } }
        h1 { (name) }
        @if is_changed { p role="status" { "✓ The identity is changed." } }
        (facts(membership))
        @if sections.is_empty() {
            p.empty {
                "The identity cannot log in: it has no login method. "
                code { "countersign identity attach-universal" } " attaches one."
            }
        }
        @for section in &sections { (section) }
        (memberships(&projects.body()["identityMemberships"]))
        p.danger {
            a href=(DangerousChange::DeleteIdentity.address(&[&id.to_string()])) {
                "Delete the identity…"
            }
        }
        (as_command(&command))
    })
}

fn facts(membership: &Value) -> Markup {
    let is_protected = membership["identity"]["hasDeleteProtection"] == true;
    let metadata = membership["metadata"].as_array().into_iter().flatten();
    html! {
        dl.facts {
            dt { "Id" } dd { code data-copy="" { (text(&membership["identityId"])) } }
            dt { "Organization" } dd { code data-copy="" { (text(&membership["orgId"])) } }
            dt { "Role" } dd { (role(membership)) }
            dt { "Created" } dd { (utc(&membership["createdAt"])) }
            dt { "Last changed" } dd { (utc(&membership["updatedAt"])) }
            dt { "Deletion" } dd { @if is_protected { "refused" } @else { "possible" } }
            @for entry in metadata {
                dt { (text(&entry["key"])) } dd { (text(&entry["value"])) }
            }
        }
    }
}

async fn method_section(
    calls: &UserCalls<'_>,
    kind: MethodKind,
    identity: Uuid,
) -> Result<Markup, ConsoleError> {
    let path = format!("/api/v1/auth/{}/identities/{identity}", kind.name());
    let answer = get(calls, &path).await?;
    let shown = answer.body().as_object().and_then(|body| body.values().next());
    let shown = shown.unwrap_or(&Value::Null);
    let secrets = match shown["clientId"].as_str() {
        Some(_) => Some(get(calls, &format!("{path}/client-secrets")).await?),
        None => None,
    };
    let detach = DangerousChange::DetachMethod.address(&[&identity.to_string(), kind.name()]);
    Ok(html! {
        section.issuer {
            h2 { "Login method " (kind.name()) }
            (method_facts(shown))
            @if let Some(secrets) = &secrets {
                (secret_table(&secrets.body()["clientSecretData"], identity))
            }
            p.danger {
                a href=(detach) { "Detach the method…" }
            }
        }
    })
}

/// Returns what a login method has. No member is a secret; a certificate is public, but long.
fn method_facts(method: &Value) -> Markup {
    const MEMBERS: [(&str, &str); 11] = [
        ("clientId", "Client id"),
        ("allowedCommonNames", "Common names"),
        ("allowedSubjectAltNames", "Alternative names"),
        ("accessTokenTTL", "Lifetime of tokens, seconds"),
        ("accessTokenMaxTTL", "Longest renewal, seconds"),
        ("accessTokenPeriod", "Period, seconds"),
        ("accessTokenNumUsesLimit", "Uses of a token"),
        ("lockoutEnabled", "Lockout after failures"),
        ("lockoutThreshold", "Failures up to a lockout"),
        ("createdAt", "Created"),
        ("updatedAt", "Last changed"),
    ];
    let shown = MEMBERS.iter().filter(|(member, _)| !method[*member].is_null());
    html! {
        dl.facts {
            @for (member, label) in shown {
                dt { (label) } dd { (member_text(member, &method[*member])) }
            }
            @for (member, label) in [
                ("accessTokenTrustedIps", "Addresses of tokens"),
                ("clientSecretTrustedIps", "Addresses of logins"),
            ] {
                @if method[member].is_array() {
                    dt { (label) } dd { (addresses(&method[member])) }
                }
            }
        }
    }
}

fn member_text(member: &str, value: &Value) -> Markup {
    let words = match value {
        Value::Number(number) => match number.as_u64() {
            Some(0) if member != "lockoutThreshold" => "no limit".into(),
            Some(number) => whole(number),
            None => number.to_string(),
        },
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(_) if member.ends_with("At") => return utc(value),
        other => texts(other),
    };
    html! { (words) }
}

/// Returns addresses in CIDR notation, as Infisical shows them.
fn addresses(list: &Value) -> String {
    let one = |address: &Value| {
        let prefix = address["prefix"].as_u64().map(|prefix| format!("/{prefix}"));
        format!("{}{}", text(&address["ipAddress"]), prefix.unwrap_or_default())
    };
    let all: Vec<_> = list.as_array().into_iter().flatten().map(one).collect();
    all.join(", ")
}

fn secret_table(secrets: &Value, identity: Uuid) -> Markup {
    let secrets: Vec<_> = secrets.as_array().into_iter().flatten().collect();
    html! {
        @if secrets.is_empty() {
            p.empty {
                "No client secret yet: " code { "countersign identity client-secret" }
                " creates the first."
            }
        } @else {
            table {
                thead {
                    tr {
                        th { "Client secret" } th { "Id" } th { "Created" } th.number { "Uses" }
                        th { "State" }
                    }
                }
                tbody {
                    @for secret in secrets {
                        tr {
                            td data-label="Client secret" { (texts(&secret["description"])) }
                            td data-label="Id" { code data-copy="" { (text(&secret["id"])) } }
                            td data-label="Created" { (utc(&secret["createdAt"])) }
                            td.number data-label="Uses" {
                                (whole(secret["clientSecretNumUses"].as_u64().unwrap_or_default()))
                            }
                            td data-label="State" { (secret_state(secret, identity)) }
                        }
                    }
                }
            }
        }
    }
}

fn secret_state(secret: &Value, identity: Uuid) -> Markup {
    let id = secret["id"].as_str().unwrap_or_default();
    html! {
        @if secret["isClientSecretRevoked"] == true {
            span.state data-state="bad" { "✗ revoked" }
        } @else {
            span.state data-state="good" { "✓ not revoked" } " "
            a href=(DangerousChange::RevokeSecret.address(&[&identity.to_string(), id])) {
                "Revoke…"
            }
        }
    }
}

fn memberships(projects: &Value) -> Markup {
    let projects: Vec<_> = projects.as_array().into_iter().flatten().collect();
    let roles = |one: &Value| {
        let roles = one["roles"].as_array().into_iter().flatten();
        let names = roles.map(|role| match role["customRoleSlug"].as_str() {
            Some(slug) => printable(slug),
            None => text(&role["role"]),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    html! {
        section {
            h2 { "Projects" }
            @if projects.is_empty() {
                p.empty {
                    "In no project yet: " code { "countersign identity assign" } " adds it to one."
                }
            } @else {
                table {
                    thead { tr { th { "Project" } th { "Id" } th { "Roles" } } }
                    tbody {
                        @for one in projects {
                            tr {
                                td data-label="Project" { (text(&one["project"]["name"])) }
                                td data-label="Id" {
                                    code data-copy="" { (text(&one["projectId"])) }
                                }
                                td data-label="Roles" { (roles(one)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
