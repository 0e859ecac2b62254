//! Compact JWS parsing (RFC 7515 section 7.1): strict, and into reused buffers.
//!
//! All input here is untrusted.

mod base64;
mod claims;
mod header;
mod json;
mod memo;

pub(crate) use base64::decode as decode_base64;
pub(crate) use claims::ClaimNodes;
pub(crate) use header::Header;
pub(crate) use json::{Document, JsonBuffers, JsonError, Members, Value, WrittenNumbers};

use core::cell::RefCell;

use memo::HeaderMemo;

use crate::{exported_claim::ExportedValues, limits, reject::Reject};

/// The buffers for reading one token. Each thread has one set and reuses it for every token, so
/// verification allocates nothing beyond its result.
pub(crate) struct Scratch {
    pub(crate) jws: JwsBuffers,
    pub(crate) claims: JsonBuffers,
    /// Buffer for the names of revocation entries to look up.
    pub(crate) name: Vec<u8>,
    /// Buffer for the text fields of a
    /// [`VerificationRecord`](crate::cache::record::VerificationRecord).
    pub(crate) texts: Vec<u8>,
    /// Buffer for joined client types.
    pub(crate) client_types: String,
    /// Buffer for a username with a prefix, or made of a number.
    pub(crate) username: String,
    /// Buffer for the name of an issuer with the tenant of a token.
    pub(crate) issuer_name: String,
    /// Buffer for a `sub` that is a number.
    pub(crate) subject: String,
    /// Buffer for a `jti` that is a number.
    pub(crate) token_id: String,
    /// Buffer for the exported claims.
    pub(crate) exported: ExportedValues,
    /// Buffer for the conditions that a token meets.
    pub(crate) conditions: Vec<u64>,
}

/// Lends the thread's [`Scratch`] to `read`, which must not call this function again.
pub(crate) fn with_scratch<R>(read: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
            jws: JwsBuffers::new(),
            claims: JsonBuffers::for_tokens(),
            // Holds one issuer name and one claim.
            name: Vec::with_capacity(2 * limits::MAX_TOKEN_BYTES),
            texts: Vec::new(),
            client_types: String::new(),
            username: String::new(),
            issuer_name: String::new(),
            subject: String::new(),
            token_id: String::new(),
            exported: ExportedValues::default(),
            conditions: Vec::new(),
        });
    }
    SCRATCH.with_borrow_mut(read)
}

/// A compact JWS, split and decoded. Nothing in it is verified.
pub(crate) struct Jws<'s> {
    pub(crate) header: Header<'s>,
    pub(crate) payload: &'s [u8],
    pub(crate) signature: &'s [u8],
    pub(crate) signing_input: &'s [u8],
}

/// The buffers that one token is decoded into; reused for the next token.
pub(crate) struct JwsBuffers {
    memo: HeaderMemo,
    header_bytes: Vec<u8>,
    header: JsonBuffers,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl JwsBuffers {
    /// Allocates buffers for the largest token; they never grow.
    fn new() -> Self {
        Self {
            memo: HeaderMemo::new(),
            header_bytes: vec![0; limits::MAX_TOKEN_BYTES],
            header: JsonBuffers::for_tokens(),
            payload: vec![0; limits::MAX_TOKEN_BYTES],
            signature: vec![0; limits::MAX_TOKEN_BYTES],
        }
    }

    /// Splits and decodes a token.
    pub(crate) fn decode<'s>(&'s mut self, token: &'s [u8]) -> Result<Jws<'s>, Reject> {
        let Compact { header, payload, signature, signing_input } = Compact::split(token)?;
        // A token with more than two dots is reported as such, whichever segment fails first.
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

/// Decodes the header of a token.
pub(crate) fn header_json(token: &[u8]) -> Result<Vec<u8>, Reject> {
    decoded(Compact::split(token)?.header)
}

/// Decodes the payload of a token.
pub(crate) fn payload_json(token: &[u8]) -> Result<Vec<u8>, Reject> {
    decoded(Compact::split(token)?.payload)
}

/// Returns the signing input of a token and its signature, decoded into `buffer`; `None` if it
/// cannot be split, decoded, or does not fit.
pub(crate) fn signature<'s>(token: &'s [u8], buffer: &'s mut [u8]) -> Option<(&'s [u8], &'s [u8])> {
    let Compact { signature, signing_input, .. } = Compact::split(token).ok()?;
    Some((signing_input, decode_base64(signature, buffer)?))
}

fn decoded(segment: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut buffer = vec![0; segment.len()];
    let length = decode_base64(segment, &mut buffer).ok_or(Reject::Base64)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// The three segments of a compact JWS, still encoded.
#[derive(Clone, Copy)]
struct Compact<'t> {
    header: &'t [u8],
    payload: &'t [u8],
    signature: &'t [u8],
    /// Header, dot and payload: the bytes that the signature covers (RFC 7515 section 5.2).
    signing_input: &'t [u8],
}

impl<'t> Compact<'t> {
    /// Splits at the first and the last dot. A further dot ends up in the payload, where base64url
    /// decoding refuses it and [`segment_error`] reports it.
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

/// Returns the reason to refuse a token with a segment that cannot be decoded.
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
    fn three_segments_are_split() {
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
    fn b2_more_than_three_segments_are_refused() {
        let token = "a.b.c.d";
        let compact = Compact::split(token.as_bytes()).unwrap();
        assert_eq!(compact.payload, b"b.c");
        assert_eq!(segment_error(compact.payload), Reject::Segments);
        let error =
            |token: &str| with_scratch(|scratch| scratch.jws.decode(token.as_bytes()).err());
        assert_eq!(
            error("a.b.c.d.e"),
            Some(Reject::Segments),
            "b10: also if another segment is the first that cannot be decoded"
        );
        assert_eq!(error("a.b.c"), Some(Reject::Base64));
    }

    #[test]
    fn b9_token_length_bound_is_exact() {
        let fits = format!("{}..", "a".repeat(limits::MAX_TOKEN_BYTES - 2));
        assert!(Compact::split(fits.as_bytes()).is_ok());
        let over = format!("{fits}a");
        assert!(matches!(Compact::split(over.as_bytes()), Err(Reject::TooLong)));
    }
}
