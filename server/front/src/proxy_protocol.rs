//! The PROXY protocol, versions 1 and 2: a load balancer that forwards bytes puts a header with
//! the client's address in front of them. Version 1 is a line of text, version 2 is binary.
//!
//! The header is required from trusted proxies and is not accepted from any other peer. The
//! source address of the connection decides that, never its content.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX as SIGNATURE};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::address::UNKNOWN_PEER;

/// Length of the signature of version 2. The shortest header of version 1 has 15 bytes.
const SIGNATURE_BYTES: usize = 12;
/// Length of the signature, version, family and length of version 2.
const FIXED_HEADER_BYTES: usize = 16;
/// Maximum length of the variable part of version 2: addresses, and the fields (TLVs) that
/// balancers add.
const MAX_ADDRESS_BYTES: usize = 4096;
/// Maximum length of version 1, with its line end.
const MAX_LINE_BYTES: usize = 107;

/// Reads the header, and nothing after it, and returns the client's address.
///
/// Returns [`UNKNOWN_PEER`] if the proxy does not name a client, and `None` if the proxy opened
/// the connection for itself, as a health check (command LOCAL of version 2).
///
/// # Errors
/// The header is missing, of another version or malformed, or the connection ends within it.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut start = [0; SIGNATURE_BYTES];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        read_binary(stream).await
    } else {
        read_line(stream, &start).await.map(Some)
    }
}

fn malformed(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Reads the rest of a version 2 header.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.resize(FIXED_HEADER_BYTES, 0);
    stream.read_exact(&mut bytes[SIGNATURE_BYTES..]).await?;
    let rest = usize::from(u16::from_be_bytes([
        bytes[FIXED_HEADER_BYTES - 2],
        bytes[FIXED_HEADER_BYTES - 1],
    ]));
    if rest > MAX_ADDRESS_BYTES {
        return Err(malformed("the PROXY protocol header is too long"));
    }
    bytes.resize(FIXED_HEADER_BYTES + rest, 0);
    stream.read_exact(&mut bytes[FIXED_HEADER_BYTES..]).await?;
    let header = Header::try_from(&*bytes).map_err(malformed)?;
    if header.command == Command::Local {
        return Ok(None);
    }
    match header.addresses {
        Addresses::IPv4(addresses) => named(addresses.source_address.into()).map(Some),
        Addresses::IPv6(addresses) => named(addresses.source_address.into()).map(Some),
        // The client is unknown. Using the proxy's own address would give the client the trust
        // of the proxy.
        Addresses::Unix(_) | Addresses::Unspecified => Ok(Some(UNKNOWN_PEER)),
    }
}

/// Reads the rest of a version 1 header, which starts with `line`.
///
/// A line has no length, so each step reads as many bytes as the line still has at least.
async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    start: &[u8; SIGNATURE_BYTES],
) -> io::Result<IpAddr> {
    let (mut line, mut length) = ([0; MAX_LINE_BYTES], SIGNATURE_BYTES);
    line[..SIGNATURE_BYTES].copy_from_slice(start);
    loop {
        match remaining(&line[..length]) {
            Some(0) => return parse_line(&line[..length]).ok_or_else(|| malformed(NO_HEADER)),
            Some(more) if length + more <= MAX_LINE_BYTES => {
                stream.read_exact(&mut line[length..length + more]).await?;
                length += more;
            }
            _ => return Err(malformed(NO_HEADER)),
        }
    }
}

const NO_HEADER: &str = "the PROXY protocol header is missing or malformed";

/// Returns how many bytes a version 1 header that starts like this still has at least; `None` if
/// none starts like this.
fn remaining(line: &[u8]) -> Option<usize> {
    const SPACES: usize = 5;
    let missing_fields = if line.starts_with(b"PROXY TCP4 ") || line.starts_with(b"PROXY TCP6 ") {
        SPACES.checked_sub(line.iter().filter(|byte| **byte == b' ').count())?
    } else if line.starts_with(b"PROXY UNKNOW") {
        0
    } else {
        return None;
    };
    let end = line.iter().position(|byte| b"\r\n".contains(byte));
    match end.map(|end| &line[end..]) {
        // A space and a character for each field, and the line end.
        None => Some(2 * missing_fields + 2),
        Some(b"\r") => Some(1),
        Some(b"\r\n") => Some(0),
        Some(_) => None,
    }
}

