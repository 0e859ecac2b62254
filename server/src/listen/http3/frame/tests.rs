use super::*;

const MOST: usize = 1000;

/// A frame of this type.
fn framed(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, kind, payload);
    out
}

/// What is seen of a stream that comes in these pieces and then ends. The parts of a
/// body are put together, as it is all the same where it was cut.
fn seen<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> String {
    let (mut frames, mut seen, mut body) = (RequestFrames::new(MOST), String::new(), Vec::new());
    for mut piece in pieces {
        loop {
            match frames.next(&mut piece) {
                Ok(None) => break assert!(piece.is_empty(), "everything has been read"),
                Ok(Some(FrameEvent::Headers(section))) => seen += &format!("section {section:?} "),
                Ok(Some(FrameEvent::TooLarge)) => seen += "too large ",
                Ok(Some(FrameEvent::Data(data))) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(data);
                }
                Err(fault) => return format!("{seen}body {body:?} {}", told(fault)),
            }
        }
    }
    let end = frames.end().map_or_else(told, |()| "end".into());
    format!("{seen}body {body:?} {end}")
}

fn told(fault: Http3Error) -> String {
    format!(
        "{:#x} of the {}",
        fault.code.number(),
        if fault.ends_connection() { "connection" } else { "stream" }
    )
}

