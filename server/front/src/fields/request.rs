//! Interpretation of field sections as requests (RFC 9113 sections 8.2 and 8.3; RFC 9114 sections
//! 4.2 and 4.3, which have the same rules).

use http::{HeaderName, Version};

use super::section::FieldSection;
use crate::{
    http1::head::{digits, is_host},
    message::{Fields, RequestHead},
};

/// The head of an HTTP/2 or HTTP/3 request.
pub struct DecodedHead<'r> {
    method: &'r str,
    target: &'r str,
    /// `:scheme`, present unless the method is CONNECT.
    pub scheme: Option<&'r str>,
    /// The host and port of the request, from `:authority` or Host.
    pub authority: &'r str,
    /// Content-Length. The body has to match it (RFC 9113 section 8.1.1).
    pub content_length: Option<u64>,
    version: Version,
    section: FieldSection<'r>,
}

/// Reason why a section is not a valid request. The request is malformed (RFC 9113 section 8.1.1,
/// RFC 9114 section 4.1.2), and its stream is reset.
pub type MalformedReason = &'static str;

impl Fields for DecodedHead<'_> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.section.line(name.as_str().as_bytes(), nth)
    }

    fn each_line<'f>(&'f self, name: &HeaderName, take: &mut dyn FnMut(&'f [u8])) {
        self.section.values(name.as_str().as_bytes()).for_each(take);
    }

    fn any_name(&self, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.section.lines().any(|(name, _)| test(name))
    }
}

impl RequestHead for DecodedHead<'_> {
    fn version(&self) -> Version {
        self.version
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &str {
        self.target
    }

    fn host(&self) -> &str {
        self.authority
    }

    fn for_each_line(&self, call: &mut dyn FnMut(&[u8], &[u8])) {
        let lines = self.section.lines().filter(|(name, _)| !name.starts_with(b":"));
        lines.for_each(|(name, value)| call(name, value));
    }
}

impl<'r> DecodedHead<'r> {
    /// Interprets a field section as a request.
    ///
    /// # Errors
    /// The request is malformed.
    pub fn read(section: FieldSection<'r>, version: Version) -> Result<Self, MalformedReason> {
        let mut fields = RequestFields::default();
        let mut lines = section.lines();
        let mut line = lines.next();
        while let Some((name @ [b':', ..], value)) = line {
            fields.pseudo(name, value)?;
            line = lines.next();
        }
        while let Some((name, value)) = line {
            fields.regular(name, value)?;
            line = lines.next();
        }
        fields.request(section, version)
    }
}

/// Validates trailers. Their contents are not used. As over HTTP/1, fields that frame or route a
/// request are not allowed (RFC 9110 section 6.5.1).
///
/// # Errors
/// The trailers are malformed.
pub fn check_trailers(section: FieldSection<'_>) -> Result<(), MalformedReason> {
    let mut fields = RequestFields::default();
    section.lines().try_for_each(|(name, value)| fields.regular(name, value))?;
    match (fields.host, fields.content_length) {
        (None, None) => Ok(()),
        _ => Err("the trailers have Host or Content-Length"),
    }
}

/// The fields that every request is checked for.
#[derive(Default)]
struct RequestFields<'r> {
    method: Option<&'r [u8]>,
    scheme: Option<&'r [u8]>,
    authority: Option<&'r [u8]>,
    path: Option<&'r [u8]>,
    host: Option<&'r [u8]>,
    content_length: Option<u64>,
}

