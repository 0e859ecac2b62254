//! The Huffman code for strings (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: code lengths alone determine the codes. A lookup table decodes up to two
//! symbols from the next [`LOOKUP_BITS`] bits, which covers nearly all of tokens and paths. Longer
//! codes are searched by length.

/// Upper bound on the decoded length of a string. The shortest code has five bits.
pub(super) const fn max_decoded_length(encoded: usize) -> usize {
    // One more, since the lookup table writes two symbols at a time.
    encoded / 5 * 8 + encoded % 5 * 8 / 5 + 1
}

/// Decodes a string to the start of `out`, which has [`max_decoded_length`] bytes, and returns its
/// length. Returns `None` if the string contains an incomplete code or the end-of-string code, or
/// if its padding is not less than eight ones.
pub(super) fn decode(encoded: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut bits = BitReader { rest: encoded, window: 0, count: 0 };
    let mut length = 0;
    while bits.refill() {
        let before = length;
        // A refill provides 56 bits, more than four lookups consume.
        for _ in 0..4 {
            let LookupEntry { symbols, count, width } = LOOKUP[bits.peek()];
            if count == 0 {
                break;
            }
            out.get_mut(length..length + 2)?.copy_from_slice(&symbols);
            length += usize::from(count);
            bits.skip(width.into());
        }
        if length == before {
            let (symbol, width) = decode_symbol(bits.window);
            *out.get_mut(length)? = symbol?;
            length += 1;
            bits.skip(width);
        }
    }
    decode_last(bits, out, length)
}

/// Decodes the end of the string, with the missing bits read as ones: valid padding.
fn decode_last(mut bits: BitReader<'_>, out: &mut [u8], mut length: usize) -> Option<usize> {
    loop {
        bits.refill_bytewise();
        let window = bits.window | u64::MAX >> bits.count;
        if bits.count < 8 && window == u64::MAX {
            return Some(length);
        }
        let LookupEntry { symbols, count, width } = LOOKUP[BitReader::index(window)];
        if count > 0 && u32::from(width) <= bits.count {
            out.get_mut(length..length + 2)?.copy_from_slice(&symbols);
            length += usize::from(count);
            bits.skip(width.into());
        } else {
            let (symbol, width) = decode_symbol(window);
            *out.get_mut(length)? = symbol.filter(|_| width <= bits.count)?;
            length += 1;
            bits.skip(width);
        }
    }
}

/// A bit reader with a 64-bit window, most significant bit first.
struct BitReader<'e> {
    rest: &'e [u8],
    window: u64,
    /// Number of valid bits in the window. The bits after them are either correct already or zero.
    count: u32,
}

impl BitReader<'_> {
    /// Fills the window to at least 56 bits. Returns `false` if fewer than eight bytes are left.
    fn refill(&mut self) -> bool {
        let Some(next) = self.rest.first_chunk() else { return false };
        self.window |= u64::from_be_bytes(*next) >> self.count;
        self.rest = &self.rest[(63 - self.count as usize) / 8..];
        self.count |= 56;
        true
    }

    /// Fills the window with the bytes that are left.
    fn refill_bytewise(&mut self) {
        while self.count < 56
            && let Some((next, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(*next) << (56 - self.count);
            self.count += 8;
            self.rest = rest;
        }
    }

    fn peek(&self) -> usize {
        Self::index(self.window)
    }

    const fn index(window: u64) -> usize {
        (window >> (64 - LOOKUP_BITS)) as usize
    }

    fn skip(&mut self, width: u32) {
        self.window <<= width;
        self.count -= width;
    }
}

/// Number of bits in the index of the lookup table.
const LOOKUP_BITS: u32 = 12;

/// The symbols that a bit pattern begins with.
#[derive(Clone, Copy)]
struct LookupEntry {
    symbols: [u8; 2],
    /// Number of symbols: 0, 1 or 2.
    count: u8,
    /// Total length of their codes in bits.
    width: u8,
}

