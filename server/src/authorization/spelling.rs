//! Spellings of a text that applications may take for one another.

/// Returns a text without the differences that applications may ignore: letters' case, accents that
/// are characters of their own, wide forms, and characters without a width.
#[must_use]
pub(super) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.chars().map(narrow).flat_map(char::to_lowercase);
    // The upper case of some letters is two, such as that of the ligature of f and i.
    let folded = lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.filter(|character| !is_ignored(*character)).collect()
}

/// Returns the ASCII character of which this is the wide form (U+FF01 to U+FF5E).
fn narrow(character: char) -> char {
    const DISTANCE: u32 = 0xff01 - '!' as u32;
    let narrow = u32::from(character).checked_sub(DISTANCE).and_then(char::from_u32);
    narrow.filter(char::is_ascii_graphic).unwrap_or(character)
}

/// Whether a character has no width, or is an accent of the one before it.
const fn is_ignored(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
            | '\u{fe00}'..='\u{fe0f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_spellings_of_one_text_are_folded_alike() {
        for (text, expected) in [
            ("/Admin/x", "/admin/x"),
            ("\u{212a}afka", "kafka"),
            ("u\u{17f}er", "user"),
            ("adm\u{131}n", "admin"),
            ("ADM\u{130}N", "admin"),
            ("pro\u{fb01}le", "profile"),
            ("\u{1e9e}", "ss"),
            ("CAF\u{c9}", "caf\u{e9}"),
            ("a\u{301}dmin", "admin"),
            ("ad\u{200b}min\u{ad}", "admin"),
            ("\u{ff21}dmin", "admin"),
        ] {
            assert_eq!(folded(text), expected, "{text:?}");
        }
    }
}
