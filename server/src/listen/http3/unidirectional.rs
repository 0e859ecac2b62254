//! The unidirectional streams of a client (RFC 9114 section 6.2), each by its type.

use super::{
    control::{CONTROL, ControlStream},
    fault::{Http3Error, Http3ErrorCode},
    qpack::{DecoderStream, check_encoder_stream},
    varint::{self, PartialBuffer},
};

/// A stream of the client, in whatever pieces it comes.
#[derive(Debug)]
pub struct UnidirectionalStream(UnidirectionalKind);

#[derive(Debug)]
enum UnidirectionalKind {
    /// Its type has not come.
    Untyped(PartialBuffer<8>),
    Control(Box<ControlStream>),
    QpackEncoder,
    QpackDecoder(DecoderStream),
    /// Of a type that we do not know.
    Unknown,
}

/// Which streams that are there once only a client has opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalStreams(u8);

/// Whether a stream is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamAction {
    /// It is.
    Read,
    /// It is to be stopped, by `H3_STREAM_CREATION_ERROR`: nothing that comes is of use.
    Stop,
}

impl Default for UnidirectionalStream {
    fn default() -> Self {
        Self(UnidirectionalKind::Untyped(PartialBuffer::EMPTY))
    }
}

impl UnidirectionalStream {
    /// Checks what has come on a connection with these streams.
    ///
    /// # Errors
    /// A client does not send that.
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

    /// Whether the stream may end, or be reset.
    ///
    /// # Errors
    /// It lasts as long as the connection.
    pub const fn end(&self) -> Result<(), Http3Error> {
        match self.0 {
            UnidirectionalKind::Untyped(_) | UnidirectionalKind::Unknown => Ok(()),
            _ => Err(Http3Error::new(
                Http3ErrorCode::ClosedCriticalStream,
                "a stream ended that the connection needs",
            )),
        }
    }
}

impl CriticalStreams {
    /// A stream of this type begins.
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
                "a stream was opened twice that is there once",
            ));
        }
        self.0 |= bit;
        Ok(kind)
    }
}

#[cfg(test)]
mod tests;
