//! Client secrets of identities.

use std::io::{self, IsTerminal as _};

use http::Method;
use serde_json::{Value, json};

use super::{IdentityClient, object};
use crate::{
    cli::{
        CommandError,
        arguments::SecretArgs,
        print,
        table::{display_value, print_list},
    },
    store::identity_methods::MethodKind,
};

impl IdentityClient {
    pub(super) fn create_secret(&self, args: SecretArgs) -> Result<(), CommandError> {
        let body = object([
            ("description", args.description.map(Value::from)),
            ("numUsesLimit", args.uses.map(Value::from)),
            ("ttl", args.ttl.map(Value::from)),
        ]);
        let created =
            self.of_method(&args.identity, Method::POST, &["client-secrets"], Some(body))?;
        let secret = display_value(&created["clientSecret"]);
        // A script gets the secret alone.
        if io::stdout().is_terminal() {
            return Ok(print(format_args!("Client secret, shown only once: {secret}"))?);
        }
        Ok(print(secret)?)
    }

    pub(super) fn print_secrets(&self, identity: &str, as_json: bool) -> Result<(), CommandError> {
        let all = self.of_method(identity, Method::GET, &["client-secrets"], None)?;
        let secrets = &all["clientSecretData"];
        let columns = [
            ("ID", "id"),
            ("PREFIX", "clientSecretPrefix"),
            ("DESCRIPTION", "description"),
            ("USES", "clientSecretNumUses"),
            ("LIMIT", "clientSecretNumUsesLimit"),
            ("TTL", "clientSecretTTL"),
            ("REVOKED", "isClientSecretRevoked"),
            ("CREATED", "createdAt"),
        ];
        Ok(print_list(secrets, &columns, as_json)?)
    }

    pub(super) fn revoke_secret(&self, identity: &str, secret: &str) -> Result<(), CommandError> {
        let path = ["client-secrets", secret, "revoke"];
        self.of_method(identity, Method::POST, &path, Some(json!({})))?;
        Ok(print(format_args!("Client secret {secret} is revoked."))?)
    }

    pub(super) fn unlock(&self, identity: &str) -> Result<(), CommandError> {
        let path = ["clear-lockouts"];
        let cleared = self.of_method(identity, Method::POST, &path, Some(json!({})))?;
        let count = display_value(&cleared["deleted"]);
        Ok(print(format_args!(
            "Lockouts of {identity} that were cleared on this server: {count}. Each server has its \
             own."
        ))?)
    }

    /// Makes a call about the universal auth of an identity.
    fn of_method(
        &self,
        identity: &str,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Value, CommandError> {
        let (id, name) = (self.id(identity)?, MethodKind::UniversalAuth.name());
        let path = [&["auth", name, "identities", &id], path].concat();
        self.call(method, &path, body)
    }
}
