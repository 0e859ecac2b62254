//! Upper bounds for the cost of calls of built-in functions, from their arguments.
//!
//! [`None`] refuses the arguments: the call is undefined, as after any other error in a built-in
//! function. The library panics with some of them.

use regorus::Value;

/// Bytes of a value that is an element of a collection: the value, its reference count, and an
/// allocation.
const ELEMENT: u64 = 48;

/// Bytes of the longest number in text that is not a big integer.
const NUMBER: u64 = 1100;

/// Maximum length of a pattern in bytes.
const MAX_PATTERN: u64 = 2048;

/// Returns the size of a [`Value`] in bytes, with [`ELEMENT`] for each of its parts.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => ELEMENT + text.len() as u64,
        Value::Array(values) => ELEMENT + values.iter().map(size).sum::<u64>(),
        Value::Set(values) => ELEMENT + values.iter().map(size).sum::<u64>(),
        Value::Object(members) => {
            ELEMENT + members.iter().map(|(key, value)| size(key) + size(value)).sum::<u64>()
        }
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Undefined => ELEMENT,
    }
}

fn text(args: &[Value], index: usize) -> &str {
    match args.get(index) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

fn length(args: &[Value], index: usize) -> u64 {
    text(args, index).len() as u64
}

fn integer(args: &[Value], index: usize) -> Option<i64> {
    args.get(index)?.as_i64().ok()
}

/// The result is as large as the arguments.
pub(super) fn copy(args: &[Value]) -> Option<u64> {
    Some(args.iter().map(size).sum())
}

/// Each byte of text becomes at most six (`\u0000`).
pub(super) fn escaped(args: &[Value]) -> Option<u64> {
    Some(copy(args)?.saturating_mul(6))
}

/// Each byte of text becomes at most one element of a collection.
pub(super) fn parts(args: &[Value]) -> Option<u64> {
    let is_text = |value: &&Value| matches!(value, Value::String(_));
    let bytes: u64 = args.iter().filter(is_text).map(size).sum();
    Some(copy(args)? + bytes.saturating_mul(ELEMENT))
}

/// Each element of one collection is compared with each of another.
pub(super) fn pairs(args: &[Value]) -> Option<u64> {
    let elements = |index: usize| match args.get(index) {
        Some(Value::Array(values)) => values.len() as u64,
        Some(Value::Set(values)) => values.len() as u64,
        _ => 1,
    };
    Some(elements(0).saturating_mul(elements(1)).saturating_mul(4))
}

/// Numbers between two others.
pub(super) fn range(args: &[Value]) -> Option<u64> {
    let distance = integer(args, 0)?.abs_diff(integer(args, 1)?);
    Some(distance.saturating_add(1).saturating_mul(ELEMENT))
}

/// Numbers between two others, in steps. The library divides by the step.
pub(super) fn range_step(args: &[Value]) -> Option<u64> {
    integer(args, 2).filter(|step| *step > 0)?;
    range(args)
}

/// A number with more bits.
pub(super) fn left_shift(args: &[Value]) -> Option<u64> {
    let bits = u64::try_from(integer(args, 1)?).ok()?;
    Some(ELEMENT + bits)
}

/// A number in digits.
pub(super) fn format_int(args: &[Value]) -> Option<u64> {
    Some(number_digits(args.first()?))
}

/// Returns the maximum number of digits of a number, in any base.
fn number_digits(value: &Value) -> u64 {
    match value {
        Value::Number(number) => NUMBER + number.as_big().map_or(0, |number| number.bits()),
        _ => NUMBER,
    }
}

/// The text of a number. An exponent of many digits would be written out.
pub(super) fn number_text(args: &[Value]) -> Option<u64> {
    const MAX_LENGTH: usize = 40;
    let text = text(args, 0);
    let exponent = text.find(['e', 'E']).map(|start| &text[start + 1..]);
    let digits =
        exponent.map_or(0, |exponent| exponent.matches(|c: char| c.is_ascii_digit()).count());
    (text.len() <= MAX_LENGTH && digits <= 3).then_some(ELEMENT)
}

/// Texts with a separator between them.
pub(super) fn concat(args: &[Value]) -> Option<u64> {
    let count = match args.get(1)? {
        Value::Array(values) => values.len() as u64,
        Value::Set(values) => values.len() as u64,
        _ => 0,
    };
    Some(copy(args)? + length(args, 0).saturating_mul(count))
}

/// Returns the maximum length of a text after a replacement.
fn replaced(length: u64, old: u64, new: u64) -> u64 {
    let occurrences = length.checked_div(old).unwrap_or(length + 1);
    length.saturating_add(occurrences.saturating_mul(new))
}

/// A text with parts replaced.
pub(super) fn replace(args: &[Value]) -> Option<u64> {
    Some(replaced(length(args, 0), length(args, 1), length(args, 2)))
}

/// A text with parts replaced, one after the other.
pub(super) fn replace_n(args: &[Value]) -> Option<u64> {
    let Some(Value::Object(replacements)) = args.first() else { return Some(0) };
    let mut bytes = length(args, 1);
    let mut total = bytes;
    for (old, new) in replacements.iter() {
        let (Value::String(old), Value::String(new)) = (old, new) else { continue };
        // Whatever the order, each replacement multiplies at most once.
        bytes = replaced(bytes, old.len() as u64, new.len() as u64);
        total = total.saturating_add(bytes);
    }
    Some(total)
}

/// A text with values in it, some of them with a width.
pub(super) fn sprintf(args: &[Value]) -> Option<u64> {
    let format = text(args, 0);
    let widths = format.split('%').skip(1).map(|verb| {
        let digits = verb.trim_start_matches('.');
        let end = digits.find(|c: char| !c.is_numeric()).unwrap_or(digits.len());
        if end == 0 { 0 } else { digits[..end].parse().unwrap_or(u64::MAX) }
    });
    let widths = widths.fold(0, u64::saturating_add);
    let Some(Value::Array(values)) = args.get(1) else { return Some(0) };
    let numbers: u64 = values.iter().map(number_digits).sum();
    // Quoted, each byte becomes at most ten.
    Some(copy(args)?.saturating_mul(10).saturating_add(widths).saturating_add(numbers))
}

/// A text is compared at each of its places. The library panics without a text to look for.
pub(super) fn occurrences(args: &[Value]) -> Option<u64> {
    (length(args, 1) > 0).then(|| length(args, 0))
}

/// One search with a pattern of at most [`MAX_PATTERN`] bytes. Its compiled size is bounded by the library.
pub(super) fn pattern(args: &[Value]) -> Option<u64> {
    let bytes = copy(args)?.saturating_mul(16);
    Some(if length(args, 0) > MAX_PATTERN { u64::MAX } else { bytes })
}

/// Repeated searches with a pattern: the time grows with the square of the text.
fn searches(pattern: &str, text: &str) -> u64 {
    let length = text.len() as u64;
    if pattern.len() as u64 > MAX_PATTERN {
        return u64::MAX;
    }
    (length + 1).saturating_mul(ELEMENT).saturating_add(length * length / 8)
}

/// The matches of a pattern, or the parts between them.
pub(super) fn regex_find(args: &[Value]) -> Option<u64> {
    Some(searches(text(args, 0), text(args, 1)))
}

/// The matches of a pattern, with those of its groups.
pub(super) fn regex_submatches(args: &[Value]) -> Option<u64> {
    let groups = text(args, 0).matches('(').count() as u64 + 1;
    let elements = (length(args, 1) + 1).saturating_mul(ELEMENT).saturating_mul(groups);
    Some(regex_find(args)?.saturating_add(elements))
}

/// A text whose matches are replaced, perhaps by themselves.
pub(super) fn regex_replace(args: &[Value]) -> Option<u64> {
    let (length, replacement) = (length(args, 0), text(args, 2));
    let groups = replacement.matches('$').count() as u64;
    let written = (length + 1).saturating_mul(replacement.len() as u64);
    let copied = length.saturating_mul(groups + 1);
    let searched = searches(text(args, 1), text(args, 0));
    Some(searched.saturating_add(written).saturating_add(copied))
}

/// The addresses of a network.
pub(super) fn cidr_expand(args: &[Value]) -> Option<u64> {
    const ADDRESS: u64 = 96;
    let (address, prefix) = text(args, 0).split_once('/')?;
    let bits: u32 = if address.contains(':') { 128 } else { 32 };
    let host_bits = bits.checked_sub(prefix.parse().ok()?)?;
    Some(1_u64.checked_shl(host_bits).unwrap_or(u64::MAX).saturating_mul(ADDRESS))
}
