//! The fields of a certificate that the checks need, read strictly.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    extensions::{GeneralName, KeyUsage, ParsedExtension},
    oid_registry::{
        OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
        OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
    },
    prelude::FromDer as _,
};

use super::name_constraints::{ConstrainedName, NameConstraints, UnreadableConstraints, is_host};

/// A certificate and its extensions.
pub(super) struct CertificateFields<'d> {
    /// Its encoding.
    pub(super) der: &'d [u8],
    /// The parsed certificate.
    pub(super) certificate: X509Certificate<'d>,
    /// `basicConstraints`, if the certificate has them.
    pub(super) basic_constraints: Option<CaConstraints>,
    /// Whether `keyUsage` is missing or includes `keyCertSign`.
    pub(super) may_sign_certificates: bool,
    /// Whether `keyUsage` is missing or includes `cRLSign`.
    pub(super) may_sign_lists: bool,
    /// Whether `extKeyUsage` is missing, or includes `clientAuth` or `anyExtendedKeyUsage`.
    pub(super) allows_clients: bool,
}

/// The `basicConstraints` extension (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CaConstraints {
    /// Whether the certificate is that of an authority.
    pub(super) is_authority: bool,
    /// The maximum number of intermediate authorities below it.
    pub(super) max_path_length: Option<u32>,
}

/// A certificate that cannot be parsed, or with an extension that cannot.
#[derive(Debug)]
pub(super) struct UnreadableFields;

