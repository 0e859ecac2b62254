use std::collections::VecDeque;

use http::StatusCode;

use super::{dynamic::MAX_TABLE_SIZE, table::LINES, *};
use crate::{
    RequestLimits,
    fields::{
        integer,
        section::SectionBuffer,
        test_text::{hex, to_text},
    },
};

/// 100 lines beside those of the request line.
const LIMITS: RequestLimits = RequestLimits { head_bytes: 32 * 1024, header_lines: 100 };

/// A decoder fed with the sections of one client.
#[derive(Default)]
struct Decoder {
    table: DynamicTable,
    buffer: SectionBuffer,
}

impl Decoder {
    /// Decodes a section to text, one line each, or to its error.
    fn read(&mut self, payload: &[u8]) -> String {
        self.read_up_to(payload, LIMITS.head_bytes)
    }

    fn read_up_to(&mut self, payload: &[u8], head_bytes: usize) -> String {
        let limits = RequestLimits { head_bytes, ..LIMITS };
        match read(&mut self.table, &mut self.buffer, payload, &limits) {
            Ok(section) => to_text(section),
            Err(HpackError::TooLarge(bad_request)) => bad_request.status.as_u16().to_string(),
            Err(HpackError::Connection(error)) => format!("{:?}", error.code),
        }
    }

    /// The entries of the dynamic table, newest first.
    fn dynamic_entries(&mut self) -> String {
        let count = self.table.measures()[1];
        (0..count).map(|age| self.read(&indexed(62 + age))).collect()
    }

    fn size(&self) -> usize {
        self.table.measures()[0]
    }
}

fn indexed(index: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer::write(&mut out, 0x80, 7, index);
    out
}

fn literal(mark: u8, name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![mark];
    for text in [name, value] {
        integer::write(&mut out, 0, 7, text.len());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// A literal with incremental indexing.
fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    literal(0x40, name, value)
}

fn resized(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer::write(&mut out, 0x20, 5, size);
    out
}

const COMPRESSION_ERROR: &str = "CompressionError";

#[test]
fn rfc_7541_c_2_examples_decode() {
    for (bytes, line, size) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key=custom-header\n",
            55,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path=/sample/path\n", 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password=secret\n", 0),
        ("82", ":method=GET\n", 0),
    ] {
        let mut decoder = Decoder::default();
        assert_eq!((decoder.read(&hex(bytes)).as_str(), decoder.size()), (line, size));
    }
}

#[test]
fn rfc_7541_c_3_and_c_4_requests_decode() {
    for sections in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::default();
        let host = ":authority=www.example.com\n";
        let [first, second, third] = sections.map(hex);
        assert_eq!(decoder.read(&first), format!(":method=GET\n:scheme=http\n:path=/\n{host}"));
        assert_eq!((decoder.dynamic_entries().as_str(), decoder.size()), (host, 57));
        assert_eq!(
            decoder.read(&second),
            format!(":method=GET\n:scheme=http\n:path=/\n{host}cache-control=no-cache\n")
        );
        assert_eq!(
            (decoder.dynamic_entries(), decoder.size()),
            (format!("cache-control=no-cache\n{host}"), 110)
        );
        let custom = "custom-key=custom-value\n";
        assert_eq!(
            decoder.read(&third),
            format!(":method=GET\n:scheme=https\n:path=/index.html\n{host}{custom}")
        );
        assert_eq!(
            (decoder.dynamic_entries(), decoder.size()),
            (format!("{custom}cache-control=no-cache\n{host}"), 164)
        );
    }
}

