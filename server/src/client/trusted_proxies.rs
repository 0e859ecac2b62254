//! Client addresses behind trusted proxies.
//!
//! One configured header lists the addresses a request came through: `Forwarded` by RFC 7239, and
//! any other as `X-Forwarded-For` does. Each proxy appends the address of its peer, so [`TrustedProxies::client`] reads the list from its end and follows
//! it while every entry is a trusted proxy. The first untrusted address is the client. Entries
//! further left were sent by the client and prove nothing.
//!
//! All other headers of this kind are ignored. A proxy that sets one of them passes on the
//! client's copy of the others.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use countersign_front::{
    Fields,
    address::{UNIX_PEER, UNKNOWN_PEER},
};
use http::{HeaderName, header::FORWARDED};

use super::forwarded;

/// The proxies whose client-address header is trusted, and the name of that header.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    trusted: Vec<Network>,
    unix: bool,
    header: HeaderName,
}

/// Maximum number of proxies that one request is followed through. It bounds the work for a
/// list that names only trusted proxies.
const MAX_HOPS: usize = 32;

impl TrustedProxies {
    /// Trusts the proxies in these networks, and the peers of Unix sockets if `unix`. They put
    /// the client's address into `header`.
    #[must_use]
    pub fn new(trusted: Vec<Network>, unix: bool, header: HeaderName) -> Self {
        Self { trusted, unix, header }
    }

    /// Whether any proxy is trusted.
    #[must_use]
    pub fn trusts_any(&self) -> bool {
        self.unix || !self.trusted.is_empty()
    }

    /// Returns the name of the client-address header.
    #[must_use]
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Returns the trusted networks, and `unix`, as they are configured.
    #[must_use]
    pub fn trusted(&self) -> Vec<String> {
        let unix = self.unix.then(|| "unix".into());
        self.trusted.iter().map(ToString::to_string).chain(unix).collect()
    }

    /// Returns the client's address of a request from `peer`: the last address that a trusted
    /// proxy vouches for. An entry that cannot be parsed ends the list; nothing left of it
    /// counts.
    #[must_use]
    pub fn client(&self, peer: IpAddr, fields: &dyn Fields) -> IpAddr {
        let lines = (0..MAX_HOPS).map_while(|nth| fields.line(&self.header, nth));
        if self.header == FORWARDED {
            let hops = lines.flat_map(forwarded::elements_from_end);
            return self.follow(peer, hops.map(forwarded::address));
        }
        self.follow(peer, lines.flat_map(|line| line.rsplit(|byte| *byte == b',')).map(address))
    }

    /// Follows the hops of a list from its end, up to the first that is not a trusted proxy.
    fn follow(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut known = peer.to_canonical();
        if !self.trusts(known) {
            return known;
        }
        for hop in hops.take(MAX_HOPS) {
            let Some(before) = hop.filter(|before| ![UNIX_PEER, UNKNOWN_PEER].contains(before))
            else {
                return known;
            };
            known = before;
            if !self.trusts(known) {
                return known;
            }
        }
        known
    }

    /// Returns the client's address of the original request in a check over gRPC or SPOP.
    ///
    /// `peer` is the proxy that asks, and `source` the address it received the request from.
    /// Without `source` the header is ignored: it could be the client's own.
    #[must_use]
    pub fn original_client(
        &self,
        peer: IpAddr,
        source: Option<IpAddr>,
        fields: &dyn Fields,
    ) -> IpAddr {
        let source = source.map(|source| source.to_canonical());
        match source.filter(|source| ![UNIX_PEER, UNKNOWN_PEER].contains(source)) {
            Some(source) if self.trusts(peer) => self.client(source, fields),
            _ => peer.to_canonical(),
        }
    }

    /// Whether an untrusted peer sends the client-address header, as a proxy that is missing
    /// from the configuration would.
    #[must_use]
    pub fn suspects_unlisted_proxy(&self, peer: IpAddr, fields: &dyn Fields) -> bool {
        fields.line(&self.header, 0).is_some() && !self.trusts(peer)
    }

