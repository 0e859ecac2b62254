//! `envoy.service.auth.v3.CheckRequest`: the question of a proxy.
//!
//! Its texts stay in the bytes that came. Of the header lines of the request that is asked
//! about there may be dozens, of which a handful is looked for: they are noted in the order
//! in which they stand there, which is cheaper than a map, and to be read from its end.

use http::HeaderName;
use smallvec::SmallVec;

use super::protobuf::{ProtobufError, repeated, select, singular};
use crate::http::Fields;

/// A question about a request. Not `Debug`: it holds a token.
///
/// Texts are bytes, since they are compared or written down, and nothing else; whether
/// they are UTF-8 is nobody's question here.
pub struct CheckRequest<'b> {
    /// The address that the request comes from, if it comes over IP.
    pub source: Option<&'b [u8]>,
    /// The certificate that its client has shown: PEM, percent-encoded. Empty if none.
    pub certificate: &'b [u8],
    /// By what the proxy tells it from others.
    pub id: &'b [u8],
    /// Its method.
    pub method: &'b [u8],
    /// Its path, with the query.
    pub path: &'b [u8],
    /// The host it is for.
    pub host: &'b [u8],
    /// `http` or `https`.
    pub scheme: &'b [u8],
    /// Its header lines: those of the map, and behind them those that are as they came
    /// (`encode_raw_headers`).
    pub headers: CheckHeaders<'b>,
}

/// CheckHeader lines, of which those of a browser and its proxies take no memory of their own.
pub type CheckHeaders<'b> = SmallVec<[CheckHeader<'b>; 32]>;

/// Ten times as many as Envoy lets through, unless it is told to.
const MAX_HEADERS: usize = 1024;
/// Why a question is not read that is about a request with more. It is the one reason that
/// is up to whoever has sent that, and not to the proxy.
pub const TOO_MANY_HEADERS: ProtobufError =
    ProtobufError("a request has more than 1,024 header lines");

/// A header line.
#[derive(Clone, Copy)]
pub struct CheckHeader<'b> {
    /// Its name, as the client wrote it or in lower case.
    pub name: &'b [u8],
    /// Its value.
    pub value: &'b [u8],
}

impl<'b> CheckRequest<'b> {
    /// Reads a message.
    ///
    /// # Errors
    /// It is none, or could be understood in two ways.
    pub fn read(message: &'b [u8]) -> Result<Self, ProtobufError> {
        let [attributes] = singular(message, [1])?;
        let [source, request] = singular(attributes.unwrap_or_default(), [1, 4])?;
        let [address, certificate] = singular(source.unwrap_or_default(), [1, 5])?;
        let [http] = singular(request.unwrap_or_default(), [2])?;
        let mut headers = CheckHeaders::new();
        let mut note = |header| {
            let has_room = headers.len() < MAX_HEADERS;
            has_room.then(|| headers.push(header)).ok_or(TOO_MANY_HEADERS)
        };
        let [id, method, path, host, scheme, header_map] =
            select(http.unwrap_or_default(), [1, 2, 4, 5, 6, 13], |number, value| {
                if number == 3 { note(read_entry(value.bytes()?)?) } else { Ok(()) }
            })?;
        for header in repeated(header_map.unwrap_or_default(), 1) {
            note(read_header(header?)?)?;
        }
        Ok(Self {
            source: read_address(address.unwrap_or_default())?,
            certificate: certificate.unwrap_or_default(),
            id: id.unwrap_or_default(),
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            host: host.unwrap_or_default(),
            scheme: scheme.unwrap_or_default(),
            headers,
        })
    }
}

/// An entry of the map.
fn read_entry(entry: &[u8]) -> Result<CheckHeader<'_>, ProtobufError> {
    let [name, value] = singular(entry, [1, 2])?;
    Ok(CheckHeader { name: name.unwrap_or_default(), value: value.unwrap_or_default() })
}

/// `envoy.config.core.v3.HeaderValue`, whose value is a text or bytes.
fn read_header(header: &[u8]) -> Result<CheckHeader<'_>, ProtobufError> {
    let [name, text, bytes] = singular(header, [1, 2, 3])?;
    if text.is_some() && bytes.is_some() {
        return Err(ProtobufError("a header has two values"));
    }
    Ok(CheckHeader { name: name.unwrap_or_default(), value: text.or(bytes).unwrap_or_default() })
}

/// `envoy.config.core.v3.Address`, which is one of three things.
fn read_address(address: &[u8]) -> Result<Option<&[u8]>, ProtobufError> {
    let [socket, pipe, internal] = singular(address, [1, 2, 3])?;
    if [socket, pipe, internal].iter().flatten().count() > 1 {
        return Err(ProtobufError("an address is in two places"));
    }
    let [address] = singular(socket.unwrap_or_default(), [2])?;
    Ok(address.filter(|text| !text.is_empty()))
}