static LOOKUP: [LookupEntry; 1 << LOOKUP_BITS] = {
    let mut entries = [LookupEntry { symbols: [0; 2], count: 0, width: 0 }; 1 << LOOKUP_BITS];
    let mut index = 0;
    while index < entries.len() {
        let bits = (index as u64) << (64 - LOOKUP_BITS);
        if let (Some(first), width) = decode_short_symbol(bits, LOOKUP_BITS) {
            entries[index] = LookupEntry { symbols: [first, 0], count: 1, width: width as u8 };
            if let (Some(second), and) = decode_short_symbol(bits << width, LOOKUP_BITS - width) {
                entries[index] =
                    LookupEntry { symbols: [first, second], count: 2, width: (width + and) as u8 };
            }
        }
        index += 1;
    }
    entries
};

/// Returns the symbol at the start of `bits`, and the length of its code. There is none only for
/// the end-of-string code, as all other patterns begin with a code.
const fn decode_symbol(bits: u64) -> (Option<u8>, u32) {
    decode_short_symbol(bits, MAX_CODE_LENGTH)
}

/// Returns the symbol at the start of `bits` whose code has at most `max_width` bits.
const fn decode_short_symbol(bits: u64, max_width: u32) -> (Option<u8>, u32) {
    let mut width = MIN_CODE_LENGTH;
    while width <= max_width {
        let CodeGroup { first, symbols: (start, count) } = &CODE_GROUPS[width as usize];
        // Codes of one length are consecutive, and follow the shorter ones.
        let nth = (bits >> (64 - width)).wrapping_sub(*first) as usize;
        if nth < *count {
            return (Some(SYMBOLS_BY_LENGTH[*start + nth]), width);
        }
        width += 1;
    }
    (None, 0)
}

const MIN_CODE_LENGTH: u32 = 5;
const MAX_CODE_LENGTH: u32 = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct CodeGroup {
    /// The first code.
    first: u64,
    /// Start and number of their symbols in [`SYMBOLS_BY_LENGTH`].
    symbols: (usize, usize),
}

static CODE_GROUPS: [CodeGroup; MAX_CODE_LENGTH as usize + 1] = {
    let mut groups = [CodeGroup { first: 0, symbols: (0, 0) }; MAX_CODE_LENGTH as usize + 1];
    let mut width = 1;
    while width < groups.len() {
        let CodeGroup { first, symbols: (start, count) } = groups[width - 1];
        groups[width] = CodeGroup {
            first: (first + count as u64) << 1,
            symbols: (start + count, count_of(width)),
        };
        width += 1;
    }
    groups
};

/// All octets, sorted by the length of their codes.
static SYMBOLS_BY_LENGTH: [u8; 256] = {
    let (mut order, mut at, mut width) = ([0; 256], 0, MIN_CODE_LENGTH);
    while width <= MAX_CODE_LENGTH {
        let mut octet = 0;
        while octet < CODE_LENGTHS.len() {
            if CODE_LENGTHS[octet] as u32 == width {
                order[at] = octet as u8;
                at += 1;
            }
            octet += 1;
        }
        width += 1;
    }
    order
};

const fn count_of(width: usize) -> usize {
    let (mut count, mut octet) = (0, 0);
    while octet < CODE_LENGTHS.len() {
        count += (CODE_LENGTHS[octet] as usize == width) as usize;
        octet += 1;
    }
    count
}

