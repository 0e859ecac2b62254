//! From bytes to answers, without a socket: what has come is taken request by
//! request, and questions of proxies are answered on the spot.

use std::mem::{self, MaybeUninit};

use super::{
    answer::{Manner, Outgoing},
    head::{self, Framing, Head, Parsed, Persistence},
};
use crate::{
    http::Malformed,
    listen::exchange::{self, Asked, Begun, Link, Waiting},
    routes::Route,
};

/// How far the bytes went.
pub struct Taken<'c> {
    /// How many are done with.
    pub bytes: usize,
    /// How many of the rest are known not to hold a whole head.
    pub seen: usize,
    /// What to do when the answers are sent; `None` to wait for more bytes.
    pub step: Option<Step<'c>>,
}

/// What is not done on the spot.
pub enum Step<'c> {
    /// To answer a request that takes a while.
    Answer(Box<Pending<'c>>),
    /// To close the connection; gently, if the client is still sending.
    Close {
        /// Whether it is.
        is_sending: bool,
    },
}

/// A request whose answer takes a while.
pub struct Pending<'c> {
    /// What was asked.
    pub waiting: Waiting<'c>,
    /// What follows its head.
    pub framing: Framing,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
    /// How to answer.
    pub manner: Manner<'c>,
    /// Whether a body is coming that nobody reads.
    pub is_sending: bool,
}

/// Answers the questions at the start of `bytes`, of which the first `seen` are known
/// not to hold a whole head.
pub fn take<'c>(link: Link<'c>, bytes: &[u8], seen: usize, out: &mut Outgoing) -> Taken<'c> {
    let (mut taken, mut seen) = (0, seen);
    let server = link.local.app.server();
    loop {
        let mut room = [const { MaybeUninit::uninit() }; head::MOST_LINES];
        let head = match head::parse(&bytes[taken..], mem::take(&mut seen), &mut room) {
            Parsed::Whole(head) => head,
            Parsed::Partial => {
                return Taken { bytes: taken, seen: bytes.len() - taken, step: None };
            }
            Parsed::Malformed(malformed) => {
                let step = Some(refuse(link, &malformed, false, out));
                return Taken { bytes: bytes.len(), seen: 0, step };
            }
        };
        taken += head.length;
        let asked = Asked::new(link, &server, &head);
        let behind = Behind::new(&head, asked.route, &bytes[taken..]);
        taken += behind.skipped;
        if let Some(step) = answer(link, &asked, &head, behind, out) {
            return Taken { bytes: taken, seen: 0, step: Some(step) };
        }
    }
}

/// Answers a request, or says what else to do.
fn answer<'c>(
    link: Link<'c>,
    asked: &Asked<'_, 'c, Head<'_, '_>>,
    head: &Head<'_, '_>,
    behind: Behind,
    out: &mut Outgoing,
) -> Option<Step<'c>> {
    let is_last = behind.is_coming || link.local.watches.are_draining();
    let persistence = if is_last { Persistence::Close } else { head.persistence };
    let manner = Manner::new(link, persistence, head.method == "HEAD");
    match asked.answer(&mut out.in_this(manner)) {
        Begun::Answered => (persistence == Persistence::Close)
            .then_some(Step::Close { is_sending: behind.is_coming }),
        Begun::Waits(waiting) => {
            let (framing, expects_continue) = (behind.framing, head.expects_continue);
            let pending = Pending {
                waiting,
                framing,
                expects_continue,
                manner,
                is_sending: behind.is_coming,
            };
            Some(Step::Answer(Box::new(pending)))
        }
        Begun::Malformed(malformed) => Some(refuse(link, &malformed, manner.is_head, out)),
    }
}

/// Refuses what is no request, or, if it is known to be one of HEAD, without a body.
pub fn refuse<'c>(
    link: Link<'_>,
    malformed: &Malformed,
    is_head: bool,
    out: &mut Outgoing,
) -> Step<'c> {
    exchange::refuse(
        link,
        malformed,
        &mut out.in_this(Manner::new(link, Persistence::Close, is_head)),
    );
    Step::Close { is_sending: true }
}

/// What stands behind a head. What nobody reads is skipped if it is there, and not
/// waited for if it is not.
#[derive(Clone, Copy)]
struct Behind {
    /// How many bytes of it are skipped.
    skipped: usize,
    /// Whether more is coming that nobody reads.
    is_coming: bool,
    /// How it is read.
    framing: Framing,
}

impl Behind {
    fn new(head: &Head<'_, '_>, route: Route, rest: &[u8]) -> Self {
        let nothing = Self { skipped: 0, is_coming: false, framing: Framing::Empty };
        match head.framing {
            framing if route.reads_body(head.method) => Self { framing, ..nothing },
            Framing::Empty => nothing,
            Framing::Chunked => Self { is_coming: true, ..nothing },
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= rest.len() => Self { skipped: length, ..nothing },
                _ => Self { is_coming: true, ..nothing },
            },
        }
    }
}

#[cfg(test)]
mod tests;