/// The same for every way to cut it once, and byte by byte.
#[track_caller]
fn seen_anyhow(stream: &[u8]) -> String {
    let whole = seen([stream]);
    for cut in 0..=stream.len() {
        assert_eq!(seen([&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
    }
    assert_eq!(seen(stream.chunks(1)), whole, "byte by byte");
    whole
}

/// Two bytes as they stand for a request without a body.
const HEAD: [u8; 4] = [0x01, 0x02, 0xaa, 0xbb];
const UNEXPECTED: &str = "0x105 of the connection";

#[test]
fn a_request_is_a_field_section_a_body_and_trailers() {
    assert_eq!(seen_anyhow(&HEAD), "section [170, 187] body [] end");
    let with_body =
        [&HEAD[..], &framed(DATA, b"\x01\x02"), &framed(DATA, b""), &framed(DATA, b"\x03")]
            .concat();
    assert_eq!(seen_anyhow(&with_body), "section [170, 187] body [1, 2, 3] end");
    let with_trailers = [&with_body[..], &framed(HEADERS, &[7; 100])].concat();
    assert_eq!(seen_anyhow(&with_trailers), "section [170, 187] body [1, 2, 3] end");
    assert_eq!(seen_anyhow(&[HEAD, HEAD].concat()), "section [170, 187] body [] end");
    assert_eq!(seen_anyhow(&[0x01, 0x00]), "section [] body [] end");
}

#[test]
fn frames_of_unknown_types_are_passed_over_wherever_they_are() {
    for kind in [0x21, 0xa, 0xc, 0xe, 0xf, 0x40, 0x21 + 0x1f * 1_000_000, varint::MAX] {
        for payload in [&b""[..], b"x", &[0; 70]] {
            let unknown = framed(kind, payload);
            let parts =
                [&unknown, &HEAD[..], &unknown, &framed(DATA, b"\x01"), &unknown, &HEAD, &unknown];
            assert_eq!(
                seen_anyhow(&parts.concat()),
                "section [170, 187] body [1] end",
                "{kind:#x}"
            );
        }
    }
}

#[test]
fn a_whole_field_section_is_lent_and_not_copied() {
    let mut frames = RequestFrames::new(MOST);
    let mut bytes = &HEAD[..];
    let Ok(Some(FrameEvent::Headers(section))) = frames.next(&mut bytes) else {
        panic!("it is whole")
    };
    assert_eq!(section.as_ptr(), HEAD[2..].as_ptr());
    assert_eq!(frames.section.capacity(), 0);
}

#[test]
fn frames_of_other_streams_and_of_other_versions_are_unexpected_wherever_they_are() {
    for kind in [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd] {
        let frame = framed(kind, b"");
        assert_eq!(seen_anyhow(&frame), format!("body [] {UNEXPECTED}"), "{kind:#x}");
        assert_eq!(
            seen_anyhow(&[&HEAD[..], &frame].concat()),
            format!("section [170, 187] body [] {UNEXPECTED}")
        );
        assert_eq!(
            seen_anyhow(&[&HEAD[..], &HEAD, &frame].concat()),
            format!("section [170, 187] body [] {UNEXPECTED}")
        );
    }
}

#[test]
fn frames_in_another_order_are_unexpected() {
    let data = framed(DATA, b"\x01");
    assert_eq!(seen_anyhow(&data), format!("body [] {UNEXPECTED}"));
    assert_eq!(
        seen_anyhow(&[&HEAD[..], &HEAD, &data].concat()),
        format!("section [170, 187] body [] {UNEXPECTED}")
    );
    assert_eq!(
        seen_anyhow(&[HEAD, HEAD, HEAD].concat()),
        format!("section [170, 187] body [] {UNEXPECTED}")
    );
    assert_eq!(
        seen_anyhow(&[&HEAD[..], &data, &HEAD, &data].concat()),
        format!("section [170, 187] body [1] {UNEXPECTED}")
    );
}

#[test]
fn a_stream_that_ends_within_a_frame_is_no_request() {
    let whole = [&HEAD[..], &framed(DATA, b"\x01\x02"), &framed(HEADERS, b"\x03")].concat();
    let ends = [HEAD.len(), HEAD.len() + 4, whole.len()];
    for part in 1..=whole.len() {
        let seen = seen_anyhow(&whole[..part]);
        let expected = if ends.contains(&part) { "end" } else { "0x106 of the connection" };
        assert!(seen.ends_with(expected), "{part}: {seen}");
    }
    for unknown in [framed(0x21, b"")[..1].to_vec(), framed(0x21, b"12")[..3].to_vec()] {
        assert!(seen_anyhow(&unknown).ends_with("0x106 of the connection"));
    }
}

#[test]
fn a_stream_that_ends_before_its_request_is_incomplete() {
    assert_eq!(seen_anyhow(&[]), "body [] 0x10d of the stream");
    assert_eq!(seen_anyhow(&framed(0x21, b"grease")), "body [] 0x10d of the stream");
}

#[test]
fn a_field_section_that_is_too_large_is_told_at_once_and_passed_over() {
    let section = |length| framed(HEADERS, &vec![1; length]);
    assert!(seen_anyhow(&section(MOST)).starts_with("section [1, 1,"));
    assert_eq!(seen_anyhow(&section(MOST + 1)), "too large body [] end");
    assert_eq!(
        seen_anyhow(&[section(MOST + 1), framed(DATA, b"\x01")].concat()),
        "too large body [1] end"
    );
    let with_trailers = [&HEAD[..], &section(MOST + 1)].concat();
    assert_eq!(seen_anyhow(&with_trailers), "section [170, 187] too large body [] end");
    // Before a byte of it has come.
    assert_eq!(seen([&section(MOST + 1)[..3]]), "too large body [] 0x106 of the connection");
}

#[test]
fn a_frame_that_says_it_is_2_to_the_61_bytes_long_is_kept_nowhere() {
    for kind in [DATA, HEADERS, 0x21] {
        let mut frames = RequestFrames::new(MOST);
        assert!(frames.next(&mut &HEAD[..]).unwrap().is_some());
        let mut header = Vec::new();
        varint::write(&mut header, kind);
        varint::write(&mut header, 1 << 61);
        let mut header = &header[..];
        while frames.next(&mut header).unwrap().is_some() {}
        for _ in 0..100 {
            let piece = [0; 10_000];
            let mut bytes = &piece[..];
            while let Some(event) = frames.next(&mut bytes).unwrap() {
                assert_eq!(event, FrameEvent::Data(&piece));
            }
            assert!(bytes.is_empty());
        }
        assert_eq!(frames.section.capacity(), 0);
        assert_eq!(frames.end(), Err(TRUNCATED));
    }
    let mut frames = RequestFrames::new(MOST);
    let mut announced = &[0x01, 0x43, 0xe8, 0x00][..];
    assert_eq!(frames.next(&mut announced), Ok(None));
    assert!(frames.section.capacity() < 100, "nothing is reserved for what is only announced");
}

#[test]
fn the_frames_that_we_send_are_read_as_they_were_meant() {
    for length in [0, 1, 63, 64, 16_383, 16_384, 70_000] {
        let mut out = b"before".to_vec();
        headers(&mut out, |out| out.extend_from_slice(&vec![7; length]));
        data(&mut out, length);
        let stream = [&out[6..], &vec![9; length]].concat();
        let mut bytes = &stream[..];
        let mut frames = RequestFrames::new(100_000);
        assert_eq!(frames.next(&mut bytes), Ok(Some(FrameEvent::Headers(&vec![7; length]))));
        let body = vec![9; length];
        assert_eq!(frames.next(&mut bytes), Ok((length > 0).then_some(FrameEvent::Data(&body))));
        assert_eq!(frames.next(&mut bytes), Ok(None));
        assert_eq!(frames.end(), Ok(()));
        assert!(out.starts_with(b"before"));
    }
    let mut out = Vec::new();
    goaway(&mut out, 4);
    assert_eq!(out, [0x7, 1, 4]);
    goaway(&mut out, 400);
    assert_eq!(out[3..], [0x7, 2, 0x41, 0x90]);
}