/// A header that is there in both forms, or twice in one, is there twice.
impl Fields for CheckRequest<'_> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        let lines =
            self.headers.iter().rev().filter(|header| header.name.eq_ignore_ascii_case(name));
        lines.map(|header| header.value).nth(nth)
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::{
        super::protobuf::{put_bytes, put_message, put_number},
        *,
    };
    use crate::http::{DuplicateHeader, only_line};

    /// A question with these header lines, in a map and as they came.
    fn question(mapped: &[(&str, &str)], listed: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_message(out, 4, |out| {
                put_message(out, 2, |out| {
                    for (name, value) in mapped {
                        put_message(out, 3, |out| put_pair(out, [1, 2], name, value));
                    }
                    put_message(out, 13, |out| {
                        for (name, value) in listed {
                            put_message(out, 1, |out| put_pair(out, [1, 3], name, value));
                        }
                    });
                });
            });
        });
        out
    }

    fn put_pair(out: &mut Vec<u8>, numbers: [u32; 2], name: &str, value: &str) {
        put_bytes(out, numbers[0], name.as_bytes());
        put_bytes(out, numbers[1], value.as_bytes());
    }

    fn authorization(message: &[u8]) -> Result<Option<Vec<u8>>, DuplicateHeader> {
        let check = CheckRequest::read(message).unwrap();
        Ok(only_line(&check, &header::AUTHORIZATION)?.map(<[u8]>::to_vec))
    }

    #[test]
    fn a_header_is_found_in_either_form_whatever_its_case() {
        for name in ["authorization", "Authorization", "AUTHORIZATION"] {
            for lines in [
                question(&[("a", "b"), (name, "x")], &[]),
                question(&[], &[("a", "b"), (name, "x")]),
            ] {
                assert_eq!(authorization(&lines), Ok(Some(b"x".to_vec())));
            }
        }
        assert_eq!(
            authorization(&question(&[("authorizatio", "x")], &[("authorization ", "x")])),
            Ok(None)
        );
        assert_eq!(authorization(b""), Ok(None));
    }

    #[test]
    fn e4_a_header_that_is_there_twice_in_whatever_way_is_there_twice() {
        const ONE: (&str, &str) = ("authorization", "x");
        for message in [
            question(&[ONE, ONE], &[]),
            question(&[], &[ONE, ONE]),
            question(&[ONE], &[ONE]),
            question(&[ONE], &[("AUTHORIZATION", "x")]),
        ] {
            assert_eq!(authorization(&message), Err(DuplicateHeader));
        }
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        let message = question(&[("x", "1"), ("y", "2"), ("X", "3")], &[("x", "4"), ("z", "5")]);
        let check = CheckRequest::read(&message).unwrap();
        let name = HeaderName::from_static("x");
        let lines: Vec<_> = (0..5).map(|nth| check.line(&name, nth)).collect();
        assert_eq!(lines, [Some(&b"4"[..]), Some(b"3"), Some(b"1"), None, None]);
    }

    #[test]
    fn no_more_headers_are_noted_than_a_request_can_have() {
        let read = |mapped: usize, listed: usize| {
            let (mapped, listed) = (vec![("a", "b"); mapped], vec![("c", "d"); listed]);
            CheckRequest::read(&question(&mapped, &listed)).map(|check| check.headers.len())
        };
        assert_eq!(
            [read(MAX_HEADERS, 0), read(0, MAX_HEADERS), read(24, 1000)],
            [Ok(MAX_HEADERS); 3]
        );
        for (mapped, listed) in [(MAX_HEADERS + 1, 0), (0, MAX_HEADERS + 1), (24, 1001)] {
            assert_eq!(read(mapped, listed), Err(TOO_MANY_HEADERS));
        }
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        let twice = |outer: &[u32], number: u32| {
            fn nest(out: &mut Vec<u8>, outer: &[u32], number: u32) {
                match outer {
                    [] => (0..2).for_each(|_| put_bytes(out, number, b"")),
                    [first, rest @ ..] => put_message(out, *first, |out| nest(out, rest, number)),
                }
            }
            let mut out = Vec::new();
            nest(&mut out, outer, number);
            out
        };
        let singular: [(&[u32], &[u32]); 8] = [
            (&[], &[1]),
            (&[1], &[1, 4]),
            (&[1, 1], &[1, 5]),
            (&[1, 1, 1], &[1, 2, 3]),
            (&[1, 1, 1, 1], &[2]),
            (&[1, 4], &[2]),
            (&[1, 4, 2], &[1, 2, 4, 5, 6, 13]),
            (&[1, 4, 2, 3], &[1, 2]),
        ];
        for (outer, numbers) in singular {
            for number in numbers {
                assert!(
                    CheckRequest::read(&twice(outer, *number)).is_err(),
                    "{number} in {outer:?}"
                );
            }
            // Nobody asks for it, so that it may be whatever it is.
            assert!(CheckRequest::read(&twice(outer, 15)).is_ok(), "15 in {outer:?}");
        }
        for two in [[1, 2], [1, 3], [2, 3]] {
            let mut out = Vec::new();
            let address =
                |out: &mut Vec<u8>| two.iter().for_each(|number| put_bytes(out, *number, b""));
            put_message(&mut out, 1, |out| put_message(out, 1, |out| put_message(out, 1, address)));
            assert!(CheckRequest::read(&out).is_err(), "an address of two kinds");
        }
        let mut out = Vec::new();
        let header =
            |out: &mut Vec<u8>| [1, 2, 3].iter().for_each(|number| put_bytes(out, *number, b"x"));
        let request = |out: &mut Vec<u8>| {
            put_message(out, 2, |out| put_message(out, 13, |out| put_message(out, 1, header)));
        };
        put_message(&mut out, 1, |out| put_message(out, 4, request));
        assert!(CheckRequest::read(&out).is_err(), "a header of two values");
        let mut out = Vec::new();
        put_number(&mut out, 1, 0);
        assert!(CheckRequest::read(&out).is_err(), "a number for a message");
    }
}
