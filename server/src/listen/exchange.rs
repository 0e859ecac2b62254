//! From a request to its answer, whatever it travels by: what can be answered on the
//! spot is, and what cannot is remembered for as long as it takes.

use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::peer::{NOBODY, UNIX};
use crate::{
    admission::{Caller, Peer},
    clock::Stopwatch,
    config::{Listener, Server},
    grpc::{self, Fault},
    http::{Fields, Malformed},
    metrics::{Event, Outcome},
    requests::{Answered, Asking, Line},
    routes::{self, Decision, Reply, Route, Said},
    worker::Local,
};

/// The connection that a request came over.
#[derive(Clone, Copy)]
pub struct Link<'c> {
    /// What the connections of its thread share.
    pub local: &'c Local,
    /// Its other end.
    pub peer: Peer<'c>,
}

impl<'c> Link<'c> {
    /// The client has asked for so much in vain that its connection ends: whoever comes
    /// from its address may have to wait for the next. A proxy that we trust need not, as
    /// it may have been anybody behind it.
    pub fn cut_off(&self) {
        let Peer { address, listener, gate, .. } = self.peer;
        self.local.app.metrics.note(Event::CutOff);
        if ![UNIX, NOBODY].contains(&address)
            && !self.local.app.server().listeners[listener].proxies.trust(address)
        {
            gate.cut_off(address);
        }
    }

    /// What answers say about the same server over HTTP/3, if it speaks that
    /// (RFC 7838 section 3).
    #[must_use]
    pub fn alternative(&self) -> Option<&'c HeaderValue> {
        self.local.app.alternative(self.peer.listener)
    }
}

/// The head of a request, whoever has read it.
pub trait Head: Fields {
    /// The version of HTTP that it came by.
    fn version(&self) -> Version;

    /// The method.
    fn method(&self) -> &str;

    /// The request target: path and query, most of the time.
    fn target(&self) -> &str;

    /// The same in the vocabulary of all protocols, with its version.
    ///
    /// # Errors
    /// There is no saying it so.
    fn to_request(&self) -> Result<Request<()>, Malformed>;
}

/// A head in the vocabulary of all protocols, of which these are the lines.
///
/// # Errors
/// There is no saying it so.
pub(super) fn request<'l>(
    head: &impl Head,
    count: usize,
    lines: impl Iterator<Item = (&'l [u8], &'l [u8])>,
) -> Result<Request<()>, Malformed> {
    // An OPTIONS request about the server as a whole, and a CONNECT, are no paths.
    const TARGET: Malformed = Malformed::bad("request_target", "the request target is no URI");
    const LINES: Malformed = Malformed::bad("head", "a header line is none of HTTP");
    let mut request = Request::new(());
    *request.version_mut() = head.version();
    *request.uri_mut() = Uri::try_from(head.target()).map_err(|_| TARGET)?;
    *request.method_mut() = Method::from_bytes(head.method().as_bytes()).map_err(|_| TARGET)?;
    let headers = request.headers_mut();
    *headers = HeaderMap::with_capacity(count);
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name).map_err(|_| LINES)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| LINES)?);
    }
    Ok(request)
}

/// Where answers are put.
pub trait Answers {
    /// An answer with no body but these lines.
    fn bare<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    );

    /// An answer.
    fn reply(&mut self, reply: &Reply);
}

/// A request with all that its answer depends on.
pub struct Asked<'r, 'c, H> {
    link: Link<'c>,
    server: &'r Server,
    listener: &'r Listener,
    head: &'r H,
    /// Its route.
    pub route: Route,
    started: Stopwatch,
}

/// What became of a request at once.
pub enum Begun<'c> {
    /// It is answered.
    Answered,
    /// It will be.
    Waits(Waiting<'c>),
    /// It is none.
    Malformed(Malformed),
}

/// A request that is not answered yet.
pub struct Waiting<'c> {
    link: Link<'c>,
    asked: What<'c>,
    /// Its route.
    pub route: Route,
    /// Whether its body is to be received first.
    pub reads_body: bool,
    /// Since it came.
    pub started: Stopwatch,
    line: Option<Box<Line>>,
}

/// An answer that takes a while.
pub type Answering<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;

enum What<'c> {
    /// A question that waits for keys.
    Question(Answering<'c>),
    /// A request, without its body.
    Request(Box<Request<()>>),
    /// A call of gRPC: all there is to know of it is in its body.
    Call,
}

