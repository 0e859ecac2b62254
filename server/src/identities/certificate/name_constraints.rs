//! Name constraints of authorities (RFC 5280 section 4.2.1.10).
//!
//! `rustls-webpki` checks those for DNS names and addresses, and refuses every name of another type
//! that has a constraint. So the constraints of all authorities are checked here, for all types,
//! and not there: see [`authority_links`](super::authority_links).
//!
//! Every name of a constrained type has to conform; one that does not carry the others. A name or a
//! constraint that cannot be compared does not conform.

mod directory;
mod host;

pub(super) use host::is_host;
use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _},
    extensions::GeneralName,
    x509::X509Name,
};

/// The constraints of one authority.
pub(super) struct NameConstraints<'d> {
    permitted: Vec<GeneralName<'d>>,
    excluded: Vec<GeneralName<'d>>,
}

/// Constraints that cannot be parsed.
#[derive(Debug)]
pub(super) struct UnreadableConstraints;

/// A name that has to conform to the constraints.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConstrainedName<'n> {
    /// A subject alternative name.
    Alt(&'n GeneralName<'n>),
    /// The subject.
    Subject(&'n X509Name<'n>),
    /// An e-mail address in the subject.
    Email(&'n str),
    /// A common name that is used as the name of a host.
    Host(&'n str),
}

/// Whether a name is within a constraint: `None` if they cannot be compared.
type Containment = Option<bool>;

impl<'d> NameConstraints<'d> {
    /// Parses the value of the extension. The fields `minimum` and `maximum` must be absent.
    ///
    /// # Errors
    /// The value is malformed, or contains a malformed constraint.
    pub(super) fn parse(der: &'d [u8]) -> Result<Self, UnreadableConstraints> {
        let mut rest = sequence(der)?;
        let (mut permitted, mut excluded) = (None, None);
        while !rest.is_empty() {
            let (following, field) = Any::from_der(rest).map_err(|_| UnreadableConstraints)?;
            rest = following;
            let list = match (field.class(), field.tag().0) {
                (Class::ContextSpecific, 0) if excluded.is_none() => &mut permitted,
                (Class::ContextSpecific, 1) => &mut excluded,
                _ => return Err(UnreadableConstraints),
            };
            if list.replace(subtrees(field.data)?).is_some() {
                return Err(UnreadableConstraints);
            }
        }
        let constraints = Self {
            permitted: permitted.unwrap_or_default(),
            excluded: excluded.unwrap_or_default(),
        };
        if constraints.all().all(is_comparable) {
            Ok(constraints)
        } else {
            Err(UnreadableConstraints)
        }
    }

    fn all(&self) -> impl Iterator<Item = &GeneralName<'d>> {
        self.permitted.iter().chain(&self.excluded)
    }

    /// Whether a constraint for URIs is not a host name, so that no URI conforms to it.
    pub(super) fn has_unsupported_uri(&self) -> bool {
        self.all().any(|base| match base {
            GeneralName::URI(base) => !host::is_uri_constraint(base),
            _ => false,
        })
    }

    /// Whether a name conforms.
    pub(super) fn permit(&self, name: ConstrainedName<'_>) -> bool {
        let mut is_constrained = false;
        let mut is_permitted = false;
        for base in &self.permitted {
            match name.is_within(base, SubtreeList::Permitted) {
                NameComparison::OtherType => {}
                NameComparison::Within(within) => {
                    is_constrained = true;
                    is_permitted |= within == Some(true);
                }
            }
        }
        let is_excluded =
            self.excluded.iter().any(|base| match name.is_within(base, SubtreeList::Excluded) {
                NameComparison::OtherType => false,
                NameComparison::Within(within) => within != Some(false),
            });
        (is_permitted || !is_constrained) && !is_excluded
    }
}

/// The list that a constraint is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubtreeList {
    Permitted,
    Excluded,
}

/// The result of comparing a name with a constraint.
enum NameComparison {
    /// The constraint is for names of another type.
    OtherType,
    /// The constraint is for names of this type.
    Within(Containment),
}

