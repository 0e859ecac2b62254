//! From bytes to answers, without a socket: what has come is taken request by
//! request, and questions of proxies are answered on the spot.

use std::{
    mem::{self, MaybeUninit},
    pin::Pin,
};

use http::{Request, StatusCode};

use super::{
    answer::{Manner, Outgoing},
    head::{self, Framing, Head, Malformed, Parsed, Persistence},
};
use crate::{
    admission::{Caller, Peer},
    clock::{self, Stopwatch},
    config::{Listener, Server},
    http::problem,
    metrics::Outcome,
    requests::{Answered, Line},
    routes::{self, Decision, Reply, Route},
    worker::Local,
};

/// The connection that bytes came over.
#[derive(Clone, Copy)]
pub struct Link<'c> {
    /// What the connections of its thread share.
    pub local: &'c Local,
    /// Its other end.
    pub peer: Peer<'c>,
}

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
    pub asked: Asked<'c>,
    /// Its route.
    pub route: Route,
    /// How to answer.
    pub manner: Manner,
    /// Whether a body is coming that nobody reads.
    pub is_sending: bool,
    /// Since when it takes.
    pub started: Stopwatch,
    /// What to write down of it.
    pub line: Option<Line>,
}

/// What was asked.
pub enum Asked<'c> {
    /// A request, whose body may be still to come.
    Request {
        /// Its head.
        head: Box<Request<()>>,
        /// What follows the head.
        framing: Framing,
        /// Whether the client waits for a word before it sends the body.
        expects_continue: bool,
    },
    /// A question that waits for keys.
    Question(Pin<Box<dyn Future<Output = Reply> + 'c>>),
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
            Parsed::Partial => return Taken { bytes: taken, seen: bytes.len() - taken, step: None },
            Parsed::Malformed(malformed) => {
                let step = Some(refuse(link, &malformed, false, out));
                return Taken { bytes: bytes.len(), seen: 0, step };
            }
        };
        taken += head.length;
        let given = Given::new(link, &server, &head, &bytes[taken..]);
        taken += given.behind.skipped;
        if let Some(step) = given.answer(out) {
            return Taken { bytes: taken, seen: 0, step: Some(step) };
        }
    }
}

/// Refuses what is no request, or, if it is known to be one of HEAD, without a body.
pub fn refuse<'c>(link: Link<'_>, malformed: &Malformed, is_head: bool, out: &mut Outgoing) -> Step<'c> {
    let manner = Manner { persistence: Persistence::Close, is_head, now: clock::now() };
    out.response(&problem(malformed.status, malformed.code, &malformed.detail), manner);
    link.local.app.metrics.answered(Route::None, malformed.status, None);
    tracing::debug!(client = %link.peer.address, code = malformed.code, "malformed request");
    Step::Close { is_sending: true }
}

/// One request with all that its answer depends on.
struct Given<'r, 'b, 'c> {
    link: Link<'c>,
    server: &'r Server,
    listener: &'r Listener,
    head: &'r Head<'r, 'b>,
    route: Route,
    behind: Behind,
    manner: Manner,
    started: Stopwatch,
}

impl<'r, 'b, 'c> Given<'r, 'b, 'c> {
    fn new(link: Link<'c>, server: &'r Server, head: &'r Head<'r, 'b>, rest: &[u8]) -> Self {
        let started = Stopwatch::start();
        let listener = &server.listeners[link.peer.listener];
        let route = Route::of(head.target, listener.serves);
        let behind = Behind::new(head, route, rest);
        let is_last = behind.is_coming || link.local.watches.are_draining();
        let persistence = if is_last { Persistence::Close } else { head.persistence };
        let manner = Manner { persistence, is_head: head.method == "HEAD", now: clock::now() };
        Self { link, server, listener, head, route, behind, manner, started }
    }

    /// Answers it, or says what else to do.
    fn answer(&self, out: &mut Outgoing) -> Option<Step<'c>> {
        if self.route == Route::Auth { self.answer_question(out) } else { Some(self.hand_on(out)) }
    }

    fn answer_question(&self, out: &mut Outgoing) -> Option<Step<'c>> {
        let caller = Caller::new(self.link.peer, &self.listener.proxies, self.head);
        let (outcome, status) = match routes::decide(&self.link.local.app, self.server, self.listener, &caller, self.head) {
            Decision::Allowed(verified) => {
                out.bare(StatusCode::OK, self.manner, routes::lines_of(self.server, verified.identity()));
                (Some(Outcome::Verified), StatusCode::OK)
            }
            Decision::Answered(Reply { response, outcome }) => {
                out.response(&response, self.manner);
                (outcome, response.status())
            }
            Decision::Later(answer) => return Some(self.pending(Asked::Question(answer))),
        };
        let answered = Answered { route: self.route, status, outcome, started: self.started };
        self.link.local.note(self.server, answered, || Some(self.line()));
        (self.manner.persistence == Persistence::Close).then_some(Step::Close { is_sending: self.behind.is_coming })
    }

    /// Hands a request on that is no question.
    fn hand_on(&self, out: &mut Outgoing) -> Step<'c> {
        match self.head.to_request() {
            Ok(head) => {
                let (framing, expects_continue) = (self.behind.framing, self.head.expects_continue);
                self.pending(Asked::Request { head: Box::new(head), framing, expects_continue })
            }
            Err(malformed) => refuse(self.link, &malformed, self.manner.is_head, out),
        }
    }

    fn pending(&self, asked: Asked<'c>) -> Step<'c> {
        let line = self.server.log.writes_requests().then(|| self.line());
        let (route, manner, started) = (self.route, self.manner, self.started);
        Step::Answer(Box::new(Pending { asked, route, manner, is_sending: self.behind.is_coming, started, line }))
    }

    fn line(&self) -> Line {
        Line::new(self.listener, self.link.peer, self.head.method, self.head.target, self.head)
    }
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
