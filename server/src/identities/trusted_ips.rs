//! The networks from which an access token may be used.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::client::trusted_proxies::Network;

/// Networks that any address is in.
const WILDCARDS: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// All IPv4-mapped addresses: every address of IPv4, and none of IPv6.
const MAPPED_WILDCARD: &str = "::ffff:0.0.0.0/96";

/// Networks of a login method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedIps {
    networks: Vec<Network>,
    /// Whether every address is trusted.
    is_unrestricted: bool,
}

impl TrustedIps {
    /// Parses networks in the form of [`normalized`]. A list of wildcards alone trusts the addresses
    /// of both families. That of IPv4-mapped addresses is one for IPv4 only.
    ///
    /// # Errors
    /// One of them is not a network.
    pub fn parse(networks: &[String]) -> Result<Self, TrustedIpError> {
        let is_wildcard = |network: &String| WILDCARDS.contains(&network.as_str());
        let is_unrestricted = networks.iter().all(is_wildcard) && !networks.is_empty();
        let networks = networks.iter().map(|one| {
            let network = if one == MAPPED_WILDCARD { "0.0.0.0/0" } else { one.as_str() };
            Network::parse(network).map_err(|_| TrustedIpError)
        });
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, is_unrestricted })
    }

    /// Whether every address is trusted.
    #[inline]
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.is_unrestricted
    }

    /// Returns the name of the family of addresses, if those of the other one are not trusted.
    #[must_use]
    pub fn only_family(&self) -> Option<&'static str> {
        let has_ipv4 = self.networks.iter().any(Network::is_ipv4);
        let has_ipv6 = self.networks.iter().any(|network| !network.is_ipv4());
        match (has_ipv4, has_ipv6) {
            _ if self.is_unrestricted => None,
            (true, false) => Some("IPv4"),
            (false, true) => Some("IPv6"),
            _ => None,
        }
    }

    /// Whether an address is trusted. An IPv4-mapped address is that of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_unrestricted || self.networks.iter().any(|network| network.contains(address))
    }
}

/// A text is not an address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedIpError;

/// Returns an address, or a network with its host bits cleared, in the form that is stored.
///
/// # Errors
/// The text is neither.
pub fn normalized(text: &str) -> Result<String, TrustedIpError> {
    let text = text.trim();
    let Some((address, prefix)) = text.split_once('/') else {
        let address: IpAddr = text.parse().map_err(|_| TrustedIpError)?;
        return Ok(address.to_canonical().to_string());
    };
    let address: IpAddr = address.parse().map_err(|_| TrustedIpError)?;
    let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|_| is_number).ok_or(TrustedIpError)?;
    let (address, prefix) = match (address, address.to_canonical()) {
        // A network of IPv4-mapped addresses.
        (IpAddr::V6(_), canonical @ IpAddr::V4(_)) => match prefix.checked_sub(96) {
            // In the form of IPv4, it would be the wildcard that admits IPv6, too.
            Some(0) => return Ok(MAPPED_WILDCARD.to_owned()),
            prefix => (canonical, prefix.ok_or(TrustedIpError)?),
        },
        (address, _) => (address, prefix),
    };
    let first = match address {
        IpAddr::V4(address) if prefix <= 32 => {
            let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) if prefix <= 128 => {
            let mask = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        _ => return Err(TrustedIpError),
    };
    Ok(format!("{first}/{prefix}"))
}

