//! Claims that applications receive in HTTP headers.

use core::fmt::{self, Write};

use crate::{
    claim_path::ClaimPath,
    escape,
    limits::MAX_EXPORTED_BYTES,
    reject::Reject,
    token::{ClaimNodes, Value, WrittenNumbers},
};

/// A claim that applications receive in a header.
///
/// Its value is visible ASCII. All other characters, and `%`, are percent-encoded. A claim that is
/// absent or `null` has an empty value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedClaim {
    /// The path of the claim.
    pub path: ClaimPath,
    /// The form of the value.
    pub format: ExportFormat,
}

/// The form in which a claim is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A string as it is, a number as it was signed, a boolean as in JSON, and the elements of a
    /// list separated by commas, with commas in them encoded. An object, and a list with a list or
    /// an object in it, have no such form: the value is empty.
    Text,
    /// A value of any type in JSON. Commas are not encoded.
    Json,
    /// The type of the value in one letter: `s` for a string, followed by the string, `o` for an
    /// object, `n` for `null`, and `x` for any other. An absent claim has no type, so its value is
    /// empty.
    Typed,
}

/// Buffer for the exported claims of one token.
pub(crate) struct ExportedValues {
    /// All values, one after the other.
    pub(crate) text: Vec<u8>,
    /// The end of each value.
    pub(crate) ends: Vec<u16>,
}

impl Default for ExportedValues {
    /// Allocates the buffer for the longest text, of which every byte is encoded.
    fn default() -> Self {
        Self { text: Vec::with_capacity(MAX_EXPORTED_BYTES.saturating_mul(4)), ends: Vec::new() }
    }
}

impl ExportedValues {
    /// Writes the values of these claims. `numbers` are those of the same document.
    ///
    /// # Errors
    /// [`Reject::ClaimsTooLarge`] if they are longer than [`MAX_EXPORTED_BYTES`] in all.
    pub(crate) fn write(
        &mut self,
        exported: &[ExportedClaim],
        claims: &ClaimNodes<'_, '_>,
        mut numbers: WrittenNumbers<'_>,
    ) -> Result<(), Reject> {
        self.text.clear();
        self.ends.clear();
        for claim in exported {
            if let Some(value) = claim.path.find(claims) {
                let written = claim.format.write(value, &mut numbers, &mut self.text);
                written.map_err(|_| Reject::ClaimsTooLarge)?;
            }
            let end = Some(self.text.len()).filter(|end| *end <= MAX_EXPORTED_BYTES);
            let end = end.and_then(|end| u16::try_from(end).ok());
            self.ends.push(end.ok_or(Reject::ClaimsTooLarge)?);
        }
        Ok(())
    }
}

impl ExportFormat {
    fn write(
        self,
        value: Value<'_, '_>,
        numbers: &mut WrittenNumbers<'_>,
        out: &mut Vec<u8>,
    ) -> fmt::Result {
        let mut out = EscapedWriter { out, numbers, list: self == Self::Json };
        match (self, value.elements()) {
            (Self::Typed, _) => write_typed(value, &mut out),
            _ if value.is_null() => Ok(()),
            (Self::Json, _) => write_json(value, &mut out),
            (Self::Text, None) => write_scalar(value, &mut out),
            (Self::Text, Some(elements)) => write_list(elements, &mut out),
        }
    }
}

/// Writes the elements of a list, unless one has no text.
fn write_list<'d, 'b: 'd>(
    elements: impl Iterator<Item = Value<'d, 'b>>,
    out: &mut EscapedWriter<'_, '_>,
) -> fmt::Result {
    let start = out.out.len();
    for (index, element) in elements.enumerate() {
        if element.elements().is_some() || element.members().is_some() {
            out.out.truncate(start);
            return Ok(());
        }
        if index > 0 {
            out.out.push(b',');
        }
        if !element.is_null() {
            write_scalar(element, out)?;
        }
    }
    Ok(())
}

