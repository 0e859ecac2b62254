//! The unidirectional streams of a client (RFC 9114 section 6.2), each by its type.

use super::{
    control::{CONTROL, Control},
    fault::{Code, Fault},
    qpack::{DecoderStream, check_encoder},
    varint::{self, Partial},
};

/// A stream of the client, in whatever pieces it comes.
#[derive(Debug)]
pub struct Unidirectional(Kind);

#[derive(Debug)]
enum Kind {
    /// Its type has not come.
    Unknown(Partial<8>),
    Control(Box<Control>),
    QpackEncoder,
    QpackDecoder(DecoderStream),
    /// Of a type that we do not know.
    Strange,
}

/// Which streams that are there once only a client has opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opened(u8);

/// Whether a stream is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// It is.
    Kept,
    /// It is to be stopped, by `H3_STREAM_CREATION_ERROR`: nothing that comes is of use.
    None,
}

impl Default for Unidirectional {
    fn default() -> Self {
        Self(Kind::Unknown(Partial::NOTHING))
    }
}

impl Unidirectional {
    /// Checks what has come on a connection with these streams.
    ///
    /// # Errors
    /// A client does not send that.
    pub fn read(&mut self, mut bytes: &[u8], opened: &mut Opened) -> Result<Interest, Fault> {
        if let Kind::Unknown(partial) = &mut self.0 {
            let Some(kind) = partial.complete(&mut bytes, varint::read) else {
                return Ok(Interest::Kept);
            };
            self.0 = opened.open(kind)?;
        }
        match &mut self.0 {
            Kind::Control(control) => control.read(bytes)?,
            Kind::QpackEncoder => check_encoder(bytes)?,
            Kind::QpackDecoder(decoder) => decoder.check(bytes)?,
            Kind::Unknown(_) | Kind::Strange => return Ok(Interest::None),
        }
        Ok(Interest::Kept)
    }

    /// Whether the stream may end, or be reset.
    ///
    /// # Errors
    /// It lasts as long as the connection.
    pub const fn end(&self) -> Result<(), Fault> {
        match self.0 {
            Kind::Unknown(_) | Kind::Strange => Ok(()),
            _ => Err(Fault::new(
                Code::ClosedCriticalStream,
                "a stream ended that the connection needs",
            )),
        }
    }
}

impl Opened {
    /// A stream of this type begins.
    fn open(&mut self, kind: u64) -> Result<Kind, Fault> {
        const PUSH: u64 = 0x1;
        const QPACK_ENCODER: u64 = 0x2;
        const QPACK_DECODER: u64 = 0x3;
        let (bit, kind) = match kind {
            CONTROL => (1, Kind::Control(Box::default())),
            QPACK_ENCODER => (2, Kind::QpackEncoder),
            QPACK_DECODER => (4, Kind::QpackDecoder(DecoderStream::default())),
            PUSH => return Err(Fault::new(Code::StreamCreationError, "a client pushes")),
            _ => return Ok(Kind::Strange),
        };
        if self.0 & bit != 0 {
            return Err(Fault::new(
                Code::StreamCreationError,
                "a stream was opened twice that is there once",
            ));
        }
        self.0 |= bit;
        Ok(kind)
    }
}

#[cfg(test)]
mod tests;
