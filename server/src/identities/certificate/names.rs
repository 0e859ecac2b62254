//! The common names and subject alternative names that the rules of an identity allow.

use std::{fmt, net::IpAddr};

use unicode_normalization::UnicodeNormalization as _;
use x509_parser::extensions::GeneralName;

/// The allowed common names: at least one, and none is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonNames(Vec<String>);

impl CommonNames {
    /// Parses a comma-separated list. White space around names is removed.
    ///
    /// # Errors
    /// The list has no name, or an empty one.
    pub fn split(text: &str) -> Result<Self, NameListError> {
        Self::listed(text.split(',').map(|name| name.trim().to_owned()).collect())
    }

    /// Takes a list as it is. Its names may contain commas, unlike those of [`split`](Self::split).
    ///
    /// # Errors
    /// The list has no name, or an empty one.
    pub fn listed(names: Vec<String>) -> Result<Self, NameListError> {
        if names.is_empty() || names.iter().any(|name| name.trim().is_empty()) {
            return Err(NameListError::EmptyName);
        }
        Ok(Self(names))
    }

    /// Returns the names.
    #[must_use]
    pub fn into_names(self) -> Vec<String> {
        self.0
    }

    /// Whether the common names of a subject are allowed: it has at least one, and all of them are
    /// on the list. They are compared byte by byte.
    ///
    /// A subject may have several. One name on the list does not carry the others, because other
    /// programs may take another of them for the client's name.
    pub(super) fn allow(&self, presented: &[Option<&str>]) -> bool {
        let is_listed = |name: &Option<&str>| name.is_some_and(|name| self.contains(name));
        !presented.is_empty() && presented.iter().all(is_listed)
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|allowed| allowed == name)
    }
}

/// An allowed subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedAltName {
    /// A DNS name, in lower case.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address, with its domain in lower case.
    Email(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
}

/// Error of a list of names that cannot mean what it states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameListError {
    /// The list has no name, or an empty one.
    EmptyName,
    /// The text before the first colon is not a type of names.
    UnknownType(String),
    /// The name is a URI without `URI:` before it.
    BareUri(String),
    /// The name is an IPv6 address without `IP:` before it.
    BareIpv6(String),
    /// The name after `IP:` is not an address.
    NotAddress(String),
    /// The name after `EMAIL:` has no domain.
    NotEmail(String),
    /// The name after `URI:` has no scheme.
    NotUri(String),
}

impl fmt::Display for NameListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("The list contains no name, or an empty one"),
            Self::UnknownType(name) => {
                write!(f, "\"{name}\" has an unknown type of name: use DNS:, IP:, EMAIL: or URI:")
            }
            Self::BareUri(name) => write!(f, "\"{name}\" is a URI: write \"URI:{name}\""),
            Self::BareIpv6(name) => {
                write!(f, "\"{name}\" is an IPv6 address: write \"IP:{name}\"")
            }
            Self::NotAddress(name) => write!(f, "\"{name}\" is not an IP address"),
            Self::NotEmail(name) => write!(f, "\"{name}\" is not an e-mail address"),
            Self::NotUri(name) => write!(f, "\"{name}\" is not a URI"),
        }
    }
}

impl std::error::Error for NameListError {}

impl AllowedAltName {
    /// Parses an entry: a DNS name, or a name after `DNS:`, `IP:`, `EMAIL:`, `URI:` or `URL:`, in
    /// upper or lower case.
    ///
    /// # Errors
    /// The entry is empty, its type is unknown, or it does not have the form of its type.
    pub fn parse(entry: &str) -> Result<Self, NameListError> {
        let entry = entry.trim();
        let shown = || entry.to_owned();
        let (kind, name) = match entry.split_once(':') {
            None => ("dns".to_owned(), entry),
            Some(_) if entry.parse::<IpAddr>().is_ok() => {
                return Err(NameListError::BareIpv6(shown()));
            }
            Some((_, rest)) if rest.starts_with("//") => {
                return Err(NameListError::BareUri(shown()));
            }
            Some((kind, name)) => (kind.trim().to_ascii_lowercase(), name.trim()),
        };
        if name.is_empty() {
            return Err(NameListError::EmptyName);
        }
        match kind.as_str() {
            "dns" => Ok(Self::Dns(dns(name))),
            "ip" => name.parse().map(Self::Ip).map_err(|_| NameListError::NotAddress(name.into())),
            "email" => {
                email(name).map(Self::Email).ok_or_else(|| NameListError::NotEmail(name.into()))
            }
            "uri" | "url" if name.contains(':') => Ok(Self::Uri(name.nfc().collect())),
            "uri" | "url" => Err(NameListError::NotUri(name.into())),
            _ => Err(NameListError::UnknownType(shown())),
        }
    }

