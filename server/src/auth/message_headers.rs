//! The header lines of a request in a message of a proxy, over gRPC or SPOP.
//!
//! Values borrow from the received bytes. A request may have dozens of headers, of which a handful
//! is looked up, so they are stored in order and searched. That is cheaper than a map.

use countersign_front::Fields;
use http::HeaderName;
use smallvec::SmallVec;

/// Header lines, stored inline in the number usual for a browser and its proxies. Not `Debug`, as
/// they hold a token.
#[derive(Default)]
pub struct MessageHeaders<'b>(SmallVec<[MessageHeader<'b>; 32]>);

/// Ten times Envoy's and HAProxy's default limits.
pub const MAX_HEADERS: usize = 1024;

/// A header of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MessageHeader<'b> {
    /// The name, in the client's case or in lower case.
    pub name: &'b [u8],
    /// The value.
    pub value: &'b [u8],
}

/// Error of a request with more than [`MAX_HEADERS`] headers. Its client can cause it, rather than
/// the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyHeaders;

impl<'b> MessageHeaders<'b> {
    /// Appends a header.
    ///
    /// # Errors
    /// There are [`MAX_HEADERS`] already.
    #[inline]
    pub fn push(&mut self, header: MessageHeader<'b>) -> Result<(), TooManyHeaders> {
        if self.0.len() == MAX_HEADERS {
            return Err(TooManyHeaders);
        }
        self.0.push(header);
        Ok(())
    }

    /// Returns the headers in the order received.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &MessageHeader<'b>> {
        self.0.iter()
    }
}

impl MessageHeader<'_> {
    fn has_name(&self, name: &HeaderName) -> bool {
        self.name.eq_ignore_ascii_case(name.as_str().as_bytes())
    }
}

/// A header that occurs twice counts as duplicate, in whatever parts of the message.
impl Fields for MessageHeaders<'_> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        let lines = self.0.iter().rev().filter(|header| header.has_name(name));
        lines.map(|header| header.value).nth(nth)
    }

    fn each_line<'f>(&'f self, name: &HeaderName, take: &mut dyn FnMut(&'f [u8])) {
        let lines = self.0.iter().filter(|header| header.has_name(name));
        lines.for_each(|header| take(header.value));
    }

    fn any_name(&self, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.0.iter().any(|header| test(header.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_headers_is_limited() {
        let mut headers = MessageHeaders::default();
        let header = MessageHeader { name: b"a", value: b"b" };
        for _ in 0..MAX_HEADERS {
            assert_eq!(headers.push(header), Ok(()));
        }
        assert_eq!(headers.push(header), Err(TooManyHeaders));
        assert_eq!(headers.iter().len(), MAX_HEADERS);
    }

    #[test]
    fn headers_are_counted_from_the_end() {
        let mut headers = MessageHeaders::default();
        for (name, value) in [("x", "1"), ("y", "2"), ("X", "3"), ("x", "4"), ("z", "5")] {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            headers.push(MessageHeader { name, value }).unwrap();
        }
        let name = HeaderName::from_static("x");
        let lines: Vec<_> = (0..5).map(|nth| headers.line(&name, nth)).collect();
        assert_eq!(lines, [Some(&b"4"[..]), Some(b"3"), Some(b"1"), None, None]);
    }
}
