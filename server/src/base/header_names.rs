//! Comparison of header lines with the names of headers.

use http::HeaderName;

/// Whether a header line has this name, in any case.
#[must_use]
pub fn is_header(line: &[u8], name: &HeaderName) -> bool {
    line.eq_ignore_ascii_case(name.as_str().as_bytes())
}
