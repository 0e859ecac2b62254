use std::collections::VecDeque;

use http::StatusCode;

use super::{dynamic::MAX_TABLE_SIZE, table::LINES, *};
use crate::listen::fields::{
    integer,
    section::{FieldSection, SectionBuffer},
};

const MOST: usize = 32 * 1024;

/// A client's sections, one behind the other.
#[derive(Default)]
struct Reading {
    table: DynamicTable,
    room: SectionBuffer,
}

impl Reading {
    /// A section as text, a line each; or why it is not read.
    fn read(&mut self, payload: &[u8]) -> String {
        self.read_most(payload, MOST)
    }

    fn read_most(&mut self, payload: &[u8], most: usize) -> String {
        match read(&mut self.table, &mut self.room, payload, most) {
            Ok(section) => shown(section),
            Err(HpackError::TooLarge(malformed)) => malformed.status.as_u16().to_string(),
            Err(HpackError::Connection(fault)) => format!("{:?}", fault.code),
        }
    }

    /// What is remembered, the last first.
    fn remembered(&mut self) -> String {
        let count = self.table.measures()[1];
        (0..count).map(|age| self.read(&indexed(62 + age))).collect()
    }

    fn size(&self) -> usize {
        self.table.measures()[0]
    }
}

fn shown(section: FieldSection<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    section.lines().map(|(name, value)| format!("{}={}\n", text(name), text(value))).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
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

/// A line that is to be remembered.
fn kept(name: &str, value: &str) -> Vec<u8> {
    literal(0x40, name, value)
}

fn resized(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer::write(&mut out, 0x20, 5, size);
    out
}

const LINE: &str = "CompressionError";

#[test]
fn the_examples_of_rfc_7541_c_2_are_read() {
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
        let mut reading = Reading::default();
        assert_eq!((reading.read(&hex(bytes)).as_str(), reading.size()), (line, size));
    }
}

#[test]
fn the_requests_of_rfc_7541_c_3_and_c_4_are_read() {
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
        let mut reading = Reading::default();
        let host = ":authority=www.example.com\n";
        let [first, second, third] = sections.map(hex);
        assert_eq!(reading.read(&first), format!(":method=GET\n:scheme=http\n:path=/\n{host}"));
        assert_eq!((reading.remembered().as_str(), reading.size()), (host, 57));
        assert_eq!(
            reading.read(&second),
            format!(":method=GET\n:scheme=http\n:path=/\n{host}cache-control=no-cache\n")
        );
        assert_eq!(
            (reading.remembered(), reading.size()),
            (format!("cache-control=no-cache\n{host}"), 110)
        );
        let custom = "custom-key=custom-value\n";
        assert_eq!(
            reading.read(&third),
            format!(":method=GET\n:scheme=https\n:path=/index.html\n{host}{custom}")
        );
        assert_eq!(
            (reading.remembered(), reading.size()),
            (format!("{custom}cache-control=no-cache\n{host}"), 164)
        );
    }
}

#[test]
fn the_answers_of_rfc_7541_c_5_and_c_6_are_read_and_forgotten() {
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
        let mut reading = Reading::default();
        reading.table.resize(256);
        let [first, second, third] = sections.map(hex);
        let (private, host) = ("cache-control=private\n", "location=https://www.example.com\n");
        let date = |second: u32| format!("date=Mon, 21 Oct 2013 20:13:{second} GMT\n");
        assert_eq!(reading.read(&first), format!(":status=302\n{private}{}{host}", date(21)));
        assert_eq!(reading.size(), 222);
        assert_eq!(reading.read(&second), format!(":status=307\n{private}{}{host}", date(21)));
        assert_eq!(reading.remembered(), format!(":status=307\n{host}{}{private}", date(21)));
        let cookie = "set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
        let last = format!(":status=200\n{private}{}{host}content-encoding=gzip\n{cookie}", date(22));
        assert_eq!(reading.read(&third), last);
        assert_eq!((reading.remembered(), reading.size()), (format!("{cookie}content-encoding=gzip\n{}", date(22)), 215));
    }
}

#[test]
fn every_line_of_the_static_table_is_read_and_written() {
    for (index, (name, value)) in (1..).zip(LINES) {
        assert_eq!(Reading::default().read(&indexed(index)), format!("{name}={value}\n"));
        if !name.starts_with(':') {
            let mut written = Vec::new();
            field(&mut written, name, value.as_bytes());
            assert_eq!(written, indexed(index), "{name}");
            written.clear();
            field(&mut written, name, b"no such value");
            assert!(written.len() <= 2 + 14, "{name} is written in words");
            assert_eq!(Reading::default().read(&written), format!("{name}=no such value\n"));
        }
    }
}

