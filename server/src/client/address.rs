//! The address of the client of a request.

use std::net::IpAddr;

use countersign_front::Fields;
use http::HeaderName;

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
}

impl ClientAddress<'_> {
    /// Returns the address; see [`TrustedProxies::client`].
    #[must_use]
    pub fn get(&self) -> IpAddr {
        match *self {
            Self::Deferred { peer, proxies, fields } => proxies.client(peer, fields),
            Self::Known(address) => address,
        }
    }

    /// Returns a copy that outlives the request.
    #[must_use]
    pub fn resolved(&self) -> ClientAddress<'static> {
        ClientAddress::Known(self.get())
    }

    /// Returns the peer and the header if the peer looks like a proxy missing in `trusted_proxies`.
    /// This is a hint only: a client may have sent the header itself.
    #[must_use]
    pub fn unlisted_proxy(&self) -> Option<(IpAddr, &HeaderName)> {
        match *self {
            Self::Deferred { peer, proxies, fields }
                if proxies.suspects_unlisted_proxy(peer, fields) =>
            {
                Some((peer, proxies.header()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

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
}
