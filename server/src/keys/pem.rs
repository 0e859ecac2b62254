//! PEM (RFC 7468) as it is found in configurations and key sets.
//!
//! White space within a section has no meaning, so its lines may be joined, or separated by spaces
//! or by the escape `\n`, as in environment variables and JSON. Text before and after a section is
//! ignored (RFC 7468 section 2).

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};

/// One section of a PEM text. Its contents are decoded only on request, so that a private key is
/// recognized by its label alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PemSection<'t> {
    /// Label, such as `PUBLIC KEY`.
    pub(super) label: &'t str,
    body: &'t str,
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// Whether a text has a PEM section.
pub(super) fn is_pem(text: &str) -> bool {
    text.contains(BEGIN)
}

/// Splits a text into its sections.
///
/// # Errors
/// A description of the damage, without any part of the text.
pub(super) fn sections(text: &str) -> Result<Vec<PemSection<'_>>, &'static str> {
    let mut sections = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (label, after) = begun
            .split_once(DASHES)
            .filter(|(label, _)| is_label(label))
            .ok_or("it is damaged: a line that begins a section does not end as it should")?;
        let end = format!("{DASHES}END {label}{DASHES}");
        let (body, after) = after.split_once(&*end).ok_or("it is damaged: a section has no end")?;
        if body.contains(DASHES) {
            return Err("it is damaged: a section has no end");
        }
        sections.push(PemSection { label, body });
        rest = after;
    }
    Ok(sections)
}

fn is_label(label: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    !label.is_empty() && label.bytes().all(is_part)
}

impl PemSection<'_> {
    /// Returns the DER that the section contains.
    ///
    /// # Errors
    /// It is not base64.
    pub(super) fn der(&self) -> Result<Vec<u8>, &'static str> {
        let lines = self.body.replace("\\n", "").replace("\\r", "").replace('\\', "");
        decode_base64(lines.as_bytes()).ok_or("it is damaged: a section is not base64")
    }
}

/// Decodes base64 with or without padding, over any number of lines.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<_> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(&text).or_else(|_| STANDARD_NO_PAD.decode(&text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<(&str, Vec<u8>)>, &'static str> {
        sections(text)?.into_iter().map(|one| Ok((one.label, one.der()?))).collect()
    }

    #[test]
    fn lines_of_a_section_may_be_joined() {
        for text in [
            "-----BEGIN X509 CRL-----\nYWJj\nZGVm\n-----END X509 CRL-----\n",
            "-----BEGIN X509 CRL-----\r\nYWJj\r\nZGVm\r\n-----END X509 CRL-----\r\n",
            "-----BEGIN X509 CRL-----\\nYWJj\\nZGVm\\n-----END X509 CRL-----\\n",
            "-----BEGIN X509 CRL-----\\r\\nYWJj\\r\\nZGVm\\r\\n-----END X509 CRL-----",
            "-----BEGIN X509 CRL-----\\\\nYWJjZGVm\\\\n-----END X509 CRL-----",
            "-----BEGIN X509 CRL----- YWJj ZGVm -----END X509 CRL-----",
            "-----BEGIN X509 CRL-----YWJjZGVm-----END X509 CRL-----",
            "\"-----BEGIN X509 CRL-----\n  YWJj\n\n  ZGVm\n-----END X509 CRL-----\"",
            "Bag Attributes\n  localKeyID: 01\n-----BEGIN X509 CRL-----\nYWJjZGVm\n-----END X509 CRL-----\nend",
        ] {
            assert_eq!(decoded(text), Ok(vec![("X509 CRL", b"abcdef".to_vec())]), "{text}");
        }
    }

    #[test]
    fn damaged_sections_are_described() {
        for (text, expected) in [
            ("-----BEGIN KEY", "does not end as it should"),
            ("-----BEGIN KEY\nYWJj\n-----END KEY-----", "does not end as it should"),
            ("-----BEGIN KEY-----\nYWJj", "has no end"),
            ("-----BEGIN KEY-----\nYWJj\n-----END OTHER-----", "has no end"),
            ("-----BEGIN A-----\nYWJj\n-----BEGIN A-----\nYWJj\n-----END A-----", "has no end"),
            ("-----BEGIN KEY-----\nY?Jj\n-----END KEY-----", "is not base64"),
        ] {
            let error = decoded(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(decoded("no section"), Ok(Vec::new()));
    }
}