/// Parses a version 1 header. Returns `None` if it is malformed.
fn parse_line(line: &[u8]) -> Option<IpAddr> {
    let line = line.strip_prefix(b"PROXY ")?.strip_suffix(b"\r\n")?;
    // The rest of the line is ignored: the client is unknown.
    if let Some(rest) = line.strip_prefix(b"UNKNOWN") {
        return matches!(rest, [] | [b' ', ..]).then_some(UNKNOWN_PEER);
    }
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    let mut next = || fields.next();
    let parse: fn(&str) -> Option<IpAddr> = match next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, _destination) = (parse(next()?)?, parse(next()?)?);
    let is_complete = is_port(next()?) && is_port(next()?) && next().is_none();
    named(source).ok().filter(|_| is_complete)
}

/// Whether this is a port in decimal, without sign or leading zeros.
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

/// Returns the address that a header names as the client.
///
/// An unspecified address cannot be a client, and `0.0.0.0` means
/// [`UNIX_PEER`](crate::address::UNIX_PEER) here, which can be trusted. So it is rejected.
fn named(source: IpAddr) -> io::Result<IpAddr> {
    if source.to_canonical().is_unspecified() {
        return Err(malformed("the PROXY protocol header has an unspecified client address"));
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::ReadBuf;

    use super::*;

    const V4: [u8; 12] = [198, 51, 100, 7, 10, 0, 0, 1, 0, 80, 1, 187];

    fn read_all(bytes: &[u8]) -> (Result<Option<IpAddr>, io::ErrorKind>, usize) {
        read_segments(&[bytes])
    }

    /// Reads the header from a stream that delivers these segments, one at a time. Returns the
    /// number of bytes left, too.
    fn read_segments(segments: &[&[u8]]) -> (Result<Option<IpAddr>, io::ErrorKind>, usize) {
        let mut stream = Segments(segments.to_vec());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut stream)).map_err(|error| error.kind());
        (read, stream.0.iter().map(|segment| segment.len()).sum())
    }

    struct Segments<'s>(Vec<&'s [u8]>);

    impl AsyncRead for Segments<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.retain(|segment| !segment.is_empty());
            if let Some(segment) = self.0.first_mut() {
                let (read, rest) = segment.split_at(segment.len().min(into.remaining()));
                into.put_slice(read);
                *segment = rest;
            }
            Poll::Ready(Ok(()))
        }
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn longest() -> String {
        let (v6, mapped) = (["ffff"; 8].join(":"), "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255");
        let line = format!("PROXY UNKNOWN {v6} {mapped}");
        format!("{line:<105}\r\n")
    }

    /// Headers and the client's addresses.
    fn well_formed() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat();
        let binary = [
            (header(0x21, 0x11, &V4), Some("198.51.100.7")),
            // With a TLV that a balancer adds (AWS, an endpoint identifier).
            (header(0x21, 0x11, &[&V4[..], &[0xea, 0, 2, 1, 2]].concat()), Some("198.51.100.7")),
            (header(0x21, 0x21, &[&v6[..], &[0; 4]].concat()), Some("2001:db8::7")),
            (header(0x20, 0x11, &V4), None),
            (header(0x20, 0, &[]), None),
            (header(0x21, 0, &[]), Some("::")),
        ];
        let text = [
            ("PROXY TCP4 198.51.100.7 10.0.0.1 56324 443\r\n", "198.51.100.7"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", "1.1.1.1"),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
            ("PROXY TCP6 2001:db8::7 2001:DB8::1 56324 443\r\n", "2001:db8::7"),
            ("PROXY TCP6 ::1 :: 1 2\r\n", "::1"),
            // HAProxy writes an IPv4 client of a server with IPv6 like this.
            ("PROXY TCP6 ::ffff:198.51.100.7 2001:db8::1 1 2\r\n", "::ffff:198.51.100.7"),
            ("PROXY UNKNOWN\r\n", "::"),
            ("PROXY UNKNOWN 198.51.100.7 and more\r\n", "::"),
            (&longest(), "::"),
        ]
        .map(|(line, address)| (line.as_bytes().to_vec(), Some(address)));
        binary.into_iter().chain(text).collect()
    }

    #[test]
    fn proxy_header_is_read_and_nothing_after_it() {
        for (bytes, expected) in well_formed() {
            let expected = (Ok(expected.map(|text| text.parse().unwrap())), 5);
            let all = [&bytes[..], b"GET /"].concat();
            assert_eq!(read_all(&all), expected, "{bytes:?}");
            for end in 1..all.len() {
                let (before, after) = all.split_at(end);
                assert_eq!(read_segments(&[before, after]), expected, "{bytes:?} {end}");
            }
            let single: Vec<_> = all.chunks(1).collect();
            assert_eq!(read_segments(&single), expected, "{bytes:?}");
        }
    }

    #[test]
    fn proxy_header_cut_off_is_an_end_of_input() {
        for (bytes, _) in well_formed() {
            for end in 0..bytes.len() {
                assert_eq!(
                    read_all(&bytes[..end]).0,
                    Err(io::ErrorKind::UnexpectedEof),
                    "{end} of {bytes:?}"
                );
            }
        }
    }

    #[test]
    fn malformed_proxy_header_is_rejected() {
        for bytes in [
            b"GET /auth HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            header(0x11, 0x11, &V4),
            header(0x2f, 0x11, &V4),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x41, &V4),
            header(0x21, 0x11, &[0; MAX_ADDRESS_BYTES + 1]),
            header(0x21, 0x11, &[0; 12]),
            header(0x21, 0x21, &[0; 36]),
            header(0x21, 0x21, &[&[0; 10][..], &[0xff; 2], &[0; 24]].concat()),
        ] {
            assert_eq!(read_all(&bytes).0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
    }

    #[test]
    fn malformed_proxy_line_is_rejected() {
        let too_long = longest().replace("\r\n", " \r\n");
        for line in [
            "PROXY TCP4 198.51.100.7 10.0.0.1 80\r\n      ",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 443 1\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 443 \r\n",
            "PROXY TCP4 198.51.100.7  10.0.0.1 80 443\r\n",
            "PROXY TCP4  198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY  TCP4 198.51.100.7 10.0.0.1 80 443\r\n",
            " PROXY TCP4 198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY\tTCP4 198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY TCP4 198.51.100.7\t10.0.0.1 80 443\r\n  ",
            "proxy TCP4 198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY tcp4 198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY TCP5 198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY UDP4 198.51.100.7 10.0.0.1 80 443\r\n",
            // The wrong family, and other spellings of addresses and ports.
            "PROXY TCP4 2001:db8::7 2001:db8::1 80 443\r\n",
            "PROXY TCP6 198.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY TCP4 198.51.100.07 10.0.0.1 80 443\r\n",
            "PROXY TCP4 198.51.100.256 10.0.0.1 80 443\r\n",
            "PROXY TCP4 198.51.25607 10.0.0.1 80 443\r\n",
            "PROXY TCP4 0xc6.51.100.7 10.0.0.1 80 443\r\n",
            "PROXY TCP4 198.51.100.7 host 80 443\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 80 443\r\n",
            "PROXY TCP6 [2001:db8::7] ::1 80 443\r\n",
            "PROXY TCP6 2001:db8::7::1 ::1 80 443\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 080 443\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 00\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 +80 443\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 -80 443\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 65536\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 x\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1  443\r\n ",
            // Unspecified addresses.
            "PROXY TCP4 0.0.0.0 10.0.0.1 80 443\r\n",
            "PROXY TCP6 :: ::1 80 443\r\n",
            "PROXY TCP6 ::ffff:0.0.0.0 ::1 80 443\r\n",
            // Line ends.
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 443\n ",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80 443\r ",
            "PROXY TCP4 198.51.100.7 10.0.0.1 80\n443\r\n",
            "PROXY TCP4 198.51.100.7\r\n10.0.0.1 80 443\r\n",
            "PROXY UNKNOWN\n ",
            "PROXY UNKNOWN x\ry\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWING\r\n",
            "PROXY \r\n        ",
            &too_long,
        ] {
            assert_eq!(read_all(line.as_bytes()).0, Err(io::ErrorKind::InvalidData), "{line:?}");
        }
    }
}
