//! Numbers that are JSON, and beyond what a 64-bit integer or a double holds.
//!
//! RFC 8259 section 6 bounds neither. The parser refuses a document that has one, although hardly
//! any is read: a tenant's number of 30 digits, say. Such a document is parsed once more with
//! another number in its place.

/// The spelling of a number out of range, and of a negative one.
const OUT_OF_RANGE: [&[u8]; 2] = [b"1e308", b"-1e308"];

/// Replaces each number of the document that is out of range, and returns whether there is one.
///
/// The replacement is out of range for every reader: it is neither a time nor an integer. It is at
/// most as long as the number, and spaces fill the rest.
pub(super) fn replace_out_of_range(json: &mut [u8]) -> bool {
    let (mut at, mut found) = (0usize, false);
    while let Some(rest) = json.get_mut(at..)
        && let Some(first) = rest.first()
    {
        let length = match first {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().take_while(|byte| is_part_of_number(**byte)).count();
                if let Some(number) = rest.get_mut(..length)
                    && is_out_of_range(number)
                {
                    replace(number);
                    found = true;
                }
                length
            }
            _ => 1,
        };
        at = at.saturating_add(length);
    }
    found
}

/// Returns the first number at or after `at` in a document that was parsed, and its end.
pub(super) fn next(json: &[u8], mut at: usize) -> Option<(&[u8], usize)> {
    loop {
        let rest = json.get(at..)?;
        let length = match rest.first()? {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().take_while(|byte| is_part_of_number(**byte)).count();
                return Some((rest.get(..length)?, at.saturating_add(length)));
            }
            _ => 1,
        };
        at = at.saturating_add(length);
    }
}

fn string_length(text: &[u8]) -> usize {
    let mut at = 1usize;
    while let Some(rest) = text.get(at..)
        && let Some(next) = memchr::memchr2(b'"', b'\\', rest)
    {
        let is_escape = rest.get(next) == Some(&b'\\');
        at = at.saturating_add(next).saturating_add(if is_escape { 2 } else { 1 });
        if !is_escape {
            return at;
        }
    }
    text.len()
}

fn is_part_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

fn replace(number: &mut [u8]) {
    let [positive, negative] = OUT_OF_RANGE;
    let other = if number.starts_with(b"-") { negative } else { positive };
    number.fill(b' ');
    number.iter_mut().zip(other).for_each(|(to, from)| *to = *from);
}

/// Whether this is a number of RFC 8259 section 6 that the parser refuses for its size.
fn is_out_of_range(number: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(number) else { return false };
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let exponent_digits = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    let is_number = is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent_digits.is_none_or(is_digits);
    let fits = match (fraction, exponent) {
        (None, None) => text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok(),
        _ => text.parse::<f64>().is_ok_and(f64::is_finite),
    };
    is_number && !fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(json: &str) -> Option<String> {
        let mut json = json.as_bytes().to_vec();
        let found = replace_out_of_range(&mut json);
        found.then(|| String::from_utf8(json).unwrap())
    }

    #[test]
    fn numbers_out_of_range_are_replaced() {
        for (json, other) in [
            (r#"{"a":18446744073709551616}"#, r#"{"a":1e308               }"#),
            (r#"{"a":-9223372036854775809,"b":1}"#, r#"{"a":-1e308              ,"b":1}"#),
            (r#"[1e309,9e308,-1E+400,2]"#, r#"[1e308,1e308,-1e308 ,2]"#),
            (r#"{"1e400":"1e400\"1e400","a":1.5e400}"#, r#"{"1e400":"1e400\"1e400","a":1e308  }"#),
        ] {
            assert_eq!(replaced(json).as_deref(), Some(other), "{json}");
        }
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for json in [
            "18446744073709551615",
            "-9223372036854775808",
            "1e308",
            "1e-400",
            "0e400",
            "0.0000000000000000000000000000001",
            "-0",
            // These are not JSON.
            "0018446744073709551616",
            "1e400.5",
            "1.e400",
            "1e400e1",
            "1e+-400",
            "18446744073709551616-",
            "\"1e400",
            "\"\\",
        ] {
            assert_eq!(replaced(json), None, "{json}");
        }
    }
}
