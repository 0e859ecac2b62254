//! The subset of Protocol Buffers that the gRPC methods need: reading from a slice without copies,
//! and writing to a buffer.
//!
//! A message is a sequence of fields, each with a number and a value, without an end marker. The
//! reader rejects what two readers could interpret differently. That is a duplicate of a singular
//! field (one reader takes the last, another merges them), and a value whose wire type does not
//! match its field. It also rejects groups, which are obsolete and whose nesting would have to be
//! bounded.

/// Error of parsing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtobufError(pub &'static str);

/// The value of a field, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'b> {
    /// A varint.
    Varint(u64),
    /// Four or eight bytes. No message here has such fields, so the value is dropped.
    Fixed,
    /// A string, bytes, or an embedded message.
    Bytes(&'b [u8]),
}

impl<'b> FieldValue<'b> {
    /// Returns the length-delimited value.
    ///
    /// # Errors
    /// The value has another wire type.
    pub fn bytes(self) -> Result<&'b [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => Err(ProtobufError("a field has the wrong wire type")),
        }
    }
}

/// Iterates over the fields of a message. After an error, the iteration ends.
pub struct MessageFields<'b>(&'b [u8]);

impl<'b> MessageFields<'b> {
    /// The fields of `message`.
    #[must_use]
    pub fn of(message: &'b [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, FieldValue<'b>), ProtobufError> {
        const TAG: ProtobufError = ProtobufError("invalid field number");
        let tag = u32::try_from(self.number()?).map_err(|_| TAG)?;
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.number()?),
            1 => self.bytes(8).map(|_| FieldValue::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| TRUNCATED)?;
                FieldValue::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| FieldValue::Fixed)?,
            _ => return Err(ProtobufError("a field is a group, or its wire type is unknown")),
        };
        if tag < 8 { Err(TAG) } else { Ok((tag >> 3, value)) }
    }

    /// Reads a varint: seven bits per byte, least significant first, with the top bit set on all
    /// but the last byte.
    fn number(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(TRUNCATED)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError("a varint exceeds 64 bits"))
    }

    fn bytes(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(bytes)
    }
}

const TRUNCATED: ProtobufError = ProtobufError("a field exceeds its message");