impl<'r> RequestFields<'r> {
    fn pseudo(&mut self, name: &[u8], value: &'r [u8]) -> Result<(), MalformedReason> {
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return Err("unknown pseudo-header field"),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err("duplicate pseudo-header field"),
        }
    }

    fn regular(&mut self, name: &[u8], value: &'r [u8]) -> Result<(), MalformedReason> {
        if !is_field_name(name) {
            return Err("a field name is not a lower-case token, or a pseudo-header field is late");
        }
        if !is_field_value(value) {
            return Err("a field value has control characters or surrounding whitespace");
        }
        // Comparing lengths first rules out most names at once.
        match (name.len(), name) {
            (2, b"te") if !value.eq_ignore_ascii_case(b"trailers") => Err(CONNECTION_SPECIFIC),
            (7, b"upgrade") | (10, b"connection" | b"keep-alive") => Err(CONNECTION_SPECIFIC),
            (16, b"proxy-connection") | (17, b"transfer-encoding") => Err(CONNECTION_SPECIFIC),
            (4, b"host") => match self.host.replace(value) {
                None => Ok(()),
                Some(_) => Err(HOST),
            },
            (14, b"content-length") => {
                let before = self.content_length.replace(digits(value).ok_or(LENGTH)?);
                if before.is_some() { Err(LENGTH) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn request(
        self,
        section: FieldSection<'r>,
        version: Version,
    ) -> Result<DecodedHead<'r>, MalformedReason> {
        let method = self.method.filter(|method| is_token(method)).ok_or(METHOD)?;
        let authority = self.host_of_request()?;
        let target = match (method, self.scheme, self.path) {
            (b"CONNECT", None, None) => self.authority.ok_or(CONNECT)?,
            (b"CONNECT", ..) => return Err(CONNECT),
            (_, Some(scheme), Some(path)) if is_scheme(scheme) && is_path(method, path) => path,
            _ => return Err(TARGET),
        };
        let scheme = self.scheme.map(text).transpose()?;
        let (method, target, authority) = (text(method)?, text(target)?, text(authority)?);
        Ok(DecodedHead {
            method,
            target,
            scheme,
            authority,
            content_length: self.content_length,
            version,
            section,
        })
    }

    /// Returns the host of the request, checking that `:authority` and Host agree.
    fn host_of_request(&self) -> Result<&'r [u8], MalformedReason> {
        let host = match (self.authority, self.host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => None,
            (authority, host) => authority.or(host),
        };
        host.filter(|host| !host.is_empty() && is_host(host)).ok_or(HOST)
    }
}

const METHOD: MalformedReason = "the request has no method";
const TARGET: MalformedReason = "the request has no scheme or no path";
const CONNECT: MalformedReason = "CONNECT requires :authority and excludes :scheme and :path";
const HOST: MalformedReason = "the request needs one host, and :authority and Host have to agree";
const LENGTH: MalformedReason = "the request needs a single Content-Length in digits";
const CONNECTION_SPECIFIC: MalformedReason = "connection-specific field";

/// Converts text whose bytes have already been checked to be ASCII.
fn text(value: &[u8]) -> Result<&str, MalformedReason> {
    std::str::from_utf8(value).map_err(|_| TARGET)
}

/// A token (RFC 9110 section 5.6.2) without upper case, which HTTP/2 and HTTP/3 forbid in field
/// names: it would give one field two spellings.
fn is_field_name(name: &[u8]) -> bool {
    static NAME: [bool; 256] = token_bytes(false);
    !name.is_empty() && name.iter().all(|byte| NAME[usize::from(*byte)])
}

fn is_token(token: &[u8]) -> bool {
    static TOKEN: [bool; 256] = token_bytes(true);
    !token.is_empty() && token.iter().all(|byte| TOKEN[usize::from(*byte)])
}

const fn token_bytes(with_capitals: bool) -> [bool; 256] {
    let (mut bytes, mut byte) = ([false; 256], 0);
    while byte < bytes.len() {
        bytes[byte] = match byte as u8 {
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
            | b'`' | b'|' | b'~' => true,
            b'A'..=b'Z' => with_capitals,
            byte => byte.is_ascii_alphanumeric(),
        };
        byte += 1;
    }
    bytes
}

/// A field value (RFC 9110 section 5.5). The loops have no early exit, so that they are vectorized.
fn is_field_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_control = |byte: &u8| byte.is_ascii_control() & (*byte != b'\t');
    // Of most values it is enough to know the last character, counted from the space.
    let last = value.iter().fold(0, |last: u8, byte| last.max(byte.wrapping_sub(b' ')));
    let has_control =
        last >= 0x7f - b' ' && value.iter().fold(false, |found, byte| found | is_control(byte));
    !has_control && !is_blank(value.first()) && !is_blank(value.last())
}

/// A URI scheme (RFC 3986 section 3.1).
fn is_scheme(scheme: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(is_part)
}

/// A path and query, or the asterisk form of OPTIONS.
fn is_path(method: &[u8], path: &[u8]) -> bool {
    let is_visible =
        path.iter().fold(true, |is, byte| is & byte.is_ascii_graphic() & (*byte != b'#'));
    is_visible && (path.starts_with(b"/") || (path == b"*" && method == b"OPTIONS"))
}

#[cfg(test)]
mod tests;
