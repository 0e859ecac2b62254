//! `countersign identity`: machine identities of a running server.
//!
//! The server checks the values, records the changes and revokes tokens, as for any caller of its
//! API.

mod methods;
mod roles;
mod secrets;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    CommandError, ConfigSource,
    arguments::{IdentityArgs, IdentityCommand},
    client::{ApiCall, CallError, ServerClient, id_of_name, is_uuid},
    print,
    table::{display_value, print_list},
};
use crate::api::settings::NO_SUCH_CALL;

pub(super) fn run(source: &ConfigSource, args: IdentityArgs) -> Result<(), CommandError> {
    let identities = IdentityClient(ServerClient::of(source, &args.server)?);
    match args.command {
        IdentityCommand::Organization { json } => identities.print_organizations(json),
        IdentityCommand::List { json } => identities.print_all(json),
        IdentityCommand::Show { identity, json } => identities.show(&identity, json),
        IdentityCommand::Create { name, role, delete_protection } => {
            identities.create(&name, &role, delete_protection)
        }
        IdentityCommand::Update { identity, name, role, delete_protection } => {
            let id = identities.id(&identity)?;
            let members = [
                ("name", name.map(Value::from)),
                ("role", role.map(Value::from)),
                ("hasDeleteProtection", delete_protection.map(Value::from)),
            ];
            identities.call(Method::PATCH, &["identities", &id], Some(object(members)))?;
            Ok(print(format_args!("Identity {identity} is changed."))?)
        }
        IdentityCommand::Delete { identity } => {
            let id = identities.id(&identity)?;
            identities.call(Method::DELETE, &["identities", &id], None)?;
            Ok(print(format_args!("Identity {identity} is deleted."))?)
        }
        IdentityCommand::Assign { identity, roles, project } => {
            identities.assign(&identity, &project, &roles)
        }
        IdentityCommand::Unassign { identity, project } => identities.unassign(&identity, &project),
        IdentityCommand::AddRole { role, project } => {
            identities.add_role(&role, project.as_deref())
        }
        IdentityCommand::Roles { project, json } => {
            identities.print_roles(project.as_deref(), json)
        }
        IdentityCommand::AttachCertificate(args) => identities.attach_certificate(args),
        IdentityCommand::AttachUniversal(args) => identities.attach_universal(args),
        IdentityCommand::Detach { identity, method } => identities.detach(&identity, method),
        IdentityCommand::ClientSecret(args) => identities.create_secret(args),
        IdentityCommand::ClientSecrets { identity, json } => {
            identities.print_secrets(&identity, json)
        }
        IdentityCommand::RevokeSecret { identity, secret } => {
            identities.revoke_secret(&identity, &secret)
        }
        IdentityCommand::Unlock { identity } => identities.unlock(&identity),
    }
}

/// The identities of a server.
struct IdentityClient(ServerClient);

impl IdentityClient {
    /// Makes a call and returns the response.
    fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Value, CommandError> {
        let call = ApiCall::infisical(method, path);
        self.send(match body {
            Some(body) => call.body(body),
            None => call,
        })
    }

    fn send(&self, call: ApiCall) -> Result<Value, CommandError> {
        Ok(self.0.call_whole(call).map_err(with_remedy)?)
    }

    /// Returns the id of an identity given by id or name.
    fn id(&self, reference: &str) -> Result<String, CommandError> {
        if is_uuid(reference) {
            return Ok(reference.to_lowercase());
        }
        id_of_name("identity", reference, &rows(&self.all()?))
    }

    /// Returns all identities. The list has the first ones of very many, and a search the others.
    fn all(&self) -> Result<Vec<Value>, CommandError> {
        const MAX_FOUND: usize = 100;
        let mut all = Vec::new();
        let mut part = self.call(Method::GET, &["identities"], None)?;
        loop {
            let Value::Array(mut identities) = part["identities"].take() else { return Ok(all) };
            let is_last = identities.is_empty();
            all.append(&mut identities);
            if is_last || part["totalCount"].as_u64().is_none_or(|count| all.len() as u64 >= count)
            {
                return Ok(all);
            }
            let page = json!({ "offset": all.len(), "limit": MAX_FOUND });
            part = self.call(Method::POST, &["identities", "search"], Some(page))?;
        }
    }

    fn organizations(&self) -> Result<Value, CommandError> {
        Ok(self.call(Method::GET, &["organization"], None)?["organizations"].take())
    }

    fn print_organizations(&self, as_json: bool) -> Result<(), CommandError> {
        let columns = [("ID", "id"), ("SLUG", "slug"), ("NAME", "name")];
        Ok(print_list(&self.organizations()?, &columns, as_json)?)
    }

    fn print_all(&self, as_json: bool) -> Result<(), CommandError> {
        let all = self.all()?;
        if as_json {
            return Ok(print(Value::Array(all))?);
        }
        let columns = [("ID", "id"), ("NAME", "name"), ("ROLE", "role"), ("METHODS", "methods")];
        Ok(print_list(&rows(&all), &columns, false)?)
    }

    fn create(&self, name: &str, role: &str, is_protected: bool) -> Result<(), CommandError> {
        let body = json!({
            "name": name,
            "organizationId": self.organizations()?[0]["id"],
            "role": role,
            "hasDeleteProtection": is_protected,
        });
        let created = self.call(Method::POST, &["identities"], Some(body))?;
        Ok(print(display_value(&created["identity"]["id"]))?)
    }

    fn show(&self, identity: &str, as_json: bool) -> Result<(), CommandError> {
        let id = self.id(identity)?;
        let shown = self.call(Method::GET, &["identities", &id], None)?["identity"].take();
        let methods = self.methods(&id, &shown["identity"]["authMethods"])?;
        let projects = self.memberships(&id)?;
        if as_json {
            let all = json!({ "identity": shown, "methods": methods, "projects": projects });
            return Ok(print(all)?);
        }
        let row = row(&shown);
        for (title, value) in [
            ("id", &row["id"]),
            ("name", &row["name"]),
            ("role", &row["role"]),
            ("delete protection", &shown["identity"]["hasDeleteProtection"]),
            ("created", &shown["createdAt"]),
        ] {
            print(format_args!("{title}: {}", display_value(value)))?;
        }
        roles::print(&projects)?;
        methods::print(&methods)
    }
}

/// Returns the identities of a list in the form of [`print_list`].
fn rows(all: &[Value]) -> Value {
    all.iter().map(row).collect()
}

fn row(membership: &Value) -> Value {
    let identity = &membership["identity"];
    let custom = &membership["customRole"]["slug"];
    json!({
        "id": identity["id"],
        "name": identity["name"],
        "role": if custom.is_string() { custom } else { &membership["role"] },
        "methods": identity["authMethods"],
    })
}

/// Returns an object of the members that have a value.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect())
}

/// Adds a remedy to the error of a server that does not have these calls.
fn with_remedy(error: CallError) -> CallError {
    if error.status == Some(StatusCode::NOT_FOUND) && error.text.ends_with(NO_SUCH_CALL) {
        return CallError {
            text: "machine identities are not enabled on the server".into(),
            help: "write enabled = true in [identities] of its configuration".into(),
            ..error
        };
    }
    error
}