impl ConstrainedName<'_> {
    fn is_within(self, base: &GeneralName<'_>, subtree: SubtreeList) -> NameComparison {
        use GeneralName::{DNSName, DirectoryName, IPAddress, RFC822Name, URI};
        let wildcards = subtree == SubtreeList::Excluded;
        let within = match (self, base) {
            (Self::Alt(DNSName(name)), DNSName(base)) => host::dns_is_within(name, base, wildcards),
            (Self::Host(name), DNSName(base)) => host::dns_is_within(name, base, wildcards),
            (Self::Alt(IPAddress(name)), IPAddress(base)) => address_is_within(name, base),
            (Self::Alt(RFC822Name(name)), RFC822Name(base)) => host::email_is_within(name, base),
            (Self::Email(name), RFC822Name(base)) => host::email_is_within(name, base),
            (Self::Alt(URI(name)), URI(base)) => host::uri_is_within(name, base),
            (Self::Alt(DirectoryName(name)), DirectoryName(base)) => {
                directory::is_within(name, base)
            }
            (Self::Subject(name), DirectoryName(base)) => directory::is_within(name, base),
            // Names of these types are not compared.
            (Self::Alt(GeneralName::OtherName(..)), GeneralName::OtherName(..))
            | (Self::Alt(GeneralName::X400Address(_)), GeneralName::X400Address(_))
            | (Self::Alt(GeneralName::EDIPartyName(_)), GeneralName::EDIPartyName(_))
            | (Self::Alt(GeneralName::RegisteredID(_)), GeneralName::RegisteredID(_))
            | (Self::Alt(GeneralName::Invalid(..)), _) => None,
            _ => return NameComparison::OtherType,
        };
        NameComparison::Within(within)
    }
}

/// Whether an address is in the network of a constraint: an address followed by a mask.
fn address_is_within(address: &[u8], network: &[u8]) -> Containment {
    if ![4, 16].contains(&address.len()) {
        return None;
    }
    let (base, mask) = network.split_at(network.len() / 2);
    let is_family = base.len() == address.len();
    let masked = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().zip(mask).map(|(byte, mask)| byte & mask).collect()
    };
    Some(is_family && masked(address) == masked(base))
}

/// Whether a constraint has the form of its type. Constraints of URIs are checked apart.
fn is_comparable(base: &GeneralName<'_>) -> bool {
    match base {
        GeneralName::Invalid(..) => false,
        GeneralName::DNSName(base) => host::is_dns_constraint(base),
        GeneralName::RFC822Name(base) => host::is_email_constraint(base),
        GeneralName::IPAddress(network) => {
            let (_, mask) = network.split_at(network.len() / 2);
            [8, 32].contains(&network.len()) && is_prefix(mask)
        }
        _ => true,
    }
}

/// Whether no bit of a network mask is set after one that is not.
fn is_prefix(mask: &[u8]) -> bool {
    let mut bytes = mask.iter().skip_while(|byte| **byte == u8::MAX);
    let is_partial = |byte: &u8| byte.leading_ones() + byte.trailing_zeros() == u8::BITS;
    bytes.next().is_none_or(is_partial) && bytes.all(|byte| *byte == 0)
}

/// Returns the content of a SEQUENCE that is all of `der`.
fn sequence(der: &[u8]) -> Result<&[u8], UnreadableConstraints> {
    const SEQUENCE: u32 = 16;
    match Any::from_der(der) {
        Ok(([], any)) if any.class() == Class::Universal && any.tag().0 == SEQUENCE => Ok(any.data),
        _ => Err(UnreadableConstraints),
    }
}

/// Parses GeneralSubtrees, at least one.
fn subtrees(mut der: &[u8]) -> Result<Vec<GeneralName<'_>>, UnreadableConstraints> {
    let mut names = Vec::new();
    while !der.is_empty() {
        let (rest, _) = Any::from_der(der).map_err(|_| UnreadableConstraints)?;
        let subtree = sequence(&der[..der.len() - rest.len()])?;
        match GeneralName::from_der(subtree) {
            Ok(([], name)) => names.push(name),
            _ => return Err(UnreadableConstraints),
        }
        der = rest;
    }
    if names.is_empty() { Err(UnreadableConstraints) } else { Ok(names) }
}

#[cfg(test)]
mod tests;