impl<'b> Iterator for MessageFields<'b> {
    type Item = Result<(u32, FieldValue<'b>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Returns the singular fields with these numbers. Other fields are skipped.
///
/// # Errors
/// The message is malformed, or one of the fields is duplicated or of another wire type.
pub fn singular<const N: usize>(
    message: &[u8],
    numbers: [u32; N],
) -> Result<[Option<&[u8]>; N], ProtobufError> {
    select(message, numbers, |_, _| Ok(()))
}

/// Like [`singular`], but passes other fields to `other`.
///
/// # Errors
/// The same, or an error of `other`.
pub fn select<'b, const N: usize>(
    message: &'b [u8],
    numbers: [u32; N],
    mut other: impl FnMut(u32, FieldValue<'b>) -> Result<(), ProtobufError>,
) -> Result<[Option<&'b [u8]>; N], ProtobufError> {
    let mut found = [None; N];
    for field in MessageFields::of(message) {
        let (number, value) = field?;
        match numbers.iter().position(|one| *one == number) {
            None => other(number, value)?,
            Some(index) if found[index].replace(value.bytes()?).is_none() => {}
            Some(_) => return Err(ProtobufError("a singular field is duplicated")),
        }
    }
    Ok(found)
}

/// Iterates over the values of a repeated field.
pub fn repeated(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], ProtobufError>> {
    MessageFields::of(message).filter_map(move |field| match field {
        Ok((one, value)) => (one == number).then(|| value.bytes()),
        Err(error) => Some(Err(error)),
    })
}

/// Appends a varint field.
pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a double field.
pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string or bytes field.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_message(out, number, |out| out.extend_from_slice(value));
}

/// Appends an embedded message that `content` writes.
pub fn put_message(out: &mut Vec<u8>, number: u32, content: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, u64::from(number) << 3 | 2);
    // Most messages are short enough for a one-byte length. Longer ones are moved.
    out.push(0);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    match u8::try_from(length) {
        Ok(length @ ..0x80) => out[start - 1] = length,
        _ => {
            put_varint(out, u64::try_from(length).unwrap_or(u64::MAX));
            let bytes = out.len() - start - length;
            out[start..].rotate_right(bytes);
            out.remove(start - 1);
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u32, FieldValue<'_>)>, ProtobufError> {
        MessageFields::of(message).collect()
    }

    #[test]
    fn every_wire_type_is_read() {
        let message = b"\x08\x96\x01\x11abcdefgh\x1a\x03xyz\x25abcd\x2a\x00";
        let fields = [
            (1, FieldValue::Varint(150)),
            (2, FieldValue::Fixed),
            (3, FieldValue::Bytes(b"xyz")),
            (4, FieldValue::Fixed),
            (5, FieldValue::Bytes(b"")),
        ];
        assert_eq!(read(message).unwrap(), fields);
        assert_eq!(read(b"").unwrap(), []);
        let last = [
            0xf8, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x01,
        ];
        assert_eq!(read(&last).unwrap(), [((1 << 29) - 1, FieldValue::Varint(u64::MAX))]);
    }

    #[test]
    fn message_truncated_within_a_field_is_rejected() {
        let message = b"\x08\x96\x01\x11abcdefgh\x1a\x03xyz\x25abcd";
        let ends = [0, 3, 12, 17, 22];
        for length in 0..message.len() {
            assert_eq!(read(&message[..length]).is_ok(), ends.contains(&length), "{length}");
        }
        for length in [&b"\xff\xff\xff\xff\x0f"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert_eq!(read(&[b"\x0a", length, b"x"].concat()), Err(TRUNCATED));
        }
    }

    #[test]
    fn invalid_tags_and_varints_are_rejected() {
        for tag in [0x0b, 0x0c, 0x0e, 0x0f, 0x02, 0x00] {
            assert!(read(&[tag, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "{tag:#x}");
        }
        // A tag of 33 bits, and varints of 65.
        assert!(read(b"\x80\x80\x80\x80\x10\x00").is_err());
        assert!(read(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").is_err());
        assert!(read(b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00").is_err());
        assert_eq!(MessageFields::of(b"\x0b\x0b").count(), 1, "an error ends the iteration");
    }

    #[test]
    fn duplicate_singular_field_is_rejected() {
        assert_eq!(
            singular(b"\x0a\x01a\x1a\x01c\x22\x01d\x22\x01e", [1, 2, 3]),
            Ok([Some(&b"a"[..]), None, Some(b"c")])
        );
        assert!(singular(b"\x0a\x01a\x0a\x01a", [1]).is_err());
        assert!(singular(b"\x08\x01", [1]).is_err(), "a varint for a string");
        assert!(singular(b"\x08\x01", [2]).is_ok(), "a field that is not read");
        assert!(singular(b"\x0a\x01a\x0b", [1]).is_err(), "the rest of the message is parsed, too");
        let all: Result<Vec<_>, _> = repeated(b"\x0a\x01a\x12\x01b\x0a\x01a", 1).collect();
        assert_eq!(all, Ok(vec![&b"a"[..], b"a"]));
    }

    #[test]
    fn written_messages_round_trip() {
        for length in [0, 1, 126, 127, 128, 129, 16_000, 16_383, 16_384, 70_000] {
            let (mut out, content) = (b"before".to_vec(), vec![b'x'; length]);
            put_message(&mut out, 2, |out| {
                put_number(out, 1, 300);
                put_bytes(out, 20, &content);
            });
            let [inner] = singular(&out[6..], [2]).unwrap();
            let fields = read(inner.unwrap()).unwrap();
            assert_eq!(
                fields,
                [(1, FieldValue::Varint(300)), (20, FieldValue::Bytes(&content))],
                "{length}"
            );
        }
        let mut out = Vec::new();
        put_double(&mut out, 2, 1.0);
        assert_eq!(out, b"\x11\0\0\0\0\0\0\xf0\x3f");
    }
}
