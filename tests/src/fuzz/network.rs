//! Addresses and networks, as they are written in the configuration and in headers of proxies.

use std::net::{IpAddr, Ipv6Addr};

use countersign_server::client::trusted_proxies::{Network, address};

/// Fuzz target: any text as a network, and any bytes as an address. Prefixes are compared bit by
/// bit with a reading that shares no code with ours.
pub fn network(data: &[u8]) {
    check_address(data);
    let Ok(text) = str::from_utf8(data) else { return };
    let (network, naive) = (Network::parse(text), NaiveNetwork::parse(text));
    let Ok(network) = network else {
        assert!(naive.is_none(), "{text:?} is a network, and was refused: {network:?}");
        return;
    };
    let naive =
        naive.unwrap_or_else(|| panic!("{text:?} is not a network, but was read as {network}"));
    let written = network.to_string();
    assert_eq!(Network::parse(&written).as_ref(), Ok(&network), "{written:?} has another meaning");
    assert_eq!(network.is_everything(), naive.prefix.is_empty(), "{text:?}");
    for address in naive.neighbours() {
        let expected = naive.contains(address);
        assert_eq!(network.contains(address), expected, "{address} in {text:?}");
    }
}

/// An address of a header is canonical, and is that of the standard library's own parsers.
fn check_address(data: &[u8]) {
    let Some(parsed) = address(data) else { return };
    assert_eq!(parsed, parsed.to_canonical(), "{data:?}");
    let text = String::from_utf8_lossy(data);
    let text = text.trim_matches([' ', '\t']);
    // Without brackets and port, whichever of them it has.
    let without_port = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if text.contains('.') && !text.contains("::") && text.matches(':').count() == 1 => {
            text.split(':').next().unwrap_or_default()
        }
        None => text,
    };
    // A port of a bracketed address may follow a zone, which does not belong to the address.
    let without_zone = without_port.split('%').next().unwrap_or_default();
    let expected: IpAddr =
        without_zone.parse().unwrap_or_else(|_| panic!("{text:?} is not an address"));
    assert_eq!(parsed, expected.to_canonical(), "{text:?}");
}

/// A network as the bits of its prefix.
struct NaiveNetwork {
    first: IpAddr,
    prefix: Vec<bool>,
}

impl NaiveNetwork {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(2, '/');
        let written: IpAddr = parts.next()?.parse().ok()?;
        let Some(length) = parts.next() else {
            let first = written.to_canonical();
            return Some(Self { first, prefix: bits(first) });
        };
        let is_mapped = matches!(written, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if is_mapped || length.is_empty() || !length.chars().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let (length, all) = (length.parse::<u8>().ok()?, bits(written));
        let (prefix, rest) = all.split_at_checked(length.into())?;
        let is_first = rest.iter().all(|bit| !bit);
        is_first.then(|| Self { first: written, prefix: prefix.to_vec() })
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && bits(address).starts_with(&self.prefix)
    }

    /// Its first address with each one bit changed, and addresses of either family.
    fn neighbours(&self) -> Vec<IpAddr> {
        let changed = |bit: usize| match self.first {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() ^ (1 << bit)).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() ^ (1 << bit)).to_be_bytes()),
        };
        let mut all: Vec<_> = (0..bits(self.first).len()).map(changed).collect();
        all.extend([self.first, IpAddr::from([0; 4]), Ipv6Addr::UNSPECIFIED.into()]);
        // Only canonical addresses are asked about.
        all.retain(|address| *address == address.to_canonical());
        all
    }
}

/// The bits of an address, the highest first.
fn bits(address: IpAddr) -> Vec<bool> {
    let bytes = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect()
}
