//! Text of others in messages for a terminal.

/// Escapes control characters, which could change the output on a terminal. The text may
/// come from an attacker.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if is_visible(character) {
            shown.push(character)
        } else {
            shown.extend(character.escape_unicode())
        }
    }
    shown
}

/// Whether a character is shown as itself: neither a control character nor one that changes the
/// direction of the text.
#[must_use]
pub fn is_visible(character: char) -> bool {
    character.is_ascii_graphic()
        || character == ' '
        || (!character.is_ascii() && character.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_escapes_terminal_control_characters() {
        assert_eq!(printable("plain \"é\" \\ 日本"), "plain \"é\" \\ 日本");
        assert_eq!(
            printable("\u{1b}[2J\n\u{9b}\u{202e}\u{7f}"),
            "\\u{1b}[2J\\u{a}\\u{9b}\\u{202e}\\u{7f}"
        );
    }
}
