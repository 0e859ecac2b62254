use super::*;
use crate::listen::http3::control;

/// What becomes of a stream that comes in these pieces.
fn read<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    opened: &mut CriticalStreams,
) -> Result<StreamAction, Http3ErrorCode> {
    let mut stream = UnidirectionalStream::default();
    let mut interest = StreamAction::Read;
    for piece in pieces {
        interest = stream.read(piece, opened).map_err(|fault| {
            assert!(fault.ends_connection());
            fault.code
        })?;
    }
    Ok(interest)
}

/// The same for every way to cut it once.
#[track_caller]
fn read_anyhow(stream: &[u8]) -> Result<StreamAction, Http3ErrorCode> {
    let whole = read([stream], &mut CriticalStreams::default());
    for cut in 0..=stream.len() {
        assert_eq!(
            read([&stream[..cut], &stream[cut..]], &mut CriticalStreams::default()),
            whole,
            "cut at {cut}"
        );
    }
    whole
}

fn control() -> Vec<u8> {
    let mut out = Vec::new();
    control::open(&mut out, 1000);
    out
}

#[test]
fn the_streams_that_http_3_needs_are_kept_and_checked() {
    assert_eq!(read_anyhow(&control()), Ok(StreamAction::Read));
    assert_eq!(read_anyhow(&[0, 0x21, 0]), Err(Http3ErrorCode::MissingSettings));
    assert_eq!(read_anyhow(&[2, 0x20]), Ok(StreamAction::Read));
    assert_eq!(read_anyhow(&[2, 0x3f, 0xe1, 0x1f]), Err(Http3ErrorCode::QpackEncoderStreamError));
    assert_eq!(read_anyhow(&[3, 0x44]), Ok(StreamAction::Read));
    assert_eq!(read_anyhow(&[3, 0x84]), Err(Http3ErrorCode::QpackDecoderStreamError));
    assert_eq!(
        read_anyhow(&[0x40, 2, 0x20]),
        Ok(StreamAction::Read),
        "a type may be longer than it need be"
    );
}

#[test]
fn a_client_does_not_push() {
    assert_eq!(read_anyhow(&[1, 0]), Err(Http3ErrorCode::StreamCreationError));
}

#[test]
fn a_stream_of_an_unknown_type_is_of_no_interest() {
    assert_eq!(read_anyhow(&[0x21, 1, 2, 3]), Ok(StreamAction::Stop));
    assert_eq!(
        read_anyhow(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Ok(StreamAction::Stop)
    );
    assert_eq!(
        read_anyhow(&[0xff, 0xff, 0xff]),
        Ok(StreamAction::Read),
        "its type is still to come"
    );
}

#[test]
fn each_stream_that_http_3_needs_is_there_once() {
    let mut opened = CriticalStreams::default();
    for stream in [&control()[..], &[2], &[3]] {
        assert_eq!(read([stream], &mut opened), Ok(StreamAction::Read));
    }
    for kind in [0, 2, 3] {
        assert_eq!(read([&[kind][..]], &mut opened), Err(Http3ErrorCode::StreamCreationError));
    }
    assert_eq!(read([&[0x21][..]], &mut opened), Ok(StreamAction::Stop));
    assert_eq!(read([&[0x21][..]], &mut opened), Ok(StreamAction::Stop));
}

#[test]
fn a_stream_that_the_connection_needs_does_not_end() {
    for (stream, expected) in [
        (&[0][..], Err(Http3ErrorCode::ClosedCriticalStream)),
        (&[2], Err(Http3ErrorCode::ClosedCriticalStream)),
        (&[3], Err(Http3ErrorCode::ClosedCriticalStream)),
        (&[0x21], Ok(())),
        (&[0xc0, 0], Ok(())),
        (&[], Ok(())),
    ] {
        let mut unidirectional = UnidirectionalStream::default();
        unidirectional.read(stream, &mut CriticalStreams::default()).unwrap();
        assert_eq!(unidirectional.end().map_err(|fault| fault.code), expected, "{stream:?}");
    }
}
