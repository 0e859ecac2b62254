//! Certificate revocation lists (CRLs) of the authorities of identities.

use std::fmt;

use rustls::pki_types::CertificateRevocationListDer;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::{
    prelude::FromDer as _, revocation_list::CertificateRevocationList, x509::X509Version,
};

use super::{authority_links::is_signed_by, certificate_fields::CertificateFields};
use crate::base::{
    redacted::pem_sections,
    revocation_list::{RevocationListHead, without_superseded},
};

/// What is wrong with a list that cannot be parsed.
const UNSUPPORTED_LIST: &str = "a CRL in it is damaged, or of an unsupported form";
/// What is wrong with a list that can have no extensions (RFC 5280 section 5.1.2.1).
const FIRST_VERSION: &str = "a CRL in it is of version 1, and version 2 is required: give `openssl \
                             ca -gencrl` the option -crlexts, with a section of extensions";

/// Revocation lists of any authorities, which are checked along the whole path.
///
/// The certificates of an authority without a list are not checked, because the identities of one
/// server have authorities that know nothing of each other. Of several lists of an authority, the
/// newest counts. If that has expired, all certificates of its authority are refused: it may lack
/// those that were revoked since.
#[derive(Default)]
pub struct RevocationLists(Vec<RevocationList>);

/// The revocation list of an authority.
pub(super) struct RevocationList {
    head: RevocationListHead,
    /// The parsed list.
    pub(super) entries: CertRevocationList<'static>,
    /// Its encoding.
    pub(super) der: CertificateRevocationListDer<'static>,
    /// Time at which it expires, in seconds since 1970.
    pub(super) next_update: Option<i64>,
}

impl RevocationLists {
    /// Adds the lists of a file, in PEM or DER.
    ///
    /// # Errors
    /// A description of the damage: a list is malformed, or missing.
    pub fn add(&mut self, file: &[u8]) -> Result<(), &'static str> {
        // An ASN.1 SEQUENCE. Authorities publish CRLs in DER (RFC 5280 section 4.2.1.13).
        const SEQUENCE: u8 = 0x30;
        let ders = if file.first() == Some(&SEQUENCE) {
            vec![CertificateRevocationListDer::from(file.to_vec())]
        } else {
            pem_sections(file)?
        };
        if ders.is_empty() {
            return Err("it holds no CRL");
        }
        for der in ders {
            self.0.push(RevocationList::parse(der)?);
        }
        Ok(())
    }

    /// Returns the lists that count for certificates of an authority.
    ///
    /// Its key decides, because an authority keeps its name when it changes its key: by the
    /// identifiers of keys or the signature. If all lists with the name are of other keys, the
    /// authority has none. One without an identifier whose signature is wrong counts, so that all
    /// certificates are refused.
    pub(super) fn of_authority(&self, authority: &CertificateFields<'_>) -> Vec<&RevocationList> {
        let key = authority.key_identifier();
        let named = self.0.iter().filter(|list| list.head.issuer == authority.subject());
        let (own, others): (Vec<_>, Vec<_>) = named.partition(|list| {
            list.head.names_key(key) == Some(true) || is_signed_by(&list.der, authority)
        });
        if own.is_empty() {
            return others.into_iter().filter(|list| list.head.names_key(key).is_none()).collect();
        }
        // All are of this authority.
        without_superseded(&own, |list| &list.head, |_, _| true).copied().collect()
    }
}

impl RevocationList {
    /// Parses a list, which must have a supported form.
    fn parse(der: CertificateRevocationListDer<'static>) -> Result<Self, &'static str> {
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| UNSUPPORTED_LIST)?;
        if list.version().is_none_or(|version| version == X509Version::V1) {
            return Err(FIRST_VERSION);
        }
        let next_update = list.next_update().map(|time| time.timestamp());
        let entries = OwnedCertRevocationList::from_der(&der).map_err(|_| UNSUPPORTED_LIST)?;
        let head = RevocationListHead::of(&list);
        Ok(Self { head, entries: entries.into(), next_update, der })
    }
}

/// Returns the options of a check by these lists. `None` without any.
pub(super) fn options<'l>(
    lists: &'l [&'l CertRevocationList<'l>],
) -> Option<RevocationOptions<'l>> {
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    let builder = builder.with_status_policy(UnknownStatusPolicy::Allow);
    Some(builder.with_expiration_policy(ExpirationPolicy::Enforce).build())
}

impl fmt::Debug for RevocationLists {
    /// Shows the number of lists, which may have millions of entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RevocationLists").field(&self.0.len()).finish()
    }
}