    /// Whether a name of a certificate is this one.
    pub(super) fn matches(&self, presented: &GeneralName<'_>) -> bool {
        match (self, presented) {
            (Self::Dns(allowed), GeneralName::DNSName(name)) => dns(name) == *allowed,
            (Self::Ip(allowed), GeneralName::IPAddress(bytes)) => match allowed {
                IpAddr::V4(allowed) => allowed.octets() == *bytes,
                IpAddr::V6(allowed) => allowed.octets() == *bytes,
            },
            (Self::Email(allowed), GeneralName::RFC822Name(name)) => {
                email(name).is_some_and(|name| name == *allowed)
            }
            (Self::Uri(allowed), GeneralName::URI(name)) => name == allowed,
            _ => false,
        }
    }
}

impl fmt::Display for AllowedAltName {
    /// The form that [`parse`](AllowedAltName::parse) reads, with its type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Email(name) => write!(f, "EMAIL:{name}"),
            Self::Uri(name) => write!(f, "URI:{name}"),
        }
    }
}

/// Normalizes a DNS name, which is case-insensitive (RFC 4343).
fn dns(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Normalizes an e-mail address: only its domain is case-insensitive (RFC 5280 section 7.5).
fn email(name: &str) -> Option<String> {
    let (mailbox, domain) = name.rsplit_once('@')?;
    let is_complete = !mailbox.is_empty() && !domain.is_empty();
    is_complete.then(|| format!("{mailbox}@{}", domain.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alt_name_entries_have_a_type() {
        for (entry, shown) in [
            ("a.Example.org", "DNS:a.example.org"),
            (" dns: a.example.org ", "DNS:a.example.org"),
            ("10.0.0.1", "DNS:10.0.0.1"),
            ("IP:10.0.0.1", "IP:10.0.0.1"),
            ("ip:2001:DB8::1", "IP:2001:db8::1"),
            ("Email:Me@Example.ORG", "EMAIL:Me@example.org"),
            ("URI:spiffe://Example.org/a", "URI:spiffe://Example.org/a"),
            ("url:urn:a:b", "URI:urn:a:b"),
        ] {
            let parsed = AllowedAltName::parse(entry).unwrap();
            assert_eq!(parsed.to_string(), shown, "{entry}");
            assert_eq!(AllowedAltName::parse(shown), Ok(parsed), "{shown}");
        }
    }

    #[test]
    fn ambiguous_alt_name_entry_is_refused() {
        for entry in [
            "",
            " ",
            "DNS:",
            "spiffe://a/b",
            "2001:db8::1",
            "IP:10.0.0.1/8",
            "IP:010.0.0.1",
            "EMAIL:example.org",
            "EMAIL:@example.org",
            "URI:a",
            "dirName:CN=a",
            "otherName:1.2.3",
            "host:443",
        ] {
            assert!(AllowedAltName::parse(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn common_name_lists_need_names() {
        let names = CommonNames::split(" a , b").unwrap();
        assert_eq!(names.into_names(), ["a", "b"]);
        for text in ["", " ", ",", "a,", ",a", "a,,b"] {
            assert_eq!(CommonNames::split(text), Err(NameListError::EmptyName), "{text:?}");
        }
        assert_eq!(CommonNames::listed(vec![]), Err(NameListError::EmptyName));
        assert!(CommonNames::listed(vec!["a,b".into()]).unwrap().allow(&[Some("a,b")]));
    }

    #[test]
    fn every_common_name_must_be_listed() {
        let names = CommonNames::split("a,b").unwrap();
        for (presented, is_allowed) in [
            (&[Some("a")][..], true),
            (&[Some("a"), Some("b")], true),
            (&[Some("a"), Some("c")], false),
            (&[Some("a"), None], false),
            (&[Some("A")], false),
            (&[Some("a ")], false),
            (&[None], false),
            (&[], false),
        ] {
            assert_eq!(names.allow(presented), is_allowed, "{presented:?}");
        }
    }
}