#[test]
fn rfc_7541_c_5_and_c_6_responses_decode() {
    for sections in [
        [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
             474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
             666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
             3630 303b 2076 6572 7369 6f6e 3d31",
        ],
        [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
             63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
             b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ],
    ] {
        let mut decoder = Decoder::default();
        decoder.table.resize(256);
        let [first, second, third] = sections.map(hex);
        let (private, host) = ("cache-control=private\n", "location=https://www.example.com\n");
        let date = |second: u32| format!("date=Mon, 21 Oct 2013 20:13:{second} GMT\n");
        assert_eq!(decoder.read(&first), format!(":status=302\n{private}{}{host}", date(21)));
        assert_eq!(decoder.size(), 222);
        assert_eq!(decoder.read(&second), format!(":status=307\n{private}{}{host}", date(21)));
        assert_eq!(decoder.dynamic_entries(), format!(":status=307\n{host}{}{private}", date(21)));
        let cookie = "set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
        let last = format!(":status=200\n{private}{}{host}content-encoding=gzip\n{cookie}", date(22));
        assert_eq!(decoder.read(&third), last);
        assert_eq!((decoder.dynamic_entries(), decoder.size()), (format!("{cookie}content-encoding=gzip\n{}", date(22)), 215));
    }
}

#[test]
fn every_static_entry_round_trips() {
    for (index, (name, value)) in (1..).zip(LINES) {
        assert_eq!(Decoder::default().read(&indexed(index)), format!("{name}={value}\n"));
        if !name.starts_with(':') {
            let mut written = Vec::new();
            field(&mut written, name, value.as_bytes());
            assert_eq!(written, indexed(index), "{name}");
            written.clear();
            field(&mut written, name, b"no such value");
            assert!(written.len() <= 2 + 14, "{name} is encoded as a literal");
            assert_eq!(Decoder::default().read(&written), format!("{name}=no such value\n"));
        }
    }
}

#[test]
fn every_status_is_encoded_compactly() {
    for status in 100..=599 {
        let mut out = Vec::new();
        super::status(&mut out, StatusCode::from_u16(status).unwrap());
        assert_eq!(Decoder::default().read(&out), format!(":status={status}\n"));
        let is_of_table = LINES.contains(&(":status", &status.to_string()));
        assert_eq!(out.len(), if is_of_table { 1 } else { 5 }, "{status}");
    }
}

#[test]
fn index_without_an_entry_is_rejected() {
    let mut decoder = Decoder::default();
    for index in [0, 62, 127, 4000, usize::MAX >> 2] {
        assert_eq!(decoder.read(&indexed(index)), COMPRESSION_ERROR, "{index}");
    }
    for mark in [0x40, 0x00, 0x10] {
        let mut out = Vec::new();
        integer::write(&mut out, mark, if mark == 0x40 { 6 } else { 4 }, 62);
        assert_eq!(decoder.read(&[&out[..], &[1, b'v']].concat()), COMPRESSION_ERROR);
    }
    assert_eq!(decoder.read(&indexed_literal("a", "1")), "a=1\n");
    assert_eq!(decoder.read(&[indexed(62), indexed(63)].concat()), COMPRESSION_ERROR);
    assert_eq!(decoder.read(&indexed(62)), "a=1\n");
}

#[test]
fn unterminated_integers_are_rejected() {
    let mut decoder = Decoder::default();
    for first in [0xff, 0x7f, 0x0f, 0x1f, 0x3f] {
        assert_eq!(decoder.read(&[&[first][..], &[0xff; 20]].concat()), COMPRESSION_ERROR);
        assert_eq!(decoder.read(&[&[first][..], &[0x80; 20], &[0]].concat()), COMPRESSION_ERROR);
        assert_eq!(decoder.read(&[first]), COMPRESSION_ERROR);
    }
    // A string that exceeds the section, by one byte and by many.
    assert_eq!(decoder.read(&[0, 2, b'a']), COMPRESSION_ERROR);
    assert_eq!(decoder.read(&hex("00 7f ffff ffff ffff ffff 3f")), COMPRESSION_ERROR);
    assert_eq!(decoder.read(&[0, 1, b'a']), COMPRESSION_ERROR, "missing value");
}

