//! Splits a JWK Set into the texts of its keys, so that each can be parsed apart.
//!
//! Only the boundaries are found here. The text between the keys is the outline of the set. It is
//! parsed as strictly as a token, with a number in the place of each key, so a set is still one
//! JSON object with one array of keys. One key cannot invalidate the others.

use crate::{error::KeySetError, limits::MAX_KEYS, token::JsonBuffers};

/// Returns the texts of the keys of a JWK Set, or of a single JWK.
pub(super) fn split<'j>(
    json: &'j [u8],
    buffers: &mut JsonBuffers,
) -> Result<Vec<&'j [u8]>, KeySetError> {
    let mut scanner =
        OutlineScanner { json, at: 0, buffers, keys: Vec::new(), outline: Vec::new() };
    scanner.scan_set().ok_or(KeySetError::Json)?;
    let OutlineScanner { keys, outline, .. } = scanner;
    let document = buffers.parse(&outline).map_err(|_| KeySetError::Json)?;
    let Some(array) = document.members().get("keys") else {
        let is_key = document.members().get("kty").is_some();
        return if is_key { Ok(vec![json]) } else { Err(KeySetError::NotAKeySet) };
    };
    let count = array.elements().ok_or(KeySetError::NotAKeySet)?.count();
    if count > MAX_KEYS {
        return Err(KeySetError::TooManyKeys);
    }
    if count == keys.len() { Ok(keys) } else { Err(KeySetError::Json) }
}

struct OutlineScanner<'j, 's> {
    json: &'j [u8],
    at: usize,
    buffers: &'s mut JsonBuffers,
    keys: Vec<&'j [u8]>,
    outline: Vec<u8>,
}

impl<'j> OutlineScanner<'j, '_> {
    /// Scans the outermost object; `None` if it is not one.
    fn scan_set(&mut self) -> Option<()> {
        self.copy_byte(b'{')?;
        while self.peek()? != b'}' {
            let name = self.take_value()?;
            self.outline.extend_from_slice(name);
            self.copy_byte(b':')?;
            if self.is_keys(name) && self.peek()? == b'[' {
                self.scan_keys()?;
            } else {
                let value = self.take_value()?;
                self.outline.extend_from_slice(value);
            }
            if self.copy_byte(b',').is_none() {
                break;
            }
        }
        // The parser of the outline sees everything that follows.
        self.outline.extend_from_slice(self.json.get(self.at..)?);
        Some(())
    }

    /// Scans the array of keys.
    fn scan_keys(&mut self) -> Option<()> {
        self.copy_byte(b'[')?;
        if self.copy_byte(b']').is_some() {
            return Some(());
        }
        loop {
            let key = self.take_value()?;
            let is_nested = matches!(key.first(), Some(b'{' | b'['));
            self.outline.extend_from_slice(if is_nested { b"0" } else { key });
            self.keys.push(key);
            if self.copy_byte(b',').is_none() {
                return self.copy_byte(b']');
            }
        }
    }

    /// Whether the text of a member's name is `keys`, which can be written with escapes.
    fn is_keys(&mut self, name: &[u8]) -> bool {
        if !name.contains(&b'\\') {
            return name == br#""keys""#;
        }
        let member = [b"{", name, b":0}"].concat();
        let document = self.buffers.parse(&member);
        document.is_ok_and(|document| document.members().get("keys").is_some())
    }

    /// Copies the next byte that is not whitespace to the outline, if it is this one.
    fn copy_byte(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then_some(())?;
        self.outline.push(byte);
        self.at = self.at.checked_add(1)?;
        Some(())
    }

    /// Returns the next byte that is not whitespace.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.get(self.at..)?;
        let space = rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.at = self.at.checked_add(space)?;
        rest.get(space).copied()
    }

    /// Returns the text of the next value.
    fn take_value(&mut self) -> Option<&'j [u8]> {
        self.peek()?;
        let rest = self.json.get(self.at..)?;
        let (value, _) = rest.split_at_checked(value_length(rest)?)?;
        self.at = self.at.checked_add(value.len())?;
        Some(value)
    }
}

