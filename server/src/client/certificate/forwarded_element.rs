//! The `X-Forwarded-Client-Cert` header of Envoy.
//!
//! Each proxy on the way appends an element, so only the last one is that of the trusted proxy:
//! `By=spiffe://a;Hash=…;Cert="…";Chain="…"`. Values with separators are in quotation marks. An
//! unbalanced quotation mark of an earlier element makes the whole value malformed, so it cannot
//! swallow the last element.

use super::presented_chain::{ChainError, EncodedCertificate, pem_blocks, strictly_decoded};

/// Returns the certificates of the last element: the client's own, and those of its chain.
pub(super) fn certificates(value: &[u8]) -> Result<Vec<EncodedCertificate>, ChainError> {
    let elements = split_unquoted(value, b',')?;
    let last = elements.last().ok_or(ChainError::BadSyntax)?;
    let (mut leaf, mut chain) = (None, None);
    for pair in split_unquoted(last, b';')? {
        let at = memchr::memchr(b'=', pair).ok_or(ChainError::BadSyntax)?;
        let (name, text) = (pair[..at].trim_ascii(), unquoted(&pair[at + 1..])?);
        let field = match name {
            name if name.eq_ignore_ascii_case(b"Cert") => &mut leaf,
            name if name.eq_ignore_ascii_case(b"Chain") => &mut chain,
            _ => continue,
        };
        if field.replace(text).is_some() {
            return Err(ChainError::BadSyntax);
        }
    }
    let blocks = |text: Option<Vec<u8>>| match text {
        Some(text) => pem_blocks(&strictly_decoded(&text)?),
        None => Ok(Vec::new()),
    };
    let (own, chain) = (blocks(leaf)?, blocks(chain)?);
    if own.len() > 1 {
        return Err(ChainError::BadSyntax);
    }
    // The chain begins with the client's own certificate, too.
    let is_own = |certificate: &EncodedCertificate| own.first() == Some(certificate);
    let others = chain.iter().filter(|certificate| !is_own(certificate)).cloned();
    let certificates: Vec<_> = own.iter().cloned().chain(others).collect();
    if certificates.is_empty() { Err(ChainError::NoCertificate) } else { Ok(certificates) }
}

/// Splits a text at the separators outside of quotation marks, in which `\` escapes a byte.
fn split_unquoted(text: &[u8], separator: u8) -> Result<Vec<&[u8]>, ChainError> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if *byte == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if is_quoted {
        return Err(ChainError::BadSyntax);
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// Returns a value without its quotation marks and escapes.
fn unquoted(text: &[u8]) -> Result<Vec<u8>, ChainError> {
    let text = text.trim_ascii();
    let Some(inner) = text.strip_prefix(b"\"") else {
        return if text.contains(&b'"') { Err(ChainError::BadSyntax) } else { Ok(text.into()) };
    };
    let inner = inner.strip_suffix(b"\"").ok_or(ChainError::BadSyntax)?;
    let (mut value, mut is_escaped) = (Vec::with_capacity(inner.len()), false);
    for byte in inner {
        match byte {
            b'\\' if !is_escaped => is_escaped = true,
            b'"' if !is_escaped => return Err(ChainError::BadSyntax),
            byte => {
                value.push(*byte);
                is_escaped = false;
            }
        }
    }
    if is_escaped { Err(ChainError::BadSyntax) } else { Ok(value) }
}
