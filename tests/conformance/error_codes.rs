//! Error codes of RFC 9113 section 7, RFC 9114 section 8.1 and RFC 9204 section 6, as h2 and h3
//! have them.

use countersign_front::{
    http2::error::Http2ErrorCode as Http2, http3::error::Http3ErrorCode as Http3,
};
use h2::Reason;
use h3::error::Code;

#[test]
fn http2_error_codes_are_those_of_h2() {
    for (ours, theirs) in [
        (Http2::NoError, Reason::NO_ERROR),
        (Http2::ProtocolError, Reason::PROTOCOL_ERROR),
        (Http2::FlowControlError, Reason::FLOW_CONTROL_ERROR),
        (Http2::StreamClosed, Reason::STREAM_CLOSED),
        (Http2::FrameSizeError, Reason::FRAME_SIZE_ERROR),
        (Http2::RefusedStream, Reason::REFUSED_STREAM),
        (Http2::Cancel, Reason::CANCEL),
        (Http2::CompressionError, Reason::COMPRESSION_ERROR),
        (Http2::EnhanceYourCalm, Reason::ENHANCE_YOUR_CALM),
    ] {
        assert_eq!(ours.number(), u32::from(theirs), "{ours:?}");
    }
}

#[test]
fn http3_error_codes_are_those_of_h3() {
    for (ours, theirs) in [
        (Http3::NoError, Code::H3_NO_ERROR),
        (Http3::GeneralProtocolError, Code::H3_GENERAL_PROTOCOL_ERROR),
        (Http3::InternalError, Code::H3_INTERNAL_ERROR),
        (Http3::StreamCreationError, Code::H3_STREAM_CREATION_ERROR),
        (Http3::ClosedCriticalStream, Code::H3_CLOSED_CRITICAL_STREAM),
        (Http3::FrameUnexpected, Code::H3_FRAME_UNEXPECTED),
        (Http3::FrameError, Code::H3_FRAME_ERROR),
        (Http3::ExcessiveLoad, Code::H3_EXCESSIVE_LOAD),
        (Http3::IdError, Code::H3_ID_ERROR),
        (Http3::SettingsError, Code::H3_SETTINGS_ERROR),
        (Http3::MissingSettings, Code::H3_MISSING_SETTINGS),
        (Http3::RequestRejected, Code::H3_REQUEST_REJECTED),
        (Http3::RequestCancelled, Code::H3_REQUEST_CANCELLED),
        (Http3::RequestIncomplete, Code::H3_REQUEST_INCOMPLETE),
        (Http3::MessageError, Code::H3_MESSAGE_ERROR),
        (Http3::ConnectError, Code::H3_CONNECT_ERROR),
        (Http3::VersionFallback, Code::H3_VERSION_FALLBACK),
        (Http3::QpackDecompressionFailed, Code::QPACK_DECOMPRESSION_FAILED),
        (Http3::QpackEncoderStreamError, Code::QPACK_ENCODER_STREAM_ERROR),
        (Http3::QpackDecoderStreamError, Code::QPACK_DECODER_STREAM_ERROR),
    ] {
        assert_eq!(ours.number(), theirs.value(), "{ours:?}");
    }
}
