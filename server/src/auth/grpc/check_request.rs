//! `envoy.service.auth.v3.CheckRequest`: an authorization request of Envoy. Values borrow from the
//! received bytes.

use super::protobuf::{ProtobufError, repeated, select, singular};
use crate::auth::message_headers::{MessageHeader, MessageHeaders, TooManyHeaders};

/// A request that a proxy asks to authorize. Not `Debug`, as it holds a token.
///
/// Values are bytes: they are compared or logged, and whether they are UTF-8 does not matter.
pub struct CheckRequest<'b> {
    /// The client's IP address, if it connected over IP.
    pub source: Option<&'b [u8]>,
    /// The client certificate: percent-encoded PEM, or empty.
    pub certificate: &'b [u8],
    /// The request ID that the proxy assigned.
    pub id: &'b [u8],
    /// The method.
    pub method: &'b [u8],
    /// The path, with the query.
    pub path: &'b [u8],
    /// The host.
    pub host: &'b [u8],
    /// `http` or `https`.
    pub scheme: &'b [u8],
    /// The headers: those of the `headers` map, followed by those of `header_map`, which Envoy
    /// sends with `encode_raw_headers`.
    pub headers: MessageHeaders<'b>,
}

/// Returned for a request with [too many headers](TooManyHeaders). Of all errors, this is the only
/// one that the proxy's client can cause, rather than the proxy.
pub const TOO_MANY_HEADERS: ProtobufError =
    ProtobufError("a request has more than 1,024 header lines");

impl From<TooManyHeaders> for ProtobufError {
    fn from(_: TooManyHeaders) -> Self {
        TOO_MANY_HEADERS
    }
}

impl<'b> CheckRequest<'b> {
    /// Parses a message.
    ///
    /// # Errors
    /// The message is malformed or ambiguous.
    pub fn read(message: &'b [u8]) -> Result<Self, ProtobufError> {
        let [attributes] = singular(message, [1])?;
        let [source, request] = singular(attributes.unwrap_or_default(), [1, 4])?;
        let [address, certificate] = singular(source.unwrap_or_default(), [1, 5])?;
        let [http] = singular(request.unwrap_or_default(), [2])?;
        let mut headers = MessageHeaders::default();
        let [id, method, path, host, scheme, header_map] =
            select(http.unwrap_or_default(), [1, 2, 4, 5, 6, 13], |number, value| {
                if number == 3 {
                    headers.push(read_entry(value.bytes()?)?)?;
                }
                Ok(())
            })?;
        for header in repeated(header_map.unwrap_or_default(), 1) {
            headers.push(read_header(header?)?)?;
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

/// Parses an entry of the `headers` map.
fn read_entry(entry: &[u8]) -> Result<MessageHeader<'_>, ProtobufError> {
    let [name, value] = singular(entry, [1, 2])?;
    Ok(MessageHeader { name: name.unwrap_or_default(), value: value.unwrap_or_default() })
}

/// Parses `envoy.config.core.v3.HeaderValue`, whose value is text or bytes.
fn read_header(header: &[u8]) -> Result<MessageHeader<'_>, ProtobufError> {
    let [name, text, bytes] = singular(header, [1, 2, 3])?;
    if text.is_some() && bytes.is_some() {
        return Err(ProtobufError("a header has two values"));
    }
    Ok(MessageHeader { name: name.unwrap_or_default(), value: text.or(bytes).unwrap_or_default() })
}

/// Parses `envoy.config.core.v3.Address`, which is one of three kinds.
fn read_address(address: &[u8]) -> Result<Option<&[u8]>, ProtobufError> {
    let [socket, pipe, internal] = singular(address, [1, 2, 3])?;
    if [socket, pipe, internal].iter().flatten().count() > 1 {
        return Err(ProtobufError("an address has two kinds"));
    }
    let [address] = singular(socket.unwrap_or_default(), [2])?;
    Ok(address.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, header};

    use super::{
        super::protobuf::{put_bytes, put_message, put_number},
        *,
    };
    use crate::auth::message_headers::MAX_HEADERS;
    use countersign_front::{DuplicateHeader, Fields as _, only_line};

    /// Encodes a request with these headers in the map and in the list.
    fn check_request(mapped: &[(&str, &str)], listed: &[(&str, &str)]) -> Vec<u8> {
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
        Ok(only_line(&check.headers, &header::AUTHORIZATION)?.map(<[u8]>::to_vec))
    }

    #[test]
    fn header_is_found_in_either_form_and_any_case() {
        for name in ["authorization", "Authorization", "AUTHORIZATION"] {
            for lines in [
                check_request(&[("a", "b"), (name, "x")], &[]),
                check_request(&[], &[("a", "b"), (name, "x")]),
            ] {
                assert_eq!(authorization(&lines), Ok(Some(b"x".to_vec())));
            }
        }
        assert_eq!(
            authorization(&check_request(&[("authorizatio", "x")], &[("authorization ", "x")])),
            Ok(None)
        );
        assert_eq!(authorization(b""), Ok(None));
    }

    #[test]
    fn e4_duplicate_header_is_detected_in_any_form() {
        const ONE: (&str, &str) = ("authorization", "x");
        for message in [
            check_request(&[ONE, ONE], &[]),
            check_request(&[], &[ONE, ONE]),
            check_request(&[ONE], &[ONE]),
            check_request(&[ONE], &[("AUTHORIZATION", "x")]),
        ] {
            assert_eq!(authorization(&message), Err(DuplicateHeader));
        }
    }

    #[test]
    fn headers_are_counted_from_the_end() {
        let message =
            check_request(&[("x", "1"), ("y", "2"), ("X", "3")], &[("x", "4"), ("z", "5")]);
        let check = CheckRequest::read(&message).unwrap();
        let name = HeaderName::from_static("x");
        let lines: Vec<_> = (0..5).map(|nth| check.headers.line(&name, nth)).collect();
        assert_eq!(lines, [Some(&b"4"[..]), Some(b"3"), Some(b"1"), None, None]);
    }

    #[test]
    fn number_of_headers_is_limited() {
        let read = |mapped: usize, listed: usize| {
            let (mapped, listed) = (vec![("a", "b"); mapped], vec![("c", "d"); listed]);
            CheckRequest::read(&check_request(&mapped, &listed))
                .map(|check| check.headers.iter().len())
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
    fn ambiguous_messages_are_rejected() {
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
            // Fields that are not read may be anything.
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
