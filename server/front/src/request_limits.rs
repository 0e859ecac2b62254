//! Limits of request heads, the same for every version of HTTP.

use http::StatusCode;

use crate::message::BadRequest;

/// Limits of request heads. They are fixed when a worker starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Maximum length of a head in bytes. Over HTTP/2 and HTTP/3, this is the size of the field
    /// section with 32 bytes of overhead per line (RFC 9113 section 6.5.2, RFC 9114 section 4.2.2).
    pub head_bytes: usize,
    /// Maximum number of header lines, Host or `:authority` included.
    pub header_lines: usize,
}

impl Default for RequestLimits {
    /// # Defaults
    /// A head of 60 KiB, the limit of Envoy, has room. Proxies and their clients rarely send more
    /// than 100 lines.
    fn default() -> Self {
        Self { head_bytes: 64 * 1024, header_lines: 200 }
    }
}

impl RequestLimits {
    /// Returns the reason for rejecting a head above [`head_bytes`](Self::head_bytes).
    #[must_use]
    pub fn head_too_large(&self) -> BadRequest {
        self.too_many_bytes(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")
    }

    /// Returns the reason for rejecting a request line that alone fills the limit.
    #[must_use]
    pub fn uri_too_long(&self) -> BadRequest {
        self.too_many_bytes(StatusCode::URI_TOO_LONG, "uri_too_long")
    }

    fn too_many_bytes(&self, status: StatusCode, code: &'static str) -> BadRequest {
        let limit = self.head_bytes;
        let detail = format!("the head of a request is limited to {limit} bytes (max_head)").into();
        BadRequest { status, code, detail }
    }

    /// Returns the reason for rejecting a head above [`header_lines`](Self::header_lines).
    #[must_use]
    pub fn too_many_lines(&self) -> BadRequest {
        let limit = self.header_lines;
        let detail = format!("a request is limited to {limit} header lines (max_header_lines)");
        BadRequest {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            code: "head_too_large",
            detail: detail.into(),
        }
    }
}