#[test]
fn every_status_is_written_in_few_bytes() {
    for status in 100..=599 {
        let mut out = Vec::new();
        super::status(&mut out, StatusCode::from_u16(status).unwrap());
        assert_eq!(Reading::default().read(&out), format!(":status={status}\n"));
        let is_of_table = LINES.contains(&(":status", &status.to_string()));
        assert_eq!(out.len(), if is_of_table { 1 } else { 5 }, "{status}");
    }
}

#[test]
fn an_index_is_that_of_a_line() {
    let mut reading = Reading::default();
    for index in [0, 62, 127, 4000, usize::MAX >> 2] {
        assert_eq!(reading.read(&indexed(index)), LINE, "{index}");
    }
    for mark in [0x40, 0x00, 0x10] {
        let mut out = Vec::new();
        integer::write(&mut out, mark, if mark == 0x40 { 6 } else { 4 }, 62);
        assert_eq!(reading.read(&[&out[..], &[1, b'v']].concat()), LINE);
    }
    assert_eq!(reading.read(&kept("a", "1")), "a=1\n");
    assert_eq!(reading.read(&[indexed(62), indexed(63)].concat()), LINE);
    assert_eq!(reading.read(&indexed(62)), "a=1\n");
}

#[test]
fn integers_have_an_end() {
    let mut reading = Reading::default();
    for first in [0xff, 0x7f, 0x0f, 0x1f, 0x3f] {
        assert_eq!(reading.read(&[&[first][..], &[0xff; 20]].concat()), LINE);
        assert_eq!(reading.read(&[&[first][..], &[0x80; 20], &[0]].concat()), LINE);
        assert_eq!(reading.read(&[first]), LINE);
    }
    // A string that is longer than what has come, by one and by far.
    assert_eq!(reading.read(&[0, 2, b'a']), LINE);
    assert_eq!(reading.read(&hex("00 7f ffff ffff ffff ffff 3f")), LINE);
    assert_eq!(reading.read(&[0, 1, b'a']), LINE, "there is no value");
}

