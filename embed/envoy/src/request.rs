//! A request of Envoy as the tier reads it.

use std::net::{IpAddr, SocketAddr};

use countersign_engine::CertificateThumbprint;
use countersign_server::{
    base::hex::from_hex,
    embedding::{ConnectionCertificate, HeaderLine, HeaderLines, UNIX_PEER},
};
use http::StatusCode;

use crate::{
    abi,
    envoy::{EnvoyHeader, EnvoyStream, HeaderMemory},
};

/// A request, in the memory of Envoy.
pub(crate) struct StreamRequest<'r> {
    pub(crate) head: HeaderLines<'r, EnvoyHeader<'r>>,
    pub(crate) is_tls: bool,
    pub(crate) peer: IpAddr,
    pub(crate) certificate: ConnectionCertificate<'static>,
}

impl<'r> StreamRequest<'r> {
    /// Reads the request of a stream.
    ///
    /// # Errors
    /// The status of a refusal: 400 for a request without method, path or host, or with one that is
    /// not UTF-8, and 503 if the peer's address is unknown.
    pub(crate) fn read(
        stream: &'r EnvoyStream<'_>,
        memory: &'r mut HeaderMemory,
    ) -> Result<Self, StatusCode> {
        let (pseudo, lines) = split(stream.headers(memory));
        let head = read_head(pseudo, lines)?;
        let peer = stream.peer().and_then(peer_address);
        let peer = peer.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let is_tls = stream.attribute(abi::CONNECTION_TLS_VERSION).is_some_and(is_not_empty);
        let certificate =
            if is_tls { read_certificate(stream) } else { ConnectionCertificate::Absent };
        Ok(Self { head, is_tls, peer, certificate })
    }
}

/// Returns the header lines of a stream's request, without method, path and host.
pub(crate) fn without_head<'r>(
    stream: &'r EnvoyStream<'_>,
    memory: &'r mut HeaderMemory,
) -> HeaderLines<'r, EnvoyHeader<'r>> {
    let (_, lines) = split(stream.headers(memory));
    HeaderLines::of_lines(lines)
}

/// Whether the request of a stream is a call of gRPC, by the rule of Envoy.
pub(crate) fn is_grpc(stream: &EnvoyStream<'_>) -> bool {
    let mut memory = HeaderMemory::new();
    let mut lines = stream.headers(&mut memory).iter();
    lines.find(|line| line.name() == b"content-type").is_some_and(|line| {
        let rest = line.value().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    })
}

/// Reads the head of a request. Envoy has method, path and host in pseudo-headers, whatever the
/// version of HTTP.
fn read_head<'r>(
    pseudo: &'r [EnvoyHeader<'r>],
    lines: &'r [EnvoyHeader<'r>],
) -> Result<HeaderLines<'r, EnvoyHeader<'r>>, StatusCode> {
    let find = |name: &[u8]| pseudo.iter().find(|line| line.name() == name).map(HeaderLine::value);
    let (Some(method), Some(target), Some(host)) =
        (find(b":method"), find(b":path"), find(b":authority"))
    else {
        return Err(StatusCode::BAD_REQUEST);
    };
    HeaderLines::new([method, target, host], lines).map_err(|_| StatusCode::BAD_REQUEST)
}

/// Splits off the pseudo-headers, which Envoy keeps in front.
fn split<'r>(all: &'r [EnvoyHeader<'r>]) -> (&'r [EnvoyHeader<'r>], &'r [EnvoyHeader<'r>]) {
    all.split_at(all.iter().take_while(|line| is_pseudo(line)).count())
}

fn is_pseudo(line: &EnvoyHeader<'_>) -> bool {
    line.name().starts_with(b":")
}

fn is_not_empty(text: &[u8]) -> bool {
    !text.is_empty()
}

fn read_certificate(stream: &EnvoyStream<'_>) -> ConnectionCertificate<'static> {
    let digest = stream.attribute(abi::SHA256_PEER_CERTIFICATE);
    let digest = digest.and_then(|text| from_hex(str::from_utf8(text).ok()?).ok());
    digest.map_or(ConnectionCertificate::Absent, |digest| {
        ConnectionCertificate::Thumbprint(CertificateThumbprint::from_digest(digest))
    })
}

/// Parses the peer's address, as Envoy writes it: IP address and port, or the path of a Unix
/// socket, which is empty or starts with `@` if it has none in the file system.
fn peer_address(text: &[u8]) -> Option<IpAddr> {
    if matches!(text.first(), None | Some(b'/' | b'@')) {
        return Some(UNIX_PEER);
    }
    let address: SocketAddr = str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_address_has_a_port_or_is_a_socket() {
        let address = |text: &str| peer_address(text.as_bytes());
        assert_eq!(address("192.0.2.1:80"), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(address("[::ffff:192.0.2.1]:80"), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(address("[2001:db8::1]:80"), "2001:db8::1".parse().ok());
        for socket in ["", "/run/envoy.sock", "@envoy"] {
            assert_eq!(address(socket), Some(UNIX_PEER), "{socket}");
        }
        for unknown in ["192.0.2.1", "envoy://internal", "192.0.2.1:", "x"] {
            assert_eq!(address(unknown), None, "{unknown}");
        }
    }
}
