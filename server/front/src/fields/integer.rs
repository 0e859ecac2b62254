//! Prefixed integers of HPACK and QPACK (RFC 7541 section 5.1, RFC 9204 section 4.1.1).

/// Removes the integer at the start of `bytes`, whose prefix is the last `prefix` bits of the first
/// byte. Returns `None` if it is incomplete, or above the 62 bits that the RFCs allow.
pub(crate) fn read(bytes: &mut &[u8], prefix: u32) -> Option<u64> {
    let (first, mut rest) = bytes.split_first()?;
    let max = u8::MAX >> (8 - prefix);
    let mut integer = u64::from(*first & max);
    if integer == u64::from(max) {
        let mut shift = 0;
        loop {
            let (byte, tail) = rest.split_first()?;
            rest = tail;
            // Nine continuation bytes have 63 bits, so neither the shift nor the sum overflows.
            integer += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 56 {
                return None;
            }
        }
    }
    *bytes = rest;
    (integer < 1 << 62).then_some(integer)
}

/// Appends an integer. The bits of `mark` are set in its first byte, in front of the prefix.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, mark: u8, prefix: u32, integer: usize) {
    let max = u8::MAX >> (8 - prefix);
    match u8::try_from(integer) {
        Ok(small) if small < max => out.push(mark | small),
        _ => write_long(out, mark | max, integer - usize::from(max)),
    }
}

/// Appends an integer that does not fit into the prefix, given the first byte and the rest.
#[cold]
fn write_long(out: &mut Vec<u8>, first: u8, mut rest: usize) {
    out.push(first);
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], prefix: u32) -> Option<(u64, usize)> {
        let mut rest = bytes;
        read(&mut rest, prefix).map(|integer| (integer, bytes.len() - rest.len()))
    }

    #[test]
    fn rfc_7541_c_1_examples_round_trip() {
        for (bytes, prefix, integer) in
            [(&[0x0a][..], 5, 10), (&[0x1f, 0x9a, 0x0a], 5, 1337), (&[0x2a], 8, 42)]
        {
            assert_eq!(read_all(bytes, prefix), Some((integer, bytes.len())));
            let mut written = Vec::new();
            write(&mut written, 0, prefix, usize::try_from(integer).unwrap());
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn integers_around_prefix_limits_round_trip() {
        for prefix in 3..=8 {
            let max = (1 << prefix) - 1;
            for integer in [0, 1, max - 1, max, max + 1, max + 127, max + 128, 1 << 40] {
                let mut written = Vec::new();
                write(&mut written, 0, prefix, integer);
                assert_eq!(
                    read_all(&written, prefix),
                    Some((integer as u64, written.len())),
                    "{prefix} {integer}"
                );
                for part in 0..written.len() {
                    assert_eq!(read_all(&written[..part], prefix), None);
                }
            }
        }
    }

    #[test]
    fn integers_above_62_bits_are_rejected() {
        // The bytes after a full prefix of five bits: groups of seven bits.
        let groups = |mut rest: u64| {
            let mut bytes = vec![0x1f];
            while rest >= 0x80 {
                bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            bytes.push(u8::try_from(rest).unwrap());
            bytes
        };
        assert_eq!(read_all(&groups((1 << 62) - 1 - 31), 5), Some(((1 << 62) - 1, 10)));
        assert_eq!(read_all(&groups((1 << 62) - 31), 5), None);
        assert_eq!(read_all(&groups(u64::MAX - 31), 5), None);
        // An endless run of zeros.
        assert_eq!(read_all(&[&[0x1f][..], &[0x80; 100], &[0]].concat(), 5), None);
    }
}
