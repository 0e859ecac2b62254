//! Variable-length integers of QUIC (RFC 9000 section 16): 1, 2, 4 or 8 bytes, according to the
//! first two bits.

/// The largest value.
pub const MAX: u64 = (1 << 62) - 1;

/// Parses the integer at the start of `bytes`. Returns it with its length, or `None` if it is
/// incomplete.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    if length == 1 {
        // The common case.
        return Some((first.into(), 1));
    }
    let rest = bytes.get(1..length)?;
    let integer =
        rest.iter().fold(u64::from(first & 0x3f), |integer, byte| integer << 8 | u64::from(*byte));
    Some((integer, length))
}

/// Appends an integer in its shortest encoding.
pub fn write(out: &mut Vec<u8>, integer: u64) {
    debug_assert!(integer <= MAX, "{integer} exceeds 62 bits");
    let (length, mark) = match integer {
        0..=0x3f => (1, 0),
        0x40..=0x3fff => (2, 1),
        0x4000..=0x3fff_ffff => (4, 2),
        _ => (8, 3),
    };
    let bytes = (integer | mark << (8 * length - 2)).to_be_bytes();
    out.extend_from_slice(&bytes[8 - length..]);
}

/// The incomplete start of an item of at most `MAX` bytes.
#[derive(Debug)]
pub(super) struct PartialBuffer<const MAX: usize> {
    bytes: [u8; MAX],
    length: usize,
}

impl<const MAX: usize> PartialBuffer<MAX> {
    pub(super) const EMPTY: Self = Self { bytes: [0; MAX], length: 0 };

    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Parses an item that begins with the buffered bytes and continues in `bytes`. Returns it when
    /// it is complete, and removes its bytes from `bytes`.
    pub(super) fn complete<T>(
        &mut self,
        bytes: &mut &[u8],
        parse: impl Fn(&[u8]) -> Option<(T, usize)>,
    ) -> Option<T> {
        if self.is_empty()
            && let Some((whole, length)) = parse(bytes)
        {
            *bytes = &bytes[length..];
            return Some(whole);
        }
        while let Some((next, rest)) = bytes.split_first() {
            *self.bytes.get_mut(self.length)? = *next;
            self.length += 1;
            *bytes = rest;
            if let Some((whole, _)) = parse(&self.bytes[..self.length]) {
                self.length = 0;
                return Some(whole);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9000_a_1_examples_decode() {
        let examples: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, integer) in examples {
            assert_eq!(read(&[bytes, &[0xff]].concat()), Some((integer, bytes.len())));
            for part in 0..bytes.len() {
                assert_eq!(read(&bytes[..part]), None, "{part} bytes of {integer}");
            }
        }
    }

    #[test]
    fn encoding_round_trips_and_is_shortest() {
        for (integer, length) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            (1_073_741_823, 4),
            (1_073_741_824, 8),
            (MAX, 8),
        ] {
            let mut bytes = Vec::new();
            write(&mut bytes, integer);
            assert_eq!((read(&bytes), bytes.len()), (Some((integer, length)), length));
        }
    }
}
