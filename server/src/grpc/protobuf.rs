//! Protocol Buffers, as far as our calls need them: read from a slice without a copy,
//! and written behind each other.
//!
//! A message is a row of fields, each with a number and a value, and has no end of its
//! own. What is read here is refused where two readers could understand it differently:
//! fields that may stand there once and do so twice (one reader takes the last of them,
//! another puts them together), a value of another type than the number has, and groups,
//! which nobody writes any more and whose depth would have to be bounded.

/// Why bytes are not the message that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtobufError(pub &'static str);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'b> {
    /// A number of variable length.
    Varint(u64),
    /// Four or eight bytes. None of our messages has such fields, so what they mean is
    /// not asked.
    Fixed,
    /// A text, bytes, or a message.
    Bytes(&'b [u8]),
}

impl<'b> FieldValue<'b> {
    /// The text, bytes or message that it is.
    ///
    /// # Errors
    /// It is a number.
    pub fn bytes(self) -> Result<&'b [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => {
                Err(ProtobufError("a field is of another type than its number says"))
            }
        }
    }
}

/// Reads the fields of a message, one after the other. An error is the last item.
pub struct MessageFields<'b>(&'b [u8]);

impl<'b> MessageFields<'b> {
    /// The fields of `message`.
    #[must_use]
    pub fn of(message: &'b [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, FieldValue<'b>), ProtobufError> {
        const TAG: ProtobufError = ProtobufError("a field has no number, or one that there is not");
        let tag = u32::try_from(self.number()?).map_err(|_| TAG)?;
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.number()?),
            1 => self.bytes(8).map(|_| FieldValue::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| TRUNCATED)?;
                FieldValue::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| FieldValue::Fixed)?,
            _ => return Err(ProtobufError("a field is a group, or of no type that there is")),
        };
        if tag < 8 { Err(TAG) } else { Ok((tag >> 3, value)) }
    }

    /// Seven bits a byte, the lowest first, with the eighth on all but the last.
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
        Err(ProtobufError("a number is longer than 64 bits"))
    }

    fn bytes(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(bytes)
    }
}

const TRUNCATED: ProtobufError = ProtobufError("a field is longer than its message");

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

/// The fields of these numbers, which a message has at most once each; what it has
/// besides is skipped.
///
/// # Errors
/// The bytes are no message, or one of the fields is there twice or of another type.
pub fn singular<const N: usize>(
    message: &[u8],
    numbers: [u32; N],
) -> Result<[Option<&[u8]>; N], ProtobufError> {
    select(message, numbers, |_, _| Ok(()))
}

/// The same, where what the message has besides is not skipped but given to `other`.
///
/// # Errors
/// As above, and what `other` says.
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
            Some(place) if found[place].replace(value.bytes()?).is_none() => {}
            Some(_) => return Err(ProtobufError("a field is there twice that can be there once")),
        }
    }
    Ok(found)
}

/// The fields of this number, which a message has as often as it likes.
pub fn repeated(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], ProtobufError>> {
    MessageFields::of(message).filter_map(move |field| match field {
        Ok((one, value)) => (one == number).then(|| value.bytes()),
        Err(unreadable) => Some(Err(unreadable)),
    })
}

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a number that may be a fraction.
pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a text, or bytes.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_message(out, number, |out| out.extend_from_slice(value));
}

/// Appends what `content` appends, as a message.
pub fn put_message(out: &mut Vec<u8>, number: u32, content: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, u64::from(number) << 3 | 2);
    // Most are short enough that one byte says how long they are; others are moved.
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
    fn every_type_of_field_is_read() {
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
    fn what_ends_in_the_middle_of_a_field_is_refused() {
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
    fn what_is_no_field_is_refused() {
        for tag in [0x0b, 0x0c, 0x0e, 0x0f, 0x02, 0x00] {
            assert!(read(&[tag, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "{tag:#x}");
        }
        // Of 33 bits, and numbers of 65.
        assert!(read(b"\x80\x80\x80\x80\x10\x00").is_err());
        assert!(read(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").is_err());
        assert!(read(b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00").is_err());
        assert_eq!(MessageFields::of(b"\x0b\x0b").count(), 1, "an error is the last item");
    }

    #[test]
    fn what_may_stand_there_once_is_refused_where_it_does_so_twice() {
        assert_eq!(
            singular(b"\x0a\x01a\x1a\x01c\x22\x01d\x22\x01e", [1, 2, 3]),
            Ok([Some(&b"a"[..]), None, Some(b"c")])
        );
        assert!(singular(b"\x0a\x01a\x0a\x01a", [1]).is_err());
        assert!(singular(b"\x08\x01", [1]).is_err(), "a number for a text");
        assert!(singular(b"\x08\x01", [2]).is_ok(), "nobody asks for it");
        assert!(
            singular(b"\x0a\x01a\x0b", [1]).is_err(),
            "what stands behind it has to be read too"
        );
        let all: Result<Vec<_>, _> = repeated(b"\x0a\x01a\x12\x01b\x0a\x01a", 1).collect();
        assert_eq!(all, Ok(vec![&b"a"[..], b"a"]));
    }

    #[test]
    fn what_is_written_is_read_again_however_long_it_is() {
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
