//! Calls about the login method by a TLS client certificate.

use http::Response;
use serde_json::{Value, json};

use super::{
    InfisicalContext,
    body::{BodyReader, Change},
    error::InfisicalError,
    identities::find,
    methods::{
        TermsChanges, changed_method, check_stored, delete_method, method_json, new_method,
        warn_of_one_family,
    },
    ok,
};
use crate::{
    base::{clock, reply::Body},
    identities::certificate::{AllowedAltName, CaError, CommonNames, IssuingCa},
    store::{
        identity_methods::{MethodKind, TokenTerms},
        tls_certificate_methods::TlsCertificateMethod,
    },
};

/// Longest certificate of a CA, in characters.
pub(in crate::api) const MAX_CA: usize = 10_240;

/// Members of an attachment or a change.
pub(super) struct TlsMembers {
    ca_certificate: Option<String>,
    allowed_common_names: Change<Vec<String>>,
    allowed_alt_names: Change<Vec<String>>,
    verifies_chain: Option<bool>,
    terms: TermsChanges,
}

impl TlsMembers {
    /// Reads the members of a body. A change may leave any of them out.
    pub(super) fn read(body: &[u8], is_change: bool) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let members = Self {
            ca_certificate: read_ca(&mut reader, is_change),
            allowed_common_names: read_common_names(&mut reader),
            allowed_alt_names: read_alt_names(&mut reader),
            verifies_chain: reader.flag("verifyClientCertificateChain"),
            terms: TermsChanges::read(&mut reader, is_change, u64::from(!is_change)),
        };
        reader.finish()?;
        Ok(members)
    }
}

/// Reads the certificate as it is: Terraform compares it with its own.
fn read_ca(reader: &mut BodyReader, is_optional: bool) -> Option<String> {
    const MEMBER: &str = "caCertificate";
    let certificate = match reader.value(MEMBER) {
        Some(Value::String(text)) => text.clone(),
        None if is_optional => return None,
        None => {
            reader.report(MEMBER, "Required");
            return None;
        }
        Some(_) => {
            reader.report(MEMBER, "Expected string");
            return None;
        }
    };
    if certificate.is_empty() || certificate.chars().count() > MAX_CA {
        reader.report(MEMBER, "String must contain 1 to 10240 character(s)");
        return None;
    }
    if let Err(error @ CaError::Malformed) = IssuingCa::parse(&certificate) {
        reader.report(MEMBER, &error.to_string());
        return None;
    }
    Some(certificate)
}

/// Reads the common names: a text with commas, a list, or null. A list without a name, or with an
/// empty one, would mean any name, or none.
fn read_common_names(reader: &mut BodyReader) -> Change<Vec<String>> {
    const MEMBER: &str = "allowedCommonNames";
    const EMPTY: &str = "Common names must not be empty";
    let names = match reader.value(MEMBER)? {
        Value::String(text) => CommonNames::split(text).map(Some),
        _ => {
            let listed = reader.texts(MEMBER)?;
            if let Some(index) = listed.iter().flatten().position(String::is_empty) {
                reader.report_at(&format!("/{MEMBER}/{index}"), MEMBER, EMPTY);
                return None;
            }
            listed.map(CommonNames::listed).transpose()
        }
    };
    if names.is_err() {
        reader.report(MEMBER, EMPTY);
    }
    Some(names.ok().flatten().map(CommonNames::into_names))
}

/// Reads the alternative names. An empty list means the same as null.
fn read_alt_names(reader: &mut BodyReader) -> Change<Vec<String>> {
    const MEMBER: &str = "allowedSubjectAltNames";
    let names = reader.texts(MEMBER)?;
    let parse = |(index, name): (usize, &String)| Some((index, AllowedAltName::parse(name).err()?));
    if let Some((index, error)) = names.iter().flatten().enumerate().find_map(parse) {
        reader.report_at(&format!("/{MEMBER}/{index}"), MEMBER, &error.to_string());
    }
    Some(names.filter(|names| !names.is_empty()))
}

/// Checks that a CA can permit a client.
fn check_ca(certificate: &str) -> Result<(), InfisicalError> {
    let checked = IssuingCa::parse(certificate).and_then(|ca| ca.check_usable(clock::now()));
    checked.map_err(|error| InfisicalError::bad_request(error.to_string()).at("/caCertificate"))
}

