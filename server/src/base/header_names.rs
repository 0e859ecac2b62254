//! Comparison of header lines with the names of headers.

use http::HeaderName;

/// The lengths of several names. Another name of a different length cannot be among them, so that
/// most names need no comparison.
#[derive(Clone, Copy, Debug)]
pub struct NameLengths(u64);

impl NameLengths {
    /// Returns the lengths of these names.
    pub fn of<'n>(names: impl Iterator<Item = &'n HeaderName>) -> Self {
        Self(names.fold(0, |lengths, name| lengths | bit(name.as_str().len())))
    }

    /// Whether one of the names may be this one, in any spelling.
    #[must_use]
    pub const fn may_contain(self, name: &[u8]) -> bool {
        self.0 & bit(name.len()) != 0
    }
}

/// Returns the bit of a length. Lengths of 63 and more have one together.
const fn bit(length: usize) -> u64 {
    if length < 63 { 1 << length } else { 1 << 63 }
}

/// Whether a header line has this name, in any case.
#[must_use]
pub fn is_header(line: &[u8], name: &HeaderName) -> bool {
    line.eq_ignore_ascii_case(name.as_str().as_bytes())
}
