//! The parts of a compact JWS (RFC 7515 section 7.1), read strictly and into
//! buffers that are used again.
//!
//! Nothing here trusts anything: these are the bytes somebody sent.

mod base64;
mod claims;
mod header;
mod json;
mod memo;

pub(crate) use base64::decode as decode_base64;
pub(crate) use claims::ClaimNodes;
pub(crate) use header::Header;
pub(crate) use json::{Document, JsonBuffers, Members, Value};

use core::cell::RefCell;

use memo::HeaderMemo;

use crate::{limits, reject::Reject};

/// The memory one token is read in. One per thread, used again for every token,
/// so that verifying allocates nothing it does not return.
pub(crate) struct Scratch {
    pub(crate) jws: JwsBuffers,
    pub(crate) claims: JsonBuffers,
    /// Where names to look up in the revocations are put together.
    pub(crate) name: Vec<u8>,
    /// Where the texts of a note are put together.
    pub(crate) texts: Vec<u8>,
    /// Where client types are joined.
    pub(crate) client_types: String,
}

/// Lends the calling thread's memory to `read`, which must not ask for it again.
pub(crate) fn with_scratch<R>(read: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
            jws: JwsBuffers::new(),
            claims: JsonBuffers::for_tokens(),
            // An issuer of ours and a claim of the token.
            name: Vec::with_capacity(2 * limits::MAX_TOKEN_BYTES),
            texts: Vec::new(),
            client_types: String::new(),
        });
    }
    SCRATCH.with_borrow_mut(read)
}

/// A compact JWS taken apart and decoded; nothing of it is verified.
pub(crate) struct Jws<'s> {
    pub(crate) header: Header<'s>,
    pub(crate) payload: &'s [u8],
    pub(crate) signature: &'s [u8],
    pub(crate) signing_input: &'s [u8],
}

/// The memory one token is decoded into, used again for the next.
pub(crate) struct JwsBuffers {
    memo: HeaderMemo,
    header_bytes: Vec<u8>,
    header: JsonBuffers,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl JwsBuffers {
    /// Room for the largest token; it never grows.
    fn new() -> Self {
        Self {
            memo: HeaderMemo::new(),
            header_bytes: vec![0; limits::MAX_TOKEN_BYTES],
            header: JsonBuffers::for_tokens(),
            payload: vec![0; limits::MAX_TOKEN_BYTES],
            signature: vec![0; limits::MAX_TOKEN_BYTES],
        }
    }

    /// Takes a token apart.
    pub(crate) fn decode<'s>(&'s mut self, token: &'s [u8]) -> Result<Jws<'s>, Reject> {
        let Compact { header, payload, signature, signing_input } = Compact::split(token)?;
        // Of a token with too many dots, that is the fault to name.
        let decode_segment =
            |segment, buffer| decode_base64(segment, buffer).ok_or_else(|| segment_error(payload));
        let header = self.memo.get_or_read(header, |insert| {
            let json = decode_segment(header, &mut self.header_bytes)?;
            let document =
                self.header.parse(json).map_err(|error| error.reject(Reject::HeaderJson))?;
            insert(Header::read(&document)?);
            Ok(())
        })?;
        let payload = decode_segment(payload, &mut self.payload)?;
        let signature = decode_segment(signature, &mut self.signature)?;
        Ok(Jws { header, payload, signature, signing_input })
    }
}

/// The decoded header of a token, for showing it.
pub(crate) fn header_json(token: &[u8]) -> Result<Vec<u8>, Reject> {
    decoded(Compact::split(token)?.header)
}

/// The decoded payload of a token, for showing it.
pub(crate) fn payload_json(token: &[u8]) -> Result<Vec<u8>, Reject> {
    decoded(Compact::split(token)?.payload)
}

fn decoded(segment: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut buffer = vec![0; segment.len()];
    let length = decode_base64(segment, &mut buffer).ok_or(Reject::Base64)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Where the three segments of a compact JWS lie.
#[derive(Clone, Copy)]
struct Compact<'t> {
    header: &'t [u8],
    payload: &'t [u8],
    signature: &'t [u8],
    /// Header, dot, payload: what the signature covers (RFC 7515 section 5.2).
    signing_input: &'t [u8],
}

impl<'t> Compact<'t> {
    /// Splits at the first and the last dot. A further dot would lie in the
    /// payload, where base64url refuses it and [`segment_error`] names it.
    fn split(token: &'t [u8]) -> Result<Self, Reject> {
        if token.len() > limits::MAX_TOKEN_BYTES {
            return Err(Reject::TooLong);
        }
        let first = memchr::memchr(b'.', token).ok_or(Reject::Segments)?;
        let last = memchr::memrchr(b'.', token).ok_or(Reject::Segments)?;
        let (header, rest) = token.split_at_checked(first).ok_or(Reject::Segments)?;
        let (signing_input, signature) = token.split_at_checked(last).ok_or(Reject::Segments)?;
        let payload_bytes = last.checked_sub(first).and_then(|n| n.checked_sub(1));
        let payload =
            payload_bytes.and_then(|n| rest.get(1..)?.get(..n)).ok_or(Reject::Segments)?;
        Ok(Self {
            header,
            payload,
            signature: signature.get(1..).ok_or(Reject::Segments)?,
            signing_input,
        })
    }
}

/// Names what is wrong with a token of which a segment did not decode.
fn segment_error(payload: &[u8]) -> Reject {
    if memchr::memchr(b'.', payload).is_some() { Reject::Segments } else { Reject::Base64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(token: &str) -> Result<[&str; 4], Reject> {
        let compact = Compact::split(token.as_bytes())?;
        Ok([compact.header, compact.payload, compact.signature, compact.signing_input]
            .map(|part| core::str::from_utf8(part).unwrap()))
    }

    #[test]
    fn three_segments_are_told_apart() {
        assert_eq!(split("a.bc.def"), Ok(["a", "bc", "def", "a.bc"]));
        assert_eq!(split(".."), Ok(["", "", "", "."]));
    }

    #[test]
    fn b2_fewer_than_three_segments_are_refused() {
        for token in ["", "abc", "a.b", "."] {
            assert_eq!(split(token), Err(Reject::Segments), "{token:?}");
        }
    }

    #[test]
    fn b2_further_dots_end_up_in_the_payload_and_are_named() {
        let token = "a.b.c.d";
        let compact = Compact::split(token.as_bytes()).unwrap();
        assert_eq!(compact.payload, b"b.c");
        assert_eq!(segment_error(compact.payload), Reject::Segments);
        let error =
            |token: &str| with_scratch(|scratch| scratch.jws.decode(token.as_bytes()).err());
        assert_eq!(
            error("a.b.c.d.e"),
            Some(Reject::Segments),
            "b10: also where another segment is the first not to decode"
        );
        assert_eq!(error("a.b.c"), Some(Reject::Base64));
    }

    #[test]
    fn b9_the_bound_is_exact() {
        let fits = format!("{}..", "a".repeat(limits::MAX_TOKEN_BYTES - 2));
        assert!(Compact::split(fits.as_bytes()).is_ok());
        let over = format!("{fits}a");
        assert!(matches!(Compact::split(over.as_bytes()), Err(Reject::TooLong)));
    }
}
