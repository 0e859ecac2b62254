use super::*;
use crate::http3::control;

/// Reads a stream received in pieces, and returns the last action.
fn read<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    opened: &mut CriticalStreams,
) -> Result<StreamAction, Http3ErrorCode> {
    let mut stream = UnidirectionalStream::default();
    let mut action = StreamAction::Read;
    for piece in pieces {
        action = stream.read(piece, opened).map_err(|error| {
            assert!(error.ends_connection());
            error.code
        })?;
    }
    Ok(action)
}

/// The same, after checking that the result does not depend on how the data is split.
#[track_caller]
fn read_split(stream: &[u8]) -> Result<StreamAction, Http3ErrorCode> {
    let whole = read([stream], &mut CriticalStreams::default());
    for cut in 0..=stream.len() {
        assert_eq!(
            read([&stream[..cut], &stream[cut..]], &mut CriticalStreams::default()),
            whole,
            "split at {cut}"
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
fn critical_streams_are_validated() {
    assert_eq!(read_split(&control()), Ok(StreamAction::Read));
    assert_eq!(read_split(&[0, 0x21, 0]), Err(Http3ErrorCode::MissingSettings));
    assert_eq!(read_split(&[2, 0x20]), Ok(StreamAction::Read));
    assert_eq!(read_split(&[2, 0x3f, 0xe1, 0x1f]), Err(Http3ErrorCode::QpackEncoderStreamError));
    assert_eq!(read_split(&[3, 0x44]), Ok(StreamAction::Read));
    assert_eq!(read_split(&[3, 0x84]), Err(Http3ErrorCode::QpackDecoderStreamError));
    assert_eq!(
        read_split(&[0x40, 2, 0x20]),
        Ok(StreamAction::Read),
        "a stream type in a longer encoding than needed"
    );
}

#[test]
fn push_stream_is_rejected() {
    assert_eq!(read_split(&[1, 0]), Err(Http3ErrorCode::StreamCreationError));
}

#[test]
fn unknown_stream_type_is_stopped() {
    assert_eq!(read_split(&[0x21, 1, 2, 3]), Ok(StreamAction::Stop));
    assert_eq!(
        read_split(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Ok(StreamAction::Stop)
    );
    assert_eq!(
        read_split(&[0xff, 0xff, 0xff]),
        Ok(StreamAction::Read),
        "the stream type is incomplete"
    );
}

#[test]
fn critical_streams_are_opened_once() {
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
fn critical_streams_may_not_close() {
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
        assert_eq!(unidirectional.end().map_err(|error| error.code), expected, "{stream:?}");
    }
}