/// Writes the type of a value, and the text of a string.
fn write_typed(value: Value<'_, '_>, out: &mut EscapedWriter<'_, '_>) -> fmt::Result {
    if let Some(text) = value.as_str() {
        out.write_char('s')?;
        return out.write_str(text);
    }
    out.write_char(if value.is_null() {
        'n'
    } else if value.members().is_some() {
        'o'
    } else {
        'x'
    })
}

/// Writes a string, a number or a boolean. An object has no text.
fn write_scalar(value: Value<'_, '_>, out: &mut EscapedWriter<'_, '_>) -> fmt::Result {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.members().is_some() => Ok(()),
        None => write_json(value, out),
    }
}

/// Writes a value in JSON, without white space.
fn write_json(value: Value<'_, '_>, out: &mut EscapedWriter<'_, '_>) -> fmt::Result {
    if let Some(text) = value.as_str() {
        return write_string(text, out);
    }
    if let Some(members) = value.members() {
        out.write_char('{')?;
        for (index, (name, member)) in members.enumerate() {
            out.write_str(if index > 0 { "," } else { "" })?;
            write_string(name, out)?;
            out.write_char(':')?;
            write_json(member, out)?;
        }
        return out.write_char('}');
    }
    if let Some(elements) = value.elements() {
        out.write_char('[')?;
        for (index, element) in elements.enumerate() {
            out.write_str(if index > 0 { "," } else { "" })?;
            write_json(element, out)?;
        }
        return out.write_char(']');
    }
    // A number is written as it was signed: one out of range has another value here.
    let number = value.is_number().then(|| out.numbers.text(value));
    match (value.as_bool(), number) {
        (Some(flag), _) => write!(out, "{flag}"),
        (None, Some(text)) => out.write_str(text.ok_or(fmt::Error)?),
        (None, None) => out.write_str("null"),
    }
}

/// Writes a string in JSON (RFC 8259 section 7).
fn write_string(text: &str, out: &mut EscapedWriter<'_, '_>) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = text;
    let is_special = |character: char| character < ' ' || matches!(character, '"' | '\\');
    while let Some((plain, special)) =
        rest.find(is_special).and_then(|at| rest.split_at_checked(at))
    {
        out.write_str(plain)?;
        let mut characters = special.chars();
        match characters.next() {
            Some(character @ ('"' | '\\')) => write!(out, "\\{character}")?,
            Some(control) => write!(out, "\\u{:04x}", u32::from(control))?,
            None => {}
        }
        rest = characters.as_str();
    }
    out.write_str(rest)?;
    out.write_char('"')
}

/// Percent-encodes a text as it is written, up to [`MAX_EXPORTED_BYTES`].
struct EscapedWriter<'o, 'n> {
    out: &'o mut Vec<u8>,
    numbers: &'o mut WrittenNumbers<'n>,
    /// Whether commas are kept.
    list: bool,
}

