//! Frames and messages of SPOP, compared with an encoding that shares no code with ours.

use countersign_front::spop::{
    frame::{FrameIds, SpopFrame, put_frame},
    value::{PayloadReader, put_integer},
};
use countersign_server::auth::spop::SpopRequest;
use countersign_tests::spop::{self, CheckMessage};
use proptest::prelude::*;

/// Integers of every length.
fn integer() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

proptest! {
    #[test]
    fn integers_are_encoded_alike(number in integer()) {
        let mut encoded = Vec::new();
        put_integer(&mut encoded, number);
        prop_assert_eq!(&encoded, &spop::varint(number));
        let mut reader = PayloadReader::new(&encoded);
        prop_assert_eq!(reader.integer(), Ok(number));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn frames_are_delimited_alike(
        frames in prop::collection::vec(
            (1..200u8, integer(), integer(), prop::collection::vec(any::<u8>(), 0..300)),
            0..8,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        for (kind, stream, frame, payload) in &frames {
            let ids = FrameIds { stream: *stream, frame: *frame };
            put_frame(&mut bytes, *kind, ids, |out| out.extend_from_slice(payload));
        }
        let (mut ours, mut theirs) = (&bytes[..cut.index(bytes.len() + 1)], &bytes[..]);
        while let Some(frame) = SpopFrame::take(&mut ours, 1000).unwrap() {
            let (expected, length) = spop::SpopFrame::read(theirs).unwrap();
            theirs = &theirs[length..];
            prop_assert_eq!(frame.kind, expected.kind);
            prop_assert_eq!((frame.ids.stream, frame.ids.frame), expected.ids);
            prop_assert_eq!(frame.payload, expected.payload);
        }
    }

    #[test]
    fn checks_with_any_changed_byte_are_judged_alike(
        lines in prop::collection::vec(("[a-zA-Z-]{1,12}", "[ -~]{0,40}"), 0..6),
        index in any::<prop::sample::Index>(),
        flip in any::<u8>(),
    ) {
        let lines: Vec<_> =
            lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut payload = CheckMessage::of(&lines).payload();
        prop_assert!(spop::is_check(&payload));
        let index = index.index(payload.len());
        payload[index] ^= flip;
        prop_assert_eq!(SpopRequest::read(&payload).is_ok(), spop::is_check(&payload));
    }

    #[test]
    fn any_bytes_are_judged_alike(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(SpopRequest::read(&payload).is_ok(), spop::is_check(&payload));
    }
}
