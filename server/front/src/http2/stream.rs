//! The state of HTTP/2 streams.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use futures_util::future::AbortHandle;

use super::response::{SendWindow, UnsentBody};
use crate::{clock::Stopwatch, service::Service};

/// The open [`Http2Stream`]s of a connection, by stream identifier.
pub(super) type Streams<'c, S> =
    HashMap<u32, Http2Stream<'c, S>, BuildHasherDefault<StreamIdHasher>>;

/// A multiplicative hash of stream identifiers. A connection has so few streams that collisions
/// forced by a client would not matter, so SipHash's protection is not needed.
#[derive(Default)]
pub(super) struct StreamIdHasher(u64);

impl Hasher for StreamIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A stream whose request is not finished.
pub(super) struct Http2Stream<'c, S: Service> {
    pub(super) state: Http2StreamState<'c, S>,
    /// Whether the client may still send on it: its side is not half-closed.
    pub(super) is_open: bool,
    /// Whether the request is HEAD, so that the response has no body, whatever its Content-Length.
    pub(super) is_head: bool,
    /// Flow-control window for the response body.
    pub(super) window: SendWindow,
    /// Receive window that is left to the client until the next WINDOW_UPDATE.
    pub(super) credit: usize,
}

pub(super) enum Http2StreamState<'c, S: Service> {
    /// Receiving the request body.
    Body(Box<PartialRequest<'c, S>>),
    /// Waiting for the reply. The handle aborts it when the stream is reset.
    AwaitingReply(AbortHandle),
    /// Sending the response body, of which this part is left.
    Sending { rest: UnsentBody, since: Stopwatch },
}

/// A request whose body is being received.
pub(super) struct PartialRequest<'c, S: Service> {
    pub(super) pending: S::Pending<'c>,
    /// Running since the head was read.
    pub(super) started: Stopwatch,
    pub(super) body: Vec<u8>,
    /// Content-Length, if the request has one.
    pub(super) length: Option<u64>,
    pub(super) max_length: usize,
}

/// Result of comparing the length of a [`PartialRequest`] body with its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    Fits,
    /// Longer than the configured limit.
    TooLong,
    /// Different from Content-Length.
    Mismatch,
}

impl<S: Service> PartialRequest<'_, S> {
    /// Checks the body as if it went on with `more` bytes, and ended there if `is_end` is set.
    pub(super) fn check_length(&self, more: usize, is_end: bool) -> BodyLength {
        let length = self.body.len() + more;
        match self.length {
            Some(declared) if length as u64 > declared || is_end && length as u64 != declared => {
                BodyLength::Mismatch
            }
            _ if length > self.max_length => BodyLength::TooLong,
            _ => BodyLength::Fits,
        }
    }
}

impl<S: Service> Http2Stream<'_, S> {
    /// Returns since when the stream has waited for the client, or `None` if it waits for the
    /// server.
    pub(super) fn since(&self) -> Option<Stopwatch> {
        match &self.state {
            Http2StreamState::Body(incoming) => Some(incoming.started),
            Http2StreamState::Sending { since, .. } => Some(*since),
            Http2StreamState::AwaitingReply(_) => None,
        }
    }
}

/// The most recent streams that the server reset while their clients were still sending. Frames
/// that were in flight at that time are not an error (RFC 9113 section 5.1).
#[derive(Default)]
pub(super) struct ResetStreams(VecDeque<u32>);

impl ResetStreams {
    /// Number of streams remembered. Older ones are treated as closed.
    const CAPACITY: usize = 128;

    pub(super) fn insert(&mut self, stream: u32) {
        if self.0.len() == Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(stream);
    }

    pub(super) fn contains(&self, stream: u32) -> bool {
        self.0.contains(&stream)
    }

    /// Removes a stream that the client has ended too. Returns whether it was present.
    pub(super) fn remove(&mut self, stream: u32) -> bool {
        let index = self.0.iter().position(|one| *one == stream);
        index.and_then(|index| self.0.remove(index)).is_some()
    }
}
