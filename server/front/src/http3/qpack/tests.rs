use http::StatusCode;

use super::*;
use crate::{
    RequestLimits,
    fields::{
        integer,
        section::SectionBuffer,
        table::TableMatch,
        test_text::{hex, to_text},
    },
    http3::error::Http3ErrorCode,
};

/// 100 lines beside those of the request line.
const LIMITS: RequestLimits = RequestLimits { head_bytes: 32 * 1024, header_lines: 100 };

/// Decodes a section to text, one line each, or to its error.
fn read(payload: &[u8]) -> String {
    read_up_to(payload, LIMITS.head_bytes)
}

fn read_up_to(payload: &[u8], head_bytes: usize) -> String {
    let limits = RequestLimits { head_bytes, ..LIMITS };
    match super::read(&mut SectionBuffer::default(), payload, &limits) {
        Ok(section) => to_text(section),
        Err(QpackError::TooLarge(bad_request)) => bad_request.status.as_u16().to_string(),
        Err(QpackError::Connection(error)) => {
            assert!(error.ends_connection());
            format!("{:#x}", error.code.number())
        }
    }
}

/// Encodes literal lines with literal names.
fn literal<'l>(lines: impl IntoIterator<Item = (&'l str, &'l [u8])>) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in lines {
        integer::write(&mut out, 0x20, 3, name.len());
        out.extend_from_slice(name.as_bytes());
        integer::write(&mut out, 0, 7, value.len());
        out.extend_from_slice(value);
    }
    out
}

#[test]
fn rfc_9204_b_1_example_decodes() {
    assert_eq!(read(&hex("0000 510b 2f69 6e64 6578 2e68 746d 6c")), ":path=/index.html\n");
}

