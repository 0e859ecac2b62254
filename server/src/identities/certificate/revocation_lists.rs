//! Certificate revocation lists (CRLs) of the authorities of identities.

use std::fmt;

use rustls::pki_types::CertificateRevocationListDer;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::base::redacted::pem_sections;

/// Revocation lists of any authorities, which are checked along the whole path.
///
/// The certificates of an authority without a list are not checked, because the identities of one
/// server have authorities that know nothing of each other. A list that has expired refuses all
/// certificates of its authority: it may lack those that were revoked since.
#[derive(Default)]
pub struct RevocationLists(Vec<CertRevocationList<'static>>);

impl RevocationLists {
    /// Adds the lists of a file, in PEM or DER.
    ///
    /// # Errors
    /// A description of the damage: a list is malformed, or missing.
    pub fn add(&mut self, file: &[u8]) -> Result<(), &'static str> {
        // An ASN.1 SEQUENCE. Authorities publish CRLs in DER (RFC 5280 section 4.2.1.13).
        const SEQUENCE: u8 = 0x30;
        let ders = if file.first() == Some(&SEQUENCE) {
            vec![CertificateRevocationListDer::from(file)]
        } else {
            pem_sections(file)?
        };
        if ders.is_empty() {
            return Err("it holds no CRL");
        }
        for der in ders {
            let list = OwnedCertRevocationList::from_der(&der)
                .map_err(|_| "a CRL in it is damaged, or of an unsupported form")?;
            self.0.push(list.into());
        }
        Ok(())
    }

    /// Returns the lists.
    pub(super) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.0.iter().collect()
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