/// Returns the length of the value at the start of a text: up to the bracket or the quotation mark
/// that closes it, or up to the end of a number or a literal.
fn value_length(text: &[u8]) -> Option<usize> {
    let (mut closing, mut at) = (Vec::new(), 0usize);
    loop {
        let byte = *text.get(at)?;
        let length = match byte {
            b'"' => string_length(text.get(at..)?)?,
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if closing.is_empty() => return None,
            b'{' => {
                closing.push(b'}');
                1
            }
            b'[' => {
                closing.push(b']');
                1
            }
            b'}' | b']' => (closing.pop()? == byte).then_some(1)?,
            _ if closing.is_empty() => return scalar_length(text),
            _ => 1,
        };
        at = at.checked_add(length)?;
        if closing.is_empty() {
            return Some(at);
        }
    }
}

fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1usize;
    loop {
        let rest = text.get(at..)?;
        let next = memchr::memchr2(b'"', b'\\', rest)?;
        let is_escape = rest.get(next) == Some(&b'\\');
        at = at.checked_add(next)?.checked_add(if is_escape { 2 } else { 1 })?;
        if !is_escape {
            return Some(at);
        }
    }
}

/// Returns the length of a number or a literal, which the parser of the outline checks.
fn scalar_length(text: &[u8]) -> Option<usize> {
    let length = text.iter().take_while(|byte| !b",:{}[]\" \t\r\n".contains(byte)).count();
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(json: &str) -> Result<Vec<String>, KeySetError> {
        let keys = split(json.as_bytes(), &mut JsonBuffers::with_capacity(0))?;
        Ok(keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect())
    }

    #[test]
    fn keys_of_a_set_are_split() {
        for (json, keys) in [
            (r#"{"keys":[]}"#, &[][..]),
            (
                r#" {"keys" : [ {"a":1} , {"b":"}]\"\\"},[{}], "x]" ,null] } "#,
                &[r#"{"a":1}"#, r#"{"b":"}]\"\\"}"#, "[{}]", r#""x]""#, "null"],
            ),
            (r#"{"x":[{"keys":[1]}],"keys":[{}],"y":{"z":[]}}"#, &["{}"]),
            (r#"{"\u006beys":[{},{}]}"#, &["{}", "{}"]),
            // The text of a key is not parsed here.
            (
                r#"{"keys":[{"a":1,"a":1},{"a":tru},{1e999},{}]}"#,
                &[r#"{"a":1,"a":1}"#, r#"{"a":tru}"#, "{1e999}", "{}"],
            ),
            (r#"{"kty":"oct","k":["keys"]}"#, &[r#"{"kty":"oct","k":["keys"]}"#]),
        ] {
            assert_eq!(
                texts(json).as_deref(),
                Ok(&*keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()),
                "{json}"
            );
        }
    }

    #[test]
    fn ambiguous_or_malformed_outline_is_refused() {
        for json in [
            "",
            "[]",
            "{",
            "null",
            "<html>",
            r#"{"keys":[{}]"#,
            r#"{"keys":[{}]}x"#,
            r#"{"keys":[{}]}{}"#,
            r#"{"keys":[{},]}"#,
            r#"{"keys":[,{}]}"#,
            r#"{"keys":[{}{}]}"#,
            r#"{"keys":[{} x,{}]}"#,
            r#"{"keys":[{},tru]}"#,
            r#"{"keys":[{"a":]},{}]}"#,
            r#"{"keys":[{"a":"}]}"#,
            r#"{"keys":[{}],"keys":[{}]}"#,
            r#"{"keys":[{}],"\u006beys":[]}"#,
            r#"{"keys":[{}],"a":1,"a":1}"#,
            r#"{"keys":[{}],"a":tru}"#,
            r#"{"keys":[{}],"a":{"b":1,"b":1}}"#,
            r#"{"keys":[{}],}"#,
            r#"{"keys":[{}] "a":1}"#,
            r#"{5:[{}]}"#,
            "{\"keys\":[{}]\u{b}}",
        ] {
            assert_eq!(texts(json), Err(KeySetError::Json), "{json}");
        }
        for json in ["{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"Keys":[{}]}"#] {
            assert_eq!(texts(json), Err(KeySetError::NotAKeySet), "{json}");
        }
    }

    #[test]
    fn depth_of_a_key_does_not_matter_here() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(texts(&format!(r#"{{"keys":[{deep},{{}}]}}"#)).map(|keys| keys.len()), Ok(2));
        assert_eq!(texts(&format!(r#"{{"keys":[{{}}],"x":{deep}}}"#)), Err(KeySetError::Json));
    }
}
