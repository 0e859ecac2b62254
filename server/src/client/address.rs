//! The address of the client of a request.

use std::net::{IpAddr, Ipv4Addr};

use countersign_front::{Fields, address::UNIX_PEER};

use super::trusted_proxies::TrustedProxies;

/// The address of a client. It is read from the header lines on demand, because most requests do
/// not need it.
#[derive(Clone, Copy)]
pub enum ClientAddress<'r> {
    /// Not determined yet.
    Deferred {
        /// The peer of the connection.
        peer: IpAddr,
        /// The trusted proxies, and the name of their header.
        proxies: &'r TrustedProxies,
        /// The header lines of the request.
        fields: &'r dyn Fields,
    },
    /// Determined.
    Known(IpAddr),
    /// Determined: the address of a peer that looks like a proxy missing in `trusted_proxies`.
    UnlistedProxy(IpAddr),
}

impl ClientAddress<'_> {
    /// Returns the address; see [`TrustedProxies::client`].
    #[must_use]
    pub fn get(&self) -> IpAddr {
        match *self {
            Self::Deferred { peer, proxies, fields } => proxies.client(peer, fields),
            Self::Known(address) | Self::UnlistedProxy(address) => address,
        }
    }

    /// Returns the peer of the connection. It is only known before the address is
    /// [resolved](Self::resolved).
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        match *self {
            Self::Deferred { peer, .. } => peer,
            Self::Known(address) | Self::UnlistedProxy(address) => address,
        }
    }

    /// Returns a copy that outlives the request.
    #[must_use]
    pub fn resolved(&self) -> ClientAddress<'static> {
        match self.is_unlisted_proxy() {
            true => ClientAddress::UnlistedProxy(self.get()),
            false => ClientAddress::Known(self.get()),
        }
    }

    /// Returns whether the peer looks like a proxy that is missing in `trusted_proxies`, so that
    /// all its clients share this address: it is on a local network or on this machine, and sends
    /// the header. This is a hint only: a client may have sent the header itself.
    #[must_use]
    pub fn is_unlisted_proxy(&self) -> bool {
        match *self {
            Self::Deferred { peer, proxies, fields } => {
                is_local(peer) && proxies.suspects_unlisted_proxy(peer, fields)
            }
            Self::Known(_) => false,
            Self::UnlistedProxy(_) => true,
        }
    }
}

/// Whether an address is not one of the public Internet, or is a Unix socket peer.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        UNIX_PEER => true,
        IpAddr::V4(address) => {
            address.is_private() || address.is_loopback() || address.is_link_local()
                // Shared address space, 100.64.0.0/10 (RFC 6598).
                || address.to_bits() & 0xffc0_0000 == Ipv4Addr::new(100, 64, 0, 0).to_bits()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::client::trusted_proxies::Network;

    #[test]
    fn resolved_address_outlives_the_request() {
        let header = HeaderName::from_static("x-real-ip");
        let proxies =
            TrustedProxies::new(vec![Network::parse("10.0.0.1").unwrap()], false, header.clone());
        let fields = HeaderMap::from_iter([(header, "198.51.100.7".parse().unwrap())]);
        let peer = "10.0.0.1".parse().unwrap();
        let resolved =
            ClientAddress::Deferred { peer, proxies: &proxies, fields: &fields }.resolved();
        drop(fields);
        assert_eq!(resolved.get(), "198.51.100.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn unlisted_proxy_is_local_and_sends_the_header() {
        let header = HeaderName::from_static("x-forwarded-for");
        let listed = vec![Network::parse("10.0.0.1").unwrap()];
        let proxies = TrustedProxies::new(listed, false, header.clone());
        let with = HeaderMap::from_iter([(header, "198.51.100.7".parse().unwrap())]);
        let is_unlisted = |peer: &str, fields: &HeaderMap| {
            let peer = peer.parse().unwrap();
            let address = ClientAddress::Deferred { peer, proxies: &proxies, fields };
            let is_unlisted = address.is_unlisted_proxy();
            assert_eq!(address.resolved().is_unlisted_proxy(), is_unlisted, "{peer}");
            is_unlisted
        };
        for peer in [
            "127.0.0.1",
            "10.0.0.2",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.0.1",
            "100.127.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.2",
            "0.0.0.0",
        ] {
            assert!(is_unlisted(peer, &with) && !is_unlisted(peer, &HeaderMap::new()), "{peer}");
        }
        for peer in ["10.0.0.1", "192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::"] {
            assert!(!is_unlisted(peer, &with), "{peer}");
        }
    }
}