impl<'d> CertificateFields<'d> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// The certificate is malformed, or one of the extensions `basicConstraints`, `keyUsage` and
    /// `extKeyUsage` is, or occurs twice.
    pub(super) fn read(der: &'d CertificateDer<'_>) -> Result<Self, UnreadableFields> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err(UnreadableFields);
        };
        let basic_constraints =
            match extension(&certificate, &OID_X509_EXT_BASIC_CONSTRAINTS)?.parsed {
                None => None,
                Some(ParsedExtension::BasicConstraints(constraints)) => Some(CaConstraints {
                    is_authority: constraints.ca,
                    max_path_length: constraints.path_len_constraint,
                }),
                Some(_) => return Err(UnreadableFields),
            };
        let key_usage = match extension(&certificate, &OID_X509_EXT_KEY_USAGE)?.parsed {
            None => None,
            Some(ParsedExtension::KeyUsage(usage)) => Some(usage),
            Some(_) => return Err(UnreadableFields),
        };
        let may_sign_certificates = key_usage.is_none_or(KeyUsage::key_cert_sign);
        let may_sign_lists = key_usage.is_none_or(KeyUsage::crl_sign);
        let allows_clients = match extension(&certificate, &OID_X509_EXT_EXTENDED_KEY_USAGE)?.parsed
        {
            None => true,
            Some(ParsedExtension::ExtendedKeyUsage(usage)) => usage.client_auth || usage.any,
            Some(_) => return Err(UnreadableFields),
        };
        Ok(Self {
            der,
            certificate,
            basic_constraints,
            may_sign_certificates,
            may_sign_lists,
            allows_clients,
        })
    }

    /// Returns the subject in DER.
    pub(super) fn subject(&self) -> &[u8] {
        self.certificate.subject().as_raw()
    }

    /// Returns the issuer in DER.
    pub(super) fn issuer(&self) -> &[u8] {
        self.certificate.issuer().as_raw()
    }

    /// Returns the public key in DER.
    pub(super) fn public_key(&self) -> &[u8] {
        self.certificate.public_key().raw
    }

    /// Returns the identifier of the public key, if the certificate has one.
    pub(super) fn key_identifier(&self) -> Option<&[u8]> {
        match extension(&self.certificate, &OID_X509_EXT_SUBJECT_KEY_IDENTIFIER).ok()?.parsed? {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
            _ => None,
        }
    }

    /// Whether the certificate states that it is that of an authority.
    pub(super) fn is_authority(&self) -> bool {
        self.basic_constraints.is_some_and(|constraints| constraints.is_authority)
    }

    /// Returns the start and end of the validity in seconds since 1970, both included.
    pub(super) fn validity(&self) -> (i64, i64) {
        let validity = self.certificate.validity();
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    }

    /// Returns the values of the common names, `None` for one that is not text.
    pub(super) fn common_names(&self) -> Vec<Option<&str>> {
        let names = self.certificate.subject().iter_common_name();
        names.map(|name| name.as_str().ok()).collect()
    }

    /// Returns the subject alternative names.
    ///
    /// # Errors
    /// The extension is malformed or occurs twice, or one of the names is malformed.
    pub(super) fn alt_names(&self) -> Result<&[GeneralName<'d>], UnreadableFields> {
        match extension(&self.certificate, &OID_X509_EXT_SUBJECT_ALT_NAME)?.parsed {
            None => Ok(&[]),
            Some(ParsedExtension::SubjectAlternativeName(names)) => {
                let is_malformed =
                    |name: &GeneralName<'_>| matches!(name, GeneralName::Invalid(..));
                let names = &names.general_names;
                if names.iter().any(is_malformed) { Err(UnreadableFields) } else { Ok(names) }
            }
            Some(_) => Err(UnreadableFields),
        }
    }

    /// Returns the names that have to conform to the name constraints of authorities: the subject,
    /// the e-mail addresses in it, and the subject alternative names.
    ///
    /// # Errors
    /// One of them is malformed.
    pub(super) fn constrained_names(&self) -> Result<Vec<ConstrainedName<'_>>, UnreadableFields> {
        let subject = self.certificate.subject();
        let mut names: Vec<_> = self.alt_names()?.iter().map(ConstrainedName::Alt).collect();
        if subject.iter_rdn().next().is_some() {
            names.push(ConstrainedName::Subject(subject));
        }
        for address in subject.iter_email() {
            let address = address.as_str().map_err(|_| UnreadableFields)?;
            names.push(ConstrainedName::Email(address));
        }
        Ok(names)
    }

    /// Returns the common names in the form of a host name with a domain.
    pub(super) fn hosts_in_subject(&self) -> impl Iterator<Item = &str> {
        let names = self.common_names().into_iter().flatten();
        names.filter(|name| name.contains('.') && is_host(&name.to_ascii_lowercase()))
    }

    /// Whether the certificate has name constraints, well-formed or not.
    pub(super) fn has_name_constraints(&self) -> bool {
        let mut extensions = self.certificate.extensions().iter();
        extensions.any(|extension| extension.oid == OID_X509_EXT_NAME_CONSTRAINTS)
    }

    /// Returns the name constraints.
    ///
    /// # Errors
    /// The extension is malformed or occurs twice.
    pub(super) fn name_constraints(
        &self,
    ) -> Result<Option<NameConstraints<'_>>, UnreadableConstraints> {
        let found = extension(&self.certificate, &OID_X509_EXT_NAME_CONSTRAINTS)
            .map_err(|UnreadableFields| UnreadableConstraints)?;
        found.encoded.map(NameConstraints::parse).transpose()
    }
}

/// One extension of a certificate.
struct FoundExtension<'c, 'd> {
    encoded: Option<&'d [u8]>,
    parsed: Option<&'c ParsedExtension<'d>>,
}

/// Returns the extension with this id, if the certificate has it.
fn extension<'c, 'd>(
    certificate: &'c X509Certificate<'d>,
    id: &Oid<'_>,
) -> Result<FoundExtension<'c, 'd>, UnreadableFields> {
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid == *id);
    let first = found.next();
    if found.next().is_some() {
        return Err(UnreadableFields);
    }
    Ok(FoundExtension {
        encoded: first.map(|extension| extension.value),
        parsed: first.map(|extension| extension.parsed_extension()),
    })
}