impl Write for EscapedWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.out.len().saturating_add(text.len()) > MAX_EXPORTED_BYTES {
            return Err(fmt::Error);
        }
        escape::escape(text, self.list, self.out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::JsonBuffers;

    fn export(format: ExportFormat, value: &str) -> String {
        let mut buffers = JsonBuffers::with_capacity(512);
        let json = format!(r#"{{"c":{value}}}"#);
        let document = buffers.parse(json.as_bytes()).unwrap();
        let numbers = WrittenNumbers::of(&document, json.as_bytes());
        let exported = [ExportedClaim { path: "c".into(), format }];
        let mut values = ExportedValues::default();
        values.write(&exported, &ClaimNodes::find(&document), numbers).unwrap();
        assert_eq!(usize::from(values.ends[0]), values.text.len());
        assert!(values.text.iter().all(u8::is_ascii_graphic), "{value}");
        String::from_utf8(values.text).unwrap()
    }

    #[test]
    fn claim_has_a_text() {
        for (value, text) in [
            (r#""bob@example.com""#, "bob@example.com"),
            (r#""a,b c%20\n""#, "a%2Cb%20c%2520%0A"),
            (r#""é\u0000""#, "%C3%A9%00"),
            (r#""""#, ""),
            ("true", "true"),
            ("7", "7"),
            ("-7", "-7"),
            ("18446744073709551615", "18446744073709551615"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.50", "1.50"),
            ("-1E+400", "-1E+400"),
            ("null", ""),
            (r#"["a","b,c","d e",1,true,2.5]"#, "a,b%2Cc,d%20e,1,true,2.5"),
            (r#"["a"]"#, "a"),
            ("[]", ""),
            (r#"["","a",null]"#, ",a,"),
            (r#"{"a":1}"#, ""),
            (r#"["a",{"b":1}]"#, ""),
            (r#"["a",["b"]]"#, ""),
        ] {
            assert_eq!(export(ExportFormat::Text, value), text, "{value}");
        }
    }

    #[test]
    fn exported_json_is_the_claim() {
        for (value, json) in [
            (r#""bob""#, r#""bob""#),
            (r#""a\"b\\c\nd\u0007/\/""#, r#""a\"b\\c\u000ad\u0007//""#),
            (r#""\u00e9, 100 %""#, r#""%C3%A9,%20100%20%25""#),
            ("true", "true"),
            ("-7", "-7"),
            ("18446744073709551616", "18446744073709551616"),
            ("1.5", "1.5"),
            ("1e400", "1e400"),
            ("null", ""),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            (
                r#"{"a": 1, "b c": [null, {"": [1, 2.5, false]}]}"#,
                r#"{"a":1,"b%20c":[null,{"":[1,2.5,false]}]}"#,
            ),
        ] {
            assert_eq!(export(ExportFormat::Json, value), json, "{value}");
        }
    }

    #[test]
    fn typed_claim_starts_with_its_type() {
        for (value, typed) in [
            (r#""foo""#, "sfoo"),
            (r#""a, b""#, "sa%2C%20b"),
            (r#""""#, "s"),
            (r#""7""#, "s7"),
            ("7", "x"),
            ("true", "x"),
            (r#"["a"]"#, "x"),
            (r#"{"a":1}"#, "o"),
            ("{}", "o"),
            ("null", "n"),
        ] {
            assert_eq!(export(ExportFormat::Typed, value), typed, "{value}");
        }
    }

    #[test]
    fn exported_claims_are_bounded_in_all() {
        let claims = |one: usize, other: usize| {
            format!(r#"{{"a":"{}","b":"{}"}}"#, "x".repeat(one), "é".repeat(other))
        };
        let exported = ["a", "b", "missing"]
            .map(|name| ExportedClaim { path: name.into(), format: ExportFormat::Text });
        let write = |one: usize, other: usize| {
            let mut buffers = JsonBuffers::with_capacity(64);
            let json = claims(one, other);
            let document = buffers.parse(json.as_bytes()).unwrap();
            let mut values = ExportedValues::default();
            let numbers = WrittenNumbers::of(&document, json.as_bytes());
            values.write(&exported, &ClaimNodes::find(&document), numbers).map(|()| values.ends)
        };
        let end = |length: usize| u16::try_from(length).unwrap();
        assert_eq!(write(10, 2), Ok(vec![end(10), end(22), end(22)]));
        assert_eq!(write(MAX_EXPORTED_BYTES, 0), Ok(vec![end(MAX_EXPORTED_BYTES); 3]));
        assert_eq!(
            write(MAX_EXPORTED_BYTES - 6, 1),
            Ok(vec![end(MAX_EXPORTED_BYTES - 6), end(MAX_EXPORTED_BYTES), end(MAX_EXPORTED_BYTES)])
        );
        assert_eq!(write(MAX_EXPORTED_BYTES + 1, 0), Err(Reject::ClaimsTooLarge));
        assert_eq!(write(MAX_EXPORTED_BYTES - 5, 1), Err(Reject::ClaimsTooLarge));
    }
}
