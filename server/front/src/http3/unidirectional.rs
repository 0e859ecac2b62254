//! The unidirectional streams of a client (RFC 9114 section 6.2), by stream type.

use super::{
    control::{CONTROL, ControlStream},
    error::{Http3Error, Http3ErrorCode},
    qpack::{DecoderStream, check_encoder_stream},
    varint::{self, PartialBuffer},
};

/// A unidirectional stream, parsed incrementally.
#[derive(Debug)]
pub struct UnidirectionalStream(UnidirectionalKind);

#[derive(Debug)]
enum UnidirectionalKind {
    /// The stream type is incomplete.
    Untyped(PartialBuffer<8>),
    Control(Box<ControlStream>),
    QpackEncoder,
    QpackDecoder(DecoderStream),
    /// An unknown stream type.
    Unknown,
}

/// The critical streams that a client has opened. There may be one of each type.
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalStreams(u8);

/// The action to take with a unidirectional stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamAction {
    /// Go on reading.
    Read,
    /// Stop it with `H3_STREAM_CREATION_ERROR`: its type is unknown, so its data is of no use.
    Stop,
}

impl Default for UnidirectionalStream {
    fn default() -> Self {
        Self(UnidirectionalKind::Untyped(PartialBuffer::EMPTY))
    }
}

impl UnidirectionalStream {
    /// Validates received data. `opened` are the critical streams of the connection.
    ///
    /// # Errors
    /// The stream is invalid, which closes the connection.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        opened: &mut CriticalStreams,
    ) -> Result<StreamAction, Http3Error> {
        if let UnidirectionalKind::Untyped(partial) = &mut self.0 {
            let Some(kind) = partial.complete(&mut bytes, varint::read) else {
                return Ok(StreamAction::Read);
            };
            self.0 = opened.open(kind)?;
        }
        match &mut self.0 {
            UnidirectionalKind::Control(control) => control.read(bytes)?,
            UnidirectionalKind::QpackEncoder => check_encoder_stream(bytes)?,
            UnidirectionalKind::QpackDecoder(decoder) => decoder.check(bytes)?,
            UnidirectionalKind::Untyped(_) | UnidirectionalKind::Unknown => {
                return Ok(StreamAction::Stop);
            }
        }
        Ok(StreamAction::Read)
    }

    /// Checks that the stream may end or be reset.
    ///
    /// # Errors
    /// It is a critical stream.
    pub const fn end(&self) -> Result<(), Http3Error> {
        match self.0 {
            UnidirectionalKind::Untyped(_) | UnidirectionalKind::Unknown => Ok(()),
            _ => Err(Http3Error::new(
                Http3ErrorCode::ClosedCriticalStream,
                "a critical stream was closed",
            )),
        }
    }
}

impl CriticalStreams {
    /// Registers a stream of this type.
    fn open(&mut self, kind: u64) -> Result<UnidirectionalKind, Http3Error> {
        const PUSH: u64 = 0x1;
        const QPACK_ENCODER: u64 = 0x2;
        const QPACK_DECODER: u64 = 0x3;
        let (bit, kind) = match kind {
            CONTROL => (1, UnidirectionalKind::Control(Box::default())),
            QPACK_ENCODER => (2, UnidirectionalKind::QpackEncoder),
            QPACK_DECODER => (4, UnidirectionalKind::QpackDecoder(DecoderStream::default())),
            PUSH => {
                return Err(Http3Error::new(
                    Http3ErrorCode::StreamCreationError,
                    "a client pushes",
                ));
            }
            _ => return Ok(UnidirectionalKind::Unknown),
        };
        if self.0 & bit != 0 {
            return Err(Http3Error::new(
                Http3ErrorCode::StreamCreationError,
                "a critical stream was opened twice",
            ));
        }
        self.0 |= bit;
        Ok(kind)
    }
}

#[cfg(test)]
mod tests;