impl<'r, 'c, H: Head> Asked<'r, 'c, H> {
    /// A request that came over `link` just now.
    #[must_use]
    pub fn new(link: Link<'c>, server: &'r Server, head: &'r H) -> Self {
        let started = Stopwatch::start();
        let listener = &server.listeners[link.peer.listener];
        let route = Route::of(head.target(), listener.serves);
        Self { link, server, listener, head, route, started }
    }

    /// Answers it, if that takes no waiting.
    pub fn answer(&self, answers: &mut impl Answers) -> Begun<'c> {
        if self.route.is_call() && grpc::is_call(self.head.version(), self.head.method(), self.head)
        {
            return Begun::Waits(self.waiting(What::Call));
        }
        if self.route != Route::Auth {
            return match self.head.to_request() {
                Ok(request) => Begun::Waits(self.waiting(What::Request(Box::new(request)))),
                Err(malformed) => Begun::Malformed(malformed),
            };
        }
        let caller = Caller::new(self.link.peer, &self.listener.proxies, self.head);
        let (outcome, status) = match routes::decide(
            &self.link.local.app,
            self.server,
            self.listener,
            &caller,
            self.head,
        ) {
            Decision::Allowed(verified) => {
                answers.bare(StatusCode::OK, routes::lines_of(self.server, verified.identity()));
                (Some(Outcome::Verified), StatusCode::OK)
            }
            Decision::Answered(reply) => {
                answers.reply(&reply);
                (reply.outcome, reply.counted)
            }
            Decision::Later(answer) => return Begun::Waits(self.waiting(What::Question(answer))),
        };
        let answered = Answered { route: self.route, status, outcome, started: self.started };
        self.link.local.note(self.server, answered, || Some(self.line()));
        Begun::Answered
    }

    fn waiting(&self, asked: What<'c>) -> Waiting<'c> {
        let line = self.server.log.writes_requests().then(|| Box::new(self.line()));
        let (link, route, started) = (self.link, self.route, self.started);
        Waiting {
            link,
            asked,
            route,
            reads_body: route.reads_body(self.head.method()),
            started,
            line,
        }
    }

    fn line(&self) -> Line {
        let asked = Asking {
            version: self.head.version(),
            method: self.head.method(),
            target: self.head.target(),
        };
        Line::new(self.listener, self.link.peer, asked, self.head)
    }
}

impl Waiting<'_> {
    /// The longest body it may have, in bytes.
    #[must_use]
    pub fn most_body(&self) -> usize {
        self.route.most_body(&self.link.local.app.server())
    }

    /// Answers it, whose body cannot be had.
    #[must_use]
    pub fn refuse(self, malformed: &Malformed) -> Reply {
        let reply = match self.asked {
            What::Call => Fault::from(malformed).into(),
            What::Question(_) | What::Request(_) => Reply::from(malformed.answer()),
        };
        note(self.link, self.route, &reply, self.started, self.line);
        reply
    }
}

impl<'c> Waiting<'c> {
    /// Answers it, given its body: now, if it is a call that takes no more waiting, as
    /// most do not, or as soon as it can be.
    pub fn answer(self, body: &[u8], answers: &mut impl Answers) -> Option<Answering<'c>> {
        let Self { link, asked, route, started, mut line, .. } = self;
        let answering = match asked {
            What::Question(answer) => answer,
            What::Request(request) => {
                let request = request.map(|()| Bytes::copy_from_slice(body));
                Box::pin(routes::answer(&link.local.app, link.peer, route, request))
            }
            What::Call => {
                match routes::call(&link.local.app, link.peer, route, body, line.as_deref_mut()) {
                    Said::Later(answer) => answer,
                    Said::Now(reply) => {
                        answers.reply(&reply);
                        note(link, route, &reply, started, line);
                        return None;
                    }
                }
            }
        };
        Some(Box::pin(async move {
            let reply = answering.await;
            note(link, route, &reply, started, line);
            reply
        }))
    }
}

fn note(link: Link<'_>, route: Route, reply: &Reply, started: Stopwatch, line: Option<Box<Line>>) {
    let answered = Answered { route, status: reply.counted, outcome: reply.outcome, started };
    link.local.note(&link.local.app.server(), answered, || line.map(|line| *line));
}

/// Refuses what is no request.
pub fn refuse(link: Link<'_>, malformed: &Malformed, answers: &mut impl Answers) {
    answers.reply(&Reply::from(malformed.answer()));
    link.local.app.metrics.answered(Route::None, malformed.status, None);
    tracing::debug!(client = %link.peer.address, code = malformed.code, "malformed request");
}
