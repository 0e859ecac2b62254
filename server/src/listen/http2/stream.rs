//! Requests that are not done with.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use futures_util::future::AbortHandle;

use super::answer::{SendWindow, UnsentBody};
use crate::{clock::Stopwatch, listen::exchange::PendingRequest};

/// The requests of a connection that are not done with, by their streams.
pub(super) type Streams<'c> = HashMap<u32, Http2Stream<'c>, BuildHasherDefault<StreamIdHasher>>;

/// Scatters the numbers of streams. There are few enough of them that it would not
/// matter if a client made them fall on each other.
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

/// A request that is not done with.
pub(super) struct Http2Stream<'c> {
    pub(super) state: Http2StreamState<'c>,
    /// Whether the client has not ended it.
    pub(super) is_open: bool,
    /// Whether the answer has no body, whatever it says.
    pub(super) is_head: bool,
    /// How much of the answer the client takes.
    pub(super) window: SendWindow,
    /// How much more of a body it may send before it hears of it.
    pub(super) credit: usize,
}

pub(super) enum Http2StreamState<'c> {
    /// Its body is to come.
    Body(Box<PartialRequest<'c>>),
    /// Its answer takes a while, unless it is not wanted any more.
    Answering(AbortHandle),
    /// This part of its answer is not sent.
    Sending { rest: UnsentBody, since: Stopwatch },
}

/// A request of whose body this has come.
pub(super) struct PartialRequest<'c> {
    pub(super) waiting: PendingRequest<'c>,
    pub(super) body: Vec<u8>,
    /// How long it says that it is.
    pub(super) length: Option<u64>,
    pub(super) max_length: usize,
}

/// What a body comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    Fits,
    /// It is longer than we take.
    TooLong,
    /// It is not as long as the request says.
    Mismatch,
}

impl PartialRequest<'_> {
    /// Whether the body may go on with so much more, and end there.
    pub(super) fn check_length(&self, more: usize, is_end: bool) -> BodyLength {
        let has = self.body.len() + more;
        match self.length {
            Some(length) if has as u64 > length || is_end && has as u64 != length => {
                BodyLength::Mismatch
            }
            _ if has > self.max_length => BodyLength::TooLong,
            _ => BodyLength::Fits,
        }
    }
}

impl Http2Stream<'_> {
    /// Since when it waits for the client; `None` if it waits for us.
    pub(super) fn since(&self) -> Option<Stopwatch> {
        match &self.state {
            Http2StreamState::Body(incoming) => Some(incoming.waiting.started),
            Http2StreamState::Sending { since, .. } => Some(*since),
            Http2StreamState::Answering(_) => None,
        }
    }
}

/// The streams that we have ended last while their clients went on: what was on its way
/// then is no mistake (RFC 9113 section 5.1).
#[derive(Default)]
pub(super) struct ResetStreams(VecDeque<u32>);

impl ResetStreams {
    /// How many are remembered.
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

    /// The client has ended it too. Says whether it was one of them.
    pub(super) fn remove(&mut self, stream: u32) -> bool {
        let place = self.0.iter().position(|one| *one == stream);
        place.and_then(|place| self.0.remove(place)).is_some()
    }
}
