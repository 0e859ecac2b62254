//! Encoding of the parts of a payload: variable-length integers, texts, and values with a type.
//!
//! [`PayloadReader`] refuses what HAProxy never writes: integers above 64 bits, texts beyond the
//! end, unknown types, and flags of types that have none. Every integer has one encoding only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::SpopError;

/// A value with its type. Not `Debug`, as it may hold a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SpopValue<'b> {
    /// The absence of a value.
    Null,
    /// A truth value.
    Flag(bool),
    /// An integer of any of the four types. A negative one has the bits of its 64-bit form.
    Integer(u64),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A string, of any bytes.
    Text(&'b [u8]),
    /// Binary data.
    Binary(&'b [u8]),
}

/// Types of values, in the lower half of their first byte.
mod kind {
    pub(super) const NULL: u8 = 0;
    pub(super) const FLAG: u8 = 1;
    pub(super) const INT32: u8 = 2;
    pub(super) const UINT32: u8 = 3;
    pub(super) const INT64: u8 = 4;
    pub(super) const UINT64: u8 = 5;
    pub(super) const IPV4: u8 = 6;
    pub(super) const IPV6: u8 = 7;
    pub(super) const TEXT: u8 = 8;
    pub(super) const BINARY: u8 = 9;
}

/// The type of a truth value that is true: its value is a flag.
const FLAG_TRUE: u8 = kind::FLAG | 0x10;
/// Integers below it take one byte.
const FIRST_LONG: u64 = 0xf0;

impl SpopValue<'_> {
    /// Appends the value.
    pub fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(kind::NULL),
            Self::Flag(is_true) => out.push(if is_true { FLAG_TRUE } else { kind::FLAG }),
            Self::Integer(number) => {
                out.push(if u32::try_from(number).is_ok() { kind::UINT32 } else { kind::UINT64 });
                put_integer(out, number);
            }
            Self::Address(IpAddr::V4(address)) => {
                out.push(kind::IPV4);
                out.extend_from_slice(&address.octets());
            }
            Self::Address(IpAddr::V6(address)) => {
                out.push(kind::IPV6);
                out.extend_from_slice(&address.octets());
            }
            Self::Text(text) => {
                out.push(kind::TEXT);
                put_text(out, text);
            }
            Self::Binary(bytes) => {
                out.push(kind::BINARY);
                put_text(out, bytes);
            }
        }
    }
}

/// Appends a length and the bytes.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, u64::try_from(text.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(text);
}

/// Appends an integer. The first byte has its lower 4 bits if it is a long one, and each further
/// byte the next 7 bits.
pub fn put_integer(out: &mut Vec<u8>, number: u64) {
    let low = |number: u64| number.to_le_bytes()[0];
    if number < FIRST_LONG {
        return out.push(low(number));
    }
    out.push(low(number) | 0xf0);
    let mut rest = (number - FIRST_LONG) >> 4;
    while rest >= 0x80 {
        out.push(low(rest) | 0x80);
        rest = (rest - 0x80) >> 7;
    }
    out.push(low(rest));
}

/// Reads a payload from its start.
#[derive(Clone, Copy)]
pub struct PayloadReader<'b>(&'b [u8]);

const TRUNCATED: SpopError = SpopError::invalid("a frame ends within a value");
const TOO_LONG: SpopError = SpopError::invalid("an integer has more than 64 bits");