#[test]
fn huffman_padding_is_validated() {
    let mut decoder = Decoder::default();
    // 00000 is the code of `0`; valid padding is all ones.
    assert_eq!(decoder.read(&[0, 1, b'a', 0x81, 0x07]), "a=0\n");
    assert_eq!(decoder.read(&[0, 1, b'a', 0x81, 0x06]), COMPRESSION_ERROR);
    assert_eq!(
        decoder.read(&[0, 1, b'a', 0x82, 0x07, 0xff]),
        COMPRESSION_ERROR,
        "padding of eleven bits"
    );
    assert_eq!(
        decoder.read(&[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
        COMPRESSION_ERROR,
        "the end-of-string code"
    );
}

#[test]
fn size_update_is_allowed_only_before_the_first_line() {
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.read(&[indexed_literal("a", "1"), indexed_literal("b", "2")].concat()),
        "a=1\nb=2\n"
    );
    assert_eq!(decoder.read(&[resized(34), indexed(62)].concat()), "b=2\n");
    assert_eq!((decoder.dynamic_entries().as_str(), decoder.size()), ("b=2\n", 34));
    assert_eq!(decoder.read(&[resized(0), resized(MAX_TABLE_SIZE)].concat()), "");
    assert_eq!(decoder.size(), 0);
    assert_eq!(decoder.read(&[vec![0x82], resized(0)].concat()), COMPRESSION_ERROR);
    assert_eq!(decoder.read(&resized(MAX_TABLE_SIZE + 1)), COMPRESSION_ERROR);
    assert_eq!(
        decoder.read(&[resized(1), resized(2), resized(3)].concat()),
        COMPRESSION_ERROR,
        "more size updates than needed"
    );
    assert_eq!(decoder.read(&resized(0)), "");
    assert_eq!(decoder.read(&indexed_literal("a", "1")), "a=1\n");
    assert_eq!(decoder.size(), 0, "above the table size");
}

#[test]
fn oldest_entry_is_evicted_first() {
    let mut decoder = Decoder::default();
    let line = |nth: usize| (format!("name-{nth:03}"), "v".repeat(24));
    for nth in 0..200 {
        let (name, value) = line(nth);
        decoder.read(&indexed_literal(&name, &value));
        assert_eq!(decoder.size(), 64 * (nth + 1).min(MAX_TABLE_SIZE / 64));
    }
    let expected: String =
        (200 - 64..200).rev().map(|nth| format!("{}={}\n", line(nth).0, line(nth).1)).collect();
    assert_eq!(decoder.dynamic_entries(), expected);
    // An entry above the table size empties the table, but its line is decoded all the same.
    let large = "x".repeat(MAX_TABLE_SIZE);
    assert_eq!(decoder.read(&indexed_literal("a", &large)), format!("a={large}\n"));
    assert_eq!((decoder.size(), decoder.dynamic_entries().as_str()), (0, ""));
}

#[test]
fn entry_can_take_its_name_from_an_evicted_one() {
    let mut decoder = Decoder::default();
    let (name, value) = ("n".repeat(2000), "v".repeat(2000));
    decoder.read(&indexed_literal(&name, ""));
    // Its name is entry 62, which is evicted for its value.
    let mut section = vec![0x40 | 62];
    integer::write(&mut section, 0, 7, value.len());
    section.extend_from_slice(value.as_bytes());
    let line = format!("{name}={value}\n");
    // Lines decoded earlier are unaffected by evictions.
    assert_eq!(
        decoder.read(&[indexed(62), section, indexed(62)].concat()),
        format!("{name}=\n{line}{line}")
    );
    assert_eq!((decoder.dynamic_entries(), decoder.size()), (line, 4032));
}

#[test]
fn section_limits_count_decoded_bytes_and_lines() {
    let mut decoder = Decoder::default();
    let payload = [literal(0, "abc", "defg"), literal(0x10, "h", "")].concat();
    let size = 3 + 4 + 32 + 1 + 32;
    assert_eq!(decoder.read_up_to(&payload, size), "abc=defg\nh=\n");
    assert_eq!(decoder.read_up_to(&payload, size - 1), "431");
    assert_eq!(decoder.read(&literal(0, "x", "y").repeat(103)).lines().count(), 103);
    assert_eq!(decoder.read(&literal(0, "x", "y").repeat(104)), "431");
}

#[test]
fn oversized_section_still_updates_the_table() {
    let mut decoder = Decoder::default();
    let (line, most) = (indexed_literal("a", &"1".repeat(67)), 100);
    assert_eq!(decoder.read_up_to(&[line, indexed_literal("b", "2")].concat(), most), "431");
    assert_eq!(
        decoder.read(&[indexed(62), indexed(63)].concat()),
        format!("b=2\na={}\n", "1".repeat(67))
    );
    assert_eq!(
        decoder.read_up_to(
            &[literal(0, "a", "1"), literal(0, "b", "2"), vec![0x80], indexed_literal("c", "3")]
                .concat(),
            50
        ),
        COMPRESSION_ERROR
    );
    // A few bytes that refer to a lot.
    assert_eq!(decoder.read_up_to(&[0xbe; 11], most), "431");
    assert_eq!(decoder.read_up_to(&[0xbe; 12], most), "EnhanceYourCalm");
}

#[test]
fn table_memory_is_bounded_and_reused() {
    let mut decoder = Decoder::default();
    let large = "x".repeat(3000);
    for nth in 0..1000 {
        // As many entries as a section of this size may have.
        let section: Vec<u8> = (0..10)
            .flat_map(|line| indexed_literal(&format!("name-{nth}-{line}"), &large))
            .collect();
        assert_eq!(decoder.read(&section).lines().count(), 10);
        assert!(decoder.table.measures()[2] <= 128 * 1024, "{:?}", decoder.table.measures());
    }
    let section: Vec<u8> =
        (0..10).flat_map(|line| indexed_literal("a-name", &line.to_string())).collect();
    let mut warm = |times| {
        (0..times).for_each(|_| drop(decoder.read(&section)));
        (decoder.table.measures(), decoder.buffer.capacities())
    };
    assert_eq!(warm(1000), warm(1000));
    assert!(decoder.table.measures()[2] <= 16 * 1024);
}

/// A reference implementation of the table: a list of lines.
#[derive(Default)]
struct ReferenceTable {
    lines: VecDeque<(String, String)>,
    most: usize,
}

impl ReferenceTable {
    fn insert(&mut self, name: &str, value: &str) {
        self.lines.push_front((name.to_owned(), value.to_owned()));
        self.shrink();
    }

    fn shrink(&mut self) {
        let size = |lines: &VecDeque<(String, String)>| {
            lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
        };
        while size(&self.lines) > self.most {
            self.lines.pop_back();
        }
    }
}

#[test]
fn table_matches_the_reference_implementation() {
    let (mut decoder, mut reference) =
        (Decoder::default(), ReferenceTable { most: MAX_TABLE_SIZE, ..ReferenceTable::default() });
    // A linear congruential generator, for reproducible runs.
    let mut state: u32 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..3000 {
        let (mut section, mut expected) = (Vec::new(), String::new());
        if random(10) == 0 {
            reference.most = random(MAX_TABLE_SIZE + 1);
            reference.shrink();
            section.extend(resized(reference.most));
        }
        for _ in 0..random(12) {
            let most = [4, 40, 400][random(3)];
            let (mut name, value) = (format!("n{}", random(1000)), "v".repeat(random(most)));
            let of_table = (!reference.lines.is_empty()).then(|| random(reference.lines.len()));
            match (random(4), of_table) {
                (0, Some(age)) => {
                    section.extend(indexed(62 + age));
                    let (name, value) = &reference.lines[age];
                    expected += &format!("{name}={value}\n");
                    continue;
                }
                (1, Some(age)) => {
                    name.clone_from(&reference.lines[age].0);
                    integer::write(&mut section, 0x40, 6, 62 + age);
                    integer::write(&mut section, 0, 7, value.len());
                    section.extend_from_slice(value.as_bytes());
                    reference.insert(&name, &value);
                }
                (2, _) => section.extend(literal(0, &name, &value)),
                _ => {
                    section.extend(indexed_literal(&name, &value));
                    reference.insert(&name, &value);
                }
            }
            expected += &format!("{name}={value}\n");
        }
        assert_eq!(decoder.read(&section), expected);
        let lines: String =
            reference.lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        assert_eq!(decoder.dynamic_entries(), lines);
    }
}