pub(super) async fn attach(
    context: &InfisicalContext<'_>,
    identity: &str,
    members: TlsMembers,
) -> Result<Response<Body>, InfisicalError> {
    find(context, identity).await?;
    let store = &context.users.store;
    let already = "Failed to add TLS Certificate Auth to already configured identity";
    if store.tls_certificate_method(identity).await?.is_some() {
        return Err(InfisicalError::conflict(already));
    }
    let mut terms = TokenTerms::default();
    members.terms.apply(&mut terms)?;
    let ca_certificate = members.ca_certificate.unwrap_or_default();
    check_ca(&ca_certificate)?;
    let method = TlsCertificateMethod {
        method: new_method(identity, terms)?,
        ca_certificate,
        allowed_common_names: members.allowed_common_names.flatten(),
        allowed_alt_names: members.allowed_alt_names.flatten(),
        verifies_chain: members.verifies_chain.unwrap_or(false),
    };
    let stored = store.add_tls_certificate_method(method.clone()).await;
    check_stored(stored, &method.method, already)?;
    Ok(shown(&method, false))
}

pub(super) async fn modify(
    context: &InfisicalContext<'_>,
    identity: &str,
    members: TlsMembers,
) -> Result<Response<Body>, InfisicalError> {
    find(context, identity).await?;
    let (now, have_trusted_ips) = (clock::now(), members.terms.have_trusted_ips());
    let changed = context.users.store.change_tls_certificate_method(identity, move |method| {
        members.terms.apply(&mut method.method.terms)?;
        if let Some(certificate) = members.ca_certificate {
            // An earlier certificate that is not usable any more does not keep others from a change.
            if certificate.trim() != method.ca_certificate.trim() {
                check_ca(&certificate)?;
            }
            method.ca_certificate = certificate;
        }
        if let Some(names) = members.allowed_common_names {
            method.allowed_common_names = names;
        }
        if let Some(names) = members.allowed_alt_names {
            method.allowed_alt_names = names;
        }
        method.verifies_chain = members.verifies_chain.unwrap_or(method.verifies_chain);
        method.method.updated_at = now;
        Ok::<_, InfisicalError>(())
    });
    let method = changed_method(context, changed.await, DETACHED)?;
    if have_trusted_ips {
        warn_of_one_family(&method.method);
    }
    Ok(shown(&method, false))
}

pub(super) async fn get(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<Response<Body>, InfisicalError> {
    Ok(shown(&attached(context, identity, DETACHED).await?, true))
}

pub(super) async fn delete(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<Response<Body>, InfisicalError> {
    let detached = "The identity does not have TLS Certificate auth";
    let method = attached(context, identity, detached).await?;
    delete_method(context, &method.method, MethodKind::TlsCertificate).await?;
    Ok(shown(&method, false))
}

/// The message for an identity without the method.
const DETACHED: &str = "The identity does not have TLS Certificate Auth attached";

/// Returns the method of an identity of the organization.
async fn attached(
    context: &InfisicalContext<'_>,
    identity: &str,
    detached: &'static str,
) -> Result<TlsCertificateMethod, InfisicalError> {
    find(context, identity).await?;
    let method = context.users.store.tls_certificate_method(identity).await?;
    method.ok_or_else(|| InfisicalError::missing(detached))
}

/// Returns common names as Infisical shows them, in one text with commas. A name with a comma would
/// be two names there, so a list with one is an array.
fn shown_common_names(names: &[String]) -> Value {
    if names.iter().any(|name| name.contains(',')) {
        return json!(names);
    }
    names.join(",").into()
}

/// Returns the method. Only a look at it has the certificate.
fn shown(method: &TlsCertificateMethod, with_certificate: bool) -> Response<Body> {
    let mut shown = method_json(&method.method);
    shown["allowedCommonNames"] =
        method.allowed_common_names.as_deref().map_or(Value::Null, shown_common_names);
    shown["allowedSubjectAltNames"] = json!(method.allowed_alt_names);
    shown["verifyClientCertificateChain"] = method.verifies_chain.into();
    if with_certificate {
        shown["caCertificate"] = method.ca_certificate.as_str().into();
    }
    ok(&json!({ "identityTlsCertAuth": shown }))
}
