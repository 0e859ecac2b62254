//! The parts of a request head that its handler reads, copied out of the read buffer for a request
//! that has to wait.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::message::{BadRequest, RequestHead};

/// Version, method, target and selected header lines of a request, in one allocation.
///
/// A few received bytes can stand for a long header line (HPACK, QPACK), and a client can have many
/// requests wait. So a service keeps the lines that its handler reads, and no others.
pub struct KeptHead {
    version: Version,
    /// Number of header lines.
    count: usize,
    /// Method, target, and the name and value of each line, with [`SEPARATOR`] after each.
    text: Box<[u8]>,
}

/// Memory of a line in an [`http::HeaderMap`], in bytes, rounded up.
const MAP_ENTRY_BYTES: usize = 256;
/// Separates the parts of the text. None of them can contain it.
const SEPARATOR: u8 = 0;
const TARGET: BadRequest = BadRequest::new("request_target", "the request target is not a URI");
const LINES: BadRequest = BadRequest::new("head", "a header line is malformed");

impl KeptHead {
    /// Copies a head, with the header lines whose name meets `keeps`.
    ///
    /// # Errors
    /// A kept line is not valid in an [`http::HeaderMap`].
    pub fn new(
        head: &impl RequestHead,
        target: &str,
        keeps: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, BadRequest> {
        let (mut count, mut length) = (0, head.method().len() + target.len() + 2);
        head.for_each_line(&mut |name, value| {
            if keeps(name) {
                count += 1;
                length += name.len() + value.len() + 2;
            }
        });
        let mut text = Vec::with_capacity(length);
        let mut put = |part: &[u8]| {
            text.extend_from_slice(part);
            text.push(SEPARATOR);
        };
        put(head.method().as_bytes());
        put(target.as_bytes());
        let mut is_valid = true;
        head.for_each_line(&mut |name, value| {
            if keeps(name) {
                is_valid &= HeaderName::from_bytes(name).is_ok();
                is_valid &= HeaderValue::from_bytes(value).is_ok();
                put(name);
                put(value);
            }
        });
        if is_valid {
            Ok(Self { version: head.version(), count, text: text.into() })
        } else {
            Err(LINES)
        }
    }

    /// Returns the bytes of memory that it holds beside itself, now or as a request.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.text.len() + self.count * MAP_ENTRY_BYTES
    }

    /// Checks that the target is a URI, as a request needs.
    ///
    /// # Errors
    /// It is not.
    pub fn check_target(&self) -> Result<(), BadRequest> {
        Uri::try_from(self.target()).map(drop).map_err(|_| TARGET)
    }

    /// Returns the version of HTTP.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.part(0)
    }

    /// Returns the target.
    #[must_use]
    pub fn target(&self) -> &str {
        self.part(1)
    }

    fn part(&self, index: usize) -> &str {
        let part = self.text.split(|byte| *byte == SEPARATOR).nth(index);
        part.and_then(|part| str::from_utf8(part).ok()).unwrap_or_default()
    }

    /// Returns the header lines.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut parts = self.text.split(|byte| *byte == SEPARATOR).skip(2);
        while let (Some(name @ [_, ..]), Some(value)) = (parts.next(), parts.next()) {
            // They were valid when they were kept.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                headers.append(name, value);
            }
        }
        headers
    }

    /// Converts the head to an [`http::Request`] with this body.
    ///
    /// # Errors
    /// The target is not a URI.
    pub fn into_request<B>(self, body: B) -> Result<Request<B>, BadRequest> {
        let mut request = Request::new(body);
        *request.version_mut() = self.version;
        *request.method_mut() = Method::from_bytes(self.method().as_bytes()).map_err(|_| TARGET)?;
        *request.uri_mut() = Uri::try_from(self.target()).map_err(|_| TARGET)?;
        *request.headers_mut() = self.headers();
        Ok(request)
    }
}