#[test]
fn huffman_codes_are_whole_and_have_no_word_for_the_end() {
    let mut reading = Reading::default();
    // 00000 is a zero; behind it come ones, or not.
    assert_eq!(reading.read(&[0, 1, b'a', 0x81, 0x07]), "a=0\n");
    assert_eq!(reading.read(&[0, 1, b'a', 0x81, 0x06]), LINE);
    assert_eq!(reading.read(&[0, 1, b'a', 0x82, 0x07, 0xff]), LINE, "eleven bits of padding");
    assert_eq!(
        reading.read(&[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
        LINE,
        "the word for the end"
    );
}

#[test]
fn the_size_of_the_table_is_changed_before_the_first_line_only() {
    let mut reading = Reading::default();
    assert_eq!(reading.read(&[kept("a", "1"), kept("b", "2")].concat()), "a=1\nb=2\n");
    assert_eq!(reading.read(&[resized(34), indexed(62)].concat()), "b=2\n");
    assert_eq!((reading.remembered().as_str(), reading.size()), ("b=2\n", 34));
    assert_eq!(reading.read(&[resized(0), resized(MAX_TABLE_SIZE)].concat()), "");
    assert_eq!(reading.size(), 0);
    assert_eq!(reading.read(&[vec![0x82], resized(0)].concat()), LINE);
    assert_eq!(reading.read(&resized(MAX_TABLE_SIZE + 1)), LINE);
    assert_eq!(
        reading.read(&[resized(1), resized(2), resized(3)].concat()),
        LINE,
        "more changes than can be needed"
    );
    assert_eq!(reading.read(&resized(0)), "");
    assert_eq!(reading.read(&kept("a", "1")), "a=1\n");
    assert_eq!(reading.size(), 0, "there is no room for it");
}

#[test]
fn what_is_oldest_is_forgotten_first() {
    let mut reading = Reading::default();
    let line = |nth: usize| (format!("name-{nth:03}"), "v".repeat(24));
    for nth in 0..200 {
        let (name, value) = line(nth);
        reading.read(&kept(&name, &value));
        assert_eq!(reading.size(), 64 * (nth + 1).min(MAX_TABLE_SIZE / 64));
    }
    let expected: String =
        (200 - 64..200).rev().map(|nth| format!("{}={}\n", line(nth).0, line(nth).1)).collect();
    assert_eq!(reading.remembered(), expected);
    // What is larger than the table empties it, and is a line all the same.
    let large = "x".repeat(MAX_TABLE_SIZE);
    assert_eq!(reading.read(&kept("a", &large)), format!("a={large}\n"));
    assert_eq!((reading.size(), reading.remembered().as_str()), (0, ""));
}

#[test]
fn a_line_has_its_name_from_one_that_is_forgotten_for_it() {
    let mut reading = Reading::default();
    let (name, value) = ("n".repeat(2000), "v".repeat(2000));
    reading.read(&kept(&name, ""));
    // By the name that is at 62, with a value for which it has to go.
    let mut section = vec![0x40 | 62];
    integer::write(&mut section, 0, 7, value.len());
    section.extend_from_slice(value.as_bytes());
    let line = format!("{name}={value}\n");
    // What was read before stays as it was, whatever is forgotten behind it.
    assert_eq!(
        reading.read(&[indexed(62), section, indexed(62)].concat()),
        format!("{name}=\n{line}{line}")
    );
    assert_eq!((reading.remembered(), reading.size()), (line, 4032));
}

#[test]
fn lines_are_counted_as_they_are_decoded() {
    let mut reading = Reading::default();
    let payload = [literal(0, "abc", "defg"), literal(0x10, "h", "")].concat();
    let size = 3 + 4 + 32 + 1 + 32;
    assert_eq!(reading.read_most(&payload, size), "abc=defg\nh=\n");
    assert_eq!(reading.read_most(&payload, size - 1), "431");
    assert_eq!(reading.read(&literal(0, "x", "y").repeat(104)).lines().count(), 104);
    assert_eq!(reading.read(&literal(0, "x", "y").repeat(105)), "431");
}

#[test]
fn what_is_too_large_is_read_to_its_end_unless_it_is_much_too_large() {
    let mut reading = Reading::default();
    let (line, most) = (kept("a", &"1".repeat(67)), 100);
    assert_eq!(reading.read_most(&[line, kept("b", "2")].concat(), most), "431");
    assert_eq!(
        reading.read(&[indexed(62), indexed(63)].concat()),
        format!("b=2\na={}\n", "1".repeat(67))
    );
    assert_eq!(
        reading.read_most(
            &[literal(0, "a", "1"), literal(0, "b", "2"), vec![0x80], kept("c", "3")].concat(),
            50
        ),
        LINE
    );
    // Few bytes that mean many.
    assert_eq!(reading.read_most(&[0xbe; 11], most), "431");
    assert_eq!(reading.read_most(&[0xbe; 12], most), "EnhanceYourCalm");
}

#[test]
fn memory_has_bounds_and_does_not_grow_when_it_is_warm() {
    let mut reading = Reading::default();
    let large = "x".repeat(3000);
    for nth in 0..1000 {
        // As many as a section of this size may have.
        let section: Vec<u8> =
            (0..10).flat_map(|line| kept(&format!("name-{nth}-{line}"), &large)).collect();
        assert_eq!(reading.read(&section).lines().count(), 10);
        assert!(reading.table.measures()[2] <= 128 * 1024, "{:?}", reading.table.measures());
    }
    let section: Vec<u8> = (0..10).flat_map(|line| kept("a-name", &line.to_string())).collect();
    let mut warm = |times| {
        (0..times).for_each(|_| drop(reading.read(&section)));
        (reading.table.measures(), reading.room.capacities())
    };
    assert_eq!(warm(1000), warm(1000));
    assert!(reading.table.measures()[2] <= 16 * 1024);
}

/// The table as the RFC has it: a list of lines.
#[derive(Default)]
struct Twin {
    lines: VecDeque<(String, String)>,
    most: usize,
}

impl Twin {
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
fn a_table_of_bytes_is_a_list_of_lines() {
    let (mut reading, mut twin) =
        (Reading::default(), Twin { most: MAX_TABLE_SIZE, ..Twin::default() });
    // A generator with a long period, so that each run does the same.
    let mut state: u32 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..3000 {
        let (mut section, mut expected) = (Vec::new(), String::new());
        if random(10) == 0 {
            twin.most = random(MAX_TABLE_SIZE + 1);
            twin.shrink();
            section.extend(resized(twin.most));
        }
        for _ in 0..random(12) {
            let most = [4, 40, 400][random(3)];
            let (mut name, value) = (format!("n{}", random(1000)), "v".repeat(random(most)));
            let of_table = (!twin.lines.is_empty()).then(|| random(twin.lines.len()));
            match (random(4), of_table) {
                (0, Some(age)) => {
                    section.extend(indexed(62 + age));
                    let (name, value) = &twin.lines[age];
                    expected += &format!("{name}={value}\n");
                    continue;
                }
                (1, Some(age)) => {
                    name.clone_from(&twin.lines[age].0);
                    integer::write(&mut section, 0x40, 6, 62 + age);
                    integer::write(&mut section, 0, 7, value.len());
                    section.extend_from_slice(value.as_bytes());
                    twin.insert(&name, &value);
                }
                (2, _) => section.extend(literal(0, &name, &value)),
                _ => {
                    section.extend(kept(&name, &value));
                    twin.insert(&name, &value);
                }
            }
            expected += &format!("{name}={value}\n");
        }
        assert_eq!(reading.read(&section), expected);
        let lines: String =
            twin.lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        assert_eq!(reading.remembered(), lines);
    }
}
