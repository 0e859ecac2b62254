//! The types that C and Rust share.
#![expect(non_camel_case_types, reason = "names of C")]

use std::ffi::c_char;

/// The version of this interface, which `cs_interface_version` of a library for it returns. A change
/// of a type or function makes another one.
pub const CS_INTERFACE_VERSION: u32 = 1;

/// Bytes that are not terminated by a zero. `data` may be null if `length` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cs_text {
    /// The first byte.
    pub data: *const c_char,
    /// Number of bytes.
    pub length: usize,
}

/// A header line: its name, in any case, and its value, without the whitespace around it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cs_line {
    /// The name.
    pub name: cs_text,
    /// The value.
    pub value: cs_text,
}

/// A request of a client. It has to stay unchanged while `cs_check` runs, and not longer.
#[repr(C)]
pub struct cs_request {
    /// The method.
    pub method: cs_text,
    /// Path and query, as the client sent them.
    pub target: cs_text,
    /// The host, with its port if that is given.
    pub host: cs_text,
    /// The IP address of the connection's peer, as text. Empty for a Unix socket.
    pub peer: cs_text,
    /// The client's certificate, if the proxy has verified it: PEM, percent-encoded PEM, or base64.
    pub certificate: cs_text,
    /// The header lines, in the order received. A repeated header is repeated here.
    pub lines: *const cs_line,
    /// Number of header lines.
    pub line_count: usize,
    /// Whether the request arrived over TLS.
    pub is_tls: bool,
    /// Whether the decision has the claims of the token.
    pub wants_claims: bool,
    /// Whether the decision omits the changes of an allowed request's header lines, because the
    /// proxy's own configuration makes them.
    pub omits_changes: bool,
}

/// The decision on a request. What it refers to is valid until the next `cs_check` of the same
/// thread, or in a callback, until the callback returns.
#[repr(C)]
pub struct cs_decision {
    /// Whether to pass the request on.
    pub is_allowed: bool,
    /// The status of the response to a refused request; 200 if it is allowed.
    pub status: u16,
    /// Header lines. If the request is allowed, they replace its lines of the same name; otherwise
    /// they belong into the response, except `x-auth-error`: it is for the proxy's operator.
    pub lines: *const cs_line,
    /// Number of header lines.
    pub line_count: usize,
    /// Names of the header lines to remove from an allowed request.
    pub removed: *const cs_text,
    /// Number of these names.
    pub removed_count: usize,
    /// The body of the response to a refused request.
    pub body: cs_text,
    /// The subject of the caller; empty without one, as the texts below.
    pub subject: cs_text,
    /// Its username.
    pub user: cs_text,
    /// The issuer of its token.
    pub issuer: cs_text,
    /// The client types of its token, separated by commas.
    pub client_types: cs_text,
    /// The environment of its token.
    pub environment: cs_text,
    /// The tenant that it acts for.
    pub tenant: cs_text,
    /// All claims of its token, as a JSON object, for `cs_claim`. Empty unless the request wants
    /// them.
    pub claims: cs_text,
}

/// The progress of a check.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum cs_progress {
    /// The decision is written.
    CS_DECIDED = 0,
    /// The callback will be called with the decision, once, by another thread.
    CS_PENDING = 1,
}

impl cs_text {
    pub(crate) const fn of(text: &[u8]) -> Self {
        Self { data: text.as_ptr().cast(), length: text.len() }
    }
}