/// The values are those of the RFC 7541 example; the names are references to the static table of
/// QPACK.
#[test]
fn rfc_7541_c_4_huffman_examples_decode() {
    let payload = hex("0000 d1 d6 c1 50 8c f1e3 c2e5 f23a 6ba0 ab90 f4ff
         5f15 86 a8eb 1064 9cbf
         2f01 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf");
    let expected = ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\ncache-control=no-cache\ncustom-key=custom-value\n";
    assert_eq!(read(&payload), expected);
}

#[test]
fn every_static_entry_round_trips() {
    for (index, (name, value)) in (0..).zip(table::LINES) {
        let mut payload = vec![0, 0];
        integer::write(&mut payload, 0xc0, 6, index);
        assert_eq!(read(&payload), format!("{name}={value}\n"));
        if !name.starts_with(':') {
            let mut written = vec![0, 0];
            field(&mut written, name, value.as_bytes());
            assert_eq!(read(&written), format!("{name}={value}\n"));
            // Only the third entry of this name is not adjacent to the others.
            assert!(written == payload || index == 75, "{name}: {value} is not a static entry");
            assert!(matches!(table::TABLE.find(name, b"no such value"), Some(TableMatch::Name(_))));
        }
    }
    assert_eq!(read(&[0, 0, 0xff, 99 - 63]), "0x200", "index 99 does not exist");
    assert_eq!(read(&[0, 0, 0x5f, 99 - 15, 0]), "0x200", "index 99 does not exist");
}

#[test]
fn every_status_is_encoded_compactly() {
    for status in 100..=599 {
        let mut out = Vec::new();
        super::status(&mut out, StatusCode::from_u16(status).unwrap());
        assert_eq!(read(&out), format!(":status={status}\n"));
        let of_table = table::LINES.contains(&(":status", &status.to_string()));
        let least = if !of_table {
            2 + 2 + 1 + 3
        } else if (24..=28).any(|at| table::LINES[at].1 == status.to_string()) {
            3
        } else {
            4
        };
        assert_eq!(out.len(), least, "{status}");
    }
}

#[test]
fn encoded_sections_round_trip() {
    let value = "v".repeat(300);
    let lines = [
        ("x-auth-user", "someone"),
        ("x", ""),
        ("an-extremely-long-name-that-needs-more-than-one-byte", "1"),
        ("content-type", "application/json"),
        ("content-type", "application/problem+json"),
        ("cache-control", "no-store"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        // Names that hash to the slot of another name, or to none.
        ("ag", ""),
        ("vara", ""),
        ("long", &value),
    ];
    let mut out = Vec::new();
    status(&mut out, StatusCode::OK);
    for (name, value) in lines {
        field(&mut out, name, value.as_bytes());
    }
    let expected: String = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    assert_eq!(read(&out), format!(":status=200\n{expected}"));
    let mut short = Vec::new();
    field(&mut short, "cache-control", b"no-store");
    assert_eq!(short, [0xc0 | 40], "a static entry is one byte");
}

#[test]
fn dynamic_references_are_rejected() {
    for (payload, what) in [
        (&[1, 0][..], "a required insert count"),
        (&[0xff, 0xff], "an incomplete integer"),
        (&[0, 0x80], "a negative base"),
        (&[0, 0x85, 0xd1], "a negative base"),
        (&[0, 0, 0x80], "indexed"),
        (&[0, 0, 0x40, 0], "a dynamic name"),
        (&[0, 0, 0x60, 0], "a dynamic name, never indexed"),
        (&[0, 0, 0x10], "post-base index"),
        (&[0, 0, 0x00, 0], "post-base name"),
        (&[0, 0, 0x08, 0], "post-base name, never indexed"),
    ] {
        assert_eq!(read(payload), "0x200", "{what}");
    }
    assert_eq!(read(&[0, 5, 0xd1]), ":method=GET\n", "a base alone is not a reference");
}

#[test]
fn section_truncated_within_a_line_is_rejected() {
    let whole = hex(
        "0000 d1 510b 2f69 6e64 6578 2e68 746d 6c 2f01 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf ff 00",
    );
    let lines = read(&whole);
    for part in 0..whole.len() {
        let ends_a_line = [2, 3, 16, 36].contains(&part);
        let part = read(&whole[..part]);
        assert!(if ends_a_line { lines.starts_with(&part) } else { part == "0x200" }, "{part}");
    }
    assert_eq!(lines.lines().count(), 4);
}

#[test]
fn string_beyond_the_section_is_rejected() {
    for length in
        ["7f 00", "7f ff7f", "7f ffff ffff ffff ff7f", "7f ffff ffff ffff ffff ffff ffff 00"]
    {
        assert_eq!(read(&hex(&format!("0000 51 {length} 61"))), "0x200", "{length}");
    }
}

#[test]
fn number_of_lines_is_limited() {
    let lines = |count| literal(vec![("a", &b"b"[..]); count]);
    assert_eq!(read(&lines(103)), "a=b\n".repeat(103));
    assert_eq!(read(&lines(104)), "431");
    assert_eq!(read(&lines(24_577)), "431");
    assert_eq!(read(&[&[0, 0][..], &[0xd1; 100_000]].concat()), "431");
}

#[test]
fn cookies_in_several_lines_count_as_one() {
    let lines = |cookies, others| {
        let cookies = vec![("cookie", &b"b=c"[..]); cookies];
        literal(cookies.into_iter().chain(vec![("a", &b"b"[..]); others]))
    };
    assert_eq!(read(&lines(500, 102)).lines().count(), 602);
    assert_eq!(read(&lines(500, 103)), "431");
    assert_eq!(read(&lines(1, 102)).lines().count(), 103);
    assert_eq!(read(&lines(1, 103)), "431");
    // The size still counts each of them: 41 bytes.
    assert_eq!(read(&lines(LIMITS.head_bytes / 41, 0)).lines().count(), LIMITS.head_bytes / 41);
    assert_eq!(read(&lines(LIMITS.head_bytes / 41 + 1, 0)), "431");
}

#[test]
fn section_size_counts_32_bytes_of_overhead_per_line() {
    let payload = literal([("abc", &b"defg"[..]), ("h", b"")]);
    let size = 3 + 4 + 32 + 1 + 32;
    assert_eq!(read_up_to(&payload, size), "abc=defg\nh=\n");
    assert_eq!(read_up_to(&payload, size - 1), "431");
    assert_eq!(read_up_to(&[0, 0, 0xd1], ":methodGET".len() + 32), ":method=GET\n");
    assert_eq!(read_up_to(&[0, 0, 0xd1], ":methodGET".len() + 31), "431");
    // The decoded length counts: twelve bytes, from nine.
    let coded = hex("0000 20 89 25a8 49e9 5bb8 e8b4 bf");
    assert_eq!(read_up_to(&coded, 12 + 32), "=custom-value\n");
    assert_eq!(read_up_to(&coded, 12 + 31), "431");
    // Lines after the limit are not decoded.
    assert_eq!(read_up_to(&[&payload[..], &[0]].concat(), size - 1), "431");
    assert_eq!(read_up_to(&[&payload[..], &[0]].concat(), size), "0x200");
}

#[test]
fn buffer_reuse_leaks_nothing_between_sections() {
    let mut buffer = SectionBuffer::default();
    let long = hex("0000 2f01 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf");
    assert_eq!(
        to_text(super::read(&mut buffer, &long, &LIMITS).unwrap()),
        "custom-key=custom-value\n"
    );
    assert_eq!(
        to_text(super::read(&mut buffer, &hex("0000 5f15 86 a8eb 1064 9cbf"), &LIMITS).unwrap()),
        "cache-control=no-cache\n"
    );
    assert!(super::read(&mut buffer, &[0, 0, 0x80], &LIMITS).is_err());
    let nothing = super::read(&mut buffer, &[0, 0], &LIMITS).unwrap();
    assert!(nothing.is_empty() && nothing.lines().len() == 0);
}

#[test]
fn warm_buffer_does_not_allocate() {
    let payload =
        hex(&format!("0000 {}", "2f01 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf".repeat(50)));
    let mut buffer = SectionBuffer::default();
    let capacities_after = |buffer: &mut SectionBuffer| {
        assert_eq!(super::read(buffer, &payload, &LIMITS).unwrap().len(), 50);
        buffer.capacities()
    };
    let warm = capacities_after(&mut buffer);
    assert_eq!(capacities_after(&mut buffer), warm);
}

#[test]
fn lines_are_found_from_the_end() {
    let payload = literal([("a", &b"1"[..]), ("b", b"2"), ("a", b"3"), ("ab", b"4")]);
    let mut buffer = SectionBuffer::default();
    let section = super::read(&mut buffer, &payload, &LIMITS).unwrap();
    assert_eq!([0, 1, 2].map(|nth| section.line(b"a", nth)), [Some(&b"3"[..]), Some(b"1"), None]);
    assert_eq!((section.len(), section.line(b"c", 0)), (4, None));
}

#[test]
fn encoder_stream_allows_only_capacity_zero() {
    assert_eq!(check_encoder_stream(&[]), Ok(()));
    assert_eq!(check_encoder_stream(&[0x20, 0x20]), Ok(()));
    for byte in (0..=255).filter(|byte| *byte != 0x20) {
        let error = check_encoder_stream(&[0x20, byte]).unwrap_err();
        assert!(error.code == Http3ErrorCode::QpackEncoderStreamError && error.ends_connection());
    }
}

#[test]
fn decoder_stream_allows_only_cancellation() {
    let check = |bytes: &[u8]| DecoderStream::default().check(bytes).map_err(|error| error.code);
    let cancellations = hex("40 7e 7f00 7f8000 7fffffffffffffffff7f 41");
    for split in 0..=cancellations.len() {
        let mut stream = DecoderStream::default();
        assert_eq!(stream.check(&cancellations[..split]), Ok(()));
        assert_eq!(stream.check(&cancellations[split..]), Ok(()));
        // Outside an integer.
        assert_eq!(
            stream.check(&[0x80]).map_err(|error| error.code),
            Err(Http3ErrorCode::QpackDecoderStreamError)
        );
    }
    for byte in (0x00..=0x3f).chain(0x80..=0xff) {
        assert_eq!(check(&[0x40, byte]), Err(Http3ErrorCode::QpackDecoderStreamError), "{byte:#x}");
    }
    assert_eq!(check(&[&[0x7f][..], &[0x80; 8], &[0]].concat()), Ok(()));
    assert_eq!(
        check(&[&[0x7f][..], &[0x80; 9]].concat()),
        Err(Http3ErrorCode::QpackDecoderStreamError),
        "an endless integer"
    );
}