/// Returns a stored network as Infisical shows it: the address and the prefix apart.
#[must_use]
pub fn shown(network: &str) -> Value {
    let (address, prefix) = match network.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse::<u8>().ok()),
        None => (network, None),
    };
    let family = if address.contains(':') { "ipv6" } else { "ipv4" };
    match prefix {
        Some(prefix) => json!({ "ipAddress": address, "type": family, "prefix": prefix }),
        None => json!({ "ipAddress": address, "type": family }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> TrustedIps {
        let networks: Vec<_> = networks.iter().map(|one| normalized(one).unwrap()).collect();
        TrustedIps::parse(&networks).unwrap()
    }

    #[test]
    fn networks_are_normalized_or_refused() {
        for (text, expected) in [
            ("10.0.0.5/24", "10.0.0.0/24"),
            (" 10.1.2.3 ", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
            ("::ffff:0.0.0.0/96", "::ffff:0.0.0.0/96"),
            ("::FFFF:10.1.2.3/96", "::ffff:0.0.0.0/96"),
            ("::ffff:0:0/97", "0.0.0.0/1"),
        ] {
            assert_eq!(normalized(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "300.1.1.1",
            "10.0.0.0/33",
            "10.0.0.0/8abc",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::/129",
            "::ffff:10.0.0.0/8",
            "010.0.0.1",
            "fe80::1%eth0",
            "10.0.0.1:80",
            "localhost",
            "",
        ] {
            assert_eq!(normalized(text), Err(TrustedIpError), "{text}");
        }
    }

    #[test]
    fn wildcards_alone_trust_both_families() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for list in [&["0.0.0.0/0"][..], &["::/0"], &["0.0.0.0/0", "::/0"]] {
            let list = trusted(list);
            assert!(list.contains(address("192.0.2.1")) && list.contains(address("2001:db8::1")));
        }
        let mixed = trusted(&["0.0.0.0/0", "10.0.0.0/8"]);
        assert!(mixed.contains(address("192.0.2.1")) && !mixed.contains(address("2001:db8::1")));
        assert!(!TrustedIps::parse(&[]).unwrap().contains(address("192.0.2.1")));
    }

    #[test]
    fn mapped_wildcard_trusts_ipv4_only() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for list in [&["::ffff:0.0.0.0/96"][..], &["0.0.0.0/0", "::ffff:0:0/96"]] {
            let list = trusted(list);
            assert!(
                list.contains(address("192.0.2.1")) && list.contains(address("::ffff:1.2.3.4"))
            );
            assert!(!list.contains(address("2001:db8::1")) && !list.is_unrestricted());
        }
        let both = trusted(&["::ffff:0.0.0.0/96", "::/0"]);
        assert!(both.contains(address("192.0.2.1")) && both.contains(address("2001:db8::1")));
    }

    #[test]
    fn list_of_one_family_is_known() {
        for (list, expected) in [
            (&["0.0.0.0/0"][..], None),
            (&["10.0.0.0/8"], Some("IPv4")),
            (&["::ffff:10.1.2.3"], Some("IPv4")),
            (&["0.0.0.0/0", "10.0.0.0/8"], Some("IPv4")),
            (&["::1", "2001:db8::/32"], Some("IPv6")),
            (&["::/0", "10.0.0.0/8"], None),
            (&["::ffff:0.0.0.0/96"], Some("IPv4")),
            (&["::ffff:0.0.0.0/96", "::/0"], None),
        ] {
            assert_eq!(trusted(list).only_family(), expected, "{list:?}");
        }
    }

    #[test]
    fn mapped_address_is_that_of_ipv4() {
        let list = trusted(&["10.0.0.0/8"]);
        assert!(list.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!list.contains("::ffff:11.1.2.3".parse().unwrap()));
        assert!(trusted(&["::ffff:10.1.2.3"]).contains("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn address_and_prefix_are_shown_apart() {
        let expected = json!({ "ipAddress": "10.0.0.0", "type": "ipv4", "prefix": 8 });
        assert_eq!(shown("10.0.0.0/8"), expected);
        assert_eq!(shown("::1"), json!({ "ipAddress": "::1", "type": "ipv6" }));
        let expected = json!({ "ipAddress": "::ffff:0.0.0.0", "type": "ipv6", "prefix": 96 });
        assert_eq!(shown("::ffff:0.0.0.0/96"), expected);
    }
}