    /// Whether the peer of a connection is a trusted proxy.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        match peer.to_canonical() {
            UNIX_PEER => self.unix,
            UNKNOWN_PEER => false,
            peer => self.trusted.iter().any(|network| network.contains(peer)),
        }
    }
}

/// Parses an address as proxies write it: alone, or with a port (IPv6 then in brackets).
#[must_use]
pub fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => {
            text.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
        }
    };
    address.map(|address| address.to_canonical())
}

/// An IP network: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    ///
    /// # Errors
    /// A sentence with what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let example = "write one such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32";
        let address: IpAddr = address.parse().map_err(|_| example.to_owned())?;
        let Some(bits) = bits else {
            let first = address.to_canonical();
            return Ok(Self { first, bits: width(first) });
        };
        if address != address.to_canonical() {
            return Err("write an IPv4-mapped network in IPv4 notation".into());
        }
        let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits =
            bits.parse().ok().filter(|bits| digits && *bits <= width(address)).ok_or(example)?;
        let first = masked(address, bits);
        if first == address {
            Ok(Self { first, bits })
        } else {
            Err(format!("did you mean {first}/{bits}?"))
        }
    }

    /// Returns the networks with one of the names that reverse proxies have for them; `None` for
    /// another text.
    #[must_use]
    pub fn named(name: &str) -> Option<Vec<Self>> {
        let networks: &[&str] = match name {
            "loopback" => &["127.0.0.0/8", "::1"],
            "linklocal" => &["169.254.0.0/16", "fe80::/10"],
            "uniquelocal" => &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
            _ => return None,
        };
        Some(networks.iter().filter_map(|text| Self::parse(text).ok()).collect())
    }

    /// Whether its addresses are those of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether the network contains every address of its family.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// Whether the network contains an address, which must be canonical: an IPv4-mapped address is
    /// passed as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.bits) == self.first
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, bits } = self;
        if *bits == width(*first) { first.fmt(f) } else { write!(f, "{first}/{bits}") }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the address with everything after its first `bits` cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let cleared = u32::from(width(address).saturating_sub(bits));
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(cleared).unwrap_or(0))
                .into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(cleared).unwrap_or(0))
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[&[u8]]) -> String {
        let trusted = trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        let proxies =
            TrustedProxies::new(trusted, false, HeaderName::from_static("x-forwarded-for"));
        let mut headers = HeaderMap::new();
        headers.append("x-real-ip", HeaderValue::from_static("203.0.113.66"));
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn e1_client_header_needs_a_trusted_proxy() {
        for (trusted, peer) in
            [(&[][..], "10.0.0.1"), (&["10.0.0.2"], "10.0.0.1"), (&["10.0.0.0/8"], "11.0.0.1")]
        {
            assert_eq!(client(trusted, peer, &[b"198.51.100.7"]), peer, "{trusted:?}");
        }
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &[b"198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client(&["10.0.0.0/8"], "10.0.0.1", &[]),
            "10.0.0.1",
            "without the header, the proxy is the client"
        );
    }

    #[test]
    fn e1_client_list_ends_at_the_first_untrusted_hop() {
        let trusted = &["10.0.0.0/8", "2001:db8::/32"];
        for (lines, expected) in [
            (&["203.0.113.9, 198.51.100.7"][..], "198.51.100.7"),
            (&["203.0.113.9,198.51.100.7,10.0.0.2 ,\t10.0.0.3"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (&["198.51.100.7", "10.0.0.2", "2001:db8::5"], "198.51.100.7"),
            (&["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            // An unparsable entry ends the list.
            (&["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["198.51.100.7, , 10.0.0.2"], "10.0.0.2"),
            (&["198.51.100.7,"], "10.0.0.1"),
            (&["198.51.100.7", ""], "10.0.0.1"),
            (&["unknown"], "10.0.0.1"),
            (&["_hidden"], "10.0.0.1"),
            (&["198.51.100.256"], "10.0.0.1"),
            (&["198.51.100.7 10.0.0.2"], "10.0.0.1"),
            (&["for=198.51.100.7"], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(client(trusted, "10.0.0.1", &lines), expected, "{lines:?}");
        }
        assert_eq!(client(trusted, "10.0.0.1", &[b"198.51.100.7, \xff"]), "10.0.0.1");
        let long = vec!["10.0.0.2"; 5000].join(",");
        assert_eq!(
            client(trusted, "10.0.0.1", &[format!("198.51.100.7,{long}").as_bytes()]),
            "10.0.0.2",
            "the list is followed for MAX_HOPS entries"
        );
    }

    #[test]
    fn e1_forwarded_list_ends_at_the_first_untrusted_hop() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::parse(text).unwrap());
        let proxies = TrustedProxies::new(trusted.into(), false, FORWARDED);
        let client = |peer: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| (FORWARDED, HeaderValue::from_str(line).unwrap()));
            let mut headers: HeaderMap = lines.fold(HeaderMap::new(), |mut all, (name, line)| {
                all.append(name, line);
                all
            });
            headers.append("x-forwarded-for", HeaderValue::from_static("203.0.113.66"));
            proxies.client(peer.parse().unwrap(), &headers).to_string()
        };
        for (lines, expected) in [
            (&[][..], "10.0.0.1"),
            (&["for=198.51.100.7"], "198.51.100.7"),
            (&["for=203.0.113.9, for=198.51.100.7;proto=https"], "198.51.100.7"),
            (&["for=203.0.113.9,for=198.51.100.7", "for=10.0.0.2 ,\tfor=10.0.0.3"], "198.51.100.7"),
            (&["for=198.51.100.7", r#"for="[2001:db8::5]:80""#], "198.51.100.7"),
            (&["for=10.0.0.2, for=10.0.0.3"], "10.0.0.2"),
            // An element without an address ends the list.
            (&["for=198.51.100.7, for=unknown, for=10.0.0.2"], "10.0.0.2"),
            (&["for=198.51.100.7", "for=_hidden"], "10.0.0.1"),
            (&["for=198.51.100.7,"], "10.0.0.1"),
            (&["for=198.51.100.7", ""], "10.0.0.1"),
            (&["for=198.51.100.7, by=10.0.0.2"], "10.0.0.1"),
            (&["198.51.100.7"], "10.0.0.1"),
            (&["for=0.0.0.0"], "10.0.0.1"),
            // Quotes that a client left open do not hide what its proxy appended.
            (&[r#"for="203.0.113.9, for=198.51.100.7"#], "198.51.100.7"),
            (&[r#"for="\, for="198.51.100.7:80""#, "for=10.0.0.2"], "198.51.100.7"),
        ] {
            assert_eq!(client("10.0.0.1", lines), expected, "{lines:?}");
        }
        assert_eq!(client("192.0.2.1", &["for=198.51.100.7"]), "192.0.2.1");
        let long = vec!["for=10.0.0.2"; 5000].join(",");
        assert_eq!(client("10.0.0.1", &[&format!("for=198.51.100.7,{long}")]), "10.0.0.2");
    }

    #[test]
    fn client_address_may_have_a_port_or_be_mapped() {
        for (text, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            (" 198.51.100.7:4711 ", "198.51.100.7"),
            ("2001:db8:9::7", "2001:db8:9::7"),
            ("[2001:db8:9::7]", "2001:db8:9::7"),
            ("[2001:db8:9::7]:4711", "2001:db8:9::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("[::ffff:198.51.100.7]:80", "198.51.100.7"),
        ] {
            assert_eq!(
                client(&["::ffff:10.0.0.1"], "::ffff:10.0.0.1", &[text.as_bytes()]),
                expected,
                "{text:?}"
            );
        }
        for text in [
            "[198.51.100.7]",
            "198.51.100.7:",
            "198.51.100.7:x",
            "[2001:db8::7",
            "2001:db8::7]",
            "1.2.3",
            "0x7f.1",
            "fe80::1%eth0",
            "\"1.2.3.4\"",
        ] {
            assert_eq!(
                client(&["10.0.0.1"], "10.0.0.1", &[text.as_bytes()]),
                "10.0.0.1",
                "{text:?}"
            );
        }
    }

    #[test]
    fn unix_socket_peer_is_trusted_only_by_name() {
        let everything = vec![Network::parse("0.0.0.0/0").unwrap()];
        let header = HeaderName::from_static("x-forwarded-for");
        assert!(!TrustedProxies::new(everything, false, header.clone()).trusts(UNIX_PEER));
        let proxies = TrustedProxies::new(Vec::new(), true, header.clone());
        let client = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header.clone(), HeaderValue::from_static(text))]);
            proxies.client(UNIX_PEER, &headers).to_string()
        };
        let everywhere = ["::/0", "0.0.0.0/0"].map(|text| Network::parse(text).unwrap());
        assert!(!TrustedProxies::new(everywhere.into(), true, header.clone()).trusts(UNKNOWN_PEER));
        assert_eq!(client("198.51.100.7"), "198.51.100.7");
        assert_eq!(
            client("198.51.100.7, 0.0.0.0"),
            "0.0.0.0",
            "a header cannot name a Unix socket peer"
        );
    }

    #[test]
    fn e1_original_client_needs_a_trusted_peer() {
        let trusted =
            |texts: &[&str]| texts.iter().map(|text| Network::parse(text).unwrap()).collect();
        let proxies = TrustedProxies::new(
            trusted(&["10.0.0.0/8"]),
            true,
            HeaderName::from_static("x-forwarded-for"),
        );
        let headers = HeaderMap::from_iter([(
            proxies.header().clone(),
            HeaderValue::from_static("198.51.100.7, 203.0.113.9"),
        )]);
        let parsed = |source: &str| address(source.as_bytes());
        let client = |peer: &str, source: Option<&str>| {
            proxies
                .original_client(peer.parse().unwrap(), source.and_then(parsed), &headers)
                .to_string()
        };
        for (peer, source, expected) in [
            ("10.0.0.1", Some("192.0.2.5"), "192.0.2.5"),
            // Another trusted proxy, which appended the end of the header.
            ("10.0.0.1", Some("::ffff:10.0.0.2"), "203.0.113.9"),
            // Without a source address the header is ignored.
            ("10.0.0.1", None, "10.0.0.1"),
            ("10.0.0.1", Some("/run/envoy.sock"), "10.0.0.1"),
            // A source cannot claim to be a Unix socket peer, which is trusted.
            ("10.0.0.1", Some("0.0.0.0"), "10.0.0.1"),
            ("10.0.0.1", Some("::"), "10.0.0.1"),
            ("192.0.2.1", Some("10.0.0.2"), "192.0.2.1"),
            ("192.0.2.1", None, "192.0.2.1"),
        ] {
            assert_eq!(client(peer, source), expected, "{source:?} by {peer}");
        }
    }

    #[test]
    fn network_contains_exactly_its_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("192.0.2.4/30", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.to_string(), network);
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn network_parse_error_names_a_remedy() {
        for (text, remedy) in [
            ("", "write one such as"),
            ("proxy.example", "write one such as"),
            ("10.0.0.0/33", "write one such as"),
            ("10.0.0.0/+8", "write one such as"),
            ("10.0.0.0/", "write one such as"),
            ("10.0.0.0/8/8", "write one such as"),
            ("10.1.2.3/8", "did you mean 10.0.0.0/8?"),
            ("2001:db8::1/64", "did you mean 2001:db8::/64?"),
            ("::ffff:10.0.0.0/104", "IPv4 notation"),
        ] {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains(remedy), "{text:?}: {error}");
        }
    }
}
