//! The Huffman code of field strings (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: the lengths of its words tell the words. A table tells up to
//! two symbols from the next [`LOOKUP_BITS`] bits, which covers nearly all that tokens and
//! paths are made of; longer words are found among those of their length.

/// The most bytes that so many bytes can mean: no word has less than five bits.
pub(super) const fn max_decoded_length(encoded: usize) -> usize {
    // One more, since the table gives two at a time.
    encoded / 5 * 8 + encoded % 5 * 8 / 5 + 1
}

/// Decodes a string into the start of `out`, which has [`max_decoded_length`] bytes, and
/// returns its length. `None` if the string has a word that is none, the word for its
/// end, or another padding than less than eight ones.
pub(super) fn decode(encoded: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut bits = BitReader { rest: encoded, window: 0, count: 0 };
    let mut length = 0;
    while bits.refill() {
        let before = length;
        // Four times as many bits as are peeked at are there.
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

/// The last bytes, behind which there are as many ones as anybody wants to see.
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

/// The bits that are next, from the highest of a word on.
struct BitReader<'e> {
    rest: &'e [u8],
    window: u64,
    /// How many bits of the window count. Those behind them are right or zero.
    count: u32,
}

impl BitReader<'_> {
    /// Fills the window with at least 56 bits. Says whether there were as many.
    fn refill(&mut self) -> bool {
        let Some(next) = self.rest.first_chunk() else { return false };
        self.window |= u64::from_be_bytes(*next) >> self.count;
        self.rest = &self.rest[(63 - self.count as usize) / 8..];
        self.count |= 56;
        true
    }

    /// Fills the window with what is left.
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

/// How many bits the table knows.
const LOOKUP_BITS: u32 = 12;

/// The symbols that some bits begin with.
#[derive(Clone, Copy)]
struct LookupEntry {
    symbols: [u8; 2],
    /// How many of the two there are.
    count: u8,
    /// The bits of their words together.
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

/// The word at the start of these bits, and how long it is: none if it is that for the
/// end, since any other bits begin with one.
const fn decode_symbol(bits: u64) -> (Option<u8>, u32) {
    decode_short_symbol(bits, MAX_CODE_LENGTH)
}

/// The word of at most so many bits at the start of these.
const fn decode_short_symbol(bits: u64, max_width: u32) -> (Option<u8>, u32) {
    let mut width = MIN_CODE_LENGTH;
    while width <= max_width {
        let CodeGroup { first, symbols: (start, count) } = &CODE_GROUPS[width as usize];
        // Canonical: words of a length are consecutive, and come behind the shorter ones.
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

/// The words of one length.
#[derive(Clone, Copy)]
struct CodeGroup {
    /// The first of them.
    first: u64,
    /// Where their symbols begin in [`SYMBOLS_BY_LENGTH`], and how many they are.
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

/// All octets, by the length of their words.
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

/// How many bits the word of each octet has. The word for the end is all ones.
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
mod tests {
    use super::*;

    /// The word of an octet and its width. In a canonical code all shorter words, and
    /// those of its width for smaller octets, come before it and take their share of all
    /// that can follow.
    fn code_of(octet: u8) -> (u64, u32) {
        let width = |octet: u8| u32::from(CODE_LENGTHS[usize::from(octet)]);
        let before = (0..=255).filter(|other| (width(*other), *other) < (width(octet), octet));
        let taken: u64 = before.map(|other| 1 << (MAX_CODE_LENGTH - width(other))).sum();
        (taken >> (MAX_CODE_LENGTH - width(octet)), width(octet))
    }

    /// A string as others send it: the words behind each other, and ones.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for octet in text {
            let (word, width) = code_of(*octet);
            bits += &format!("{word:0width$b}", width = width as usize);
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
    fn the_words_are_those_of_rfc_7541_appendix_b() {
        for (octet, word, width) in [
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
            assert_eq!(code_of(octet), (word, width), "{octet}");
        }
        let all: u64 = (0..=255).map(|octet| 1u64 << (MAX_CODE_LENGTH - code_of(octet).1)).sum();
        assert_eq!(all, (1 << MAX_CODE_LENGTH) - 1, "one word is left, that for the end");
    }

    #[test]
    fn every_octet_is_read_alone_and_behind_and_before_others() {
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
    fn every_pair_of_octets_is_read_again() {
        for first in 0..=255 {
            let text: Vec<u8> = (0..=255).flat_map(|second| [first, second]).collect();
            assert_eq!(decoded(&encode(&text)), Some(text));
        }
    }

    #[test]
    fn the_most_that_a_string_can_mean_is_enough_room_and_hardly_more() {
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
        // 00000, which is a zero, and three bits that are not all ones.
        for padding in 0..8 {
            assert_eq!(decoded(&[padding]), (padding == 7).then(|| b"0".to_vec()));
        }
        // A word of which a part has come.
        let part = encode(&[22]);
        for length in 1..part.len() {
            assert_eq!(decoded(&part[..length]), None);
        }
    }

    #[test]
    fn the_word_for_the_end_is_refused_wherever_it_is() {
        let end = "1".repeat(30);
        for before in 0..20 {
            for after in [0, 1, 20] {
                let bits = format!("{}{end}{}", "00000".repeat(before), "00000".repeat(after));
                assert_eq!(decoded(&from_bits(&bits)), None, "{before} {after}");
            }
        }
    }
}
