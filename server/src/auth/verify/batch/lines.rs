//! The tokens of a body, one a line.
//!
//! A line ends with LF or CRLF; the last one needs no end. Every line has an answer, an empty one
//! too, so that the n-th answer is that to the n-th line. A line that is too long for a token is
//! answered as soon as that is known, and its rest is skipped.

use countersign_engine::limits::MAX_TOKEN_BYTES;
use countersign_front::BodyExchange;
use memchr::{memchr, memchr_iter};

/// Maximum number of bytes that are kept: the longest token, and the end of its line.
const MAX_KEPT: usize = MAX_TOKEN_BYTES + 2;

/// The part of a body that is not answered yet.
#[derive(Default)]
pub(super) struct TokenLines {
    bytes: Vec<u8>,
    /// Whether the body has ended.
    is_ended: bool,
    /// Whether the bytes up to the next line end belong to a line that was answered.
    is_skipping: bool,
}

impl TokenLines {
    /// Waits until a token has arrived, and takes as many as have. Returns whether there are any;
    /// otherwise the body has ended.
    pub(super) async fn receive(&mut self, exchange: &BodyExchange) -> bool {
        loop {
            self.skip();
            let is_full = self.bytes.len() >= MAX_KEPT;
            if is_full || self.is_ended || (self.has_line() && exchange.is_drained()) {
                return !self.bytes.is_empty();
            }
            let more = MAX_KEPT.saturating_sub(self.bytes.len());
            self.is_ended = !exchange.read(&mut self.bytes, more).await;
        }
    }

    /// Returns the first tokens, at most `max` and at least one.
    pub(super) fn first(&self, max: usize) -> Vec<&[u8]> {
        let mut rest = &self.bytes[..];
        let mut tokens = Vec::with_capacity(max);
        while tokens.len() < max
            && let Some(end) = memchr(b'\n', rest)
        {
            let line = &rest[..end];
            tokens.push(line.strip_suffix(b"\r").unwrap_or(line));
            rest = &rest[end + 1..];
        }
        // The last line, or the beginning of one that is too long.
        if tokens.is_empty() || (self.is_ended && tokens.len() < max && !rest.is_empty()) {
            tokens.push(rest);
        }
        tokens
    }

    /// Removes the lines of the first tokens.
    pub(super) fn remove(&mut self, tokens: usize) {
        match memchr_iter(b'\n', &self.bytes).nth(tokens.saturating_sub(1)) {
            Some(end) => drop(self.bytes.drain(..=end)),
            None => {
                self.bytes.clear();
                self.is_skipping = !self.is_ended;
            }
        }
    }

    /// Removes the rest of a line that was answered.
    fn skip(&mut self) {
        if !self.is_skipping {
            return;
        }
        match memchr(b'\n', &self.bytes) {
            Some(end) => {
                self.bytes.drain(..=end);
                self.is_skipping = false;
            }
            None => self.bytes.clear(),
        }
    }

    fn has_line(&self) -> bool {
        memchr(b'\n', &self.bytes).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the tokens of a body, at most `max` at a time.
    fn tokens(body: &[u8], max: usize) -> Vec<Vec<u8>> {
        let (mut lines, mut rest, mut all) = (TokenLines::default(), body, Vec::new());
        loop {
            lines.skip();
            let more = rest.len().min(MAX_KEPT - lines.bytes.len());
            lines.is_ended = rest.is_empty();
            lines.bytes.extend_from_slice(&rest[..more]);
            rest = &rest[more..];
            lines.skip();
            if lines.bytes.is_empty() && lines.is_ended {
                return all;
            }
            if lines.is_ended || lines.bytes.len() == MAX_KEPT {
                let tokens: Vec<_> = lines.first(max).into_iter().map(<[u8]>::to_vec).collect();
                lines.remove(tokens.len());
                all.extend(tokens);
            }
        }
    }

    #[test]
    fn each_line_is_a_token_even_if_it_is_empty() {
        for (body, expected) in [
            (&b""[..], &[][..]),
            (b"\n", &[&b""[..]]),
            (b"a", &[b"a"]),
            (b"a\n", &[b"a"]),
            (b"a\r\nb\n\nc\r\n\r\nd", &[b"a", b"b", b"", b"c", b"", b"d"]),
            (b"a\rb\n\r\r\n", &[b"a\rb", b"\r"]),
            (b"\xff\0\nb\r", &[b"\xff\0", b"b\r"]),
        ] {
            for max in [1, 2, 64] {
                assert_eq!(tokens(body, max), expected, "{body:?}");
            }
        }
    }

    #[test]
    fn long_line_is_one_token_that_is_too_long() {
        for (length, end) in [(0, "\n"), (0, "\r\n"), (1, "\n"), (1, "\r\n"), (2, "\n"), (9, "\n")]
        {
            let long = "x".repeat(MAX_TOKEN_BYTES + length);
            let body = format!("a\n{long}{end}b\n{long}{}\nc", "y".repeat(100_000));
            let tokens = tokens(body.as_bytes(), 64);
            let lengths: Vec<_> = tokens.iter().map(Vec::len).collect();
            assert_eq!(lengths.len(), 5, "{lengths:?}");
            assert_eq!((lengths[0], lengths[2], lengths[4]), (1, 1, 1));
            assert_eq!(lengths[1] > MAX_TOKEN_BYTES, length > 0);
            assert!(lengths[3] > MAX_TOKEN_BYTES && lengths[3] <= MAX_KEPT);
        }
    }
}
