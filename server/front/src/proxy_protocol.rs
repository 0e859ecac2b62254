//! The PROXY protocol, version 2: a load balancer that forwards bytes puts a header with the
//! client's address in front of them.
//!
//! The header is required from trusted proxies and is not accepted from any other peer. The
//! source address of the connection decides that, never its content.

use std::{io, net::IpAddr};

use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::address::UNKNOWN_PEER;

/// Signature, version, family and length.
const FIXED_HEADER_BYTES: usize = 16;
/// Maximum length of the variable part: addresses, and the fields (TLVs) that balancers add.
const MAX_ADDRESS_BYTES: usize = 4096;

/// Reads the header, and nothing after it, and returns the client's address.
///
/// Returns [`UNKNOWN_PEER`] if the proxy does not name a client, and `None` if the proxy opened
/// the connection for itself, as a health check (command LOCAL).
///
/// # Errors
/// The header is missing, of another version or malformed, or the connection ends within it.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut bytes = vec![0; FIXED_HEADER_BYTES];
    stream.read_exact(&mut bytes).await?;
    let rest = usize::from(u16::from_be_bytes([
        bytes[FIXED_HEADER_BYTES - 2],
        bytes[FIXED_HEADER_BYTES - 1],
    ]));
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) || rest > MAX_ADDRESS_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the PROXY protocol version 2 header is missing or malformed",
        ));
    }
    bytes.resize(FIXED_HEADER_BYTES + rest, 0);
    stream.read_exact(&mut bytes[FIXED_HEADER_BYTES..]).await?;
    let header = Header::try_from(&*bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if header.command == Command::Local {
        return Ok(None);
    }
    let source: IpAddr = match header.addresses {
        Addresses::IPv4(addresses) => addresses.source_address.into(),
        Addresses::IPv6(addresses) => addresses.source_address.into(),
        // The client is unknown. Using the proxy's own address would give the client the trust
        // of the proxy.
        Addresses::Unix(_) | Addresses::Unspecified => return Ok(Some(UNKNOWN_PEER)),
    };
    // An unspecified address cannot be a client, and 0.0.0.0 means `UNIX_PEER` here, which can be
    // trusted. So it is rejected.
    if source.to_canonical().is_unspecified() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the PROXY protocol header has an unspecified client address",
        ));
    }
    Ok(Some(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn read_all(bytes: &[u8]) -> (Result<Option<IpAddr>, io::ErrorKind>, usize) {
        let mut stream = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut stream)).map_err(|error| error.kind());
        (read, stream.len())
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    #[test]
    fn proxy_header_is_read_and_nothing_after_it() {
        let v4 = [198, 51, 100, 7, 10, 0, 0, 1, 0, 80, 1, 187];
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat();
        for (bytes, expected) in [
            (header(0x21, 0x11, &v4), Some("198.51.100.7")),
            // With a TLV that a balancer adds (AWS, an endpoint identifier).
            (header(0x21, 0x11, &[&v4[..], &[0xea, 0, 2, 1, 2]].concat()), Some("198.51.100.7")),
            (header(0x21, 0x21, &[&v6[..], &[0; 4]].concat()), Some("2001:db8::7")),
            (header(0x20, 0x11, &v4), None),
            (header(0x20, 0, &[]), None),
            (header(0x21, 0, &[]), Some("::")),
        ] {
            let (read, left) = read_all(&[&bytes[..], b"GET /"].concat());
            assert_eq!((read, left), (Ok(expected.map(|text| text.parse().unwrap())), 5));
        }
    }

    #[test]
    fn malformed_proxy_header_is_rejected() {
        let v4 = [198, 51, 100, 7, 10, 0, 0, 1, 0, 80, 1, 187];
        let good = header(0x21, 0x11, &v4);
        for bytes in [
            b"PROXY TCP4 198.51.100.7 10.0.0.1 80 443\r\n".to_vec(),
            b"GET /auth HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            header(0x11, 0x11, &v4),
            header(0x2f, 0x11, &v4),
            header(0x21, 0x11, &v4[..11]),
            header(0x21, 0x41, &v4),
            header(0x21, 0x11, &[0; MAX_ADDRESS_BYTES + 1]),
            header(0x21, 0x11, &[0; 12]),
            header(0x21, 0x21, &[0; 36]),
            header(0x21, 0x21, &[&[0; 10][..], &[0xff; 2], &[0; 24]].concat()),
        ] {
            assert_eq!(read_all(&bytes).0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        for end in 0..good.len() {
            assert_eq!(read_all(&good[..end]).0, Err(io::ErrorKind::UnexpectedEof), "{end}");
        }
    }
}
