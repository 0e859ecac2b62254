//! The head of a certificate revocation list (CRL, RFC 5280 section 5): whose it is, and which of
//! several lists counts.

use std::cmp::Ordering;

use x509_parser::{
    extensions::ParsedExtension, num_bigint::BigUint,
    oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
    revocation_list::CertificateRevocationList,
};

/// What distinguishes a list from others.
#[derive(Clone, Debug)]
pub struct RevocationListHead {
    /// The name of the authority in DER.
    pub issuer: Vec<u8>,
    /// Identifies the key of the authority, which may have several under one name.
    key: Option<Vec<u8>>,
    /// The issuing distribution point in DER: which certificates of the authority are in question.
    scope: Option<Vec<u8>>,
    /// Time of issue, in seconds since 1970.
    this_update: i64,
    /// Orders lists of the same time.
    number: Option<BigUint>,
}

/// Returns the lists that no newer one supersedes. Only lists for which `are_related` holds can
/// supersede each other.
pub fn without_superseded<L>(
    lists: &[L],
    head: impl Fn(&L) -> &RevocationListHead,
    are_related: impl Fn(&RevocationListHead, &RevocationListHead) -> bool,
) -> impl Iterator<Item = &L> {
    lists.iter().filter(move |list| {
        let own = head(list);
        let mut heads = lists.iter().map(&head);
        !heads.any(|other| are_related(own, other) && own.is_superseded_by(other))
    })
}

impl RevocationListHead {
    /// Reads the head of a parsed list.
    #[must_use]
    pub fn of(list: &CertificateRevocationList<'_>) -> Self {
        let scope = list
            .extensions()
            .iter()
            .find(|extension| extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        let key =
            list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
                _ => None,
            });
        Self {
            issuer: list.issuer().as_raw().to_vec(),
            key: key.map(|key| key.0.to_vec()),
            scope: scope.map(|scope| scope.value.to_vec()),
            this_update: list.last_update().timestamp(),
            number: list.crl_number().cloned(),
        }
    }

    /// Whether the key identifiers of list and authority are the same. `None` if one is missing.
    #[must_use]
    pub fn names_key(&self, subject_key: Option<&[u8]>) -> Option<bool> {
        self.key.as_deref().zip(subject_key).map(|(one, other)| one == other)
    }

    /// Whether another list of the same key is newer, for the same certificates. The older one lacks
    /// what was revoked since.
    fn is_superseded_by(&self, other: &Self) -> bool {
        self.scope == other.scope && self.cmp_age(other) == Ordering::Less
    }

    /// Whether two lists appear to be of the same key.
    #[must_use]
    pub fn has_issuer_of(&self, other: &Self) -> bool {
        (&self.issuer, &self.key) == (&other.issuer, &other.key)
    }

    fn cmp_age(&self, other: &Self) -> Ordering {
        (self.this_update, &self.number).cmp(&(other.this_update, &other.number))
    }
}
