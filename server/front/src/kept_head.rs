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
    /// Method, target, and the name and value of each line, with [`SEPARATOR`] after each.
    text: Box<[u8]>,
}

/// Separates the parts of the text. None of them can contain it.
const SEPARATOR: u8 = 0;
const TARGET: BadRequest = BadRequest::new("request_target", "the request target is not a URI");
const LINES: BadRequest = BadRequest::new("head", "a header line is malformed");

impl KeptHead {
    /// Copies a head, with the header lines whose name meets `keeps`.
    ///
    /// # Errors
    /// The target is not a URI, or a kept line is not valid in an [`http::HeaderMap`].
    pub fn new(
        head: &impl RequestHead,
        target: &str,
        keeps: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, BadRequest> {
        Uri::try_from(head.target()).map_err(|_| TARGET)?;
        Method::from_bytes(head.method().as_bytes()).map_err(|_| TARGET)?;
        let mut length = head.method().len() + target.len() + 2;
        head.for_each_line(&mut |name, value| {
            if keeps(name) {
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
        if is_valid { Ok(Self { version: head.version(), text: text.into() }) } else { Err(LINES) }
    }

    /// Returns the bytes of memory that it holds beside itself.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the target.
    #[must_use]
    pub fn target(&self) -> &str {
        let target = self.text.split(|byte| *byte == SEPARATOR).nth(1);
        target.and_then(|target| str::from_utf8(target).ok()).unwrap_or_default()
    }

    /// Converts the head to an [`http::Request`] with this body.
    ///
    /// # Errors
    /// As for [`new`](Self::new), which has found them before.
    pub fn into_request<B>(self, body: B) -> Result<Request<B>, BadRequest> {
        let mut parts = self.text.split(|byte| *byte == SEPARATOR);
        let mut next = || parts.next().unwrap_or_default();
        let mut request = Request::new(body);
        *request.version_mut() = self.version;
        *request.method_mut() = Method::from_bytes(next()).map_err(|_| TARGET)?;
        *request.uri_mut() = Uri::try_from(next()).map_err(|_| TARGET)?;
        let headers: &mut HeaderMap = request.headers_mut();
        while let (Some(name @ [_, ..]), Some(value)) = (parts.next(), parts.next()) {
            let name = HeaderName::from_bytes(name).map_err(|_| LINES)?;
            headers.append(name, HeaderValue::from_bytes(value).map_err(|_| LINES)?);
        }
        Ok(request)
    }
}