impl<'b> PayloadReader<'b> {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes that are not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'b [u8] {
        self.0
    }

    /// Whether everything is read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// It is missing.
    pub fn byte(&mut self) -> Result<u8, SpopError> {
        let (first, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Reads this many bytes.
    ///
    /// # Errors
    /// Some are missing.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], SpopError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// Reads an integer.
    ///
    /// # Errors
    /// It is truncated, or has more than 64 bits.
    pub fn integer(&mut self) -> Result<u64, SpopError> {
        let mut number = u64::from(self.byte()?);
        if number < FIRST_LONG {
            return Ok(number);
        }
        let mut weight: u64 = 1 << 4;
        loop {
            let byte = self.byte()?;
            let part = u64::from(byte).checked_mul(weight).ok_or(TOO_LONG)?;
            number = number.checked_add(part).ok_or(TOO_LONG)?;
            if byte < 0x80 {
                return Ok(number);
            }
            weight = weight.checked_mul(1 << 7).ok_or(TOO_LONG)?;
        }
    }

    /// Reads a length and as many bytes.
    ///
    /// # Errors
    /// They are truncated.
    pub fn text(&mut self) -> Result<&'b [u8], SpopError> {
        let length = usize::try_from(self.integer()?).map_err(|_| TRUNCATED)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(text)
    }

    /// Reads a value with its type.
    ///
    /// # Errors
    /// It is truncated, or its type is unknown.
    pub fn value(&mut self) -> Result<SpopValue<'b>, SpopError> {
        Ok(match self.byte()? {
            kind::NULL => SpopValue::Null,
            kind::FLAG => SpopValue::Flag(false),
            FLAG_TRUE => SpopValue::Flag(true),
            kind::INT32 | kind::UINT32 | kind::INT64 | kind::UINT64 => {
                SpopValue::Integer(self.integer()?)
            }
            kind::IPV4 => SpopValue::Address(Ipv4Addr::from(self.array::<4>()?).into()),
            kind::IPV6 => SpopValue::Address(Ipv6Addr::from(self.array::<16>()?).into()),
            kind::TEXT => SpopValue::Text(self.text()?),
            kind::BINARY => SpopValue::Binary(self.text()?),
            _ => return Err(SpopError::invalid("a value has an unknown type or flag")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_integer(&mut out, number);
        out
    }

    #[test]
    fn integers_take_as_many_bytes_as_specified() {
        for (bounds, length) in [
            ([0, 239], 1),
            ([240, 2287], 2),
            ([2288, 264_431], 3),
            ([264_432, 33_818_863], 4),
            ([33_818_864, 4_328_786_159], 5),
            ([4_328_786_160, u64::from(u32::MAX) << 6], 6),
            ([u64::MAX - 1, u64::MAX], 10),
        ] {
            for number in bounds {
                let bytes = encoded(number);
                assert_eq!(bytes.len(), length, "{number}");
                let mut reader = PayloadReader::new(&bytes);
                assert_eq!((reader.integer(), reader.is_empty()), (Ok(number), true));
            }
        }
        assert_eq!(encoded(240), [0xf0, 0]);
        assert_eq!(encoded(2288), [0xf0, 0x80, 0]);
    }

    #[test]
    fn integers_above_64_bits_are_refused() {
        let longest = encoded(u64::MAX);
        let beyond: Vec<u8> = longest[..9].iter().copied().chain([longest[9] + 1]).collect();
        let endless = [&[0xff; 12][..], &[0]].concat();
        for bytes in [beyond, endless] {
            assert_eq!(PayloadReader::new(&bytes).integer(), Err(TOO_LONG), "{bytes:?}");
        }
        for length in 0..longest.len() {
            let cut = &longest[..length];
            assert_eq!(PayloadReader::new(cut).integer(), Err(TRUNCATED), "{length} bytes");
        }
    }

    #[test]
    fn values_are_read_as_written() {
        for value in [
            SpopValue::Null,
            SpopValue::Flag(false),
            SpopValue::Flag(true),
            SpopValue::Integer(0),
            SpopValue::Integer(u64::MAX),
            SpopValue::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SpopValue::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            SpopValue::Text(b""),
            SpopValue::Text(&[0xff; 300]),
            SpopValue::Binary(b"\0"),
        ] {
            let mut out = Vec::new();
            value.put(&mut out);
            let mut reader = PayloadReader::new(&out);
            assert!(reader.value() == Ok(value) && reader.is_empty(), "{out:?}");
            for length in 0..out.len() {
                let cut = PayloadReader::new(&out[..length]).value();
                assert!(cut == Err(TRUNCATED), "{length} of {out:?}");
            }
        }
    }

    #[test]
    fn unknown_types_and_flags_are_refused() {
        let known = [0, 1, 0x11, 2, 3, 4, 5, 6, 7, 8, 9];
        for first in (0..=u8::MAX).filter(|first| !known.contains(first)) {
            let bytes = [&[first][..], &[0; 16]].concat();
            assert!(PayloadReader::new(&bytes).value().is_err(), "{first:#x}");
        }
        let long = [8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(PayloadReader::new(&long).value() == Err(TRUNCATED), "a length beyond the frame");
    }
}