/// Code length of each octet, in bits. The end-of-string code is 30 ones.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Computes the code of an octet independently. In a canonical code, every code that is
    /// shorter, or as long and of a smaller octet, comes first and takes its share of the code
    /// space.
    fn code_of(octet: u8) -> (u64, u32) {
        let width = |octet: u8| u32::from(CODE_LENGTHS[usize::from(octet)]);
        let before = (0..=255).filter(|other| (width(*other), *other) < (width(octet), octet));
        let taken: u64 = before.map(|other| 1 << (MAX_CODE_LENGTH - width(other))).sum();
        (taken >> (MAX_CODE_LENGTH - width(octet)), width(octet))
    }

    /// Encodes a string: concatenated codes, padded with ones.
    pub(in crate::fields) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for octet in text {
            let (code, width) = code_of(*octet);
            bits += &format!("{code:0width$b}", width = width as usize);
        }
        from_bits(&bits)
    }

    fn from_bits(bits: &str) -> Vec<u8> {
        let padded = bits.len().next_multiple_of(8);
        let padded = format!("{bits:1<padded$}");
        padded
            .as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(encoded: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; max_decoded_length(encoded.len())];
        let length = decode(encoded, &mut out)?;
        out.truncate(length);
        Some(out)
    }

    #[test]
    fn codes_match_rfc_7541_appendix_b() {
        for (octet, code, width) in [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b'u', 0x2d, 6),
            (b':', 0x5c, 7),
            (b'z', 0x7b, 7),
            (b'&', 0xf8, 8),
            (b'Z', 0xfd, 8),
            (b'!', 0x3f8, 10),
            (b'\'', 0x7fa, 11),
            (b'#', 0xffa, 12),
            (0, 0x1ff8, 13),
            (b'^', 0x3ffc, 14),
            (b'<', 0x7ffc, 15),
            (b'\\', 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (255, 0x3ff_ffee, 26),
            (1, 0x7f_ffd8, 23),
            (2, 0xfff_ffe2, 28),
            (22, 0x3fff_fffe, 30),
        ] {
            assert_eq!(code_of(octet), (code, width), "{octet}");
        }
        let all: u64 = (0..=255).map(|octet| 1u64 << (MAX_CODE_LENGTH - code_of(octet).1)).sum();
        assert_eq!(
            all,
            (1 << MAX_CODE_LENGTH) - 1,
            "exactly one code is left, for the end of string"
        );
    }

    #[test]
    fn every_octet_round_trips_in_any_context() {
        for octet in 0..=255 {
            for length in 0..24 {
                let text =
                    [&b"token0123456789"[..length.min(15)], &[octet], &vec![b'e'; length]].concat();
                assert_eq!(decoded(&encode(&text)), Some(text));
            }
            let many = vec![octet; 100];
            assert_eq!(decoded(&encode(&many)), Some(many));
        }
    }

    #[test]
    fn every_pair_of_octets_round_trips() {
        for first in 0..=255 {
            let text: Vec<u8> = (0..=255).flat_map(|second| [first, second]).collect();
            assert_eq!(decoded(&encode(&text)), Some(text));
        }
    }

    #[test]
    fn max_decoded_length_is_tight() {
        for length in 0..100 {
            let text = vec![b'0'; length * 8 / 5];
            let encoded = encode(&text);
            assert_eq!(encoded.len(), length);
            assert!((text.len() + 1..=text.len() + 2).contains(&max_decoded_length(length)));
            assert_eq!(decoded(&encoded), Some(text));
        }
    }

    #[test]
    fn padding_is_less_than_eight_ones() {
        for before in [
            "",
            "0000000000",
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
        ] {
            let zeros = vec![b'0'; before.len() / 5];
            for ones in 0..32 {
                let bits = format!("{before}{}", "1".repeat(ones));
                let is_whole = bits.len().is_multiple_of(8);
                if is_whole {
                    assert_eq!(
                        decoded(&from_bits(&bits)),
                        (ones < 8).then(|| zeros.clone()),
                        "{ones} ones"
                    );
                }
            }
        }
        // 00000, the code of `0`, and three bits of padding.
        for padding in 0..8 {
            assert_eq!(decoded(&[padding]), (padding == 7).then(|| b"0".to_vec()));
        }
        // An incomplete code.
        let part = encode(&[22]);
        for length in 1..part.len() {
            assert_eq!(decoded(&part[..length]), None);
        }
    }

    #[test]
    fn end_of_string_code_is_rejected() {
        let end = "1".repeat(30);
        for before in 0..20 {
            for after in [0, 1, 20] {
                let bits = format!("{}{end}{}", "00000".repeat(before), "00000".repeat(after));
                assert_eq!(decoded(&from_bits(&bits)), None, "{before} {after}");
            }
        }
    }
}
