//! Login methods of identities.

use std::path::Path;

use http::Method;
use serde_json::{Map, Value, json};

use super::{IdentityClient, object};
use crate::{
    base::watched_file::read_text,
    cli::{
        CommandError,
        arguments::{CertificateArgs, LoginMethod, TermsArgs, UniversalArgs},
        print as print_line,
        table::display_value,
    },
    store::identity_methods::MethodKind,
};

impl LoginMethod {
    const ALL: [Self; 2] = [Self::Certificate, Self::Universal];

    /// Returns the name in paths, and the member that contains the method in responses.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Certificate => (MethodKind::TlsCertificate.name(), "identityTlsCertAuth"),
            Self::Universal => (MethodKind::UniversalAuth.name(), "identityUniversalAuth"),
        }
    }
}

impl IdentityClient {
    pub(super) fn attach_certificate(&self, args: CertificateArgs) -> Result<(), CommandError> {
        let ca = args.ca.as_deref().map(read_certificate).transpose()?;
        let listed = |names: Vec<String>| match names.as_slice() {
            [] => None,
            // An empty name stands for any.
            [name] if name.is_empty() => Some(Value::Null),
            _ => Some(Value::from(names)),
        };
        let members = [
            ("caCertificate", ca.map(Value::from)),
            ("allowedCommonNames", listed(args.common_names)),
            ("allowedSubjectAltNames", listed(args.alt_names)),
            ("verifyClientCertificateChain", args.chain.map(Value::from)),
        ];
        self.attach(&args.identity, LoginMethod::Certificate, args.terms, object(members))?;
        Ok(print_line(format_args!("{} can log in with a TLS certificate.", args.identity))?)
    }

    pub(super) fn attach_universal(&self, args: UniversalArgs) -> Result<(), CommandError> {
        let members = [
            ("clientSecretTrustedIps", networks(args.secret_trusted_ips)),
            ("accessTokenPeriod", args.period.map(Value::from)),
        ];
        let method =
            self.attach(&args.identity, LoginMethod::Universal, args.terms, object(members))?;
        Ok(print_line(display_value(&method["clientId"]))?)
    }

    /// Attaches a method, or changes it. Returns the method.
    fn attach(
        &self,
        identity: &str,
        method: LoginMethod,
        terms: TermsArgs,
        mut body: Value,
    ) -> Result<Value, CommandError> {
        let id = self.id(identity)?;
        let http_method = if terms.change { Method::PATCH } else { Method::POST };
        if let (Value::Object(body), Value::Object(terms)) = (&mut body, terms_json(terms)) {
            body.extend(terms);
        }
        let (name, member) = method.names();
        let path = ["auth", name, "identities", &id];
        Ok(self.call(http_method, &path, Some(body))?[member].take())
    }

    pub(super) fn detach(&self, identity: &str, method: LoginMethod) -> Result<(), CommandError> {
        let (id, (name, _)) = (self.id(identity)?, method.names());
        self.call(Method::DELETE, &["auth", name, "identities", &id], None)?;
        Ok(print_line(format_args!("{identity} no longer has {name}."))?)
    }

    /// Returns the methods of an identity, by name.
    pub(super) fn methods(&self, id: &str, names: &Value) -> Result<Value, CommandError> {
        let mut methods = Map::new();
        for (name, member) in LoginMethod::ALL.map(LoginMethod::names) {
            if names.as_array().is_some_and(|names| names.iter().any(|one| one == name)) {
                let path = ["auth", name, "identities", id];
                let method = self.call(Method::GET, &path, None)?[member].take();
                methods.insert(name.into(), method);
            }
        }
        Ok(methods.into())
    }
}

/// Reads the certificate of an authority. A file that contains a key as well is refused here,
/// before the key is sent.
fn read_certificate(file: &Path) -> Result<String, CommandError> {
    const MAX_FILE_BYTES: u64 = 64 * 1024;
    let failed = |text: &dyn std::fmt::Display| {
        CommandError::failed(format_args!("cannot use {}: {text}", file.display()))
    };
    let text = read_text(file, MAX_FILE_BYTES).map_err(|error| failed(&error))?;
    if text.contains("PRIVATE KEY-----") {
        let help = "it contains a private key\n  help: use a file with the certificate alone";
        return Err(failed(&help));
    }
    // The server would use the first one, which may be that of the client.
    if text.matches("-----BEGIN CERTIFICATE-----").count() > 1 {
        let help = "it contains more than one certificate\n  help: use a file with the certificate \
                    of the authority alone; clients present those of intermediate authorities";
        return Err(failed(&help));
    }
    Ok(text)
}

fn terms_json(terms: TermsArgs) -> Value {
    object([
        ("accessTokenTTL", terms.ttl.map(Value::from)),
        ("accessTokenMaxTTL", terms.max_ttl.map(Value::from)),
        ("accessTokenNumUsesLimit", terms.uses.map(Value::from)),
        ("accessTokenTrustedIps", networks(terms.trusted_ips)),
    ])
}

fn networks(given: Vec<String>) -> Option<Value> {
    let networks = given.iter().map(|one| json!({ "ipAddress": one }));
    (!given.is_empty()).then(|| networks.collect())
}

/// Prints methods, without the certificate of the authority.
pub(super) fn print(methods: &Value) -> Result<(), CommandError> {
    for (name, method) in methods.as_object().into_iter().flatten() {
        print_line("")?;
        print_line(format_args!("{name}:"))?;
        for (title, member) in SHOWN {
            let value = &method[member];
            if value.is_null() {
                continue;
            }
            let text = match value.as_array() {
                Some(elements) => elements.iter().map(network_text).collect::<Vec<_>>().join(", "),
                None => display_value(value),
            };
            print_line(format_args!("  {title}: {text}"))?;
        }
    }
    Ok(())
}

/// Titles and members of the lines about a method.
const SHOWN: [(&str, &str); 10] = [
    ("client id", "clientId"),
    ("common names", "allowedCommonNames"),
    ("alternative names", "allowedSubjectAltNames"),
    ("intermediates", "verifyClientCertificateChain"),
    ("ttl", "accessTokenTTL"),
    ("max ttl", "accessTokenMaxTTL"),
    ("period", "accessTokenPeriod"),
    ("uses", "accessTokenNumUsesLimit"),
    ("trusted ips", "accessTokenTrustedIps"),
    ("secret trusted ips", "clientSecretTrustedIps"),
];

/// Formats a network, or another element of a list.
fn network_text(element: &Value) -> String {
    match (&element["ipAddress"], &element["prefix"]) {
        (Value::Null, _) => display_value(element),
        (address, Value::Null) => display_value(address),
        (address, prefix) => format!("{}/{prefix}", display_value(address)),
    }
}
